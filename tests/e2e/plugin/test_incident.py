"""The incident of the runbook, with a whole operator: edit, break, compare, roll back, mend."""

import json

import pytest

from e2e.cluster import Json, Kube, tenant
from e2e.conftest import Operate
from e2e.keep import Keep
from manifests import workflow

pytestmark = pytest.mark.e2e


def _does(limit: int) -> Json:
    return {
        "consts": {"limit": limit},
        "triggers": [{"type": "manual"}],
        "actions": [{"name": "notify", "provider": {"type": "console", "with": {"message": "hot"}}}],
    }


def _active(kube: Kube, manifest: Json, number: int) -> None:
    def is_active(thing: object) -> bool:
        return (thing.status.get("activeRevision") or {}).get("number") == number  # type: ignore[attr-defined]

    kube.await_state(manifest, is_active, f"v{number} active")


def test_which_version_runs_what_changed_take_it_back(kube: Kube, keep: Keep, namespace: str, team: str) -> None:
    """Three commands lead from "it does the wrong thing" back to what was right, and Git does not undo it."""
    flow = workflow("high-cpu", namespace, team, does=_does(80))
    kube.create(flow)
    _active(kube, flow, 1)
    kube.edit(flow, definition=_does(5))
    _active(kube, flow, 2)

    assert keep("history", "high-cpu").out.startswith(f"high-cpu in {namespace}: v2 is active\n")
    changed = keep("diff", "high-cpu", "previous")
    assert (changed.code, "limit: 80 -> 5" in changed.out) == (1, True)

    back = keep("rollback", "high-cpu", "-m", "incident 4711", "--request-id", "4711")
    assert back.code == 0, back.err
    assert back.out.startswith("Done: ")
    assert back.out.endswith("(v2 -> v1)\n")
    kube.edit(flow, definition=_does(5))  # what a GitOps tool does, without end
    _active(kube, flow, 1)
    told = json.loads(keep("history", "high-cpu", "-o", "json").out)
    assert (told["activeRevision"], told["desiredRevision"]) == (1, 2)
    assert [each["state"] for each in told["revisions"]] == ["held back", "active"]
    assert told["hold"]["reason"] == "incident 4711"
    assert keep("rollback", "high-cpu", "-m", "incident 4711", "--request-id", "4711").out == back.out

    unproven = keep("tag", "high-cpu", "golden")
    assert (unproven.code, "ActorUnverified" in unproven.err) == (1, True), unproven
    nowhere = keep("rollback", "high-cpu", "-m", "again")
    assert nowhere.code == 1
    assert "NoRollbackTarget" in nowhere.err

    kube.edit(flow, definition=_does(70))  # mended in Git: the hold ends by itself
    _active(kube, flow, 3)
    assert keep("history", "high-cpu").out.startswith(f"high-cpu in {namespace}: v3 is active\n")
    kube.delete(flow)


def test_a_tag_names_a_version_everywhere(kube: Kube, keep: Keep, namespace: str, operate: Operate) -> None:
    """What is tagged can be shown, compared, pinned and gone back to by its tag."""
    operate(KEEP_OPERATOR_DECISIONS_UNVERIFIED="Record")
    kube.create(tenant("team"))
    flow = workflow("high-cpu", namespace, "team", does=_does(80))
    kube.create(flow)
    _active(kube, flow, 1)
    tagged = keep("tag", "high-cpu", "golden", "-m", "checked with Ann")
    assert tagged.code == 0, tagged.err
    kube.edit(flow, definition=_does(5))
    _active(kube, flow, 2)
    assert keep("show", "high-cpu", "golden").out.startswith("# high-cpu v1 ")
    assert keep("diff", "high-cpu", "golden", "active").code == 1
    back = keep("rollback", "high-cpu", "--to", "golden", "-m", "drowning")
    assert back.out.endswith("(v2 -> v1)\n"), back.err
    resumed = keep("resume", "high-cpu")
    assert (resumed.code, "(v1 -> v2)" in resumed.out) == (0, True), resumed
    assert keep("note", "high-cpu", "looked at it").code == 0
    pinned = keep("pin", "high-cpu", "golden", "--write")
    assert pinned.code == 0, pinned.err
    _active(kube, flow, 1)
    refused = keep("rollback", "high-cpu", "-m", "x", "--to", "v2")
    assert (refused.code, "pin" in refused.err) == (1, True), refused
    kube.delete(flow)
