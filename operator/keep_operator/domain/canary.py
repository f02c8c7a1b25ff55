"""A canary: a new revision gets a growing share of the runs, step by step, and all or none of them in the end.

::

    begun ──▶ setWeight ──▶ pause ──▶ analysis ──▶ … ──▶ after the last step: active
                                │          ├── too many runs fail: rejected, the stable one has all runs again
                                │          └── too few runs in time: somebody must say how to go on
                                └── no duration: the same
    time is the database's, of whichever replica asks; while nobody asks, the weight stays and no step passes (A-CAN-8)

What is measured are runs that were asked for since the measurement began, and have ended: of the candidate and of the stable
revision over the same time (A-CAN-4). An analysis that is forgiven a failed measurement begins another one.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from keep_operator.domain import conditions, history
from keep_operator.domain.conditions import Finding
from keep_operator.domain.gates import Guard
from keep_operator.domain.history import Canary
from keep_operator.resources.release import Analysis, CanaryStep

# As many parts as shares are told apart by; a weight of one per cent is a hundred of them.
BUCKETS: Final = 10_000
# Runs tell of their end by themselves; this is for word that was lost.
LOOK_AGAIN: Final = timedelta(seconds=10)
PAUSED: Final = "CanaryPaused"
INCONCLUSIVE: Final = "AnalysisInconclusive"


@dataclass(frozen=True, slots=True)
class Question:
    """Which runs are counted: of one revision, asked for since ``since`` and ended, until ``until`` if that is given."""

    number: int
    since: datetime
    until: datetime | None = None
    mode: str = "Live"


@dataclass(frozen=True, slots=True)
class Stats:
    """What was counted. Cancelled runs are not among ``runs``; ``p95_s`` is None where there are none."""

    runs: int = 0
    failures: int = 0
    p95_s: float | None = None

    @property
    def permille(self) -> int:
        """The failures in a thousand, rounded down."""
        return self.failures * 1000 // self.runs if self.runs else 0

    def exceeds(self, percent: int) -> bool:
        """Whether more than this part of the runs failed; exact, without rounding."""
        return self.failures * 100 > percent * self.runs


@dataclass(frozen=True, slots=True)
class Measured:
    """The answers for a canary: since its measurement began, and of the candidate since the canary began."""

    candidate: Stats = field(default_factory=Stats)
    stable: Stats = field(default_factory=Stats)
    whole: Stats = field(default_factory=Stats)


@dataclass(frozen=True, slots=True)
class Progress:
    """How it goes on: ``canary`` as it shall be, None once it is over, for good or for bad (``failure`` says why).

    ``deployed`` is what to say of it; ``analysis`` are the fields of the status.
    """

    canary: Canary | None
    deployed: Finding
    failure: str | None = None
    analysis: Mapping[str, Any] | None = None
    wake_in: timedelta | None = None


def plan_of(steps: Sequence[CanaryStep]) -> str:
    """The steps as they are kept with a canary: equal texts are equal steps."""
    return history.text([each.model_dump(mode="json", by_alias=True, exclude_none=True) for each in steps])


def begin(candidate: int, stable: int, steps: Sequence[CanaryStep], sticky_key: str | None, now: datetime) -> Canary:
    """A canary that has done nothing yet."""
    return Canary(candidate, stable, plan_of(steps), 0, now, 0, now, now, sticky_key=sticky_key)


def advance(
    canary: Canary,
    steps: Sequence[CanaryStep],
    measured: Measured | None,
    guard: Guard | None,
    now: datetime,
    names: tuple[str, str] = ("the candidate", "the stable revision"),
) -> Progress:
    """As far as it goes at this moment; ``measured`` None: nothing has been counted. Safe to repeat."""
    candidate, stable = names
    if measured is not None and guard is not None and (why := judge_guard(guard, measured.whole)) is not None:
        return _fail(canary, f"{candidate}: {why}", measured.whole)
    if canary.paused is not None:
        return _stand(canary, measured, names)
    while canary.step < len(steps):
        step = steps[canary.step]
        if step.set_weight is not None:
            canary = skip(replace(canary, weight=step.set_weight), now)
            measured = None
            continue
        share = f"{candidate} has {canary.weight} % of the runs, {stable} the rest"
        where = f"step {canary.step + 1} of {len(steps)}"
        if step.pause is not None:
            if step.pause.duration is None:
                message = f"{share}; {where} waits for a person. Decide Promote or Abort."
                return Progress(canary, conditions.unknown("Deployed", PAUSED, message))
            left = canary.step_since + step.pause.duration - now
            if left > timedelta():
                until = conditions.rfc3339(now + left)
                message = f"{share}; {where} is a pause until {until}"
                return Progress(canary, conditions.unknown("Deployed", "CanaryInProgress", message), wake_in=left)
            canary, measured = skip(canary, now), None
            continue
        assert step.analysis is not None
        found = _analyse(step.analysis, canary, measured or Measured(), now)
        if found.passed:
            canary, measured = skip(canary, now), None
            continue
        if found.failed is not None and canary.failed >= step.analysis.failure_limit:
            return _fail(canary, f"{candidate}: {found.failed}", (measured or Measured()).candidate)
        if found.failed is not None:
            canary, measured = replace(canary, failed=canary.failed + 1, measured_since=now), None
            continue
        seen = (measured or Measured()).candidate
        if found.overdue:
            return _stand(replace(canary, paused=INCONCLUSIVE, paused_since=now), measured, names)
        told = {**_told(seen), "verdict": "Pending"}
        message = f"{share}; {where} is an analysis: {found.missing}"
        wake_in = min(LOOK_AGAIN, max(timedelta(), canary.measured_since + step.analysis.window - now))
        return Progress(canary, conditions.unknown("Deployed", "CanaryInProgress", message), None, told, wake_in)
    return Progress(None, conditions.true("Deployed", "RevisionActive", f"{candidate} is active"))


def skip(canary: Canary, now: datetime) -> Canary:
    """The next step begins, whatever the one before has come to."""
    return replace(canary, step=canary.step + 1, step_since=now, measured_since=now, failed=0)


def pause(canary: Canary, now: datetime) -> Canary:
    """The weight stays and no step passes, until somebody says how to go on."""
    return replace(canary, paused=PAUSED, paused_since=now)


def resume(canary: Canary, now: datetime) -> Canary:
    """It goes on where it was: a pause has as much of its time left, an analysis counts anew."""
    assert canary.paused_since is not None
    away = now - canary.paused_since
    return replace(canary, paused=None, paused_since=None, step_since=canary.step_since + away, measured_since=now)


def judge_guard(guard: Guard, seen: Stats) -> str | None:
    """Why what has become active is taken back; None: nothing speaks against it, or too little is known (A-CAN-7)."""
    if seen.runs < guard.runs or not seen.exceeds(guard.percent):
        return None
    return f"{seen.failures} of {seen.runs} runs failed, more than the {guard.percent} % of autoRollback"


def bucket(key: str, lineage: UUID, content_hash: str) -> int:
    """Where a key falls for one candidate, from 0 to 9,999: the same for whoever asks (A-CAN-1).

    Runs below a hundred times the weight are the candidate's, so raising it takes keys from the stable revision and none from
    the candidate. Another candidate is met by other keys.
    """
    digest = hashlib.sha256(f"{lineage}/{content_hash}/{key}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8]) % BUCKETS


def chooses(key: str, lineage: UUID, content_hash: str, weight: int) -> bool:
    """Whether a run with this key is the candidate's."""
    return bucket(key, lineage, content_hash) < weight * (BUCKETS // 100)


@dataclass(frozen=True, slots=True)
class _Finding:
    passed: bool = False
    failed: str | None = None
    overdue: bool = False
    missing: str = ""


def _analyse(analysis: Analysis, canary: Canary, measured: Measured, now: datetime) -> _Finding:
    """One measurement; no data is not success (A-CAN-4)."""
    seen, stable = measured.candidate, measured.stable
    enough = seen.runs >= analysis.min_runs
    if enough and (failed := _too_bad(analysis, seen, stable)) is not None:
        return _Finding(failed=failed)
    compares = analysis.max_error_rate_delta_percent is not None
    if enough and not (compares and not stable.runs):
        return _Finding(passed=True)
    missing = f"{seen.runs} of the {analysis.min_runs} runs that it needs have ended"
    if enough:
        missing = "the stable revision has had no run to compare with"
    return _Finding(overdue=now >= canary.measured_since + analysis.window, missing=missing)


def _too_bad(analysis: Analysis, seen: Stats, stable: Stats) -> str | None:
    told = f"{seen.failures} of {seen.runs} runs failed"
    if seen.exceeds(analysis.max_failure_rate_percent):
        return f"{told}, more than {analysis.max_failure_rate_percent} %"
    delta = analysis.max_error_rate_delta_percent
    if delta is not None and stable.runs:
        # Cross-multiplied: the rates' difference in per cent, without rounding.
        more = (seen.failures * stable.runs - stable.failures * seen.runs) * 100
        if more > delta * seen.runs * stable.runs:
            return (
                f"{told}, and {stable.failures} of {stable.runs} of the stable revision: more than {delta} points worse"
            )
    longest = analysis.max_p95_duration
    if longest is not None and seen.p95_s is not None and seen.p95_s > longest.total_seconds():
        return f"one in twenty runs took longer than {seen.p95_s:.1f} s, more than {longest.total_seconds():g} s"
    return None


def _fail(canary: Canary, why: str, seen: Stats) -> Progress:
    del canary
    return Progress(
        None, conditions.false("Deployed", "AutoRolledBack", why), why, {**_told(seen), "verdict": "Failed"}
    )


def _stand(canary: Canary, measured: Measured | None, names: tuple[str, str]) -> Progress:
    """It waits for a person, with the share that it has."""
    assert canary.paused is not None
    share = f"{names[0]} keeps {canary.weight} % of the runs, {names[1]} the rest"
    if canary.paused != INCONCLUSIVE:
        message = f"{share}, until somebody decides Resume, Promote or Abort."
        return Progress(canary, conditions.unknown("Deployed", canary.paused, message))
    message = (
        f"{share}: too few runs have ended in time to judge it. Decide Promote, Abort, or Resume to measure again."
    )
    told = {**_told((measured or Measured()).candidate), "verdict": "Inconclusive"}
    return Progress(canary, conditions.unknown("Deployed", INCONCLUSIVE, message), analysis=told)


def _told(seen: Stats) -> dict[str, Any]:
    return {"runs": seen.runs, "failures": seen.failures, "failurePermille": seen.permille}
