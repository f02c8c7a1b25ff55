"""What the server does not let us write over is read, and judged: objects of versions under names that others have taken."""

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from component.apiserver import patches
from component.apiserver.server import ApiServer, serve
from component.apiserver.state import Name
from keep_operator.cluster.client import Cluster
from keep_operator.cluster.events import Recorder
from keep_operator.domain import gates, image, mirror, revision
from keep_operator.domain.history import Author, Lineage, Revision
from keep_operator.domain.mirror import CreateImage, DeleteImage, Image, PatchImage
from keep_operator.domain.ownership import Owner
from keep_operator.errors import Conflict, Unavailable
from keep_operator.reconcile.images import Images
from keep_operator.reconcile.world import World
from keep_operator.resources.kinds import EVENTS, WORKFLOW_REVISIONS, WORKFLOWS, Key
from keep_operator.runtime.workqueue import WorkQueue
from unit.builders import NOW

pytestmark = pytest.mark.component
CONTENT: dict[str, Any] = {"steps": [{"name": "look"}]}
FIRST = Revision(1, revision.content_hash(CONTENT), NOW, change_note="First", author=Author("ann", "Annotation"))
NAME = mirror.object_name("high-cpu", FIRST)
KEY = Key(WORKFLOW_REVISIONS.kind, "default", NAME)
WHERE = Name("default", NAME)


class Rows:
    """A database that has the content of every version."""

    async def execute(self, *_: object) -> list[SimpleNamespace]:
        return [SimpleNamespace(number=1, definition=CONTENT)]

    def look(self) -> "Rows":
        return self

    async def __aenter__(self) -> "Rows":
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing was opened."""


class Rig:
    """Images on a server in memory that has their Workflow."""

    def __init__(self, server: ApiServer, cluster: Cluster) -> None:
        self.state = server.state
        self.world = World(WorkQueue(lambda: 0.0), "keep")
        recorder = Recorder(cluster, instance="operator", clock=lambda: NOW)
        self.images = Images(self.world, cluster, cast(Any, Rows()), recorder)
        owner = server.state.create(WORKFLOWS, Name("default", "high-cpu"), {"spec": {}})
        self.owner = Owner("cluster-1", "default", "high-cpu", owner["metadata"]["uid"])
        lineage = Lineage(cast(Any, "lineage-1"), "keep", "high-cpu", self.owner, revisions=(FIRST,))
        (make,) = mirror.due("high-cpu", lineage, (), gates.OPEN, None, {}, NOW)
        assert isinstance(make, CreateImage)
        self.make = make

    def there(self) -> dict[str, Any]:
        """The object."""
        return self.state.get(WORKFLOW_REVISIONS, WHERE)

    def change(self, what: dict[str, Any]) -> None:
        """Somebody else writes to the object."""
        self.state.change(WORKFLOW_REVISIONS, WHERE, patches.merge(self.there(), what))

    def known(self) -> Any:
        """What the world knows of it."""
        return self.world.cache.get(KEY)

    def warnings(self) -> list[tuple[str, str]]:
        """The reasons of the Events, and the uid of what they are about."""
        events = self.state.all(EVENTS).values()
        return [(event["reason"], event["involvedObject"]["uid"]) for event in events if event["type"] == "Warning"]

    def image(self) -> Image:
        """The same as the rules see it."""
        return image.of(self.known(), self.owner.name, self.owner.uid)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """Nothing is there yet."""
    async with serve() as server, Cluster(server.connect("operator")) as cluster:
        yield Rig(server, cluster)


async def test_one_that_is_there_already_is_good(rig: Rig) -> None:
    """A predecessor made it, and the watch has not told yet: it is taken for what it is, and nothing is made twice."""
    await rig.images.create(rig.make)
    before = rig.there()
    rig.world = World(WorkQueue(lambda: 0.0), "keep")
    rig.images._world = rig.world
    await rig.images.create(rig.make)
    assert rig.there() == before
    assert rig.known().uid == before["metadata"]["uid"]
    assert before["spec"]["definition"] == CONTENT
    assert (before["spec"]["changeNote"], before["spec"]["author"]["username"]) == ("First", "ann")


@pytest.mark.parametrize(
    "change",
    [
        {"spec": {"number": 9}},
        {"spec": {"lineageId": "lineage-2"}},
        {"spec": {"definition": {"steps": []}}},
        {"metadata": {"ownerReferences": []}},
    ],
    ids=["number", "lineage", "content", "owner"],
)
async def test_something_else_under_the_name_goes(rig: Rig, change: dict[str, Any]) -> None:
    """A leftover of a Workflow that had the name, or what somebody made up: the next look makes the real one."""
    await rig.images.create(rig.make)
    rig.world.forget(KEY)
    rig.change(change)
    with pytest.raises(Conflict):
        await rig.images.create(rig.make)
    assert rig.warnings() == [("RevisionTampered", rig.owner.uid)]
    await rig.images.create(rig.make)
    assert rig.known().spec.true
    assert rig.there()["spec"]["lineageId"] == "lineage-1"


async def test_a_leftover_is_nobodys_fault(rig: Rig) -> None:
    """Of an object that had the Workflow's name before: it goes in silence, as Kubernetes would have it a moment later."""
    await rig.images.create(rig.make)
    (mine,) = rig.there()["metadata"]["ownerReferences"]
    other = rig.state.create(WORKFLOWS, Name("default", "other"), {"spec": {}})
    keeper = mine | {"name": "other", "uid": other["metadata"]["uid"], "controller": False}
    rig.change({"metadata": {"ownerReferences": [mine | {"uid": "an older one"}, keeper]}})
    rig.world.forget(KEY)
    with pytest.raises(Conflict):
        await rig.images.create(rig.make)
    await rig.images.create(rig.make)
    assert rig.warnings() == []


