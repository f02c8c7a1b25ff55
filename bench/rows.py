"""The rows that the bare client and the plain kopf operator write: the operator's columns, in two tables of their own."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

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
