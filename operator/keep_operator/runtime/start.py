"""How a process comes up and how it is told to end: the same for each that is not the operator."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from keep_operator.errors import KeepOperatorError, Unavailable
from keep_operator.runtime import health
from keep_operator.runtime.health import Startup, StepState

log = logging.getLogger(__name__)
T = TypeVar("T")

# Between attempts at one step of the start, in seconds.
RETRY_S: Final = 1.0


async def step(startup: Startup, name: str, attempt: Callable[[], Awaitable[str]]) -> str:
    """Try until it works: what is not there yet will come, and `/readyz` says what is missing."""
    told = ""
    startup.set(name, StepState.RUNNING)
    while True:
        try:
            detail = await attempt()
        except Unavailable as error:
            startup.set(name, StepState.RUNNING, str(error))
            if told != error.reason:
                told = error.reason
                log.warning(error.message, extra={"step": name, "reason": error.reason})
            await asyncio.sleep(RETRY_S)
        except KeepOperatorError as error:
            startup.set(name, StepState.FAILED, str(error))
            raise
        else:
            startup.set(name, StepState.DONE, detail)
            return detail


async def unless(stop: asyncio.Event, work: Awaitable[T]) -> T | None:
    """What the work brings; None where the process was told to stop before."""
    working, stopping = asyncio.ensure_future(work), asyncio.create_task(stop.wait())
    await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if working.done():
        return working.result()
    working.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await working
    return None


def stuck(lag_s: float) -> str | None:
    """None, or in words that the event loop does not come round."""
    return f"the event loop has been blocked for {lag_s:.0f} s" if lag_s > health.LAG_LIMIT_S else None
