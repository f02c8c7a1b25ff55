"""Workflows on a real API server and a real database: versions, what they wait for, and what others do to them."""

import itertools

import pytest

from e2e.cluster import Database, Json, Kube, Thing, eventually, provider, tenant
from e2e.conftest import Operate
from keep_operator.resources.kinds import WORKFLOW_REVISIONS
from keep_operator.sandbox.instance import Sandbox
from manifests import as_yaml, config_map, definition, querying, workflow

pytestmark = pytest.mark.e2e
FILE: Json = {"configMapKeyRef": {"name": "files", "key": "hello.yaml"}}


def versions(kube: Kube, namespace: str) -> dict[int, Thing]:
    """The objects of versions by number."""
    return {thing.raw["spec"]["number"]: thing for thing in kube.objects(WORKFLOW_REVISIONS, namespace)}


def active(thing: Thing) -> int | None:
    """The number of the active version, as the Workflow says."""
    number: int | None = (thing.status.get("activeRevision") or {}).get("number")
    return number


def await_active(kube: Kube, manifest: Json, number: int) -> Thing:
    """The Workflow once it is Ready with this version."""
    return kube.await_state(manifest, lambda it: it.ready and active(it) == number, f"version {number}")


def rewrite(kube: Kube, manifest: Json, does: Json) -> None:
    """Let the definition be this one, whatever it was."""
    old = kube.get(manifest).raw["spec"]["definition"]
    kube.edit(manifest, definition={**dict.fromkeys(old), **does})


@pytest.mark.parametrize("order", list(itertools.permutations(("tenant", "provider", "workflow"))), ids="-".join)
def test_any_order_ends_ready(
    order: tuple[str, ...], operate: Operate, kube: Kube, namespace: str, database: Database, sandbox: Sandbox
) -> None:
    """Tenant, Provider and Workflow in whatever order end Ready: no foreign-key error, no Warning, no restart (A-DEP-1)."""
    operator = operate()
    things = {
        "tenant": tenant("team"),
        "provider": provider("vm", namespace, "team"),
        "workflow": workflow("high-cpu", namespace, "team", querying("vm")),
    }
    for name in order:
        kube.create(things[name])
        if name != "tenant":
            eventually(lambda n=name: kube.get(things[n]), lambda thing: thing.condition("Ready"))  # type: ignore[misc]
    kube.await_ready(*things.values())
    assert [*versions(kube, namespace)] == [1]
    assert active(kube.get(things["workflow"])) == 1
    assert kube.events(namespace, "Warning") == []
    assert operator.process.poll() is None
    assert "foreign key" not in sandbox.database.log.read_text(encoding="utf-8")


def test_from_the_first_version_to_the_third(team: str, kube: Kube, namespace: str, database: Database) -> None:
    """Created, edited, re-applied, broken, mended: each content is one version, and what cannot run is never active."""
    hello = workflow("hello", namespace, team, definition("one"))
    kube.create(hello)
    await_active(kube, hello, 1)
    rewrite(kube, hello, definition("two"))
    thing = await_active(kube, hello, 2)
    assert thing.status["activeRevision"]["name"] == versions(kube, namespace)[2].raw["metadata"]["name"]
    kube.edit(hello, definition=definition("two", description="For the night shift", owners=["ann"]))
    generation = kube.get(hello).raw["metadata"]["generation"]
    kube.await_state(hello, lambda it: it.ready and it.status["observedGeneration"] == generation, "a look")
    assert sorted(versions(kube, namespace)) == [1, 2]
    rewrite(kube, hello, {"steps": "none"})
    thing = kube.await_condition(hello, "DefinitionValid", ("False", "SchemaError"))
    assert (active(thing), thing.condition("Available")) == (2, ("True", "Serving"))
    assert "steps" in thing.message("DefinitionValid")
    rewrite(kube, hello, definition("one"))
    thing = await_active(kube, hello, 4)
    shown = versions(kube, namespace)
    assert sorted(shown) == [1, 2, 3, 4]
    assert [shown[number].condition("Valid") for number in (2, 3)] == [("True", "Valid"), ("False", "SchemaError")]
    assert shown[4].status["sameContentAs"] == 1
    assert [entry["revision"] for entry in thing.status["history"]] == [4, 2, 1]
    deeds = [entry["action"] for entry in database.ledger("Workflow")]
    assert (deeds[0], deeds.count("Deployed")) == ("Created", 3)


def test_edits_in_the_same_second(team: str, kube: Kube, namespace: str) -> None:
    """Two edits right after each other: the last one is active, and no number is missing or given twice."""
    hello = workflow("hello", namespace, team, definition("one"))
    kube.create(hello)
    await_active(kube, hello, 1)
    kube.edit(hello, definition=definition("two"))
    kube.edit(hello, definition=definition("three"))
    eventually(
        lambda: kube.get(hello),
        lambda it: (
            it.ready and versions(kube, namespace)[active(it) or 1].raw["spec"]["definition"] == definition("three")
        ),
        "the third definition",
    )
    numbers = sorted(versions(kube, namespace))
    assert numbers in ([1, 2], [1, 2, 3])


