"""Releases with everything real: cluster, database, operator, runner, and the server that the workflow calls (A-CAN, A-AP, A-CHK)."""

import logging
import signal
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any
from uuid import UUID

import pytest

from e2e.cluster import Database, Json, Kube, Thing, eventually, tenant
from e2e.conftest import Operate
from e2e.operators import Operator
from e2e.story.test_rollback import Loop, active, await_active, client_side, handled, server_side
from e2e.story.test_runner import KEY, limited
from e2e.story.test_runs import within
from gitops.argocd import Application
from gitops.flux import Kustomization
from keep_operator.domain import canary
from keep_operator.domain.binding import Asked
from keep_operator.errors import Conflict
from keep_operator.resources.kinds import WORKFLOW_REVISIONS
from keep_operator.resources.objects import AUTHOR, RECONCILE_REQUESTED_AT
from keep_operator.store import runs
from keep_operator.store.connection import Connection
from keep_operator.store.runs import Requested
from manifests import decision, definition, path_of, run, workflow

pytestmark = pytest.mark.e2e
log = logging.getLogger(__name__)
__all__ = ["limited"]

CANARY: Json = {
    "strategy": {
        "type": "Canary",
        "canary": {
            "steps": [
                {"setWeight": 40},
                {"analysis": {"minRuns": 5, "window": "10m", "maxFailureRatePercent": 20}},
                {"setWeight": 80},
            ]
        },
    }
}
WAITING: Json = {"strategy": {"type": "Canary", "canary": {"steps": [{"setWeight": 30}, {"pause": {}}]}}}
GUARD: Json = {"autoRollback": {"enabled": True, "window": "1h", "minRuns": 5, "maxFailureRatePercent": 20}}
TRIES = 5
ROLLBACKS = "keep_operator_automatic_rollbacks_total"


class FarSide:
    """Answers what runs ask: 400 to the versions that are broken; who asks with a slow key waits until it is let go."""

    def __init__(self) -> None:
        self.broken: set[str] = set()
        self.let_go = Event()
        self.waiting: set[str] = set()
        played = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                _, version, key = self.path.split("/")
                slow = key.startswith("slow")
                if slow:
                    played.waiting.add(version)
                    played.let_go.wait(60)
                self.send_response(400 if version in played.broken and not slow else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever)
        self._thread.start()

    def calls(self, version: str) -> Json:
        """A definition that asks here."""
        url = f"http://127.0.0.1:{self._server.server_port}/{version}/{{{{ alert.fingerprint }}}}"
        provider = {"type": "http", "with": {"url": url, "method": "GET"}}
        return {"triggers": [{"type": "alert"}], "actions": [{"name": "call", "provider": provider}]}

    def end(self) -> None:
        """Let everybody go."""
        self.let_go.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def far_side() -> Iterator[FarSide]:
    """The server that workflows call."""
    played = FarSide()
    yield played
    played.end()


@pytest.fixture
def operator(operate: Operate) -> Operator:
    """An operator for the runner, which carries decisions out though this cluster cannot prove who made them."""
    return operate(KEEP_OPERATOR_ENCRYPTION_KEY=KEY, KEEP_OPERATOR_DECISIONS_UNVERIFIED="Record")


@pytest.fixture
def runner(limited: str, tmp_path: Path) -> Iterator[Operator]:
    """A runner with the rights of the guide."""
    given = {
        "KEEP_OPERATOR_DATABASE_URL": limited,
        "KEEP_OPERATOR_ENCRYPTION_KEY": KEY,
        "KUBECONFIG": "/nowhere",
    }
    process = Operator(given, tmp_path / "runner.log", "runner").await_ready()
    yield process
    assert process.stop() == 0
    assert "Traceback" not in process.log, process.log[-5000:]


