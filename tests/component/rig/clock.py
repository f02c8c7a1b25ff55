"""Time that leaps: where nobody works and everybody waits, the clock goes on to the moment that is waited for.

::

    something to read? ──► it is read
    nothing, but somebody is at work (a request, a transaction) ──► wait for it, in real time
    nothing at all ──► leap to the next timer: back-off, renewal, bookmark, resync

So an operator with real sockets goes through an hour in a second, and "nothing more happens" can be said without waiting for it.
"""

import contextlib
import selectors
import time
from asyncio import BaseEventLoop
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from unittest import mock

import psycopg

GRACE_S: Final = 0.001
"""What is on its way between two sockets of this machine arrives within this, in seconds; else a leap may come too early."""
CROWDED: Final = 100
"""Waits in a row that may come back late before a leap is dared all the same."""
_REAL: Final = time.monotonic
_CLOCKS: Final = ("time.monotonic", "psycopg.connection_async.monotonic", "psycopg.waiting.monotonic")
_PSYCOPG_WAITS: Final = psycopg.AsyncConnection.wait


class Clock:
    """One time for all in the process; ``busy`` says whether anybody outside of the event loop is at work.

    ``leapt_s`` is how far it is ahead of the real time.
    """

    def __init__(self, busy: Callable[[], bool], leapt_s: float = 0.0) -> None:
        self._busy = busy
        self.leapt_s = leapt_s

    def monotonic(self) -> float:
        """Seconds, in the place of `time.monotonic`."""
        return _REAL() + self.leapt_s

    def now(self) -> datetime:
        """The time of day."""
        return datetime.now(UTC) + timedelta(seconds=self.leapt_s)

    @contextlib.contextmanager
    def leaping(self, loop: BaseEventLoop) -> Iterator[None]:
        """Let the time of this loop, and with it the whole process's, leap."""
        inner: Any = loop
        selector = inner._selector
        inner._selector = _Leaping(selector, self)
        try:
            with contextlib.ExitStack() as stack:
                for name in _CLOCKS:
                    stack.enter_context(mock.patch(name, self.monotonic))
                stack.enter_context(mock.patch.object(psycopg.AsyncConnection, "wait", _wait))
                yield
        finally:
            inner._selector = selector

    def rest(self, selector: Any, timeout_s: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        """What has come to be read or written within the time, which passes at once where nobody works."""
        until_s = None if timeout_s is None else self.monotonic() + timeout_s
        grace_s, crowded = 0.0, 0
        while True:
            left_s = None if until_s is None else max(0.0, until_s - self.monotonic())
            asked_s = _REAL()
            found: list[tuple[selectors.SelectorKey, int]] = selector.select(
                grace_s if left_s is None else min(grace_s, left_s)
            )
            if found or left_s == 0.0:
                return found
            # A wait that took far longer than asked for: others have the cores, and so may what is on its way not have had them.
            prompt = _REAL() - asked_s < 3 * GRACE_S or crowded >= CROWDED
            if grace_s and left_s is not None and prompt and not self._busy():
                self.leapt_s += left_s
                return []
            crowded = 0 if prompt else crowded + 1
            grace_s = GRACE_S


async def _wait(connection: Any, generator: Any, interval: float = 0.0, **limits: Any) -> Any:
    """As psycopg does, without looking up ten times a second: each look would be a leap."""
    return await _PSYCOPG_WAITS(connection, generator, interval=60.0, **limits)


class _Leaping:
    """A selector that asks the clock how long to wait."""

    def __init__(self, selector: Any, clock: Clock) -> None:
        self._selector = selector
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return self._clock.rest(self._selector, timeout)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._selector, name)
