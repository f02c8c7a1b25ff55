"""Ports that a server of the sandbox can have again after a restart."""

import socket

import pytest

from keep_operator.sandbox import ports

pytestmark = pytest.mark.unit


def test_different_ports_are_chosen_that_no_outgoing_connection_gets() -> None:
    """A server that is killed comes back under its address, however many connections are opened meanwhile."""
    chosen = ports.choose(20)
    assert len(set(chosen)) == 20
    assert max(chosen) < 32_768


def test_a_port_in_use_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sandboxes on one machine do not take each other's ports."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        assert not ports.free(number)
        monkeypatch.setattr(ports, "CHOICE", range(number, number + 1))
        assert ports.choose(1) == []
    assert ports.choose(1) == [number]
