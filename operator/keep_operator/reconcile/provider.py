"""Providers: from the object to its row."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, assert_never

from keep_operator.cluster.client import Cluster
from keep_operator.domain import provider
from keep_operator.domain import tenancy as rules
from keep_operator.domain.planning import Plan
from keep_operator.domain.provider import Action, Content, Observed, Record
from keep_operator.domain.tenancy import OwnerReferences, TenantSight
from keep_operator.reconcile import tenancy
from keep_operator.reconcile.credentials import Resolved, SecretReader
from keep_operator.reconcile.database import Database
from keep_operator.reconcile.succession import Succession, Traits
from keep_operator.reconcile.tenancy import Labels
from keep_operator.reconcile.world import World
from keep_operator.resources import provider as reader
from keep_operator.resources.kinds import FIELD_MANAGER, PROVIDERS
from keep_operator.resources.objects import Object
from keep_operator.resources.provider import ProviderSpec
from keep_operator.resources.shapes import Invalid
from keep_operator.resources.tenant import TenantSpec
from keep_operator.store import providers
from keep_operator.store.vault import Sealed, Vault


class Providers:
    """What the shell needs of Providers.

    ``namespace_labels`` gives the labels of a namespace; ``namespaces`` are those that are watched, empty for all.
    """

    resource: Final = PROVIDERS
    reader: Final = reader
    living: Final = provider.LIVING
    finalizer: Final = provider.FINALIZER

    def __init__(  # noqa: PLR0913 - all that a look reads
        self,
        *,
        world: World,
        cluster: Cluster,
        database: Database,
        secrets: SecretReader,
        vault: Vault,
        resync: timedelta,
        owner_references: OwnerReferences = "ExceptArgoCD",
        namespace_labels: Labels,
        namespaces: Sequence[str] = (),
    ) -> None:
        self._world = world
        self._cluster = cluster
        self._database = database
        self._secrets = secrets
        self._vault = vault
        self._cluster_id = database.cluster_id
        self._resync = resync
        self._owner_references = owner_references
        self._namespace_labels = namespace_labels
        traits = Traits(
            resource=PROVIDERS,
            reader=reader,
            finalizer=provider.FINALIZER,
            id_field="providerId",
            external_name=provider.external_name,
            records=self._records,
            type_of=lambda obj: "" if isinstance(obj.spec, Invalid) else obj.spec.type,
            refused=lambda obj: provider.refusal(obj) is not None,
        )
        self._succession = Succession(
            traits,
            world=world,
            cluster=cluster,
            cluster_id=database.cluster_id,
            namespace_labels=namespace_labels,
            namespaces=namespaces,
        )

    async def observe(self, obj: Object[ProviderSpec]) -> Observed:
        """The Tenant from the cache; Secrets and rows only where the plan will get as far as reading them."""
        tenant_name, owner = self._world.tenant_of(obj)
        sight = None if owner is None else self._sight(owner, obj.key.namespace)
        seen = Observed(
            object=obj,
            cluster_id=self._cluster_id,
            tenant_name=tenant_name,
            tenant=sight,
            referenced=rules.referenced(obj, self._owner_references),
        )
        if obj.deleting:
            return await self._observe_deletion(seen)
        if rules.abandoned(obj, sight, referenced=seen.referenced):
            own, _ = await self._records(obj, None, None)
            return replace(seen, own=own)
        if (
            isinstance(obj.spec, Invalid)
            or provider.refusal(obj) is not None
            or sight is None
            or not (sight.admits and sight.suffices(obj.status.get("tenantId") is not None))
            or provider.metadata_due(seen) is not None
        ):
            return seen
        name = reader.effective_name(obj.spec, obj.key.name)
        own, holder = await self._records(obj, sight.tenant_id, name)
        if holder is not None and own is not None and holder.id == own.id:
            holder = None
        readable = own is not None and self._readable(own, obj.spec)
        resolved = await self._secrets.resolve(
            obj, obj.spec, own.content.config_hash if own is not None and readable else None
        )
        return replace(
            seen,
            credentials=resolved.credentials,
            content=_content(obj.spec, resolved),
            own=own,
            holder=holder,
            holder_state=await self._succession.state_of(holder),
            rivals=self._succession.claims(obj, tenant_name, name),
            heirs=() if own is None else self._succession.claims(obj, tenant_name, own.external_name),
            readable=readable,
            key_fits=self._vault.trusted,
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
                    sealed = self._sealed(record, action.content)
                    await providers.insert(conn, record, actor=FIELD_MANAGER, sealed=sealed)
                case provider.Update(record, external_name, content) | provider.Correct(record, external_name, content):
                    assert record.owner is not None
                    await providers.update(
                        conn,
                        record.id,
                        record.owner,
                        external_name=external_name,
                        content=content,
                        actor=FIELD_MANAGER,
                        sealed=self._sealed(record, content),
                    )
                case provider.HandOver(record, to):
                    assert record.owner is not None
                    self._succession.check_heir(record, to)
                    await providers.hand_over(conn, record.id, record.owner, to, actor=FIELD_MANAGER)
                case provider.Adopt(record, to, content):
                    sealed = self._sealed(record, content)
                    await providers.adopt(conn, record, to, content, actor=FIELD_MANAGER, sealed=sealed)
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

    def may_force(self, obj: Object[ProviderSpec]) -> bool:
        """Nothing depends on a Provider in a way that would forbid it."""
        return True

    def _readable(self, record: Record, spec: ProviderSpec) -> bool:
        """Whether the record's credentials are there and open with our keys; of one that needs none: that it has none."""
        if record.sealed is None or record.key_name is None:
            return not spec.secrets
        return self._vault.open(record.id, Sealed(record.key_name, record.sealed)) is not None

    def _sealed(self, record: Record, content: Content) -> Sealed | None:
        return self._vault.seal(record.id, content.authentication) if content.authentication else None

    async def _observe_deletion(self, seen: Observed) -> Observed:
        tenant_id = None if seen.tenant is None else seen.tenant.tenant_id
        left = await self._succession.of_departing(seen.object, seen.tenant_name, tenant_id)
        used = () if left.own is None else self._world.users(seen.tenant_name, left.own.external_name)
        return replace(
            seen,
            own=left.own,
            holder=left.holder,
            holder_state=left.holder_state,
            heirs=left.heirs,
            users=tuple(obj.key for obj in used if not obj.deleting),
        )

    async def _records(
        self, obj: Object[ProviderSpec], tenant_id: str | None, name: str | None
    ) -> tuple[Record | None, Record | None]:
        async with self._database.look() as conn:
            return await providers.observe(conn, self._cluster_id, obj.uid, tenant_id, name)

    def _sight(self, owner: Object[TenantSpec], namespace: str) -> TenantSight:
        return tenancy.sight(self._world, owner, namespace, self._namespace_labels)


def _content(spec: ProviderSpec, resolved: Resolved) -> Content | None:
    """What the row shall hold; None until the credentials are there."""
    if resolved.digest is None:
        return None
    return Content(
        spec.config or {}, spec.pulling_enabled, resolved.digest, spec.deletion_policy, authentication=resolved.values
    )
