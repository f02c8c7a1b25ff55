"""A run is bound to one revision for ever, asked for once, queued with its row, and no tenant is drowned by another."""

import asyncio
import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import text

from integration.store import lineages, samples
from integration.store.lineages import done, looked
from keep_operator.domain.binding import Asked
from keep_operator.domain.execution import Reason, Run, State
from keep_operator.domain.history import Lineage, Reference, Refusal, Revision
from keep_operator.domain.ownership import Owner
from keep_operator.domain.revision import content_hash
from keep_operator.errors import Conflict
from keep_operator.store import engine as database
from keep_operator.store import executions, revisions, runs, workflows
from keep_operator.store.engine import Engine
from keep_operator.store.executions import Claim
from keep_operator.store.runs import Requested

pytestmark = pytest.mark.integration

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


@pytest.fixture
async def lineage(engine: Engine) -> Lineage:
    """Workflow monitoring/high-cpu in tenant keep, with versions A, B, A; the second is active."""
    await samples.have_tenant(engine)
    await lineages.have(engine, contents="ABA")
    return await lineages.activate(engine, 2)


def asked(key: str = "", **fields: Any) -> Asked:
    """A run by hand."""
    given: dict[str, Any] = {"trigger": "Manual", "idempotency_key": key or str(uuid4()), "requested_by": "ann"}
    return Asked(**given | fields)


async def want(engine: Engine, lineage: Lineage, what: Asked | None = None) -> Requested | Refusal:
    """Ask for a run."""
    return await done(engine, lambda conn: runs.request(conn, lineage.id, what or asked()))


async def started(engine: Engine, lineage: Lineage, what: Asked | None = None) -> Run:
    """Ask for a run that there will be."""
    got = await want(engine, lineage, what)
    assert isinstance(got, Requested), got
    assert got.created
    return got.run


async def refusal(engine: Engine, lineage: Lineage, what: Asked) -> str:
    """The reason why there is no such run, and that there is none."""
    before = await jobs(engine)
    got = await want(engine, lineage, what)
    assert isinstance(got, Refusal), got
    assert await jobs(engine) == before
    return got.reason


async def jobs(engine: Engine) -> list[tuple[str, int, str | None]]:
    """What waits in the queue, the most urgent first: run, priority, lock."""
    query = text(
        "SELECT args ->> 'run_id', priority, lock FROM keep_operator.procrastinate_jobs WHERE status = 'todo' "
        "ORDER BY priority DESC, id"
    )
    return [tuple(row) for row in await looked(engine, lambda conn: conn.execute(query))]


async def ended(engine: Engine, run: Run, reason: Reason = Reason.COMPLETED) -> None:
    """A worker takes the run up and ends it."""
    claim = await claimed(engine, run)
    await done(engine, lambda conn: executions.end(conn, claim.run, reason, ""))


async def claimed(engine: Engine, run: Run) -> Claim:
    """A worker takes the run up."""
    claim = await done(engine, lambda conn: executions.claim(conn, run.id, "w"))
    assert claim is not None
    return claim


async def got_of(engine: Engine, run: Run) -> Run:
    """The run as it is now."""
    found = await looked(engine, lambda conn: runs.get(conn, run.id))
    assert found is not None
    return found


async def test_a_run_is_bound_to_what_is_active(engine: Engine, lineage: Lineage) -> None:
    """Number and hash stand in the row, and its job in the queue names the run and nothing else."""
    run = await started(engine, lineage, asked(inputs={"limit": 1e23}))
    assert (run.revision, run.content_hash, run.selection) == (2, lineages.hash_of("B"), "Active")
    assert (run.state, run.attempt, run.max_attempts, run.try_number) == (State.QUEUED, 0, 3, 1)
    assert await jobs(engine) == [(str(run.id), 0, None)]
    assert await looked(engine, lambda conn: runs.get(conn, run.id)) == run


@pytest.mark.parametrize(
    ("reference", "number"),
    [
        (Reference(number=2), 2),
        (Reference(content_hash=lineages.hash_of("B")), 2),
        (Reference(number=1), 1),
        (Reference(content_hash=lineages.hash_of("A")), 3),
    ],
)
async def test_a_run_can_name_its_revision(engine: Engine, lineage: Lineage, reference: Reference, number: int) -> None:
    """By number, or by content: then of several with it the active one, else the newest."""
    run = await started(engine, lineage, asked(reference=reference, unreleased=True))
    assert (run.revision, run.selection) == (number, "Pinned")


async def test_a_revision_that_was_never_active_needs_to_be_known_as_approved(engine: Engine, lineage: Lineage) -> None:
    """Nobody gets around an approval by naming the version that waits for it (A-AP-2)."""
    assert await refusal(engine, lineage, asked(reference=Reference(number=1))) == "RevisionNotApproved"


