"""What is at an address, and what a Tenant's list makes of it."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keep_operator.runner import egress
from keep_operator.runner.egress import Egress, OffLimits

pytestmark = pytest.mark.unit

REFUSED = st.sampled_from(
    [
        "127.0.0.1",
        "127.9.8.7",
        "169.254.169.254",
        "169.254.1.1",
        "0.0.0.0",  # noqa: S104
        "0.1.2.3",
        "224.0.0.251",
        "255.255.255.255",
        "250.1.2.3",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
    ]
).map(IPv4Address)
FINE = st.sampled_from(["10.1.2.3", "172.20.0.1", "192.168.1.1", "100.64.0.1", "93.184.216.34", "8.8.8.8"]).map(
    IPv4Address
)


def forms(address: IPv4Address) -> list[IPv6Address]:
    """Every way to write an IPv4 address as an IPv6 one."""
    number = int(address)
    return [
        IPv6Address((0xFFFF << 32) | number),
        IPv6Address((0xFFFF << 48) | number),
        IPv6Address((0x64FF9B << 96) | number),
        IPv6Address((0x64FF9B0001 << 80) | number),
        IPv6Address((0x64FF9B0001 << 80) | (number >> 16 << 64) | ((number & 0xFFFF) << 40)),
        IPv6Address((0x2002 << 112) | (number << 80) | 0x1),
        IPv6Address((0x20010000 << 96) | (0x08080808 << 64) | (~number & 0xFFFFFFFF)),
        IPv6Address((0x20010DB8 << 96) | (0x5EFE << 32) | number),
        IPv6Address((0x20010DB8 << 96) | (0x02005EFE << 32) | number),
    ]


@given(REFUSED)
def test_whatever_way_it_is_written(address: IPv4Address) -> None:
    """A step that may not reach an address may not reach it by any of the IPv6 addresses that stand for it either."""
    assert egress.refusal(address) is not None
    for form in forms(address):
        assert egress.refusal(form) is not None, form


@given(FINE)
def test_services_of_the_cluster_are_reached(address: IPv4Address) -> None:
    """Private and public addresses are open, in each way to write them: databases of a team are in its cluster."""
    everything: list[IPv4Address | IPv6Address] = [address, *forms(address)]
    for form in everything:
        Egress().admit("db.example.com", [form])


@pytest.mark.parametrize(
    "address",
    ["::1", "::", "fe80::1", "febf::1", "fe80::1%eth0", "ff02::1", "fd00:ec2::254", "fd20:ce::254", "fd00:42::42"],
)
def test_addresses_of_ipv6(address: str) -> None:
    """The machine itself, its neighbours and its metadata have addresses of IPv6 too."""
    assert egress.refusal(ip_address(address)) is not None


@pytest.mark.parametrize("address", ["fd12:3456::1", "2606:2800:220:1::1", "2001:db8::1"])
def test_other_addresses_of_ipv6_are_open(address: str) -> None:
    """A cluster with IPv6 works as one with IPv4."""
    assert egress.refusal(ip_address(address)) is None


def test_a_network_in_the_list_opens_what_is_in_it() -> None:
    """A team that runs its receiver on loopback, in a sandbox say, lists that network and reaches nothing else."""
    policy = Egress.of(["127.0.0.1/32", "fd00:ec2::/32"])
    policy.admit("127.0.0.1", [ip_address("127.0.0.1")])
    policy.admit("x", [ip_address("::ffff:127.0.0.1")])
    policy.admit("x", [ip_address("fd00:ec2::254")])
    with pytest.raises(OffLimits, match=r"127\.0\.0\.2 is the host itself.*spec\.egress\.allow"):
        policy.admit("127.0.0.2", [ip_address("127.0.0.2")])


def test_a_name_in_the_list_opens_what_it_means() -> None:
    """A name opens whatever it resolves to, in any case and with a dot at its end; a star all names below."""
    policy = Egress.of(["Receiver.local", "*.lab.example."])
    for name in ("receiver.LOCAL", "receiver.local.", "a.b.lab.example"):
        policy.admit(name, [ip_address("127.0.0.1")])
    for name in ("lab.example", "notlab.example", "other.local"):
        with pytest.raises(OffLimits):
            policy.admit(name, [ip_address("127.0.0.1")])


def test_one_bad_address_among_good_ones() -> None:
    """A name with a public address and loopback is refused as a whole: nobody knows which one would be taken."""
    with pytest.raises(OffLimits, match=r"both\.example is 127\.0\.0\.1, and that is the host itself"):
        Egress().admit("both.example", [ip_address("93.184.216.34"), ip_address("127.0.0.1")])


@pytest.mark.parametrize(
    "name",
    ["metadata.google.internal", "METADATA.google.internal.", "metadata", "instance-data", "localhost", "a.localhost"],
)
def test_names_that_say_it_all(name: str) -> None:
    """The names of the machine and of its metadata are refused before anybody asks what they resolve to."""
    with pytest.raises(OffLimits, match=r"spec\.egress\.allow"):
        Egress().admit(name)


def test_a_message_stays_on_its_line() -> None:
    """A host with line breaks in it cannot forge a line of the log."""
    with pytest.raises(OffLimits) as error:
        Egress().admit("a\nb.localhost")
    assert "\n" not in str(error.value)