def have(kube: Kube, namespace: str, does: Json | None = None, **spec: Any) -> Json:
    """A Workflow whose first version is active; its tenant may reach the far side."""
    kube.create(tenant("team", egress={"allow": ["127.0.0.1"]}))
    hook = workflow("hook", namespace, "team", does, **spec)
    hook["metadata"]["annotations"] = {AUTHOR: "ann"}
    server_side(kube, hook)
    await_active(kube, hook, 1)
    return hook


def ask(database: Database, about: Thing, keys: list[str]) -> dict[str, int]:
    """Alerts with these fingerprints come in, and the console asks for a run of each; the versions that these got."""

    async def asking(conn: Connection) -> dict[str, int]:
        found = {}
        for key in keys:
            asked = Asked("Alert", f"alert/{key}", "token", event={"name": "cpu", "fingerprint": key}, fingerprint=key)
            got = await runs.request(conn, UUID(about.status["workflowId"]), asked)
            assert isinstance(got, Requested), got
            found[key] = got.run.revision
        return found

    for _ in range(TRIES):
        try:
            return within(database, asking)
        except Conflict:  # another version is active meanwhile; the console asks again too
            continue
    raise AssertionError("the workflow changes without end")


def expected(database: Database, about: Thing, keys: list[str], percent: int) -> dict[str, int]:
    """The versions that these keys belong to while v2 has so many per cent."""
    (tried,) = database.rows("SELECT content_hash FROM keep_operator.workflow_revision WHERE number = 2")
    lineage = UUID(about.status["workflowId"])
    return {key: 2 if canary.chooses(key, lineage, tried["content_hash"], percent) else 1 for key in keys}


class Alerts:
    """Some come in all the time, until it is told to stop."""

    def __init__(self, database: Database, about: Thing) -> None:
        self.got: dict[str, int] = {}
        self._failure: BaseException | None = None
        self._database, self._about, self._stop = database, about, Event()
        self._thread = Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stop.wait(0.1):
                self.got |= ask(self._database, self._about, [f"key-{len(self.got) + place}" for place in range(4)])
        except BaseException as failure:
            self._failure = failure

    def more(self) -> Mapping[str, int]:
        """The versions of the next twenty."""
        before = len(self.got)
        after = eventually(lambda: dict(self.got), lambda got: len(got) >= before + 24, "more alerts")
        return {key: after[key] for key in list(after)[before + 4 :]}

    def end(self) -> None:
        """Stop, and fail if asking has failed."""
        self._stop.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure


def weight(thing: Thing) -> int | None:
    """The share of the version that is tried, as the Workflow says."""
    found: int | None = (thing.status.get("canary") or {}).get("weight")
    return found


def row(database: Database) -> Json | None:
    """The canary as the database has it."""
    return next(iter(database.rows("SELECT * FROM keep_operator.canary")), None)


def touch(kube: Kube, manifest: Json, value: str) -> None:
    """Have the Workflow looked at, and wait until it was."""
    status, _ = kube.patch(path_of(manifest), {"metadata": {"annotations": {RECONCILE_REQUESTED_AT: value}}})
    assert status == 200
    kube.await_state(manifest, lambda it: it.status.get("lastHandledReconcileAt") == value, "a look")


def ledger(database: Database, *actions: str) -> list[tuple[str, Any]]:
    """What the ledger says of these deeds: the action, and its outcome where it has one."""
    return [
        (each["action"], each["details"].get("outcome"))
        for each in database.ledger("Workflow") + database.ledger("WorkflowRevision")
        if each["action"] in actions
    ]


def ended(database: Database) -> dict[str, int]:
    """The versions of the slow runs, which all ended well."""
    query = "SELECT fingerprint, revision, state FROM keep_operator.run WHERE fingerprint LIKE 'slow%%'"
    done = lambda rows: all(each["state"] == "Succeeded" for each in rows)  # noqa: E731
    found = eventually(lambda: database.rows(query), done, "the end of slow runs")
    return {each["fingerprint"]: each["revision"] for each in found}


