"""Databases of the users: PostgreSQL, MySQL, ClickHouse. A step reads, and cannot write; an action may."""

import asyncio
import json
import string
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from math import ceil, isfinite
from typing import Any, Final, cast
from uuid import UUID

import psycopg
import pymysql
from pymysql.cursors import SSCursor, SSDictCursor

from keep_operator.domain import abilities
from keep_operator.runner import egress
from keep_operator.runner.actions import parameters, redaction, transport
from keep_operator.runner.actions.call import ActionFailed, Call, Outcome
from keep_operator.runner.actions.transport import MOST_BYTES, Request
from keep_operator.runner.egress import OffLimits

# On the wire a row is larger than as JSON, and libraries read ahead; far below what would hurt the runner.
_MOST_ON_THE_WIRE: Final = 4 * MOST_BYTES
_ROWS_AT_ONCE: Final = 200
_LOOK_EVERY_S: Final = 0.05
# Classes of SQLSTATE that pass: connections, rollbacks of the server's own, no resources, shutdown.
_PASSES: Final = ("08", "40", "53", "57P")
# Numbers of MySQL's errors that pass: too many connections, shutdown, timeout of a lock, deadlock.
_MYSQL_PASSES: Final = frozenset({1040, 1053, 1205, 1213, 2002, 2003, 2006, 2013})
_MYSQL_READ_ONLY: Final = 1792
# A server that waits for nothing of the client would go on with a query that nobody waits for. MariaDB reads the first part,
# MySQL the second.
_MYSQL_TIME: Final = (
    "SET /*M! SESSION max_statement_time = {seconds} *//*!50708 SESSION max_execution_time = {milliseconds} */"
)
_NO_HOST: Final = "the Provider's host must be the name or the address of one host"


class _TooLarge(Exception):
    """More rows than are taken."""


class _Rows:
    """Rows as JSON, as long as they are not too many."""

    def __init__(self) -> None:
        self.found: list[Any] = []
        self._bytes = 0

    def add(self, row: Any) -> None:
        plain = as_json(row)
        self._bytes += len(json.dumps(plain)) + 1
        if self._bytes > MOST_BYTES:
            raise _TooLarge
        self.found.append(plain)


async def postgres_query(call: Call) -> Outcome:
    """The rows, each a list, of a statement in a transaction that cannot write."""
    rows = await _postgres(call, writes=False)
    return Outcome(rows, f"{len(rows)} rows")


async def postgres_notify(call: Call) -> Outcome:
    """A statement that may write, and is committed."""
    await _postgres(call, writes=True)
    return Outcome(None, "Committed")


async def _postgres(call: Call, *, writes: bool) -> list[Any]:
    query = parameters.needed(call, "query")
    host, port = _place(call, 5432)
    sent = False
    try:
        addresses = await call.egress.resolve(host, port)
        async with await psycopg.AsyncConnection.connect(
            # The name is for the certificate; connected to is what was judged.
            host=",".join([host] * len(addresses)),
            hostaddr=",".join(addresses),
            port=",".join([str(port)] * len(addresses)),
            user=parameters.needed_setting(call, "username"),
            # Both said in any case: what is not said libpq takes from the environment, which is about our own database.
            password=parameters.needed_setting(call, "password"),
            options="",
            dbname=parameters.setting(call, "database") or parameters.setting(call, "username"),
            application_name="keep-operator",
            gssencmode="disable",
        ) as connection:
            await connection.set_read_only(not writes)
            sent = writes
            async with _watching(connection):
                if not writes:
                    return await _read(connection, query)
                await connection.execute(query.encode())
                return []
    except _TooLarge:
        raise _too_large(call) from None
    except OffLimits as error:
        raise ActionFailed(f"{call.type}: {error}") from None
    except (psycopg.Error, OSError, ValueError) as error:
        raise _postgres_failure(call, error, sent=sent) from None


async def _read(connection: psycopg.AsyncConnection[Any], query: str) -> list[Any]:
    """Row by row, and by the protocol that takes one statement alone: none can end the transaction and begin its own."""
    rows = _Rows()
    async with connection.cursor() as cursor:
        stream = cast("AsyncGenerator[Any, None]", cursor.stream(query.encode()))
        async with aclosing(stream):
            async for row in stream:
                rows.add(row)
    return rows.found


