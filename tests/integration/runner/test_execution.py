"""A run does what its revision says, step by step, whatever happens to the workers; and it always ends."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integration.runner import scene
from integration.runner.scene import World, key
from integration.store import lineages, samples
from keep_operator.domain.execution import State, StepState
from keep_operator.domain.program import Program
from keep_operator.errors import Unavailable
from keep_operator.runner import execution
from keep_operator.runner.actions import ActionFailed, Call
from keep_operator.runner.execution import Orders, Stopped
from keep_operator.runner.secrets import HIDDEN, Redaction
from keep_operator.store import engine as database
from keep_operator.store import executions
from keep_operator.store.engine import Engine
from keep_operator.store.vault import Vault

pytestmark = pytest.mark.integration

# One of each: what reads, what the far side recognizes, and what must not be done twice.
THREE = (scene.step("ask"),)
TELL = (
    scene.step("page", "pagerduty", given={"title": "CPU at {{ steps.ask.results.n }}"}),
    scene.step("post", "slack", given={"message": "CPU at {{ steps.ask.results.n }}"}),
)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """The outside."""
    async with scene.played(World()) as world:
        yield world


async def test_results_of_one_step_are_there_for_the_next(engine: Engine, world: World) -> None:
    """In order; each step has a row, the run its end, and the log a line for each."""
    run = await scene.asked(engine, await scene.have(engine, *THREE, actions=TELL))
    ended = await scene.executed(engine, run)
    assert ended is not None
    assert (ended.state, ended.reason) == (State.SUCCEEDED, "Completed")
    assert world.done == [key(0), key(1), key(2)]
    assert [call.parameters for call in world.calls[1:]] == [{"title": "CPU at 1"}, {"message": "CPU at 1"}]
    rows = await scene.steps(engine, run)
    assert [(row.name, row.kind, row.state, row.side_effects) for row in rows] == [
        ("ask", "step", "Succeeded", "None"),
        ("page", "action", "Succeeded", "Idempotent"),
        ("post", "action", "Succeeded", "Effect"),
    ]
    assert rows[0].result == {"n": 1}
    assert [line.partition(":")[0] for line in await scene.logged(engine, run)] == [
        "step ask",
        "action page",
        "action post",
    ]
    assert (await scene.now(engine, run)).state is State.SUCCEEDED


async def test_a_run_costs_two_statements_and_one_for_each_step(engine: Engine, world: World) -> None:
    """Claim; first beginning; end and next beginning; last end and the run's: each is a transaction by itself."""
    run = await scene.asked(engine, await scene.have(engine, *THREE, actions=TELL))
    counted = database.queries(engine)
    before = counted.transactions, counted.statements
    await scene.executed(engine, run)
    assert (counted.transactions - before[0], counted.statements - before[1]) == (5, 5)


@pytest.mark.parametrize("committed", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(1, 6))
async def test_a_worker_may_die_at_any_write(engine: Engine, world: World, at: int, committed: bool) -> None:
    """Before or after each commit: another one goes on after the last finished step; nothing finished is done again.

    What was begun and must not be done twice ends the run as WorkerLost; all else is begun once more, and marked.
    """
    run = await scene.asked(engine, await scene.have(engine, *THREE, actions=TELL))
    assert await scene.until_killed(engine, run, at, committed=committed)
    finished = [row.name for row in await scene.steps(engine, run) if row.state is StepState.SUCCEEDED]
    done = list(world.done)
    ended = await scene.executed(engine, run, "another")
    found = await scene.now(engine, run)
    rows = await scene.steps(engine, run)
    assert found.state.terminal
    if ended is None:  # all was committed before it died
        assert (at, committed) == (5, True)
        assert found.state is State.SUCCEEDED
    begun_at_death = {row.name for row in rows if row.state is StepState.LOST}
    if "post" in begun_at_death:
        assert (found.state, found.reason) == (State.FAILED, "WorkerLost")
        assert "post" in (found.message or "")
        assert world.done == done
    else:
        assert found.state is State.SUCCEEDED
    assert world.counted[key(2)] <= 1
    for position, name in enumerate(("ask", "page", "post")):
        starts = [row for row in rows if row.name == name]
        assert len(starts) <= 2
        assert sum(row.state is StepState.SUCCEEDED for row in starts) <= 1
        if name in finished:
            assert world.counted[key(position)] == 1


