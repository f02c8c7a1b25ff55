"""The operator is killed at every single write of what users do, and nobody can tell afterwards (P5).

Once before the write is done, and once when it is done and the answer has not been seen.
"""

import asyncio
from pathlib import Path
from typing import Final

import pytest

from component.rig import crashes
from component.rig.crashes import Deed, Story
from component.rig.rig import REST_S
from component.rig.user import User
from component.rig.world import TOKEN
from keep_operator.resources.kinds import WORKFLOW_DECISIONS, WORKFLOW_REVISIONS
from manifests import (
    Json,
    credential,
    decision,
    definition,
    in_argo_cd,
    provider,
    querying,
    run,
    secret,
    tenant,
    workflow,
)

pytestmark = pytest.mark.component
ARCHITECTURE: Final = Path(__file__).parents[3] / "docs/architecture.md"
RECORD: Final = Path(__file__).parents[3] / "docs/adr/0022-crash-points.md"

TEAM = tenant("team")
VM = provider("vm", "default", "team")


async def _tenant_first(user: User) -> None:
    user.apply(TEAM)
    await user.ready(TEAM)
    user.apply(VM)
    await user.ready(VM)


async def _provider_first(user: User) -> None:
    user.apply(VM)
    await user.condition(VM, "Ready", ("Unknown", "TenantNotFound"))
    user.apply(TEAM)
    await user.ready(TEAM, VM)


async def _there(user: User) -> None:
    user.apply(TEAM, VM)
    await user.ready(TEAM, VM)


async def _rename(user: User) -> None:
    user.edit(VM, externalName="renamed")
    await user.ready(VM)


HEIR = provider("heir", "default", "team", externalName="vm")


async def _hand_over(user: User) -> None:
    user.apply(HEIR)
    await user.condition(HEIR, "Synced", ("Unknown", "ExternalNameConflict"))
    user.delete(VM)
    await user.gone(VM)
    await user.ready(HEIR)


LOGIN = secret("login", "default", password="old")
LOCKED = provider("vm", "default", "team", secrets=[credential("BasicAuthPassword", "login", "password")])


async def _locked(user: User) -> None:
    user.apply(TEAM, LOGIN, LOCKED)
    await user.ready(TEAM, LOCKED)


POSTING = tenant("team", ingestTokens=[{"secretRef": {"namespace": "default", "name": "machine", "key": "token"}}])


async def _without_token(user: User) -> None:
    user.apply(POSTING)
    await user.condition(POSTING, "TokensResolved", ("Unknown", "SecretNotFound"))


async def _token(user: User) -> None:
    user.apply(secret("machine", "default", token=TOKEN))
    await user.condition(POSTING, "TokensResolved", ("True", "Resolved"))


async def _rotate(user: User) -> None:
    old = user.get(LOCKED).status["configHash"]
    user.apply(secret("login", "default", password="new"))
    await user.until(LOCKED, lambda vm: vm.ready and vm.status["configHash"] != old, "rotation")


LEFT = provider("vm", "default", "team", deletionPolicy="Orphan")


async def _left(user: User) -> None:
    user.apply(TEAM, LEFT)
    await user.ready(TEAM, LEFT)
    user.delete(LEFT)
    await user.gone(LEFT)


async def _adopt(user: User) -> None:
    finder = provider("finder", "default", "team", externalName="vm", adoptionPolicy="IfUnowned")
    user.apply(finder)
    await user.ready(finder)


async def _delete(user: User) -> None:
    user.delete(VM)
    await user.gone(VM)


async def _orphaning(user: User) -> None:
    user.apply(TEAM, LEFT)
    await user.ready(TEAM, LEFT)


GOING = tenant("team", deletionPolicy="Delete")
CONFIRMED = {"metadata": {"annotations": {"keep-operator.dev/confirm-deletion": "team"}}}


async def _going(user: User) -> None:
    user.apply(GOING, VM)
    await user.ready(GOING, VM)


async def _delete_tenant(user: User) -> None:
    user.delete(TEAM)
    await user.condition(TEAM, "Deleting", ("True", "DependentsExist"))
    user.patch(TEAM, CONFIRMED)
    await user.gone(TEAM, VM)


HELLO = workflow(
    "hello", "default", "team", definition("one"), retention={"sinceCreate": "1m", "sinceLastActive": "1m"}
)
BACK = decision("Rollback", HELLO, "back")


