"""Calls ``kubectl keep`` as users do: by a real kubectl, which finds the plugin on PATH."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.cluster import Kube

PLUGINS = Path(sys.executable).parent


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


Keep = Callable[..., Done]


@pytest.fixture
def keep(kube: Kube, namespace: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Keep:
    """``kubectl keep`` in the test's namespace."""
    monkeypatch.setenv("PATH", f"{kube.tools}:{PLUGINS}:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KUBECONFIG", str(kube.kubeconfig))

    def call(*words: str, stdin: str | None = None) -> Done:
        argv = ["kubectl", "keep", *words, f"--namespace={namespace}"]
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=120, check=False)
        return Done(done.returncode, done.stdout, done.stderr)

    return call