async def test_a_story_of_so_many_writes_is_told_here(engine: Engine, world: World) -> None:
    """So that none of the points of the test above is missed when a write is added."""
    run = await scene.asked(engine, await scene.have(engine, *THREE, actions=TELL))
    assert not await scene.until_killed(engine, run, 6, committed=False)
    assert (await scene.now(engine, run)).state is State.SUCCEEDED


async def test_workers_that_die_again_and_again_end_the_run(engine: Engine, world: World) -> None:
    """Three times with a step that only reads: then it is given up, as run.maxAttempts says."""
    run = await scene.asked(engine, await scene.have(engine, *THREE))
    for _ in range(3):
        assert await scene.until_killed(engine, run, 2, committed=True)
    assert await scene.executed(engine, run) is None
    found = await scene.now(engine, run)
    assert (found.state, found.reason) == (State.FAILED, "WorkerLost")
    assert "maxAttempts" in (found.message or "")


async def test_a_worker_that_wakes_up_late_does_no_harm(engine: Engine, world: World) -> None:
    """It was stopped in the middle of a step while another took the run: its result is refused, and it goes away quietly."""
    run = await scene.asked(engine, await scene.have(engine, *THREE, scene.step("then")))
    asleep, wake = asyncio.Event(), asyncio.Event()

    async def answer(call: Call) -> Any:
        if len(world.done) == 1:
            asleep.set()
            await wake.wait()
        return {"by": len(world.done)}

    world.answer = answer
    first = asyncio.create_task(scene.executed(engine, run, "paused"))
    await asleep.wait()
    ended = await scene.executed(engine, run, "another")
    assert ended is not None
    wake.set()
    assert await first is None
    rows = await scene.steps(engine, run)
    assert [(row.name, row.state, row.attempt) for row in rows] == [
        ("ask", "Lost", 1),
        ("ask", "Succeeded", 2),
        ("then", "Succeeded", 2),
    ]
    assert (await scene.now(engine, run)).worker == "another"


