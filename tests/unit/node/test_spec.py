"""What the tests' node makes of a pod, where a kubelet would refuse it or add something to it."""

from typing import Any

import pytest

from charts import ROOT
from e2e.node.spec import Pod, Unresolved, expanded, image_of, seen_as
from manifests import Json

pytestmark = pytest.mark.unit

IMAGE = image_of((ROOT / "Dockerfile").read_text(encoding="utf-8"))
OBJECTS: dict[str, Json] = {
    "/api/v1/namespaces/default/services/kubernetes": {
        "metadata": {"name": "kubernetes"},
        "spec": {"clusterIP": "10.0.0.1", "ports": [{"name": "https", "port": 443}]},
    },
    "/api/v1/namespaces/ours/services": {
        "items": [
            {
                "metadata": {"name": "keep-operator-console"},
                "spec": {"clusterIP": "10.0.0.7", "ports": [{"name": "http", "port": 80}]},
            }
        ]
    },
    "/api/v1/namespaces/ours/secrets/database": {"data": {"url": "cG9zdGdyZXNxbDovLw=="}},
}


def pod(*env: Json, **spec: Any) -> Pod:
    metadata = {"name": "one", "namespace": "ours", "uid": "1", "labels": {"app": "keep"}}
    container = {"name": "operator", "image": "keep-operator", "args": ["operate"], "env": list(env)}
    raw = {"metadata": metadata, "spec": {"containers": [container], **spec}}
    return Pod(raw, OBJECTS.get, lambda wanted: "token")


def from_secret(name: str, key: str, **more: object) -> Json:
    return {"name": "URL", "valueFrom": {"secretKeyRef": {"name": name, "key": key, **more}}}


@pytest.mark.parametrize(
    ("variable", "told"),
    [
        (from_secret("nowhere", "url"), 'secret "nowhere" not found'),
        (from_secret("database", "password"), 'couldn\'t find key password in secret "ours/database"'),
        ({"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIPs"}}}, "status.hostIPs"),
        ({"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}, "resourceFieldRef"),
    ],
    ids=["no-secret", "no-key", "no-field", "no-source"],
)
def test_a_variable_that_cannot_be_had_is_named(variable: Json, told: str) -> None:
    """A pod does not start without what its template names, and its status says what is missing."""
    with pytest.raises(Unresolved, match=told):
        pod(variable).environment(IMAGE)


def test_what_is_optional_may_be_missing() -> None:
    """A variable from an optional key is left out, not empty."""
    variables = from_secret("nowhere", "url", optional=True), {"name": "ME", "value": "$(HOSTNAME) $$(ME) $(NO)"}
    found = pod(*variables).environment(IMAGE)
    assert "URL" not in found
    assert found["ME"] == "one $(ME) $(NO)"
    assert pod(from_secret("database", "url")).environment(IMAGE)["URL"] == "postgresql://"


def test_services_put_variables_into_pods_that_want_them() -> None:
    """What Kubernetes adds unasked is there in the tests, too, where it can do harm."""
    assert pod().environment(IMAGE)["KEEP_OPERATOR_CONSOLE_PORT"] == "tcp://10.0.0.7:80"
    found = pod(enableServiceLinks=False).environment(IMAGE)
    assert "KEEP_OPERATOR_CONSOLE_PORT" not in found
    assert (found["KUBERNETES_SERVICE_HOST"], found["KUBERNETES_SERVICE_PORT"]) == ("10.0.0.1", "443")


def test_who_a_container_is() -> None:
    """The user is the pod's, else the image's, and root only where that is not forbidden."""
    assert pod().user(IMAGE) == (10001, 10001)
    assert pod(securityContext={"runAsUser": 7, "runAsGroup": 8}).user(IMAGE) == (7, 8)
    with pytest.raises(Unresolved, match="will run as root"):
        pod(securityContext={"runAsUser": 0, "runAsNonRoot": True}).user(IMAGE)


def test_what_a_container_is_called_with() -> None:
    """The image's entry point stays where the template gives arguments only."""
    assert pod().command(IMAGE, {}) == ["keep-operator", "operate"]
    assert expanded("$(A)-$(A)", {"A": "1"}) == "1-1"


@pytest.mark.parametrize(
    ("mode", "belongs_to", "seen"),
    [(0o440, 10001, 0o400), (0o440, None, 0o000), (0o444, None, 0o400), (0o400, 10001, 0o400), (0o400, None, 0o000)],
)
def test_files_that_root_keeps_from_the_pod_cannot_be_read(mode: int, belongs_to: int | None, seen: int) -> None:
    """A Secret that only root may read is not readable in the tests either, unless the group of the pod's files helps."""
    assert seen_as(mode, belongs_to, 10001, 10001) == seen
