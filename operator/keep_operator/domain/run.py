"""What becomes of one run that somebody asked for by an object: bound to a version once, then shown as its row says.

::

    deleted? ── ended? ── row there? ──yes──► cancel it, if that is asked for; show what the row says
                              │ no
              restored? ── Workflow there, its Tenant too? ── which version? ── may it run? ── finalizer ── the row

The row is the run: workers know nothing of the object, and the object nothing that the row does not say. A run that was
refused has no row, and never gets one (A-RUN-5).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Final, TypeAlias
from uuid import UUID

from keep_operator.domain import conditions, history, mirror, release, tenancy
from keep_operator.domain import gates as gate_rules
from keep_operator.domain.conditions import Finding, Truth
from keep_operator.domain.execution import STATE_OF, Mode, Reason, Run, State, Trigger
from keep_operator.domain.gates import OPEN, Gates
from keep_operator.domain.history import Lineage, Reference, Refusal, Revision
from keep_operator.domain.links import NO_LINKS, Links
from keep_operator.domain.planning import Plan, SetMetadata
from keep_operator.domain.release import Scene
from keep_operator.resources.kinds import API_VERSION, GROUP, WORKFLOWS, Key
from keep_operator.resources.objects import Object
from keep_operator.resources.run import (
    DEFAULT_TIMEOUT,
    MESSAGE_LIMIT,
    PROVIDERS_LIMIT,
    STEPS_LIMIT,
    RunRevision,
    WorkflowRunSpec,
)
from keep_operator.resources.shapes import Invalid
from keep_operator.resources.workflow import RunHistory

FINALIZER: Final = f"{GROUP}/run-archive"
LIVING: Final = ("Accepted", "Succeeded", "Archived")
# How long a run waits for the Workflow that it names, and for that to have an active version.
PATIENCE: Final = timedelta(minutes=10)
# Word comes when a run begins and ends; this is for the word that was lost.
LOOK_AGAIN: Final = timedelta(seconds=30)
# The Workflow itself is looked at first, which wakes the run; this is for the edge that nobody thought of.
WORKFLOW_FIRST: Final = timedelta(seconds=5)
# Between two looks at the steps of a run that is under way, and between two writes that show nothing else.
STEPS_EVERY: Final = timedelta(seconds=10)
# Whoever waits for the end of a run sees it, however many others end.
SHOWN_AT_LEAST: Final = timedelta(minutes=1)
# Of a spec that cannot be read.
DEFAULT_TTL: Final = timedelta(hours=1)
# These tools make again what is deleted, which would run again.
_TRACKING: Final = ("ArgoCD", "Flux", "Helm")
_NAME_LIMIT: Final = 253

_FAILURES: Final = frozenset(str(reason) for reason, state in STATE_OF.items() if state is State.FAILED)
# What a step that ended in one of several ways is called: the first that one of its parts has.
_WORST: Final = ("Running", "Failed", "Lost", "Succeeded", "Skipped")


@dataclass(frozen=True, slots=True)
class Part:
    """What the status needs of one start of a step (`execution.Step`), which may have results of any size."""

    position: int
    iteration: int
    try_number: int
    attempt: int
    name: str
    state: str
    started_at: datetime
    completed_at: datetime | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Sight:
    """The Workflow of a run. ``lineage`` is None while there is no record of it that can be used.

    ``waits`` says what its Tenant is waited for, None where it is Ready; ``behind`` what the database is known to have had and
    does not have now, None where there is no such thing. ``runtime`` is what the Tenant's spec says,
    ``looked_at`` whether the Workflow has been looked at since its spec last changed.
    """

    uid: str
    lineage: Lineage | None = None
    gates: Gates = OPEN
    scene: Scene | None = None
    suspended: bool = False
    waits: str | None = None
    behind: str | None = None
    runtime: str | None = None
    looked_at: bool = True


@dataclass(frozen=True, slots=True)
class Observed:
    """One look at a run. ``workflow`` is None where there is none, or one that goes; it is not looked for once there is a row.

    ``parts`` are the starts of its steps. ``original`` is the run that this repeats. ``refused`` is what the database said to the
    request of this very reconcile. ``restored``: it has a label of a backup tool. ``surplus``: the
    Workflow's `runHistory` leaves no place for it. ``steps_told_at`` is when its steps were last shown, as far as is known.
    ``referenced``: its Workflow owns it, by reference. ``links`` lead to what the console shows of it. ``done`` names the last
    action of this very reconcile.
    """

    object: Object[WorkflowRunSpec]
    workflow: Sight | None = None
    row: Run | None = None
    parts: tuple[Part, ...] = ()
    original: Run | None = None
    refused: Refusal | None = None
    restored: bool = False
    surplus: bool = False
    steps_told_at: datetime | None = None
    referenced: bool = True
    links: Links = NO_LINKS
    done: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """The row and its job, as one; the version is chosen in that transaction, by ``reference`` or as the active one.

    ``key`` and ``uid`` are those of the object. Asked again with the same ``idempotency_key`` nothing new is made.
    ``retry_of`` is the run that is tried again: its inputs are taken where ``inputs`` are None, its version where ``reference`` is.
    ``unreleased``: a version that was never active may be named, since nobody has to approve it.
    """

    key: Key
    uid: str
    lineage: Lineage
    reference: Reference | None
    trigger: Trigger
    mode: Mode
    inputs: Mapping[str, Any] | None
    timeout: timedelta
    idempotency_key: str
    retry_of: UUID | None = None
    unreleased: bool = True


@dataclass(frozen=True, slots=True)
class Cancel:
    """The run shall end; nothing happens to one that has ended."""

    row: Run


@dataclass(frozen=True, slots=True)
class Expire:
    """The object of a run that has ended goes; its record stays."""

    key: Key
    uid: str


Action: TypeAlias = Request | Cancel | Expire


def is_ended(obj: Object[Any]) -> bool:
    """Whether the status says what came of it; that never changes."""
    return obj.condition("Succeeded") in (Truth.TRUE, Truth.FALSE)


def idempotency_key(obj: Object[WorkflowRunSpec]) -> str:
    """What no other run of the workflow has."""
    key = None if isinstance(obj.spec, Invalid) else obj.spec.idempotency_key
    return obj.uid if key is None else key


def plan(seen: Observed, now: datetime) -> Plan[Action]:
    """What to do next; once the status says how the run ended, nothing but that the object goes in time."""
    obj, row = seen.object, seen.row
    if obj.deleting:
        return _plan_deletion(seen)
    if (untied := tenancy.untied(obj, referenced=seen.referenced)) is not None:
        return Plan(actions=(untied,))
    if is_ended(obj):
        return _plan_end(seen, now)
    if row is not None:
        return _plan_row(seen, row, now)
    if "executionId" in obj.status:
        return _plan_lost(obj, now)
    if isinstance(obj.spec, Invalid):
        return _refuse(obj, Refusal("SpecRefused", f"The spec is not valid: {obj.spec}"), now)
    if seen.restored:
        message = (
            "It comes from a backup, and what became of it is not known here, so it does not run: make another one"
        )
        return _refuse(obj, Refusal("RestoredFromBackup", message), now)
    if obj.spec.cancel:
        return _refuse(obj, Refusal("Cancelled", "spec.cancel was true before the run was accepted"), now)
    return _plan_request(seen, obj.spec, now)


def _plan_request(seen: Observed, spec: WorkflowRunSpec, now: datetime) -> Plan[Action]:
    obj, about, name = seen.object, seen.workflow, spec.workflow_ref.name
    if about is None:
        message = f'There is no Workflow "{name}"'
        waits = conditions.unknown("Accepted", "WorkflowNotFound", message)
        return _wait_for_workflow(obj, waits, Refusal("WorkflowNotFound", message), now)
    if about.runtime not in (None, "builtin"):
        message = (
            f'The Tenant of Workflow "{name}" has spec.runtime "{about.runtime}", where this version of the operator starts '
            "no runs"
        )
        return _refuse(obj, Refusal("RuntimeUnsupported", message), now)
    if not about.looked_at and now < obj.created_at + PATIENCE:
        return Plan(wake_in=WORKFLOW_FIRST)
    if about.waits is not None or about.lineage is None:
        message = about.waits or f'Waiting for Workflow "{name}" to have a record; see its conditions'
        return _report_pending(obj, conditions.unknown("Accepted", "WaitingForTenant", message), now)
    if about.behind is not None:
        return _report_pending(obj, conditions.unknown("Accepted", "DatabaseBehind", about.behind), now)
    if (refusal := _refusal(seen, spec, about)) is not None:
        return _refuse(obj, refusal, now)
    wanted = reference(spec.revision, seen.original)
    if wanted is None and about.lineage.active is None:
        message = f'Workflow "{name}" has no active version; see its conditions'
        waits = conditions.unknown("Accepted", "NoRevisionYet", message)
        return _wait_for_workflow(obj, waits, Refusal("RevisionNotFound", message), now)
    chosen = choose(about.lineage, wanted, about.gates, about.scene)
    if isinstance(chosen, Refusal):
        return _refuse(obj, chosen, now)
    if (metadata := _metadata_due(seen, about, name)) is not None:
        return Plan(actions=(metadata,))
    request = Request(
        key=obj.key,
        uid=obj.uid,
        lineage=about.lineage,
        reference=wanted if spec.revision is not None else None,
        trigger=spec.trigger,
        mode=spec.mode,
        inputs=spec.inputs,
        retry_of=None if seen.original is None else seen.original.id,
        timeout=spec.timeout or DEFAULT_TIMEOUT,
        idempotency_key=idempotency_key(obj),
        unreleased=about.gates.approval.required == "Never" or (wanted is not None and wanted.number == chosen.number),
    )
    return Plan(actions=(request,))


def _refusal(seen: Observed, spec: WorkflowRunSpec, about: Sight) -> Refusal | None:
    """Why the run does not start, whichever version it names; the word of the database is the last one."""
    name = spec.workflow_ref.name
    if about.suspended or (about.lineage is not None and about.lineage.suspended):
        return Refusal("Suspended", f'Workflow "{name}" is suspended, or its definition is disabled')
    if seen.refused is not None:
        return seen.refused
    if spec.retry_of is not None and seen.original is None:
        return Refusal(
            "RevisionNotFound", f'No run was started by WorkflowRun "{spec.retry_of.name}": nothing to repeat'
        )
    return None


def reference(choice: RunRevision | None, original: Run | None = None) -> Reference | None:
    """The version that is asked for: by the spec, else that of the run which is repeated (A-RUN-4); None: the active one."""
    if choice is not None:
        return Reference(choice.number, choice.content_hash, choice.tag)
    return None if original is None else Reference(number=original.revision)


def choose(lineage: Lineage, wanted: Reference | None, gates: Gates, scene: Scene | None = None) -> Revision | Refusal:
    """The version that runs, or why none: RevisionNotFound, RevisionInvalid, RevisionNotApproved (A-RUN-5, A-AP-2).

    What is active has passed every gate. One that is named needs no rollout: it may be tried before it is active.
    """
    if wanted is None:
        active = lineage.active
        return active or Refusal("RevisionNotFound", f"No version of {lineage.external_name} is active")
    found = history.resolve(lineage, wanted)
    if isinstance(found, Refusal):
        return Refusal("RevisionNotFound", found.message)
    if found.flaw is not None:
        return Refusal("RevisionInvalid", f"{found} is not valid: {found.flaw.message}")
    if lineage.denial(found) is not None:
        return Refusal("RevisionNotApproved", f"The content of {found} was denied")
    if lineage.rejection(found) is not None:
        return Refusal("RevisionNotApproved", f"The content of {found} was rejected; decide Retry to take it back")
    if scene is None or found is not lineage.latest:
        approved = gate_rules.judge(gates.approval, lineage, found, important=True)
    else:
        approved = release.judge_approval(lineage, found, gates, scene)
    if not approved.open:
        return Refusal("RevisionNotApproved", approved.finding.message)
    return found


def _metadata_due(seen: Observed, about: Sight, name: str) -> SetMetadata | None:
    """What is missing of finalizer and owner reference, in one patch, before there is a row."""
    obj = seen.object
    owners = _with_owner(obj.owners, about.uid, name) if seen.referenced else obj.owners
    if FINALIZER in obj.finalizers and owners == obj.owners:
        return None
    return SetMetadata(obj.finalizers if FINALIZER in obj.finalizers else (*obj.finalizers, FINALIZER), owners)


def _with_owner(owners: tuple[Mapping[str, Any], ...], uid: str, name: str) -> tuple[Mapping[str, Any], ...]:
    """The owner references with exactly one to the Workflow; the controller, unless somebody else is that already."""
    others = tuple(owner for owner in owners if not _is_workflow(owner))
    mine = {
        "apiVersion": API_VERSION,
        "kind": WORKFLOWS.kind,
        "name": name,
        "uid": uid,
        "controller": not any(owner.get("controller") for owner in others),
        "blockOwnerDeletion": False,
    }
    return owners if [owner for owner in owners if _is_workflow(owner)] == [mine] else (*others, mine)


def _is_workflow(owner: Mapping[str, Any]) -> bool:
    return owner.get("kind") == WORKFLOWS.kind and str(owner.get("apiVersion", "")).partition("/")[0] == GROUP


def _wait_for_workflow(obj: Object[WorkflowRunSpec], waits: Finding, last: Refusal, now: datetime) -> Plan[Action]:
    """In one `kubectl apply` a run may come before its Workflow: that is waited for, but not for ever."""
    left = obj.created_at + PATIENCE - now
    if left > timedelta():
        return replace(_report_pending(obj, waits, now), wake_in=left)
    minutes = f"{PATIENCE.total_seconds() / 60:.0f} minutes"
    return _refuse(obj, replace(last, message=f"{last.message}, and there was none for {minutes}"), now)


def _plan_row(seen: Observed, row: Run, now: datetime) -> Plan[Action]:
    """What the row says. A run that is under way shows other steps only every now and then: they are many."""
    obj = seen.object
    if not isinstance(obj.spec, Invalid) and obj.spec.cancel and not (row.state.terminal or row.cancel_requested):
        return Plan(actions=(Cancel(row),))
    accepted = conditions.true("Accepted", "Accepted", f"Bound to {row.version}")
    found = [accepted, judge(row)]
    if row.state.terminal:
        found.append(conditions.true("Archived", "Archived", f"The record {row.id} is complete; the object may go"))
    fields = _told(obj, row, seen.parts, seen.links)
    wake_in = _first_look(obj) if row.state.terminal else STEPS_EVERY if row.state is State.RUNNING else LOOK_AGAIN
    if not row.state.terminal and fields["steps"] != list(obj.status.get("steps") or ()):
        left = STEPS_EVERY if seen.steps_told_at is None else seen.steps_told_at + STEPS_EVERY - now
        if seen.steps_told_at is not None and left > timedelta():
            fields.pop("steps")
            wake_in = min(STEPS_EVERY, left)
    return _report(obj, *found, fields=fields, wake_in=wake_in, now=now)


def judge(row: Run) -> Finding:
    """The condition ``Succeeded`` of a run that has a row; every failure names the version (A-RUN-10)."""
    said = f": {row.message}" if row.message else ""
    match row.state:
        case State.QUEUED:
            return conditions.unknown("Succeeded", "Queued", f"{row.version} waits for a worker")
        case State.RUNNING:
            asked = ", and is to be ended" if row.cancel_requested else ""
            return conditions.unknown("Succeeded", "Running", f"{row.version} is under way{asked}")
        case State.SUCCEEDED:
            return conditions.true("Succeeded", "Completed", f"{row.version} has run to its end")
        case State.CANCELLED:
            return conditions.false("Succeeded", "Cancelled", f"{row.version} was cancelled{said}")
        case State.TIMED_OUT:
            return conditions.false("Succeeded", "TimedOut", f"{row.version} took too long{said}")
        case State.FAILED:
            reason = row.reason if row.reason in _FAILURES else Reason.STEP_FAILED
            return Finding("Succeeded", Truth.FALSE, str(reason), f"{row.version} failed{said}")


def _told(obj: Object[WorkflowRunSpec], row: Run, parts: Sequence[Part], links: Links) -> dict[str, Any]:
    name = "" if isinstance(obj.spec, Invalid) else obj.spec.workflow_ref.name
    bound = {
        "number": row.revision,
        "name": mirror.object_name(name, Revision(row.revision, row.content_hash, row.queued_at)),
        "contentHash": row.content_hash,
    }
    times = {"queuedAt": row.queued_at, "startedAt": row.started_at, "completedAt": row.completed_at}
    fields: dict[str, Any] = {
        "state": str(row.state),
        "revision": obj.status.get("revision") or bound,
        "selection": row.selection,
        "executionId": str(row.id),
        **{field: conditions.rfc3339(at) for field, at in times.items() if at is not None},
        "steps": summary(parts),
    }
    if (url := links.run(row.id)) or "resultUrl" in obj.status:
        fields["resultUrl"] = url or None
    if row.attempt:
        fields["attempt"] = row.attempt
    if row.started_at is not None and row.completed_at is not None:
        fields["duration"] = spelt(row.completed_at - row.started_at)
    if row.provider_config_hashes:
        fields["providerConfigHashes"] = dict(sorted(row.provider_config_hashes.items())[:PROVIDERS_LIMIT])
    return fields


def summary(parts: Iterable[Part]) -> list[dict[str, Any]]:
    """The steps as the status shows them: one line each, of all its turns and tries; at most a hundred."""
    ordered = sorted(parts, key=lambda part: (part.position, part.iteration, part.try_number, part.attempt))
    told = []
    for _, group in groupby(ordered, key=lambda part: part.position):
        tries = list(group)
        turns = [list(each)[-1] for _, each in groupby(tries, key=lambda part: part.iteration)]
        states = {turn.state for turn in turns}
        state = next((each for each in _WORST if each in states), turns[-1].state)
        said = next((turn.message for turn in reversed(turns) if turn.state == state and turn.message), "")
        step = {"name": turns[-1].name[:_NAME_LIMIT] or "-", "state": state}
        ended = [turn.completed_at for turn in turns if turn.completed_at is not None]
        if state not in ("Running", "Skipped") and ended:
            step["duration"] = spelt(max(ended) - min(part.started_at for part in tries))
        if said:
            step["message"] = said[:MESSAGE_LIMIT]
        told.append(step)
        if len(told) == STEPS_LIMIT:
            break
    return told


def spelt(duration: timedelta) -> str:
    """A duration for people, in at most two units: `350ms`, `12s`, `1m5s`, `2h10m`."""
    milliseconds = max(0, round(duration.total_seconds() * 1000))
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    seconds = round(milliseconds / 1000)
    if seconds < 60:
        return f"{seconds}s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes}m{seconds}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m"


def _plan_lost(obj: Object[WorkflowRunSpec], now: datetime) -> Plan[Action]:
    """It had a row, of which the database knows nothing: it may have run, so it never runs again (A-REV-13)."""
    message = (
        f"The database has no run {obj.status['executionId']}, which this was. It is not started again. Was an older dump "
        "restored? Delete this object, and make another one to run it."
    )
    accepted = conditions.true("Accepted", "Accepted", "It was accepted once")
    return _report(obj, accepted, conditions.unknown("Succeeded", "DatabaseBehind", message), now=now)


def _plan_deletion(seen: Observed) -> Plan[Action]:
    """The record stays, and so does a run that is under way (A-RUN-8); what was asked for last is done first."""
    obj, row = seen.object, seen.row
    if FINALIZER not in obj.finalizers:
        return Plan()
    cancels = not isinstance(obj.spec, Invalid) and obj.spec.cancel
    if cancels and row is not None and not (row.state.terminal or row.cancel_requested):
        return Plan(actions=(Cancel(row),))
    return Plan(actions=(SetMetadata(tuple(name for name in obj.finalizers if name != FINALIZER), obj.owners),))


def ended_at(obj: Object[Any]) -> datetime | None:
    """When the run ended, by its status; None where it has not."""
    if not is_ended(obj):
        return None
    at = obj.status.get("completedAt") or next(
        (each["lastTransitionTime"] for each in obj.status["conditions"] if each["type"] == "Succeeded"), None
    )
    return None if at is None else datetime.fromisoformat(at)


def surplus(obj: Object[WorkflowRunSpec], siblings: Sequence[Object[WorkflowRunSpec]], kept: RunHistory) -> bool:
    """Whether so many of the Workflow's runs of the same outcome ended later that there is no place for this one (A-RET-6)."""
    outcome = obj.condition("Succeeded")
    limit = kept.successful if outcome == Truth.TRUE else kept.failed
    alike = [
        each for each in siblings if each.condition("Succeeded") == outcome and not (each.deleting or _is_kept(each))
    ]
    alike.sort(key=lambda each: (ended_at(each) or each.created_at, each.key.name), reverse=True)
    return obj.key in {each.key for each in alike[limit:]}


