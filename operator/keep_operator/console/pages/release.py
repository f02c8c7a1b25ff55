"""How the newest version gets its runs: the gates before it, its canary, the watch after it, and what may be decided."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from starlette.responses import Response

from keep_operator.console.pages import decide, place
from keep_operator.console.pages.live import News
from keep_operator.console.pages.place import Subject
from keep_operator.console.pages.rendering import span
from keep_operator.console.pages.runs import chart
from keep_operator.console.pages.visit import Visit
from keep_operator.console.pages.workflow import buttons
from keep_operator.console.room import Room
from keep_operator.domain import canary, gates, release
from keep_operator.domain.canary import Stats
from keep_operator.domain.gates import Gates
from keep_operator.domain.history import Canary, Revision
from keep_operator.resources.release import CanaryStep
from keep_operator.store import past_runs, releases
from keep_operator.store.past_runs import COUNTED, Piece

# Pieces of the time since a canary began, in the chart; they grow with it, and stay as they are until they do.
PIECES: Final = 12
LENGTHS: Final = tuple(
    timedelta(minutes=each) for each in (1, 2, 5, 10, 30, 60, 180, 360, 720, 1_440, 4_320, 10_080, 43_200)
)


@dataclass(frozen=True, slots=True)
class Seen:
    """A release at one moment. ``gates`` is None where the spec is refused, so that nobody can say what it asks for."""

    about: Subject
    gates: Gates | None
    counted: Mapping[str, Stats] = field(default_factory=dict)
    piece: timedelta = LENGTHS[0]
    course: Sequence[Piece] = ()


async def show(visit: Visit) -> Response:
    """The page."""
    about = await place.subject(visit)
    may = await place.actions(visit, about)
    return visit.show("release.html", **_told(visit, await _read(visit.here, about), may))


async def live(visit: Visit) -> Response:
    """All of it, whenever it changes."""
    about = await place.subject(visit)
    may = await place.actions(visit, about)
    here, where = visit.here, about.place

    async def look(before: News | None) -> News:
        del before
        return News(await _read(here, await place.read(here, where)))

    def tell(seen: Seen) -> str:
        return visit.pages.renderer.render("release_live.html", _told(visit, seen, may))

    return visit.stream(("release", where), look, tell, (visit.user, tuple(may.values())))


async def _read(here: Room, about: Subject) -> Seen:
    """What the release depends on besides the workflow. Raises Problem 503."""
    lineage, asked = about.lineage, await place.gates_of(here, about)
    if asked is None:
        return Seen(about, None)
    now = lineage.read_at or here.now()
    told = str(about.condition("Deployed").get("reason") or "")
    tried, course, piece = lineage.canary, [], LENGTHS[0]
    async with here.look() as conn:
        counted = await releases.count(conn, lineage, release.questions(lineage, asked, now, told=told))
        if tried is not None:
            piece = _piece(now - tried.began)
            course = await past_runs.course(conn, lineage.id, [tried.stable, tried.candidate], tried.began, piece)
    return Seen(about, asked, counted, piece, course)


def _piece(since: timedelta) -> timedelta:
    return next((each for each in LENGTHS if since <= PIECES * each), LENGTHS[-1])


def _told(visit: Visit, seen: Seen, may: dict[str, bool]) -> dict[str, Any]:
    about, lineage = seen.about, seen.about.lineage
    now = lineage.read_at or visit.here.now()
    revision = lineage.latest
    values: dict[str, Any] = {
        "about": about,
        "refused": seen.gates is None,
        "revision": revision,
        "marks": [] if revision is None else about.marks(revision.number),
        "deployed": about.condition("Deployed"),
        "buttons": buttons(about, may),
        "approval": None,
        "items": [],
        "manual": False,
        "canary": None,
        "planned": [],
        "watch": None,
        "hold": lineage.hold,
    }
    if seen.gates is None or revision is None:
        return values
    tried = lineage.canary
    return values | {
        "approval": _approval(visit, seen.gates, about, revision),
        "items": _items(seen.gates, about, revision, may),
        "manual": seen.gates.manual and not revision.was_active,
        "canary": None if tried is None else _canary(seen, tried, now),
        "planned": [_step(each) for each in seen.gates.steps],
        "watch": _watch(seen, seen.gates, now),
    }


def _approval(visit: Visit, asked: Gates, about: Subject, revision: Revision) -> dict[str, Any] | None:
    """Who has said what of the newest version, and whose word counts; None where nobody is asked."""
    rule, condition = asked.approval, about.condition("Approved")
    said = [each for each in about.lineage.reviews if each.number == revision.number]
    if rule.required == "Never" and not said:
        return None
    assert visit.visitor is not None
    user = visit.visitor.user
    against = gates.objection(rule, revision.author, user.name, user.groups)
    told = [(each, gates.objection(rule, revision.author, each.actor, each.groups)) for each in said]
    counted = sum(each.approves and objection is None for each, objection in told)
    return {
        "required": rule.required,
        "least": rule.least,
        "missing": max(0, rule.least - counted) if condition["status"] == "Unknown" else 0,
        "condition": condition,
        "reviews": [(each, None if objection is None else objection.message) for each, objection in told],
        "approvers": [[*each.users, *(f"group {group}" for group in each.groups)] for each in rule.approvers],
        "against": None if against is None else against.message,
        "author": None if revision.author is None else revision.author.username,
    }


def _items(asked: Gates, about: Subject, revision: Revision, may: dict[str, bool]) -> list[dict[str, Any]]:
    done = gates.checked(about.lineage, revision.number)
    return [
        {
            "item": each,
            "check": done.get(each.id),
            "done": each.id in done and done[each.id].done,
            "href": about.href("decide", "checkitem", revision=str(revision.number), item=each.id)
            if may["CheckItem"] and each.auto is None and not (each.id in done and done[each.id].done)
            else None,
            "command": decide.command(about, decide.Wish("CheckItem", revision, item=each.id)),
        }
        for each in asked.checklist
    ]


def _canary(seen: Seen, tried: Canary, now: datetime) -> dict[str, Any]:
    lineage = seen.about.lineage
    # Others than the spec's are only there until the operator has looked at the spec, and begun anew.
    steps = seen.gates.steps if seen.gates is not None and canary.plan_of(seen.gates.steps) == tried.steps else ()
    present = steps[tried.step] if tried.step < len(steps) else None
    return {
        "row": tried,
        "candidate": lineage.candidate,
        "stable": lineage.get(tried.stable),
        "steps": [
            {"text": _step(each), "state": "done" if at < tried.step else "now" if at == tried.step else "to come"}
            for at, each in enumerate(steps)
        ],
        "until": _until(tried, present),
        "figures": [
            (name, seen.counted[key])
            for name, key in (("canary", "candidate"), ("stable", "stable"))
            if key in seen.counted
        ],
        "chart": _chart(seen, tried, now),
        "counted": COUNTED,
    }


def _until(tried: Canary, step: CanaryStep | None) -> datetime | None:
    """When the present step is over by itself; None where a person says that."""
    if tried.paused is not None:
        return None
    if step is not None and step.pause is not None and step.pause.duration is not None:
        return tried.step_since + step.pause.duration
    return tried.measured_since + step.analysis.window if step is not None and step.analysis is not None else None


def _step(step: CanaryStep) -> str:
    """A step in words."""
    if step.set_weight is not None:
        return f"{step.set_weight} % of the runs"
    if step.pause is not None:
        pause = step.pause.duration
        return "wait for a person" if pause is None else f"wait {span(pause.total_seconds())}"
    assert step.analysis is not None  # exactly one of the three is given
    asked = step.analysis
    told = [
        f"of at least {asked.min_runs} runs within {span(asked.window.total_seconds())}",
        f"at most {asked.max_failure_rate_percent} % fail",
    ]
    if asked.max_error_rate_delta_percent is not None:
        told.append(f"at most {asked.max_error_rate_delta_percent} points worse than stable")
    if asked.max_p95_duration is not None:
        told.append(f"95 % take at most {span(asked.max_p95_duration.total_seconds())}")
    return f"analysis: {', '.join(told)}"


def _chart(seen: Seen, tried: Canary, now: datetime) -> dict[str, str] | None:
    """The part of the runs that failed, in each piece of time, of both versions."""
    found = {(each.number, each.piece): each for each in seen.course}
    if not found:
        return None
    count = max((now - tried.began) // seen.piece, *(piece for _, piece in found)) + 1
    places = range(max(0, count - PIECES), count)
    names = [
        (tried.began + seen.piece * each).strftime("%d %b %H:%M" if seen.piece >= LENGTHS[6] else "%H:%M")
        for each in places
    ]
    series = [
        (f"{word} v{number}", colour, [_percent(found.get((number, each))) for each in places])
        for word, number, colour in (("canary", tried.candidate, "wait"), ("stable", tried.stable, "plain"))
    ]
    return chart("Runs that failed, by the time at which they were asked for, in per cent", "%", names, series, top=100)


def _percent(piece: Piece | None) -> float | None:
    return None if piece is None else round(100 * piece.failures / piece.ended, 1)


def _watch(seen: Seen, asked: Gates, now: datetime) -> dict[str, Any] | None:
    """Whether what became active is watched, until when, and how it does; None where it is not."""
    guard, last, lineage = asked.guard, seen.about.lineage.deployed, seen.about.lineage
    if guard is None:
        return None
    watched = last is not None and last.cause.releases and last.revision == lineage.active_number
    until = last.at + guard.window if last is not None and watched else None
    return {
        "guard": guard,
        "window": span(guard.window.total_seconds()),
        "until": until if until is not None and until > now else None,
        "stats": seen.counted.get("active"),
        "of_canary": seen.counted.get("whole"),
        "active": lineage.active,
    }