@asynccontextmanager
async def _watching(connection: psycopg.AsyncConnection[Any]) -> AsyncIterator[None]:
    """Cuts the connection when more comes in than is taken: libpq reads a row as a whole, however long it is."""
    too_much = False

    async def watch(fileno: int) -> None:
        nonlocal too_much
        before = egress.received(fileno)
        while not too_much:
            await asyncio.sleep(_LOOK_EVERY_S)
            too_much = egress.received(fileno) - before > _MOST_ON_THE_WIRE
        egress.cut(fileno)

    task = asyncio.create_task(watch(connection.fileno()))
    try:
        yield
    except psycopg.Error:
        if too_much:
            raise _TooLarge from None
        raise
    finally:
        task.cancel()


def _postgres_failure(call: Call, error: Exception, *, sent: bool) -> ActionFailed:
    state = getattr(error, "sqlstate", None)
    if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
        return transport.failed(call, "was asked by a step to write, and steps only read; make it an action")
    if isinstance(error, psycopg.Error) and state is not None:
        said = error.diag.message_primary or type(error).__name__
        return transport.failed(call, f"says {state}: {said}"[:400], state.startswith(_PASSES), may_have_acted=False)
    if isinstance(error, psycopg.OperationalError | OSError):
        return transport.failed(call, _without_secrets(call, error), True, may_have_acted=sent)
    if isinstance(error, psycopg.ProgrammingError):
        return transport.failed(call, "has no rows for this statement, and a step asks for rows; make it an action")
    return transport.failed(call, f"was asked what it cannot be asked: {type(error).__name__}")


def _without_secrets(call: Call, error: Exception) -> str:
    said = " ".join(str(error).split())
    return "cannot be reached, or broke off: " + redaction.redact(said, redaction.secrets(call))[:300]


async def mysql(call: Call) -> Outcome:
    """The rows, each a list, or with ``as_dict`` an object; with ``single_row`` the first alone. ``{name}`` in the query is filled in."""
    query = _filled(call, ("query", "as_dict", "single_row"))
    writes = abilities.side_effects("mysql", call.kind, call.parameters) is not abilities.SideEffects.NONE
    host, port = _place(call, 3306)
    as_objects = parameters.flag(call, call.parameters.get("as_dict"), "as_dict", False)
    single = parameters.flag(call, call.parameters.get("single_row"), "single_row", False)
    sent = False
    sock = None
    try:
        sock = await egress.connect(call.egress, host, port)
        connection = pymysql.connections.Connection(
            user=parameters.needed_setting(call, "username"),
            password=parameters.setting(call, "password"),
            host=host,
            port=port,
            database=parameters.setting(call, "database") or None,
            charset="utf8mb4",
            read_timeout=call.timeout_s,
            write_timeout=call.timeout_s,
            local_infile=False,
            autocommit=False,
            cursorclass=SSDictCursor if as_objects else SSCursor,
            defer_connect=True,
        )
        sent = writes
        rows = await egress.in_thread(
            call.egress,
            lambda: _mysql(connection, sock, query, writes=writes, timeout_s=call.timeout_s),
            most=_MOST_ON_THE_WIRE,
            holding=sock,
        )
    except (_TooLarge, egress.TooMuch):
        raise _too_large(call) from None
    except OffLimits as error:
        raise ActionFailed(f"{call.type}: {error}") from None
    except (pymysql.Error, OSError, ValueError) as error:
        raise _mysql_failure(call, error, sent=sent) from None
    finally:
        if sock is not None:
            sock.close()
    if single:
        if not rows:
            raise transport.failed(call, "returned no row, and single_row wants one")
        return Outcome(rows[0], "1 row")
    return Outcome(rows, f"{len(rows)} rows")


def _mysql(connection: Any, sock: Any, query: str, *, writes: bool, timeout_s: float) -> list[Any]:
    """Blocks."""
    connection.connect(sock)
    cursor = connection.cursor()
    try:
        with suppress(pymysql.err.ProgrammingError):  # servers older than 2015 have no such limit
            cursor.execute(_MYSQL_TIME.format(seconds=timeout_s, milliseconds=ceil(timeout_s * 1000)))
        cursor.execute("START TRANSACTION" + ("" if writes else " READ ONLY"))
        cursor.execute(query)
        rows = _Rows()
        while found := cursor.fetchmany(_ROWS_AT_ONCE):
            for row in found:
                rows.add(row)
        if writes:
            connection.commit()
        return rows.found
    finally:
        if cursor._result is not None:
            # What was not read stays so: the library would read it to its end, now and when the result is forgotten.
            cursor._result.unbuffered_active = False
        if connection.open:
            connection.close()


