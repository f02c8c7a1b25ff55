"""Databases that are behind, keys that are wrong, objects that are gone: nothing is lost, and a command mends it."""

import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.cluster import Database, Kube, credential, eventually, provider, secret, tenant
from e2e.conftest import Operate
from keep_operator.sandbox.instance import Sandbox
from manifests import definition, workflow

pytestmark = pytest.mark.e2e
FORCE = {"metadata": {"annotations": {"keep-operator.dev/force-delete": "true"}}}


def command(sandbox: Sandbox, database: Database, *args: str, expect: int = 0, **environment: str) -> str:
    """What a command prints, as a person would run it."""
    given = {
        **os.environ,
        "KUBECONFIG": str(sandbox.kubeconfig("operator")),
        "KEEP_OPERATOR_DATABASE_URL": database.url,
        **environment,
    }
    done = subprocess.run(
        [str(Path(sys.executable).parent / "keep-operator"), *args],
        env=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == expect, done.stdout
    return done.stdout


def dump(database: Database) -> list[tuple[str, str]]:
    """Both tables as they are now, as statements that put them back."""
    tables = []
    for table in ("tenant", "provider"):
        rows = database.rows(f"SELECT coalesce(json_agg(t), '[]')::text AS rows FROM keep_operator.{table} t")  # noqa: S608
        tables.append((table, rows[0]["rows"]))
    return tables


def restore(database: Database, dumped: list[tuple[str, str]]) -> None:
    """An older dump under a live cluster."""
    database.execute("DELETE FROM keep_operator.provider")
    database.execute("DELETE FROM keep_operator.tenant")
    for table, rows in dumped:
        escaped = rows.replace("'", "''").replace("%", "%%")
        database.execute(
            f"INSERT INTO keep_operator.{table} SELECT * FROM json_populate_recordset(NULL::keep_operator.{table}, '{escaped}')"  # noqa: S608
        )


def test_an_older_dump_is_mended_with_the_ids_as_they_were(
    operate: Operate, kube: Kube, namespace: str, database: Database, sandbox: Sandbox
) -> None:
    """Restored from before the last renames and creations: nothing deleted, `DatabaseBehind`, and `recover` mends it."""
    operator = operate()
    team = tenant("team")
    renamed, first = provider("renamed", namespace, "team"), provider("first", namespace, "team", externalName="shared")
    kube.create(team, renamed, first)
    kube.await_ready(team, renamed, first)
    dumped = dump(database)

    second = provider("second", namespace, "team", externalName="shared")
    kube.create(second)
    kube.await_condition(second, "Ready", ("Unknown", "ExternalNameConflict"))
    kube.delete(first)
    kube.await_ready(second)
    kube.edit(second, externalName="victoria")
    kube.edit(renamed, externalName="renamed-again")
    made = provider("made", namespace, "team")
    kube.create(made)
    for thing, name in ((second, "victoria"), (renamed, "renamed-again"), (made, "made")):
        kube.await_state(thing, lambda t, name=name: t.ready and t.status["externalName"] == name, name)  # type: ignore[misc]
    ids = {thing["metadata"]["name"]: kube.get(thing).status["providerId"] for thing in (second, renamed, made)}

    operator.stop()
    restore(database, dumped)
    operate()
    kube.await_condition(made, "Ready", ("False", "DatabaseBehind"))
    kube.await_condition(second, "Ready", ("False", "DatabaseBehind"))
    kube.await_ready(renamed)  # renamed in place: the same row says so again
    assert {str(row["id"]) for row in database.providers()} == {ids["second"], ids["renamed"]}

    told = command(sandbox, database, "recover")
    assert "2 steps would be taken" in told
    assert f"{namespace}/made" in told
    assert len(database.providers()) == 2
    assert "2 steps taken" in command(sandbox, database, "recover", "--yes")
    kube.await_ready(second, renamed, made)
    assert {row["owner_name"]: str(row["id"]) for row in database.providers()} == ids
    assert {row["owner_name"]: row["external_name"] for row in database.providers()} == {
        "second": "victoria",
        "renamed": "renamed-again",
        "made": "made",
    }
    assert "The database knows all" in command(sandbox, database, "recover")
    assert "Recovered" in [entry["action"] for entry in database.ledger("Provider")]


def test_a_forced_deletion_is_collected_by_the_second_sweep(
    operate: Operate, kube: Kube, namespace: str, database: Database
) -> None:
    """A finalizer stripped while the operator is down: row and credentials go by the policy, after two sweeps."""
    operator = operate()
    login = secret("login", namespace, password="p")
    gone = provider("gone", namespace, secrets=[credential("BasicAuthPassword", "login", "password")])
    kept, orphaned = provider("kept", namespace), provider("orphaned", namespace, deletionPolicy="Orphan")
    kube.create(login, gone, kept, orphaned)
    kube.await_ready(gone, kept, orphaned)
    operator.stop(signal.SIGKILL)
    for thing in (gone, orphaned):
        path = f"/apis/keep-operator.dev/v1alpha1/namespaces/{namespace}/providers/{thing['metadata']['name']}"
        kube.patch(path, {"metadata": {"finalizers": None}})
        kube.delete(thing)
        kube.await_gone(thing)
    assert len(database.providers()) == 3
    operate(KEEP_OPERATOR_SWEEP_INTERVAL="5s")
    eventually(
        lambda: {row["external_name"]: row["owner_name"] for row in database.providers()},
        lambda owners: owners == {"kept": "kept", "orphaned": None},
        "collection",
    )
    causes = {e["details"].get("cause") for e in database.ledger("Provider") if e["action"] in ("Deleted", "Orphaned")}
    assert causes == {"ObjectGone"}
    assert kube.get(kept).ready


def test_leftovers_are_listed_adopted_and_pruned(
    operate: Operate, kube: Kube, namespace: str, database: Database, sandbox: Sandbox
) -> None:
    """Records that nobody owns are listed; one is taken over with its id, the other one removed, and only by name.

    Of a Workflow the history goes on under the same id, or stays as that of a deleted one.
    """
    operate()
    first, second = (
        workflow(name, namespace, None, definition(name), deletionPolicy="Orphan") for name in ("run", "two")
    )
    kube.create(first, second)
    kube.await_ready(first, second)
    lineage = kube.get(first).status["workflowId"]
    one = provider("one", namespace, deletionPolicy="Orphan")
    two = provider("two", namespace, deletionPolicy="Orphan")
    mine = provider("mine", namespace)
    kube.create(one, two, mine)
    kube.await_ready(one, two, mine)
    identity = kube.get(one).status["providerId"]
    for thing in (one, two, first, second):
        kube.delete(thing)
    kube.await_gone(one, two, first, second)
    told = command(sandbox, database, "adopt")
    assert "one" in told
    assert "IfUnowned" in told
    assert "mine" not in told
    manifests = command(sandbox, database, "adopt", "-o", "yaml", "--namespace", namespace)
    for manifest in manifests.split("---\n"):
        if "\n  name: one\n" in manifest or "\n  name: run\n" in manifest:
            kube.kubectl("apply", "--validate=false", "-f", "-", stdin=manifest)
    kube.await_ready(one, first)
    assert kube.get(one).status["providerId"] == identity
    assert kube.get(first).status["workflowId"] == lineage
    assert kube.get(first).status["latestCreatedRevision"]["number"] == 1
    assert "belongs to" in command(sandbox, database, "prune", "--tenant", "keep", "mine", expect=1)
    assert "say --kind" in command(sandbox, database, "prune", "--tenant", "keep", "two", expect=1)
    of_kind = ("prune", "--tenant", "keep", "two", "--kind")
    assert "Nothing was done" in command(sandbox, database, *of_kind, "Provider")
    assert len(database.providers()) == 3
    assert "removed" in command(sandbox, database, *of_kind, "Provider", "--yes")
    assert "removed" in command(sandbox, database, *of_kind, "Workflow", "--yes")
    left = database.rows("SELECT external_name, deleted_at IS NULL AS lives FROM keep_operator.workflow")
    assert {row["external_name"]: row["lives"] for row in left} == {"run": True, "two": False}
    assert {row["external_name"] for row in database.providers()} == {"one", "mine"}


def test_a_wrong_key_overwrites_nothing_and_can_be_taken_back(
    operate: Operate, kube: Kube, namespace: str, database: Database
) -> None:
    """`EncryptionKeyMismatch` for every Provider until the right key is back; new ones are not written either."""
    operator = operate()
    login = secret("login", namespace, password="p")
    vm = provider("vm", namespace, secrets=[credential("BasicAuthPassword", "login", "password")])
    kube.create(login, vm)
    kube.await_ready(vm)
    before = database.providers()
    operator.stop()
    wrong = operate(flawed=True, KEEP_OPERATOR_ENCRYPTION_KEY=secrets.token_urlsafe(32))
    kube.await_condition(vm, "Ready", ("False", "EncryptionKeyMismatch"))
    late = provider("late", namespace)
    kube.create(late)
    kube.await_condition(late, "Ready", ("False", "EncryptionKeyMismatch"))
    assert database.providers() == before
    wrong.stop()
    operate()
    kube.await_ready(vm, late)
    assert [row["credentials"] for row in database.providers() if row["external_name"] == "vm"] == [
        before[0]["credentials"]
    ]


def test_a_key_is_rotated_and_a_lost_one_replaced(
    operate: Operate, kube: Kube, namespace: str, database: Database, sandbox: Sandbox
) -> None:
    """New key first, `keys rotate`, old key out; and with all keys lost `keys replace` seals from the Secrets."""
    old, new, last = (secrets.token_urlsafe(32) for _ in range(3))
    operator = operate(KEEP_OPERATOR_ENCRYPTION_KEY=old)
    login = secret("login", namespace, password="p")
    vm = provider("vm", namespace, secrets=[credential("BasicAuthPassword", "login", "password")])
    kube.create(login, vm)
    kube.await_ready(vm)
    operator.stop()
    operator = operate(KEEP_OPERATOR_ENCRYPTION_KEY=f"{new} {old}")
    told = command(sandbox, database, "keys", "rotate", KEEP_OPERATOR_ENCRYPTION_KEY=f"{new} {old}")
    assert "1 sealed anew" in told
    operator.stop()
    operator = operate(KEEP_OPERATOR_ENCRYPTION_KEY=new)
    kube.edit(vm, config={"VMBackendURL": "http://elsewhere:8428"})
    kube.await_ready(vm)
    operator.stop()

    operate(KEEP_OPERATOR_ENCRYPTION_KEY=last)
    kube.await_condition(vm, "Ready", ("False", "EncryptionKeyMismatch"))
    assert "NOT GIVEN" in command(sandbox, database, "keys", "show", KEEP_OPERATOR_ENCRYPTION_KEY=last)
    assert "Nothing was done" in command(sandbox, database, "keys", "replace", KEEP_OPERATOR_ENCRYPTION_KEY=last)
    command(sandbox, database, "keys", "replace", "--yes", KEEP_OPERATOR_ENCRYPTION_KEY=last)
    kube.await_ready(vm)
    eventually(
        lambda: command(sandbox, database, "keys", "show", KEEP_OPERATOR_ENCRYPTION_KEY=last),
        lambda shown: "NOT GIVEN" not in shown and "1 record " in shown,
    )


def test_a_namespace_goes_without_its_database(
    operate: Operate, kube: Kube, namespace: str, database: Database, sandbox: Sandbox
) -> None:
    """With the database down an object goes only by `force-delete`, after its time; what it leaves the sweep collects."""
    operate(KEEP_OPERATOR_FORCE_DELETE_SECONDS="2", KEEP_OPERATOR_SWEEP_INTERVAL="5s")
    forced, patient = provider("forced", namespace), provider("patient", namespace)
    kube.create(forced, patient)
    kube.await_ready(forced, patient)
    path = f"/apis/keep-operator.dev/v1alpha1/namespaces/{namespace}/providers/forced"
    sandbox.database.stop()
    try:
        kube.patch(path, FORCE)
        kube.delete(forced)
        kube.delete(patient)
        kube.await_gone(forced)
        assert kube.get(patient).condition("Deleting") == ("True", "DatabaseUnavailable")
    finally:
        sandbox.database.start()
    kube.await_gone(patient)
    eventually(database.providers, lambda rows: rows == [], "collection")
