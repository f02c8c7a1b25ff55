"""The operator with the rights that the chart gives to its account, and no others."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from charts import Helm, Json, helm
from e2e.chart.accounts import kubeconfig_of, operators
from e2e.chart.conftest import install
from e2e.cluster import Database, Kube, credential, provider, secret, tenant
from keep_operator.resources.kinds import SECRETS, WORKFLOW_REVISIONS
from keep_operator.sandbox import tools
from manifests import config_map, decision, definition, workflow

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("namespaced", [False, True], ids=["all namespaces", "one namespace"])
def test_the_account_can_do_its_work(
    bare: Kube, database: Database, namespace: str, namespaced: bool, tmp_path: Path
) -> None:
    """Provider with a Secret, Workflow with a ConfigMap, rollback, deletion: nothing is forbidden, and doctor agrees."""
    values: Json = {"watchNamespaces": [namespace]} if namespaced else {}
    install(Helm(helm(tools.CURRENT).program, bare.kubeconfig), values=values)
    team = tenant("team")
    vm = provider("vm", namespace, "team", secrets=[credential("BasicAuthPassword", "password", "password")])
    hello = workflow("hello", namespace, "team", definition("one"))
    back = decision("Rollback", hello)
    with operators(bare, database, tmp_path) as start:
        operator = start()
        bare.create(secret("password", namespace, password="one"), config_map("text", namespace, workflow="{}"))
        bare.create(team, vm, hello)
        bare.await_ready(team, vm, hello)
        bare.edit(hello, definition=definition("two"))
        bare.await_state(hello, lambda thing: thing.status["activeRevision"]["number"] == 2, "version 2")
        bare.create(back)
        bare.await_condition(back, "Handled", ("True", "Done"))
        assert len(bare.objects(WORKFLOW_REVISIONS, namespace)) == 2
        told = _doctor(bare, database, tmp_path, {"KEEP_OPERATOR_WATCH_NAMESPACES": namespace} if namespaced else {})
        assert "that the operator uses are granted" in told
        for thing in (hello, vm, team):
            bare.delete(thing)
            bare.await_gone(thing)
        assert [line for line in operator.told() if "orbidden" in str(line)] == []
    elsewhere = (
        "auth",
        "can-i",
        "--as=system:serviceaccount:keep-operator:keep-operator",
        "list",
        SECRETS.plural,
        "-ndefault",
    )
    assert bare.kubectl(*elsewhere, check=False).strip().endswith("no" if namespaced else "yes")


def _doctor(kube: Kube, database: Database, folder: Path, more: dict[str, str]) -> str:
    given = {key: value for key, value in os.environ.items() if not key.startswith("KEEP_OPERATOR_")}
    given |= {
        "KUBECONFIG": str(kubeconfig_of(kube, "keep-operator", folder / "doctor")),
        "KEEP_OPERATOR_DATABASE_URL": database.url,
        "KEEP_OPERATOR_ENCRYPTION_KEY": "k" * 43,
        **more,
    }
    done = subprocess.run(
        [sys.executable, "-m", "keep_operator", "doctor"], env=given, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr
