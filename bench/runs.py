"""What the engine takes on top of its queue: runs a second beside bare procrastinate, and how long a trigger waits (P-8).

A PostgreSQL of its own; processes of their own, one or two at a time, ten places each. A run is one step of type ``mock``: claim,
begin, finish and end are written. The floor takes the same number of jobs from the same queue and does nothing; it has the same event
loop, and the connections that the library makes by itself.
"""

import asyncio
import contextlib
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import psutil
from pydantic import SecretStr
from rich.table import Table
from sqlalchemy import text

from keep_operator.domain import revision
from keep_operator.domain.binding import Asked
from keep_operator.sandbox import postgres
from keep_operator.store import documents, runs, schema
from keep_operator.store import engine as database
from keep_operator.store.engine import Engine
from keep_operator.store.runs import Requested
from keep_operator.store.vault import Vault

Json = dict[str, Any]
PLACES: Final = 10
WORKERS: Final = (1, 2)
LIMIT_S: Final = 300.0
# Worked off by each contestant before the clock runs: connections are open then, and the database has its plans.
WARMING: Final = 200
# Runs asked for one after the other, so many a second, for the waiting time of a trigger.
TRIGGERS: Final = 200
TRIGGERS_A_SECOND: Final = 20
IDLE_S: Final = 15.0
KEY: Final = "k" * 43
WORKFLOW: Final = "00000000-0000-7000-8000-000000000001"
DEFINITION: Final = {
    "triggers": [{"type": "manual"}],
    "steps": [{"name": "nothing", "provider": {"type": "mock", "with": {"x": 1}}}],
}
# The rows of runs as `store.runs` makes them, so many at once; and jobs alone.
_RUNS: Final = text(
    f"""
    WITH made AS (
        INSERT INTO keep_operator.run (id, tenant_id, workflow_id, revision, content_hash, selection, trigger, mode, state,
            inputs, idempotency_key, requested_by, max_attempts, timeout_s)
        SELECT gen_random_uuid(), 'keep', '{WORKFLOW}', 1, :hash, 'Active', 'Manual', 'Live', 'Queued', '{{}}',
            gen_random_uuid()::text, 'bench', 3, 3600
        FROM generate_series(1, :count) RETURNING id
    )
    SELECT keep_operator.procrastinate_defer_jobs_v1(array_agg(ROW('{runs.QUEUE}', '{runs.TASK}', 0, NULL, NULL,
        jsonb_build_object('run_id', id), NULL)::keep_operator.procrastinate_job_to_defer_v1)) FROM made
    """  # noqa: S608 - constants
)
_JOBS: Final = text(
    f"""
    SELECT keep_operator.procrastinate_defer_jobs_v1(array_agg(ROW('{runs.QUEUE}', '{runs.TASK}', 0, NULL, NULL,
        jsonb_build_object('run_id', gen_random_uuid()), NULL)::keep_operator.procrastinate_job_to_defer_v1))
    FROM generate_series(1, :count)
    """  # noqa: S608
)
_LEFT: Final = text("SELECT count(*) FROM keep_operator.procrastinate_jobs")
_WORKING: Final = text("SELECT count(*) FROM keep_operator.procrastinate_workers")
_WAITED: Final = text(
    "SELECT extract(epoch FROM started_at - queued_at) * 1000 FROM keep_operator.run WHERE requested_by = 'trigger'"
)
_BAD: Final = text("SELECT count(*) FROM keep_operator.run WHERE state <> 'Succeeded'")


async def measure(count: int, rounds: int, say: Callable[[str], None]) -> Json:
    """All figures; ``count`` runs for each contestant and number of workers."""
    with tempfile.TemporaryDirectory(prefix="keep-operator-") as name:
        folder = Path(name)
        with postgres.running(folder / "postgres") as server:
            url = server.url()
            engine = database.connect(url, application_name="bench")
            try:
                await _populate(engine)
                rates: dict[str, list[float]] = {}
                for _ in range(rounds):
                    for workers in WORKERS:
                        for what, question in (("floor", _JOBS), ("ours", _RUNS)):
                            rate = await _rate(engine, url, folder, what, question, workers, count)
                            rates.setdefault(f"{what}_{workers}", []).append(rate)
                            say(f"{what}, {workers} worker(s): {rate:.0f} a second")
                bad = await _ask(engine, _BAD)
                waited, idle = await _waiting(engine, url, folder)
            finally:
                await engine.dispose()
    return {
        "runs": count,
        "places": PLACES,
        "a_second": {key: statistics.median(values) for key, values in rates.items()},
        "share_of_floor": {
            str(each): statistics.median(rates[f"ours_{each}"]) / statistics.median(rates[f"floor_{each}"])
            for each in WORKERS
        },
        "not_succeeded": bad,
        "trigger_to_start_ms": {
            "p50": statistics.median(waited),
            "p99": statistics.quantiles(waited, n=100)[98],
            "worst": max(waited),
        },
        "idle_percent_of_a_core": idle,
    }


def tables(result: Json) -> list[Table]:
    """Runs a second, and beside it the floor."""
    table = Table(title=f"{result['runs']} runs of one step, {result['places']} at once in each worker")
    for column in ("workers", "procrastinate alone, a second", "runs a second", "share"):
        table.add_column(column, justify="right")
    for each in WORKERS:
        told = result["a_second"]
        share = result["share_of_floor"][str(each)]
        table.add_row(str(each), f"{told[f'floor_{each}']:.0f}", f"{told[f'ours_{each}']:.0f}", f"{share:.0%}")
    return [table]


