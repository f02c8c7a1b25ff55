"""How far the release of a workflow has come, as data and as lines: the plan of what is in the cluster, beside what its status says."""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import click

from keep_operator.domain import forecast
from keep_operator.plugin import output, plan_words
from keep_operator.plugin.kubectl import Json
from keep_operator.plugin.view import View
from keep_operator.resources import shapes

# Reasons of `Deployed` after which nothing happens any more unless people do something: none of them is a success.
_LOST: Final = {
    "AutoRolledBack": "TakenBack",
    "Denied": "Denied",
    "RejectedByUser": "Rejected",
    "Aborted": "Aborted",
    "RolledBack": "RolledBack",
    "InvalidRevision": "Invalid",
    "NoRollbackTarget": "DoesBadly",
}
# Reasons that stand for a gate which people open.
_GATES: Final = {"AwaitingApproval": "Approval", "ChecklistIncomplete": "Checklist", "AwaitingDeploy": "Deploy"}
OVER: Final = ("Active",)
LOST: Final = (*_LOST.values(), "Pinned")
_WORDS: Final = {
    "Active": "is released",
    "Watched": "is released, and watched",
    "Unseen": "has not been looked at by the operator yet",
    "Waiting": "waits",
    "Canary": "is tried",
    "Paused": "is tried, and waits for a person",
    "TakenBack": "was taken back",
    "Denied": "was denied",
    "Rejected": "was rejected",
    "Aborted": "was aborted",
    "RolledBack": "was rolled back",
    "Invalid": "is not valid",
    "DoesBadly": "does badly, and there is nothing to go back to",
    "Pinned": "is held by a pin",
}
PHASES: Final = tuple(_WORDS)
_COLOURS: Final = {
    **dict.fromkeys(("Active", "Watched"), "green"),
    **dict.fromkeys(("Waiting", "Canary", "Paused", "Unseen"), "yellow"),
    **dict.fromkeys(LOST, "red"),
}
_BAR: Final = 30


@dataclass(frozen=True, slots=True)
class State:
    """One look. ``told`` is what `-o json` prints."""

    told: Json

    @property
    def phase(self) -> str:
        """How far it is, as one word."""
        return str(self.told["phase"])

    @property
    def over(self) -> bool:
        """Whether nothing more happens by itself."""
        return self.phase in (*OVER, *LOST)

    @property
    def lost(self) -> bool:
        """Whether it ended otherwise than its author wanted."""
        return self.phase in LOST


def look(seen: View, planned: Json, now: datetime, flags: str = "") -> State:
    """The state of a workflow whose own forecast is ``planned``; ``flags`` belong to each command that is proposed."""
    deployed = seen.condition("Deployed")
    canary, held = _canary(seen, planned, now), _held(seen, planned)
    watched = _watched_until(seen, planned)
    phase = _phase(seen, deployed.get("reason", ""), watched, now)
    return State(
        {
            "workflow": seen.name,
            "namespace": seen.namespace,
            "phase": phase,
            "active": seen.status.get("activeRevision"),
            "desired": seen.status.get("desiredRevision"),
            "deployed": {name: deployed.get(name) for name in ("status", "reason", "message")} if deployed else None,
            "held": [] if phase in ("Active", "Watched", "Canary", "Paused") else held,
            "approval": (planned["release"] or {}).get("approval"),
            "approvals": _approvals(seen),
            "checklist": (planned["release"] or {}).get("checklist") or [],
            "canary": canary,
            "hold": seen.hold,
            "watchedUntil": None if watched is None or phase != "Watched" else watched.isoformat(timespec="seconds"),
            "next": _next(seen, planned, phase, {each["gate"] for each in held}, flags),
            "tenantRead": planned["tenantRead"],
        }
    )


def _held(seen: View, planned: Json) -> list[Json]:
    """The gates that are shut. The operator's word comes first: it knows the Tenant, and the groups of those who approved."""
    found = {each["gate"]: each for each in planned["held"]}
    for kind in ("Approved", "Deployed"):
        condition = seen.condition(kind)
        gate = _GATES.get(condition.get("reason", "")) if condition.get("status") == "Unknown" else None
        if gate is not None and (kind == "Approved" or gate not in found):
            found[gate] = {"gate": gate, "reason": condition["reason"], "message": condition["message"]}
    if seen.condition("Approved").get("status") == "True":
        found.pop("Approval", None)
    return [found[gate] for gate in sorted(found, key=lambda gate: (gate not in _GATES.values(), gate))]


