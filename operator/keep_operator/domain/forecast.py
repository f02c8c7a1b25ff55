"""What a rehearsal says to people and to machines, as one JSON value: what would be made, what holds it, and how it would run.

::

    {outcome, created, changed[], revision?, active?, differences[], faults[], held[], release?, conditions[], …}

    outcome   Faulty      the definition or the spec would be refused
              Unchanged   nothing would change
              Held        the definition of the spec would not become active by itself
              Changes     something would change, and nothing holds it

``held`` names every gate that is shut, where a status names the first one. What could not be seen is for whoever looked to say.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from keep_operator.domain import comparison, difference, gates, release, workflow
from keep_operator.domain.desired import Desired
from keep_operator.domain.effects import EndCanary, EndHold, SetCanary
from keep_operator.domain.gates import Gates
from keep_operator.domain.grammar import workflow as grammar
from keep_operator.domain.history import Flaw, Lineage, Revision
from keep_operator.domain.rehearsal import Outcome
from keep_operator.domain.workflow import Observed
from keep_operator.resources.parts import Approval
from keep_operator.resources.release import Analysis, CanaryStep, Release
from keep_operator.resources.shapes import Invalid
from keep_operator.resources.workflow import WorkflowSpec

Json = dict[str, Any]
# In the order in which one is worse than the other.
OUTCOMES: Final = ("Unchanged", "Changes", "Held", "Faulty")
# Reasons of conditions that stand for a gate; those of release and approval are judged by themselves.
_WAITS: Final = {"TenantReady": "Tenant", "ProvidersReady": "Providers", "DefinitionValid": "Definition"}


def told(
    outcome: Outcome,
    live: WorkflowSpec | Invalid | None,
    contents: Mapping[int, Mapping[str, Any]],
    line: Callable[[str], int | None] = lambda _: None,
    beside: Sequence[str] = (),
) -> Json:
    """The forecast for one Workflow; ``live`` is its spec in the cluster, None: there is none yet.

    ``contents`` are those of its revisions, by number; ``line`` is where a path of the spec stands in the file. ``beside`` are
    paths outside of the spec that differ.
    """
    seen, spec = outcome.before, outcome.before.object.spec
    faults = _faults(seen, line) or _refused(outcome)
    made, latest = outcome.made, None if outcome.after.own is None else outcome.after.own.latest
    changed = [] if live is None or isinstance(live, Invalid) or isinstance(spec, Invalid) else _changed(live, spec)
    changed += beside
    found: Json = {
        "outcome": "Unchanged",
        "created": live is None,
        "changed": changed,
        "faults": faults,
        "revision": None if made is None else _revision(made),
        "active": _pointer(None if seen.own is None else seen.own.active),
        "differences": _differences(seen, contents) if made is not None else [],
        "held": [],
        "release": None,
        "definition": _outline(seen) if live is None and not faults else None,
        "then": _then(outcome),
    }
    if not isinstance(spec, Invalid):
        asked_of = workflow.gates_of(seen, spec)
        found["release"] = _release(outcome, spec, asked_of, latest, contents)
        found["held"] = [] if faults else list(_held(outcome, spec, asked_of))
    found["outcome"] = _judge(found, outcome)
    return found


def worst(outcomes: Iterator[str]) -> str:
    """What several forecasts come to."""
    return max(outcomes, key=OUTCOMES.index, default="Unchanged")


def _judge(found: Json, outcome: Outcome) -> str:
    if found["faults"]:
        return "Faulty"
    if not (found["created"] or found["changed"] or found["revision"] or outcome.effects):
        return "Unchanged"
    return "Held" if found["held"] else "Changes"


def _faults(seen: Observed, line: Callable[[str], int | None]) -> list[Json]:
    spec, wanted = seen.object.spec, seen.wanted
    if isinstance(spec, Invalid):
        return [_fault("SpecRefused", each.path, each.message, line(each.path)) for each in spec.violations]
    flaw = wanted if isinstance(wanted, Flaw) else wanted.flaw if isinstance(wanted, Desired) else None
    if flaw is None:
        return []
    definition = spec.definition
    judged = () if definition is None else grammar.judge(definition).faults
    if not judged:
        return [_fault(flaw.reason, "spec.definition" if definition else "", flaw.message, None)]
    paths = ((each, f"spec.definition.{each.path}" if each.path else "spec.definition") for each in judged)
    return [_fault(str(each.reason), path, each.message, line(path)) for each, path in paths]


def _refused(outcome: Outcome) -> list[Json]:
    """What of the spec is well-formed and can still not be used, such as an expression of the checklist that is none."""
    synced = outcome.condition("Synced")
    if synced is None or synced["reason"] != "SpecRefused":
        return []
    return [_fault(synced["reason"], "", synced["message"], None)]


def _fault(reason: str, path: str, message: str, line: int | None) -> Json:
    return {"reason": reason, "path": path, "message": message, **({} if line is None else {"line": line})}


def _changed(live: WorkflowSpec, spec: WorkflowSpec) -> list[str]:
    """The fields of the spec that differ, by path; the definition as one."""
    old, new = (each.model_dump(mode="json", by_alias=True, exclude_none=True) for each in (live, spec))
    return list(_paths(old, new, ""))


def _paths(old: Any, new: Any, path: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict) and path != "definition":
        for key in dict.fromkeys((*old, *new)):
            yield from _paths(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    elif old != new:
        yield path


def _revision(revision: Revision) -> Json:
    return {
        "number": revision.number,
        "contentHash": revision.content_hash,
        "sameContentAs": revision.same_content_as,
        "diffSummary": revision.diff_summary,
    }


def _pointer(revision: Revision | None) -> Json | None:
    return None if revision is None else {"number": revision.number, "contentHash": revision.content_hash}


def _differences(seen: Observed, contents: Mapping[int, Mapping[str, Any]]) -> list[Json]:
    """Against what is active, and against the newest where that is another content."""
    own, wanted = seen.own, seen.wanted
    if own is None or not isinstance(wanted, Desired):
        return []
    content_hash, found = wanted.hash_in(own), []
    against = {"active": own.active, "newest": own.latest}
    if own.latest is not None and own.active is not None and own.latest.content_hash == own.active.content_hash:
        against.pop("newest")
    for state, revision in against.items():
        if revision is None or revision.content_hash == content_hash:
            continue
        before = contents.get(revision.number)
        about = {"from": {**(_pointer(revision) or {}), "state": state}}
        found.append(
            {**about, "unknown": True} if before is None else {**about, **difference.told(before, wanted.content)}
        )
    return found


def _outline(seen: Observed) -> Json | None:
    """What a definition that nobody knows yet does, by the names of its parts."""
    wanted = seen.wanted
    if not isinstance(wanted, Desired):
        return None
    names = {"triggers": "type", "steps": "name", "actions": "name"}
    return {
        part: [str(each.get(label, "?")) for each in wanted.content.get(part) or () if isinstance(each, Mapping)]
        for part, label in names.items()
    }


def _then(outcome: Outcome) -> Json:
    """What the operator would report: what is active, and the conditions."""
    own = outcome.after.own
    return {
        "active": _pointer(None if own is None else own.active),
        "conditions": [
            {name: each[name] for name in ("type", "status", "reason", "message")}
            for each in outcome.status.get("conditions") or ()
        ],
    }


def _held(outcome: Outcome, spec: WorkflowSpec, asked_of: Gates) -> Iterator[Json]:
    """Every gate that keeps the definition of the spec from the runs; none while it is active, or tried as a canary."""
    own, wanted = outcome.after.own, outcome.after.wanted
    for kind, gate in _WAITS.items():
        condition = outcome.condition(kind)
        if condition is not None and condition["status"] != "True":
            yield _gate(gate, condition["reason"], condition["message"])
    desired = None
    if own is not None and isinstance(wanted, Desired):
        desired = release.desired_revision(own, wanted.hash_in(own))
    if own is None or desired is None:
        synced = outcome.condition("Synced")
        if synced is not None and synced["status"] != "True":
            yield _gate("Record", synced["reason"], synced["message"])
        return
    if own.active_number is not None and desired.number == own.active_number:
        return
    if own.canary is not None and own.canary.candidate == desired.number:
        return
    yield from _shut(outcome, spec, asked_of, own, desired)


def _shut(outcome: Outcome, spec: WorkflowSpec, asked_of: Gates, own: Lineage, desired: Revision) -> Iterator[Json]:
    deployed = outcome.condition("Deployed") or {"reason": "", "message": ""}
    if (barred := release.barred(own, desired)) is not None:
        yield _gate("Content", barred.reason, barred.message)
        return
    if (cannot := gates.unsupported(asked_of)) is not None:
        yield _gate("Strategy", cannot.reason, cannot.message)
    if not desired.was_active:
        approved = outcome.condition("Approved")
        if approved is not None and approved["status"] != "True":
            yield _gate("Approval", approved["reason"], approved["message"])
        if items := gates.open_items(asked_of, own, desired):
            titles = ", ".join(f'{each.id} ("{each.title}")' for each in items)
            yield _gate("Checklist", "ChecklistIncomplete", f"Left to do or to be found true: {titles}")
        if asked_of.manual:
            yield _gate("Deploy", "AwaitingDeploy", f"{desired} waits for the decision Deploy")
    if (pin := release.reference(spec.release.pin)) is not None:
        yield _gate("Pin", deployed["reason"], f"spec.release.pin names {pin}")
    elif own.hold is not None:
        yield _gate("Hold", deployed["reason"], deployed["message"])


def _gate(gate: str, reason: str, message: str) -> Json:
    return {"gate": gate, "reason": reason, "message": message}


def _release(
    outcome: Outcome,
    spec: WorkflowSpec,
    asked_of: Gates,
    latest: Revision | None,
    contents: Mapping[int, Mapping[str, Any]],
) -> Json:
    """How a new version would take over."""
    guard, tried = asked_of.guard, outcome.before.own and outcome.before.own.canary
    return {
        "strategy": spec.release.strategy.type,
        "steps": [_step(each) for each in asked_of.steps],
        "stickyKey": asked_of.sticky_key,
        "skipsSteps": _skipped(outcome, asked_of),
        "approval": _approval(outcome, spec, asked_of, _important(outcome, asked_of, latest, contents)),
        "checklist": _checklist(outcome, asked_of, latest),
        "autoRollback": None
        if guard is None
        else {
            "windowSeconds": int(guard.window.total_seconds()),
            "minRuns": guard.runs,
            "maxFailureRatePercent": guard.percent,
        },
        "canary": None
        if not tried
        else {"revision": tried.candidate, "weight": tried.weight, "becomes": _canary(outcome)},
        "endsHold": any(isinstance(each, EndHold) for each in outcome.effects),
    }


def _canary(outcome: Outcome) -> str:
    """What becomes of the canary that is under way."""
    if any(isinstance(each, EndCanary) for each in outcome.effects):
        return "Ends"
    before, after = outcome.before.own, outcome.after.own
    one, other = (None if own is None else own.canary for own in (before, after))
    begun = one is not None and other is not None and other.began != one.began
    return "Restarts" if begun and any(isinstance(each, SetCanary) for each in outcome.effects) else "GoesOn"


def _skipped(outcome: Outcome, asked_of: Gates) -> str | None:
    """Why a new version would take all runs at once though there are steps; None: there is no such case."""
    before, after = outcome.before.own, outcome.after.own
    if not asked_of.steps or after is None or after.active is None or outcome.made is None:
        return None
    if before is None or before.active_number is None:
        return "It is the first version that becomes active"
    if after.active_number == outcome.made.number:
        count = asked_of.rollback_window
        return f"Its content is one of the last {count} that were active (rollbackWindow)"
    return None


def _approval(outcome: Outcome, spec: WorkflowSpec, asked_of: Gates, important: Json) -> Json:
    rule, found = asked_of.approval, outcome.condition("Approved")
    return {
        "required": rule.required,
        "setBy": _set_by(outcome.before, spec.release, rule.required),
        "needed": found is not None and found["status"] != "True",
        "status": None if found is None else found["reason"],
        "important": important,
        "minApprovals": rule.least,
        "approvers": [{"users": list(each.users), "groups": list(each.groups)} for each in rule.approvers],
        "forbidSelfApproval": rule.forbid_self,
        "carryOver": rule.carry_over,
    }


def _set_by(seen: Observed, own: Release, required: str) -> str | None:
    """Who asks for as much approval as there is."""
    if required == "Never":
        return None
    default = None if seen.tenant is None or seen.tenant.defaults is None else seen.tenant.defaults.approval
    for who, given in (("Workflow", (own, None)), ("TenantDefault", (own, default))):
        release_, fallback = given
        if gates.gates(release_, fallback, None).approval.required == required and _says(release_.approval, fallback):
            return who
    return "TenantFloor"


def _says(own: Approval | None, default: Approval | None) -> bool:
    return any(each is not None and each.required is not None for each in (own, default))


def _important(
    outcome: Outcome, asked_of: Gates, latest: Revision | None, contents: Mapping[int, Mapping[str, Any]]
) -> Json:
    """Which paths and marks make the version important."""
    seen, rule = outcome.before, asked_of.approval
    if latest is None or not isinstance(seen.wanted, Desired):
        return {"paths": [], "marked": seen.important}
    active = None if seen.own is None else seen.own.active_number
    before = {} if active is None else contents.get(active, {})
    changed = comparison.compare(before, seen.wanted.content).paths
    unmarked = replace(latest, important=False)
    touched = [
        path
        for path in rule.important_paths
        if gates.is_important(replace(rule, important_paths=(path,)), unmarked, changed)
    ]
    return {"paths": touched, "marked": seen.important or latest.important}


def _checklist(outcome: Outcome, asked_of: Gates, latest: Revision | None) -> list[Json]:
    own = outcome.after.own
    known = {} if own is None or latest is None else gates.checked(own, latest.number)
    return [
        {
            "id": each.id,
            "title": each.title,
            "required": each.required,
            "auto": each.auto,
            "done": each.id in known and known[each.id].done,
            "message": known[each.id].message if each.id in known else "",
        }
        for each in asked_of.checklist
    ]


def _step(step: CanaryStep) -> Json:
    """One step, as the spec says it and in words."""
    said: Json = _spelt(step.model_dump(by_alias=True, exclude_none=True))
    return {**said, "words": in_words(step)}


def _spelt(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _spelt(each) for key, each in value.items()}
    return lasting(value) if isinstance(value, timedelta) else value


def in_words(step: CanaryStep) -> str:
    """What a step does, as the end of a sentence."""
    if step.set_weight is not None:
        return f"{step.set_weight} % of the runs"
    if step.pause is not None:
        if step.pause.duration is None:
            return "wait for a person (promote or abort)"
        return f"wait {lasting(step.pause.duration)}"
    assert step.analysis is not None  # one of the three is there
    return _analysis(step.analysis)


def _analysis(analysis: Analysis) -> str:
    limits = [f"at most {analysis.max_failure_rate_percent} % failed"]
    if analysis.max_error_rate_delta_percent is not None:
        limits.append(f"at most {analysis.max_error_rate_delta_percent} points worse than the stable version")
    if analysis.max_p95_duration is not None:
        limits.append(f"95 of 100 within {lasting(analysis.max_p95_duration)}")
    forgiven = f"; {analysis.failure_limit} failed measurements are forgiven" if analysis.failure_limit else ""
    runs = f"{analysis.min_runs} run{'' if analysis.min_runs == 1 else 's'}"
    return f"go on if, of {runs} or more within {lasting(analysis.window)}, {', '.join(limits)}{forgiven}"


def lasting(time: timedelta) -> str:
    """A duration as a spec has it: `90s` is `1m30s`."""
    seconds = int(time.total_seconds())
    if time != timedelta(seconds=seconds):
        return f"{time.total_seconds():g}s"
    parts = (("h", seconds // 3600), ("m", seconds % 3600 // 60), ("s", seconds % 60))
    return "".join(f"{number}{unit}" for unit, number in parts if number) or "0s"
