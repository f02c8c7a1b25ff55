"""The commands given to kind and Docker; stand-ins of both write down what they are asked."""

import base64
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from keep_operator.errors import Unavailable
from keep_operator.sandbox import kind, kubeconfig
from keep_operator.sandbox.certificates import Authority

pytestmark = pytest.mark.unit

STAND_IN = """#!/bin/sh
echo "$(basename "$0") $*" >> {folder}/asked
case "$(basename "$0") $*" in
  "kind get clusters") cat {folder}/clusters ;;
  "kind create"*)
    [ ! -e {folder}/broken ] || {{ echo no space >&2; exit 1; }}
    cp {folder}/admin {folder}/box/admin.kubeconfig
    echo "$4" > {folder}/clusters ;;
  "docker exec"*ca.crt) cat {folder}/pki/ca.crt ;;
  "docker exec"*ca.key) cat {folder}/pki/ca.key ;;
esac
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> kind.Cluster:
    authority = Authority(tmp_path / "pki")
    authority.ensure()
    admin = authority.client(kubeconfig.ADMIN)
    (tmp_path / "admin").write_text(kubeconfig.render("https://127.0.0.1:6443", authority.ca, kubeconfig.ADMIN, admin))
    (tmp_path / "box").mkdir()
    (tmp_path / "clusters").touch()
    for name in ("kind", "docker", "kubectl"):
        (tmp_path / name).write_text(STAND_IN.format(folder=tmp_path))
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return kind.Cluster(tmp_path / "box", tmp_path / "kubectl")


def asked(tmp_path: Path, program: str) -> list[str]:
    return [line for line in (tmp_path / "asked").read_text().splitlines() if line.startswith(program)]


def test_a_cluster_is_created_once_and_only_in_the_sandboxs_own_kubeconfig(
    cluster: kind.Cluster, tmp_path: Path
) -> None:
    """kind would write to the user's kubeconfig and switch the current context, unless told another file."""
    cluster.start()
    cluster.start()
    created = [line for line in asked(tmp_path, "kind") if "create" in line]
    admin = tmp_path / "box/admin.kubeconfig"
    assert created == [f"kind create cluster --name {cluster.name} --kubeconfig {admin}"]
    assert all(f"--kubeconfig={admin}" in line for line in asked(tmp_path, "kubectl"))


def test_the_operator_gets_its_own_identity_there_too(cluster: kind.Cluster, tmp_path: Path) -> None:
    """Signed by the cluster's own authority: a name and no group."""
    cluster.start()
    content = yaml.safe_load((tmp_path / "box/operator.kubeconfig").read_text())
    assert content["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:6443"
    pem = base64.b64decode(content["users"][0]["user"]["client-certificate-data"])
    certificate = x509.load_pem_x509_certificate(pem)
    assert certificate.subject.rfc4514_string() == "CN=keep-operator"


def test_stopping_keeps_the_data_and_wiping_removes_it(cluster: kind.Cluster, tmp_path: Path) -> None:
    """As with the other control plane."""
    cluster.start()
    cluster.stop()
    cluster.wipe()
    assert f"docker stop {cluster.name}-control-plane" in asked(tmp_path, "docker")
    assert any(f"kind delete cluster --name {cluster.name}" in line for line in asked(tmp_path, "kind"))


def test_what_kind_says_is_shown(cluster: kind.Cluster, tmp_path: Path) -> None:
    """Its own words explain a failure best."""
    (tmp_path / "broken").touch()
    with pytest.raises(Unavailable, match="`kind create cluster` ended with 1: no space"):
        cluster.start()


def test_two_folders_have_two_clusters(tmp_path: Path) -> None:
    """The name comes from the folder."""
    names = {kind.Cluster(tmp_path / name, tmp_path / "kubectl").name for name in ("a", "b")}
    assert len(names) == 2
