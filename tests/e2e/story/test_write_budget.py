"""What a Provider costs the API server, counted by the API server itself (A-CTL-8, A-CTL-9)."""

import time
from collections import Counter

import pytest

from e2e.cluster import Json, Kube, eventually, provider, tenant
from e2e.conftest import Operate

pytestmark = pytest.mark.e2e


def _spent(kube: Kube, before: Counter[str]) -> dict[str, int]:
    """Writes to Providers and Events since then, once nothing more comes."""

    def read() -> Counter[str]:
        now = kube.writes()
        time.sleep(0.3)
        return kube.writes() if kube.writes() != now else now

    spent = read() - before
    return {target: spent[target] for target in ("PATCH providers", "PATCH providers/status") if spent[target]}


def _unready(name: str) -> Json:
    """A Tenant that exists, admits all, and does not become Ready until it is edited."""
    return tenant(name, suspend=True)


def test_tenant_ready(operate: Operate, kube: Kube, namespace: str) -> None:
    """A Provider whose Tenant is Ready costs one metadata patch, one status patch and no Event."""
    operate()
    kube.create(tenant("team"))
    kube.await_ready(tenant("team"))
    before = kube.writes()
    kube.create(provider("vm", namespace, "team"))
    kube.await_ready(provider("vm", namespace))
    assert _spent(kube, before) == {"PATCH providers": 1, "PATCH providers/status": 1}
    assert kube.events(namespace) == []


def test_tenant_not_ready(operate: Operate, kube: Kube, namespace: str) -> None:
    """A Provider whose Tenant is not Ready yet costs one metadata patch at once, two status patches, one Event."""
    operate()
    kube.create(_unready("team"))
    eventually(lambda: kube.get(tenant("team")), lambda t: t.condition("Suspended"))
    before = kube.writes()
    vm = provider("vm", namespace, "team")
    kube.create(vm)
    kube.await_condition(vm, "Ready", ("Unknown", "TenantNotReady"))
    assert _spent(kube, before) == {"PATCH providers": 1, "PATCH providers/status": 1}
    kube.edit(tenant("team"), suspend=False)
    kube.await_ready(vm)
    assert _spent(kube, before) == {"PATCH providers": 1, "PATCH providers/status": 2}
    (event,) = kube.events(namespace)
    assert (event["type"], event["reason"], event["involvedObject"]["name"]) == ("Normal", "Ready", "vm")


def test_no_tenant(operate: Operate, kube: Kube, namespace: str) -> None:
    """A Provider without a Tenant gets only a status patch; finalizer and owner come with the Tenant, in one patch."""
    operate()
    before = kube.writes()
    vm = provider("vm", namespace, "team")
    kube.create(vm)
    kube.await_condition(vm, "Ready", ("Unknown", "TenantNotFound"))
    assert _spent(kube, before) == {"PATCH providers/status": 1}
    assert "finalizers" not in kube.get(vm).raw["metadata"]
    kube.create(tenant("team"))
    kube.await_ready(vm)
    assert _spent(kube, before) == {"PATCH providers": 1, "PATCH providers/status": 2}
    assert [(event["reason"], event["count"]) for event in kube.events(namespace)] == [("Ready", 1)]


def test_nothing_changed_nothing_written(operate: Operate, kube: Kube, namespace: str) -> None:
    """A restart over Ready objects, and a re-apply of the same manifests, write nothing."""
    operator = operate()
    things = [tenant("team"), *(provider(f"vm-{n}", namespace, "team") for n in range(5))]
    kube.create(*things)
    versions = [thing.version for thing in kube.await_ready(*things[1:])]
    operator.stop()
    operator = operate()  # which counts at once, else it waits for 30 s
    eventually(lambda: kube.get(things[0]), lambda t: t.status["providers"] == {"total": 5, "ready": 5})
    operator.stop()
    before = kube.writes()
    again = operate()
    eventually(again.reconciles, lambda n: n >= 7, "a look at each object")
    for thing in things:
        kube.edit(thing, **thing["spec"])
    time.sleep(1.0)
    spent = kube.writes() - before
    # Deletions are the cluster's: what is left in the namespaces of earlier tests.
    ours = ("tenants/status", "providers/status", "events")
    written = {target: n for target, n in spent.items() if target.split()[1] in ours and "DELETE" not in target}
    assert written == {}
    assert [kube.get(thing).version for thing in things[1:]] == versions
