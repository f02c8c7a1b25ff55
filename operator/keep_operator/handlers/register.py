"""Every trigger on one screen: what kopf watches, and where what it sees goes.

kopf is the informer here, not the reconciler: each handler only touches memory. It must not raise, since kopf
swallows errors of `on.event` handlers and then skips events of that object for a while.
"""

import logging
from typing import Any, Final

import kopf

from keep_operator.reconcile.world import World
from keep_operator.resources import objects, provider, tenant
from keep_operator.resources.kinds import PROVIDERS, TENANTS, Resource
from keep_operator.resources.objects import Reader
from keep_operator.runtime.metrics import Metrics

log = logging.getLogger(__name__)

WATCHED: Final[tuple[tuple[Resource, Reader[Any]], ...]] = ((TENANTS, tenant), (PROVIDERS, provider))


def register(registry: kopf.OperatorRegistry, world: World, metrics: Metrics) -> None:
    """Have kopf call us for every object of our kinds, listed or changed."""
    for resource, reader in WATCHED:
        _see(registry, resource, reader, world, metrics)


def _see(
    registry: kopf.OperatorRegistry, resource: Resource, reader: Reader[Any], world: World, metrics: Metrics
) -> None:
    @kopf.on.event(resource.group, resource.version, resource.plural, registry=registry, id=f"see-{resource.plural}")
    async def see(event: kopf.RawEvent, **_: Any) -> None:
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