async def test_what_cannot_run_is_refused(engine: Engine, lineage: Lineage) -> None:
    """Unknown, invalid or denied versions, a suspended workflow, none at all: a reason each, and no row (A-RUN-5)."""
    await lineages.add(engine, "x")
    assert await refusal(engine, lineage, asked(reference=Reference(number=9))) == "RevisionNotFound"
    assert await refusal(engine, lineage, asked(reference=Reference(tag="gone"))) == "RevisionNotFound"
    assert await refusal(engine, lineage, asked(reference=Reference(number=4), unreleased=True)) == "RevisionInvalid"
    assert await refusal(engine, replace(lineage, id=uuid4()), asked()) == "WorkflowNotFound"
    await lineages.run(engine, "UPDATE keep_operator.revision_state SET denied_reason = 'no' WHERE number = 1")
    again = asked(reference=Reference(number=3), unreleased=True)
    assert await refusal(engine, lineage, again) == "RevisionNotApproved"
    await lineages.run(engine, "UPDATE keep_operator.workflow SET suspended = true")
    assert await refusal(engine, lineage, asked()) == "Suspended"


async def test_before_the_first_deployment_nothing_runs(engine: Engine) -> None:
    """A workflow without an active version."""
    await samples.have_tenant(engine)
    lineage = await lineages.have(engine, contents="A")
    assert await refusal(engine, lineage, asked()) == "RevisionNotFound"


async def test_the_same_request_again_gets_the_same_run(engine: Engine, lineage: Lineage) -> None:
    """Eight at once with one key: one run and one job; also when the workflow has been suspended since."""
    got = await asyncio.gather(*(want(engine, lineage, asked("same")) for _ in range(8)))
    assert all(isinstance(each, Requested) for each in got)
    assert len({each.run.id for each in got if isinstance(each, Requested)}) == 1
    assert sum(each.created for each in got if isinstance(each, Requested)) == 1
    assert len(await jobs(engine)) == 1
    await lineages.run(engine, "UPDATE keep_operator.workflow SET suspended = true")
    late = await want(engine, lineage, asked("same"))
    assert isinstance(late, Requested)
    assert not late.created


async def test_a_tick_starts_once(engine: Engine, lineage: Lineage) -> None:
    """Whatever key the schedulers give it."""
    got = await asyncio.gather(*(want(engine, lineage, asked(trigger="Interval", tick=NOW)) for _ in range(6)))
    assert sum(isinstance(each, Requested) and each.created for each in got) == 1
    await started(engine, lineage, asked(trigger="Interval", tick=NOW + timedelta(minutes=5)))


@pytest.mark.parametrize(
    "wrong",
    ["revision = 1", "revision = 9", f"content_hash = '{'0' * 64}'", f"workflow_id = '{UUID(int=7)}'"],
)
async def test_the_database_refuses_a_wrong_pair(engine: Engine, lineage: Lineage, wrong: str) -> None:
    """Neither a new row nor a change may say that something else ran (A-RUN-1)."""
    run = await started(engine, lineage)
    with pytest.raises(Exception, match=r"refused|form|other record|points|stored|exist"):
        await lineages.run(engine, f"UPDATE keep_operator.run SET {wrong}")  # noqa: S608
    column, value = wrong.split(" = ")
    columns = (
        "tenant_id, workflow_id, revision, content_hash, selection, trigger, mode, state, inputs, requested_by, "
        "max_attempts, timeout_s"
    )
    with pytest.raises(Conflict):
        await lineages.run(
            engine,
            f"INSERT INTO keep_operator.run (id, idempotency_key, {columns}) SELECT gen_random_uuid(), 'other', "  # noqa: S608
            + ", ".join(value if each == column else each for each in columns.split(", "))
            + " FROM keep_operator.run",
        )
    assert await looked(engine, lambda conn: runs.get(conn, run.id)) == run


async def test_what_ran_is_what_is_recorded_while_versions_roll(engine: Engine, lineage: Lineage) -> None:
    """1,000 requests while 50 versions are rolled out and back: each run's content is that of its hash (A-RUN-1)."""
    for content in "CDEFGHIJKLMNOPQRSTUVWXYZ":
        await lineages.add(engine, content)
    rolling = True

    async def roll() -> None:
        nonlocal rolling
        dice = random.Random(7)  # noqa: S311 - a die
        for _ in range(50):
            await lineages.activate(
                engine, dice.choice([n for n in range(1, 28) if n != (await lineages.own(engine)).active_number])
            )
        rolling = False

    made: list[Run] = []

    async def ask() -> None:
        while len(made) < 1_000:
            try:
                made.append(await started(engine, lineage))
            except Conflict:
                continue  # rolled over at that very moment: ask again

    await asyncio.gather(roll(), *(ask() for _ in range(4)))
    assert not rolling
    assert len({run.revision for run in made}) > 10
    for run in made:
        claim = await claimed(engine, run)
        assert content_hash(claim.definition) == run.content_hash == claim.run.content_hash