def verdict(result: Json) -> str:
    """Beside the targets."""
    waited = result["trigger_to_start_ms"]
    return (
        f"from trigger to start p50 {waited['p50']:.0f} ms, p99 {waited['p99']:.0f} ms (P-8: p95 at most 1 s); an idle worker takes "
        f"{result['idle_percent_of_a_core']:.2f} % of a core (at most 1 %); {result['not_succeeded']} runs did not succeed"
    )


async def _rate(engine: Engine, url: str, folder: Path, what: str, question: Any, workers: int, count: int) -> float:
    async with contextlib.AsyncExitStack() as stack:
        for number in range(workers):
            await stack.enter_async_context(_worker(what, url, folder, number))
        await _until(lambda: _is(engine, _WORKING, workers), "the workers are there")
        for number in (WARMING, count):
            async with database.transaction(engine) as conn:
                await conn.execute(question, {"count": number, "hash": revision.content_hash(DEFINITION)})
            began = time.perf_counter()
            await _until(lambda: _is(engine, _LEFT, 0), "everything is worked off")
        return count / (time.perf_counter() - began)


async def _waiting(engine: Engine, url: str, folder: Path) -> tuple[list[float], float]:
    async with _worker("ours", url, folder, 0) as process:
        await _until(lambda: _is(engine, _WORKING, 1), "the worker is there")
        for _ in range(TRIGGERS):
            asked = Asked("API", str(uuid4()), "trigger")
            async with database.transaction(engine) as conn:
                assert isinstance(await runs.request(conn, UUID(WORKFLOW), asked), Requested)
            await asyncio.sleep(1 / TRIGGERS_A_SECOND)
        await _until(lambda: _is(engine, _LEFT, 0), "everything is worked off")
        before = sum(process.cpu_times()[:2])
        await asyncio.sleep(IDLE_S)
        idle = (sum(process.cpu_times()[:2]) - before) / IDLE_S * 100
    async with database.look(engine) as conn:
        return [float(row[0]) for row in await conn.execute(_WAITED)], idle


@contextlib.asynccontextmanager
async def _worker(what: str, url: str, folder: Path, number: int) -> AsyncIterator[psutil.Process]:
    """A process that works the queue off, for the length of a block."""
    command = ["-m", "bench.bare_queue", url, str(PLACES)] if what == "floor" else ["-m", "keep_operator", "runner"]
    given = {
        "KEEP_OPERATOR_DATABASE_URL": url,
        "KEEP_OPERATOR_ENCRYPTION_KEY": KEY,
        "KEEP_OPERATOR_HEALTH_PORT": "0",
        "KEEP_OPERATOR_RUNS_AT_ONCE": str(PLACES),
    }
    with (folder / f"{what}-{number}.log").open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, env={**os.environ, **given}, stdout=output, stderr=output
        )
    try:
        yield psutil.Process(process.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM if what == "ours" else signal.SIGKILL)
        await process.wait()
        engine = database.connect(url, application_name="bench")
        async with database.transaction(engine) as conn:  # one that was killed has not signed off
            await conn.execute(text("DELETE FROM keep_operator.procrastinate_workers"))
        await engine.dispose()


async def _populate(engine: Engine) -> None:
    await schema.migrate(engine)
    given = {"hash": revision.content_hash(DEFINITION), "definition": documents.text(DEFINITION)}
    async with database.transaction(engine) as conn:
        for statement in (
            "INSERT INTO keep_operator.installation (cluster_id, key_name) VALUES ('bench', :key) ON CONFLICT DO NOTHING",
            "INSERT INTO keep_operator.tenant (id, display_name, deletion_policy, checksum) VALUES ('keep', 'Keep', 'Orphan', '')",
            """INSERT INTO keep_operator.workflow (id, tenant_id, external_name, deletion_policy, suspended, settings, checksum)
                VALUES (:id, 'keep', 'nothing', 'Delete', false, '{}', '')""",
            """INSERT INTO keep_operator.workflow_revision
                    (workflow_id, number, content_hash, hash_version, definition, created_from_generation)
                VALUES (:id, 1, :hash, 1, cast(:definition AS json), 1)""",
            "INSERT INTO keep_operator.revision_state SELECT workflow_id, number, now(), now() "
            "FROM keep_operator.workflow_revision",
            "UPDATE keep_operator.workflow SET active_revision = 1, latest_revision = 1",
        ):
            await conn.execute(text(statement), {**given, "id": WORKFLOW, "key": Vault([SecretStr(KEY)]).name})


async def _ask(engine: Engine, question: Any) -> int:
    async with database.look(engine) as conn:
        return int(await conn.scalar(question))


async def _is(engine: Engine, question: Any, wanted: int) -> bool:
    return await _ask(engine, question) == wanted


async def _until(question: Callable[[], Any], what: str) -> None:
    deadline = time.perf_counter() + LIMIT_S
    while not await question():
        if time.perf_counter() > deadline:
            raise TimeoutError(f"not within {LIMIT_S:.0f} s: {what}")
        await asyncio.sleep(0.02)
