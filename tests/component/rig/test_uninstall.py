"""`keep-operator uninstall` beside a whole operator, and without one: what goes, what stays, and what it says."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from component.apiserver.faults import BROKEN, Fault, writes
from component.apiserver.state import Failure
from component.rig.rig import Rig
from keep_operator.cli import uninstall
from keep_operator.cli.uninstall import Held
from keep_operator.cluster import access
from keep_operator.cluster.client import Cluster
from keep_operator.errors import Refused
from keep_operator.resources.kinds import OURS, WORKFLOW_DECISIONS
from manifests import Json, decision, definition, provider, querying, run, tenant, workflow

pytestmark = pytest.mark.component
TEAM, OTHER = tenant("team"), tenant("other")
VM = provider("vm", "default", "team")
KEPT = provider("kept", "default", "other", deletionPolicy="Orphan")
HELLO = workflow("hello", "default", "team", querying("vm"))
BACK = decision("Rollback", HELLO)
ALL = (TEAM, OTHER, VM, KEPT, HELLO)
OWNERS = "SELECT external_name, owner_uid IS NOT NULL AS owned FROM keep_operator.provider ORDER BY 1"


async def remove(rig: Rig, *, orphan: bool = False, really: bool = True, seconds: int = 300) -> None:
    """The command, as an administrator."""
    async with Cluster(rig.server.connect("admin")) as cluster:
        await uninstall.remove(cluster, orphan=orphan, within=timedelta(seconds=seconds), really=really)


async def at_rest(rig: Rig, *before: Json) -> None:
    """An operator at rest over these objects, all of them Ready."""
    rig.user.apply(*(before or ALL))
    await rig.operate(default_tenant="")
    await rig.user.ready(*(before or ALL))
    await rig.rest()


def left(rig: Rig) -> list[str]:
    """Every object of ours."""
    return sorted(f"{thing.raw['kind']} {thing.raw['metadata']['name']}" for thing in rig.user.objects())


async def test_everything_goes(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    """Objects of all kinds and Tenants, unattended; each record by its deletionPolicy; again it is done already."""
    await at_rest(rig)
    rig.user.apply(BACK)
    await rig.user.condition(BACK, "Handled", ("False", "NoRollbackTarget"))
    await remove(rig)
    assert left(rig) == []
    assert rig.database.rows(OWNERS) == [{"external_name": "kept", "owned": False}]
    assert "the default\ntenant again" in capsys.readouterr().out
    await remove(rig)
    await rig.rest()
    assert left(rig) == []


@pytest.mark.parametrize("orphan", [False, True], ids=["cleaned up", "orphaned"])
async def test_runs_go_though_they_are_under_way(rig: Rig, orphan: bool) -> None:
    """Nothing hangs: the Workflow waits its time, and cancels what is left; with `--orphan` the records are left alone."""
    hello = workflow("hello", "default", "team", deletionGraceSeconds=5)
    await at_rest(rig, TEAM, hello)
    one = run(hello)
    rig.user.apply(one)
    await rig.user.condition(one, "Succeeded", ("Unknown", "Queued"))
    if orphan:
        await rig.operators[-1].stop()
        await rig.rest()
    await remove(rig, orphan=orphan)
    assert left(rig) == []
    states = [row["state"] for row in rig.database.rows("SELECT state FROM keep_operator.run")]
    assert states == ["Queued" if orphan else "Cancelled"]


async def test_a_dry_run_changes_nothing(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    """It counts what would go."""
    await at_rest(rig)
    before = rig.server.state.version
    mark = len(rig.server.exchanges)
    await remove(rig, really=False)
    told = capsys.readouterr().out
    assert "6 objects would be deleted" in told
    assert [line.split() for line in told.splitlines()[1:5]] == [
        ["Workflow", "1"],
        ["Provider", "2"],
        ["WorkflowRevision", "1"],
        ["Tenant", "2"],
    ]
    assert rig.server.writes("admin", since=mark) == {"POST selfsubjectaccessreviews": len(list(_rights()))}
    assert all(each.version <= before or each.resource not in OURS for each in rig.server.state.log)


def _rights() -> Iterator[str]:
    return (verb for rule in access.UNINSTALL_RULES for verb in rule.verbs)


@pytest.mark.parametrize("end", ["stopped", "killed"])
async def test_without_an_operator_nothing_is_begun(rig: Rig, end: str) -> None:
    """Whether it gave the Lease back or not; with --orphan the objects go, and the records stay as they are."""
    await at_rest(rig)
    await (rig.operators[0].stop() if end == "stopped" else rig.operators[0].kill())
    there = left(rig)
    with pytest.raises(Held, match="No operator leads"):
        await remove(rig)
    assert left(rig) == there
    rows = rig.database.rows(OWNERS)
    await remove(rig, orphan=True, really=False)
    assert left(rig) == there
    await remove(rig, orphan=True)
    assert left(rig) == []
    assert rig.database.rows(OWNERS) == rows
    assert all(row["owned"] for row in rows)


async def test_records_that_were_left_are_found_again(rig: Rig) -> None:
    """Whoever applies the objects again gets their records with ids and history."""
    await at_rest(rig)
    ids = [rig.user.get(VM).status["providerId"], rig.user.get(HELLO).status["workflowId"]]
    await rig.operators[0].stop()
    await remove(rig, orphan=True)
    rig.user.apply(*ALL)
    await rig.operate(default_tenant="")
    await rig.user.ready(*ALL)
    assert [rig.user.get(VM).status["providerId"], rig.user.get(HELLO).status["workflowId"]] == ids


async def test_beside_an_operator_nothing_is_orphaned(rig: Rig) -> None:
    """It would clean up what is to stay, or put the finalizers back."""
    await at_rest(rig)
    there = left(rig)
    with pytest.raises(Held, match="Scale the operator to 0"):
        await remove(rig, orphan=True)
    assert left(rig) == there


async def test_an_operator_that_ends_in_the_middle(rig: Rig) -> None:
    """What is left is named with the reason, and with the operator back the same command ends the work."""
    await at_rest(rig)
    doomed = asyncio.create_task(remove(rig, seconds=60))
    await rig.user.eventually(lambda: rig.server.writes("admin")["DELETE workflows"], bool, "a deletion")
    await rig.operators[0].kill()
    with pytest.raises(Held, match=r"left when the time was over") as held:
        await doomed
    assert "Provider default/" in str(held.value)
    await rig.operate(default_tenant="")
    await remove(rig)
    assert left(rig) == []


async def test_a_database_that_is_away_is_named(rig: Rig) -> None:
    """The operator lives and cannot clean up: the conditions say why, and so does the command."""
    await at_rest(rig)
    rig.doors.shut = True
    rig.doors.cut()
    with pytest.raises(Held, match="DatabaseUnavailable"):
        await remove(rig, seconds=60)
    rig.doors.shut = False
    await remove(rig, seconds=900)
    assert left(rig) == []


async def test_what_is_made_again_is_told(rig: Rig) -> None:
    """A GitOps tool applies what is deleted: there would be no end, so it ends and says who must stop first."""
    await at_rest(rig)
    git = VM | {"metadata": VM["metadata"] | {"annotations": {"argocd.argoproj.io/tracking-id": "app:x"}}}

    async def heal() -> None:
        await rig.user.gone(VM)
        rig.user.apply(git)

    healing = asyncio.create_task(heal())
    with pytest.raises(Held, match="Provider default/vm, by ArgoCD"):
        await remove(rig)
    await healing
    assert "Tenant team" in left(rig)


async def test_others_may_hold_an_object(rig: Rig) -> None:
    """Their finalizer is theirs to take off, with --orphan too."""
    await at_rest(rig)
    finalizers = rig.user.get(VM).raw["metadata"]["finalizers"]
    rig.user.patch(VM, {"metadata": {"finalizers": [*finalizers, "others.example/hold"]}})
    await rig.operators[0].stop()
    with pytest.raises(Held, match=r"Provider default/vm: held by others.example/hold"):
        await remove(rig, orphan=True, seconds=5)
    assert rig.user.get(VM).raw["metadata"]["finalizers"] == ["others.example/hold"]


async def test_a_patch_that_meets_another_is_done_again(rig: Rig) -> None:
    """Somebody writes to an object between our look and our patch."""
    await at_rest(rig)
    await rig.operators[0].stop()
    rig.server.faults.append(Fault(writes("providers"), times=1, refusal=Failure(409, "Conflict", name="vm")))
    await remove(rig, orphan=True)
    assert left(rig) == []


async def test_children_that_nobody_owns_go_too(rig: Rig) -> None:
    """A decision about a Workflow that never was; one that may not be deleted is named in the end."""
    await at_rest(rig)
    stray = decision("Rollback", workflow("nothing", "default"))
    rig.user.apply(stray)
    forbidden = Fault(writes("workflowdecisions"), refusal=Failure(403, "Forbidden", "a policy"))
    rig.server.faults.append(forbidden)
    with pytest.raises(Held, match=f"{WORKFLOW_DECISIONS.kind} default/.*: may not be deleted"):
        await remove(rig, seconds=20)
    rig.server.faults.remove(forbidden)
    await remove(rig)
    assert left(rig) == []


async def test_an_api_server_that_is_away_for_a_while(rig: Rig) -> None:
    """What has been asked for is waited for, as long as there is time."""
    await at_rest(rig)
    doomed = asyncio.create_task(remove(rig))
    await rig.user.eventually(lambda: rig.server.writes("admin")["DELETE providers"] == 2, bool, "deletions")
    rig.server.faults.append(Fault(lambda asked: asked.client == "admin", refusal=BROKEN))
    await asyncio.sleep(60.0)
    assert not doomed.done()
    rig.server.faults.clear()
    await doomed
    assert left(rig) == []


async def test_a_kind_that_is_not_there_has_no_objects(rig: Rig) -> None:
    """CRDs may be gone already, each by itself; what merely is not served for a moment is no proof of that."""
    await at_rest(rig, TEAM, workflow("hello", "default", "team", definition("one")))
    await rig.operators[0].stop()
    rig.server.withdraw(WORKFLOW_DECISIONS)
    await remove(rig, orphan=True)
    assert [
        thing.raw["kind"] for thing in rig.user.objects(*(each for each in OURS if each != WORKFLOW_DECISIONS))
    ] == []


async def test_missing_rights_end_it_before_it_begins(rig: Rig) -> None:
    """Half of the work is worse than none."""
    await at_rest(rig)
    there = left(rig)

    class Nobody(Cluster):
        async def review(self, group: str, resource: str, verb: str, **where: str) -> Any:
            found = await super().review(group, resource, verb, **where)
            return found if verb != "delete" else type(found)(allowed=False, reason="")

    async with Nobody(rig.server.connect("nobody")) as cluster:
        with pytest.raises(Refused, match="may not delete tenants, delete providers"):
            await uninstall.remove(cluster, orphan=False, within=timedelta(minutes=1), really=True)
    assert left(rig) == there
