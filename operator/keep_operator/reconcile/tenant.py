"""Tenants: from the object to its row; and the default tenant, made once when there is none."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final, assert_never

from keep_operator.cluster.client import Cluster
from keep_operator.domain import tenancy, tenant
from keep_operator.domain.ownership import Claim, HolderState
from keep_operator.domain.planning import Plan
from keep_operator.domain.tenancy import OwnerReferences
from keep_operator.domain.tenant import Action, Dependents, Observed, Record, Tokens
from keep_operator.reconcile import owners
from keep_operator.reconcile.database import Database
from keep_operator.reconcile.tokens import TokenReader
from keep_operator.reconcile.world import COUNTED, COUNTS_EVERY_S, World
from keep_operator.resources import tenant as reader
from keep_operator.resources.kinds import API_VERSION, FIELD_MANAGER, GROUP, PROVIDERS, TENANTS, WORKFLOWS, Key
from keep_operator.resources.objects import Object, parse
from keep_operator.resources.shapes import Invalid
from keep_operator.resources.tenant import TenantSpec
from keep_operator.store import tenants

DEFAULT_LABEL: Final = f"{GROUP}/default"


class Tenants:
    """What the shell needs of Tenants. ``runtime`` is what runs workflows where a Tenant does not say."""

    resource: Final = TENANTS
    reader: Final = reader
    living: Final = tenant.LIVING
    finalizer: Final = tenant.FINALIZER

    def __init__(  # noqa: PLR0913 - what it reads, and the settings that hold for all
        self,
        *,
        world: World,
        cluster: Cluster,
        database: Database,
        tokens: TokenReader,
        runtime: str,
        resync: timedelta,
        owner_references: OwnerReferences = "ExceptArgoCD",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._world = world
        self._cluster = cluster
        self._database = database
        self._cluster_id = database.cluster_id
        self._tokens = tokens
        self._runtime = runtime
        self._resync = resync
        self._owner_references = owner_references
        self._clock = clock
        self._counted: dict[str, tuple[object, float, float]] = {}

    async def observe(self, obj: Object[TenantSpec]) -> Observed:
        """Its row, its dependents, and who else asks for its id."""
        tenant_id = tenant.effective_id(obj)
        async with self._database.look() as conn:
            own, holder = await tenants.observe(conn, self._cluster_id, obj.uid, tenant_id)
        record, collides_with = own or holder, None
        if holder is not None and holder.id != tenant_id:
            record, collides_with = own, holder.id
        mine = record is not None and record.owner is not None and record.owner.uid == obj.uid
        found = await self._tokens.resolve(obj, record.tokens) if record is not None and mine else Tokens()
        return Observed(
            object=obj,
            cluster_id=self._cluster_id,
            default_id=self._world.default_tenant,
            runtime=self._runtime,
            providers=self._dependents(obj, PROVIDERS.kind),
            workflows=self._dependents(obj, WORKFLOWS.kind),
            counts_due_in=self._counts_due_in(obj),
            record=record,
            collides_with=collides_with,
            holder_state=await self._holder_state(record, obj),
            rivals=tuple(
                _claim(other)
                for other in self._world.cache.find("tenant-id", tenant_id)
                if other.key != obj.key and not other.deleting
            ),
            tokens=found,
            to_give_up=tenant.leaving(obj) and any(map(self._has_to_give_up, self._world.dependents(obj))),
        )

    def plan(self, observed: Observed, now: datetime) -> Plan[Action]:
        """See `domain.tenant.plan`."""
        return tenant.plan(observed, now)

    async def apply(self, action: Action) -> None:
        """One transaction for the row and its ledger entry; safe to repeat, since each names the owner it expects."""
        async with self._database.transaction() as conn:
            match action:
                case tenant.Insert(record):
                    await tenants.insert(conn, record, actor=FIELD_MANAGER)
                case tenant.Update(record, name, policy, settings) | tenant.Correct(record, name, policy, settings):
                    assert record.owner is not None
                    await tenants.update(
                        conn,
                        record.id,
                        record.owner,
                        display_name=name,
                        deletion_policy=policy,
                        settings=settings,
                        actor=FIELD_MANAGER,
                    )
                case tenant.HandOver(record, to):
                    assert record.owner is not None
                    await tenants.hand_over(conn, record.id, record.owner, to, actor=FIELD_MANAGER)
                case tenant.Adopt(record, to, name, policy, settings):
                    await tenants.adopt(
                        conn,
                        record,
                        to,
                        display_name=name,
                        deletion_policy=policy,
                        settings=settings,
                        actor=FIELD_MANAGER,
                    )
                case tenant.Delete(record):
                    assert record.owner is not None
                    await tenants.delete(conn, record.id, record.owner, actor=FIELD_MANAGER)
                case tenant.SetTokens(record, new):
                    assert record.owner is not None
                    await tenants.set_tokens(conn, record.id, record.owner, new, actor=FIELD_MANAGER)
                case tenant.Orphan(record):
                    assert record.owner is not None
                    await tenants.orphan(conn, record.id, record.owner, actor=FIELD_MANAGER)
                case _:
                    assert_never(action)

    def resync(self, obj: Object[TenantSpec]) -> timedelta:
        """The operator's period."""
        return self._resync

    def may_force(self, obj: Object[TenantSpec]) -> bool:
        """Not while anything depends on it and nobody confirmed (A-GC-8)."""
        return not self._world.dependents(obj) or tenant.confirmed(obj)

    def _dependents(self, obj: Object[TenantSpec], kind: str) -> Dependents:
        found = self._world.dependents(obj, (kind,))
        return Dependents(len(found), sum(other.ready for other in found))

    def _has_to_give_up(self, other: Object[Any]) -> bool:
        """Whether nobody but itself removes the record of a dependent, and it has not said that it has none."""
        tied = tenancy.referenced(other, self._owner_references)
        without = other.condition("TenantReady") in ("Unknown", "False") and "tenantId" not in other.status
        return not (tied or other.deleting or without)

    def _counts_due_in(self, obj: Object[TenantSpec]) -> timedelta:
        """Time until the counts may be written again; kept in memory, since a restart may well write them once more."""
        counts, now_s = tuple(obj.status.get(field) for field in COUNTED.values()), self._clock()
        known, written_s, looked_s = self._counted.get(obj.uid, (counts, float("-inf"), now_s))
        if known != counts:
            written_s = looked_s  # by the report that the look before this one ended with
        self._counted[obj.uid] = (counts, written_s, now_s)
        return timedelta(seconds=max(0.0, COUNTS_EVERY_S - (now_s - written_s)))

    async def _holder_state(self, record: Record | None, obj: Object[TenantSpec]) -> HolderState | None:
        owner = None if record is None else record.owner
        if owner is None or owner.cluster_id != self._cluster_id or owner.uid == obj.uid:
            return None
        return await owners.state_of(self._cluster, self._world.cache, TENANTS, owner)


