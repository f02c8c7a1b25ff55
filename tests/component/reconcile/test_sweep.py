"""Deletions that no watch told of are found by comparing the cache with a complete list."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import pytest

from keep_operator.cluster.client import Listing
from keep_operator.errors import Unavailable
from keep_operator.reconcile.sweep import Sweep
from keep_operator.reconcile.world import World
from keep_operator.resources import objects, provider, tenant
from keep_operator.resources.kinds import OURS, Key, Resource
from keep_operator.runtime.workqueue import WorkQueue

pytestmark = pytest.mark.component
NEVER = timedelta(days=1)


class Server:
    """An API server that lists what it has; ``broken`` after the first kind."""

    def __init__(self) -> None:
        self.things: dict[str, list[dict[str, Any]]] = {resource.kind: [] for resource in OURS}
        self.version = 100
        self.broken = False
        self.lists = 0

    async def list(self, resource: Resource, namespace: str | None = None, **_: object) -> Listing:
        self.lists += 1
        if self.broken:
            raise Unavailable("ApiServerUnavailable", "cut in the middle of the list")
        found = [
            thing for thing in self.things[resource.kind] if namespace in (None, thing["metadata"].get("namespace"))
        ]
        return Listing(found, str(self.version))


def _thing(kind: str, name: str, version: int, namespace: str = "") -> dict[str, Any]:
    spec = {"type": "slack"} if kind == "Provider" else {}
    metadata = {
        "name": name,
        "uid": f"uid-{kind}-{name}",
        "resourceVersion": str(version),
        "creationTimestamp": "2026-01-01T00:00:00Z",
        **({"namespace": namespace} if namespace else {}),
    }
    return {"metadata": metadata, "spec": spec}


def _world(server: Server, *things: tuple[str, dict[str, Any]]) -> World:
    world = World(WorkQueue(lambda: 0.0), "keep")
    for kind, raw in things:
        world.take(objects.parse(kind, raw, cast(Any, tenant if kind == "Tenant" else provider)))
        server.things[kind].append(raw)
    return world


def _sweep(world: World, server: Server, namespaces: tuple[str, ...], settle: timedelta = timedelta()) -> Sweep:
    """A standby's: it compares its cache, and no rows."""
    database: Any = None
    return Sweep(world, cast(Any, server), database, namespaces, NEVER, leads=lambda: False, settle=settle)


async def _soon(so: Callable[[], bool]) -> None:
    for _ in range(5000):
        if so():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not come about")


async def test_a_deletion_that_no_watch_told_is_found() -> None:
    """An object deleted while the stream was broken is taken for deleted, and only that one."""
    server = Server()
    world = _world(
        server, ("Provider", _thing("Provider", "a", 5, "ns")), ("Provider", _thing("Provider", "b", 6, "ns"))
    )
    del server.things["Provider"][0]
    assert (await _sweep(world, server, ()).once()).gone == 1
    assert world.cache.get(Key("Provider", "ns", "a")) is None
    assert world.cache.get(Key("Provider", "ns", "b")) is not None


async def test_what_is_newer_than_the_list_stays() -> None:
    """An object made after the list was taken is not in it, and is not taken for deleted."""
    server = Server()
    world = _world(server, ("Provider", _thing("Provider", "new", 101, "ns")))
    server.things["Provider"].clear()
    assert (await _sweep(world, server, ()).once()).gone == 0
    assert world.cache.get(Key("Provider", "ns", "new")) is not None


async def test_a_list_that_is_not_complete_changes_nothing() -> None:
    """When the API server fails in the middle, nothing is taken for deleted."""
    server = Server()
    world = _world(server, ("Tenant", _thing("Tenant", "keep", 5)))
    server.things["Tenant"].clear()
    server.broken = True
    with pytest.raises(Unavailable):
        await _sweep(world, server, ()).once()
    assert world.cache.get(Key("Tenant", "", "keep")) is not None


async def test_namespaces_that_are_not_listed_are_not_judged() -> None:
    """With some namespaces watched, an object of another is left alone."""
    server = Server()
    world = _world(
        server, ("Provider", _thing("Provider", "a", 5, "mine")), ("Provider", _thing("Provider", "b", 6, "theirs"))
    )
    server.things["Provider"].clear()
    assert (await _sweep(world, server, ("mine",)).once()).gone == 1
    assert world.cache.get(Key("Provider", "theirs", "b")) is not None


async def test_asked_often_it_sweeps_once_and_goes_on_after_a_failure() -> None:
    """A new list of ten thousand items asks for one sweep; a failed one is told and tried again."""
    server = Server()
    world = _world(server, ("Provider", _thing("Provider", "a", 5, "ns")))
    server.things["Provider"].clear()
    sweep = _sweep(world, server, (), settle=timedelta(milliseconds=1))
    task = asyncio.create_task(sweep.run())
    try:
        server.broken = True
        for _ in range(1000):
            sweep.ask()
        await _soon(lambda: server.lists > 0)
        await asyncio.sleep(0.01)
        assert server.lists == 1
        server.broken = False
        sweep.ask()
        await _soon(lambda: world.cache.get(Key("Provider", "ns", "a")) is None)
    finally:
        task.cancel()
