"""Removing things: the Tenant's guard, everything at once in any order, and hands that pull finalizers off."""

import itertools

import pytest

from e2e.cluster import Database, Kube, eventually, provider, tenant
from e2e.conftest import Operate

pytestmark = pytest.mark.e2e


def test_tenant_is_held_then_released(team: str, kube: Kube, namespace: str, database: Database) -> None:
    """A deleted Tenant stays while Providers need it, says how many, keeps serving, and goes by itself after the last."""
    things = [provider(name, namespace, team) for name in ("a", "b")]
    kube.create(*things)
    versions = [thing.version for thing in kube.await_ready(*things)]
    kube.delete(tenant(team))
    held = kube.await_condition(tenant(team), "Deleting", ("True", "DependentsExist"))
    assert "2 Providers" in held.message("Deleting")
    assert [kube.get(thing).version for thing in things] == versions
    kube.delete(things[0])
    kube.await_gone(things[0])
    assert kube.get(tenant(team))
    kube.delete(things[1])
    kube.await_gone(things[1], tenant(team))
    assert database.providers() == []
    row = next(row for row in database.tenants() if row["id"] == team)
    assert row["owner_uid"] is None  # deletionPolicy of a Tenant is Orphan by default


def test_confirmed_deletion_takes_the_children(team: str, kube: Kube, namespace: str, database: Database) -> None:
    """With the confirming annotation the Tenant goes at once, and Kubernetes collects its Providers and their rows."""
    vm = provider("vm", namespace, team)
    kube.edit(tenant(team), deletionPolicy="Delete")
    kube.create(vm)
    kube.await_ready(vm)
    kube.delete(tenant(team))
    kube.await_condition(tenant(team), "Deleting", ("True", "DependentsExist"))
    kube.kubectl("annotate", "tenants.keep-operator.dev", team, f"keep-operator.dev/confirm-deletion={team}")
    kube.await_gone(tenant(team), vm)
    eventually(lambda: [row["id"] for row in database.tenants()], lambda ids: ids == ["keep"], "end of the row")
    assert database.providers() == []


@pytest.mark.parametrize("order", list(itertools.permutations(("tenant", "a", "b"))), ids="-".join)
@pytest.mark.parametrize("propagation", ["Background", "Foreground"])
def test_everything_at_once_ends(
    team: str, order: tuple[str, ...], propagation: str, kube: Kube, namespace: str, database: Database
) -> None:
    """`helm uninstall` and a foreground deletion of everything end unattended, whatever goes first."""
    things = {"tenant": tenant(team), "a": provider("a", namespace, team), "b": provider("b", namespace, team)}
    kube.create(things["a"], things["b"])
    kube.await_ready(*things.values())
    for name in order:
        kube.delete(things[name], propagation)
    kube.await_gone(*things.values())
    assert database.providers() == []


def test_orphan_policy_leaves_the_row(team: str, kube: Kube, namespace: str, database: Database) -> None:
    """`deletionPolicy: Orphan` leaves the row without an owner; a new object is told how to adopt it, and can."""
    vm = provider("vm", namespace, team, deletionPolicy="Orphan")
    kube.create(vm)
    (before,) = kube.await_ready(vm)
    kube.delete(vm)
    kube.await_gone(vm)
    (row,) = database.providers()
    assert row["owner_uid"] is None
    kube.create(vm)
    refused = kube.await_condition(vm, "Ready", ("False", "ExternalResourceExists"))
    assert "adoptionPolicy: IfUnowned" in refused.message("Ready")
    kube.edit(vm, adoptionPolicy="IfUnowned")
    (after,) = kube.await_ready(vm)
    assert after.status["providerId"] == before.status["providerId"]
    assert after.condition("Synced") == ("True", "Adopted")


