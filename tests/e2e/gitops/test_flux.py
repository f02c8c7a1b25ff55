"""Flux with prune and wait: the same promises as under Argo CD, and kstatus is all that it reads (A-GO-4, A-GO-6, A-RB-1)."""

import time
from collections.abc import Callable
from typing import Final

import pytest
import yaml

from e2e.cluster import Database, Json, Kube, eventually, window
from e2e.conftest import Operate
from gitops import kstatus
from gitops.flux import Kustomization
from keep_operator.resources.kinds import OURS, PROVIDERS, WORKFLOW_REVISIONS
from manifests import config_map, credential, decision, definition, provider, querying, secret, tenant, workflow

pytestmark = pytest.mark.e2e
SOAK_S: Final = 600.0
ROUNDS_S: Final = 300.0
EVERY_S: Final = 1.0


def watched(flux: Kustomization, check: Callable[[], None], full_s: float = SOAK_S) -> None:
    """Flux looks again and again, and finds nothing to apply."""
    applied, rounds, end = flux.applied, 0, time.monotonic() + window(full_s)
    while time.monotonic() < end or rounds < 5:
        flux.reconcile()
        assert flux.applied == applied
        check()
        rounds += 1
        time.sleep(EVERY_S)


def committed(flux: Kustomization, kube: Kube, *git: Json) -> None:
    """Flux applies a commit, and `wait` ends well.

    The test waits for Ready too: kstatus takes what has no status yet for done, which is so for a moment after the first apply.
    """
    flux.git = list(git) or flux.git
    flux.reconcile()
    assert flux.wait()
    kube.await_ready(*(each for each in flux.git if each["kind"] in ("Tenant", "Provider", "Workflow")))


def everything(namespace: str) -> list[Json]:
    """A team, in the worst order."""
    return [
        workflow("looks", namespace, "team", querying("vm")),
        workflow("file", namespace, "team", definitionFrom={"configMapKeyRef": {"name": "file", "key": "flow.yaml"}}),
        provider("vm", namespace, "team", secrets=[credential("BasicAuthPassword", "login", "password")]),
        tenant("team", displayName="Team"),
        {k: v for k, v in secret("login", namespace).items() if k != "stringData"}
        | {"data": {"password": "aHVudGVyMg=="}},
        config_map("file", namespace, **{"flow.yaml": yaml.safe_dump(definition("from a file"))}),
    ]


@pytest.mark.slow
def test_a_kustomization_is_applied_once_and_waits_no_longer_than_needed(
    operate: Operate, kube: Kube, namespace: str, database: Database
) -> None:
    """One apply of each object, `wait` ends, and then there is nothing to do for anybody."""
    operate()
    flux = Kustomization(kube, "team", everything(namespace))
    committed(flux, kube)
    assert flux.applied == len(flux.git)
    time.sleep(1.0)
    before = {thing.uid: thing.version for resource in OURS for thing in kube.objects(resource)}
    watched(flux, lambda: None)
    assert {thing.uid: thing.version for resource in OURS for thing in kube.objects(resource)} == before
    assert len(database.rows("SELECT 1 FROM keep_operator.workflow_revision")) == 2
    source = kube.get(flux.git[0]).status["source"]
    assert (source["tool"], source["trackingId"]) == ("Flux", "Kustomization flux-system/team")


@pytest.mark.slow
def test_flux_does_not_undo_a_rollback(operate: Operate, kube: Kube, namespace: str) -> None:
    """Five rounds and more: still rolled back, nothing to apply, and the Workflow counts as Current; Git ends it."""
    operate()
    team, hello = tenant("team"), workflow("hello", namespace, "team", definition("one"))
    flux = Kustomization(kube, "team", [team, hello])
    committed(flux, kube)
    committed(flux, kube, team, workflow("hello", namespace, "team", definition("two")))
    back = decision("Rollback", hello, "back", expect={"activeRevision": 2})
    kube.create(back)
    kube.await_condition(back, "Handled", ("True", "Done"))
    kube.await_condition(hello, "Deployed", ("False", "RolledBack"))

    def still() -> None:
        thing = kube.get(hello)
        assert thing.status["activeRevision"]["number"] == 1
        assert kstatus.status(thing.raw) == "Current"

    watched(flux, still, ROUNDS_S)
    committed(flux, kube, team, workflow("hello", namespace, "team", definition("three")))
    assert kube.get(hello).status["activeRevision"]["number"] == 3
    assert len(kube.objects(WORKFLOW_REVISIONS, namespace)) == 3


def test_what_is_taken_out_of_git_is_pruned_with_its_record(
    operate: Operate, kube: Kube, namespace: str, database: Database
) -> None:
    """Removed and renamed: object, record and credentials go, though the objects have owners; then the whole Kustomization."""
    operate()
    team = tenant("team")
    flux = Kustomization(kube, "team", [team, provider("vms", namespace, "team"), provider("other", namespace, "team")])
    committed(flux, kube)
    assert kube.get(flux.git[1]).raw["metadata"]["ownerReferences"][0]["kind"] == "Tenant"
    names = "SELECT external_name FROM keep_operator.provider ORDER BY 1"
    committed(flux, kube, team, provider("victoriametrics", namespace, "team"))
    eventually(lambda: [row["external_name"] for row in database.rows(names)], lambda rows: rows == ["victoriametrics"])
    flux.delete()
    eventually(lambda: list(kube.objects(PROVIDERS)), lambda left: not left, "no Provider")
    kube.await_gone(team)
    assert database.rows(names) == []


def test_wait_does_not_hang_on_a_person(operate: Operate, kube: Kube, namespace: str) -> None:
    """A version that waits for the decision Deploy holds `wait` up, unless `readyWhen: Available` says that an older one will do.

    A slip is Failed at once, and not waited for.
    """
    operate()
    team, manual = tenant("team"), {"strategy": {"type": "Manual"}}

    def hello(message: str, ready_when: str) -> Json:
        return workflow("hello", namespace, "team", definition(message), release={**manual, "readyWhen": ready_when})

    flux = Kustomization(kube, "team", [team, workflow("hello", namespace, "team", definition("one"))])
    committed(flux, kube)
    committed(flux, kube, team, hello("two", "Available"))
    assert kube.get(flux.git[1]).condition("Deployed") == ("Unknown", "AwaitingDeploy")
    flux.git = [team, hello("three", "Deployed")]
    flux.reconcile()
    assert not flux.wait(5.0)
    assert flux.status(flux.git[1]) == "InProgress"
    slip = hello("four", "Deployed")
    slip["spec"]["definition"]["triggers"] = [{"type": "interval", "value": "5s"}]
    flux.git = [team, slip]
    flux.reconcile()
    assert not flux.wait()
    assert flux.status(slip) == "Failed"


def test_what_people_change_by_hand_is_taken_back(operate: Operate, kube: Kube, namespace: str) -> None:
    """Flux corrects the spec that it owns; the operator's fields are no drift."""
    operate()
    flux = Kustomization(kube, "team", [tenant("team"), workflow("hello", namespace, "team", definition("one"))])
    committed(flux, kube)
    kube.edit(flux.git[1], definition=definition("by hand"))
    kube.await_state(flux.git[1], lambda it: it.status["activeRevision"]["number"] == 2, "version 2")
    assert flux.drifted() == [("Workflow", namespace, "hello")]
    flux.reconcile()
    assert flux.drifted() == []
    assert flux.wait()
    kube.await_state(flux.git[1], lambda it: it.status["activeRevision"]["number"] == 3, "version 3")
