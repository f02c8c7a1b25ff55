"""Who is due, by the database's clock; any number of runners look, and each tick is started by one of them."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from integration.store import lineages, samples
from integration.store.lineages import looked
from keep_operator.domain import canary
from keep_operator.domain.history import Canary, Lineage
from keep_operator.runner import schedules as keeper
from keep_operator.store import documents, releases, schedules
from keep_operator.store import engine as database
from keep_operator.store.engine import Engine

pytestmark = pytest.mark.integration


async def have(engine: Engine, *intervals: object) -> Lineage:
    """Workflow high-cpu with a version for each interval, None: it has none; the first is active."""
    await samples.have_tenant(engine)
    await lineages.have(engine, contents="A" * len(intervals))
    for number, interval in enumerate(intervals, 1):
        triggers = [] if interval is None else [{"type": "interval", "value": interval}]
        await _rewrite(engine, number, {"triggers": triggers, "steps": []})
    return await lineages.activate(engine, 1)


async def _rewrite(engine: Engine, number: int, definition: dict[str, object]) -> None:
    """A version as if it had been made so."""
    async with database.transaction(engine) as conn:
        await conn.execute(
            text("ALTER TABLE keep_operator.workflow_revision DISABLE TRIGGER workflow_revision_append_only")
        )
        await conn.execute(
            text(
                "UPDATE keep_operator.workflow_revision SET definition = cast(:definition AS json) WHERE number = :number"
            ),
            {"definition": documents.text(definition), "number": number},
        )
        await conn.execute(
            text("ALTER TABLE keep_operator.workflow_revision ENABLE TRIGGER workflow_revision_append_only")
        )


async def planned(engine: Engine) -> tuple[int | None, datetime | None, bool]:
    """The schedule's interval in seconds, its next tick, and whether it is stale."""
    query = text("SELECT interval_s, next_tick, stale FROM keep_operator.schedule")
    ((interval_s, next_tick, stale),) = (await looked(engine, lambda conn: conn.execute(query))).all()
    return interval_s, next_tick, stale


async def ticks(engine: Engine) -> list[datetime]:
    """The ticks that were started, in their order."""
    query = text("SELECT tick FROM keep_operator.run WHERE trigger = 'Interval' ORDER BY tick")
    return list((await looked(engine, lambda conn: conn.execute(query))).scalars())


async def back(engine: Engine, by: timedelta) -> datetime:
    """Let the next tick be that long ago, as if nobody had looked; that tick."""
    next_tick = datetime.now(UTC) - by
    async with database.transaction(engine) as conn:
        await conn.execute(text("UPDATE keep_operator.schedule SET next_tick = :at"), {"at": next_tick})
    return next_tick


async def test_a_deployed_interval_is_due_at_once_and_then_in_step(engine: Engine) -> None:
    """The first tick is now, the next one a whole interval later; a rollout that keeps the interval changes nothing."""
    await have(engine, "5m", 300)
    assert await planned(engine) == (None, None, True)
    assert await keeper._replan(engine)
    assert not await keeper._replan(engine)
    interval_s, first, stale = await planned(engine)
    assert (interval_s, stale) == (300, False)
    assert first is not None
    assert await keeper._start(engine)
    assert not await keeper._start(engine)
    assert await ticks(engine) == [first]
    assert await planned(engine) == (300, first + timedelta(minutes=5), False)
    await lineages.activate(engine, 2)
    assert await keeper._replan(engine)
    assert await planned(engine) == (300, first + timedelta(minutes=5), False)


async def test_ten_runners_start_each_tick_once(engine: Engine) -> None:
    """All look at the same moment, again and again: no tick is doubled, none is left out."""
    await have(engine, 60)
    assert await keeper._replan(engine)
    expected = []
    for _ in range(10):
        expected.append(await back(engine, timedelta(seconds=2)))
        assert any(await asyncio.gather(*(keeper._start(engine) for _ in range(10))))
    assert await ticks(engine) == expected


