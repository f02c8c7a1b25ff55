"""The runs of a workflow, the newest first, by version, state, trigger and time; and how each version did."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

from starlette.responses import Response

from keep_operator.cluster.reviews import Right
from keep_operator.console import past, problems
from keep_operator.console import runs as api
from keep_operator.console.described import moment
from keep_operator.console.pages import place
from keep_operator.console.pages.place import Subject
from keep_operator.console.pages.visit import Visit, address
from keep_operator.console.schemas import TRIGGERS
from keep_operator.domain.execution import Run, State
from keep_operator.resources.kinds import WORKFLOW_RUNS
from keep_operator.store import past_runs
from keep_operator.store.past_runs import COUNTED, Rate, Wanted

# Runs on one page.
SHOWN: Final = 50
# Versions that rates are told of.
RATED: Final = 50
# Versions in the chart: more bars are too thin to be told apart.
DRAWN: Final = 20
STATES: Final = tuple(str(each) for each in State)


async def show(visit: Visit) -> Response:
    """The page; `after` is a cursor of the list."""
    about = await place.subject(visit)
    await visit.admit(Right("get", WORKFLOW_RUNS, about.place.namespace))
    wanted = _wanted(visit, about)
    after = visit.query("after")
    async with visit.here.look() as conn:
        found = await past.page(past_runs.page(conn, about.lineage.id, wanted, after or None, SHOWN))
        rates = await past_runs.rates(conn, about.lineage.id, wanted)
    query = [
        ("version", visit.query("version", 72)),
        *(("state", each) for each in wanted.states or ()),
        ("trigger", wanted.trigger or ""),
        ("from", visit.query("from")),
        ("until", visit.query("until")),
    ]
    values: dict[str, Any] = {
        "about": about,
        "rows": [row(each) for each in found.items],
        "next": _behind(about, query, found.after) if found.after else None,
        "begin": _behind(about, query) if after else None,
        "filtered": any(value for _, value in query),
        "states": STATES,
        "triggers": TRIGGERS,
        "wanted": wanted,
        "version": visit.query("version", 72),
        "since": _local(wanted.since),
        "until": _local(wanted.until),
        "rates": [_rate(about, each) for each in rates[:RATED]],
        "counted": COUNTED,
        "oldest": min((each.since for each in rates), default=None),
        "charts": _charts(rates[:DRAWN][::-1]),
    }
    return visit.show("runs.html", **values)


def _wanted(visit: Visit, about: Subject) -> Wanted:
    """The filters. Raises Problem: 400, 404."""
    version, trigger = visit.query("version", 72), visit.query("trigger")
    states = [each for each in dict.fromkeys(visit.request.query_params.getlist("state")) if each]
    if unknown := [each for each in states if each not in STATES]:
        raise problems.bad(
            "ParameterInvalid", f"{unknown[0][:40]} is no state of a run; there are {', '.join(STATES)}."
        )
    if trigger and trigger not in TRIGGERS:
        raise problems.bad("ParameterInvalid", f"{trigger[:40]} is no trigger; there are {', '.join(TRIGGERS)}.")
    return Wanted(
        api.numbers_of(about.lineage, version, about.place) if version else None,
        states or None,
        trigger or None,
        _moment(visit, "from"),
        _moment(visit, "until"),
    )


def _moment(visit: Visit, name: str) -> datetime | None:
    """A time as forms and as the API have it; without an offset it is in UTC. Raises Problem 400."""
    text = visit.query(name, 40)
    found = moment(text) or moment(f"{text}Z")
    if text and found is None:
        raise problems.bad("ParameterInvalid", f"The parameter {name} must be a time such as 2026-06-01T08:30.")
    return found


def _local(at: datetime | None) -> str:
    """As a form's field has it."""
    return "" if at is None else at.strftime("%Y-%m-%dT%H:%M")


def _behind(about: Subject, query: Sequence[tuple[str, str]], after: str = "") -> str:
    told = [(name, value) for name, value in [*query, ("after", after)] if value]
    return f"{about.href('runs')}?{urlencode(told)}" if told else about.href("runs")


def row(run: Run) -> dict[str, Any]:
    """A run in a list."""
    return {"run": run, "href": address("r", run.id), "took_s": took_s(run)}


def took_s(run: Run) -> float | None:
    """How long it ran; None: it has not ended, or never began."""
    if run.started_at is None or run.completed_at is None:
        return None
    return (run.completed_at - run.started_at).total_seconds()


def _rate(about: Subject, each: Rate) -> dict[str, Any]:
    return {
        "rate": each,
        "name": f"v{each.number}",
        "marks": about.marks(each.number),
        "succeeded": None if not each.ended else 100 * (each.ended - each.failures) / each.ended,
        "href": about.href("runs", version=str(each.number)),
    }


def _charts(rates: Sequence[Rate]) -> list[dict[str, str]]:
    """What the script draws, and what it is called; the table beside it has the same numbers."""
    rates = [each for each in rates if each.ended]
    if not rates:
        return []
    names = [f"v{each.number}" for each in rates]
    succeeded = [round(100 * (each.ended - each.failures) / each.ended, 1) for each in rates]
    median, longest = ([getattr(each, name) for each in rates] for name in ("median_s", "p95_s"))
    return [
        chart("Runs that succeeded, by version, in per cent", "%", names, [("succeeded", "good", succeeded)], top=100),
        chart(
            "What runs took, by version, in seconds",
            "s",
            names,
            [("median", "plain", median), ("95 % took less", "wait", longest)],
        ),
    ]


def chart(
    title: str,
    unit: str,
    names: Sequence[str],
    series: Sequence[tuple[str, str, Sequence[float | None]]],
    top: float | None = None,
) -> dict[str, str]:
    """Bars for each of the names, as `console.js` reads them. A series has a label, a colour of the style sheet, its values."""
    drawn = [{"label": label, "colour": colour, "values": list(values)} for label, colour, values in series]
    return {"title": title, "data": json.dumps({"unit": unit, "names": list(names), "top": top, "series": drawn})}
