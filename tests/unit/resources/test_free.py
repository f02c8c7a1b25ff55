"""Free JSON inside of our shapes: nothing is changed, nothing too deep gets in."""

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from keep_operator.__main__ import NESTING_LIMIT
from keep_operator.resources import free, workflow
from keep_operator.resources.shapes import Invalid
from keep_operator.resources.workflow import WorkflowSpec

pytestmark = pytest.mark.unit


@pytest.fixture
def as_the_program() -> Iterator[None]:
    """The recursion limit that the program sets at its start."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(NESTING_LIMIT)
    yield
    sys.setrecursionlimit(before)


def nested(levels: int, kind: str) -> Any:
    """A definition that is so deep, itself being the first level."""
    first, last = ('{"a":', "}") if kind == "objects" else ("[", "]")
    return json.loads(
        '{"a":' + first * (levels - 2) + ("{}" if kind == "objects" else "[]") + last * (levels - 2) + "}"
    )


def read(definition: object) -> WorkflowSpec | Invalid:
    """A Workflow's spec with this definition."""
    return workflow.parse_spec({"definition": definition})


def test_a_definition_is_the_stored_json_to_the_letter() -> None:
    """A hash made today and one made after an upgrade are of the same values: none is read and written anew."""
    text = '{"z":1,"a":1.0,"b":1e23,"c":[true,null,"é",{"":12345678901234567890}],"on":"yes","0":-0.0}'
    raw = json.loads(text)
    spec = read(raw)
    assert isinstance(spec, WorkflowSpec)
    assert spec.definition is not None
    assert json.dumps(spec.definition, separators=(",", ":"), ensure_ascii=False) == json.dumps(
        raw, separators=(",", ":"), ensure_ascii=False
    )
    assert [type(value) for value in spec.definition.values()] == [type(value) for value in raw.values()]
    assert spec.definition["c"] is raw["c"]


@pytest.mark.parametrize("definition", [[], "steps: []", 1, True])
def test_a_definition_is_an_object(definition: object) -> None:
    """YAML text in the wrong field is told at once."""
    assert str(read(definition)) == "spec.definition: must be an object"


@pytest.mark.usefixtures("as_the_program")
@pytest.mark.parametrize("kind", ["objects", "lists"])
def test_what_is_too_deep_is_refused_and_hurts_nobody(kind: str) -> None:
    """One Workflow that is nested thousands deep ends in one refusal, whatever else the operator has to do."""
    assert isinstance(read(nested(free.DEPTH_LIMIT, kind)), WorkflowSpec)
    for levels in (free.DEPTH_LIMIT + 1, 300, 9_000):
        assert str(read(nested(levels, kind))) == "spec.definition: is nested too deeply"


def test_the_keys_of_a_definition_are_counted() -> None:
    """What a Workflow may hold, the record of its version can hold too."""
    assert isinstance(read({str(number): number for number in range(256)}), WorkflowSpec)
    refused = read({str(number): number for number in range(257)})
    assert str(refused) == "spec.definition: must not have more than 256 entries"


def test_only_the_order_of_keys_does_not_matter() -> None:
    """Values that Python takes for equal are told apart, as JSON tells them apart."""
    assert free.same({"a": 1, "b": [{"c": 1, "d": None}]}, {"b": [{"d": None, "c": 1}], "a": 1})
    values = [1, 1.0, True, "1", None, 0, False, [], {}, [1, 2], [2, 1]]
    for one in values:
        for other in values:
            assert free.same({"a": one}, {"a": other}) == (one is other)
    assert not free.same({"a": None}, {})


def test_size_is_that_of_the_text_in_bytes() -> None:
    """What is measured is what is stored, whatever the alphabet."""
    assert free.size({"a": "é", "b": [1, True]}) == len('{"a":"é","b":[1,true]}'.encode())
    assert free.size({"a": json.loads('"\\ud800"')}) == len('{"a":"x"}') + 2
