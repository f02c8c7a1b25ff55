"""Finds what the watches did not tell: objects that were deleted while a stream was broken.

kopf lists again after a break and reports what it finds; what it does not find it does not report. So after each such
list, and once in a while, the cache is compared with a list of our own::

    cache ── not in the list, and not newer than it ──► taken for deleted: its dependants are woken
"""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from keep_operator.cluster.client import Cluster
from keep_operator.errors import KeepOperatorError
from keep_operator.reconcile.world import World
from keep_operator.resources.kinds import OURS, Resource

log = logging.getLogger(__name__)

# Between the first item of kopf's new list and ours, in seconds: one sweep for the whole list.
SETTLE: Final = timedelta(seconds=2)


class Sweep:
    """Compares cache and server; ``namespaces`` are those that are watched, empty for all."""

    def __init__(
        self,
        world: World,
        cluster: Cluster,
        namespaces: Sequence[str],
        interval: timedelta,
        settle: timedelta = SETTLE,
    ) -> None:
        self._world = world
        self._cluster = cluster
        self._namespaces = tuple(namespaces)
        self._interval_s = interval.total_seconds()
        self._settle_s = settle.total_seconds()
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Have a sweep soon; asking often is asking once."""
        self._asked.set()

    async def run(self) -> None:
        """Sweep when asked, and at every interval, until cancelled; a failed sweep changes nothing."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval_s):
                    await self._asked.wait()
                    await asyncio.sleep(self._settle_s)
            self._asked.clear()
            try:
                await self.once()
            except KeepOperatorError as error:
                log.warning(
                    "sweep failed, nothing was changed", extra={"reason": error.reason, "detail": error.message}
                )

    async def once(self) -> int:
        """Compare once; how many objects turned out to be gone. Raises Unavailable where the list is not complete."""
        lost = 0
        for resource in OURS:
            scopes = self._namespaces if resource.namespaced and self._namespaces else (None,)
            for namespace in scopes:
                lost += await self._compare(resource, namespace)
        return lost

    async def _compare(self, resource: Resource, namespace: str | None) -> int:
        listing = await self._cluster.list(resource, namespace, metadata_only=True)
        there = {item["metadata"]["uid"] for item in listing.items}
        as_of = int(listing.resource_version)
        gone = [
            obj
            for obj in self._world.cache.all(resource.kind)
            if obj.uid not in there and int(obj.resource_version) <= as_of and namespace in (None, obj.key.namespace)
        ]
        for obj in gone:
            log.info(
                "an object is gone, and no watch had told so", extra={"kind": resource.kind, "object": obj.key.path}
            )
            self._world.lose(obj)
        return len(gone)
