"""One run: which version and definition ran, its steps while they go on, its log, what it got; and its end, by hand."""

import json
from typing import Any, Final
from uuid import UUID

from starlette.responses import Response

from keep_operator.cluster.reviews import Right
from keep_operator.console import past, problems
from keep_operator.console import runs as api
from keep_operator.console.pages import place
from keep_operator.console.pages.live import News
from keep_operator.console.pages.runs import took_s
from keep_operator.console.pages.visit import Visit, address
from keep_operator.console.room import Room
from keep_operator.domain import patch
from keep_operator.domain.execution import ONCE, Run
from keep_operator.resources.kinds import WORKFLOW_REVISIONS, WORKFLOW_RUNS
from keep_operator.store import history, past_runs, revisions, runs
from keep_operator.store.connection import Row
from keep_operator.store.past_runs import InFull

# Starts of steps and lines of the log on one page.
STEPS: Final = 100
LINES: Final = 100
# Characters of what a step brought, and of what the run got; the API has all of it.
LONGEST_RESULT: Final = 2_000
LONGEST_GIVEN: Final = 20_000


async def show(visit: Visit) -> Response:
    """The page; `steps` and `after` are cursors of the steps and of the log."""
    found = await _found(visit)
    run, namespace = found.run, found.namespace
    earlier, after = visit.query("steps"), visit.query("after")
    see, again, end = await visit.may(
        Right("get", WORKFLOW_REVISIONS, namespace or ""),
        Right("create", WORKFLOW_RUNS, namespace or ""),
        api.right_to("patch", found),
    )
    async with visit.here.look() as conn:
        steps = await past.page(past_runs.steps(conn, run.id, earlier or None, STEPS, LONGEST_RESULT))
        lines = await past.page(past_runs.lines(conn, run.id, after or None, LINES))
        line = None
        if namespace is not None:
            line = await history.line(conn, visit.here.cluster_id, namespace, found.name, run.workflow_id)
        definition = None
        if see or namespace is None:
            definition = (await revisions.definitions(conn, run.workflow_id, [run.revision]))[run.revision]
    shown = None
    if definition is not None:
        shown = await visit.here.comparisons.aside(patch.canonical_yaml, definition)
    values: dict[str, Any] = {
        "found": found,
        **_told(run, steps.items),
        "earlier": address("r", run.id, steps=steps.after) if steps.after else None,
        "newest": address("r", run.id) if earlier or after else None,
        "lines": lines.items,
        "more": address("r", run.id, after=lines.after) if lines.after else None,
        "definition": shown,
        "inputs": _json(found.inputs),
        "event": None if found.event is None else _json(found.event),
        "workflow": None if namespace is None else place.href(namespace, found.name),
        "runs": None if namespace is None else place.href(namespace, found.name, "runs"),
        "active": None if line is None else line.active_number,
        "compare": _compare(found, None if line is None else line.active_number),
        "retry": _retry(found) if again and namespace is not None else None,
        "may_cancel": _ends(run) and end,
        "is_live": not run.state.terminal and not earlier,
    }
    return visit.show("run.html", **values)


async def live(visit: Visit) -> Response:
    """State and steps whenever they change, until the run has ended."""
    found = await _found(visit)
    run_id, here = found.run.id, visit.here

    async def look(before: News | None) -> News:
        return await _look(here, run_id, before)

    def tell(value: tuple[Any, Run, tuple[Row, ...], bool]) -> str:
        _, run, steps, more = value
        given = {**_told(run, steps), "earlier": address("r", run.id) if more else None}
        return visit.pages.renderer.render("run_live.html", given)

    return visit.stream(("run", run_id), look, tell)


async def _look(here: Room, run_id: UUID, before: News | None) -> News:
    """The run and its last steps, which are read where something has changed only. Raises Problem: 404, 503."""
    async with here.look() as conn:
        pulse = await past_runs.pulse(conn, run_id)
        if before is not None and before.value[0] == pulse:
            return before
        run = await runs.get(conn, run_id)
        if run is None:
            raise problems.missing("RunNotFound", f"There is no run {run_id} any more.")
        steps = await past_runs.steps(conn, run_id, None, STEPS, LONGEST_RESULT)
    # As old as the run, so that no end is missed that came between the two statements.
    return News((pulse, run, steps.items, steps.after is not None), over=run.state.terminal)


async def cancel(visit: Visit) -> Response:
    """The page before, and the end itself."""
    found = await _found(visit)
    await visit.admit(api.right_to("patch", found))
    if visit.request.method == "POST":
        await visit.form()
        await api.end(visit.here, found, visit.admit, visit.user)
        return visit.go(address("r", found.run.id))
    return visit.show(
        "run_cancel.html",
        found=found,
        run=found.run,
        ends=_ends(found.run),
        command=_command("cancel", found),
    )


async def _found(visit: Visit) -> InFull:
    """The run of the path. Raises Problem 404 where there is none, or none that the user may read."""
    try:
        run_id = UUID(visit.path("run")[:45])
    except ValueError:
        raise problems.missing("RunNotFound", "The id of a run is a UUID.") from None
    found = await api.find(visit.here, run_id, visit.admit)
    visit.request.state.told |= {"namespace": found.namespace, "workflow": found.name}
    return found


def _ends(run: Run) -> bool:
    """Whether there is still something to cancel."""
    return not run.state.terminal and not run.cancel_requested


def _told(run: Run, steps: tuple[Row, ...]) -> dict[str, Any]:
    """What changes while it runs."""
    return {
        "run": run,
        "took_s": took_s(run),
        "parent": None if run.retry_of is None else address("r", run.retry_of),
        "steps": [
            {
                "row": each,
                "iteration": None if each.iteration == ONCE else each.iteration + 1,
                "took_s": None if each.completed_at is None else (each.completed_at - each.started_at).total_seconds(),
            }
            for each in steps
        ],
    }


def _compare(found: InFull, active: int | None) -> str | None:
    """From the version that ran to the one that is active now; None where there is no other."""
    if found.namespace is None or active in (None, found.run.revision):
        return None
    return place.href(found.namespace, found.name, "compare", f"{found.run.revision}...{active}")


def _retry(found: InFull) -> str:
    """How to run the same once more: of a WorkflowRun with its inputs, else the version."""
    run = found.run
    what = f"--revision v{run.revision}" if run.owner is None else f"--retry {run.owner.name}"
    return f"kubectl keep run {found.name} {what} -n {found.namespace}"


def _command(verb: str, found: InFull) -> str | None:
    """What does the same in a terminal; runs without an object can be named by the API only."""
    owner = found.run.owner
    return None if owner is None else f"kubectl keep {verb} {owner.name} -n {owner.namespace}"


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, indent=2)
    return text if len(text) <= LONGEST_GIVEN else f"{text[:LONGEST_GIVEN]}\n… (the API has all of it)"
