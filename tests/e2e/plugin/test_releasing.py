"""From the plan to the end of a canary, with a real API server and a whole operator: what was foretold is what comes."""

import json
import subprocess
from typing import Any

import pytest

from e2e.cluster import Json, Kube, Thing, as_yaml, tenant
from e2e.conftest import Operate
from e2e.keep import Keep
from manifests import workflow

pytestmark = pytest.mark.e2e

FLOOR = {
    "approvalFloor": {"required": "ImportantOnly", "importantPaths": ["consts.limit"], "forbidSelfApproval": False}
}
STEPS = [{"setWeight": 20}, {"pause": {"duration": "1h"}}, {"setWeight": 60}, {"pause": {}}]
CANARY = {"type": "Canary", "canary": {"steps": STEPS, "rollbackWindow": {"revisions": 3}}}
# What a plan must have foretold; of the others `Synced` tells of the last write, which comes and goes.
COMPARED = ("Ready", "DefinitionValid", "TenantReady", "ProvidersReady", "Approved", "Deployed", "Available")


def _does(limit: int, message: str = "hot", **provider: Any) -> Json:
    called = {"type": "console", "with": {"message": message}, **provider}
    return {
        "consts": {"limit": limit},
        "triggers": [{"type": "manual"}],
        "actions": [{"name": "notify", "provider": called}],
    }


def _looked_at(thing: Thing) -> bool:
    return bool(thing) and thing.status.get("observedGeneration") == thing.raw["metadata"]["generation"]


def _comes_true(kube: Kube, keep: Keep, flow: Json, outcome: str) -> Json:
    """Plans the manifest, applies it, and compares; gives the plan."""
    text = as_yaml(flow)
    printed = keep("plan", "-f", "-", "-o", "json", "--exit-code", stdin=text)
    assert printed.code == {"Unchanged": 0, "Changes": 10, "Held": 11, "Faulty": 1}[outcome], printed
    (planned,) = json.loads(printed.out)["workflows"]
    assert planned["outcome"] == outcome, planned
    kube.kubectl("apply", "-f", "-", stdin=text)
    then = {each["type"]: (each["status"], each["reason"]) for each in planned["then"]["conditions"]}

    active, made = planned["then"]["active"], planned["revision"]

    def so(thing: Thing) -> bool:
        told = {kind: thing.condition(kind) for kind in COMPARED}
        latest = thing.status.get("latestCreatedRevision") or {}
        return (
            _looked_at(thing)
            and told == {kind: then.get(kind) for kind in COMPARED}
            and (thing.status.get("activeRevision") or {}).get("number") == (active and active["number"])
            and (made is None or (latest["number"], latest["contentHash"]) == (made["number"], made["contentHash"]))
        )

    kube.await_state(flow, so, f"what was foretold ({then})")
    return dict(planned)


def test_what_is_planned_comes_true(kube: Kube, keep: Keep, namespace: str, operate: Operate) -> None:
    """Edit after edit, the operator does what the plan has said the moment before: versions, gates, canaries, holds, faults."""
    operate(KEEP_OPERATOR_DECISIONS_UNVERIFIED="Record")
    kube.create(tenant("team", policy=FLOOR))
    kube.await_ready(tenant("team"))

    def flow(does: Json, **spec: object) -> Json:
        return workflow("high-cpu", namespace, "team", does=does, **spec)

    first = _comes_true(kube, keep, flow(_does(80)), "Held")  # all of it is new, so what is important is too
    assert (first["created"], first["held"][0]["gate"]) == (True, "Approval")
    assert keep("approve", "high-cpu").code == 0
    kube.await_condition(flow({}), "Deployed", ("True", "RevisionActive"))

    assert _comes_true(kube, keep, flow(_does(80)), "Unchanged")["revision"] is None
    _comes_true(kube, keep, flow(_does(80, "warm")), "Changes")
    _comes_true(kube, keep, flow({**_does(80, "warm"), "description": "Tells the channel."}), "Changes")
    held = _comes_true(kube, keep, flow(_does(90, "warm")), "Held")
    assert held["release"]["approval"]["important"]["paths"] == ["consts.limit"]
    _comes_true(kube, keep, flow(_does(80, "cool"), release={"strategy": {"type": "Manual"}}), "Held")
    tried = _comes_true(kube, keep, flow(_does(80, "cold"), release={"strategy": CANARY}), "Changes")
    assert tried["then"]["active"]["number"] == 2
    anew = _comes_true(kube, keep, flow(_does(80, "icy"), release={"strategy": CANARY}), "Changes")
    assert anew["release"]["canary"]["becomes"] == "Restarts"
    back = _comes_true(kube, keep, flow(_does(80, "hot"), release={"strategy": CANARY}), "Changes")
    assert (back["revision"]["sameContentAs"], back["then"]["active"]["number"]) == (1, back["revision"]["number"])
    _comes_true(kube, keep, flow(_does(80, "new"), release={"pin": {"revision": 2}}), "Held")
    _comes_true(kube, keep, flow(_does(80, "new")), "Changes")

    done = keep("rollback", "high-cpu", "-m", "incident 4711")
    assert done.code == 0, done.err
    assert _comes_true(kube, keep, flow(_does(80, "new")), "Unchanged")["revision"] is None
    assert _comes_true(kube, keep, flow(_does(80, "mended")), "Changes")["release"]["endsHold"]
    _comes_true(kube, keep, flow(_does(80, "chat", type="slack", config="{{ providers.chat }}")), "Held")
    broken = _does(80)
    del broken["actions"]
    _comes_true(kube, keep, flow(broken), "Faulty")
    kube.delete(flow({}))


