"""P-1: one cold apply of N Providers of ten Tenants, from the first create to the last Ready.

::

    warm-up      ours, thrown away: a cold API server is slow, and would slow whoever runs first
    each order   round 1:  ours ──► floor (the same writes, as counted) ──► plain kopf
                 round 2:  plain kopf ──► floor ──► ours               and so on, each time the other way round

Every run begins with an empty database and no objects, and with its operator up. The same client applies the same number of
objects, 64 in flight, and the same watch sees when all are Ready. All runs share one sandbox, so that ratios stand on one
ground; what is compared is the mean of a contestant's rounds.
"""

import statistics
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

from rich.table import Table

from bench import cold, rows
from bench.api import Api, Json, provider, tenant
from bench.bare import Bare, Sample
from bench.cold import Run
from bench.harness import NAMESPACE, Stage
from keep_operator.reconcile.world import COUNTS_EVERY_S
from keep_operator.resources.kinds import PROVIDERS, TENANTS

TENANT_COUNT: Final = 10
ORDERS: Final = ("tenants_first", "providers_first")
# Enough for the API server to have compiled, cached and grown what it will need, and little beside a measured run.
WARM_UP: Final = 300
# Writes per object that A-CTL-8 allows: metadata and status; with a wait also the waiting status and the Event.
BUDGET: Final = 2
BUDGET_OF_WAIT: Final = 2
# In the order of an odd round.
CONTESTANTS: Final = ("ours", "floor", "kopf")

Runs = dict[str, list[Run]]
"""The rounds of each contestant in one order."""


async def measure(stage: Stage, objects: int, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """All runs, as the document that becomes ready.json."""
    warm_up = await _ours(stage, min(objects, WARM_UP), ORDERS[0])
    say(f"warm-up: {warm_up.seconds:.1f} s")
    sample = await _sample(stage.api)
    orders: dict[str, Runs] = {}
    for order in ORDERS:
        runs: Runs = {name: [] for name in CONTESTANTS}
        for number in range(rounds):
            for name in CONTESTANTS if number % 2 == 0 else reversed(CONTESTANTS):
                match name:
                    case "ours":
                        run = await _ours(stage, objects, order)
                    case "floor":
                        run = await _floor(stage, objects, order, sample, _waits(runs["ours"][0]))
                    case _:
                        run = await _kopf(stage, objects, order)
                runs[name].append(run)
                say(f"{order}, round {number + 1}: {name} {run.seconds:.1f} s")
        orders[order] = runs
    await stage.api.clear()
    return _document(objects, orders)


def tables(result: Json) -> list[Table]:
    """All runs."""
    runs = [
        (order.replace("_", " "), name, run)
        for order, each in result["orders"].items()
        for name, rounds in each.items()
        for run in rounds
    ]
    return [cold.table(f"{result['objects']} Providers, cold apply: first create to last Ready", runs)]


def verdict(result: Json) -> str:
    """Beside the targets."""
    return (
        f"worst order {result['order']}: {result['ours_to_floor']} x the floor (P-1: at most 1.5); "
        f"Tenants first {result['kopf_to_ours']} x faster than plain kopf (P-1: at least 3)"
    )


def _document(objects: int, orders: dict[str, Runs]) -> dict[str, Any]:
    seconds = {
        order: {name: statistics.mean(run.seconds for run in runs[name]) for name in CONTESTANTS}
        for order, runs in orders.items()
    }
    worst = max(ORDERS, key=lambda order: seconds[order]["ours"] / seconds[order]["floor"])
    chosen, first = seconds[worst], seconds["tenants_first"]
    ours = max(orders[worst]["ours"], key=lambda run: run.writes_seen)
    return {
        "objects": objects,
        "order": worst,
        "floor_s": round(chosen["floor"], 2),
        "ours_s": round(chosen["ours"], 2),
        "kopf_s": round(first["kopf"], 2),
        "kopf_order": "tenants_first",
        "writes_expected": _expected(ours, worst),
        "writes_seen": ours.writes_seen,
        "rss_mb": round(max(run.rss_mb for runs in orders.values() for run in runs["ours"]), 1),
        "ours_to_floor": round(chosen["ours"] / chosen["floor"], 2),
        "kopf_to_ours": round(first["kopf"] / first["ours"], 2),
        "kopf_worst_s": round(max(each["kopf"] for each in seconds.values()), 2),
        "machine": cold.machine(),
        "orders": {
            order: {name: [asdict(run) for run in each] for name, each in runs.items()}
            for order, runs in orders.items()
        },
    }


def _waits(run: Run) -> int:
    """How many Providers said that they wait."""
    return run.writes.get("POST events", 0)


def _expected(run: Run, order: str) -> int:
    """The writes that the budget allows the operator in this run.

    Applied before their Tenants all Providers may wait; applied right after them those do whose Tenant is not Ready yet.
    A Tenant's counts change all the time, and are written seldom.
    """
    waits = run.measured if order == "providers_first" else _waits(run)
    counts = TENANT_COUNT * (1 + int((run.measured_s + cold.SETTLE_S) // COUNTS_EVERY_S))
    return (run.measured + TENANT_COUNT) * BUDGET + waits * BUDGET_OF_WAIT + counts


async def _ours(stage: Stage, objects: int, order: str) -> Run:
    await stage.api.clear()
    with stage.database() as url:
        async with stage.operator(url) as process:
            return await cold.of_process(process, _applied(stage.api, objects, order))


async def _kopf(stage: Stage, objects: int, order: str) -> Run:
    await stage.api.clear()
    with stage.database() as url:
        async with rows.opened(url) as pool:
            await rows.make_tables(pool)
        async with stage.plain_kopf(url) as process:
            return await cold.of_process(process, _applied(stage.api, objects, order))


async def _floor(stage: Stage, objects: int, order: str, sample: Sample, waited: int) -> Run:
    await stage.api.clear()
    tenants, providers = _manifests(objects)
    with stage.database() as url:
        async with rows.opened(url) as pool:
            await rows.make_tables(pool)
            bare = Bare(stage.api, pool, sample)

            async def apply() -> None:
                await bare.run(tenants, providers, tenants_first=order == "tenants_first", waited=waited)

            return await cold.timed(stage.api, PROVIDERS, objects, apply)


async def _applied(api: Api, objects: int, order: str) -> Run:
    tenants, providers = _manifests(objects)
    kinds = [(TENANTS, tenants), (PROVIDERS, providers)]

    async def apply() -> None:
        for resource, manifests in kinds if order == "tenants_first" else reversed(kinds):
            await api.create_all(resource, manifests)

    return await cold.timed(api, PROVIDERS, objects, apply)


def _manifests(objects: int) -> tuple[list[Json], list[Json]]:
    tenants = [tenant(f"team-{number}") for number in range(TENANT_COUNT)]
    return tenants, [provider(f"vm-{n:05}", NAMESPACE, f"team-{n % TENANT_COUNT}") for n in range(objects)]


async def _sample(api: Api) -> Sample:
    """What the operator has just written; the waiting status is the Ready one, as it is of about that size."""
    made, owner = await api.sample(PROVIDERS), await api.sample(TENANTS)
    waiting = [{**each, "status": "Unknown", "reason": "TenantNotReady"} for each in made["status"]["conditions"]]
    return Sample(made, owner, {"conditions": waiting})
