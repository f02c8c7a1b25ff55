"""What may stand between an operator and its API server: a line that is cut or goes dead, a gateway that meddles."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from e2e.background import Running, running
from integration.store.proxy import Proxy, proxied
from keep_operator.cluster import connection
from keep_operator.resources.kinds import Resource
from keep_operator.sandbox import kubeconfig as kubeconfigs


class Line:
    """A TCP line to the API server; ``kubeconfig`` leads over it, with the identity that it had before."""

    def __init__(self, proxy: Running[Proxy], kubeconfig: Path) -> None:
        self._proxy = proxy
        self.kubeconfig = kubeconfig

    def cut(self) -> None:
        """End every connection, and each later one at once, until it is mended."""
        self._proxy.do(Proxy.sever)

    def mend(self) -> None:
        """Take connections again."""
        self._proxy.do(Proxy.mend)

    def die(self) -> None:
        """Keep every connection open, later ones too, and pass nothing on: nobody is told."""
        self._proxy.do(Proxy.freeze)


@contextmanager
def line(kubeconfig: Path, folder: Path) -> Iterator[Line]:
    """A line to the API server of a kubeconfig, for the length of the block."""
    with running(proxied(_server(kubeconfig))) as proxy:
        port = proxy.do(lambda made: made.port)
        yield Line(proxy, _leading_to(f"https://127.0.0.1:{port}", kubeconfig, folder / "line.kubeconfig"))


class Gateway:
    """Passes requests on under the identity of a kubeconfig, and can put words of its own into watches."""

    def __init__(self, link: connection.Connection, session: aiohttp.ClientSession) -> None:
        self._link = link
        self._session = session
        self._watches: dict[asyncio.Queue[bytes], str] = {}
        self._unheard: set[str] = set()
        self.port = 0

    def say(self, resource: Resource, event: dict[str, Any]) -> int:
        """Put an event into every open watch of a kind; how many there are."""
        watches = [words for words, path in self._watches.items() if path == resource.path()]
        for words in watches:
            words.put_nowait(json.dumps(event).encode() + b"\n")
        return len(watches)

    def ignore(self, resource: Resource) -> None:
        """Answer no further request to watch a kind, and do not refuse it either."""
        self._unheard.add(resource.path())

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one request."""
        headers = [(name, value) for name, value in request.headers.items() if name in ("Accept", "Content-Type")]
        if request.path in self._unheard and request.query.get("watch") == "true":
            await asyncio.Event().wait()
        url, body = self._link.server + request.path_qs, await request.read() or None
        async with self._session.request(request.method, url, data=body, headers=headers) as answer:
            response = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
            await response.prepare(request)
            if request.query.get("watch") == "true":
                await self._pass_watch(request.path, answer, response)
            else:
                await response.write(await answer.read())
            return response

    async def _pass_watch(self, path: str, answer: aiohttp.ClientResponse, response: web.StreamResponse) -> None:
        words: asyncio.Queue[bytes] = asyncio.Queue()

        async def listen() -> None:
            async for word in answer.content:
                words.put_nowait(word)
            words.put_nowait(b"")

        self._watches[words] = path
        listening = asyncio.create_task(listen())
        try:
            while word := await words.get():
                await response.write(word)
        finally:
            del self._watches[words]
            listening.cancel()
            await asyncio.wait((listening,))


@contextmanager
def gateway(kubeconfig: Path, folder: Path) -> Iterator[tuple[Running[Gateway], Path]]:
    """A gateway to the API server of a kubeconfig, and the kubeconfig that leads to it, which needs no credentials."""
    with running(_gateway(kubeconfig)) as made:
        port = made.do(lambda gateway: gateway.port)
        yield made, _leading_to(f"http://127.0.0.1:{port}", kubeconfig, folder / "gateway.kubeconfig")


@asynccontextmanager
async def _gateway(kubeconfig: Path) -> AsyncIterator[Gateway]:
    link = connection.load({"KUBECONFIG": str(kubeconfig)})
    async with await link.open_session() as session:
        made = Gateway(link, session)
        application = web.Application(client_max_size=1 << 26)
        application.router.add_route("*", "/{path:.*}", made.handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            made.port = runner.addresses[0][1]
            yield made
        finally:
            await runner.cleanup()


def _server(kubeconfig: Path) -> str:
    server = kubeconfigs.server(kubeconfig)
    assert server is not None
    return server


def _leading_to(server: str, kubeconfig: Path, target: Path) -> Path:
    """A copy of a kubeconfig that leads elsewhere."""
    content = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    for entry in content["clusters"]:
        entry["cluster"]["server"] = server
    target.write_text(yaml.safe_dump(content), encoding="utf-8")
    return target
