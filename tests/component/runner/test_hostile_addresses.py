"""Addresses that somebody writes to reach what is not theirs: a server listens on loopback, and hears nothing."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from apprise.plugins.pushover import NotifyPushover

from component.runner import far_side
from component.runner.conftest import Make
from component.runner.far_side import FarSide
from keep_operator.runner import egress
from keep_operator.runner.actions import ActionFailed, Egress, perform

pytestmark = pytest.mark.component

# What is written before the port: addresses of the machine itself, in every spelling that some reader understands.
LOOPBACK = [
    "127.0.0.1",
    "127.0.0.1.",
    "127.1",
    "127.0.1",
    "127.255.255.254",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0x7f.1",
    "0177.0.0.1",
    "017700000001",
    "0",
    "0.0.0.0",  # noqa: S104
    "0x0",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "deep.below.localhost",
    "user:password@127.0.0.1",
    "example.com@127.0.0.1",
    "127.0.0.1%2f@127.0.0.1",
    "１２７.0.0.1",
    "①②⑦.0.0.1",
    "127。0。0。1",
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:7f00:0001]",
    "[::127.0.0.1]",
    "[::ffff:0.0.0.0]",
]
# Addresses of neighbours and metadata; nobody here listens there, and nobody may ask whether.
ELSEWHERE = [
    "169.254.169.254",
    "169.254.170.2",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "[::ffff:169.254.169.254]",
    "[fe80::1]",
    "[fd00:ec2::254]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2002:a9fe:a9fe::1]",
    "[2001:0:808:808::80ff:fffe]",
    "[fe80::5efe:127.0.0.1]",
    "metadata.google.internal",
    "metadata.google.internal.",
    "metadata.goog",
    "instance-data",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "224.0.0.1",
    "[ff02::1]",
    "255.255.255.255",
    "240.0.0.1",
]
TOLD = r"which workflows may not reach|written as no host is|no URL"


class Listener:
    """Listens on all of loopback, and counts who comes."""

    def __init__(self) -> None:
        self.port = 0
        self.came = 0
        self._servers: list[asyncio.Server] = []

    async def start(self) -> None:
        def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.came += 1
            writer.close()

        self._servers.append(await asyncio.start_server(greet, "0.0.0.0", 0))  # noqa: S104
        self.port = self._servers[0].sockets[0].getsockname()[1]
        with suppress(OSError):  # a machine without IPv6
            self._servers.append(await asyncio.start_server(greet, "::1", self.port))

    async def stop(self) -> None:
        for server in self._servers:
            server.close()


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    listening = Listener()
    await listening.start()
    yield listening
    await listening.stop()


@pytest.mark.parametrize("host", LOOPBACK + ELSEWHERE)
async def test_a_step_asks_for_it(host: str, call: Make, listener: Listener) -> None:
    """Whatever a definition writes for the machine of the runner: nobody is connected to, and the failure says why."""
    with pytest.raises(ActionFailed, match=TOLD) as failed:
        await perform(call("http", egress=Egress(), url=f"http://{host}:{listener.port}/latest/meta-data/"))
    assert not failed.value.retryable
    assert listener.came == 0


@pytest.mark.parametrize("host", LOOPBACK)
@pytest.mark.parametrize(
    ("type_name", "field", "others"),
    [
        ("mysql", "host", {"username": "u", "password": "p"}),
        ("postgres", "host", {"username": "u", "password": "p", "database": "d"}),
        ("smtp", "smtp_server", {"encryption": "None"}),
        ("clickhouse", "host", {"username": "u", "password": "p", "protocol": "http"}),
    ],
)
async def test_a_provider_points_at_it(
    host: str, type_name: str, field: str, others: dict[str, Any], call: Make, listener: Listener
) -> None:
    """Nor do databases and mail servers of a Provider lead there, whose libraries connect in ways of their own."""
    config = {field: host.strip("[]"), "port": listener.port, "smtp_port": listener.port, **others}
    letter = {"from_email": "a@example.com", "to_email": "b@example.com", "body": "x"}
    asked = letter if type_name == "smtp" else {"query": "select 1"}
    with pytest.raises(ActionFailed):
        await perform(call(type_name, config, egress=Egress(), timeout_s=5, **asked))
    assert listener.came == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "0x7f.1", "localhost", "[::1]", "0"])
async def test_apprise_is_led_to_it(host: str, call: Make, listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service of Apprise that moved to loopback, by its DNS say, is not followed there."""
    monkeypatch.setattr(NotifyPushover, "notify_url", f"http://{host}:{listener.port}/1/messages.json")
    config = {"token": "t" * 30, "user_key": "u" * 30}
    with pytest.raises(ActionFailed, match="which workflows may not reach"):
        await perform(call("pushover", config, egress=Egress(), message="hello"))
    assert listener.came == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.1:"])
