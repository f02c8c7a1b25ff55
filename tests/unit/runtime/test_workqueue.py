"""Which object is looked at next: once, by one worker, soon, and nobody starves."""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keep_operator.resources.kinds import Key
from keep_operator.runtime import workqueue
from keep_operator.runtime.workqueue import BACKGROUND_TURN, BACKOFF_LIMIT_S, WorkQueue
from unit import virtual_time
from unit.virtual_time import now_s

pytestmark = pytest.mark.unit

A, B, C = (Key("Provider", "ns", name) for name in "abc")
T = Key("Tenant", "", "keep")


def opened(jitter: float = 1.0) -> WorkQueue:
    """A queue in virtual time that hands out keys, with a jitter that is known."""
    queue = WorkQueue(now_s, jitter=lambda: jitter)
    queue.open()
    return queue


async def take(queue: WorkQueue) -> Key:
    """The next key; it is there already."""
    assert queue.depth
    return (await queue.get())[0]


async def take_all(queue: WorkQueue) -> list[Key]:
    """All waiting keys in their order, each done at once."""
    keys = []
    while queue.depth:
        keys.append(await take(queue))
        queue.done(keys[-1])
    return keys


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a story in virtual time."""
    virtual_time.run(work)


def test_asking_twice_is_asking_once() -> None:
    """A hundred events of one object are one look."""

    async def story() -> None:
        queue = opened()
        for _ in range(100):
            queue.add(A)
        assert await take_all(queue) == [A]

    run(story())


def test_a_change_during_a_look_is_one_more_look() -> None:
    """What changed while it was looked at may have been overlooked; two workers never have the same object."""

    async def story() -> None:
        queue = opened()
        queue.add(A)
        key = await take(queue)
        queue.add(A)
        queue.add(A)
        assert queue.depth == 0
        queue.done(key)
        assert await take_all(queue) == [A]

    run(story())


def test_nothing_is_handed_out_before_the_queue_opens() -> None:
    """Keys gather while the operator starts, and the workers wait."""

    async def story() -> None:
        queue = WorkQueue(now_s)
        queue.add(A)
        getting = asyncio.create_task(queue.get())
        await asyncio.sleep(60)
        assert not getting.done()
        queue.open()
        key, waited_s = await getting
        assert (key, waited_s) == (A, 60)

    run(story())


def test_kinds_take_turns() -> None:
    """A thousand Providers do not delay the Tenant that they wait for."""

    async def story() -> None:
        queue = opened()
        providers = [Key("Provider", "ns", f"p{number}") for number in range(1000)]
        for key in providers:
            queue.add(key)
        queue.add(T)
        first = [await take(queue) for _ in range(2)]
        assert T in first

    run(story())


def test_what_has_changed_goes_before_what_comes_round_again() -> None:
    """A new object does not wait behind a resync of all the others (A-CTL-1)."""

    async def story() -> None:
        queue = opened()
        for number in range(100):
            queue.add(Key("Provider", "ns", f"old{number}"), urgent=False)
        queue.add(A)
        assert await take(queue) == A

    run(story())


def test_what_comes_round_again_is_not_starved() -> None:
    """However much changes, each eighth look is for the others."""

    async def story() -> None:
        queue = opened()
        background = [Key("Provider", "ns", f"old{number}") for number in range(5)]
        for key in background:
            queue.add(key, urgent=False)
        taken = []
        for number in range(5 * BACKGROUND_TURN):
            queue.add(Key("Provider", "ns", f"new{number}"))
            taken.append(await take(queue))
            queue.done(taken[-1])
        assert [key for key in taken if key in background] == background

    run(story())


def test_urgency_is_never_lost() -> None:
    """An object in the resync that changes moves ahead, and stays ahead when the resync comes by again."""

    async def story() -> None:
        queue = opened()
        queue.add(A, urgent=False)
        queue.add(B, urgent=False)
        queue.add(B)
        queue.add(B, urgent=False)
        assert await take_all(queue) == [B, A]
        queue.add(A)
        key = await take(queue)
        queue.add(C, urgent=False)
        queue.add(A, urgent=False)
        queue.add(A)
        queue.done(key)
        assert await take_all(queue) == [A, C]

    run(story())


def test_within_a_lane_the_first_comes_first() -> None:
    """Order of arrival."""

    async def story() -> None:
        queue = opened()
        for key in (B, A, C):
            queue.add(key)
        assert await take_all(queue) == [B, A, C]

    run(story())


@pytest.mark.parametrize("jitter", [0.5, 1.0])
def test_back_off_doubles_up_to_its_limit(jitter: float) -> None:
    """1 s, 2 s, 4 s ... 5 min, each with jitter (A-CTL-3)."""

    async def story() -> None:
        queue = opened(jitter)
        queue.add(A)
        delays = []
        for _ in range(12):
            key = (await queue.get())[0]
            began = now_s()
            delays.append(queue.retry(key))
            assert queue.depth == 0
            await asyncio.sleep(delays[-1] + 0.001)
            assert queue.depth == 1
            assert now_s() - began >= delays[-1]
        assert delays == [jitter * min(BACKOFF_LIMIT_S, 2.0**number) for number in range(12)]

    run(story())


def test_the_jitter_spreads_and_never_exceeds_the_back_off() -> None:
    """A thousand objects that failed together do not come back together, nor later than they should."""
    queue = WorkQueue(lambda: 0.0)
    factors = [queue._jitter() for _ in range(200)]
    assert 0.5 <= min(factors) < max(factors) <= 1.0


def test_a_success_starts_the_back_off_anew() -> None:
    """A database that was away yesterday does not slow down today's first failure."""

    async def story() -> None:
        queue = opened()
        queue.add(A)
        for _ in range(5):
            queue.retry((await queue.get())[0])
        queue.done((await queue.get())[0])
        queue.add(A)
        assert queue.retry(await take(queue)) == 1.0

    run(story())


