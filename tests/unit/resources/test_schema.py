"""The schemas that the API server gets: structural, bounded, described."""

from collections.abc import Iterator
from typing import Any

import pytest

from keep_operator.resources import crds, provider, revision, schema, tenant, workflow

pytestmark = pytest.mark.unit

MODELS = [model for definition in crds.DEFINITIONS for model in (definition.spec, definition.status)]
FREE_OBJECTS = ("WorkflowSpec.definition", "WorkflowRunSpec.inputs")
# What a structural schema may hold, of what our models need.
KEYWORDS = {
    "additionalProperties",
    "default",
    "description",
    "enum",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minimum",
    "nullable",
    "pattern",
    "properties",
    "required",
    "type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
}


def nodes(node: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema below a schema, with its path."""
    yield path, node
    for name, field in node.get("properties", {}).items():
        yield from nodes(field, f"{path}.{name}")
    if "items" in node:
        yield from nodes(node["items"], f"{path}[]")
    if isinstance(node.get("additionalProperties"), dict):
        yield from nodes(node["additionalProperties"], f"{path}{{}}")


ALL = [(path, node) for model in MODELS for path, node in nodes(schema.structural(model), model.__name__)]


def test_nothing_but_what_a_structural_schema_may_hold() -> None:
    """The API server accepts the definitions."""
    assert {key for _, node in ALL for key in node} <= KEYWORDS
    for path, node in ALL:
        free = "x-kubernetes-preserve-unknown-fields" in node
        assert ("type" in node) == (not free or path.endswith(FREE_OBJECTS)), path
        assert not ("properties" in node and "additionalProperties" in node), path


def test_every_string_list_and_map_has_a_maximum() -> None:
    """The API server can estimate what a CEL rule costs, and nobody stores a novel in a name."""
    limits = {"string": "maxLength", "array": "maxItems"}
    for path, node in ALL:
        if "enum" in node:
            continue
        if (limit := limits.get(node.get("type", ""))) is not None:
            assert limit in node, path
        if "additionalProperties" in node:
            assert "maxProperties" in node, path


def test_every_list_says_how_it_is_merged() -> None:
    """Server-side apply of two owners never mixes what must stay together."""
    for path, node in ALL:
        if node.get("type") == "array":
            assert node["x-kubernetes-list-type"] in {"set", "map", "atomic"}, path


def test_every_field_is_explained_in_sentences() -> None:
    """`kubectl explain` answers, whatever field is asked for."""
    for path, node in ALL:
        if path.rpartition(".")[2].endswith(("[]", "{}")):
            continue
        description = node.get("description", "")
        assert description.endswith("."), path
        assert description[0].isupper() or description[0] == "`", path


def test_integers_say_how_wide_they_are() -> None:
    """Generated clients pick the right type."""
    widths = {path.rpartition(".")[2]: node["format"] for path, node in ALL if node.get("type") == "integer"}
    assert widths["observedGeneration"] == "int64"
    assert widths["progressDeadlineSeconds"] == "int32"


def test_the_documented_defaults_and_no_others() -> None:
    """What the bootstrapped Tenant leaves open stays open, so that a later manifest does not fight over it.

    None inside of lists: who compares a list as a whole, as Argo CD does, would never find Git's and ours equal.
    """
    defaults = {path: node["default"] for path, node in ALL if "default" in node}
    assert defaults == {
        "TenantSpec.deletionPolicy": "Orphan",
        "TenantSpec.driftPolicy": "Correct",
        "TenantSpec.suspend": False,
        "ProviderSpec.progressDeadlineSeconds": 600,
        "ProviderSpec.deletionPolicy": "Delete",
        "ProviderSpec.adoptionPolicy": "Never",
        "ProviderSpec.driftPolicy": "Correct",
        "ProviderSpec.suspend": False,
        "WorkflowSpec.suspend": False,
        "WorkflowSpec.dependencyPolicy": "Wait",
        "WorkflowSpec.progressDeadlineSeconds": 600,
        "WorkflowSpec.run.missedTicks": "Skip",
        "WorkflowSpec.run.maxAttempts": 3,
        "WorkflowSpec.release.strategy.type": "AllAtOnce",
        "WorkflowSpec.release.strategy.canary.rollbackWindow.revisions": 0,
        "WorkflowSpec.release.autoRollback.enabled": False,
        "WorkflowSpec.release.readyWhen": "Deployed",
        "WorkflowSpec.revisionHistoryLimit": 10,
        "WorkflowSpec.runHistory.successful": 3,
        "WorkflowSpec.runHistory.failed": 1,
        "WorkflowSpec.deletionGraceSeconds": 60,
        "WorkflowSpec.deletionPolicy": "Delete",
        "WorkflowSpec.adoptionPolicy": "Never",
        "WorkflowSpec.driftPolicy": "Correct",
        "WorkflowDecisionSpec.full": False,
        "WorkflowDecisionSpec.force": False,
        "WorkflowRunSpec.cancel": False,
        "WorkflowRunSpec.mode": "Live",
        "WorkflowRunSpec.trigger": "Manual",
        "WorkflowRunSpec.ttlSecondsAfterFinished": 3600,
    }


def test_settings_are_free_json() -> None:
    """Whatever a provider type wants to be told can be told, null included."""
    config = schema.structural(provider.ProviderSpec)["properties"]["config"]
    assert config["additionalProperties"] == {"nullable": True, "x-kubernetes-preserve-unknown-fields": True}
    assert config["maxProperties"] == 64


def test_a_definition_is_a_free_object() -> None:
    """Whatever Keep's grammar is to hold is stored, now and later; a text or a list is none."""
    definition = schema.structural(workflow.WorkflowSpec)["properties"]["definition"]
    del definition["description"]
    assert definition == {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "maxProperties": 256}


def test_a_recorded_definition_is_compared_whole() -> None:
    """No key of a version's definition can be replaced by another one.

    `==` of the API server takes free objects for equal that have as many keys, if those that both have are equal. It
    compares every key of a map.
    """
    definition = schema.structural(revision.WorkflowRevisionSpec)["properties"]["definition"]
    del definition["description"]
    assert definition == {
        "type": "object",
        "additionalProperties": {"x-kubernetes-preserve-unknown-fields": True, "nullable": True},
        "maxProperties": 256,
    }


def test_equal_models_give_equal_schemas() -> None:
    """Generating twice changes no file."""
    assert schema.structural(tenant.TenantSpec) == schema.structural(tenant.TenantSpec)
