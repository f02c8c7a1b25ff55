"""An API server that the test plays: it answers by script, breaks off, keeps silent, and remembers what it was asked."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from ssl import SSLContext
from typing import Any

from aiohttp import web

from keep_operator.cluster.transport import Bounds

BOUNDS = Bounds(
    connect=timedelta(seconds=2),
    total=timedelta(seconds=2),
    silence=timedelta(milliseconds=200),
    backoff=timedelta(milliseconds=1),
)
"""Patience that a test has."""

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


class Hostile:
    """Gives the answers of its script in order, then ``otherwise`` for ever."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[Asked] = []
        self.script: deque[Answer] = deque()
        self.otherwise: Answer = status(500, "InternalError", "the script is at its end")
        self.under_way = 0
        self.most_under_way = 0

    def answers(self, *answers: Answer) -> None:
        self.script.extend(answers)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        self.asked.append(
            Asked(
                request.method,
                request.raw_path.partition("?")[0],
                dict(request.query),
                dict(request.headers),
                json.loads(raw) if raw else None,
            )
        )
        answer = self.script.popleft() if self.script else self.otherwise
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            return await answer(request)
        finally:
            self.under_way -= 1


@asynccontextmanager
async def serve(tls: SSLContext | None = None) -> AsyncIterator[Hostile]:
    hostile = Hostile()
    application = web.Application(client_max_size=1 << 26)
    application.router.add_route("*", "/{path:.*}", hostile.handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.01, handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        port = runner.addresses[0][1]
        hostile.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        yield hostile
    finally:
        await runner.cleanup()


# -- whole answers ------------------------------------------------------------------------------------------------


def document(body: Any, code: int = 200, **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response(body, status=code, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return answer


def text(body: str, code: int = 200, content_type: str = "text/html", **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        named = {k.replace("_", "-"): v for k, v in headers.items()}
        return web.Response(text=body, status=code, content_type=content_type, headers=named)

    return answer


def failure(
    code: int, reason: str, message: str = "", *, name: str = "", causes: list[dict[str, str]] | None = None
) -> Any:
    """The ``Status`` object of a failure."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
        "details": {**({"name": name} if name else {}), **({"causes": causes} if causes else {})},
    }


def status(code: int, reason: str, message: str = "", *, name: str = "", **headers: str) -> Answer:
    return document(failure(code, reason, message, name=name), code, **headers)


def absent(name: str) -> Answer:
    return status(404, "NotFound", f'"{name}" not found', name=name)


def tenant(name: str = "keep", version: str = "7") -> dict[str, Any]:
    return {
        "apiVersion": "keep-operator.dev/v1alpha1",
        "kind": "Tenant",
        "metadata": {"name": name, "resourceVersion": version},
    }


def page(*items: Any, version: str = "100", more: str = "") -> Answer:
    metadata = {"resourceVersion": version, **({"continue": more} if more else {})}
    return document({"kind": "TenantList", "apiVersion": "v1", "metadata": metadata, "items": list(items)})


def raw(body: bytes) -> Answer:
    """Any bytes, said to be JSON."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type="application/json")

    return answer


def slowly(seconds: float, then: Answer) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return await then(request)

    return answer


# -- answers that break -------------------------------------------------------------------------------------------


async def no_answer(request: web.Request) -> web.StreamResponse:
    """The connection is closed instead of an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def silence(_: web.Request) -> web.StreamResponse:
    """No headers, for longer than anyone waits here."""
    await asyncio.sleep(30)
    return web.Response()


async def cut_body(request: web.Request) -> web.StreamResponse:
    """Half an answer, then the connection is gone."""
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"kind": "Tenant", "metadata": {"na')
    assert request.transport is not None
    request.transport.abort()
    return response


async def endless(request: web.Request) -> web.StreamResponse:
    """A body that never ends, as fast as it is read."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(b'{"metadata": "')
    while True:
        await response.write(b"x" * 65536)


async def trickle(request: web.Request) -> web.StreamResponse:
    """A body that never ends, a byte at a time."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.01)


# -- watches ------------------------------------------------------------------------------------------------------


def event(kind: str, name: str, version: int, **metadata: Any) -> bytes:
    """One line of a watch about the Secret ``team/<name>``."""
    return line(kind, secret(name, version, **metadata))


def secret(name: str, version: int, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "meta.k8s.io/v1",
        "kind": "PartialObjectMetadata",
        "metadata": {
            "namespace": "team",
            "name": name,
            "uid": f"uid-{name}",
            "resourceVersion": str(version),
            **metadata,
        },
    }


def bookmark(version: int) -> bytes:
    return line("BOOKMARK", {"kind": "PartialObjectMetadata", "metadata": {"resourceVersion": str(version)}})


def line(kind: str, item: Any) -> bytes:
    return json.dumps({"type": kind, "object": item}).encode() + b"\n"


def web_stream() -> web.StreamResponse:
    """An answer that is written piece by piece, without a length."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.enable_chunked_encoding()
    return response


def stream(*pieces: bytes, then: str = "end") -> Answer:
    """A watch that brings these pieces and then ends, is cut, or stays open in silence (``then``)."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web_stream()
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
        if then == "cut":
            assert request.transport is not None
            request.transport.abort()
        elif then == "silence":
            await asyncio.sleep(30)
        return response

    return answer
