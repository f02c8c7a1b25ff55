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
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar

from keep_operator import rooms
from keep_operator.cluster import connection
from keep_operator.cluster.client import Cluster
from keep_operator.errors import KeepOperatorError, Refused, Unavailable
from keep_operator.handlers import informer
from keep_operator.reconcile.database import Database
from keep_operator.reconcile.tenant import default_key, ensure_default
from keep_operator.resources.kinds import LEASES, OURS, RECONCILED, Key
from keep_operator.rooms import Rooms
from keep_operator.runtime import health
from keep_operator.runtime.health import Contact, Pulse, Startup, StepState
from keep_operator.runtime.metrics import Metrics
from keep_operator.runtime.workers import Workers
from keep_operator.runtime.workqueue import WorkQueue
from keep_operator.settings import Settings
from keep_operator.store import changes, installation, schema
from keep_operator.store import engine as database
from keep_operator.store.engine import Engine
from keep_operator.store.vault import Vault

log = logging.getLogger(__name__)
T = TypeVar("T")

STEPS: Final = ("database", "migrations", "cluster", "leadership", "default tenant", "queue")
# Between attempts at one step of the start, in seconds: short enough that a fresh stack is up soon after its last part.
RETRY_FIRST_S: Final = 0.2
RETRY_LIMIT_S: Final = 5.0
# Seconds without the cache getting warm after which the server is asked again what there is.
EXPECT_AGAIN_S: Final = 10.0
# Between two questions to a database that is away, in seconds: objects are back within this and one look.
PROBE_S: Final = 1.0
# A worker that has made no progress for this long, while keys wait, is stuck (A-CTL-5), in seconds.
STUCK_S: Final = 300.0


