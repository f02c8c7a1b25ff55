"""The workers: a bounded number of tasks that take keys from the queue and have them reconciled."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from keep_operator.resources.kinds import Key
from keep_operator.runtime.metrics import Metrics
from keep_operator.runtime.workqueue import WorkQueue

# Measured on two cores against a real API server: 32 to 64 requests in flight are fastest, more are slower.
WORKERS: Final = 32
# A reconcile in flight may end by itself for this long when the process is told to stop, in seconds.
GRACE_S: Final = 10.0


class Workers:
    """Started once, stopped once. ``reconcile`` must not raise and gives the key back to the queue itself."""

    def __init__(
        self,
        queue: WorkQueue,
        reconcile: Callable[[Key], Awaitable[str]],
        metrics: Metrics,
        clock: Callable[[], float],
        count: int = WORKERS,
    ) -> None:
        self._queue = queue
        self._reconcile = reconcile
        self._metrics = metrics
        self._clock = clock
        self._count = count
        self._idle: set[asyncio.Task[None]] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self.last_progress = clock()

    def start(self) -> None:
        """Start the tasks; they wait until the queue opens."""
        self._tasks = [asyncio.create_task(self._work(), name=f"worker-{number}") for number in range(self._count)]

    async def stop(self) -> None:
        """Take no more keys; let what is in flight end for a while, then cancel it. Safe to repeat."""
        for task in self._idle:
            task.cancel()
        if busy := [task for task in self._tasks if task not in self._idle]:
            self._stopping = True
            await asyncio.wait(busy, timeout=GRACE_S)
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        self._tasks = []

    _stopping = False

    async def _work(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        while not self._stopping:
            self._idle.add(task)
            key, waited_s = await self._queue.get()
            self._idle.discard(task)
            began = self._clock()
            outcome = await self._reconcile(key)
            self.last_progress = self._clock()
            self._metrics.queue_wait_seconds.labels(key.kind).observe(waited_s)
            self._metrics.reconcile_seconds.labels(key.kind).observe(self.last_progress - began)
            self._metrics.reconciles.labels(key.kind, outcome).inc()
