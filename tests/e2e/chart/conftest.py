"""A cluster of its own: nobody but Helm has installed anything in it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from charts import CHART, NAMESPACE, RELEASE, Helm, Json, helm
from e2e.cluster import Database, Kube, eventually
from e2e.conftest import options_for
from keep_operator.resources.kinds import CUSTOM_RESOURCE_DEFINITIONS, NAMESPACES, OURS
from keep_operator.sandbox import display, tools
from keep_operator.sandbox.instance import Sandbox


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Cluster and database of these tests; the definitions of the other tests would be in Helm's way."""
    box = Sandbox(options_for(tmp_path_factory.mktemp("sandbox-of-the-chart")))
    with display.opened() as shown, box.attended(shown):
        yield box


@pytest.fixture(scope="session")
def kube(sandbox: Sandbox) -> Kube:
    """The empty cluster as its administrator sees it."""
    folder = tools.ready()
    assert folder is not None, "the sandbox has fetched kubectl"
    return Kube(sandbox.kubeconfig(), folder)


@pytest.fixture(scope="session")
def server_url(sandbox: Sandbox) -> str:
    """The server of these tests."""
    return sandbox.database_url()


@pytest.fixture
def database(empty_url: str) -> Database:
    """As the guide has it made: without a schema."""
    return Database(empty_url)


@pytest.fixture(params=[tools.HELM_3, tools.CURRENT], ids=["helm 3", "helm 4"])
def installer(request: pytest.FixtureRequest, kube: Kube) -> Helm:
    """Each Helm that users have, pointed at the cluster."""
    return Helm(helm(request.param).program, kube.kubeconfig)


@pytest.fixture
def bare(kube: Kube) -> Iterator[Kube]:
    """The cluster without a release, our definitions and objects, before and after."""
    _strip(kube)
    yield kube
    _strip(kube)


def _strip(kube: Kube) -> None:
    program = Helm(helm().program, kube.kubeconfig)
    for release in json.loads(program.do("list", "--all-namespaces", "--output=json") or "[]"):
        program.do("uninstall", release["name"], f"--namespace={release['namespace']}", "--no-hooks")
    served = {name.partition(".")[0] for name in definitions(kube)}
    for resource in OURS:
        if resource.plural in served:
            for thing in kube.objects(resource):
                path = resource.path(thing.raw["metadata"].get("namespace"), thing.raw["metadata"]["name"])
                kube.patch(path, {"metadata": {"finalizers": None}})
                kube.send("DELETE", path)
    for name in definitions(kube):
        kube.send("DELETE", CUSTOM_RESOURCE_DEFINITIONS.path(name=name))
    eventually(lambda: definitions(kube), lambda left: not left, "the end of the definitions")


def definitions(kube: Kube) -> dict[str, Json]:
    """Our CustomResourceDefinitions in the cluster, by name."""
    status, answer = kube.send("GET", CUSTOM_RESOURCE_DEFINITIONS.path())
    assert status == 200, answer
    return {each["metadata"]["name"]: each for each in answer["items"] if each["spec"]["group"] == OURS[0].group}


def install(installer: Helm, *args: str, chart: Path = CHART, values: Json | None = None) -> str:
    """What `helm install` prints, as the guide has it."""
    return installer.do(
        "install", RELEASE, str(chart), f"--namespace={NAMESPACE}", "--create-namespace", *args, values=values
    )


def namespace_of(kube: Kube) -> Json:
    """The release's namespace."""
    _, answer = kube.send("GET", NAMESPACES.path(name=NAMESPACE))
    return answer
