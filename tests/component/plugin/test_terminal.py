"""What people see on a terminal, what the shell completes, and what `kubectl keep doctor` finds."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import Terminal

pytestmark = pytest.mark.component

OBEYED = "\x1b(?!\\[[0-9;]*m)|[\x07\x9b\u202e]|\r(?!\n)"
KEEP = str(Path(sys.executable).with_name("kubectl-keep"))


def on_a_terminal(terminal: Terminal, *words: str, **environment: str) -> str:
    """What a terminal of 80 columns shows."""
    terminal.save()
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", "TERM": "xterm-256color", **environment}
    environment.pop("NO_COLOR", None) if "NO_COLOR" not in environment else None
    process = subprocess.Popen([KEEP, *words], stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other end is closed: that is how Linux says it
            break
        if not part:
            break
        shown += part
    os.close(ours)
    process.wait()
    return shown.decode()


def plain(text: str) -> list[str]:
    return re.sub(r"\x1b\[[0-9;]*m", "", text).replace("\r", "").splitlines()


def test_tables_fit_the_terminal(terminal: Terminal) -> None:
    """A long note is broken within its column, and no line runs over; states have colours."""
    long = terminal.objects[next(key for key in terminal.objects if "-v2-" in key)]
    long["spec"]["changeNote"] = "Limit lowered since the channel drowned in messages " * 4
    shown = on_a_terminal(terminal, "history", "high-cpu")
    assert "\x1b[32mactive" in shown
    assert "\x1b[31mheld back" in shown
    lines = plain(shown)
    assert max(map(len, lines)) <= 80
    column = next(line.index("NOTE") for line in lines if "NOTE" in line)
    broken = [line for line in lines if line.startswith(" " * column)]
    assert len(broken) > 5
    assert all(line[column] != " " for line in broken)


def test_colours_can_be_done_without(terminal: Terminal) -> None:
    """NO_COLOR is honoured, and a pipe gets neither colours nor broken lines."""
    assert "\x1b[3" not in on_a_terminal(terminal, "history", "high-cpu", NO_COLOR="1")
    terminal.objects[next(key for key in terminal.objects if "-v2-" in key)]["spec"]["changeNote"] = "word " * 100
    piped = terminal.keep("history", "high-cpu").stdout
    assert "\x1b" not in piped
    assert any(len(line) > 500 for line in piped.splitlines())


@pytest.mark.parametrize("words", [("history", "high-cpu"), ("diff", "high-cpu", "2", "3")])
def test_nobody_else_draws_on_the_screen(terminal: Terminal, words: tuple[str, ...]) -> None:
    """Whoever may write a note, a reason or a definition cannot clear the terminal of who reads it, nor turn its words around."""
    evil = "fine\x1b[2J\x1b]0;owned\x07\rrewritten \u202egnorw\x9b1A"
    for each in terminal.objects.values():
        if each["kind"] == "WorkflowRevision":
            each["spec"]["changeNote"] = evil
            each["spec"]["definition"]["consts"] = {"word": f"{evil} {each['metadata']['name']}"}
        for told in (each.get("status", {}).get("hold"), *each.get("status", {}).get("deployments", ())):
            if told:
                told["reason"] = evil
    for shown in (on_a_terminal(terminal, *words), terminal.keep(*words).stdout):
        assert "fine" in shown
        assert not re.search(OBEYED, shown), repr(shown)
    assert not re.search(OBEYED, on_a_terminal(terminal, "show", "high-cpu", "2"))
    assert "\u202e" in terminal.keep("show", "high-cpu", "2").stdout


@pytest.mark.parametrize("hanging", [["get"], []])
def test_who_interrupts_is_not_told_no(terminal: Terminal, hanging: list[str]) -> None:
    """Ctrl-C ends at once, with an exit code of its own; a decision that was made stays, and it says so."""
    terminal.hanging = hanging
    terminal.save()
    process = subprocess.Popen(
        [KEEP, "rollback", "high-cpu", "-m", "x"], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr is not None
    if hanging:
        while not (terminal.folder / "calls").exists():
            time.sleep(0.01)
    else:
        assert "waiting for the operator" in process.stderr.readline()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: kubectl too
    _, rest = process.communicate()
    assert process.returncode == 130
    assert rest.endswith(
        "Interrupted.\n" if hanging else f"kubectl get wfd {terminal.created[0]['metadata']['name']}\n"
    )


def test_a_reader_may_have_seen_enough(terminal: Terminal) -> None:
    """``kubectl keep export | head -1`` ends in peace when nobody reads on."""
    terminal.objects["workflows.keep-operator.dev/high-cpu"]["spec"]["definition"]["consts"]["long"] = "x" * 200_000
    terminal.save()
    process = subprocess.Popen([KEEP, "export"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.read(1) == b"#"
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 0


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        (["hi"], ["history"]),
        (["history", "hi"], ["high-cpu"]),
        (["show", "high-cpu", "p"], ["previous", "production"]),
        (["show", "high-cpu", "v"], ["v3", "v2", "v1"]),
        (["rollback", "high-cpu", "--to", "v1"], ["v1"]),
        (["history", "-n", "monitoring", ""], ["high-cpu"]),
    ],
)
def test_kubectl_completes(terminal: Terminal, line: list[str], offered: list[str]) -> None:
    """`kubectl keep <TAB>` offers commands, workflows and versions, by the words that kubectl hands on."""
    terminal.save()
    program = str(Path(sys.executable).with_name("kubectl_complete-keep"))
    done = subprocess.run([program, *line], capture_output=True, text=True, check=True)
    *found, directive = done.stdout.splitlines()
    assert [each.partition("\t")[0] for each in found] == offered
    assert directive == ":4"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_are_told_how_to_complete(terminal: Terminal, shell: str) -> None:
    """The script for a shell names the program and the variable that it answers to."""
    script = terminal.keep("completion", shell).stdout
    assert "kubectl-keep" in script
    assert "_KUBECTL_KEEP_COMPLETE" in script


def test_doctor_says_what_is_missing(terminal: Terminal) -> None:
    """What is not there is named with a remedy, and the exit code says that something is wrong."""
    well = terminal.keep("doctor", "--api-url", "http://127.0.0.1:1", "--api-token", "x")
    assert well.exit_code == 0, well.output
    assert "you       carol@example.com" in well.stdout
    assert "warn  read API" in well.stdout
    terminal.denied = ["create workflowdecisions.keep-operator.dev"]
    ill = terminal.keep("doctor", "-o", "json", "--api-url", "http://127.0.0.1:1", "--api-token", "x")
    assert ill.exit_code == 1
    (failed,) = [each for each in json.loads(ill.stdout) if each["verdict"] == "FAIL"]
    assert failed["fact"] == "you may not create workflowdecisions.keep-operator.dev: roll back, tag, note"
    terminal.failures["version"] = "Unable to connect to the server: dial tcp: lookup nowhere"
    away = terminal.keep("doctor")
    assert away.exit_code == 1
    assert "FAIL  cluster" in away.stdout
