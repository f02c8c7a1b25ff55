"""`events`: alerts and incidents that machines post, and the runs that they start.

::

    body ──► events (all of them readable, or none is taken) ──► for each, in order:
        what is known of it ──► duplicate? ──► every workflow's triggers ──► one transaction: the alert's row, the runs
                                                                             not as it was seen? once more

A request that ends in the middle (a time-out, a lost database) can be sent again as it is: what was taken is a duplicate then.
"""

import asyncio
import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from keep_operator.console import answers, asked, problems, room
from keep_operator.console.described import Json
from keep_operator.console.machines import Machine
from keep_operator.console.problems import Problem
from keep_operator.console.room import Room
from keep_operator.console.schemas import MOST_EVENTS
from keep_operator.domain.events import alert, alertmanager, content, incident
from keep_operator.domain.events.alert import Alert
from keep_operator.domain.events.content import EventInvalid
from keep_operator.errors import KeepOperatorError
from keep_operator.store import intake, tokens
from keep_operator.store.alerts import Listener
from keep_operator.store.intake import Event, Source, Taken

log = logging.getLogger(__name__)

FORMATS: Final = ("alertmanager", "keep", "incident")


async def of_tenant(here: Room, request: Request) -> Response:
    """Take events, and start what they start."""
    tenant_id = str(request.path_params["tenant"])
    request.state.told["tenant"] = tenant_id
    machine = await _admitted(here, request, tenant_id)
    request.state.told["user"] = f"token {machine.token}"
    given = room.parameters(request)
    body = await asked.document(request, "The events")
    events = await asyncio.to_thread(_read, body, given.text("format"), here)
    if (wait_s := here.ingest.rates.take(tenant_id, max(1, len(events)))) > 0:
        raise problems.too_many(f"The tenant takes {here.ingest.per_second} events a second", wait_s)
    taken = await _take(here, machine, events)
    return answers.answer(request, {"tenant": tenant_id, "events": [_told(each) for each in taken]})


async def _admitted(here: Room, request: Request, tenant_id: str) -> Machine:
    async def known(tenant: str) -> Sequence[Any]:
        async with here.look() as conn:
            return await tokens.of_tenant(conn, tenant)

    address = request.client.host if request.client is not None else ""
    return await here.ingest.machines.admitted(tenant_id, request.headers.getlist("authorization"), address, known)


def _read(body: Any, wanted: str | None, here: Room) -> list[Event]:
    """Every event of a body. Raises Problem 400, or 413, for the first that cannot be taken."""
    try:
        return list(_events(body, wanted, here))
    except EventInvalid as fault:
        raise problems.bad("EventInvalid", f"No event was taken: {fault}.") from None


def _events(body: Any, wanted: str | None, here: Room) -> list[Event]:
    pieces: list[tuple[str, object, str]] = []
    several = body if isinstance(body, list) else [body]
    for index, each in enumerate(several):
        path = f"body[{index}]" if isinstance(body, list) else "body"
        form = wanted or _form(each)
        if form == "alertmanager":
            pieces += [(at, one, form) for at, one in alertmanager.alerts(each, path)]
        else:
            pieces.append((path, each, form))
        if len(pieces) > MOST_EVENTS:
            raise Problem(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "BodyTooLarge",
                f"These are more than {MOST_EVENTS:,} events; send them in several requests.",
            )
    now = here.now()
    made: list[Event] = []
    for path, raw, form in pieces:
        clean = content.clean(raw, path)
        if form == "incident":
            made.append(incident.read(clean, path))
        else:
            made.append((alertmanager if form == "alertmanager" else alert).read(clean, path, now))
    return made


def _form(raw: object) -> str:
    """What a body looks like."""
    if alertmanager.is_one(raw):
        return "alertmanager"
    return "incident" if incident.is_one(raw) else "keep"


async def _take(here: Room, machine: Machine, events: Sequence[Event]) -> list[Taken]:
    taken = []
    try:
        async for done in intake.take(here.ingest.intake, Source(machine.tenant_id, f"token {machine.token}"), events):
            for listener, message in done.failed:
                here.ingest.warn(listener, message)
            taken.append(done)
    except KeepOperatorError as failure:
        log.warning("an event was not taken: %s", failure)
        raise problems.unavailable("The control database", failure) from None
    return taken


def _told(taken: Taken) -> Json:
    event = taken.event
    of_alert = isinstance(event, Alert)
    return {
        "kind": "alert" if of_alert else "incident",
        "id": event.fingerprint if isinstance(event, Alert) else event.id,
        "name": str(event.fields["name"]) if of_alert else None,
        "outcome": "duplicate" if taken.duplicate else "accepted",
        "runs": [
            {
                **_place(listener),
                "id": str(run.id),
                "revision": run.revision,
                "contentHash": run.content_hash,
                "trigger": run.trigger,
            }
            for listener, run in taken.runs
        ],
        "refused": [
            {**_place(listener), "reason": refusal.reason, "message": refusal.message}
            for listener, refusal in taken.refused
        ],
        "failed": [
            {**_place(listener), "revision": listener.revision, "message": message}
            for listener, message in taken.failed
        ],
    }


def _place(listener: Listener) -> Json:
    return {"namespace": listener.namespace, "workflow": listener.name}
