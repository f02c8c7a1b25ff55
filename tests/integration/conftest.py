"""A real control database for each test: a copy of a migrated one, which takes some milliseconds."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from integration.store import databases
from keep_operator.sandbox import postgres
from keep_operator.store import engine as database
from keep_operator.store import schema


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """A server: KEEP_OPERATOR_TEST_DATABASE_URL (a role with CREATEDB, no superuser), else one of our own."""
    if given := os.environ.get("KEEP_OPERATOR_TEST_DATABASE_URL"):
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="keep-operator-") as folder, postgres.running(Path(folder)) as server:
        yield server.url()


@pytest.fixture(scope="session")
def template(server_url: str) -> Iterator[str]:
    """The name of a migrated database that nobody is connected to."""

    async def migrate(url: str) -> None:
        engine = database.connect(url, application_name="template")
        await schema.migrate(engine)
        await engine.dispose()

    with databases.temporary(server_url) as url:
        asyncio.run(migrate(url))
        yield urlsplit(url).path.removeprefix("/")


@pytest.fixture
def empty_url(server_url: str) -> Iterator[str]:
    """A database without our schema."""
    with databases.temporary(server_url) as url:
        yield url


@pytest.fixture
def database_url(server_url: str, template: str) -> Iterator[str]:
    """A migrated database without rows."""
    with databases.temporary(server_url, template) as url:
        yield url


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """The store, connected to a migrated database without rows."""
    connected = database.connect(database_url, application_name="test", pool_size=8)
    yield connected
    await connected.dispose()
