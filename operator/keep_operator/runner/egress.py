"""Where steps may connect to: anywhere but the places that only the runner itself, or its machine, should reach.

::

    name ──► resolve ──► every address judged ──► connect to one of these, not to the name
                                                       ▲
              redirect, second lookup, library ────────┘  judged again, at the socket

What is judged is the address that a socket is about to connect to, whatever somebody wrote: there is no spelling to be
clever with, and a name that answers differently the second time gains nothing.
"""

import asyncio
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from ssl import SSLContext
from threading import Lock
from typing import Any, Final, Self, TypeAlias, TypeVar

from aiohttp import TCPConnector
from aiohttp.abc import AbstractResolver, ResolveResult

Address: TypeAlias = IPv4Address | IPv6Address
T = TypeVar("T")

# Where clouds hand out the credentials of the machine. Most are link-local, and refused as that; these are not.
_METADATA: Final = tuple(
    map(
        ip_network,
        (
            "100.100.100.200",  # Alibaba Cloud
            "168.63.129.16",  # Azure's host
            "192.0.0.192",  # Oracle Cloud
            "fd00:ec2::254",  # AWS
            "fd20:ce::254",  # Google Cloud
            "fd00:42::42",  # Scaleway
        ),
    )
)
_METADATA_HOSTS: Final = frozenset(
    {
        "instance-data",
        "instance-data.ec2.internal",
        "metadata",
        "metadata.azure.internal",
        "metadata.goog",
        "metadata.google.internal",
        "metadata.internal",
        "metadata.tencentyun.com",
    }
)
_THIS_NETWORK: Final = ip_network("0.0.0.0/8")
_RESERVED: Final = ip_network("240.0.0.0/4")
# IPv6 addresses that stand for an IPv4 address in their last 32 bits: mapped, compatible, translated, NAT64.
_EMBEDDING: Final = tuple(map(ip_network, ("::ffff:0:0/96", "::/96", "::ffff:0:0:0/96", "64:ff9b::/96")))
# A translator's own prefix may also end after 48 bits; then the address lies around bits 64 to 71 (RFC 6052).
_LOCAL_NAT64: Final = ip_network("64:ff9b:1::/48")
_SIXTOFOUR: Final = ip_network("2002::/16")
# The interface part of ISATAP, before its IPv4 address.
_ISATAP: Final = (0x00005EFE, 0x02005EFE)
# Threads for lookups and for libraries that block. A lookup that hangs keeps its thread until the system's resolver gives up.
_THREADS: Final = 32
# How often a thread's connections are looked at; what arrives in between may exceed the limit.
_LOOK_EVERY_S: Final = 0.05
# Linux' struct tcp_info: where tcpi_bytes_received is.
_RECEIVED_AT: Final = 128


class OffLimits(OSError):
    """The tenant may not connect there. The message names the host and says what is there."""


@dataclass(frozen=True, slots=True)
class Egress:
    """What a tenant may reach although it is refused by default: networks, and names of hosts.

    A name that begins with ``*.`` stands for all names below the rest.
    """

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
                hosts.add(_plain(entry))
        return cls(tuple(networks), frozenset(hosts))

    def admit(self, host: str, addresses: Sequence[Address] = ()) -> None:
        """Raises OffLimits when the name, or any address that it has, is refused and not allowed by the tenant."""
        name = _plain(host)
        if name in self.hosts or any(f"*.{above}" in self.hosts for above in _above(name)):
            return
        if not addresses and (name in _METADATA_HOSTS or name == "localhost" or name.endswith(".localhost")):
            what = "the host itself" if "localhost" in name else "the metadata of the machine"
            raise OffLimits(f"{_shown(host)} is {what}, which workflows may not reach; {_REMEDY}")
        for address in addresses:
            if (there := refusal(address)) is None or self._allows(address):
                continue
            said = _shown(host) if _shown(host) == str(address) else f"{_shown(host)} is {address}, and that"
            raise OffLimits(f"{said} is {there}, which workflows may not reach; {_REMEDY}")

    def _allows(self, address: Address) -> bool:
        forms = (address, *inner(address))
        return any(each.version == network.version and each in network for each in forms for network in self.networks)

    async def resolve(self, host: str, port: int) -> tuple[str, ...]:
        """The addresses of a host, all of them judged. Raises OffLimits; OSError where there are none."""
        self.admit(host)
        infos = await asyncio.get_running_loop().run_in_executor(_pool(), lambda: look_up(host, port))
        found = tuple(dict.fromkeys(str(info[4][0]) for info in infos))
        self.admit(host, [_address(each) for each in found])
        return found


