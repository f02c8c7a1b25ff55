"""What an object says of the version that it pretends to be, and whether that is believed."""

from typing import Any

import pytest

from keep_operator.domain import image, revision
from keep_operator.domain.mirror import Image
from keep_operator.resources import objects
from keep_operator.resources.shapes import Invalid
from unit.builders import manifest

pytestmark = pytest.mark.unit

CONTENT: dict[str, Any] = {"steps": [{"name": "look"}]}
SPEC: dict[str, Any] = {
    "workflowRef": {"name": "high"},
    "lineageId": "lineage",
    "number": 2,
    "contentHash": revision.content_hash(CONTENT),
    "hashVersion": 1,
    "definition": CONTENT,
    "createdFromGeneration": 1,
}
OURS = {"apiVersion": "keep-operator.dev/v1alpha1", "kind": "Workflow", "name": "high", "uid": "uid-high"}


def seen(spec: dict[str, Any] | None = None, **metadata: Any) -> Image:
    """The object as Workflow `high` sees it."""
    given = {"owners": [OURS], "namespace": "monitoring", **metadata}
    raw = manifest("high-v2", SPEC | (spec or {}), **given)
    raw["metadata"]["labels"] = {"keep-operator.dev/revision": "2", "theirs": "x"}
    return image.of(objects.parse("WorkflowRevision", raw, image), "high", "uid-high")


def test_a_true_one_is_believed() -> None:
    """Its content has the hash that stands beside it, it is ours, and nobody has edited it."""
    found = seen()
    assert (found.true, found.owned, found.spared) == (True, True, False)
    assert (found.number, found.content_hash, found.lineage_id) == (2, SPEC["contentHash"], "lineage")
    assert found.labels == {"keep-operator.dev/revision": "2"}


@pytest.mark.parametrize(
    "spec",
    [
        {"definition": {"steps": []}},
        {"contentHash": "0" * 64},
        {"hashVersion": 99},
        {"definition": {"steps": [9007199254740993]}},
        {"workflowRef": {"name": "another"}},
        {"number": "two"},
        {"definition": None},
    ],
)
def test_a_lie_is_told(spec: dict[str, Any]) -> None:
    """Whatever was changed in it, by whoever made or restored it."""
    assert not seen(spec).true


def test_an_edit_is_no_truth_even_where_the_content_is_untouched() -> None:
    """The note of a version is as fixed as its content; nothing but an edit raises the generation."""
    assert not seen(generation=2).true


@pytest.mark.parametrize(
    "owners",
    [[], [OURS | {"uid": "uid-of-before"}], [OURS | {"kind": "Tenant"}]],
    ids=["nobody", "older", "other kind"],
)
def test_it_is_ours_by_the_uid_of_its_owner(owners: list[dict[str, Any]]) -> None:
    """One of a Workflow that had the name before is not."""
    assert not seen(owners=owners).owned


@pytest.mark.parametrize(("value", "spared"), [("", True), ("true", True), ("false", False)])
def test_an_annotation_spares_it(value: str, spared: bool) -> None:
    """It is not cleaned up, as long as that does not say no."""
    assert seen(annotations={"keep-operator.dev/no-gc": value}).spared is spared


def test_one_that_cannot_be_read_is_found_by_its_owner() -> None:
    """Else it would stay for ever."""
    raw = manifest("high-v2", {"number": 0}, namespace="monitoring", owners=[OURS])
    obj = objects.parse("WorkflowRevision", raw, image)
    assert isinstance(obj.spec, Invalid)
    assert image.workflows(obj) == {"high"}
    assert image.of(obj, "high", "uid-high").number == 0
