"""The admission policies of the chart, on an API server that has them."""

import pytest

from charts import NAMESPACE, Helm
from e2e.chart.conftest import install
from e2e.cluster import Json, Kube, as_yaml, eventually, tenant

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.needs_admission_policy("the policies are evaluated by the API server itself, from Kubernetes 1.30 on"),
]


def decision(name: str, actor: str) -> Json:
    return {
        "apiVersion": "keep-operator.dev/v1alpha1",
        "kind": "WorkflowDecision",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "workflowRef": {"name": "high-cpu"},
            "action": "Rollback",
            "actor": actor,
            "requestId": name,
            "reason": "tried",
        },
    }


def test_who_decides_is_who_says_so_and_has_the_verb(bare: Kube, installer: Helm) -> None:
    """Neither cluster-admin nor anybody else decides in the name of others, or without the verb."""
    install(installer)

    def created(name: str, actor: str, *flags: str) -> str:
        return bare.kubectl("create", *flags, "-f-", stdin=as_yaml(decision(name, actor)), check=False)

    eventually(lambda: created("forged", "bob"), lambda told: "nobody decides in the name of others" in told)
    given = "rolebinding/bob", "rolebinding/decides", "rolebinding/edits", "role/decides"
    bare.kubectl("delete", *given, "--ignore-not-found", f"-n{NAMESPACE}")
    bare.kubectl("create", "rolebinding", "bob", "--clusterrole=view", "--user=bob", f"-n{NAMESPACE}")
    role = "--verb=create", "--resource=workflowdecisions.keep-operator.dev"
    bare.kubectl("create", "role", "decides", *role, f"-n{NAMESPACE}")
    bare.kubectl("create", "rolebinding", "decides", "--role=decides", "--user=bob", f"-n{NAMESPACE}")
    assert "lacks the verb 'rollback'" in created("without-the-verb", "bob", "--as=bob")
    bare.kubectl("create", "rolebinding", "edits", "--clusterrole=keep-operator-edit", "--user=bob", f"-n{NAMESPACE}")
    eventually(
        lambda: created("rolled-back", "bob", "--as=bob"), lambda told: "created" in told or "AlreadyExists" in told
    )


def test_a_tenant_in_use_is_not_deleted_in_the_foreground(bare: Kube, installer: Helm) -> None:
    """One wrong prune does not take every child."""
    install(installer)
    eventually(lambda: bare.kubectl("api-resources", "--api-group=keep-operator.dev"), lambda told: "tenants" in told)
    bare.create(tenant("team"))
    path = "/apis/keep-operator.dev/v1alpha1/tenants/team"
    bare.patch(f"{path}/status", {"status": {"providers": {"total": 1, "ready": 0}}})
    eventually(
        lambda: bare.send("DELETE", f"{path}?propagationPolicy=Foreground&dryRun=All")[1].get("message", ""),
        lambda told: "takes the Providers and Workflows of the Tenant along" in told,
    )
    bare.patch(path, {"metadata": {"annotations": {"keep-operator.dev/confirm-deletion": "team"}}})
    assert bare.send("DELETE", f"{path}?propagationPolicy=Foreground")[0] == 200


def test_versions_are_the_operator_s(bare: Kube, installer: Helm) -> None:
    """Not even an administrator makes one."""
    install(installer)
    revision = {
        "apiVersion": "keep-operator.dev/v1alpha1",
        "kind": "WorkflowRevision",
        "metadata": {"name": "high-cpu-v1", "namespace": NAMESPACE},
        "spec": {
            "workflowRef": {"name": "high-cpu"},
            "lineageId": "0b8d6c1e-54c0-4f0e-8b2f-3a9d0a4a7e55",
            "number": 1,
            "contentHash": "0" * 64,
            "hashVersion": 1,
            "definition": {},
            "createdFromGeneration": 1,
        },
    }
    eventually(
        lambda: bare.kubectl("create", "--validate=false", "-f-", stdin=as_yaml(revision), check=False),
        lambda told: "only the operator makes WorkflowRevisions" in told,
    )
