"""What can become of a history, as data: what a decision does to it, and what a look at a Workflow does by itself.

`reconcile.effects` carries each out, with its ledger entry, in the transaction of those that it comes with.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from keep_operator.domain.history import Canary, Cause, Hold, Lineage


@dataclass(frozen=True, slots=True)
class Activate:
    """A revision becomes active in place of the one that ``lineage`` has; its object comes back if it was archived.

    Done as one: the pointer, the deployment, the times of both revisions, the ledger's entry.
    """

    lineage: Lineage
    number: int
    cause: Cause
    actor: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SetHold:
    """This hold is in force now, in place of the one that was."""

    hold: Hold


@dataclass(frozen=True, slots=True)
class EndHold:
    """The hold that ``lineage`` has is over."""

    lineage: Lineage


@dataclass(frozen=True, slots=True)
class SetCanary:
    """The canary is this now: begun, a step further, paused, or gone on with. Only where it is still as ``lineage`` has it."""

    lineage: Lineage
    canary: Canary


@dataclass(frozen=True, slots=True)
class EndCanary:
    """No run is given to the candidate any more, or all are; ``outcome`` says which, as one word."""

    lineage: Lineage
    outcome: str


@dataclass(frozen=True, slots=True)
class Review:
    """What one person thinks of a revision, in place of what he said before."""

    number: int
    approves: bool
    actor: str
    groups: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Approve:
    """The revision is approved for good, for ``verdict``, a reason of condition ``Approved``."""

    number: int
    verdict: str


@dataclass(frozen=True, slots=True)
class Deny:
    """The content of this revision never runs, under whatever number."""

    number: int
    verdict: str


@dataclass(frozen=True, slots=True)
class CheckItem:
    """How an item of the checklist stands for a revision."""

    number: int
    item: str
    done: bool
    by: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Reject:
    """The content of this revision is never chosen again, under whatever number, until somebody decides Retry."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class ClearRejection:
    """All revisions of this content may be chosen again."""

    content_hash: str


@dataclass(frozen=True, slots=True)
class Tag:
    """The tag points to this revision now, wherever it did before."""

    tag: str
    number: int


@dataclass(frozen=True, slots=True)
class Untag:
    """The tag points to nothing any more."""

    tag: str


@dataclass(frozen=True, slots=True)
class Note:
    """A text about a revision (None: about the workflow) for the ledger."""

    number: int | None
    text: str


@dataclass(frozen=True, slots=True)
class Watch:
    """Until then each run that ends has the workflow looked at."""

    until: datetime


Effect: TypeAlias = (
    Activate
    | SetHold
    | EndHold
    | SetCanary
    | EndCanary
    | Review
    | Approve
    | Deny
    | CheckItem
    | Reject
    | ClearRejection
    | Tag
    | Untag
    | Note
    | Watch
)


@dataclass(frozen=True, slots=True)
class Take:
    """One effect on ``lineage``, as ``actor`` caused it."""

    lineage: Lineage
    effect: Effect
    actor: str
    reason: str = ""


def of(lineage: Lineage, effects: Sequence[Any], actor: str, reason: str = "") -> tuple[Take, ...]:
    """The effects of one cause, in order."""
    return tuple(Take(lineage, each, actor, reason) for each in effects)
