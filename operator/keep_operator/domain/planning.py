"""What every kind's plan is made of: actions, or else a status to report.

A plan with actions reports nothing: they are applied (`steps`), then the world is looked at again. Only a look that
finds nothing left to do reports, so that ``Ready=True`` cannot lie.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Final, Generic, TypeVar

from keep_operator.domain import conditions
from keep_operator.domain.conditions import Finding, Truth
from keep_operator.errors import KeepOperatorError, Refused, Waiting
from keep_operator.resources.kinds import Key
from keep_operator.resources.objects import FORCE_DELETE, RECONCILE_REQUESTED_AT, Object

A = TypeVar("A")

# Unknown for these reasons means: another object must appear or become ready. Its watch wakes us, and only
# such waits count against progressDeadlineSeconds (A-DEP-4).
DEPENDENCY_WAITS: Final = frozenset(
    {
        "TenantNotFound",
        "TenantNotReady",
        "SecretNotFound",
        "SecretKeyNotFound",
        "ExternalNameConflict",
        "ConfigMapNotFound",
        "ProvidersNotReady",
    }
)
# What no watch would tell us: somebody mended the database. Looked at again with the resync.
RECHECKED: Final = frozenset({"ExternalResourceExists", "DatabaseBehind", "DriftDetected", "EncryptionKeyMismatch"})
# What `spec.suspend` adds to a status, and what it says of changes that wait for its end.
SUSPENDED: Final = conditions.true("Suspended", "Suspended", "spec.suspend is true: nothing is written.")
PENDING: Final = conditions.unknown(
    "Synced", "Suspended", "spec.suspend is true: what the spec asks for is not written yet"
)
# What `Synced=True` says was done last, by the action that did it.
DONE: Final = {
    "Insert": "Created",
    "Update": "Updated",
    "Correct": "DriftCorrected",
    "Adopt": "Adopted",
    "HandOver": "HandedOver",
    "SetTokens": "Updated",
    "Archive": "Archived",
}
# Actions that write no row.
IN_THE_CLUSTER: Final = frozenset({"SetMetadata", "Tell", "CreateImage", "DeleteImage", "PatchImage"})
# What sums up how far an object has come; a decision is handled, a run succeeds, and that is all.
READY: Final = "Ready"
HANDLED: Final = "Handled"
SUCCEEDED: Final = "Succeeded"
# Unknown for these reasons is a failure that is retried, not an expected wait.
FAILURES: Final = frozenset({"DatabaseUnavailable", "SyncFailed", "InternalError"})
# What a deletion waits for in the ordinary course of things.
_EXPECTED_IN_DELETION: Final = (None, "Finalizing", "DrainingRuns")
# Reasons that say: the spec itself is at fault.
SPEC_FAULTS: Final = frozenset(
    {
        "SpecRefused",
        "UnknownProviderType",
        "InvalidConfig",
        "TooLarge",
        "ParseError",
        "SchemaError",
        "UnknownAction",
        "ActionNotSupported",
        "ProviderTypeMismatch",
    }
)
# What the operator has taken back by itself is told whatever `Ready` sums up.
TAKEN_BACK: Final = "AutoRolledBack"
IMMUTABLE_FAULTS: Final = frozenset({"ImmutableFieldChanged", "TenantChanged"})


@dataclass(frozen=True, slots=True)
class Announcement:
    """An Event to post: ``warning`` wants a person's eye."""

    warning: bool
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class SetMetadata:
    """Finalizers and owner references as they shall be, both in one patch (A-CTL-8)."""

    finalizers: tuple[str, ...]
    owners: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Tell:
    """This status shall be there before the actions that follow; they do not depend on it."""

    status: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plan(Generic[A]):
    """Either ``actions`` in order, or the ``status`` to report (None: leave it as it is).

    ``wake_in`` asks for another look after that time though nothing changes, ``wakes`` for a look at other objects
    once the actions are done: both are for what no watch would tell.
    """

    actions: tuple[A | SetMetadata | Tell, ...] = ()
    status: Mapping[str, Any] | None = None
    wake_in: timedelta | None = None
    wakes: tuple[Key, ...] = ()


def steps(actions: Sequence[A]) -> Iterator[tuple[A, ...]]:
    """The actions of a plan as they are carried out, in order: those on rows as one transaction, a request each for others."""
    for requested, each in groupby(actions, lambda action: type(action).__name__ in IN_THE_CLUSTER):
        if requested:
            yield from ((action,) for action in each)
        else:
            yield tuple(each)


