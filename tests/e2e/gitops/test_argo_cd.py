"""Argo CD with prune and self-heal: nothing that it applies drifts, stays behind, or takes a decision back (section 12).

Argo CD itself cannot be run here; `gitops.argocd` does what its controller does.
"""

import json
import time
from collections.abc import Callable
from typing import Any, Final

import pytest

from e2e import accounts
from e2e.cluster import Database, Json, Kube, eventually, window
from e2e.conftest import Operate
from gitops.argocd import SYNC_WAVE, Application, Phase, Tracking
from keep_operator.resources.kinds import OURS, PROVIDERS, TENANTS, WORKFLOW_REVISIONS, WORKFLOWS
from manifests import credential, definition, path_of, provider, querying, secret, tenant, workflow

pytestmark = pytest.mark.e2e
# How long Argo CD is watched in `make soak`: ten minutes for a difference that comes late, five of its rounds for a rollback.
SOAK_S: Final = 600.0
ROUNDS_S: Final = 300.0
# Between two looks of Argo CD; its own is three minutes, or whenever something changes.
EVERY_S: Final = 1.0
WAYS: Final = [
    pytest.param("annotation", False, id="annotation, client-side"),
    pytest.param("label", False, id="label, client-side"),
    pytest.param("annotation+label", True, id="both, server-side"),
]
RECORD: Final = {"KEEP_OPERATOR_DECISIONS_UNVERIFIED": "Record"}


def settled(app: Application, health: str = "Healthy", patience_s: float = 60.0) -> None:
    """Let Argo CD work until the Application is Synced and as well as it shall be."""

    def look() -> tuple[list[Any], str]:
        app.reconcile()
        found = app.compare()
        return [each.key for each in found if not each.synced], app.health()

    eventually(look, lambda seen: seen == ([], health), f"Synced, {health}", patience_s)


def watched(app: Application, check: Callable[[], None], full_s: float = SOAK_S) -> None:
    """Argo CD looks again and again, and each time it finds nothing to do."""
    syncs, rounds, end = app.syncs, 0, time.monotonic() + window(full_s)
    while time.monotonic() < end or rounds < 5:
        differing = [each.key for each in app.reconcile() if not each.synced]
        assert differing == []
        check()
        rounds += 1
        time.sleep(EVERY_S)
    assert app.syncs == syncs


def everything(namespace: str) -> list[Json]:
    """A team as it stands in Git, in the worst order: all the fields that have defaults inside of lists too."""
    checklist = [{"id": "docs", "title": "Docs are written", "required": False}, {"id": "told", "title": "Told"}]
    return [
        workflow("looks", namespace, "team", querying("vm"), run={"concurrency": "Forbid"}),
        workflow("says", namespace, "team", definition("one"), release={"tags": ["tested"], "changeNote": "First"}),
        provider("vm", namespace, "team", secrets=[credential("BasicAuthPassword", "login", "password")]),
        secret("login", namespace, password="hunter2"),
        tenant(
            "team", displayName="Team", defaults={"retention": {"max": 50}}, policy={"checklistFloor": checklist[:1]}
        ),
    ]


def owned(kube: Kube, manifest: Json) -> list[str]:
    """The kinds of its owners."""
    return [each["kind"] for each in kube.get(manifest).raw["metadata"].get("ownerReferences") or ()]


@pytest.mark.slow
@pytest.mark.parametrize(("tracking", "server_side"), WAYS)
def test_an_application_is_synced_once_and_stays_so(
    operate: Operate, kube: Kube, namespace: str, database: Database, tracking: Tracking, server_side: bool
) -> None:
    """No waves, no order, one sync: Healthy, and then neither Argo CD nor the operator writes anything (A-GO-1, A-GO-6).

    Only status, finalizers and labels of its own children are the operator's in `managedFields`.
    """
    operate()
    app = Application(kube, "team", everything(namespace), tracking, server_side=server_side)
    app.reconcile()
    settled(app)
    assert app.syncs == 1
    time.sleep(1.0)
    before = {thing.uid: thing.version for resource in OURS for thing in kube.objects(resource)}
    watched(app, lambda: None)
    assert {thing.uid: thing.version for resource in OURS for thing in kube.objects(resource)} == before
    assert len(database.rows("SELECT 1 FROM keep_operator.workflow_revision")) == 2
    for manifest in app.git:
        metadata = kube.get(manifest).raw["metadata"]
        assert not metadata.get("ownerReferences")
        ours = [e for e in metadata["managedFields"] if e["manager"] == "keep-operator"]
        written = {name for e in ours for name in e["fieldsV1"]}
        assert written <= {"f:metadata", "f:status"}
        inside = {name for e in ours for name in e["fieldsV1"].get("f:metadata", {})}
        assert inside <= {"f:finalizers", ".", "f:ownerReferences"}
    assert kube.events(namespace, "Warning") == []


