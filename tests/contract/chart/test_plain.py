"""`kubectl apply -k` installs what Helm installs."""

import subprocess

import pytest
import yaml

from charts import NAMESPACE, ROOT, Json, helm

pytestmark = pytest.mark.contract

DEPLOY = ROOT / "deploy"
# The folder, and the Kubernetes for which the chart says the same.
FOLDERS = {".": "1.37.0", "kubernetes-1.31": "1.31.0", "kubernetes-1.30": "1.30.5", "kubernetes-1.29": "1.29.9"}
HELMS = ("helm.sh/chart", "app.kubernetes.io/managed-by", "helm.sh/resource-policy")


def _built(folder: str) -> list[Json]:
    kubectl = helm().program.with_name("kubectl")
    done = subprocess.run([kubectl, "kustomize", DEPLOY / folder], capture_output=True, text=True, check=True)
    return [each for each in yaml.load_all(done.stdout, yaml.CSafeLoader) if each]


def _plainly(each: Json) -> Json:
    """The object without what only Helm reads."""
    metadata = {**each["metadata"]}
    for field in ("labels", "annotations"):
        kept = {key: value for key, value in metadata.pop(field, {}).items() if key not in HELMS}
        metadata |= {field: kept} if kept else {}
    return {**each, "metadata": metadata}


def _by_name(objects: list[Json]) -> dict[tuple[str, str, str], Json]:
    named = {(each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]): each for each in objects}
    assert len(named) == len(objects)
    return named


@pytest.mark.parametrize("folder", FOLDERS)
def test_kubectl_installs_what_helm_does(folder: str) -> None:
    """Whoever has no Helm gets the same, with the namespace before it, for each Kubernetes that is supported."""
    built = _by_name(_built(folder))
    namespace = built.pop(("Namespace", "", NAMESPACE))
    assert namespace["metadata"]["labels"] == {"pod-security.kubernetes.io/enforce": "restricted"}
    assert built == _by_name([_plainly(each) for each in helm().render({}, FOLDERS[folder])])


def test_there_is_no_other_folder() -> None:
    """A Kubernetes that is not supported any more leaves no folder behind."""
    assert {path.name for path in DEPLOY.iterdir() if path.is_dir()} == set(FOLDERS) - {"."}
