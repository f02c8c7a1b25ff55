"""The cluster's id: made once, kept, and overridden by hand after a restore."""

import asyncio
import uuid

import pytest

from keep_operator.store import engine as database
from keep_operator.store import installation
from keep_operator.store.engine import Engine
from keep_operator.store.installation import Identity

pytestmark = pytest.mark.integration


async def identity(engine: Engine, given: str | None = None) -> Identity:
    """What a starting operator learns."""
    async with database.transaction(engine) as conn:
        return await installation.cluster_id(conn, given)


async def test_replicas_that_start_together_have_one_id(engine: Engine) -> None:
    """Eight at the same instant on an empty database: one id, for ever."""
    together = await asyncio.gather(*(identity(engine) for _ in range(8)))
    assert len({each.cluster_id for each in together}) == 1
    assert await identity(engine) == together[0]
    assert uuid.UUID(together[0].cluster_id).version == 4


async def test_a_given_id_is_stored_where_none_is(engine: Engine) -> None:
    """The setting of a fresh installation stays in force when it is taken out again."""
    assert await identity(engine, "prod-eu") == Identity("prod-eu", stored="prod-eu")
    assert await identity(engine) == Identity("prod-eu", stored="prod-eu")


async def test_a_given_id_wins_and_does_not_overwrite(engine: Engine) -> None:
    """After a restore into another cluster the setting decides, and the caller can say that they differ."""
    stored = (await identity(engine)).cluster_id
    assert await identity(engine, "restored") == Identity("restored", stored=stored)
    assert await identity(engine) == Identity(stored, stored=stored)


async def test_at_rest_the_id_is_only_read(engine: Engine) -> None:
    """A restart writes nothing (P-3)."""
    await identity(engine)
    before = database.queries(engine).statements
    await identity(engine)
    assert database.queries(engine).statements == before + 1
