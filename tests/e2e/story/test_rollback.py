"""One rollback: it is one object, no tool that applies the manifest undoes it, and no death or dump takes it back (A-RB-1)."""

import json
import signal
import time
from collections import Counter
from collections.abc import Callable
from threading import Event, Thread
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from e2e.cluster import APPLY, Database, Json, Kube, Thing, as_yaml, eventually, tenant, window
from e2e.conftest import Operate
from e2e.story.test_recovery import command
from keep_operator.resources.kinds import WORKFLOW_REVISIONS
from keep_operator.sandbox.instance import Sandbox
from manifests import decision, definition, path_of, workflow

pytestmark = pytest.mark.e2e
SOAK_S = 600.0
RECORD = {"KEEP_OPERATOR_DECISIONS_UNVERIFIED": "Record"}


def active(thing: Thing) -> int | None:
    """The number of the active version, as the Workflow says."""
    number: int | None = (thing.status.get("activeRevision") or {}).get("number")
    return number


def await_active(kube: Kube, manifest: Json, number: int) -> Thing:
    """The Workflow once it is Ready with this version."""
    return kube.await_state(manifest, lambda it: it.ready and active(it) == number, f"version {number}")


def saying(manifest: Json, message: str) -> Json:
    """The manifest as Git has it then."""
    return manifest | {"spec": manifest["spec"] | {"definition": definition(message)}}


def server_side(kube: Kube, manifest: Json) -> None:
    """What Argo CD and Flux do: a server-side apply that is not forced, so a conflict fails it."""
    status, answer = kube.patch(f"{path_of(manifest)}?fieldManager=gitops", manifest, APPLY)
    assert status in (200, 201), answer


def client_side(kube: Kube, manifest: Json) -> None:
    """What `kubectl apply` does."""
    kube.kubectl("apply", "--validate=false", "-f", "-", stdin=as_yaml(manifest))


def handled(kube: Kube, manifest: Json) -> tuple[str, str]:
    """How a decision ended."""

    def verdict(thing: Thing) -> Any:
        return (thing.condition("Handled") or ("Unknown", ""))[0] != "Unknown"

    found = kube.await_state(manifest, verdict, "verdict").condition("Handled")
    assert found is not None
    return found


class Loop:
    """Applies what Git says every second, until it is told to stop; ``git`` may be changed meanwhile."""

    def __init__(self, kube: Kube, apply: Callable[[Kube, Json], None], git: Json) -> None:
        self.git = git
        self.rounds = 0
        self.failure: BaseException | None = None
        self._kube, self._apply = kube, apply
        self._stop = Event()
        self._thread = Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stop.wait(1.0):
                self._apply(self._kube, self.git)
                self.rounds += 1
        except BaseException as failure:
            self.failure = failure

    def end(self) -> None:
        """Stop it, and fail if any round failed."""
        self._stop.set()
        self._thread.join()
        if self.failure is not None:
            raise self.failure


