"""Events are taken: judged by every trigger of the tenant, written, and the runs that they start asked for, as one (A-EVT-1).

::

    event ──► what is known of it ──► duplicate? ──► every workflow's triggers ──► one transaction: the alert's row, the runs
                                                                                   not as it was seen? once more

It makes no difference who brings an event, a machine or a run; but for a run's the workflows that led to it are known, and
are not started by it again.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from keep_operator.domain import binding
from keep_operator.domain.binding import Asked
from keep_operator.domain.events import causes, matching
from keep_operator.domain.events.alert import Alert, Previous
from keep_operator.domain.events.incident import Incident
from keep_operator.domain.events.matching import Seen, Triggers
from keep_operator.domain.execution import Run
from keep_operator.domain.history import Refusal
from keep_operator.errors import Conflict
from keep_operator.store import alerts, runs
from keep_operator.store import engine as database
from keep_operator.store.alerts import Listener
from keep_operator.store.connection import Connection
from keep_operator.store.engine import Engine

# How often an event is judged anew because a workflow has changed meanwhile.
TRIES: Final = 5
# Revisions whose triggers are kept ready; those of workflows without CEL are small.
COMPILED_AT_MOST: Final = 4_000

Event = Alert | Incident


_NONE: Final = Triggers()


@dataclass(frozen=True, slots=True)
class Line:
    """A workflow that events may start, with the triggers of what is active, and of what is tried beside it."""

    listener: Listener
    stable: Triggers
    candidate: Triggers

    def takes(self, event: Asked) -> tuple[Listener, Triggers]:
        """Which of the two is asked about an event: the one that the run would be of, as `runs.request` decides it."""
        listener = self.listener
        if listener.tried is None or not binding.is_tried(event, listener.id, listener.tried):
            return listener, self.stable
        return replace(listener, revision=listener.tried.number), self.candidate


class Switchboard:
    """The triggers of revisions, compiled once for each: a revision never changes. One for each process."""

    def __init__(self) -> None:
        self._compiled: dict[tuple[UUID, int], Triggers] = {}

    async def triggers(self, conn: Connection, tenant_id: str) -> list[Line]:
        """The workflows of a tenant that events can start, each with its triggers."""
        listeners = await alerts.listening(conn, tenant_id)
        wanted = [(each.id, each.revision) for each in listeners]
        wanted += [(each.id, each.tried.number) for each in listeners if each.tried is not None]
        ready = {key: known for key in wanted if (known := self._compiled.get(key)) is not None}
        if missing := [key for key in wanted if key not in ready]:
            found = await alerts.definitions(conn, missing)
            made = await asyncio.to_thread(_compiled, found)
            ready |= made
            self._compiled |= made
            while len(self._compiled) > COMPILED_AT_MOST:
                self._compiled.pop(next(iter(self._compiled)))
        lines = (_line(each, ready) for each in listeners)
        return [each for each in lines if each.stable.any or each.candidate.any]


def _line(listener: Listener, ready: Mapping[tuple[UUID, int], Triggers]) -> Line:
    tried = listener.tried
    candidate = _NONE if tried is None else ready.get((listener.id, tried.number), _NONE)
    return Line(listener, ready.get((listener.id, listener.revision), _NONE), candidate)


def _compiled(definitions: Mapping[tuple[UUID, int], Mapping[str, Any]]) -> dict[tuple[UUID, int], Triggers]:
    return {key: matching.compiled(definition) for key, definition in definitions.items()}


@dataclass(frozen=True, slots=True)
class Intake:
    """Made once per process. ``kept_for`` is how long an alert is known after its last event; ``clock`` the time of day."""

    engine: Engine
    clock: Callable[[], datetime]
    kept_for: timedelta
    switchboard: Switchboard = field(default_factory=Switchboard)


@dataclass(frozen=True, slots=True)
class Source:
    """Whose events they are, and who brings them, as runs name those who asked for them."""

    tenant_id: str
    name: str


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of one event. ``new``: nothing was known of it. ``held``: a trigger of theirs matched, but they led to it."""

    event: Event
    new: bool = False
    duplicate: bool = False
    runs: tuple[tuple[Listener, Run], ...] = ()
    refused: tuple[tuple[Listener, Refusal], ...] = ()
    failed: tuple[tuple[Listener, str], ...] = ()
    held: tuple[Listener, ...] = ()


