"""What can be clicked in Argo CD: each action makes one decision that the operator takes (A-GO-3)."""

from typing import Any, Final

import pytest

from gitops import lua
from keep_operator.resources import decision, objects
from keep_operator.resources.shapes import Invalid

pytestmark = pytest.mark.contract

FOLDER: Final = lua.SCRIPTS / "Workflow" / "actions"
TABLE: Final = lua.read(FOLDER / "action_test.yaml")
ACTIONS: Final = sorted(path.parent.name for path in FOLDER.glob("*/action.lua"))
# The moment that the samples were made at.
CLICKED_S: Final = 1772366400


def cases(part: str) -> list[Any]:
    return [
        pytest.param(case, id=f"{case.get('action', 'discovery')}/{case.get('expectedOutputPath', case['inputPath'])}")
        for case in TABLE[part]
    ]


def made(action: str, obj: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The decision that a click makes."""
    (impact,) = lua.act(lua.of("Workflow", "actions", action, "action.lua"), obj, **more)
    assert impact["operation"] == "create"
    resource: dict[str, Any] = impact["resource"]
    return resource


@pytest.mark.parametrize("case", cases("discoveryTests"))
def test_what_makes_no_sense_now_cannot_be_clicked(case: dict[str, Any]) -> None:
    """Those that would be refused are grey; those about a canary or an approval are not even there without one."""
    found = lua.discover(lua.of("Workflow", "actions", "discovery.lua"), lua.read(FOLDER / case["inputPath"]))
    assert set(found) <= set(ACTIONS)
    assert [{"name": name, **found[name]} for name in found] == sorted(
        case["result"], key=lambda each: list(found).index(each["name"])
    )


@pytest.mark.parametrize("case", cases("actionTests"))
def test_a_click_makes_one_decision(case: dict[str, Any]) -> None:
    """It names the version that was seen as active, the account of Argo CD, and the Workflow as its owner."""
    obj = lua.read(FOLDER / case["inputPath"])
    ((want),) = lua.read(FOLDER / case["expectedOutputPath"])
    assert made(case["action"], obj, parameters=case.get("parameters"), frozen_s=CLICKED_S) == want["unstructuredObj"]


@pytest.mark.parametrize("case", cases("actionTests"))
def test_what_a_click_makes_is_taken_by_the_operator(case: dict[str, Any]) -> None:
    """No decision from Argo CD breaks a rule of the kind, however long the Workflow's name is."""
    resource = made(case["action"], lua.read(FOLDER / case["inputPath"]))
    stored = {"uid": "uid-1", "resourceVersion": "1", "creationTimestamp": "2026-03-01T12:00:00Z", "generation": 1}
    found = objects.parse("WorkflowDecision", {**resource, "metadata": {**resource["metadata"], **stored}}, decision)
    assert not isinstance(found.spec, Invalid), found.spec
    assert found.spec.action.lower() == case["action"]
    assert len(found.key.name) <= 253


def test_every_action_is_tried() -> None:
    """No button leads to a script that nobody ran, and none is there that no Workflow shows."""
    assert sorted({case["action"] for case in TABLE["actionTests"]}) == ACTIONS
    assert sorted({each["name"] for case in TABLE["discoveryTests"] for each in case["result"]}) == ACTIONS


def test_nobody_approves_by_a_click_unless_the_chart_lets_argo_cd() -> None:
    """Whoever may click would be who may approve: that has to be said, by `argocd.approvals`."""
    awaiting = lua.read(FOLDER / "testdata" / "awaiting-approval.yaml")
    script = lua.of("Workflow", "actions", "discovery.lua")
    assert {"approve", "deny"} <= set(lua.discover(script, awaiting))
    without = lua.discover(script.replace("local approvals = true", "local approvals = false"), awaiting)
    assert not {"approve", "deny"} & set(without)


def test_two_clicks_are_two_requests_unless_they_are_one() -> None:
    """A request id is never used twice, but for a double click: that one is the same request and the same name."""
    obj = lua.read(FOLDER / "testdata" / "second-version.yaml")
    later = {**obj, "metadata": {**obj["metadata"], "resourceVersion": "4712"}}
    first, double = (made("rollback", obj, frozen_s=CLICKED_S) for _ in range(2))
    assert first == double
    ids = {first["spec"]["requestId"]}
    ids.add(made("rollback", obj, frozen_s=CLICKED_S + 1)["spec"]["requestId"])
    ids.add(made("rollback", later, frozen_s=CLICKED_S)["spec"]["requestId"])
    assert len(ids) == 3


def test_an_older_argo_cd_can_run_them_too() -> None:
    """Where Argo CD knows no parameters, the reason is the one that the script has."""
    script = "actionParams = nil\n" + lua.of("Workflow", "actions", "rollback", "action.lua")
    (impact,) = lua.act(script, lua.read(FOLDER / "testdata" / "second-version.yaml"))
    assert impact["resource"]["spec"]["reason"] == "Rolled back in Argo CD"
