"""Whose owner reference belongs on an object, and what becomes of its record without one (A-GO-9)."""

from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest

from keep_operator.domain import tenancy
from keep_operator.domain.planning import SetMetadata
from keep_operator.domain.tenancy import OwnerReferences
from unit import builders
from unit.builders import NOW, condition

pytestmark = pytest.mark.unit

OWNER: Final = {"apiVersion": "keep-operator.dev/v1alpha1", "kind": "Tenant", "name": "team", "uid": "uid-team"}
OLDER: Final = {**OWNER, "apiVersion": "keep-operator.dev/v1alpha0"}
OTHER: Final = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "team", "uid": "uid-other"}
DAY: Final = timedelta(days=1)


def tracked(**more: Any) -> Any:
    """A Provider that Argo CD tracks."""
    return replace(builders.a_provider(**more), in_argo_cd=True)


@pytest.mark.parametrize(("policy", "expected"), [("ExceptArgoCD", False), ("Always", True)])
def test_what_argo_cd_tracks_has_no_owner_unless_it_is_wished(policy: OwnerReferences, expected: bool) -> None:
    """Argo CD does not prune what has an owner; everything else has one, whatever is set."""
    assert tenancy.referenced(tracked(), policy) is expected
    assert tenancy.referenced(builders.a_provider(), policy) is True


def test_a_reference_that_may_not_be_there_is_taken_off_and_others_stay() -> None:
    """Also one of another version of our API; what others own is theirs."""
    obj = tracked(owners=(OTHER, OWNER, OLDER), finalizers=("keep-operator.dev/provider",))
    assert tenancy.untied(obj, referenced=False) == SetMetadata(("keep-operator.dev/provider",), (OTHER,))
    assert tenancy.untied(obj, referenced=True) is None
    assert tenancy.untied(tracked(owners=(OTHER,)), referenced=False) is None


def test_the_finalizer_does_not_depend_on_the_reference() -> None:
    """What Argo CD prunes is cleaned up all the same."""
    due = tenancy.metadata_due(tracked(), builders.tenant_sight(), None, "f", referenced=False)
    assert due == SetMetadata(("f",), ())
    assert (
        tenancy.metadata_due(tracked(finalizers=("f",)), builders.tenant_sight(), None, "f", referenced=False) is None
    )
    assert tenancy.metadata_due(tracked(finalizers=("f",)), builders.tenant_sight(), None, "f") is not None


@pytest.mark.parametrize(
    ("leaving", "referenced", "deleting", "expected"),
    [
        (True, False, False, True),
        (True, True, False, False),
        (False, False, False, False),
        (True, False, True, False),
    ],
)
def test_a_record_is_given_up_only_when_nobody_else_will_remove_it(
    leaving: bool, referenced: bool, deleting: bool, expected: bool
) -> None:
    """Its Tenant goes and a person has confirmed it, no owner reference has the object collected, and it does not go itself."""
    obj = tracked(deleting=deleting)
    sight = builders.tenant_sight(deleting=leaving, leaving=leaving)
    assert tenancy.abandoned(obj, sight, referenced=referenced) is expected
    assert not tenancy.abandoned(obj, None, referenced=referenced)


def test_after_that_the_object_looks_as_if_it_had_just_been_applied() -> None:
    """No id, no hash, no True condition is left of the record; the token of the last request stays."""
    status = {
        "observedGeneration": 1,
        "providerId": "id",
        "tenantId": "team",
        "configHash": "hash",
        "lastHandledReconcileAt": "token",
        "conditions": [condition("Ready"), condition("TenantReady"), condition("Synced")],
    }
    sight = builders.tenant_sight(deleting=True, leaving=True)
    plan = tenancy.given_up(tracked(status=status), sight, DAY, (), NOW)
    assert plan.status is not None and plan.actions == ()
    told = {each["type"]: (each["status"], each["reason"]) for each in plan.status["conditions"]}
    assert told == {
        "Ready": ("Unknown", "TenantNotReady"),
        "TenantReady": ("Unknown", "TenantNotReady"),
        "Reconciling": ("True", "WaitingForDependency"),
    }
    left = {name: value for name, value in plan.status.items() if name != "conditions"}
    assert left == {
        "observedGeneration": 1,
        "lastHandledReconcileAt": "token",
        "providerId": None,
        "tenantId": None,
        "configHash": None,
    }
