"""The composition of the operator process: every room built once, and each handed what it needs."""

import random
import socket
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from keep_operator.cluster.client import Cluster
from keep_operator.cluster.connection import Connection
from keep_operator.cluster.events import Recorder
from keep_operator.cluster.watch import MetadataWatch
from keep_operator.domain import decision, run
from keep_operator.domain.history import Cause
from keep_operator.domain.links import Links
from keep_operator.handlers import register
from keep_operator.handlers.register import Heard
from keep_operator.reconcile.credentials import SecretReader
from keep_operator.reconcile.database import Database
from keep_operator.reconcile.decision import Decisions
from keep_operator.reconcile.definitions import Definitions
from keep_operator.reconcile.proof import Witness
from keep_operator.reconcile.provider import Providers
from keep_operator.reconcile.run import Runs
from keep_operator.reconcile.run_news import RunNews
from keep_operator.reconcile.sealer import Sealer
from keep_operator.reconcile.shell import Shell
from keep_operator.reconcile.sweep import Sweep
from keep_operator.reconcile.tenant import Tenants
from keep_operator.reconcile.tokens import TokenReader
from keep_operator.reconcile.workflow import Workflows
from keep_operator.reconcile.world import World
from keep_operator.resources.kinds import (
    CONFIG_MAPS,
    NAMESPACES,
    OURS,
    RECONCILED,
    SECRETS,
    WORKFLOW_DECISIONS,
    WORKFLOW_RUNS,
    Key,
)
from keep_operator.resources.objects import Object
from keep_operator.runtime.leader import Leadership
from keep_operator.runtime.metrics import Metrics
from keep_operator.runtime.workqueue import WorkQueue
from keep_operator.settings import Settings
from keep_operator.store import engine as store
from keep_operator.store.engine import Engine
from keep_operator.store.vault import Vault

LEASE: Final = "keep-operator"


@dataclass(frozen=True, slots=True)
class Rooms:
    """What the process is made of. ``watched`` are the namespaces that it looks after; empty: all."""

    database: Database
    vault: Vault
    link: Connection
    cluster: Cluster
    world: World
    shell: Shell
    secrets: MetadataWatch
    config_maps: MetadataWatch
    namespaces: MetadataWatch
    leadership: Leadership
    sweep: Sweep
    sealer: Sealer
    run_news: RunNews
    heard: Heard
    registry: Any
    watched: tuple[str, ...]

    def signs(self) -> dict[str, float]:
        """When each watch last showed a sign of life, by its name, in seconds of the monotonic clock."""
        signs = self.heard.signs()
        for watch in self.metadata_watches:
            signs |= watch.signs()
        return signs

    @property
    def metadata_watches(self) -> tuple[MetadataWatch, ...]:
        """The watches of what is not ours."""
        return (self.secrets, self.config_maps, self.namespaces)