def _phase(seen: View, reason: str, watched: datetime | None, now: datetime) -> str:
    generation = seen.workflow["metadata"].get("generation")
    if not seen.status or seen.status.get("observedGeneration") != generation:
        return "Unseen"
    if seen.condition("DefinitionValid").get("status") == "False":
        return "Invalid"
    if seen.canary is not None:
        waits = seen.canary.get("paused") or reason in ("CanaryPaused", "AnalysisInconclusive")
        return "Paused" if waits else "Canary"
    if reason in _LOST:
        return _LOST[reason]
    if reason == "Pinned" and seen.desired_number != seen.active_number:
        return "Pinned"
    if seen.active_number is not None and seen.desired_number == seen.active_number:
        return "Watched" if watched is not None and now < watched else "Active"
    return "Waiting"


def _watched_until(seen: View, planned: Json) -> datetime | None:
    """Until when automatic rollback watches what is active, if it does."""
    guard = (planned["release"] or {}).get("autoRollback")
    active = seen.status.get("activeRevision") or {}
    if (
        guard is None
        or not active.get("since")
        or active.get("reason") in ("Rollback", "Rejected", "AutoRollback", "Pin")
    ):
        return None
    return datetime.fromisoformat(active["since"]) + timedelta(seconds=guard["windowSeconds"])


def _canary(seen: View, planned: Json, now: datetime) -> Json | None:
    tried = seen.canary
    if tried is None:
        return None
    steps = (planned["release"] or {}).get("steps") or []
    place = tried.get("stepIndex", 0)
    return {
        **tried,
        "stable": seen.active_number,
        "steps": steps,
        "secondsLeft": _left(steps[place] if place < len(steps) else {}, tried, now),
    }


def _left(step: Json, tried: Json, now: datetime) -> int | None:
    """Seconds that the present step may still take; None: nobody knows."""
    text = (step.get("pause") or step.get("analysis") or {}).get("duration" if "pause" in step else "window")
    if text is None or tried.get("paused"):
        return None
    end = datetime.fromisoformat(tried["stepStartedAt"]) + shapes.parse_duration(text)
    return max(0, int((end - now).total_seconds()))


def _approvals(seen: View) -> list[Json]:
    found = next((each for each in seen.versions if each.number == seen.desired_number), None)
    return [] if found is None else list(found.status.get("approvals") or ())


def _next(seen: View, planned: Json, phase: str, gates: AbstractSet[str], flags: str) -> list[str]:
    """What somebody may do now, as commands."""
    name, version = seen.name, f"v{seen.desired_number}"
    keep, why = "kubectl keep", '-m "..."'
    commands: list[str] = []
    match phase:
        case "Canary":
            commands = [f"promote {name}", f"pause {name}", f"abort {name} {why}"]
        case "Paused":
            resume = [f"resume {name}"] if (seen.canary or {}).get("paused") else []
            commands = [*resume, f"promote {name}", f"abort {name} {why}"]
        case "Aborted" | "TakenBack" | "Rejected":
            commands = [f"retry {name}"]
        case "RolledBack":
            commands = [f"resume {name}"]
        case "Pinned":
            commands = [f"pin {name} --remove"]
        case "Waiting":
            commands = [*_gate_commands(planned, name, version, gates)]
        case "DoesBadly" | "Watched":
            commands = [f"rollback {name} {why}"]
    return [f"{keep} {each}{flags}" for each in commands]


def _gate_commands(planned: Json, name: str, version: str, gates: AbstractSet[str]) -> Iterator[str]:
    if "Approval" in gates:
        yield f"diff {name} active {version}"
        yield f"approve {name} {version}"
        yield f'deny {name} {version} -m "..."'
    if "Checklist" in gates:
        items = (planned["release"] or {}).get("checklist") or []
        yield from (
            f"check {name} {each['id']}" for each in items if each["required"] and not each["done"] and not each["auto"]
        )
    if gates == {"Deploy"}:
        yield f"deploy {name}"