async def test_the_listener_would_have_heard(host: str, call: Make, listener: Listener) -> None:
    """With the address in `egress.allow` the same requests arrive: what is silent above is not deaf."""
    policy = Egress.of(["127.0.0.0/8", "localhost"])
    url = f"http://{host.rstrip(':')}:{listener.port}/"
    with pytest.raises(ActionFailed, match="closed the connection before it answered"):
        await perform(call("http", egress=policy, url=url))
    for type_name, field in (("mysql", "host"), ("postgres", "host"), ("smtp", "smtp_server")):
        config = {field: host.rstrip(":"), "port": listener.port, "smtp_port": listener.port, "encryption": "None"}
        letter = {"from_email": "a@example.com", "to_email": "b@example.com", "body": "x"}
        asked = letter if type_name == "smtp" else {"query": "select 1"}
        with pytest.raises(ActionFailed):
            await perform(call(type_name, {**config, "username": "u", "password": "p"}, egress=policy, **asked))
    assert listener.came >= 4


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_server_sends_it_there(
    status: int, method: str, there: FarSide, call: Make, listener: Listener
) -> None:
    """A server that may be reached redirects to one that may not: the way ends there."""
    there.answers(far_side.redirect(f"http://127.0.0.2:{listener.port}/secret", status))
    policy = Egress.of(["127.0.0.1/32"])
    with pytest.raises(ActionFailed, match=r"127\.0\.0\.2 is the host itself"):
        await perform(call("http", egress=policy, url=there.url, method=method))
    assert len(there.sent) == 1
    assert listener.came == 0


@pytest.mark.parametrize("to", ["file:///etc/passwd", "gopher://127.0.0.1:1/", "ftp://example.com/", "http://[::"])
async def test_a_redirect_to_another_world(to: str, there: FarSide, call: Make) -> None:
    """A redirect to what is no web server is an error, and is not followed."""
    there.answers(far_side.redirect(to))
    with pytest.raises(ActionFailed, match=r"no URL|no address"):
        await perform(call("http", url=there.url))


async def test_a_name_that_changes_its_mind(call: Make, listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with a good address at the first look and loopback at the second leads to the first: it is looked up once."""
    looks: list[str] = []

    def look_up(host: str, port: int) -> list[tuple[Any, ...]]:
        looks.append(host)
        address = "192.0.2.1" if len(looks) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(egress, "look_up", look_up)
    with pytest.raises(ActionFailed):
        await perform(call("http", egress=Egress(), timeout_s=0.5, url=f"http://rebind.example:{listener.port}/"))
    assert looks == ["rebind.example"]
    with pytest.raises(ActionFailed, match=r"rebind\.example is 127\.0\.0\.1, and that is the host itself"):
        await perform(call("http", egress=Egress(), url=f"http://rebind.example:{listener.port}/"))
    assert listener.came == 0


@pytest.mark.parametrize("type_name", ["smtp", "pushover"])
async def test_a_library_looks_up_for_itself(
    type_name: str, call: Make, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a library looks a name up by itself, its socket is judged when it connects, not the name before."""

    def lies(host: str, port: int, *_: object, **__: object) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", lies)
    monkeypatch.setattr(NotifyPushover, "notify_url", f"http://rebind.example:{listener.port}/")
    config = {
        "smtp": {"smtp_server": "rebind.example", "smtp_port": listener.port, "encryption": "None"},
        "pushover": {"token": "t" * 30, "user_key": "u" * 30},
    }[type_name]
    asked = {"from_email": "a@example.com", "to_email": "b@example.com", "body": "x", "message": "x"}
    with pytest.raises(ActionFailed, match="the host itself, which workflows may not reach"):
        await perform(call(type_name, config, egress=Egress(), **asked))
    assert listener.came == 0


@pytest.mark.parametrize("host", ["/var/run/postgresql", "@abstract", "127.0.0.1,10.0.0.1", "a b", "a\\b"])
async def test_a_socket_of_the_machine(host: str, call: Make) -> None:
    """A database's host that libpq would take for a socket of the machine, or for two hosts, is refused by name."""
    config = {"host": host, "username": "u", "password": "p"}
    with pytest.raises(ActionFailed, match="must be the name or the address of one host"):
        await perform(call("postgres", config, kind="step", query="select 1"))


async def test_others_of_the_process_are_left_alone(listener: Listener) -> None:
    """The watch over the libraries' sockets sees those of steps only: the runner itself connects where it has to."""
    await egress.in_thread(Egress(), lambda: None, most=1)
    with socket.create_connection(("127.0.0.1", listener.port)):
        pass
    await asyncio.sleep(0.05)
    assert listener.came == 1
