"""Runs that are asked for through Kubernetes: each starts once, whoever is killed, and is told as its record says (A-RUN)."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

import pytest

from e2e.cluster import Database, Json, Kube, Thing, eventually, tenant
from e2e.conftest import Operate
from keep_operator.domain.execution import ONCE, Reason, Step, StepState
from keep_operator.resources.kinds import WORKFLOW_RUNS
from keep_operator.store import engine as engines
from keep_operator.store import executions
from keep_operator.store.connection import Connection
from keep_operator.store.executions import Progress
from manifests import definition, run, workflow

pytestmark = pytest.mark.e2e
T = TypeVar("T")


def within(database: Database, work: Callable[[Connection], Awaitable[T]]) -> T:
    """One transaction of a runner."""

    async def doing() -> T:
        engine = engines.connect(database.url, application_name="runner", pool_size=1)
        try:
            async with engines.transaction(engine) as conn:
                return await work(conn)
        finally:
            await engine.dispose()

    return asyncio.run(doing())


def worked(database: Database, run_id: UUID, reason: Reason = Reason.COMPLETED, message: str = "") -> None:
    """A worker takes a run up, does its one step, and ends it."""

    async def doing(conn: Connection) -> None:
        claim = await executions.claim(conn, run_id, "worker-1")
        assert claim is not None
        state = StepState.SUCCEEDED if reason is Reason.COMPLETED else StepState.FAILED
        given: dict[str, Any] = {"name": "say", "kind": "action", "type": "console", "side_effects": "NONE"}
        step = Step(
            0, ONCE, 1, claim.run.attempt, state=state, message=message or None, started_at=datetime.now(UTC), **given
        )
        await executions.write(conn, claim.run, Progress((step,)))
        await executions.end(conn, claim.run, reason, message)

    within(database, doing)


def waiting(database: Database) -> list[UUID]:
    """The runs that no worker has."""
    return [row["id"] for row in database.rows("SELECT id FROM keep_operator.run WHERE state = 'Queued' ORDER BY id")]


def told(kube: Kube, manifest: Json, *reasons: str) -> Thing:
    """The run once `Succeeded` has one of these reasons."""

    def has(thing: Thing) -> Any:
        return (thing.condition("Succeeded") or ("", ""))[1] in reasons

    return kube.await_state(manifest, has, f"one of {reasons}")


def serving(kube: Kube, namespace: str) -> Json:
    """A Workflow with an active version."""
    hello = workflow("hello", namespace, "team", definition("one"))
    kube.create(tenant("team"), hello)
    kube.await_state(hello, lambda it: it.ready and it.status.get("activeRevision"), "version 1")
    return hello


def test_from_the_object_to_the_record_and_back(
    operate: Operate, kube: Kube, namespace: str, database: Database
) -> None:
    """One run succeeds, one fails: `kubectl wait` returns, the failure is told about the Workflow, records outlive objects."""
    operate()
    hello = serving(kube, namespace)
    good, bad = run(hello, "good"), run(hello, "bad", inputs={"host": "db-1"})
    kube.create(good)
    told(kube, good, "Queued")
    kube.create(bad)
    told(kube, bad, "Queued")
    first, second = waiting(database)
    worked(database, first)
    worked(database, second, Reason.STEP_FAILED, "no route to host")
    kube.kubectl("wait", "--for=condition=Succeeded", "wfrun/good", "-n", namespace, "--timeout=60s")
    failed = told(kube, bad, "StepFailed")
    assert failed.status["steps"] == [
        {
            "name": "say",
            "state": "Failed",
            "duration": failed.status["steps"][0]["duration"],
            "message": "no route to host",
        }
    ]
    version = failed.status["revision"]
    (event,) = eventually(
        lambda: [each for each in kube.events(namespace, "Warning") if each["involvedObject"]["name"] == "hello"],
        bool,
        "an Event",
    )
    assert (event["reason"], f"v1 ({version['contentHash']})" in event["message"]) == ("StepFailed", True)
    kube.delete(good)
    kube.delete(bad)
    kube.await_gone(good, bad)
    states = {row["owner_name"]: row["state"] for row in database.rows("SELECT * FROM keep_operator.run")}
    assert states == {"good": "Succeeded", "bad": "Failed"}


def test_each_run_starts_once_whoever_kills_the_operator(
    operate: Operate, kube: Kube, namespace: str, database: Database
) -> None:
    """The operator is killed right after each run is made: each has one record, in the end, and one job."""
    operator = operate()
    hello = serving(kube, namespace)
    manifests = [run(hello, f"run-{number}") for number in range(5)]
    for turn, each in enumerate(manifests):
        kube.create(each)
        time.sleep(0.01 * turn * turn)
        operator.stop(signal.SIGKILL)
        operator = operate()
        told(kube, each, "Queued")
    records = database.rows("SELECT * FROM keep_operator.run")
    assert sorted(row["owner_name"] for row in records) == sorted(each["metadata"]["name"] for each in manifests)
    jobs = database.rows("SELECT args ->> 'run_id' AS id FROM keep_operator.procrastinate_jobs WHERE status = 'todo'")
    assert sorted(row["id"] for row in jobs) == sorted(str(row["id"]) for row in records)


def test_a_namespace_goes_though_runs_are_under_way(
    operate: Operate, kube: Kube, namespace: str, database: Database
) -> None:
    """Nothing hangs: objects go, the Workflow waits its time, what was left is cancelled, records stay (A-GC-7)."""
    operate()
    hello = serving(kube, namespace)
    kube.edit(hello, deletionGraceSeconds=1)
    one = run(hello, "one")
    kube.create(one)
    told(kube, one, "Queued")
    kube.delete(hello)
    kube.await_gone(hello, one)
    (row,) = database.rows("SELECT * FROM keep_operator.run")
    assert (row["state"], row["message"]) == ("Cancelled", "The workflow was deleted")
    assert kube.objects(WORKFLOW_RUNS, namespace) == []
