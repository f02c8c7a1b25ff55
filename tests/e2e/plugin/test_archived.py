"""What objects no longer tell: `kubectl keep` asks the read API of a real console, with a token of the cluster."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from e2e import accounts
from e2e.cluster import Database, Kube, eventually
from e2e.keep import Keep
from e2e.operators import Operator
from keep_operator.resources.kinds import WORKFLOW_REVISIONS
from keep_operator.sandbox.instance import Sandbox
from manifests import definition, workflow

pytestmark = pytest.mark.e2e


@pytest.fixture
def console(team: str, sandbox: Sandbox, database: Database, tmp_path: Path) -> Iterator[str]:
    """The address of a console beside the operator."""
    environment = {
        "KUBECONFIG": str(sandbox.kubeconfig("console")),
        "KEEP_OPERATOR_DATABASE_URL": database.url,
        "KEEP_OPERATOR_CONSOLE_PORT": "0",
    }
    process = Operator(environment, tmp_path / "console.log", command="console").await_ready()
    (serving,) = process.told("serving the API")
    yield f"http://127.0.0.1:{serving['port']}"
    process.stop()


def _token(kube: Kube, namespace: str) -> str:
    """The token of an account that may read everything of ours."""
    account = {"metadata": {"name": "reader"}}
    kube.send("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", account)
    rule = {"apiGroups": ["keep-operator.dev"], "resources": ["*"], "verbs": ["get", "list"]}
    bound = {
        **account,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "namespace": namespace, "name": "reader"}],
    }
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    kube.send("POST", f"{rbac}/roles", {**account, "rules": [rule]})
    kube.send("POST", f"{rbac}/rolebindings", bound)
    return accounts.token(kube, namespace, "reader")


def test_an_archived_version_is_not_out_of_the_world(
    kube: Kube, keep: Keep, namespace: str, team: str, console: str
) -> None:
    """Its object is gone by retention; what it did, what changed since, and who did what is still told."""
    at_once = {"sinceCreate": "1s", "sinceLastActive": "1s"}
    flow = workflow("high-cpu", namespace, team, definition("one"), revisionHistoryLimit=0, retention=at_once)
    kube.create(flow)
    kube.await_state(flow, lambda thing: thing.status.get("activeRevision"), "v1 active")
    kube.edit(flow, definition=definition("two"))
    eventually(
        lambda: [each.raw["spec"]["number"] for each in kube.objects(WORKFLOW_REVISIONS, namespace)],
        lambda numbers: numbers == [2],
        "v1 archived",
    )
    api = ("--api-url", console, "--api-token", _token(kube, namespace))

    assert yaml.safe_load(keep("show", "high-cpu", "v1", *api).out)["actions"] == definition("one")["actions"]
    changed = keep("diff", "high-cpu", "previous", *api)
    assert (changed.code, '"one" -> "two"' in changed.out) == (1, True), changed
    told = json.loads(keep("history", "high-cpu", "--all", "-o", "json", *api).out)
    assert [(each["number"], each["archived"]) for each in told["revisions"]] == [(2, False), (1, True)]
    deeds = json.loads(keep("ledger", "high-cpu", "-o", "json", *api).out)
    assert [each["action"] for each in deeds][:2] == ["Archived", "Deployed"]
    assert "v2       stays  active" in keep("retention", "high-cpu", "--dry-run", *api).out
    assert "where you are system:serviceaccount:" in keep("doctor", *api).out

    stranger = keep("ledger", "high-cpu", "--api-url", console, "--api-token", "nobody's")
    assert (stranger.code, "does not take your token" in stranger.err) == (6, True), stranger
    kube.delete(flow)
