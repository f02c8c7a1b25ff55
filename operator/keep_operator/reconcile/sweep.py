"""Finds what the watches did not tell: objects that were deleted while a stream was broken, and records of such objects.

kopf lists again after a break and reports what it finds; what it does not find it does not report. So after each such
list, and once in a while, what we know is compared with a list of our own::

    cache ── not in the list, and not newer than it ──► taken for deleted: its dependants are woken
    rows  ── owner not in the list, twice in a row  ──► collected by the row's own deletion policy (A-GC-4)
    alerts ── not heard of for their retention      ──► forgotten

Rows are compared by the leader only, and only with lists that are complete. None is collected while some object asks for
it, nor while the database is seen to be behind the cluster (A-REV-13).
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from keep_operator.cluster.client import Cluster
from keep_operator.domain import collection, provider, reconstruction, recovery, tenant
from keep_operator.domain.collection import Lost, Notes
from keep_operator.domain.ownership import HolderState
from keep_operator.errors import KeepOperatorError, Unavailable
from keep_operator.reconcile import owners
from keep_operator.reconcile.database import Database
from keep_operator.reconcile.world import World
from keep_operator.resources.kinds import (
    CUSTOM_RESOURCE_DEFINITIONS,
    FIELD_MANAGER,
    OURS,
    PROVIDERS,
    TENANTS,
    WORKFLOWS,
    Resource,
)
from keep_operator.resources.objects import Object
from keep_operator.resources.shapes import Invalid
from keep_operator.store import alerts, lineages, providers, tenants, workflows

log = logging.getLogger(__name__)

# Between the first item of kopf's new list and ours, in seconds: one sweep for the whole list.
SETTLE: Final = timedelta(seconds=2)
# The kinds whose objects have a row of their own.
_RECORDED: Final = (TENANTS, PROVIDERS, WORKFLOWS)
# Batches of expired alerts that one sweep removes at most.
BATCHES: Final = 200
# Why a row went though nobody deleted its object here, as the ledger says.
OBJECT_GONE: Final = "ObjectGone"


@dataclass(slots=True)
class Found:
    """What one sweep came to, in numbers of objects and rows."""

    gone: int = 0
    missed: int = 0
    collected: int = 0
    _uids: set[str] = field(default_factory=set)


class Sweep:
    """Compares cache, database and server; ``namespaces`` are those that are watched, empty for all.

    ``leads`` says whether this replica may write; ``clock`` gives monotonic seconds.
    """

    def __init__(  # noqa: PLR0913 - all that is compared, and at what pace
        self,
        world: World,
        cluster: Cluster,
        database: Database,
        namespaces: Sequence[str],
        interval: timedelta,
        *,
        leads: Callable[[], bool],
        settle: timedelta = SETTLE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._world = world
        self._cluster = cluster
        self._database = database
        self._namespaces = tuple(namespaces)
        self._interval_s = interval.total_seconds()
        self._leads = leads
        self._settle_s = settle.total_seconds()
        self._clock = clock
        self._asked = asyncio.Event()
        self._notes: Notes = {}

    def ask(self) -> None:
        """Have a sweep soon; asking often is asking once."""
        self._asked.set()

    async def run(self) -> None:
        """Sweep when asked, and at every interval, until cancelled; a failed sweep changes nothing."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval_s):
                    await self._asked.wait()
                    await asyncio.sleep(self._settle_s)
            self._asked.clear()
            try:
                await self.once()
            except KeepOperatorError as error:
                log.warning(
                    "sweep failed, nothing was changed", extra={"reason": error.reason, "detail": error.message}
                )

    async def once(self) -> Found:
        """Compare once. Raises Unavailable where a list is not complete, before any row is touched."""
        found = Found()
        for resource in OURS:
            scopes = self._namespaces if resource.namespaced and self._namespaces else (None,)
            for namespace in scopes:
                await self._compare(resource, namespace, found)
        if self._leads():
            await self._collect(found)
            await self._forget_alerts()
        return found

    async def _compare(self, resource: Resource, namespace: str | None, found: Found) -> None:
        listing = await self._cluster.list(resource, namespace, metadata_only=True)
        there = {item["metadata"]["uid"] for item in listing.items}
        found._uids |= there
        as_of = int(listing.resource_version)
        gone = [
            obj
            for obj in self._world.cache.all(resource.kind)
            if obj.uid not in there and int(obj.resource_version) <= as_of and namespace in (None, obj.key.namespace)
        ]
        for obj in gone:
            log.info(
                "an object is gone, and no watch had told so", extra={"kind": resource.kind, "object": obj.key.path}
            )
            self._world.lose(obj)
        found.gone += len(gone)

    async def _collect(self, found: Found) -> None:
        definitions = {resource.kind: await self._definition(resource) for resource in _RECORDED}
        cache = self._world.cache
        known = {identity: obj for obj in cache.all(PROVIDERS.kind) if (identity := recovery.remembered(obj))}
        known_too = {identity: obj for obj in cache.all(WORKFLOWS.kind) if (identity := reconstruction.remembered(obj))}
        cluster_id, uids, namespaces = self._database.cluster_id, sorted(found._uids), self._namespaces or None
        async with self._database.look() as conn:
            there = await providers.existing(conn, list(known))
            behind = [obj for identity, obj in known.items() if identity not in there]
            latest = await lineages.latest(conn, list(known_too))
            behind += [
                obj for identity, obj in known_too.items() if latest.get(identity, -1) < reconstruction.latest_told(obj)
            ]
            missed = [
                *await providers.lost(conn, cluster_id, uids, namespaces),
                *await lineages.lost(conn, cluster_id, uids, namespaces),
                *await tenants.lost(conn, cluster_id, uids),
            ]
        known |= known_too
        found.missed = len(missed)
        if behind:
            self._tell_behind(behind)
            return
        self._notes, due = collection.judge(
            self._notes, missed, definitions, now_s=self._clock(), interval_s=self._interval_s
        )
        for lost in due:
            if not self._wanted(lost, known) and await self._gone(lost):
                await self._collect_one(lost)
                found.collected += 1

    async def _forget_alerts(self) -> None:
        """Remove alerts whose time is over, a batch at a time; what is left is the next sweep's (A-EVT-3)."""
        now = datetime.now(UTC)
        async with self._database.look() as conn:
            due = await alerts.expired(conn, now)
        for _ in range(BATCHES if due else 0):
            async with self._database.transaction() as conn:
                removed = await alerts.expire(conn, now)
            if removed < alerts.BATCH:
                return

    async def _definition(self, resource: Resource) -> str:
        """The uid of the kind's definition: it tells whether the lists of two sweeps speak of the same thing."""
        name = f"{resource.plural}.{resource.group}"
        raw = await self._cluster.get(CUSTOM_RESOURCE_DEFINITIONS, None, name)
        if raw is None:
            raise Unavailable("ApiResourceMissing", f"{name} is not defined on the API server")
        return str(raw["metadata"]["uid"])

    def _tell_behind(self, objects: Sequence[Object[Any]]) -> None:
        """The database lacks what these had: they tell it themselves, and no row is collected meanwhile."""
        log.warning(
            "the database is behind the cluster; no record is collected until `keep-operator recover` has mended it",
            extra={"objects": len(objects), "object": objects[0].key.path},
        )
        for obj in objects:
            self._world.queue.add(obj.key, urgent=False)

    def _wanted(self, lost: Lost, known: Mapping[UUID, Object[Any]]) -> bool:
        """Whether a living object asks for the row: it is woken, and takes the row over by itself."""
        if lost.kind == TENANTS.kind:
            heirs = [obj for obj in self._world.cache.find("tenant-id", lost.id) if not obj.deleting]
        else:
            heirs = [obj for obj in self._world.claiming(lost.name, lost.kind) if self._asks_for(obj, lost)]
            heirs += [obj for identity, obj in known.items() if str(identity) == lost.id]
        for obj in heirs:
            self._world.queue.add(obj.key)
        return bool(heirs)

    def _asks_for(self, obj: Object[Any], lost: Lost) -> bool:
        if obj.deleting or isinstance(obj.spec, Invalid):
            return False
        _, owner = self._world.tenant_of(obj)
        if owner is None or tenant.effective_id(owner) != lost.tenant_id:
            return False
        if lost.kind == WORKFLOWS.kind:
            return obj.status.get("workflowId") is None
        fits = provider.refusal(obj) is None and obj.spec.type == lost.type
        return fits and obj.status.get("providerId") is None

    async def _gone(self, lost: Lost) -> bool:
        """Ask once more, right before: a list is a moment old by now."""
        resource = next(each for each in _RECORDED if each.kind == lost.kind)
        state = await owners.state_of(self._cluster, self._world.cache, resource, lost.owner)
        return state is HolderState.GONE

    async def _collect_one(self, lost: Lost) -> None:
        async with self._database.transaction() as conn:
            told: dict[str, str] = {"actor": FIELD_MANAGER, "cause": OBJECT_GONE}
            if lost.kind == PROVIDERS.kind:
                act = providers.orphan if lost.policy == "Orphan" else providers.delete
                await act(conn, UUID(lost.id), lost.owner, **told)
            elif lost.kind == WORKFLOWS.kind:
                end = workflows.orphan if lost.policy == "Orphan" else workflows.delete
                await end(conn, UUID(lost.id), lost.owner, **told)
            elif lost.policy == "Orphan":
                await tenants.orphan(conn, lost.id, lost.owner, **told)
            else:
                await tenants.delete(conn, lost.id, lost.owner, **told)
        log.info(
            "the record of an object that is gone was collected",
            extra={"kind": lost.kind, "object": str(lost.owner), "policy": lost.policy, "record": lost.id},
        )
