"""Lists of the API server's as `kubectl get` shows them, read once for all who look within seconds."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from keep_operator.cluster import failures
from keep_operator.cluster.client import Cluster, TableRow
from keep_operator.resources.kinds import Resource

# Seconds for which a list is shown to everybody who may see it.
FRESH_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Lists:
    """What was read lately, by kind and namespace; of several who ask at once one reads. ``clock`` gives monotonic seconds."""

    clock: Callable[[], float]
    _known: dict[tuple[str, str], tuple[float, list[TableRow]]] = field(default_factory=dict)
    _reading: dict[tuple[str, str], asyncio.Lock] = field(default_factory=dict)

    async def rows(self, cluster: Cluster, resource: Resource, namespace: str) -> Sequence[TableRow]:
        """All objects of a kind, of one namespace where it is not empty. Raises as `Cluster.table`."""
        place = (resource.plural, namespace)
        async with self._reading.setdefault(place, asyncio.Lock()):
            known = self._known.get(place)
            if known is not None and self.clock() - known[0] < FRESH_S:
                return known[1]
            try:
                rows = await cluster.table(resource, namespace or None)
            except failures.Expired:
                rows = await cluster.table(resource, namespace or None)
            for stale in [at for at, (since, _) in self._known.items() if self.clock() - since >= FRESH_S]:
                del self._known[stale]
            self._known[place] = (self.clock(), rows)
            return rows