def test_a_provider_that_comes_late_and_goes_early(team: str, kube: Kube, namespace: str) -> None:
    """It is waited for by name; when it is deleted the Workflow says that it is broken, and nothing hangs (A-GO-5)."""
    asking = workflow("high-cpu", namespace, team, querying("vm"))
    kube.create(asking)
    thing = kube.await_condition(asking, "ProvidersReady", ("Unknown", "ProvidersNotReady"))
    assert "vm" in thing.message("Ready")
    assert thing.condition("Reconciling") == ("True", "WaitingForDependency")
    kube.create(provider("vm", namespace, team))
    await_active(kube, asking, 1)
    kube.delete(provider("vm", namespace))
    thing = kube.await_condition(asking, "Available", ("False", "ActiveRevisionBroken"))
    assert active(thing) == 1
    kube.await_gone(provider("vm", namespace))
    kube.create(provider("vm", namespace, team))
    await_active(kube, asking, 1)


def test_a_file_of_keep_in_a_config_map(team: str, kube: Kube, namespace: str) -> None:
    """It is waited for; its change is a version, a comment in it is none; a broken one changes nothing."""
    text = as_yaml({"workflow": {"id": "hello", **definition("one")}})
    filed = workflow("hello", namespace, team, definitionFrom=FILE)
    kube.create(filed)
    kube.await_condition(filed, "DefinitionValid", ("Unknown", "ConfigMapNotFound"))
    kube.create(config_map("files", namespace, **{"hello.yaml": text}))
    first = await_active(kube, filed, 1)
    path = f"/api/v1/namespaces/{namespace}/configmaps/files"
    kube.patch(path, {"data": {"hello.yaml": text.replace("one", "two") + "# a comment\n"}})
    await_active(kube, filed, 2)
    kube.patch(path, {"data": {"hello.yaml": "actions: ["}})
    thing = kube.await_condition(filed, "DefinitionValid", ("False", "ParseError"))
    assert active(thing) == 2
    inline = workflow("inline", namespace, team, definition("one"))
    kube.create(inline)
    thing = await_active(kube, inline, 1)
    assert thing.status["activeRevision"]["contentHash"] == first.status["activeRevision"]["contentHash"]


def test_a_version_that_is_deleted_or_edited_is_made_again(team: str, kube: Kube, namespace: str) -> None:
    """The database has it, under the same name, number and hash; nobody's edit of a version lasts (A-REV-3)."""
    hello = workflow("hello", namespace, team, definition("one"))
    kube.create(hello)
    await_active(kube, hello, 1)
    (first,) = versions(kube, namespace).values()
    path = WORKFLOW_REVISIONS.path(namespace, first.raw["metadata"]["name"])

    def healed(thing: Thing) -> bool:
        same = thing and thing.raw["spec"] == first.raw["spec"] and thing.condition("Active") == ("True", "Active")
        return bool(same and thing.raw["metadata"]["labels"] == first.raw["metadata"]["labels"])

    def shown() -> Thing:
        return versions(kube, namespace).get(1, Thing({}))

    kube.send("DELETE", path)
    again = eventually(shown, lambda thing: healed(thing) and thing.uid != first.uid, "the version")
    planted = {"spec": {"definition": {"consts": {"planted": True}}}}
    status, _ = kube.patch(path, planted)
    if status == 200:  # from Kubernetes 1.25 on the API server refuses it
        eventually(shown, lambda thing: healed(thing) and thing.uid != again.uid, "the version")
    kube.patch(path, {"metadata": {"labels": {"keep-operator.dev/workflow": "another"}}})
    eventually(shown, healed, "the labels")


def test_deleted_and_made_again(team: str, kube: Kube, namespace: str, database: Database) -> None:
    """A Workflow of the same name begins anew at version 1; the old history stays in the database (A-REV-8)."""
    hello = workflow("hello", namespace, team, definition("one"))
    kube.create(hello)
    await_active(kube, hello, 1)
    rewrite(kube, hello, definition("two"))
    old = await_active(kube, hello, 2).status["workflowId"]
    kube.delete(hello)
    kube.await_gone(hello)
    kube.create(hello)
    new = await_active(kube, hello, 1).status["workflowId"]
    eventually(lambda: [*versions(kube, namespace)], lambda found: found == [1], "the new versions only")
    rows = database.rows("SELECT id, latest_revision, deleted_at FROM keep_operator.workflow")
    assert {str(row["id"]): (row["latest_revision"], row["deleted_at"] is not None) for row in rows} == {
        old: (2, True),
        new: (1, False),
    }


