"""The console as a process: what it waits for, what it says meanwhile, and how it ends."""

import asyncio
import json
import os
import re
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from integration.console.cluster import Played, served
from keep_operator.console import process
from keep_operator.store import engine as database
from keep_operator.store import installation, schema

pytestmark = pytest.mark.integration

PATIENCE_S = 60.0


class Process:
    """One `keep-operator console`, and what it has printed."""

    def __init__(self, inner: asyncio.subprocess.Process, log: Path) -> None:
        self.inner = inner
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    async def until(self, read: Callable[[], object], what: str) -> None:
        """Returns once it is so; fails where the process ends before."""
        async with asyncio.timeout(PATIENCE_S):
            while not await asyncio.to_thread(read):
                assert self.inner.returncode is None, f"{what}: {self.log}"
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

    async def end(self) -> int:
        """Its exit code when it is told to stop."""
        self.inner.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.inner.wait(), PATIENCE_S)


Start = Callable[..., Awaitable[Process]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts consoles on a database, with a cluster that is played; ends them after the test."""
    started: list[Process] = []
    async with served(Played()) as server:
        cluster = {"name": "it", "cluster": {"server": server}}
        context = {"name": "it", "context": {"cluster": "it", "user": "it"}}
        user = {"name": "it", "user": {"token": "of-the-console"}}
        config = tmp_path / "kubeconfig"
        known = {"current-context": "it", "clusters": [cluster], "contexts": [context], "users": [user]}
        config.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **known}), encoding="utf-8")

        async def begin(url: str, **environment: str) -> Process:
            log = tmp_path / f"console-{len(started)}.log"
            given = {
                "KUBECONFIG": str(config),
                "KEEP_OPERATOR_DATABASE_URL": url,
                "KEEP_OPERATOR_HEALTH_PORT": "0",
                "KEEP_OPERATOR_CONSOLE_PORT": "0",
                "KEEP_OPERATOR_LOG_FORMAT": "json",
                **environment,
            }
            inherited = {key: value for key, value in os.environ.items() if not key.startswith("KEEP_OPERATOR_")}
            with log.open("wb") as output:
                inner = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "keep_operator", "console"),
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


async def test_it_waits_for_the_schema_and_the_operator(start: Start, empty_url: str) -> None:
    """Started before everything else it says what it waits for, serves when that is there, and ends when it is told to."""
    console = await start(empty_url)
    await console.until(lambda: "SchemaMissing" in console.page("/readyz"), "the schema is named")
    assert console.page("/readyz").startswith("503 [ok] database: reachable")
    assert console.page("/healthz") == "200 ok"
    assert "serving the API" not in console.log
    engine = database.connect(empty_url, application_name="test")
    await schema.migrate(engine)
    await console.until(lambda: "no operator has started" in console.page("/readyz"), "the operator is missed")
    async with database.transaction(engine) as conn:
        await installation.cluster_id(conn, "cluster-a")
    await engine.dispose()
    await console.until(lambda: console.page("/readyz").startswith("200"), "it is ready")
    assert "[ok] schema: cluster-a" in console.page("/readyz")
    assert await console.end() == 0
    assert "Traceback" not in console.log


async def test_it_can_be_stopped_while_it_waits(start: Start, empty_url: str) -> None:
    """A console that waits for a database that never comes ends as fast as any other one."""
    console = await start(empty_url)
    await console.until(lambda: "SchemaMissing" in console.page("/readyz"), "it waits")
    assert await console.end() == 0


async def test_a_taken_port_is_named(start: Start, database_url: str) -> None:
    """Two consoles on one machine: the second one says which setting is the remedy."""
    with socket.create_server(("", 0), family=socket.AF_INET) as taken:
        port = str(taken.getsockname()[1])
        given = {"KEEP_OPERATOR_CONSOLE_PORT": port, "KEEP_OPERATOR_CLUSTER_ID": "cluster-a"}
        console = await start(database_url, **given)
        assert await asyncio.wait_for(console.inner.wait(), PATIENCE_S) == 1
    assert "PortTaken" in console.log
    assert "KEEP_OPERATOR_CONSOLE_PORT" in console.log


async def test_without_a_database_it_does_not_start(start: Start) -> None:
    """What is missing is named at once, by the variable."""
    console = await start("")
    assert await asyncio.wait_for(console.inner.wait(), PATIENCE_S) == 1
    assert "KEEP_OPERATOR_DATABASE_URL is not set" in console.log


async def test_answers_do_not_wait_for_acknowledgements() -> None:
    """A page is there in milliseconds: what is written is sent at once, not when the client has confirmed its beginning."""
    stop = asyncio.Event()
    listening = socket.create_server(("127.0.0.1", 0))

    async def silent(scope: object, receive: object, send: object) -> None:
        """Answer nothing."""

    answering = asyncio.create_task(process.answer(silent, listening, stop))
    await asyncio.sleep(0)
    assert listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    stop.set()
    await answering
