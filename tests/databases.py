"""A real control database for each test that wants one: a copy of a migrated one, which takes some milliseconds."""

import asyncio
import contextlib
import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from keep_operator.sandbox import postgres
from keep_operator.store import engine as database
from keep_operator.store import schema
from keep_operator.store.engine import Engine

# What a server of the tests may come to take: its write-ahead log is kept below a gigabyte.
ROOM_BYTES: Final = 8 * 2**30


def beside(url: str, name: str) -> str:
    """The URL of another database of the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def name_of(url: str) -> str:
    """The name of the database of a URL."""
    return urlsplit(url).path.removeprefix("/")


@contextlib.contextmanager
def temporary(url: str, template: str = "template0", *, encoding: str = "UTF8") -> Iterator[str]:
    """A new database beside the one of ``url``, a copy of ``template``; gone at the end, whoever is still connected."""
    name = f"test_{uuid.uuid4().hex}"
    made = sql.SQL("CREATE DATABASE {} TEMPLATE {} ENCODING {} STRATEGY file_copy").format(
        sql.Identifier(name), sql.Identifier(template), sql.Literal(encoding)
    )
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(made)
    try:
        yield beside(url, name)
    finally:
        with psycopg.connect(url, autocommit=True) as admin:
            _drop(admin, name)


def _drop(admin: psycopg.Connection[Any], name: str) -> None:
    """Whoever is still connected: clients by force, an autovacuum worker, which only a superuser may end, by request."""
    drop = sql.SQL("DROP DATABASE {}").format(sql.Identifier(name))
    try:
        admin.execute(drop + sql.SQL(" WITH (FORCE)"))
    except psycopg.errors.InsufficientPrivilege:
        admin.execute(drop)


Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Database:
    """One control database, read with plain SQL."""

    url: str = field(repr=False)

    def rows(self, statement: str, *values: object) -> list[Json]:
        with psycopg.connect(self.url, row_factory=dict_row, autocommit=True) as conn:
            return list(conn.execute(statement, values))  # type: ignore[arg-type,unused-ignore]

    def tables(self, *names: str) -> dict[str, list[Json]]:
        """All rows of some of our tables, over one connection."""
        with psycopg.connect(self.url, row_factory=dict_row, autocommit=True) as conn:
            return {
                name: list(conn.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier("keep_operator", name))))
                for name in names
            }

    def execute(self, statement: str, *values: object) -> None:
        with psycopg.connect(self.url, autocommit=True) as conn:
            conn.execute(statement, values)  # type: ignore[arg-type,unused-ignore]

    def providers(self) -> list[Json]:
        return self.rows("SELECT * FROM keep_operator.provider ORDER BY external_name")

    def tenants(self) -> list[Json]:
        return self.rows("SELECT * FROM keep_operator.tenant ORDER BY id")

    def ledger(self, kind: str | None = None) -> list[Json]:
        found = self.rows("SELECT * FROM keep_operator.ledger ORDER BY id")
        return [entry for entry in found if kind in (None, entry["kind"])]


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """A server: KEEP_OPERATOR_TEST_DATABASE_URL (a role with CREATEDB, no superuser), else one of our own."""
    if given := os.environ.get("KEEP_OPERATOR_TEST_DATABASE_URL"):
        yield given
        return
    place = tempfile.TemporaryDirectory(prefix="keep-operator-", dir=_in_memory())
    with place as folder, postgres.running(Path(folder)) as server:
        yield server.url()


def _in_memory() -> Path | None:
    """Where files are no disk's, if there is room: a database is some 300 of them, and copied ten times as fast there."""
    place = Path("/dev/shm")
    with contextlib.suppress(OSError):
        if os.access(place, os.W_OK) and shutil.disk_usage(place).free > ROOM_BYTES:
            return place
    return None


@pytest.fixture(scope="session")
def template(server_url: str) -> Iterator[str]:
    """The name of a migrated database that nobody is connected to."""

    async def migrate(url: str) -> None:
        engine = database.connect(url, application_name="template")
        await schema.migrate(engine)
        await engine.dispose()

    with temporary(server_url) as url:
        asyncio.run(migrate(url))
        yield name_of(url)


@pytest.fixture
def empty_url(server_url: str) -> Iterator[str]:
    """A database without our schema."""
    with temporary(server_url) as url:
        yield url


@pytest.fixture
def database_url(server_url: str, template: str) -> Iterator[str]:
    """A migrated database without rows."""
    with temporary(server_url, template) as url:
        yield url


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    """The store, connected to a migrated database without rows."""
    connected = database.connect(database_url, application_name="test", pool_size=8)
    yield connected
    await connected.dispose()