def test_the_other_side_may_ask_for_more_patience() -> None:
    """Retry-After is heeded when it is longer than the back-off."""

    async def story() -> None:
        queue = opened()
        queue.add(A)
        assert queue.retry(await take(queue), at_least_s=30.0) == 30.0
        await asyncio.sleep(29)
        assert queue.depth == 0
        await asyncio.sleep(1.1)
        assert queue.depth == 1

    run(story())


def test_a_change_does_not_wait_for_the_back_off() -> None:
    """Somebody mended the spec: it is looked at now, and the old timer does not bring it round once more."""

    async def story() -> None:
        queue = opened()
        queue.add(A)
        for _ in range(6):
            queue.retry((await queue.get())[0])
        queue.add(A)
        queue.done(await take(queue))
        await asyncio.sleep(600)
        assert queue.depth == 0

    run(story())


def test_a_hundred_poison_objects_delay_nobody() -> None:
    """Each of them backs off for itself (A-CTL-3)."""

    async def story() -> None:
        queue = opened()
        for number in range(100):
            queue.add(Key("Provider", "ns", f"poison{number}"))
        for _ in range(1000):
            queue.retry((await queue.get())[0])
        queue.add(A)
        assert await take(queue) == A

    run(story())


def test_the_earlier_of_two_dates_wins() -> None:
    """A resync in ten minutes does not put off a deadline in one, in whatever order they are set."""

    async def story() -> None:
        for delays in ((600.0, 60.0), (60.0, 600.0)):
            queue = opened()
            for delay_s in delays:
                queue.schedule(A, delay_s)
            await asyncio.sleep(61)
            assert await take_all(queue) == [A]
            await asyncio.sleep(600)
            assert queue.depth == 0

    run(story())


def test_what_was_scheduled_can_be_taken_back() -> None:
    """An object that is gone has no next look, nor a back-off for the next one of its name."""

    async def story() -> None:
        queue = opened()
        queue.schedule(A, 10)
        queue.unschedule(A)
        queue.add(B)
        queue.retry(await take(queue))
        queue.forget(B)
        await asyncio.sleep(60)
        assert queue.depth == 0
        queue.add(B)
        assert queue.retry(await take(queue)) == 1.0

    run(story())


def test_a_look_replaces_the_one_that_was_due() -> None:
    """The look that begins now decides when the next one is due; what is scheduled during it stands."""

    async def story() -> None:
        queue = opened()
        queue.schedule(A, 10)
        queue.add(A)
        key = await take(queue)
        queue.schedule(A, 100)
        queue.done(key)
        await asyncio.sleep(50)
        assert queue.depth == 0
        await asyncio.sleep(51)
        assert queue.depth == 1

    run(story())


def test_an_object_whose_time_comes_during_its_look_is_looked_at_once_more() -> None:
    """The timer's turn is not lost."""

    async def story() -> None:
        queue = opened()
        queue.add(A)
        key = await take(queue)
        queue.schedule(A, 1)
        await asyncio.sleep(2)
        assert queue.depth == 0
        queue.done(key)
        assert queue.depth == 1

    run(story())


def test_a_cancelled_worker_loses_no_key() -> None:
    """One that was just about to be given a key passes the turn on."""

    async def story() -> None:
        queue = opened()
        first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        queue.add(A)
        first.cancel()
        assert (await second)[0] == A
        with pytest.raises(asyncio.CancelledError):
            await first

    run(story())


def test_a_worker_that_is_cancelled_while_keys_come_is_cancelled() -> None:
    """Its place in the line may have been passed over by then; that is no error of its own."""

    async def story() -> None:
        queue = opened()
        waiting = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        waiting.cancel()
        queue.add(A)
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await take(queue) == A

    run(story())


def test_depth_and_age_are_told() -> None:
    """By kind, and of the key that waits longest, also when it became urgent later than others."""

    async def story() -> None:
        queue = opened()
        assert queue.oldest_s() == 0.0
        queue.add(A, urgent=False)
        await asyncio.sleep(5)
        queue.add(B)
        queue.add(T)
        queue.add(A)
        await asyncio.sleep(1)
        assert queue.depths() == {"Provider": 2, "Tenant": 1}
        assert queue.oldest_s() == 6

    run(story())


def test_the_time_that_a_key_waited_is_told() -> None:
    """From when it was first asked for."""

    async def story() -> None:
        queue = opened()
        queue.add(A)
        await asyncio.sleep(3)
        queue.add(A)
        assert await queue.get() == (A, 3)

    run(story())


