"""A namespace full of Providers is deleted: it ends by itself, whatever goes first, and leaves what the policies say (A-GC-7)."""

import pytest

from e2e.cluster import Database, Json, Kube, at_once, credential, eventually, provider, secret, tenant
from e2e.conftest import Operate
from e2e.story.test_recovery import FORCE
from keep_operator.resources.kinds import PROVIDERS, WORKFLOW_DECISIONS, WORKFLOW_REVISIONS, WORKFLOWS
from keep_operator.sandbox.instance import Sandbox
from manifests import decision, querying, workflow

pytestmark = pytest.mark.e2e

COUNT = 100
# The controller of namespaces looks again after some seconds where finalizers hold something; on a busy machine, in seconds.
PATIENT_S = 180.0
TEAM = tenant("team", deletionPolicy="Delete")


def _namespace(name: str) -> Json:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _full(kube: Kube, namespace: str, count: int) -> list[Json]:
    """A Ready Tenant, and so many Ready Providers of it, each third with deletionPolicy Orphan, all with credentials."""
    login = [credential("BasicAuthPassword", "login", "password")]
    kube.create(TEAM, secret("login", namespace, password="p"))
    policies = ("Delete", "Delete", "Orphan")
    things = [
        provider(f"vm-{n:03}", namespace, "team", secrets=login, deletionPolicy=policies[n % 3]) for n in range(count)
    ]
    at_once(kube.create, things)
    kube.await_all_ready(*things, patience_s=PATIENT_S)
    return things


def _orphans(things: list[Json]) -> list[str]:
    return [thing["metadata"]["name"] for thing in things if thing["spec"]["deletionPolicy"] == "Orphan"]


def _await_gone(kube: Kube, *manifests: Json) -> None:
    for manifest in manifests:
        kube.await_state(manifest, lambda seen: not seen, "end", PATIENT_S)


@pytest.mark.parametrize("first", ["tenant", "namespace"])
def test_a_namespace_goes_with_its_confirmed_tenant(
    first: str, operate: Operate, kube: Kube, namespace: str, database: Database
) -> None:
    """Namespace and confirmed Tenant deleted at once, in either order: both go, and only rows to be orphaned stay."""
    operator = operate()
    things = _full(kube, namespace, COUNT)
    kube.kubectl("annotate", "tenants.keep-operator.dev", "team", "keep-operator.dev/confirm-deletion=team")
    for manifest in (TEAM, _namespace(namespace)) if first == "tenant" else (_namespace(namespace), TEAM):
        kube.delete(manifest)
    _await_gone(kube, TEAM, _namespace(namespace))
    assert kube.objects(PROVIDERS) == []
    rows = database.providers()
    assert [(row["external_name"], row["owner_uid"]) for row in rows] == [(name, None) for name in _orphans(things)]
    (team,) = (row for row in database.tenants() if row["id"] == "team")
    assert (team["owner_uid"], team["delete_when_empty"]) == (None, True)
    ends = [entry["action"] for entry in database.ledger("Provider") if entry["action"] in ("Deleted", "Orphaned")]
    assert len(ends) == COUNT
    assert '"level": "error"' not in operator.log


def test_an_unconfirmed_tenant_outlives_a_namespace(
    operate: Operate, kube: Kube, namespace: str, database: Database
) -> None:
    """Not confirmed, a Tenant says what it is waiting for: it serves the other namespaces, and goes after the last."""
    operator = operate()
    things = _full(kube, namespace, COUNT)
    elsewhere = provider("elsewhere", "default", "team")
    kube.create(elsewhere)
    (before,) = kube.await_ready(elsewhere)
    kube.delete(TEAM)
    held = kube.await_condition(TEAM, "Deleting", ("True", "DependentsExist"))
    assert f"{COUNT + 1} Providers" in held.message("Deleting")
    kube.delete(_namespace(namespace))
    _await_gone(kube, _namespace(namespace))
    operator.stop()
    operate()  # which counts at once, else it waits for 30 s
    held = kube.await_state(TEAM, lambda seen: "1 Provider " in seen.message("Deleting"), "the count", PATIENT_S)
    assert held.condition("Deleting") == ("True", "DependentsExist")
    assert "keep-operator.dev/confirm-deletion=team" in held.message("Deleting")
    assert held.ready
    assert kube.get(elsewhere).version == before.version
    assert [row["external_name"] for row in database.providers()] == ["elsewhere", *_orphans(things)]
    kube.delete(elsewhere)
    _await_gone(kube, elsewhere, TEAM)
    assert [row["external_name"] for row in database.providers()] == _orphans(things)


