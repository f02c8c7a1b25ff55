"""Servers that go away and come back, and an operator that is killed: nothing is lost, nobody is woken for nothing."""

import signal
import time
from collections import Counter

import pytest

from e2e.cluster import Database, Kube, eventually, provider, tenant, window
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
    """However often an object was tried in vain, it goes on within seconds of the database's return (A-CTL-7).

    The log has said in words what was wrong once for each.
    """
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
    warned = Counter(line["object"] for line in operator.told(level="warning") if line.get("kind") == "Provider")
    assert warned == {f"{namespace}/{thing['metadata']['name']}": 1 for thing in things}
    for thing in things:  # the fifth attempt would come 8 to 16 s after the fourth
        kube.await_state(thing, lambda t: t.ready, "Ready", patience_s=8)


@pytest.mark.slow
def test_everything_changes_while_the_database_is_away(
    operate: Operate, kube: Kube, namespace: str, database: Database, sandbox: Sandbox
) -> None:
    """A minute without the database while objects come, go and are renamed: nothing is lost, all of it is done after.

    Each object says once what it waits for, in its status and in one Event, and is silent then, however often it is tried.
    A rename from one object to another keeps the id, also when all of it happened meanwhile.
    """
    operator = operate()
    stays, edited, goes = (provider(name, namespace) for name in ("stays", "edited", "goes"))
    old, new = (provider(name, namespace, externalName="early") for name in ("old", "new"))
    last, next_ = (provider(name, namespace, externalName="late") for name in ("last", "next"))
    came = provider("came", namespace)
    kube.create(stays, edited, goes, old, last)
    stays_id, edited_id, _, early_id, late_id = (
        thing.status["providerId"] for thing in kube.await_all_ready(stays, edited, goes, old, last)
    )
    kube.create(new)
    kube.await_condition(new, "Synced", ("Unknown", "ExternalNameConflict"))
    before = len(database.ledger())
    sandbox.database.stop()
    try:
        kube.create(came, next_)
        kube.edit(edited, externalName="renamed")
        for thing in (goes, old, last):
            kube.delete(thing)
        for thing in (goes, old, last):
            kube.await_condition(thing, "Deleting", ("True", "DatabaseUnavailable"))
        for thing in (came, next_, edited):
            kube.await_condition(thing, "Ready", ("Unknown", "DatabaseUnavailable"))
        time.sleep(window(30, short_s=1))
        told = kube.writes()
        time.sleep(window(30, short_s=2))
        ours = {"PATCH providers", "PATCH providers/status", "POST events", "PATCH events"}
        assert ours & (kube.writes() - told).keys() == set()
        assert kube.get(edited).status["externalName"] == "edited"
        assert kube.get(edited).status["providerId"] == edited_id
        assert all(kube.get(thing).raw["metadata"]["finalizers"] for thing in (goes, old, last))
        assert operator.page("/healthz") == (200, "ok")
    finally:
        sandbox.database.start()
    kube.await_all_ready(stays, edited, new, next_, came)
    kube.await_gone(goes, old, last)
    ids = {row["owner_name"]: str(row["id"]) for row in database.providers()}
    assert ids.keys() == {"stays", "edited", "new", "next", "came"}
    assert [ids[name] for name in ("stays", "edited", "new", "next")] == [stays_id, edited_id, early_id, late_id]
    warned = Counter(event["involvedObject"]["name"] for event in kube.events(namespace, "Warning"))
    assert warned.keys() >= {"came", "edited"}
    # `last` may be asked by `next` for its name before it is deleted: then it says so twice, alive and in its deletion.
    assert warned.pop("last", 1) in (1, 2)
    assert set(warned.values()) == {1}, warned
    done = sorted((entry["action"], entry["name"]) for entry in database.ledger()[before:])
    assert done == [
        ("Created", "came"),
        ("Deleted", "goes"),
        ("HandedOver", "new"),
        ("HandedOver", "next"),
        ("Renamed", "edited"),
    ]


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


def test_api_server_restart_in_the_middle_of_work(
    operate: Operate, kube: Kube, namespace: str, database: Database, sandbox: Sandbox
) -> None:
    """The API server is killed while 50 Providers are being applied: the same process makes each of them once."""
    operator = operate(KEEP_OPERATOR_LEASE_SECONDS="60")
    things = [provider(f"vm-{n}", namespace, "team") for n in range(50)]
    kube.create(tenant("team"), *things[:30])
    eventually(lambda: len(database.providers()), lambda count: count >= 5, "work under way")
    sandbox.control_plane().restart_api_server(with_signal=signal.SIGKILL)
    kube.create(*things[30:])
    ready = kube.await_all_ready(*things)
    assert {thing.status["providerId"] for thing in ready} == {str(row["id"]) for row in database.providers()}
    assert [entry["action"] for entry in database.ledger("Provider")] == ["Created"] * 50
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
