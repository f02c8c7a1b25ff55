"""The operator process: builds the rooms, starts them in their order, and takes them down again.

The order of the start is a promise (P2), and `/readyz` shows how far it is::

    database ──► migrations ──► cluster ──► leadership ──► default tenant ──► queue
    reachable    done once,     our kinds   one replica;   made if absent,    opens
                 under a lock   are served, the others     and Ready
                                cache warm  stand by here

Several replicas may start at once: one leads, and the others keep their caches warm until it is gone.
"""

import asyncio
import contextlib
import logging
import os
import random
import signal
import socket
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from keep_operator.cluster import connection
from keep_operator.cluster.client import Cluster
from keep_operator.cluster.events import Recorder
from keep_operator.cluster.watch import MetadataWatch
from keep_operator.errors import KeepOperatorError, Refused, Unavailable
from keep_operator.handlers import informer, register
from keep_operator.reconcile.credentials import SecretReader
from keep_operator.reconcile.provider import Providers
from keep_operator.reconcile.shell import Shell
from keep_operator.reconcile.tenant import Tenants, default_key, ensure_default
from keep_operator.reconcile.world import World
from keep_operator.reconcile.writes import Writes
from keep_operator.resources.kinds import NAMESPACES, OURS, SECRETS
from keep_operator.runtime import health
from keep_operator.runtime.health import Pulse, Startup, StepState
from keep_operator.runtime.leader import Leadership
from keep_operator.runtime.metrics import Metrics
from keep_operator.runtime.workers import Workers
from keep_operator.runtime.workqueue import WorkQueue
from keep_operator.settings import Settings
from keep_operator.store import engine as database
from keep_operator.store import installation, schema

log = logging.getLogger(__name__)
T = TypeVar("T")

STEPS: Final = ("database", "migrations", "cluster", "leadership", "default tenant", "queue")
LEASE: Final = "keep-operator"
# Between attempts at one step of the start, in seconds: short enough that a fresh stack is up soon after its last part.
RETRY_FIRST_S: Final = 0.2
RETRY_LIMIT_S: Final = 5.0
# Seconds without the cache getting warm after which the server is asked again what there is.
EXPECT_AGAIN_S: Final = 10.0
# A worker that has made no progress for this long, while keys wait, is stuck (A-CTL-5), in seconds.
STUCK_S: Final = 300.0


