"""Makes sure that everything is known which had happened by some moment, before a record is given up for good.

A watch tells the changes of one object in their order. Of two objects it may tell the later change first, and where several
namespaces are watched, or a broken stream is listed anew, much later. In a rename by two objects the old one's deletion
can so be heard before the new one, to which its record must pass (A-GC-3)::

    new object at 70, deletion at 71 ── heard: the deletion ──► a list, as of 75 or so ── the cache lacks the new object:
                                                                 it is read ──► up to 75 all is known
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from keep_operator.cluster.client import Cluster
from keep_operator.reconcile.world import World
from keep_operator.resources import objects
from keep_operator.resources.kinds import Resource
from keep_operator.resources.objects import Reader


class Horizon:
    """How far back nothing is unknown of one kind in ``namespaces``, those that are watched; empty for all."""

    def __init__(
        self, world: World, cluster: Cluster, namespaces: Sequence[str], resource: Resource, reader: Reader[Any]
    ) -> None:
        self._resource = resource
        self._reader = reader
        self._world = world
        self._cluster = cluster
        self._namespaces = tuple(namespaces) or (None,)
        self._reached = -1
        self._turn = asyncio.Lock()

    async def reach(self, version: int) -> None:
        """Return once the cache has every object of the kind as it was at this resourceVersion, or newer.

        One list, of metadata, serves all who ask for what lies before it. Raises Unavailable where it cannot be had.
        """
        async with self._turn:
            if version <= self._reached:
                return
            reached = []
            for namespace in self._namespaces:
                listing = await self._cluster.list(self._resource, namespace, metadata_only=True)
                reached.append(int(listing.resource_version))
                for item in listing.items:
                    key, uid, seen = objects.version(self._resource.kind, item)
                    if self._world.cache.knows(key, uid, seen):
                        continue
                    raw = await self._cluster.get(self._resource, key.namespace, key.name)
                    if raw is not None:
                        self._world.take(objects.parse(self._resource.kind, raw, self._reader))
            self._reached = min(reached)
