"""The image in real pods, where there is a Docker engine to run them: the one place where a kubelet is asked."""

import secrets
import subprocess

import pytest

from charts import NAMESPACE, ROOT, Helm
from e2e.chart.conftest import install
from e2e.cluster import Kube, provider, tenant
from keep_operator import __version__
from keep_operator.sandbox import source

NEEDS_DOCKER = "pods of the image run on kind's node"
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.needs_docker(NEEDS_DOCKER),
    pytest.mark.skipif(source.choose("", "") != source.Kind(), reason=f"needs_docker: {NEEDS_DOCKER}"),
]


def _name_of(kube: Kube) -> str:
    """kind's name of the cluster: that of the context without `kind-`."""
    return kube.kubectl("config", "current-context").strip().removeprefix("kind-")


@pytest.mark.timeout(1800)  # images of Python and PostgreSQL are pulled the first time
def test_the_image_runs_in_a_restricted_namespace(bare: Kube, installer: Helm) -> None:
    """Operator, console and trial database come up under the profile `restricted`, and make a Provider Ready."""
    subprocess.run(["make", "image"], cwd=ROOT, check=True)
    image = f"keep-operator:{__version__}"
    subprocess.run(["kind", "load", "docker-image", image, "--name", _name_of(bare)], check=True)
    bare.kubectl("create", "namespace", NAMESPACE)
    bare.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    password, key = secrets.token_hex(16), secrets.token_urlsafe(32)
    url = f"postgresql://keep_operator:{password}@keep-operator-postgresql:5432/keep_operator"
    made = ("create", "secret", "generic", f"-n{NAMESPACE}")
    bare.kubectl(*made, "keep-operator-database", f"--from-literal=url={url}", f"--from-literal=password={password}")
    bare.kubectl(*made, "keep-operator-encryption-key", f"--from-literal=key={key}")
    install(installer, values={"postgresql": {"enabled": True}})
    for deployment in ("keep-operator", "keep-operator-console"):
        bare.kubectl("rollout", "status", f"deployment/{deployment}", f"-n{NAMESPACE}", "--timeout=110s")
    bare.create(tenant("team"), provider("vm", NAMESPACE, "team"))
    bare.await_ready(tenant("team"), provider("vm", NAMESPACE, "team"))
    told = bare.kubectl("exec", "deployment/keep-operator", f"-n{NAMESPACE}", "--", "keep-operator", "doctor")
    assert "fail" not in told.lower()
    bare.delete(provider("vm", NAMESPACE, "team"))
    bare.await_gone(provider("vm", NAMESPACE, "team"))
