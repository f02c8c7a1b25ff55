"""P-1, P-2 and P-7 for Workflows: N of them made Ready, an edit among all of them, and a look into the past of one.

::

    warm-up      ours, thrown away
    round 1      ours ──► floor (the same writes)         round 2    floor ──► ours          and so on
    then, in the operator's last round, with all Workflows there:
                 one edit at a time, from the patch to the new version being active
                 pages of the history of a workflow that has had 1,000 versions
    at last      what a definition of nearly 200 KiB costs (`definitions`)

Ten Tenants, and the Provider of each that its Workflows use, are Ready before the clock runs: nothing waits for anything.
"""

import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from random import Random
from typing import Any, Final

from rich.table import Table

from bench import bare_workflows, cold, definitions, pages, rows
from bench.api import Api, Json, is_ready, provider, tenant, workflow
from bench.bare_workflows import Sample
from bench.cold import Run
from bench.harness import NAMESPACE, Stage
from keep_operator.reconcile.world import COUNTS_EVERY_S
from keep_operator.resources.kinds import PROVIDERS, TENANTS, WORKFLOW_REVISIONS, WORKFLOWS, Resource

TENANT_COUNT: Final = 10
WARM_UP: Final = 200
# Writes that a new Workflow may cost: metadata, the object of its version, that object's status, its own status.
BUDGET: Final = 4
# Edits of Workflows that are spread over all of them; one in a hundred can then be told.
EDITS: Final = 200
# In seconds, for one edit; what takes a tenth of a second on a quiet machine.
PATIENCE_S: Final = 60.0
CONTESTANTS: Final = ("ours", "floor")


