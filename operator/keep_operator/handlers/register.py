"""Every trigger on one screen: what kopf watches, and where what it sees goes.

kopf is the informer here, not the reconciler: each handler only touches memory. It must not raise, since kopf
swallows errors of `on.event` handlers and then skips events of that object for a while.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

import kopf

from keep_operator.domain import image
from keep_operator.reconcile.world import World
from keep_operator.resources import decision, objects, provider, run, tenant, workflow
from keep_operator.resources.kinds import (
    PROVIDERS,
    TENANTS,
    WORKFLOW_DECISIONS,
    WORKFLOW_REVISIONS,
    WORKFLOW_RUNS,
    WORKFLOWS,
    Resource,
)
from keep_operator.resources.objects import Reader
from keep_operator.runtime.metrics import Metrics

log = logging.getLogger(__name__)

WATCHED: Final[tuple[tuple[Resource, Reader[Any]], ...]] = (
    (TENANTS, tenant),
    (PROVIDERS, provider),
    (WORKFLOWS, workflow),
    (WORKFLOW_REVISIONS, image),
    (WORKFLOW_RUNS, run),
    (WORKFLOW_DECISIONS, decision),
)


class Heard:
    """When each of kopf's streams last heard from the server, in seconds of a monotonic clock.

    There is one for each kind, or one for each kind in each of ``namespaces``. kopf keeps bookmarks to itself, but opens
    each stream anew after `informer.STREAM_S`, or `informer.SILENT_S` without a word: so each granted request counts like
    an event, and a watch that has died shows as an age that only grows.
    """

    def __init__(self, clock: Callable[[], float], namespaces: Sequence[str] = ()) -> None:
        self._clock = clock
        streams = {
            resource.path(namespace or None): (resource, namespace)
            for resource, _ in WATCHED
            for namespace in (namespaces if resource.namespaced and namespaces else ("",))
        }
        self._kinds = {path: resource.kind for path, (resource, _) in streams.items()}
        self._names = {
            path: f"{resource.plural} of {namespace}" if namespace else resource.plural
            for path, (resource, namespace) in streams.items()
        }
        self._heard_at = dict.fromkeys(streams, clock())
        self._answered_at = dict(self._heard_at)

    def event(self, resource: Resource, namespace: str) -> None:
        """An object was listed or changed."""
        for path in {resource.path(), resource.path(namespace or None)} & self._names.keys():
            self._heard_at[path] = self._answered_at[path] = self._clock()

    def answered(self, path: str, granted: bool) -> None:
        """The server answered a request for a path, before which that of a proxy may stand."""
        for stream in self._names:
            if path.endswith(stream):
                self._answered_at[stream] = self._clock()
                if granted:
                    self._heard_at[stream] = self._clock()

    def ages_s(self) -> dict[str, float]:
        """Seconds since the stream of a kind that has been deaf for longest last heard, by kind."""
        ages: dict[str, float] = {}
        for path, at in self._heard_at.items():
            ages[self._kinds[path]] = max(self._clock() - at, ages.get(self._kinds[path], 0.0))
        return ages

    def signs(self) -> dict[str, float]:
        """When each stream last showed that it is at work, by its name; a request that is refused shows it as well."""
        return {name: self._answered_at[path] for path, name in self._names.items()}


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
        heard.event(resource, (event["object"].get("metadata") or {}).get("namespace") or "")
        if event["type"] is None and world.cache.is_warm:
            listed_again()
        try:
            gone = event["type"] == "DELETED"
            key, uid, version = objects.version(resource.kind, event["object"])
            if not gone and world.cache.knows(key, uid, version):
                return  # mostly the echo of an own write
            obj = objects.parse(resource.kind, event["object"], reader, known=world.cache.get(key))
            if gone:
                world.lose(obj)
            else:
                # Items of a list come without a type: nothing has just changed, so others go first (A-CTL-1).
                world.take(obj, urgent=event["type"] is not None)
        except Exception:
            metrics.events_dropped.labels(resource.kind).inc()
            name = (event["object"].get("metadata") or {}).get("name")
            log.exception("an event could not be taken in", extra={"kind": resource.kind, "object": name})