async def test_the_database_may_go_away_in_the_middle(
    engine: Engine, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was done is written when it is back; nothing is done twice, also where only the answer to a commit was lost."""
    monkeypatch.setattr(execution, "RETRY_S", 0.0)
    run = await scene.asked(engine, await scene.have(engine, *THREE, actions=TELL))
    number = itertools.count()

    @contextlib.asynccontextmanager
    async def flaky(engine: Engine, *, real: Any) -> AsyncIterator[Any]:
        match next(number) % 3:
            case 0:
                raise Unavailable("DatabaseUnavailable", "away")
            case 1:
                async with real(engine) as conn:
                    yield conn
                raise Unavailable("DatabaseUnavailable", "the answer was lost")
            case _:
                async with real(engine) as conn:
                    yield conn

    with monkeypatch.context() as patched:
        patched.setattr(database, "alone", partial(flaky, real=database.alone))
        ended = await scene.executed(engine, run)
    assert ended is not None
    assert ended.state is State.SUCCEEDED
    assert world.counted == {key(0): 1, key(1): 1, key(2): 1}
    assert len(await scene.logged(engine, run)) == 3


async def test_a_worker_that_is_told_to_stop_gives_the_run_back(engine: Engine, world: World) -> None:
    """Between two steps; that is no loss, and the next one goes on there, even before a step that must not be done twice."""
    run = await scene.asked(engine, await scene.have(engine, *THREE, actions=TELL))
    for _ in range(5):  # more often than run.maxAttempts
        orders = Orders()
        orders.stop.set()
        with pytest.raises(Stopped):
            await scene.executed(engine, run, orders=orders)
    orders = Orders()

    async def answer(_: Call) -> Any:
        orders.stop.set()
        return {"n": 1}

    world.answer = answer
    with pytest.raises(Stopped):
        await scene.executed(engine, run, orders=orders)
    assert world.done == [key(0)]
    ended = await scene.executed(engine, run)
    assert ended is not None
    assert ended.state is State.SUCCEEDED
    assert world.done == [key(0), key(1), key(2)]
    assert all(row.state is StepState.SUCCEEDED for row in await scene.steps(engine, run))


async def test_a_run_can_be_cancelled_in_the_middle_of_a_step(engine: Engine, world: World) -> None:
    """The step ends at once, and the run with it; what comes after is not done."""
    run = await scene.asked(engine, await scene.have(engine, *THREE, actions=TELL))
    orders, ended_at_once = Orders(), asyncio.Event()

    async def answer(_: Call) -> Any:
        orders.cancel.set()
        try:
            await asyncio.sleep(3600)
        finally:
            ended_at_once.set()

    world.answer = answer
    ended = await scene.executed(engine, run, orders=orders)
    assert ended is not None
    assert (ended.state, ended.reason) == (State.CANCELLED, "Cancelled")
    assert ended_at_once.is_set()
    assert [row.state for row in await scene.steps(engine, run)] == ["Failed"]


async def test_a_run_has_its_time(engine: Engine, world: World) -> None:
    """A step that hangs ends with the run's time; also where another worker has used it up before."""
    lineage = await scene.have(engine, *THREE)
    run = await scene.asked(engine, lineage, timeout_s=1)

    async def answer(_: Call) -> Any:
        await asyncio.sleep(3600)

    world.answer = answer
    ended = await scene.executed(engine, run)
    assert ended is not None
    assert (ended.state, ended.reason, ended.message) == (State.TIMED_OUT, "TimedOut", "It took longer than 1 s")
    assert [row.state for row in await scene.steps(engine, run)] == ["Failed"]


async def test_what_fails_is_told_with_its_reason(engine: Engine, world: World) -> None:
    """The step's message, the run's, and no step after it."""
    run = await scene.asked(engine, await scene.have(engine, *THREE, actions=TELL))

    async def answer(_: Call) -> Any:
        raise ActionFailed("mock at example.com answered 500")

    world.answer = answer
    ended = await scene.executed(engine, run)
    assert ended is not None
    assert (ended.state, ended.reason) == (State.FAILED, "StepFailed")
    assert "mock at example.com answered 500" in (ended.message or "")
    assert world.done == [key(0)]


@pytest.mark.parametrize(
    "brought", [float("nan"), "\ud800", {"deep": None}], ids=["no number", "half a letter", "deep"]
)
async def test_what_cannot_be_kept_does_not_stop_a_run(engine: Engine, world: World, brought: Any) -> None:
    """A far side that answers with what no database takes: the row says so, and the run goes on to its end."""
    for _ in range(100 if isinstance(brought, dict) else 0):
        brought = {"deep": brought}

    async def answer(_: Call) -> Any:
        return brought

    world.answer = answer
    run = await scene.asked(engine, await scene.have(engine, *THREE, scene.step("then")))
    ended = await scene.executed(engine, run)
    assert ended is not None
    assert ended.state is State.SUCCEEDED
    rows = await scene.steps(engine, run)
    assert [(row.state, row.result_truncated) for row in rows] == [("Succeeded", True)] * 2
    assert "cannot be kept" in rows[0].result


async def test_a_fault_of_the_runner_ends_the_run(
    engine: Engine, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug while a step's end is written, or while the next one is looked for: the run ends, and says where to look."""
    lineage, real = await scene.have(engine, *THREE), executions._cut
    monkeypatch.setattr(executions, "_cut", lambda result: real(result) if result is None else 1 // 0)
    first = await scene.executed(engine, await scene.asked(engine, lineage))
    monkeypatch.undo()
    monkeypatch.setattr(Program, "next", lambda *_: 1 // 0)
    async with scene.played(world):
        second = await scene.executed(engine, await scene.asked(engine, lineage))
    for ended in (first, second):
        assert ended is not None
        assert (ended.state, ended.reason) == (State.FAILED, "StepFailed")
        assert ended.message == "A fault of the runner; its log tells more"


async def test_a_retry_waits_and_is_the_same_call(engine: Engine, world: World) -> None:
    """on-failure.retry: another try of the same step, with the same key."""
    asking = scene.step("ask") | {"on-failure": {"retry": {"count": 2, "interval": 0}}}
    run = await scene.asked(engine, await scene.have(engine, asking))

    async def answer(_: Call) -> Any:
        if len(world.done) < 3:
            raise ActionFailed("not yet")
        return {}

    world.answer = answer
    ended = await scene.executed(engine, run)
    assert ended is not None
    assert ended.state is State.SUCCEEDED
    assert world.done == [key(0)] * 3
    assert [row.state for row in await scene.steps(engine, run)] == ["Failed", "Failed", "Succeeded"]


async def test_each_entry_of_foreach_is_a_checkpoint(engine: Engine, world: World) -> None:
    """Killed in the middle of the list: the entries that were done are not done again."""
    each = scene.step("tell", "pagerduty", given={"title": "{{ foreach.value }}"}, foreach="{{ steps.ask.results }}")
    run = await scene.asked(engine, await scene.have(engine, *THREE, actions=[each]))

    async def answer(call: Call) -> Any:
        return ["a", "b", "c", "d"] if call.type == "mock" else {}

    world.answer = answer
    assert await scene.until_killed(engine, run, 5, committed=True)
    ended = await scene.executed(engine, run)
    assert ended is not None
    assert ended.state is State.SUCCEEDED
    assert world.counted[key(1, 0)] == world.counted[key(1, 1)] == 1
    assert {key(1, n) for n in range(4)} <= set(world.counted)
    assert [call.parameters["title"] for call in world.calls[-2:]] == ["c", "d"]


async def test_a_dry_run_reads_and_tells_nobody(engine: Engine, world: World) -> None:
    """What would be told stands in the result."""
    run = await scene.asked(engine, await scene.have(engine, *THREE, actions=TELL), mode="DryRun")
    ended = await scene.executed(engine, run)
    assert ended is not None
    assert ended.state is State.SUCCEEDED
    assert world.done == [key(0)]
    rows = await scene.steps(engine, run)
    assert rows[2].result == {"dryRun": True, "type": "slack", "parameters": {"message": "CPU at 1"}}
    assert "dry run" in (rows[2].message or "")


async def test_credentials_are_opened_for_the_call_and_leave_no_trace(engine: Engine, world: World) -> None:
    """The action gets them; results, messages and log lines that repeat them are redacted; the record has the hash."""
    vault, secret = Vault([scene.KEY]), "xoxb-very-secret"
    lineage = await scene.have(
        engine, scene.step("post", "slack", given={"message": "m"}) | {"provider": _slack({"message": "m"})}
    )
    record = samples.provider_record("slack")
    sealed = vault.seal(record.id, {"webhook_url": secret})
    record = replace(record, type="slack", sealed=sealed.text, key_name=sealed.key_name)
    await samples.have_provider(
        engine, samples.checked_provider(record) if hasattr(samples, "checked_provider") else record
    )
    run = await scene.asked(engine, lineage)

    async def answer(call: Call) -> Any:
        assert call.config["webhook_url"] == secret
        raise ActionFailed(f"slack at {secret} is away")

    world.answer = answer
    ended = await scene.executed(engine, run)
    assert ended is not None
    told = [ended.message, *(row.message for row in await scene.steps(engine, run)), *await scene.logged(engine, run)]
    assert all(secret not in (each or "") for each in told)
    assert f"slack at {HIDDEN} is away" in (ended.message or "")
    assert (await scene.now(engine, run)).provider_config_hashes == {"slack": record.content.config_hash}


def _slack(given: dict[str, Any]) -> dict[str, Any]:
    return {"type": "slack", "config": "{{ providers.slack }}", "with": given}


async def test_a_provider_that_is_gone_fails_the_step(engine: Engine, world: World) -> None:
    """It was removed after the run was bound: a message that names it, and nothing was called."""
    definition = scene.step("post", "slack") | {"provider": _slack({"message": "m"})}
    run = await scene.asked(engine, await scene.have(engine, definition))
    ended = await scene.executed(engine, run)
    assert ended is not None
    assert (ended.state, ended.reason) == (State.FAILED, "StepFailed")
    assert 'Provider "slack" is not there' in (ended.message or "")
    assert world.done == []


async def test_an_archived_revision_goes_on(engine: Engine, world: World) -> None:
    """Rolled over and archived while the run was in the middle: it finishes on its own definition (A-RUN-3)."""
    lineage = await scene.have(engine, *THREE, scene.step("old"))
    run = await scene.asked(engine, lineage)
    assert await scene.until_killed(engine, run, 3, committed=True)
    await scene.deploy(engine, lineage, {"steps": [scene.step("new")]})
    await lineages.run(engine, "UPDATE keep_operator.revision_state SET archived_at = now() WHERE number = 1")
    ended = await scene.executed(engine, run)
    assert ended is not None
    assert (ended.state, ended.revision) == (State.SUCCEEDED, 1)
    assert [row.name for row in await scene.steps(engine, run) if row.state == "Succeeded"] == ["ask", "old"]


async def test_what_the_last_run_brought_is_there_for_the_next(engine: Engine, world: World) -> None:
    """last_workflow_results, the same for whoever goes on with the run."""
    showing = scene.step("show", given={"command_output": "{{ last_workflow_results.ask.0.n }}"})
    lineage = await scene.have(engine, *THREE)
    await scene.executed(engine, await scene.asked(engine, lineage))
    lineage = await scene.deploy(engine, await lineages.own(engine), {"steps": [*THREE, showing]})
    run = await scene.asked(engine, lineage)
    assert await scene.until_killed(engine, run, 2, committed=True)
    await scene.executed(engine, run)
    assert world.calls[-1].parameters == {"command_output": "1"}


async def test_what_an_alert_was_like_before_is_there_for_its_runs(engine: Engine, world: World) -> None:
    """keep.is_first_time and the throttle know the earlier event of the same alert; another alert is another matter."""
    once = scene.step("tell", "slack", given={"message": "m"}, throttle={"type": "one_until_resolved"})
    showing = scene.step("show", given={"command_output": "keep.is_first_time('{{ alert.fingerprint }}')"})
    lineage = await scene.have(engine, showing, actions=[once])
    shown = []
    for fingerprint in ("f", "f", "g"):
        await lineages.run(
            engine,
            "INSERT INTO keep_operator.alert "  # noqa: S608 - constants
            "(tenant_id, fingerprint, firing_since, last_event, status, enrichments, expires_at) "
            f"VALUES ('keep', '{fingerprint}', now(), '{{}}', 'firing', '{{}}', now() + interval '1 day') "
            "ON CONFLICT DO NOTHING",
        )
        event = {"fingerprint": fingerprint, "status": "firing", "name": "cpu"}
        run = await scene.asked(engine, lineage, trigger="Alert", event=event, fingerprint=fingerprint)
        await lineages.run(engine, "UPDATE keep_operator.alert SET first_seen = 'infinity' WHERE fingerprint = 'g'")
        world.calls.clear()
        await scene.executed(engine, run)
        shown.append((world.calls[0].parameters["command_output"], len(world.calls)))
    # Of "f" the row was there before the run was asked for; of "g" the event that made it is the one that asks.
    assert shown == [("False", 2), ("False", 1), ("True", 2)]


@given(st.text(min_size=6), st.text(), st.text())
def test_a_secret_is_nowhere_in_what_was_redacted(secret: str, before: str, after: str) -> None:
    """Whatever stands around it, in keys as in values."""
    redaction = Redaction()
    redaction.add([secret])
    told = redaction.value({before + secret: [secret + after, {"n": 1, "t": before + secret + after}]})
    assert secret not in str(list(told)) or secret in HIDDEN
    assert HIDDEN in str(told)