def build(  # one argument for each thing that has a life of its own
    settings: Settings,
    database: Database,
    vault: Vault,
    link: Connection,
    cluster: Cluster,
    queue: WorkQueue,
    metrics: Metrics,
) -> Rooms:
    """All rooms, connected; nothing runs yet."""
    world = World(queue, settings.default_tenant or None)
    secrets_in = settings.secret_namespaces or settings.watch_namespaces
    clock = time.monotonic
    secrets = MetadataWatch(cluster, SECRETS, secrets_in, world.secret_changed, clock=clock)
    config_maps = MetadataWatch(cluster, CONFIG_MAPS, settings.watch_namespaces, world.config_map_changed, clock=clock)
    namespaces = MetadataWatch(cluster, NAMESPACES, (), world.namespace_changed, keep_labels=True, clock=clock)
    heard = Heard(clock, settings.watch_namespaces)
    common: dict[str, Any] = {
        "world": world,
        "cluster": cluster,
        "database": database,
        "resync": settings.resync_period,
        "owner_references": settings.owner_references,
    }
    of_tenants: dict[str, Any] = {
        **common,
        "namespace_labels": namespaces.labels,
        "namespaces": settings.watch_namespaces,
    }
    credentials = SecretReader(cluster, secrets, vault, secrets_in)
    links = Links(settings.console_url)
    recorder = Recorder(cluster, instance=socket.gethostname(), clock=_now, links=links)
    rollbacks = {cause: metrics.rollbacks.labels(cause) for cause in (Cause.CANARY, Cause.AUTO_ROLLBACK)}
    workflows = Workflows(
        **of_tenants,
        recorder=recorder,
        definitions=Definitions(cluster, config_maps),
        rolled_back=lambda cause: rollbacks[cause].inc(),
    )
    shell = Shell(
        {
            "Tenant": Tenants(
                **common, tokens=TokenReader(cluster, secrets, secrets_in), runtime=settings.runtime, clock=clock
            ),
            "Provider": Providers(**of_tenants, secrets=credentials, vault=vault),
            "Workflow": workflows,
            "WorkflowRun": Runs(**common, workflows=workflows, restore_labels=settings.restore_labels, links=links),
            "WorkflowDecision": Decisions(
                world=world,
                cluster=cluster,
                database=database,
                workflows=workflows,
                witness=Witness(cluster, _now),
                unverified=settings.decisions_unverified,
                owner_references=settings.owner_references,
            ),
        },
        world=world,
        cluster=cluster,
        recorder=recorder,
        now=_now,
        jitter=lambda: random.uniform(0.9, 1.1),  # noqa: S311 - spreads load, keeps no secret
        force_after=timedelta(seconds=settings.force_delete_seconds),
    )
    leadership = Leadership(
        cluster,
        lease=Key("Lease", link.namespace, LEASE),
        identity=f"{socket.gethostname()}_{uuid.uuid4()}",
        length=timedelta(seconds=settings.lease_seconds),
        clock=clock,
        now=_now,
    )
    sweep = Sweep(
        world,
        cluster,
        database,
        settings.watch_namespaces,
        settings.sweep_interval,
        leads=lambda: queue.is_open and leadership.held,
        clock=clock,
    )
    return Rooms(
        database=database,
        vault=vault,
        link=link,
        cluster=cluster,
        world=world,
        shell=shell,
        secrets=secrets,
        config_maps=config_maps,
        namespaces=namespaces,
        leadership=leadership,
        sweep=sweep,
        sealer=Sealer(database, settings.sweep_interval, time.monotonic),
        run_news=RunNews(world, database, recorder, _now, leads=lambda: queue.is_open and leadership.held, links=links),
        heard=heard,
        registry=register.register(world, metrics, heard, sweep.ask),
        watched=settings.watch_namespaces,
    )


def publish(built: Rooms, queue: WorkQueue, engine: Engine, metrics: Metrics) -> None:
    """Publish what is read when somebody asks for the metrics."""
    cache, leadership = built.world.cache, built.leadership
    metrics.gauge("keep_operator_queue_depth", "Keys that wait for a worker.", lambda: dict(queue.depths()))
    metrics.plain_gauge("keep_operator_queue_oldest_seconds", "Wait of the key that waits longest.", queue.oldest_s)
    metrics.plain_gauge("keep_operator_leader", "1 while this replica leads.", lambda: float(leadership.held))
    metrics.gauge(
        "keep_operator_watch_age_seconds",
        "Time since the watch of a kind last heard from the server.",
        lambda: {watch.resource.kind: watch.age for watch in built.metadata_watches} | built.heard.ages_s(),
    )
    metrics.gauge("keep_operator_objects", "Objects in the cache.", lambda: {r.kind: cache.count(r.kind) for r in OURS})
    metrics.gauge(
        "keep_operator_objects_not_ready",
        "Objects whose status does not say Ready for their present spec, decisions that are not handled, runs that have not ended.",
        lambda: {r.kind: sum(map(_waits, cache.all(r.kind))) for r in RECONCILED},
    )
    metrics.plain_gauge(
        "keep_operator_ledger_unsealed_seconds",
        "How long ledger entries of this replica have been waiting for their seals.",
        built.sealer.unsealed_s,
    )
    metrics.gauge(
        "keep_operator_database_connections",
        "Connections of the pool, by state.",
        lambda: {"in_use": store.pool(engine).in_use, "idle": store.pool(engine).idle},
        label="state",
    )
    metrics.gauge(
        "keep_operator_database_statements_total",
        "Statements and transactions since the start.",
        lambda: {"statement": store.queries(engine).statements, "transaction": store.queries(engine).transactions},
        label="what",
        counter=True,
    )


def _waits(obj: Object[Any]) -> bool:
    match obj.key.kind:
        case WORKFLOW_DECISIONS.kind:
            return not decision.is_handled(obj)
        case WORKFLOW_RUNS.kind:
            return not run.is_ended(obj)
        case _:
            return not obj.ready


def _now() -> datetime:
    return datetime.now(UTC)
