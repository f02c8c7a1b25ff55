"""Values: each is described, and each wrong one is refused before anything is installed."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema
import pytest
import yaml

from charts import CHART, Json, helm
from keep_operator import __version__
from keep_operator.sandbox import tools

pytestmark = pytest.mark.contract

SCHEMA: Json = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
VALUES: Json = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
WRONG: dict[str, tuple[object, ...]] = {
    "string": (7, True, [], {}),
    "boolean": ("yes", 1, []),
    "integer": ("7", -1, 1.5, True),
    "array": ("a", 1, {}, [7.5]),
    "object": ("a", 1, []),
}


def leaves(schema: Json, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Json]]:
    """Every value that has no further ones below it, with what the schema says of it."""
    for name, each in schema["properties"].items():
        if "properties" in each:
            yield from leaves(each, (*path, name))
        else:
            yield (*path, name), each


def at(path: tuple[str, ...], value: object) -> Json:
    """Values that set only this one."""
    for name in reversed(path):
        value = {name: value}
    assert isinstance(value, dict)
    return value


LEAVES = dict(leaves(SCHEMA))


def _wrong(schema: Json) -> Iterator[object]:
    if "enum" in schema:
        yield from ("no-such-word", 7, [])
    if "oneOf" in schema:
        yield from ("much", -1, [])
    yield from WRONG.get(schema.get("type", ""), ())
    if "pattern" in schema:
        yield "not so !"
    if schema.get("minLength"):
        yield ""
    if "maximum" in schema:
        yield schema["maximum"] + 1
    if "maxLength" in schema:
        yield "a" * (schema["maxLength"] + 1)
    if schema.get("type") == "object":
        yield {"a": ["b"]} if "additionalProperties" in schema else 7
    if schema.get("type") == "array" and schema["items"].get("type") == "string":
        yield ["Not A Name"]


@pytest.mark.parametrize("path", LEAVES, ids=".".join)
def test_each_wrong_value_is_refused(path: tuple[str, ...]) -> None:
    """A slip of the pen ends the installation before it begins."""
    validator = jsonschema.Draft7Validator(SCHEMA)
    wrong = list(_wrong(LEAVES[path]))
    assert wrong
    for value in wrong:
        errors = list(validator.iter_errors(at(path, value)))
        assert errors, f"{'.'.join(path)}: {value!r} is taken"


@pytest.mark.parametrize("package", [tools.HELM_3, tools.CURRENT], ids=["helm 3", "helm 4"])
@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"replicas": 2}, "replicas"),
        ({"operator": {"replica": 2}}, "replica"),
        ({"operator": {"replicas": "two"}}, "replicas"),
        ({"leaseSeconds": 1}, "leaseSeconds"),
        ({"resyncPeriod": "ten minutes"}, "resyncPeriod"),
        ({"watchNamespaces": ["Monitoring"]}, "watchNamespaces"),
        ({"image": {"digest": "sha256:short"}}, "digest"),
        ({"ownerReferences": "Never"}, "ownerReferences"),
        ({"console": {"pages": {"sessionKey": {"secret": {"name": "My key"}}}}}, "name"),
        ({"runner": {"runsAtOnce": 0}}, "runsAtOnce"),
        ({"runner": {"heartbeatSeconds": 10}}, "at least three times runner.heartbeatSeconds, which is 10"),
        ({"runner": {"autoscaling": {"minReplicas": 20}}}, "must not be less than runner.autoscaling.minReplicas"),
        ({"operator": {"serviceAccount": {"create": False}}}, "operator.serviceAccount.name is needed"),
        ({"console": {"ingress": {"enabled": True}}}, "console.ingress.host is needed"),
        ({"console": {"ingress": {"enabled": True, "host": "a.b"}}}, "console.ingress.tlsSecretName is needed"),
    ],
    ids=str,
)
def test_helm_names_the_wrong_value(package: tools.Package, values: Json, told: str) -> None:
    """The message of either Helm says which value is wrong."""
    assert told in helm(package).refusal(values)


def _paths(values: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in values.items():
        if isinstance(value, dict) and value and (*path, name) not in LEAVES:
            yield from _paths(value, (*path, name))
        else:
            yield (*path, name)


def test_every_value_is_in_the_schema_and_the_other_way_round() -> None:
    """What `helm show values` shows can be looked up, and what can be set is shown."""
    assert set(_paths(VALUES)) == set(LEAVES) - {("global",)}
    jsonschema.validate(VALUES, SCHEMA)


def _described(schema: Json, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, each in schema["properties"].items():
        if not each.get("description", "").endswith((".", ".`")):
            yield (*path, name)
        if "properties" in each and name not in ("resources", "podSecurityContext"):
            assert each["additionalProperties"] is False, (*path, name)
            yield from _described(each, (*path, name))


def test_every_value_is_described() -> None:
    """Each value says in a sentence what it does."""
    assert list(_described(SCHEMA)) == []


def test_the_chart_brings_the_operator_of_its_release() -> None:
    """The image that is pulled without further ado is the one that the chart was made for."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["appVersion"] == __version__
