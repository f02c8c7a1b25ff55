"""Incidents, which are accepted as posted events only (A-EVT-4): what happened, and the incident as it is now."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from keep_operator.domain.events.content import EventInvalid
from keep_operator.domain.grammar.triggers import INCIDENT_EVENTS

# Characters of an id; Keep's are UUIDs.
_LONGEST_ID = 128


@dataclass(frozen=True)
class Incident:
    """What happened to an incident: ``event`` is created, updated or deleted; ``fields`` is all that was posted of it."""

    id: str
    event: str
    fields: Mapping[str, Any] = field(hash=False)

    @property
    def digest(self) -> str:
        """The same for two deliveries of one event."""
        told = json.dumps([self.event, self.fields], sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(told.encode()).hexdigest()


def is_one(raw: object) -> bool:
    """Whether a body looks like an event about an incident."""
    return isinstance(raw, dict) and "incident" in raw and "name" not in raw


def read(raw: object, path: str) -> Incident:
    """``{"event": "created", "incident": {"id": …}}``. Raises EventInvalid."""
    if not isinstance(raw, dict):
        raise EventInvalid(path, "must be an object with event and incident")
    event, fields = raw.get("event"), raw.get("incident")
    if not isinstance(event, str) or event not in INCIDENT_EVENTS:
        raise EventInvalid(f"{path}.event", f"must be one of {', '.join(sorted(INCIDENT_EVENTS))}")
    if not isinstance(fields, dict):
        raise EventInvalid(f"{path}.incident", "must be an object with at least an id")
    told = fields.get("id")
    if not isinstance(told, str) or not 1 <= len(told) <= _LONGEST_ID:
        raise EventInvalid(f"{path}.incident.id", f"is required: text of at most {_LONGEST_ID} characters")
    return Incident(told, event, fields)
