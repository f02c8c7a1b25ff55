"""Goes through the steps of a program along the rows of a run, until it comes to what has not been done yet."""

import keyword
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from keep_operator.domain import alerting
from keep_operator.domain.alerting import Maker
from keep_operator.domain.grammar import steps as grammar
from keep_operator.domain.language import conditions, context, limits, mustache
from keep_operator.domain.language.conditions import Judged
from keep_operator.domain.language.context import MISSING, Record
from keep_operator.domain.language.expressions import Absent
from keep_operator.domain.language.functions import Moment
from keep_operator.domain.language.limits import Budget, Failed, LimitExceeded
from keep_operator.domain.language.mustache import Filling
from keep_operator.domain.outcome import (
    ONCE,
    Done,
    Enrichment,
    Facts,
    Fail,
    Finish,
    Outcome,
    Perform,
    Skip,
    Sleep,
    State,
    resolved,
)

# Characters of a sentence about a step, and of the one about a run.
_TOLD: Final = 300
_TOLD_OF_RUN: Final = 1_000
# Seconds; longer pauses between tries are this long.
_LONGEST_PAUSE_S: Final = 86_400
# What an alert of Keep has even if nobody said it, so that texts may name it.
_ALERT: Final[Mapping[str, Any]] = {
    "firingStartTime": None,
    "firingStartTimeSinceLastResolved": None,
    "firingCounter": 0,
    "unresolvedCounter": 0,
    "environment": None,
    "isFullDuplicate": False,
    "isPartialDuplicate": False,
    "duplicateReason": None,
    "service": None,
    "source": [],
    "apiKeyRef": None,
    "message": None,
    "description": None,
    "description_format": None,
    "pushed": False,
    "event_id": None,
    "url": None,
    "imageUrl": None,
    "labels": {},
    "fingerprint": None,
    "deleted": False,
    "dismissUntil": None,
    "dismissed": False,
    "assignee": None,
    "providerId": None,
    "providerType": None,
    "note": None,
    "startedAt": None,
    "isNoisy": False,
    "enriched_fields": [],
    "incident": None,
}


@dataclass(frozen=True, slots=True)
class Step:
    """A step as the grammar reads it, and as it is written, its texts marked as the definition's."""

    read: grammar.Step
    raw: Mapping[str, Any]

    @property
    def conditions(self) -> Sequence[Mapping[str, Any]]:
        """What decides whether it runs, beside ``if``."""
        return self.raw.get("condition") or ()

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What is sent to the provider, not filled in."""
        return (self.raw.get("provider") or {}).get("with") or {}

    @property
    def retry(self) -> tuple[int, float]:
        """How often it is tried again, and after how many seconds."""
        failure = self.raw.get("on-failure") or (self.raw.get("provider") or {}).get("on-failure") or {}
        retry = failure.get("retry") or {}
        return int(retry.get("count", 0)), min(float(retry.get("interval", 0)), _LONGEST_PAUSE_S)

    @property
    def throttled(self) -> bool:
        """Whether it runs once for an alert until that is resolved."""
        return bool(self.raw.get("throttle"))

    @property
    def continue_on_error(self) -> bool:
        """Whether its failure is none of the run."""
        return self.raw.get("continue_on_error") is True


@dataclass(frozen=True, slots=True)
class Script:
    """What is gone through. ``sees_…``: whether any text may look back at what conditions came to, at what was sent."""

    definition: Mapping[str, Any]
    steps: tuple[Step, ...]
    on_failure: Step | None
    sees_conditions: bool
    sees_parameters: bool


@dataclass(slots=True)
class _Fate:
    """What became of a step with all its iterations."""

    ran: bool = False
    errors: list[str] = field(default_factory=list)


class _Pending(Exception):
    """The next thing to be done was found."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__()
        self.outcome = outcome