@pytest.mark.slow
def test_no_gitops_tool_undoes_a_rollback(operate: Operate, kube: Kube, namespace: str, database: Database) -> None:
    """The manifest is applied every second, server-side and client-side, and the rollback stays; no apply sees a conflict.

    Then Git goes on by itself: a new definition in the one ends the hold, a revert in the other.
    """
    operate()
    kube.create(tenant("team"))
    things = [workflow(name, namespace, "team", definition("one")) for name in ("argo", "kubectl")]
    ways = (server_side, client_side)
    for thing, apply in zip(things, ways, strict=True):
        apply(kube, thing)
        await_active(kube, thing, 1)
        apply(kube, saying(thing, "two"))
        await_active(kube, thing, 2)
    loops = [Loop(kube, apply, saying(thing, "two")) for thing, apply in zip(things, ways, strict=True)]
    try:
        for thing in things:
            back = decision("Rollback", thing, f"back-{thing['metadata']['name']}", expect={"activeRevision": 2})
            kube.create(back)
            assert handled(kube, back) == ("True", "Done")
            await_active(kube, thing, 1)
        end = time.monotonic() + window(SOAK_S)
        while time.monotonic() < end or any(loop.rounds < 5 and loop.failure is None for loop in loops):
            assert [active(kube.get(thing)) for thing in things] == [1, 1]
            assert all(kube.get(thing).condition("Deployed") == ("False", "RolledBack") for thing in things)
            time.sleep(0.5)
        assert all(loop.rounds >= 5 for loop in loops)
        loops[0].git = saying(things[0], "three")
        loops[1].git = saying(things[1], "one")
        for thing in things:
            await_active(kube, thing, 3)
            assert kube.get(thing).condition("Deployed") == ("True", "RevisionActive")
            assert kube.get(thing).status.get("hold") is None
    finally:
        for loop in loops:
            loop.end()
    assert len(database.rows("SELECT 1 FROM keep_operator.workflow_revision")) == 6
    assert database.rows("SELECT 1 FROM keep_operator.hold") == []
    for thing in things:
        own = [each for each in kube.get(thing).raw["metadata"]["managedFields"] if each["manager"] == "keep-operator"]
        fields = json.dumps([each["fieldsV1"] for each in own if not each.get("subresource")])
        assert "f:spec" not in fields
    assert kube.events(namespace, "Warning") == []


def test_each_decision_is_carried_out_once_whoever_kills_the_operator(
    operate: Operate, kube: Kube, namespace: str, database: Database
) -> None:
    """The operator is killed right after each decision is made: each is handled once, in its turn, by its successor."""
    operator = operate()
    hello = workflow("hello", namespace, "team", definition("one"))
    kube.create(tenant("team"), hello)
    await_active(kube, hello, 1)
    kube.edit(hello, definition=definition("two"))
    await_active(kube, hello, 2)
    turns = 4
    for turn in range(turns):
        action, before, then = ("Rollback", 2, 1) if turn % 2 == 0 else ("Resume", 1, 2)
        what = decision(action, hello, f"turn-{turn}", expect={"activeRevision": before})
        kube.create(what)
        time.sleep(0.01 * turn * turn)
        operator.stop(signal.SIGKILL)
        operator = operate()
        assert handled(kube, what) == ("True", "Done")
        await_active(kube, hello, then)
    told = Counter(
        row["action"]
        for row in database.rows("SELECT action FROM keep_operator.ledger WHERE kind LIKE 'Workflow%%' ORDER BY id")
    )
    assert (told["Handled"], told["HoldSet"], told["HoldEnded"], told["Deployed"]) == (turns, 2, 2, 2 + turns)
    assert len(database.rows("SELECT 1 FROM keep_operator.handled_decision")) == turns


def backed_up(sandbox: Sandbox, database: Database) -> Callable[[], None]:
    """Takes a dump; what is returned restores it. Nobody may be connected at either moment."""
    admin = sandbox.database_url()
    name = urlsplit(database.url).path.lstrip("/")
    copy = f"{name}_dump"

    def run(*statements: str) -> None:
        with psycopg.connect(admin, autocommit=True) as conn:
            for statement in statements:
                conn.execute(statement)

    run(f'CREATE DATABASE "{copy}" TEMPLATE "{name}"')
    return lambda: run(f'DROP DATABASE "{name}" WITH (FORCE)', f'ALTER DATABASE "{copy}" RENAME TO "{name}"')


