"""Operator processes as a cluster would run them: own account, own environment, killed and started at will."""

import json
import os
import re
import signal
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from e2e.cluster import eventually
from e2e.started import Process


class Operator:
    """One `keep-operator operate` process, or that of another command which has the same pages."""

    def __init__(self, environment: Mapping[str, str], log: Path, command: str = "operate") -> None:
        self._log_path = log
        log.touch()
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("KEEP_OPERATOR_")}
        given = {"KEEP_OPERATOR_HEALTH_PORT": "0", "KEEP_OPERATOR_LOG_FORMAT": "json", **environment}
        self.process = Process(command, {**inherited, **given}, log)

    @property
    def log(self) -> str:
        """Everything it has printed so far."""
        return self._log_path.read_text(encoding="utf-8", errors="replace")

    @property
    def port(self) -> int:
        """The port of its pages, known once it serves them."""
        found = eventually(
            lambda: (re.search(r'"port": (\d+)', self.log), self.process.poll()),
            lambda seen: seen[0] or seen[1] is not None,
        )[0]
        assert found, f"the operator ended: {self.log[-3000:]}"
        return int(found[1])

    def page(self, path: str) -> tuple[int, str]:
        """Status and text of one of its pages."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def await_ready(self) -> "Operator":
        """Returns once /readyz says so."""
        eventually(lambda: self.page("/readyz"), lambda seen: seen[0] == 200, "/readyz")
        return self

    def metrics(self, name: str) -> Counter[str]:
        """The values of one metric by its labels."""
        found = re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)$", self.page("/metrics")[1], re.MULTILINE)
        return Counter({labels: int(float(value)) for labels, value in found})

    @property
    def leads(self) -> bool:
        """Whether it is the one that writes."""
        return "leading, epoch" in self.page("/readyz")[1]

    def told(self, message: str = "", level: str = "") -> list[dict[str, Any]]:
        """The log lines of one message or of one level, oldest first."""
        whole, _, _ = self.log.rpartition("\n")  # the last line may be half written
        lines = (json.loads(line) for line in whole.splitlines() if line.startswith("{"))
        return [line for line in lines if message in ("", line["msg"]) and level in ("", line["level"])]

    def reconciles(self) -> int:
        """How many looks it has taken."""
        return sum(self.metrics("keep_operator_reconciles_total").values())

    def stop(self, with_signal: int = signal.SIGTERM) -> int:
        """Its exit code; it ends within a few seconds."""
        self.process.send_signal(with_signal)
        return self.process.wait(30)