async def measure(stage: Stage, objects: int, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """All of it, as the document that becomes workflows.json."""
    async with _ours(stage, min(objects, WARM_UP)) as (warm_up, _):
        sample = Sample(await stage.api.sample(WORKFLOWS), await stage.api.sample(WORKFLOW_REVISIONS))
    say(f"warm-up: {warm_up.seconds:.1f} s")
    runs: dict[str, list[Run]] = {name: [] for name in CONTESTANTS}
    edits: Json = {}
    past: Json = {}
    for number in range(rounds):
        for name in CONTESTANTS if number % 2 == 0 else reversed(CONTESTANTS):
            if name == "floor":
                runs[name].append(await _floor(stage, objects, sample))
            else:
                async with _ours(stage, objects) as (run, url):
                    runs[name].append(run)
                    if number == rounds - 1:
                        edits = await _edits(stage.api)
                        past = await pages.measure(stage, url, json.dumps(sample.workflow["spec"]["definition"]))
            say(f"round {number + 1}: {name} {runs[name][-1].seconds:.1f} s")
    await stage.api.clear()
    say(f"edits: {edits['p50']:.0f} ms in the middle, {edits['p99']:.0f} ms one in a hundred")
    return _document(objects, runs) | {"edits_ms": edits, "pages_ms": past, "definitions": definitions.measure(say)}


def tables(result: Json) -> list[Table]:
    """Runs, edits and pages, definitions."""
    runs = [("all else Ready", name, run) for name, each in result["runs"].items() for run in each]
    looks = Table(title=f"with {result['objects']} Workflows there, milliseconds")
    for column in ("what", "times", "p50", "p95", "p99", "max"):
        looks.add_column(column, justify="left" if column == "what" else "right")
    edits, past = result["edits_ms"], result["pages_ms"]
    measured = {"from an edit to its version being active": (edits["edits"], edits)}
    for how, words in (("store", "from the database"), ("read_api", "by the read API")):
        for what, told in past[how].items():
            measured[f"{past['page']} of {past['versions']} {what}, {words}"] = (told["pages"], told)
    for what, (times, told) in measured.items():
        looks.add_row(what, str(times), *(f"{told[name]:.1f}" for name in ("p50", "p95", "p99", "max")))
    title = f"{result['objects']} Workflows, cold apply: first create to last Ready"
    return [cold.table(title, runs), looks, *definitions.tables(result["definitions"])]


def verdict(result: Json) -> str:
    """Beside the targets."""
    page = max(told["p95"] for how in ("store", "read_api") for told in result["pages_ms"][how].values())
    return (
        f"{result['ours_to_floor']} x the floor (P-1: at most 1.5); writes {result['writes_seen']} of "
        f"{result['writes_expected']} expected; an edit is active after {result['edits_ms']['p95']:.0f} ms for 19 of 20 "
        f"(P-2: at most 1,000 ms); a page of history {page:.0f} ms for 19 of 20 (P-7: at most 100 ms); "
        f"{definitions.verdict(result['definitions'])}"
    )


def _document(objects: int, runs: dict[str, list[Run]]) -> dict[str, Any]:
    seconds = {name: statistics.mean(run.seconds for run in runs[name]) for name in CONTESTANTS}
    ours = max(runs["ours"], key=lambda run: run.writes_seen)
    counts = TENANT_COUNT * (1 + int((ours.measured_s + cold.SETTLE_S) // COUNTS_EVERY_S))
    return {
        "objects": objects,
        "floor_s": round(seconds["floor"], 2),
        "ours_s": round(seconds["ours"], 2),
        "ours_to_floor": round(seconds["ours"] / seconds["floor"], 2),
        "writes_expected": ours.measured * BUDGET + counts,
        "writes_seen": ours.writes_seen,
        "rss_mb": round(max(run.rss_mb for run in runs["ours"]), 1),
        "machine": cold.machine(),
        "runs": {name: [asdict(run) for run in each] for name, each in runs.items()},
    }


@asynccontextmanager
async def _ours(stage: Stage, objects: int) -> AsyncIterator[tuple[Run, str]]:
    """The run of an operator, which stays up in the block, and the URL of its database."""
    await stage.api.clear()
    with stage.database() as url:
        async with stage.operator(url) as process:
            await _prepare(stage.api)
            while not all(map(is_ready, await _there(stage.api, TENANTS, PROVIDERS))):
                process.check()
                await asyncio.sleep(0.1)

            async def apply() -> None:
                await stage.api.create_all(WORKFLOWS, _manifests(objects))

            yield await cold.of_process(process, cold.timed(stage.api, WORKFLOWS, objects, apply)), url


async def _floor(stage: Stage, objects: int, sample: Sample) -> Run:
    await stage.api.clear()
    await _prepare(stage.api)
    with stage.database() as url:
        async with rows.opened(url) as pool:
            await rows.make_tables(pool)
            for number in range(TENANT_COUNT):
                await rows.add_tenant(pool, f"team-{number}")

            async def apply() -> None:
                await bare_workflows.run(stage.api, pool, sample, _manifests(objects))

            return await cold.timed(stage.api, WORKFLOWS, objects, apply)


async def _prepare(api: Api) -> None:
    await api.create_all(TENANTS, [tenant(f"team-{number}") for number in range(TENANT_COUNT)])
    await api.create_all(PROVIDERS, [provider(f"vm-{n}", NAMESPACE, f"team-{n}") for n in range(TENANT_COUNT)])


async def _there(api: Api, *kinds: Resource) -> list[Json]:
    return [item for kind in kinds for item in (await api.send("GET", kind.path()))["items"]]


def _manifests(objects: int) -> list[Json]:
    owners = [n % TENANT_COUNT for n in range(objects)]
    return [workflow(f"wf-{n:05}", NAMESPACE, f"team-{owner}", f"vm-{owner}") for n, owner in enumerate(owners)]


async def _edits(api: Api) -> Json:
    """One at a time: from the patch of a definition until the watch shows its version as the active one."""
    found = await _there(api, WORKFLOWS)
    while not all(map(is_ready, found)):  # only where the run was cut off
        await asyncio.sleep(1.0)
        found = await _there(api, WORKFLOWS)
    active: dict[str, int] = {}
    told = asyncio.Event()

    def seen(item: Json) -> None:
        active[item["metadata"]["name"]] = ((item.get("status") or {}).get("activeRevision") or {}).get("number", 0)
        told.set()

    watching = asyncio.create_task(api.watch(WORKFLOWS, await api.version(WORKFLOWS), seen))
    times: list[float] = []
    try:
        for item in Random(1).sample(found, min(len(found), EDITS)):  # noqa: S311 - an order, no secret
            name = item["metadata"]["name"]
            changed = item["spec"]["definition"] | {"consts": {"limit": 90}}
            began = time.perf_counter()
            await api.send("PATCH", WORKFLOWS.path(NAMESPACE, name), {"spec": {"definition": changed}})
            async with asyncio.timeout(PATIENCE_S):
                while active.get(name) != 2:
                    told.clear()
                    await told.wait()
            times.append((time.perf_counter() - began) * 1000)
    finally:
        watching.cancel()
    return {"edits": len(times), **pages.spread(times)}
