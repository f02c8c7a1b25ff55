"""Clients that send too slowly, or take nothing, lose their connection; others do not notice them."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from keep_operator.console.patience import Connection

pytestmark = pytest.mark.component

LARGE = b"x" * 50_000_000


class Hurried(Connection):
    """Gives up after a moment."""

    HEAD_S = 0.3
    ANSWER_S = 0.6


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the body that it got, or with more than fits any buffer."""
    request = Request(scope, receive)
    body = LARGE if scope["path"] == "/large" else await request.body()
    await PlainTextResponse(body)(scope, receive, send)


@asynccontextmanager
async def served(protocol: type[Connection]) -> AsyncIterator[uvicorn.Server]:
    """A server of the application with that kind of connection."""
    config = uvicorn.Config(application, port=0, log_config=None, lifespan="off", ws="none", http=protocol)
    server = uvicorn.Server(config)
    config.load()
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    yield server
    server.should_exit = True
    await serving


async def until(so: Callable[[], object]) -> None:
    """Returns when it is so."""
    while not so():  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)


def port_of(server: uvicorn.Server) -> int:
    """Where it listens."""
    return int(server.servers[0].sockets[0].getsockname()[1])


async def ended(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the server ends the connection."""
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


async def nothing(_: asyncio.StreamWriter) -> None:
    """Open a connection and leave it at that."""


async def half_a_head(writer: asyncio.StreamWriter) -> None:
    """Send a byte now and then, as if there were more to come."""
    for byte in b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: " + b"y" * 1_000:
        writer.write(bytes((byte,)))
        await asyncio.sleep(0.02)


async def half_a_body(writer: asyncio.StreamWriter) -> None:
    """Promise a body, and send a byte of it now and then."""
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
    for _ in range(1_000):
        writer.write(b"y")
        await asyncio.sleep(0.02)


async def half_a_second_head(writer: asyncio.StreamWriter) -> None:
    """Have one request answered, and be slow with the next one."""
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await half_a_head(writer)


@pytest.mark.parametrize("slow", [nothing, half_a_head, half_a_body, half_a_second_head])
async def test_who_is_slow_is_hung_up_on(slow: Callable[[asyncio.StreamWriter], Coroutine[Any, Any, None]]) -> None:
    """However little at a time a client sends, its connection ends by itself."""
    async with served(Hurried) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
        sending = asyncio.create_task(slow(writer))
        await ended(reader)
        sending.cancel()
        await asyncio.wait((sending,))
        writer.close()


async def test_who_takes_no_answer_is_hung_up_on() -> None:
    """A client that asks for much and reads nothing does not keep it in the server's memory."""
    async with served(Hurried) as server:
        with socket.create_connection(("127.0.0.1", port_of(server))) as client:
            client.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
            await until(lambda: server.server_state.total_requests == 1)
            await until(lambda: not server.server_state.connections)


async def test_who_is_quick_is_answered_again_and_again() -> None:
    """Requests of one connection, also such that are sent before the first was answered, each have their own time."""
    async with served(Hurried) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
        for _ in range(4):
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc" * 2)
            for _ in range(2):
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200 OK")
                assert await reader.readexactly(3) == b"abc"
            await asyncio.sleep(0.1)
        writer.close()
