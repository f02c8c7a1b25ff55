"""The history of a workflow as the rules see it: two sequences, and what is in force now.

::

    revisions      1 ── 2 ── 3 ── 4        contents; numbered without gaps, never changed, never used again
    deployments    1    2    3    2        what was made active, when, by whom and why; a rollback adds one here only
                                  ▲
                                active     what runs; the definition in the spec is only what is desired

Both belong to a *lineage*: what a Workflow object owns, and what outlives its renames and its object. Contents are not
here: they are large, and no rule about versions reads them.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from keep_operator.domain.ownership import Owner
from keep_operator.resources.shapes import DeletionPolicy

# So many hexadecimal digits of a hash tell people which content is meant.
SHORT_HASH: Final = 8


class Cause(StrEnum):
    """Why a revision became active, as `status.history` and the ledger show it."""

    ALL_AT_ONCE = "AllAtOnce"
    DEPLOY = "Deploy"
    ROLLBACK = "Rollback"
    PIN = "Pin"
    HOLD_ENDED = "HoldEnded"
    REJECTED = "Rejected"
    CANARY = "Canary"
    AUTO_ROLLBACK = "AutoRollback"

    @property
    def leads_back(self) -> bool:
        """Whether what was active until then is given up, so that no way back leads to it again (A-RB-4)."""
        return self in (Cause.ROLLBACK, Cause.REJECTED, Cause.AUTO_ROLLBACK)

    @property
    def releases(self) -> bool:
        """Whether something new took over, of which nobody knows yet how it does (A-CAN-7)."""
        return not self.leads_back and self is not Cause.PIN


@dataclass(frozen=True, slots=True)
class Author:
    """Who made a revision, and how that is known, such as ``FieldManager`` or ``Annotation``."""

    username: str
    source: str


@dataclass(frozen=True, slots=True)
class Flaw:
    """Why a content can never run: a reason of condition ``Valid``, and all its faults in one line."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Revision:
    """One version without its content.

    ``first_active_at`` and ``last_active_at``: when it first became active, and when it last began or ended to be so;
    None: never. ``diff_summary`` is against the revision before. ``rejected``, ``denied`` and ``approved`` are the reasons
    of those conditions; ``approved`` None: by nobody. ``important``: marked so by its author (A-AP-1). ``archived_at`` says
    that it has no object any more, though its row stays (A-RET-3). ``tags`` are sorted.
    """

    number: int
    content_hash: str
    created_at: datetime
    hash_version: int = 1
    flaw: Flaw | None = None
    parent_number: int | None = None
    same_content_as: int | None = None
    change_note: str | None = None
    author: Author | None = None
    created_from_generation: int = 0
    diff_summary: str | None = None
    first_active_at: datetime | None = None
    last_active_at: datetime | None = None
    rejected: str | None = None
    denied: str | None = None
    approved: str | None = None
    important: bool = False
    archived_at: datetime | None = None
    tags: tuple[str, ...] = ()

    @property
    def valid(self) -> bool:
        """Whether the content can run at all."""
        return self.flaw is None

    @property
    def was_active(self) -> bool:
        """Whether it is active, or was at any time."""
        return self.first_active_at is not None

    def __str__(self) -> str:
        return f"v{self.number} ({self.content_hash[:SHORT_HASH]})"


@dataclass(frozen=True, slots=True)
class Hold:
    """A rollback in force: while the desired content is ``rejected_hash``, ``target`` is active instead (section 8).

    ``actor`` and ``reason`` are of the last decision about it, ``since`` of the first. ``aborted``: what is held back was a
    canary, and never active.
    """

    rejected_hash: str
    target: int
    actor: str
    reason: str
    since: datetime
    automatic: bool = False
    request_id: str | None = None
    aborted: bool = False


@dataclass(frozen=True, slots=True)
class Canary:
    """A revision that is tried with ``weight`` per cent of the runs; ``stable`` takes the rest, and is what is active.

    ``steps`` are those of the spec with which it began, as JSON: others begin it anew. ``step`` is the place of the one that it
    is at, since ``step_since``. An analysis counts the runs since ``measured_since``, and ``failed`` measurements came
    before. ``paused`` is why a person must say how to go on, since ``paused_since``; None: nobody need. All times are the
    database's (A-CAN-8).
    """

    candidate: int
    stable: int
    steps: str
    step: int
    step_since: datetime
    weight: int
    began: datetime
    measured_since: datetime
    failed: int = 0
    paused: str | None = None
    paused_since: datetime | None = None
    sticky_key: str | None = None


