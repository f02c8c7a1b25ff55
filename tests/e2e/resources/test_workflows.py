"""Workflows on a real API server: stored to the letter, checked at once, shown at a glance; nobody reconciles them yet."""

import json
from http import HTTPStatus
from typing import Any

import pytest

from e2e.cluster import Kube
from keep_operator.resources import free, workflow
from keep_operator.resources.kinds import WORKFLOWS
from keep_operator.resources.shapes import Invalid
from keep_operator.resources.workflow import WorkflowSpec

from .conftest import Api, Json, new_name

pytestmark = pytest.mark.e2e

FLOW: Json = {"definition": {"triggers": [{"type": "manual"}], "steps": [], "actions": []}}
FROM: Json = {"definitionFrom": {"configMapKeyRef": {"name": "flows", "key": "a.yaml"}}}
HASH = "0123456789abcdef" * 4
GUARD: Json = {"enabled": True, "window": "1h", "minRuns": 20, "maxFailureRatePercent": 10}
KIBI = 1024


def release(**parts: Any) -> Json:
    """A Workflow's spec with these parts of `release`."""
    return FLOW | {"release": parts}


def canary(*steps: Json) -> Json:
    """A Workflow's spec with a canary of these steps."""
    return release(strategy={"type": "Canary", "canary": {"steps": list(steps)}})


def test_a_definition_is_stored_to_the_letter(api: Api) -> None:
    """Unknown keys, odd names, nulls and numbers come back as they went in: a hash has something to hold on to."""
    text = '{"z":{"on":"yes","":null},"a":[1,2.5,-0.25,9007199254740993,true,"é\\u2028",[],{}],"steps":"no list"}'
    status, stored = api.try_create(WORKFLOWS, {"definition": json.loads(text), "bogus": 1})
    assert status == HTTPStatus.CREATED, stored
    assert free.same(stored["spec"]["definition"], json.loads(text))
    assert "bogus" not in stored["spec"]
    spec = workflow.parse_spec(stored["spec"])
    assert isinstance(spec, WorkflowSpec)
    assert free.same(spec.definition, json.loads(text))


def test_defaults_are_the_models(api: Api) -> None:
    """What is stored for the smallest manifest is what the operator would assume; no object is filled in."""
    _, stored = api.try_create(WORKFLOWS, FLOW)
    assert stored["spec"] == FLOW | {
        "suspend": False,
        "dependencyPolicy": "Wait",
        "progressDeadlineSeconds": 600,
        "revisionHistoryLimit": 10,
        "deletionGraceSeconds": 60,
        "deletionPolicy": "Delete",
        "adoptionPolicy": "Never",
        "driftPolicy": "Correct",
    }
    assert workflow.parse_spec(stored["spec"]) == workflow.parse_spec(FLOW)
    opened = FLOW | {"run": {}, "runHistory": {}, "release": {"strategy": {}, "autoRollback": {}}}
    _, stored = api.try_create(WORKFLOWS, opened)
    assert stored["spec"]["release"] == {
        "strategy": {"type": "AllAtOnce"},
        "autoRollback": {"enabled": False},
        "readyWhen": "Deployed",
    }
    assert workflow.parse_spec(stored["spec"]) == workflow.parse_spec(FLOW)


