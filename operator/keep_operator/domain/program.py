"""A definition as a program: what a run does next, told from the facts of the run and the rows of what was done.

::

    definition ──► Program.of ──► program.next(facts, done, now) ──► Perform   call a provider, record its result, ask again
                                        ▲                            Fail      record a Failed row, ask again
                                        │                            Skip      record a Skipped row, ask again
                                        └──────── run_step rows ◄──  Sleep     ask again at that time
                                                                     Finish    the run is over

Nothing is kept between two calls, so a run that a worker left is gone on with by any other: the rows say how far it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Literal

# The iteration of what has no foreach.
ONCE: Final = -1


class State(StrEnum):
    """What became of one start of a step: the column ``state`` of its row, once it has ended."""

    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    SKIPPED = "Skipped"
    LOST = "Lost"


@dataclass(frozen=True, slots=True)
class Previous:
    """What earlier events and runs left behind, read once when the run is accepted or claimed for the first time.

    ``results`` and ``started_at`` are those of the last run of the workflow that succeeded: results by the names of its
    steps. ``firing_since``: when the event's alert began to fire, None if it does not. ``fired_before``: when an event of
    its fingerprint last came firing before this one. ``told``: names of the steps that succeeded for this fingerprint
    since it was last resolved; what has ``throttle: one_until_resolved`` and is in there does not run again.
    """

    results: Mapping[str, Any] = field(default_factory=dict)
    started_at: datetime | None = None
    firing_since: datetime | None = None
    fired_before: datetime | None = None
    told: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a run knows beside its definition and its rows; the same at each call, or the run is another one.

    ``event`` is the alert, ``incident`` the incident that started the run, as JSON. ``providers`` are the details of
    providers that are no secret. ``inputs`` are those that were given; defaults come from the definition.
    """

    run_id: str
    tenant_id: str
    workflow_id: str
    workflow_name: str
    revision: int
    content_hash: str
    trigger: str
    started_at: datetime
    inputs: Mapping[str, Any] = field(default_factory=dict)
    event: Mapping[str, Any] | None = None
    incident: Mapping[str, Any] | None = None
    providers: Mapping[str, Any] = field(default_factory=dict)
    previous: Previous = field(default_factory=Previous)


@dataclass(frozen=True, slots=True)
class Done:
    """A row of what ended. ``try_`` counts from 0.

    ``LOST`` is a start of which nobody knows how it ended, and which may be repeated: ``next`` starts it again, with the
    next try. What must not be repeated never comes back here: its run has ended before.
    """

    position: int
    iteration: int
    try_: int
    state: State
    result: Any = None
    message: str = ""
    completed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Enrichment:
    """A field that a step writes to an alert or an incident, once it has succeeded.

    ``fingerprint`` is the one of the alert, or the id of the incident; None if only the result can tell. ``value`` is
    what ``resolved`` makes of it: a text that begins with ``results.`` or ``results[`` names a part of the result.
    """

    target: Literal["alert", "incident"]
    fingerprint: str | None
    key: str
    value: Any
    disposable: bool = False


@dataclass(frozen=True, slots=True)
class Perform:
    """Call a provider. ``position`` counts steps, then actions, then the action of ``on-failure``.

    The idempotency key of a call is run, position and iteration: a retry is the same call. ``provider`` is the name of
    the Provider, None where the step needs none. ``parameters`` are filled in, without ``enrich_alert`` and
    ``enrich_incident``: those are ``enrichments``, to be written with the row that says Succeeded.
    """

    position: int
    iteration: int
    try_: int
    name: str
    kind: Literal["step", "action"]
    type: str
    subtype: str
    provider: str | None
    parameters: Mapping[str, Any]
    enrichments: tuple[Enrichment, ...] = ()
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Skip:
    """Record a Skipped row: the step is not to run, ``message`` says why."""

    position: int
    iteration: int
    name: str
    message: str
    try_: int = 0


@dataclass(frozen=True, slots=True)
class Fail:
    """Record a Failed row: the step cannot run, since what it says cannot be filled in or evaluated."""

    position: int
    iteration: int
    name: str
    message: str
    try_: int = 0


@dataclass(frozen=True, slots=True)
class Sleep:
    """Nothing is to be done before ``until``: the pause that ``on-failure.retry.interval`` asks for."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Finish:
    """The run is over. ``message`` says which steps failed, and with what."""

    state: Literal["Succeeded", "Failed"]
    reason: str
    message: str = ""


Outcome = Perform | Skip | Fail | Sleep | Finish


@dataclass(frozen=True, slots=True)
class Program:
    """A definition that can be run."""

    definition: Mapping[str, Any]

    @classmethod
    def of(cls, definition: Mapping[str, Any]) -> "Program":
        """The program of a valid definition. Raises ValueError for one that the grammar faults."""
        return cls(definition)

    def inputs(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The inputs of a run: what was given, as the declared types, with defaults. Raises InvalidInputs."""
        raise NotImplementedError(given)

    def next(self, facts: Facts, done: Sequence[Done], now: datetime) -> Outcome:
        """What is to be done, given the rows in any order. Deterministic; never raises for what a definition says.

        Times in the workflow (``keep.utcnow()``) are those at which the row before was completed, and ``now`` only ends
        a Sleep: so whoever goes on with a run, and whenever, makes the same calls.
        """
        raise NotImplementedError(facts, done, now)


class InvalidInputs(ValueError):
    """Inputs that the definition does not take; the message names each with what is wrong."""


def resolved(enrichments: Sequence[Enrichment], result: Any) -> tuple[Enrichment, ...]:
    """The enrichments with the values and fingerprint that ``result`` has for them. Raises ValueError without fingerprint."""
    raise NotImplementedError(enrichments, result)
