"""Operator processes as guests in the test's own: `operate.run` with all its rooms, kopf among them.

kopf takes part: it is fast enough (a start, migrations and all, takes 50 ms here), and what it does with a broken watch is half of
what there is to find out. Three things are not for a guest, and are taken from it: the environment (the way to the API server is
given), handlers of signals, and kopf's last resort (a SIGKILL a minute after its end).

A guest dies by `kill`: from that very moment the API server and the database know nothing of it any more, and whatever its
remains still do goes nowhere.
"""

import asyncio
import contextlib
import contextvars
import signal
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context, ContextVar
from typing import Any, Final, cast
from unittest import mock
from weakref import WeakKeyDictionary

import aiohttp
import kopf
import psycopg

from component.apiserver.server import ApiServer
from component.rig.clock import Clock
from component.rig.database import Doors
from keep_operator import operate, rooms
from keep_operator.cluster import connection
from keep_operator.handlers import informer
from keep_operator.settings import Settings

SILENT_S: Final = 300.0
KEY: Final = "k" * 43
_GUEST: Final[ContextVar[str]] = ContextVar("guest", default="")
_TASKS: Final[WeakKeyDictionary[asyncio.Task[Any], str]] = WeakKeyDictionary()
_SESSIONS: Final[WeakKeyDictionary[psycopg.AsyncConnection[Any], str]] = WeakKeyDictionary()
_CONNECT: Final = psycopg.AsyncConnection.connect
# Held until their guest is dead: what is left open would complain as soon as nobody holds it.
_CLIENTS: Final[defaultdict[str, list[aiohttp.ClientSession]]] = defaultdict(list)
_CLIENT: Final = aiohttp.ClientSession.__init__


class Operator:
    """One process; ``name`` is its name at the API server and at the database."""

    def __init__(self, name: str, server: ApiServer, doors: Doors) -> None:
        self.name = name
        self._server = server
        self._doors = doors
        self._task: asyncio.Task[None] | None = None
        self.process = operate.Process(SILENT_S)

    async def start(self, **settings: Any) -> None:
        """Start it; it comes up by itself."""
        url = await self._doors.open(self.name)
        given = Settings(**{"database_url": url, "encryption_key": KEY, **settings})
        context = contextvars.copy_context()
        context.run(_GUEST.set, self.name)
        self._task = asyncio.create_task(self._live(given), context=context)

    async def _live(self, settings: Settings) -> None:
        async with contextlib.AsyncExitStack() as stack:
            await operate.run(self.process, settings, stack)

    @property
    def ready(self) -> bool:
        """What `/readyz` says."""
        return self.process.startup.ready

    @property
    def step(self) -> str:
        """The step of the start that it is at, as `/readyz` tells it."""
        return next((str(step) for step in self.process.startup.steps if step.state != "done"), "")

    @property
    def ended(self) -> bool:
        """Whether it has ended by itself."""
        return self._task is not None and self._task.done()

    async def end(self) -> BaseException | None:
        """Wait until it ends by itself; the error with which it did."""
        assert self._task is not None
        await asyncio.wait((self._task,))
        return self._task.exception()

    async def stop(self) -> None:
        """End it in order, as SIGTERM does."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait((self._task,))
        await self.kill()

    async def kill(self) -> None:
        """End it at once, as SIGKILL does; safe to repeat."""
        self._server.kill(self.name)
        self._doors.kill(self.name)
        while remains := [task for task, guest in list(_TASKS.items()) if guest == self.name and not task.done()]:
            for task in remains:
                task.cancel()
            # On a busy machine what closes its sockets takes a while; a second cancel would leave them open.
            await asyncio.wait(remains, timeout=10.0)
        for session in [session for session, guest in list(_SESSIONS.items()) if guest == self.name]:
            session.pgconn.finish()  # as the kernel does
        for client in _CLIENTS.pop(self.name, ()):
            await client.close()
        for task in [task for task, guest in list(_TASKS.items()) if guest == self.name and not task.cancelled()]:
            task.exception()  # seen


@contextlib.contextmanager
def guests(server: ApiServer, clock: Clock) -> Iterator[None]:
    """Let operators live in this process, on this server and by this clock."""
    loop = asyncio.get_running_loop()
    settings = informer.settings

    def settings_for_a_guest() -> kopf.OperatorSettings:
        chosen = settings()
        chosen.process.ultimate_exiting_timeout = None
        return chosen

    with contextlib.ExitStack() as stack:
        for owner, name, replacement in (
            (informer, "settings", settings_for_a_guest),
            (rooms, "_now", clock.now),
            (connection, "load", lambda _: server.connect(_GUEST.get())),
            (loop, "add_signal_handler", _ignore),
            (psycopg.AsyncConnection, "connect", _connect),
            (aiohttp.ClientSession, "__init__", _open_client),
        ):
            stack.enter_context(mock.patch.object(owner, name, replacement))
        loop.set_task_factory(cast(Any, _make_task))
        stack.callback(loop.set_task_factory, None)
        yield


async def _connect(*given: Any, **parameters: Any) -> psycopg.AsyncConnection[Any]:
    session = await _CONNECT(*given, **parameters)
    _SESSIONS[session] = _GUEST.get()
    return session


def _open_client(client: aiohttp.ClientSession, *given: Any, **parameters: Any) -> None:
    _CLIENT(client, *given, **parameters)
    if guest := _GUEST.get():
        _CLIENTS[guest].append(client)


def _make_task(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], context: Context | None = None, **options: Any
) -> asyncio.Task[Any]:
    task = asyncio.Task(coroutine, loop=loop, context=context, **options)
    _TASKS[task] = _GUEST.get() if context is None else context.get(_GUEST, "")
    return task


def _ignore(signum: signal.Signals, callback: Callable[..., object], *args: object) -> None:
    """No signal is a guest's."""
