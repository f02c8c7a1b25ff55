"""Every endpoint of the API, described."""

from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from keep_operator.console import answers, differences, events, openapi, past, retentions, room, runs
from keep_operator.console.asked import (
    AFTER,
    CONTEXT,
    LIMIT_OF_PAGE,
    NAMESPACE,
    PAGED,
    PLACE,
    TENANT,
    WORKFLOW,
    YAML,
    version,
)
from keep_operator.console.described import JSON, Answer, Body, Door, Endpoint, Json, Parameter
from keep_operator.console.room import Room
from keep_operator.console.schemas import FREE, TEXT, TRIGGERS, ref
from keep_operator.domain.execution import State
from keep_operator.resources.shapes import DNS_LABEL

PREFIX: Final = "/api/v1"
_OK: Final = HTTPStatus.OK
_DRAFT: Final[Json] = {
    "triggers": [{"type": "manual"}],
    "actions": [{"name": "tell", "provider": {"type": "console", "with": {"message": "hello"}}}],
}
_REQUEST: Final[Json] = {"namespace": "monitoring", "workflow": "high-cpu", "requestId": "deploy-4711"}
_EVENT: Final[Json] = {
    "version": "4",
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "HighCPU", "severity": "critical", "instance": "web-1"},
            "annotations": {"summary": "CPU above 90 %"},
            "startsAt": "2026-01-31T12:00:00Z",
            "fingerprint": "f0b2c3d4e5a69788",
        }
    ],
}
_RUN: Final = Parameter("run", "the id of a run, a UUID", "The id of the run.", format="uuid")


async def of_root(_: Room, request: Request) -> Response:
    """Who the user is taken for, and what can be asked: the way to try a token."""
    room.parameters(request)
    paths = sorted({f"{PREFIX}{each.path}" for each in ENDPOINTS if each.path})
    return answers.answer(request, {"user": request.state.visitor.user.name, "paths": paths})


async def of_document(_: Room, request: Request) -> Response:
    """The API, described for programs."""
    room.parameters(request)
    return answers.answer(request, document())


def document() -> Json:
    """The OpenAPI document."""
    return openapi.document(ENDPOINTS, PREFIX)


def _moment(name: str, description: str) -> Parameter:
    return Parameter(name, "a time such as 2026-01-31T12:00:00Z", description, format="date-time")


ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    Endpoint(
        "GET", "", of_root, "Whom the token stands for, and which paths there are", (Answer(_OK, "Root", "You."),)
    ),
    Endpoint(
        "GET",
        "/openapi.json",
        of_document,
        "This document",
        (Answer(_OK, "Document", "The OpenAPI document."),),
        door=Door.ANYBODY,
    ),
    Endpoint(
        "GET",
        "/revisions",
        past.of_revisions,
        "The versions of a workflow, without their definitions",
        (Answer(_OK, "Revisions", "A page, the newest version first."),),
        parameters=(*PLACE, *PAGED),
    ),
    Endpoint(
        "GET",
        "/revisions/{revision}",
        past.of_revision,
        "One version with its definition",
        (Answer(_OK, "RevisionWithDefinition", "The version."),),
        in_path=(version("revision", "Which version."),),
        parameters=PLACE,
    ),
    Endpoint(
        "GET",
        "/history",
        past.of_workflow,
        "Everything that was done to a workflow",
        (Answer(_OK, "History", "A page, the newest entry first."),),
        parameters=(
            *PLACE,
            *PAGED,
            Parameter("only", "deployments, its one value", "Only what was made active.", values=("deployments",)),
        ),
    ),
    Endpoint(
        "GET",
        "/ledger",
        past.of_tenant,
        "Everything that was done to a tenant and all that belongs to it",
        (Answer(_OK, "Ledger", "A page, the newest entry first."),),
        parameters=(TENANT, *PAGED),
    ),
    Endpoint(
        "GET",
        "/diff",
        differences.of_versions,
        "What differs between two versions",
        (Answer(_OK, "Difference", "The difference."),),
        parameters=(
            *PLACE,
            version("before", "From which version.", required=True),
            version("after", "To which version.", required=True),
            CONTEXT,
        ),
    ),
    Endpoint(
        "POST",
        "/diff",
        differences.of_draft,
        "What differs between a version and a draft; nothing is stored",
        (Answer(_OK, "Difference", "The difference."),),
        parameters=(*PLACE, version("before", "From which version; the active one."), CONTEXT),
        body=Body(
            {JSON: FREE, **dict.fromkeys(YAML, TEXT)},
            "A definition, a Workflow, or one of Keep's files.",
            _DRAFT,
        ),
    ),
    Endpoint(
        "GET",
        "/retention",
        retentions.of_workflow,
        "Which versions would be archived now",
        (Answer(_OK, "Retention", "What goes, and why the rest stays."),),
        parameters=(NAMESPACE, WORKFLOW),
        problems=(HTTPStatus.CONFLICT,),
    ),
    Endpoint(
        "GET",
        "/runs",
        runs.of_workflow,
        "The runs of a workflow",
        (Answer(_OK, "Runs", "A page, the newest run first."),),
        parameters=(
            *PLACE,
            version("revision", "Only runs of this version; named by a hash, of all with that content."),
            Parameter("state", f"one of {', '.join(State)}", "Only runs in this state.", values=tuple(State)),
            Parameter("trigger", f"one of {', '.join(TRIGGERS)}", "Only runs that were started so.", values=TRIGGERS),
            _moment("from", "Only runs that were queued then or later."),
            _moment("until", "Only runs that were queued before."),
            *PAGED,
        ),
    ),
    Endpoint(
        "POST",
        "/runs",
        runs.ask,
        "Ask for a run",
        (
            Answer(HTTPStatus.CREATED, "Run", "The run, which waits for a worker."),
            Answer(_OK, "Run", "The run that there is for this `requestId`."),
        ),
        body=Body({JSON: ref("RunRequest")}, "What shall run.", _REQUEST),
        problems=(HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY),
    ),
    Endpoint(
        "GET",
        "/runs/{run}",
        runs.of_run,
        "One run with its steps and its log",
        (Answer(_OK, "RunInFull", "The run."),),
        in_path=(_RUN,),
        parameters=(AFTER, LIMIT_OF_PAGE),
    ),
    Endpoint(
        "POST",
        "/runs/{run}/cancel",
        runs.cancel,
        "Cancel a run",
        (Answer(_OK, "Run", "The run as it is now."),),
        in_path=(_RUN,),
    ),
    Endpoint(
        "POST",
        "/events/{tenant}",
        events.of_tenant,
        "Post alerts and incidents",
        (Answer(_OK, "Taken", "What became of each of them."),),
        door=Door.MACHINE,
        in_path=(Parameter("tenant", "the id of a tenant", "The id of the tenant.", DNS_LABEL[1:-1], 63),),
        parameters=(
            Parameter(
                "format",
                f"one of {', '.join(events.FORMATS)}",
                "What the body is; left out: what it looks like.",
                values=events.FORMATS,
            ),
        ),
        body=Body(
            {JSON: ref("Events")},
            "A webhook of Alertmanager, an alert of Keep's, an event of an incident; or a list of such.",
            _EVENT,
        ),
    ),
)
