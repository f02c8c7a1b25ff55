"""The composition of the operator process: every room built once, and each handed what it needs."""

import random
import socket
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncEngine

from keep_operator.cluster.client import Cluster
from keep_operator.cluster.connection import Connection
from keep_operator.cluster.events import Recorder
from keep_operator.cluster.watch import MetadataWatch
from keep_operator.handlers import register
from keep_operator.handlers.register import Heard
from keep_operator.reconcile.credentials import SecretReader
from keep_operator.reconcile.database import Database
from keep_operator.reconcile.provider import Providers
from keep_operator.reconcile.shell import Shell
from keep_operator.reconcile.sweep import Sweep
from keep_operator.reconcile.tenant import Tenants
from keep_operator.reconcile.world import World
from keep_operator.resources.kinds import NAMESPACES, OURS, SECRETS, Key
from keep_operator.runtime.leader import Leadership
from keep_operator.runtime.metrics import Metrics
from keep_operator.runtime.workqueue import WorkQueue
from keep_operator.settings import Settings
from keep_operator.store import engine as store

LEASE: Final = "keep-operator"


@dataclass(frozen=True, slots=True)
class Rooms:
    """What the process is made of. ``watched`` are the namespaces that it looks after; empty: all."""

    database: Database
    link: Connection
    cluster: Cluster
    world: World
    shell: Shell
    secrets: MetadataWatch
    namespaces: MetadataWatch
    leadership: Leadership
    sweep: Sweep
    heard: Heard
    registry: Any
    watched: tuple[str, ...]


def build(  # one argument for each thing that has a life of its own
    settings: Settings, database: Database, link: Connection, cluster: Cluster, queue: WorkQueue, metrics: Metrics
) -> Rooms:
    """All rooms, connected; nothing runs yet."""
    world = World(queue, settings.default_tenant or None)
    secrets_in = settings.secret_namespaces or settings.watch_namespaces
    secrets = MetadataWatch(cluster, SECRETS, secrets_in, world.secret_changed)
    namespaces = MetadataWatch(cluster, NAMESPACES, (), world.namespace_changed, keep_labels=True)
    heard = Heard(time.monotonic)
    common: dict[str, Any] = {
        "world": world,
        "cluster": cluster,
        "database": database,
        "resync": settings.resync_period,
    }
    credentials = SecretReader(cluster, secrets, settings.encryption_key, secrets_in)
    shell = Shell(
        {
            "Tenant": Tenants(**common, runtime=settings.runtime),
            "Provider": Providers(**common, secrets=credentials, namespace_labels=namespaces.labels),
        },
        world=world,
        cluster=cluster,
        recorder=Recorder(cluster, instance=socket.gethostname(), clock=_now),
        now=_now,
        jitter=lambda: random.uniform(0.9, 1.1),  # noqa: S311 - spreads load, keeps no secret
    )
    leadership = Leadership(
        cluster,
        lease=Key("Lease", link.namespace, LEASE),
        identity=f"{socket.gethostname()}_{uuid.uuid4()}",
        length=timedelta(seconds=settings.lease_seconds),
        clock=time.monotonic,
        now=_now,
    )
    sweep = Sweep(world, cluster, settings.watch_namespaces, settings.sweep_interval)
    return Rooms(
        database=database,
        link=link,
        cluster=cluster,
        world=world,
        shell=shell,
        secrets=secrets,
        namespaces=namespaces,
        leadership=leadership,
        sweep=sweep,
        heard=heard,
        registry=register.register(world, metrics, heard, sweep.ask),
        watched=settings.watch_namespaces,
    )


def publish(built: Rooms, queue: WorkQueue, engine: AsyncEngine, metrics: Metrics) -> None:
    """Publish what is read when somebody asks for the metrics."""
    cache, leadership = built.world.cache, built.leadership
    metrics.gauge("keep_operator_queue_depth", "Keys that wait for a worker.", lambda: dict(queue.depths()))
    metrics.plain_gauge("keep_operator_queue_oldest_seconds", "Wait of the key that waits longest.", queue.oldest_s)
    metrics.plain_gauge("keep_operator_leader", "1 while this replica leads.", lambda: float(leadership.held))
    metrics.gauge(
        "keep_operator_watch_age_seconds",
        "Time since the watch of a kind last heard from the server.",
        lambda: {"Secret": built.secrets.age, "Namespace": built.namespaces.age, **built.heard.ages_s()},
    )
    metrics.gauge("keep_operator_objects", "Objects in the cache.", lambda: {r.kind: cache.count(r.kind) for r in OURS})
    metrics.gauge(
        "keep_operator_objects_not_ready",
        "Objects whose status does not say Ready for their present spec.",
        lambda: {r.kind: sum(not obj.ready for obj in cache.all(r.kind)) for r in OURS},
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


def _now() -> datetime:
    return datetime.now(UTC)
