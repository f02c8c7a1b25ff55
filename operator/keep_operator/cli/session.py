"""What commands that work with the control database have in common: opening it, ending well or ill, printing tables."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import click

from keep_operator import settings
from keep_operator.errors import KeepOperatorError, Refused
from keep_operator.settings import Settings
from keep_operator.store import engine as store
from keep_operator.store import installation, schema
from keep_operator.store.engine import Engine

# As the ledger names whoever runs a command.
ACTOR: Final = "keep-operator command"


def run(work: Callable[[Engine, str], Awaitable[None]]) -> None:
    """Do ``work`` with the database and the id of this cluster, as `finish` does."""

    async def opening() -> None:
        async with opened(_settings()) as (engine, cluster_id):
            await work(engine, cluster_id)

    finish(opening())


def read(work: Callable[[Engine], Awaitable[None]]) -> None:
    """Do ``work`` that only reads the database, and so can be done with a standby server as well."""

    async def opening() -> None:
        async with _connected(_settings()) as engine:
            await work(engine)

    finish(opening())


@asynccontextmanager
async def opened(given: Settings) -> AsyncIterator[tuple[Engine, str]]:
    """The control database, at a schema that this program knows, and the id of this cluster."""
    async with _connected(given) as engine:
        async with store.transaction(engine) as conn:
            identity = await installation.cluster_id(conn, given.cluster_id or None)
        yield engine, identity.cluster_id


@asynccontextmanager
async def _connected(given: Settings) -> AsyncIterator[Engine]:
    url = given.database_url.get_secret_value()
    engine = store.connect(url, application_name="keep-operator command", pool_size=1)
    try:
        await schema.check(engine)
        yield engine
    finally:
        await engine.dispose()


def _settings() -> Settings:
    given = settings.load()
    if not given.database_url.get_secret_value():
        raise Refused("SettingsInvalid", f"{settings.PREFIX}DATABASE_URL is not set")
    return given


def finish(work: Coroutine[Any, Any, None]) -> None:
    """Run a command to its end; a failure is one line and exit code 1."""
    try:
        asyncio.run(work)
    except KeepOperatorError as error:
        click.echo(f"keep-operator: {error.reason}: {error.message}", err=True)
        raise SystemExit(1) from None


def count(things: Sequence[object], noun: str) -> str:
    """How many, in words."""
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    """Print lines in columns."""
    rows = [head, *lines]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    for row in rows:
        click.echo("   ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
