"""Which object is looked at next: each key at most once in the queue, never with two workers at a time.

::

    add ──► waiting ──get──► running ──done──► (gone)
              ▲                 │ added meanwhile: once more
              └── back-off ◄────┴ failed: after 1 s, 2 s, 4 s ... 5 min, with jitter (A-CTL-3)

Kinds take turns, so that ten thousand objects of one do not delay one of another. Within a kind what has just
changed goes before what merely comes round again; every eighth turn goes the other way, so that nobody
starves (A-CTL-1).
"""

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from keep_operator.resources.kinds import Key

BACKOFF_FIRST_S: Final = 1.0
BACKOFF_LIMIT_S: Final = 300.0
# One background key in this many turns of a kind, while both lanes have work.
BACKGROUND_TURN: Final = 8


class _Lane:
    """The waiting keys of one kind: urgent ones, and those that can wait; dicts keep order and dedupe."""

    def __init__(self) -> None:
        self.urgent: dict[Key, float] = {}
        self.background: dict[Key, float] = {}
        self.turn = 0

    def take(self) -> tuple[Key, float]:
        self.turn += 1
        backwards = self.background and self.turn % BACKGROUND_TURN == 0
        lane = self.background if backwards or not self.urgent else self.urgent
        key = next(iter(lane))
        return key, lane.pop(key)

    def __len__(self) -> int:
        return len(self.urgent) + len(self.background)


class WorkQueue:
    """The queue; closed at first, so that keys gather while the operator starts.

    ``clock`` gives monotonic seconds, ``jitter`` a factor for each back-off. Only for use in one event loop.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        jitter: Callable[[], float] = lambda: random.uniform(0.5, 1.0),  # noqa: S311 - spreads load, keeps no secret
    ) -> None:
        self._clock = clock
        self._jitter = jitter
        self._lanes: dict[str, _Lane] = {}
        self._round: deque[str] = deque()
        self._running: set[Key] = set()
        self._again: dict[Key, bool] = {}
        self._failures: Counter[Key] = Counter()
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._is_open = False

    def open(self) -> None:
        """Let the workers have keys from now on."""
        self._is_open = True
        self._wake(len(self._waiters))

    def add(self, key: Key, *, urgent: bool = True) -> None:
        """Ask for a look at an object; asking twice is asking once, and urgency is never lost."""
        if key in self._running:
            self._again[key] = self._again.get(key, False) or urgent
            return
        lane = self._lane(key.kind)
        if urgent:
            lane.urgent.setdefault(key, lane.background.pop(key, self._clock()))
        elif key not in lane.urgent:
            lane.background.setdefault(key, self._clock())
        self._wake(1)

    def schedule(self, key: Key, delay_s: float, *, urgent: bool = False) -> None:
        """Add the key after ``delay_s`` seconds, or earlier where that was asked for before."""
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None and timer.when() <= loop.time() + delay_s:
            return
        self.unschedule(key)
        self._timers[key] = loop.call_later(delay_s, self._due, key, urgent)

    def unschedule(self, key: Key) -> None:
        """Take back what was scheduled for a key."""
        if (timer := self._timers.pop(key, None)) is not None:
            timer.cancel()

    async def get(self) -> tuple[Key, float]:
        """The next key and the seconds it waited; to be given back by `done` or `retry`."""
        while not (self._is_open and self.depth):
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._wake(1)  # the turn was ours: pass it on
                else:
                    with suppress(ValueError):  # it may have been passed over already, being cancelled
                        self._waiters.remove(waiter)
                raise
        while True:
            kind = self._round[0]
            self._round.rotate(-1)
            if lane := self._lanes[kind]:
                key, since = lane.take()
                self._running.add(key)
                self.unschedule(key)  # the look that begins now decides when the next one is due
                return key, self._clock() - since

    def done(self, key: Key) -> None:
        """The look succeeded; back-off starts anew next time."""
        self._failures.pop(key, None)
        self._finish(key)

    def retry(self, key: Key, *, at_least_s: float = 0.0) -> float:
        """The look failed: come back after the back-off; returns the delay in seconds."""
        delay_s = min(BACKOFF_LIMIT_S, BACKOFF_FIRST_S * 2.0 ** self._failures[key]) * self._jitter()
        delay_s = max(delay_s, at_least_s)
        self._failures[key] = min(self._failures[key] + 1, 16)
        self.schedule(key, delay_s, urgent=True)
        self._finish(key)
        return delay_s

    def forget(self, key: Key) -> None:
        """The object is gone: drop its back-off and its schedule."""
        self._failures.pop(key, None)
        self.unschedule(key)

    @property
    def is_open(self) -> bool:
        """Whether workers get keys."""
        return self._is_open

    @property
    def depth(self) -> int:
        """How many keys wait for a worker."""
        return sum(map(len, self._lanes.values()))

    def depths(self) -> dict[str, int]:
        """How many keys wait for a worker, by kind."""
        return {kind: len(lane) for kind, lane in self._lanes.items()}

    def oldest_s(self) -> float:
        """How long the key that waits longest has waited, in seconds."""
        # Not only the heads: a key that has become urgent keeps its time, but stands behind those that were so before.
        since = [at for lane in self._lanes.values() for part in (lane.urgent, lane.background) for at in part.values()]
        return self._clock() - min(since) if since else 0.0

    def _lane(self, kind: str) -> _Lane:
        if kind not in self._lanes:
            self._lanes[kind] = _Lane()
            self._round.append(kind)
        return self._lanes[kind]

    def _due(self, key: Key, urgent: bool) -> None:
        self._timers.pop(key, None)
        self.add(key, urgent=urgent)

    def _finish(self, key: Key) -> None:
        self._running.discard(key)
        if (urgent := self._again.pop(key, None)) is not None:
            self.add(key, urgent=urgent)

    def _wake(self, count: int) -> None:
        if not self._is_open:
            return
        while count and self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                count -= 1
