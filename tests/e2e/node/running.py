"""A pod that runs on the node, and the starts of its container."""

import signal
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from e2e.node.spec import Pod


@dataclass(eq=False)
class Container:
    """One start of a pod's container."""

    given: dict[str, Any]
    process: subprocess.Popen[bytes]
    ports: Mapping[int, int]
    """Ports of the container, and those of the machine that lead to them."""
    log: Path


@dataclass(eq=False)
class Running:
    """A pod of this node."""

    pod: Pod
    folder: Path
    container: Container | None = None
    restarts: int = 0
    ended: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    @property
    def log(self) -> str:
        """Everything that its containers have printed."""
        files = sorted(self.folder.glob("*.log"), key=lambda path: int(path.stem))
        return "".join(path.read_text(encoding="utf-8", errors="replace") for path in files)

    def port(self, name: str) -> int:
        """The port of the machine that leads to a port of the container, by its name."""
        (number,) = [each["containerPort"] for each in self.pod.container["ports"] if each["name"] == name]
        assert self.container is not None, f"{self.pod.name} does not run"
        return self.container.ports[number]

    def kill(self, with_signal: int = signal.SIGKILL) -> None:
        """Something kills the process, and nobody has asked for it."""
        assert self.container is not None, f"{self.pod.name} does not run"
        self.container.process.send_signal(with_signal)
