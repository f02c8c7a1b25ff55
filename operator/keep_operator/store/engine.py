"""Owns the connections to the control database: how they are made, borrowed, watched and counted.

::

    connect(url) ── engine ──┬── transaction(engine)   BEGIN READ WRITE … COMMIT
                             └── look(engine)          single statements, the database refuses writes

Both translate every failure of the driver (`failures`), and neither can hang: each connection that is out
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
from typing import Any, Final, cast

import psycopg
from psycopg.types.json import set_json_loads
from sqlalchemy import event, exc
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection, QueuePool

from keep_operator.errors import Refused
from keep_operator.store import address, documents, failures

# The longest that a row of ours is rightly locked is another transaction of ours: milliseconds. Whoever waits
# for seconds waits for something stuck, and does better to give its worker back.
LOCK_TIMEOUT: Final = timedelta(seconds=5)

# Every statement touches a handful of rows by index. Above the lock timeout, so that a wait for a lock is
# reported as such.
STATEMENT_TIMEOUT: Final = timedelta(seconds=10)

# One borrowing: begin, two statements of STATEMENT_TIMEOUT, commit. Later the server is stopped or unreachable,
# and its own timeouts do not act either: the socket is shut.
BORROW_LIMIT: Final = timedelta(seconds=30)

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
    # A look runs in autocommit and thereby read-only; transactions say BEGIN READ WRITE.
    "default_transaction_read_only": "on",
    "idle_in_transaction_session_timeout": str(round(IDLE_IN_TRANSACTION_TIMEOUT.total_seconds() * 1000)),
    "lock_timeout": str(round(LOCK_TIMEOUT.total_seconds() * 1000)),
    # Every statement names its schema: nothing in `public` can get in between.
    "search_path": "pg_catalog",
    "statement_timeout": str(round(STATEMENT_TIMEOUT.total_seconds() * 1000)),
    "TimeZone": "UTC",
}


@dataclass(slots=True)
class Queries:
    """How much an engine has said to the database since it was made; begin and commit are no statements here."""

    statements: int = 0
    transactions: int = 0


@dataclass(frozen=True, slots=True)
class Pool:
    """The pool at one moment, in connections: ``size`` at most, ``in_use`` borrowed, ``idle`` open and free."""

    size: int
    in_use: int
    idle: int


def connect(url: str, *, application_name: str, pool_size: int = 8) -> AsyncEngine:
    """An engine for ``postgresql://...``; opens nothing yet. Close it with ``await engine.dispose()``.

    ``pool_size``: connections at most. ``application_name`` shows in ``pg_stat_activity``. Raises Refused
    InvalidDatabaseURL, without repeating the URL.
    """
    parameters = {**address.parameters(url), "application_name": application_name}
    counted = Queries()

    engine = create_async_engine(
        "postgresql+psycopg://",  # bare: what is not in the engine's URL is in no repr and no log
        async_creator=lambda: _open(parameters),
        hide_parameters=True,
        max_overflow=0,
        pool_size=pool_size,
        pool_timeout=POOL_TIMEOUT.total_seconds(),
        pool_use_lifo=True,  # the few busy ones stay warm
        use_native_hstore=False,
        execution_options={"queries": counted},
    )
    event.listen(engine.sync_engine, "before_cursor_execute", lambda *_: _count_statement(counted))
    event.listen(engine.sync_engine, "checkin", _remember_return)
    event.listen(engine.sync_engine, "checkout", _check_alive)
    return engine


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction that may write (READ COMMITTED): committed at the end, rolled back by an exception.

    Raises our errors only. Unavailable may mean that the commit was done and its answer lost: look again.
    """
    async with borrow(engine, BORROW_LIMIT) as conn, conn.begin():
        queries(engine).transactions += 1
        yield conn


@asynccontextmanager
async def look(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection that can only read; each statement sees the newest committed state.

    No transaction around it: that would be two more round trips for the one statement of a look.
    """
    async with borrow(engine, BORROW_LIMIT) as conn:
        yield await conn.execution_options(isolation_level="AUTOCOMMIT")


@asynccontextmanager
async def borrow(engine: AsyncEngine, limit: timedelta) -> AsyncIterator[AsyncConnection]:
    """A connection for at most ``limit``, with failures translated; prefer `transaction` and `look`."""
    with failures.translated(), contextlib.ExitStack() as until_returned:
        async with engine.connect() as conn:
            raw = await conn.get_raw_connection()
            until_returned.enter_context(_within(limit, cast("psycopg.AsyncConnection[Any]", raw.driver_connection)))
            yield conn


def queries(engine: AsyncEngine) -> Queries:
    """The counter of this engine; live, it goes on counting."""
    return cast("Queries", engine.get_execution_options()["queries"])


def pool(engine: AsyncEngine) -> Pool:
    """How the pool stands now."""
    connections = cast("QueuePool", engine.pool)
    return Pool(size=connections.size(), in_use=connections.checkedout(), idle=connections.checkedin())


async def _open(parameters: dict[str, Any]) -> psycopg.AsyncConnection[Any]:
    """A new session with our settings, on a server that we support."""
    try:
        # Around psycopg's own timeout, which does not count the resolution of host names.
        async with asyncio.timeout(2 * address.CONNECT_TIMEOUT.total_seconds()):
            connection = await psycopg.AsyncConnection.connect(**parameters)
    except TimeoutError:
        raise psycopg.errors.ConnectionTimeout("no answer") from None
    set_json_loads(documents.loads, connection)
    try:
        with _within(address.CONNECT_TIMEOUT, connection):
            _check_server(connection.info)
            names = ", ".join(f"set_config('{name}', %({name})s, false)" for name in _SESSION)
            await connection.set_autocommit(True)
            await connection.execute(f"SELECT {names}", _SESSION)
            await connection.set_autocommit(False)
            await connection.set_read_only(False)
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


def _count_statement(counted: Queries) -> None:
    counted.statements += 1


def _remember_return(_connection: DBAPIConnection | None, entry: ConnectionPoolEntry) -> None:
    entry.info["returned_at"] = time.monotonic()


def _check_alive(connection: DBAPIConnection, entry: ConnectionPoolEntry, _proxy: PoolProxiedConnection) -> None:
    """Sorts out dead connections before they are used; the pool then opens a new one.

    After a restart of the database the socket of an idle connection is readable (the server's farewell, or the
    end of the stream), which one system call finds out: SQLAlchemy's ``pool_pre_ping`` would add a round trip to
    each of the looks that a resting operator makes all day, and is not bounded in time.
    """
    driver = cast("psycopg.AsyncConnection[Any]", entry.driver_connection)
    idle_s = time.monotonic() - entry.info.get("returned_at", time.monotonic())
    try:
        if not _readable(driver.fileno()) and idle_s < PING_AFTER_IDLE.total_seconds():
            return
        with _within(PING_LIMIT, driver):
            cursor = connection.cursor()
            cursor.execute("SELECT 1")
            cursor.close()
            connection.rollback()
    except psycopg.Error as error:
        # All idle ones are as old as this one: let the pool give up the whole generation.
        raise exc.InvalidatePoolError from error


def _readable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN | select.POLLHUP | select.POLLERR)
    return bool(poll.poll(0))


@contextmanager
def _within(limit: timedelta, connection: psycopg.AsyncConnection[Any]) -> Iterator[None]:
    """Whoever still waits for the server after ``limit`` is told that the connection has ended.

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