def _plan_end(seen: Observed, now: datetime) -> Plan[Action]:
    """The object goes in time. One that a tool would make again is left to it: it would run again."""
    obj, at, ttl = seen.object, ended_at(seen.object), _time_to_live(seen.object)
    if at is None or _is_kept(obj):
        return Plan()
    left = at + (min(ttl, SHOWN_AT_LEAST) if seen.surplus else ttl) - now
    return Plan(wake_in=left) if left > timedelta() else Plan(actions=(Expire(obj.key, obj.uid),))


def _time_to_live(obj: Object[WorkflowRunSpec]) -> timedelta:
    return DEFAULT_TTL if isinstance(obj.spec, Invalid) else timedelta(seconds=obj.spec.ttl_seconds_after_finished)


def _is_kept(obj: Object[Any]) -> bool:
    """Whether a tool would make it again."""
    return obj.source.get("tool") in _TRACKING


def _first_look(obj: Object[WorkflowRunSpec]) -> timedelta | None:
    """When a run that has just ended may have to go at the earliest."""
    return None if _is_kept(obj) else min(_time_to_live(obj), SHOWN_AT_LEAST)


def _report_pending(obj: Object[WorkflowRunSpec], waits: Finding, now: datetime) -> Plan[Action]:
    """It waits to be accepted, of which ``waits`` tells."""
    return _report(obj, waits, replace(waits, type="Succeeded"), state="Pending", now=now)


def _refuse(obj: Object[WorkflowRunSpec], why: Refusal, now: datetime) -> Plan[Action]:
    """It never starts: said once, and for good."""
    found = [conditions.false(kind, why.reason, why.message) for kind in ("Accepted", "Succeeded")]
    state = "Cancelled" if why.reason == "Cancelled" else "Failed"
    ended = {"completedAt": conditions.rfc3339(now)}
    return _report(obj, *found, state=state, fields=ended, wake_in=_first_look(obj), now=now)


def _report(
    obj: Object[WorkflowRunSpec],
    *found: Finding,
    state: str | None = None,
    fields: Mapping[str, Any] | None = None,
    wake_in: timedelta | None = None,
    now: datetime,
) -> Plan[Action]:
    old = obj.status.get("conditions") or ()
    status: dict[str, Any] = {
        **obj.status,
        **(fields or {}),
        "observedGeneration": obj.generation,
        "conditions": conditions.merge(old, found, generation=obj.generation, now=now),
    }
    if state is not None:
        status["state"] = state
    return Plan(status=status, wake_in=wake_in)
