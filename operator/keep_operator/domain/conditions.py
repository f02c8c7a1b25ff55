"""How findings become `metav1.Condition` lists: one rule for `Ready`, one for transition times.

A *finding* is what a look concluded about one condition. The kind's *living set* are the conditions that
``Ready`` sums up; all others are abnormal-true: present only when True.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

# The API server refuses condition messages above 32,768; a terminal shows far less.
MESSAGE_LIMIT: Final = 1024


class Truth(StrEnum):
    """The three values of a condition's status."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """One condition before it has a time: ``reason`` is CamelCase and listed in docs/operations.md."""

    type: str
    truth: Truth
    reason: str
    message: str = ""


def true(kind: str, reason: str, message: str = "") -> Finding:
    """It is so."""
    return Finding(kind, Truth.TRUE, reason, message)


def false(kind: str, reason: str, message: str) -> Finding:
    """It is not so, and waiting will not heal it."""
    return Finding(kind, Truth.FALSE, reason, message)


def unknown(kind: str, reason: str, message: str) -> Finding:
    """It is not known yet, or waits for something."""
    return Finding(kind, Truth.UNKNOWN, reason, message)


def merge(
    old: Sequence[Mapping[str, Any]], findings: Iterable[Finding], *, generation: int, now: datetime
) -> list[dict[str, Any]]:
    """The findings as conditions; the time of the last transition is kept where the status did not change.

    Conditions of ``old`` that no finding speaks of are dropped. Equal input gives equal output, so that
    comparing the result with what is stored tells whether anything has to be written.
    """
    before = {condition["type"]: condition for condition in old}
    merged = []
    for finding in findings:
        known = before.get(finding.type)
        same = known is not None and known.get("status") == finding.truth
        merged.append(
            {
                "type": finding.type,
                "status": str(finding.truth),
                "reason": finding.reason,
                "message": (finding.message or finding.reason)[:MESSAGE_LIMIT],  # old servers take "" for null
                "observedGeneration": generation,
                "lastTransitionTime": known["lastTransitionTime"] if same and known else rfc3339(now),
            }
        )
    return merged


def ready(living: Sequence[Finding], old: Sequence[Mapping[str, Any]], now: datetime) -> Finding:
    """``Ready`` as the AND of the living set.

    Of several that are not True the first False by latest transition wins, else the first Unknown; its reason
    and message are copied.
    """
    since = {condition["type"]: (condition.get("status"), condition.get("lastTransitionTime", "")) for condition in old}

    def changed_at(finding: Finding) -> str:
        status, at = since.get(finding.type, (None, ""))
        return at if status == finding.truth else rfc3339(now)

    wrong = [finding for finding in living if finding.truth is Truth.FALSE]
    if wrong:
        latest = max(wrong, key=changed_at)
        return false("Ready", latest.reason, latest.message)
    for finding in living:
        if finding.truth is Truth.UNKNOWN:
            return unknown("Ready", finding.reason, finding.message)
    return true("Ready", "Ready", "Everything is as declared")


def since(old: Sequence[Mapping[str, Any]], kind: str) -> datetime | None:
    """When a condition that is True became so; None where it is absent or not True."""
    for condition in old:
        if condition.get("type") == kind and condition.get("status") == Truth.TRUE:
            return datetime.fromisoformat(condition["lastTransitionTime"])
    return None


def rfc3339(at: datetime) -> str:
    """A time as the API has it: whole seconds in UTC with a Z, the only form that `metav1.Time` keeps."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def to_milliseconds(at: datetime) -> str:
    """A time as the API has it where it keeps more than seconds, as `metav1.MicroTime` does."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
