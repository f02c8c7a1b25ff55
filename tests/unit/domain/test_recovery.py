"""How the cluster gives an older database back what it lost, and when a person must decide first."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from keep_operator.domain import recovery
from keep_operator.domain.ownership import Owner
from keep_operator.domain.provider import Record
from keep_operator.domain.recovery import Blocked, Give, Make, Remove, Step
from unit.builders import CLUSTER, CONTENT, ROW_ID, a_provider, provider_owner, provider_record, ready_status

pytestmark = pytest.mark.unit

OTHER_ID = UUID(int=2)
SPEC = {"config": {"VMBackendURL": "http://vm:8428"}, "pullingEnabled": True}


def a_survivor(name: str = "vm", **more: Any) -> Any:
    """A Provider that was Ready, and whose status says so."""
    return a_provider(name, SPEC, **{"status": ready_status(), **more})


def plan(
    *rows: Record, objects: list[Any] | None = None, live: set[str] | None = None, tenants: str = "keep"
) -> list[Step]:
    found = [a_survivor()] if objects is None else objects
    uids = {obj.uid for obj in found} | (live or set())
    return recovery.plan(found, rows, cluster_id=CLUSTER, tenants={tenants}, live=uids)


def test_what_the_database_knows_needs_nothing() -> None:
    """Also when it has been recovered a moment ago: it may be asked as often as one likes."""
    assert plan(provider_record()) == []


def test_a_lost_record_is_made_again_under_its_id() -> None:
    """As the object describes it; the hash is left open, so that the operator writes the credentials."""
    (step,) = plan()
    assert isinstance(step, Make)
    assert step.record.id == ROW_ID
    assert step.record.owner == provider_owner()
    assert (step.record.external_name, step.record.type, step.record.tenant_id) == ("vm", "victoriametrics", "keep")
    assert step.record.content.config == SPEC["config"]
    assert step.record.content.pulling_enabled is True
    assert step.record.content.config_hash == ""


@pytest.mark.parametrize("owner", [None, provider_owner("gone")])
def test_a_record_of_a_former_owner_is_given_back(owner: Owner | None) -> None:
    """Under the name that it has now, and with its id."""
    (step,) = plan(provider_record("old", owner=owner))
    assert step == Give(a_survivor().key, provider_record("old", owner=owner), provider_owner(), "vm")


def test_a_record_that_came_back_with_the_dump_makes_room() -> None:
    """Its object is gone and its policy was Delete: it had been deleted after the dump."""
    back = provider_record("vm", id=OTHER_ID, owner=provider_owner("gone"))
    first, second = plan(back)
    assert first == Remove(a_survivor().key, back)
    assert isinstance(second, Make)


BLOCKED: dict[str, tuple[tuple[Record, ...], dict[str, Any], str]] = {
    "a living object holds the record": (
        (provider_record("vm", owner=provider_owner("b")),),
        {"live": {"uid-b"}},
        "must give it up",
    ),
    "another cluster holds it": (
        (provider_record("vm", owner=provider_owner("b", cluster_id="cluster-2")),),
        {},
        "must give it up",
    ),
    "a living object holds the name": (
        (provider_record("vm", id=OTHER_ID, owner=provider_owner("b")),),
        {"live": {"uid-b"}},
        'the name "vm" is held',
    ),
    "nobody's record holds the name": ((provider_record("vm", id=OTHER_ID, owner=None),), {}, "keep-operator prune"),
    "an orphan by policy holds the name": (
        (
            provider_record(
                "vm", id=OTHER_ID, owner=provider_owner("gone"), content=replace(CONTENT, deletion_policy="Orphan")
            ),
        ),
        {},
        "which is gone",
    ),
    "it has another record": (
        (provider_record("other", id=OTHER_ID, owner=provider_owner()),),
        {},
        "another record by now",
    ),
    "its tenant has no row": ((), {"tenants": "others"}, "its Tenant must become Ready first"),
}


@pytest.mark.parametrize(("rows", "given", "words"), BLOCKED.values(), ids=BLOCKED)
def test_a_person_decides_where_two_have_a_claim(rows: tuple[Record, ...], given: dict[str, Any], words: str) -> None:
    """Nothing is taken from anybody; the message names the fact and the remedy."""
    (step,) = plan(*rows, **given)
    assert isinstance(step, Blocked)
    assert words in step.why


def test_a_spec_that_cannot_be_read_is_for_a_person() -> None:
    """What the record should say is not known."""
    broken = a_provider("vm", {"type": None}, status=ready_status())
    (step,) = plan(objects=[broken])
    assert isinstance(step, Blocked)
    assert "spec" in step.why


@pytest.mark.parametrize(
    "more", [{"deleting": True, "finalizers": ("x",)}, {"status": {}}, {"status": {"providerId": "?"}}]
)
def test_objects_that_remember_nothing_or_are_going_are_left_alone(more: dict[str, Any]) -> None:
    """They make their own way."""
    assert plan(objects=[a_survivor(**more)]) == []
