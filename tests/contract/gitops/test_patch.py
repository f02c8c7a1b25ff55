"""The patch for Argo CD's ConfigMap: the scripts that were tested, as the chart hands them out."""

from typing import Any, Final

import pytest
import yaml

from charts import Json, helm, of_kind
from gitops import lua
from keep_operator.resources.kinds import GROUP, OURS

pytestmark = pytest.mark.contract

ACCOUNT: Final = "system:serviceaccount:argocd:argocd-server"
HEALTH: Final = "resource.customizations.health."
ACTIONS: Final = f"resource.customizations.actions.{GROUP}_Workflow"


def patch(**values: object) -> dict[str, str]:
    """What would be merged into `argocd-cm`."""
    (found,) = of_kind(helm().render({"argocd": {"enabled": True, **values}}), "ConfigMap")
    document: Json = yaml.safe_load(found["data"]["argocd-cm.yaml"])
    assert document.keys() == {"data"}
    data: dict[str, str] = document["data"]
    return data


def actions(data: dict[str, str]) -> dict[str, str]:
    """The scripts of the actions by name, as Argo CD reads them."""
    found: Any = yaml.safe_load(data[ACTIONS])
    assert found.keys() == {"discovery.lua", "definitions"}
    approving = found["discovery.lua"].replace("local approvals = false", "local approvals = true")
    assert same(approving, lua.of("Workflow", "actions", "discovery.lua"))
    return {each["name"]: each["action.lua"] for each in found["definitions"]}


def same(one: str, other: str) -> bool:
    """But for space at the ends of lines."""
    return [line.rstrip() for line in one.strip().splitlines()] == [
        line.rstrip() for line in other.strip().splitlines()
    ]


def test_nothing_is_there_unless_asked_for() -> None:
    """Who does not use Argo CD has no ConfigMap for it."""
    assert of_kind(helm().render({}), "ConfigMap") == []


def test_the_scripts_are_those_that_were_tested() -> None:
    """Of every kind, and no library is asked for."""
    data = patch()
    assert data.keys() == {*(f"{HEALTH}{GROUP}_{resource.kind}" for resource in OURS), ACTIONS}
    for resource in OURS:
        assert same(data[f"{HEALTH}{GROUP}_{resource.kind}"], lua.of(resource.kind, "health.lua"))
    found = actions(data)
    assert sorted(found) == sorted(
        path.parent.name for path in (lua.SCRIPTS / "Workflow" / "actions").glob("*/action.lua")
    )
    for name, script in found.items():
        assert same(script, lua.of("Workflow", "actions", name, "action.lua"))


def test_relaxed_scripts_wait_for_nobody() -> None:
    """What waits for a person is Healthy with the value, Suspended without."""
    obj = lua.read(lua.SCRIPTS / "Workflow" / "testdata" / "deployed-awaiting-deploy.yaml")
    for relaxed, expected in ((False, "Suspended"), (True, "Healthy")):
        script = patch(relaxed=relaxed)[f"{HEALTH}{GROUP}_Workflow"]
        assert lua.health(script, obj)["status"] == expected


def test_what_waits_for_approval_is_approved_by_a_click_where_that_is_wanted() -> None:
    """Without `argocd.approvals` there is no such button."""
    obj = lua.read(lua.SCRIPTS / "Workflow" / "actions" / "testdata" / "awaiting-approval.yaml")
    for approvals in (True, False):
        script = yaml.safe_load(patch(approvals=approvals)[ACTIONS])["discovery.lua"]
        assert ("approve" in lua.discover(script, obj)) is approvals


def test_decisions_are_made_as_the_account_that_is_given() -> None:
    """The API server refuses a decision whose actor is somebody else than who creates it."""
    account = "system:serviceaccount:gitops:argo-cd-server"
    obj = lua.read(lua.SCRIPTS / "Workflow" / "actions" / "testdata" / "second-version.yaml")
    found = actions(patch(serviceAccount=account))
    for script in found.values():
        assert ACCOUNT not in script
    (impact,) = lua.act(found["rollback"], obj)
    assert impact["resource"]["spec"]["actor"] == account


def test_the_account_may_do_what_can_be_clicked_and_no_more() -> None:
    """Argo CD's own role creates no decisions; whoever gives roles otherwise gets none."""
    name = "keep-operator-argocd"
    clicks = {("workflows", verb) for verb in actions(patch())}
    approving = {("workflows", "approve"), ("workflows", "deny")}
    for approvals, more in ((True, clicks), (False, clicks - approving)):
        values: Json = {"argocd": {"enabled": True, "serviceAccount": "someone", "approvals": approvals}}
        objects = helm().render(values)
        (role,), (binding,) = (of_kind(objects, kind, name) for kind in ("ClusterRole", "ClusterRoleBinding"))
        told = {(*rule["resources"], verb) for rule in role["rules"] for verb in rule["verbs"]}
        assert told == {("workflowdecisions", "create"), ("workflows", "onbehalfof"), *more}
    assert [subject["name"] for subject in binding["subjects"]] == ["someone"]
    without = helm().render({**values, "rbac": {"create": False}})
    assert of_kind(without, "ClusterRole", name) == of_kind(without, "ClusterRoleBinding", name) == []


def test_samples_are_not_shipped() -> None:
    """A release stays far below what a Secret of Helm may hold."""
    ignored = (lua.SCRIPTS.parent / ".helmignore").read_text(encoding="utf-8").splitlines()
    assert {"testdata/", "*_test.yaml"} <= set(ignored)
