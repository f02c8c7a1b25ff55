"""`runs`: what ran, on which version, and how it went; asking for a run, and cancelling one.

Whoever may create a WorkflowRun in the namespace may ask for one here; it is a row then, without an object.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Any, Final
from uuid import UUID, uuid4

from starlette.requests import Request
from starlette.responses import Response

from keep_operator.cluster.reviews import Right
from keep_operator.console import answers, asked, past, problems, room
from keep_operator.console.asked import Place
from keep_operator.console.described import Json, shown
from keep_operator.console.problems import Problem
from keep_operator.console.room import Room
from keep_operator.console.schemas import LONGEST_REQUEST_ID, MODES
from keep_operator.domain.binding import Asked
from keep_operator.domain.events import content
from keep_operator.domain.events.content import EventInvalid
from keep_operator.domain.execution import ONCE, TIMEOUT_S, Run, Step
from keep_operator.domain.history import Lineage, Reference, Refusal
from keep_operator.errors import Conflict, KeepOperatorError, Refused
from keep_operator.resources.kinds import TENANTS, WORKFLOW_RUNS
from keep_operator.resources.shapes import DNS_LABEL, DNS_SUBDOMAIN, parse_duration
from keep_operator.store import engine as database
from keep_operator.store import executions, lineages, past_runs, runs
from keep_operator.store.past_runs import InFull, Wanted

# Steps and lines that are told of one run.
MOST_STEPS: Final = 1_000
LONGEST_TIMEOUT_S: Final = 7 * 86_400
Admit = Callable[[Right], Awaitable[None]]
_TAG: Final = re.compile("[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_KEYS: Final = frozenset({"namespace", "workflow", "revision", "retryOf", "inputs", "mode", "timeout", "requestId"})
# What a refusal is answered with; the others are conflicts.
_STATUS: Final[Mapping[str, HTTPStatus]] = {
    "WorkflowNotFound": HTTPStatus.NOT_FOUND,
    "RevisionNotFound": HTTPStatus.NOT_FOUND,
    "InvalidInputs": HTTPStatus.UNPROCESSABLE_ENTITY,
}


async def of_workflow(here: Room, request: Request) -> Response:
    """The runs of a workflow, the newest first."""
    given = room.parameters(request)
    where, limit = asked.place(given), given.number("limit")
    await here.admit_to(request, where, WORKFLOW_RUNS)
    async with here.look() as conn:
        line = await here.line(conn, where)
        numbers = None
        if (text := given.text("revision")) is not None:
            lineage = await lineages.find(conn, line.id)
            assert lineage is not None  # rows of lineages are never removed
            numbers = numbers_of(lineage, text, where)
        state = given.text("state")
        wanted = Wanted(
            numbers,
            None if state is None else [state],
            given.text("trigger"),
            given.moment("from"),
            given.moment("until"),
        )
        found = await past.page(past_runs.page(conn, line.id, wanted, given.text("after"), limit))
    return answers.answer(request, {"workflowId": str(line.id), **answers.page(found, run)})


def numbers_of(lineage: Lineage, text: str, where: object) -> list[int]:
    """The version that is meant; named by its hash, all with that content."""
    found = asked.resolved(lineage, text, where)
    if text.removeprefix("tag:") == text and found.content_hash.startswith(text):
        return [each.number for each in lineage.with_content(found.content_hash)]
    return [found.number]


async def of_run(here: Room, request: Request) -> Response:
    """One run with its steps and its log."""
    given = room.parameters(request)
    found = await find(here, UUID(request.path_params["run"]), partial(here.admit, request))
    async with here.look() as conn:
        steps = await executions.steps(conn, found.run.id, MOST_STEPS)
        lines = await past.page(past_runs.lines(conn, found.run.id, given.text("after"), given.number("limit")))
    told = {
        **run(found.run),
        "namespace": found.namespace,
        "workflow": found.name,
        "inputs": dict(found.inputs),
        "event": None if found.event is None else dict(found.event),
        "steps": [_step(each) for each in steps],
        "log": answers.page(lines, _line),
    }
    return answers.answer(request, told)


async def cancel(here: Room, request: Request) -> Response:
    """Ask that a run ends: at once where it waits, soon where a worker has it. One that has ended stays as it is."""
    room.parameters(request)
    admit = partial(here.admit, request)
    found = await find(here, UUID(request.path_params["run"]), admit)
    after = await end(here, found, admit, request.state.visitor.user.name)
    return answers.answer(request, run(after))


def right_to(verb: str, found: InFull) -> Right:
    """What it takes to do that with a run: of a workflow that nobody owns a right on its Tenant."""
    if found.namespace is not None:
        return Right(verb, WORKFLOW_RUNS, found.namespace)
    return Right(verb, TENANTS, name=found.tenant_name or "")


async def end(here: Room, found: InFull, admit: Admit, user: str) -> Run:
    """Have a run cancelled in the name of a user; the run as it is then. Raises Problem: 403, 503."""
    await admit(right_to("patch", found))
    try:
        async with database.transaction(here.engine) as conn:
            await runs.cancel(conn, found.run.id, message=f"Cancelled by {user}"[:1_024])
            after = await runs.get(conn, found.run.id)
    except KeepOperatorError as failure:
        raise problems.unavailable("The control database", failure) from None
    assert after is not None
    return after


async def ask(here: Room, request: Request) -> Response:
    """Ask for a run; the same ``requestId`` again brings the run that there is."""
    room.parameters(request)
    body = await asked.document(request, "The request")
    where, wanted = await asyncio.to_thread(_request, body, str(request.state.visitor.user.name))
    request.state.told |= {"namespace": where.namespace, "workflow": where.name}
    await here.admit(request, right_to_run(where.namespace))
    async with here.look() as conn:
        line = await here.line(conn, where)
        before = None if wanted.retry_of is None else await past_runs.get(conn, wanted.retry_of)
    if before is not None and before.run.workflow_id == line.id:
        wanted = _repeating(before, wanted, inputs=None if "inputs" not in body else wanted.inputs)
    got = await _begin(here, line.id, wanted)
    made = answers.answer(request, run(got.run))
    made.status_code = HTTPStatus.CREATED if got.created else HTTPStatus.OK
    made.headers["Location"] = f"/api/v1/runs/{got.run.id}"
    return made


def right_to_run(namespace: str) -> Right:
    """What it takes to ask for a run."""
    return Right("create", WORKFLOW_RUNS, namespace)


async def again(here: Room, found: InFull, admit: Admit, user: str, request_id: str) -> Run:
    """The same run once more, in the name of a user: its version, its inputs, its event, its mode. Raises Problem."""
    assert found.namespace is not None
    await admit(right_to_run(found.namespace))
    wanted = Asked(
        trigger="API",
        idempotency_key=f"api/{request_id}",
        requested_by=user,
        mode=found.run.mode,
        retry_of=found.run.id,
    )
    return (await _begin(here, found.run.workflow_id, _repeating(found, wanted, inputs=None))).run


def _repeating(before: InFull, wanted: Asked, *, inputs: Mapping[str, Any] | None) -> Asked:
    """What is asked for, with what the earlier run got: its event, and its inputs unless there are others."""
    return replace(wanted, inputs=before.inputs if inputs is None else inputs, event=before.event)


async def _begin(here: Room, workflow_id: UUID, wanted: Asked) -> runs.Requested:
    """The run that was asked for. Raises Problem."""
    try:
        async with database.transaction(here.engine) as conn:
            got = await runs.request(conn, workflow_id, wanted)
    except Refused as failure:
        raise problems.bad("BodyInvalid", f"The request cannot be stored: {failure.message}.") from None
    except (Conflict, KeepOperatorError) as failure:
        raise problems.unavailable("The control database", failure) from None
    if isinstance(got, Refusal):
        raise Problem(_STATUS.get(got.reason, HTTPStatus.CONFLICT), got.reason, f"{got.message.rstrip('.')}.")
    return got


async def find(here: Room, run_id: UUID, admit: Admit) -> InFull:
    """The run of this id. Raises Problem 404 where there is none, or none that the user may read."""
    async with here.look() as conn:
        found = await past_runs.get(conn, run_id)
    nothing = problems.missing("RunNotFound", f"There is no run {run_id}, or you may not read runs of its namespace.")
    if found is None or found.cluster not in (None, here.cluster_id):
        raise nothing
    if found.namespace is None and found.tenant_cluster != here.cluster_id:
        raise nothing
    try:
        await admit(right_to("get", found))
    except Problem as problem:
        if problem.status is HTTPStatus.FORBIDDEN:
            raise nothing from None
        raise
    return found


def _request(body: Any, user: str) -> tuple[Place, Asked]:
    """What is asked for. Raises Problem 400."""
    if not isinstance(body, dict):
        raise _invalid("it must be an object")
    if unknown := sorted(body.keys() - _KEYS):
        raise _invalid(f"there is no field {shown(unknown[0])}; there are {', '.join(sorted(_KEYS))}")
    namespace, name = (
        _text(body, key, pattern, longest)
        for key, pattern, longest in (("namespace", DNS_LABEL, 63), ("workflow", DNS_SUBDOMAIN, 253))
    )
    if namespace is None or name is None:
        raise _invalid("namespace and workflow are required")
    try:
        inputs = content.clean(body.get("inputs", {}), "inputs")
    except EventInvalid as fault:
        raise _invalid(str(fault)) from None
    if not isinstance(inputs, dict):
        raise _invalid("inputs must be an object")
    mode = body.get("mode", "Live")
    if mode not in MODES:
        raise _invalid(f"mode must be one of {', '.join(MODES)}")
    request_id = body.get("requestId", str(uuid4()))
    if not isinstance(request_id, str) or not 1 <= len(request_id) <= LONGEST_REQUEST_ID or "\0" in request_id:
        raise _invalid(f"requestId must be text of 1 to {LONGEST_REQUEST_ID} characters")
    wanted = Asked(
        trigger="API",
        idempotency_key=f"api/{request_id}",
        requested_by=user,
        reference=_reference(body),
        mode=mode,
        inputs=inputs,
        retry_of=_retry_of(body),
        timeout_s=_timeout_s(body["timeout"]) if "timeout" in body else TIMEOUT_S,
    )
    return Place(namespace, name), wanted


def _text(body: Json, key: str, pattern: str, longest: int) -> str | None:
    value = body.get(key)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > longest or not re.fullmatch(pattern[1:-1], value):
        raise _invalid(f"{key} must be the name of a {'Workflow' if key == 'workflow' else key}")
    return value


def _reference(body: Json) -> Reference | None:
    given = body.get("revision")
    if "revision" not in body:
        return None
    fault = _invalid("revision must be an object with one of number, contentHash and tag")
    if not isinstance(given, dict) or len(given) != 1:
        raise fault
    match given:
        case {"number": int(number)} if not isinstance(number, bool) and 1 <= number < 2**31:
            return Reference(number=number)
        case {"contentHash": str(text)} if re.fullmatch("[0-9a-f]{64}", text):
            return Reference(content_hash=text)
        case {"tag": str(text)} if 1 <= len(text) <= 63 and "\0" not in text:
            return Reference(tag=text)
    raise fault


def _retry_of(body: Json) -> UUID | None:
    if "retryOf" not in body:
        return None
    try:
        return UUID(str(body["retryOf"]))
    except ValueError:
        raise _invalid("retryOf must be the id of a run, a UUID") from None


def _timeout_s(given: object) -> int:
    try:
        seconds = parse_duration(given).total_seconds() if isinstance(given, str) and len(given) <= 16 else 0
    except ValueError:
        seconds = 0
    if not 1 <= seconds <= LONGEST_TIMEOUT_S:
        raise _invalid("timeout must be a time from 1s to 168h, such as 5m")
    return int(seconds)


def _invalid(fault: str) -> Problem:
    return problems.bad("BodyInvalid", f"The request cannot be meant so: {fault}.")


def run(each: Run) -> Json:
    """A run without what it got and gave."""
    return {
        "id": str(each.id),
        "workflowId": str(each.workflow_id),
        "revision": each.revision,
        "contentHash": each.content_hash,
        "selection": each.selection,
        "trigger": each.trigger,
        "mode": each.mode,
        "state": str(each.state),
        "reason": each.reason,
        "message": each.message,
        "requestedBy": each.requested_by,
        "fingerprint": each.fingerprint,
        "tick": answers.moment(each.tick),
        "retryOf": None if each.retry_of is None else str(each.retry_of),
        "tryNumber": each.try_number,
        "attempt": each.attempt,
        "maxAttempts": each.max_attempts,
        "cancelRequested": each.cancel_requested,
        "queuedAt": answers.moment(each.queued_at),
        "startedAt": answers.moment(each.started_at),
        "completedAt": answers.moment(each.completed_at),
    }


def _step(each: Step) -> Json:
    return {
        "name": each.name,
        "kind": each.kind,
        "type": each.type,
        "position": each.position,
        "iteration": None if each.iteration == ONCE else each.iteration,
        "tryNumber": each.try_number,
        "attempt": each.attempt,
        "state": str(each.state),
        "sideEffects": each.side_effects,
        "startedAt": answers.moment(each.started_at),
        "completedAt": answers.moment(each.completed_at),
        "result": each.result,
        "resultTruncated": each.result_truncated,
        "message": each.message,
    }


def _line(each: Any) -> Json:
    return {"at": answers.moment(each.at), "level": each.level, "message": each.message, "step": each.position}
