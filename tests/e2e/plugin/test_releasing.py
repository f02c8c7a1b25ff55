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


def _come_true(kube: Kube, keep: Keep, flows: dict[str, tuple[Json, str]]) -> dict[str, Json]:
    """Plans the manifests, applies them, and compares; ``flows`` are they with the outcome of each, by a name for the test."""
    text = as_yaml(*(flow for flow, _ in flows.values()))
    printed = keep("plan", "-f", "-", "-o", "json", "--exit-code", stdin=text)
    plans = {each["name"]: each for each in json.loads(printed.out)["workflows"]}
    assert {name: plans[name]["outcome"] for name in flows} == {name: outcome for name, (_, outcome) in flows.items()}
    codes = {"Unchanged": 0, "Changes": 10, "Held": 11, "Faulty": 1}
    assert printed.code == codes[max((outcome for _, outcome in flows.values()), key=list(codes).index)], printed
    kube.kubectl("apply", "-f", "-", stdin=text)
    for name, (flow, _) in flows.items():
        then = {each["type"]: (each["status"], each["reason"]) for each in plans[name]["then"]["conditions"]}

        def so(thing: Thing, plan: Json = plans[name], then: dict[str, tuple[str, str]] = then) -> bool:
            active, made = plan["then"]["active"], plan["revision"]
            latest = thing.status.get("latestCreatedRevision") or {}
            return (
                _looked_at(thing)
                and {kind: thing.condition(kind) for kind in COMPARED} == {kind: then.get(kind) for kind in COMPARED}
                and (thing.status.get("activeRevision") or {}).get("number") == (active and active["number"])
                and (made is None or (latest["number"], latest["contentHash"]) == (made["number"], made["contentHash"]))
            )

        kube.await_state(flow, so, f"what was foretold ({then})")
    return plans


def test_what_is_planned_comes_true(kube: Kube, keep: Keep, namespace: str, operate: Operate) -> None:
    """Merge after merge, the operator does what the plan has said: versions, gates, canaries, holds, pins, faults."""
    operate(KEEP_OPERATOR_DECISIONS_UNVERIFIED="Record")
    kube.create(tenant("team"), tenant("strict", policy=FLOOR))
    kube.await_ready(tenant("team"), tenant("strict"))

    def flow(name: str, message: str, limit: int = 80, does: Json | None = None, **spec: object) -> Json:
        ref = "strict" if name == "strict" else "team"
        return workflow(name, namespace, ref, does=does or _does(limit, message), **spec)

    canary: Json = {"release": {"strategy": CANARY}}
    names = ("strict", "same", "edited", "told", "manual", "tried", "older", "pinned", "waiting", "broken", "mended")
    first = _come_true(
        kube, keep, {name: (flow(name, "hot"), "Held" if name == "strict" else "Changes") for name in names}
    )
    assert first["strict"]["held"][0]["gate"] == "Approval"  # all of it is new, so what is important is too
    assert keep("approve", "strict").code == 0
    kube.await_condition(flow("strict", "hot"), "Deployed", ("True", "RevisionActive"))

    broken = _does(80)
    del broken["actions"]
    second = _come_true(
        kube,
        keep,
        {
            "strict": (flow("strict", "hot", limit=90), "Held"),
            "same": (flow("same", "hot"), "Unchanged"),
            "edited": (flow("edited", "warm"), "Changes"),
            "told": (flow("told", "", does={**_does(80), "description": "Tells the channel."}), "Changes"),
            "manual": (flow("manual", "warm", release={"strategy": {"type": "Manual"}}), "Held"),
            "tried": (flow("tried", "warm", **canary), "Changes"),
            "older": (flow("older", "warm"), "Changes"),
            "pinned": (flow("pinned", "warm", release={"pin": {"revision": 1}}), "Held"),
            "waiting": (flow("waiting", "", does=_does(80, type="slack", config="{{ providers.chat }}")), "Held"),
            "broken": (flow("broken", "", does=broken), "Faulty"),
            "mended": (flow("mended", "warm"), "Changes"),
        },
    )
    assert second["strict"]["release"]["approval"]["important"]["paths"] == ["consts.limit"]
    assert (second["told"]["revision"], second["tried"]["then"]["active"]["number"]) == (None, 1)
    done = keep("rollback", "mended", "-m", "incident 4711")
    assert done.code == 0, done.err

    third = _come_true(
        kube,
        keep,
        {
            "strict": (flow("strict", "warm", limit=80), "Changes"),
            "tried": (flow("tried", "cold", **canary), "Changes"),
            "older": (flow("older", "hot", **canary), "Changes"),
            "pinned": (flow("pinned", "warm"), "Changes"),
            "mended": (flow("mended", "warm", suspend=False), "Unchanged"),
            "waiting": (flow("waiting", "hot"), "Changes"),
        },
    )
    assert third["tried"]["release"]["canary"]["becomes"] == "Restarts"
    assert (third["older"]["revision"]["sameContentAs"], third["older"]["then"]["active"]["number"]) == (1, 3)
    mended = _come_true(kube, keep, {"mended": (flow("mended", "cold"), "Changes")})
    assert mended["mended"]["release"]["endsHold"]


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
