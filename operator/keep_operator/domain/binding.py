"""A run that is asked for, and the revision that it gets: decided once, in the transaction that makes it (A-RUN-1, A-RUN-5).

::

    what is asked for ──┐
    what is there  ─────┴──▶ Bound, and the run is made ──▶ nothing ever changes its revision
                             Refusal, and there is none
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from keep_operator.domain import canary, inputs
from keep_operator.domain.events import cel
from keep_operator.domain.events.cel import EvaluationFailed, Scene
from keep_operator.domain.events.matching import ADDED
from keep_operator.domain.execution import MAX_ATTEMPTS, TIMEOUT_S, Mode, Selection, Trigger
from keep_operator.domain.history import SHORT_HASH, Reference, Refusal
from keep_operator.domain.inputs import InvalidInputs
from keep_operator.domain.ownership import Owner


class Concurrency(StrEnum):
    """What happens to a run while another of the same workflow has not ended.

    ``Queue`` is no setting: it is how Keep's ``nonparallel_with_retry`` treats events of one alert.
    """

    ALLOW = "Allow"
    FORBID = "Forbid"
    REPLACE = "Replace"
    QUEUE = "Queue"


_BY_STRATEGY: Final[Mapping[str | None, Concurrency]] = {
    "parallel": Concurrency.ALLOW,
    "nonparallel": Concurrency.FORBID,
    "nonparallel_with_retry": Concurrency.QUEUE,
    None: Concurrency.QUEUE,
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody wants to run. ``reference`` None: the active revision; ``retry_of`` brings its own, unless
    another is named beside it.

    ``idempotency_key`` is unique in the workflow: who asks again with it gets the run that there is. ``owner`` is the
    WorkflowRun object that asks. ``unreleased``: a revision may be named that was never active, since it is known that
    nobody has to approve it (A-AP-2).
    """

    trigger: Trigger
    idempotency_key: str
    requested_by: str
    reference: Reference | None = None
    mode: Mode = "Live"
    inputs: Mapping[str, Any] = field(default_factory=dict)
    event: Mapping[str, Any] | None = None
    fingerprint: str | None = None
    tick: datetime | None = None
    owner: Owner | None = None
    retry_of: UUID | None = None
    timeout_s: int = TIMEOUT_S
    unreleased: bool = False

    @property
    def by_itself(self) -> bool:
        """Whether a tick or an event asks: with nobody who could correct inputs, a run that fails tells more than none."""
        return self.tick is not None or self.fingerprint is not None


@dataclass(frozen=True, slots=True)
class Candidate:
    """The revision that is meant. ``flaw``, ``denied`` and ``rejected`` are why it may not run; ``approved``: by peers."""

    number: int
    content_hash: str
    flaw: str | None = None
    denied: str | None = None
    rejected: str | None = None
    approved: bool = False
    was_active: bool = False


@dataclass(frozen=True, slots=True)
class Tried:
    """A canary that is under way: ``weight`` per cent of the runs are the candidate's; ``sticky_key`` is CEL."""

    number: int
    content_hash: str
    weight: int
    sticky_key: str | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look found of a workflow. ``settings`` are `run` of its spec; ``strategy`` and ``inputs``, those that
    are declared, are the candidate's, each looked at only where it matters.

    ``tried`` is the canary that is under way. ``unfinished``: whether a run of it has not ended, ``unfinished_alike`` one of
    the same fingerprint. ``try_number`` is that of the run that is to be tried again, 0 where the workflow has no such run.
    """

    workflow_id: UUID
    tenant_id: str
    suspended: bool
    settings: Mapping[str, Any]
    active_number: int | None
    candidate: Candidate | None
    tried: Tried | None = None
    strategy: str | None = None
    unfinished: bool = False
    unfinished_alike: bool = False
    try_number: int = 0
    inputs: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Bound:
    """The run to make. ``lock``: of several with one of them, one goes on at a time; ``replaces``: the others are cancelled."""

    number: int
    content_hash: str
    selection: Selection
    concurrency: Concurrency
    max_attempts: int
    try_number: int
    lock: str | None = None

    @property
    def replaces(self) -> bool:
        """Whether runs that have not ended are cancelled for it."""
        return self.concurrency is Concurrency.REPLACE


def key_of(asked: Asked, sticky_key: str | None) -> str:
    """What a run is told apart by: equal keys get the same revision while a canary is under way (A-CAN-1, A-CAN-2).

    Each tick is a key of its own. A key of the spec that cannot be evaluated for this run gives way to what there is without
    one. Of an event it sees what was posted, and nothing that a trigger adds: which triggers are asked is decided by it.
    """
    if asked.tick is not None:
        return f"tick {asked.tick.timestamp():.0f}"
    if sticky_key is not None:
        posted = {key: value for key, value in (asked.event or {}).items() if key not in ADDED}
        scene = Scene(
            {
                "inputs": dict(asked.inputs),
                "event": posted,
                "alert": posted,
                "trigger": asked.trigger,
                "fingerprint": asked.fingerprint or "",
            }
        )
        try:
            return f"key {_compiled(sticky_key).brings(scene)}"
        except EvaluationFailed:
            pass
    return asked.fingerprint or asked.idempotency_key


@lru_cache(maxsize=256)
def _compiled(text: str) -> cel.Expression:
    return cel.compiled(text)


def is_tried(asked: Asked, workflow_id: UUID, tried: Tried | None) -> bool:
    """Whether the run is one of those that the canary's candidate gets."""
    if tried is None or asked.reference is not None or asked.retry_of is not None:
        return False
    return canary.chooses(key_of(asked, tried.sticky_key), workflow_id, tried.content_hash, tried.weight)


