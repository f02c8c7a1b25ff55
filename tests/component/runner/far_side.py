"""Servers at the other end of a step, that the test plays: they keep what they were sent, and answer by script."""

import asyncio
import json
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Sent:
    """A request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class FarSide:
    """Answers by its script, then ``otherwise`` for ever."""

    def __init__(self) -> None:
        self.url = ""
        self.port = 0
        self.sent: list[Sent] = []
        self.asked = asyncio.Event()
        self.script: deque[Answer] = deque()
        self.otherwise: Answer = answer({"ok": True})

    def answers(self, *answers: Answer) -> None:
        self.script.extend(answers)

    @property
    def last(self) -> Sent:
        return self.sent[-1]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.sent.append(
            Sent(
                request.method,
                request.raw_path.partition("?")[0],
                dict(request.query),
                dict(request.headers),
                (await request.read()).decode(),
            )
        )
        self.asked.set()
        return await (self.script.popleft() if self.script else self.otherwise)(request)


@asynccontextmanager
async def serve(tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> AsyncIterator[FarSide]:
    there = FarSide()
    application = web.Application(client_max_size=1 << 26)
    application.router.add_route("*", "/{path:.*}", there.handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.01, handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, 0, ssl_context=tls)
        await site.start()
        there.port = runner.addresses[0][1]
        there.url = f"{'https' if tls else 'http'}://{host}:{there.port}"
        yield there
    finally:
        await runner.cleanup()


def answer(body: Any = None, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    """JSON, or text as it is."""

    async def give(_: web.Request) -> web.StreamResponse:
        if isinstance(body, str):
            return web.Response(text=body, status=status, headers=headers)
        return web.json_response(body, status=status, headers=headers)

    return give


def redirect(to: str, status: int = 302) -> Answer:
    async def give(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers={"Location": to})

    return give


@asynccontextmanager
async def raw(talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[int]:
    """A server that speaks whatever it likes; its port."""
    open_ones: set[asyncio.StreamWriter] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_ones.add(writer)
        try:
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for each in open_ones:
            each.transport.abort()
        await asyncio.sleep(0)
