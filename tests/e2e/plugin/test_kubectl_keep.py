"""`kubectl keep` as users have it: called by a real kubectl, against a real API server."""

import json
import subprocess
import threading
from collections.abc import Iterator

import pytest
import yaml

from component.plugin.conftest import HASHES, VERSIONS, workflow
from e2e.cluster import Json, Kube, eventually
from e2e.keep import Keep
from keep_operator.resources.kinds import GROUP, WORKFLOW_DECISIONS, WORKFLOW_REVISIONS, WORKFLOWS, Resource

pytestmark = pytest.mark.e2e


def _put(kube: Kube, resource: Resource, namespace: str, manifest: Json) -> None:
    """An object with its status, which only the operator writes."""
    thing = {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}}
    status = thing.pop("status")
    code, answer = kube.send("POST", resource.path(namespace), thing)
    assert code == 201, answer
    for condition in status["conditions"]:
        condition["lastTransitionTime"] = "2026-11-25T04:00:00Z"
    path = resource.path(namespace, manifest["metadata"]["name"], "status")
    code, answer = kube.patch(path, {"status": status})
    assert code == 200, answer["message"]


@pytest.fixture
def story(kube: Kube, namespace: str) -> Iterator[None]:
    """Three versions, of which the second was rolled back to; written as the operator writes them."""
    flow = workflow()
    pointer = {n: {"name": each["metadata"]["name"], "contentHash": HASHES[n]} for n, each in VERSIONS.items()}
    for name in ("activeRevision", "desiredRevision"):
        flow["status"][name] |= pointer[flow["status"][name]["number"]]
    _put(kube, WORKFLOWS, namespace, flow)
    for number, each in VERSIONS.items():
        labels = {f"{GROUP}/workflow": "high-cpu", f"{GROUP}/revision": str(number)}
        copy = json.loads(json.dumps(each))
        copy["metadata"] = {"name": each["metadata"]["name"], "labels": labels}
        _put(kube, WORKFLOW_REVISIONS, namespace, copy)
    yield
    for resource in (WORKFLOW_DECISIONS, WORKFLOW_REVISIONS, WORKFLOWS):
        kube.send("DELETE", resource.path(namespace))


@pytest.mark.usefixtures("story")
def test_what_runs_is_told_by_kubectl_keep(keep: Keep) -> None:
    """kubectl finds the plugin, and objects tell the whole story without the operator's database."""
    told = json.loads(keep("history", "high-cpu", "-o", "json").out)
    assert (told["activeRevision"], told["desiredRevision"]) == (2, 3)
    assert [each["number"] for each in told["revisions"]] == [3, 2, 1]
    assert yaml.safe_load(keep("show", "high-cpu").out)["consts"] == {"limit": 20}
    different = keep("diff", "high-cpu", "previous")
    assert different.code == 1
    assert "limit: 10 -> 20" in different.out
    assert keep("diff", "high-cpu", "latest", "desired").code == 0
    assert keep("history", "nobody").code == 4


@pytest.mark.usefixtures("story")
def test_a_decision_is_made_under_the_users_name_and_waited_for(kube: Kube, keep: Keep, namespace: str) -> None:
    """It is stored as the user's own, and the verdict that the operator writes is told the moment it is there."""

    def handle() -> None:
        (found,) = eventually(lambda: kube.objects(WORKFLOW_DECISIONS, namespace), bool, "a decision")
        condition = {
            "type": "Handled",
            "status": "True",
            "reason": "Done",
            "message": "v1 is active",
            "lastTransitionTime": "2026-11-25T05:00:00Z",
        }
        path = WORKFLOW_DECISIONS.path(namespace, found.raw["metadata"]["name"], "status")
        code, answer = kube.patch(path, {"status": {"conditions": [condition], "from": 2, "to": 1}})
        assert code == 200, answer["message"]

    operator = threading.Thread(target=handle)
    operator.start()
    words = ("rollback", "high-cpu", "--reason", "incident 4711", "--request-id", "a")
    done = keep(*words)
    operator.join()
    assert (done.code, done.out) == (0, "Done: v1 is active (v2 -> v1)\n"), done.err
    (stored,) = kube.objects(WORKFLOW_DECISIONS, namespace)
    known = kube.kubectl("config", "view", "--minify", "-o", "jsonpath={.users[0].name}")
    assert stored.raw["spec"]["actor"]
    assert stored.raw["spec"]["expect"] == {"activeRevision": 2}, known
    assert keep(*words).out == done.out
    assert len(kube.objects(WORKFLOW_DECISIONS, namespace)) == 1


@pytest.mark.usefixtures("story")
def test_who_may_not_is_told_so_by_the_server(kube: Kube, keep: Keep, namespace: str) -> None:
    """With --as the decision is another user's, whose rights count: who may only look cannot roll back."""
    rule = {"apiGroups": [GROUP], "resources": [WORKFLOWS.plural, WORKFLOW_REVISIONS.plural], "verbs": ["get", "list"]}
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    kube.send("POST", f"{rbac}/roles", {"metadata": {"name": "look"}, "rules": [rule]})
    binding = {
        "metadata": {"name": "look"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "look"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "eve"}],
    }
    kube.send("POST", f"{rbac}/rolebindings", binding)
    eventually(lambda: keep("history", "high-cpu", "--as=eve"), lambda done: done.code == 0, "the right to look")
    refused = keep("rollback", "high-cpu", "--reason", "x", "--as=eve")
    assert refused.code == 6
    assert 'User "eve" cannot create resource "workflowdecisions"' in refused.err
    doctor = keep("doctor", "--as=eve", "--api-url=http://127.0.0.1:1", "--api-token=x")
    assert doctor.code == 1
    assert "FAIL  rights    you may not create workflowdecisions.keep-operator.dev" in doctor.out


@pytest.mark.usefixtures("story")
def test_a_pin_is_written_over_another(kube: Kube, keep: Keep, namespace: str) -> None:
    """One way of pinning takes the place of another, which the API server would refuse to have together."""
    path = WORKFLOWS.path(namespace, "high-cpu")
    for reference, pin in (("v1", {"contentHash": HASHES[1]}), ("production", {"tag": "production"})):
        done = keep("pin", "high-cpu", reference, "--write")
        assert done.code == 0, done.err
        assert kube.send("GET", path)[1]["spec"]["release"]["pin"] == pin
    assert keep("pin", "high-cpu", "--remove", "--write").code == 0
    assert "pin" not in kube.send("GET", path)[1]["spec"]["release"]


def test_an_import_is_applied_and_exported_again(kube: Kube, keep: Keep, namespace: str) -> None:
    """Keep's file goes into the cluster and comes back with the same meaning, credentials of providers included."""
    files = "my-slack:\n  type: slack\n  authentication: {webhook_url: https://hooks.example.com/secret}\n"
    imported = keep("import", "-", stdin=files)
    assert imported.code == 0, imported.err
    kube.kubectl("apply", "-f", "-", stdin=imported.out)
    exported = keep("export", "provider/my-slack")
    assert yaml.safe_load(exported.out) == {
        "name": "my-slack",
        "type": "slack",
        "authentication": {"webhook_url": "https://hooks.example.com/secret"},
    }
    kube.kubectl("-n", namespace, "delete", "kprov", "my-slack", "--wait=false")


def test_kubectl_offers_what_comes_next(kube: Kube, namespace: str, keep: Keep) -> None:
    """kubectl's own completion asks ours."""
    done = subprocess.run(["kubectl", "__complete", "keep", "rol"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0].startswith("rollback")
