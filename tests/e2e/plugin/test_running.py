"""`kubectl keep run` with a whole operator, and a worker that the test plays."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from e2e.cluster import Database, Json, Kube, eventually, tenant
from e2e.conftest import Operate
from e2e.keep import Keep
from e2e.story.test_runs import waiting, worked
from keep_operator.domain.execution import Reason
from manifests import definition, workflow

pytestmark = pytest.mark.e2e


@contextmanager
def worker(database: Database, reason: Reason, message: str = "") -> Iterator[None]:
    """Somebody who does the next run that comes."""

    def work() -> None:
        (run_id,) = eventually(lambda: waiting(database), bool, "a run")
        worked(database, run_id, reason, message)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    thread.join()


def serving(kube: Kube, namespace: str) -> Json:
    """A Workflow with an active version."""
    flow = workflow("high-cpu", namespace, "team", definition("one"))
    kube.create(tenant("team"), flow)
    kube.await_state(flow, lambda it: it.ready and it.status.get("activeRevision"), "version 1")
    return flow


def test_run_it_follow_it_cancel_it(
    operate: Operate, kube: Kube, keep: Keep, namespace: str, database: Database
) -> None:
    """The exit code says whether it succeeded; the steps are told as they come; a run that waits is ended."""
    operate()
    serving(kube, namespace)
    with worker(database, Reason.COMPLETED):
        done = keep("run", "high-cpu", "--wait", "--input", "host=db-1", "--idempotency-key", "one")
    assert done.code == 0, done.err
    assert done.out.startswith("Succeeded: v1 (")
    assert keep("run", "high-cpu", "--wait", "--input", "host=db-1", "--idempotency-key", "one").out == done.out
    with worker(database, Reason.STEP_FAILED, "no route to host"):
        failed = keep("run", "high-cpu", "--follow")
    assert failed.code == 1
    assert failed.out.startswith("say: Failed") and failed.out.endswith(": no route to host\n")
    assert "StepFailed: v1 (" in failed.err
    name = keep("run", "high-cpu", "-o", "name").out.strip().partition("/")[2]
    assert keep("cancel", name).code == 0
    told = eventually(
        lambda: json.loads(keep("runs", "high-cpu", "-o", "json").out),
        lambda found: sorted(each["status"].get("state") for each in found) == ["Cancelled", "Failed", "Succeeded"],
        "three ends",
    )
    assert {each["spec"]["workflowRef"]["name"] for each in told} == {"high-cpu"}
    inputs = [row["inputs"] for row in database.rows("SELECT inputs FROM keep_operator.run ORDER BY id")]
    assert inputs == [{"host": "db-1"}, {}, {}]