async def test_nothing_starts_what_is_suspended(engine: Engine) -> None:
    """Suspended: the schedule is empty; resumed: it is due again."""
    await have(engine, 60)
    await keeper._replan(engine)
    await lineages.run(engine, "UPDATE keep_operator.workflow SET suspended = true")
    assert await keeper._replan(engine)
    assert await planned(engine) == (None, None, False)
    await lineages.run(engine, "UPDATE keep_operator.workflow SET suspended = false")
    assert await keeper._replan(engine)
    assert (await planned(engine))[0] == 60


@pytest.mark.parametrize(("policy", "count"), [("Skip", 0), ("RunOnce", 1)])
async def test_missed_ticks_are_dealt_with_as_the_workflow_says(engine: Engine, policy: str, count: int) -> None:
    """All runners were away for an hour and a half interval."""
    await have(engine, 300)
    await keeper._replan(engine)
    settings = f"""'{{"run": {{"missedTicks": "{policy}"}}}}'"""
    await lineages.run(engine, f"UPDATE keep_operator.workflow SET settings = {settings}")  # noqa: S608
    missed = await back(engine, timedelta(minutes=62, seconds=30))
    assert await keeper._start(engine)
    assert len(await ticks(engine)) == count
    assert (await planned(engine))[1] == missed + timedelta(minutes=65)


async def test_a_tick_that_may_not_run_is_skipped(engine: Engine) -> None:
    """Forbid, and the last run has not ended: no run, no error, and the next tick comes in its time."""
    await have(engine, 60)
    await keeper._replan(engine)
    await lineages.run(engine, """UPDATE keep_operator.workflow SET settings = '{"run": {"concurrency": "Forbid"}}'""")
    assert await keeper._start(engine)
    tick = await back(engine, timedelta(seconds=1))
    assert await keeper._start(engine)
    assert len(await ticks(engine)) == 1
    assert (await planned(engine))[1] == tick + timedelta(minutes=1)


async def test_a_runner_at_rest_asks_one_question_and_writes_nothing(engine: Engine) -> None:
    """Once a second, by two indexes (A-DR-2)."""
    await have(engine, "1d")
    await keeper._replan(engine)
    await keeper._start(engine)
    counted = database.queries(engine)
    before = counted.statements, counted.transactions
    assert await keeper._round(engine) == keeper.LOOK_S
    assert (counted.statements - before[0], counted.transactions - before[1]) == (1, 0)


async def test_the_wait_is_as_long_as_the_next_tick_is_away(engine: Engine) -> None:
    """A tick is not late by a whole second because nobody looked."""
    await have(engine, 60)
    await keeper._replan(engine)
    await back(engine, timedelta(seconds=-0.4))
    assert 0 < (await looked(engine, schedules.wait_s) or 0) < 0.5
    assert await keeper._round(engine) < 0.5


async def test_a_workflow_without_interval_has_no_ticks(engine: Engine) -> None:
    """Manual and alert triggers alone."""
    await have(engine, None)
    assert await keeper._replan(engine)
    assert await planned(engine) == (None, None, False)
    assert not await keeper._start(engine)


async def test_a_canary_splits_the_ticks_of_the_stable_interval(engine: Engine) -> None:
    """A-CAN-2: until the new version is active its own interval counts for nothing; each tick is a key of its own, whatever the
    sticky key says of alerts."""
    seen = await have(engine, "1h", 5)
    tried = Canary(2, 1, "[]", 0, lineages.EARLIER, 50, lineages.EARLIER, lineages.EARLIER, sticky_key="fingerprint")
    await lineages.done(engine, lambda conn: releases.set_canary(conn, seen, tried, actor=lineages.ACTOR))
    assert await keeper._replan(engine)
    for number in range(40):
        await back(engine, timedelta(seconds=50 - number))
        assert await keeper._start(engine)
    assert (await planned(engine))[0] == 3600
    query = text("SELECT tick, revision, content_hash FROM keep_operator.run ORDER BY tick")
    started = (await looked(engine, lambda conn: conn.execute(query))).all()
    assert len(started) == 40
    for tick, number, content_hash in started:
        taken = canary.chooses(f"tick {tick.timestamp():.0f}", seen.id, content_hash, 50)
        assert number == (2 if taken else 1)
    assert {number for _, number, _ in started} == {1, 2}
