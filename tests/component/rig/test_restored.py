"""An older dump under a living cluster, with workflows: nothing is lost, nothing is numbered twice, a command mends it (A-REV-13)."""

from typing import Any, cast

import pytest

from component.apiserver.state import Name
from component.rig import scene, world
from component.rig.rig import Rig
from component.rig.scene import Scene
from keep_operator.cli import recover
from keep_operator.domain import reconstruction
from keep_operator.resources.kinds import WORKFLOW_REVISIONS, WORKFLOWS, Resource
from keep_operator.store import engine as database
from manifests import Json, Thing, decision, definition, tenant, workflow

pytestmark = pytest.mark.component
TEAM = tenant("team")
HELLO = workflow("hello", "default", "team", definition("one"))
REJECT = decision("Reject", HELLO, "reject", revision={"number": 3})
BACK = decision("Rollback", HELLO, "back", revision={"number": 1})
TAG = decision("Tag", HELLO, "tag", tag="good", revision={"number": 1})


async def operate(rig: Rig) -> None:
    """An operator that records what nobody can prove."""
    await rig.operate(default_tenant="", decisions_unverified="Record")


async def rewritten(rig: Rig, message: str) -> None:
    """The Workflow says something else, and that is at rest."""
    rig.user.edit(HELLO, definition=definition(message))
    number = rig.user.get(HELLO).raw["metadata"]["generation"]
    await rig.user.until(HELLO, lambda thing: thing.status.get("observedGeneration") == number, "a look")
    await rig.rest()


async def decided(rig: Rig, what: Json) -> None:
    """The decision is carried out."""
    rig.user.apply(what)
    await rig.user.condition(what, "Handled", ("True", "Done"))
    await rig.rest()


def restore(rig: Rig, dump: Scene) -> None:
    """An older dump, with nobody connected, under the cluster as it is."""
    dump.restore(rig.database.url)


def story(rig: Rig) -> Json:
    """What people see: statuses of the Workflow and of its versions."""
    objects = [rig.user.get(HELLO), *rig.user.objects(WORKFLOW_REVISIONS)]
    return {thing.raw["metadata"]["name"]: _settled(thing) for thing in objects}


def _settled(thing: Thing) -> Json:
    told = [
        (each["type"], each["status"], each["reason"] if each["type"] != "Synced" else "")
        for each in thing.status.get("conditions", ())
    ]
    return thing.status | {"conditions": told, "uid": thing.uid}


