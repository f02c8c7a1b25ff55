"""Type ``keep``: the alerts of the tenant, asked in a step and made in an action."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from keep_operator.domain.events import cel, filters
from keep_operator.domain.events.cel import EvaluationFailed, Scene
from keep_operator.domain.grammar import expressions
from keep_operator.domain.grammar.triggers import Filter
from keep_operator.resources.shapes import parse_duration
from keep_operator.runner.actions import parameters
from keep_operator.runner.actions.call import ActionFailed, Alerts, Call, Outcome

# Alerts that one step looks at, and that it gives back.
LOOKED_AT: Final = 5_000
GIVEN: Final = 1_000
# As in Keep: alerts that a CEL expression brings where no limit is said, days that are looked back.
_LIMIT: Final = 100
_DAYS: Final = 1
_MOST_DAYS: Final = 3_650
_NAMED: Final = 10

# At DEBUG it tells what each alert says.
logging.getLogger("celpy").setLevel(logging.WARNING)

Test = Callable[[Mapping[str, Any]], bool]


async def find(call: Call) -> Outcome:
    """The alerts that pass ``filters`` (version 1), or for which ``filter`` is true (version 2), the newest first."""
    alerts, now = _alerts(call), _alerts(call).now()
    test, limit = await asyncio.to_thread(_test, call)
    since, until = _time(call, now)
    seen = await alerts.heard(since, until, LOOKED_AT + 1)
    found = await asyncio.to_thread(_passing, seen[:LOOKED_AT], test, limit, time.monotonic() + call.timeout_s)
    said = []
    if len(seen) > LOOKED_AT:
        said.append(f"only the newest {LOOKED_AT:,} alerts of that time were looked at")
    if not parameters.flag(call, call.parameters.get("distinct"), "distinct", True):
        said.append("distinct: false has no effect: of each alert the last event is kept")
    return Outcome(found, "; ".join(said))


def _test(call: Call) -> tuple[Test, int]:
    version = parameters.number(call, "version", 1)
    if version == 1:
        given = parameters.structure(call, "filters", list)
        if given is None:
            raise ActionFailed(
                "keep: the parameter filters is needed, and missing or empty; or say version 2 and filter"
            )
        test = filters.test_of([_filter(each) for each in given])
        if test is None:
            raise ActionFailed("keep: every one of the filters has an empty value")
        return test, min(parameters.number(call, "limit", GIVEN), GIVEN)
    if version != 2:
        raise ActionFailed("keep: version must be 1 (filters) or 2 (filter)")
    text = parameters.needed(call, "filter")
    if (fault := expressions.fault(text)) is not None:
        raise ActionFailed(f"keep: filter {fault}")
    try:
        expression = cel.compiled(text)
    except EvaluationFailed as failure:
        raise ActionFailed(f"keep: filter {failure}") from None

    def matches(alert: Mapping[str, Any]) -> bool:
        try:
            return expression.matches(Scene(alert))
        except EvaluationFailed:  # this alert has not what it asks for
            return False

    return matches, min(parameters.number(call, "limit", _LIMIT), GIVEN)


def _filter(given: Any) -> Filter:
    if isinstance(given, dict) and isinstance(given.get("key"), str):
        value = given.get("value")
        if isinstance(value, str | bool | int | float):
            return Filter(given["key"], value, given.get("exclude") is True)
    raise ActionFailed("keep: each of the filters must be an object with key and value")


def _time(call: Call, now: datetime) -> tuple[datetime, datetime]:
    given = parameters.structure(call, "timerange", dict) or {}
    days = parameters.number(call, "time_delta", _DAYS)
    if not 0 < days <= _MOST_DAYS:
        raise ActionFailed(f"keep: time_delta must be a number of days from 1 to {_MOST_DAYS:,}")
    until = _moment(given.get("to", "now"), "to", now)
    since = _moment(given["from"], "from", now) if "from" in given else until - timedelta(days=days)
    if since > until:
        raise ActionFailed("keep: timerange.from must be before timerange.to")
    return since, until


def _moment(given: Any, name: str, now: datetime) -> datetime:
    if given in (None, "", "now"):
        return now
    try:
        at = datetime.fromisoformat(str(given))
    except ValueError:
        raise ActionFailed(f"keep: timerange.{name} must be a time such as 2026-01-31T12:00:00Z") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _passing(seen: Sequence[dict[str, Any]], test: Test, limit: int, end: float) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for alert in seen:
        if len(found) >= limit:
            break
        if time.monotonic() > end:
            raise ActionFailed("keep: to look at all alerts takes longer than the step has; ask for less time")
        if test(alert):
            found.append(alert)
    return found


async def make(call: Call) -> Outcome:
    """Have alerts as ``domain.alerting`` has made them of results: what is as it was is left alone."""
    alerts = call.parameters.get("alert")
    if not isinstance(alerts, list):
        raise ActionFailed("keep: the parameter alert is needed: an object with at least a name")
    waits = _waits(call)
    read_only = parameters.flag(call, call.parameters.get("read_only"), "read_only", False)
    told = await _alerts(call).take(alerts, waits, resolves=not read_only)
    counts = Counter(each.outcome for each in told)
    said = [", ".join(f"{number} {outcome}" for outcome, number in sorted(counts.items())) or "no alert"]
    if same := len(alerts) - len({each["fingerprint"] for each in alerts}):
        said.append(f"{same} have the fingerprint of another, which counts; name what differs in fingerprint_fields")
    said += [f"started {each}" for each in _few([name for each in told for name in each.started])]
    said += _few([why for each in told for why in each.not_started])
    result = [
        {key: each.alert.get(key) for key in ("fingerprint", "name", "status", "severity", "labels", "source")}
        | {"outcome": each.outcome}
        for each in told
    ]
    return Outcome(result, "; ".join(said))


def _waits(call: Call) -> timedelta | None:
    given = call.parameters.get("for")
    if given in (None, ""):
        return None
    try:
        return parse_duration(str(given))
    except ValueError:
        raise ActionFailed("keep: for must be a time such as 30s, 5m or 1h") from None


def _few(sentences: Sequence[str]) -> list[str]:
    each = list(dict.fromkeys(sentences))
    return each if len(each) <= _NAMED else [*each[:_NAMED], f"and {len(each) - _NAMED} more"]


def _alerts(call: Call) -> Alerts:
    assert call.alerts is not None
    return call.alerts
