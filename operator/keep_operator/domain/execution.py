"""The record of a run as the rules see it: which revision it is bound to, how far it has come, how it ended.

::

    Queued ──▶ Running ──▶ Succeeded | Failed | TimedOut | Cancelled
       └────────────────────────────────────────────────▲
    A worker that takes a run up raises ``attempt``; whoever has a lower one has lost it, and can write nothing more.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Literal
from uuid import UUID

from keep_operator.domain.history import SHORT_HASH
from keep_operator.domain.ownership import Owner

Trigger = Literal["Manual", "Alert", "Interval", "API", "Incident"]
Mode = Literal["Live", "DryRun"]
Selection = Literal["Pinned", "Active", "Canary"]

# What a run may take in all if nobody says otherwise, and how often workers take it up (`api.md` 4 and 6).
TIMEOUT_S: Final = 3600
MAX_ATTEMPTS: Final = 3
# `iteration` of a step that has no foreach.
ONCE: Final = -1


class State(StrEnum):
    """Where a run is."""

    QUEUED = "Queued"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    TIMED_OUT = "TimedOut"

    @property
    def terminal(self) -> bool:
        """Whether nothing follows."""
        return self not in (State.QUEUED, State.RUNNING)


class Reason(StrEnum):
    """Why a run ended: reasons of condition ``Succeeded``."""

    COMPLETED = "Completed"
    STEP_FAILED = "StepFailed"
    ACTION_NOT_SUPPORTED = "ActionNotSupported"
    TIMED_OUT = "TimedOut"
    CANCELLED = "Cancelled"
    WORKER_LOST = "WorkerLost"


STATE_OF: Final[Mapping[Reason, State]] = {
    Reason.COMPLETED: State.SUCCEEDED,
    Reason.STEP_FAILED: State.FAILED,
    Reason.ACTION_NOT_SUPPORTED: State.FAILED,
    Reason.TIMED_OUT: State.TIMED_OUT,
    Reason.CANCELLED: State.CANCELLED,
    Reason.WORKER_LOST: State.FAILED,
}


class StepState(StrEnum):
    """Where one start of a step is. ``Lost``: the worker that had begun it lost the run."""

    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    SKIPPED = "Skipped"
    LOST = "Lost"


@dataclass(frozen=True, slots=True)
class Run:
    """One run without what it got and gave. ``owner`` is the WorkflowRun that asked for it, where one did.

    ``try_number`` counts the retries that somebody asked for, ``attempt`` how often a worker has taken the run up.
    """

    id: UUID
    tenant_id: str
    workflow_id: UUID
    revision: int
    content_hash: str
    selection: Selection
    trigger: Trigger
    mode: Mode
    state: State
    reason: str | None
    message: str | None
    requested_by: str
    queued_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None
    fingerprint: str | None = None
    tick: datetime | None = None
    owner: Owner | None = None
    retry_of: UUID | None = None
    try_number: int = 1
    attempt: int = 0
    max_attempts: int = MAX_ATTEMPTS
    timeout_s: int = TIMEOUT_S
    cancel_requested: bool = False
    provider_config_hashes: Mapping[str, str] = field(default_factory=dict)
    worker: str | None = None

    @property
    def version(self) -> str:
        """The revision for people: number and the beginning of its hash (A-RUN-10)."""
        return f"v{self.revision} ({self.content_hash[:SHORT_HASH]})"


@dataclass(frozen=True, slots=True)
class Step:
    """One start of a step. ``iteration`` counts through foreach, `ONCE`: there is none; ``attempt`` is the run's.

    ``facts`` is what the run goes on with beside the result; nobody is shown it.
    """

    position: int
    iteration: int
    try_number: int
    attempt: int
    name: str
    kind: Literal["step", "action"]
    type: str
    state: StepState
    side_effects: str
    started_at: datetime
    completed_at: datetime | None = None
    result: Any = None
    result_truncated: bool = False
    message: str | None = None
    facts: Mapping[str, Any] | None = None