async def _workflow_first(user: User) -> None:
    user.apply(TEAM)
    await user.ready(TEAM)
    user.apply(HELLO)
    await user.ready(HELLO)


async def _rewrite(user: User, message: str) -> None:
    user.edit(HELLO, definition=definition(message))
    await user.ready(HELLO)


async def _written(user: User) -> None:
    user.apply(TEAM, HELLO)
    await user.ready(TEAM, HELLO)


async def _edit(user: User) -> None:
    await _rewrite(user, "two")


async def _rewritten(user: User) -> None:
    await _written(user)
    await _edit(user)


async def _roll_back(user: User) -> None:
    user.apply(BACK)
    await user.condition(BACK, "Handled", ("True", "Done"))
    await user.until(HELLO, lambda hello: hello.status["activeRevision"]["number"] == 1, "v1")


async def _annotate(user: User) -> None:
    user.patch(HELLO, {"metadata": {"annotations": {"keep-operator.dev/rollback-to": "1@monday"}}})
    await user.until(HELLO, lambda hello: hello.status.get("lastHandledAction") == "1@monday", "a rollback")


async def _rolled_back(user: User) -> None:
    await _rewritten(user)
    await _roll_back(user)


async def _roll_forward(user: User) -> None:
    await _rewrite(user, "three")


async def _grown_old(user: User) -> None:
    await _rewritten(user)
    await asyncio.sleep(120.0)  # longer than versions are kept in any case


async def _archive(user: User) -> None:
    user.edit(HELLO, revisionHistoryLimit=0)
    await user.eventually(lambda: user.objects(WORKFLOW_REVISIONS), lambda found: len(found) == 1, "an archive")


async def _delete_workflow(user: User) -> None:
    user.delete(HELLO)
    await user.gone(HELLO)


USER = workflow("asking", "default", "team", querying("vm"))


# The Tenant keeps a Provider: a total that reaches 0 is told at once, and together with the Workflow only if that is faster.
OTHER = provider("other", "default", "team")


async def _used(user: User) -> None:
    user.apply(TEAM, VM, OTHER, USER)
    await user.ready(TEAM, VM, OTHER, USER)


async def _delete_used(user: User) -> None:
    user.delete(VM)
    await user.gone(VM)
    await user.condition(USER, "Available", ("False", "ActiveRevisionBroken"))


IN_ARGO_CD = (in_argo_cd(VM), in_argo_cd(HELLO))


async def _tracked(user: User) -> None:
    user.apply(GOING, *IN_ARGO_CD)
    await user.ready(GOING, *IN_ARGO_CD)


async def _take_over(user: User) -> None:
    user.apply(*IN_ARGO_CD)
    for each in IN_ARGO_CD:
        await user.until(each, lambda thing: not thing.raw["metadata"].get("ownerReferences"), "freedom")


async def _delete_its_tenant(user: User) -> None:
    user.delete(TEAM)
    await user.condition(TEAM, "Deleting", ("True", "DependentsExist"))
    user.patch(TEAM, CONFIRMED)
    await user.gone(TEAM)
    for each in IN_ARGO_CD:
        await user.condition(each, "Ready", ("Unknown", "TenantNotFound"))


async def _both(user: User) -> None:
    user.apply(TEAM, VM, HELLO)
    await user.ready(TEAM, VM, HELLO)


async def _look_on(user: User) -> None:
    await user.ready(VM)


RUN = run(HELLO, ttlSecondsAfterFinished=1)
SHORT = HELLO | {"spec": HELLO["spec"] | {"deletionGraceSeconds": 5}}


async def _ask_for_a_run(user: User) -> None:
    user.apply(RUN)
    await user.condition(RUN, "Succeeded", ("Unknown", "Queued"))
    await user.until(HELLO, lambda hello: hello.status.get("runs") == {"running": 1}, "a run under way")


async def _run_first(user: User) -> None:
    user.apply(RUN)
    await user.condition(RUN, "Accepted", ("Unknown", "WorkflowNotFound"))
    user.apply(HELLO)
    await user.condition(RUN, "Succeeded", ("Unknown", "Queued"))
    await user.until(HELLO, lambda hello: hello.status.get("runs") == {"running": 1}, "a run under way")


async def _ready_tenant(user: User) -> None:
    user.apply(TEAM)
    await user.ready(TEAM)


