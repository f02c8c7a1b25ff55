"""Who else asks for a record, and who gets it when its object goes; alike for all kinds whose objects own records by name."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from keep_operator.cluster.client import Cluster
from keep_operator.domain import tenant
from keep_operator.domain.ownership import Claim, HolderState, Owner
from keep_operator.errors import Conflict
from keep_operator.reconcile import owners, tenancy
from keep_operator.reconcile.horizon import Horizon
from keep_operator.reconcile.tenancy import Labels
from keep_operator.reconcile.world import World
from keep_operator.resources.kinds import Key, Resource
from keep_operator.resources.objects import Object, Reader
from keep_operator.resources.shapes import Invalid


class Owned(Protocol):
    """A row of the control database that an object owns under a name within a tenant."""

    @property
    def owner(self) -> Owner | None:
        """The marker; None where no object owns it."""
        ...

    @property
    def external_name(self) -> str:
        """The name, which is one record's only."""
        ...


R = TypeVar("R", bound=Owned)


@dataclass(frozen=True, slots=True)
class Traits(Generic[R]):
    """What tells the kinds apart. ``records`` reads our own record and the one that has the name, of a tenant's id and a name.

    ``id_field`` names the status field with a record's id, ``type_of`` what never changes about a record, ``refused`` whether
    the spec can never own one.
    """

    resource: Resource
    reader: Reader[Any]
    finalizer: str
    id_field: str
    external_name: Callable[[Object[Any]], str | None]
    records: Callable[[Object[Any], str | None, str | None], Awaitable[tuple[R | None, R | None]]]
    type_of: Callable[[Object[Any]], str] = lambda _: ""
    refused: Callable[[Object[Any]], bool] = lambda _: False


@dataclass(frozen=True, slots=True)
class Departure(Generic[R]):
    """What a deletion meets; see the kind's ``Observed``."""

    own: R | None
    holder: R | None
    holder_state: HolderState | None
    heirs: tuple[Claim, ...]


class Succession(Generic[R]):
    """What the looks of one kind read about others. ``namespaces`` are those that are watched, empty for all."""

    def __init__(
        self,
        traits: Traits[R],
        *,
        world: World,
        cluster: Cluster,
        cluster_id: str,
        namespace_labels: Labels,
        namespaces: Sequence[str],
    ) -> None:
        self._traits = traits
        self._world = world
        self._cluster = cluster
        self._cluster_id = cluster_id
        self._namespace_labels = namespace_labels
        self._horizon = Horizon(world, cluster, namespaces, traits.resource, traits.reader)

    async def state_of(self, holder: R | None) -> HolderState | None:
        """What has become of the holder's object; None where no object of this cluster has it."""
        if holder is None or holder.owner is None or holder.owner.cluster_id != self._cluster_id:
            return None
        return await owners.state_of(self._cluster, self._world.cache, self._traits.resource, holder.owner)

    async def of_departing(self, obj: Object[Any], tenant_name: str | None, tenant_id: str | None) -> Departure[R]:
        """What an object that is being deleted leaves, and to whom."""
        tenant_id = obj.status.get("tenantId") or tenant_id
        name = self._traits.external_name(obj)
        own, holder = await self._traits.records(obj, tenant_id, name)
        state = None if own is not None else await self.state_of(holder)
        if state is HolderState.GONE:
            # It may have gone after the records were read, and have left its own to us. Now that it is gone it gives no more.
            own, holder = await self._traits.records(obj, tenant_id, name)
            state = None if own is not None else await self.state_of(holder)
        if own is None:
            return Departure(None, holder, state, ())
        heirs = self.claims(obj, tenant_name, own.external_name)
        if not heirs:  # one that was there before the deletion may not have been heard of yet
            await self._horizon.reach(int(obj.resource_version))
            heirs = self.claims(obj, tenant_name, own.external_name)
        return Departure(own, None, state, heirs)

    def claims(self, obj: Object[Any], tenant_name: str | None, name: str) -> tuple[Claim, ...]:
        """The other live objects that ask for the name."""
        return tuple(
            self._claim(other)
            for other in self._world.claimants(tenant_name, name, self._traits.resource.kind)
            if other.key != obj.key and not other.deleting
        )

    def check_heir(self, record: R, to: Owner) -> None:
        """Look once more, right before the record passes: to one that has gone meanwhile it would be lost (Conflict)."""
        heir = self._world.cache.get(Key(self._traits.resource.kind, to.namespace, to.name))
        if (
            heir is None
            or heir.uid != to.uid
            or heir.deleting
            or self._traits.finalizer not in heir.finalizers
            or self._traits.external_name(heir) != record.external_name
        ):
            raise Conflict("SyncFailed", f"{to} does not ask for the record any more")

    def _claim(self, obj: Object[Any]) -> Claim:
        assert not isinstance(obj.spec, Invalid)  # an unreadable spec claims no name
        _, owner = self._world.tenant_of(obj)
        recorded = obj.status.get("tenantId")
        finalizer = self._traits.finalizer in obj.finalizers
        may = owner is not None and not owner.deleting
        if may and owner is not None:
            may = tenancy.sight(self._world, owner, obj.key.namespace, self._namespace_labels).admits
        return Claim(
            key=obj.key,
            uid=obj.uid,
            created_at=obj.created_at,
            type=self._traits.type_of(obj),
            ready_to_own=finalizer,
            can_own=(finalizer or (may and not obj.spec.suspend))
            and not self._traits.refused(obj)
            and (recorded is None or owner is None or recorded == tenant.effective_id(owner)),
            has_record=obj.status.get(self._traits.id_field) is not None,
            tenant_id=None if owner is None else tenant.effective_id(owner),
        )
