"""Where steps may connect to: anywhere but the places that only the runner itself should reach."""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Self


@dataclass(frozen=True, slots=True)
class Egress:
    """What a tenant may reach although it is refused to others: networks, and names of hosts in lower case."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    hosts: frozenset[str] = frozenset()

    @classmethod
    def of(cls, entries: Iterable[str] = ()) -> Self:
        """The policy that the entries of a Tenant's ``egress.allow`` make; whatever is no network is a name."""
        networks, hosts = [], set()
        for entry in entries:
            try:
                networks.append(ip_network(entry, strict=False))
            except ValueError:
                hosts.add(entry.casefold().rstrip("."))
        return cls(tuple(networks), frozenset(hosts))
