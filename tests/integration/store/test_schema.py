"""Migrations: done once by whoever is first, whole or not at all, and never against a newer version's schema."""

import ast
import asyncio
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

import databases
from integration.store import samples
from keep_operator import __version__
from keep_operator.errors import Refused, Unavailable
from keep_operator.store import engine as database
from keep_operator.store import schema
from keep_operator.store.engine import Engine
from keep_operator.store.schema import Migration
from keep_operator.store.tables import METADATA, SCHEMA

pytestmark = pytest.mark.integration

FRESH = Migration(before=None, after=schema.REVISION)
NOTHING_TO_DO = Migration(before=schema.REVISION, after=schema.REVISION)

MIGRATE = """
import asyncio, sys
from keep_operator.store import engine, schema

async def main():
    database = engine.connect(sys.argv[1], application_name="migrate")
    migration = await schema.migrate(database)
    await database.dispose()
    print(migration.before, migration.after)

asyncio.run(main())
"""


@asynccontextmanager
async def connected(url: str, *, pool_size: int = 2) -> AsyncIterator[Engine]:
    """The store of this database."""
    engine = database.connect(url, application_name="test", pool_size=pool_size)
    try:
        yield engine
    finally:
        await engine.dispose()


@pytest.fixture
async def empty(empty_url: str) -> AsyncIterator[Engine]:
    """The store, connected to a database without our schema; one connection must do."""
    async with connected(empty_url, pool_size=1) as engine:
        yield engine


@pytest.fixture
def created_url(server_url: str) -> Iterator[str]:
    """A database for the tables as `store.tables` describes them."""
    with databases.temporary(server_url) as url:
        yield url


async def test_an_empty_database_is_migrated_once(empty: Engine) -> None:
    """First deployment: nothing, then the schema, then nothing more to do."""
    assert await schema.current(empty) is None
    with pytest.raises(Unavailable) as caught:
        await schema.check(empty)
    assert caught.value.reason == "SchemaMissing"
    assert await schema.migrate(empty) == FRESH
    assert await schema.current(empty) == schema.REVISION
    assert await schema.check(empty) == schema.REVISION
    assert await schema.migrate(empty) == NOTHING_TO_DO


async def test_replicas_that_start_together_migrate_once(empty_url: str) -> None:
    """Eight at the same instant: one migrates, seven wait and find nothing to do (A-PKG-2)."""

    async def start() -> Migration:
        async with connected(empty_url, pool_size=1) as engine:
            return await schema.migrate(engine)

    done = await asyncio.gather(*(start() for _ in range(8)))
    assert sorted(done, key=str) == sorted([FRESH] + [NOTHING_TO_DO] * 7, key=str)


async def test_processes_that_start_together_migrate_once(empty_url: str) -> None:
    """The same with processes of their own, as pods are."""

    async def start() -> str:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", MIGRATE, empty_url, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        told, complaint = await process.communicate()
        return told.decode().strip() or complaint.decode()

    done = await asyncio.gather(*(start() for _ in range(8)))
    assert sorted(done) == sorted([f"None {schema.REVISION}"] + [f"{schema.REVISION} {schema.REVISION}"] * 7)


