"""What an older dump has cost, and how the cluster gives it back: by what the objects remember (A-REV-13).

An object's status has the id of its record. Of each that the database does not know, or knows under an older owner or
name, this says what to do::

    no row of that id      ──► Make it again, under the same id
    row of a former owner  ──► Give it to the object that remembers it, under its present name
    name held by another   ──► Remove that one first, if its object is gone and its policy says so; else Blocked

Credentials are not in the cluster's objects: the operator writes them from the Secrets at its next look.
"""

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

from keep_operator.domain import provider
from keep_operator.domain.ownership import Owner
from keep_operator.domain.provider import Content, Record
from keep_operator.resources.kinds import Key
from keep_operator.resources.objects import Object
from keep_operator.resources.provider import ProviderSpec
from keep_operator.resources.shapes import Invalid


@dataclass(frozen=True, slots=True)
class Make:
    """The record is to be made again, as the object describes it."""

    key: Key
    record: Record


@dataclass(frozen=True, slots=True)
class Give:
    """The record is there, and is to be given back to the object under this name."""

    key: Key
    record: Record
    to: Owner
    name: str


@dataclass(frozen=True, slots=True)
class Remove:
    """A record that came back with the dump, and whose object is gone, stands in the way and is to go again."""

    key: Key
    record: Record


@dataclass(frozen=True, slots=True)
class Blocked:
    """A person must decide first; ``why`` names the fact and the remedy."""

    key: Key
    record_id: UUID
    why: str


Step: TypeAlias = Make | Give | Remove | Blocked


def plan(
    objects: Iterable[Object[ProviderSpec]],
    rows: Sequence[Record],
    *,
    cluster_id: str,
    tenants: AbstractSet[str],
    live: AbstractSet[str],
) -> list[Step]:
    """The steps in their order; empty when the database knows all that the objects remember.

    ``rows`` are all providers' rows, ``tenants`` the ids of all tenants' rows, ``live`` the uids of all Providers in the
    cluster. Safe to repeat: what has been done is not planned again.
    """
    steps: list[Step] = []
    for obj in sorted(objects, key=lambda each: each.key):
        if (record_id := remembered(obj)) is not None:
            steps += _plan_one(obj, record_id, _View(rows, cluster_id, tenants, live))
    return steps


def remembered(obj: Object[ProviderSpec]) -> UUID | None:
    """The id of the record that an object is known to have had; None while it is on its way out, or has none."""
    if obj.deleting:
        return None
    try:
        return UUID(obj.status["providerId"])
    except (KeyError, ValueError):
        return None


@dataclass(frozen=True, slots=True)
class _View:
    rows: Sequence[Record]
    cluster_id: str
    tenants: AbstractSet[str]
    live: AbstractSet[str]

    def state(self, record: Record) -> str:
        """Whose a record is: "ours" of a living object, "gone", "nobody" or "another cluster"."""
        if record.owner is None:
            return "nobody"
        if record.owner.cluster_id != self.cluster_id:
            return "another cluster"
        return "ours" if record.owner.uid in self.live else "gone"


def _plan_one(obj: Object[ProviderSpec], record_id: UUID, view: _View) -> list[Step]:
    mine = Owner(view.cluster_id, obj.key.namespace, obj.key.name, obj.uid)

    def blocked(why: str) -> list[Step]:
        return [Blocked(obj.key, record_id, why)]

    record = next((row for row in view.rows if row.id == record_id), None)
    if record is not None and record.owner is not None and record.owner.uid == obj.uid:
        return []
    if any(row.owner is not None and row.owner.uid == obj.uid for row in view.rows):
        return blocked("the object has another record by now; delete one of the two")
    if isinstance(obj.spec, Invalid):
        return blocked("its spec cannot be read; correct it first")
    if record is not None and view.state(record) in ("ours", "another cluster"):
        return blocked(f"the record belongs to {record.owner}, which must give it up first")
    tenant_id = str(obj.status.get("tenantId") or "")
    if tenant_id not in view.tenants:
        return blocked(f'tenant "{tenant_id}" has no row; its Tenant must become Ready first')
    name = str(obj.status.get("externalName") or provider.external_name(obj))
    steps: list[Step] = []
    holder = next((row for row in view.rows if (row.tenant_id, row.external_name) == (tenant_id, name)), None)
    if holder is not None and holder.id != record_id:
        if view.state(holder) != "gone":
            whose = (
                "nobody owns; remove it with `keep-operator prune`" if holder.owner is None else f"{holder.owner} has"
            )
            return blocked(f'the name "{name}" is held by record {holder.id}, which {whose}')
        if holder.content.deletion_policy == "Orphan":
            return blocked(f'the name "{name}" is held by record {holder.id} of {holder.owner}, which is gone')
        steps.append(Remove(obj.key, holder))
    if record is not None:
        return [*steps, Give(obj.key, record, mine, name)]
    content = Content(obj.spec.config or {}, obj.spec.pulling_enabled, "", obj.spec.deletion_policy)
    return [*steps, Make(obj.key, Record(record_id, tenant_id, obj.spec.type, name, content, mine))]
