"""Which events start a workflow: the triggers of one revision, compiled once, asked for each event.

::

    alert ──► duplicate of the last event? ──► filters, else cel ──► only_on_change, severity_changed ──► Match
                       nothing                    (neither: yes)        against the last event

The rules are Keep's (docs/events.md): where both are given filters win; an empty cel, or filters of which none is left,
never match; of the fields of ``only_on_change`` every one must have changed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from keep_operator.domain.events import cel, filters
from keep_operator.domain.events.alert import ORDER, Alert, Previous
from keep_operator.domain.events.cel import EvaluationFailed, Expression, Scene
from keep_operator.domain.events.filters import Test
from keep_operator.domain.events.incident import Incident
from keep_operator.domain.grammar import triggers
from keep_operator.domain.grammar.faults import Findings

NEVER: Final = "never"
# What a trigger adds to the alert for its run; equal names that were posted are lost to it.
ADDED: Final = frozenset({"trigger", "severity_changed", "previous_severity", "severity_change"})


@dataclass(frozen=True, slots=True)
class Match:
    """A trigger that an event fulfils. ``event`` is the alert as the run gets it."""

    path: str
    event: Mapping[str, Any] = field(hash=False)


@dataclass(frozen=True, slots=True)
class Failure:
    """A trigger whose expression had no answer; it did not match. ``message`` is a sentence for people."""

    path: str
    message: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the triggers of a workflow say to one event: the first that matches, and those that failed before it."""

    match: Match | None = None
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True)
class _Trigger:
    declared: triggers.Alert
    condition: Test | Expression | None

    def passes(self, scene: Scene, fields: Mapping[str, Any]) -> bool:
        """Raises EvaluationFailed."""
        if self.condition is None:
            return True
        return self.condition.matches(scene) if isinstance(self.condition, Expression) else self.condition(fields)


@dataclass(frozen=True, slots=True)
class Triggers:
    """The event triggers of one revision; immutable, as the revision is."""

    alerts: tuple[_Trigger, ...] = ()
    incidents: tuple[triggers.Incident, ...] = ()

    @property
    def any(self) -> bool:
        """Whether events can start it at all."""
        return bool(self.alerts or self.incidents)

    def on_alert(self, alert: Alert, previous: Previous | None, seen: "Seen") -> Answer:
        """What they say to an alert that is no duplicate. ``seen`` is the alert made ready, once for all workflows."""
        failures = []
        for each in self.alerts:
            try:
                if not each.passes(seen.scene, seen.fields):
                    continue
            except EvaluationFailed as failure:
                failures.append(Failure(f"{each.declared.path}.cel", f"{each.declared.path}.cel {failure}"))
                continue
            if _changed(each.declared, alert, previous):
                event = {**seen.fields, "trigger": "alert", **_change(each.declared, alert, previous)}
                return Answer(Match(each.declared.path, event), tuple(failures))
        return Answer(None, tuple(failures))

    def on_incident(self, incident: Incident) -> Answer:
        """What they say to an incident."""
        for each in self.incidents:
            if incident.event in each.events:
                return Answer(Match(each.path, incident.fields))
        return Answer()


@dataclass(frozen=True, slots=True)
class Seen:
    """An alert as triggers see it: with what was added to it before."""

    fields: Mapping[str, Any]
    scene: Scene

    @classmethod
    def of(cls, alert: Alert, previous: Previous | None) -> "Seen":
        """Made once for each event."""
        fields = alert.enriched({} if previous is None else previous.enrichments)
        return cls(fields, Scene(fields))


def is_duplicate(alert: Alert, previous: Previous | None) -> bool:
    """Whether this event has been taken already: it starts nothing (A-EVT-1)."""
    return previous is not None and previous.digest == alert.digest


def compiled(definition: Mapping[str, Any]) -> Triggers:
    """The event triggers of a valid definition, ready to be asked; slow for CEL (1 ms for each hundred characters)."""
    alerts: list[_Trigger] = []
    incidents: list[triggers.Incident] = []
    for each in triggers.read(definition, Findings()):
        if isinstance(each, triggers.Incident):
            incidents.append(each)
        elif isinstance(each, triggers.Alert) and (condition := _condition(each)) != NEVER:
            assert not isinstance(condition, str)
            alerts.append(_Trigger(each, condition))
    return Triggers(tuple(alerts), tuple(incidents))


def _condition(declared: triggers.Alert) -> Test | Expression | str | None:
    """What an alert must pass; None: nothing."""
    if declared.filters is not None:
        return filters.test_of(declared.filters) or NEVER
    if declared.cel is None:
        return None
    try:
        return cel.compiled(declared.cel) if declared.cel.strip() else NEVER
    except EvaluationFailed:  # no revision with such a trigger is valid, nor active
        return NEVER


def _fields(declared: triggers.Alert) -> Sequence[str]:
    return (*declared.only_on_change, "severity") if declared.severity_changed else declared.only_on_change


def _changed(declared: triggers.Alert, alert: Alert, previous: Previous | None) -> bool:
    """Whether every field that must change has; an alert that was not known before has changed."""
    if previous is None:
        return True
    return all(alert.fields.get(name) != previous.event.get(name) for name in _fields(declared))


def _change(declared: triggers.Alert, alert: Alert, previous: Previous | None) -> Mapping[str, Any]:
    """What a run learns of a change of severity, as in Keep."""
    if previous is None or not declared.severity_changed:
        return {}
    before = str(previous.event.get("severity"))
    worse = ORDER.get(before, 0) < alert.severity.order
    return {
        "severity_changed": True,
        "previous_severity": before,
        "severity_change": "increased" if worse else "decreased",
    }
