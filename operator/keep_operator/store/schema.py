"""Owns the schema's version: brings it up to date, and refuses what this code cannot work with.

Each migration is a file in ``migrations/versions`` with a number of four digits, written by hand; the newest
number is this code's ``REVISION``.
Whether older code may go on beside a newer schema is decided by who wrote the newer schema: each migration says
``minimum_code_revision``, the oldest ``REVISION`` that can work with what it leaves, and that is stored beside the
number (table ``schema_version``, written in the migration's transaction). A migration that only adds keeps the
number of the one before it; one that changes or removes raises it, with the next minor version (A-PKG-3).

::

    schema is      none          older        the same    newer, minimum ≤ ours    newer, minimum > ours
    migrate        migrates      migrates     nothing     nothing                  Refused SchemaTooNew
    check          Unavailable   Unavailable  passes      passes                   Refused SchemaTooNew
                   SchemaMissing SchemaOutdated

There are no downgrades: a migration that fails leaves nothing behind (one transaction each), and what it did well
is undone by the next migration, or by restoring the backup.
"""

import asyncio
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from sqlalchemy import Connection as SyncConnection
from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.schema import CreateSchema

from keep_operator import __version__
from keep_operator.errors import Refused, Unavailable
from keep_operator.store import engine as database
from keep_operator.store import failures
from keep_operator.store.connection import Connection
from keep_operator.store.engine import Engine
from keep_operator.store.tables import SCHEMA, SCHEMA_VERSION

# The newest migration of this code; a test holds it against the files.
REVISION: Final = "0010"

MIGRATIONS: Final = Path(__file__).parent / "migrations"

# How long a process waits for another that migrates, before it says so and tries again.
LOCK_WAIT: Final = timedelta(minutes=1)

# One migration, on tables of some hundred thousand rows: seconds. Beyond this somebody holds a lock.
MIGRATION_LIMIT: Final = timedelta(minutes=15)

# A start takes seconds anyway; this much of it may be spent on noticing that the other one has finished.
_LOCK_POLL: Final = timedelta(milliseconds=100)

# Arbitrary, but for ever: all versions must take the same lock.
_ADVISORY_LOCK: Final = 0x6B65_6570_6F70  # "keepop"

_SCHEMA_EXISTS: Final = text("SELECT count(*) FROM pg_catalog.pg_namespace WHERE nspname = :name").bindparams(
    name=SCHEMA
)


@dataclass(frozen=True, slots=True)
class Migration:
    """The schema's revision before (None: there was none) and after; equal when there was nothing to do."""

    before: str | None
    after: str


@dataclass(frozen=True, slots=True)
class _Version:
    revision: str
    minimum_code_revision: str
    migrated_by: str


async def migrate(engine: Engine) -> Migration:
    """Brings the schema to this code's revision; safe to repeat, and when several start at once one does it.

    Raises Refused SchemaTooNew, and Unavailable MigrationRunning when another process is at it for longer than
    ``LOCK_WAIT``.
    """
    async with database.look(engine) as conn:
        before = await _version(conn)
    if before is None or before.revision < REVISION:
        # The session ends with the block, and with it the advisory lock and the longer timeouts.
        async with database.session(engine, LOCK_WAIT + MIGRATION_LIMIT) as conn:
            before = await _migrate_alone(conn)
    return Migration(before.revision if before else None, await check(engine))


async def check(engine: Engine) -> str:
    """The schema's revision, if this code can work with it.

    Raises Unavailable SchemaMissing or SchemaOutdated (wait: `operate` migrates), Refused SchemaTooNew.
    """
    async with database.look(engine) as conn:
        found = await _version(conn)
    if found is None:
        raise Unavailable(
            failures.SCHEMA_MISSING,
            f"schema {SCHEMA} is not there yet; `keep-operator operate` or `keep-operator migrate` makes it",
        )
    if found.minimum_code_revision > REVISION:
        raise Refused(
            failures.SCHEMA_TOO_NEW,
            f"schema {SCHEMA} is at revision {found.revision}, made by keep-operator {found.migrated_by}, and needs "
            f"code of revision {found.minimum_code_revision}; this is keep-operator {__version__} of revision "
            f"{REVISION}: run the newer version, or restore the backup from before the upgrade",
        )
    if found.revision < REVISION:
        raise Unavailable(
            failures.SCHEMA_OUTDATED,
            f"schema {SCHEMA} is at revision {found.revision}, and keep-operator {__version__} needs {REVISION}; "
            "`keep-operator operate` or `keep-operator migrate` of this version brings it there",
        )
    return found.revision


async def current(engine: Engine) -> str | None:
    """The schema's revision; None without schema."""
    async with database.look(engine) as conn:
        found = await _version(conn)
    return found.revision if found else None


def note_applied(conn: SyncConnection, revision: str, minimum_code_revision: str) -> None:
    """Writes down what a migration has left, in the migration's own transaction; called by ``migrations/env.py``."""
    version = {
        "revision": revision,
        "minimum_code_revision": minimum_code_revision,
        "migrated_by": __version__,
        "migrated_at": func.now(),
    }
    note = insert(SCHEMA_VERSION).values(version)
    conn.execute(note.on_conflict_do_update(index_elements=[SCHEMA_VERSION.c.single], set_=version))


async def _version(conn: Connection | AsyncConnection) -> _Version | None:
    """Asked by name first: a missing table is an answer here, no failure."""
    if await conn.scalar(select(func.to_regclass(str(SCHEMA_VERSION)))) is None:
        return None
    columns = SCHEMA_VERSION.c
    found = await conn.execute(select(columns.revision, columns.minimum_code_revision, columns.migrated_by))
    row = found.first()
    return None if row is None else _Version(row.revision, row.minimum_code_revision, row.migrated_by)


async def _migrate_alone(conn: AsyncConnection) -> _Version | None:
    """Migrates under the advisory lock of this session, if it is still needed then; the version before."""
    limit_ms = str(round(MIGRATION_LIMIT.total_seconds() * 1000))
    await conn.execute(select(func.set_config("statement_timeout", limit_ms, False)))
    await _lock(conn)
    before = await _version(conn)
    if before is None and not await conn.scalar(_SCHEMA_EXISTS):
        # Asked first: CREATE SCHEMA IF NOT EXISTS needs the privilege even where there is nothing to do.
        await conn.execute(CreateSchema(SCHEMA))
    await conn.commit()
    if before is None or before.revision < REVISION:
        await conn.run_sync(_upgrade)
    return before


async def _lock(conn: AsyncConnection) -> None:
    """Takes the migration lock for the session. Polls, so that waiting ends with a message of its own."""
    waiting_since = time.monotonic()
    while not await conn.scalar(select(func.pg_try_advisory_lock(_ADVISORY_LOCK))):
        await conn.commit()
        if time.monotonic() - waiting_since > LOCK_WAIT.total_seconds():
            raise Unavailable(
                failures.MIGRATION_RUNNING,
                f"another process has been migrating schema {SCHEMA} for more than {LOCK_WAIT.seconds} s; wait for it, "
                "or see pg_locks (locktype advisory) for who holds the lock",
            )
        await asyncio.sleep(_LOCK_POLL.total_seconds())


def _upgrade(conn: SyncConnection) -> None:
    # Here and not above: only the process that migrates pays for the import.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config(attributes={"connection": conn})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    command.upgrade(config, "head")