async def operate(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; raises when it cannot go on and a restart is the remedy."""
    startup, metrics, stop = Startup(STEPS), Metrics(), asyncio.Event()
    _listen(stop)
    pulse = Pulse(time.monotonic)
    queue = WorkQueue(time.monotonic)
    workers: list[Workers] = []

    def alive() -> str | None:
        if pulse.lag_s() > health.LAG_LIMIT_S:
            return f"the event loop has been blocked for {pulse.lag_s():.0f} s"
        stuck_s = time.monotonic() - workers[0].last_progress if workers and queue.is_open and queue.depth else 0.0
        return (
            f"no reconcile has ended for {stuck_s:.0f} s while {queue.depth} keys wait" if stuck_s > STUCK_S else None
        )

    async with contextlib.AsyncExitStack() as stack:
        pages = await health.serve(settings.health_port, startup=startup, metrics=metrics, alive=alive)
        stack.push_async_callback(pages.cleanup)
        port = pages.addresses[0][1]
        log.info("serving /healthz, /readyz and /metrics", extra={"port": port})
        _spawn(stack, pulse.beat())
        main = asyncio.create_task(_run(settings, startup, metrics, queue, workers, stop, stack))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait((main, stopped), return_when=asyncio.FIRST_COMPLETED)
        main.cancel()
        stopped.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await main
    log.info("stopped")


async def _run(
    settings: Settings,
    startup: Startup,
    metrics: Metrics,
    queue: WorkQueue,
    workers: list[Workers],
    stop: asyncio.Event,
    stack: contextlib.AsyncExitStack,
) -> None:
    engine = database.connect(
        settings.database_url.get_secret_value(), application_name=f"keep-operator {socket.gethostname()}"
    )
    stack.push_async_callback(engine.dispose)
    _publish(metrics, queue, engine)
    await _step(startup, "database", lambda: _reach(engine))
    await _step(startup, "migrations", lambda: _migrate(engine))
    cluster_id = await _identify(engine, settings.cluster_id, startup)

    link = connection.load(os.environ)
    cluster = await stack.enter_async_context(Cluster(link, count=metrics.count_api_request))
    world = World(queue, settings.default_tenant or None)
    watched = settings.watch_namespaces
    secrets_in = settings.secret_namespaces or watched
    secrets = MetadataWatch(cluster, SECRETS, secrets_in, world.secret_changed)
    namespaces = MetadataWatch(cluster, NAMESPACES, (), world.namespace_changed, keep_labels=True)
    writes = Writes(engine)
    common: dict[str, Any] = {
        "world": world,
        "cluster": cluster,
        "engine": engine,
        "writes": writes,
        "cluster_id": cluster_id,
    }
    shell = Shell(
        {
            "Tenant": Tenants(**common, runtime=settings.runtime, resync=settings.resync_period),
            "Provider": Providers(
                **common,
                secrets=SecretReader(cluster, secrets, settings.encryption_key, secrets_in),
                resync=settings.resync_period,
                namespace_labels=namespaces.labels,
            ),
        },
        world=world,
        cluster=cluster,
        recorder=Recorder(cluster, instance=socket.gethostname(), clock=lambda: datetime.now(UTC)),
        now=lambda: datetime.now(UTC),
        jitter=lambda: random.uniform(0.9, 1.1),  # noqa: S311 - spreads load, keeps no secret
    )
    heard = register.Heard(time.monotonic)
    workers.append(Workers(queue, shell.reconcile, metrics, time.monotonic))
    workers[0].start()
    metrics.gauge(
        "keep_operator_watch_age_seconds",
        "Time since the watch of a kind last heard from the server.",
        lambda: {"Secret": secrets.age, "Namespace": namespaces.age, **heard.ages_s()},
    )
    metrics.gauge(
        "keep_operator_objects", "Objects in the cache.", lambda: {r.kind: world.cache.count(r.kind) for r in OURS}
    )
    metrics.gauge(
        "keep_operator_objects_not_ready",
        "Objects whose status does not say Ready for their present spec.",
        lambda: {r.kind: sum(not obj.ready for obj in world.cache.all(r.kind)) for r in OURS},
    )

    await _step(startup, "cluster", lambda: _expect(link, cluster, world, watched))
    for watch in (secrets, namespaces):
        _spawn(stack, watch.run())
    registry = register.register(world, metrics, heard)
    # kopf cancels every task younger than itself when it ends: everything of ours has been started above.
    leadership = Leadership(
        cluster,
        namespace=link.namespace,
        name=LEASE,
        identity=f"{socket.gethostname()}_{uuid.uuid4()}",
        length=timedelta(seconds=settings.lease_seconds),
        clock=time.monotonic,
        now=lambda: datetime.now(UTC),
    )
    metrics.plain_gauge("keep_operator_leader", "1 while this replica leads.", lambda: float(leadership.held))
    holding: asyncio.Task[None] | None = None
    kopf_task = asyncio.create_task(informer.run(registry, link, watched, heard.answered))
    try:
        startup.set("cluster", StepState.RUNNING, "reading what is there")
        await _while(kopf_task, asyncio.gather(secrets.synced.wait(), namespaces.synced.wait()))
        await _while(kopf_task, _warm(link, cluster, world, watched))
        startup.set("cluster", StepState.DONE, f"{sum(world.cache.count(r.kind) for r in OURS)} objects")
        _listen(stop)  # once more: kopf has put its own signal handlers in the place of ours
        await _while(kopf_task, _lead(leadership, writes, engine, startup))
        holding = asyncio.create_task(leadership.hold())
        await _while(kopf_task, _step(startup, "default tenant", lambda: _default(world, cluster, shell)))
        queue.open()
        startup.set("queue", StepState.DONE, "open")
        log.info("ready")
        await asyncio.wait((kopf_task, holding), return_when=asyncio.FIRST_COMPLETED)
        if holding.done():
            raise Unavailable("LeadershipLost", "the Lease was lost; the process ends, to begin as a standby")
        await kopf_task  # raises when a watch broke for good
    finally:
        await workers[0].stop()
        if holding is not None:
            holding.cancel()
            await leadership.release()
        kopf_task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await kopf_task


def _listen(stop: asyncio.Event) -> None:
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)


async def _step(startup: Startup, name: str, attempt: Callable[[], Awaitable[str]]) -> None:
    """Try until it works: what is not there yet will come, and `/readyz` says what is missing."""
    delay_s, told = RETRY_FIRST_S, ""
    startup.set(name, StepState.RUNNING)
    while True:
        try:
            detail = await attempt()
        except KeepOperatorError as error:
            state = StepState.FAILED if isinstance(error, Refused) else StepState.RUNNING
            startup.set(name, state, str(error))
            if told != error.reason:
                told = error.reason
                level = logging.ERROR if isinstance(error, Refused) else logging.WARNING
                log.log(level, error.message, extra={"step": name, "reason": error.reason})
            await asyncio.sleep(max(delay_s, getattr(error, "retry_after_s", None) or 0.0))
            delay_s = min(RETRY_LIMIT_S, delay_s * 2)
        else:
            startup.set(name, StepState.DONE, detail)
            log.info("started", extra={"step": name, "detail": detail or None})
            return


async def _reach(engine: AsyncEngine) -> str:
    async with database.look(engine):
        return "reachable"


async def _migrate(engine: AsyncEngine) -> str:
    migration = await schema.migrate(engine)
    if migration.before == migration.after:
        return f"schema {migration.after}"
    return f"schema {migration.before or 'none'} -> {migration.after}"


async def _identify(engine: AsyncEngine, given: str, startup: Startup) -> str:
    while True:
        try:
            async with database.transaction(engine) as conn:
                identity = await installation.cluster_id(conn, given or None)
        except Unavailable as error:
            startup.set("migrations", StepState.RUNNING, str(error))
            await asyncio.sleep(1.0)
            continue
        startup.set("migrations", StepState.DONE, f"schema {schema.REVISION}")
        if identity.cluster_id != identity.stored:
            log.warning(
                "KEEP_OPERATOR_CLUSTER_ID differs from the one in the database; rows of that one are left alone",
                extra={"given": identity.cluster_id, "stored": identity.stored},
            )
        return identity.cluster_id


async def _expect(link: connection.Connection, cluster: Cluster, world: World, namespaces: tuple[str, ...]) -> str:
    """Ask for everything that exists, so that the cache is known to be warm once all of it has been seen.

    Raises Unavailable `ApiResourceMissing` where our kinds are not served.
    """
    await link.check()
    uids: set[str] = set()
    for resource in OURS:
        for namespace in namespaces if resource.namespaced and namespaces else (None,):
            listing = await cluster.list(resource, namespace, metadata_only=True)
            uids |= {item["metadata"]["uid"] for item in listing.items}
    world.cache.expect(uids)
    return f"{len(uids)} objects to read"


async def _warm(link: connection.Connection, cluster: Cluster, world: World, namespaces: tuple[str, ...]) -> None:
    """Wait until all that exists has been seen; what was deleted before the watch began is not waited for for ever."""
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EXPECT_AGAIN_S):
                return await world.cache.warm()
        with contextlib.suppress(Unavailable):
            await _expect(link, cluster, world, namespaces)


async def _lead(leadership: Leadership, writes: Writes, engine: AsyncEngine, startup: Startup) -> None:
    """Wait until this replica leads, and until the database knows it; a standby is ready, it only does not write."""

    def stand_by(leader: str) -> None:
        startup.set("leadership", StepState.DONE, f"standing by, {leader} leads")
        startup.set("default tenant", StepState.DONE, "left to the leader")
        startup.set("queue", StepState.DONE, "closed until this replica leads")

    startup.set("leadership", StepState.RUNNING, "asking for the Lease")
    epoch = await leadership.acquire(stand_by)
    for later in ("leadership", "default tenant", "queue"):
        startup.set(later, StepState.PENDING)
    while True:
        async with database.transaction(engine) as conn:
            known = await installation.claim(conn, epoch)
        if known is None:
            break
        epoch = await leadership.raise_epoch(above=known)
    writes.epoch = epoch
    startup.set("leadership", StepState.DONE, f"leading, epoch {epoch}")
    log.info("leading", extra={"epoch": epoch})


async def _default(world: World, cluster: Cluster, shell: Shell) -> str:
    detail = await ensure_default(world, cluster)
    key = default_key(world)
    return detail if key is None else f"{detail}, {await shell.reconcile(key)}"


async def _while(guard: asyncio.Task[None], work: Awaitable[T]) -> T:
    """Await ``work`` while ``guard`` lives; the guard's failure is ours."""
    task = asyncio.ensure_future(work)
    await asyncio.wait((guard, task), return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        return task.result()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    guard.result()
    raise asyncio.CancelledError


def _spawn(stack: contextlib.AsyncExitStack, work: Coroutine[Any, Any, None]) -> None:
    """Run something until the stack unwinds."""
    task = asyncio.create_task(work)

    async def end() -> None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    stack.push_async_callback(end)


def _publish(metrics: Metrics, queue: WorkQueue, engine: AsyncEngine) -> None:
    metrics.gauge("keep_operator_queue_depth", "Keys that wait for a worker.", lambda: dict(queue.depths()))
    metrics.plain_gauge("keep_operator_queue_oldest_seconds", "Wait of the key that waits longest.", queue.oldest_s)
    metrics.gauge(
        "keep_operator_database_connections",
        "Connections of the pool, by state.",
        lambda: {"in_use": database.pool(engine).in_use, "idle": database.pool(engine).idle},
        label="state",
    )
    metrics.gauge(
        "keep_operator_database_statements_total",
        "Statements and transactions since the start.",
        lambda: {
            "statement": database.queries(engine).statements,
            "transaction": database.queries(engine).transactions,
        },
        label="what",
        counter=True,
    )
