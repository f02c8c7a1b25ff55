"""What had happened before a deletion is known before a record goes, however late the watches are."""

import asyncio
from typing import Any, cast

import pytest

from keep_operator.cluster.client import Listing
from keep_operator.errors import Unavailable
from keep_operator.reconcile.horizon import Horizon
from keep_operator.reconcile.world import World
from keep_operator.resources import objects, provider
from keep_operator.resources.kinds import PROVIDERS, Resource
from keep_operator.runtime.workqueue import WorkQueue

pytestmark = pytest.mark.component


class Server:
    """An API server at one version, which counts how often it is asked for a list and for an object."""

    def __init__(self, version: int, *things: dict[str, Any]) -> None:
        self.version = version
        self.things = {thing["metadata"]["name"]: thing for thing in things}
        self.lists = self.gets = 0
        self.down = False

    async def list(self, resource: Resource, namespace: str | None = None, *, metadata_only: bool) -> Listing:
        assert metadata_only
        self.lists += 1
        await asyncio.sleep(0)
        if self.down:
            raise Unavailable("ApiServerUnavailable", "does not answer")
        found = [thing for thing in self.things.values() if namespace in (None, thing["metadata"]["namespace"])]
        return Listing([{"metadata": thing["metadata"]} for thing in found], str(self.version))

    async def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any] | None:
        self.gets += 1
        return self.things.get(name)


def _thing(name: str, version: int, namespace: str = "ns") -> dict[str, Any]:
    metadata = {
        "name": name,
        "namespace": namespace,
        "uid": f"uid-{name}",
        "resourceVersion": str(version),
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    return {"metadata": metadata, "spec": {"type": "slack"}}


def _parsed(thing: dict[str, Any]) -> Any:
    return objects.parse("Provider", thing, provider)


def _world() -> World:
    return World(WorkQueue(lambda: 0.0), "keep")


async def test_what_no_watch_has_told_yet_is_read() -> None:
    """A Provider that was made before the deletion, and was not heard of, is known afterwards, in its newest shape."""
    server, world = Server(80, _thing("heard", 70), _thing("unheard", 71), _thing("edited", 74)), _world()
    world.take(_parsed(_thing("heard", 75)))  # by the answer to an own write, newer than the list
    world.take(_parsed(_thing("edited", 60)))
    await Horizon(world, cast(Any, server), (), PROVIDERS, provider).reach(72)
    versions = {obj.key.name: obj.resource_version for obj in world.cache.all("Provider")}
    assert versions == {"heard": "75", "unheard": "71", "edited": "74"}
    assert server.gets == 2


async def test_one_list_serves_many_deletions() -> None:
    """Of a thousand Providers that are deleted at once not each costs a list."""
    server, world = Server(1000), _world()
    horizon = Horizon(world, cast(Any, server), (), PROVIDERS, provider)
    await asyncio.gather(*(horizon.reach(version) for version in range(1000)))
    assert server.lists == 1
    server.version = 1002
    await horizon.reach(1001)
    assert server.lists == 2


async def test_the_oldest_list_of_several_namespaces_counts() -> None:
    """Each watched namespace has a list of its own; what is known is what the oldest of them knows."""
    server, world = Server(10, _thing("a", 5, "one"), _thing("b", 6, "two"), _thing("c", 7, "other")), _world()
    horizon = Horizon(world, cast(Any, server), ("one", "two"), PROVIDERS, provider)
    await horizon.reach(9)
    assert (server.lists, world.cache.count("Provider")) == (2, 2)


async def test_what_is_deleted_already_is_not_asked_for() -> None:
    """Of a list that is a moment old, what has been deleted since then costs no question."""
    server, world = Server(80, _thing("gone", 70)), _world()
    world.take(_parsed(_thing("gone", 70)))
    world.lose(_parsed(_thing("gone", 81)))
    await Horizon(world, cast(Any, server), (), PROVIDERS, provider).reach(75)
    assert (server.gets, world.cache.count("Provider")) == (0, 0)


async def test_without_a_list_nothing_is_known() -> None:
    """An API server that does not answer: the deletion is tried again, and asks again."""
    server, world = Server(80, _thing("unheard", 71)), _world()
    server.down = True
    horizon = Horizon(world, cast(Any, server), (), PROVIDERS, provider)
    with pytest.raises(Unavailable):
        await horizon.reach(72)
    server.down = False
    await horizon.reach(72)
    assert world.cache.count("Provider") == 1