@pytest.mark.parametrize(("tracking", "server_side"), WAYS)
def test_what_git_leaves_out_is_no_difference(
    operate: Operate, kube: Kube, namespace: str, tracking: Tracking, server_side: bool
) -> None:
    """Fields that have defaults may be left out, also in the entries of lists, which a client-side comparison takes as a whole."""
    operate()
    step: Json = {"analysis": {"minRuns": 5, "window": "10m", "maxFailureRatePercent": 5}}
    canary: Json = {"type": "Canary", "canary": {"steps": [{"setWeight": 20}, step, {"setWeight": 100}]}}
    item = {"id": "docs", "title": "Docs are written"}
    team = tenant("team", policy={"checklistFloor": [item]})
    waits = workflow("waits", namespace, "team", release={"strategy": canary, "checklist": [item]})
    app = Application(kube, "team", [team, waits, provider("vm", namespace, "team")], tracking, server_side=server_side)
    settled(app, "Suspended")
    for _ in range(5):
        app.reconcile()
    assert app.syncs == 1


def test_what_people_change_by_hand_is_healed_by_argo_cd_and_not_fought_over(
    operate: Operate, kube: Kube, namespace: str, database: Database
) -> None:
    """An edit in the cluster makes a version, Argo CD takes it back, which makes one more; then there is peace."""
    operate()
    app = Application(kube, "team", [tenant("team"), workflow("says", namespace, "team", definition("one"))])
    settled(app)
    kube.edit(app.git[1], definition=definition("by hand"))
    kube.await_state(app.git[1], lambda it: (it.status.get("activeRevision") or {}).get("number") == 2, "version 2")
    settled(app)
    kube.await_state(app.git[1], lambda it: (it.status.get("activeRevision") or {}).get("number") == 3, "version 3")
    assert app.syncs == 2
    assert len(database.rows("SELECT 1 FROM keep_operator.workflow_revision")) == 3


@pytest.mark.slow
@pytest.mark.parametrize(("tracking", "server_side"), WAYS)
def test_versions_are_neither_pruned_nor_out_of_sync(
    operate: Operate, kube: Kube, namespace: str, tracking: Tracking, server_side: bool
) -> None:
    """Five versions of one Workflow, prune and self-heal: all are there, and none shows up in the Application (A-REV-9)."""
    operate()
    hello = workflow("hello", namespace, "team", definition("0"))
    app = Application(kube, "team", [tenant("team"), hello], tracking, server_side=server_side)
    settled(app)
    for number in range(1, 5):
        app.git = [tenant("team"), workflow("hello", namespace, "team", definition(str(number)))]
        settled(app)
    shown = {thing.uid for thing in kube.objects(WORKFLOW_REVISIONS, namespace)}
    assert len(shown) == 5
    assert {key[0] for key in (each.key for each in app.compare())} == {"Tenant", "Workflow"}

    def all_there() -> None:
        assert {thing.uid for thing in kube.objects(WORKFLOW_REVISIONS, namespace)} == shown

    watched(app, all_there, 8.0)


@pytest.mark.slow
@pytest.mark.parametrize(("tracking", "server_side"), WAYS)
def test_a_click_rolls_back_and_self_healing_does_not_undo_it(
    operate: Operate, kube: Kube, namespace: str, database: Database, tracking: Tracking, server_side: bool
) -> None:
    """The action of Argo CD makes one decision; the Application stays Synced, Suspended; Git ends it by a change (A-RB-1, A-GO-3).

    The decision is shown below its Workflow, is not pruned, and is no difference.
    """
    operate()
    hello = workflow("hello", namespace, "team", definition("one"))
    app = Application(kube, "team", [tenant("team"), hello], tracking, server_side=server_side)
    settled(app)
    app.git = [tenant("team"), workflow("hello", namespace, "team", definition("two"))]
    settled(app)
    made = app.act(kube.get(hello).raw, "rollback", reason="Incident 4711", onBehalfOf="ann@example.com")
    assert made["metadata"]["ownerReferences"][0]["uid"] == kube.get(hello).uid
    kube.await_condition(made, "Handled", ("True", "Done"))
    kube.await_condition(hello, "Deployed", ("False", "RolledBack"))

    def still() -> None:
        thing = kube.get(hello)
        assert thing.status["activeRevision"]["number"] == 1
        assert thing.condition("Deployed") == ("False", "RolledBack")
        assert app.health() == "Suspended"
        assert kube.get(made)

    watched(app, still, ROUNDS_S)
    app.relaxed = True
    assert app.health() == "Healthy"
    app.relaxed = False
    app.act(kube.get(hello).raw, "resume")
    settled(app)
    kube.await_state(hello, lambda it: it.status["activeRevision"]["number"] == 2, "version 2")
    (entry,) = database.rows("SELECT * FROM keep_operator.ledger WHERE action = 'HoldSet'")
    assert entry["actor"] == "system:serviceaccount:argocd:argocd-server"