def lines(state: State) -> Iterator[str]:
    """The state for people; the last lines are what to do."""
    told = state.told
    version = f"v{told['desired']['number']}" if told["desired"] else "what the spec asks for"
    words = _WORDS[state.phase]
    subject = click.style(told["workflow"], bold=True) + f" in {told['namespace']}: "
    if state.phase == "Unseen":
        version = "it"
    yield subject + click.style(f"{version} {words}", fg=_COLOURS[state.phase])
    active = told["active"]
    if active and not told["canary"] and (not told["desired"] or active["number"] != told["desired"]["number"]):
        yield f"  v{active['number']} is active"
    message = (told["deployed"] or {}).get("message")
    if message and state.phase not in ("Active", "Watched", "Waiting"):
        yield f"  {message}"
    for gate in told["held"] if not state.lost else ():
        yield f"  {click.style('held', fg='yellow')}  {gate['gate']}: {gate['message']}"
    if state.phase == "Watched":
        yield f"  Automatic rollback watches until {output.moment(told['watchedUntil'])} UTC"
    yield from _approval_lines(told)
    yield from _checklist_lines(told)
    yield from _canary_lines(told)
    for place, command in enumerate(told["next"]):
        yield f"  {'Next:' if place == 0 else '':<6}{command}"


def _approval_lines(told: Json) -> Iterator[str]:
    approval = told["approval"]
    if approval is None or told["phase"] not in ("Waiting", "Denied"):
        return
    if approval["required"] != "Never":
        yield f"  {plan_words.approval(approval, tenant_read=told['tenantRead'])}"
    for each in told["approvals"]:
        mark = click.style("yes", fg="green") if each["decision"] == "Approve" else click.style("no ", fg="red")
        yield f"    {mark}  {output.who(each['actor'])}, {output.moment(each['at'])} UTC"


def _checklist_lines(told: Json) -> Iterator[str]:
    if told["phase"] != "Waiting":
        return
    for each in told["checklist"]:
        mark = click.style("[x]", fg="green") if each["done"] else "[ ]"
        how = f", once {each['auto']}" if each["auto"] else ""
        why = f" ({each['message']})" if each["message"] else ""
        needed = "" if each["required"] else " (not required)"
        yield f"  {mark} {each['id']}: {each['title']}{needed}{how}{why}"


def _canary_lines(told: Json) -> Iterator[str]:
    canary = told["canary"]
    if canary is None:
        return
    filled = round(_BAR * canary["weight"] / 100)
    bar = click.style("#" * filled, fg="yellow") + "." * (_BAR - filled)
    yield f"  [{bar}] v{canary['revision']} {canary['weight']} %, v{canary['stable']} {100 - canary['weight']} %"
    analysis = canary.get("analysis")
    for place, step in enumerate(canary["steps"]):
        here = place == canary.get("stepIndex", 0)
        mark = "done" if place < canary.get("stepIndex", 0) else "now" if here else ""
        left = (
            f"  ({forecast.lasting(timedelta(seconds=canary['secondsLeft']))} left)"
            if here and canary["secondsLeft"]
            else ""
        )
        text = f"  {mark:<5}{place + 1}. {step['words']}{left}"
        yield click.style(text, bold=True) if here else text
        if here and analysis:
            yield f"          {_figures(analysis)}"


def _figures(analysis: Json) -> str:
    runs, failures = analysis.get("runs", 0), analysis.get("failures", 0)
    share = f", {analysis['failurePermille'] / 10:.1f} %" if runs else ""
    return f"{output.count(runs, 'run')} ended, {failures} failed{share}: {analysis.get('verdict', 'Pending')}"


def summary(state: State) -> Sequence[str]:
    """What a line of change tells: two looks with equal summaries need no line."""
    told = state.told
    canary = told["canary"] or {}
    share = f", {canary['weight']} %, step {canary.get('stepIndex', 0) + 1} of {len(canary['steps'])}" if canary else ""
    analysis = f", {_figures(canary['analysis'])}" if canary.get("analysis") else ""
    version = f"v{told['desired']['number']} " if told["desired"] else ""
    held = "; ".join(f"{each['gate']}: {each['message']}" for each in told["held"])
    why = (told["deployed"] or {}).get("message") or "" if not canary else ""
    return (f"{version}{_WORDS[state.phase]}{share}{analysis}", held or why)
