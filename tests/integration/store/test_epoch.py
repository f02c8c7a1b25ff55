"""The fence around the database: only the newest leader writes, and a successor begins when the last old write ended."""

import asyncio

import pytest
from sqlalchemy import select, text, update

from keep_operator.errors import Conflict, Unavailable
from keep_operator.store import engine as database
from keep_operator.store import installation
from keep_operator.store.engine import Engine
from keep_operator.store.tables import INSTALLATION

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
async def _installed(engine: Engine) -> None:
    """A start of the operator has made its row."""
    async with database.transaction(engine) as conn:
        await installation.cluster_id(conn, "here")


async def claim(engine: Engine, epoch: int) -> int | None:
    """What a replica does that has won the Lease."""
    async with database.transaction(engine) as conn:
        return await installation.claim(conn, epoch)


async def write(engine: Engine, epoch: int, what: str) -> None:
    """A write of the leader of that epoch; it changes something that the test can see."""
    async with database.transaction(engine) as conn:
        await installation.guard(conn, epoch)
        await conn.execute(update(INSTALLATION).values(cluster_id=what))


async def stored(engine: Engine) -> tuple[int, str]:
    """The epoch and the last write."""
    async with database.look(engine) as conn:
        row = (await conn.execute(select(INSTALLATION.c.leader_epoch, INSTALLATION.c.cluster_id))).one()
    return row.leader_epoch, row.cluster_id


async def test_an_epoch_only_grows(engine: Engine) -> None:
    """A lower or equal claim changes nothing, and says what stands there: who gets it lifts the Lease's count."""
    assert await claim(engine, 3) is None
    assert await claim(engine, 3) == 3
    assert await claim(engine, 2) == 3
    assert await claim(engine, 7) is None
    assert (await stored(engine))[0] == 7


async def test_only_the_epoch_that_was_claimed_last_writes(engine: Engine) -> None:
    """A deposed leader's write finds no place, nor does that of a leader which has not claimed yet."""
    await claim(engine, 4)
    await write(engine, 4, "by 4")
    await claim(engine, 5)
    for epoch in (0, 4, 6):
        with pytest.raises(Conflict, match="LeadershipLost"):
            await write(engine, epoch, f"by {epoch}")
    assert await stored(engine) == (5, "by 4")


async def test_a_successor_waits_for_the_write_that_is_under_way(engine: Engine) -> None:
    """What the old leader has begun is seen by the new one or never was: the claim ends after that transaction."""
    await claim(engine, 1)
    async with database.transaction(engine) as conn:
        await installation.guard(conn, 1)
        claiming = asyncio.create_task(claim(engine, 2))
        await _until_somebody_waits(engine)
        assert not claiming.done()
        await conn.execute(text("CREATE TABLE public.late ()"))
    assert await claiming is None
    async with database.look(engine) as conn:
        assert await conn.scalar(text("SELECT to_regclass('public.late')")) is not None
    with pytest.raises(Conflict, match="LeadershipLost"):
        await write(engine, 1, "late")


async def test_a_write_that_begins_while_a_claim_is_under_way_is_refused(engine: Engine) -> None:
    """The old leader's write waits for the claim, and then finds that its time is over."""
    await claim(engine, 1)
    async with database.transaction(engine) as conn:
        assert await installation.claim(conn, 2) is None
        writing = asyncio.create_task(write(engine, 1, "late"))
        await _until_somebody_waits(engine)
    with pytest.raises(Conflict, match="LeadershipLost"):
        await writing
    assert await stored(engine) == (2, "here")


async def test_a_claim_that_is_rolled_back_deposes_nobody(engine: Engine) -> None:
    """The new leader dies before its claim is committed: the old one, if it still leads, goes on."""
    await claim(engine, 1)

    async def die() -> None:
        async with database.transaction(engine) as conn:
            await installation.claim(conn, 2)
            raise RuntimeError("died")

    with pytest.raises(RuntimeError, match="died"):
        await die()
    await write(engine, 1, "by 1")
    assert await stored(engine) == (1, "by 1")


async def test_a_claim_does_not_wait_for_ever(engine: Engine) -> None:
    """The old leader hangs in the middle of a write: the claim ends with an error that another try can heal."""
    await claim(engine, 1)
    async with database.transaction(engine) as conn:
        await installation.guard(conn, 1)
        with pytest.raises(Unavailable):
            await claim(engine, 2)
    assert await claim(engine, 2) is None


async def test_twenty_claims_at_once(engine: Engine) -> None:
    """In whatever order they come: the highest stands, each one was told, and nobody was let in twice."""
    outcomes = await asyncio.gather(*(claim(engine, epoch) for epoch in [*range(1, 11), *range(10, 0, -1)]))
    assert (await stored(engine))[0] == 10
    assert len([outcome for outcome in outcomes[9:11] if outcome is None]) == 1
    for epoch, outcome in zip([*range(1, 11), *range(10, 0, -1)], outcomes, strict=True):
        assert outcome is None or outcome >= epoch


async def test_the_leaders_own_writes_do_not_wait_for_each_other(engine: Engine) -> None:
    """All workers write at once: the guard is shared."""
    await claim(engine, 1)
    inside = asyncio.Barrier(4)

    async def work() -> None:
        async with database.transaction(engine) as conn:
            await installation.guard(conn, 1)
            await inside.wait()

    async with asyncio.timeout(30):
        await asyncio.gather(*(work() for _ in range(4)))


async def test_what_the_fence_costs(engine: Engine) -> None:
    """One statement a write transaction, one to claim (P-3)."""
    before = database.queries(engine).statements
    await claim(engine, 1)
    assert database.queries(engine).statements == before + 1
    async with database.transaction(engine) as conn:
        await installation.guard(conn, 1)
    assert database.queries(engine).statements == before + 2


async def test_a_restored_older_database_lets_no_old_leader_in(engine: Engine) -> None:
    """After a restore the epoch stands lower: the leader of before writes nothing until it has claimed anew."""
    await claim(engine, 9)
    async with database.transaction(engine) as conn:
        await conn.execute(update(INSTALLATION).values(leader_epoch=4))
    with pytest.raises(Conflict, match="LeadershipLost"):
        await write(engine, 9, "by 9")
    assert await claim(engine, 9) is None
    await write(engine, 9, "by 9")


async def _until_somebody_waits(engine: Engine) -> None:
    """Until another session of this database waits for a lock."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with asyncio.timeout(4), database.look(engine) as conn:
        while not await conn.scalar(waiting):  # noqa: ASYNC110 - another session's state
            await asyncio.sleep(0.02)