def test_deleted_while_it_waits(operate: Operate, kube: Kube, namespace: str, database: Database) -> None:
    """A Provider that never got a Tenant goes at once, and leaves nothing."""
    operate()
    vm = provider("vm", namespace, "nobody")
    kube.create(vm)
    kube.await_condition(vm, "Ready", ("Unknown", "TenantNotFound"))
    kube.delete(vm)
    kube.await_gone(vm)
    assert database.providers() == []


def test_finalizer_stripped_by_hand_is_put_back(team: str, kube: Kube, namespace: str) -> None:
    """Somebody removes our finalizer from a living Provider: it comes back."""
    vm = provider("vm", namespace, team)
    kube.create(vm)
    kube.await_ready(vm)
    kube.kubectl(
        "patch",
        "providers.keep-operator.dev",
        "vm",
        "-n",
        namespace,
        "--type=merge",
        "-p",
        '{"metadata":{"finalizers":null,"ownerReferences":null}}',
    )
    healed = eventually(lambda: kube.get(vm), lambda t: t.raw["metadata"].get("finalizers"))
    assert healed.raw["metadata"]["finalizers"] == ["keep-operator.dev/provider"]
    assert healed.raw["metadata"]["ownerReferences"][0]["name"] == team


def test_force_deleted_and_applied_again(team: str, kube: Kube, namespace: str, database: Database) -> None:
    """A Provider whose finalizer was torn off while deleting, and that comes back by Git, has its old record again."""
    vm = provider("vm", namespace, team)
    kube.create(vm)
    (before,) = kube.await_ready(vm)
    path = f"/apis/keep-operator.dev/v1alpha1/namespaces/{namespace}/providers/vm"
    kube.edit(vm, suspend=True)
    kube.patch(path, {"metadata": {"finalizers": None}})
    kube.delete(vm)
    kube.await_gone(vm)
    kube.create(vm)
    (after,) = kube.await_ready(vm)
    assert after.status["providerId"] in (
        before.status["providerId"],
        *(str(row["id"]) for row in database.providers()),
    )
    assert len(database.providers()) == 1


def test_suspend_writes_nothing_but_honours_deletion(team: str, kube: Kube, namespace: str, database: Database) -> None:
    """A suspended Provider's edits wait, its reconcile token is answered, and deleting it still cleans up."""
    vm = provider("vm", namespace, team)
    kube.create(vm)
    kube.await_ready(vm)
    kube.edit(vm, suspend=True, externalName="renamed")
    paused = eventually(lambda: kube.get(vm), lambda t: t.condition("Suspended"))
    assert paused.condition("Ready") == ("Unknown", "Suspended")
    assert [row["external_name"] for row in database.providers()] == ["vm"]
    kube.kubectl(
        "annotate",
        "providers.keep-operator.dev",
        "vm",
        "-n",
        namespace,
        "keep-operator.dev/reconcile-requested-at=now-1",
    )
    eventually(lambda: kube.get(vm), lambda t: t.status.get("lastHandledReconcileAt") == "now-1")
    kube.delete(vm)
    kube.await_gone(vm)
    assert database.providers() == []


def test_a_failing_delete_is_retried_until_it_works(team: str, kube: Kube, namespace: str, database: Database) -> None:
    """A database that refuses the removal keeps the object, which says so; once it works the object goes (A-GC-5)."""
    vm = provider("vm", namespace, team)
    kube.create(vm)
    kube.await_ready(vm)
    database.execute("""
        CREATE FUNCTION keep_operator.refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'injected'; END $$;
        CREATE TRIGGER refuse BEFORE DELETE ON keep_operator.provider EXECUTE FUNCTION keep_operator.refuse()
    """)
    kube.delete(vm)
    stuck = eventually(lambda: kube.get(vm), lambda t: t.condition("Deleting"))
    assert stuck.condition("Deleting") == ("True", "DeletionFailed")
    assert "injected" not in stuck.message("Deleting")
    assert len(database.providers()) == 1
    database.execute("DROP TRIGGER refuse ON keep_operator.provider")
    kube.await_gone(vm)
    assert database.providers() == []
