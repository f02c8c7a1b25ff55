"""What an action of type ``keep`` makes: an alert of each result of the step before it, and what becomes of those of before.

::

    results ──► if? ──► alert, filled in from the result ──► fingerprint ──┐
    what is known of these alerts, and of those that this action made ─────┴──► events, to be taken like any others
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from keep_operator.domain import conditions as times
from keep_operator.domain.events.alert import DEFAULTS, FINGERPRINT_LIMIT, Previous, Status
from keep_operator.domain.language import conditions, context, limits, mustache
from keep_operator.domain.language.context import MISSING
from keep_operator.domain.language.expressions import Absent
from keep_operator.domain.language.limits import Budget, Failed, LimitExceeded
from keep_operator.domain.language.mustache import Filling

# Of an alert that has been made: by which workflow, and by which of its actions.
WORKFLOW: Final = "workflowId"
ACTION: Final = "workflowAction"
# Since when an alert is pending.
_ACTIVE: Final = "activeAt"
# What an alert has of its own, so that no result is mistaken for it.
_OWN: Final = frozenset(DEFAULTS) | {
    *(
        "id",
        "name",
        "status",
        "severity",
        "lastReceived",
        "source",
        "labels",
        "annotations",
        "fingerprint",
        "enrichments",
    ),
    *("alert_fingerprint", "alert_enrichment", WORKFLOW, ACTION, _ACTIVE),
}
_SAID: Final = frozenset(
    ("alert", "if", "if_", "for", "for_", "fingerprint", "fingerprint_fields", "override_source_with", "read_only")
)


@dataclass(frozen=True, slots=True)
class Maker:
    """The action that makes alerts."""

    workflow_id: str
    action: str


def parameters(
    given: Mapping[str, Any], results: Any, maker: Maker, filling: Filling, told: str | None = None
) -> dict[str, Any]:
    """The parameters as they are sent: ``alert``, a list; ``for`` and ``read_only``; and those that nobody knows here.

    ``results`` are those of the step before. A list, or the series of a query, makes an alert of each item, and unless ``read_only``
    is said those of before that are not among them are resolved; nothing makes one alert. Without ``alert`` the parameters stay
    as they are. ``told`` is the message of an alert that has none.
    Raises Failed.
    """
    wanted = given.get("alert") or {}
    if not isinstance(wanted, dict):
        raise Failed("with.alert: must be an object")
    if not wanted:
        return dict(given)
    results = _of_query(results)
    items = results if isinstance(results, list) else [results if isinstance(results, dict) else {}]
    if len(items) > limits.ITEMS:
        raise LimitExceeded(
            f"makes an alert of each of {len(items):,} results, and at most {limits.ITEMS:,} are; ask for fewer"
        )
    guard = given.get("if_") or given.get("if")
    alerts = []
    for item in items:
        inside = Filling([item, *filling.scopes], filling.moment, filling.budget)
        if not _holds(guard, inside):
            continue
        alert = _alert(wanted, given, item, maker, inside)
        alerts.append(alert if told is None else {"message": told, **alert})
    sent = {name: value for name, value in given.items() if name not in _SAID}
    if waits := given.get("for_") or given.get("for"):
        sent["for"] = _filled(waits, filling)
    left = not isinstance(results, list) or bool(given.get("fingerprint"))
    return {**sent, "alert": alerts, "read_only": left or given.get("read_only", False)}


def _of_query(results: Any) -> Any:
    """The series in the answer of a database of metrics; any other results as they are."""
    data = results.get("data") if isinstance(results, dict) else None
    found = data.get("result") if isinstance(data, dict) else None
    return found if isinstance(found, list) else results


def _holds(guard: Any, filling: Filling) -> bool:
    if not isinstance(guard, str) or not guard.strip():
        return guard is not False
    try:
        return conditions.holds(guard, filling)
    except Absent:
        return False
    except Failed as error:
        raise type(error)(f"with.if {error}") from None


def _alert(
    wanted: Mapping[str, Any], given: Mapping[str, Any], item: Any, maker: Maker, filling: Filling
) -> dict[str, Any]:
    said = _filled(wanted, filling)
    more = {key: value for key, value in item.items() if key not in _OWN} if isinstance(item, dict) else {}
    alert = {**more, **said, "providerType": "keep", "providerId": maker.workflow_id}
    if given.get("override_source_with"):
        alert["source"] = [_filled(str(given["override_source_with"]), filling)]
    own = _filled(given.get("fingerprint"), filling) or said.get("fingerprint")
    if not isinstance(own, str) or not own:
        known = {**(item if isinstance(item, dict) else {}), **said}
        own = _fingerprint(given.get("fingerprint_fields"), known, maker)
    return {**alert, "fingerprint": own[:FINGERPRINT_LIMIT], WORKFLOW: maker.workflow_id, ACTION: maker.action}


def _fingerprint(fields: Any, known: Mapping[str, Any], maker: Maker) -> str:
    """The same for the same values of these fields, else of its labels, else of its name; other workflows make other alerts."""
    if isinstance(fields, list) and fields:
        paths = [str(each) for each in fields]
    else:
        labels = known.get("labels")
        paths = [f"labels.{each}" for each in sorted(labels)] if isinstance(labels, dict) and labels else ["name"]
    budget = Budget()
    found = [(path, context.walk(known, context.split(path), budget)) for path in paths]
    told = [[path, None if value is MISSING else value] for path, value in found]
    return hashlib.sha256(json.dumps([maker.workflow_id, told], sort_keys=True, default=str).encode()).hexdigest()


def _filled(value: Any, filling: Filling) -> Any:
    """A parameter with every text in it filled in; a name that is not there is nothing, since results differ."""
    match value:
        case str():
            return mustache.render(value, filling)
        case dict():
            return {key: _filled(each, filling) for key, each in value.items()}
        case list():
            return [_filled(each, filling) for each in value]
    return value


def settled(
    wanted: Sequence[Mapping[str, Any]],
    known: Mapping[str, Previous],
    made: Mapping[str, Previous],
    now: datetime,
    *,
    waits: timedelta | None,
    resolves: bool,
) -> list[dict[str, Any]]:
    """The events, each fingerprint once: the last one of it. What is already so makes an event that says nothing new.

    ``known`` is what is known of those that are wanted, ``made`` are the alerts of this action that have not ended. With
    ``waits`` an alert is pending for so long before it is firing.
    """
    events = {
        str(each["fingerprint"]): dict(each) if waits is None else _waiting(each, known, waits, now) for each in wanted
    }
    for fingerprint, previous in made.items() if resolves else ():
        if fingerprint not in events:
            was = {key: value for key, value in previous.event.items() if key not in ("lastReceived", _ACTIVE)}
            events[fingerprint] = {**was, "status": str(Status.RESOLVED)}
    return list(events.values())


def _waiting(
    wanted: Mapping[str, Any], known: Mapping[str, Previous], waits: timedelta, now: datetime
) -> dict[str, Any]:
    before = known.get(str(wanted["fingerprint"]))
    status, since = Status.PENDING, times.to_milliseconds(now)
    if before is not None and before.status in (Status.PENDING, Status.FIRING):
        since = before.event.get(_ACTIVE) or before.event.get("lastReceived") or since
        if before.status == Status.FIRING or now - datetime.fromisoformat(since) >= waits:
            status = Status.FIRING
    return {**wanted, "status": str(status), _ACTIVE: since}