def report(
    obj: Object[Any],
    living: Sequence[Finding],
    *,
    abnormal: Sequence[Finding] = (),
    fields: Mapping[str, Any] | None = None,
    deadline: timedelta | None = None,
    now: datetime,
) -> Plan[Any]:
    """The status that says ``living`` and ``abnormal`` of ``obj``, and when a running deadline ends.

    ``fields`` are the kind's own status fields; those not named keep their value. ``deadline`` is the time that
    waiting for dependencies may take before it is reported as ``Stalled`` (A-DEP-4); None: no such limit.
    """
    old = _before_wait(obj.status.get("conditions") or (), living)
    ready = conditions.ready(living, old, now)
    waited = _waited(ready, living, old, now)
    wake_in = None
    progress: tuple[Finding, ...] = ()
    if waited is not None and deadline is not None and waited >= deadline:
        living = [_after_deadline(finding) for finding in living]
        message = f"No progress within {deadline.total_seconds():.0f} s: {ready.message}"
        ready = conditions.false("Ready", "ProgressDeadlineExceeded", message)
        progress = (conditions.true("Stalled", "ProgressDeadlineExceeded", message),)
    elif waited is not None:
        progress = (conditions.true("Reconciling", "WaitingForDependency", ready.message),)
        wake_in = deadline - waited if deadline is not None else None
    elif ready.truth is Truth.FALSE:
        progress = (conditions.true("Stalled", _stalled_reason(ready.reason), ready.message),)
    elif ready.truth is Truth.UNKNOWN:
        progress = (conditions.true("Reconciling", "Progressing", ready.message),)
    status = {
        **obj.status,
        **(fields or {}),
        "observedGeneration": obj.generation,
        "conditions": conditions.merge(old, (ready, *living, *progress, *abnormal), generation=obj.generation, now=now),
    }
    token = obj.annotations.get(RECONCILE_REQUESTED_AT)
    if token is not None:
        status["lastHandledReconcileAt"] = token
    return Plan(status=status, wake_in=wake_in)


def release_by_force(
    obj: Object[Any], error: KeepOperatorError, finalizer: str, after: timedelta, now: datetime
) -> Plan[Any] | None:
    """What to do with an object that is to go without its database, by annotation `force-delete` (A-GC-7).

    Its finalizer is taken off once the database has been away for ``after`` since the deletion; what it leaves in the
    database is the sweep's. Until then: when to look again. None where this is no such case.
    """
    away = obj.deleted_at is not None and error.reason == "DatabaseUnavailable"
    if not away or obj.annotations.get(FORCE_DELETE) != "true" or finalizer not in obj.finalizers:
        return None
    assert obj.deleted_at is not None
    left = obj.deleted_at + after - now
    if left > timedelta():
        return Plan(wake_in=left)
    return Plan(actions=(SetMetadata(tuple(name for name in obj.finalizers if name != finalizer), obj.owners),))


def failed(obj: Object[Any], error: KeepOperatorError, living: Sequence[str], now: datetime) -> Plan[Any]:
    """The status after an attempt that ended in ``error``: what was known stays, ``Synced`` tells the failure.

    ``living`` names the kind's living set. While deleting no failure is permanent, and ``Deleting`` tells it (A-GC-5).
    """
    if HANDLED in living:
        return _failed_to_handle(obj, error, now)
    if SUCCEEDED in living:
        return _failed_to_run(obj, error, now)
    if obj.deleting:
        reason = "DatabaseUnavailable" if error.reason == "DatabaseUnavailable" else "DeletionFailed"
        deleting = conditions.true("Deleting", reason, error.message)
        known = known_before(obj, living, conditions.unknown("Synced", reason, error.message))
        return report(obj, known, abnormal=[deleting], now=now)
    old = obj.status.get("conditions") or ()
    failing = "TenantReady" if isinstance(error, Waiting) and "TenantReady" in living else "Synced"
    truth = Truth.FALSE if isinstance(error, Refused) else Truth.UNKNOWN
    findings = {kind: finding for kind in living if (finding := carried(old, kind)) is not None}
    findings[failing] = Finding(failing, truth, error.reason, error.message)
    return report(obj, [findings[kind] for kind in living if kind in findings], now=now)