@pytest.mark.parametrize(
    "spec",
    [
        {"definition": []},
        {"definition": "steps: []"},
        {"definitionFrom": {"configMapKeyRef": {"name": "flows"}}},
        {"definitionFrom": {"configMapKeyRef": {"name": "../secrets/x", "key": "a"}}},
        {"definitionFrom": {"secretKeyRef": {"name": "flows", "key": "a"}}},
        FLOW | {"externalName": "a\nb"},
        FLOW | {"externalName": "a" * 254},
        FLOW | {"dependencyPolicy": "Ignore"},
        FLOW | {"progressDeadlineSeconds": 29},
        FLOW | {"revisionHistoryLimit": 1001},
        FLOW | {"deletionGraceSeconds": -1},
        FLOW | {"run": {"concurrency": "allow"}},
        FLOW | {"run": {"maxAttempts": 11}},
        FLOW | {"runHistory": {"maxAge": "90d"}},
        FLOW | {"retention": {"max": 0}},
        release(strategy={"type": "Shadow"}),
        release(strategy={"type": "Canary", "canary": {}}),
        canary(),
        canary({"setWeight": 0}),
        canary({"setWeight": 1.5}),
        canary(*[{"setWeight": 1}] * 21),
        canary({"analysis": {"minRuns": 1, "window": "30m"}}),
        canary({"analysis": {"minRuns": 0, "window": "30m", "maxFailureRatePercent": 1}}),
        release(approval={"required": "always"}),
        release(approval={"minApprovals": 11}),
        release(approval={"importantPaths": ["a", "a"]}),
        release(checklist=[{"id": "a", "title": "A"}] * 2),
        release(checklist=[{"id": str(n), "title": "A"} for n in range(33)]),
        release(autoRollback={"maxFailureRatePercent": 101}),
        release(readyWhen="Always"),
        release(pin={"revision": 0}),
        release(pin={"contentHash": HASH[:63]}),
        release(tags=["-a"]),
        release(tags=[f"t{n}" for n in range(17)]),
        release(changeNote="\x1b[2J"),
        release(changeNote="é" * 1025),
    ],
)
def test_a_bad_workflow_is_refused_at_once(api: Api, spec: Json) -> None:
    """A slip is told by `kubectl apply`, before anything is stored; the operator would say the same."""
    status, answer = api.try_create(WORKFLOWS, spec)
    assert status == HTTPStatus.UNPROCESSABLE_ENTITY, answer
    assert isinstance(workflow.parse_spec(spec), Invalid)


def test_a_definition_above_the_limit_is_told_by_the_operator(api: Api, kube: Kube) -> None:
    """The API server cannot measure it and stores it; what is above its own limit it refuses."""
    name = new_name()
    large = {"definition": {"steps": ["x" * KIBI] * 300}}
    status, stored = api.apply(WORKFLOWS, large, name, "test")
    assert status == HTTPStatus.CREATED, stored
    assert workflow.oversize(stored["spec"]["definition"]) is not None
    manifest = json.dumps(api.thing(WORKFLOWS, large, name) | {"metadata": {"name": name, "namespace": "default"}})
    assert "serverside-applied" in kube.kubectl(
        "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=manifest
    )
    assert "Too long" in kube.kubectl("apply", "-f", "-", stdin=manifest, check=False)
    huge = {"definition": {"steps": ["x" * KIBI] * 4 * KIBI}}
    assert api.try_create(WORKFLOWS, huge)[0] == HTTPStatus.REQUEST_ENTITY_TOO_LARGE


def test_deep_definitions_are_stored_and_refused_by_the_operator(api: Api) -> None:
    """Nesting that the API server takes is one refused spec, and not a fault of the operator."""
    status, stored = api.try_create(WORKFLOWS, {"definition": {"a": json.loads("[" * 5_000 + "]" * 5_000)}})
    assert status == HTTPStatus.CREATED, stored
    assert str(workflow.parse_spec(stored["spec"])) == "spec.definition: is nested too deeply"


def test_the_state_is_seen_at_a_glance(api: Api, kube: Kube) -> None:
    """`kubectl get kwf` shows which version runs and which one is wanted."""
    name = new_name()
    api.apply(WORKFLOWS, FLOW, name, "test")
    pointer = {"name": f"{name}-v1-01234567", "contentHash": HASH}
    times = {"lastTransitionTime": "2026-11-25T07:00:00Z", "message": "Step 1 of 3"}
    status = {
        "activeRevision": pointer | {"number": 1, "since": "2026-11-25T07:00:00Z", "reason": "Deployed"},
        "desiredRevision": pointer | {"number": 2},
        "canary": {"revision": 2, "weight": 20},
        "conditions": [
            {"type": "Ready", "status": "Unknown", "reason": "CanaryInProgress", **times},
            {"type": "Available", "status": "True", "reason": "Serving", **times},
            {"type": "Deployed", "status": "Unknown", "reason": "CanaryInProgress", **times},
        ],
    }
    path = api.path(WORKFLOWS, name)
    code, answer = api.patch(f"{path}/status", "merge-patch+json", {"status": status})
    assert code == HTTPStatus.OK, answer["message"]
    shown = [line.split()[:-1] for line in kube.kubectl("get", "kwf", name, "-o", "wide").splitlines()]
    assert shown == [
        ["NAME", "READY", "REASON", "ACTIVE", "DESIRED", "AVAILABLE", "CANARY", "DEPLOYED"],
        [name, "Unknown", "CanaryInProgress", "1", "2", "True", "20", "Unknown"],
    ]
    assert name in kube.kubectl("get", "keep")


