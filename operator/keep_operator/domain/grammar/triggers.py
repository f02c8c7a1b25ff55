"""What starts a workflow: by hand, at an interval, by an alert, by an incident."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from keep_operator.domain.grammar import expressions
from keep_operator.domain.grammar.faults import Findings

TYPES: Final = frozenset({"manual", "interval", "alert", "incident"})
INCIDENT_EVENTS: Final = frozenset({"created", "updated", "deleted"})
# Seconds; the column of Keep that drives its scheduler is an int4.
LONGEST_INTERVAL_S: Final = 2**31 - 1

# Characters of all expressions together; reading them takes about 0.1 ms for each.
CEL_LIMIT: Final = 4 * expressions.LIMIT

_INTERVAL: Final = re.compile(r"([0-9]{1,10})([mhd]?)")
_UNITS_S: Final = {"": 1, "m": 60, "h": 3600, "d": 86_400}
_KEYS: Final = {
    "manual": frozenset({"type"}),
    "interval": frozenset({"type", "value"}),
    "alert": frozenset({"type", "filters", "cel", "only_on_change", "severity_changed"}),
    "incident": frozenset({"type", "events"}),
}
_FILTER_KEYS: Final = frozenset({"key", "value", "exclude"})
# The regular expressions that Keep turns into CEL: a|b, ^$, .*, .*x.*, x.*
_PLAIN: Final = r"[^\\^$.|?*+()\[\]{}]*"
_CONVERTIBLE: Final = re.compile(rf"\(?{_PLAIN}(\|{_PLAIN})*\)?|\^\$|\.\*|\.\*{_PLAIN}\.\*|{_PLAIN}\.\*")


@dataclass(frozen=True, slots=True)
class Manual:
    """Started by a person or a program; every workflow can be, this only says that it is meant to."""

    path: str


@dataclass(frozen=True, slots=True)
class Interval:
    """Started again and again, ``every`` so often."""

    path: str
    every: timedelta


@dataclass(frozen=True, slots=True)
class Filter:
    """A field of an alert and what it must be, or with ``exclude`` must not be; ``r"…"`` is a regular expression."""

    key: str
    value: str | bool | int | float
    exclude: bool = False


@dataclass(frozen=True, slots=True)
class Alert:
    """Started by each alert that passes ``filters``, or else ``cel``; with neither (None) by each, with empty ones by none.

    ``only_on_change`` names fields, each of which must differ from the alert's last event.
    """

    path: str
    filters: tuple[Filter, ...] | None = None
    cel: str | None = None
    only_on_change: tuple[str, ...] = ()
    severity_changed: bool = False


@dataclass(frozen=True, slots=True)
class Incident:
    """Started by what happens to an incident: created, updated, deleted."""

    path: str
    events: tuple[str, ...]


Trigger = Manual | Interval | Alert | Incident


def read(definition: Mapping[str, Any], findings: Findings) -> tuple[Trigger, ...]:
    """The triggers that can be read, the legacy ``interval`` among them; faults go into ``findings``."""
    found: list[Trigger] = []
    raw = definition.get("triggers")
    if raw is not None and not isinstance(raw, list):
        findings.fault("triggers", "must be a list")
        raw = None
    written = 0
    for index, each in enumerate(raw or ()):
        path = f"triggers[{index}]"
        written += len(cel) if isinstance(each, dict) and isinstance(cel := each.get("cel"), str) else 0
        if written > CEL_LIMIT:
            findings.fault(f"{path}.cel", f"is too much: all CEL together may have {CEL_LIMIT:,} characters")
            break
        if not isinstance(each, dict):
            findings.fault(path, "must be an object, such as {type: manual}")
        elif (trigger := _read_one(each, path, findings)) is not None:
            found.append(trigger)
    if (legacy := definition.get("interval")) is not None:
        findings.warn("interval", "is the old form; write triggers: [{type: interval, value: …}]")
        # Zero is how the old form says that there is none.
        if legacy != 0 and (every := _interval(legacy, "interval", findings)) is not None:
            found.append(Interval("interval", every))
    if not raw and "interval" not in definition:
        findings.warn("triggers", "is missing, so nothing starts this workflow; write at least {type: manual}")
    intervals = [trigger for trigger in found if isinstance(trigger, Interval)]
    for trigger in intervals[:-1]:
        findings.warn(trigger.path, f"has no effect: of several intervals the last one wins, {intervals[-1].path}")
    return tuple(found)


def interval(value: object) -> timedelta:
    """The time of an interval: whole seconds, or ``5m``, ``2h``, ``1d``. Raises ValueError, the rest of a sentence."""
    match value:
        case bool() | float() | None:
            raise ValueError("must be whole seconds, or a number with a unit such as 5m, 2h or 1d")
        case int():
            seconds = value
        case str() if (parts := _INTERVAL.fullmatch(value)) is not None:
            seconds = int(parts[1]) * _UNITS_S[parts[2]]
        case str() if re.fullmatch(r"[0-9]+s", value):
            raise ValueError(f"has a unit that Keep does not know; write the seconds alone: {value[:-1][:20]}")
        case str():
            raise ValueError("must be whole seconds, or a number with a unit such as 5m, 2h or 1d")
        case _:
            raise ValueError("must be whole seconds, or a number with a unit such as 5m, 2h or 1d")
    if not 1 <= seconds <= LONGEST_INTERVAL_S:
        raise ValueError(f"must be at least 1 second and at most {LONGEST_INTERVAL_S}")
    return timedelta(seconds=seconds)


def _interval(value: object, path: str, findings: Findings) -> timedelta | None:
    try:
        return interval(value)
    except ValueError as error:
        findings.fault(path, str(error))
        return None


def _read_one(raw: dict[str, Any], path: str, findings: Findings) -> Trigger | None:
    kind = raw.get("type")
    if kind is None:
        findings.fault(f"{path}.type", f"is required: one of {', '.join(sorted(TYPES))}")
        return None
    if not isinstance(kind, str) or kind not in TYPES:
        findings.fault(f"{path}.type", "is no trigger that Keep has", meant=(kind, TYPES))
        return None
    findings.unknown_keys(path, raw, _KEYS[kind])
    match kind:
        case "manual":
            return Manual(path)
        case "interval":
            if "value" not in raw:
                findings.fault(f"{path}.value", "is required: whole seconds, or such as 5m, 2h or 1d")
                return None
            every = _interval(raw["value"], f"{path}.value", findings)
            return None if every is None else Interval(path, every)
        case "alert":
            return _alert(raw, path, findings)
        case _:
            return _incident(raw, path, findings)


def _alert(raw: dict[str, Any], path: str, findings: Findings) -> Alert:
    cel, filters = raw.get("cel"), raw.get("filters")
    if "cel" in raw:
        if not isinstance(cel, str):
            findings.fault(f"{path}.cel", "must be text, a CEL expression")
            cel = None
        elif (fault := expressions.fault(cel)) is not None:
            findings.fault(f"{path}.cel", f"{fault}; this trigger would never start the workflow")
    if cel and filters:
        findings.warn(f"{path}.cel", "has no effect: where both are given, filters win; remove one of the two")
    only_on_change = raw.get("only_on_change") or []
    if not _texts(only_on_change):
        findings.fault(f"{path}.only_on_change", "must be a list of the names of fields")
        only_on_change = []
    severity_changed = raw.get("severity_changed", False)
    if not isinstance(severity_changed, bool):
        findings.fault(f"{path}.severity_changed", "must be true or false")
    return Alert(
        path, _filters(filters, f"{path}.filters", findings), cel, tuple(only_on_change), severity_changed is True
    )


def _filters(raw: object, path: str, findings: Findings) -> tuple[Filter, ...] | None:
    if raw is None:
        return None
    if not isinstance(raw, list):
        findings.fault(path, "must be a list, such as [{key: source, value: prometheus}]")
        return ()
    if not raw:
        findings.warn(path, "is empty, so this trigger never starts the workflow; leave it out to take every alert")
    found = []
    for index, each in enumerate(raw):
        place = f"{path}[{index}]"
        if not isinstance(each, dict):
            findings.fault(place, "must be an object with key and value")
            continue
        findings.unknown_keys(place, each, _FILTER_KEYS)
        key, value, exclude = each.get("key"), each.get("value"), each.get("exclude", False)
        if not isinstance(key, str) or not key:
            findings.fault(f"{place}.key", "is required: the name of a field of the alert")
        if not isinstance(value, str | bool | int | float):
            findings.fault(f"{place}.value", "is required: text, a number, true or false")
        elif isinstance(value, str) and value.startswith('r"'):
            _check_pattern(value, f"{place}.value", findings)
        if not isinstance(exclude, bool):
            findings.fault(f"{place}.exclude", "must be true or false")
        if isinstance(key, str) and isinstance(value, str | bool | int | float):
            found.append(Filter(key, value, exclude is True))
    return tuple(found)


def _check_pattern(value: str, path: str, findings: Findings) -> None:
    pattern = value[2:-1]
    if not value.endswith('"') or len(value) < 3:
        findings.fault(path, 'is a regular expression without an end; write r"…"')
    elif _CONVERTIBLE.fullmatch(pattern) is None:
        findings.fault(
            path,
            "is a regular expression that Keep cannot turn into CEL, so the trigger would never start the workflow; "
            "use cel with matches()",
        )


def _incident(raw: dict[str, Any], path: str, findings: Findings) -> Incident | None:
    events = raw.get("events")
    if not _texts(events) or not events:
        findings.fault(f"{path}.events", "is required: a list of created, updated, deleted")
        return None
    for index, event in enumerate(events):
        if event not in INCIDENT_EVENTS:
            findings.fault(
                f"{path}.events[{index}]", "is nothing that happens to an incident", meant=(event, INCIDENT_EVENTS)
            )
    return Incident(path, tuple(event for event in events if event in INCIDENT_EVENTS))


def _texts(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(each, str) for each in value)