def _claim(obj: Object[TenantSpec]) -> Claim:
    usable = not isinstance(obj.spec, Invalid) and not obj.spec.suspend
    finalizer = tenant.FINALIZER in obj.finalizers
    return Claim(obj.key, obj.uid, obj.created_at, "", ready_to_own=finalizer, can_own=finalizer or usable)


async def ensure_default(world: World, cluster: Cluster) -> str:
    """Make the default tenant where no Tenant has its id (A-TEN-1); what was found or done, in words.

    By server-side apply of an empty spec: so the operator owns no field that a later manifest from Git could
    conflict with (A-TEN-2). Never re-asserted; safe to repeat, also by two replicas at once (A-TEN-4).
    """
    name = world.default_tenant
    if not name:
        return "switched off"
    if world.tenant(name) is not None or world.cache.find("tenant-id", name):
        return f"{name} exists"
    raw = await cluster.get(TENANTS, None, name)
    made = raw is None
    if raw is None:
        manifest = {
            "apiVersion": API_VERSION,
            "kind": "Tenant",
            "metadata": {"name": name, "labels": {DEFAULT_LABEL: "true"}},
            "spec": {},
        }
        raw = await cluster.apply(TENANTS, None, name, manifest)
    world.take(parse("Tenant", raw, reader))
    return f"{name} {'made' if made else 'exists'}"


def default_key(world: World) -> Key | None:
    """The default tenant's key, None where there is none."""
    found = world.cache.find("tenant-id", world.default_tenant)
    return found[0].key if found else None
