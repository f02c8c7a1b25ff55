"""Who owns a record of the control database, and who of several claimants wins it (A-GC-1, A-CF-1)."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from keep_operator.domain import conditions
from keep_operator.domain.conditions import Finding
from keep_operator.resources.kinds import Key
from keep_operator.resources.shapes import AdoptionPolicy


@dataclass(frozen=True, slots=True)
class Owner:
    """The ownership marker of a row: the one object, of one cluster, that manages it.

    Within a cluster identity is the ``uid``; name and namespace are kept for people and for re-attaching
    after a restore. ``namespace`` is empty for cluster-scoped kinds.
    """

    cluster_id: str
    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class HolderState(StrEnum):
    """What has become of the object that a record's marker names."""

    LIVE = "Live"
    DELETING = "Deleting"
    GONE = "Gone"


@dataclass(frozen=True, slots=True)
class Claim:
    """A live object that asks for the same record as another.

    ``ready_to_own`` says that our finalizer is on it, so that a record handed to it cannot be left behind;
    ``can_own`` that nothing in its own spec or tenant stands in the way of getting there by itself. One that
    ``has_record`` takes no second one: it waits until the name is free and renames its own. ``tenant_id`` is the
    tenant that it belongs to now, None while that is not known.
    """

    key: Key
    uid: str
    created_at: datetime
    type: str
    ready_to_own: bool
    can_own: bool
    has_record: bool = False
    tenant_id: str | None = None


def winner(claims: Iterable[Claim]) -> Claim | None:
    """The claim that prevails: oldest creation, then lowest uid; None when there is none (A-CF-1)."""
    return min(claims, key=lambda claim: (claim.created_at, claim.uid), default=None)


@dataclass(frozen=True, slots=True)
class Holder:
    """Another record that has the name which an object asks for, and what has become of that record's object."""

    owner: Owner | None
    type: str
    state: HolderState | None


def judge(
    name: str,
    mine: Claim,
    rivals: Iterable[Claim],
    holder: Holder | None,
    *,
    cluster_id: str,
    adoption_policy: AdoptionPolicy,
) -> Finding | None:
    """Whether somebody else's claim to the name stands in the way (A-CF-1, A-AD-1), as a finding of ``Synced``.

    None: nobody's does, so that a record may be made, or the holder's taken over.
    """
    first = winner([mine, *(rival for rival in rivals if rival.can_own)])
    assert first is not None
    if holder is None:
        if first is mine or mine.has_record:
            return None
        return _conflict(name, first.key.path, same_type=first.type == mine.type)
    owner = holder.owner
    if owner is None or owner.cluster_id != cluster_id:
        if not mine.has_record and holder.type == mine.type and _may_adopt(adoption_policy, owner):
            return None
        whose = f"belongs to another cluster ({owner})" if owner else "is not managed by any object"
        which = f" (type {holder.type})" if holder.type else ""
        return conditions.false(
            "Synced",
            "ExternalResourceExists",
            f'The record "{name}" of this tenant{which} {whose}. {_advice(mine, holder)}',
        )
    if holder.state is HolderState.LIVE:
        return _conflict(name, str(owner), same_type=holder.type == mine.type)
    if holder.type != mine.type or mine.has_record:
        return conditions.unknown("Synced", "ExternalNameConflict", f'Waiting until "{name}" is released by {owner}')
    if first is not mine:
        return _conflict(name, first.key.path, same_type=first.type == mine.type)
    return None


def _conflict(name: str, holder: str, *, same_type: bool) -> Finding:
    message = f'The name "{name}" of this tenant is taken. Managed by {holder}'
    if same_type:  # it may be the second half of a rename: the first half is about to go
        return conditions.unknown("Synced", "ExternalNameConflict", message)
    return conditions.false(
        "Synced", "ExternalNameConflict", f"{message}, which is of another type. Choose another name."
    )


def _may_adopt(policy: AdoptionPolicy, owner: Owner | None) -> bool:
    return policy == "Force" or (policy == "IfUnowned" and owner is None)


def _advice(mine: Claim, holder: Holder) -> str:
    if mine.has_record:
        return "Choose another spec.externalName."
    if holder.type != mine.type:
        return "It is of another type: choose another spec.externalName, or remove the record."
    wanted = "IfUnowned" if holder.owner is None else "Force"
    return f"To take it over with its id and history set spec.adoptionPolicy: {wanted}."


def may_inherit(claim: Claim, kind: str, tenant_id: str) -> bool:
    """Whether a record of an object that goes may pass to another: it never changes its type, nor its tenant."""
    return claim.can_own and not claim.has_record and (claim.type, claim.tenant_id) == (kind, tenant_id)