_REMEDY: Final = "the Tenant's spec.egress.allow lists what they may"


def refusal(address: Address) -> str | None:
    """What is at an address that nobody reaches unless a tenant allows it; None for all others.

    Private networks are not refused: services of the cluster are there.
    """
    for each in (address, *inner(address)):
        if any(each.version == network.version and each in network for network in _METADATA):
            return "the metadata of the machine"
        if each.is_loopback:
            return "the host itself"
        if each.is_link_local:
            return "a link-local address"
        if each.is_multicast:
            return "a multicast address"
        if each.is_unspecified or (each.version == 4 and each in _THIS_NETWORK):
            return "an unspecified address"
        if each.version == 4 and each in _RESERVED:
            return "a reserved address"
    return None


def inner(address: Address) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses that an IPv6 address stands for, by any of the ways there are."""
    if address.version == 4:
        return ()
    number = int(address)
    last = number & 0xFFFFFFFF
    found = []
    if any(address in network for network in _EMBEDDING) and number > 1:
        found.append(last)
    if address in _LOCAL_NAT64:
        found.append(last if number & 0xFFFFFFFFFF else number >> 48 & 0xFFFF0000 | number >> 40 & 0xFFFF)
    if address in _SIXTOFOUR:
        found.append(number >> 80 & 0xFFFFFFFF)
    if address.teredo is not None:
        found.extend(int(each) for each in address.teredo)
    if number >> 32 & 0xFFFFFFFF in _ISATAP:
        found.append(last)
    return tuple(map(IPv4Address, found))


def look_up(host: str, port: int) -> list[tuple[Any, ...]]:
    """What the system's resolver says. Blocks."""
    return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))


class _Gate(AbstractResolver):
    """What one call has been let through to. aiohttp asks it for addresses, and for each socket."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._judged: set[str] = set()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Every address of the name, judged."""
        addresses = await self._egress.resolve(host, port)
        self._judged.update(addresses)
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=_family(address), proto=0, flags=socket.AI_NUMERICHOST
            )
            for address in addresses
            if family in (socket.AF_UNSPEC, _family(address))
        ]

    async def close(self) -> None:
        """Nothing is held."""

    def make_socket(self, info: tuple[Any, ...]) -> socket.socket:
        """A socket for an address. A host that is an address itself was never resolved, and is judged here."""
        family, kind, protocol, _, place = info
        if str(place[0]) not in self._judged:
            self._egress.admit(str(place[0]), [_address(str(place[0]))])
        return socket.socket(family, kind, protocol)


def connector(egress: Egress, ssl: SSLContext | bool = True) -> TCPConnector:
    """A connector of aiohttp that reaches nothing else, on no redirect either; made for one call, and not to be shared."""
    gate = _Gate(egress)
    return TCPConnector(resolver=gate, socket_factory=gate.make_socket, use_dns_cache=False, force_close=True, ssl=ssl)