@dataclass(frozen=True, slots=True)
class Review:
    """What one person thinks of a revision. ``groups`` are those that he was in, as far as he told."""

    number: int
    actor: str
    approves: bool
    at: datetime
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Check:
    """How one item of the checklist stands for a revision, who says so, and why."""

    number: int
    item: str
    done: bool
    by: str
    at: datetime
    message: str = ""


@dataclass(frozen=True, slots=True)
class Deployment:
    """One time that a revision became active, in place of ``from_revision``; ``reason`` in the words of ``actor``."""

    revision: int
    from_revision: int | None
    cause: Cause
    actor: str
    at: datetime
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something that was asked for is not possible: a reason and a sentence."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Reference:
    """How people name a revision; exactly one of the four is given."""

    number: int | None = None
    content_hash: str | None = None
    tag: str | None = None
    previous: bool = False

    def __str__(self) -> str:
        if self.number is not None:
            return f"v{self.number}"
        if self.content_hash is not None:
            return f"content {self.content_hash[:SHORT_HASH]}"
        return "the previous revision" if self.previous else f'tag "{self.tag}"'


@dataclass(frozen=True, slots=True)
class Lineage:
    """One workflow in the database: its row and its history, as one look found them.

    ``latest_number`` is the highest number ever given, 0 before the first. ``revisions`` are all of them, ascending.
    ``deployments`` are the newest first; of a long history the oldest may be missing. ``suspended`` and ``settings`` are
    what the runner needs of the present spec. ``deleted_at``: its object is gone, the history stays (A-REV-8).
    ``checksum`` is the one that was written with the row. ``running``: how many runs of each revision have not ended, by number;
    two looks that differ in that have found the same lineage. ``reviews`` and ``checks`` are those of all revisions.
    ``watched_until``: until then each run that ends has the lineage looked at. ``read_at`` is the database's time of the look.
    """

    id: UUID
    tenant_id: str
    external_name: str
    owner: Owner | None
    deletion_policy: DeletionPolicy = "Delete"
    suspended: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    latest_number: int = 0
    active_number: int | None = None
    revisions: tuple[Revision, ...] = ()
    deployments: tuple[Deployment, ...] = ()
    hold: Hold | None = None
    canary: Canary | None = None
    reviews: tuple[Review, ...] = ()
    checks: tuple[Check, ...] = ()
    watched_until: datetime | None = None
    deleted_at: datetime | None = None
    checksum: str | None = None
    running: Mapping[int, int] = field(default_factory=dict, compare=False)
    read_at: datetime | None = field(default=None, compare=False)

    @property
    def latest(self) -> Revision | None:
        """The newest revision."""
        return self.revisions[-1] if self.revisions else None

    @property
    def active(self) -> Revision | None:
        """The revision that takes runs."""
        return None if self.active_number is None else self.get(self.active_number)

    @property
    def candidate(self) -> Revision | None:
        """The revision that is tried as a canary."""
        return None if self.canary is None else self.get(self.canary.candidate)

    @property
    def deployed(self) -> Deployment | None:
        """The last time that something became active."""
        return self.deployments[0] if self.deployments else None

    @property
    def intact(self) -> bool:
        """Whether the row is as the operator wrote it; one that has no checksum passes for that."""
        return self.checksum in (None, checksum(self))

    def get(self, number: int) -> Revision | None:
        """The revision of that number."""
        place = number - self.revisions[0].number if self.revisions else -1
        if 0 <= place < len(self.revisions) and self.revisions[place].number == number:
            return self.revisions[place]  # which is where it is, since there are no gaps
        return next((each for each in self.revisions if each.number == number), None)

    def with_content(self, content_hash: str) -> tuple[Revision, ...]:
        """All revisions of one content, ascending."""
        return tuple(each for each in self.revisions if each.content_hash == content_hash)

    def verdicts(self) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """All that is rejected and all that is denied, by content; in one pass, since there may be thousands."""
        rejected = {each.content_hash: each.rejected for each in reversed(self.revisions) if each.rejected}
        denied = {each.content_hash: each.denied for each in reversed(self.revisions) if each.denied}
        return rejected, denied

    def rejection(self, revision: Revision) -> str | None:
        """Why the content of a revision is rejected, whichever of its numbers that was said of; None: it is not."""
        return next((each.rejected for each in self.with_content(revision.content_hash) if each.rejected), None)

    def denial(self, revision: Revision) -> str | None:
        """Why the content of a revision is denied: a denial always carries over to equal content (A-AP-4)."""
        return next((each.denied for each in self.with_content(revision.content_hash) if each.denied), None)

    def eligible(self, revision: Revision) -> bool:
        """Whether the revision may be active: valid, and its content neither rejected nor denied."""
        return revision.valid and self.rejection(revision) is None and self.denial(revision) is None

    def all_eligible(self) -> tuple[Revision, ...]:
        """All revisions that may be active, ascending; in one pass, since there may be thousands."""
        barred = {each.content_hash for each in self.revisions if each.rejected or each.denied}
        return tuple(each for each in self.revisions if each.valid and each.content_hash not in barred)


