"""The first deployment on an empty database, in whatever order things arrive (P1-P4)."""

import itertools
import time

import pytest

from e2e.cluster import Database, Kube, credential, eventually, provider, secret, tenant, window
from e2e.conftest import Operate
from keep_operator.resources.kinds import PROVIDERS
from keep_operator.sandbox.instance import Sandbox

pytestmark = pytest.mark.e2e


@pytest.fixture
def database(empty_url: str) -> Database:
    """As the first operator finds it: without a schema."""
    return Database(empty_url)


@pytest.mark.parametrize("order", list(itertools.permutations(("tenant", "a", "b"))), ids="-".join)
def test_any_order_ends_ready(
    order: tuple[str, ...], operate: Operate, kube: Kube, namespace: str, database: Database, sandbox: Sandbox
) -> None:
    """Whatever is applied first, everything becomes Ready: no foreign-key error, no Warning, no restart."""
    operator = operate()
    things = {
        "tenant": tenant("team"),
        "a": provider("vm", namespace, "team"),
        "b": provider("chat", namespace, "team", "slack", config={"webhook_url": "{{ env.CHAT }}"}),
    }
    for name in order:
        kube.create(things[name])
        if name != "tenant":
            eventually(lambda n=name: kube.get(things[n]), lambda thing: thing.condition("Ready"))  # type: ignore[misc]
    kube.await_ready(*things.values())
    assert [row["external_name"] for row in database.providers()] == ["chat", "vm"]
    assert kube.events(namespace, "Warning") == []
    assert operator.process.poll() is None
    assert "foreign key" not in sandbox.database.log.read_text(encoding="utf-8")


def test_all_at_once_ends_ready(operate: Operate, kube: Kube, namespace: str, database: Database) -> None:
    """One `kubectl apply` of a file with everything, Providers first, ends with everything Ready."""
    operate()
    things = [*(provider(f"vm-{n}", namespace, "team") for n in range(10)), tenant("team")]
    kube.create(*things)
    kube.await_ready(*things)
    assert len(database.providers()) == 10
    assert kube.events(namespace, "Warning") == []


def test_applied_before_the_operator_ends_ready(operate: Operate, kube: Kube, namespace: str) -> None:
    """What was applied before the operator's first start is Ready soon after it."""
    kube.sweep()
    things = [provider("vm", namespace, "team"), tenant("team")]
    kube.create(*things)
    operate()
    kube.await_ready(*things)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_waiting_costs_nothing(operate: Operate, kube: Kube, namespace: str, database: Database) -> None:
    """A Provider without its Tenant says so, has no row, and is not looked at again and again."""
    operator = operate()
    vm = provider("vm", namespace, "team")
    kube.create(vm)
    waiting = kube.await_condition(vm, "Ready", ("Unknown", "TenantNotFound"))
    assert waiting.condition("TenantReady") == ("Unknown", "TenantNotFound")
    assert waiting.condition("Reconciling") == ("True", "WaitingForDependency")
    assert waiting.status["observedGeneration"] == 1
    assert 'Tenant "team"' in waiting.message("Ready")
    before, version = operator.reconciles(), waiting.version
    time.sleep(window(60))
    assert operator.reconciles() == before
    assert kube.get(vm).version == version
    assert database.providers() == []
    assert operator.metrics("keep_operator_reconciles_total")['kind="Provider",outcome="unavailable"'] == 0


def test_provider_without_tenant_ref_joins_the_default_tenant(
    operate: Operate, kube: Kube, namespace: str, database: Database
) -> None:
    """Who names no Tenant gets the default one, which made itself."""
    operate()
    vm = provider("vm", namespace)
    kube.create(vm)
    (ready,) = kube.await_ready(vm)
    assert ready.status["tenantId"] == "keep"
    assert database.tenants()[0]["id"] == "keep"
    default = kube.get({"kind": "Tenant", "metadata": {"name": "keep"}})
    assert default.raw["metadata"]["labels"] == {"keep-operator.dev/default": "true"}


def test_no_default_tenant_is_said(operate: Operate, kube: Kube, namespace: str, database: Database) -> None:
    """With the default tenant switched off, a Provider without tenantRef is refused with the remedy."""
    operate(KEEP_OPERATOR_DEFAULT_TENANT="")
    vm = provider("vm", namespace)
    kube.create(vm)
    refused = kube.await_condition(vm, "Ready", ("False", "NoDefaultTenant"))
    assert "spec.tenantRef" in refused.message("Ready")
    assert database.tenants() == []