class Walk:
    """Goes through the steps along the rows, building up what texts may name, until something has no row yet."""

    def __init__(
        self, script: Script, facts: Facts, inputs: Mapping[str, Any], done: Sequence[Done], now: datetime
    ) -> None:
        self._script = script
        self._facts = facts
        self._now = now
        self._clock = facts.started_at
        self._rows: dict[tuple[int, int], list[Done]] = {}
        for row in sorted(done, key=lambda each: each.try_):
            self._rows.setdefault((row.position, row.iteration), []).append(row)
        self._steps: dict[str, Any] = {}
        self._aliases: dict[str, Any] = {}
        # What the step before has brought, of which an action of type keep makes alerts.
        self._brought: Any = None
        self._foreach: dict[str, Any] = {"value": None, "items": None}
        self._event = None if facts.event is None else Record({**_ALERT, **facts.event})
        inline = script.definition.get("providers") or {}
        described = {
            name: {key: value for key, value in each.items() if key != "authentication"}
            for name, each in inline.items()
            if isinstance(each, dict)
        }
        previous = facts.previous
        self._roots: dict[str, Any] = {
            "steps": self._steps,
            "actions": self._steps,
            "event": self._event or {},
            "alert": self._event or {},
            "incident": None if facts.incident is None else Record(facts.incident),
            "consts": context.source(script.definition.get("consts") or {}),
            "inputs": inputs,
            "providers": {**described, **facts.providers},
            "last_workflow_results": previous.results,
            "last_workflow_run_time": previous.started_at,
            "secrets": {},
            "vars": {},
            "aliases": {},
        }

    def next(self) -> Outcome:
        """The first thing that has no row, or the end."""
        try:
            errors = self._run()
            if not errors:
                return Finish("Succeeded", "Completed")
            message = "; ".join(errors)
            if self._script.on_failure is not None:
                failed = self._go(self._script.on_failure, told=self._notice(message)).errors
                message = "; ".join([message, *failed])
            return Finish("Failed", "StepFailed", _cut(message, _TOLD_OF_RUN))
        except _Pending as pending:
            return pending.outcome

    def _run(self) -> list[str]:
        """The errors with which the run ends. A failed step ends it at once, a failed action does not."""
        errors: list[str] = []
        stopped: set[str] = set()
        for step in self._script.steps:
            kind = step.read.kind
            if kind in stopped:
                continue
            fate = self._go(step)
            if fate.errors and not step.continue_on_error:
                errors += fate.errors
                if kind == "step" and step.read.foreach is None:
                    return errors
            if fate.ran and not step.read.goes_on:
                stopped.add(kind)
        return errors

    def _notice(self, message: str) -> str:
        facts = self._facts
        return _cut(
            f"Workflow {facts.workflow_name}, revision {facts.revision} ({facts.content_hash}), failed with errors: {message}",
            _TOLD_OF_RUN,
        )

    def _go(self, step: Step, told: str | None = None) -> _Fate:
        """One step with all its iterations; ``told`` stands for its parameter ``message``."""
        fate = _Fate()
        read = step.read
        self._steps.setdefault(read.name, {"provider_parameters": {}, "results": []}).update(
            vars=step.raw.get("vars") or {}, aliases={}
        )
        self._roots["vars"] = step.raw.get("vars") or {}
        self._roots["secrets"] = {**self._roots["secrets"], **self._roots["vars"]}
        self._roots["aliases"] = {}
        if read.foreach is None:
            self._one(step, ONCE, fate, told)
            return fate
        try:
            items = self._items(read.foreach)
        except Failed as error:
            self._failed_before(step, f"foreach {error}", fate)
            return fate
        if not items:
            if not self._rows.get((read.position, ONCE)):
                raise _Pending(Skip(read.position, ONCE, read.name, "foreach has no items"))
            self._passed(self._rows[read.position, ONCE])
            return fate
        self._foreach["items"] = items
        self._steps[read.name]["results"] = []
        for iteration, item in enumerate(items):
            self._foreach["value"] = item
            self._one(step, iteration, fate, told)
        self._foreach = {"value": None, "items": None}
        return fate

    def _items(self, foreach: str) -> list[Any]:
        """What a foreach goes through; several lists joined by ``&&`` go side by side, as far as the shortest."""
        budget = Budget()
        found = []
        for part in foreach.split("&&"):
            name = part.replace("{{", "").replace("}}", "").strip()
            value = context.look_up(name, [self._names()], budget)
            if value is MISSING or value is None or value == "":
                value = []
            elif isinstance(value, dict):
                value = list(value)
            elif not isinstance(value, list | tuple):
                raise Failed(f"needs a list, and {context.quoted(name)} is {context.quoted(context.text(value))}")
            found.append(value)
        items = list(found[0]) if len(found) == 1 else [list(each) for each in zip(*found, strict=False)]
        if len(items) > limits.ITEMS:
            raise LimitExceeded(
                f"has {len(items):,} items, and at most {limits.ITEMS:,} are gone through; ask for fewer"
            )
        return items

    def _failed_before(self, step: Step, message: str, fate: _Fate) -> None:
        """A step that fails before its first iteration: one Failed row."""
        read = step.read
        rows = self._rows.get((read.position, ONCE))
        if not rows:
            raise _Pending(Fail(read.position, ONCE, read.name, _cut(message, _TOLD)))
        self._passed(rows)
        fate.errors.append(self._error(step, ONCE, rows[-1].message or message))

    def _one(self, step: Step, iteration: int, fate: _Fate, told: str | None) -> None:
        """One iteration along its rows; raises _Pending where they end."""
        read = step.read
        rows = self._rows.get((read.position, iteration), [])
        last = rows[-1] if rows else None
        if last is None:
            raise _Pending(self._prepare(step, iteration, 0, told))
        again = last.try_ + 1
        if last.state is State.LOST:
            raise _Pending(self._prepare(step, iteration, again, told))
        if last.state is State.FAILED:
            count, pause_s = step.retry
            if sum(row.state is State.FAILED for row in rows) <= count:
                outcome = self._prepare(step, iteration, again, told)
                if isinstance(outcome, Perform):
                    until = (last.completed_at or self._clock) + timedelta(seconds=pause_s)
                    raise _Pending(Sleep(until) if self._now < until else outcome)
        self._replay(step, iteration, rows)
        self._passed(rows)
        if last.state is State.FAILED:
            fate.errors.append(self._error(step, iteration, last.message))
        elif last.state is State.SUCCEEDED:
            fate.ran = True

    def _error(self, step: Step, iteration: int, message: str) -> str:
        where = "" if iteration == ONCE else f" (item {iteration})"
        return f"{step.read.kind} {context.quoted(step.read.name)}{where} failed: {_cut(message, _TOLD)}"

    def _passed(self, rows: Sequence[Done]) -> None:
        self._clock = rows[-1].completed_at or self._clock

    def _replay(self, step: Step, iteration: int, rows: Sequence[Done]) -> None:
        """What a finished iteration left for the texts of later ones, as far as any of them can see it."""
        last = rows[-1]
        newest = (step.read.position, iteration + 1) not in self._rows
        if (step.conditions or isinstance(step.raw.get("alias"), dict)) and (newest or self._script.sees_conditions):
            filling = self._filling()
            try:
                self._set_aliases(step, filling)
                self._judge(step, filling)
            except Failed:
                # That is why the step failed; what it had set by then is set again.
                pass
        if last.state is not State.SUCCEEDED:
            return
        entry = self._steps[step.read.name]
        if iteration == ONCE:
            entry["results"] = last.result
        else:
            entry["results"].append(last.result)
        if newest and self._script.sees_parameters:
            entry["provider_parameters"] = self._sent(step, iteration)
        self._steps["this"] = entry
        if step.read.kind == "step":
            self._brought = entry["results"]
        if isinstance(alias := step.raw.get("alias"), str):
            self._aliases[str(alias)] = entry["results"]
        if iteration == ONCE and self._event is not None and "enrich_alert" in step.parameters:
            self._enrich(self._event, step, last.result)

    def _sent(self, step: Step, iteration: int) -> dict[str, Any]:
        """The parameters of a call that was made."""
        try:
            return self._parameters(step, iteration, self._filling(), None)
        except Failed:
            return {}

    def _enrich(self, event: Record, step: Step, result: Any) -> None:
        """What a step wrote to the alert of the run is seen by the steps after it."""
        try:
            for each in resolved(self._enrichments(step, self._filling()), result):
                if each.target == "alert" and each.fingerprint == event.get("fingerprint"):
                    event[each.key] = each.value
        except (Failed, ValueError):
            # The row would say Failed; whoever wrote Succeeded has written nothing to the alert.
            pass

    # ── what a call is made of ──

    def _names(self) -> dict[str, Any]:
        return {**self._roots, "foreach": self._foreach, **self._aliases}

    def _filling(self) -> Filling:
        previous = self._facts.previous
        fingerprint = None if self._event is None else self._event.get("fingerprint")
        moment = Moment(self._clock, fingerprint, previous.firing_since, previous.fired_before)
        return Filling([self._names()], moment)

    def _prepare(self, step: Step, iteration: int, try_: int, told: str | None) -> Outcome:
        read = step.read
        filling = self._filling()
        try:
            skipped = self._skipped(step, filling)
            if skipped is not None:
                return Skip(read.position, iteration, read.name, _cut(skipped, _TOLD), try_)
            parameters = self._parameters(step, iteration, filling, told)
            enrichments = self._enrichments(step, filling)
        except Failed as error:
            return Fail(read.position, iteration, read.name, _cut(str(error), _TOLD), try_)
        return Perform(
            position=read.position,
            iteration=iteration,
            try_=try_,
            name=read.name,
            kind=read.kind,
            type=read.type,
            subtype=read.subtype,
            provider=read.provider,
            parameters=parameters,
            enrichments=enrichments,
        )

    def _set_aliases(self, step: Step, filling: Filling) -> None:
        if isinstance(aliases := step.raw.get("alias"), dict):
            found = {name: mustache.render(value, filling) for name, value in aliases.items() if isinstance(value, str)}
            self._roots["aliases"] = self._steps[step.read.name]["aliases"] = found
            filling.scopes[-1] = self._names()

    def _judge(self, step: Step, filling: Filling) -> list[Judged]:
        """All conditions, each seen by the next one and by what follows."""
        found = []
        told = self._steps[step.read.name].setdefault("conditions", {}) if step.conditions else {}
        for condition in step.conditions:
            judged = conditions.judge(condition, filling)
            found.append(judged)
            told.setdefault(judged.name, []).append(judged.entry())
            if all(judged.type != other.get("name") for other in step.conditions):
                # Keep's own examples still look for it by its type.
                told.setdefault(judged.type, []).append(judged.entry())
            self._aliases[judged.alias] = judged.holds
            self._foreach.update(compare_value=judged.compare_value, compare_to=judged.compare_to, **judged.details)
            filling.scopes[-1] = self._names()
        return found

    def _skipped(self, step: Step, filling: Filling) -> str | None:
        """Why a step does not run; None: it does."""
        self._set_aliases(step, filling)
        judged = self._judge(step, filling)
        guard = step.raw.get("if")
        if guard is False:
            return "if is false"
        if isinstance(guard, str) and guard.strip():
            try:
                if not conditions.holds(guard, filling):
                    return f"if does not hold: {guard}"
            except Absent as absent:
                return f"if does not hold: {absent}"
            except Failed as error:
                raise type(error)(f"if {error}") from None
        elif guard is not True and not conditions.all_hold(judged):
            return "; ".join(f"condition {context.quoted(each.name)}: {each.why}" for each in judged if not each.holds)
        if step.throttled and step.read.name in self._facts.previous.told:
            return "throttled: it has run for this alert, which has not been resolved since"
        return None

    def _parameters(self, step: Step, iteration: int, filling: Filling, told: str | None) -> dict[str, Any]:
        read = step.read
        if not read.type:
            raise Failed(
                f"uses the stored action {context.quoted(read.uses or '')}, and there are none here: say provider"
            )
        given = {name: value for name, value in step.parameters.items() if name not in _ENRICHING}
        if told is not None:
            given.pop("message", None)
        if read.kind == "action" and read.type == "keep" and (iteration == ONCE or given.get("alert")):
            # It makes an alert of each result, and fills its parameters in for each of them; in a foreach of its item alone.
            maker = Maker(self._facts.workflow_id, read.name)
            results = self._brought if iteration == ONCE else _alone(self._foreach["value"])
            return alerting.parameters(given, results, maker, filling, told)
        found = {}
        for name, value in given.items():
            key = f"{name}_" if read.kind == "step" and keyword.iskeyword(name) else name
            try:
                found[key] = self._parameter(value, step, filling)
            except Failed as error:
                raise type(error)(f"with.{name}: {error}") from None
        return found if told is None else {**found, "message": told}

    def _parameter(self, value: Any, step: Step, filling: Filling) -> Any:
        if step.read.kind == "step" and isinstance(value, dict) and isinstance(key := value.get("key"), str):
            default = value.get("default")
            strict = value.get("safe") is True and default is not None
            return mustache.render(key, filling, strict=strict, default=default)
        return _filled(value, filling)

    def _enrichments(self, step: Step, filling: Filling) -> tuple[Enrichment, ...]:
        found = []
        for name, target in _ENRICHING.items():
            for entry in step.parameters.get(name) or ():
                try:
                    filled = {key: _filled(value, filling) for key, value in entry.items()}
                except Failed as error:
                    raise type(error)(f"with.{name}: {error}") from None
                aim, fingerprint = self._enriched(target)
                found.append(
                    Enrichment(
                        aim, fingerprint, str(filled["key"]), filled["value"], bool(filled.get("disposable", False))
                    )
                )
        return tuple(found)

    def _enriched(self, target: Literal["alert", "incident"]) -> tuple[Literal["alert", "incident"], str | None]:
        """What a step enriches, as Keep finds it: the item of the foreach, the alert of the run, its incident."""
        item = self._foreach["value"]
        if isinstance(item, list) and item:
            item = item[0]
        if isinstance(item, dict) and isinstance(own := item.get("fingerprint"), str) and target == "alert":
            return "alert", own
        if target == "alert" and self._event is not None:
            fingerprint = self._event.get("fingerprint")
            return "alert", fingerprint if isinstance(fingerprint, str) else None
        if self._facts.incident is not None:
            identity = self._facts.incident.get("id")
            return "incident", None if identity is None else str(identity)
        return target, None


_ENRICHING: Final[Mapping[str, Literal["alert", "incident"]]] = {"enrich_alert": "alert", "enrich_incident": "incident"}


def _alone(item: Any) -> Mapping[str, Any]:
    return item if isinstance(item, dict) else {}


def _filled(value: Any, filling: Filling) -> Any:
    """A parameter with every text in it filled in; names must be there."""
    match value:
        case str():
            return mustache.render(value, filling, strict=True)
        case dict():
            return {key: _filled(each, filling) for key, each in value.items()}
        case list():
            return [_filled(each, filling) for each in value]
    return value


def _cut(text: str, length: int) -> str:
    """A sentence that fits, without what a database does not store: an alert may hold anything."""
    shown = text[: length + 1].replace("\x00", "\ufffd").encode(errors="replace").decode()
    return shown if len(shown) <= length else f"{shown[: length - 1]}…"