def lateness(database: Database) -> Any:
    """How long after the fifth run of v2 had failed the canary was over, by the database's clock."""
    (found,) = database.rows(
        "SELECT (SELECT at FROM keep_operator.ledger WHERE action = 'CanaryEnded') - max(completed_at) AS took FROM (SELECT "
        "completed_at FROM keep_operator.run WHERE revision = 2 AND state = 'Failed' ORDER BY completed_at LIMIT 5) deciding"
    )
    return found["took"]


def told(kube: Kube, namespace: str, database: Database) -> int:
    """How often the rollback was told by a Warning, once the ledger has all of it."""
    deeds = ("CanaryStarted", "Rejected", "HoldSet", "CanaryEnded")
    assert {each[0] for each in ledger(database, *deeds)} == set(deeds)
    assert ledger(database, "CanaryEnded") == [("CanaryEnded", "Failed")]
    events = [each for each in kube.events(namespace, "Warning") if each["reason"] == "AutoRolledBack"]
    assert {each["involvedObject"]["name"] for each in events} == {"hook"}
    return sum(each.get("count", 1) for each in events)


def test_a_failing_canary_takes_itself_back_while_runs_flow(
    operator: Operator, runner: Operator, kube: Kube, namespace: str, database: Database, far_side: FarSide
) -> None:
    """A-CAN-5: at once all new runs are of the stable version, those under way end on theirs, and the night shift is told; the same
    manifest again does nothing, the mended one goes all the way. All that time Git is applied every second."""
    far_side.broken.add("v2")
    hook = have(kube, namespace, far_side.calls("v1"), release=CANARY)
    git = Loop(kube, server_side, hook)
    try:
        candidate = hook | {"spec": hook["spec"] | {"definition": far_side.calls("v2")}}
        git.git = candidate
        tried = kube.await_state(hook, lambda it: weight(it) == 40, "40 %")
        split = expected(database, tried, [f"slow-{number}" for number in range(100)], 40)
        slow = [key for number in (1, 2) for key in [each for each in split if split[each] == number][:2]]
        under_way = ask(database, tried, slow)
        assert under_way == {key: split[key] for key in slow}
        eventually(lambda: far_side.waiting, lambda versions: versions == {"v1", "v2"}, "runs under way")
        alerts = Alerts(database, tried)
    except BaseException:
        git.end()
        raise
    try:
        back = kube.await_state(hook, lambda it: it.condition("Ready") == ("False", "AutoRolledBack"), "a rollback")
        assert (weight(back), active(back), row(database)) == (None, 1, None)
        assert "runs failed" in back.message("Ready")
        assert set(alerts.more().values()) == {1}
        far_side.let_go.set()
        assert ended(database) == under_way
        log.info("taken back %s after the deciding run", lateness(database))
        assert told(kube, namespace, database) == 1
        assert operator.metrics(ROLLBACKS) == {'cause="Canary"': 1, 'cause="AutoRollback"': 0}

        touch(kube, hook, "once more")
        client_side(kube, candidate)
        touch(kube, hook, "and again")
        assert kube.get(hook).condition("Ready") == ("False", "AutoRolledBack")
        assert len(kube.objects(WORKFLOW_REVISIONS, namespace)) == 2
        assert set(alerts.more().values()) == {1}

        git.git = hook | {"spec": hook["spec"] | {"definition": far_side.calls("v3")}}
        await_active(kube, hook, 3)
        assert ledger(database, "CanaryEnded")[-1] == ("CanaryEnded", "Promoted")
        assert set(alerts.more().values()) == {3}
        assert git.rounds >= 3
    finally:
        far_side.let_go.set()
        alerts.end()
        git.end()


