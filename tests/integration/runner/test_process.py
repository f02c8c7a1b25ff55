"""The runner as a process: what it waits for, how it ends, and what becomes of its runs when it is killed."""

import asyncio
import os
import re
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from integration.runner import scene
from integration.store import lineages, samples
from keep_operator.domain.execution import Run, State, StepState
from keep_operator.store import engine as database
from keep_operator.store import installation, schema
from keep_operator.store.engine import Engine
from keep_operator.store.vault import Vault

pytestmark = pytest.mark.integration

PATIENCE_S = 60.0
QUICK = {"KEEP_OPERATOR_RUN_HEARTBEAT_SECONDS": "0.5", "KEEP_OPERATOR_RUN_STALLED_SECONDS": "2"}


class Process:
    """One `keep-operator runner`, and what it has printed."""

    def __init__(self, inner: asyncio.subprocess.Process, log: Path) -> None:
        self.inner = inner
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    async def until(self, words: str) -> None:
        """Returns once `/readyz` has them; fails where the process ends before."""
        async with asyncio.timeout(PATIENCE_S):
            while words not in await asyncio.to_thread(self.page, "/readyz"):
                assert self.inner.returncode is None, f"{words}: {self.log}"
                await asyncio.sleep(0.05)

    def page(self, path: str) -> str:
        """One of its health pages; empty as long as there is none."""
        found = re.search(r'"port": (\d+)', self.log)
        if not found:
            return ""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{found[1]}{path}", timeout=10) as answer:
                return f"200 {answer.read().decode()}"
        except urllib.error.HTTPError as error:
            with error:
                return f"{error.code} {error.read().decode()}"

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels; 0 where there is none."""
        found = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", self.page("/metrics"), re.MULTILINE)
        return sum(map(float, found))

    async def end(self, with_signal: int = signal.SIGTERM) -> int:
        """Its exit code when it is told to stop."""
        self.inner.send_signal(with_signal)
        return await asyncio.wait_for(self.inner.wait(), PATIENCE_S)


Start = Callable[..., Awaitable[Process]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts runners on a database; ends them after the test."""
    started: list[Process] = []

    async def begin(url: str, **environment: str) -> Process:
        log = tmp_path / f"runner-{len(started)}.log"
        given = {
            "KEEP_OPERATOR_DATABASE_URL": url,
            "KEEP_OPERATOR_ENCRYPTION_KEY": scene.KEY.get_secret_value(),
            "KEEP_OPERATOR_HEALTH_PORT": "0",
            "KEEP_OPERATOR_LOG_FORMAT": "json",
            **QUICK,
            **environment,
        }
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("KEEP_OPERATOR_", "KUBE"))}
        with log.open("wb") as output:
            inner = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "keep_operator", "runner"),
                env={**inherited, **given},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        started.append(Process(inner, log))
        return started[-1]

    yield begin
    for each in started:
        if each.inner.returncode is None:
            each.inner.kill()
            await each.inner.wait()


async def sealed(engine: Engine) -> None:
    """An operator has started with the database once, with the runners' key."""
    async with database.transaction(engine) as conn:
        await installation.cluster_id(conn, "cluster-a")
        await installation.key_name(conn, Vault([scene.KEY]).name)


@asynccontextmanager
async def holding() -> AsyncIterator[tuple[str, asyncio.Queue[asyncio.Event]]]:
    """A server that answers a request when it is let: its address, and what lets each request go."""
    asked: asyncio.Queue[asyncio.Event] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            go_on = asyncio.Event()
            asked.put_nowait(go_on)
            await go_on.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", asked
    finally:
        server.close()


async def waiting_step(engine: Engine, url: str, type_name: str = "http", **given: object) -> Run:
    """A run whose second step waits for the server; the tenant allows it."""
    asks = scene.step("wait", type_name, given={"url": url, **given})
    lineage = await scene.have(engine, scene.step("first"), asks, scene.step("last"))
    allowed = """'{"egress": {"allow": ["127.0.0.1"]}}'"""
    await lineages.run(engine, f"UPDATE keep_operator.tenant SET settings = {allowed}")  # noqa: S608
    return await scene.asked(engine, lineage)


async def over(engine: Engine, run: Run) -> Run:
    """The run once it has ended."""
    await samples.until(lambda: _ended(engine, run))
    return await scene.now(engine, run)


async def _ended(engine: Engine, run: Run) -> bool:
    return (await scene.now(engine, run)).state.terminal


