"""What we rely on from procrastinate, in the schema and with the functions as our migration leaves them."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import UUID

import pytest
from sqlalchemy import text

from integration.store import samples
from integration.store.lineages import looked
from integration.store.test_runs import asked, lineage, started
from keep_operator.domain.execution import Run
from keep_operator.domain.history import Lineage
from keep_operator.errors import KeepOperatorError
from keep_operator.store import engine as database
from keep_operator.store import queue
from keep_operator.store.engine import Engine
from keep_operator.store.queue import GivenBack, Pace, Queue

pytestmark = pytest.mark.integration
__all__ = ["lineage"]

QUICK = Pace(heartbeat_s=0.2, stalled_s=1.0)
Work = Callable[[UUID, int], Awaitable[bool]]


@pytest.fixture
async def jobs(database_url: str) -> AsyncIterator[Queue]:
    """A connection to the queue."""
    async with queue.opened(database_url, application_name="test", places=4, pace=QUICK) as opened:
        yield opened


@asynccontextmanager
async def working(jobs: Queue, run: Work, places: int = 4) -> AsyncIterator[asyncio.Task[None]]:
    """A worker, for the length of a block; it ends in order."""
    task = asyncio.create_task(jobs.work(run, places))
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, KeepOperatorError):
            await task


async def waiting(engine: Engine) -> list[tuple[str, str]]:
    """What the queue holds: run and status."""
    query = text("SELECT args ->> 'run_id', status::text FROM keep_operator.procrastinate_jobs ORDER BY id")
    return [tuple(row) for row in await looked(engine, lambda conn: conn.execute(query))]


async def test_each_job_is_worked_off_once_and_is_gone(engine: Engine, lineage: Lineage, jobs: Queue) -> None:
    """Two workers, twenty runs."""
    made = [await started(engine, lineage) for _ in range(20)]
    seen: Counter[UUID] = Counter()

    async def run(run_id: UUID, _: int) -> bool:
        seen[run_id] += 1
        return False

    async with working(jobs, run), working(jobs, run):
        await samples.until(lambda: _empty(engine))
    assert seen == Counter(each.id for each in made)


async def _empty(engine: Engine) -> bool:
    return not await waiting(engine)


async def test_a_job_may_be_gone_with_its_run(
    engine: Engine, lineage: Lineage, jobs: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """Ended by this worker, or by one that was believed dead: the queue has nothing left to do for it, and goes on."""
    made = [await started(engine, lineage) for _ in range(6)]
    seen: list[UUID] = []

    async def run(run_id: UUID, job: int) -> bool:
        seen.append(run_id)
        if len(seen) <= 4:
            async with database.transaction(engine) as conn:
                await conn.execute(text("DELETE FROM keep_operator.procrastinate_jobs WHERE id = :job"), {"job": job})
        return len(seen) <= 2

    async with working(jobs, run, 1) as task:
        await samples.until(lambda: _empty(engine))
        await samples.until(lambda: _all(seen, made))
        assert not task.done()
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


async def _all(seen: list[UUID], made: list[Run]) -> bool:
    return set(seen) == {each.id for each in made}


async def test_a_new_job_is_heard_of(
    engine: Engine, lineage: Lineage, jobs: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without waiting for the next look, which here is an hour away."""
    monkeypatch.setattr(queue, "POLLING_S", 3600.0)
    heard = asyncio.Event()

    async def run(_: UUID, __: int) -> bool:
        heard.set()
        return False

    async with working(jobs, run):
        await samples.until(lambda: _registered(engine, 1))
        await asyncio.sleep(0.3)
        await started(engine, lineage)
        await asyncio.wait_for(heard.wait(), 20)


async def _registered(engine: Engine, count: int) -> bool:
    query = text("SELECT count(*) FROM keep_operator.procrastinate_workers")
    return bool(await looked(engine, lambda conn: conn.scalar(query)) == count)


async def test_a_worker_that_is_told_to_stop_finishes_what_it_has(
    engine: Engine, lineage: Lineage, jobs: Queue
) -> None:
    """And takes no more; what it gives back waits for the next one."""
    first, second = await started(engine, lineage), await started(engine, lineage)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def run(run_id: UUID, _: int) -> bool:
        begun.set()
        await go_on.wait()
        if run_id == first.id:
            raise GivenBack
        return False

    task = asyncio.create_task(jobs.work(run, 1))
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0.2)
    assert not task.done()
    go_on.set()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert await waiting(engine) == [(str(first.id), "todo"), (str(second.id), "todo")]


