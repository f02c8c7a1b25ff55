"""What objects and Events need to know of runs: read in one statement each, and of nobody else's."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from integration.store import lineages, samples
from integration.store.lineages import ME, done, looked
from keep_operator.domain.binding import Asked
from keep_operator.domain.execution import ONCE, Reason, Run, Step, StepState
from keep_operator.domain.history import Lineage
from keep_operator.domain.ownership import Owner
from keep_operator.resources.kinds import Key
from keep_operator.store import executions, run_objects, runs
from keep_operator.store.engine import Engine
from keep_operator.store.executions import Progress

pytestmark = pytest.mark.integration

WORKFLOW = Key("Workflow", ME.namespace, ME.name)


@pytest.fixture
async def lineage(engine: Engine) -> Lineage:
    """Workflow monitoring/high-cpu in tenant keep, with versions A and B; the second is active."""
    await samples.have_tenant(engine)
    await lineages.have(engine, contents="AB")
    return await lineages.activate(engine, 2)


async def started(engine: Engine, lineage: Lineage, **fields: Any) -> Run:
    """A run that a worker has."""
    given: dict[str, Any] = {"trigger": "Manual", "idempotency_key": str(uuid4()), "requested_by": "ann", **fields}
    got = await done(engine, lambda conn: runs.request(conn, lineage.id, Asked(**given)))
    assert isinstance(got, runs.Requested), got
    claim = await done(engine, lambda conn: executions.claim(conn, got.run.id, "w"))
    assert claim is not None
    return claim.run


async def step(engine: Engine, run: Run, position: int, *, iteration: int = ONCE, **fields: Any) -> None:
    """One start of a step, which ends at once."""
    given: dict[str, Any] = {
        "name": f"step-{position}",
        "kind": "step",
        "type": "mock",
        "state": StepState.SUCCEEDED,
        "side_effects": "NONE",
        "started_at": datetime.now(UTC),
        "result": {"large": "x" * 10_000},
        **fields,
    }
    what = Step(position, iteration, 1, run.attempt, **given)
    await done(engine, lambda conn: executions.write(conn, run, Progress((what,))))


async def test_steps_are_read_without_what_they_gave_back(engine: Engine, lineage: Lineage) -> None:
    """In their order, of a long loop as many as one look may read, and no message longer than a status takes."""
    run = await started(engine, lineage)
    await step(engine, run, 1, state=StepState.FAILED, message="m" * 5_000)
    for iteration in range(4):
        await step(engine, run, 0, iteration=iteration)
    found = await looked(engine, lambda conn: run_objects.parts(conn, run.id))
    assert [(part.position, part.iteration, part.state) for part in found] == [
        *((0, iteration, "Succeeded") for iteration in range(4)),
        (1, ONCE, "Failed"),
    ]
    assert found[-1].message == "m" * 300 and found[-1].completed_at is not None
    assert len(await looked(engine, lambda conn: run_objects.parts(conn, run.id, 3))) == 3


async def test_a_retry_finds_the_run_by_the_name_of_its_object(engine: Engine, lineage: Lineage) -> None:
    """The newest under that name, in that namespace, of that workflow; with what it got."""

    def owner(uid: str, name: str = "run-1", namespace: str = ME.namespace) -> Owner:
        return Owner(ME.cluster_id, namespace, name, uid)

    await started(engine, lineage, owner=owner("u1"), inputs={"host": "db-0"})
    wanted = await started(engine, lineage, owner=owner("u2"), inputs={"host": "db-1"}, event={"name": "hot"})
    await started(engine, lineage, owner=owner("u3", name="run-2"))
    await started(engine, lineage, owner=owner("u4", namespace="other"))
    key = Key("WorkflowRun", ME.namespace, "run-1")
    found = await looked(engine, lambda conn: run_objects.of_name(conn, lineage.id, ME.cluster_id, key))
    assert found is not None and found.id == wanted.id
    given = await looked(engine, lambda conn: run_objects.given(conn, wanted.id))
    assert given is not None
    assert (given.inputs, given.event) == ({"host": "db-1"}, {"name": "hot"})
    assert await looked(engine, lambda conn: run_objects.of_name(conn, uuid4(), ME.cluster_id, key)) is None
    assert await looked(engine, lambda conn: run_objects.given(conn, uuid4())) is None


async def test_what_is_under_way_is_counted_by_version_and_workflow(engine: Engine, lineage: Lineage) -> None:
    """One look at a workflow says which versions are needed; what has ended counts nowhere, nor what is another cluster's."""
    one, two = await started(engine, lineage), await started(engine, lineage)
    await lineages.activate(engine, 1)
    await started(engine, await lineages.own(engine))
    assert (await lineages.own(engine)).running == {1: 1, 2: 2}
    assert await looked(engine, lambda conn: run_objects.running(conn, ME.cluster_id)) == {WORKFLOW: 3}
    assert await looked(engine, lambda conn: run_objects.running(conn, "another")) == {}
    for run in (one, two):
        await done(engine, lambda conn, run=run: executions.end(conn, run, Reason.COMPLETED, ""))  # type: ignore[misc]
    assert (await lineages.own(engine)).running == {1: 1}
    assert await looked(engine, lambda conn: run_objects.running(conn, ME.cluster_id)) == {WORKFLOW: 1}


async def test_failures_of_late(engine: Engine, lineage: Lineage) -> None:
    """Those that failed since then, the newest first, with number and all of the hash; no success, no cancellation."""
    ends = (Reason.STEP_FAILED, Reason.COMPLETED, Reason.CANCELLED, Reason.TIMED_OUT)
    for reason in ends:
        run = await started(engine, lineage)
        await done(engine, lambda conn, run=run, reason=reason: executions.end(conn, run, reason, "why"))  # type: ignore[misc]
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    found = await looked(engine, lambda conn: run_objects.failed(conn, ME.cluster_id, hour_ago))
    assert [each.reason for each in found] == ["TimedOut", "StepFailed"]
    assert {each.version for each in found} == {f"v2 ({lineages.hash_of('B')})"}
    assert {(each.workflow, each.workflow_uid, each.message) for each in found} == {(WORKFLOW, ME.uid, "why")}
    later = datetime.now(UTC) + timedelta(minutes=1)
    assert await looked(engine, lambda conn: run_objects.failed(conn, ME.cluster_id, later)) == []
    assert len(await looked(engine, lambda conn: run_objects.failed(conn, ME.cluster_id, hour_ago, 1))) == 1
