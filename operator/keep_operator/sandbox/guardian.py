"""The process that stops a sandbox when the one that attended to it is gone, however it went.

::

    make run ── pipe ──► guardian            the pipe closes when `make run` ends: Ctrl-C, SIGHUP, kill -9, a crash
        └── starts etcd, PostgreSQL ...      the guardian then stops what is still running, last started first

A pipe, not PR_SET_PDEATHSIG: that signal is tied to the thread that started a child, and gives no order.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from keep_operator.errors import Refused
from keep_operator.sandbox import cache
from keep_operator.sandbox.processes import Roster, bare_environment

RELEASED: Final = b"released\n"
LOCK: Final = "lock"  # held while a folder's processes are started or stopped
ATTENDED: Final = "attended.lock"  # held by the process that attends to a folder, and by its guardian


@contextlib.contextmanager
def posted(folder: Path, roster: Roster, *, log: Path) -> Iterator[None]:
    """Keeps a guardian over the processes of a folder's roster: when this process ends in any way, they are stopped.

    On leaving the block everything of the roster is stopped too. One process at a time attends to a folder: Refused
    tells who does; a guardian still at work is waited for.
    """
    with _attended(folder / ATTENDED) as held:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            child = subprocess.Popen(
                [sys.executable, "-m", __name__, str(roster.path), str(folder / LOCK)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=bare_environment(),
                pass_fds=[held],  # the lock lasts as long as the guardian, so nobody starts what it would stop
                start_new_session=True,
            )
        assert child.stdin is not None
        try:
            yield
        finally:
            roster.stop_all()
            with contextlib.suppress(OSError), child.stdin:
                child.stdin.write(RELEASED)
            child.wait()


@contextlib.contextmanager
def _attended(lock: Path) -> Iterator[int]:
    def waiting() -> None:
        if holder := _living_holder(lock):
            raise Refused(
                "SandboxBusy",
                f"process {holder} is already using the sandbox in {lock.parent}: end it first, "
                "or name another folder with KEEP_OPERATOR_SANDBOX_DIR",
            )

    with cache.locked(lock, waiting) as held:
        os.ftruncate(held, 0)
        os.write(held, f"{os.getpid()}\n".encode())
        yield held


def wait_for_leftover(folder: Path) -> None:
    """Returns when no guardian is still stopping what a process that is gone has left in the folder."""

    class Attended(Exception):
        pass

    def waiting() -> None:
        if _living_holder(folder / ATTENDED):
            raise Attended

    with contextlib.suppress(Attended), cache.locked(folder / ATTENDED, waiting):
        pass


def _living_holder(lock: Path) -> int | None:
    try:
        holder = int(lock.read_text())
        os.kill(holder, 0)
    except (ValueError, OSError):
        return None
    return holder


def main() -> None:
    """Waits for the end of the pipe on standard input, then stops the roster named on the command line.

    Arguments: the roster's file, and the lock that keeps starts and stops apart.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.stdin.buffer.read() != RELEASED:
        with cache.locked(Path(sys.argv[2])):
            Roster(Path(sys.argv[1])).stop_all(lambda name: print(f"stopping {name}", flush=True))  # noqa: T201


if __name__ == "__main__":
    main()