def _failed_to_handle(obj: Object[Any], error: KeepOperatorError, now: datetime) -> Plan[Any]:
    """The same for a decision. What the API server rejects may have been carried out already, so that is no last word."""
    final = isinstance(error, Refused) and error.reason != "ApiRejected"
    finding = Finding(HANDLED, Truth.FALSE if final else Truth.UNKNOWN, error.reason, error.message)
    old = obj.status.get("conditions") or ()
    told = conditions.merge(old, [finding], generation=obj.generation, now=now)
    return Plan(status={**obj.status, "observedGeneration": obj.generation, "conditions": told})


def _failed_to_run(obj: Object[Any], error: KeepOperatorError, now: datetime) -> Plan[Any]:
    """The same for a run. One that has ended stays as it is, and one that was accepted goes on without us."""
    old = obj.status.get("conditions") or ()
    truth = Truth.FALSE if isinstance(error, Refused) and error.reason != "ApiRejected" else Truth.UNKNOWN
    findings = {kind: found for kind in ("Accepted", "Succeeded", "Archived") if (found := told(old, kind)) is not None}
    known = findings.get(SUCCEEDED)
    state: dict[str, Any] = {}
    if known is None or known.truth is Truth.UNKNOWN:
        reason = "WaitingForTenant" if isinstance(error, Waiting) else error.reason
        accepted = findings.get("Accepted")
        if accepted is None or accepted.truth is Truth.UNKNOWN:
            findings["Accepted"] = Finding("Accepted", truth, reason, error.message)
            state = {"state": "Failed", "completedAt": conditions.rfc3339(now)} if truth is Truth.FALSE else {}
            state = state or {"state": "Pending"}
        else:
            truth = Truth.UNKNOWN
        findings[SUCCEEDED] = Finding(SUCCEEDED, truth, reason, error.message)
    if obj.deleting:
        reason = "DatabaseUnavailable" if error.reason == "DatabaseUnavailable" else "DeletionFailed"
        findings["Deleting"] = conditions.true("Deleting", reason, error.message)
    elif not state and known is not None and known.truth is not Truth.UNKNOWN:
        return Plan()
    merged = conditions.merge(old, findings.values(), generation=obj.generation, now=now)
    return Plan(status={**obj.status, **state, "observedGeneration": obj.generation, "conditions": merged})


def sums_up(living: Sequence[str]) -> str:
    """The condition that says how far an object of a kind has come, by the kind's living set."""
    return next((kind for kind in (HANDLED, SUCCEEDED) if kind in living), READY)


def known_before(obj: Object[Any], living: Sequence[str], doubt: Finding) -> list[Finding]:
    """What earlier looks found True, for when this one does not judge anew.

    Where that is not the whole living set ``doubt`` stands for its condition: ``Ready`` must not become True by leaving
    out what was not.
    """
    old = obj.status.get("conditions") or ()
    findings = {kind: finding for kind in living if (finding := carried(old, kind)) is not None}
    if len(findings) < len(living):
        findings[doubt.type] = doubt
    return [findings[kind] for kind in living if kind in findings]


def synced(obj: Object[Any], done: str | None, message: str) -> Finding:
    """``Synced=True`` with what was done last: by this reconcile (the name of an action), else as it was told before."""
    told = carried(obj.status.get("conditions") or (), "Synced")
    reason = DONE.get(done or "") or (told.reason if told is not None else "InSync")
    return conditions.true("Synced", reason, message)


def needs_fresh_view(obj: Object[Any], action: Any) -> bool:
    """Whether an action changes or removes what exists, or makes again what was: never because of a view that may be old.

    A first record is made without: should its object have gone meanwhile, it is collected like any other that lost its owner.
    Nor is it asked for objects of the cluster, where the server refuses what an old view has planned.
    """
    name = type(action).__name__
    return name not in IN_THE_CLUSTER and (name != "Insert" or "tenantId" in obj.status)


