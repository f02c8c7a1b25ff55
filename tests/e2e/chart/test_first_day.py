"""The chart's own pods on a node of the test's: their commands, accounts, rights, Secrets, probes and user."""

import base64
import json
import secrets
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from charts import CHART, NAMESPACE, RELEASE, Helm, helm
from e2e import accounts
from e2e.chart.conftest import install
from e2e.cluster import Database, Json, Kube, credential, eventually, provider, secret, tenant
from e2e.keep import Keep
from e2e.node.node import Node
from e2e.node.running import Running
from keep_operator.resources.kinds import LEASES, NAMESPACES, OURS, WORKFLOW_REVISIONS
from keep_operator.sandbox.instance import Sandbox
from manifests import definition, run, workflow

pytestmark = pytest.mark.e2e

CONSOLE = f"{RELEASE}-console"
RUNNER = f"{RELEASE}-runner"
SECRETS = f"{RELEASE}-database", f"{RELEASE}-encryption-key"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
LEASE = LEASES.path(NAMESPACE, "keep-operator")


@pytest.fixture
def node(bare: Kube, sandbox: Sandbox, database: Database, tmp_path: Path) -> Iterator[Node]:
    """A node from which the database can be reached, in a cluster without the Secrets of the release."""
    if not any((part.name, part.state) == ("kube-controller-manager", "running") for part in sandbox.status()):
        pytest.skip("needs a control plane without nodes: on kind a real kubelet runs the pods (test_pods.py)")
    for name in SECRETS:
        bare.send("DELETE", f"/api/v1/namespaces/{NAMESPACE}/secrets/{name}")
    parts = urlsplit(database.url)
    with Node(bare, tmp_path / "node", [(str(parts.hostname), int(parts.port or 5432))]) as node:
        yield node


def give_secrets(kube: Kube, database: Database) -> None:
    """What the guide has made before the installation."""
    key = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    for name, value in zip(SECRETS, ({"url": database.url}, {"key": key}), strict=True):
        status, answer = kube.send("POST", f"/api/v1/namespaces/{NAMESPACE}/secrets", secret(name, NAMESPACE, **value))
        assert status == 201, answer


def leader(kube: Kube, node: Node) -> Running:
    """The pod that leads, by the Lease."""

    def found() -> list[Running]:
        holder = kube.send("GET", LEASE)[1].get("spec", {}).get("holderIdentity", "")
        return [running for running in node.of(RELEASE) if holder.startswith(running.pod.name)]

    (leading,) = eventually(found, lambda pods: len(pods) == 1, "a leader")
    return leading


def waiting(kube: Kube) -> set[tuple[str, str]]:
    """What the pods wait for, as `kubectl describe` shows it."""
    pods = kube.send("GET", PODS)[1]["items"]
    states = [each["state"] for pod in pods for each in pod["status"].get("containerStatuses", ())]
    return {(state["waiting"]["reason"], state["waiting"]["message"]) for state in states if "waiting" in state}


def installed(kube: Kube, node: Node, database: Database, values: Json | None = None) -> Helm:
    """The Helm that has installed the chart as the guide has it; its pods are ready."""
    installer = Helm(helm().program, kube.kubeconfig)
    kube.send("POST", NAMESPACES.path(), {"metadata": {"name": NAMESPACE}})
    give_secrets(kube, database)
    install(installer, values=values)
    node.await_rollout(NAMESPACE, RELEASE, CONSOLE)
    return installer


def active(kube: Kube, flow: Json, number: int) -> None:
    """Returns once this version is active and all is well."""
    kube.await_state(
        flow, lambda thing: thing.status.get("activeRevision", {}).get("number") == number and thing.ready, f"v{number}"
    )