async def test_one_that_is_going_is_waited_for(rig: Rig) -> None:
    """A finalizer of others holds it: it cannot be made again before it is gone."""
    await rig.images.create(rig.make)
    rig.change({"metadata": {"finalizers": ["others/hold"]}})
    rig.state.delete(WORKFLOW_REVISIONS, WHERE)
    with pytest.raises(Unavailable, match="being deleted"):
        await rig.images.create(rig.make)


async def test_a_patch_on_an_old_view_is_refused_and_the_new_one_learnt(rig: Rig) -> None:
    """Else the same patch would be tried until the watch tells."""
    await rig.images.create(rig.make)
    seen = rig.image()
    rig.change({"metadata": {"labels": {"keep-operator.dev/x": "y"}}})
    stale = PatchImage(seen, {"keep-operator.dev/x": None}, {"tags": ["good"]})
    with pytest.raises(Conflict):
        await rig.images.patch(stale)
    assert rig.known().labels["keep-operator.dev/x"] == "y"
    again = PatchImage(rig.image(), {"keep-operator.dev/x": None}, {"tags": ["good"]})
    await rig.images.patch(again)
    assert "keep-operator.dev/x" not in rig.there()["metadata"]["labels"]
    assert rig.there()["status"]["tags"] == ["good"]
    bare = PatchImage(rig.image(), {}, {"sameContentAs": 1})
    await rig.images.patch(bare)
    assert {"sameContentAs": 1}.items() <= rig.there()["status"].items()
    assert "tags" not in rig.there()["status"]


async def test_a_deletion_is_of_this_very_object(rig: Rig) -> None:
    """One that was made anew meanwhile is not taken for it."""
    await rig.images.create(rig.make)
    old = rig.image()
    rig.state.delete(WORKFLOW_REVISIONS, WHERE)
    rig.world.forget(KEY)
    await rig.images.create(rig.make)
    with pytest.raises(Conflict):
        await rig.images.delete(DeleteImage(rig.make.lineage, old, wrong=False))
    new = rig.image()
    await rig.images.delete(DeleteImage(rig.make.lineage, new, wrong=False))
    assert rig.known() is None
    await rig.images.delete(DeleteImage(rig.make.lineage, new, wrong=False))  # gone is gone
