"""Which revisions are archived, and why each of the others is kept.

::

    in use (active, desired, held to, pinned, tagged, spared, running) ──► kept
    could be gone back to  ──► kept while it is one of the last N, or while either time has not passed
    never could or never did serve ──► kept for the first time only; it takes no place of those N

Only the object of an archived revision goes: its row stays, and brings the object back with a rollback (A-RET-3).
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from keep_operator.domain import history
from keep_operator.domain.history import Lineage, Reference, Revision
from keep_operator.resources.parts import Retention

# As many as one look archives; the next look takes the next ones (A-RET-4).
BATCH: Final = 100


@dataclass(frozen=True, slots=True)
class Policy:
    """``limit`` revisions that one could go back to are kept, others until both times have passed.

    With more than ``maximum`` revisions the times are not waited for.
    """

    limit: int = 10
    since_create: timedelta = timedelta(hours=48)
    since_last_active: timedelta = timedelta(hours=15)
    maximum: int = 1000


@dataclass(frozen=True, slots=True)
class Uses:
    """What needs revisions besides the lineage itself.

    ``spared`` are the numbers whose objects have annotation `no-gc`, ``running`` those with runs that have not ended.
    """

    pin: Reference | None = None
    spared: Collection[int] = ()
    running: Collection[int] = ()


@dataclass(frozen=True, slots=True)
class Kept:
    """A revision that stays, why, and until when at the earliest if that is a matter of time."""

    number: int
    why: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """``archive`` is the oldest first; both together are all revisions that have an object."""

    archive: tuple[int, ...]
    kept: tuple[Kept, ...]

    @property
    def due(self) -> datetime | None:
        """When time alone will let another one go; None: something else must happen first."""
        return min((each.until for each in self.kept if each.until is not None), default=None)


def policy(limit: int, own: Retention | None, default: Retention | None) -> Policy:
    """The policy of a workflow: its own, field by field, else its tenant's, else the one of this module."""
    given: dict[str, timedelta | int] = {}
    for each in (default, own):
        if each is not None:
            named = {
                "since_create": each.since_create,
                "since_last_active": each.since_last_active,
                "maximum": each.max,
            }
            given |= {name: value for name, value in named.items() if value is not None}
    return Policy(limit=limit, **given)  # type: ignore[arg-type]


def judge(lineage: Lineage, policy: Policy, uses: Uses, now: datetime) -> Judgement:
    """What goes and what stays of the revisions that have an object; the same question always has the same answer."""
    present = [each for each in lineage.revisions if each.archived_at is None]
    eligible = {each.number for each in lineage.all_eligible()}
    needed = _needed(lineage, uses)
    crowded = len(present) > policy.maximum
    archive: list[Revision] = []
    kept: list[Kept] = []
    places = policy.limit
    for each in sorted(present, key=_age, reverse=True):
        counts = each.was_active and each.number in eligible
        if (need := needed.get(each.number)) is not None:
            kept.append(Kept(each.number, need))
        elif counts and places > 0:
            places -= 1
            kept.append(Kept(each.number, f"one of the last {policy.limit} to go back to"))
        elif not crowded and (until := _until(each, policy, counts=counts)) > now:
            kept.append(Kept(each.number, "too young", until))
        else:
            archive.append(each)
    return Judgement(
        tuple(each.number for each in reversed(archive)), tuple(sorted(kept, key=lambda each: each.number))
    )


def _age(revision: Revision) -> tuple[datetime, int]:
    """Sorts by when a revision was of use last: the least useful first."""
    return revision.last_active_at or revision.created_at, revision.number


def _until(revision: Revision, policy: Policy, *, counts: bool) -> datetime:
    made = revision.created_at + policy.since_create
    if not counts or revision.last_active_at is None:
        return made
    return max(made, revision.last_active_at + policy.since_last_active)


def _needed(lineage: Lineage, uses: Uses) -> dict[int, str]:
    """By number, what a revision is needed for; of several reasons the strongest."""
    pinned = None if uses.pin is None else history.resolve(lineage, uses.pin)
    needed: dict[int, str] = dict.fromkeys(uses.running, "has runs that have not ended")
    needed |= dict.fromkeys(uses.spared, "annotation no-gc")
    needed |= {each.number: f"tag {', '.join(each.tags)}" for each in lineage.revisions if each.tags}
    if isinstance(pinned, Revision):
        needed[pinned.number] = "spec.release.pin"
    if lineage.hold is not None:
        needed[lineage.hold.target] = "target of the rollback that is in force"
    if lineage.latest is not None:
        needed[lineage.latest.number] = "the definition in the spec"
    if lineage.active_number is not None:
        needed[lineage.active_number] = "active"
    return needed
