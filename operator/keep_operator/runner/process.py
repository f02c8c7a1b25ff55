"""The runner's process: waits for the database and its schema, works runs off, starts what is due, and ends in peace.

::

    database ──► schema ──► key ──► working            `/readyz` on the health port shows how far it is
    reachable    as new     fits
                 as we are

It knows nothing of Kubernetes. At SIGTERM it takes no more runs; those under way end, or are given back between two steps.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from datetime import UTC, datetime
from typing import Final

from keep_operator.errors import Refused, Unavailable
from keep_operator.runner import retention, schedules
from keep_operator.runner.execution import Means
from keep_operator.runner.measures import Measures, Waiting
from keep_operator.runner.tenants import Tenants
from keep_operator.runner.worker import Worker
from keep_operator.runtime import health, start
from keep_operator.runtime.health import Pulse, Startup, StepState
from keep_operator.runtime.metrics import Metrics
from keep_operator.settings import Settings
from keep_operator.store import engine as database
from keep_operator.store import failures, installation, queue, schema
from keep_operator.store.engine import Engine
from keep_operator.store.intake import Intake
from keep_operator.store.queue import Pace
from keep_operator.store.vault import Vault

log = logging.getLogger(__name__)

STEPS: Final = ("database", "schema", "key", "working")
# Connections of the pool: each run under way writes now and then, and waits little.
POOL: Final = 8


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Raises Unavailable where a port is taken, Refused where nothing will help."""
    startup, metrics, pulse, stop = Startup(STEPS), Metrics(), Pulse(time.monotonic), asyncio.Event()

    def end() -> None:
        startup.set("working", StepState.RUNNING, "stopping")
        stop.set()

    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, end)
    # A line for each job and each look would drown what is said of runs.
    logging.getLogger("procrastinate").setLevel(logging.WARNING)
    async with contextlib.AsyncExitStack() as stack:
        pages = await health.serve(
            settings.health_port, startup=startup, metrics=metrics, alive=lambda: start.stuck(pulse.lag_s())
        )
        stack.push_async_callback(pages.cleanup)
        log.info("serving /healthz, /readyz and /metrics", extra={"port": pages.addresses[0][1]})
        beating = asyncio.create_task(pulse.beat())
        stack.callback(beating.cancel)
        means = await start.unless(stop, _opened(settings, startup, metrics, stack))
        if means is not None:
            await _work(settings, means, startup, metrics, stop)
    log.info("stopped")


async def _work(settings: Settings, means: Means, startup: Startup, metrics: Metrics, stop: asyncio.Event) -> None:
    url = settings.database_url.get_secret_value()
    pace = Pace(settings.run_heartbeat_seconds, settings.run_stalled_seconds)
    places = settings.runs_at_once
    async with queue.opened(url, application_name=means.worker, places=places, pace=pace) as jobs:
        worker = Worker(means, jobs, places=places, pace=pace)
        metrics.plain_gauge(
            "keep_operator_runs_under_way", "Runs that this worker has now.", lambda: float(len(worker.under_way))
        )
        metrics.gauge(
            "keep_operator_runs_total",
            "Runs that ended here, by their state.",
            lambda: dict(worker.ended),
            label="state",
            counter=True,
        )
        waiting = Waiting()
        waiting.publish(metrics)
        ticking = schedules.keep(means.engine, means.measures.ticks_missed.inc)
        beside = [
            asyncio.create_task(each)
            for each in (
                worker.recover(),
                worker.listen(url),
                waiting.watch(means.engine),
                ticking,
                retention.keep(means.engine),
            )
        ]
        startup.set("working", StepState.DONE, f"{places} runs at once")
        log.info("working runs off", extra={"count": places})
        working = asyncio.create_task(worker.work(stop))
        try:
            # None of those beside ends by itself but by a bug, and without it runs would be lost in silence.
            await asyncio.wait((working, *beside), return_when=asyncio.FIRST_COMPLETED)
            stop.set()
            await working
            for each in beside:
                if each.done():
                    each.result()
        finally:
            for each in beside:
                each.cancel()
            await asyncio.gather(*beside, return_exceptions=True)


async def _opened(settings: Settings, startup: Startup, metrics: Metrics, stack: contextlib.AsyncExitStack) -> Means:
    worker = f"keep-operator runner {socket.gethostname()}/{os.getpid()}"
    engine = database.connect(settings.database_url.get_secret_value(), application_name=worker, pool_size=POOL)
    stack.push_async_callback(engine.dispose)
    vault = Vault(settings.encryption_key)
    await start.step(startup, "database", lambda: _reach(engine))
    await start.step(startup, "schema", lambda: schema.check(engine))
    await start.step(startup, "key", lambda: _trusted(engine, vault))
    intake = Intake(engine, lambda: datetime.now(UTC), settings.alert_retention)
    return Means(engine, vault, worker, intake, egress=Tenants(engine).egress, measures=Measures(metrics))


async def _reach(engine: Engine) -> str:
    async with database.look(engine):
        return "reachable"


async def _trusted(engine: Engine, vault: Vault) -> str:
    async with database.look(engine) as conn:
        stored = await installation.stored_key_name(conn)
    if stored is None:
        raise Unavailable(failures.SCHEMA_MISSING, "no operator has started with this database yet; start it first")
    if not vault.trust(stored):
        raise Refused(
            "EncryptionKeyMismatch",
            f"the database is sealed with key {stored}, and the runner was given {', '.join(vault.names)}: give it the "
            "operator's key (KEEP_OPERATOR_ENCRYPTION_KEY_FILE)",
        )
    return f"key {stored}"
