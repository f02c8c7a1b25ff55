"""WorkflowDecisions on a real API server: complete, unambiguous, and never changed."""

from http import HTTPStatus

import pytest

from e2e.cluster import Kube
from keep_operator.resources import decision
from keep_operator.resources.kinds import WORKFLOW_DECISIONS
from keep_operator.resources.shapes import Invalid

from .conftest import Api, Json, new_name

pytestmark = pytest.mark.e2e

HASH = "0123456789abcdef" * 4
WHO: Json = {"workflowRef": {"name": "high-cpu"}, "actor": "bob@example.com", "requestId": "1"}
ROLLBACK: Json = WHO | {
    "action": "Rollback",
    "revision": {"number": 1},
    "expect": {"activeRevision": 2},
    "reason": "Version 2 notifies every five minutes\n(incident 4711)",
}


def test_a_decision_is_stored_as_it_was_written(api: Api) -> None:
    """Nothing but the two switches is filled in, and the operator reads the same."""
    status, stored = api.try_create(WORKFLOW_DECISIONS, ROLLBACK)
    assert status == HTTPStatus.CREATED, stored
    assert stored["spec"] == ROLLBACK | {"full": False, "force": False}
    assert decision.parse_spec(stored["spec"]) == decision.parse_spec(ROLLBACK)


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {key: value for key, value in ROLLBACK.items() if key != "actor"},
        {key: value for key, value in ROLLBACK.items() if key != "requestId"},
        {key: value for key, value in ROLLBACK.items() if key != "workflowRef"},
        {key: value for key, value in ROLLBACK.items() if key != "action"},
        ROLLBACK | {"action": "rollback"},
        ROLLBACK | {"actor": ""},
        ROLLBACK | {"requestId": "x" * 129},
        ROLLBACK | {"reason": "\x1b[2J"},
        ROLLBACK | {"revision": {"number": 0}},
        ROLLBACK | {"revision": {"previous": False}},
        ROLLBACK | {"revision": {"contentHash": "abc"}},
        ROLLBACK | {"expect": {"activeRevision": "2"}},
        ROLLBACK | {"tag": "Production"},
        ROLLBACK | {"force": "yes"},
    ],
)
def test_a_bad_decision_is_refused_at_once(api: Api, spec: Json) -> None:
    """Whoever rolls back at night learns of a slip before anything happens."""
    status, answer = api.try_create(WORKFLOW_DECISIONS, spec)
    assert status == HTTPStatus.UNPROCESSABLE_ENTITY, answer
    assert isinstance(decision.parse_spec(spec), Invalid)


def test_decisions_are_seen_at_a_glance(api: Api, kube: Kube) -> None:
    """`kubectl get wfd` shows what was decided, by whom, and what came of it, however the version was named."""
    ways = {"1": {"number": 1}, "production": {"tag": "production"}, HASH: {"contentHash": HASH}}
    told = {"type": "Handled", "status": "False", "reason": "Stale", "message": "x"}
    for shown, way in ways.items():
        name = new_name()
        api.apply(WORKFLOW_DECISIONS, ROLLBACK | {"revision": way}, name, "test")
        status = {"conditions": [told | {"lastTransitionTime": "2026-11-25T07:00:00Z"}]}
        api.patch(f"{api.path(WORKFLOW_DECISIONS, name)}/status", "merge-patch+json", {"status": status})
        lines = [line.split()[:-1] for line in kube.kubectl("get", "wfd", name).splitlines()]
        assert lines == [
            ["NAME", "WORKFLOW", "ACTION", "REVISION", "ACTOR", "HANDLED", "REASON"],
            [name, "high-cpu", "Rollback", shown, "bob@example.com", "False", "Stale"],
        ]


@pytest.mark.needs_cel("rules over several fields are evaluated by the API server from Kubernetes 1.25 on")
@pytest.mark.parametrize(
    ("spec", "blamed"),
    [
        (WHO | {"action": "Rollback"}, "spec"),
        (WHO | {"action": "Note", "reason": ""}, "spec"),
        (WHO | {"action": "Approve"}, "spec"),
        (WHO | {"action": "Approve", "revision": {}}, "spec.revision"),
        (WHO | {"action": "Approve", "revision": {"number": 1, "previous": True}}, "spec.revision"),
        (WHO | {"action": "Tag", "revision": {"number": 1}}, "spec"),
        (WHO | {"action": "Tag", "revision": {"number": 1}, "tag": "latest"}, "spec"),
        (WHO | {"action": "Pause", "tag": "a"}, "spec"),
        (WHO | {"action": "CheckItem", "revision": {"number": 1}}, "spec"),
        (WHO | {"action": "Abort", "item": "a"}, "spec"),
    ],
)
def test_a_rule_is_told_at_once(api: Api, spec: Json, blamed: str) -> None:
    """What an action lacks, or cannot use, is told by `kubectl create`."""
    status, answer = api.try_create(WORKFLOW_DECISIONS, spec)
    assert status == HTTPStatus.UNPROCESSABLE_ENTITY, answer
    assert any(cause["field"].startswith(blamed) for cause in answer["details"]["causes"])


@pytest.mark.needs_cel("rules about changes are evaluated by the API server from Kubernetes 1.25 on")
def test_a_decision_is_never_changed(api: Api) -> None:
    """What was carried out is what stands there; labels and owners may come."""
    name = new_name()
    path = api.path(WORKFLOW_DECISIONS, name)
    api.apply(WORKFLOW_DECISIONS, ROLLBACK, name, "test")
    changes: list[Json] = [
        {"actor": "ann"},
        {"revision": {"number": 3}},
        {"reason": "x"},
        {"expect": None},
        {"force": True},
    ]
    for change in changes:
        status, answer = api.patch(path, "merge-patch+json", {"spec": change})
        assert status == HTTPStatus.UNPROCESSABLE_ENTITY, answer
    assert api.patch(path, "merge-patch+json", {"metadata": {"labels": {"a": "b"}}})[0] == HTTPStatus.OK