class Process:
    """What the process is at any moment, for its pages and its end."""

    def __init__(self, silence_limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.startup = Startup(STEPS)
        self.metrics = Metrics()
        self.queue = WorkQueue(clock)
        self.workers: Workers | None = None
        self.pulse = Pulse(clock)
        self.contact = Contact(clock)
        self.signs: Callable[[], Mapping[str, float]] = dict
        self._silence_limit_s = silence_limit_s
        self.stop = asyncio.Event()

    def count(self, verb: str, target: str, status: int) -> None:
        """Note a request to the API server and how it was answered (0: not at all).

        What becomes of the Lease, renewed by the leader and looked at by the others, tells whether the server answers.
        """
        self.metrics.count_api_request(verb, target, status)
        if target == LEASES.plural:
            self.contact.note(answered=0 < status < 500 and status != 429)

    def alive(self) -> str | None:
        """None, or in words why the process should be restarted."""
        if self.pulse.lag_s() > health.LAG_LIMIT_S:
            return f"the event loop has been blocked for {self.pulse.lag_s():.0f} s"
        if (trouble := health.deaf(self.signs(), self.contact, self._silence_limit_s)) is not None:
            return trouble
        if self.workers is None or not self.queue.is_open:
            return None
        stuck_s = min(self._clock() - self.workers.last_progress, self.queue.oldest_s())
        if stuck_s > STUCK_S:
            return f"no reconcile has ended for {stuck_s:.0f} s while {self.queue.depth} keys wait"
        return None


async def operate(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; raises when it cannot go on and a restart is the remedy."""
    process = Process(settings.watch_silence_limit.total_seconds())
    _listen(process.stop)
    async with contextlib.AsyncExitStack() as stack:
        pages = await health.serve(
            settings.health_port, startup=process.startup, metrics=process.metrics, alive=process.alive
        )
        stack.push_async_callback(pages.cleanup)
        log.info("serving /healthz, /readyz and /metrics", extra={"port": pages.addresses[0][1]})
        _spawn(stack, process.pulse.beat())
        main = asyncio.create_task(run(process, settings, stack))
        stopped = asyncio.create_task(process.stop.wait())
        await asyncio.wait((main, stopped), return_when=asyncio.FIRST_COMPLETED)
        main.cancel()
        stopped.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await main
    log.info("stopped")


async def run(process: Process, settings: Settings, stack: contextlib.AsyncExitStack) -> None:
    """The process between its pages and its end; what it starts ends with ``stack``. Raises when a restart is the remedy."""
    startup = process.startup
    url = settings.database_url.get_secret_value()
    name = f"keep-operator {socket.gethostname()}"
    engine = database.connect(url, application_name=name, operates=True)
    stack.push_async_callback(engine.dispose)
    await _step(startup, "database", lambda: _reach(engine))
    await _step(startup, "migrations", lambda: _migrate(engine))
    vault = Vault(settings.encryption_key)
    cluster_id = await _identify(engine, settings.cluster_id, vault, startup)

    link = connection.load(os.environ)
    cluster = await stack.enter_async_context(Cluster(link, count=process.count))
    built = rooms.build(settings, Database(engine, cluster_id), vault, link, cluster, process.queue, process.metrics)
    process.signs = built.signs
    rooms.publish(built, process.queue, engine, process.metrics)
    process.workers = Workers(process.queue, built.shell.reconcile, process.metrics, time.monotonic)
    process.workers.start()
    await _step(startup, "cluster", lambda: _expect(built))
    for watch in built.metadata_watches:
        _spawn(stack, watch.run())
    kopf_task = asyncio.create_task(informer.run(built.registry, link, settings.watch_namespaces, built.heard.answered))
    holding: asyncio.Task[None] | None = None
    try:
        startup.set("cluster", StepState.RUNNING, "reading what is there")
        await _while((kopf_task,), _warm(built))
        _spawn(stack, built.sweep.run())
        startup.set("cluster", StepState.DONE, f"{sum(built.world.cache.count(r.kind) for r in OURS)} objects")
        _listen(process.stop)  # once more: kopf has put its own signal handlers in the place of ours
        await _while((kopf_task,), _stand_by(built, startup))
        holding = asyncio.create_task(_hold(built))
        await _while((kopf_task, holding), _step(startup, "leadership", lambda: _claim(built)))
        _spawn(stack, _watch_database(built))
        _spawn(stack, _follow_changes(built, url, name))
        _spawn(stack, built.sealer.run())
        await _while((kopf_task, holding), _step(startup, "default tenant", lambda: _default(built)))
        process.queue.open()
        startup.set("queue", StepState.DONE, "open")
        log.info("ready")
        await _while((kopf_task, holding), asyncio.Event().wait())  # until one of the two ends, which raises
    finally:
        await process.workers.stop()
        if holding is not None:
            await _end(holding)
        await built.leadership.release()
        await _end(kopf_task)


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


async def _reach(engine: Engine) -> str:
    async with database.look(engine):
        return "reachable"


async def _migrate(engine: Engine) -> str:
    migration = await schema.migrate(engine)
    if migration.before == migration.after:
        return f"schema {migration.after}"
    return f"schema {migration.before or 'none'} -> {migration.after}"


async def _identify(engine: Engine, given: str, vault: Vault, startup: Startup) -> str:
    while True:
        try:
            async with database.transaction(engine) as conn:
                identity = await installation.cluster_id(conn, given or None)
                fits = vault.trust(await installation.key_name(conn, vault.name))
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
        if not fits:
            log.error(
                "KEEP_OPERATOR_ENCRYPTION_KEY is not the key that the database is sealed with; no Provider is written until "
                "it is given back, or replaced by `keep-operator keys replace`",
                extra={"reason": "EncryptionKeyMismatch"},
            )
        return identity.cluster_id


async def _expect(built: Rooms) -> str:
    """Ask for everything that exists, so that the cache is known to be warm once all of it has been seen.

    Raises Unavailable `ApiResourceMissing` where our kinds are not served.
    """
    await built.link.check()
    uids: set[str] = set()
    for resource in OURS:
        everywhere = not (resource.namespaced and built.watched)
        for namespace in (None,) if everywhere else built.watched:
            listing = await built.cluster.list(resource, namespace, metadata_only=True)
            uids |= {item["metadata"]["uid"] for item in listing.items}
    built.world.cache.expect(uids)
    return f"{len(uids)} objects to read"


async def _warm(built: Rooms) -> None:
    """Wait until all that exists has been seen; what was deleted before the watch began is not waited for for ever."""
    await asyncio.gather(*(watch.synced.wait() for watch in built.metadata_watches))
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EXPECT_AGAIN_S):
                return await built.world.cache.warm()
        with contextlib.suppress(Unavailable):
            await _expect(built)


async def _stand_by(built: Rooms, startup: Startup) -> None:
    """Wait until this replica has the Lease; a standby is ready, it only does not write."""

    def stand_by(leader: str) -> None:
        startup.set("leadership", StepState.DONE, f"standing by, {leader} leads")
        startup.set("default tenant", StepState.DONE, "left to the leader")
        startup.set("queue", StepState.DONE, "closed until this replica leads")

    startup.set("leadership", StepState.RUNNING, "asking for the Lease")
    await built.leadership.acquire(stand_by)
    for later in ("leadership", "default tenant", "queue"):
        startup.set(later, StepState.PENDING)


async def _claim(built: Rooms) -> str:
    """Let the database know the new leader; raises Unavailable or Conflict where that takes another attempt."""
    epoch = built.leadership.epoch
    while (known := await built.database.claim(epoch)) is not None:
        epoch = await built.leadership.raise_epoch(above=known)
    return f"leading, epoch {epoch}"


async def _hold(built: Rooms) -> None:
    """Renew the Lease until it is lost, or until the database knows a newer leader; raises then."""
    renewing = asyncio.create_task(built.leadership.hold())
    deposed = asyncio.create_task(built.database.deposed.wait())
    try:
        await asyncio.wait((renewing, deposed), return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _end(renewing)
        await _end(deposed)
    raise Unavailable("LeadershipLost", "another replica leads; this process ends, to begin anew as a standby")


async def _watch_database(built: Rooms) -> None:
    """While the database holds objects up, ask it each second, and let them go on at once when it answers."""
    while True:
        await asyncio.sleep(PROBE_S)
        if built.shell.waits_for_database:
            with contextlib.suppress(KeepOperatorError):
                async with built.database.look():
                    built.shell.database_answers()


async def _follow_changes(built: Rooms, url: str, name: str) -> None:
    """Look at once at objects whose rows others change, and at all Providers when the database is sealed anew; tell of runs."""
    sealed_anew = asyncio.Event()

    def changed(key: Key) -> None:
        if key.kind in (resource.kind for resource in RECONCILED) and built.world.cache.get(key) is not None:
            built.world.queue.add(key)

    async def trust() -> None:
        while True:
            await sealed_anew.wait()
            sealed_anew.clear()
            fitted = built.vault.trusted
            with contextlib.suppress(KeepOperatorError):
                async with built.database.look() as conn:
                    built.vault.trust(await installation.stored_key_name(conn))
            if built.vault.trusted != fitted:
                for obj in built.world.cache.all("Provider"):
                    built.world.queue.add(obj.key, urgent=False)

    trusting, telling = asyncio.create_task(trust()), asyncio.create_task(built.run_news.run())
    try:
        await changes.follow(
            url,
            application_name=name,
            changed=changed,
            key_changed=sealed_anew.set,
            run_failed=built.run_news.failed,
            run_ended=built.run_news.ended,
            connected=built.run_news.may_have_missed,
        )
    finally:
        await _end(trusting)
        await _end(telling)


async def _default(built: Rooms) -> str:
    detail = await ensure_default(built.world, built.cluster)
    key = default_key(built.world)
    return detail if key is None else f"{detail}, {await built.shell.reconcile(key)}"


async def _while(guards: Sequence[asyncio.Task[None]], work: Awaitable[T]) -> T:
    """Await ``work`` while all ``guards`` live; the failure of one of them is ours."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait((*guards, task), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
    finally:
        await _end(task)
    for guard in guards:
        if guard.done():
            guard.result()
    raise asyncio.CancelledError


async def _end(task: asyncio.Future[Any]) -> None:
    """Cancel something and wait until it has ended, however it ends."""
    task.cancel()
    await asyncio.wait((task,))
    if not task.cancelled():
        task.exception()  # seen: whoever waits for the task is told


def _spawn(stack: contextlib.AsyncExitStack, work: Coroutine[Any, Any, None]) -> None:
    """Run something until the stack unwinds."""
    task = asyncio.create_task(work)

    async def end() -> None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    stack.push_async_callback(end)