def test_an_older_dump_takes_nothing_back(
    operate: Operate, kube: Kube, namespace: str, database: Database, sandbox: Sandbox
) -> None:
    """Restored to version 2 under a cluster that has seen 3, its rejection and a rollback: no second 3, and `recover` mends it.

    No object is deleted, ids, numbers and hashes are as they were, and no decision is carried out again (A-REV-13).
    """
    operator = operate(**RECORD)
    hello = workflow("hello", namespace, "team", definition("one"))
    kube.create(tenant("team"), hello)
    await_active(kube, hello, 1)
    kube.edit(hello, definition=definition("two"))
    await_active(kube, hello, 2)
    operator.stop()
    restore = backed_up(sandbox, database)

    operator = operate(**RECORD)
    kube.edit(hello, definition=definition("three"))
    await_active(kube, hello, 3)
    reject = decision("Reject", hello, "reject", revision={"number": 3})
    back = decision("Rollback", hello, "back", revision={"number": 1})
    for what, then in ((reject, 2), (back, 1)):
        kube.create(what)
        assert handled(kube, what) == ("True", "Done")
        kube.await_state(hello, lambda it, then=then: active(it) == then, f"version {then}")  # type: ignore[misc]
    operator.stop()
    before = kube.get(hello)
    images = {thing.uid: thing.raw["spec"] for thing in kube.objects(WORKFLOW_REVISIONS, namespace)}
    restore()

    operate(**RECORD)
    kube.await_condition(hello, "Ready", ("False", "DatabaseBehind"))
    late = decision("Rollback", hello, "late")
    kube.create(late)
    kube.await_condition(late, "Handled", ("Unknown", "DatabaseBehind"))
    assert {thing.uid for thing in kube.objects(WORKFLOW_REVISIONS, namespace)} == images.keys()
    kube.delete(late)
    told = command(sandbox, database, "recover")
    assert "make v3" in told
    assert "the rollback to v1 is in force" in told
    assert "Nothing was done" in told
    command(sandbox, database, "recover", "--yes")
    kube.await_state(hello, lambda it: it.ready and active(it) == 1, "version 1")
    eventually(
        lambda: kube.get(hello).status,
        lambda status: all(
            status.get(name) == before.status.get(name)
            for name in ("workflowId", "latestCreatedRevision", "activeRevision", "hold", "history", "revisionCount")
        ),
        "the status as it was",
    )
    assert {thing.uid: thing.raw["spec"] for thing in kube.objects(WORKFLOW_REVISIONS, namespace)} == images
    rejected = [
        row["number"] for row in database.rows("SELECT * FROM keep_operator.revision_state") if row["rejected_reason"]
    ]
    assert rejected == [3]
    again = back | {"metadata": back["metadata"] | {"name": "again"}}
    kube.create(again)
    assert handled(kube, again) == ("True", "NoOp")
    assert "The database knows all" in command(sandbox, database, "recover")
    kube.edit(hello, definition=definition("four"))
    await_active(kube, hello, 4)


def test_what_was_recorded_cannot_be_changed_unseen(
    operate: Operate, kube: Kube, namespace: str, database: Database, sandbox: Sandbox
) -> None:
    """Versions, deployments and decisions refuse UPDATE and DELETE; a superuser who switches that off is told on by verify."""
    operate()
    hello = workflow("hello", namespace, "team", definition("one"))
    kube.create(tenant("team"), hello)
    await_active(kube, hello, 1)
    kube.edit(hello, definition=definition("two"))
    await_active(kube, hello, 2)
    back = decision("Rollback", hello, "back")
    kube.create(back)
    assert handled(kube, back) == ("True", "Done")
    changes = {
        "workflow_revision": "UPDATE keep_operator.workflow_revision SET definition = '{}' WHERE number = 2",
        "deployment": "UPDATE keep_operator.deployment SET actor = 'nobody'",
        "handled_decision": "DELETE FROM keep_operator.handled_decision",
        "ledger": "DELETE FROM keep_operator.ledger",
    }
    for change in changes.values():
        with pytest.raises(psycopg.Error):
            database.execute(change)
    unsealed = "SELECT 1 FROM keep_operator.ledger_pending"
    eventually(lambda: database.rows(unsealed), lambda rows: rows == [], "all entries sealed")
    assert "The ledger is fine." in command(sandbox, database, "ledger", "verify")
    database.execute("ALTER TABLE keep_operator.workflow_revision DISABLE TRIGGER USER")
    database.execute(changes["workflow_revision"])
    database.execute("ALTER TABLE keep_operator.workflow_revision ENABLE TRIGGER USER")
    told = command(sandbox, database, "ledger", "verify", expect=1)
    assert "contents of versions are not those that the ledger tells of" in told
    assert f"{kube.get(hello).status['workflowId']} v2" in told
