"""Who owns a record of the control database, and who of several claimants wins it (A-GC-1, A-CF-1)."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from keep_operator.resources.kinds import Key


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