@pytest.mark.parametrize(("tracking", "server_side"), WAYS)
def test_a_provider_removed_or_renamed_in_git_leaves_nothing(
    operate: Operate, kube: Kube, namespace: str, database: Database, tracking: Tracking, server_side: bool
) -> None:
    """Prune takes the object, which takes its record and credentials; also of what kubectl had applied before (A-GO-9, P5)."""
    operate()
    team, login = tenant("team"), secret("login", namespace, password="hunter2")
    locked: Json = {"secrets": [credential("BasicAuthPassword", "login", "password")]}
    vms, other = provider("vms", namespace, "team", **locked), provider("other", namespace, "team")
    kube.create(login, team, vms)
    kube.await_ready(team, vms)
    assert owned(kube, vms) == ["Tenant"]
    app = Application(kube, "team", [team, vms, other], tracking, server_side=server_side)
    settled(app)
    eventually(lambda: owned(kube, vms), lambda kinds: kinds == [], "no owner")

    app.git = [team, provider("victoriametrics", namespace, "team", **locked), other]
    settled(app)
    kube.await_gone(vms)
    names = "SELECT external_name FROM keep_operator.provider ORDER BY 1"
    eventually(
        lambda: database.rows(names), lambda rows: [r["external_name"] for r in rows] == ["other", "victoriametrics"]
    )

    app.git = [team, provider("vmetrics", namespace, "team", externalName="victoriametrics", **locked), other]
    settled(app)
    kube.await_gone(provider("victoriametrics", namespace))
    eventually(
        lambda: database.rows(names), lambda rows: [r["external_name"] for r in rows] == ["other", "victoriametrics"]
    )

    app.git = [team, other]
    settled(app)
    eventually(lambda: database.rows(names), lambda rows: [r["external_name"] for r in rows] == ["other"])
    assert [thing.raw["metadata"]["name"] for thing in kube.objects(PROVIDERS)] == ["other"]
    assert "hunter2" not in json.dumps(database.rows("SELECT * FROM keep_operator.ledger"), default=str)


def test_with_owners_everywhere_a_removed_provider_stays(operate: Operate, kube: Kube, namespace: str) -> None:
    """What `Always` costs, and that the replay would see it: Argo CD is Synced, and the Provider still there."""
    operate(KEEP_OPERATOR_OWNER_REFERENCES="Always")
    app = Application(kube, "team", [tenant("team"), provider("vm", namespace, "team")])
    settled(app)
    app.git = app.git[:1]
    settled(app)
    assert owned(kube, provider("vm", namespace)) == ["Tenant"]
    assert app.is_synced()


def test_what_somebody_else_applied_is_not_pruned(operate: Operate, kube: Kube, namespace: str) -> None:
    """Objects beside the Application, also in its namespace and of its Tenant, are not its business."""
    operate()
    plain = provider("plain", namespace, "team")
    app = Application(kube, "team", [tenant("team")])
    settled(app)
    kube.create(plain)
    kube.await_ready(plain)
    settled(app)
    assert kube.get(plain).ready


def test_a_provider_goes_and_its_workflow_stays(operate: Operate, kube: Kube, namespace: str) -> None:
    """The Provider is deleted, the Workflow says what it lacks, and either can go first (A-GO-5)."""
    operate()
    team, vm = tenant("team"), provider("vm", namespace, "team")
    looks = workflow("looks", namespace, "team", querying("vm"))
    app = Application(kube, "team", [team, vm, looks])
    settled(app)
    app.git = [team, looks]
    app.reconcile()
    kube.await_gone(vm)
    kube.await_condition(looks, "ProvidersReady", ("Unknown", "ProvidersNotReady"))
    settled(app, "Progressing")
    app.git = [team, vm, looks]
    settled(app)
    app.git = [team, vm]
    settled(app)
    kube.await_gone(looks)
    app.git = [team, vm, looks]
    settled(app)
    app.git = [team]
    settled(app)
    kube.await_gone(vm, looks)


@pytest.mark.parametrize("tracking", ["annotation", "label"])
def test_a_whole_application_is_deleted_unattended(
    operate: Operate, kube: Kube, namespace: str, database: Database, tracking: Tracking
) -> None:
    """In the foreground, the Tenant together with what depends on it, in one wave: it ends, and nothing is left Terminating."""
    operate()
    app = Application(kube, "team", everything(namespace), tracking)
    settled(app)
    eventually(app.delete, lambda left: left == 0, "the end of the Application")
    assert [
        thing
        for resource in (TENANTS, PROVIDERS, WORKFLOWS)
        for thing in kube.objects(resource)
        if "team" in str(thing.raw)
    ] == []
    assert database.rows("SELECT 1 FROM keep_operator.provider") == []
    assert kube.objects(WORKFLOW_REVISIONS, namespace) == []