class _Guard:
    """Holds every connection that a thread makes: judges it before, counts what comes in, cuts it off at the end."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._asked_for = ""
        self._sockets: list[socket.socket] = []
        self._lock = Lock()
        self._ended = False
        self.refused: OffLimits | None = None

    def looks_up(self, host: object) -> None:
        name = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host or "")
        self._asked_for = name
        self._judge(name, ())

    def connects(self, sock: socket.socket, place: object) -> None:
        if not isinstance(place, tuple):
            self.refused = OffLimits("a socket of the machine itself is nothing that workflows may reach")
            raise self.refused
        address = str(place[0])
        self._judge(self._asked_for or address, [_address(address)])
        self.keep(sock)

    def keep(self, sock: socket.socket) -> None:
        with self._lock:
            if self._ended:
                raise TimeoutError("the time is up")
            # A second handle: the library may hand the first one to TLS, and close it when it likes.
            self._sockets.append(socket.socket(fileno=os.dup(sock.fileno())))

    def _judge(self, host: str, addresses: Sequence[Address]) -> None:
        try:
            self._egress.admit(host, addresses)
        except OffLimits as error:
            self.refused = error
            raise

    @property
    def received(self) -> int:
        """Bytes that came in on all connections so far; 0 where the system does not count."""
        with self._lock:
            return sum(map(_received, self._sockets))

    def end(self) -> None:
        """Cut everything off; whoever waits for an answer in the thread gets an error."""
        with self._lock:
            self._ended = True
            for each in self._sockets:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()
            self._sockets.clear()


class TooMuch(Exception):
    """More came in than was to be taken."""


_GUARD: Final[ContextVar[_Guard | None]] = ContextVar("guard", default=None)


def _audit(event: str, args: tuple[Any, ...]) -> None:
    """Sees what Python's own sockets do before they do it, whatever library asks for it."""
    if not event.startswith("socket.") or (guard := _GUARD.get()) is None:
        return
    if event == "socket.getaddrinfo":
        guard.looks_up(args[0])
    elif event in ("socket.connect", "socket.sendto", "socket.sendmsg") and args[1] is not None:
        guard.connects(args[0], args[1])


@cache
def _watch_sockets() -> None:
    """Once and for the whole process: a hook cannot be taken away. Outside of `in_thread` it does nothing."""
    sys.addaudithook(_audit)


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="egress")


async def in_thread(egress: Egress, work: Callable[[], T], *, most: int, holding: socket.socket | None = None) -> T:
    """The result of code that blocks, in a thread whose connections obey the policy; ``holding`` is one that it has already.

    Raises OffLimits when it wanted somewhere else, whatever the library made of that; TooMuch when more than ``most`` bytes
    came in. On a failure and on cancellation its connections are cut, so that the thread ends too.
    """
    _watch_sockets()
    guard = _Guard(egress)
    if holding is not None:
        guard.keep(holding)
    context = copy_context()
    context.run(_GUARD.set, guard)
    future = asyncio.get_running_loop().run_in_executor(_pool(), context.run, work)
    try:
        while not (await asyncio.wait({future}, timeout=_LOOK_EVERY_S))[0]:
            if guard.received > most:
                raise TooMuch
        result = future.result()
    except Exception:
        if guard.refused is None:
            raise
    finally:
        guard.end()
        # Nobody waits for it any more where it was cut off: its failure is no news.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
    if guard.refused is not None:
        # Also where the library kept it to itself.
        raise guard.refused
    return result


async def connect(egress: Egress, host: str, port: int) -> socket.socket:
    """A blocking socket, connected to the first address of the host that answers. Raises OffLimits, OSError."""
    failure: OSError = OSError(f"{host} has no address")
    for address in await egress.resolve(host, port):
        sock = socket.socket(_family(address), socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, (address, port))
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            sock.setblocking(True)
            return sock
    raise failure


def received(fileno: int) -> int:
    """Bytes that came in on a connection of somebody else's; 0 where the system does not count."""
    with suppress(OSError):
        sock = socket.socket(fileno=os.dup(fileno))
        with sock:
            return _received(sock)
    return 0


def cut(fileno: int) -> None:
    """End a connection of somebody else's, who gets an error."""
    with suppress(OSError):
        sock = socket.socket(fileno=os.dup(fileno))
        with sock:
            sock.shutdown(socket.SHUT_RDWR)


def _received(sock: socket.socket) -> int:
    if not hasattr(socket, "TCP_INFO"):
        return 0
    try:
        counted = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RECEIVED_AT + 8)
    except OSError:
        return 0
    return int(struct.unpack_from("Q", counted, _RECEIVED_AT)[0]) if len(counted) >= _RECEIVED_AT + 8 else 0


def _address(text: str) -> Address:
    return ip_address(text)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _plain(host: str) -> str:
    return host.casefold().rstrip(".")


def _above(name: str) -> Iterable[str]:
    while "." in name:
        name = name.partition(".")[2]
        yield name


def _shown(host: str) -> str:
    """A host as it may stand in a message: short, and on one line."""
    return host if host.isprintable() and len(host) <= 100 else f"{host[:100]!a}"
