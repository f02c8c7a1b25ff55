"""A cluster of kind, where there is a Docker engine to run it."""

import subprocess
from pathlib import Path

import pytest

from keep_operator.sandbox import display, source
from keep_operator.sandbox.instance import Sandbox
from keep_operator.sandbox.options import Options

pytestmark = [pytest.mark.e2e, pytest.mark.needs_docker("kind runs its node in a container")]


@pytest.mark.timeout(900)  # the first start pulls an image of about 1 GB
def test_from_start_to_reset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster is there, the operator is somebody without rights in it, and nothing is left in the end."""
    if source.choose("", "") != source.Kind():
        pytest.skip("needs_docker: kind runs its node in a container")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "own"))
    box = Sandbox(Options(tmp_path / "box"))
    with display.opened() as shown:
        try:
            box.start(shown)
            assert all(part.fine for part in box.status())
            argv = ["kubectl", "--kubeconfig", str(box.kubeconfig("operator")), "auth", "can-i", "list", "secrets"]
            assert subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip() == "no"
        finally:
            box.reset(shown)
    assert not (tmp_path / "own").exists()
