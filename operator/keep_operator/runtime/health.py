"""What probes and people ask a running operator: is it alive, is it ready and if not what is it at, what did it do.

`/readyz` tells the steps of the start in order (P2): database -> migrations -> cluster -> default tenant -> queue.
"""

import asyncio
import errno
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from aiohttp import web

from keep_operator.errors import Unavailable
from keep_operator.runtime.metrics import Metrics

# The lag of the event loop above which the process is taken for stuck, in seconds: a pod restart costs less than that.
LAG_LIMIT_S: Final = 30.0
# Answers further apart than this do not count as one contact, in seconds: longer than any pause between two renewals of
# the Lease, it means that this process was frozen, or that the server did not answer.
CONTACT_GAP_S: Final = 150.0


class StepState(StrEnum):
    """How far one step of the start is."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(slots=True)
class Step:
    """One step of the start, in the words that `/readyz` shows."""

    name: str
    state: StepState = StepState.PENDING
    detail: str = ""


class Startup:
    """The steps of the start, in order; ready once all of them are done."""

    def __init__(self, names: Sequence[str]) -> None:
        self.steps = [Step(name) for name in names]

    def set(self, name: str, state: StepState, detail: str = "") -> None:
        """Note how far a step is; ``detail`` is for people and holds no secret."""
        step = next(step for step in self.steps if step.name == name)
        step.state, step.detail = state, detail

    @property
    def ready(self) -> bool:
        """Whether every step is done."""
        return all(step.state is StepState.DONE for step in self.steps)

    def describe(self) -> str:
        """A line a step, as `/readyz` answers."""
        marks = {StepState.DONE: "ok", StepState.RUNNING: "..", StepState.PENDING: "--", StepState.FAILED: "!!"}
        return "".join(
            f"[{marks[step.state]}] {step.name}{': ' + step.detail if step.detail else ''}\n" for step in self.steps
        )


class Pulse:
    """Notices when the event loop does not come round: somebody blocks it, or the machine is starved."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last = clock()

    async def beat(self) -> None:
        """Note twice a second that the loop turns; runs until cancelled."""
        while True:
            self._last = self._clock()
            await asyncio.sleep(0.5)

    def lag_s(self) -> float:
        """Seconds since the loop last turned, above the half second that is normal."""
        return max(0.0, self._clock() - self._last - 0.5)


class Contact:
    """The latest stretch of time in which the API server answered requests that are no watches.

    ``since`` and ``until`` are seconds of ``clock``; both are the moment of the last failure while nothing is answered.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.since = self.until = clock()

    def note(self, *, answered: bool) -> None:
        """Note how a request ended."""
        now = self._clock()
        if not answered or now - self.until > CONTACT_GAP_S:
            self.since = now
        self.until = now


def deaf(signs: Mapping[str, float], contact: Contact, limit_s: float) -> str | None:
    """None, or in words which watch has been silent for longer than the limit, though the API server answered others.

    ``signs`` says when each watch last showed a sign of life. Silence counts only while others are answered: when the
    server is away all watches are silent, and a restart would bring nothing and lose the caches.
    """
    for name, at in signs.items():
        silent_s = contact.until - max(at, contact.since)
        if silent_s > limit_s:
            return f"the watch of {name} has been silent for {silent_s:.0f} s, while the API server answered others"
    return None


def listen(port: int) -> socket.socket:
    """One socket for IPv4 and IPv6: two would get two different ports where any free one will do."""
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:  # IPv6 is switched off
                raise
    return socket.create_server(("", port))


async def serve(port: int, *, startup: Startup, metrics: Metrics, alive: Callable[[], str | None]) -> web.AppRunner:
    """Serve the pages on all interfaces until the returned runner is cleaned up.

    ``alive`` gives None, or in words why the process should be restarted. Raises Unavailable where the port is taken.
    """

    async def healthz(_: web.Request) -> web.Response:
        trouble = alive()
        return web.Response(text=trouble or "ok", status=503 if trouble else 200)

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(text=startup.describe(), status=200 if startup.ready else 503)

    async def page(_: web.Request) -> web.Response:
        return web.Response(body=metrics.page(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", page)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.SockSite(runner, listen(port)).start()
    except OSError as error:
        await runner.cleanup()
        raise Unavailable(
            "PortTaken", f"cannot listen on port {port} (KEEP_OPERATOR_HEALTH_PORT): {error.strerror}"
        ) from None
    return runner
