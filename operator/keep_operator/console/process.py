"""The console's process: waits for the database and its schema, serves the read API, and ends in peace.

::

    database ──► schema ──► cluster ──► serving            `/readyz` on the health port shows how far it is
    reachable    as new     credentials  the API answers
                 as we are  are there

It migrates nothing: `operate` does, and its role in the database needs few rights (A-PKG-2, docs/api.md). At SIGTERM no new
connection is taken; what is being answered is answered.
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import uvicorn
from cryptography.fernet import Fernet
from starlette.types import ASGIApp

from keep_operator.cluster import connection
from keep_operator.cluster.client import Cluster
from keep_operator.console import app, patience
from keep_operator.console.doorkeeper import Doorkeeper
from keep_operator.console.ingest import ingest
from keep_operator.console.pages.lists import Lists
from keep_operator.console.pages.live import Hub
from keep_operator.console.pages.rendering import Renderer
from keep_operator.console.pages.session import Sessions
from keep_operator.console.pages.visit import Pages
from keep_operator.console.room import Room
from keep_operator.errors import Unavailable
from keep_operator.runtime import health, start
from keep_operator.runtime.health import Pulse, Startup, StepState
from keep_operator.runtime.metrics import Metrics
from keep_operator.settings import Settings
from keep_operator.store import engine as database
from keep_operator.store import failures, installation, schema
from keep_operator.store.engine import Engine
from keep_operator.store.intake import Intake

log = logging.getLogger(__name__)

STEPS: Final = ("database", "schema", "cluster", "serving")
# Seconds for what is being answered when the process is told to stop; Kubernetes kills after 30.
GRACE_S: Final = 20
# Connections at once, idle ones included; far more than `app.AT_ONCE`, which answers in our own words.
CONNECTIONS: Final = 1024


class Server(uvicorn.Server):
    """uvicorn, but signals are the process's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Raises Unavailable where a port is taken, Refused where nothing will help."""
    startup, metrics, pulse, stop = Startup(STEPS), Metrics(), Pulse(time.monotonic), asyncio.Event()

    def end() -> None:
        startup.set("serving", StepState.RUNNING, "stopping")
        stop.set()

    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, end)
    async with contextlib.AsyncExitStack() as stack:
        pages = await health.serve(
            settings.health_port, startup=startup, metrics=metrics, alive=lambda: start.stuck(pulse.lag_s())
        )
        stack.push_async_callback(pages.cleanup)
        log.info("serving /healthz, /readyz and /metrics", extra={"port": pages.addresses[0][1]})
        beating = asyncio.create_task(pulse.beat())
        stack.callback(beating.cancel)
        here = await start.unless(stop, _opened(settings, startup, metrics, stack))
        if here is not None:
            shown = pages_of(settings, stop)
            shown.renderer.compile()
            listening = _socket(settings.console_port)
            startup.set("serving", StepState.DONE, f"port {listening.getsockname()[1]}")
            log.info("serving the API", extra={"port": listening.getsockname()[1]})
            await answer(app.build(here, shown), listening, stop)
    log.info("stopped")


async def answer(application: ASGIApp, listening: socket.socket, stop: asyncio.Event) -> None:
    """Answer on this socket until told to stop, and then what has been asked by then."""
    server = Server(
        uvicorn.Config(
            application,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            ws="none",
            http=patience.Connection,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=GRACE_S,
        )
    )
    # asyncio does it only for sockets that say that they are TCP's, and this one does not. Without it, each answer waits for
    # the client's delayed acknowledgement of its headers: 40 ms.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    server.should_exit = True
    await serving


def _socket(port: int) -> socket.socket:
    try:
        return health.listen(port)
    except OSError as error:
        raise Unavailable(
            "PortTaken", f"cannot listen on port {port} (KEEP_OPERATOR_CONSOLE_PORT): {error.strerror}"
        ) from None


async def _opened(settings: Settings, startup: Startup, metrics: Metrics, stack: contextlib.AsyncExitStack) -> Room:
    name = f"keep-operator console {socket.gethostname()}"
    engine = database.connect(settings.database_url.get_secret_value(), application_name=name)
    stack.push_async_callback(engine.dispose)
    await start.step(startup, "database", lambda: _reach(engine))
    cluster_id = await start.step(startup, "schema", lambda: _cluster_id(engine, settings.cluster_id))
    link = connection.load(os.environ)
    cluster = await stack.enter_async_context(Cluster(link, count=metrics.count_api_request))
    await start.step(startup, "cluster", lambda: _checked(link))
    return Room(
        engine,
        cluster,
        cluster_id,
        Doorkeeper(cluster, time.monotonic),
        _now,
        ingest(Intake(engine, _now, settings.alert_retention), time.monotonic, per_second=settings.events_per_second),
    )


def pages_of(settings: Settings, stop: asyncio.Event) -> Pages:
    """What the pages need, for as long as nobody says ``stop``.

    Without a key of its own the process makes one: its sessions end with it, and no replica knows them.
    """
    keys = [each.get_secret_value() for each in settings.session_key]
    if not keys:
        log.warning(
            "KEEP_OPERATOR_SESSION_KEY is not set: everybody must sign in again after a restart, and at each replica"
        )
        keys = [Fernet.generate_key().decode()]
    padded = [each if each.endswith("=") else f"{each}=" for each in keys]
    once = json.loads(settings.signin_once.get_secret_value() or "{}")
    return Pages(Sessions(padded), Renderer(_now), Lists(time.monotonic), once, Hub(stop), settings.watch_namespaces)


def _now() -> datetime:
    return datetime.now(UTC)


async def _reach(engine: Engine) -> str:
    async with database.look(engine):
        return "reachable"


async def _cluster_id(engine: Engine, given: str) -> str:
    await schema.check(engine)
    async with database.look(engine) as conn:
        known = given or await installation.stored_cluster_id(conn)
    if not known:
        raise Unavailable(failures.SCHEMA_MISSING, "no operator has started with this database yet; start it first")
    return known


async def _checked(link: connection.Connection) -> str:
    await link.check()
    return link.source
