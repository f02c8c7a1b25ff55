"""What a sandbox decides and keeps; no server is started here."""

import os
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from keep_operator.errors import Refused, Unavailable
from keep_operator.sandbox import instance, kubeconfig, options, tools
from keep_operator.sandbox import state as states
from keep_operator.sandbox.instance import Sandbox
from keep_operator.sandbox.options import Options
from keep_operator.sandbox.source import Programs
from keep_operator.sandbox.state import State
from unit.sandbox.recorder import Recorder, Silent

pytestmark = pytest.mark.unit

PROGRAMS = Programs("PATH", Path("/p/etcd"), Path("/p/kube-apiserver"), Path("/p/kube-controller-manager"))
PLAIN = State(cluster="programs", programs=PROGRAMS, kubernetes=(1, 36), database="embedded")
URL = "postgresql://someone:canary@db.example:5432/keep"


def made(folder: Path, state: State = PLAIN) -> Sandbox:
    """A sandbox that was started once, without its processes."""
    box = Sandbox(Options(folder))
    (folder / "postgres").mkdir(parents=True)
    (folder / "cluster").mkdir()
    (folder / "postgres/password").write_text("p@ss/word\n")
    (folder / "postgres/port").write_text("5555\n")
    (folder / "encryption.key").write_text("key\n")
    (folder / "database.url").write_text(URL + "\n")
    for name in kubeconfig.USERS:
        box.kubeconfig(name).write_text("{}")
    state.write(folder / "state.json")
    return box


def test_the_environment_survives_a_shell_whatever_the_folder_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`eval "$(keep-operator sandbox env)"` works in a folder with blanks, quotes and dollars."""
    folder = tmp_path / 'it\'s $HOME of "mine"; rm -rf x'
    box = made(folder)
    monkeypatch.setattr(tools, "ready", lambda: folder / "bin")
    script = 'eval "$1"; printf "%s\\n" "$KUBECONFIG" "$KEEP_OPERATOR_DATABASE_URL" "$PATH"'
    said = subprocess.run(["sh", "-c", script, "sh", box.exports()], capture_output=True, text=True, check=True)
    config, url, path = said.stdout.splitlines()
    assert config == str(folder / "admin.kubeconfig")
    assert url == "postgresql://keep_operator:p%40ss%2Fword@127.0.0.1:5555/keep_operator"
    assert path == f"{folder}/bin:{os.environ['PATH']}:{Path(sys.executable).parent}"


def test_a_given_database_is_what_the_environment_names(tmp_path: Path) -> None:
    """The URL of the first start is handed on, also from a shell that does not know it."""
    box = made(tmp_path, PLAIN.model_copy(update={"database": "given"}))
    assert box.environment()["KEEP_OPERATOR_DATABASE_URL"] == URL


def test_before_the_first_start_there_is_no_environment(tmp_path: Path) -> None:
    """An error, not an environment of files that do not exist: `eval` then changes nothing."""
    with pytest.raises(Refused, match="make one with `keep-operator sandbox start`"):
        Sandbox(Options(tmp_path)).exports()
    assert Sandbox(Options(tmp_path)).status() == []


def test_reset_removes_what_the_sandbox_made_and_nothing_else(tmp_path: Path) -> None:
    """The folder may be one that the user keeps other things in."""
    box = made(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    box.reset(Recorder())
    assert {file.name for file in tmp_path.iterdir()} <= {"notes.txt", "lock"}


def test_reset_keeps_the_key_of_a_database_that_it_does_not_remove(tmp_path: Path) -> None:
    """What a given database holds encrypted stays readable."""
    box = made(tmp_path, PLAIN.model_copy(update={"database": "given"}))
    box.reset(Recorder())
    assert box.key_file.read_text() == "key\n"


def test_stopping_and_resetting_what_never_was_is_no_error(tmp_path: Path) -> None:
    """`make clean` runs on a fresh clone too, and makes no folder."""
    box = Sandbox(Options(tmp_path / "none"))
    box.stop(Recorder())
    box.reset(Recorder())
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "next_one",
    [
        PLAIN.model_copy(update={"kubernetes": (1, 20)}),
        State(cluster="kind", database="embedded"),
        State(cluster="current", database="embedded"),
    ],
    ids=["older", "kind", "current"],
)
def test_a_folder_does_not_change_its_kind_by_accident(next_one: State, tmp_path: Path) -> None:
    """Data of another cluster or a newer version is neither misread nor silently left behind."""
    with pytest.raises(Refused, match=r"made with Kubernetes 1\.36.*sandbox reset"):
        PLAIN.check_successor(tmp_path, next_one)


def test_an_upgrade_and_another_database_are_fine(tmp_path: Path) -> None:
    """A newer API server reads older data."""
    PLAIN.check_successor(tmp_path, PLAIN.model_copy(update={"kubernetes": (1, 37), "database": "given"}))


def test_a_state_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Nobody meets a traceback for a file that was cut short."""
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(Refused, match=r"state\.json cannot be read"):
        states.read(tmp_path / "state.json")


