"""`keep-operator doctor` finds what is missing before the operator does."""

import os
import subprocess
import sys
from collections.abc import Mapping

import pytest

from e2e.cluster import Database, Kube
from e2e.conftest import Operate
from keep_operator.sandbox.instance import Sandbox
from manifests import in_argo_cd, provider

pytestmark = pytest.mark.e2e


def _doctor(environment: Mapping[str, str]) -> tuple[int, str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("KEEP_OPERATOR_")}
    done = subprocess.run(
        [sys.executable, "-m", "keep_operator", "doctor"],
        env={**inherited, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stdout, done.stdout
    return done.returncode, done.stdout


def _environment(sandbox: Sandbox, database: Database, user: str = "operator") -> dict[str, str]:
    return {
        "KUBECONFIG": str(sandbox.kubeconfig(user)),
        "KEEP_OPERATOR_DATABASE_URL": database.url,
        "KEEP_OPERATOR_ENCRYPTION_KEY_FILE": str(sandbox.key_file),
    }


def test_all_is_well(operate: Operate, sandbox: Sandbox, database: Database, kube: Kube) -> None:
    """With everything in place it says ok to each part and exits with 0."""
    operate()
    code, printed = _doctor(_environment(sandbox, database))
    assert code == 0, printed
    for part in ("database", "migrations", "cluster", "CRDs", "rights", "tenant"):
        assert f"ok    {part}" in printed, printed


def test_missing_rights_are_named(clean: Kube, sandbox: Sandbox, empty_url: str) -> None:
    """An account without the ClusterRole is told each right that it lacks, and why it is needed."""
    code, printed = _doctor(_environment(sandbox, Database(empty_url), "developer"))
    assert code == 1
    assert "FAIL  rights       not allowed: list secrets" in printed
    assert "bind the ClusterRole keep-operator" in printed
    assert "FAIL  migrations" in printed


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"KEEP_OPERATOR_DATABASE_URL": "postgresql://x:hidden-pw@127.0.0.1:1/keep"}, "FAIL  database"),
        ({"KEEP_OPERATOR_DATABASE_URL": "mysql://x:hidden-pw@127.0.0.1/keep"}, "FAIL  database"),
        ({"KEEP_OPERATOR_DATABASE_URL": ""}, "FAIL  settings"),
        ({"KEEP_OPERATOR_ENCRYPTION_KEY_FILE": "/nowhere/key"}, "FAIL  settings"),
        ({"KUBECONFIG": "/nowhere/config"}, "FAIL  cluster"),
    ],
    ids=["database-away", "not-postgresql", "no-database", "no-key", "no-cluster"],
)
def test_each_missing_part_is_named(
    change: dict[str, str], said: str, sandbox: Sandbox, kube: Kube, database: Database
) -> None:
    """Whatever is missing is named with its remedy, and no password is shown."""
    code, printed = _doctor({**_environment(sandbox, database), **change})
    assert code == 1
    assert said in printed
    assert "->" in printed
    assert "hidden-pw" not in printed


@pytest.mark.parametrize("policy", ["ExceptArgoCD", "Always"])
def test_what_argo_cd_could_not_prune_is_named(
    policy: str, operate: Operate, kube: Kube, namespace: str, sandbox: Sandbox, database: Database
) -> None:
    """With owners everywhere, objects in Argo CD are named before somebody wonders why they stay."""
    operate()
    tracked, plain = in_argo_cd(provider("tracked", namespace)), provider("plain", namespace)
    kube.create(tracked, plain)
    kube.await_ready(tracked, plain)
    code, printed = _doctor({**_environment(sandbox, database), "KEEP_OPERATOR_OWNER_REFERENCES": policy})
    assert code == 0, printed
    if policy == "Always":
        assert (
            f"warn  Argo CD      1 object in Argo CD would have an owner, and is not pruned then: Provider {namespace}/tracked"
            in printed
        )
        assert "-> set KEEP_OPERATOR_OWNER_REFERENCES=ExceptArgoCD" in printed
    else:
        assert "ok    Argo CD      1 object in Argo CD without an owner" in printed