async def take(means: Intake, source: Source, events: Sequence[Event]) -> AsyncIterator[Taken]:
    """Take them one by one, each for good. Raises KeepOperatorError; what was taken by then is a duplicate the next time."""
    fingerprints = [each.fingerprint for each in events if isinstance(each, Alert)]
    async with database.look(means.engine) as conn:
        listening = await means.switchboard.triggers(conn, source.tenant_id)
        known = await alerts.known(conn, source.tenant_id, fingerprints, means.clock()) if fingerprints else {}
    for event in events:
        for tried in range(1, TRIES + 1):
            try:
                if isinstance(event, Alert):
                    yield await _take_alert(means, source, event, known.get(event.fingerprint), listening)
                else:
                    yield await _take_incident(means, source, event, listening)
                break
            except Conflict:  # a workflow has another active revision, or is gone
                if tried == TRIES:
                    raise
                async with database.look(means.engine) as conn:
                    listening = await means.switchboard.triggers(conn, source.tenant_id)


@dataclass(frozen=True, slots=True)
class _Judged:
    """What all workflows say to an alert, given what was known of it."""

    alert: Alert
    previous: Previous | None
    matches: tuple[tuple[Listener, Asked], ...] = field(default=())
    failed: tuple[tuple[Listener, str], ...] = field(default=())
    held: tuple[Listener, ...] = field(default=())


def _judge(event: Alert, previous: Previous | None, listening: Sequence[Line], by: str) -> _Judged:
    """Ask every workflow; CPU only, for a thread."""
    whole = event.after(previous)
    if matching.is_duplicate(event, previous):
        return _Judged(whole, previous)
    seen = Seen.of(whole, previous)
    request = Asked(
        trigger="Alert", idempotency_key="", requested_by=by, event=seen.fields, fingerprint=event.fingerprint
    )
    matches, failed, held = [], [], []
    for line in listening:
        listener, triggers = line.takes(request)
        answer = triggers.on_alert(whole, previous, seen)
        failed += [(listener, each.message) for each in answer.failures]
        if answer.match is not None and not causes.goes_on(event.chain, str(listener.id)):
            held.append(listener)
        elif answer.match is not None:
            matches.append((listener, replace(request, idempotency_key=f"alert/{uuid4()}", event=answer.match.event)))
    return _Judged(whole, previous, tuple(matches), tuple(failed), tuple(held))


async def _take_alert(
    means: Intake,
    source: Source,
    event: Alert,
    expected: Previous | None,
    listening: Sequence[Line],
) -> Taken:
    """Judge by what was known, and again under the lock if that has changed. Raises Conflict."""
    judged = await asyncio.to_thread(_judge, event, expected, listening, source.name)
    now = means.clock()
    async with database.transaction(means.engine) as conn:
        previous = await alerts.locked(conn, source.tenant_id, event.fingerprint, now)
        if previous != expected:
            judged = await asyncio.to_thread(_judge, event, previous, listening, source.name)
        if matching.is_duplicate(event, previous):
            await alerts.renew(conn, source.tenant_id, event.fingerprint, now, means.kept_for)
            return Taken(event, duplicate=True)
        await alerts.put(conn, source.tenant_id, judged.alert, now, means.kept_for)
        started, refused = await _start(conn, judged.matches)
    return Taken(
        event,
        previous is None,
        runs=tuple(pair[:2] for pair in started),
        refused=tuple(refused),
        failed=judged.failed,
        held=judged.held,
    )


async def _take_incident(means: Intake, source: Source, event: Incident, listening: Sequence[Line]) -> Taken:
    """The same; there is no row for an incident, so the runs themselves tell whether it was taken before. Raises Conflict."""
    request = Asked(
        trigger="Incident",
        idempotency_key=f"incident/{event.id}/{event.digest}",
        requested_by=source.name,
        event=event.fields,
        fingerprint=event.id,
    )
    takes = await asyncio.to_thread(lambda: [each.takes(request) for each in listening])
    matches = [(listener, request) for listener, triggers in takes if triggers.on_incident(event).match is not None]
    async with database.transaction(means.engine) as conn:
        started, refused = await _start(conn, matches)
    repeated = bool(started) and not any(created for *_, created in started)
    return Taken(event, not repeated, repeated, tuple(pair[:2] for pair in started), tuple(refused))


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