async def test_waiting_for_another_migration_ends_with_a_message(
    empty_url: str, empty: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody holds the lock for too long: MigrationRunning, which is tried again; when he lets go, it works."""
    monkeypatch.setattr(schema, "LOCK_WAIT", timedelta(seconds=0.2))
    async with await psycopg.AsyncConnection.connect(empty_url) as other:
        await other.execute("SELECT pg_advisory_lock(%s)", [schema._ADVISORY_LOCK])
        with pytest.raises(Unavailable) as caught:
            await schema.migrate(empty)
    assert caught.value.reason == "MigrationRunning"
    assert await schema.current(empty) is None
    assert await schema.migrate(empty) == FRESH


async def test_a_process_that_dies_with_the_lock_does_not_keep_it(empty_url: str, empty: Engine) -> None:
    """kill -9 in the middle of a migration: the next one begins at once, on a clean database."""
    other = await psycopg.AsyncConnection.connect(empty_url)
    await other.execute("SELECT pg_advisory_lock(%s)", [schema._ADVISORY_LOCK])
    await other.execute("CREATE SCHEMA keep_operator CREATE TABLE tenant ()")
    waiting = asyncio.create_task(schema.migrate(empty))
    await asyncio.sleep(0.1)
    other.pgconn.finish()
    assert await waiting == FRESH


async def test_a_migration_that_fails_leaves_nothing(empty: Engine) -> None:
    """A table of other hands is in the way: nothing is half made, and when it is gone the migration works."""
    async with database.transaction(empty) as conn:
        await conn.execute(text("CREATE SCHEMA keep_operator CREATE TABLE provider ()"))
    with pytest.raises(Unavailable) as caught:
        await schema.migrate(empty)
    assert "DuplicateTable" in caught.value.message
    async with database.transaction(empty) as conn:
        left = await conn.execute(
            text("SELECT relname FROM pg_class WHERE relnamespace = 'keep_operator'::regnamespace")
        )
        assert set(left.scalars()) == {"provider"}
        await conn.execute(text("DROP TABLE keep_operator.provider"))
    assert await schema.migrate(empty) == FRESH


async def test_the_schema_may_be_made_by_a_dba(empty_url: str, empty: Engine) -> None:
    """A role that may not create schemas migrates into one that it was given; without, it is told what it lacks."""
    name = urlsplit(empty_url).path.removeprefix("/")
    take = text(f"REVOKE CREATE ON DATABASE {name} FROM CURRENT_USER")
    async with database.transaction(empty) as conn:
        await conn.execute(take)
    with pytest.raises(Unavailable, match="privilege"):
        await schema.migrate(empty)
    async with database.transaction(empty) as conn:
        await conn.execute(text(f"GRANT CREATE ON DATABASE {name} TO CURRENT_USER"))
        await conn.execute(text("CREATE SCHEMA keep_operator"))
        await conn.execute(take)
    assert await schema.migrate(empty) == FRESH
    await samples.have_tenant(empty)


async def made_by_newer(engine: Engine, minimum: str) -> None:
    """What a version of the future leaves: a revision that we do not know, and the oldest code that can live with it."""
    async with database.transaction(engine) as conn:
        await conn.execute(text("UPDATE keep_operator.alembic_version SET version_num = '9999'"))
        await conn.execute(
            text(
                "UPDATE keep_operator.schema_version "
                "SET revision = '9999', minimum_code_revision = :minimum, migrated_by = '7.8.9'"
            ),
            {"minimum": minimum},
        )


async def test_older_code_refuses_a_schema_that_it_cannot_work_with(engine: Engine) -> None:
    """A roll-back of the image past an incompatible migration: not ready, and both versions named (A-PKG-3)."""
    await made_by_newer(engine, "9999")
    for attempt in (schema.check(engine), schema.migrate(engine)):
        with pytest.raises(Refused) as caught:
            await attempt
        assert caught.value.reason == "SchemaTooNew"
        assert "7.8.9" in caught.value.message
        assert __version__ in caught.value.message
    assert await schema.current(engine) == "9999"


async def test_older_code_goes_on_beside_an_additive_migration(engine: Engine) -> None:
    """During a rolling update old and new pods overlap: the old one works on, and leaves the schema alone."""
    await made_by_newer(engine, schema.REVISION)
    assert await schema.check(engine) == "9999"
    assert await schema.migrate(engine) == Migration(before="9999", after="9999")
    await samples.have_tenant(engine)


async def test_other_processes_wait_for_a_schema_that_is_behind(engine: Engine) -> None:
    """A console or runner of the new version starts before `operate` has migrated: not ready yet, and says so."""
    async with database.transaction(engine) as conn:
        await conn.execute(text("UPDATE keep_operator.schema_version SET revision = '0000'"))
    with pytest.raises(Unavailable) as caught:
        await schema.check(engine)
    assert caught.value.reason == "SchemaOutdated"


async def test_each_migration_writes_down_who_can_live_with_it(engine: Engine) -> None:
    """The note that older versions will read is there, made by whom, and when."""
    async with database.look(engine) as conn:
        row = (await conn.execute(text("SELECT * FROM keep_operator.schema_version"))).one()
        stamped = await conn.scalar(text("SELECT version_num FROM keep_operator.alembic_version"))
    assert row.revision == stamped == schema.REVISION
    assert row.minimum_code_revision <= row.revision
    assert row.migrated_by == __version__


def migrations() -> ScriptDirectory:
    """The migrations as alembic sees them."""
    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS).replace("%", "%%"))
    return ScriptDirectory.from_config(config)


def test_the_newest_migration_is_the_revision_of_the_code() -> None:
    """One line of migrations, numbered; the constant that all processes check against is its end."""
    scripts = list(migrations().walk_revisions())
    assert migrations().get_heads() == [schema.REVISION]
    assert [each.revision for each in reversed(scripts)] == [f"{number + 1:04}" for number in range(len(scripts))]
    minimums = [each.module.minimum_code_revision for each in reversed(scripts)]
    assert minimums == sorted(minimums)
    assert all(each.module.minimum_code_revision <= each.revision for each in scripts)


def test_migrations_go_forward_only_and_stand_alone() -> None:
    """No downgrade to rely on, and no import of code that changes after the migration was released."""
    for path in sorted((schema.MIGRATIONS / "versions").glob("*.py")):
        tree = ast.parse(path.read_text())
        names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
        assert "downgrade" not in names
        assert not [module for module in imported if module.startswith("keep_operator")]


def differences(conn: Connection) -> list[Any]:
    """What alembic would still have to do."""

    def ours(name: str | None, kind: str, _parents: Any) -> bool:
        return (
            name == SCHEMA
            if kind == "schema"
            else not (name or "").startswith(("procrastinate_", "idx_procrastinate_"))
        )

    context = MigrationContext.configure(
        conn,
        opts={
            "compare_server_default": True,
            "compare_type": True,
            "include_name": ours,
            "include_schemas": True,
            "version_table_schema": SCHEMA,
        },
    )
    return list(compare_metadata(context, METADATA))


async def test_alembic_finds_nothing_left_to_do(engine: Engine) -> None:
    """The migrations make the tables that the statements are written for."""
    async with database.session(engine, database.BORROW_LIMIT) as conn:
        assert await conn.run_sync(differences) == []


CATALOGUE = text("""
    SELECT 'column', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull::text,
           a.attidentity::text, coalesce(pg_get_expr(d.adbin, d.adrelid), '')
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE c.relnamespace = 'keep_operator'::regnamespace AND c.relkind = 'r' AND a.attnum > 0
    UNION ALL
    SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', '', ''
    FROM pg_constraint WHERE connamespace = 'keep_operator'::regnamespace
    UNION ALL
    SELECT 'index', tablename, indexname, indexdef, '', '', '' FROM pg_indexes WHERE schemaname = 'keep_operator'
""")


async def catalogue(engine: Engine) -> set[tuple[str, ...]]:
    """What the server knows of our tables; those of alembic and of procrastinate are theirs."""
    async with database.look(engine) as conn:
        rows = await conn.execute(CATALOGUE)
        return {
            tuple(map(str, row)) for row in rows if not re.search("alembic_version|procrastinate_", f"{row[1]}{row[2]}")
        }


async def test_migrated_and_described_tables_are_the_same(engine: Engine, created_url: str) -> None:
    """Also checks, partial indexes and defaults, which alembic does not compare."""
    async with connected(created_url) as created:
        async with database.session(created, database.BORROW_LIMIT) as conn:
            await conn.execute(text("CREATE SCHEMA keep_operator"))
            await conn.run_sync(METADATA.create_all)
            await conn.commit()
        assert await catalogue(engine) == await catalogue(created)
