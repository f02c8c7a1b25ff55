"""Servers that go away and come back, and an operator that is killed: nothing is lost, nobody is woken for nothing."""

import signal

import pytest

from e2e.cluster import Database, Kube, eventually, provider, tenant
from e2e.conftest import Operate
from keep_operator.sandbox.instance import Sandbox

pytestmark = pytest.mark.e2e


def _touch(kube: Kube, namespace: str, name: str, token: str) -> None:
    """A user asks for a look now."""
    path = f"/apis/keep-operator.dev/v1alpha1/namespaces/{namespace}/providers/{name}"
    kube.patch(path, {"metadata": {"annotations": {"keep-operator.dev/reconcile-requested-at": token}}})


def test_database_away_for_a_while(
    operate: Operate, kube: Kube, namespace: str, database: Database, sandbox: Sandbox
) -> None:
    """While the database is away Providers say so and keep row, id and fields; they recover by themselves."""
    operator = operate()
    vm, late = provider("vm", namespace), provider("late", namespace)
    kube.create(vm)
    (before,) = kube.await_ready(vm)
    sandbox.database.stop()
    try:
        _touch(kube, namespace, "vm", "while-away")
        kube.create(late)
        away = kube.await_condition(vm, "Synced", ("Unknown", "DatabaseUnavailable"))
        assert away.condition("Ready") == ("Unknown", "DatabaseUnavailable")
        assert away.status["providerId"] == before.status["providerId"]
        kube.await_condition(late, "Synced", ("Unknown", "DatabaseUnavailable"))
        assert operator.page("/healthz")[0] == 200
    finally:
        sandbox.database.start()
    after, _ = kube.await_ready(vm, late)
    assert after.status["providerId"] == before.status["providerId"]
    assert len(database.providers()) == 2


def test_a_long_outage_ends_at_once_for_all(
    operate: Operate, kube: Kube, namespace: str, database: Database, sandbox: Sandbox
) -> None:
    """However often an object was tried in vain, it goes on within seconds of the database's return (A-CTL-7)."""
    operator = operate()
    things = [provider(f"vm-{n}", namespace) for n in range(5)]
    kube.create(*things)
    kube.await_ready(*things)
    sandbox.database.stop()
    try:
        for thing in things:
            _touch(kube, namespace, thing["metadata"]["name"], "while-away")
        tried = 'kind="Provider",outcome="unavailable"'
        eventually(
            lambda: operator.metrics("keep_operator_reconciles_total")[tried], lambda n: n >= 5 * 4, "several attempts"
        )
    finally:
        sandbox.database.start()
    for thing in things:  # the fifth attempt would come 8 to 16 s after the fourth
        kube.await_state(thing, lambda t: t.ready, "Ready", patience_s=8)


def test_deletion_while_the_database_is_away(
    operate: Operate, kube: Kube, namespace: str, database: Database, sandbox: Sandbox
) -> None:
    """A Provider deleted meanwhile stays, says why, and is cleaned up when the database is back."""
    operate()
    vm = provider("vm", namespace)
    kube.create(vm)
    kube.await_ready(vm)
    sandbox.database.stop()
    try:
        kube.delete(vm)
        kube.await_condition(vm, "Deleting", ("True", "DatabaseUnavailable"))
    finally:
        sandbox.database.start()
    kube.await_gone(vm)
    assert database.providers() == []


def test_start_without_a_database(operate: Operate, kube: Kube, namespace: str, sandbox: Sandbox) -> None:
    """An operator that starts before its database waits, says so on /readyz, and goes on when it is there."""
    sandbox.database.stop()
    try:
        operator = operate(wait=False)
        status, page = eventually(lambda: operator.page("/readyz"), lambda seen: "DatabaseUnavailable" in seen[1])
        assert status == 503
        assert page.startswith("[..] database")
    finally:
        sandbox.database.start()
    operator.await_ready()
    kube.create(provider("vm", namespace))
    kube.await_ready(provider("vm", namespace))


def test_api_server_restart(operate: Operate, kube: Kube, namespace: str, sandbox: Sandbox) -> None:
    """The API server is killed and is back within the Lease: the same operator process serves what comes next."""
    operator = operate(KEEP_OPERATOR_LEASE_SECONDS="60")
    vm, late = provider("vm", namespace), provider("late", namespace)
    kube.create(vm)
    kube.await_ready(vm)
    sandbox.control_plane().restart_api_server(with_signal=signal.SIGKILL)
    kube.create(late)
    kube.await_ready(late)
    kube.edit(vm, externalName="renamed")
    eventually(lambda: kube.get(vm), lambda t: t.ready and t.status["externalName"] == "renamed")
    assert operator.process.poll() is None


def test_killed_operator_goes_on_where_it_was(operate: Operate, kube: Kube, namespace: str, database: Database) -> None:
    """kill -9 in the middle of a mass apply, and a new process: each Provider has exactly one row."""
    operator = operate()
    things = [provider(f"vm-{n}", namespace, "team") for n in range(40)]
    kube.create(tenant("team"), *things[:20])
    operator.stop(signal.SIGKILL)
    kube.create(*things[20:])
    operate()
    kube.await_ready(*things)
    rows = database.providers()
    assert sorted(row["owner_name"] for row in rows) == sorted(thing["metadata"]["name"] for thing in things)
    ids = {kube.get(thing).status["providerId"] for thing in things}
    assert ids == {str(row["id"]) for row in rows}


def test_stops_quickly_and_cleanly(operate: Operate, kube: Kube, namespace: str) -> None:
    """SIGTERM ends the operator with exit code 0 and without a complaint."""
    operator = operate()
    kube.create(provider("vm", namespace))
    kube.await_ready(provider("vm", namespace))
    assert operator.stop() == 0
    assert '"level": "error"' not in operator.log