def test_a_release_is_followed_and_decided_on(kube: Kube, keep: Keep, namespace: str, operate: Operate) -> None:
    """Approval, checklist, canary, promotion: each by its command, while somebody watches to the end."""
    operate(KEEP_OPERATOR_DECISIONS_UNVERIFIED="Record")
    kube.create(tenant("team"))
    release = {
        "strategy": CANARY,
        "approval": {"required": "Always", "forbidSelfApproval": False},
        "checklist": [{"id": "load", "title": "Load was looked at"}],
    }
    flow = workflow("high-cpu", namespace, "team", does=_does(80))
    kube.create(flow)
    kube.await_condition(flow, "Deployed", ("True", "RevisionActive"))
    # Nobody has applied it by kubectl, so the file is planned to take the place of the whole spec.
    edited = workflow("high-cpu", namespace, "team", does=_does(70), release=release)
    (planned,) = json.loads(keep("plan", "-f", "-", "-o", "json", stdin=as_yaml(edited)).out)["workflows"]
    assert ([each["gate"] for each in planned["held"]], planned["warnings"]) == (["Approval", "Checklist"], [])
    kube.edit(flow, definition=_does(70), release=release)
    kube.await_condition(flow, "Deployed", ("Unknown", "AwaitingApproval"))

    words = ["kubectl", "keep", "release", "high-cpu", "--watch", "--timeout", "90", f"--namespace={namespace}"]
    watching = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert "kubectl keep approve high-cpu v2" in keep("release", "high-cpu").out
        outdated = keep("approve", "high-cpu", "v1")
        assert (outdated.code, "does not ask for v1" in outdated.err) == (1, True), outdated
        assert keep("approve", "high-cpu", "v2", "-m", "read it").code == 0
        kube.await_condition(flow, "Deployed", ("Unknown", "ChecklistIncomplete"))
        assert keep("check", "high-cpu", "nothing").code == 1
        assert keep("check", "high-cpu", "load").code == 0
        kube.await_condition(flow, "Deployed", ("Unknown", "CanaryInProgress"))
        told = json.loads(keep("release", "high-cpu", "-o", "json").out)
        assert (told["phase"], told["canary"]["weight"], told["canary"]["stepIndex"]) == ("Canary", 20, 1)
        assert keep("pause", "high-cpu").code == 0
        kube.await_condition(flow, "Deployed", ("Unknown", "CanaryPaused"))
        assert keep("promote", "high-cpu").code == 0
        kube.await_state(flow, lambda thing: thing.status["canary"]["weight"] == 60, "the next share")
        assert keep("promote", "high-cpu", "--full").code == 0
        out, err = watching.communicate(timeout=60)
    finally:
        watching.kill()
    assert (watching.returncode, err) == (0, ""), out
    lines = out.splitlines()
    assert "v2 waits: Approval: " in lines[0]
    assert "v2 is released" in lines[-1]

    kube.edit(flow, definition=_does(60), release={"approval": None, "checklist": None})
    kube.await_condition(flow, "Deployed", ("Unknown", "CanaryInProgress"))
    assert keep("abort", "high-cpu", "-m", "drowning").code == 0
    lost = keep("release", "high-cpu", "--watch", "--timeout", "30")
    assert (lost.code, "was aborted" in lost.out) == (1, True), lost
    kube.delete(flow)
