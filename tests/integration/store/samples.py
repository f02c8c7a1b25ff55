"""Records to begin with; each test sets what it is about."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from keep_operator.domain import provider, tenant
from keep_operator.domain.ownership import Owner
from keep_operator.domain.provider import Content
from keep_operator.errors import Refused
from keep_operator.store import documents, ledger, providers, tenants
from keep_operator.store import engine as database
from keep_operator.store.engine import Engine
from keep_operator.store.ledger import Entry

CLUSTER: Final = "cluster-a"
ACTOR: Final = "operator"


def owner(name: str = "vms", uid: str | None = None, *, namespace: str = "monitoring", cluster: str = CLUSTER) -> Owner:
    """A Provider object as an owner; its uid follows from its name unless it is told."""
    return Owner(cluster, namespace, name, uid or f"uid-{name}")


TENANT_OWNER: Final = owner("keep", namespace="")


def content(
    config: Mapping[str, Any] | None = None, *, pulling_enabled: bool | None = None, config_hash: str = "hash"
) -> Content:
    """What a Provider's spec manages."""
    return Content({"url": "http://vms:8428"} if config is None else config, pulling_enabled, config_hash)


def provider_record(
    name: str = "vms",
    *,
    tenant_id: str = "keep",
    of: Owner | None = None,
    holding: Content | None = None,
) -> provider.Record:
    """The record of the Provider ``name``, owned by the object of that name unless told."""
    return summed(
        provider.Record(providers.new_id(), tenant_id, "victoriametrics", name, holding or content(), of or owner(name))
    )


def summed(record: provider.Record) -> provider.Record:
    """With the checksum that its row has; as it is where it can have no row."""
    try:
        documents.text(record.content.config)
    except Refused:
        return record
    return replace(record, checksum=provider.checksum(record, record.content.pulling_enabled))


async def until(question: Callable[[], Awaitable[object]]) -> None:
    """Ask until the answer is yes."""
    for _ in range(2_000):
        if await question():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


def checked(record: tenant.Record) -> tenant.Record:
    """With the checksum of a row whose display name the spec manages."""
    return replace(record, checksum=tenant.checksum(record, record.display_name))


async def have_tenant(engine: Engine, tenant_id: str = "keep", *, of: Owner | None = TENANT_OWNER) -> tenant.Record:
    """Insert a tenant."""
    record = checked(tenant.Record(tenant_id, tenant_id.title(), of))
    async with database.transaction(engine) as conn:
        await tenants.insert(conn, record, actor=ACTOR)
    return record


async def have_provider(engine: Engine, record: provider.Record | None = None) -> provider.Record:
    """Insert a provider; its tenant must be there."""
    record = record or provider_record()
    async with database.transaction(engine) as conn:
        await providers.insert(conn, record, actor=ACTOR)
    return record


async def own_record(engine: Engine, of: Owner) -> provider.Record | None:
    """The record that the object has."""
    async with database.look(engine) as conn:
        return (await providers.observe(conn, of.cluster_id, of.uid, None, None))[0]


async def holder(engine: Engine, name: str, tenant_id: str = "keep") -> provider.Record | None:
    """The record that has the name."""
    async with database.look(engine) as conn:
        return (await providers.observe(conn, "nobody", "nobody", tenant_id, name))[1]


async def entries(engine: Engine, tenant_id: str = "keep") -> list[Entry]:
    """All of the tenant's ledger."""
    async with database.look(engine) as conn:
        return await ledger.entries(conn, tenant_id, limit=1000)


async def actions(engine: Engine, kind: str = "Provider", tenant_id: str = "keep") -> list[str]:
    """What the ledger says was done to the tenant's objects of a kind."""
    return [entry.action for entry in await entries(engine, tenant_id) if entry.key.kind == kind]
