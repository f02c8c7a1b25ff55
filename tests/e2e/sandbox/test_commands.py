"""The sandbox's commands as a user types them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.e2e

COMMAND = [sys.executable, "-m", "keep_operator", "sandbox"]
UP_WITHIN_S = 120


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A user with a kubeconfig of their own, which no command may read or write."""
    home = tmp_path / "home"
    (home / ".kube").mkdir(parents=True)
    (home / ".kube/config").write_text("this is not YAML: [")
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    kept = {key: os.environ[key] for key in ("PATH", "KUBEBUILDER_ASSETS") if key in os.environ}
    pip = {key: value for key, value in os.environ.items() if key.startswith("PIP_")}
    own = {"HOME": str(home), "XDG_CACHE_HOME": cache, "KEEP_OPERATOR_SANDBOX_DIR": str(tmp_path / "box")}
    return kept | pip | own


@pytest.fixture
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """Fails the test when a process of its folder still runs after it."""
    yield
    assert [process.cmdline() for process in left(tmp_path)] == []
    assert (tmp_path / "home/.kube/config").read_text() == "this is not YAML: ["


def left(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if str(folder) in " ".join(process.info["cmdline"] or ()) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=240
    )


@pytest.mark.usefixtures("nothing_left")
def test_from_start_to_reset(environment: dict[str, str], tmp_path: Path) -> None:
    """Start it, use it from a shell, stop it, start it again with the data still there, and remove it."""
    first = run(environment, "start")
    assert first.returncode == 0, first.stderr
    assert 'eval "$(keep-operator sandbox env)"' in first.stdout
    use = f'eval "$({sys.executable} -m keep_operator sandbox env)"; '
    said = subprocess.run(
        ["bash", "-euc", use + "kubectl create namespace mine; kubectl config current-context"],
        env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert said.stdout.splitlines()[-1] == "admin@keep-operator-sandbox", said.stderr
    assert run(environment, "status").returncode == 0
    assert run(environment, "stop").returncode == 0
    stopped = run(environment, "env")
    assert "The sandbox does not run" in stopped.stderr
    assert stopped.stdout
    assert run(environment, "status").returncode == 3
    assert run(environment, "start").returncode == 0
    again = subprocess.run(
        ["bash", "-euc", use + "kubectl get namespace mine"],
        env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    reset = run(environment, "reset", "--yes")
    assert reset.returncode == 0, reset.stderr
    assert {file.name for file in (tmp_path / "box").iterdir()} == {".gitignore", "lock", "attended.lock"}


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGHUP, 120), (signal.SIGKILL, -9)],
    ids=["Ctrl-C", "closed terminal", "kill -9"],
)
@pytest.mark.usefixtures("nothing_left")
def test_in_the_foreground_it_ends_with_its_command(
    number: int, code: int, environment: dict[str, str], tmp_path: Path
) -> None:
    """However the command ends, no server stays behind."""
    with subprocess.Popen([*COMMAND, "start", "--foreground"], env=environment, stderr=subprocess.PIPE) as command:
        assert command.stderr is not None
        for line in command.stderr:
            if b"The sandbox is up" in line:
                break
        assert len(left(tmp_path)) >= 4
        if number == signal.SIGHUP:
            command.stderr.close()  # every further line fails, and Python ends with 120 for what it could not flush
        command.send_signal(number)
        assert command.wait(UP_WITHIN_S) == code
    end = time.monotonic() + 60
    while left(tmp_path):
        assert time.monotonic() < end, [process.cmdline() for process in left(tmp_path)]
        time.sleep(0.1)


@pytest.mark.usefixtures("nothing_left")
def test_an_interrupted_start_leaves_nothing_behind(environment: dict[str, str], tmp_path: Path) -> None:
    """Ctrl-C in the middle of starting stops what had been started."""
    with subprocess.Popen([*COMMAND, "start"], env=environment, stderr=subprocess.PIPE) as command:
        end = time.monotonic() + UP_WITHIN_S
        while not any("kube-apiserver" in process.cmdline()[0] for process in left(tmp_path)):
            assert time.monotonic() < end
            time.sleep(0.02)
        command.send_signal(signal.SIGINT)
        assert command.stderr is not None
        said = command.stderr.read().decode()
        assert command.wait(UP_WITHIN_S) == 130
    assert "Traceback" not in said


@pytest.mark.usefixtures("nothing_left")
def test_a_server_that_ends_by_itself_ends_the_foreground_with_its_name(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """Nobody works for an hour with half a sandbox."""
    with subprocess.Popen([*COMMAND, "start", "--foreground"], env=environment, stderr=subprocess.PIPE) as command:
        assert command.stderr is not None
        for line in command.stderr:
            if b"The sandbox is up" in line:
                break
        (etcd,) = (process for process in left(tmp_path) if process.cmdline()[0].endswith("/etcd"))
        etcd.kill()
        said = command.stderr.read().decode()
        assert command.wait(UP_WITHIN_S) == 1
    assert "a part of the sandbox has ended" in said
    assert "etcd" in said
