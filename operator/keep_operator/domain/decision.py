"""The object of a decision, from its creation to its end: who may decide so, what it waits for, what its status tells.

::

    told already? ── readable? ── handled before? ── is its Workflow known? ── verdict (`domain.verdict`) ── effects, then status

Deleting the object of a decision undoes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

from keep_operator.domain import conditions, tenancy
from keep_operator.domain.conditions import Finding, Truth
from keep_operator.domain.history import Lineage
from keep_operator.domain.planning import Plan, SetMetadata
from keep_operator.domain.verdict import Handled, Situation, Verdict, judge
from keep_operator.resources.decision import WorkflowDecisionSpec
from keep_operator.resources.kinds import API_VERSION, GROUP, WORKFLOWS, Key
from keep_operator.resources.objects import Object
from keep_operator.resources.shapes import Invalid

# How long a decision waits for the Workflow that it names.
PATIENCE: Final = timedelta(minutes=10)
# How long the object of a decision stays after that was handled; the database remembers it for ever.
KEPT: Final = timedelta(days=30)
# The Workflow itself is looked at first, which wakes the decision; this is for the edge that nobody thought of.
LOOK_AGAIN: Final = timedelta(seconds=5)
# What anybody who may make a decision may decide where nobody can prove who that is: it stops harm, and is undone easily.
UNPROVEN: Final = ("Rollback", "Abort", "Pause", "Resume", "Note")
# These tools make again what is deleted.
_TRACKING: Final = ("ArgoCD", "Flux", "Helm")


def distrust(spec: WorkflowDecisionSpec, lack: str) -> Finding | None:
    """Why a decision is not carried out where nobody can prove that its actor made it; None: it is, as unverified (A-AP-5).

    ``lack`` says what the proof lacks (`proof.lack`).
    """
    if spec.action in UNPROVEN and not spec.force:
        return None
    what = f"{spec.action} by force" if spec.force else spec.action
    return conditions.false(
        "Handled",
        "ActorUnverified",
        f'This cluster cannot prove that "{spec.actor}" made the decision: {lack}. {what} is for the privileged. '
        "KEEP_OPERATOR_DECISIONS_UNVERIFIED=Record would carry it out, and record it as unverified.",
    )


def forbid(spec: WorkflowDecisionSpec, verb: str) -> Finding:
    """Why nothing is carried out that its actor may not decide, whoever made it."""
    return conditions.false(
        "Handled",
        "Forbidden",
        f'"{spec.actor}" lacks the verb "{verb}" on {WORKFLOWS.plural}.{GROUP} "{spec.workflow_ref.name}"',
    )


@dataclass(frozen=True, slots=True)
class Observed:
    """One look at a decision. ``met`` is None while there is no such workflow, or none that has its record.

    ``workflow_uid`` is that of the Workflow's object, ``looked_at`` says whether the Workflow has been looked at since its
    spec last changed. ``forbidden`` says why its author may not decide so (reasons Forbidden, ActorUnverified); None:
    nothing against it. ``verified``: the cluster proves that its actor made it. ``referenced``: its Workflow owns it, by
    reference. ``done`` names the last action of this very reconcile.
    """

    object: Object[WorkflowDecisionSpec]
    met: Situation | None
    forbidden: Finding | None = None
    workflow_uid: str | None = None
    looked_at: bool = True
    referenced: bool = True
    done: str | None = None
    verified: bool = False


@dataclass(frozen=True, slots=True)
class Handle:
    """All effects of a decision and the mark that it was handled, as one; not twice for one `requestId`.

    ``key`` and ``uid`` are those of its object, ``lineage`` is what it was judged by: if that is not so any more, it must be
    judged anew. ``verified``: it is proven who decided.
    """

    key: Key
    uid: str
    lineage: Lineage
    decision: WorkflowDecisionSpec
    verdict: Verdict
    at: datetime
    verified: bool = False


@dataclass(frozen=True, slots=True)
class Expire:
    """The object of a decision that was handled long ago goes."""

    key: Key
    uid: str


Action: TypeAlias = Handle | Expire


def is_handled(obj: Object[Any]) -> bool:
    """Whether the status says what came of it; that never changes."""
    return obj.condition("Handled") in (Truth.TRUE, Truth.FALSE)


def plan(seen: Observed, now: datetime) -> Plan[Action]:
    """What to do next; nothing once the status tells what came of it, until the object has served its time."""
    obj, met = seen.object, seen.met
    if obj.deleting:
        return Plan()
    if (untied := tenancy.untied(obj, referenced=seen.referenced)) is not None:
        return Plan(actions=(untied,))
    if is_handled(obj):
        return _plan_end(obj, now)
    if isinstance(obj.spec, Invalid):
        return _report(obj, conditions.false("Handled", "Refused", f"The spec is not valid: {obj.spec}"), now)
    if met is not None and met.handled is not None:
        if (owners := _owners_due(seen, obj.spec)) is not None:
            return Plan(actions=(SetMetadata(obj.finalizers, owners),))
        return _report(obj, *_remembered(obj, met.handled))
    if met is None:
        return _plan_wait(seen, obj.spec, now)
    if met.behind is not None:
        return _report(obj, conditions.unknown("Handled", "DatabaseBehind", met.behind), now)
    if not seen.looked_at and now < obj.created_at + PATIENCE:
        return Plan(wake_in=LOOK_AGAIN)
    verdict = judge(obj.spec, met, now)
    if seen.forbidden is not None:
        verdict = Verdict(seen.forbidden.reason, seen.forbidden.message)
    handle = Handle(obj.key, obj.uid, met.lineage, obj.spec, verdict, now, seen.verified)
    return Plan(actions=(handle,), wakes=(Key(WORKFLOWS.kind, obj.key.namespace, obj.spec.workflow_ref.name),))


def _plan_end(obj: Object[WorkflowDecisionSpec], now: datetime) -> Plan[Action]:
    """Objects that a tool would make again are left to it: they would only come back (A-AP-6)."""
    handled_at = obj.status.get("handledAt")
    if handled_at is None or obj.source.get("tool") in _TRACKING:
        return Plan()
    left = datetime.fromisoformat(handled_at) + KEPT - now
    return Plan(wake_in=left) if left > timedelta() else Plan(actions=(Expire(obj.key, obj.uid),))


def _plan_wait(seen: Observed, spec: WorkflowDecisionSpec, now: datetime) -> Plan[Action]:
    if seen.forbidden is not None:
        return _report(seen.object, seen.forbidden, now)
    name, left = spec.workflow_ref.name, seen.object.created_at + PATIENCE - now
    there = seen.workflow_uid is not None
    if left > timedelta():
        message = f'Waiting for Workflow "{name}"' + (
            " to have a record, and a Tenant that admits it; see its conditions" if there else ""
        )
        return replace(
            _report(seen.object, conditions.unknown("Handled", "WorkflowNotFound", message), now), wake_in=left
        )
    message = (
        f'Workflow "{name}" has no record, or no Tenant that admits it' if there else f'There is no Workflow "{name}"'
    )
    return _report(seen.object, conditions.false("Handled", "Refused", message), now)


def _owners_due(seen: Observed, spec: WorkflowDecisionSpec) -> tuple[Mapping[str, Any], ...] | None:
    """The owner references with one to the Workflow, so that a decision goes with it; None where that is so."""
    owners = seen.object.owners
    if not seen.referenced:
        return None
    if any(owner.get("uid") == seen.workflow_uid for owner in owners) or seen.workflow_uid is None:
        return None
    mine = {
        "apiVersion": API_VERSION,
        "kind": WORKFLOWS.kind,
        "name": spec.workflow_ref.name,
        "uid": seen.workflow_uid,
        "controller": False,
        "blockOwnerDeletion": False,
    }
    return (*(owner for owner in owners if not _is_workflow(owner)), mine)


def _is_workflow(owner: Mapping[str, Any]) -> bool:
    return owner.get("kind") == WORKFLOWS.kind and str(owner.get("apiVersion", "")).partition("/")[0] == GROUP


def _remembered(obj: Object[WorkflowDecisionSpec], handled: Handled) -> tuple[Finding, datetime, Handled]:
    """What the database knows of it. Another object with the same id is a copy, from Git or a backup, and did nothing."""
    finding = Finding("Handled", handled.truth, handled.outcome, handled.message)
    if handled.uid not in (None, obj.uid):
        message = (
            f"Request {handled.request_id} was handled already, at {conditions.rfc3339(handled.at)}: {handled.outcome}"
        )
        finding = conditions.true("Handled", "NoOp", message)
    return finding, handled.at, handled


def _report(
    obj: Object[WorkflowDecisionSpec], finding: Finding, now: datetime, handled: Handled | None = None
) -> Plan[Action]:
    old = obj.status.get("conditions") or ()
    status: dict[str, Any] = {
        **obj.status,
        "observedGeneration": obj.generation,
        "conditions": conditions.merge(old, [finding], generation=obj.generation, now=now),
    }
    if finding.truth is not Truth.UNKNOWN:
        status["handledAt"] = conditions.rfc3339(now)
    if handled is not None:
        known = {"ledgerId": handled.ledger_id, "from": handled.from_number, "to": handled.to_number}
        status |= {name: value for name, value in known.items() if value is not None}
    return Plan(status=status)