def test_nobody_writes_a_status_into_a_spec(api: Api) -> None:
    """A status that a manifest brings along is dropped, as one that a status patch brings for the spec is."""
    _, stored = api.try_create(WORKFLOWS, FLOW)
    assert "status" not in stored
    name = new_name()
    api.apply(WORKFLOWS, FLOW, name, "test")
    edit = {"spec": {"suspend": True}, "status": {"revisionCount": 1}}
    status, kept = api.patch(f"{api.path(WORKFLOWS, name)}/status", "merge-patch+json", edit)
    assert status == HTTPStatus.OK, kept
    assert (kept["spec"]["suspend"], kept["status"]) == (False, {"revisionCount": 1})


def test_two_appliers_may_own_an_item_of_the_checklist_each(api: Api) -> None:
    """A platform team adds its items and tags to what the workflow's team declares."""
    name = new_name()
    mine = release(checklist=[{"id": "tried", "title": "Tried"}], tags=["v1"])
    theirs = {"release": {"checklist": [{"id": "looked", "title": "Looked at"}], "tags": ["fast"]}}
    assert api.apply(WORKFLOWS, mine, name, "team")[0] == HTTPStatus.CREATED
    status, both = api.apply(WORKFLOWS, theirs, name, "platform")
    assert status == HTTPStatus.OK, both
    assert {item["id"] for item in both["spec"]["release"]["checklist"]} == {"tried", "looked"}
    assert set(both["spec"]["release"]["tags"]) == {"v1", "fast"}


@pytest.mark.needs_cel("rules over several fields are evaluated by the API server from Kubernetes 1.25 on")
@pytest.mark.parametrize(
    ("spec", "blamed"),
    [
        ({}, "spec"),
        (FLOW | FROM, "spec"),
        (release(strategy={"type": "Canary"}), "spec.release.strategy"),
        (release(strategy={"canary": {"steps": [{"pause": {}}]}}), "spec.release.strategy"),
        (canary({}), "spec.release.strategy.canary.steps[0]"),
        (canary({"setWeight": 20}, {"pause": {}}, {"setWeight": 19}), "spec.release.strategy.canary.steps"),
        (release(autoRollback={"enabled": True}), "spec.release.autoRollback"),
        (release(pin={}), "spec.release.pin"),
        (release(tags=["stable"]), "spec.release.tags"),
    ],
)
def test_a_rule_is_told_at_once(api: Api, spec: Json, blamed: str) -> None:
    """What no field alone can say is told by `kubectl apply`, with the field's name."""
    status, answer = api.try_create(WORKFLOWS, spec)
    assert status == HTTPStatus.UNPROCESSABLE_ENTITY, answer
    assert any(cause["field"].startswith(blamed) for cause in answer["details"]["causes"])


@pytest.mark.needs_cel("rules over several fields are evaluated by the API server from Kubernetes 1.25 on")
def test_a_tenant_may_be_added_once(api: Api) -> None:
    """A workflow does not move between tenants with its history."""
    name = new_name()
    path = api.path(WORKFLOWS, name)
    api.apply(WORKFLOWS, FLOW | {"release": {"autoRollback": GUARD}}, name, "test")
    added = {"spec": {"tenantRef": {"name": "a"}}}
    assert api.patch(path, "merge-patch+json", added)[0] == HTTPStatus.OK
    for other in ({"spec": {"tenantRef": {"name": "b"}}}, {"spec": {"tenantRef": None}}):
        status, answer = api.patch(path, "merge-patch+json", other)
        assert status == HTTPStatus.UNPROCESSABLE_ENTITY, answer