def test_two_operators_at_once_start_once(operate: Operate, kube: Kube, database: Database) -> None:
    """Two replicas that start at the same instant on an empty database make one schema and one default tenant."""
    first, second = operate(wait=False), operate(wait=False)
    first.await_ready()
    second.await_ready()
    logs = first.log + second.log
    assert logs.count("schema none -> ") == 1
    assert [row["id"] for row in database.tenants()] == ["keep"]
    keep = {"kind": "Tenant", "metadata": {"name": "keep"}}
    kube.await_ready(keep)
    assert len(database.ledger("Tenant")) == 1


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("server_side", [True, False], ids=["server-side", "client-side"])
def test_git_takes_the_default_tenant_over(operate: Operate, kube: Kube, server_side: bool) -> None:
    """A manifest named `keep` from Git, applied either way, meets no conflict and no further write of ours.

    After ten quiet minutes leader and standby still take their watches for alive.
    """
    replicas = [operate(), operate()]
    manifest = tenant("keep", displayName="Platform team", deletionPolicy="Orphan")
    kube.await_ready(manifest)
    text = __import__("yaml").safe_dump(manifest)
    args = ["apply", "--validate=false", "-f", "-"]
    printed = kube.kubectl(*args, *(["--server-side", "--field-manager=argocd"] if server_side else []), stdin=text)
    assert "onflict" not in printed
    settled = eventually(lambda: kube.get(manifest), lambda t: t.ready and t.raw["spec"].get("displayName"))
    again = kube.kubectl(*args, *(["--server-side", "--field-manager=argocd"] if server_side else []), stdin=text)
    assert "onflict" not in again
    time.sleep(window(600))
    after = kube.get(manifest)
    assert after.status == settled.status
    assert after.raw["metadata"]["generation"] == settled.raw["metadata"]["generation"]
    managers = {
        m["manager"]: m["fieldsV1"] for m in after.raw["metadata"]["managedFields"] if m["manager"] == "keep-operator"
    }
    assert "f:spec" not in managers.get("keep-operator", {})
    assert [operator.page("/healthz") for operator in replicas] == [(200, "ok")] * 2


def test_credentials_are_waited_for(operate: Operate, kube: Kube, namespace: str) -> None:
    """A missing Secret, then a missing key, are waited for by name; the Provider goes on when they come."""
    operate()
    vm = provider("vm", namespace, secrets=[credential("BasicAuthPassword", "vm-auth", "password")])
    kube.create(vm)
    waiting = kube.await_condition(vm, "CredentialsResolved", ("Unknown", "SecretNotFound"))
    assert "vm-auth" in waiting.message("Ready")
    kube.create(secret("vm-auth", namespace, user="keep"))
    waiting = kube.await_condition(vm, "CredentialsResolved", ("Unknown", "SecretKeyNotFound"))
    assert "password in Secret vm-auth" in waiting.message("Ready")
    kube.patch(f"/api/v1/namespaces/{namespace}/secrets/vm-auth", {"stringData": {"password": "s3cret-value"}})
    (ready,) = kube.await_ready(vm)
    first = ready.status["configHash"]
    kube.patch(f"/api/v1/namespaces/{namespace}/secrets/vm-auth", {"stringData": {"password": "an-0ther-value"}})
    eventually(lambda: kube.get(vm), lambda t: t.ready and t.status["configHash"] != first, "rotation")


def test_start_order_is_visible(operate: Operate, kube: Kube) -> None:
    """/readyz and the log tell the steps of the start in their order."""
    operator = operate()
    page = operator.page("/readyz")[1]
    names = [line.split("] ")[1].split(":")[0] for line in page.splitlines()]
    assert names == ["database", "migrations", "cluster", "leadership", "default tenant", "queue"]
    assert page.count("[ok]") == len(names)
    logged = [operator.log.index(f'"step": "{name}"') for name in names[:5]]
    assert logged == sorted(logged)
    assert operator.page("/healthz") == (200, "ok")


def test_the_operator_writes_only_what_it_may(operate: Operate, kube: Kube, namespace: str) -> None:
    """In everything that users own the operator manages status, finalizers and owner references, nothing else."""
    operate()
    things = [tenant("team"), provider("vm", namespace, "team")]
    kube.create(*things)
    for thing in kube.await_ready(*things):
        for entry in thing.raw["metadata"].get("managedFields", ()):
            if entry["manager"] not in ("OpenAPI-Generator", "Swagger-Codegen"):
                fields = entry["fieldsV1"]
                assert set(fields) <= {"f:metadata", "f:status"}, entry
                assert set(fields.get("f:metadata", {})) <= {"f:finalizers", "f:ownerReferences"}, entry
    owner = kube.objects(PROVIDERS, namespace)[0].raw["metadata"]["ownerReferences"]
    assert [(o["kind"], o["name"], o["controller"], o["blockOwnerDeletion"]) for o in owner] == [
        ("Tenant", "team", False, True)
    ]
