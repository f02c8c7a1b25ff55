"""Everything of ours leaves a real cluster by one command, in the order that its guards ask for (A-GO-7)."""

import os
import subprocess
import sys

import pytest

from e2e.cluster import Database, Kube, eventually, provider, tenant
from e2e.conftest import Operate
from keep_operator.resources.kinds import OURS
from keep_operator.sandbox.instance import Sandbox
from manifests import decision, querying, workflow

pytestmark = pytest.mark.e2e
OWNED = "SELECT external_name FROM keep_operator.{} WHERE owner_uid IS NOT NULL"


def _uninstall(sandbox: Sandbox, *options: str, role: str = "admin") -> tuple[int, str]:
    """Exit code and output of `keep-operator uninstall`; it needs no database."""
    kubeconfig = sandbox.kubeconfig() if role == "admin" else sandbox.kubeconfig("operator")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("KEEP_OPERATOR_")}
    done = subprocess.run(
        [sys.executable, "-m", "keep_operator", "uninstall", *options],
        env={**environment, "KUBECONFIG": str(kubeconfig)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def _full(kube: Kube, namespace: str) -> None:
    """Two Tenants, a Provider, a Workflow with a version that uses it, and a decision."""
    vm, asking = provider("vm", namespace, "team"), workflow("high-cpu", namespace, "team", querying("vm"))
    kube.create(tenant("team"), tenant("other"), vm, asking)
    kube.await_ready(tenant("other"), vm, asking)
    kube.create(decision("Note", asking))
    kube.await_condition(decision("Note", asking), "Handled", ("True", "Done"))


def _left(kube: Kube) -> list[str]:
    return [f"{each.raw['kind']} {each.raw['metadata']['name']}" for kind in OURS for each in kube.objects(kind)]


def test_everything_goes_and_nothing_hangs(
    operate: Operate, sandbox: Sandbox, kube: Kube, namespace: str, database: Database
) -> None:
    """A dry run first, then all of it: Tenants last, the default one too, records by policy; and it may be said again."""
    operate()
    _full(kube, namespace)
    before = sorted(_left(kube))
    code, told = _uninstall(sandbox, role="operator")
    assert (code, "you may not delete tenants" in told) == (1, True), told
    code, told = _uninstall(sandbox)
    assert (code, "Nothing was done: say --yes" in told) == (0, True), told
    assert sorted(_left(kube)) == before
    code, told = _uninstall(sandbox, "--yes")
    assert (code, "Uninstall the release now" in told) == (0, True), told
    assert _left(kube) == []
    assert database.providers() == []
    assert database.rows(OWNED.format("workflow") + " AND deleted_at IS NULL") == []
    assert _uninstall(sandbox, "--yes")[0] == 0


def test_without_an_operator_the_objects_go_and_the_records_stay(
    operate: Operate, sandbox: Sandbox, kube: Kube, namespace: str, database: Database
) -> None:
    """Beside an operator --orphan is refused, without one everything else is."""
    operator = operate()
    _full(kube, namespace)
    code, told = _uninstall(sandbox, "--orphan", "--yes")
    assert (code, "Scale the operator to 0" in told) == (2, True), told
    operator.stop()
    code, told = _uninstall(sandbox, "--yes")
    assert (code, "No operator leads" in told) == (2, True), told
    code, told = _uninstall(sandbox, "--orphan", "--yes")
    assert code == 0, told
    eventually(lambda: _left(kube), lambda left: left == [])
    assert [row["external_name"] for row in database.rows(OWNED.format("provider"))] == ["vm"]
    assert [row["external_name"] for row in database.rows(OWNED.format("workflow"))] == ["high-cpu"]
