"""Owns the connections to the control database: how they are made, borrowed, watched and counted.

::

    connect(url) ── engine ──┬── transaction(engine)   BEGIN READ WRITE … COMMIT
                             ├── alone(engine)         single statements that may write, each a transaction by itself
                             ├── look(engine)          single statements, the database refuses writes
                             └── snapshot(engine)      many statements that see one and the same moment

All translate every failure of the driver (`failures`), and none can hang: each connection that is out
is watched by a timer that shuts its socket. Every time that bounds something stands at the top of this file.
A direct connection or session pooling is needed (session settings, advisory locks, prepared statements);
pgbouncer's transaction pooling does not do.
"""

import asyncio
import contextlib
import os
import select
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal, LiteralString

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.types.json import set_json_loads
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from keep_operator.errors import Refused, Unavailable
from keep_operator.store import address, documents, failures
from keep_operator.store.connection import Connection, Queries

# The longest that a row of ours is rightly locked is another transaction of ours: milliseconds. Whoever waits
# for seconds waits for something stuck, and does better to give its worker back.
LOCK_TIMEOUT: Final = timedelta(seconds=5)

# Every statement touches a handful of rows by index. Above the lock timeout, so that a wait for a lock is
# reported as such.
STATEMENT_TIMEOUT: Final = timedelta(seconds=10)

# One borrowing: begin, two statements of STATEMENT_TIMEOUT, commit. Later the server is stopped or unreachable,
# and its own timeouts do not act either: the socket is shut.
BORROW_LIMIT: Final = timedelta(seconds=30)

# A whole ledger, page by page: some ten thousand entries a second. The database keeps what was removed since the snapshot
# began for as long.
SNAPSHOT_LIMIT: Final = timedelta(hours=1)

# A process that was stopped in the middle of a transaction must not keep its locks for longer than others wait.
IDLE_IN_TRANSACTION_TIMEOUT: Final = BORROW_LIMIT

# Workers are as many as connections, so nobody waits long for one; above that something leaks.
POOL_TIMEOUT: Final = timedelta(seconds=10)

# After so long unused a connection is asked before use: firewalls and NAT forget silent ones, often after minutes.
PING_AFTER_IDLE: Final = timedelta(seconds=30)
PING_LIMIT: Final = timedelta(seconds=2)

# 14 is the oldest that the PostgreSQL project still mends; tested are 15 and 18.
MINIMUM_SERVER: Final = 140_000

_SESSION: Final = {
    # A look runs in autocommit and thereby read-only; transactions say BEGIN READ WRITE, and `alone` changes it.
    "default_transaction_read_only": "on",
    "idle_in_transaction_session_timeout": str(round(IDLE_IN_TRANSACTION_TIMEOUT.total_seconds() * 1000)),
    "lock_timeout": str(round(LOCK_TIMEOUT.total_seconds() * 1000)),
    # Every statement names its schema: nothing in `public` can get in between.
    "search_path": "pg_catalog",
    "statement_timeout": str(round(STATEMENT_TIMEOUT.total_seconds() * 1000)),
    "TimeZone": "UTC",
}


@dataclass(frozen=True, slots=True)
class Pool:
    """The pool at one moment, in connections: ``size`` at most, ``in_use`` borrowed, ``idle`` open and free."""

    size: int
    in_use: int
    idle: int


@dataclass(frozen=True, slots=True)
class _Idle:
    """A connection that nobody has borrowed, and since when, in seconds of the monotonic clock."""

    driver: psycopg.AsyncConnection[Any]
    since_s: float


class Engine:
    """Up to ``size`` connections; the one used last is lent first, so that the few busy ones stay warm."""

    def __init__(self, parameters: dict[str, Any], size: int, operates: bool) -> None:
        self._parameters = parameters
        self._size = size
        self._operates = operates
        self._places = asyncio.Semaphore(size)
        self._in_use = 0
        self._idle: list[_Idle] = []
        self.queries = Queries()

    @property
    def pool(self) -> Pool:
        """How the pool stands now."""
        return Pool(self._size, self._in_use, len(self._idle))

    @asynccontextmanager
    async def lend(self, limit: timedelta) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """A session for at most ``limit``; kept for others only where nothing is left open in it."""
        await self._take_place()
        try:
            driver = await self._alive() or await self.open()
            self._in_use += 1
            try:
                with within(limit, driver):
                    yield driver
            finally:
                self._in_use -= 1
                if driver.info.transaction_status == TransactionStatus.IDLE:
                    self._idle.append(_Idle(driver, time.monotonic()))
                else:
                    await driver.close()
        finally:
            self._places.release()

    async def open(self) -> psycopg.AsyncConnection[Any]:
        """A new session outside the pool; the caller closes it."""
        return await _open(self._parameters, self._operates)

    async def dispose(self) -> None:
        """Close what is idle; safe to repeat."""
        while self._idle:
            await self._idle.pop().driver.close()

    async def _take_place(self) -> None:
        if not self._places.locked():
            await self._places.acquire()  # does not wait
            return
        try:
            async with asyncio.timeout(POOL_TIMEOUT.total_seconds()):
                await self._places.acquire()
        except TimeoutError:
            what = "no connection of the pool to the control database became free"
            raise Unavailable(failures.DATABASE_UNAVAILABLE, what) from None

    async def _alive(self) -> psycopg.AsyncConnection[Any] | None:
        """The idle connection that was used last, if it lives; None where one must be opened.

        After a restart of the database the socket of an idle connection is readable (the server's farewell, or the end
        of the stream), which one system call finds out: a question to the server would add a round trip to each of the
        looks that a resting operator makes all day.
        """
        if not self._idle:
            return None
        last = self._idle.pop()
        idle_s = time.monotonic() - last.since_s
        try:
            if not _readable(last.driver.fileno()) and idle_s < PING_AFTER_IDLE.total_seconds():
                return last.driver
            with within(PING_LIMIT, last.driver):
                await last.driver.execute("SELECT 1")
        except psycopg.Error:
            await last.driver.close()
            await self.dispose()  # all idle ones are as old as this one, or older
            return None
        except BaseException:
            await last.driver.close()
            raise
        return last.driver


def connect(url: str, *, application_name: str, pool_size: int = 8, operates: bool = False) -> Engine:
    """An engine for ``postgresql://...``; opens nothing yet. Close it with ``await engine.dispose()``.

    ``pool_size``: connections at most. ``application_name`` shows in ``pg_stat_activity``. ``operates``: its writes are
    the operator's own, and `changes` need not tell it of them. Raises Refused InvalidDatabaseURL, without repeating the
    URL.
    """
    return Engine({**address.parameters(url), "application_name": application_name}, pool_size, operates)


@asynccontextmanager
async def transaction(engine: Engine) -> AsyncIterator[Connection]:
    """A transaction that may write (READ COMMITTED): committed at the end, rolled back by an exception.

    Raises our errors only. Unavailable may mean that the commit was done and its answer lost: look again.
    """
    async with _between(engine, "BEGIN READ WRITE", BORROW_LIMIT) as conn:
        engine.queries.transactions += 1
        yield conn


@asynccontextmanager
async def alone(engine: Engine) -> AsyncIterator[Connection]:
    """A connection whose statements may write, each a transaction by itself: one of them takes a third of `transaction`'s round trips.

    Raises our errors only. Unavailable may mean that a statement was done and its answer lost: look again.
    """
    with failures.translated():
        async with engine.lend(BORROW_LIMIT) as driver:
            await _read_only(driver, "off")
            engine.queries.transactions += 1
            yield Connection(driver, engine.queries)


@asynccontextmanager
async def look(engine: Engine) -> AsyncIterator[Connection]:
    """A connection that can only read; each statement sees the newest committed state.

    No transaction around it: that would be two more round trips for the one statement of a look.
    """
    with failures.translated():
        async with engine.lend(BORROW_LIMIT) as driver:
            await _read_only(driver, "on")
            yield Connection(driver, engine.queries)