def test_a_pruned_tenant_is_held_and_goes_when_that_is_confirmed(
    operate: Operate, kube: Kube, namespace: str, database: Database
) -> None:
    """One wrong prune takes nobody's records; confirmed it takes those of its objects, which wait until Git says where they belong."""
    operate()
    team, vm, says = tenant("team"), provider("vm", namespace, "team"), workflow("says", namespace, "team")
    app = Application(kube, "team", [team, vm, says])
    settled(app)
    app.git = [vm, says]
    app.reconcile()
    kube.await_condition(team, "Deleting", ("True", "DependentsExist"))
    time.sleep(2.0)
    assert [kube.get(each).ready for each in (vm, says)] == [True, True]
    assert app.health() == "Progressing"
    kube.kubectl("annotate", "tenant", "team", "keep-operator.dev/confirm-deletion=team")
    kube.await_gone(team)
    for each in (vm, says):
        kube.await_condition(each, "Ready", ("Unknown", "TenantNotFound"))
    assert database.rows("SELECT 1 FROM keep_operator.provider") == []
    assert kube.objects(WORKFLOW_REVISIONS, namespace) == []
    settled(app, "Progressing")
    app.git = [tenant("team", adoptionPolicy="IfUnowned"), vm, says]
    settled(app)
    assert len(database.rows("SELECT 1 FROM keep_operator.provider")) == 1


@pytest.mark.slow
@pytest.mark.parametrize("server_side", [False, True], ids=["client-side", "server-side"])
def test_git_takes_the_default_tenant_over(operate: Operate, kube: Kube, namespace: str, server_side: bool) -> None:
    """The operator has made it, Git declares it: no conflict, one sync, and no write after that (A-TEN-2)."""
    operate()
    kube.await_ready(tenant("keep"))
    mine = tenant("keep", displayName="Platform", allowedNamespaces={"names": [namespace]})
    app = Application(kube, "keep", [mine, provider("vm", namespace)], server_side=server_side)
    app.reconcile()
    settled(app)
    assert app.syncs == 1
    known = kube.get(mine)
    watched(app, lambda: None)
    assert kube.get(mine).version == known.version
    assert known.raw["metadata"]["labels"]["keep-operator.dev/default"] == "true"


def test_a_wave_with_a_person_in_it_holds_up_those_behind_it(operate: Operate, kube: Kube, namespace: str) -> None:
    """Tenant, Providers, then Workflows in the last wave: done in one go. A Workflow that waits in the middle holds the sync up,
    unless the scripts are relaxed (A-GO-1).
    """
    accounts.let_argo_cd_decide(kube)
    operate(**RECORD)

    def in_wave(wave: int, manifest: Json) -> Json:
        return manifest | {"metadata": manifest["metadata"] | {"annotations": {SYNC_WAVE: str(wave)}}}

    team, vm = in_wave(0, tenant("team")), in_wave(1, provider("vm", namespace, "team"))
    manual: Json = {"release": {"strategy": {"type": "Manual"}}}
    waits = in_wave(2, workflow("waits", namespace, "team", definition(), **manual))
    app = Application(kube, "team", [waits, vm, team])
    eventually(app.sync, lambda phase: phase is Phase.SUCCEEDED, "the sync")
    kube.await_condition(waits, "Deployed", ("Unknown", "AwaitingDeploy"))

    last = in_wave(3, workflow("last", namespace, "team"))
    app.git = [waits, vm, team, last]
    for _ in range(3):
        assert app.resume() is Phase.RUNNING
        time.sleep(0.5)
    assert not kube.get(last)
    app.relaxed = True
    assert app.resume() is Phase.SUCCEEDED
    app.relaxed = False
    app.act(kube.get(waits).raw, "deploy")
    settled(app)


def test_a_broken_definition_shows_as_degraded_and_the_last_one_serves(
    operate: Operate, kube: Kube, namespace: str
) -> None:
    """A slip in Git is red in Argo CD, and the next commit makes it green; what was active runs on."""
    operate()
    hello = workflow("hello", namespace, "team", definition("one"))
    app = Application(kube, "team", [tenant("team"), hello])
    settled(app)
    slip = workflow("hello", namespace, "team", {"triggers": [{"type": "interval", "value": "5s"}], "actions": []})
    app.git = [tenant("team"), slip]
    settled(app, "Degraded")
    assert kube.get(hello).status["activeRevision"]["number"] == 1
    app.git = [tenant("team"), hello]
    settled(app)
    assert kube.send("GET", path_of(hello))[0] == 200
