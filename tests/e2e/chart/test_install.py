"""`helm install` on a real API server, with Helm 3 and Helm 4."""

import pytest

from charts import NAMESPACE, RELEASE, Helm, Json, one
from e2e.chart.conftest import definitions, install
from e2e.cluster import Kube, eventually
from keep_operator import __version__
from keep_operator.resources import crds
from keep_operator.resources.kinds import OURS

pytestmark = pytest.mark.e2e

TRIAL: Json = {
    "postgresql": {"enabled": True},
    "networkPolicy": {"egress": {"enabled": True}},
    "uninstall": {"purge": False},
    "secretNamespaces": [NAMESPACE],
}


@pytest.mark.parametrize("values", [{}, TRIAL], ids=["defaults", "trial"])
def test_install_and_uninstall(bare: Kube, installer: Helm, values: Json) -> None:
    """Everything that the chart has is taken by the server as it is, the definitions are served, and outlive the release."""
    told = install(installer, values=values)
    assert f"keep-operator {__version__} is installed in namespace {NAMESPACE}." in told
    version = bare.send("GET", "/version")[1]["gitVersion"]
    features = crds.features_of(version)
    stored = definitions(bare)
    for crd in crds.build_all():
        wanted, left_out = crds.without_unknown(crd, features)
        live = stored[crd["metadata"]["name"]]
        assert live["spec"]["versions"][0]["schema"] == wanted["spec"]["versions"][0]["schema"]
        if left_out:
            assert "does not have, and so the chart left out" in told
    eventually(
        lambda: [bare.send("GET", resource.path())[0] for resource in OURS], lambda seen: set(seen) == {200}, "served"
    )
    for rendered in installer.render(values, version.removeprefix("v")):
        if rendered["kind"] == "Deployment":
            path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{rendered['metadata']['name']}"
            status, live = bare.send("GET", path)
            assert status == 200
            assert (
                live["spec"]["template"]["spec"]["containers"][0]["args"]
                == (rendered["spec"]["template"]["spec"]["containers"][0]["args"])
            )
    installer.do("uninstall", RELEASE, f"--namespace={NAMESPACE}")
    assert definitions(bare).keys() == stored.keys()
    assert not any(each["metadata"].get("deletionTimestamp") for each in definitions(bare).values())
    install(installer, values=values)


def test_an_old_server_is_named(bare: Kube, installer: Helm) -> None:
    """Whoever installs on a server that lacks something is told what, and what it means."""
    told = install(installer)
    minor = int(bare.send("GET", "/version")[1]["minor"].rstrip("+"))
    assert ("FOR DEVELOPMENT ONLY" in told) == (minor < 29)
    assert ("admission policies (from 1.30)" in told) == (minor < 30)
    assert ("rules in CustomResourceDefinitions" in told) == (minor < 25)
    assert ("field selectors of our kinds" in told) == (minor < 31)


def test_the_roles_let_the_accounts_do_what_they_do(bare: Kube, installer: Helm) -> None:
    """The pods' accounts have their rights in the cluster itself, and others do not."""
    install(installer)
    operator = one(installer.render(), "ServiceAccount")["metadata"]["name"]
    asked = ("auth", "can-i", f"--as=system:serviceaccount:{NAMESPACE}:{operator}")
    assert bare.kubectl(*asked, "patch", "workflows.keep-operator.dev/status", "-A").strip() == "yes"
    assert bare.kubectl(*asked, "create", "leases", f"-n{NAMESPACE}").strip() == "yes"
    assert bare.kubectl(*asked, "create", "leases", "-ndefault", check=False).strip().endswith("no")
    assert bare.kubectl(*asked, "create", "secrets", f"-n{NAMESPACE}", check=False).strip().endswith("no")
