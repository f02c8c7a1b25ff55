"""Processes of the program, forked from one that has imported it already: a start costs what the program does, not its imports.

They are like any other from `main` on: own pid, environment, files and signals. Pods and the sandbox's own processes
start as they do for users (`tests/e2e/node`, `tests/e2e/sandbox`).
"""

import multiprocessing
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_BASE: Final = multiprocessing.get_context("forkserver")
_BASE.set_forkserver_preload(["keep_operator.__main__", "keep_operator.operate", "uvloop"])


class Process:
    """One process, with what the tests need of `subprocess.Popen`."""

    def __init__(self, command: str, environment: Mapping[str, str], log: Path) -> None:
        self._process = _BASE.Process(target=_become, args=(command, dict(environment), str(log)))
        self._process.start()

    @property
    def pid(self) -> int:
        """Its number."""
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """Its exit code, or minus the signal that ended it; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout_s: float) -> int:
        """Its exit code; fails when it does not end in time."""
        self._process.join(timeout_s)
        code = self.poll()
        assert code is not None, f"process {self.pid} did not end within {timeout_s} s"
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)


def _become(command: str, environment: dict[str, str], log: str) -> None:
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["keep-operator", command]
    from keep_operator.__main__ import main

    main()
