"""The guide for Argo CD and Flux, as a reader types it."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from charts import helm, of_kind
from contract.docs import pages
from e2e.cluster import Json, Kube
from e2e.conftest import Operate
from gitops import lua
from manifests import as_yaml, definition, tenant, workflow

pytestmark = pytest.mark.e2e
GUIDE: Final = pages.read(pages.ROOT / "docs" / "gitops.md")
ACCOUNT: Final = "system:serviceaccount:argocd:argocd-server"


def commands(word: str) -> str:
    """The block of commands that has this word."""
    (found,) = [block.text for block in GUIDE.blocks if block.language == "sh" and word in block.text]
    return found


def typed(kube: Kube, folder: Path, text: str) -> str:
    """What a shell prints for it; every command must succeed."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=folder,
        env={**os.environ, "PATH": f"{kube.tools}:{os.environ['PATH']}", "KUBECONFIG": str(kube.kubeconfig)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture
def argocd(kube: Kube) -> Iterator[Kube]:
    """A cluster with a ConfigMap as Argo CD has it, and with what the chart adds for Argo CD."""
    for name in ("argocd", "keep-operator"):
        kube.send("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    mine = {"url": "https://argocd.example.com", "resource.customizations.health.example.com_Thing": "return {}"}
    existing = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "argocd-cm", "namespace": "argocd"}}
    rendered = helm().render({"argocd": {"enabled": True}})
    added = [
        *of_kind(rendered, "ConfigMap", "keep-operator-argocd"),
        *of_kind(rendered, "ClusterRole", "keep-operator-argocd"),
        *of_kind(rendered, "ClusterRoleBinding", "keep-operator-argocd"),
    ]
    assert len(added) == 3
    text = as_yaml(existing | {"data": mine}, *added)
    kube.kubectl("apply", "--validate=false", "-f", "-", stdin=text)
    yield kube
    kube.kubectl("delete", "--wait=false", "-f", "-", stdin=text)


def test_the_scripts_get_into_argo_cds_own_configmap(argocd: Kube, tmp_path: Path) -> None:
    """The commands of the guide add our keys and leave the others; twice is as good as once."""
    for _ in range(2):
        typed(argocd, tmp_path, commands("argocd-cm"))
    _, found = argocd.send("GET", "/api/v1/namespaces/argocd/configmaps/argocd-cm")
    data: dict[str, str] = found["data"]
    assert data["url"] == "https://argocd.example.com"
    assert "resource.customizations.health.example.com_Thing" in data
    obj = lua.read(lua.SCRIPTS / "Workflow" / "testdata" / "deployed-rolled-back.yaml")
    shown = lua.health(data["resource.customizations.health.keep-operator.dev_Workflow"], obj)
    assert shown["status"] == "Suspended"
    actions: Any = yaml.safe_load(data["resource.customizations.actions.keep-operator.dev_Workflow"])
    assert "rollback" in lua.discover(actions["discovery.lua"], obj)


def test_argo_cds_account_may_decide_and_nothing_else(argocd: Kube, operate: Operate, namespace: str) -> None:
    """With the role of the chart the account creates the decision that the action makes; it may change no Workflow by it."""
    operate()
    hello = workflow("hello", namespace, "team", definition("one"))
    argocd.create(tenant("team"), hello)
    argocd.await_ready(hello)
    argocd.edit(hello, definition=definition("two"))
    live = argocd.await_state(hello, lambda it: (it.status.get("activeRevision") or {}).get("number") == 2, "version 2")
    (impact,) = lua.act(lua.of("Workflow", "actions", "rollback", "action.lua"), live.raw)
    made: Json = impact["resource"]
    argocd.kubectl(f"--as={ACCOUNT}", "create", "--validate=false", "-f", "-", stdin=as_yaml(made))
    argocd.await_condition(made, "Handled", ("True", "Done"))
    refused = argocd.kubectl(
        f"--as={ACCOUNT}", "auth", "can-i", "patch", "workflows.keep-operator.dev", "-A", check=False
    )
    assert refused.strip().endswith("no")


def test_what_flux_users_look_at(kube: Kube, operate: Operate, tmp_path: Path) -> None:
    """The example of a team becomes Ready, and the commands of the guide say so."""
    kube.send("POST", "/api/v1/namespaces", {"metadata": {"name": "monitoring"}})
    operate()
    example = (pages.ROOT / "docs" / "examples" / "team.yaml").read_text(encoding="utf-8")
    kube.kubectl("apply", "--validate=false", "-f", "-", stdin=example)
    told = typed(kube, tmp_path, commands("kubectl get tenants"))
    assert "condition met" in told
    for name in ("monitoring", "victoriametrics", "high-cpu"):
        assert name in told
    parts = {each["kind"]: each for each in yaml.safe_load_all(example)}
    kube.delete(parts["Tenant"])
    kube.await_condition(parts["Tenant"], "Deleting", ("True", "DependentsExist"))
    typed(kube, tmp_path, commands("confirm-deletion"))
    kube.await_gone(*parts.values())