async def _queued(user: User) -> None:
    await _written(user)
    await _ask_for_a_run(user)


async def _cancel(user: User) -> None:
    user.edit(RUN, cancel=True)
    await user.gone(RUN)
    await user.until(HELLO, lambda hello: hello.status.get("runs") == {"running": 0}, "no run under way")


async def _abandoned(user: User) -> None:
    user.apply(TEAM, SHORT)
    await user.ready(TEAM, SHORT)
    await _ask_for_a_run(user)
    user.delete(RUN)
    await user.gone(RUN)


def _released(**release: object) -> Json:
    return workflow("hello", "default", "team", definition("one"), release=release)


STEPS = [{"setWeight": 20}, {"pause": {}}, {"setWeight": 50}, {"pause": {}}]
TRIED = _released(strategy={"type": "Canary", "canary": {"steps": STEPS}})
ANALYSIS = {"minRuns": 1, "window": "1h", "maxFailureRatePercent": 20}
MEASURED = _released(strategy={"type": "Canary", "canary": {"steps": [{"setWeight": 50}, {"analysis": ANALYSIS}]}})
GUARD = {"enabled": True, "window": "1h", "minRuns": 1, "maxFailureRatePercent": 20}
WATCHED = _released(autoRollback=GUARD)
GATED = _released(approval={"required": "Always"}, checklist=[{"id": "told", "title": "Tell the team"}])
OF_TWO = run(HELLO, revision={"number": 2})


def _then(*deeds: Deed) -> Deed:
    """One after the other, each from where the last one came to rest: a story tells one deed, and begins where another ended."""

    async def told(user: User) -> None:
        for deed in deeds[:-1]:
            await deed(user)
            await asyncio.sleep(REST_S)
        await deeds[-1](user)

    return told


def _with(first: Json) -> Deed:
    async def begun(user: User) -> None:
        user.apply(TEAM, first)
        await user.ready(TEAM, first)

    return begun


async def _change(user: User) -> None:
    user.edit(HELLO, definition=definition("two"))


async def _share(user: User, percent: int) -> None:
    await user.until(HELLO, lambda hello: hello.status.get("canary", {}).get("weight") == percent, f"{percent} %")


async def _decide(user: User, action: str, **said: object) -> None:
    made = decision(action, HELLO, f"to-{action.lower()}-{len(user.objects(WORKFLOW_DECISIONS))}", **said)
    user.apply(made)
    await user.condition(made, "Handled", ("True", "Done"))


async def _try_it(user: User) -> None:
    await _change(user)
    await _share(user, 20)


async def _promote(user: User) -> None:
    await _decide(user, "Promote")
    await _share(user, 50)


async def _promote_to_the_end(user: User) -> None:
    await _decide(user, "Promote")
    await user.ready(HELLO)


async def _pause(user: User) -> None:
    await _decide(user, "Pause")
    await user.until(HELLO, lambda hello: hello.status["canary"].get("paused"), "a pause")


async def _resume(user: User) -> None:
    await _decide(user, "Resume")
    await user.until(HELLO, lambda hello: not hello.status["canary"].get("paused"), "no pause")


async def _abort(user: User) -> None:
    await _decide(user, "Abort")
    await user.condition(HELLO, "Deployed", ("False", "Aborted"))


async def _try_half(user: User) -> None:
    await _change(user)
    await _share(user, 50)


async def _ask_for_the_second(user: User) -> None:
    user.apply(OF_TWO)
    await user.condition(OF_TWO, "Succeeded", ("Unknown", "Queued"))
    await user.until(HELLO, lambda hello: hello.status.get("runs") == {"running": 1}, "a run under way")


async def _fail(user: User) -> None:
    user.fail_runs()
    await user.condition(OF_TWO, "Succeeded", ("False", "StepFailed"))
    await user.condition(HELLO, "Ready", ("False", "AutoRolledBack"))
    await user.until(HELLO, lambda hello: hello.status.get("runs") == {"running": 0}, "no run under way")


async def _await_approval(user: User) -> None:
    await _change(user)
    await user.condition(HELLO, "Deployed", ("Unknown", "AwaitingApproval"))


async def _approve(user: User) -> None:
    await _decide(user, "Approve", revision={"number": 2})
    await user.condition(HELLO, "Deployed", ("Unknown", "ChecklistIncomplete"))


