"""What the operator does about rows that others changed, keys that do not fit, and records that it remembers."""

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keep_operator.domain import planning, provider, tenant
from keep_operator.domain.ownership import HolderState
from keep_operator.domain.planning import SetMetadata
from keep_operator.domain.provider import Content, Correct, Record, Update
from keep_operator.errors import Unavailable
from keep_operator.resources.objects import FORCE_DELETE
from unit.builders import (
    CONTENT,
    NOW,
    ROW_ID,
    a_look,
    a_provider,
    a_tenant_look,
    found,
    provider_owner,
    provider_record,
    ready_status,
    settled_provider,
    settled_tenant,
    tenant_record,
    told,
)

pytestmark = pytest.mark.unit

AWAY = Unavailable("DatabaseUnavailable", "the control database does not answer")
OTHERS: dict[str, Any] = {
    "config": lambda record: replace(record, content=replace(record.content, config={"a": 1})),
    "name": lambda record: replace(record, external_name="other"),
    "hash": lambda record: replace(record, content=replace(record.content, config_hash="x")),
    "policy": lambda record: replace(record, content=replace(record.content, deletion_policy="Orphan")),
    "type": lambda record: replace(record, type="slack"),
    "credentials": lambda record: replace(record, sealed="x", key_name="k"),
    "checksum": lambda record: replace(record, checksum="x"),
}


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
def test_any_change_by_other_hands_shows(change: Any) -> None:
    """Whatever the operator wrote is covered by the checksum."""
    assert provider_record().intact
    assert not change(provider_record()).intact


@pytest.mark.parametrize("managed", [True, False])
def test_a_field_that_the_spec_leaves_to_others_is_no_drift(managed: bool) -> None:
    """`pullingEnabled` may be switched by hand where the spec does not say it (A-DR-3)."""
    record = provider_record(content=replace(CONTENT, pulling_enabled=True))
    if not managed:
        record = replace(record, checksum=provider.checksum(record, None))
    switched = replace(record, content=replace(record.content, pulling_enabled=False))
    assert switched.intact is not managed


def test_a_row_from_before_checksums_is_taken_as_it_is_and_written_once() -> None:
    """An upgrade brings no false alarm."""
    old = provider_record(checksum=None)
    assert old.intact
    (action,) = provider.plan(a_look(own=old), NOW).actions
    assert isinstance(action, Update)


@pytest.mark.parametrize("change", [OTHERS[name] for name in OTHERS if name != "type"])
def test_drift_is_corrected_or_reported(change: Any) -> None:
    """By `driftPolicy`; reported drift writes nothing at all."""
    drifted = change(provider_record())
    (action,) = provider.plan(a_look(own=drifted), NOW).actions
    assert isinstance(action, Correct)
    reporting = settled_provider(spec={"driftPolicy": "Report"})
    plan = provider.plan(a_look(reporting, own=drifted), NOW)
    assert plan.actions == ()
    assert found(plan, "Ready") == ("False", "DriftDetected")


def test_reported_drift_holds_an_edit_back_too() -> None:
    """Nobody can say whose word counts while the row is not as it was written."""
    drifted = OTHERS["config"](provider_record())
    edited = settled_provider(spec={"driftPolicy": "Report", "config": {"VMBackendURL": "http://new"}}, generation=2)
    plan = provider.plan(a_look(edited, own=drifted, content=Content({"VMBackendURL": "http://new"}, None, "h2")), NOW)
    assert plan.actions == ()
    assert "config.VMBackendURL" in told(plan)


def test_an_edit_is_no_drift() -> None:
    """With `Report` an edit of the spec is written as ever."""
    edited = settled_provider(spec={"driftPolicy": "Report"}, generation=2)
    (action,) = provider.plan(a_look(edited, own=provider_record(), content=Content({"b": 2}, None, "h2")), NOW).actions
    assert isinstance(action, Update)


def test_credentials_that_do_not_open_are_written_again() -> None:
    """After a lost key was replaced, or where there were none yet."""
    (action,) = provider.plan(a_look(own=provider_record(), readable=False), NOW).actions
    assert isinstance(action, Update)


