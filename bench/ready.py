"""P-1: one cold apply of N Providers of ten Tenants, from the first create to the last Ready.

::

    order            ours ──► floor (the same writes, as counted)      plain kopf
    tenants first     N         N                                      min(N, 500), scaled to N
    providers first   N         N                                      min(N, 500), scaled to N

Every run begins with an empty database and no objects, and with its operator up. The same client applies, 64 in
flight, and the same watch sees when all are Ready. All runs share one sandbox, so that ratios stand on one ground.
"""

import asyncio
import contextlib
import os
import platform
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

from bench import rows
from bench.api import Api, provider, tenant
from bench.bare import Bare, Sample
from bench.harness import NAMESPACE, Stage
from keep_operator.resources.kinds import PROVIDERS, TENANTS

TENANT_COUNT: Final = 10
ORDERS: Final = ("tenants_first", "providers_first")
# No run takes longer, in seconds; what is Ready by then is scaled to all, and the result says so.
RUN_LIMIT_S: Final = 120.0
# Writes per object that A-CTL-8 allows: metadata and status; with a wait also the waiting status and the Event.
BUDGET: Final = 2
BUDGET_OF_WAIT: Final = 2
# After the last Ready, in seconds: Events are written last, and must be in the count.
SETTLE_S: Final = 1.0