def test_a_namespace_goes_with_its_workflows(team: str, kube: Kube, namespace: str, database: Database) -> None:
    """A namespace full of Workflows, their versions and Providers ends by itself; so does its Tenant (A-GC-7, A-GC-8)."""
    flows = [workflow(f"flow-{number}", namespace, team, querying("vm")) for number in range(10)]
    kube.create(provider("vm", namespace, team), *flows)
    kube.await_ready(*flows)
    kube.delete(tenant(team))
    held = kube.await_condition(tenant(team), "Deleting", ("True", "DependentsExist"))
    assert held.message("Deleting").startswith("1 Provider and 10 Workflows of ")
    kube.send("DELETE", f"/api/v1/namespaces/{namespace}")
    status = eventually(
        lambda: kube.send("GET", f"/api/v1/namespaces/{namespace}")[0], lambda code: code == 404, "its end", 180.0
    )
    assert status == 404
    kube.await_gone(tenant(team))
    assert versions(kube, namespace) == {}
    assert len(database.rows("SELECT 1 FROM keep_operator.workflow WHERE deleted_at IS NOT NULL")) == 10


def test_who_applied_it_stands_in_status_and_version(team: str, kube: Kube, namespace: str) -> None:
    """`kubectl apply` leaves its name, as any tool does; an annotation names a person (A-REV-10)."""
    hello = workflow("hello", namespace, team, definition("one"))
    kube.kubectl("apply", "--server-side", "--field-manager=git", "-f", "-", stdin=as_yaml(hello))
    thing = await_active(kube, hello, 1)
    assert thing.status["source"] == {"fieldManager": "git"}
    assert versions(kube, namespace)[1].raw["spec"]["author"] == {"username": "git", "source": "FieldManager"}
    claimed = {"keep-operator.dev/author": "ann@example.com", "keep-operator.dev/change-note": "Louder"}
    kube.patch(
        f"/apis/keep-operator.dev/v1alpha1/namespaces/{namespace}/workflows/hello",
        {"metadata": {"annotations": claimed}, "spec": {"definition": definition("ONE")}},
    )
    await_active(kube, hello, 2)
    spec = versions(kube, namespace)[2].raw["spec"]
    assert (spec["changeNote"], spec["author"]) == ("Louder", {"username": "ann@example.com", "source": "Annotation"})


def test_a_database_that_is_behind(operate: Operate, kube: Kube, namespace: str, database: Database) -> None:
    """Rows that an older dump does not have: the Workflow says so, and no version is deleted or numbered anew (A-REV-13)."""
    operator = operate()
    hello = workflow("hello", namespace, "team", definition("one"))
    kube.create(tenant("team"), hello)
    await_active(kube, hello, 1)
    operator.stop()
    for table in ("deployment", "revision_state", "revision_tag", "workflow_revision", "workflow", "ledger_pending"):
        database.execute(f"ALTER TABLE keep_operator.{table} DISABLE TRIGGER USER")
    database.execute("UPDATE keep_operator.workflow SET active_revision = NULL")
    for table in ("deployment", "revision_state", "revision_tag", "workflow_revision", "workflow"):
        database.execute(f"DELETE FROM keep_operator.{table}")  # noqa: S608
    operate()
    thing = kube.await_condition(hello, "Synced", ("False", "DatabaseBehind"))
    assert thing.status["workflowId"] in thing.message("Synced")
    rewrite(kube, hello, definition("two"))
    kube.await_state(hello, lambda it: it.status["observedGeneration"] == 2, "a look")
    assert [*versions(kube, namespace)] == [1]
    assert database.rows("SELECT 1 FROM keep_operator.workflow") == []


def test_what_kubectl_shows(team: str, kube: Kube, namespace: str) -> None:
    """A tired operator reads which version runs, which one is wanted, and why they differ, in one line each."""
    good, waiting = workflow("good", namespace, team), workflow("waiting", namespace, team, querying("vm"))
    kube.create(good, waiting)
    await_active(kube, good, 1)
    rewrite(kube, good, {"steps": "none"})
    kube.await_condition(good, "Deployed", ("False", "InvalidRevision"))
    kube.await_condition(waiting, "ProvidersReady", ("Unknown", "ProvidersNotReady"))
    listed = [line.split() for line in kube.kubectl("-n", namespace, "get", "workflows").splitlines()]
    assert [line[:-1] for line in listed] == [
        ["NAME", "READY", "REASON", "ACTIVE", "DESIRED", "AVAILABLE"],
        ["good", "False", "SchemaError", "1", "2", "True"],
        ["waiting", "Unknown", "ProvidersNotReady", "1", "Unknown"],  # nothing is active
    ]
