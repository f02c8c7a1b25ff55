"""What the operator process says of itself to those who may restart it."""

import pytest

from keep_operator.operate import STUCK_S, Process
from keep_operator.resources.kinds import Key
from keep_operator.runtime import health
from keep_operator.runtime.health import LAG_LIMIT_S
from keep_operator.runtime.workers import Workers
from unit.runtime.test_health import ask

pytestmark = pytest.mark.unit

LIMIT_S = 300.0


class Clock:
    """Seconds, moved by hand; the process's loop turns meanwhile unless it is told not to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def process(clock: Clock) -> Process:
    made = Process(LIMIT_S, clock)
    made.pulse.lag_s = lambda: 0.0  # type: ignore[method-assign]  # the loop turns
    return made


def renew(process: Process, clock: Clock, *, seconds: float, status: int = 200, verb: str = "patch") -> None:
    """Time passes, and the Lease is asked for every five seconds."""
    for _ in range(int(seconds // 5)):
        clock.now += 5.0
        process.count(verb, "leases", status)


async def test_healthz_turns_red_for_a_dead_watch_and_green_again(process: Process, clock: Clock) -> None:
    """The page names the kind, with 503, and takes it back when the watch is heard again."""
    signs = {"providers": clock.now, "secrets": clock.now}
    process.signs = lambda: signs
    runner = await health.serve(0, startup=process.startup, metrics=process.metrics, alive=process.alive)
    try:
        port = runner.addresses[0][1]
        renew(process, clock, seconds=LIMIT_S)
        assert await ask(port, "/healthz") == (200, "ok")
        signs["secrets"] = clock.now
        renew(process, clock, seconds=5)
        status, page = await ask(port, "/healthz")
        assert status == 503
        assert "watch of providers" in page
        signs["providers"] = clock.now
        assert await ask(port, "/healthz") == (200, "ok")
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("status", [0, 429, 500, 503])
def test_watches_are_not_blamed_for_a_server_in_trouble(process: Process, clock: Clock, status: int) -> None:
    """No answer, too many requests or an internal error: the server is what is ill, and a restart would cure nothing."""
    process.signs = lambda: {"providers": 1000.0}
    renew(process, clock, seconds=10 * LIMIT_S, status=status)
    assert process.alive() is None


@pytest.mark.parametrize("status", [200, 404, 409])
def test_the_looks_of_a_standby_tell_as_much(process: Process, clock: Clock, status: int) -> None:
    """A standby with a dead watch would take over blind: its looks at the Lease show that the server answers."""
    process.signs = lambda: {"providers": 1000.0}
    renew(process, clock, seconds=LIMIT_S + 5, status=status, verb="get")
    assert "providers" in (process.alive() or "")


def test_other_requests_tell_nothing_about_the_server(process: Process, clock: Clock) -> None:
    """A webhook that fails, or a lively namespace, neither excuses a dead watch nor accuses a living one."""
    process.signs = lambda: {"providers": 1000.0}
    for _ in range(200):
        clock.now += 5.0
        process.count("patch", "providers/status", 200)
    assert process.alive() is None
    renew(process, clock, seconds=5)
    for _ in range(int(LIMIT_S // 5) + 1):
        renew(process, clock, seconds=5)
        process.count("patch", "providers/status", 500)
    assert process.alive() is not None


def test_a_loop_that_is_blocked_is_told(clock: Clock) -> None:
    """Something computes for half a minute: nothing else gets its turn."""
    process = Process(LIMIT_S, clock)
    clock.now += LAG_LIMIT_S + 1.5
    assert process.alive() == "the event loop has been blocked for 31 s"


def test_work_that_does_not_move_is_told_once_the_queue_is_open(process: Process, clock: Clock) -> None:
    """Keys wait and no look has ended for five minutes (A-CTL-5); a standby's keys may wait for ever."""

    async def never(key: Key) -> str:
        raise AssertionError(key)

    process.workers = Workers(process.queue, never, process.metrics, clock)
    clock.now += 10 * STUCK_S  # idle: nothing has ended, and nothing waits
    process.queue.add(Key("Provider", "monitoring", "vms"))
    assert process.alive() is None
    clock.now += STUCK_S + 1.0
    assert process.alive() is None
    process.queue.open()
    assert process.alive() == "no reconcile has ended for 301 s while 1 keys wait"
    process.workers.last_progress = clock.now
    assert process.alive() is None
