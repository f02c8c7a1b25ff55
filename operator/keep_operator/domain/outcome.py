"""What a program is asked with and what it answers: the facts and rows of a run, and the next thing to do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Literal

from keep_operator.domain.language import context
from keep_operator.domain.language.context import MISSING
from keep_operator.domain.language.limits import Budget

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

    ``results`` and ``started_at`` are those of the last run of the workflow that succeeded: by the name of each step a list
    of what its calls answered, as in Keep. ``firing_since``: when the event's alert began to fire, None if it does not.
    ``fired_before``: when an event of its fingerprint last came firing before this one. ``told``: names of the steps that
    succeeded for this fingerprint since it was last resolved; what has ``throttle: one_until_resolved`` and is in there
    does not run again.
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


def resolved(enrichments: Sequence[Enrichment], result: Any) -> tuple[Enrichment, ...]:
    """The enrichments with the values and the fingerprint that ``result`` has for them.

    Raises ValueError where there is no alert or incident to write to, or no such part of the result.
    """
    found = []
    for each in enrichments:
        own = result.get("fingerprint") if isinstance(result, Mapping) else None
        fingerprint = own if isinstance(own, str) and own else each.fingerprint
        if not fingerprint:
            raise ValueError(f"there is no {each.target} to enrich: neither the run nor the result has a fingerprint")
        value = each.value
        if isinstance(value, str) and value.startswith(("results.", "results[")):
            value = context.walk({"results": result}, context.split(value), Budget())
            if value is MISSING:
                raise ValueError(f"the result has no {context.quoted(each.value)} to enrich the {each.target} with")
        found.append(replace(each, fingerprint=fingerprint, value=value))
    return tuple(found)