# Against a model.

keys = st.sampled_from([A, B, C, T])
steps = st.one_of(
    st.tuples(st.just("add"), keys, st.booleans()),
    st.tuples(st.just("get")),
    st.tuples(st.just("done"), st.integers(0, 3)),
    st.tuples(st.just("retry"), st.integers(0, 3)),
    st.tuples(st.just("cancel"), st.integers(0, 3), st.booleans()),
    st.tuples(st.just("schedule"), keys, st.sampled_from([1.0, 5.0, 50.0])),
    st.tuples(st.just("unschedule"), keys),
    st.tuples(st.just("wait"), st.sampled_from([0.5, 3.0, 40.0])),
    st.tuples(st.just("open")),
)


class _Model:
    """The queue beside what it promises, in sets: waiting, running, asked for again, due at."""

    def __init__(self) -> None:
        self.queue = WorkQueue(now_s, jitter=lambda: 1.0)
        self.getting: list[asyncio.Task[tuple[Key, float]]] = []
        self.is_open = False
        self.waiting: set[Key] = set()
        self.running: set[Key] = set()
        self.again: set[Key] = set()
        self.due: dict[Key, float] = {}
        self.failures: Counter[Key] = Counter()

    async def act(self, step: tuple[Any, ...]) -> None:
        """Do one thing to both."""
        match step:
            case ("add", key, urgent):
                self.queue.add(key, urgent=urgent)
                self._added(key)
            case ("get",):
                self.getting.append(asyncio.create_task(self.queue.get()))
            case ("done" | "retry" as how, number) if self.running:
                self._finish(sorted(self.running)[number % len(self.running)], failed=how == "retry")
            case ("cancel", number, with_news) if self.getting:
                self.getting[number % len(self.getting)].cancel()
                if with_news:
                    self.queue.add(A)
                    self._added(A)
            case ("schedule", key, delay_s):
                self.queue.schedule(key, delay_s)
                self._schedule(key, delay_s)
            case ("unschedule", key):
                self.queue.unschedule(key)
                self.due.pop(key, None)
            case ("wait", seconds):
                await self._wait(seconds)
            case ("open",):
                self.queue.open()
                self.is_open = True
        await self._settle()

    def compare(self) -> None:
        """Both have the same keys, and no worker is idle while one waits."""
        assert sum(self.queue.depths().values()) == self.queue.depth == len(self.waiting)
        assert not (self.is_open and self.getting and self.queue.depth)

    async def drain(self) -> None:
        """Every key that waits is there to be had."""
        self.queue.open()
        for task in self.getting:
            task.cancel()
        await asyncio.gather(*self.getting, return_exceptions=True)
        while self.waiting:
            self._taken(await take(self.queue))

    def _added(self, key: Key) -> None:
        (self.again if key in self.running else self.waiting).add(key)

    def _taken(self, key: Key) -> None:
        assert key in self.waiting, f"{key} was handed out and nobody asked for it"
        assert key not in self.running, f"{key} was handed out to two workers"
        self.waiting.remove(key)
        self.running.add(key)
        self.due.pop(key, None)

    def _finish(self, key: Key, *, failed: bool) -> None:
        if failed:
            delay_s = 2.0 ** self.failures[key]
            assert self.queue.retry(key) == delay_s
            self._schedule(key, delay_s)
            self.failures[key] += 1
        else:
            self.queue.done(key)
            self.failures.pop(key, None)
        self.running.remove(key)
        if key in self.again:
            self.again.remove(key)
            self.waiting.add(key)

    def _schedule(self, key: Key, delay_s: float) -> None:
        at = now_s() + delay_s
        self.due[key] = min(at, self.due.get(key, at))

    async def _wait(self, seconds: float) -> None:
        end = now_s() + seconds
        while now_s() < end - 1e-6:  # step by step, so that both see each date by itself
            nearest = min([end, *self.due.values()])
            await asyncio.sleep(max(0.0, nearest - now_s()) + 1e-7)
            for key in [key for key, at in self.due.items() if at <= now_s()]:
                del self.due[key]
                self._added(key)
            await self._settle()

    async def _settle(self) -> None:
        for _ in range(4):
            await asyncio.sleep(0)
        for task in [task for task in self.getting if task.done()]:
            self.getting.remove(task)
            with suppress(asyncio.CancelledError):
                self._taken((await task)[0])


@given(st.lists(steps, min_size=5, max_size=60))
def test_the_queue_does_what_its_model_does(story: list[tuple[Any, ...]]) -> None:
    """Whatever is asked in whatever order: each key is handed out once for all askings, and none is forgotten."""
    run(_compare(story))


async def _compare(story: list[tuple[Any, ...]]) -> None:
    model = _Model()
    for step in story:
        await model.act(step)
        model.compare()
    await model.drain()


def test_the_constants_are_the_documented_ones() -> None:
    """1 s to 5 min."""
    assert (workqueue.BACKOFF_FIRST_S, workqueue.BACKOFF_LIMIT_S) == (1.0, 300.0)