async def test_it_waits_for_the_schema_and_the_operator(start: Start, empty_url: str) -> None:
    """Started before everything else it says what it waits for, works when that is there, and needs no cluster."""
    runner = await start(empty_url)
    await runner.until("SchemaMissing")
    assert runner.page("/readyz").startswith("503 [ok] database: reachable")
    assert runner.page("/healthz") == "200 ok"
    engine = database.connect(empty_url, application_name="test")
    await schema.migrate(engine)
    await runner.until("no operator has started")
    await sealed(engine)
    await runner.until("[ok] working: 10 runs at once")
    run = await scene.asked(engine, await scene.have(engine, scene.step("first")))
    assert (await over(engine, run)).state is State.SUCCEEDED
    await engine.dispose()
    assert await runner.end() == 0
    assert "Traceback" not in runner.log


async def test_a_runner_with_another_key_does_not_begin(start: Start, engine: Engine, database_url: str) -> None:
    """Each step with credentials would fail; the process ends, and says which key it wants."""
    await sealed(engine)
    runner = await start(database_url, KEEP_OPERATOR_ENCRYPTION_KEY="x" * 43)
    assert await asyncio.wait_for(runner.inner.wait(), PATIENCE_S) == 1
    assert "EncryptionKeyMismatch" in runner.log
    assert "x" * 43 not in runner.log


async def test_at_the_end_the_step_is_ended_and_the_run_given_back(
    start: Start, engine: Engine, database_url: str
) -> None:
    """A rolling upgrade: nothing is done twice, and the next runner goes on; that counts as no attempt."""
    await sealed(engine)
    async with holding() as (url, asked):
        run = await waiting_step(engine, url)
        old = await start(database_url)
        go_on = await asyncio.wait_for(asked.get(), PATIENCE_S)
        old.inner.send_signal(signal.SIGTERM)
        await old.until("working: stopping")
        go_on.set()
        assert await asyncio.wait_for(old.inner.wait(), PATIENCE_S) == 0
        assert (await scene.now(engine, run)).state is State.RUNNING
        await start(database_url)
        ended = await over(engine, run)
        assert asked.empty()
    assert (ended.state, ended.attempt) == (State.SUCCEEDED, 2)
    assert [(step.name, step.state) for step in await scene.steps(engine, run)] == [
        ("first", StepState.SUCCEEDED),
        ("wait", StepState.SUCCEEDED),
        ("last", StepState.SUCCEEDED),
    ]
    assert "Traceback" not in old.log


@pytest.mark.parametrize(
    ("type_name", "given", "state", "reason"),
    [
        ("http", {"method": "GET"}, State.SUCCEEDED, "Completed"),
        ("http", {"method": "POST"}, State.FAILED, "WorkerLost"),
    ],
    ids=["reads", "has an effect"],
)
async def test_a_killed_runner_is_found_and_another_one_goes_on(
    start: Start,
    engine: Engine,
    database_url: str,
    type_name: str,
    given: dict[str, object],
    state: State,
    reason: str,
) -> None:
    """kill -9 in the middle of a step: what only reads is done again, what has an effect ends the run, and it is counted."""
    await sealed(engine)
    async with holding() as (url, asked):
        run = await waiting_step(engine, url, type_name, **given)
        first = await start(database_url)
        await asyncio.wait_for(asked.get(), PATIENCE_S)
        await first.end(signal.SIGKILL)
        second = await start(database_url)
        if state is State.SUCCEEDED:
            (await asyncio.wait_for(asked.get(), PATIENCE_S)).set()
        ended = await over(engine, run)
        assert asked.empty()
    assert (ended.state, ended.reason, ended.attempt) == (state, reason, 2)
    starts = [(step.name, step.state) for step in await scene.steps(engine, run)]
    assert starts.count(("first", StepState.SUCCEEDED)) == 1
    assert starts.count(("wait", StepState.LOST)) == 1
    assert second.metric("keep_operator_runs_recovered_total") == 1
    assert second.metric("keep_operator_steps_lost_total") == 1
    assert second.metric("keep_operator_runs_total") == 1
    jobs = text("SELECT count(*) FROM keep_operator.procrastinate_jobs")
    await samples.until(lambda: _none(engine, jobs))


async def _none(engine: Engine, count: object) -> bool:
    return bool(await lineages.looked(engine, lambda conn: conn.scalar(count)) == 0)  # type: ignore[arg-type]
