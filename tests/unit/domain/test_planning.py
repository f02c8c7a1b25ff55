"""What all kinds share: the report of a look, deadlines, failures, Events."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from keep_operator.domain import planning, provider
from keep_operator.domain.conditions import Finding, false, true, unknown
from keep_operator.domain.planning import Plan
from keep_operator.errors import KeepOperatorError, Refused, Unavailable, Waiting
from keep_operator.resources.objects import RECONCILE_REQUESTED_AT
from unit.builders import NOW, a_provider, a_tenant, condition, found, ready_status, stamp, told

pytestmark = pytest.mark.unit

DEADLINE = timedelta(seconds=600)
LIVING = provider.LIVING
WAIT = unknown("TenantReady", "TenantNotFound", 'Waiting for Tenant "keep"')
CONFLICT = unknown("Synced", "ExternalNameConflict", "taken")
GOOD = (true("TenantReady", "TenantReady"), true("CredentialsResolved", "Resolved"), true("Synced", "InSync"))


def look(status: dict[str, Any], *living: Finding, at: datetime = NOW, **more: Any) -> Plan[Any]:
    """A report about a Provider that has this status."""
    return planning.report(a_provider(status=status, **more), living, deadline=DEADLINE, now=at)


def after(plan: Plan[Any]) -> dict[str, Any]:
    """The status that a plan reports."""
    assert plan.status is not None
    return dict(plan.status)


def test_a_wait_is_unknown_and_reconciling() -> None:
    """Argo CD shows Progressing, not Degraded, while the Tenant is on its way (A-DEP-2)."""
    plan = look({}, WAIT)
    assert found(plan, "Ready") == ("Unknown", "TenantNotFound")
    assert found(plan, "Reconciling") == ("True", "WaitingForDependency")
    assert found(plan, "Stalled") is None
    assert after(plan)["observedGeneration"] == 1


def test_a_wait_asks_for_one_look_at_its_deadline() -> None:
    """No polling: the next look without a cause is the one that calls it overdue."""
    first = look({}, WAIT)
    assert first.wake_in == DEADLINE
    later = look(after(first), WAIT, at=NOW + timedelta(seconds=400))
    assert later.wake_in == timedelta(seconds=200)
    assert later.status == first.status


def test_a_wait_beyond_its_deadline_is_stalled() -> None:
    """Ten minutes without the Tenant: a person should know, so it is Ready=False (A-DEP-4)."""
    plan = look(after(look({}, WAIT)), WAIT, at=NOW + DEADLINE)
    assert found(plan, "Ready") == ("False", "ProgressDeadlineExceeded")
    assert found(plan, "Stalled") == ("True", "ProgressDeadlineExceeded")
    assert found(plan, "TenantReady") == ("Unknown", "TenantNotFound")
    assert found(plan, "Reconciling") is None
    assert told(plan) == 'No progress within 600 s: Waiting for Tenant "keep"'
    assert plan.wake_in is None


def test_a_wait_that_is_overdue_stays_so_until_it_is_over() -> None:
    """The next looks write nothing more; when the Tenant comes, all is well by itself."""
    overdue = look(after(look({}, WAIT)), WAIT, at=NOW + DEADLINE)
    again = look(after(overdue), WAIT, at=NOW + 3 * DEADLINE)
    assert again.status == overdue.status
    over = look(after(again), *GOOD, at=NOW + 4 * DEADLINE)
    assert found(over, "Ready") == ("True", "Ready")
    assert found(over, "Stalled") is None
    assert found(over, "Reconciling") is None


def test_the_deadline_counts_from_the_waiting_condition() -> None:
    """A Secret that is missing has its own ten minutes, whatever the Tenant took before."""
    waited = look({}, WAIT)
    secret = unknown("CredentialsResolved", "SecretNotFound", "w")
    plan = look(after(waited), GOOD[0], secret, at=NOW + timedelta(seconds=599))
    assert found(plan, "Ready") == ("Unknown", "SecretNotFound")
    assert plan.wake_in == DEADLINE


def test_the_deadline_survives_a_restart() -> None:
    """The count is in the object, not in the process."""
    status = {"conditions": [condition("TenantReady", "Unknown", "TenantNotFound", at=NOW - timedelta(seconds=590))]}
    assert look(status, WAIT).wake_in == timedelta(seconds=10)


def test_another_reason_of_the_same_wait_goes_on_counting() -> None:
    """Not found, then not ready: the same Tenant has been missing all the time."""
    status = after(look({}, WAIT))
    plan = look(status, unknown("TenantReady", "TenantNotReady", "w"), at=NOW + timedelta(seconds=500))
    assert plan.wake_in == timedelta(seconds=100)


@pytest.mark.parametrize("reason", ["DatabaseUnavailable", "InternalError", "Suspended"])
def test_an_outage_before_a_wait_does_not_count(reason: str) -> None:
    """An hour of database outage, then a name that is taken: the claimant still has its ten minutes (A-DEP-4)."""
    status = {"conditions": [condition("Synced", "Unknown", reason, at=NOW - timedelta(hours=1))]}
    first = look(status, *GOOD[:2], CONFLICT)
    assert first.wake_in == DEADLINE
    second = look(after(first), *GOOD[:2], CONFLICT, at=NOW + timedelta(seconds=60))
    assert found(second, "Ready") == ("Unknown", "ExternalNameConflict")
    assert second.wake_in == timedelta(seconds=540)


@pytest.mark.parametrize("reason", ["DatabaseUnavailable", "SyncFailed", "InternalError", "Suspended"])
def test_only_waits_for_dependencies_have_a_deadline(reason: str) -> None:
    """A database that is away for a day does not turn thousands of Providers to Ready=False."""
    status = {"conditions": [condition("Synced", "Unknown", reason, at=NOW - timedelta(days=1))]}
    plan = look(status, *GOOD[:2], unknown("Synced", reason, "m"))
    assert found(plan, "Ready") == ("Unknown", reason)
    assert found(plan, "Reconciling") == ("True", "Progressing")
    assert plan.wake_in is None


def test_a_name_conflict_turns_false_at_its_deadline() -> None:
    """After ten minutes it is no longer half of a rename, but two objects that want one name (A-CF-1)."""
    waiting = look({}, *GOOD[:2], CONFLICT)
    overdue = look(after(waiting), *GOOD[:2], CONFLICT, at=NOW + DEADLINE)
    assert found(overdue, "Synced") == ("False", "ExternalNameConflict")
    assert found(overdue, "Ready") == ("False", "ProgressDeadlineExceeded")
    again = look(after(overdue), *GOOD[:2], CONFLICT, at=NOW + 2 * DEADLINE)
    assert again.status == overdue.status


def test_a_conflict_with_another_type_that_becomes_a_wait_begins_to_count() -> None:
    """The holder of another type is being deleted: its name will be free in a moment, so nothing is overdue."""
    refused = look({}, *GOOD[:2], false("Synced", "ExternalNameConflict", "of another type"))
    assert found(refused, "Stalled") == ("True", "ExternalNameConflict")
    waiting = look(after(refused), *GOOD[:2], CONFLICT, at=NOW + 2 * DEADLINE)
    assert found(waiting, "Ready") == ("Unknown", "ExternalNameConflict")
    assert found(waiting, "Reconciling") == ("True", "WaitingForDependency")
    assert waiting.wake_in == DEADLINE


@pytest.mark.parametrize(
    ("reason", "stalled"),
    [
        ("SpecRefused", "SpecRefused"),
        ("UnknownProviderType", "SpecRefused"),
        ("InvalidConfig", "SpecRefused"),
        ("ImmutableFieldChanged", "ImmutableFieldChanged"),
        ("TenantChanged", "ImmutableFieldChanged"),
        ("NamespaceNotAllowed", "NamespaceNotAllowed"),
    ],
)
def test_what_waiting_does_not_heal_is_stalled(reason: str, stalled: str) -> None:
    """kstatus, Flux and Argo CD read from `Stalled` that they need not wait any longer."""
    plan = look({}, false("Synced", reason, "m"))
    assert found(plan, "Ready") == ("False", reason)
    assert found(plan, "Stalled") == ("True", stalled)
    assert plan.wake_in is None


def test_the_asked_for_reconcile_is_echoed() -> None:
    """`kubectl annotate` with a token, and the token shows when it was acted upon (A-DR-4)."""
    plan = look({}, *GOOD, annotations={RECONCILE_REQUESTED_AT: "token-1"})
    assert after(plan)["lastHandledReconcileAt"] == "token-1"
    assert "lastHandledReconcileAt" not in after(look({}, *GOOD))


def test_status_fields_that_a_look_does_not_name_stay() -> None:
    """Ids survive a passing loss of readiness (A-DEP-8)."""
    plan = look({"providerId": "1", "conditions": []}, WAIT)
    assert after(plan)["providerId"] == "1"


# Failures.


def failed(error: KeepOperatorError, status: dict[str, Any] | None = None, **more: Any) -> Plan[Any]:
    """The report of an attempt on a Provider that ended in an error."""
    return planning.failed(a_provider(status=status or {}, **more), error, LIVING, NOW)


UNAVAILABLE = Unavailable("DatabaseUnavailable", "the database is away")


def test_a_database_that_is_away_keeps_what_is_known() -> None:
    """The row, the ids, and that the Tenant is Ready are not forgotten because the database restarts (A-DEP-8)."""
    plan = failed(UNAVAILABLE, ready_status())
    assert found(plan, "Ready") == ("Unknown", "DatabaseUnavailable")
    assert found(plan, "TenantReady") == ("True", "TenantReady")
    assert found(plan, "CredentialsResolved") == ("True", "Resolved")
    assert found(plan, "Synced") == ("Unknown", "DatabaseUnavailable")
    assert after(plan)["providerId"] == ready_status()["providerId"]


def test_a_refusal_by_the_database_needs_a_person() -> None:
    """A value that PostgreSQL cannot store heals by no retry."""
    plan = failed(Refused("SpecRefused", "NUL"), ready_status())
    assert found(plan, "Ready") == ("False", "SpecRefused")
    assert found(plan, "Synced") == ("False", "SpecRefused")
    assert found(plan, "Stalled") == ("True", "SpecRefused")


def test_a_tenant_row_that_vanished_is_a_wait_for_the_tenant() -> None:
    """Between check and insert the tenant went: the Provider waits, and shows no database error (A-DEP-5)."""
    plan = failed(Waiting("TenantNotReady", "the tenant has no row"), ready_status())
    assert found(plan, "TenantReady") == ("Unknown", "TenantNotReady")
    assert found(plan, "Ready") == ("Unknown", "TenantNotReady")
    assert found(plan, "Reconciling") == ("True", "WaitingForDependency")


def test_a_failure_of_a_kind_without_a_tenant_shows_in_synced() -> None:
    """A Tenant waits for no Tenant: whatever fails, it must not look Ready."""
    plan = planning.failed(a_tenant(), Waiting("TenantNotReady", "m"), ("Synced",), NOW)
    assert found(plan, "Synced") == ("Unknown", "TenantNotReady")
    assert found(plan, "Ready") == ("Unknown", "TenantNotReady")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UNAVAILABLE, "DatabaseUnavailable"),
        (Unavailable("SyncFailed", "m"), "DeletionFailed"),
        (Refused("ApiRejected", "m"), "DeletionFailed"),
    ],
)
def test_while_deleting_no_failure_is_permanent(error: KeepOperatorError, reason: str) -> None:
    """It says why it is still there, and is tried again (A-GC-5)."""
    plan = failed(error, ready_status(), deleting=True, finalizers=[provider.FINALIZER])
    assert found(plan, "Deleting") == ("True", reason)
    assert told(plan, "Deleting") == error.message
    assert found(plan, "Stalled") is None


@pytest.mark.parametrize(
    "conditions",
    [
        [],
        [condition("TenantReady"), condition("CredentialsResolved"), condition("Synced", "False", "InvalidConfig")],
        [condition("TenantReady"), condition("Synced", "Unknown", "DatabaseUnavailable")],
        [condition("CredentialsResolved"), condition("Synced")],
    ],
)
def test_a_failing_deletion_never_makes_ready_true(conditions: list[dict[str, Any]]) -> None:
    """What was not Ready does not become Ready because the database fails while it is deleted."""
    plan = failed(UNAVAILABLE, {"conditions": conditions}, deleting=True, finalizers=[provider.FINALIZER])
    ready = found(plan, "Ready")
    assert ready is not None
    assert ready[0] != "True"
    types = [each["type"] for each in after(plan)["conditions"]]
    assert len(types) == len(set(types))


# Events.


def status_of(status: str, reason: str, *more: dict[str, Any]) -> dict[str, Any]:
    """A status with this `Ready`."""
    return {"conditions": [condition("Ready", status, reason, "because"), *more]}


WAITING, READY = status_of("Unknown", "TenantNotFound"), status_of("True", "Ready")
BROKEN, AWAY = status_of("False", "InvalidConfig"), status_of("Unknown", "DatabaseUnavailable")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({}, WAITING, None),
        ({}, READY, None),
        (WAITING, READY, (False, "Ready")),
        (AWAY, READY, (False, "Ready")),
        (BROKEN, READY, (False, "Ready")),
        (READY, READY, None),
        (READY, WAITING, None),
        (READY, AWAY, (True, "DatabaseUnavailable")),
        (AWAY, AWAY, None),
        ({}, BROKEN, (True, "InvalidConfig")),
        (BROKEN, BROKEN, None),
        (BROKEN, status_of("False", "SpecRefused"), (True, "SpecRefused")),
    ],
)
def test_events_tell_transitions_only(
    old: dict[str, Any], new: dict[str, Any], expected: tuple[bool, str] | None
) -> None:
    """None for an expected wait, one when it is over, one for a failure (A-CTL-9)."""
    event = planning.announce(old, new)
    assert (event and (event.warning, event.reason)) == expected


def test_what_was_taken_back_is_told_once() -> None:
    """Whoever was not looking finds one Warning, whether `Ready` sums it up or not, and none for each outage that follows."""
    taken = condition("Deployed", "False", "AutoRolledBack", "3 of 3 runs failed")
    back, apart = status_of("False", "AutoRolledBack", taken), status_of("True", "Ready", taken)
    told = planning.Announcement(True, "AutoRolledBack", "3 of 3 runs failed")
    assert planning.announce(WAITING, back) == planning.announce(READY, apart) == told
    away = status_of("Unknown", "DatabaseUnavailable", taken)
    assert planning.announce(away, back) is planning.announce(back, back) is planning.announce(apart, back) is None


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("DependentsExist", (False, "DependentsExist")),
        ("DatabaseUnavailable", (True, "DatabaseUnavailable")),
        ("DeletionFailed", (True, "DeletionFailed")),
        ("Finalizing", None),
    ],
)
def test_a_deletion_that_does_not_end_at_once_is_told(reason: str, expected: tuple[bool, str] | None) -> None:
    """Who deleted a Tenant learns from `kubectl describe` what holds it."""
    held = status_of("True", "Ready", condition("Deleting", "True", reason, "m"))
    event = planning.announce(READY, held)
    assert (event and (event.warning, event.reason)) == expected
    assert planning.announce(held, held) is None


def test_the_time_of_a_new_condition_is_the_time_of_the_look() -> None:
    """Nothing is dated before it was found."""
    conditions = after(look({}, *GOOD, at=NOW + timedelta(hours=1)))["conditions"]
    assert {each["lastTransitionTime"] for each in conditions} == {stamp(NOW + timedelta(hours=1))}
