"""A runner as far as the operator can see one: it takes runs up by their rows, and ends them as the test wants."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID

from component.rig.rig import Rig
from keep_operator.domain.execution import ONCE, Reason, Run, Step, StepState
from keep_operator.store import engine as database
from keep_operator.store import executions, runs
from keep_operator.store.connection import Connection
from keep_operator.store.executions import Progress

WORKER = "worker-1"


@asynccontextmanager
async def at(rig: Rig) -> AsyncIterator[Connection]:
    """The runner's own way to the database."""
    engine = database.connect(await rig.doors.open("runner"), application_name="runner", pool_size=1)
    try:
        async with database.transaction(engine) as conn:
            yield conn
    finally:
        await engine.dispose()


def waiting(rig: Rig) -> list[UUID]:
    """The runs that no runner has taken up, the oldest first."""
    rows = rig.database.rows("SELECT id FROM keep_operator.run WHERE state = 'Queued' ORDER BY id")
    return [row["id"] for row in rows]


async def take_up(rig: Rig, run_id: UUID) -> Run:
    """A worker has the run now."""
    async with at(rig) as conn:
        claim = await executions.claim(conn, run_id, WORKER)
    assert claim is not None
    return claim.run


async def do(rig: Rig, run: Run, name: str, *, position: int = 0, failing: str = "") -> None:
    """One step from its beginning to its end."""
    step = Step(
        position=position,
        iteration=ONCE,
        try_number=1,
        attempt=run.attempt,
        name=name,
        kind="action",
        type="console",
        state=StepState.RUNNING,
        side_effects="NONE",
        started_at=datetime.now(UTC),
    )
    async with at(rig) as conn:
        await executions.write(conn, run, Progress((step,)))
    ended = Step(
        **{
            **{field: getattr(step, field) for field in Step.__slots__},
            "state": StepState.FAILED if failing else StepState.SUCCEEDED,
            "message": failing or None,
        }
    )
    async with at(rig) as conn:
        await executions.write(conn, run, Progress((ended,)))


async def end(rig: Rig, run: Run, reason: Reason = Reason.COMPLETED, message: str = "") -> None:
    """The run has ended."""
    async with at(rig) as conn:
        await executions.end(conn, run, reason, message)


async def work(rig: Rig, reason: Reason = Reason.COMPLETED, message: str = "") -> Sequence[Run]:
    """Everything that waits is done."""
    done = []
    for run_id in waiting(rig):
        run = await take_up(rig, run_id)
        await do(rig, run, "say", failing=message)
        await end(rig, run, reason, message)
        done.append(run)
    return done


async def ask(rig: Rig, run_id: UUID) -> Run | None:
    """The record as it is."""
    async with at(rig) as conn:
        return await runs.get(conn, run_id)