def test_the_first_day(bare: Kube, node: Node, database: Database, keep: Keep, namespace: str) -> None:
    """Installed before its Secrets are there, a workflow, a bad edit taken back, the leader killed, and the past is read."""
    install(Helm(helm().program, bare.kubeconfig), values={"leaseSeconds": 6})
    missing = ("CreateContainerConfigError", f'secret "{SECRETS[0]}" not found')
    eventually(lambda: waiting(bare), lambda seen: seen == {missing}, "the missing Secret by name")
    give_secrets(bare, database)
    node.await_rollout(NAMESPACE, RELEASE, CONSOLE)
    first = leader(bare, node)
    code, told = node.run_beside(first, "keep-operator", "doctor")
    assert code == 0, told

    bare.send("POST", f"/api/v1/namespaces/{namespace}/secrets", secret("password", namespace, password="planted-one"))
    credentials = [credential("BasicAuthPassword", "password", "password")]
    vm = provider("vm", namespace, "team", secrets=credentials, pullingEnabled=False)
    flow = workflow("high-cpu", namespace, "team", definition("one"))
    bare.create(vm, flow, tenant("team"))
    bare.await_ready(tenant("team"), vm, flow)
    bare.edit(flow, definition=definition("two"))
    active(bare, flow, 2)
    back = keep("rollback", "high-cpu", "-m", "incident 4711")
    assert (back.code, back.out.endswith("(v2 -> v1)\n")) == (0, True), back

    first.kill()
    eventually(lambda: leader(bare, node), lambda now: now is not first, "the other one leads")
    bare.edit(flow, definition=definition("three"))
    active(bare, flow, 3)
    node.await_rollout(NAMESPACE, RELEASE)
    assert first.restarts == 1

    bare.send("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "ann"}})
    ann = f"--serviceaccount={namespace}:ann"
    bare.kubectl("create", "rolebinding", "ann", "--clusterrole=view", ann, f"-n{namespace}")
    shown = ("--output=json", f"--api-token={accounts.token(bare, namespace, 'ann')}")
    for console in node.of(CONSOLE):
        asked = (*shown, f"--api-url=http://127.0.0.1:{console.port('http')}")
        told = eventually(partial(keep, "ledger", "high-cpu", *asked), lambda done: done.code == 0, "rights").out
        deployed = [each for each in json.loads(told) if each["action"] == "Deployed"]
        assert len(deployed) == 4, "v1, v2, v1 again, v3"
    for running in node.pods.values():
        assert "Traceback" not in running.log, running.log[-5000:]
        assert "planted-one" not in running.log


def test_new_pods_in_place_of_old_ones(bare: Kube, node: Node, database: Database, namespace: str) -> None:
    """An upgrade replaces pod by pod and makes no version; with the release its pods end in peace, and nothing else."""
    installer = installed(bare, node, database)
    flow = workflow("high-cpu", namespace, "team", definition("one"))
    bare.create(tenant("team"), flow)
    bare.await_ready(tenant("team"), flow)
    before = {thing.uid for thing in bare.objects(WORKFLOW_REVISIONS)}
    old = node.of(RELEASE)
    where = f"--namespace={NAMESPACE}"
    installer.do("upgrade", RELEASE, str(CHART), where, "--reuse-values", "--set=resyncPeriod=11m")
    node.await_rollout(NAMESPACE, RELEASE, CONSOLE)
    eventually(lambda: [each for each in old if each in node.of(RELEASE)], lambda left: not left, "end of the old pods")
    assert leader(bare, node) not in old
    bare.edit(flow, definition=definition("two"))
    active(bare, flow, 2)
    assert len({thing.uid for thing in bare.objects(WORKFLOW_REVISIONS)} - before) == 1

    installer.do("uninstall", RELEASE, where)
    eventually(lambda: bare.send("GET", PODS)[1]["items"], lambda left: not left, "the end of the pods")
    assert bare.get(flow).ready
    for running in node.pods.values():
        assert running.container is not None, running.pod.name
        assert running.container.process.returncode == 0, running.log[-5000:]
        assert "Traceback" not in running.log, running.log[-5000:]


def test_the_purge_takes_everything_along(bare: Kube, node: Node, database: Database, namespace: str) -> None:
    """Who has asked for it has nothing left after `helm uninstall`: no object, no record of a Provider, nothing that hangs."""
    installer = installed(bare, node, database, {"uninstall": {"purge": True}})
    things = tenant("team"), provider("vm", namespace, "team"), workflow("high-cpu", namespace, "team")
    bare.create(*things)
    bare.await_ready(*things)
    installer.do("uninstall", RELEASE, f"--namespace={NAMESPACE}")
    (purge,) = (running for running in node.pods.values() if running.pod.account == f"{RELEASE}-purge")
    assert "No object of keep-operator.dev is left" in purge.log, purge.log
    assert [thing.raw["metadata"]["name"] for resource in OURS for thing in bare.objects(resource)] == []
    assert database.providers() == []
    eventually(lambda: bare.send("GET", PODS)[1]["items"], lambda left: not left, "the end of the pods")


def test_runners_of_the_chart_execute_what_is_asked_for(
    bare: Kube, node: Node, database: Database, namespace: str
) -> None:
    """With no token, no right and no way to the API server; a killed pod comes back, and with the release they end in peace."""
    values: Json = {"runner": {"autoscaling": {"enabled": False}, "heartbeatSeconds": 1, "stalledSeconds": 3}}
    installer = installed(bare, node, database, values)
    node.await_rollout(NAMESPACE, RUNNER)
    one, other = node.of(RUNNER)
    code, told = node.run_beside(one, "ls", "/var/run/secrets/kubernetes.io")
    assert code != 0, told

    flow = workflow("hello", namespace, "team", definition("from a pod"))
    bare.create(tenant("team"), flow)
    bare.await_ready(tenant("team"), flow)
    other.kill()
    for name in ("run-1", "run-2"):
        asked = run(flow, name)
        bare.create(asked)
        bare.await_state(asked, lambda thing: thing.condition("Succeeded") == ("True", "Completed"), "its end")
    node.await_rollout(NAMESPACE, RUNNER)
    assert other.restarts == 1
    workers = {row["worker"].partition("/")[0] for row in database.rows("SELECT worker FROM keep_operator.run")}
    assert workers <= {f"keep-operator runner {each.pod.name}" for each in (one, other)}

    installer.do("uninstall", RELEASE, f"--namespace={NAMESPACE}")
    eventually(lambda: bare.send("GET", PODS)[1]["items"], lambda left: not left, "the end of the pods")
    for each in (one, other):
        assert each.container is not None
        assert each.container.process.returncode == 0, each.log[-5000:]
        assert "Traceback" not in each.log, each.log[-5000:]
