"""One run: which version and definition ran, its steps while they go on, its log, what it got; its end by hand, and once more."""

import json
from typing import Any, Final
from uuid import UUID, uuid4

from starlette.responses import Response

from keep_operator.cluster.reviews import Right
from keep_operator.console import past, problems
from keep_operator.console import runs as api
from keep_operator.console.pages import place
from keep_operator.console.pages.live import News
from keep_operator.console.pages.runs import took_s
from keep_operator.console.pages.visit import Visit, address
from keep_operator.console.room import Room
from keep_operator.console.schemas import LONGEST_REQUEST_ID
from keep_operator.domain import patch
from keep_operator.domain.execution import ONCE, Run
from keep_operator.resources.kinds import WORKFLOW_REVISIONS
from keep_operator.store import history, past_runs, revisions, runs
from keep_operator.store.connection import Row
from keep_operator.store.history import Page
from keep_operator.store.past_runs import InFull

# Starts of steps and lines of the log on one page.
STEPS: Final = 100
LINES: Final = 100
# Characters of what a step brought, and of what the run got; the API has all of it.
LONGEST_RESULT: Final = 2_000
LONGEST_GIVEN: Final = 20_000


async def show(visit: Visit) -> Response:
    """The page; `steps` and `log` are cursors of the steps and of the log."""
    found = await _found(visit)
    run, namespace = found.run, found.namespace
    earlier, before = visit.query("steps"), visit.query("log")
    see, again, end = await visit.may(
        Right("get", WORKFLOW_REVISIONS, namespace or ""),
        api.right_to_run(namespace or ""),
        api.right_to("patch", found),
    )
    async with visit.here.look() as conn:
        steps = await past.page(past_runs.steps(conn, run.id, earlier or None, STEPS, LONGEST_RESULT))
        lines = await past.page(past_runs.last_lines(conn, run.id, before or None, LINES))
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
        **_told(run, steps, lines),
        "newest": address("r", run.id) if earlier or before else None,
        "definition": shown,
        "inputs": _json(found.inputs),
        "event": None if found.event is None else _json(found.event),
        "workflow": None if namespace is None else place.href(namespace, found.name),
        "runs": None if namespace is None else place.href(namespace, found.name, "runs"),
        "active": None if line is None else line.active_number,
        "compare": _compare(found, None if line is None else line.active_number),
        "retry": _again(found) if again and namespace is not None else None,
        "may_cancel": _ends(run) and end,
        "is_live": not run.state.terminal and not (earlier or before),
    }
    return visit.show("run.html", **values)


async def live(visit: Visit) -> Response:
    """State and steps whenever they change, until the run has ended."""
    found = await _found(visit)
    run_id, here = found.run.id, visit.here

    async def look(before: News | None) -> News:
        return await _look(here, run_id, before)

    def tell(value: tuple[Any, Run, Page[Row], Page[Row]]) -> str:
        _, run, steps, lines = value
        return visit.pages.renderer.render("run_live.html", _told(run, steps, lines))

    return visit.stream(("run", run_id), look, tell)


async def _look(here: Room, run_id: UUID, before: News | None) -> News:
    """The run, its last steps and lines, which are read where something has changed only. Raises Problem: 404, 503."""
    async with here.look() as conn:
        pulse = await past_runs.pulse(conn, run_id)
        if before is not None and before.value[0] == pulse:
            return before
        run = await runs.get(conn, run_id)
        if run is None:
            raise problems.missing("RunNotFound", f"There is no run {run_id} any more.")
        steps = await past_runs.steps(conn, run_id, None, STEPS, LONGEST_RESULT)
        lines = await past_runs.last_lines(conn, run_id, None, LINES)
    # As old as the run, so that no end is missed that came between the statements.
    return News((pulse, run, steps, lines), over=run.state.terminal)


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


async def again(visit: Visit) -> Response:
    """The page before, and the run itself; a form that is sent twice is one run."""
    found = await _found(visit)
    if found.namespace is None:
        raise problems.missing("WorkflowNotFound", "The workflow of this run is nobody's any more, so it cannot run.")
    await visit.admit(api.right_to_run(found.namespace))
    if visit.request.method == "POST":
        fields = await visit.form()
        if (wait_s := visit.pages.decisions.take(visit.user)) > 0:
            raise problems.too_many("These were too many decisions", wait_s)
        request_id = (fields.get("request_id") or str(uuid4()))[:LONGEST_REQUEST_ID].replace("\0", "")
        made = await api.again(visit.here, found, visit.admit, visit.user, request_id)
        return visit.go(address("r", made.id))
    async with visit.here.look() as conn:
        line = await history.line(conn, visit.here.cluster_id, found.namespace, found.name, found.run.workflow_id)
    active = None if line is None else line.active_number
    values: dict[str, Any] = {"found": found, "run": found.run, "active": active, "request_id": str(uuid4())}
    return visit.show("run_again.html", **(values | _again(found)))


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


def _told(run: Run, steps: Page[Row], lines: Page[Row]) -> dict[str, Any]:
    """What changes while it runs."""
    return {
        "earlier": address("r", run.id, steps=steps.after) if steps.after else None,
        "earlier_lines": address("r", run.id, log=lines.after) if lines.after else None,
        "lines": lines.items,
        "run": run,
        "took_s": took_s(run),
        "parent": None if run.retry_of is None else address("r", run.retry_of),
        "steps": [
            {
                "row": each,
                "iteration": None if each.iteration == ONCE else each.iteration + 1,
                "took_s": None if each.completed_at is None else (each.completed_at - each.started_at).total_seconds(),
            }
            for each in steps.items
        ],
    }


def _compare(found: InFull, active: int | None) -> str | None:
    """From the version that ran to the one that is active now; where it is that, from the one before. None: there is no other."""
    ran = found.run.revision
    before, after = (ran - 1, ran) if active == ran else (ran, active)
    if found.namespace is None or not before or after is None:
        return None
    return place.href(found.namespace, found.name, "compare", f"{before}...{after}")


def _again(found: InFull) -> dict[str, str]:
    """Where the same is run once more, and what does it elsewhere; only the API can name runs without an object."""
    run = found.run
    told = {"href": address("r", run.id, "again"), "command": "", "body": ""}
    if run.owner is not None:
        mode = "" if run.mode == "Live" else f" --mode {run.mode}"
        return told | {"command": f"kubectl keep run {found.name} --retry {run.owner.name}{mode} -n {found.namespace}"}
    body = {"namespace": found.namespace, "workflow": found.name, "retryOf": str(run.id)}
    return told | {"body": json.dumps(body if run.mode == "Live" else {**body, "mode": run.mode})}


def _command(verb: str, found: InFull) -> str | None:
    """What does the same in a terminal; runs without an object can be named by the API only."""
    owner = found.run.owner
    return None if owner is None else f"kubectl keep {verb} {owner.name} -n {owner.namespace}"


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, indent=2)
    return text if len(text) <= LONGEST_GIVEN else f"{text[:LONGEST_GIVEN]}\n… (the API has all of it)"
