"""Of two workers that believe to have a run only one can write; what was begun and not ended is marked, never forgotten."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from integration.store import lineages, samples
from integration.store.lineages import done, looked
from keep_operator.domain.binding import Asked
from keep_operator.domain.execution import ONCE, Reason, Run, State, Step, StepState
from keep_operator.domain.history import Lineage
from keep_operator.store import executions, runs
from keep_operator.store.engine import Engine
from keep_operator.store.executions import Claim, Lost
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
    await done(engine, lambda conn: executions.begin(conn, first.run, finished))
    await done(engine, lambda conn: executions.finish(conn, first.run, finished))
    skipped = step(1, state=StepState.SKIPPED, message="if: false")
    await done(engine, lambda conn: executions.note(conn, first.run, skipped))
    await done(engine, lambda conn: executions.begin(conn, first.run, step(2, side_effects="Effect")))
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
    """It was paused while another took the run: begin, finish, note, providers, end are all refused; its log lines are dropped."""
    old = (await claimed(engine, run)).run
    await done(engine, lambda conn: executions.begin(conn, old, step()))
    new = (await claimed(engine, run)).run
    for write in (
        lambda conn: executions.begin(conn, old, step(1)),
        lambda conn: executions.finish(conn, old, replace(step(), state=StepState.SUCCEEDED)),
        lambda conn: executions.note(conn, old, step(3, state=StepState.SKIPPED)),
        lambda conn: executions.note_providers(conn, old, {"slack": "h"}),
        lambda conn: executions.end(conn, old, Reason.COMPLETED, ""),
    ):
        with pytest.raises(Lost):
            await done(engine, write)
    line = {"at": "2026-11-29T12:00:00Z", "position": 0, "level": "INFO", "message": "still here"}
    await done(engine, lambda conn: executions.log(conn, old, [line]))
    assert await looked(engine, lambda conn: executions.logged(conn, run.id)) == []
    await done(engine, lambda conn: executions.log(conn, new, [line]))
    assert [row.message for row in await looked(engine, lambda conn: executions.logged(conn, run.id))] == ["still here"]
    assert await done(engine, lambda conn: executions.end(conn, new, Reason.COMPLETED, "")) is State.SUCCEEDED


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
    await done(engine, lambda conn: executions.begin(conn, claim.run, finished))
    await done(engine, lambda conn: executions.finish(conn, claim.run, finished))
    again = replace(finished, try_number=2)
    await done(engine, lambda conn: executions.begin(conn, claim.run, again))
    with pytest.raises(Exception, match="same moment"):
        await done(engine, lambda conn: executions.finish(conn, claim.run, again))


async def test_a_long_result_is_cut_and_marked(engine: Engine, run: Run) -> None:
    """A page of a megabyte does not fill the database; what is left of it is text."""
    claim = await claimed(engine, run)
    finished = replace(step(), state=StepState.SUCCEEDED, result=["x" * 1_000_000], message="m\0" * 10_000)
    await done(engine, lambda conn: executions.begin(conn, claim.run, finished))
    await done(engine, lambda conn: executions.finish(conn, claim.run, finished))
    (kept,) = await looked(engine, lambda conn: executions.steps(conn, run.id))
    assert kept.result_truncated
    assert isinstance(kept.result, str)
    assert len(kept.result) <= executions.RESULT_LIMIT
    assert kept.message is not None
    assert len(kept.message) == executions.MESSAGE_LIMIT
