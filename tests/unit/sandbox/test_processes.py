import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from keep_operator.errors import Unavailable
from keep_operator.sandbox import processes
from keep_operator.sandbox.processes import Command, Roster

pytestmark = pytest.mark.unit

LONG = timedelta(seconds=30)


@pytest.fixture
def roster(tmp_path: Path) -> Iterator[Roster]:
    roster = Roster(tmp_path / "processes.json")
    yield roster
    roster.stop_all()


def shell(tmp_path: Path, script: str, name: str = "server", grace_s: float = 30, rank: int = 0) -> Command:
    log = tmp_path / f"{name}.log"
    return Command(name, ["sh", "-c", script], log, tmp_path, rank=rank, grace=timedelta(seconds=grace_s))


def wait_for(path: Path) -> str:
    end = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < end, f"{path} was not written"
        time.sleep(0.02)
    return path.read_text()


def gone(pid: int) -> bool:
    return processes.began_tick(pid) is None


def test_a_later_command_finds_what_an_earlier_one_started(roster: Roster, tmp_path: Path) -> None:
    """`sandbox stop` is another process than `sandbox start`: all it has is the file."""
    started = roster.start(shell(tmp_path, "exec sleep 600"))
    later = Roster(roster.path)
    assert later.running("server")
    later.stop("server")
    assert gone(started.pid)
    assert later.all() == ()


def test_a_stranger_with_the_same_id_is_never_signalled(roster: Roster, tmp_path: Path) -> None:
    """The machine gives the ids of dead processes to new ones: here a stranger has it."""
    stranger = roster.start(shell(tmp_path, "exec sleep 600", name="stranger"))
    recorded = stranger.model_copy(update={"name": "old", "began_tick": stranger.began_tick - 100})
    assert not recorded.alive
    recorded.send(signal.SIGKILL)
    roster._write([*roster.all(), recorded])
    roster.stop("old")
    assert roster.find("old") is None
    assert stranger.alive
    roster.stop("stranger")


def test_a_record_of_another_boot_means_nothing(roster: Roster, tmp_path: Path) -> None:
    """After a reboot the same id at the same tick may be anything."""
    mine = roster.start(shell(tmp_path, "exec sleep 600"))
    before_reboot = mine.model_copy(update={"boot": "11111111-2222-3333-4444-555555555555"})
    assert mine.alive
    assert not before_reboot.alive
    before_reboot.send(signal.SIGKILL)
    assert mine.alive
    roster.stop("server")


def test_a_process_that_has_ended_does_not_count_as_running(roster: Roster, tmp_path: Path) -> None:
    """A dead child waits to be reaped by its parent; it is dead all the same, and is reaped."""
    started = roster.start(shell(tmp_path, "exit 3"))
    end = time.monotonic() + 30
    while roster.running("server"):
        assert time.monotonic() < end
        time.sleep(0.02)
    assert not psutil.pid_exists(started.pid)


def test_a_server_that_does_not_listen_to_the_kind_signal_is_killed(roster: Roster, tmp_path: Path) -> None:
    """Stopping ends, whatever the server thinks of it, and takes its children along."""
    script = "trap '' TERM; sleep 600 & echo $! > child.new; mv child.new child; while true; do sleep 1; done"
    started = roster.start(shell(tmp_path, script, grace_s=0.2))
    child = int(wait_for(tmp_path / "child"))
    roster.stop("server")
    assert gone(started.pid)
    assert gone(child)


def test_a_frozen_server_can_be_stopped(roster: Roster, tmp_path: Path) -> None:
    """A fault test that ends while a server is frozen leaves nothing behind."""
    started = roster.start(shell(tmp_path, "exec sleep 600"))
    started.send(signal.SIGSTOP)
    roster.stop("server")
    assert gone(started.pid)


def test_servers_stop_in_the_order_of_their_rank(roster: Roster, tmp_path: Path) -> None:
    """What depends on another goes before it, also after the lower one was restarted."""
    roster.start(shell(tmp_path, "exec sleep 600", name="operator", rank=10))
    roster.start(shell(tmp_path, "exec sleep 600", name="etcd", rank=0))
    roster.start(shell(tmp_path, "exec sleep 600", name="api", rank=1))
    stopped: list[str] = []
    roster.stop_all(stopped.append)
    assert stopped == ["operator", "api", "etcd"]
    roster.stop_all(stopped.append)
    assert len(stopped) == 3


