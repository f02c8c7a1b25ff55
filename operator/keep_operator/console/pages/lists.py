"""What is read once for all who look: lists of the API server's as `kubectl get` shows them, and which workflows fail.

::

    read within three seconds ──► shown
    older ──► read again: here soon ──► shown
                          takes its time ──► the older one is shown meanwhile, and says how old it is
    never read, or a minute ago ──► waited for
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from keep_operator.cluster import failures
from keep_operator.cluster.client import Cluster, TableRow
from keep_operator.resources.kinds import Key, Resource
from keep_operator.store.failing import Lately

Value = TypeVar("Value")

# Seconds for which a list is shown to everybody who may see it.
FRESH_S: Final = 3.0
# Seconds that the next one is waited for where there is an older one, and how old that may be: of thousands of objects a list takes
# seconds to read, and whoever looks in between should not wait for it.
PATIENCE_S: Final = 0.03
OLD_S: Final = 60.0
# Things made of lists, the last ones: of one kind for each namespace that somebody looks at alone.
MADE: Final = 512


@dataclass(frozen=True, slots=True)
class Known(Generic[Value]):
    """Something that was read; ``age_s`` seconds ago."""

    value: Value
    age_s: float = 0.0


class Shared(Generic[Value]):
    """Reads each thing once for all who ask. ``clock`` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: dict[Hashable, tuple[float, Value]] = {}
        self._reading: dict[Hashable, asyncio.Task[Value]] = {}

    async def get(self, key: Hashable, read: Callable[[], Awaitable[Value]]) -> Known[Value]:
        """What is known of it, or what ``read`` brings. Raises as that."""
        known = self._of(key)
        if known is not None and known.age_s < FRESH_S:
            return known
        if key not in self._reading:
            self._reading[key] = asyncio.create_task(self._read(key, read))
            self._reading[key].add_done_callback(lambda task: task.cancelled() or task.exception())
        reading = self._reading[key]
        await asyncio.wait({reading}, timeout=PATIENCE_S if known is not None else None)
        return Known(reading.result()) if reading.done() or known is None else known

    def _of(self, key: Hashable) -> Known[Value] | None:
        for old in [each for each, (since, _) in self._known.items() if self._clock() - since >= OLD_S]:
            del self._known[old]
        if key not in self._known:
            return None
        since, value = self._known[key]
        return Known(value, self._clock() - since)

    async def _read(self, key: Hashable, read: Callable[[], Awaitable[Value]]) -> Value:
        try:
            value = await read()
            self._known[key] = self._clock(), value
            return value
        finally:
            del self._reading[key]


Rows = Sequence[TableRow]
Failing = Mapping[Key, Lately]


class Lists:
    """Made once per process. ``clock`` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._rows: Shared[Rows] = Shared(clock)
        self._failing: Shared[Failing] = Shared(clock)
        self._made: dict[Hashable, tuple[tuple[object, ...], Any]] = {}

    async def rows(self, cluster: Cluster, resource: Resource, namespace: str) -> Known[Rows]:
        """All objects of a kind, of one namespace where it is not empty. Raises as `Cluster.table`."""

        async def read() -> Rows:
            try:
                return await cluster.table(resource, namespace or None)
            except failures.Expired:
                return await cluster.table(resource, namespace or None)

        return await self._rows.get((resource.plural, namespace), read)

    async def failing(self, read: Callable[[], Awaitable[Failing]]) -> Known[Failing]:
        """The workflows that fail, in all namespaces. Raises as ``read``."""
        return await self._failing.get("failing", read)

    def made(self, key: Hashable, make: Callable[..., Value], *of: object) -> Value:
        """What ``make`` makes of these; the same until one of them is another object."""
        known = self._made.get(key)
        if known is None or any(before is not now for before, now in zip(known[0], of, strict=True)):
            self._made.pop(key, None)
            if len(self._made) >= MADE:
                del self._made[next(iter(self._made))]
            known = self._made[key] = of, make(*of)
        made: Value = known[1]
        return made