def checksum(lineage: Lineage) -> str:
    """What is stored beside all that the spec declares of the row, so that a change by other hands shows (A-DR-1).

    What is active is not in it: that is chosen anew at each look.
    """
    parts = [
        [str(lineage.id), lineage.tenant_id, lineage.external_name],
        [lineage.deletion_policy, lineage.suspended, lineage.settings],
    ]
    return hashlib.sha256(text(parts).encode()).hexdigest()


def text(value: Any) -> str:
    """A JSON value as one text, whatever the order of its keys; tells 1 from true and 1.0, which Python takes for equal."""
    return json.dumps(value, sort_keys=True)


def resolve(lineage: Lineage, reference: Reference) -> Revision | Refusal:
    """The revision that is meant; archived ones too. Refused with RevisionNotFound or NoRollbackTarget.

    Of several with one content it is the active one, else the newest: an old number says no more about it.
    """
    if reference.previous:
        return previous(lineage)
    if reference.number is not None:
        found = lineage.get(reference.number)
    elif reference.content_hash is not None:
        same = lineage.with_content(reference.content_hash)
        active = lineage.active
        found = active if active in same else same[-1] if same else None
    else:
        found = next((each for each in lineage.revisions if reference.tag in each.tags), None)
    if found is not None:
        return found
    return Refusal("RevisionNotFound", f"There is no revision for {reference}: {_range(lineage)}.")


def previous(lineage: Lineage) -> Revision | Refusal:
    """Where a rollback leads that names no target: back on the way on which the active revision was reached.

    Only to what may run and has another content than what is active and what is held back (A-RB-2); twice in a row
    leads further back, never forward again (A-RB-4).
    """
    active = lineage.active
    if active is None:
        return Refusal("NoRollbackTarget", "No revision is active.")
    taken = {active.content_hash}
    if lineage.hold is not None:
        taken.add(lineage.hold.rejected_hash)
    for number in reversed(way_back(lineage)):
        found = lineage.get(number)
        if found is not None and found.content_hash not in taken and lineage.eligible(found):
            return found
    return Refusal(
        "NoRollbackTarget",
        f"No other revision was active before {active} that may run. To stop the workflow set spec.suspend.",
    )


def way_back(lineage: Lineage) -> tuple[int, ...]:
    """The numbers on the way to the active revision, it being the last: what was given up since is not on it."""
    way: dict[int, None] = {}  # in its order, and thousands of deployments take no time
    for deployment in reversed(lineage.deployments):
        number = deployment.revision
        if not deployment.cause.leads_back:
            way.pop(number, None)
        elif number in way:
            while next(reversed(way)) != number:
                way.popitem()
        elif way:
            way.popitem()
        way[number] = None
    return tuple(way)


def _range(lineage: Lineage) -> str:
    latest = lineage.latest
    return "there are none yet" if latest is None else f"there are v{lineage.revisions[0].number} to v{latest.number}"
