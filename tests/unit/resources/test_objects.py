"""One object as the operator keeps it: parsed once, cut down, never surprised."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keep_operator.resources import objects, provider, tenant
from keep_operator.resources.kinds import Key
from keep_operator.resources.objects import CONFIRM_DELETION, RECONCILE_REQUESTED_AT
from keep_operator.resources.shapes import TOKEN_LIMIT, Invalid
from unit.builders import a_provider, a_tenant, condition, manifest

pytestmark = pytest.mark.unit

MINIMAL: dict[str, Any] = {
    "metadata": {
        "name": "keep",
        "uid": "u",
        "resourceVersion": "7",
        "creationTimestamp": "2026-03-01T12:00:00Z",
    }
}


def test_an_object_without_anything_optional_is_read() -> None:
    """As an API server sends one that was just made."""
    obj = objects.parse("Tenant", MINIMAL, tenant)
    assert (obj.key, obj.uid, obj.resource_version, obj.generation) == (Key("Tenant", "", "keep"), "u", "7", 0)
    assert obj.created_at == datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert (obj.deleting, obj.finalizers, obj.owners, dict(obj.annotations)) == (False, (), (), {})
    assert dict(obj.status) == {}
    assert not obj.ready


@pytest.mark.parametrize("field", ["annotations", "finalizers", "ownerReferences", "namespace"])
def test_null_is_as_good_as_nothing(field: str) -> None:
    """Some clients write null where others leave out."""
    raw = {"metadata": {**MINIMAL["metadata"], field: None}, "spec": None, "status": None}
    assert objects.parse("Tenant", raw, tenant) == objects.parse("Tenant", MINIMAL, tenant)


@pytest.mark.parametrize("field", ["name", "uid", "resourceVersion", "creationTimestamp"])
def test_what_is_no_object_is_no_object(field: str) -> None:
    """A KeyError, for the one caller who counts such events."""
    raw = {"metadata": {name: value for name, value in MINIMAL["metadata"].items() if name != field}}
    with pytest.raises(KeyError):
        objects.parse("Tenant", raw, tenant)


@pytest.mark.parametrize(
    ("status", "ready"),
    [
        ({}, False),
        ({"observedGeneration": 2, "conditions": [condition("Ready")]}, True),
        ({"observedGeneration": 1, "conditions": [condition("Ready")]}, False),
        ({"observedGeneration": 2, "conditions": [condition("Ready", "Unknown")]}, False),
        ({"observedGeneration": 2, "conditions": [condition("Synced")]}, False),
        ({"observedGeneration": 2, "conditions": None}, False),
    ],
)
def test_ready_is_about_the_spec_as_it_is_now(status: dict[str, Any], ready: bool) -> None:
    """Exists, observedGeneration is the generation, and Ready is True."""
    obj = a_tenant(generation=2, status=status)
    assert obj.ready is ready


def test_a_condition_is_found_by_its_type() -> None:
    """None where it is absent."""
    obj = a_tenant(status={"conditions": [condition("Synced", "False")]})
    assert (obj.condition("Synced"), obj.condition("Ready")) == ("False", None)


def test_only_annotations_that_are_read_are_kept_and_cut() -> None:
    """`last-applied-configuration` of ten thousand objects would fill the memory; a token may be 256 KiB."""
    given = {"kubectl.kubernetes.io/last-applied-configuration": "x" * 9999, CONFIRM_DELETION: "keep"}
    obj = a_tenant(annotations=given | {RECONCILE_REQUESTED_AT: "t" * 5000})
    assert dict(obj.annotations) == {CONFIRM_DELETION: "keep", RECONCILE_REQUESTED_AT: "t" * TOKEN_LIMIT}


def test_a_spec_that_breaks_a_rule_cannot_be_read() -> None:
    """Also where the server is older than CEL, or the object older than the rule."""
    assert isinstance(a_provider("has.a.dot").spec, Invalid)
    assert isinstance(a_provider(spec={"resyncPeriod": "1s"}).spec, Invalid)
    assert isinstance(a_tenant(spec={"allowedNamespaces": {}}).spec, Invalid)


def test_a_spec_is_read_once_in_each_generation() -> None:
    """The server raises the generation with each edit: until then nobody has to read the spec again, or judge it."""
    known = a_provider(generation=2)
    answer = manifest("vm", {"type": "slack"}, namespace="monitoring", generation=2, version=5)
    assert objects.parse("Provider", answer, provider, known=known).spec is known.spec
    edited = manifest("vm", {"type": "slack"}, namespace="monitoring", generation=3, version=6)
    assert objects.parse("Provider", edited, provider, known=known).spec != known.spec
    another = manifest("vm", {"type": "slack"}, namespace="monitoring", generation=2, uid="another")
    assert objects.parse("Provider", another, provider, known=known).spec != known.spec


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["type", "tenantRef", "config", "secrets", "externalName", "x"]), json_values))
def test_no_spec_whatever_stops_the_watch(spec: dict[str, Any]) -> None:
    """Whatever a server without a schema lets pass: it is read, or it is refused, and nothing is raised."""
    objects.parse("Provider", manifest("vm", spec, namespace="ns"), provider)
    objects.parse("Tenant", manifest("keep", spec), tenant)