def announce(old: Mapping[str, Any], new: Mapping[str, Any]) -> Announcement | None:
    """The Event that a change of status is worth: Ready after a wait, and failures; none for an expected wait (A-CTL-9)."""
    before, after = _by_type(old), _by_type(new)
    deleting, was_deleting = after.get("Deleting", {}), before.get("Deleting", {})
    if deleting.get("reason") != was_deleting.get("reason") and deleting.get("reason") not in _EXPECTED_IN_DELETION:
        return Announcement(deleting["reason"] != "DependentsExist", deleting["reason"], deleting["message"])
    accepted = after.get("Accepted", {})
    if accepted.get("status") == Truth.FALSE and before.get("Accepted", {}).get("status") != Truth.FALSE:
        return Announcement(True, accepted["reason"], accepted["message"])
    deployed, was_deployed = after.get("Deployed", {}), before.get("Deployed", {})
    if deployed.get("reason") == TAKEN_BACK != was_deployed.get("reason"):
        return Announcement(True, TAKEN_BACK, deployed["message"])
    ready, was_ready = after.get("Ready", {}), before.get("Ready", {})
    if (ready.get("status"), ready.get("reason")) == (was_ready.get("status"), was_ready.get("reason")):
        return None
    if ready.get("reason") == TAKEN_BACK:
        return None
    if ready.get("status") == Truth.TRUE:
        return Announcement(False, "Ready", ready["message"]) if was_ready else None
    if ready.get("status") == Truth.FALSE or ready.get("reason") in FAILURES:
        return Announcement(True, ready["reason"], ready["message"])
    return None


def _by_type(status: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {condition["type"]: condition for condition in status.get("conditions") or ()}


def carried(old: Sequence[Mapping[str, Any]], kind: str) -> Finding | None:
    """What an earlier look found about a condition, for when this look could not get so far; None if it was not True."""
    for condition in old:
        if condition.get("type") == kind and condition.get("status") == Truth.TRUE:
            return conditions.true(kind, condition.get("reason", ""), condition.get("message", ""))
    return None


def told(old: Sequence[Mapping[str, Any]], kind: str) -> Finding | None:
    """What the status says of a condition, whatever that is; None where it is absent."""
    for condition in old:
        if condition.get("type") == kind:
            truth = Truth(condition.get("status", Truth.UNKNOWN))
            return Finding(kind, truth, condition.get("reason", ""), condition.get("message", ""))
    return None


def _before_wait(old: Sequence[Mapping[str, Any]], living: Sequence[Finding]) -> Sequence[Mapping[str, Any]]:
    """The conditions without those that were Unknown for another reason than the wait that they now tell of.

    The deadline must not count the database outage or the suspension that came before: the time begins anew.
    """
    waits = {each.type for each in living if each.truth is Truth.UNKNOWN and each.reason in DEPENDENCY_WAITS}
    return [
        each
        for each in old
        if each.get("type") not in waits
        or each.get("status") != Truth.UNKNOWN
        or each.get("reason") in DEPENDENCY_WAITS
    ]


def _waited(
    ready: Finding, living: Sequence[Finding], old: Sequence[Mapping[str, Any]], now: datetime
) -> timedelta | None:
    """How long the dependency that ``ready`` reports has been waited for; None when it reports something else.

    Taken from the waiting condition's own last transition, so that a restart does not start the count again. A name
    conflict that has been reported as overdue stays so until it is over; one that was False for another reason (a holder
    of another type) begins to wait now.
    """
    if ready.truth is not Truth.UNKNOWN or ready.reason not in DEPENDENCY_WAITS:
        return None
    kind = next(finding.type for finding in living if finding.truth is Truth.UNKNOWN)
    known = next((condition for condition in old if condition.get("type") == kind), None)
    if known is None or known.get("reason") not in DEPENDENCY_WAITS:
        return timedelta()
    if known.get("status") == Truth.FALSE:
        overdue = any(each.get("reason") == "ProgressDeadlineExceeded" for each in old)
        return timedelta.max if overdue else timedelta()
    return now - datetime.fromisoformat(known["lastTransitionTime"])


def _after_deadline(finding: Finding) -> Finding:
    """A name conflict that lasts is no longer half of a rename, but two objects that want one name (A-CF-1)."""
    if finding.truth is Truth.UNKNOWN and finding.reason == "ExternalNameConflict":
        return conditions.false(finding.type, finding.reason, finding.message)
    return finding


def _stalled_reason(reason: str) -> str:
    """Why waiting will not heal it, in the words of the condition `Stalled`."""
    if reason in SPEC_FAULTS:
        return "SpecRefused"
    if reason in IMMUTABLE_FAULTS:
        return "ImmutableFieldChanged"
    return reason