def bind(asked: Asked, seen: Seen | None) -> Bound | Refusal:
    """The revision for the run, or why it never starts; reasons as condition ``Accepted`` has them."""
    if seen is None:
        return Refusal("WorkflowNotFound", "There is no such workflow in the control database")
    if seen.suspended:
        return Refusal("Suspended", "The workflow is suspended, by spec.suspend or by disabled in its definition")
    if (refusal := _refusal(asked, seen)) is not None:
        return refusal
    assert seen.candidate is not None
    concurrency = _concurrency(asked, seen)
    alike = asked.fingerprint is not None and seen.settings.get("concurrency") is None
    if concurrency is Concurrency.FORBID and (seen.unfinished_alike if alike else seen.unfinished):
        whose = "of the workflow for this alert" if alike else "of the workflow"
        return Refusal("ConcurrencyForbidden", f"A run {whose} has not ended, and another is forbidden until then")
    return Bound(
        number=seen.candidate.number,
        content_hash=seen.candidate.content_hash,
        selection=_selection(asked, seen),
        concurrency=concurrency,
        max_attempts=int(seen.settings.get("maxAttempts") or MAX_ATTEMPTS),
        try_number=seen.try_number + 1,
        lock=f"{seen.workflow_id}/{asked.fingerprint}" if concurrency is Concurrency.QUEUE else None,
    )


def _selection(asked: Asked, seen: Seen) -> Selection:
    if asked.reference is not None or asked.retry_of is not None:
        return "Pinned"
    assert seen.candidate is not None
    return "Canary" if seen.tried is not None and seen.tried.number == seen.candidate.number else "Active"


def _refusal(asked: Asked, seen: Seen) -> Refusal | None:
    found = seen.candidate
    if asked.retry_of is not None and seen.try_number == 0:
        return Refusal("RevisionNotFound", "The run that is to be tried again is none of this workflow")
    if found is None and asked.reference is not None:
        return Refusal("RevisionNotFound", f"There is no revision for {asked.reference}")
    if found is None:
        return Refusal("RevisionNotFound", "No revision of the workflow is active")
    version = f"v{found.number} ({found.content_hash[:SHORT_HASH]})"
    if found.flaw is not None:
        return Refusal("RevisionInvalid", f"Revision {version} cannot run: {found.flaw}")
    if found.denied is not None:
        return Refusal("RevisionNotApproved", f"Revision {version} was denied: {found.denied}")
    if found.rejected is not None:
        return Refusal("RevisionNotApproved", f"Revision {version} was rejected ({found.rejected})")
    passed = found.was_active or found.approved or _selection(asked, seen) == "Canary"
    if not passed and not asked.unreleased:
        return Refusal("RevisionNotApproved", f"Revision {version} was never active; deploy it first")
    if not asked.by_itself:
        try:
            inputs.filled(seen.inputs, asked.inputs)
        except InvalidInputs as fault:
            return Refusal(
                "InvalidInputs", f"Revision {version} does not take these {fault}. Correct them and ask again"
            )
    return None


def _concurrency(asked: Asked, seen: Seen) -> Concurrency:
    """What the workflow's spec says; else what the definition says, which is about events of one alert (`keep.md` 8.1)."""
    if (given := seen.settings.get("concurrency")) is not None:
        return Concurrency(given)
    if asked.fingerprint is None:
        return Concurrency.ALLOW
    return _BY_STRATEGY.get(seen.strategy, Concurrency.QUEUE)
