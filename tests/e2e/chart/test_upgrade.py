"""The life of a release over objects that live: upgrade, rollback, removal, and back again."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts import CHART, NAMESPACE, RELEASE, Helm, helm
from e2e.chart.accounts import operators
from e2e.chart.conftest import definitions, install
from e2e.cluster import Database, Kube, credential, eventually, provider, secret, tenant
from e2e.operators import Operator
from keep_operator.resources import crds
from keep_operator.resources.kinds import LEASES, OURS, WORKFLOW_REVISIONS, WORKFLOWS
from keep_operator.sandbox import tools
from manifests import definition, workflow

pytestmark = pytest.mark.e2e

# `helm package` of the commit "first installable chart": what the first users have.
FIRST = Path(__file__).parent / "data" / "first.tgz"
KINDS_OF_FIRST = 5
TEAM = tenant("team")
VM = provider(
    "vm", NAMESPACE, "team", secrets=[credential("BasicAuthPassword", "password", "password")], pullingEnabled=False
)
HELLO = workflow("hello", NAMESPACE, "team", definition("one"))


def _everything(kube: Kube) -> dict[str, tuple[str, str]]:
    """Uid and version of each object of ours; none of them is being deleted."""
    found = {}
    for resource in OURS:
        for thing in kube.objects(resource):
            metadata = thing.raw["metadata"]
            assert "deletionTimestamp" not in metadata, metadata
            found[f"{resource.kind} {metadata['name']}"] = (thing.uid, thing.version)
    return found


def _schemas(kube: Kube) -> dict[str, Any]:
    return {name: crd["spec"]["versions"][0]["schema"] for name, crd in definitions(kube).items()}


def _next_chart(folder: Path) -> Path:
    """The chart of a later release, whose Workflows have one more field."""
    chart = folder / "next"
    shutil.copytree(CHART, chart)
    path = chart / "files" / "crds" / "keep-operator.dev_workflows.yaml"
    crd = yaml.safe_load(path.read_text(encoding="utf-8"))
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"]["later"] = {"type": "string", "maxLength": 63}
    path.write_text(yaml.safe_dump(crd), encoding="utf-8")
    return chart


def _has_later(kube: Kube) -> bool:
    schema = _schemas(kube)[f"{WORKFLOWS.plural}.{WORKFLOWS.group}"]["openAPIV3Schema"]
    return "later" in schema["properties"]["spec"]["properties"]


def _two_versions(kube: Kube, operator: Operator) -> None:
    kube.await_ready(TEAM, VM, HELLO)
    kube.edit(HELLO, definition=definition("two"))
    eventually(lambda: len(kube.objects(WORKFLOW_REVISIONS)), lambda count: count == 2)
    kube.await_ready(HELLO)
    operator.stop()


@pytest.mark.parametrize(
    ("first", "then"),
    [(tools.HELM_3, tools.HELM_3), (tools.CURRENT, tools.CURRENT), (tools.HELM_3, tools.CURRENT)],
    ids=["helm 3", "helm 4", "from helm 3 to helm 4"],
)
def test_a_release_over_live_objects(
    bare: Kube, database: Database, first: tools.Package, then: tools.Package, tmp_path: Path
) -> None:
    """Upgrade, rollback, uninstall and install again: definitions follow, no version is made, nothing is lost or hangs."""
    installer, upgrader = (Helm(helm(package).program, bare.kubeconfig) for package in (first, then))
    where = f"--namespace={NAMESPACE}"
    install(installer, chart=FIRST)
    eventually(lambda: len(_schemas(bare)), lambda count: count == KINDS_OF_FIRST)
    bare.send("POST", f"/api/v1/namespaces/{NAMESPACE}/secrets", secret("password", NAMESPACE, password="one"))
    bare.create(TEAM, VM, HELLO)
    as_made = [bare.get(each).version for each in (TEAM, VM, HELLO)]
    upgrader.do("upgrade", RELEASE, str(CHART), where)
    features = crds.features_of(bare.send("GET", "/version")[1]["gitVersion"])
    wanted = {crd["metadata"]["name"]: crds.without_unknown(crd, features)[0] for crd in crds.build_all()}
    assert _schemas(bare) == {name: crd["spec"]["versions"][0]["schema"] for name, crd in wanted.items()}
    assert [bare.get(each).version for each in (TEAM, VM, HELLO)] == as_made, "an upgrade writes no object"
    with operators(bare, database, tmp_path) as start:
        _two_versions(bare, start())
        operator = start()  # which counts at once, else it waits for 30 s
        bare.await_state(TEAM, lambda thing: thing.status["workflows"] == {"total": 1, "ready": 1}, "counts")
        before = _everything(bare)

        def pods_are_replaced() -> None:
            operator.stop()
            bare.send("DELETE", LEASES.path(NAMESPACE, "keep-operator"))
            newer = start()
            eventually(newer.reconciles, lambda count: count >= 3)
            newer.stop()

        assert not _has_later(bare)
        upgrader.do("upgrade", RELEASE, str(_next_chart(tmp_path)), where)
        assert _has_later(bare)
        pods_are_replaced()
        assert _everything(bare) == before, "an upgrade writes no object"
        upgrader.do("rollback", RELEASE, "2", where)
        assert not _has_later(bare)
        pods_are_replaced()
        assert _everything(bare) == before, "a rollback writes no object"

        upgrader.do("uninstall", RELEASE, where)
        assert definitions(bare).keys() == wanted.keys()
        assert not any("deletionTimestamp" in crd["metadata"] for crd in definitions(bare).values())
        assert _everything(bare) == before, "a removal leaves the objects as they are"
        install(upgrader)
        pods_are_replaced()
        assert _everything(bare) == before, "a release that is installed again goes on where the last one ended"
    assert [(entry["action"], entry["name"]) for entry in database.ledger("Provider")] == [("Created", "vm")]
