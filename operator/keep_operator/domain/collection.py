"""When the record of an object that is gone may be collected: by the second sweep that misses the object, not before.

::

    row whose object is in no list ──1st sweep──► noted ──a sweep at least one interval later──► due
                                                    ▲  │ the object is there again: forgotten
                    its kind was defined anew ──────┘  ▼ (CRD deleted and re-created: the lists in between say nothing)

An object that was deleted in the usual way has taken its record along. What is left comes of finalizers that were
stripped, objects that were deleted by force, or a cluster that was restored to a time before them (A-GC-4).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from keep_operator.domain.ownership import Owner
from keep_operator.resources.shapes import DeletionPolicy


@dataclass(frozen=True, slots=True)
class Lost:
    """A row that carries our marker, though no list shows the object.

    ``id`` is the row's, ``name`` what it is called by, ``type`` a provider's type and empty for a tenant.
    """

    kind: str
    id: str
    tenant_id: str
    type: str
    name: str
    owner: Owner
    policy: DeletionPolicy


@dataclass(frozen=True, slots=True)
class Note:
    """Since when an object has been missed, in monotonic seconds, and the uid of its kind's definition then."""

    since_s: float
    definition: str


Notes = Mapping[tuple[str, str, str], Note]


def judge(
    notes: Notes, missed: Iterable[Lost], definitions: Mapping[str, str], *, now_s: float, interval_s: float
) -> tuple[Notes, list[Lost]]:
    """What is noted now, and the rows that are due; ``definitions`` are the uids of the kinds' definitions by kind."""
    noted: dict[tuple[str, str, str], Note] = {}
    due = []
    for lost in missed:
        place = (lost.kind, lost.id, lost.owner.uid)
        known = notes.get(place)
        if known is None or known.definition != definitions[lost.kind]:
            noted[place] = Note(now_s, definitions[lost.kind])
            continue
        noted[place] = known
        if now_s - known.since_s >= interval_s:
            due.append(lost)
    return noted, due