@asynccontextmanager
async def snapshot(engine: Engine) -> AsyncIterator[Connection]:
    """A connection that can only read, and whose statements all see the state of one moment, for reading much."""
    async with _between(engine, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", SNAPSHOT_LIMIT) as conn:
        yield conn


@asynccontextmanager
async def _between(engine: Engine, begin: LiteralString, limit: timedelta) -> AsyncIterator[Connection]:
    with failures.translated():
        async with engine.lend(limit) as driver:
            await driver.execute(begin)
            try:
                yield Connection(driver, engine.queries)
            except Exception:
                with contextlib.suppress(psycopg.Error):
                    await driver.execute("ROLLBACK")
                raise
            await driver.execute("COMMIT")


@asynccontextmanager
async def session(engine: Engine, limit: timedelta) -> AsyncIterator[AsyncConnection]:
    """SQLAlchemy's own connection, for migrations: a session of its own for at most ``limit``, which ends with the block."""

    async def opened() -> psycopg.AsyncConnection[Any]:
        driver = await engine.open()
        until_closed.enter_context(within(limit, driver))
        await driver.set_autocommit(False)
        await driver.set_read_only(False)
        return driver

    with failures.translated(), contextlib.ExitStack() as until_closed:
        made = create_async_engine(
            "postgresql+psycopg://",  # bare: what is not in the engine's URL is in no repr and no log
            async_creator=opened,
            hide_parameters=True,
            poolclass=NullPool,
            use_native_hstore=False,
        )
        async with made.connect() as conn:
            yield conn


async def _read_only(driver: psycopg.AsyncConnection[Any], wanted: Literal["on", "off"]) -> None:
    """What holds for statements outside a transaction; the server tells each change by itself, so that nobody has to ask."""
    if driver.info.parameter_status("default_transaction_read_only") != wanted:
        await driver.execute(f"SET default_transaction_read_only = {wanted}")


def queries(engine: Engine) -> Queries:
    """The counter of this engine; live, it goes on counting."""
    return engine.queries


def pool(engine: Engine) -> Pool:
    """How the pool stands now."""
    return engine.pool


async def _open(parameters: dict[str, Any], operates: bool) -> psycopg.AsyncConnection[Any]:
    """A new session with our settings, on a server that we support."""
    try:
        # Around psycopg's own timeout, which does not count the resolution of host names.
        async with asyncio.timeout(2 * address.CONNECT_TIMEOUT.total_seconds()):
            connection = await psycopg.AsyncConnection.connect(**parameters)
    except TimeoutError:
        raise psycopg.errors.ConnectionTimeout("no answer") from None
    set_json_loads(documents.loads, connection)
    try:
        with within(address.CONNECT_TIMEOUT, connection):
            _check_server(connection.info)
            chosen = _SESSION | {"keep_operator.operates": "yes" if operates else "no"}
            names = ", ".join(f"set_config('{name}', %({name})s, false)" for name in chosen)
            await connection.set_autocommit(True)  # for good: a transaction begins where it is said
            await connection.execute(f"SELECT {names}", chosen)
    except BaseException:
        await connection.close()
        raise
    return connection


def _check_server(info: psycopg.ConnectionInfo) -> None:
    if info.server_version < MINIMUM_SERVER or info.parameter_status("crdb_version"):
        raise Refused(
            failures.DATABASE_UNSUPPORTED,
            f"the control database must be PostgreSQL {MINIMUM_SERVER // 10_000} or newer; this server reports "
            f"{info.parameter_status('server_version')}",
        )
    if info.parameter_status("server_encoding") != "UTF8":
        raise Refused(
            failures.DATABASE_UNSUPPORTED,
            "the control database must have the encoding UTF8, this one has "
            f"{info.parameter_status('server_encoding')}; create it with ENCODING 'UTF8'",
        )


def _readable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN | select.POLLHUP | select.POLLERR)
    return bool(poll.poll(0))


@contextmanager
def within(limit: timedelta, connection: psycopg.AsyncConnection[Any]) -> Iterator[None]:
    """Whoever still waits for the server after ``limit`` is told that the connection has ended; for this room only.

    Not ``asyncio.timeout``: cancelling makes the driver ask the same silent server to cancel, and wait again.
    """
    timer = asyncio.get_running_loop().call_later(limit.total_seconds(), _sever, connection)
    try:
        yield
    finally:
        timer.cancel()


def _sever(connection: psycopg.AsyncConnection[Any]) -> None:
    with (
        contextlib.suppress(psycopg.Error, OSError),
        socket.socket(fileno=os.dup(connection.fileno())) as duplicate,
    ):
        duplicate.shutdown(socket.SHUT_RDWR)
