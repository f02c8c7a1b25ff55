"""The way of each process to the real PostgreSQL: it reads along, so that a commit can be counted, lost, or cut off.

::

    operator ──► door ──── BEGIN, INSERT ... ────► PostgreSQL
                  │  ◄────────────────────────
                  │   COMMIT ──► gate ──────────►   done
                  │        gate ◄────────────────
                  ◄── answer, or the connection ends

A process that is cut off has lost its connections, as a dead one's are closed by its kernel: PostgreSQL rolls back what was
not committed.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from component.apiserver.faults import Cut, Gate

SSL_REQUEST: Final = (80877103).to_bytes(4)
_CHANGE: Final = re.compile(r"(INSERT INTO|UPDATE|DELETE FROM) keep_operator\.(\w+)")
_READY, _COMPLETE = b"Z", b"C"


class _RolledBack(Exception):
    """The commit was none."""


@dataclass
class Doors:
    """The ways of all processes to the database of ``url``. ``under_way`` counts the questions without an answer yet."""

    url: str
    gate: Gate = field(default_factory=Gate)
    under_way: int = 0
    shut: bool = False
    """Whether nobody is let in: the database is away."""
    commits: list[tuple[str, str]] = field(default_factory=list)
    """The evidence: which client committed what, in order; transactions that changed nothing are left out."""
    _dead: set[str] = field(default_factory=set)
    _talks: dict[asyncio.Task[None], str] = field(default_factory=dict)
    _servers: list[asyncio.Server] = field(default_factory=list)

    async def open(self, client: str) -> str:
        """A URL for one process."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._talks[task] = client
            talk = _Talk(self, client, reader, writer)
            try:
                if client not in self._dead and not self.shut:
                    await talk.run()
            except* (asyncio.CancelledError, OSError, asyncio.IncompleteReadError, Cut):
                pass
            finally:
                del self._talks[task]
                talk.end()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self._servers.append(server)
        parts = urlsplit(self.url)
        login, _, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{server.sockets[0].getsockname()[1]}"))

    def kill(self, client: str) -> None:
        """Cut every connection of a client, and whatever it may open from now on."""
        self._dead.add(client)
        for task, name in self._talks.items():
            if name == client:
                task.cancel()

    def cut(self) -> None:
        """Cut every connection there is; new ones are let in."""
        for task in self._talks:
            task.cancel()

    async def close(self) -> None:
        """Cut everything."""
        for server in self._servers:
            server.close()
        for task in list(self._talks):
            task.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)


class _Talk:
    """One connection."""

    def __init__(self, doors: Doors, client: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._doors = doors
        self._client = client
        self._reader, self._writer = reader, writer
        self._upstream: asyncio.StreamWriter | None = None
        self._statements: dict[bytes, str] = {}
        self._asked: list[str] = []
        self._changes: list[str] = []
        self._open_questions = 0
        self._answer: asyncio.Future[tuple[bytes, bool]] | None = None
        self._kept = bytearray()
        self._committed = False

    async def run(self) -> None:
        """Pass on what is said, until one side ends."""
        parts = urlsplit(self._doors.url)
        upstream, self._upstream = await asyncio.open_connection(parts.hostname, parts.port or 5432)
        await self._greet()
        async with asyncio.TaskGroup() as both:
            both.create_task(self._ask())
            both.create_task(self._reply(upstream))

    def end(self) -> None:
        """Close both sides at once."""
        self._doors.under_way -= self._open_questions
        self._open_questions = 0
        for writer in (self._writer, self._upstream):
            if writer is not None:
                writer.transport.abort()

    async def _greet(self) -> None:
        assert self._upstream is not None
        while True:
            length = await self._reader.readexactly(4)
            body = await self._reader.readexactly(int.from_bytes(length) - 4)
            if body != SSL_REQUEST:
                break
            self._writer.write(b"N")
        self._count(+1)
        self._upstream.write(length + body)

    async def _ask(self) -> None:
        assert self._upstream is not None
        while True:
            kind = await self._reader.readexactly(1)
            length = await self._reader.readexactly(4)
            body = await self._reader.readexactly(int.from_bytes(length) - 4)
            message = kind + length + body
            if kind in b"QS":
                self._count(+1)
            statement = self._listen(kind, body)
            if statement == "COMMIT" and self._changes:
                while kind not in b"QS":  # prepared: what comes up to the end of the question belongs to it
                    kind = await self._reader.readexactly(1)
                    length = await self._reader.readexactly(4)
                    message += kind + length + await self._reader.readexactly(int.from_bytes(length) - 4)
                    if kind == b"S":
                        self._count(+1)
                await self._commit(message)
                continue
            if statement in ("COMMIT", "ROLLBACK"):
                self._changes.clear()
            self._upstream.write(message)

    def _listen(self, kind: bytes, body: bytes) -> str:
        """The statement that a message brings, if it is a short one; what it would change is remembered."""
        statement = ""
        match kind:
            case b"Q":
                statement = body.rstrip(b"\0").decode()
            case b"P":
                name, _, rest = body.partition(b"\0")
                self._statements[name] = rest.partition(b"\0")[0].decode()
            case b"B":
                _, _, rest = body.partition(b"\0")
                statement = self._statements.get(rest.partition(b"\0")[0], "")
        if kind in b"QB":
            self._asked = [f"{verb.split()[0]} {table}".lower() for verb, table in _CHANGE.findall(statement)]
        return statement.strip().upper() if len(statement) < 20 else ""

    async def _commit(self, message: bytes) -> None:
        assert self._upstream is not None
        what = "COMMIT " + ", ".join(sorted(set(self._changes) - {"insert ledger"}) or ["insert ledger"])
        self._changes.clear()
        answer = b""
        with contextlib.suppress(_RolledBack):
            async with self._doors.gate.passing(self._client, what):
                self._answer = asyncio.get_running_loop().create_future()
                self._upstream.write(message)
                answer, done = await self._answer
                if not done:
                    raise _RolledBack
                self._doors.commits.append((self._client, what))
        self._writer.write(answer)

    async def _reply(self, upstream: asyncio.StreamReader) -> None:
        while True:
            head = await upstream.readexactly(5)
            body = await upstream.readexactly(int.from_bytes(head[1:]) - 4)
            kind, message = head[:1], head + body
            if kind == _COMPLETE:
                touched = not body.rstrip(b"\0").endswith(b" 0")  # some row was
                self._changes += self._asked if touched else []
                self._asked = []
            if self._answer is None:
                self._writer.write(message)
            else:
                self._kept += message
                self._committed |= kind == _COMPLETE and body.startswith(b"COMMIT")
            if kind == _READY:
                self._count(-1)
                if self._answer is not None:
                    self._answer.set_result((bytes(self._kept), self._committed))
                    self._answer, self._kept, self._committed = None, bytearray(), False

    def _count(self, change: int) -> None:
        self._open_questions += change
        self._doors.under_way += change


@contextlib.asynccontextmanager
async def doors(url: str) -> AsyncIterator[Doors]:
    """Ways to the database of ``url``, for the length of a block."""
    made = Doors(url)
    try:
        yield made
    finally:
        await made.close()
