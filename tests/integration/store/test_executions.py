"""Of two workers that believe to have a run only one can write; what was begun and not ended is marked, never forgotten."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from integration.store import lineages, samples
from integration.store.lineages import done, looked
from keep_operator.domain.binding import Asked
from keep_operator.domain.execution import ONCE, Reason, Run, State, Step, StepState
from keep_operator.domain.history import Lineage
from keep_operator.store import executions, runs
from keep_operator.store.engine import Engine
from keep_operator.store.executions import Claim, Lost, Progress
from keep_operator.store.runs import Requested

pytestmark = pytest.mark.integration


@pytest.fixture
async def run(engine: Engine) -> Run:
    """A run of the first version of a workflow, not taken up yet."""
    await samples.have_tenant(engine)
    await lineages.have(engine, contents="A")
    return await another(engine, await lineages.activate(engine, 1))


async def another(engine: Engine, lineage: Lineage) -> Run:
    """Another run of it."""
    asked = Asked("Manual", str(uuid4()), "ann", inputs={"limit": 80}, event={"name": "cpu"})
    got = await done(engine, lambda conn: runs.request(conn, lineage.id, asked))
    assert isinstance(got, Requested)
    return got.run


def step(position: int = 0, **fields: Any) -> Step:
    """A start of a step."""
    given: dict[str, Any] = {"name": f"s{position}", "kind": "step", "type": "http", "side_effects": "None"} | fields
    return Step(
        position,
        given.pop("iteration", ONCE),
        given.pop("try_number", 1),
        0,
        state=given.pop("state", StepState.RUNNING),
        started_at=datetime.now(UTC),
        **given,
    )


async def claimed(engine: Engine, run: Run, worker: str = "w") -> Claim:
    """A worker takes the run up."""
    got = await done(engine, lambda conn: executions.claim(conn, run.id, worker))
    assert got is not None
    return got


async def test_a_worker_gets_all_that_the_run_needs(engine: Engine, run: Run) -> None:
    """The definition of the bound version, inputs, event, and where it stands."""
    claim = await claimed(engine, run, "runner-0")
    assert claim.definition == lineages.definition_of("A")
    assert (claim.inputs, claim.event, claim.workflow_name) == ({"limit": 80}, {"name": "cpu"}, "high-cpu")
    assert (claim.run.attempt, claim.run.state, claim.run.worker) == (1, State.RUNNING, "runner-0")
    assert claim.steps == ()


async def test_what_is_done_is_a_checkpoint(engine: Engine, run: Run) -> None:
    """The next worker finds results as they were, and of what was begun and not ended that it was lost."""
    first = await claimed(engine, run)
    result = {"data": [1e23, "Grüße", None, True]}
    finished = replace(step(0), state=StepState.SUCCEEDED, result=result, facts={"vars": {"a": 1}})
    await done(engine, lambda conn: executions.write(conn, first.run, Progress((step(0),))))
    skipped = step(1, state=StepState.SKIPPED, message="if: false")
    begun = step(2, side_effects="Effect")
    await done(engine, lambda conn: executions.write(conn, first.run, Progress((finished, skipped, begun))))
    second = await claimed(engine, run)
    assert [(each.position, each.state) for each in second.steps] == [
        (0, StepState.SUCCEEDED),
        (1, StepState.SKIPPED),
        (2, StepState.LOST),
    ]
    assert second.steps[0].result == result
    assert second.steps[0].facts == {"vars": {"a": 1}}
    assert second.steps[2].side_effects == "Effect"
    assert second.run.started_at == first.run.started_at
    assert await looked(engine, lambda conn: executions.steps(conn, run.id)) == list(second.steps)


async def test_a_worker_that_wakes_up_again_can_write_nothing(engine: Engine, run: Run) -> None:
    """It was paused while another took the run: whatever it tells of steps, of providers, for the log, or of the end is refused."""
    old = (await claimed(engine, run)).run
    line = {"at": "2026-11-29T12:00:00Z", "position": 0, "level": "INFO", "message": "still here"}
    await done(engine, lambda conn: executions.write(conn, old, Progress((step(),))))
    new = (await claimed(engine, run)).run
    for write in (
        lambda conn: executions.write(conn, old, Progress((step(1),))),
        lambda conn: executions.write(conn, old, Progress((replace(step(), state=StepState.SUCCEEDED),))),
        lambda conn: executions.write(conn, old, Progress((step(3, state=StepState.SKIPPED),))),
        lambda conn: executions.write(conn, old, Progress(lines=[line])),
        lambda conn: executions.note_providers(conn, old, {"slack": "h"}),
        lambda conn: executions.end(conn, old, Reason.COMPLETED, "", Progress((step(4),), [line])),
        lambda conn: executions.give_back(conn, old, Progress((step(5),), [line])),
    ):
        with pytest.raises(Lost):
            await done(engine, write)
    assert [(row.position, row.state) for row in await looked(engine, lambda conn: executions.steps(conn, run.id))] == [
        (0, StepState.LOST)
    ]
    assert await looked(engine, lambda conn: executions.logged(conn, run.id)) == []
    await done(engine, lambda conn: executions.write(conn, new, Progress(lines=[line])))
    assert [row.message for row in await looked(engine, lambda conn: executions.logged(conn, run.id))] == ["still here"]
    assert await done(engine, lambda conn: executions.end(conn, new, Reason.COMPLETED, "")) is State.SUCCEEDED


async def test_the_job_goes_with_its_run(engine: Engine, run: Run) -> None:
    """At the moment at which the run ends; a worker that has lost the run takes no job away from the one that has it."""
    jobs = text("SELECT id FROM keep_operator.procrastinate_jobs")
    job = await looked(engine, lambda conn: conn.scalar(jobs))
    old, new = (await claimed(engine, run)).run, (await claimed(engine, run)).run
    with pytest.raises(Lost):
        await done(engine, lambda conn: executions.end(conn, old, Reason.COMPLETED, "", job=job))
    assert await looked(engine, lambda conn: conn.scalar(jobs)) == job
    await done(engine, lambda conn: executions.end(conn, new, Reason.COMPLETED, "", job=job))
    assert await looked(engine, lambda conn: conn.scalar(jobs)) is None


async def test_a_run_is_not_taken_up_for_ever(engine: Engine, run: Run) -> None:
    """After run.maxAttempts lost workers it ends as WorkerLost (A-RUN-6)."""
    for _ in range(run.max_attempts):
        await claimed(engine, run)
    assert await done(engine, lambda conn: executions.claim(conn, run.id, "w")) is None
    found = await looked(engine, lambda conn: runs.get(conn, run.id))
    assert found is not None
    assert (found.state, found.reason) == (State.FAILED, "WorkerLost")
    assert await done(engine, lambda conn: executions.claim(conn, run.id, "w")) is None


async def test_a_cancelled_run_is_not_taken_up(engine: Engine, run: Run) -> None:
    """Cancelled in the queue: it never starts; cancelled under way: its worker is asked to end it."""
    assert await done(engine, lambda conn: runs.cancel(conn, run.id, message="Cancelled by ann"))
    assert await done(engine, lambda conn: executions.claim(conn, run.id, "w")) is None
    other = await another(engine, await lineages.own(engine))
    await claimed(engine, other)
    assert await done(engine, lambda conn: runs.cancel(conn, other.id, message="Cancelled by ann"))
    found = await looked(engine, lambda conn: runs.get(conn, other.id))
    assert found is not None
    assert (found.state, found.cancel_requested) == (State.RUNNING, True)


async def test_a_step_succeeds_once(engine: Engine, run: Run) -> None:
    """Whatever a worker believes: the database refuses a second success of the same step."""
    claim = await claimed(engine, run)
    finished = replace(step(), state=StepState.SUCCEEDED)
    await done(engine, lambda conn: executions.write(conn, claim.run, Progress((step(),))))
    await done(engine, lambda conn: executions.write(conn, claim.run, Progress((finished,))))
    again = replace(finished, try_number=2)
    await done(engine, lambda conn: executions.write(conn, claim.run, Progress((step(try_number=2),))))
    with pytest.raises(Exception, match="same moment"):
        await done(engine, lambda conn: executions.write(conn, claim.run, Progress((again,))))


async def test_what_is_told_twice_is_written_once(engine: Engine, run: Run) -> None:
    """A write whose answer was lost can be repeated; a step that has ended in one way cannot end in another, nor can the run then."""
    claim = await claimed(engine, run)
    told = Progress((replace(step(), state=StepState.SUCCEEDED, result=1), step(1)))
    for _ in range(2):
        await done(engine, lambda conn: executions.write(conn, claim.run, told))
    before = await looked(engine, lambda conn: executions.steps(conn, run.id))
    assert [each.state for each in before] == [StepState.SUCCEEDED, StepState.RUNNING]
    for state in (StepState.RUNNING, StepState.FAILED):
        other = Progress((step(2), replace(step(), state=state)))
        with pytest.raises(Lost):
            await done(engine, lambda conn, other=other: executions.write(conn, claim.run, other))  # type: ignore[misc]
        with pytest.raises(Lost):
            await done(engine, lambda conn, other=other: executions.end(conn, claim.run, Reason.COMPLETED, "", other))  # type: ignore[misc]
    assert await looked(engine, lambda conn: executions.steps(conn, run.id)) == before


async def test_the_end_of_a_step_goes_with_the_end_of_the_run(engine: Engine, run: Run) -> None:
    """In one write: what ended keeps its result, and what did not end is closed with the run."""
    claim = await claimed(engine, run)
    await done(engine, lambda conn: executions.write(conn, claim.run, Progress((step(0), step(1)))))
    last = Progress((replace(step(0), state=StepState.SUCCEEDED, result={"a": 1}),))
    await done(engine, lambda conn: executions.end(conn, claim.run, Reason.COMPLETED, "", last))
    rows = await looked(engine, lambda conn: executions.steps(conn, run.id))
    assert [(row.state, row.result, row.message) for row in rows] == [
        ("Succeeded", {"a": 1}, None),
        ("Failed", None, "Ended with the run"),
    ]


async def test_a_long_result_is_cut_and_marked(engine: Engine, run: Run) -> None:
    """A page of a megabyte does not fill the database; what is left of it is text."""
    claim = await claimed(engine, run)
    finished = replace(step(), state=StepState.SUCCEEDED, result=["x" * 1_000_000], message="m\0" * 10_000)
    await done(engine, lambda conn: executions.write(conn, claim.run, Progress((step(),))))
    await done(engine, lambda conn: executions.write(conn, claim.run, Progress((finished,))))
    (kept,) = await looked(engine, lambda conn: executions.steps(conn, run.id))
    assert kept.result_truncated
    assert isinstance(kept.result, str)
    assert len(kept.result) <= executions.RESULT_LIMIT
    assert kept.message is not None
    assert len(kept.message) == executions.MESSAGE_LIMIT
