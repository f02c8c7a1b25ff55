"""How much of something is let through: a bucket for each key, filled at a steady rate."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
# Buckets that are remembered; one that is forgotten is full again.
REMEMBERED: Final = 10_000


class Rates(Generic[Key]):
    """``per_s`` units a second for each key, ``burst`` of them at once; held by this process alone."""

    def __init__(self, clock: Callable[[], float], per_s: float, burst: float) -> None:
        self._clock = clock
        self._per_s = per_s
        self._burst = burst
        self._buckets: OrderedDict[Key, tuple[float, float]] = OrderedDict()

    def take(self, key: Key, units: float = 1.0) -> float:
        """Seconds to wait until so much may be taken; 0.0: it has been taken. More than a burst waits for a full bucket."""
        now = self._clock()
        left = self._left(key, now)
        wanted = min(units, self._burst)
        if left < wanted:
            return (wanted - left) / self._per_s
        self._buckets[key] = (left - units, now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        return 0.0

    def give_back(self, key: Key, units: float = 1.0) -> None:
        """Undo a `take`."""
        now = self._clock()
        self._buckets[key] = (min(self._burst, self._left(key, now) + units), now)

    def _left(self, key: Key, now: float) -> float:
        left, at = self._buckets.get(key, (self._burst, now))
        return min(self._burst, left + (now - at) * self._per_s)
