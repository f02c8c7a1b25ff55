"""A configuration comes back from the database as it went in, so that nothing is written for ever."""

import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from integration.store import samples
from keep_operator.domain.provider import Content
from keep_operator.errors import Refused
from keep_operator.store import documents, providers
from keep_operator.store import engine as database
from keep_operator.store.connection import Connection
from keep_operator.store.engine import Engine

pytestmark = pytest.mark.integration

# All text but NUL (which PostgreSQL cannot hold) and halves of surrogate pairs (which are no text).
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
CONFIGS = st.dictionaries(TEXT, VALUES, max_size=5)

# Each is a trap of some way to store or compare JSON.
TRAPS: dict[str, Any] = {
    "1e22": 1e22,
    "1e23": 1e23,
    "1e308": 1e308,
    "tiny": 5e-324,
    "minus zero": -0.0,
    "whole float": 1.0,
    "one": 1,
    "true": True,
    "big": 2**53 + 1,
    "huge": 10**400,
    "neighbour": 123456789012345678.0,
    "control": "".join(map(chr, range(1, 32))) + "\x7f\x80\u2028\ufeff\ufffe",
    "astral": "🚒𝒳",
    "": {"": [[], {}, None]},
    "a.b": {"'\"\\": "\\u0000"},
}


def alike(one: Any, other: Any) -> bool:
    """Equal, also in type and sign, which Python's ``==`` does not look at."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    return type(one) is type(other) and bool(one == other)


class _ThinkAgain(Exception):
    """Ends a transaction that shall leave nothing behind."""


@asynccontextmanager
async def undone(engine: Engine) -> AsyncIterator[Connection]:
    """A transaction that is rolled back at the end."""
    with suppress(_ThinkAgain):
        async with database.transaction(engine) as conn:
            yield conn
            raise _ThinkAgain


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(config=CONFIGS)
@example(config=TRAPS)
async def test_a_config_comes_back_as_it_went(engine: Engine, config: dict[str, Any]) -> None:
    """Whatever a config holds, the row equals the spec after the write: no endless update, no false Ready."""
    content = Content(config, None, "hash")
    async with undone(engine) as conn:
        await conn.execute(text("INSERT INTO keep_operator.tenant (id, display_name) VALUES ('keep', 'Keep')"))
        record = samples.provider_record(holding=content)
        assert record.owner is not None
        await providers.insert(conn, record, actor="x")
        own, _ = await providers.observe(conn, samples.CLUSTER, record.owner.uid, None, None)
        again = await providers.update(conn, record.id, record.owner, external_name="vms", content=content, actor="x")
    assert own == record
    assert alike(own.content.config, config)
    assert again is False


@given(config=CONFIGS)
@example(config=TRAPS)
def test_the_text_depends_on_the_meaning_only(config: dict[str, Any]) -> None:
    """The order of keys and the spelling of the source make no difference."""
    respelt = json.loads(json.dumps(dict(reversed(config.items())), indent=3))
    assert documents.text(respelt) == documents.text(config)
    assert alike(documents.loads(documents.text(config)), config)


@pytest.mark.parametrize(
    ("before", "after"), [(1, 1.0), (1, True), (0, False), (0.0, -0.0), (1e23, 10**23), ("1", 1), (None, "null")]
)
async def test_what_python_takes_for_equal_is_told_apart(engine: Engine, before: Any, after: Any) -> None:
    """`1` changed to `true` in the spec is a change, and is written once."""
    await samples.have_tenant(engine)
    record = await samples.have_provider(engine, samples.provider_record(holding=samples.content({"x": before})))
    assert record.owner is not None
    owner = record.owner
    changes = []
    for _ in range(2):
        async with database.transaction(engine) as conn:
            content = samples.content({"x": after})
            changes.append(
                await providers.update(conn, record.id, owner, external_name="vms", content=content, actor="x")
            )
    assert changes == [True, False]
    own = await samples.own_record(engine, owner)
    assert own is not None
    assert alike(own.content.config, {"x": after})
    assert (await samples.entries(engine))[-1].details["fields"] == ["config.x"]


@pytest.mark.parametrize(
    "written",
    [
        '{"x": 1' + "0" * 5000 + "}",
        '{"x": 1e400}',
        '{"x": ' + "[" * 200 + "]" * 200 + "}",
    ],
    ids=["endless number", "number beyond floats", "deep nest"],
)
async def test_what_other_hands_wrote_can_be_read_and_corrected(engine: Engine, written: str) -> None:
    """A row spoilt in psql does not stop its Provider: it is read, differs, and is put right."""
    await samples.have_tenant(engine)
    record = await samples.have_provider(engine)
    assert record.owner is not None
    async with database.transaction(engine) as conn:
        await conn.execute(
            text("UPDATE keep_operator.provider SET config = CAST(:written AS json)"), {"written": written}
        )
    spoilt = await samples.own_record(engine, record.owner)
    assert spoilt is not None
    assert spoilt.content != record.content
    async with database.transaction(engine) as conn:
        assert await providers.update(
            conn, record.id, record.owner, external_name="vms", content=record.content, actor="x"
        )
    assert await samples.own_record(engine, record.owner) == record


async def test_the_same_in_another_spelling_is_no_change(engine: Engine) -> None:
    """Spaces, order and doubled keys of other hands are not worth a write."""
    await samples.have_tenant(engine)
    record = await samples.have_provider(engine, samples.provider_record(holding=samples.content({"a": 1, "b": 2})))
    assert record.owner is not None
    async with database.transaction(engine) as conn:
        await conn.execute(
            text("UPDATE keep_operator.provider SET config = CAST(:written AS json)"),
            {"written": '{ "b": 7, "b": 2,\n "a": 1 }'},
        )
        assert not await providers.update(
            conn, record.id, record.owner, external_name="vms", content=record.content, actor="x"
        )


async def test_a_config_of_a_megabyte_is_stored(engine: Engine) -> None:
    """What the API server takes, the database takes."""
    await samples.have_tenant(engine)
    record = samples.provider_record(holding=samples.content({"blob": "é" * 500_000}))
    await samples.have_provider(engine, record)
    assert record.owner is not None
    assert await samples.own_record(engine, record.owner) == record


def nested(levels: int) -> dict[str, Any]:
    """A config of so many levels."""
    value: Any = 1
    for _ in range(levels - 1):
        value = [value]
    return {"x": value}


def test_nesting_has_a_limit_that_says_so() -> None:
    """A config nested without end is refused before anything breaks on it."""
    documents.text(nested(documents.MAX_DEPTH))
    for levels in (documents.MAX_DEPTH + 1, 5_000, 100_000):
        with pytest.raises(Refused, match="flatten"):
            documents.text(nested(levels))