def _mysql_failure(call: Call, error: Exception, *, sent: bool) -> ActionFailed:
    if isinstance(error, pymysql.Error) and error.args and isinstance(error.args[0], int):
        number, said = error.args[0], str(error.args[1]) if len(error.args) > 1 else ""
        if number == _MYSQL_READ_ONLY:
            return transport.failed(
                call,
                "was asked by a step to write; begin the query with INSERT, UPDATE or DELETE, or make it an action",
            )
        # Numbers of the client itself: it was talking when the connection broke.
        lost = 2000 <= number < 3000
        said = redaction.redact(" ".join(said.split()), redaction.secrets(call))
        return transport.failed(
            call, f"says {number}: {said}"[:400], number in _MYSQL_PASSES, may_have_acted=sent and lost
        )
    if isinstance(error, OSError):
        return transport.unreachable(call, error)
    return transport.failed(call, f"was asked what it cannot be asked: {type(error).__name__}")


async def clickhouse(call: Call) -> Outcome:
    """The rows as objects, with ``single_row`` the first alone; by HTTP, a step that reads with a method that cannot write."""
    query = _filled(call, ("query", "single_row"))
    protocol = parameters.setting(call, "protocol", "clickhouse")
    if protocol not in ("http", "https"):
        raise ActionFailed(
            f'clickhouse: the protocol "{protocol}" is not spoken here; give the Provider protocol http or https, and the port '
            "of that, which mostly is 8123 or 8443"
        )
    host, port = _place(call, 8123)
    reads = abilities.side_effects("clickhouse", call.kind, call.parameters) is abilities.SideEffects.NONE
    params = {"default_format": "JSONEachRow", "database": parameters.setting(call, "database")}
    answer = await transport.exchange(
        call,
        Request(
            "GET" if reads else "POST",
            f"{protocol}://{f'[{host}]' if ':' in host else host}:{port}/",
            params=parameters.without_nothing(params | ({"query": query} if reads else {})),
            body=None if reads else query.encode(),
            auth=(parameters.needed_setting(call, "username"), parameters.setting(call, "password")),
            verify=parameters.flag(call, call.config.get("verify"), "verify", True),
        ),
    )
    transport.expect(call, answer)
    try:
        rows = [transport.read_json(line) for line in answer.text.splitlines() if line.strip()]
    except ValueError:
        raise transport.failed(call, "answered what is no JSON; leave FORMAT out of the query") from None
    if parameters.flag(call, call.parameters.get("single_row"), "single_row", False) and rows:
        return Outcome(rows[0], "1 row")
    return Outcome(rows, f"{len(rows)} rows")


class _Filler(string.Formatter):
    """``{name}`` and nothing else: no attributes, no widths that fill the memory."""

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> Any:
        if field_name not in kwargs:
            raise ValueError(f"{{{field_name[:50]}}} is no parameter")
        return kwargs[field_name], field_name

    def format_field(self, value: Any, format_spec: str) -> str:
        if format_spec:
            raise ValueError("a name in braces takes no format")
        return parameters.as_text(value)


def _filled(call: Call, own: Iterable[str]) -> str:
    query = parameters.needed(call, "query")
    others = {
        name: value for name, value in call.parameters.items() if name not in own and not name.startswith("enrich_")
    }
    if not others:
        return query
    try:
        return _Filler().vformat(query, (), others)
    except (ValueError, IndexError, KeyError) as error:
        raise ActionFailed(f"{call.type}: the query cannot be filled in: {error}") from None


def _place(call: Call, usual_port: int) -> tuple[str, int]:
    host = parameters.needed_setting(call, "host").rpartition("://")[2].rstrip("/")
    try:
        port = int(parameters.setting(call, "port", str(usual_port)))
    except ValueError:
        raise ActionFailed(f"{call.type}: the Provider's port must be a port") from None
    # For libpq a path is a socket of the machine, and a comma parts hosts.
    if not host or set(host) & set("/@,\\ \0") or not 0 < port < 65536:
        raise ActionFailed(f"{call.type}: {_NO_HOST}")
    transport.TALKING_TO.set(host)
    return host, port


def _too_large(call: Call) -> ActionFailed:
    return transport.failed(
        call,
        f"has more than {MOST_BYTES // 1024} KiB of rows, which is all that is taken; ask for fewer",
        may_have_acted=True,
    )


def as_json(value: Any) -> Any:
    """A value of a database as JSON: times as they are read, numbers as numbers where nothing is lost."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if isfinite(value) else str(value)
        case Decimal():
            if not value.is_finite():
                return str(value)
            if value == value.to_integral_value() and value.as_tuple().exponent == 0:
                return int(value)
            return float(value) if Decimal(repr(float(value))) == value else str(value)
        case bytes() | bytearray() | memoryview():
            return bytes(value).decode("utf-8", "replace")
        case datetime() | date() | time() | timedelta() | UUID():
            return str(value)
        case Mapping():
            return {str(key): as_json(each) for key, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [as_json(each) for each in value]
        case _:
            return str(value)
