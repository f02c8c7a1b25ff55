"""WorkflowRuns on a real API server: complete, unambiguous, and bound once."""

from http import HTTPStatus

import pytest

from e2e.cluster import Kube
from keep_operator.resources import run
from keep_operator.resources.kinds import WORKFLOW_RUNS
from keep_operator.resources.shapes import Invalid

from .conftest import Api, Json, new_name

pytestmark = pytest.mark.e2e

HASH = "0123456789abcdef" * 4
FULL: Json = {
    "workflowRef": {"name": "high-cpu"},
    "revision": {"number": 2},
    "inputs": {"host": "db-1", "limits": [1, None, {"a": 1.5}]},
    "trigger": "API",
    "mode": "DryRun",
    "retryOf": {"name": "high-cpu-1"},
    "idempotencyKey": "incident-4711",
    "timeout": "5m",
    "ttlSecondsAfterFinished": 0,
    "cancel": False,
}


def test_a_run_is_stored_as_it_was_written(api: Api) -> None:
    """Inputs are kept to the letter; of one that says the least the rest is filled in."""
    status, stored = api.try_create(WORKFLOW_RUNS, FULL)
    assert status == HTTPStatus.CREATED, stored
    assert stored["spec"] == FULL
    assert run.parse_spec(stored["spec"]) == run.parse_spec(FULL)
    status, stored = api.try_create(WORKFLOW_RUNS, {"workflowRef": {"name": "high-cpu"}})
    assert status == HTTPStatus.CREATED, stored
    defaults = {"trigger": "Manual", "mode": "Live", "ttlSecondsAfterFinished": 3600, "cancel": False}
    assert stored["spec"] == {"workflowRef": {"name": "high-cpu"}, **defaults}


@pytest.mark.parametrize(
    "spec",
    [
        {},
        FULL | {"workflowRef": {}},
        FULL | {"revision": {"number": 0}},
        FULL | {"revision": {"contentHash": "abc"}},
        FULL | {"inputs": ["a"]},
        FULL | {"trigger": "Replay"},
        FULL | {"mode": "live"},
        FULL | {"idempotencyKey": ""},
        FULL | {"idempotencyKey": "x" * 129},
        FULL | {"idempotencyKey": "a\nb"},
        FULL | {"timeout": "5"},
        FULL | {"ttlSecondsAfterFinished": -1},
        FULL | {"cancel": "yes"},
    ],
)
def test_a_bad_run_is_refused_at_once(api: Api, spec: Json) -> None:
    """A slip is told before anything runs."""
    status, answer = api.try_create(WORKFLOW_RUNS, spec)
    assert status == HTTPStatus.UNPROCESSABLE_ENTITY, answer
    assert isinstance(run.parse_spec(spec), Invalid)


def test_runs_are_seen_at_a_glance(api: Api, kube: Kube) -> None:
    """`kubectl get wfrun`: which version of what ran, how it ended, and why."""
    name = new_name()
    api.apply(WORKFLOW_RUNS, {"workflowRef": {"name": "high-cpu"}}, name, "test")
    told = {"type": "Succeeded", "status": "False", "reason": "StepFailed", "message": "v2 failed"}
    status = {
        "revision": {"number": 2, "name": "high-cpu-v2-01234567", "contentHash": HASH},
        "duration": "12s",
        "conditions": [told | {"lastTransitionTime": "2026-11-25T07:00:00Z"}],
    }
    api.patch(f"{api.path(WORKFLOW_RUNS, name)}/status", "merge-patch+json", {"status": status})
    lines = [line.split()[:-1] for line in kube.kubectl("get", "wfrun", name, "-o", "wide").splitlines()]
    assert lines == [
        ["NAME", "WORKFLOW", "REV", "SUCCEEDED", "REASON", "STARTED", "DURATION"],
        [name, "high-cpu", "2", "False", "StepFailed", "12s"],
    ]


@pytest.mark.needs_cel("rules about changes are evaluated by the API server from Kubernetes 1.25 on")
def test_a_run_is_never_changed_but_cancelled(api: Api) -> None:
    """What was asked for is what stands there; what ran, and how it ended, too."""
    name = new_name()
    path = api.path(WORKFLOW_RUNS, name)
    api.apply(WORKFLOW_RUNS, FULL, name, "test")
    changes: list[Json] = [
        {"workflowRef": {"name": "low-cpu"}},
        {"revision": {"number": 3}},
        {"revision": None},
        {"inputs": {"host": "db-2"}},
        {"inputs": None},
        {"mode": "Live"},
        {"timeout": "6m"},
        {"idempotencyKey": "x"},
        {"ttlSecondsAfterFinished": 1},
    ]
    for change in changes:
        status, answer = api.patch(path, "merge-patch+json", {"spec": change})
        assert status == HTTPStatus.UNPROCESSABLE_ENTITY, (change, answer)
    assert api.patch(path, "merge-patch+json", {"metadata": {"labels": {"a": "b"}}})[0] == HTTPStatus.OK
    assert api.patch(path, "merge-patch+json", {"spec": {"cancel": True}})[0] == HTTPStatus.OK
    assert api.patch(path, "merge-patch+json", {"spec": {"cancel": False}})[0] == HTTPStatus.UNPROCESSABLE_ENTITY
    bound = {"revision": {"number": 2, "name": "high-cpu-v2-01234567", "contentHash": HASH}}
    assert api.patch(f"{path}/status", "merge-patch+json", {"status": bound})[0] == HTTPStatus.OK
    assert api.patch(f"{path}/status", "merge-patch+json", {"status": None})[0] == HTTPStatus.UNPROCESSABLE_ENTITY
