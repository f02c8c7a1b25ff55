"""Old runs go, in batches, and nobody is in the other's way."""

from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from integration.store.lineages import done, looked
from integration.store.test_runs import lineage, started
from keep_operator.domain.execution import Reason
from keep_operator.domain.history import Lineage
from keep_operator.runner import retention
from keep_operator.store import engine as database
from keep_operator.store import executions, runs
from keep_operator.store.engine import Engine

pytestmark = pytest.mark.integration
__all__ = ["lineage"]


async def test_old_runs_go_batch_by_batch(engine: Engine, lineage: Lineage, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is too old, in as many batches as it takes; by one runner at a time."""
    monkeypatch.setattr(retention, "PAUSE_S", 0.0)
    made = [await started(engine, lineage) for _ in range(5)]
    for run in made:
        claim = await done(engine, partial(executions.claim, run_id=run.id, worker="w"))
        assert claim is not None
        await done(engine, partial(executions.end, run=claim.run, reason=Reason.COMPLETED, message=""))
    much_later = datetime.now(UTC) + runs.MAX_AGE + timedelta(minutes=1)
    assert await retention.clean(engine, datetime.now(UTC), 2) == 0
    async with database.transaction(engine) as another:
        assert await runs.retaining(another)
        assert await retention.clean(engine, much_later, 2) == 0
    assert await retention.clean(engine, much_later, 2) == 5
    assert await looked(engine, lambda conn: runs.get(conn, made[0].id)) is None
