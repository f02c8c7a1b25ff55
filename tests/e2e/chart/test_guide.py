"""The guide to the installation, done as it is written: every command in it, in its order."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from charts import NAMESPACE, RELEASE, ROOT, Helm
from e2e.chart.accounts import operators
from e2e.chart.conftest import definitions
from e2e.cluster import Database, Kube, eventually, provider, tenant
from keep_operator.resources.kinds import NAMESPACES, OURS
from keep_operator.sandbox import tools
from manifests import workflow

pytestmark = pytest.mark.e2e

GUIDE = ROOT / "docs" / "install.md"
Run = Callable[[str], str]


def commands() -> dict[str, str]:
    """The commands to run of each section, by its heading."""
    found: dict[str, str] = {}
    heading, inside = "", False
    for line in GUIDE.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            inside = line == "```sh"
        elif inside:
            found[heading] = found.get(heading, "") + line + "\n"
        elif line.startswith("#"):
            heading = line.lstrip("# ")
    return found


@pytest.fixture
def run(bare: Kube, installer: Helm, database: Database, tmp_path: Path) -> Run:
    """Runs a section's commands in a shell that has helm and kubectl on its path."""
    programs = tmp_path / "bin"
    programs.mkdir()
    current = tools.ready()
    assert current is not None
    (programs / "helm").symlink_to(installer.program)
    (programs / "kubectl").symlink_to(current / "kubectl")
    given = {key: value for key, value in os.environ.items() if not key.startswith(("HELM_", "KEEP_OPERATOR_"))}
    given |= {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "KUBECONFIG": str(bare.kubeconfig),
        "DATABASE_URL": database.url,
    }

    def section(heading: str) -> str:
        text = commands()[heading]
        if "-k deploy" in text:
            text = text.replace("-k deploy", f"-k {_deploy(bare, tmp_path)}")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=ROOT,
            env=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, f"{heading}: {done.stdout}"
        return done.stdout

    return section


def _deploy(kube: Kube, folder: Path) -> Path:
    """`deploy/`, or what it would be for the tests' own old server."""
    _, version = kube.send("GET", "/version")
    if int(version["minor"].rstrip("+")) >= 31:
        return ROOT / "deploy"
    argv = [sys.executable, str(ROOT / "charts/generate.py"), "--plain", version["gitVersion"].removeprefix("v")]
    (folder / "install.yaml").write_text(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)
    (folder / "kustomization.yaml").write_text("resources: [install.yaml]\n")
    return folder


@pytest.mark.timeout(900)
def test_the_guide_from_its_beginning_to_its_end(bare: Kube, run: Run, database: Database, tmp_path: Path) -> None:
    """Who follows the guide gets what it says at each step, and nothing else."""
    for name in ("monitoring", "sre"):
        bare.send("POST", NAMESPACES.path(), {"metadata": {"name": name}})
    bare.send("DELETE", NAMESPACES.path(name=NAMESPACE))
    eventually(lambda: bare.send("GET", NAMESPACES.path(name=NAMESPACE))[0], lambda status: status == 404)
    done = set()

    def follow(heading: str) -> str:
        done.add(heading)
        return run(heading)

    assert "is installed in namespace keep-operator" in follow("Install")
    assert len(definitions(bare)) == len(OURS)
    follow("A trial with its own database")
    assert "keep-operator-postgresql" in bare.kubectl("get", "statefulsets", f"-n{NAMESPACE}")
    follow("Some namespaces only")
    assert "keep-operator-watched" in bare.kubectl("get", "roles", "-nsre", "-oname")
    follow("Harden")
    assert "keep-operator-secrets" not in bare.kubectl("get", "roles", "-nsre", "-oname")
    follow("Upgrade")
    follow("Back again")
    assert "keep-operator-watched" not in bare.kubectl("get", "roles", "-nsre", "-oname")
    follow("Remove")
    assert len(definitions(bare)) == len(OURS)

    bare.kubectl("delete", "secrets", "--all", f"-n{NAMESPACE}")
    bare.kubectl("delete", "namespace", NAMESPACE)
    run("Install")
    things = [tenant("team"), provider("vm", "monitoring", "team"), workflow("hello", "monitoring", "team")]
    with operators(bare, database, tmp_path) as start:
        start()
        bare.create(*things)
        bare.await_ready(*things)
        follow("With everything")
    eventually(lambda: definitions(bare), lambda left: not left, "the end of the definitions")
    assert database.providers() == []
    assert {row["owner_uid"] for row in database.tenants()} == {None}
    assert RELEASE not in bare.kubectl("get", "deployments", f"-n{NAMESPACE}", "-oname")

    follow("With kubectl alone")
    assert RELEASE in bare.kubectl("get", "deployments", f"-n{NAMESPACE}")
    assert done == set(commands()), "every command of the guide was run"
    bare.kubectl("delete", "deployments,services,poddisruptionbudgets,networkpolicies", "--all", f"-n{NAMESPACE}")
    bare.kubectl("delete", "clusterroles,clusterrolebindings", "-lapp.kubernetes.io/part-of=keep-operator")
    bare.kubectl("delete", "namespace", NAMESPACE, "monitoring", "sre")
