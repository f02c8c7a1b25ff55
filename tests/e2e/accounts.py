"""Who operators and consoles are: the service accounts of the chart, with the roles that the chart gives them and no others."""

from pathlib import Path
from typing import Final

import yaml

from charts import RELEASE, helm
from e2e.cluster import Json, Kube

OPERATOR: Final = RELEASE
CONSOLE: Final = f"{RELEASE}-console"
# Where the release would be: the namespace that the Lease is kept in.
NAMESPACE: Final = "default"
# Longer than any run, `make soak` included.
TOKEN_SECONDS: Final = 86_400
_PATHS: Final = {"ServiceAccount": "/api/v1", "": "/apis/rbac.authorization.k8s.io/v1"}


def grant(kube: Kube) -> None:
    """Make the accounts and their roles, as the chart renders them for this cluster."""
    _make(kube, {"rbac": {"userRoles": False}})


def let_argo_cd_decide(kube: Kube) -> None:
    """Give Argo CD's account what the chart gives it."""
    _make(kube, {"argocd": {"enabled": True}}, f"{RELEASE}-argocd")


def _make(kube: Kube, values: Json, name: str | None = None) -> None:
    version = kube.send("GET", "/version")[1]["gitVersion"].removeprefix("v")
    for each in helm().render(values, version, namespace=NAMESPACE):
        wanted = name in (None, each["metadata"]["name"])
        if wanted and (each["kind"] == "ServiceAccount" or "Role" in each["kind"]):
            namespace = each["metadata"].get("namespace")
            where = f"/namespaces/{namespace}" if namespace else ""
            path = f"{_PATHS.get(each['kind'], _PATHS[''])}{where}/{each['kind'].lower()}s"
            status, answer = kube.send("POST", path, each)
            assert status in (201, 409), answer


def token(kube: Kube, namespace: str, name: str, **spec: object) -> str:
    """A token of a service account, as the kubelet asks for one."""
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
    status, answer = kube.send("POST", path, {"spec": {"expirationSeconds": TOKEN_SECONDS, **spec}})
    assert status == 201, answer
    return str(answer["status"]["token"])


def kubeconfig(kube: Kube, namespace: str, name: str, target: Path) -> Path:
    """A kubeconfig that shows a token of the account, and nothing else, for the account's own namespace."""
    content: Json = yaml.safe_load(kube.kubeconfig.read_text(encoding="utf-8"))
    content["users"] = [{"name": name, "user": {"token": token(kube, namespace, name)}}]
    for context in content["contexts"]:
        context["context"] |= {"user": name, "namespace": namespace}
    target.write_text(yaml.safe_dump(content), encoding="utf-8")
    target.chmod(0o600)
    return target
