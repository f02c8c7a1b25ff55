"""Who may use a one-time address."""

import pytest

from keep_operator.console.pages.signin import on_this_machine

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_this_machine_is_known_by_all_of_its_own_addresses(host: str) -> None:
    """A socket for IPv4 and IPv6 together writes IPv4 addresses in a form of its own."""
    assert on_this_machine(host)


@pytest.mark.parametrize("host", ["10.0.0.1", "::ffff:10.0.0.1", "fe80::1", "", "localhost", "127.0.0.1.example.com"])
def test_nobody_else_is_let_in(host: str) -> None:
    """Who comes over a network finds the address used up."""
    assert not on_this_machine(host)
