"""The stage of a measurement: one sandbox, fresh databases, processes that are watched for their memory."""

import asyncio
import contextlib
import itertools
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import psutil
import psycopg

from bench.api import Api
from keep_operator.cli import crds
from keep_operator.cluster import access
from keep_operator.resources.kinds import NAMESPACES
from keep_operator.sandbox import display
from keep_operator.sandbox.instance import Sandbox
from keep_operator.sandbox.options import Options

NAMESPACE: Final = "bench"
# What takes two seconds on a quiet machine.
START_LIMIT_S: Final = 60.0
STOP_LIMIT_S: Final = 30.0
SAMPLE_S: Final = 0.1
_numbers = itertools.count(1)


class Stage:
    """A control plane and a PostgreSQL, with our definitions served and the operator's rights granted."""

    def __init__(self, sandbox: Sandbox, api: Api, folder: Path) -> None:
        self.sandbox = sandbox
        self.api = api
        self._folder = folder

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """The URL of an empty database, dropped after the block."""
        name = f"bench_{next(_numbers)}"
        parts = urlsplit(self.sandbox.database_url())
        with psycopg.connect(self.sandbox.database_url(), autocommit=True) as conn:
            conn.execute(f'CREATE DATABASE "{name}"')
        try:
            yield urlunsplit(parts._replace(path=f"/{name}"))
        finally:
            with psycopg.connect(self.sandbox.database_url(), autocommit=True) as conn:
                conn.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    @contextlib.asynccontextmanager
    async def operator(self, database_url: str) -> AsyncIterator["Process"]:
        """Our operator, ready, under its own account; stopped after the block."""
        environment = {
            "KUBECONFIG": str(self.sandbox.kubeconfig("operator")),
            "KEEP_OPERATOR_DATABASE_URL": database_url,
            "KEEP_OPERATOR_ENCRYPTION_KEY": secrets.token_urlsafe(32),
            "KEEP_OPERATOR_DEFAULT_TENANT": "",
            "KEEP_OPERATOR_HEALTH_PORT": "0",
            "KEEP_OPERATOR_LEASE_SECONDS": "60",  # on crowded cores the usual one is lost, and nobody starts it again here
            "KEEP_OPERATOR_LOG_FORMAT": "json",
        }
        argv = [sys.executable, "-m", "keep_operator", "operate"]
        async with self._running(argv, environment) as process:
            port = (await process.said(r'"port": (\d+)'))[1]
            async with aiohttp.ClientSession() as session:
                while (await _status(session, f"http://127.0.0.1:{port}/readyz")) != 200:
                    process.check()
                    await asyncio.sleep(0.1)
            yield process

    @contextlib.asynccontextmanager
    async def console(self, database_url: str) -> AsyncIterator[str]:
        """The URL of our read API over a database that an operator has prepared; stopped after the block."""
        environment = {
            "KUBECONFIG": str(self.sandbox.kubeconfig()),
            "KEEP_OPERATOR_DATABASE_URL": database_url,
            "KEEP_OPERATOR_HEALTH_PORT": "0",
            "KEEP_OPERATOR_CONSOLE_PORT": "0",
            "KEEP_OPERATOR_LOG_FORMAT": "json",
        }
        argv = [sys.executable, "-m", "keep_operator", "console"]
        async with self._running(argv, environment) as process:
            line = (await process.said(r".*serving the API.*"))[0]
            yield f"http://127.0.0.1:{json.loads(line)['port']}"

    @contextlib.asynccontextmanager
    async def plain_kopf(self, database_url: str) -> AsyncIterator["Process"]:
        """The plain kopf operator, watching; stopped after the block."""
        environment = {"KUBECONFIG": str(self.sandbox.kubeconfig()), "BENCH_DATABASE_URL": database_url}
        argv = [sys.executable, "-m", "kopf", "run", "--standalone", "--all-namespaces", "-m", "bench.plain_kopf"]
        async with self._running(argv, environment) as process:
            await process.said(r"Activity 'open_pool' succeeded")
            await asyncio.sleep(3.0)  # it says nothing more when its watches are open
            process.check()
            yield process

    @contextlib.asynccontextmanager
    async def _running(self, argv: Sequence[str], environment: Mapping[str, str]) -> AsyncIterator["Process"]:
        process = Process(argv, environment, self._folder / f"process-{next(_numbers)}.log")
        sampling = asyncio.create_task(process.sample())
        try:
            yield process
        finally:
            sampling.cancel()
            await asyncio.to_thread(process.stop)


