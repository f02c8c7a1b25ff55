"""One cold apply: from the first create to the last Ready, what it cost the API server, and what it took of the machine."""

import asyncio
import contextlib
import os
import platform
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import psutil
from rich.table import Table

from bench.api import Api, Json, is_ready
from bench.harness import Process
from keep_operator.resources.kinds import OURS, Resource

# No run takes longer, in seconds; what is Ready by then is scaled to all, and the result says so.
RUN_LIMIT_S: Final = 120.0
# After the last Ready, in seconds: Events are written last, and must be in the count.
SETTLE_S: Final = 1.0
# What is not written by the applying client, nor by the cluster itself.
_OPERATORS: Final = (
    *(f"PATCH {each.plural}" for each in OURS),
    "POST workflowrevisions",
    "POST events",
    "PATCH events",
)
_NAMES: Final = {"ours": "keep-operator", "floor": "bare client", "kopf": "plain kopf"}


@dataclass(frozen=True, slots=True)
class Run:
    """One cold apply. ``seconds`` are ``measured_s``, scaled to ``objects`` where fewer were Ready in time.

    ``cpu_s`` is what the process used of the cores, ``queued_s`` how long it wanted one and had none. ``client_s`` is what the
    applying client used, which in the floor's run makes all the writes, and ``servers_s`` API server, etcd and PostgreSQL.
    """

    objects: int
    measured: int
    seconds: float
    measured_s: float
    apply_s: float
    writes: dict[str, int]
    writes_seen: int
    ms_per_write: float
    client_s: float
    servers_s: float
    rss_mb: float = 0.0
    cpu_s: float = 0.0
    queued_s: float = 0.0


async def timed(api: Api, resource: Resource, objects: int, apply: Callable[[], Awaitable[None]]) -> Run:
    """Apply, and wait until so many objects of the kind have become Ready."""
    ready = set[str]()
    async with _watched(api, resource, ready) as watching:
        before, began, apply_s = await api.writes(), time.monotonic(), None
        client_s, beside_s = time.process_time(), _beside_s()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RUN_LIMIT_S):
                await apply()
                apply_s = time.monotonic() - began
                while len(ready) < objects:
                    if watching.done():
                        watching.result()
                    await asyncio.sleep(0.01)
        seconds = time.monotonic() - began
        client_s, beside_s = time.process_time() - client_s, _beside_s() - beside_s
    if not ready:
        raise RuntimeError(f"no {resource.kind} became Ready within {RUN_LIMIT_S:.0f} s")
    await asyncio.sleep(SETTLE_S)
    writes = _operators((await api.writes()) - before)
    seen = sum(count for target, count in writes.items() if "->" not in target)
    return Run(
        objects=objects,
        measured=len(ready),
        seconds=seconds * objects / len(ready),
        measured_s=seconds,
        apply_s=apply_s or seconds,
        writes=writes,
        writes_seen=seen,
        ms_per_write=round(seconds * 1000 / max(seen, 1), 3),
        client_s=round(client_s, 2),
        servers_s=round(beside_s, 2),
    )


async def of_process(process: Process, timed: Awaitable[Run]) -> Run:
    """The run, with what the process took of the machine meanwhile."""
    cpu_s, queued_s = process.cpu_s, process.queued_s
    run = await timed
    process.check_alive()
    cpu_s = process.cpu_s - cpu_s
    return replace(
        run,
        servers_s=round(run.servers_s - cpu_s, 2),
        rss_mb=round(process.rss_mb, 1),
        cpu_s=round(cpu_s, 2),
        queued_s=round(process.queued_s - queued_s, 2),
    )


def machine() -> dict[str, Any]:
    """Where it was measured."""
    return {"cores": os.cpu_count(), "python": platform.python_version(), "load_1min": os.getloadavg()[0]}


def table(title: str, runs: Sequence[tuple[str, str, Json]]) -> Table:
    """Runs as people read them: of each a case, who it was, and the run as JSON has it."""
    made = Table(title=title)
    columns = (
        "seconds",
        "measured",
        "writes",
        "ms per write",
        "client CPU s",
        "servers CPU s",
        "peak MB",
        "CPU s",
        "queued s",
    )
    for column in ("case", "who", *columns):
        made.add_column(column, justify="left" if column in ("case", "who") else "right")
    for case, name, run in runs:
        noted = (f"{run['rss_mb']:.0f}", f"{run['cpu_s']:.1f}", f"{run['queued_s']:.1f}")
        cells = [
            f"{run['seconds']:.1f}",
            str(run["measured"]),
            str(run["writes_seen"]),
            f"{run['ms_per_write']:.2f}",
            f"{run['client_s']:.1f}",
            f"{run['servers_s']:.1f}",
        ]
        made.add_row(case, _NAMES[name], *cells, *(noted if run["rss_mb"] else ()))
    return made


@asynccontextmanager
async def _watched(api: Api, resource: Resource, ready: set[str]) -> AsyncIterator[asyncio.Task[None]]:
    def seen(item: Json) -> None:
        if is_ready(item):
            ready.add(item["metadata"]["name"])

    watching = asyncio.create_task(api.watch(resource, await api.version(resource), seen))
    try:
        yield watching
    finally:
        watching.cancel()


def _beside_s() -> float:
    """Processor time so far of all that this process has started, ended children of theirs too."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def _operators(writes: Counter[str]) -> dict[str, int]:
    return {target: count for target, count in sorted(writes.items()) if target.startswith(_OPERATORS)}