def test_what_took_over_at_once_is_taken_back_too(
    operator: Operator, runner: Operator, kube: Kube, namespace: str, database: Database, far_side: FarSide
) -> None:
    """A-CAN-7: five of its first runs fail, and the version before has them again; the same content is not tried a second time."""
    far_side.broken.add("v2")
    hook = have(kube, namespace, far_side.calls("v1"), release=GUARD)
    alerts = Alerts(database, kube.get(hook))
    try:
        kube.edit(hook, definition=far_side.calls("v2"))
        back = kube.await_state(hook, lambda it: it.condition("Ready") == ("False", "AutoRolledBack"), "a rollback")
        assert active(back) == 1
        assert set(alerts.more().values()) == {1}
        assert operator.metrics(ROLLBACKS) == {'cause="Canary"': 0, 'cause="AutoRollback"': 1}
        causes = [each["cause"] for each in database.rows("SELECT cause FROM keep_operator.deployment ORDER BY id")]
        assert causes == ["AllAtOnce", "AllAtOnce", "AutoRollback"]
        kube.edit(hook, definition=far_side.calls("v3"))
        await_active(kube, hook, 3)
        kube.edit(hook, definition=far_side.calls("v2"))
        kube.await_state(hook, lambda it: it.condition("Ready") == ("False", "AutoRolledBack"), "a refusal")
        assert active(kube.get(hook)) == 3
        assert set(alerts.more().values()) == {3}
    finally:
        alerts.end()


def test_a_canary_outlives_its_operator(operate: Operate, kube: Kube, namespace: str, database: Database) -> None:
    """A-CAN-8: while nobody leads, runs are split as before, by the weight in the database; who takes over finds the same step."""
    unverified = {"KEEP_OPERATOR_DECISIONS_UNVERIFIED": "Record"}
    operator = operate(**unverified)
    hook = have(kube, namespace, definition("one"), release=WAITING)
    kube.edit(hook, definition=definition("two"))
    kube.await_state(hook, lambda it: weight(it) == 30, "30 %")
    operator.stop(signal.SIGKILL)
    before, thing = row(database), kube.get(hook)
    assert before is not None
    split = expected(database, thing, [f"key-{number}" for number in range(300)], 30)
    assert set(split.values()) == {1, 2}
    assert ask(database, thing, list(split)) == split

    operate(**unverified)
    touch(kube, hook, "whoever leads now")
    assert row(database) == before
    assert kube.get(hook).condition("Deployed") == ("Unknown", "CanaryPaused")
    promote = decision("Promote", hook, "promote")
    kube.create(promote)
    assert handled(kube, promote) == ("True", "Done")
    await_active(kube, hook, 2)
    assert set(ask(database, thing, [f"late-{number}" for number in range(20)]).values()) == {2}


def decided(kube: Kube, about: Json, action: str, who: str, number: int, **spec: str) -> tuple[str, str]:
    """How the decision of somebody about a version ends."""
    name = "-".join([who, action.lower(), str(number), *spec.values()])
    made = decision(action, about, name, actor=who, revision={"number": number}, **spec)
    kube.create(made)
    return handled(kube, made)


def test_two_people_approve_and_what_is_denied_stays_denied(
    operator: Operator, kube: Kube, namespace: str, database: Database
) -> None:
    """A-AP-3, A-AP-4: not the author, not one alone; a content that was denied does not come back as another number, nor by taking
    the gate away and putting it back."""
    gate = {"approval": {"required": "Always", "minApprovals": 2}}
    hook = have(kube, namespace, definition("one"))
    kube.edit(hook, release=gate, definition=definition("two"))
    waits = kube.await_condition(hook, "Ready", ("Unknown", "AwaitingApproval"))
    assert (active(waits), waits.status["pendingApprovals"]) == (1, 1)
    assert decided(kube, hook, "Approve", "ann", 2) == ("False", "SelfApproval")
    assert decided(kube, hook, "Approve", "bob", 2) == ("True", "Done")
    assert active(kube.get(hook)) == 1
    assert decided(kube, hook, "Approve", "eve", 2) == ("True", "Done")
    await_active(kube, hook, 2)

    kube.edit(hook, definition=definition("three"))
    kube.await_condition(hook, "Ready", ("Unknown", "AwaitingApproval"))
    assert decided(kube, hook, "Deny", "bob", 3) == ("True", "Done")
    kube.await_condition(hook, "Ready", ("False", "Denied"))
    kube.edit(hook, definition=definition("four"))
    kube.await_condition(hook, "Ready", ("Unknown", "AwaitingApproval"))
    kube.edit(hook, definition=definition("three"), release={"approval": {"required": "Never"}})
    again = kube.await_condition(hook, "Ready", ("False", "Denied"))
    assert (again.status["latestCreatedRevision"]["number"], active(again)) == (5, 2)
    assert decided(kube, hook, "Approve", "eve", 5) == ("False", "TargetDenied")
    assert {each["revision"] for each in database.rows("SELECT revision FROM keep_operator.deployment")} == {1, 2}