class Process:
    """A process under measurement."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.rss_mb = 0.0
        self.cpu_s = 0.0
        self.queued_s = 0.0
        self._log = log
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("KEEP_OPERATOR_")}
        with log.open("wb") as sink:
            self._process = subprocess.Popen(
                argv, env={**inherited, **environment}, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink
            )
        self._began = time.monotonic()
        self._seen = psutil.Process(self._process.pid)

    async def sample(self) -> None:
        """Note memory (peak), processor time and time in wait for a core (so far); runs until cancelled.

        The wait is that of the main thread, from the kernel's scheduler: where it is long, the machine has been measured.
        """
        with contextlib.suppress(psutil.NoSuchProcess, OSError):
            while True:
                self._note()
                await asyncio.sleep(SAMPLE_S)

    def _note(self) -> None:
        self.rss_mb = max(self.rss_mb, self._seen.memory_info().rss / 1e6)
        times = self._seen.cpu_times()
        self.cpu_s = times.user + times.system
        self.queued_s = int(Path(f"/proc/{self._seen.pid}/schedstat").read_text(encoding="ascii").split()[1]) / 1e9

    async def said(self, pattern: str) -> re.Match[str]:
        """The first match in its log, waited for."""
        while not (found := re.search(pattern, self._text())):
            self.check()
            await asyncio.sleep(0.1)
        return found

    def check(self) -> None:
        """Raise RuntimeError when it has ended, or does not get ready."""
        self.check_alive()
        if time.monotonic() - self._began > START_LIMIT_S:
            raise RuntimeError(f"it did not start in {START_LIMIT_S:.0f} s: {self._text()[-3000:]}")

    def check_alive(self) -> None:
        """Raise RuntimeError when it has ended: what is measured then is nothing."""
        if self._process.poll() is not None:
            raise RuntimeError(f"it has ended: {self._text()[-3000:]}")

    def stop(self) -> None:
        """End it, if need be by force."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_LIMIT_S)

    def _text(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")


@contextlib.asynccontextmanager
async def staged() -> AsyncIterator[Stage]:
    """A sandbox in a temporary folder, prepared; gone after the block. KUBEBUILDER_ASSETS names a built one."""
    with tempfile.TemporaryDirectory(prefix="keep-operator-bench-") as name, display.opened() as shown:
        folder = Path(name)
        sandbox = Sandbox(Options(folder=folder / "sandbox", assets=os.environ.get("KUBEBUILDER_ASSETS", "")))
        with sandbox.attended(shown):
            server = crds.Server.connect(str(sandbox.kubeconfig()), None)
            crds.apply(server, timedelta(seconds=60), shown.say)
            async with Api.opened(sandbox.kubeconfig()) as api:
                await _grant(api)
                yield Stage(sandbox, api, folder)


async def _grant(api: Api) -> None:
    await api.send("POST", NAMESPACES.path(), {"metadata": {"name": NAMESPACE}})
    manifests = [access.cluster_role(), access.binding("keep-operator"), *access.own_roles("keep-operator", "default")]
    for manifest in manifests:
        where = "namespaces/default/" if "namespace" in manifest["metadata"] else ""
        path = f"/apis/rbac.authorization.k8s.io/v1/{where}{manifest['kind'].lower()}s"
        await api.send("POST", path, manifest, may=(409,))


async def _status(session: aiohttp.ClientSession, url: str) -> int:
    async with session.get(url) as answer:
        return answer.status
