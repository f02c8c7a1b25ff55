"""The whole inside of the operator (shell, world, queue, workers) on a simulated cluster, in virtual time.

Answers come late, events later, both as a seed decides; people edit meanwhile, the database and the API server go away,
the process is killed. Once that stops, everything must come to rest, with nobody forgotten: resync is switched off here,
so an object that nobody wakes stays as it is, and shows.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, cast
from uuid import UUID

from keep_operator.cluster.events import Subject
from keep_operator.reconcile.credentials import SecretReader
from keep_operator.reconcile.provider import Providers
from keep_operator.reconcile.shell import Shell
from keep_operator.reconcile.tenant import Tenants
from keep_operator.reconcile.tokens import TokenReader
from keep_operator.reconcile.world import World
from keep_operator.resources.kinds import OURS, Key
from keep_operator.runtime.metrics import Metrics
from keep_operator.runtime.workers import Workers
from keep_operator.runtime.workqueue import WorkQueue
from unit.builders import CLUSTER, NOW
from unit.reconcile import simulated
from unit.reconcile.exploration import check_rest
from unit.reconcile.simulated import Broken, Raw, Rows, Server
from unit.virtual_time import now_s

WORKERS: Final = 3
# Answers of database and API server take one of these, in seconds; events of watches as well.
LATENCIES_S: Final = (0.0, 0.001, 0.004, 0.02, 0.15)
# Longer than the longest back-off; with the quiet that follows still shorter than any deadline.
REST_S: Final = 320.0
QUIET_S: Final = 150.0
NEVER: Final = timedelta(days=365)


class _Recorder:
    """Counts what it is told, by object and reason."""

    def __init__(self) -> None:
        self.told: list[tuple[Key, str, str]] = []

    async def record(self, subject: Subject, kind: str, reason: str, message: str) -> None:
        self.told.append((Key(subject.resource.kind, subject.namespace, subject.name), kind, reason))


class _Errors(logging.Handler):
    """What the operator called an error: there must be none."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        cause = record.exc_info[1] if record.exc_info else None
        self.found.append(f"{record.getMessage()}: {cause!r} {vars(record).get('object', '')}")


