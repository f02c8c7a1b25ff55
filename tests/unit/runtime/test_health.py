"""What probes and people ask a running operator."""

import asyncio
import socket

import aiohttp
import pytest

from keep_operator.errors import Unavailable
from keep_operator.runtime import health
from keep_operator.runtime.health import CONTACT_GAP_S, Contact, Pulse, Startup, StepState
from keep_operator.runtime.metrics import Metrics
from unit import virtual_time
from unit.virtual_time import now_s

pytestmark = pytest.mark.unit

LIMIT_S = 300.0


def test_ready_means_that_every_step_is_done() -> None:
    """The pod gets no traffic, and the leader's queue stays closed, before (P2)."""
    startup = Startup(["database", "queue"])
    assert not startup.ready
    startup.set("database", StepState.DONE, "reachable")
    assert not startup.ready
    startup.set("queue", StepState.DONE)
    assert startup.ready


def test_readyz_tells_how_far_the_start_is() -> None:
    """Whoever waits sees what it waits for."""
    startup = Startup(["database", "migrations", "cluster", "queue"])
    startup.set("database", StepState.DONE, "reachable")
    startup.set("migrations", StepState.FAILED, "SchemaTooNew: upgrade")
    startup.set("cluster", StepState.RUNNING)
    assert startup.describe() == (
        "[ok] database: reachable\n[!!] migrations: SchemaTooNew: upgrade\n[..] cluster\n[--] queue\n"
    )


def test_a_loop_that_turns_has_no_lag() -> None:
    """The half second between two beats is normal."""

    async def story() -> None:
        pulse = Pulse(now_s)
        beating = asyncio.create_task(pulse.beat())
        for _ in range(20):
            await asyncio.sleep(0.13)
            assert pulse.lag_s() == 0.0
        beating.cancel()

    virtual_time.run(story())


def test_a_loop_that_does_not_turn_shows_its_lag() -> None:
    """Somebody blocks it: the liveness probe, asked from outside, will say so."""
    times = iter([0.0, 45.5])
    assert Pulse(lambda: next(times)).lag_s() == 45.0


def test_a_dead_watch_is_named_while_the_server_answers_others() -> None:
    """The operator is blind for one kind, and everything else works: a restart mends that."""
    signs = {"tenants": 1000.0, "providers of team": 500.0, "secrets": 990.0}
    contact = Contact(lambda: 0.0)
    contact.until = 500.0 + LIMIT_S
    assert health.deaf(signs, contact, LIMIT_S) is None
    contact.until = 501.0 + LIMIT_S
    trouble = health.deaf(signs, contact, LIMIT_S)
    assert trouble == "the watch of providers of team has been silent for 301 s, while the API server answered others"


def test_silent_watches_are_no_fault_while_the_server_is_away() -> None:
    """An outage of an hour restarts nobody, neither while it lasts nor when the server's first answer comes."""
    now = [0.0]
    contact = Contact(lambda: now[0])
    signs = {"tenants": 0.0, "secrets": 0.0}

    def trouble() -> str | None:
        return health.deaf(signs, contact, LIMIT_S)

    for second in range(0, 3600, 2):
        now[0] = float(second)
        contact.note(answered=False)
        assert trouble() is None
    for _ in range(int(LIMIT_S // 2)):
        now[0] += 2.0
        contact.note(answered=True)
        assert trouble() is None
    now[0] += 2.0
    contact.note(answered=True)
    assert trouble() is not None


def test_no_answer_and_no_failure_tell_nothing() -> None:
    """A connection that has died in silence: nothing is known of the server, so the watches are not blamed."""
    contact = Contact(lambda: 100.0)
    contact.note(answered=True)
    assert health.deaf({"tenants": 50.0}, contact, LIMIT_S) is None


def test_a_process_that_was_frozen_is_given_time_to_hear_again() -> None:
    """After an hour in a frozen container the Lease is answered first; the watches have their chance before a restart."""
    now = [0.0]
    contact = Contact(lambda: now[0])
    contact.note(answered=True)
    now[0] = 3600.0
    contact.note(answered=True)
    assert health.deaf({"tenants": 0.0}, contact, LIMIT_S) is None
    while now[0] - 3600.0 <= LIMIT_S:
        now[0] += CONTACT_GAP_S
        contact.note(answered=True)
    assert health.deaf({"tenants": 0.0}, contact, LIMIT_S) is not None


async def ask(port: int, path: str) -> tuple[int, str]:
    """Status and text of a page."""
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as answer:
        return answer.status, await answer.text()


async def test_the_pages_answer() -> None:
    """Alive and ready or not, with the reason, and the metrics."""
    startup, trouble = Startup(["queue"]), [None, "no reconcile has ended for 301 s"]
    runner = await health.serve(0, startup=startup, metrics=Metrics(), alive=lambda: trouble.pop(0))
    try:
        port = runner.addresses[0][1]
        assert await ask(port, "/healthz") == (200, "ok")
        assert await ask(port, "/healthz") == (503, "no reconcile has ended for 301 s")
        assert await ask(port, "/readyz") == (503, "[--] queue\n")
        startup.set("queue", StepState.DONE, "open")
        assert await ask(port, "/readyz") == (200, "[ok] queue: open\n")
        status, page = await ask(port, "/metrics")
        assert status == 200
        assert "keep_operator_reconciles_total" in page
    finally:
        await runner.cleanup()


async def test_any_free_port_is_one_port() -> None:
    """The one that the log tells answers on IPv4, and on IPv6 where there is any."""
    runner = await health.serve(0, startup=Startup([]), metrics=Metrics(), alive=lambda: None)
    try:
        assert len(runner.addresses) == 1
    finally:
        await runner.cleanup()


async def test_a_port_that_is_taken_is_told_with_its_variable() -> None:
    """Two operators on one host network: the message says what to set."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable, match="KEEP_OPERATOR_HEALTH_PORT") as error:
            await health.serve(port, startup=Startup([]), metrics=Metrics(), alive=lambda: None)
    assert error.value.reason == "PortTaken"