async def test_one_workflow_at_a_time(engine: Engine, lineage: Lineage) -> None:
    """Forbid: of eight requests at once one runs, the others are refused; when it has ended the next may."""
    await _set_run(engine, '{"concurrency": "Forbid"}')
    got = await asyncio.gather(*(want(engine, lineage) for _ in range(8)))
    first = [each for each in got if isinstance(each, Requested)]
    assert len(first) == 1
    assert {each.reason for each in got if isinstance(each, Refusal)} == {"ConcurrencyForbidden"}
    await ended(engine, first[0].run)
    await started(engine, lineage)


async def test_the_newest_replaces_the_others(engine: Engine, lineage: Lineage) -> None:
    """Replace: what waits is cancelled, what runs is asked to end; the same request again replaces nothing."""
    await _set_run(engine, '{"concurrency": "Replace"}')
    first = await started(engine, lineage)
    async with database.transaction(engine) as conn:
        assert await executions.claim(conn, first.id, "w") is not None
    second = await started(engine, lineage)
    third = await started(engine, lineage, asked("third"))
    assert not (await want(engine, lineage, asked("third"))).created  # type: ignore[union-attr]
    found = [await got_of(engine, run) for run in (first, second, third)]
    assert [(run.state, run.cancel_requested) for run in found] == [
        (State.RUNNING, True),
        (State.CANCELLED, True),
        (State.QUEUED, False),
    ]


async def test_events_of_one_alert_wait_for_each_other(engine: Engine, lineage: Lineage) -> None:
    """Keep's default strategy: in order, one at a time for each alert; other alerts are not held up."""
    made = [
        await started(engine, lineage, asked(trigger="Alert", event={"n": n}, fingerprint=f"f{n % 2}"))
        for n in range(6)
    ]
    waiting = await jobs(engine)
    for fingerprint in (0, 1):
        lock = f"{lineage.id}/f{fingerprint}"
        assert [run for run, _, held in waiting if held == lock] == [str(made[n].id) for n in range(fingerprint, 6, 2)]


async def test_a_backlog_does_not_hold_up_other_tenants(engine: Engine, lineage: Lineage) -> None:
    """A tenant with 30 runs in the queue: the first of another one is taken up before almost all of them."""
    for _ in range(30):
        await started(engine, lineage)
    await samples.have_tenant(engine, "other", of=None)
    theirs = replace(lineages.new("theirs", of=samples.owner("theirs")), tenant_id="other")
    await done(engine, lambda conn: workflows.insert(conn, theirs, actor=lineages.ACTOR))
    await lineages.add(engine, "A", of=samples.owner("theirs"))
    await lineages.activate(engine, 1, of=samples.owner("theirs"))
    run = await started(engine, theirs)
    order = [each for each, _, _ in await jobs(engine)]
    assert order.index(str(run.id)) <= 1


INPUTS: dict[str, Any] = {"inputs": [{"name": "limit", "type": "number", "required": True}]}


async def with_inputs(engine: Engine) -> Lineage:
    """A fourth version, which declares inputs, is active."""
    of, made = samples.owner("high-cpu"), {**lineages.definition_of("C"), **INPUTS}
    seen = await lineages.own(engine, of)
    four = Revision(4, content_hash(made), NOW, created_from_generation=4)
    await done(engine, lambda conn: revisions.insert(conn, seen, four, made, name="high-cpu-v4", actor=samples.ACTOR))
    return await lineages.activate(engine, 4)


@pytest.mark.parametrize("given", [{}, {"limit": ""}, {"limit": "many"}, {"limit": [1]}])
async def test_inputs_are_judged_by_the_revision_that_would_run(
    engine: Engine, lineage: Lineage, given: dict[str, Any]
) -> None:
    """Where it is bound, in one transaction: what an older version takes the active one may not, and the other way round."""
    await lineages.activate(engine, 1)
    await with_inputs(engine)
    refused = await want(engine, lineage, asked(inputs=given))
    assert isinstance(refused, Refusal) and refused.reason == "InvalidInputs"
    assert "v4 (" in refused.message and '"limit" ' in refused.message and "many" not in refused.message
    assert await jobs(engine) == []
    assert (await started(engine, lineage, asked(inputs={"limit": "90"}))).revision == 4
    assert (await started(engine, lineage, asked(inputs=given, reference=Reference(number=1)))).revision == 1