def test_a_namespace_goes_while_the_database_is_away(
    operate: Operate, kube: Kube, namespace: str, database: Database, sandbox: Sandbox
) -> None:
    """With the database away each Provider says what holds it; given up, they let the namespace go. The sweep does the rest."""
    operate(KEEP_OPERATOR_FORCE_DELETE_SECONDS="2", KEEP_OPERATOR_SWEEP_INTERVAL="5s")
    things = _full(kube, namespace, 12)
    sandbox.database.stop()
    try:
        kube.delete(_namespace(namespace))
        for thing in things:
            kube.await_condition(thing, "Deleting", ("True", "DatabaseUnavailable"))
        assert kube.get(_namespace(namespace))
        for thing in things:
            kube.patch(PROVIDERS.path(namespace, thing["metadata"]["name"]), FORCE)
        _await_gone(kube, _namespace(namespace))
    finally:
        sandbox.database.start()
    orphaned = [(name, None) for name in _orphans(things)]
    eventually(
        lambda: [(row["external_name"], row["owner_uid"]) for row in database.providers()],
        lambda rows: rows == orphaned,
        "collection",
    )


def _workflows(kube: Kube, namespace: str, count: int) -> list[Json]:
    """So many Ready Workflows that use a Provider, each third with deletionPolicy Orphan; the first was rolled back."""
    policies = ("Delete", "Delete", "Orphan")
    things = [
        workflow(f"wf-{n:03}", namespace, "team", querying("vm-000"), deletionPolicy=policies[n % 3])
        for n in range(count)
    ]
    at_once(kube.create, things)
    for thing in things:
        kube.await_state(thing, lambda seen: seen.ready, "Ready", PATIENT_S)
    kube.edit(things[0], definition=querying("vm-000", "down"))
    kube.await_state(things[0], lambda seen: seen.status["activeRevision"]["number"] == 2, "v2", PATIENT_S)
    back = decision("Rollback", things[0], "back")
    kube.create(back)
    kube.await_condition(back, "Handled", ("True", "Done"))
    return things


def _lineages(database: Database) -> dict[str, str]:
    """What has become of the row of each workflow."""
    rows = database.rows("SELECT external_name, owner_uid, deleted_at FROM keep_operator.workflow")
    return {
        row["external_name"]: "deleted" if row["deleted_at"] else "kept" if row["owner_uid"] else "orphaned"
        for row in rows
    }


@pytest.mark.parametrize("first", ["tenant", "namespace"])
def test_a_namespace_goes_with_its_workflows(
    first: str, operate: Operate, kube: Kube, namespace: str, database: Database
) -> None:
    """Workflows, their versions and decisions, their Provider and the confirmed Tenant go in any order; all history stays."""
    operator = operate()
    _full(kube, namespace, 2)
    things = _workflows(kube, namespace, 9)
    kube.kubectl("annotate", "tenants.keep-operator.dev", "team", "keep-operator.dev/confirm-deletion=team")
    for manifest in (TEAM, _namespace(namespace)) if first == "tenant" else (_namespace(namespace), TEAM):
        kube.delete(manifest)
    _await_gone(kube, TEAM, _namespace(namespace))
    for resource in (WORKFLOWS, WORKFLOW_REVISIONS, WORKFLOW_DECISIONS):
        assert kube.objects(resource) == []
    ends = {"Delete": "deleted", "Orphan": "orphaned"}
    assert _lineages(database) == {thing["metadata"]["name"]: ends[thing["spec"]["deletionPolicy"]] for thing in things}
    assert len(database.rows("SELECT 1 FROM keep_operator.workflow_revision")) == 10
    assert len(database.rows("SELECT 1 FROM keep_operator.handled_decision")) == 1
    assert '"level": "error"' not in operator.log


def test_workflows_that_go_while_the_database_is_away(
    operate: Operate, kube: Kube, namespace: str, database: Database, sandbox: Sandbox
) -> None:
    """Given up by `force-delete` they let the namespace go; once the database is back the sweep does what the policies say."""
    operate(KEEP_OPERATOR_FORCE_DELETE_SECONDS="2", KEEP_OPERATOR_SWEEP_INTERVAL="5s")
    providers = _full(kube, namespace, 1)
    things = _workflows(kube, namespace, 3)
    sandbox.database.stop()
    try:
        kube.delete(_namespace(namespace))
        for thing in things:
            kube.await_condition(thing, "Deleting", ("True", "DatabaseUnavailable"))
        for resource, every in ((WORKFLOWS, things), (PROVIDERS, providers)):
            for thing in every:
                kube.patch(resource.path(namespace, thing["metadata"]["name"]), FORCE)
        _await_gone(kube, _namespace(namespace))
    finally:
        sandbox.database.start()
    gone = {"wf-000": "deleted", "wf-001": "deleted", "wf-002": "orphaned"}
    eventually(lambda: _lineages(database), lambda rows: rows == gone, "collection")
    causes = {
        row["details"].get("cause") for row in database.ledger("Workflow") if row["action"] in ("Deleted", "Orphaned")
    }
    assert causes == {"ObjectGone"}