Apply = Callable[[list[dict[str, Any]], list[dict[str, Any]]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Run:
    """One cold apply. ``seconds`` are scaled to ``objects`` where fewer were applied or became Ready."""

    objects: int
    measured: int
    seconds: float
    apply_s: float
    writes: dict[str, int]
    writes_seen: int
    ms_per_write: float
    rss_mb: float = 0.0
    cpu_s: float = 0.0


async def measure(stage: Stage, objects: int, kopf_objects: int, say: Callable[[str], None]) -> dict[str, Any]:
    """All runs, as the document that becomes ready.json."""
    orders: dict[str, dict[str, Run]] = {}
    sample: Sample | None = None
    for order in ORDERS:
        runs = orders[order] = {}
        runs["ours"] = await _ours(stage, objects, order)
        say(f"{order}: ours {runs['ours'].seconds:.1f} s")
        sample = sample or await _sample(stage.api)
        waited = runs["ours"].writes.get("POST events", 0)
        runs["floor"] = await _floor(stage, objects, order, sample, waited)
        say(f"{order}: floor {runs['floor'].seconds:.1f} s")
    for order in ORDERS:
        orders[order]["kopf"] = await _kopf(stage, objects, min(objects, kopf_objects), order)
        say(f"{order}: plain kopf {orders[order]['kopf'].seconds:.1f} s")
    await stage.api.clear()
    return _document(objects, orders)


def _document(objects: int, orders: dict[str, dict[str, Run]]) -> dict[str, Any]:
    worst = max(ORDERS, key=lambda order: orders[order]["ours"].seconds / orders[order]["floor"].seconds)
    chosen, first = orders[worst], orders["tenants_first"]
    # Applied before their Tenants all may wait; applied right after them those do whose Tenant is not Ready yet.
    waits = objects if worst == "providers_first" else chosen["ours"].writes.get("POST events", 0)
    return {
        "objects": objects,
        "order": worst,
        "floor_s": round(chosen["floor"].seconds, 2),
        "ours_s": round(chosen["ours"].seconds, 2),
        "kopf_s": round(first["kopf"].seconds, 2),
        "kopf_order": "tenants_first",
        "writes_expected": (objects + TENANT_COUNT) * BUDGET + waits * BUDGET_OF_WAIT,
        "writes_seen": chosen["ours"].writes_seen,
        "rss_mb": round(max(runs["ours"].rss_mb for runs in orders.values()), 1),
        "ours_to_floor": round(chosen["ours"].seconds / chosen["floor"].seconds, 2),
        "kopf_to_ours": round(first["kopf"].seconds / first["ours"].seconds, 2),
        "kopf_worst_s": round(max(runs["kopf"].seconds for runs in orders.values()), 2),
        "kopf_measured_objects": first["kopf"].measured,
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "load_1min": os.getloadavg()[0]},
        "orders": {order: {name: asdict(run) for name, run in runs.items()} for order, runs in orders.items()},
    }


async def _ours(stage: Stage, objects: int, order: str) -> Run:
    await stage.api.clear()
    with stage.database() as url:
        async with stage.operator(url) as process:
            cpu_before_s = process.cpu_s
            run = await _timed(stage.api, objects, objects, _applied(stage.api, order))
            return _with(run, process.rss_mb, process.cpu_s - cpu_before_s)


async def _floor(stage: Stage, objects: int, order: str, sample: Sample, waited: int) -> Run:
    await stage.api.clear()
    with stage.database() as url:
        async with rows.opened(url) as pool:
            await rows.make_tables(pool)
            bare = Bare(stage.api, pool, sample)

            async def apply(tenants: list[dict[str, Any]], providers: list[dict[str, Any]]) -> None:
                await bare.run(tenants, providers, tenants_first=order == "tenants_first", waited=waited)

            return await _timed(stage.api, objects, objects, apply)


async def _kopf(stage: Stage, objects: int, measured: int, order: str) -> Run:
    await stage.api.clear()
    with stage.database() as url:
        async with rows.opened(url) as pool:
            await rows.make_tables(pool)
        async with stage.plain_kopf(url) as process:
            cpu_before_s = process.cpu_s
            run = await _timed(stage.api, objects, measured, _applied(stage.api, order))
            return _with(run, process.rss_mb, process.cpu_s - cpu_before_s)


def _applied(api: Api, order: str) -> Apply:
    async def apply(tenants: list[dict[str, Any]], providers: list[dict[str, Any]]) -> None:
        kinds = [(TENANTS, tenants), (PROVIDERS, providers)]
        for resource, manifests in kinds if order == "tenants_first" else reversed(kinds):
            await api.create_all(resource, manifests)

    return apply


async def _timed(api: Api, objects: int, applied: int, apply: Apply) -> Run:
    tenants = [tenant(f"team-{number}") for number in range(TENANT_COUNT)]
    providers = [provider(f"vm-{n:05}", NAMESPACE, f"team-{n % TENANT_COUNT}") for n in range(applied)]
    before, ready = await api.writes(), set[str]()
    watching = asyncio.create_task(api.watch_ready(await api.version(), ready))
    began = time.monotonic()
    try:
        apply_s = ended = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RUN_LIMIT_S):
                await apply(tenants, providers)
                apply_s = time.monotonic() - began
                while len(ready) < applied:
                    if watching.done():
                        watching.result()
                    await asyncio.sleep(0.01)
        ended = time.monotonic()
    finally:
        watching.cancel()
    if not ready:
        raise RuntimeError(f"no Provider became Ready within {RUN_LIMIT_S:.0f} s")
    await asyncio.sleep(SETTLE_S)
    writes = _operators((await api.writes()) - before)
    seconds = ended - began
    seen = sum(count for target, count in writes.items() if "->" not in target)
    return Run(
        objects=objects,
        measured=len(ready),
        seconds=seconds * objects / len(ready),
        apply_s=apply_s or seconds,
        writes=writes,
        writes_seen=seen,
        ms_per_write=round(seconds * 1000 / max(seen, 1), 3),
    )


def _operators(writes: Counter[str]) -> dict[str, int]:
    """What was not written by the applying client, nor by the cluster itself: patches of our kinds, and Events."""
    wanted = r"PATCH tenants", r"PATCH providers", "POST events", "PATCH events"
    return {target: count for target, count in sorted(writes.items()) if target.startswith(wanted)}


async def _sample(api: Api) -> Sample:
    """What the operator has just written; the waiting status is the Ready one, as it is of about that size."""
    made = (await api.send("GET", f"{PROVIDERS.path()}?limit=1"))["items"][0]
    owner = (await api.send("GET", f"{TENANTS.path()}?limit=1"))["items"][0]
    waiting = [{**each, "status": "Unknown", "reason": "TenantNotReady"} for each in made["status"]["conditions"]]
    return Sample(made, owner, {"conditions": waiting})


def _with(run: Run, rss_mb: float, cpu_s: float) -> Run:
    return Run(**{**asdict(run), "rss_mb": round(rss_mb, 1), "cpu_s": round(cpu_s, 2)})
