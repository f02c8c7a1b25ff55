"""An alert, whatever it was posted as: the fields that Keep gives one, its fingerprint, and what makes it a duplicate.

::

    a body ──► content.clean ──► alertmanager.read, or read ──► Alert ──► matching

"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from typing import Any, Final

from keep_operator.domain import conditions
from keep_operator.domain.events import causes
from keep_operator.domain.events.content import EventInvalid, Json

# Characters of a fingerprint that count, as in Keep.
FINGERPRINT_LIMIT: Final = 255


class Status(StrEnum):
    """How an alert stands."""

    FIRING = "firing"
    RESOLVED = "resolved"
    ACKNOWLEDGED = "acknowledged"
    SUPPRESSED = "suppressed"
    PENDING = "pending"
    MAINTENANCE = "maintenance"


class Severity(StrEnum):
    """How bad an alert is."""

    CRITICAL = "critical"
    HIGH = "high"
    WARNING = "warning"
    INFO = "info"
    LOW = "low"

    @property
    def order(self) -> int:
        """Five for the worst, one for the least."""
        return ORDER[self]


ORDER: Final[Mapping[str, int]] = {str(severity): 5 - index for index, severity in enumerate(Severity)}
_STATUSES: Final = frozenset(str(each) for each in Status)
_BY_ORDER: Final = {severity.order: severity for severity in Severity}

# What an alert has though nobody says it; expressions may ask for any of them.
DEFAULTS: Final[Mapping[str, Any]] = {
    "firingStartTime": None,
    "firingStartTimeSinceLastResolved": None,
    "firingCounter": 0,
    "unresolvedCounter": 0,
    "environment": None,
    "isFullDuplicate": False,
    "isPartialDuplicate": False,
    "duplicateReason": None,
    "service": None,
    "apiKeyRef": None,
    "message": None,
    "description": None,
    "description_format": None,
    "pushed": True,
    "event_id": None,
    "url": None,
    "imageUrl": None,
    "deleted": False,
    "dismissUntil": None,
    "dismissed": False,
    "assignee": None,
    "providerId": None,
    "providerType": None,
    "note": None,
    "startedAt": None,
    "isNoisy": False,
    "enriched_fields": [],
    "incident": None,
}
# What differs from one delivery of an event to the next, or is ours.
_OF_THE_DELIVERY: Final = frozenset({"lastReceived", "startedAt", "firingStartTime", "event_id", causes.FIELD})


@dataclass(frozen=True)
class Alert:
    """One event of an alert; ``fields`` has all of it, as workflows see it in ``alert``."""

    fingerprint: str
    status: Status
    severity: Severity
    fields: Mapping[str, Any] = field(hash=False)

    @cached_property
    def digest(self) -> str:
        """The same for two deliveries of one event: all but what the delivery itself adds (A-EVT-1)."""
        return digest_of(self.fields)

    @property
    def chain(self) -> tuple[str, ...]:
        """The workflows whose runs led to it; none where it was posted."""
        return causes.of(self.fields)

    def made_by(self, workflows: tuple[str, ...]) -> "Alert":
        """The same, as the last of these workflows has made it."""
        return replace(self, fields={**self.fields, causes.FIELD: list(workflows)})

    def after(self, previous: "Previous | None") -> "Alert":
        """The alert with the times that only its past can tell: when it was first seen, and since when it fires."""
        received = self.fields["lastReceived"]
        started = received if previous is None else previous.first_seen or received
        firing = None
        if self.status is not Status.RESOLVED:
            was = None if previous is None or previous.status == Status.RESOLVED else previous.event
            firing = received if was is None else was.get("firingStartTime") or received
        return replace(self, fields={**self.fields, "startedAt": started, "firingStartTime": firing})

    def enriched(self, enrichments: Mapping[str, Any]) -> Mapping[str, Any]:
        """The fields with what workflows and people have added to the alert before."""
        enrichments = {key: value for key, value in enrichments.items() if key != causes.FIELD}
        if not enrichments:
            return self.fields
        named = sorted({*self.fields.get("enriched_fields", ()), *enrichments})
        return {**self.fields, **enrichments, "enriched_fields": named}


@dataclass(frozen=True, slots=True)
class Previous:
    """What is known of an alert from earlier events: its last one, as it was posted, and what was added to it."""

    event: Mapping[str, Any]
    status: str
    severity: str
    digest: str
    first_seen: str | None = None
    enrichments: Mapping[str, Any] = field(default_factory=dict)


def digest_of(fields: Mapping[str, Any]) -> str:
    """The digest of an alert with these fields."""
    said = {key: value for key, value in fields.items() if key not in _OF_THE_DELIVERY}
    return hashlib.sha256(json.dumps(said, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def read(raw: object, path: str, now: datetime) -> Alert:
    """An alert in Keep's own format. Raises EventInvalid.

    As Keep does, it takes an unknown status for firing and an unknown severity for info.
    """
    if not isinstance(raw, dict):
        raise EventInvalid(path, "must be an object with at least a name")
    name = raw.get("name")
    if not isinstance(name, str) or not name.strip():
        raise EventInvalid(f"{path}.name", "is required: the name of the alert, as text")
    labels = raw.get("labels")
    if labels is not None and not isinstance(labels, dict):
        raise EventInvalid(f"{path}.labels", "must be an object")
    given = raw.get("fingerprint")
    if given is not None and not isinstance(given, str):
        raise EventInvalid(f"{path}.fingerprint", "must be text")
    fields = {**DEFAULTS, **{key: value for key, value in raw.items() if key not in ("deletedAt", "assignees")}}
    return made(
        {
            **fields,
            "id": raw.get("id") or None,
            "name": name,
            "source": _sources(raw.get("source"), f"{path}.source"),
            "labels": labels or {},
            "dismissed": _is_true(raw.get("dismissed")),
            "lastReceived": _moment(raw.get("lastReceived"), f"{path}.lastReceived", now),
        },
        fingerprint=given or None,
        status=raw.get("status"),
        severity=raw.get("severity"),
    )


def made(fields: Json, *, fingerprint: str | None, status: object, severity: object) -> Alert:
    """The alert of these fields; without a fingerprint its name is what makes it itself, as in Keep."""
    known = fingerprint[:FINGERPRINT_LIMIT] if fingerprint else hashlib.sha256(fields["name"].encode()).hexdigest()
    told, graded = status_of(status), severity_of(severity)
    fields = {key: value for key, value in fields.items() if key != causes.FIELD}  # which nobody says of himself
    whole = {**fields, "fingerprint": known, "status": str(told), "severity": str(graded)}
    return Alert(known, told, graded, whole if whole["id"] else {**whole, "id": known})


def status_of(told: object) -> Status:
    """The status of that name; firing where there is none of it."""
    return Status(told) if isinstance(told, str) and told in _STATUSES else Status.FIRING


def severity_of(told: object) -> Severity:
    """The severity of that name or number; info where there is none of it."""
    if isinstance(told, str) and told.lower() in ORDER:
        return Severity(told.lower())
    return _BY_ORDER.get(told, Severity.INFO) if isinstance(told, int) and not isinstance(told, bool) else Severity.INFO


def _sources(raw: object, path: str) -> list[str]:
    if raw is None or raw in ([], ""):
        return ["keep"]
    if isinstance(raw, str):
        return [raw]
    if not isinstance(raw, list) or not all(isinstance(each, str) for each in raw):
        raise EventInvalid(path, "must be text, or a list of texts")
    return list(raw)


def _is_true(raw: object) -> bool:
    return raw.lower() == "true" if isinstance(raw, str) else bool(raw)


def _moment(raw: object, path: str, now: datetime) -> str:
    """A time in UTC to the millisecond: from ISO 8601, or from seconds since 1970."""
    if raw is None or raw == "":
        return conditions.to_milliseconds(now)
    try:
        if isinstance(raw, int | float) and not isinstance(raw, bool):
            return conditions.to_milliseconds(datetime.fromtimestamp(raw, UTC))
        if isinstance(raw, str):
            return conditions.to_milliseconds(_parsed(raw))
    except (ValueError, OverflowError, OSError):
        pass
    raise EventInvalid(path, "must be a time such as 2026-01-31T12:00:00Z, or seconds since 1970")


def _parsed(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        seconds = float(text.removesuffix("Z"))
        if not math.isfinite(seconds):
            raise
        return datetime.fromtimestamp(seconds, UTC)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