class Simulation:
    """A cluster, a database and an operator; ``seed`` decides how long each answer and each event takes."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self.rows = Rows(pause=self._pause)
        self.server = Server(now=self.now, pause=self._pause, rows=self.rows, emit=self._emit)
        self.rows.server = self.server
        self.recorder = _Recorder()
        self.errors = _Errors()
        self.looks = 0
        self._feeds: dict[str, list[tuple[str, Raw]]] = {}
        self._arrived = asyncio.Event()
        self._versions: dict[tuple[str, str], str] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._workers: Workers | None = None
        self.queue: WorkQueue
        self.world: World
        self.shell: Shell

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Put the simulated store in place, and note errors that are logged."""
        logger = logging.getLogger("keep_operator")
        level, propagate = logger.level, logger.propagate
        logger.setLevel(logging.ERROR)
        logger.propagate = False
        logger.addHandler(self.errors)
        try:
            with simulated.in_place_of_the_store(self._new_id):
                yield
        finally:
            logger.removeHandler(self.errors)
            logger.setLevel(level)
            logger.propagate = propagate

    def now(self) -> datetime:
        """The simulated time of day."""
        return NOW + timedelta(seconds=now_s())

    def start(self) -> None:
        """Start an operator: it lists, follows the watches, and works."""
        self.queue = WorkQueue(now_s, jitter=lambda: self._random.uniform(0.5, 1.0))
        self.world = World(self.queue, "keep")
        given: dict[str, Any] = {
            "world": self.world,
            "cluster": self.server,
            "database": simulated.Database(self.rows, CLUSTER),
            "resync": NEVER,
        }
        vault = simulated.GlassVault()
        secrets = SecretReader(cast(Any, self.server), cast(Any, self), vault)
        kinds: dict[str, Any] = {
            "Tenant": Tenants(
                **given,
                tokens=TokenReader(cast(Any, self.server), cast(Any, self)),
                runtime="builtin",
                clock=now_s,
            ),
            "Provider": Providers(**given, secrets=secrets, vault=vault, namespace_labels=lambda _: {}),
        }
        self.shell = Shell(
            kinds,
            world=self.world,
            cluster=cast(Any, self.server),
            recorder=cast(Any, self.recorder),
            now=self.now,
            jitter=lambda: 1.0,
        )
        self._feeds = {"Tenant": [], "Provider": [], "Secret": []}
        for key, raw in self.server.objects.items():
            self.world.take(simulated.parse(key.kind, raw), urgent=False)
        self._versions = {name: str(raw["metadata"]["resourceVersion"]) for name, raw in self.server.secrets.items()}
        self.queue.open()
        self._workers = Workers(self.queue, self._reconcile, Metrics(), now_s, WORKERS)
        self._workers.start()
        self._tasks = [asyncio.create_task(self._follow(kind)) for kind in self._feeds]
        self._tasks.append(asyncio.create_task(self._ask_for_database()))

    async def kill(self) -> None:
        """End the operator at once, wherever it is."""
        tasks = [*self._tasks, *(self._workers._tasks if self._workers else ())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks, self._workers, self._feeds = [], None, {}

    async def collect(self) -> None:
        """The garbage collector, once a second; for ever."""
        while True:
            await asyncio.sleep(1.0)
            self.server.collect()

    def version(self, namespace: str, name: str) -> str | None:
        """What the watch of Secrets knows."""
        return self._versions.get((namespace, name))

    def put_secret(self, namespace: str, name: str, data: Mapping[str, str] | None) -> None:
        """Create, change or delete a Secret; the watch tells later."""
        self.server.put_secret(namespace, name, data)
        raw = self.server.secrets.get((namespace, name))
        gone = {"metadata": {"namespace": namespace, "name": name, "resourceVersion": None}}
        self._emit("MODIFIED", "Secret", gone if raw is None else raw)

    async def check_at_rest(self) -> None:
        """All is well, and a fresh look at every object finds nothing to do."""
        assert not self.errors.found, self.errors.found
        assert not self.queue.depth, self.queue.depths()
        simulated.check_rows(self.rows, self.server)
        for key, raw in list(self.server.objects.items()):
            check_rest(key, self.server, self.rows)
            obj = self.world.cache.get(key)
            if obj is None or obj.resource_version != raw["metadata"]["resourceVersion"]:
                raise Broken(f"the cache does not know {key} as it is")
            kind = self.shell._kinds[key.kind]
            plan = kind.plan(await kind.observe(obj), self.now())
            if plan.actions:
                raise Broken(f"{key} was forgotten: {plan.actions}")
            if plan.status is not None and plan.status != obj.status:
                raise Broken(f"{key} was forgotten: it says {obj.status} in place of {plan.status}")
        for resource in OURS:
            if self.world.cache.count(resource.kind) != len(self.server.all(resource.kind)):
                raise Broken(f"the cache holds a {resource.kind} that is gone")

    async def _reconcile(self, key: Key) -> str:
        self.looks += 1
        return await self.shell.reconcile(key)

    def _new_id(self) -> UUID:
        self.rows.made += 1
        return UUID(int=self.rows.made)

    async def _pause(self) -> None:
        await asyncio.sleep(self._random.choice(LATENCIES_S))

    def _emit(self, event: str, kind: str, raw: Raw) -> None:
        if kind in self._feeds:
            self._feeds[kind].append((event, raw))
            self._arrived.set()

    async def _follow(self, kind: str) -> None:
        feed = self._feeds[kind]
        while True:
            while feed:
                await self._pause()
                event, raw = self._next(feed)
                if kind == "Secret":
                    self._learn_secret(raw)
                elif event == "DELETED":
                    self.world.lose(simulated.parse(kind, raw))
                else:
                    self.world.take(simulated.parse(kind, raw))
            self._arrived.clear()
            await self._arrived.wait()

    def _next(self, feed: list[tuple[str, Raw]]) -> tuple[str, Raw]:
        """Some event of those that are under way: kopf keeps their order for each object, not among several."""
        about = self._random.choice(feed)[1]["metadata"]
        same = (about["name"], about.get("uid"))
        first = next(
            n for n, (_, raw) in enumerate(feed) if (raw["metadata"]["name"], raw["metadata"].get("uid")) == same
        )
        return feed.pop(first)

    async def _ask_for_database(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            if self.shell.waits_for_database and not self.rows.down:
                self.shell.database_answers()

    def _learn_secret(self, raw: Raw) -> None:
        metadata = raw["metadata"]
        name = metadata["namespace"], metadata["name"]
        if metadata["resourceVersion"] is None:
            self._versions.pop(name, None)
        else:
            self._versions[name] = metadata["resourceVersion"]
        self.world.secret_changed(*name)


Story = Callable[[Simulation], Any]


@contextlib.asynccontextmanager
async def operating(seed: int = 0) -> AsyncIterator[Simulation]:
    """A simulation with an operator that works, and a garbage collector."""
    simulation = Simulation(seed)
    with simulation.running():
        collector = asyncio.create_task(simulation.collect())
        simulation.start()
        yield simulation
        collector.cancel()
        await simulation.kill()


async def play(seed: int, steps: list[tuple[float, Story]]) -> None:
    """Let people act, each step after its delay in seconds; then wait until all must be at rest, and check it."""
    async with operating(seed) as simulation:
        for delay_s, act in steps:
            await asyncio.sleep(delay_s)
            done = act(simulation)
            if done is not None:
                await done
        simulation.rows.down = simulation.server.down = False
        simulation.rows.lost_answers = 0
        await asyncio.sleep(REST_S)
        await simulation.check_at_rest()
        await _check_quiet(simulation)
        await _check_removal(simulation)


async def _check_quiet(simulation: Simulation) -> None:
    """At rest nothing is written at all (A-DR-2)."""
    writes, rows = len(simulation.server.patches), repr(replace(simulation.rows, server=None))
    await asyncio.sleep(QUIET_S)
    late = simulation.server.patches[writes:]
    assert not late, f"written at rest: {late}"
    assert repr(replace(simulation.rows, server=None)) == rows, "a row was written at rest"
    await simulation.check_at_rest()


async def _check_removal(simulation: Simulation) -> None:
    """Whatever has happened, everything can be deleted, and then nothing is left but what was to stay."""
    for key in list(simulation.server.objects):
        if key in simulation.server.objects:
            simulation.server.delete(key)
    await asyncio.sleep(REST_S)
    left = [str(key) for key in simulation.server.objects]
    assert not left, f"never released: {left}"
    simulated.check_rows(simulation.rows, simulation.server)
    assert not simulation.errors.found, simulation.errors.found
