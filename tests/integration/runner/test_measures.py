"""The backlog of the runners, as it is in the database."""

import asyncio
import math
from collections.abc import Callable

import pytest
from sqlalchemy import text

from integration.store import samples
from integration.store.lineages import done, looked
from integration.store.proxy import proxied
from integration.store.test_runs import lineage, started
from keep_operator.domain.execution import Reason
from keep_operator.domain.history import Lineage
from keep_operator.runner import measures
from keep_operator.runner.measures import Waiting
from keep_operator.runtime.metrics import Metrics
from keep_operator.store import engine as database
from keep_operator.store import executions, runs
from keep_operator.store.engine import Engine

pytestmark = pytest.mark.integration
__all__ = ["lineage"]


async def test_the_backlog_is_what_nobody_has_taken_up(engine: Engine, lineage: Lineage) -> None:
    """Neither what is under way nor what has ended waits for a runner."""
    assert await looked(engine, runs.backlog) == runs.Backlog(0, 0.0)
    made = [await started(engine, lineage) for _ in range(4)]
    claim = await done(engine, lambda conn: executions.claim(conn, made[0].id, "w"))
    assert claim is not None
    await done(engine, lambda conn: executions.end(conn, claim.run, Reason.COMPLETED, ""))
    await done(engine, lambda conn: executions.claim(conn, made[1].id, "w"))
    await done(engine, lambda conn: runs.cancel(conn, made[2].id, message="enough"))
    found = await looked(engine, runs.backlog)
    waits = text(
        "SELECT extract(epoch FROM now() - queued_at) AS wait_s FROM keep_operator.run ORDER BY id DESC LIMIT 2"
    )
    newest, one_before = [float(row.wait_s) for row in await looked(engine, lambda conn: conn.execute(waits))]
    assert found.waiting == 1
    assert 0 < found.oldest_s <= newest < one_before


async def test_while_the_database_is_away_nothing_is_told_of_the_queue(
    engine: Engine, database_url: str, lineage: Lineage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old number would look like a queue at rest."""
    monkeypatch.setattr(measures, "LOOK_S", 0.05)
    await started(engine, lineage)
    metrics, waiting = Metrics(), Waiting()
    waiting.publish(metrics)
    assert math.isnan(_waiting(metrics))
    async with proxied(database_url) as proxy:
        between = database.connect(proxy.url, application_name="test")
        watching = asyncio.create_task(waiting.watch(between))
        try:
            await samples.until(lambda: _is(metrics, lambda told: told == 1))
            proxy.sever()
            await samples.until(lambda: _is(metrics, math.isnan))
            proxy.mend()
            await samples.until(lambda: _is(metrics, lambda told: told == 1))
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await between.dispose()


def _waiting(metrics: Metrics) -> float:
    value = metrics.registry.get_sample_value("keep_operator_runs_waiting")
    assert value is not None
    return value


async def _is(metrics: Metrics, as_wanted: Callable[[float], bool]) -> bool:
    return as_wanted(_waiting(metrics))
