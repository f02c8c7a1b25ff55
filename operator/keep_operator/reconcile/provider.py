"""Providers: from the object to its row."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, assert_never

from keep_operator.cluster.client import Cluster
from keep_operator.domain import provider, tenant
from keep_operator.domain.ownership import Claim, HolderState, Owner
from keep_operator.domain.planning import Plan
from keep_operator.domain.provider import Action, Content, Observed, Record, TenantSight
from keep_operator.errors import Conflict
from keep_operator.reconcile import owners
from keep_operator.reconcile.credentials import SecretReader
from keep_operator.reconcile.database import Database
from keep_operator.reconcile.world import World
from keep_operator.resources import provider as reader
from keep_operator.resources.kinds import FIELD_MANAGER, PROVIDERS, Key
from keep_operator.resources.objects import Object
from keep_operator.resources.provider import ProviderSpec
from keep_operator.resources.shapes import Invalid
from keep_operator.resources.tenant import TenantSpec
from keep_operator.store import providers


class Providers:
    """What the shell needs of Providers. ``namespace_labels`` gives the labels of a namespace."""

    resource: Final = PROVIDERS
    reader: Final = reader
    living: Final = provider.LIVING

    def __init__(
        self,
        *,
        world: World,
        cluster: Cluster,
        database: Database,
        secrets: SecretReader,
        resync: timedelta,
        namespace_labels: Any,
    ) -> None:
        self._world = world
        self._cluster = cluster
        self._database = database
        self._secrets = secrets
        self._cluster_id = database.cluster_id
        self._resync = resync
        self._namespace_labels = namespace_labels

    async def observe(self, obj: Object[ProviderSpec]) -> Observed:
        """The Tenant from the cache; Secrets and rows only where the plan will get as far as reading them."""
        tenant_name, owner = self._world.tenant_of(obj)
        sight = None if owner is None else self._sight(owner, obj.key.namespace)
        seen = Observed(object=obj, cluster_id=self._cluster_id, tenant_name=tenant_name, tenant=sight)
        if obj.deleting:
            return await self._observe_deletion(seen)
        if (
            isinstance(obj.spec, Invalid)
            or provider.refusal(obj) is not None
            or sight is None
            or not (sight.admits and sight.suffices(obj.status.get("tenantId") is not None))
        ):
            return seen
        credentials, digest = await self._secrets.resolve(obj, obj.spec)
        content = None if digest is None else Content(obj.spec.config or {}, obj.spec.pulling_enabled, digest)
        name = reader.effective_name(obj.spec, obj.key.name)
        own, holder = await self._records(obj, sight.tenant_id, name)
        if holder is not None and own is not None and holder.id == own.id:
            holder = None
        return Observed(
            object=obj,
            cluster_id=self._cluster_id,
            tenant_name=tenant_name,
            tenant=sight,
            credentials=credentials,
            content=content,
            own=own,
            holder=holder,
            holder_state=await self._holder_state(holder),
            rivals=self._claims(obj, tenant_name, name),
            heirs=() if own is None else self._claims(obj, tenant_name, own.external_name),
        )

    def plan(self, observed: Observed, now: datetime) -> Plan[Action]:
        """See `domain.provider.plan`."""
        return provider.plan(observed, now)

    async def apply(self, action: Action) -> None:
        """One transaction for the row and its ledger entry; safe to repeat, since each names the owner it expects."""
        async with self._database.transaction() as conn:
            match action:
                case provider.Insert():
                    record = Record(
                        providers.new_id(),
                        action.tenant_id,
                        action.type,
                        action.external_name,
                        action.content,
                        action.owner,
                    )
                    await providers.insert(conn, record, actor=FIELD_MANAGER)
                case provider.Update(record, external_name, content):
                    assert record.owner is not None
                    await providers.update(
                        conn,
                        record.id,
                        record.owner,
                        external_name=external_name,
                        content=content,
                        actor=FIELD_MANAGER,
                    )
                case provider.HandOver(record, to):
                    assert record.owner is not None
                    self._check_heir(record, to)
                    await providers.hand_over(conn, record.id, record.owner, to, actor=FIELD_MANAGER)
                case provider.Adopt(record, to, content):
                    await providers.adopt(conn, record, to, content, actor=FIELD_MANAGER)
                case provider.Delete(record):
                    assert record.owner is not None
                    await providers.delete(conn, record.id, record.owner, actor=FIELD_MANAGER)
                case provider.Orphan(record):
                    assert record.owner is not None
                    await providers.orphan(conn, record.id, record.owner, actor=FIELD_MANAGER)
                case _:
                    assert_never(action)

    def resync(self, obj: Object[ProviderSpec]) -> timedelta:
        """The Provider's own period, else the operator's."""
        own = None if isinstance(obj.spec, Invalid) else obj.spec.resync_period
        return own or self._resync

    def _check_heir(self, record: Record, to: Owner) -> None:
        """Look once more, right before the record passes: to one that has gone meanwhile it would be lost."""
        heir = self._world.cache.get(Key(PROVIDERS.kind, to.namespace, to.name))
        if (
            heir is None
            or heir.uid != to.uid
            or heir.deleting
            or provider.FINALIZER not in heir.finalizers
            or provider.external_name(heir) != record.external_name
        ):
            raise Conflict("SyncFailed", f"{to} does not ask for the record any more")

    async def _observe_deletion(self, seen: Observed) -> Observed:
        obj = seen.object
        tenant_id = obj.status.get("tenantId") or (None if seen.tenant is None else seen.tenant.tenant_id)
        own, holder = await self._records(obj, tenant_id, provider.external_name(obj))
        if own is not None:
            holder = None
        return Observed(
            object=obj,
            cluster_id=self._cluster_id,
            tenant_name=seen.tenant_name,
            tenant=seen.tenant,
            own=own,
            holder=holder,
            holder_state=await self._holder_state(holder),
            heirs=() if own is None else self._claims(obj, seen.tenant_name, own.external_name),
        )

    async def _records(
        self, obj: Object[ProviderSpec], tenant_id: str | None, name: str | None
    ) -> tuple[Record | None, Record | None]:
        async with self._database.look() as conn:
            return await providers.observe(conn, self._cluster_id, obj.uid, tenant_id, name)

    async def _holder_state(self, holder: Record | None) -> HolderState | None:
        if holder is None or holder.owner is None or holder.owner.cluster_id != self._cluster_id:
            return None
        return await owners.state_of(self._cluster, self._world.cache, PROVIDERS, holder.owner)

    def _sight(self, owner: Object[TenantSpec], namespace: str) -> TenantSight:
        labels: Mapping[str, str] = self._namespace_labels(namespace) or {}
        return TenantSight(
            name=owner.key.name,
            uid=owner.uid,
            tenant_id=tenant.effective_id(owner),
            ready=owner.ready,
            serving="tenantId" in owner.status and owner.condition("Ready") != "False",
            deleting=owner.deleting,
            admits=tenant.admits(owner, namespace, labels, self._world.default_tenant),
        )

    def _claims(self, obj: Object[ProviderSpec], tenant_name: str | None, name: str) -> tuple[Claim, ...]:
        """The other live objects that ask for the name."""
        return tuple(
            self._claim(other)
            for other in self._world.claimants(tenant_name, name)
            if other.key != obj.key and not other.deleting
        )

    def _claim(self, obj: Object[ProviderSpec]) -> Claim:
        assert not isinstance(obj.spec, Invalid)  # an unreadable spec claims no name
        _, owner = self._world.tenant_of(obj)
        recorded = obj.status.get("tenantId")
        finalizer = provider.FINALIZER in obj.finalizers
        has_record = obj.status.get("providerId") is not None
        may = owner is not None and self._sight(owner, obj.key.namespace).admits and not owner.deleting
        return Claim(
            key=obj.key,
            uid=obj.uid,
            created_at=obj.created_at,
            type=obj.spec.type,
            ready_to_own=finalizer,
            can_own=(finalizer or (may and not obj.spec.suspend))
            and provider.refusal(obj) is None
            and (recorded is None or owner is None or recorded == tenant.effective_id(owner)),
            has_record=has_record,
            tenant_id=None if owner is None else tenant.effective_id(owner),
        )