@pytest.mark.parametrize("own", [None, provider_record(), OTHERS["config"](provider_record())])
def test_a_key_that_does_not_fit_stops_every_write(own: Record | None) -> None:
    """Nothing is overwritten that the right key may still open (A-PKG-4)."""
    plan = provider.plan(a_look(own=own, readable=False, key_fits=False), NOW)
    assert plan.actions == ()
    assert found(plan, "Synced") == ("False", "EncryptionKeyMismatch")


def test_an_object_that_remembers_a_record_takes_no_other() -> None:
    """An older dump brought back another record of the name: taking it over would change the id (A-REV-13)."""
    other = provider_record(id=UUID(int=7), owner=provider_owner("gone"))
    seen = a_look(settled_provider(status=ready_status()), holder=other, holder_state=HolderState.GONE)
    plan = provider.plan(seen, NOW)
    assert plan.actions == ()
    assert found(plan, "Ready") == ("False", "DatabaseBehind")
    assert "keep-operator recover" in told(plan)


def test_the_very_record_that_it_remembers_comes_back() -> None:
    """The dump has it under a former owner who is gone: it passes again, with its id."""
    mine = provider_record(id=ROW_ID, owner=provider_owner("gone"))
    seen = a_look(settled_provider(status=ready_status()), holder=mine, holder_state=HolderState.GONE)
    (action,) = provider.plan(seen, NOW).actions
    assert isinstance(action, provider.HandOver)


def test_drift_of_a_tenant() -> None:
    """The same rule for the display name and the deletion policy."""
    drifted = replace(tenant_record(), display_name="X")
    named = settled_tenant(spec={"displayName": "keep"})
    (action,) = tenant.plan(a_tenant_look(named, record=drifted), NOW).actions
    assert isinstance(action, tenant.Correct)
    reporting = settled_tenant(spec={"displayName": "keep", "driftPolicy": "Report"})
    plan = tenant.plan(a_tenant_look(reporting, record=drifted), NOW)
    assert found(plan, "Ready") == ("False", "DriftDetected")
    assert "displayName" in told(plan)


@given(st.dictionaries(st.text(), st.one_of(st.integers(), st.floats(allow_nan=False), st.booleans(), st.text())))
def test_what_is_equal_to_python_is_not_equal_enough(config: dict[str, Any]) -> None:
    """1, 1.0 and true are different settings, and the order of keys is none."""
    assert provider.differing(config, dict(reversed(config.items()))) == set()
    swapped = {key: float(value) if type(value) is int else value for key, value in config.items()}
    assert provider.differing(config, swapped) == {key for key, value in config.items() if type(value) is int}


# Annotation force-delete.


def _going(**more: Any) -> Any:
    given = {"deleting": True, "finalizers": (provider.FINALIZER, "others/finalizer"), **more}
    return a_provider(annotations={FORCE_DELETE: "true"}, **given)


def _forced(obj: Any, passed_s: float, error: Exception = AWAY) -> Any:
    after = timedelta(seconds=60)
    given: Any = error
    return planning.release_by_force(obj, given, provider.FINALIZER, after, NOW + timedelta(seconds=passed_s))


def test_a_forced_deletion_waits_for_its_time_and_then_needs_no_database() -> None:
    """Only our finalizer goes; the record is left to the sweep (A-GC-7)."""
    early = _forced(_going(), 59)
    assert (early.actions, early.wake_in) == ((), timedelta(seconds=1))
    (action,) = _forced(_going(), 60).actions
    assert action == SetMetadata(("others/finalizer",), ())


def test_force_is_for_a_database_that_is_away_and_for_nothing_else() -> None:
    """A refused statement, a living object, another word in the annotation: none of them releases anything."""
    refused = Unavailable("SyncFailed", "a privilege is missing")
    assert _forced(_going(), 600, refused) is None
    assert _forced(_going(deleting=False), 600) is None
    assert _forced(_going(finalizers=("others/finalizer",)), 600) is None
    half_hearted = a_provider(annotations={FORCE_DELETE: "yes"}, deleting=True, finalizers=(provider.FINALIZER,))
    assert _forced(half_hearted, 600) is None
