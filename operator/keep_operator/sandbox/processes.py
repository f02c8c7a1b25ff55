"""The child processes of a sandbox: recorded so that a later command finds them, and never mistaken for another.

A process id is used again sooner or later, so each record also holds the boot of the machine and the clock tick
at which the process began; only a process that matches all three is ever signalled.
"""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

import psutil
import pydantic

from keep_operator.errors import Unavailable
from keep_operator.sandbox import cache

POLL_S: Final = 0.03  # seconds between two looks at a starting or stopping process: start-up has five such waits
KILLED_WITHIN_S: Final = 10.0  # seconds in which the kernel removes a killed process even on a busy machine
TAIL_LINES: Final = 15  # lines of a dead process's log that an error shows: a Go panic's head, a PostgreSQL FATAL

_children: dict[int, subprocess.Popen[bytes]] = {}  # started by this very process: must be reaped, or they stay zombies


def bare_environment() -> dict[str, str]:
    """What a server needs of our environment; proxies, PG* and cloud credentials of the user stay outside."""
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH") if key in os.environ}
    return kept | {"LC_ALL": "C.UTF-8", "TZ": "UTC"}


class Recorded(pydantic.BaseModel):
    """One process that was started: enough to find it again, to stop it the way it likes, and to read its log."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    name: str
    pid: int
    began_tick: int
    boot: str
    log: Path
    rank: int = 0
    stop_signal: int = int(signal.SIGTERM)
    grace_s: float = 10.0

    @property
    def alive(self) -> bool:
        """Whether this very process still runs; a zombie does not, and neither does a stranger with the same id."""
        runs = boot() == self.boot and began_tick(self.pid) == self.began_tick
        if not runs and (child := _children.get(self.pid)) is not None and child.poll() is not None:
            del _children[self.pid]  # it has been reaped
        return runs

    def send(self, number: int) -> None:
        """Sends a signal to this very process; nothing happens when it is gone."""
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            if self.alive:
                process.send_signal(number)

    def tail(self) -> str:
        """The last lines of its log."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-TAIL_LINES:])


class _Records(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    processes: tuple[Recorded, ...] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """What to start, and how it wants to be stopped: higher ``rank`` first, each within its ``grace``."""

    name: str
    argv: Sequence[str | Path]
    log: Path
    cwd: Path
    environment: Mapping[str, str] = field(default_factory=bare_environment)
    rank: int = 0
    stop_signal: int = signal.SIGTERM
    grace: timedelta = timedelta(seconds=10)


class Roster:
    """The processes of one sandbox, in the order of their start, kept in a file.

    Safe to use from several threads; several processes need a lock of their own around it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()

    def all(self) -> tuple[Recorded, ...]:
        """Every record, first started first, whether it still runs or not."""
        try:
            return _Records.model_validate_json(self.path.read_text()).processes
        except FileNotFoundError:
            return ()
        except ValueError as error:
            raise Unavailable(
                "SandboxDamaged", f"{self.path} cannot be read; look for left-over processes and remove it"
            ) from error

    def find(self, name: str) -> Recorded | None:
        """The record of that name."""
        return next((process for process in self.all() if process.name == name), None)

    def running(self, name: str) -> bool:
        """Whether the process of that name was started and still runs."""
        process = self.find(name)
        return process is not None and process.alive

    def start(self, command: Command) -> Recorded:
        """Starts a command in a session of its own and records it; its output is appended to its log.

        Raises Unavailable when the program cannot be started. The caller sees to it that it does not run already.
        """
        command.log.parent.mkdir(parents=True, exist_ok=True)
        with self._lock, command.log.open("ab") as log:
            try:
                child = subprocess.Popen(
                    [str(part) for part in command.argv],
                    cwd=command.cwd,
                    env=dict(command.environment),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C and a closed terminal reach us alone: we stop it in order
                )
            except OSError as error:
                raise Unavailable("SandboxProcessDied", f"{command.argv[0]} cannot be started: {error}") from error
            _children[child.pid] = child
            record = Recorded(
                name=command.name,
                pid=child.pid,
                began_tick=began_tick(child.pid) or 0,
                boot=boot(),
                log=command.log,
                rank=command.rank,
                stop_signal=int(command.stop_signal),
                grace_s=command.grace.total_seconds(),
            )
            self._write((*(other for other in self.all() if other.name != command.name), record))
        return record

    def stop(self, name: str, *, with_signal: int | None = None) -> None:
        """Stops the process of that name and its descendants, kindly first; returns when all are gone.

        ``with_signal`` replaces the kind signal (SIGKILL: at once). Safe to repeat.
        """
        process = self.find(name)
        if process is None:
            return
        _stop(process, with_signal)
        with self._lock:
            self._write(other for other in self.all() if other != process)

    def stop_all(self, stopping: Callable[[str], None] = lambda _name: None) -> None:
        """Stops everything, highest rank first; ``stopping`` hears each name before its turn. Safe to repeat."""
        for process in sorted(self.all(), key=lambda process: process.rank, reverse=True):
            if process.alive:
                stopping(process.name)
            self.stop(process.name)

    def wait_until(
        self,
        ready: Callable[[], bool],
        *,
        watching: Sequence[str],
        within: timedelta,
        what: str,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        """Returns when ``ready()`` is true; ``what`` names the state waited for in errors.

        Raises Unavailable, with the end of the log, as soon as a watched process dies or when the time is over.
        """
        end = time.monotonic() + within.total_seconds()
        watched = [process for process in self.all() if process.name in watching]
        while not ready():
            for process in watched:
                if not process.alive:
                    raise Unavailable(
                        "SandboxProcessDied",
                        f"{process.name} ended before {what}. The end of {process.log}:\n{process.tail()}",
                    )
            if time.monotonic() > end:
                logs = "\n".join(f"The end of {process.log}:\n{process.tail()}" for process in watched)
                raise Unavailable("SandboxTimeout", f"after {within.total_seconds():.0f} s still not {what}. {logs}")
            tick()
            time.sleep(POLL_S)

    def _write(self, processes: Iterable[Recorded]) -> None:
        cache.write_atomically(self.path, _Records(processes=tuple(processes)).model_dump_json(indent=1) + "\n")


def _stop(process: Recorded, with_signal: int | None) -> None:
    family: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        if process.alive:
            family = psutil.Process(process.pid).children(recursive=True)
    process.send(process.stop_signal if with_signal is None else with_signal)
    process.send(signal.SIGCONT)  # a frozen process could not hear the other signal
    if not _gone(process, process.grace_s):
        process.send(signal.SIGKILL)
        _gone(process, KILLED_WITHIN_S)
    for orphan in family:  # psutil remembers when each began, and does not signal a stranger
        with contextlib.suppress(psutil.NoSuchProcess):
            orphan.kill()
    psutil.wait_procs(family, timeout=KILLED_WITHIN_S)


def _gone(process: Recorded, within_s: float) -> bool:
    end = time.monotonic() + within_s
    while process.alive:
        if time.monotonic() > end:
            return False
        time.sleep(POLL_S)
    return True


def began_tick(pid: int) -> int | None:
    """When a process began, in clock ticks since the machine's boot; None when it is gone or a zombie."""
    try:
        # The second field is the program's name in parentheses and may hold anything, so count from its end.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])


def boot() -> str:
    """The identity of this boot of the machine: ticks of another boot mean nothing."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
