"""The hash of a definition: the same for what behaves alike, another for what does not, and the same for ever."""

import hashlib
import json
import math
import os
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from keep_operator.domain import revision
from keep_operator.domain.grammar import dialect, workflow
from unit.domain.grammar import corpus

pytestmark = pytest.mark.unit

# Key orders and re-serialisations of each real workflow; `make soak` tries as many as the requirement wants.
SOAK = bool(os.environ.get("KEEP_OPERATOR_SOAK"))
ORDERS, SPELLINGS = (1_000, 50) if SOAK else (5, 4)
GOLDEN = json.loads(corpus.text(corpus.DATA / "hashes.json"))


def read(path: Path) -> dict[str, Any]:
    """The definition of a file."""
    found = workflow.read(corpus.text(path)).definition
    assert isinstance(found, dict)
    return found


def shuffled(value: Any, chance: Random) -> Any:
    """The same value with its keys in another order, at every level."""
    if isinstance(value, dict):
        keys = list(value)
        chance.shuffle(keys)
        return {key: shuffled(value[key], chance) for key in keys}
    return [shuffled(each, chance) for each in value] if isinstance(value, list) else value


def test_the_hashes_of_version_1_are_what_they_were() -> None:
    """No release makes a new revision of what nobody changed: these hashes stand in databases."""
    assert GOLDEN["hashVersion"] == 1
    present = {path.name for path in corpus.ALL}
    assert {path.name for path in corpus.OWN} <= present <= set(GOLDEN["hashes"])
    golden = {name: hash_ for name, hash_ in GOLDEN["hashes"].items() if name in present}
    assert {path.name: revision.content_hash(read(path), 1) for path in corpus.ALL} == golden


def test_the_keys_that_are_not_hashed_are_what_they_were() -> None:
    """Version 1 leaves out exactly what the page of the grammar says."""
    assert revision.PRESENTATIONAL[1] == (
        "id", "name", "description", "disabled", "debug", "owners", "services", "tags",
    )  # fmt: skip
    assert revision.HASH_VERSION == 1
    page = corpus.text(corpus.DATA.parents[1] / "docs" / "grammar.md")
    assert ", ".join(f"`{key}`" for key in revision.PRESENTATIONAL[revision.HASH_VERSION]) in page


def test_the_hash_is_sha_256_of_the_canonical_text() -> None:
    """Anybody can compute it with any tool."""
    given_ = {"name": "x", "steps": [], "é": 1.0, "a": {"\U0001f600": "\n", "\ufb33": None}, "actions": [True, 1e-7]}
    text = '{"a":{"\U0001f600":"\\n","\ufb33":null},"actions":[true,1e-7],"steps":[],"é":1}'
    assert revision.canonical(revision.behaviour(given_)) == text.encode()
    assert revision.content_hash(given_) == hashlib.sha256(text.encode()).hexdigest()


def test_a_thousand_orders_of_one_definition() -> None:
    """What tools do to the order of keys makes no revision."""
    definition, chance = read(corpus.OWN[0]), Random(1)  # noqa: S311 - an order, no secret
    assert len({revision.content_hash(shuffled(definition, chance)) for _ in range(1_000)}) == 1


@pytest.mark.parametrize("path", corpus.ALL, ids=lambda path: path.name)
def test_orders_and_spellings_of_real_workflows(path: Path) -> None:
    """Re-formatted, re-quoted, re-ordered, as JSON or as YAML: one workflow, one hash."""
    definition, chance = read(path), Random(path.name)  # noqa: S311 - an order, no secret
    wanted = revision.content_hash(definition)
    for _ in range(ORDERS):
        assert revision.content_hash(shuffled(definition, chance)) == wanted
    for _ in range(SPELLINGS):
        spelt = yaml.dump(
            shuffled(definition, chance),
            default_flow_style=chance.choice([True, False, None]),
            default_style=chance.choice([None, None, '"']),
            width=chance.randint(10, 200),
            indent=chance.randint(2, 8),
            allow_unicode=chance.choice([True, False]),
            Dumper=yaml.CSafeDumper,
        )
        # Quoted numbers have tags (`!!int "5"`, `! "true"`), which the dialect does not take.
        if "!!" not in spelt and '! "' not in spelt:
            assert revision.content_hash(dialect.load(f"# a comment\n{spelt}").value) == wanted
        assert revision.content_hash(json.loads(json.dumps(shuffled(definition, chance)))) == wanted


@pytest.mark.parametrize("key", revision.PRESENTATIONAL[1])
def test_what_people_read_makes_no_revision(key: str) -> None:
    """A better description is no new version, and is not lost on a rollback."""
    definition = read(corpus.OWN[0])
    changed = {**definition, key: "other"}
    without = {name: value for name, value in definition.items() if name != key}
    assert revision.content_hash(changed) == revision.content_hash(without) == revision.content_hash(definition)
    assert revision.published(revision.behaviour(definition), changed)[key] == "other"
    assert key not in revision.published(definition, without)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, below in inner for place in _places(below, (*path, key)))]


@given(st.sampled_from(corpus.ALL), st.data())
def test_every_change_of_behaviour_is_another_hash(path: Path, data: st.DataObject) -> None:
    """No edit that matters goes unnoticed, wherever it is."""
    definition = json.loads(json.dumps(read(path)))
    content = revision.behaviour(definition)
    *above, key = data.draw(st.sampled_from([place for place in _places(content) if place]))
    here: Any = definition
    for step in above:
        here = here[step]
    before = revision.content_hash(definition)
    here[key] = data.draw(st.sampled_from(["changed", 12345, None, True, [], {}]).filter(lambda new: new != here[key]))
    assert revision.content_hash(definition) != before


def test_a_revision_is_published_with_what_people_read_now() -> None:
    """After a rollback Keep shows the old behaviour under today's name, disabled if it is disabled today."""
    old = {"name": "Old", "steps": [1], "tags": ["a"]}
    assert revision.published(old, {"name": "New", "disabled": True, "steps": [2]}) == {
        "name": "New",
        "disabled": True,
        "steps": [1],
    }


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (math.nan, "steps: is not a number (NaN), which JSON does not have"),
        (math.inf, "steps: is a number above 2^53, of which JSON loses digits; put it in quotes"),
        (2**53, "steps: is a number above 2^53, of which JSON loses digits; put it in quotes"),
        (["\udc80"], "steps[0]: holds half a surrogate pair, which is no Unicode"),
        ("\x00", "steps: holds a NUL character, which cannot be stored"),
    ],
)
def test_what_has_no_hash_is_refused(value: object, told: str) -> None:
    """There is no revision of what two readers would read differently."""
    with pytest.raises(revision.Unhashable) as raised:
        revision.content_hash({"steps": value})
    assert str(raised.value) == told


def test_endless_nesting_is_refused() -> None:
    """A definition that is made to break the program breaks nothing."""
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(revision.Unhashable, match="more than 50 levels"):
        revision.content_hash({"steps": deep})