def test_a_checklist_is_ticked_by_hand_and_by_ten_dry_runs(
    operator: Operator, runner: Operator, kube: Kube, namespace: str, database: Database
) -> None:
    """A-CHK-1: the version may be tried without effects while it may not run, and is active with the last item."""
    hook = have(kube, namespace, definition("one"))
    enough = {"id": "tried", "title": "Tried", "auto": "runs.dryRun.succeeded >= 10 && runs.dryRun.failed == 0"}
    kube.edit(
        hook, release={"checklist": [{"id": "told", "title": "On-call knows"}, enough]}, definition=definition("two")
    )
    waits = kube.await_condition(hook, "Deployed", ("Unknown", "ChecklistIncomplete"))
    assert active(waits) == 1
    dry = [run(hook, f"dry-{number}", mode="DryRun", revision={"number": 2}) for number in range(10)]
    kube.create(*dry[:9])
    for each in dry[:9]:
        kube.await_condition(each, "Succeeded", ("True", "Completed"))
    assert decided(kube, hook, "CheckItem", "bob", 2, item="tried") == ("False", "Refused")
    assert decided(kube, hook, "CheckItem", "bob", 2, item="told") == ("True", "Done")
    assert active(kube.get(hook)) == 1
    kube.create(dry[9])
    await_active(kube, hook, 2)
    ticked = database.rows("SELECT item, done, by FROM keep_operator.checklist_result ORDER BY item")
    assert [tuple(each.values()) for each in ticked] == [("told", True, "bob"), ("tried", True, "keep-operator")]


def test_no_gitops_tool_disturbs_a_canary_nor_its_abortion(
    operator: Operator, kube: Kube, namespace: str, database: Database
) -> None:
    """A-GO-6: Argo CD with self-heal and Flux look again and again, while a version is tried and after it was aborted: nothing to do."""
    kube.create(tenant("team"))
    argo, flux = (workflow(name, namespace, "team", definition("one"), release=WAITING) for name in ("argo", "flux"))
    app, kustomization = Application(kube, "app", [argo]), Kustomization(kube, "team", [flux])
    app.reconcile()
    kustomization.reconcile()
    for each in (argo, flux):
        await_active(kube, each, 1)
        each["spec"] = each["spec"] | {"definition": definition("two")}
    app.reconcile()
    kustomization.reconcile()

    def undisturbed(reason: str) -> None:
        for each in (argo, flux):
            kube.await_state(each, lambda it: (it.condition("Deployed") or ("", ""))[1] == reason, reason)
        tables = ("canary", "hold", "workflow_revision", "deployment")
        before = [database.rows(f"SELECT * FROM keep_operator.{table}") for table in tables]  # noqa: S608
        syncs, applied = app.syncs, kustomization.applied
        for _ in range(5):
            app.reconcile()
            kustomization.reconcile()
            time.sleep(0.2)
        assert (app.syncs, kustomization.applied) == (syncs, applied)
        assert [database.rows(f"SELECT * FROM keep_operator.{table}") for table in tables] == before  # noqa: S608

    undisturbed("CanaryPaused")
    for each in (argo, flux):
        stop = decision("Abort", each, f"abort-{each['metadata']['name']}")
        kube.create(stop)
        assert handled(kube, stop) == ("True", "Done")
    undisturbed("Aborted")
    assert app.health() == "Degraded"
