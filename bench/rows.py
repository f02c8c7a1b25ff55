"""The rows that the bare client and the plain kopf operator write: the operator's columns, in tables of their own."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import uuid6
from psycopg.types.json import Json
from psycopg_pool import AsyncConnectionPool

# As many as the operator's engine opens.
POOL: Final = 8

_TABLES: Final = """
CREATE TABLE tenant (id text PRIMARY KEY);
CREATE TABLE provider (
    id uuid PRIMARY KEY, tenant_id text NOT NULL REFERENCES tenant, type text NOT NULL, external_name text NOT NULL,
    config json NOT NULL, owner_namespace text, owner_name text, owner_uid text UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(), UNIQUE (tenant_id, external_name)
);
CREATE TABLE workflow (
    id uuid PRIMARY KEY, tenant_id text NOT NULL REFERENCES tenant, external_name text NOT NULL, settings json NOT NULL,
    latest_revision int NOT NULL DEFAULT 0, active_revision int, owner_namespace text, owner_uid text UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz, UNIQUE (tenant_id, external_name)
);
CREATE TABLE workflow_revision (
    workflow_id uuid REFERENCES workflow, number int, content_hash text NOT NULL, definition json NOT NULL,
    change_note text, author text, created_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (workflow_id, number)
);
CREATE TABLE revision_state (
    workflow_id uuid, number int, first_active_at timestamptz, last_active_at timestamptz, PRIMARY KEY (workflow_id, number)
);
CREATE TABLE deployment (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, workflow_id uuid NOT NULL, revision int NOT NULL,
    cause text NOT NULL, actor text NOT NULL, at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON deployment (workflow_id, id);
CREATE TABLE ledger (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(),
    tenant_id text NOT NULL, name text NOT NULL, uid text NOT NULL, action text NOT NULL, details json NOT NULL
);
CREATE INDEX ON ledger (tenant_id, id);
CREATE INDEX ON ledger (name, id);
"""
_INSERT: Final = """
WITH made AS (
    INSERT INTO provider (id, tenant_id, type, external_name, config, owner_namespace, owner_name, owner_uid)
    VALUES (%(id)s, %(tenant)s, %(type)s, %(name)s, %(config)s, %(namespace)s, %(name)s, %(uid)s)
    ON CONFLICT (owner_uid) DO NOTHING RETURNING id
)
INSERT INTO ledger (tenant_id, name, uid, action, details)
SELECT %(tenant)s, %(name)s, %(uid)s, 'Created', json_build_object('id', made.id) FROM made
"""

_INSERT_WORKFLOW: Final = """
WITH made AS (
    INSERT INTO workflow (id, tenant_id, external_name, settings, owner_namespace, owner_uid)
    VALUES (%(id)s, %(tenant)s, %(name)s, '{}', %(namespace)s, %(uid)s) RETURNING id
)
INSERT INTO ledger (tenant_id, name, uid, action, details)
SELECT %(tenant)s, %(name)s, %(uid)s, 'Created', json_build_object('id', made.id) FROM made
"""
_INSERT_REVISION: Final = """
WITH counted AS (
    UPDATE workflow SET latest_revision = 1 WHERE id = %(id)s RETURNING id
), made AS (
    INSERT INTO workflow_revision (workflow_id, number, content_hash, definition, author)
    SELECT id, 1, %(hash)s, %(definition)s, 'bench' FROM counted RETURNING workflow_id, number
), state AS (
    INSERT INTO revision_state (workflow_id, number) SELECT workflow_id, number FROM made
)
INSERT INTO ledger (tenant_id, name, uid, action, details)
SELECT %(tenant)s, %(name)s, %(uid)s, 'Created', json_build_object('id', workflow_id, 'number', number) FROM made
"""
_ACTIVATE: Final = """
WITH moved AS (
    UPDATE workflow SET active_revision = 1, updated_at = now() WHERE id = %(id)s RETURNING id
), added AS (
    INSERT INTO deployment (workflow_id, revision, cause, actor) SELECT id, 1, 'AllAtOnce', 'bench' FROM moved
), touched AS (
    UPDATE revision_state SET first_active_at = now(), last_active_at = now() FROM moved WHERE workflow_id = moved.id
)
INSERT INTO ledger (tenant_id, name, uid, action, details)
SELECT %(tenant)s, %(name)s, %(uid)s, 'Deployed', json_build_object('id', moved.id, 'to', 1) FROM moved
"""

Pool = AsyncConnectionPool


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Pool]:
    """A pool of connections in autocommit: a statement is a transaction."""
    async with AsyncConnectionPool(url, min_size=POOL, max_size=POOL, open=False, kwargs={"autocommit": True}) as pool:
        yield pool


async def make_tables(pool: Pool) -> None:
    """Make the tables in an empty database."""
    async with pool.connection() as conn:
        await conn.execute(_TABLES)


async def add_tenant(pool: Pool, name: str) -> None:
    """One row; safe to repeat."""
    async with pool.connection() as conn:
        await conn.execute("INSERT INTO tenant VALUES (%s) ON CONFLICT DO NOTHING", (name,))


async def has_tenant(pool: Pool, name: str) -> bool:
    """Whether the tenant has a row."""
    async with pool.connection() as conn:
        found = await conn.execute("SELECT 1 FROM tenant WHERE id = %s", (name,))
        return await found.fetchone() is not None


async def add_provider(pool: Pool, manifest: dict[str, object], uid: str, namespace: str, name: str) -> None:
    """The row and its ledger entry in one statement; safe to repeat."""
    spec = manifest["spec"]
    assert isinstance(spec, dict)
    values = {
        "id": str(uuid6.uuid7()),
        "tenant": spec["tenantRef"]["name"],
        "type": spec["type"],
        "name": name,
        "namespace": namespace,
        "uid": uid,
        "config": Json(spec.get("config") or {}, dumps=json.dumps),
    }
    async with pool.connection() as conn:
        await conn.execute(_INSERT, values)


async def remove_provider(pool: Pool, uid: str) -> None:
    """The row of an object that goes; safe to repeat."""
    async with pool.connection() as conn:
        await conn.execute("DELETE FROM provider WHERE owner_uid = %s", (uid,))


async def add_workflow(pool: Pool, manifest: dict[str, Any], uid: str, content_hash: str) -> None:
    """The row, its first version, and that it is active, each with its ledger entry: one transaction, as the operator's."""
    values = {
        "id": str(uuid6.uuid7()),
        "tenant": manifest["spec"]["tenantRef"]["name"],
        "name": manifest["metadata"]["name"],
        "namespace": manifest["metadata"]["namespace"],
        "uid": uid,
        "hash": content_hash,
        "definition": Json(manifest["spec"]["definition"], dumps=json.dumps),
    }
    async with pool.connection() as conn, conn.transaction():
        for statement in (_INSERT_WORKFLOW, _INSERT_REVISION, _ACTIVATE):
            await conn.execute(statement, values)