async def test_a_tick_and_an_event_are_not_refused_for_inputs(engine: Engine, lineage: Lineage) -> None:
    """Nobody gave any: the run is there, and how it fails tells those who look for it."""
    await with_inputs(engine)
    for given in ({"trigger": "Interval", "tick": NOW}, {"trigger": "Alert", "fingerprint": "a", "event": {}}):
        assert (await started(engine, lineage, asked(**given))).revision == 4


async def test_a_retry_keeps_the_revision(engine: Engine, lineage: Lineage) -> None:
    """Also after another was deployed (A-RUN-4)."""
    first = await started(engine, lineage)
    await ended(engine, first, Reason.STEP_FAILED)
    await lineages.activate(engine, 3)
    again = await started(engine, lineage, asked(retry_of=first.id))
    assert (again.revision, again.try_number, again.retry_of) == (2, 2, first.id)
    assert await refusal(engine, lineage, asked(retry_of=uuid4())) == "RevisionNotFound"


async def test_a_retry_of_another_revision_is_a_retry(engine: Engine, lineage: Lineage) -> None:
    """Named by number, content or tag, it runs what was named, and its record tells which run it repeats (A-RUN-4)."""
    first = await started(engine, lineage)
    await ended(engine, first, Reason.STEP_FAILED)
    for number, reference in enumerate((Reference(number=3), Reference(content_hash=lineages.hash_of("A"))), 1):
        again = await started(engine, lineage, asked(retry_of=first.id, reference=reference, unreleased=True))
        assert (again.revision, again.selection) == (3, "Pinned"), number
        assert (again.try_number, again.retry_of) == (2, first.id)
    stranger = asked(retry_of=uuid4(), reference=Reference(number=3), unreleased=True)
    assert await refusal(engine, lineage, stranger) == "RevisionNotFound"


async def test_a_run_keeps_its_end(engine: Engine, lineage: Lineage) -> None:
    """What failed stays failed, whatever anybody writes."""
    run = await started(engine, lineage)
    await ended(engine, run, Reason.STEP_FAILED)
    assert not await done(engine, lambda conn: runs.cancel(conn, run.id, message="too late"))
    with pytest.raises(Exception, match="form"):
        await lineages.run(engine, "UPDATE keep_operator.run SET state = 'Succeeded', reason = 'Completed'")


async def test_the_run_of_an_object_is_found_by_it(engine: Engine, lineage: Lineage) -> None:
    """And its row names it."""
    owner = Owner("cluster", "monitoring", "run-1", "uid-run-1")
    run = await started(engine, lineage, asked(owner=owner))
    assert run.owner == owner
    assert await looked(engine, lambda conn: runs.observe(conn, "cluster", "uid-run-1")) == run


async def test_old_runs_go_in_batches(engine: Engine, lineage: Lineage) -> None:
    """With steps and logs; what has not ended, or is younger, stays."""
    made = [await started(engine, lineage) for _ in range(5)]
    for run in made[:4]:
        await ended(engine, run)
    later = datetime.now(UTC) + timedelta(minutes=1)
    assert await done(engine, lambda conn: runs.expire(conn, later + timedelta(days=89))) == 0
    await lineages.run(
        engine, """UPDATE keep_operator.workflow SET settings = '{"runHistory": {"maxAgeSeconds": 86400}}'"""
    )
    assert await done(engine, lambda conn: runs.expire(conn, later + timedelta(hours=23))) == 0
    assert await done(engine, lambda conn: runs.expire(conn, later + timedelta(hours=24), 3)) == 3
    await lineages.run(engine, "UPDATE keep_operator.workflow SET settings = '{}'")
    assert await done(engine, lambda conn: runs.expire(conn, later + timedelta(days=90), 3)) == 1
    assert [run.id for run in await looked(engine, lambda conn: runs.unfinished(conn, lineage.id))] == [made[4].id]


async def test_others_hear_of_a_run_that_failed(engine: Engine, lineage: Lineage, database_url: str) -> None:
    """Revision number and hash are in the notification (A-RUN-10); and the object that asked is told of each step on its way."""
    heard: Counter[str] = Counter()
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as listening:
        for channel in ("keep_operator_run_failed", "keep_operator_changed", "keep_operator_cancel"):
            await listening.execute(f"LISTEN {channel}")
        run = await started(engine, lineage, asked(owner=Owner("cluster", "monitoring", "run-1", "uid-run-1")))
        await ended(engine, run, Reason.STEP_FAILED)
        async for note in listening.notifies(timeout=2, stop_after=3):
            heard[note.channel] += 1
            if note.channel == "keep_operator_run_failed":
                assert run.content_hash in note.payload
                assert '"revision" : 2' in note.payload
    assert heard == {"keep_operator_run_failed": 1, "keep_operator_changed": 2}


async def _set_run(engine: Engine, settings: str) -> None:
    await lineages.run(engine, f"""UPDATE keep_operator.workflow SET settings = '{{"run": {settings}}}'""")  # noqa: S608
