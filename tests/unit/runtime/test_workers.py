"""The workers: as many as were asked for, and an orderly end."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from keep_operator.resources.kinds import Key
from keep_operator.runtime.metrics import Metrics
from keep_operator.runtime.workers import GRACE_S, Workers
from keep_operator.runtime.workqueue import WorkQueue
from unit import virtual_time
from unit.virtual_time import now_s

pytestmark = pytest.mark.unit

KEYS = [Key("Provider", "ns", f"p{number}") for number in range(20)]


class Bench:
    """Workers over a queue; each reconcile takes ``seconds``, or as long as it is told."""

    def __init__(self, count: int, seconds: float = 1.0) -> None:
        self.queue = WorkQueue(now_s)
        self.metrics = Metrics()
        self.seconds = seconds
        self.busy = self.most = 0
        self.begun: list[Key] = []
        self.ended: list[Key] = []
        self.workers = Workers(self.queue, self.reconcile, self.metrics, now_s, count)

    async def reconcile(self, key: Key) -> str:
        """Take a while, and give the key back."""
        self.begun.append(key)
        self.busy += 1
        self.most = max(self.most, self.busy)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.busy -= 1
        self.ended.append(key)
        self.queue.done(key)
        return "ready"

    def value(self, name: str, **labels: str) -> float | None:
        """A metric as a scrape would see it."""
        return self.metrics.registry.get_sample_value(name, labels)


def play(story: Callable[[Bench], Awaitable[None]], count: int = 3, seconds: float = 1.0) -> Bench:
    """Run a story over open workers."""

    async def run() -> Bench:
        bench = Bench(count, seconds)
        bench.workers.start()
        bench.queue.open()
        await story(bench)
        return bench

    return virtual_time.run(run())


def test_never_more_at_once_than_there_are_workers() -> None:
    """The bound on requests in flight, whatever the number of keys."""

    async def story(bench: Bench) -> None:
        for key in KEYS:
            bench.queue.add(key)
        await asyncio.sleep(60)
        await bench.workers.stop()

    bench = play(story)
    assert bench.most == 3
    assert sorted(bench.ended) == sorted(KEYS)


def test_what_is_in_flight_ends_by_itself_when_told_to_stop() -> None:
    """SIGTERM: writes that have begun are finished, nothing new begins."""

    async def story(bench: Bench) -> None:
        for key in KEYS:
            bench.queue.add(key)
        await asyncio.sleep(0.5)
        await bench.workers.stop()
        assert now_s() == pytest.approx(1.0)

    bench = play(story)
    assert bench.begun == sorted(bench.ended) == KEYS[:3]
    assert bench.queue.depth == 17


def test_what_does_not_end_is_cancelled_after_the_grace() -> None:
    """A database that answers no more does not hold the pod's end."""

    async def story(bench: Bench) -> None:
        bench.queue.add(KEYS[0])
        await asyncio.sleep(0.5)
        await bench.workers.stop()
        assert now_s() == pytest.approx(0.5 + GRACE_S)

    bench = play(story, seconds=3600.0)
    assert bench.begun == KEYS[:1]
    assert bench.ended == []


def test_idle_workers_stop_at_once() -> None:
    """Nothing is in flight: nothing is waited for."""

    async def story(bench: Bench) -> None:
        await asyncio.sleep(5)
        await bench.workers.stop()
        assert now_s() == 5

    play(story)


def test_a_key_that_comes_while_stopping_stays_in_the_queue() -> None:
    """The next leader will find it in its own list."""

    async def story(bench: Bench) -> None:
        bench.queue.add(KEYS[0])
        await asyncio.sleep(0.5)
        stopping = asyncio.create_task(bench.workers.stop())
        bench.queue.add(KEYS[1])
        await asyncio.sleep(0)
        bench.queue.add(KEYS[2])
        await stopping

    bench = play(story)
    assert bench.ended == KEYS[:1]
    assert bench.queue.depth == 2


def test_workers_stopped_before_their_first_turn_do_nothing() -> None:
    """SIGTERM in the same instant as the start."""

    async def story(bench: Bench) -> None:
        bench.queue.add(KEYS[0])
        await bench.workers.stop()

    assert play(story).begun == []


def test_stopping_twice_is_stopping_once() -> None:
    """Two signals in a row."""

    async def story(bench: Bench) -> None:
        await bench.workers.stop()
        await bench.workers.stop()

    play(story)


def test_every_look_is_measured() -> None:
    """By kind and outcome, with the time in the queue and in the reconcile."""

    async def story(bench: Bench) -> None:
        for key in KEYS[:3]:
            bench.queue.add(key)
        await asyncio.sleep(10)
        await bench.workers.stop()

    bench = play(story, count=1)
    assert bench.value("keep_operator_reconciles_total", kind="Provider", outcome="ready") == 3
    assert bench.value("keep_operator_reconcile_seconds_sum", kind="Provider") == pytest.approx(3.0)
    assert bench.value("keep_operator_queue_wait_seconds_sum", kind="Provider") == pytest.approx(0 + 1 + 2)
    assert bench.workers.last_progress == pytest.approx(3.0)
