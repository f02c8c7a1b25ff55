"""`events`: alerts and incidents that machines post, and the runs that they start.

::

    body ──► events (all of them readable, or none is taken) ──► for each, in order:
        what is known of it ──► duplicate? ──► every workflow's triggers ──► one transaction: the alert's row, the runs
                                                                             not as it was seen? once more
    of a workflow with a canary the event's key says whose triggers are asked: those of what is active, or of what is tried

A request that ends in the middle (a time-out, a lost database) can be sent again as it is: what was taken is a duplicate then.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, Final
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response

from keep_operator.console import answers, asked, machines, problems, room
from keep_operator.console.described import Json
from keep_operator.console.ingest import Line
from keep_operator.console.machines import Machine
from keep_operator.console.problems import Problem
from keep_operator.console.room import Room
from keep_operator.console.schemas import MOST_EVENTS
from keep_operator.domain.binding import Asked
from keep_operator.domain.events import alert, alertmanager, content, incident, matching
from keep_operator.domain.events.alert import Alert, Previous
from keep_operator.domain.events.content import EventInvalid
from keep_operator.domain.events.incident import Incident
from keep_operator.domain.events.matching import Seen
from keep_operator.domain.execution import Run
from keep_operator.domain.history import Refusal
from keep_operator.errors import Conflict, KeepOperatorError
from keep_operator.store import alerts, runs, tokens
from keep_operator.store import engine as database
from keep_operator.store.alerts import Listener
from keep_operator.store.connection import Connection

log = logging.getLogger(__name__)

FORMATS: Final = ("alertmanager", "keep", "incident")
# How often an event is judged anew because a workflow has changed meanwhile.
TRIES: Final = 5

Event = Alert | Incident


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of one event."""

    event: Event
    duplicate: bool = False
    runs: tuple[tuple[Listener, Run], ...] = ()
    refused: tuple[tuple[Listener, Refusal], ...] = ()
    failed: tuple[tuple[Listener, str], ...] = ()


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
        raise machines.too_many(f"The tenant takes {here.ingest.per_second} events a second", wait_s)
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
    fingerprints = [each.fingerprint for each in events if isinstance(each, Alert)]
    async with here.look() as conn:
        listening = await here.ingest.switchboard.triggers(conn, machine.tenant_id)
        known = await alerts.known(conn, machine.tenant_id, fingerprints, here.now()) if fingerprints else {}
    taken = []
    for event in events:
        for tried in range(1, TRIES + 1):
            try:
                if isinstance(event, Alert):
                    done = await _take_alert(here, machine, event, known.get(event.fingerprint), listening)
                else:
                    done = await _take_incident(here, machine, event, listening)
                break
            except Conflict as failure:  # a workflow has another active revision, or is gone
                if tried == TRIES:
                    raise problems.unavailable("The control database", failure) from None
                async with here.look() as conn:
                    listening = await here.ingest.switchboard.triggers(conn, machine.tenant_id)
            except KeepOperatorError as failure:
                log.warning("an event was not taken: %s", failure)
                raise problems.unavailable("The control database", failure) from None
        for listener, message in done.failed:
            here.ingest.switchboard.warn(listener, message)
        taken.append(done)
    return taken


@dataclass(frozen=True, slots=True)
class _Judged:
    """What all workflows say to an alert, given what was known of it."""

    alert: Alert
    previous: Previous | None
    matches: tuple[tuple[Listener, Asked], ...] = field(default=())
    failed: tuple[tuple[Listener, str], ...] = field(default=())


def _judge(event: Alert, previous: Previous | None, listening: Sequence[Line], by: str) -> _Judged:
    """Ask every workflow; CPU only, for a thread."""
    whole = event.after(previous)
    if matching.is_duplicate(event, previous):
        return _Judged(whole, previous)
    seen = Seen.of(whole, previous)
    request = Asked(
        trigger="Alert", idempotency_key="", requested_by=by, event=seen.fields, fingerprint=event.fingerprint
    )
    matches, failed = [], []
    for line in listening:
        listener, triggers = line.takes(request)
        answer = triggers.on_alert(whole, previous, seen)
        failed += [(listener, each.message) for each in answer.failures]
        if answer.match is not None:
            matches.append((listener, replace(request, idempotency_key=f"alert/{uuid4()}", event=answer.match.event)))
    return _Judged(whole, previous, tuple(matches), tuple(failed))


async def _take_alert(
    here: Room,
    machine: Machine,
    event: Alert,
    expected: Previous | None,
    listening: Sequence[Line],
) -> Taken:
    """Judge by what was known, and again under the lock if that has changed. Raises Conflict."""
    by = f"token {machine.token}"
    judged = await asyncio.to_thread(_judge, event, expected, listening, by)
    now = here.now()
    async with database.transaction(here.engine) as conn:
        previous = await alerts.locked(conn, machine.tenant_id, event.fingerprint, now)
        if previous != expected:
            judged = await asyncio.to_thread(_judge, event, previous, listening, by)
        if matching.is_duplicate(event, previous):
            await alerts.renew(conn, machine.tenant_id, event.fingerprint, now, here.ingest.kept_for)
            return Taken(event, duplicate=True)
        await alerts.put(conn, machine.tenant_id, judged.alert, now, here.ingest.kept_for)
        started, refused = await _start(conn, judged.matches)
    return Taken(event, runs=tuple(pair[:2] for pair in started), refused=tuple(refused), failed=judged.failed)


async def _take_incident(here: Room, machine: Machine, event: Incident, listening: Sequence[Line]) -> Taken:
    """The same; there is no row for an incident, so the runs themselves tell whether it was taken before. Raises Conflict."""
    request = Asked(
        trigger="Incident",
        idempotency_key=f"incident/{event.id}/{event.digest}",
        requested_by=f"token {machine.token}",
        event=event.fields,
        fingerprint=event.id,
    )
    takes = await asyncio.to_thread(lambda: [each.takes(request) for each in listening])
    matches = [(listener, request) for listener, triggers in takes if triggers.on_incident(event).match is not None]
    async with database.transaction(here.engine) as conn:
        started, refused = await _start(conn, matches)
    repeated = bool(started) and not any(created for *_, created in started)
    return Taken(event, repeated, tuple(pair[:2] for pair in started), tuple(refused))


async def _start(
    conn: Connection, wanted: Sequence[tuple[Listener, Asked]]
) -> tuple[list[tuple[Listener, Run, bool]], list[tuple[Listener, Refusal]]]:
    """Ask for the runs. Raises Conflict where one would be of another revision than the one whose trigger has matched."""
    started, refused = [], []
    for listener, request in wanted:
        got = await runs.request(conn, listener.id, request)
        if isinstance(got, Refusal):
            refused.append((listener, got))
            continue
        if got.created and got.run.revision != listener.revision:
            raise Conflict("SyncFailed", f"{listener} does not take this event any more")
        started.append((listener, got.run, got.created))
    return started, refused


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