def test_the_sandboxs_own_url_in_the_shell_does_not_count_as_given(tmp_path: Path) -> None:
    """After `eval "$(keep-operator sandbox env)"`, a start in the same shell starts the embedded database."""
    own = made(tmp_path).database_url()
    box = Sandbox(Options(tmp_path, database_url=own))
    assert box._decide_database() == "embedded"


def test_a_given_database_that_does_not_answer_is_refused_without_its_password(tmp_path: Path) -> None:
    """The error says what is wrong and never shows the URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for url in (f"postgresql://u:canary@127.0.0.1:{port}/keep", "postgresql://u:can%ary@h/keep"):
        box = Sandbox(Options(tmp_path, database_url=url))
        with pytest.raises(Unavailable, match="unset it to get a PostgreSQL of the sandbox's own") as caught:
            box._decide_database()
        assert "can" not in caught.value.message.replace("cannot", "")
        assert "canary" not in repr(box.options)


def test_a_half_of_the_start_that_fails_ends_the_other() -> None:
    """When PostgreSQL cannot start, nobody waits for the API server; the true reason is what is shown."""

    def fails(ended: threading.Event) -> None:
        raise Unavailable("SandboxProcessDied", "no disk")

    def waits(ended: threading.Event) -> None:
        tick = instance._ticking(Silent(), ended)
        while True:
            tick()

    with pytest.raises(Unavailable, match="no disk"):
        instance._side_by_side([fails, waits])


def test_options_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable is as good as none."""
    monkeypatch.chdir(tmp_path)
    assert options.read({"KEEP_OPERATOR_SANDBOX_DIR": "", "CLUSTER": ""}) == Options(tmp_path / ".sandbox")
    assert options.read({"KEEP_OPERATOR_SANDBOX_DIR": "/x", "CLUSTER": "current", "KUBEBUILDER_ASSETS": "/y"}) == (
        Options(Path("/x"), "current", "/y")
    )


def test_a_database_url_of_another_kind_is_refused_without_being_shown() -> None:
    """sqlite:/// and mysql:// are common mistakes; a password in them stays secret."""
    with pytest.raises(Refused, match="must look like postgresql://") as caught:
        options.read({"KEEP_OPERATOR_DATABASE_URL": "mysql://u:canary@[::1/db"})
    assert "canary" not in caught.value.message


def test_the_key_and_the_folder_are_the_owners_alone(tmp_path: Path) -> None:
    """What the sandbox makes for itself is nobody else's, and git never sees it."""
    box = Sandbox(Options(tmp_path / "box"))
    box._make_folder()
    assert stat.S_IMODE((tmp_path / "box").stat().st_mode) == 0o700
    assert (tmp_path / "box/.gitignore").read_text() == "*\n"