async def _tick(user: User) -> None:
    await _decide(user, "CheckItem", revision={"number": 2}, item="told")
    await user.ready(HELLO)


async def _gated(user: User) -> None:
    await _written(user)
    user.apply(GATED)
    await user.until(HELLO, lambda hello: hello.status["observedGeneration"] == 2, "a look")


_tried = _then(_with(TRIED), _try_it)
_measured = _then(_with(MEASURED), _try_half)
_watched = _then(_with(WATCHED), _edit)
_awaiting = _then(_gated, _await_approval)


STORIES: Final = {
    "the first start, over objects that wait": Story(_there, 13, from_start=True),
    "a start over objects that are Ready": Story(_look_on, 2, before=_there, from_start=True),
    "a Tenant, then its Provider": Story(_tenant_first, 9),
    "a Provider, then its Tenant": Story(_provider_first, 10),
    "a rename in place": Story(_rename, 3, before=_there),
    "a hand-over": Story(_hand_over, 7, before=_there),
    "a rotated Secret": Story(_rotate, 3, before=_locked),
    "the token of a machine": Story(_token, 3, before=_without_token),
    "an adoption": Story(_adopt, 6, before=_left),
    "a deletion with its record": Story(_delete, 4, before=_there),
    "a deletion though a Workflow uses it": Story(_delete_used, 7, before=_used),
    "a deletion that leaves its record": Story(_delete, 4, before=_orphaning),
    "a Tenant, then its Workflow": Story(_workflow_first, 11),
    "an edit of a Workflow": Story(_edit, 6, before=_written),
    "a rollback": Story(_roll_back, 7, before=_rewritten),
    "a rollback by annotation": Story(_annotate, 5, before=_rewritten),
    "a new definition after a rollback": Story(_roll_forward, 6, before=_rolled_back),
    "versions that are archived": Story(_archive, 4, before=_grown_old),
    "a Workflow that is deleted": Story(_delete_workflow, 4, before=_rolled_back),
    "a canary": Story(_try_it, 7, before=_with(TRIED)),
    "a canary that is promoted a step": Story(_promote, 5, before=_tried),
    "a canary that is promoted to the end": Story(_promote_to_the_end, 9, before=_then(_tried, _promote)),
    "a canary that is paused": Story(_pause, 5, before=_tried),
    "a canary that goes on": Story(_resume, 5, before=_then(_tried, _pause)),
    "a canary that is aborted": Story(_abort, 8, before=_tried),
    "a run of a canary": Story(_ask_for_the_second, 4, before=_measured),
    "a canary that fails": Story(_fail, 8, before=_then(_measured, _ask_for_the_second)),
    "a new version that fails": Story(_fail, 9, before=_then(_watched, _ask_for_the_second)),
    "a version that waits for approval": Story(_await_approval, 6, before=_gated),
    "an approval": Story(_approve, 6, before=_awaiting),
    "a checklist that is complete": Story(_tick, 10, before=_then(_awaiting, _approve)),
    "a run": Story(_ask_for_a_run, 4, before=_written),
    "a run before its Workflow": Story(_run_first, 13, before=_ready_tenant),
    "a run that is cancelled, and goes": Story(_cancel, 5, before=_queued),
    "a Workflow that is deleted while it runs": Story(_delete_workflow, 7, before=_abandoned),
    "a Tenant with all that depends on it": Story(_delete_tenant, 7, before=_going),
    "a Tenant that leaves its row": Story(_delete_tenant, 7, before=_there),
    "Argo CD takes over": Story(_take_over, 3, before=_both),
    "a Tenant of what Argo CD tracks": Story(_delete_its_tenant, 13, before=_tracked),
}


@pytest.mark.parametrize("name", STORIES)
async def test_death_at_every_write(name: str, database_url: str) -> None:
    """Whoever kills the operator, at whichever write, finds objects, records and ledger as if nothing had been."""
    writes = await crashes.survive(database_url, STORIES[name])
    assert len(writes) == STORIES[name].writes, writes


def test_the_pages_tell_their_number() -> None:
    """Who reads how many deaths are tried can rely on it."""
    writes = sum(story.writes for story in STORIES.values())
    assert f"{writes} writes of {len(STORIES)} stories ({2 * writes}\n" in ARCHITECTURE.read_text()
    assert f"{len(STORIES)} stories with {writes} writes are {2 * writes} deaths" in RECORD.read_text()
