"""The floor: the operator's writes, sent by a client that looks at nothing, decides nothing and checks nothing.

For each Provider one metadata patch (finalizer, owner reference), one row with its ledger entry, and one status patch;
for each of the first ``waited`` ones also the waiting status before and the Event after, as the operator wrote them in
its run. Bodies are those of an object that the operator made Ready, so that they are of the same size. 32 at a time,
beside a client that creates the objects 64 at a time: the operator's own concurrency. It learns of objects from the
answers to their creation, so it pays for no watch.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from bench import rows
from bench.api import APPLY_IN_FLIGHT, Api, Json, in_flight
from keep_operator.resources.kinds import EVENTS, PROVIDERS, TENANTS, Resource
from keep_operator.runtime.workers import WORKERS

Job = Callable[[], Awaitable[Any]]
LAST: Final = None


@asynccontextmanager
async def at_work() -> AsyncIterator[Callable[[Job], None]]:
    """Takes jobs and does as many at a time as the operator would; the block ends when all are done."""
    jobs: asyncio.Queue[Job | None] = asyncio.Queue()

    async def work() -> None:
        while (job := await jobs.get()) is not None:
            await job()

    async with asyncio.TaskGroup() as group:
        for _ in range(WORKERS):
            group.create_task(work())
        yield jobs.put_nowait
        for _ in range(WORKERS):
            jobs.put_nowait(LAST)


@dataclass(frozen=True, slots=True)
class Sample:
    """What the operator wrote into one Provider and one Tenant, and what it said of a Provider that waits."""

    provider: Json
    tenant: Json
    waiting: Json


class Bare:
    """One cold apply by the bare client; use once."""

    def __init__(self, api: Api, pool: rows.Pool, sample: Sample) -> None:
        self._api = api
        self._pool = pool
        self._sample = sample
        self._uids: dict[str, str] = {}

    async def run(
        self, tenants: Sequence[Json], providers: Sequence[Json], *, tenants_first: bool, waited: int
    ) -> None:
        """Create everything in that order and make all of it Ready."""
        async with at_work() as give:
            if tenants_first:
                await self._tenants(tenants)
            waiting = {manifest["metadata"]["name"] for manifest in providers[:waited]}

            async def create(manifest: Json) -> None:
                made = await self._api.create(PROVIDERS, manifest)
                name = made["metadata"]["name"]
                self._uids[name] = made["metadata"]["uid"]
                if tenants_first or name in waiting:
                    give(partial(self._begin, manifest, waits=name in waiting, finish=tenants_first))

            await in_flight(providers, create, APPLY_IN_FLIGHT)
            if not tenants_first:
                await self._tenants(tenants)
                for manifest in providers:
                    event = manifest["metadata"]["name"] in waiting
                    give(partial(self._finish, manifest, event=event))

    async def _tenants(self, tenants: Sequence[Json]) -> None:
        async def create(manifest: Json) -> None:
            made = await self._api.create(TENANTS, manifest)
            self._uids[made["metadata"]["name"]] = made["metadata"]["uid"]
            await self._metadata(TENANTS, manifest, self._sample.tenant)
            await rows.add_tenant(self._pool, made["metadata"]["name"])
            await self._status(TENANTS, manifest, self._sample.tenant["status"])

        await in_flight(tenants, create, WORKERS)

    async def _begin(self, manifest: Json, *, waits: bool, finish: bool) -> None:
        if waits:
            await self._status(PROVIDERS, manifest, self._sample.waiting)
        if finish:
            await self._finish(manifest, event=waits)

    async def _finish(self, manifest: Json, *, event: bool) -> None:
        name, namespace = manifest["metadata"]["name"], manifest["metadata"]["namespace"]
        await self._metadata(PROVIDERS, manifest, self._sample.provider)
        await rows.add_provider(self._pool, manifest, self._uids[name], namespace, name)
        await self._status(PROVIDERS, manifest, self._sample.provider["status"])
        if event:
            await self._api.create(EVENTS, self._event(name, namespace))

    async def _metadata(self, resource: Resource, manifest: Json, sample: Json) -> None:
        owners = [dict(owner) for owner in sample["metadata"].get("ownerReferences") or ()]
        for owner in owners:  # the garbage collector removes objects whose owner's uid does not exist
            owner["name"] = manifest["spec"]["tenantRef"]["name"]
            owner["uid"] = self._uids[owner["name"]]
        metadata = {"finalizers": sample["metadata"]["finalizers"], "ownerReferences": owners}
        await self._api.send("PATCH", _path(resource, manifest), {"metadata": metadata})

    async def _status(self, resource: Resource, manifest: Json, status: Json) -> None:
        await self._api.send("PATCH", f"{_path(resource, manifest)}/status", {"status": status})

    def _event(self, name: str, namespace: str) -> Json:
        at = self._sample.provider["metadata"]["creationTimestamp"]
        involved = {"apiVersion": PROVIDERS.api_version, "kind": PROVIDERS.kind, "name": name, "namespace": namespace}
        return {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"namespace": namespace, "name": f"{name}.{uuid.uuid4().hex[:16]}"},
            "involvedObject": {**involved, "uid": self._uids[name]},
            "type": "Normal",
            "reason": "Ready",
            "message": "the record stands",
            "source": {"component": "bench"},
            "firstTimestamp": at,
            "lastTimestamp": at,
            "count": 1,
        }


def _path(resource: Resource, manifest: Json) -> str:
    return resource.path(manifest["metadata"].get("namespace"), manifest["metadata"]["name"])
