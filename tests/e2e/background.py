"""Asynchronous servers of a test's own, run beside its plain code."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
# How long anything may take in the background, in seconds.
PATIENCE_S = 30.0


class Running(Generic[T]):
    """What runs in the background; it is touched there only, by `do`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, served: T) -> None:
        self._loop = loop
        self._served = served

    def do(self, act: Callable[[T], R]) -> R:
        """The result of ``act``, called in the background."""

        async def call() -> R:
            return act(self._served)

        return _result(self._loop, call())


@contextmanager
def running(server: AbstractAsyncContextManager[T]) -> Iterator[Running[T]]:
    """The server on a loop of its own, in a thread of its own, for the length of the block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="background", daemon=True)
    thread.start()
    try:
        served = _result(loop, _coroutine(server.__aenter__))
        try:
            yield Running(loop, served)
        finally:
            _result(loop, _coroutine(lambda: server.__aexit__(None, None, None)))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE_S)
        loop.close()


async def _coroutine(begin: Callable[[], Any]) -> Any:
    return await begin()


def _result(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, R]) -> R:
    return asyncio.run_coroutine_threadsafe(work, loop).result(PATIENCE_S)