async def test_the_jobs_of_the_dead_go_on(engine: Engine, lineage: Lineage, jobs: Queue) -> None:
    """A worker whose heart has stopped: its job is in the queue again; one that lives keeps its own, however long it takes."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def long(_: UUID, __: int) -> bool:
        begun.set()
        await go_on.wait()
        return False

    first = await started(engine, lineage)
    async with working(jobs, long, 1):
        await begun.wait()
        second = await started(engine, lineage)
        async with database.transaction(engine) as conn:
            await conn.execute(
                text(
                    "SELECT keep_operator.procrastinate_fetch_job_v2(ARRAY['runs'], id) FROM (SELECT "
                    "keep_operator.procrastinate_register_worker_v1() AS id) AS dead"
                )
            )
            await conn.execute(
                text(
                    "UPDATE keep_operator.procrastinate_workers SET last_heartbeat = now() - interval '1 hour' "
                    "WHERE id = (SELECT max(id) FROM keep_operator.procrastinate_workers)"
                )
            )
        assert await waiting(engine) == [(str(first.id), "doing"), (str(second.id), "doing")]
        await asyncio.sleep(2 * QUICK.stalled_s)
        assert await _recovered(engine, jobs) == 1
        assert await waiting(engine) == [(str(first.id), "doing"), (str(second.id), "todo")]
        go_on.set()
        await samples.until(lambda: _empty(engine))


async def _recovered(engine: Engine, jobs: Queue) -> int:
    async with database.transaction(engine) as conn:
        return await jobs.recover(conn)


async def test_one_recovers_at_a_time(engine: Engine, jobs: Queue) -> None:
    """The second finds that another is at it."""
    async with database.transaction(engine) as first, database.transaction(engine) as second:
        assert await jobs.recover(first) == 0
        assert await second.scalar(queue._RECOVERING) is False


async def test_a_run_without_a_job_gets_one(engine: Engine, lineage: Lineage, jobs: Queue) -> None:
    """Somebody has emptied the queue by hand: no run waits for ever; young ones may be on their way still."""
    run = await started(engine, lineage)
    async with database.transaction(engine) as conn:
        await conn.execute(text("DELETE FROM keep_operator.procrastinate_jobs"))
    assert await _recovered(engine, jobs) == 0
    async with database.transaction(engine) as conn:
        await conn.execute(text("ALTER TABLE keep_operator.run DISABLE TRIGGER run_stays_bound"))
        await conn.execute(text("UPDATE keep_operator.run SET queued_at = now() - interval '2 minutes'"))
        await conn.execute(text("ALTER TABLE keep_operator.run ENABLE TRIGGER run_stays_bound"))
    assert await _recovered(engine, jobs) == 1
    assert await waiting(engine) == [(str(run.id), "todo")]
    assert await _recovered(engine, jobs) == 0


async def test_runs_of_one_lock_go_on_in_order_one_at_a_time(engine: Engine, lineage: Lineage, jobs: Queue) -> None:
    """Four places, two alerts, five events of each: never two of one alert at once, and in their order."""
    made = [
        await started(engine, lineage, asked(trigger="Alert", event={}, fingerprint=f"f{n % 2}")) for n in range(10)
    ]
    fingerprints = {run.id: run.fingerprint for run in made}
    order: dict[str | None, list[UUID]] = {"f0": [], "f1": []}
    under_way: Counter[str | None] = Counter()
    most: Counter[str | None] = Counter()

    async def run(run_id: UUID, _: int) -> bool:
        which = fingerprints[run_id]
        under_way[which] += 1
        most[which] = max(most[which], under_way[which])
        await asyncio.sleep(0.01)
        order[which].append(run_id)
        under_way[which] -= 1
        return False

    async with working(jobs, run):
        await samples.until(lambda: _empty(engine))
    assert most == {"f0": 1, "f1": 1}
    for n, which in enumerate(("f0", "f1")):
        assert order[which] == [run.id for run in made[n::2]]
