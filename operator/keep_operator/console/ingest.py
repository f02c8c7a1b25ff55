"""What the console keeps for events from request to request: who may post, how much, and the triggers of all workflows."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from keep_operator.console.doorkeeper import Memory
from keep_operator.console.machines import Machines
from keep_operator.console.rates import Rates
from keep_operator.console.schemas import MOST_EVENTS
from keep_operator.domain import binding
from keep_operator.domain.binding import Asked
from keep_operator.domain.events import matching
from keep_operator.domain.events.matching import Triggers
from keep_operator.store import alerts
from keep_operator.store.alerts import Listener
from keep_operator.store.connection import Connection

log = logging.getLogger(__name__)

# Revisions whose triggers are kept ready; those of workflows without CEL are small.
COMPILED_AT_MOST: Final = 4_000
# A trigger that fails for each event is told once in so many seconds.
TOLD_AGAIN_S: Final = 600.0
# Seconds' worth of events that may come at once.
_BURST_S: Final = 10


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

    def __init__(self, clock: Callable[[], float]) -> None:
        self._compiled: dict[tuple[UUID, int], Triggers] = {}
        self._told: Memory[tuple[UUID, int, str], bool] = Memory(clock, TOLD_AGAIN_S, COMPILED_AT_MOST)

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

    def warn(self, listener: Listener, message: str) -> None:
        """Say in the log that a trigger has failed, now and then."""
        mark = (listener.id, listener.revision, message)
        if not self._told.get(mark):
            self._told.put(mark, True)
            log.warning("a trigger of %s did not match because it failed: %s", listener, message)


def _line(listener: Listener, ready: Mapping[tuple[UUID, int], Triggers]) -> Line:
    tried = listener.tried
    candidate = _NONE if tried is None else ready.get((listener.id, tried.number), _NONE)
    return Line(listener, ready.get((listener.id, listener.revision), _NONE), candidate)


def _compiled(definitions: Mapping[tuple[UUID, int], Mapping[str, Any]]) -> dict[tuple[UUID, int], Triggers]:
    return {key: matching.compiled(definition) for key, definition in definitions.items()}


@dataclass(frozen=True, slots=True)
class Ingest:
    """Made once per process. ``kept_for`` is how long an alert is known after its last event."""

    machines: Machines
    switchboard: Switchboard
    rates: Rates[str]
    per_second: int
    kept_for: timedelta


def ingest(clock: Callable[[], float], *, per_second: int, kept_for: timedelta) -> Ingest:
    """``per_second``: events of one tenant; one request of the largest size always fits. ``clock`` gives monotonic seconds."""
    rates: Rates[str] = Rates(clock, per_second, max(MOST_EVENTS, per_second * _BURST_S))
    return Ingest(Machines(clock), Switchboard(clock), rates, per_second, kept_for)
