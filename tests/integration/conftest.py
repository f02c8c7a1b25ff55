"""A real control database for each test: a copy of a migrated one, which takes some milliseconds."""

import asyncio
import os
import pathlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from integration.store.server import Server, temporary_database
from keep_operator.store import engine as database, schema


@contextmanager
def _server() -> Iterator[Server]:
    # Not pytest's folder: the path of a unix socket is limited to about 100 characters.
    with tempfile.TemporaryDirectory(prefix="keep-operator-pg-") as folder:
        server = Server(pathlib.Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def admin_url() -> Iterator[str]:
    """A server: KEEP_OPERATOR_TEST_DATABASE_URL (of a user who may create databases), else one of our own."""
    if given := os.environ.get("KEEP_OPERATOR_TEST_DATABASE_URL"):
        yield given
        return
    with _server() as server:
        yield server.url


@pytest.fixture(scope="session")
def template(admin_url: str) -> Iterator[str]:
    """The name of a migrated database that nobody is connected to."""

    async def migrate(url: str) -> None:
        engine = database.connect(url, application_name="template")
        await schema.migrate(engine)
        await engine.dispose()

    with temporary_database(admin_url) as url:
        asyncio.run(migrate(url))
        yield urlsplit(url).path.removeprefix("/")


@pytest.fixture
def empty_url(admin_url: str) -> Iterator[str]:
    """A database without our schema."""
    with temporary_database(admin_url) as url:
        yield url


@pytest.fixture
def database_url(admin_url: str, template: str) -> Iterator[str]:
    """A migrated database without rows."""
    with temporary_database(admin_url, template) as url:
        yield url


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """The store, connected to a migrated database without rows."""
    connected = database.connect(database_url, application_name="test", pool_size=8)
    yield connected
    await connected.dispose()


@pytest.fixture(scope="module")
def own_server() -> Iterator[Server]:
    """A server that the tests of a module may stop and start."""
    with _server() as server:
        yield server
