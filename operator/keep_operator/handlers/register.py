"""Every trigger on one screen: what kopf watches, and where what it sees goes.

kopf is the informer here, not the reconciler: each handler only touches memory. It must not raise, since kopf
swallows errors of `on.event` handlers and then skips events of that object for a while.
"""

import logging
from collections.abc import Callable
from typing import Any, Final

import kopf

from keep_operator.reconcile.world import World
from keep_operator.resources import objects, provider, tenant
from keep_operator.resources.kinds import PROVIDERS, TENANTS, Resource
from keep_operator.resources.objects import Reader
from keep_operator.runtime.metrics import Metrics

log = logging.getLogger(__name__)

WATCHED: Final[tuple[tuple[Resource, Reader[Any]], ...]] = ((TENANTS, tenant), (PROVIDERS, provider))


class Heard:
    """When the watch of each kind last heard from the server, in seconds of a monotonic clock.

    kopf keeps bookmarks to itself, but ends a stream that is silent for `informer.SILENT_S` and asks anew: so each
    answered request counts like an event, and a watch that has died shows as an age that only grows.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._at = {resource.kind: clock() for resource, _ in WATCHED}
        self._kinds = {resource.plural: resource.kind for resource, _ in WATCHED}

    def event(self, kind: str) -> None:
        """An object was listed or changed."""
        self._at[kind] = self._clock()

    def answered(self, path: str) -> None:
        """The server answered a request for a path."""
        if (kind := self._kinds.get(path.rpartition("/")[2])) is not None:
            self._at[kind] = self._clock()

    def ages_s(self) -> dict[str, float]:
        """Seconds since then, by kind."""
        return {kind: self._clock() - at for kind, at in self._at.items()}


def register(world: World, metrics: Metrics, heard: Heard, listed_again: Callable[[], None]) -> kopf.OperatorRegistry:
    """A registry by which kopf calls us for every object of our kinds, listed or changed.

    ``listed_again`` is called for items of a list that comes after the first one: a stream was broken, and what was deleted
    meanwhile is told by nobody.
    """
    registry = kopf.OperatorRegistry()
    for resource, reader in WATCHED:
        _see(registry, resource, reader, world, metrics, heard, listed_again)
    return registry


def _see(
    registry: kopf.OperatorRegistry,
    resource: Resource,
    reader: Reader[Any],
    world: World,
    metrics: Metrics,
    heard: Heard,
    listed_again: Callable[[], None],
) -> None:
    @kopf.on.event(resource.group, resource.version, resource.plural, registry=registry, id=f"see-{resource.plural}")
    async def see(event: kopf.RawEvent, **_: Any) -> None:
        heard.event(resource.kind)
        if event["type"] is None and world.cache.is_warm:
            listed_again()
        try:
            obj = objects.parse(resource.kind, event["object"], reader)
            if event["type"] == "DELETED":
                world.lose(obj)
            else:
                # Items of a list come without a type: nothing has just changed, so others go first (A-CTL-1).
                world.take(obj, urgent=event["type"] is not None)
        except Exception:
            metrics.events_dropped.labels(resource.kind).inc()
            name = (event["object"].get("metadata") or {}).get("name")
            log.exception("an event could not be taken in", extra={"kind": resource.kind, "object": name})