class Reads:
    """Lists, as a command's client brings them."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig

    async def list(self, resource: Resource) -> Any:
        items = [thing.raw for thing in self._rig.user.objects(resource)]
        return type("Listing", (), {"items": items})


async def mend(rig: Rig) -> list[reconstruction.Step]:
    """What `keep-operator recover --yes` does about Workflows."""
    engine = database.connect(await rig.doors.open("the command"), application_name="test", pool_size=1)
    try:
        (cluster_id,) = (
            row["cluster_id"] for row in rig.database.rows("SELECT cluster_id FROM keep_operator.installation")
        )
        steps, _ = await recover._plan_workflows(engine, cast(Any, Reads(rig)), cluster_id)
        await recover._recover_workflows(engine, steps)
        return steps
    finally:
        await engine.dispose()


async def test_a_database_that_is_behind_is_mended(rig: Rig) -> None:
    """Restored to version 2 under a cluster that has seen 3, its rejection and a rollback: told, untouched, and put right.

    No object is deleted, there is no second version 3, and what people see afterwards is what they saw before.
    """
    rig.user.apply(TEAM, HELLO)
    await operate(rig)
    await rig.user.ready(HELLO)
    await rewritten(rig, "two")
    await rig.operators[-1].stop()
    dump = scene.take(rig)
    await operate(rig)
    await rewritten(rig, "three")
    for what in (TAG, REJECT, BACK):
        await decided(rig, what)
    before, uids = story(rig), {thing.uid for thing in rig.user.objects()}
    hashes = rig.database.rows("SELECT number, content_hash FROM keep_operator.workflow_revision ORDER BY number")
    assert before["hello"]["activeRevision"]["number"] == 1
    await rig.operators[-1].stop()
    restore(rig, dump)

    await operate(rig)
    await rig.user.condition(HELLO, "Ready", ("False", "DatabaseBehind"))
    late = decision("Rollback", HELLO, "late")
    rig.user.apply(late)
    await rig.user.condition(late, "Handled", ("Unknown", "DatabaseBehind"))
    await rig.rest(25 * 60.0)
    assert uids <= {thing.uid for thing in rig.user.objects()}
    assert len(rig.database.rows("SELECT 1 FROM keep_operator.workflow_revision")) == 2
    rig.user.delete(late)

    assert await mend(rig)
    await rig.user.ready(HELLO)
    await rig.rest()
    assert not world.difference({"events": [], **story(rig)}, {"events": [], **before})
    assert (
        rig.database.rows("SELECT number, content_hash FROM keep_operator.workflow_revision ORDER BY number") == hashes
    )
    assert await mend(rig) == []
    rig.user.delete(BACK)
    rig.user.apply(decision("Rollback", HELLO, "back", revision={"number": 1}))
    await rig.user.condition(BACK, "Handled", ("True", "NoOp"))
    await rewritten(rig, "four")
    assert rig.user.get(HELLO).status["activeRevision"]["number"] == 4


async def test_a_workflow_that_the_database_does_not_know_is_made_again(rig: Rig) -> None:
    """Made after the dump: the same id, all versions, what is active and the rollback, from the objects alone."""
    rig.user.apply(TEAM)
    await operate(rig)
    await rig.user.ready(TEAM)
    await rig.operators[-1].stop()
    dump = scene.take(rig)
    await operate(rig)
    rig.user.apply(HELLO)
    await rig.user.ready(HELLO)
    await rewritten(rig, "two")
    await decided(rig, BACK)
    before = story(rig)
    await rig.operators[-1].stop()
    restore(rig, dump)
    await operate(rig)
    await rig.user.condition(HELLO, "Ready", ("False", "DatabaseBehind"))
    assert await mend(rig)
    await rig.user.ready(HELLO)
    await rig.rest()
    assert not world.difference({"events": [], **story(rig)}, {"events": [], **before})


async def test_a_rollback_that_was_lost_is_not_undone(rig: Rig) -> None:
    """A dump from before the rollback, which made no version: the bad one does not become active, and the hold comes back."""
    rig.user.apply(TEAM, HELLO)
    await operate(rig)
    await rig.user.ready(HELLO)
    await rewritten(rig, "two")
    await rig.operators[-1].stop()
    dump = scene.take(rig)
    await operate(rig)
    await decided(rig, BACK)
    before = story(rig)
    await rig.operators[-1].stop()
    restore(rig, dump)
    await operate(rig)
    await rig.user.condition(HELLO, "Ready", ("False", "DatabaseBehind"))
    await mend(rig)
    await rig.user.ready(HELLO)
    await rig.rest()
    assert not world.difference({"events": [], **story(rig)}, {"events": [], **before})


async def test_a_version_whose_object_is_gone_too_is_made_from_the_spec(rig: Rig) -> None:
    """The newest version's object was deleted with the database restored: its content is still what the spec says."""
    rig.user.apply(TEAM, HELLO)
    await operate(rig)
    await rig.user.ready(HELLO)
    await rig.operators[-1].stop()
    dump = scene.take(rig)
    await operate(rig)
    await rewritten(rig, "two")
    await rig.operators[-1].stop()
    restore(rig, dump)
    newest = next(thing for thing in rig.user.objects(WORKFLOW_REVISIONS) if thing.raw["spec"]["number"] == 2)
    rig.user.delete(newest.raw)
    await mend(rig)
    await operate(rig)
    await rig.user.ready(HELLO)
    await rig.rest()
    assert rig.user.get(HELLO).status["activeRevision"]["number"] == 2
    again = next(thing for thing in rig.user.objects(WORKFLOW_REVISIONS) if thing.raw["spec"]["number"] == 2)
    assert again.raw["spec"]["contentHash"] == newest.raw["spec"]["contentHash"]
    assert again.raw["metadata"]["name"] == newest.raw["metadata"]["name"]


async def test_a_database_that_knows_more_than_the_objects_is_right(rig: Rig) -> None:
    """A status that lags behind its row is no memory: nothing is planned, and the Workflow is brought up to date instead."""
    rig.user.apply(TEAM, HELLO)
    await operate(rig)
    await rig.user.ready(HELLO)
    await rewritten(rig, "two")
    old = rig.user.get(HELLO).status
    await decided(rig, BACK)
    await rig.operators[-1].stop()
    stale = rig.user.get(HELLO).raw | {"status": old}
    rig.server.state.change(WORKFLOWS, Name("default", "hello"), stale, subresource="status")
    assert await mend(rig) == []
    await operate(rig)
    await rig.rest()
    assert rig.user.get(HELLO).status["activeRevision"]["number"] == 1