def test_waiting_for_a_server_that_dies_shows_why(roster: Roster, tmp_path: Path) -> None:
    """Nobody waits two minutes for a server that has ended at once; the end of its log is the error."""
    roster.start(shell(tmp_path, "seq 100; echo the disk is on fire >&2; exit 1"))
    with pytest.raises(Unavailable, match=r"server ended before it answered(?s:.*)the disk is on fire") as caught:
        roster.wait_until(lambda: False, watching=["server"], within=LONG, what="it answered")
    assert "\n50\n" not in caught.value.message


def test_waiting_ends(roster: Roster, tmp_path: Path) -> None:
    """A server that lives and never answers is reported too."""
    roster.start(shell(tmp_path, "echo still thinking; exec sleep 600"))
    wait_for(tmp_path / "server.log")
    with pytest.raises(Unavailable, match="still not it answered"):
        roster.wait_until(lambda: False, watching=["server"], within=timedelta(0), what="it answered")
    roster.stop("server")


def test_a_program_that_is_not_there_is_named(roster: Roster, tmp_path: Path) -> None:
    """No traceback for a missing file."""
    with pytest.raises(Unavailable, match="/no/such/program cannot be started"):
        roster.start(Command("x", ["/no/such/program"], tmp_path / "x.log", tmp_path))
    assert roster.all() == ()


def test_a_damaged_roster_is_not_taken_for_an_empty_one(roster: Roster) -> None:
    """Otherwise processes would be forgotten for ever."""
    roster.path.write_text('{"processes": [{"na')
    with pytest.raises(Unavailable, match="left-over processes"):
        roster.all()
    roster.path.unlink()


def test_servers_do_not_inherit_the_users_credentials(
    roster: Roster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a proxy nor PGPASSWORD nor a cloud key reaches a server."""
    monkeypatch.setenv("PGPASSWORD", "canary")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example")
    roster.start(shell(tmp_path, "env > seen.new; mv seen.new seen; exec sleep 600"))
    seen = wait_for(tmp_path / "seen")
    assert "canary" not in seen
    assert "proxy" not in seen
    roster.stop("server")


ATTENDING = """
import signal, sys, time
from pathlib import Path
from keep_operator.sandbox import guardian
from keep_operator.sandbox.processes import Command, Roster
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # as a terminal starts it, though the tests may run under nohup
folder = Path(sys.argv[1])
roster = Roster(folder / "processes.json")
with guardian.posted(folder, roster, log=folder / "guardian.log"):
    for rank in range(2):
        roster.start(Command(f"server-{rank}", ["sleep", "600"], folder / "server.log", folder, rank=rank))
    print("up", flush=True)
    if "end" not in sys.argv:
        time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP], ids=["kill -9", "term", "hang up"])
def test_servers_end_with_the_process_that_attends_to_them(number: int, tmp_path: Path, roster: Roster) -> None:
    """A crash, a kill or a closed terminal leaves no server behind, and the folder can be used at once."""
    argv = [sys.executable, "-c", ATTENDING, str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as attending:
        assert attending.stdout is not None
        assert attending.stdout.readline() == b"up\n"
        started = [process.pid for process in roster.all()]
        attending.send_signal(number)
    assert len(started) == 2
    again = subprocess.run([*argv, "end"], capture_output=True, text=True, timeout=120, check=False)
    assert again.stdout == "up\n"
    assert all(gone(pid) for pid in started)
    assert roster.all() == ()
    assert (tmp_path / "guardian.log").read_text() == "stopping server-1\nstopping server-0\n"


def test_a_folder_is_attended_to_by_one_process_at_a_time(tmp_path: Path) -> None:
    """Two `make run` in one folder would pull the rug from under each other: the second is told who is there."""
    argv = [sys.executable, "-c", ATTENDING, str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as attending:
        assert attending.stdout is not None
        assert attending.stdout.readline() == b"up\n"
        second = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
        assert f"process {attending.pid} is already using the sandbox in {tmp_path}" in second.stderr
        attending.terminate()


def test_leaving_the_block_stops_everything(tmp_path: Path, roster: Roster) -> None:
    """A test session that ends as it should needs no guardian's help."""
    argv = [sys.executable, "-c", ATTENDING, str(tmp_path), "end"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert roster.all() == ()
    assert (tmp_path / "guardian.log").read_text() == ""


def test_the_tick_of_a_process_is_what_the_kernel_says() -> None:
    """The name of a program may hold spaces and parentheses; they do not shift the fields."""
    mine = processes.began_tick(os.getpid())
    assert mine is not None
    ticks_per_second = os.sysconf("SC_CLK_TCK")
    assert abs(psutil.boot_time() + mine / ticks_per_second - psutil.Process().create_time()) < 2
    assert processes.began_tick(2**22 + 1) is None
