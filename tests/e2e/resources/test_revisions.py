"""WorkflowRevisions on a real API server: what is recorded stays, whoever writes."""

import json
from http import HTTPStatus
from typing import Any

import pytest

from e2e.cluster import Kube
from keep_operator.cli import crds as commands
from keep_operator.resources import crds, free, revision
from keep_operator.resources.kinds import WORKFLOW_REVISIONS
from keep_operator.resources.revision import WorkflowRevisionSpec
from keep_operator.resources.shapes import Invalid

from .conftest import Api, Json, new_name

pytestmark = pytest.mark.e2e

HASH = "0123456789abcdef" * 4
RECORD: Json = {
    "workflowRef": {"name": "high-cpu"},
    "lineageId": "0b8d6c1e-54c0-4f0e-8b2f-3a9d0a4a7e55",
    "number": 2,
    "contentHash": HASH,
    "hashVersion": 1,
    "definition": {"steps": [{"name": "a", "with": {"x": [1, None]}}], "actions": []},
    "createdFromGeneration": 4,
}


def verdicts(**conditions: str) -> Json:
    """A status with these conditions."""
    told = {"reason": "X", "message": "x", "lastTransitionTime": "2026-11-25T07:00:00Z"}
    return {"conditions": [{"type": kind, "status": status, **told} for kind, status in conditions.items()]}


@pytest.fixture
def recorded(api: Api) -> str:
    """The path of a version that is stored."""
    name = new_name()
    labels = {"keep-operator.dev/workflow": "high-cpu", "keep-operator.dev/content-hash": HASH[:16]}
    status, stored = api.apply(WORKFLOW_REVISIONS, RECORD, name, "keep-operator", labels)
    assert status == HTTPStatus.CREATED, stored
    return api.path(WORKFLOW_REVISIONS, name)


def edit(api: Api, path: str, body: Json) -> int:
    """The answer to a merge patch."""
    status, answer = api.patch(path, "merge-patch+json", body)
    assert status in (HTTPStatus.OK, HTTPStatus.UNPROCESSABLE_ENTITY), answer
    return status


def test_a_definition_is_recorded_to_the_letter(api: Api) -> None:
    """What was hashed is what is stored: no key pruned, no null dropped, no number changed."""
    text = '{"z":{"on":"yes","":null},"n":null,"a":[1,2.5,9007199254740993,true,"é\\u2028",[],{}],"steps":"no list"}'
    status, stored = api.try_create(WORKFLOW_REVISIONS, RECORD | {"definition": json.loads(text)})
    assert status == HTTPStatus.CREATED, stored
    assert free.same(stored["spec"]["definition"], json.loads(text))
    spec = revision.parse_spec(stored["spec"])
    assert isinstance(spec, WorkflowRevisionSpec)
    assert free.same(spec.definition, json.loads(text))


def test_nothing_is_filled_in(api: Api) -> None:
    """No default of a later release changes what a version was."""
    _, stored = api.try_create(WORKFLOW_REVISIONS, RECORD)
    assert stored["spec"] == RECORD


@pytest.mark.parametrize(
    "bad",
    [
        {"number": 0},
        {"number": 1.5},
        {"contentHash": HASH.upper()},
        {"contentHash": HASH[1:]},
        {"hashVersion": 0},
        {"definition": []},
        {"definition": {str(number): 1 for number in range(257)}},
        {"author": {"username": "ann"}},
        {"author": {"username": "ann", "source": "my guess"}},
        {"changeNote": "x" * 1025},
        *({field: None} for field in RECORD),
    ],
)
def test_what_is_no_record_is_refused(api: Api, bad: Json) -> None:
    """A version made by hand does not pass for one of ours by accident."""
    spec = {key: value for key, value in (RECORD | bad).items() if value is not None}
    status, answer = api.try_create(WORKFLOW_REVISIONS, spec)
    assert status == HTTPStatus.UNPROCESSABLE_ENTITY, answer
    assert isinstance(revision.parse_spec(spec), Invalid)


def test_versions_are_seen_at_a_glance(api: Api, kube: Kube, recorded: str) -> None:
    """`kubectl get wfrev` shows what each version is and how it stands."""
    status = verdicts(Active="True", Ready="True", Approved="True") | {"tags": ["production"]}
    assert edit(api, f"{recorded}/status", {"status": status}) == HTTPStatus.OK
    name = recorded.rpartition("/")[2]
    shown = [line.split() for line in kube.kubectl("get", "wfrev", name, "-o", "wide").splitlines()]
    heads = ["NAME", "WORKFLOW", "NUMBER", "HASH", "ACTIVE", "READY", "APPROVED", "TAGS", "NOTE", "AGE"]
    assert shown[0] == heads
    assert shown[1][:-1] == [name, "high-cpu", "2", HASH[:16], "True", "True", "True", '["production"]']
    assert name in kube.kubectl("get", "wfrev", "-l", "keep-operator.dev/workflow=high-cpu")


def test_versions_of_a_workflow_are_selected_where_the_server_can(
    api: Api, server: commands.Server, recorded: str
) -> None:
    """`--field-selector spec.workflowRef.name=…` finds the versions; an old server says that it cannot."""
    features = crds.features_of(server.send("GET", "/version")[1]["gitVersion"])
    where = api.path(WORKFLOW_REVISIONS)
    for selector in ("spec.workflowRef.name=high-cpu", "spec.number=2"):
        status, found = server.send("GET", f"{where}?fieldSelector={selector.replace('=', '%3D')}")
        if features.selectable_fields:
            assert recorded.rpartition("/")[2] in {item["metadata"]["name"] for item in found["items"]}
        else:
            assert status == HTTPStatus.BAD_REQUEST, found


@pytest.mark.needs_cel("rules about changes are evaluated by the API server from Kubernetes 1.25 on")
@pytest.mark.parametrize(
    "change",
    [
        {"number": 3},
        {"changeNote": "x"},
        {"definition": {"steps": []}},
        {"definition": {"steps": [{"name": "a", "with": {"x": [2, None]}}]}},
        {"definition": {"more": 1}},
        {"definition": {"actions": None}},
        {"definition": {"actions": None, "other": []}},
    ],
)
def test_nobody_changes_a_version(api: Api, recorded: str, change: Json) -> None:
    """Not the administrator, not deep inside, and not by putting one key in the place of another (A-REV-3)."""
    assert edit(api, recorded, {"spec": change}) == HTTPStatus.UNPROCESSABLE_ENTITY
    assert edit(api, recorded, {"metadata": {"labels": {"a": "b"}}}) == HTTPStatus.OK


@pytest.mark.needs_cel("rules about changes are evaluated by the API server from Kubernetes 1.25 on")
@pytest.mark.parametrize("verdict", ["Approved", "Denied"])
def test_nobody_takes_a_verdict_back(api: Api, recorded: str, verdict: str) -> None:
    """Whoever may write a status may not take back what people decided: not by removing the status either."""
    path = f"{recorded}/status"
    assert edit(api, path, {"status": verdicts(**{verdict: "True"})}) == HTTPStatus.OK
    later: list[Any] = [None, {"conditions": None}, verdicts(), verdicts(**{verdict: "False"}), verdicts(Ready="True")]
    for status in later:
        assert edit(api, path, {"status": status}) == HTTPStatus.UNPROCESSABLE_ENTITY, status
    assert edit(api, path, {"status": verdicts(Approved="True", Denied="True")}) == HTTPStatus.UNPROCESSABLE_ENTITY
    assert edit(api, path, {"status": verdicts(**{verdict: "True", "Active": "False"})}) == HTTPStatus.OK
