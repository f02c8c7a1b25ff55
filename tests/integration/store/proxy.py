"""A network before a server, the database as a rule, that can be cut, go silent, or speak for itself."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import urlsplit, urlunsplit

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Proxy:
    """Passes bytes on between its clients and the server of ``upstream``, as long as it is told to."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.connections = 0
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._forget: set[asyncio.Event] = set()
        self._severed = False

    @property
    def url(self) -> str:
        """The same database, by way of this proxy."""
        parts = urlsplit(self._upstream)
        login, _, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{self.port}"))

    def freeze(self) -> None:
        """Keep every connection open, new ones included, and pass nothing on."""
        self._flowing.clear()

    def freeze_present(self) -> None:
        """Pass nothing on for the connections of this moment; later ones work."""
        for silenced in self._forget:
            silenced.set()

    def thaw(self) -> None:
        """Pass on again."""
        self._flowing.set()

    def cut(self) -> None:
        """End every connection."""
        for writer in self._writers:
            writer.transport.abort()

    def sever(self) -> None:
        """End every connection, and each later one at once, until it is mended."""
        self._severed = True
        self.cut()

    def mend(self) -> None:
        """Take connections again."""
        self._severed = False

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        self.connections += 1
        silenced = asyncio.Event()
        self._forget.add(silenced)
        there_reader, there_writer = await self._open()
        self._writers |= {writer, there_writer}
        if self._severed:
            self.cut()
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass(reader, there_writer, silenced))
                both.create_task(self._pass(there_reader, writer, silenced))
        except* OSError:
            pass
        finally:
            self._forget.discard(silenced)
            self._writers -= {writer, there_writer}
            there_writer.transport.abort()
            writer.transport.abort()

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, silenced: asyncio.Event) -> None:
        while block := await source.read(65_536):
            await self._flowing.wait()
            if silenced.is_set():
                continue
            sink.write(block)
            await sink.drain()
        raise ConnectionResetError

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        parts = urlsplit(self._upstream)
        return await asyncio.open_connection(parts.hostname, parts.port or 5432)


@contextlib.asynccontextmanager
async def serving(talk: Talk) -> AsyncIterator[int]:
    """The port on which ``talk`` serves each connection; all of them end at the end."""
    talks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talks.add(task)
        try:
            await talk(reader, writer)
        except (asyncio.CancelledError, OSError, asyncio.IncompleteReadError):
            pass
        finally:
            talks.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(talks):
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)


@contextlib.asynccontextmanager
async def proxied(url: str) -> AsyncIterator[Proxy]:
    """A proxy before the database of ``url``."""
    proxy = Proxy(url)
    async with serving(proxy.talk) as proxy.port:
        yield proxy


def parameter_status(name: str, value: str) -> bytes:
    """What a server says about itself after the login."""
    return _message(b"S", name.encode() + b"\0" + value.encode() + b"\0")


def login(**parameters: str) -> bytes:
    """A server's welcome: it trusts us, has these parameters, and waits for a query."""
    told = b"".join(parameter_status(name, value) for name, value in parameters.items())
    return _message(b"R", b"\0\0\0\0") + told + _message(b"Z", b"I")


def refusal(sqlstate: str, message: str) -> bytes:
    """A server's refusal to let us in."""
    fields = (b"SFATAL", b"VFATAL", b"C" + sqlstate.encode(), b"M" + message.encode())
    return _message(b"E", b"".join(field + b"\0" for field in fields) + b"\0")


def answering(answer: bytes) -> Talk:
    """A server that reads the start of the conversation, answers with these bytes, and says no to every query."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int.from_bytes(await reader.readexactly(4))
        body = await reader.readexactly(length - 4)
        if body == (80877103).to_bytes(4):  # "may I use TLS?"
            writer.write(b"N")
            await answering(answer)(reader, writer)
            return
        writer.write(answer)
        while await reader.read(65_536):
            writer.write(_row("f"))

    return talk


def _row(value: str) -> bytes:
    column = b"x\0" + bytes(6) + (25).to_bytes(4) + b"\xff\xff" + bytes(4) + bytes(2)
    cell = len(value).to_bytes(4) + value.encode()
    return b"".join(
        (
            _message(b"T", (1).to_bytes(2) + column),
            _message(b"D", (1).to_bytes(2) + cell),
            _message(b"C", b"SELECT 1\0"),
            _message(b"Z", b"I"),
        )
    )


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4) + body
