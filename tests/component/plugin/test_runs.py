"""`kubectl keep run`, `runs` and `cancel`: what is asked for, and what is told of it."""

import json
from typing import Any

import pytest

from keep_operator.resources import run
from keep_operator.resources.kinds import API_VERSION
from keep_operator.resources.shapes import Invalid

from .conftest import HASHES, Terminal

pytestmark = pytest.mark.component
Json = dict[str, Any]


def status(state: str, truth: str, reason: str, message: str, **more: Any) -> Json:
    """What the operator says of a run."""
    told = {"type": "Succeeded", "status": truth, "reason": reason, "message": message}
    return {"state": state, "revision": {"number": 2}, "conditions": [told], **more}


def becomes(terminal: Terminal, *states: Json) -> None:
    """What the next run that is watched goes through."""
    terminal.watched = [{"metadata": {"name": "x"}, "spec": {}, "status": each} for each in states]


RUNNING = status("Running", "Unknown", "Running", "v2 (12345678) is under way")
DONE = status("Succeeded", "True", "Completed", "v2 (12345678) has run to its end", duration="12s")
FAILED = status("Failed", "False", "StepFailed", "v2 (12345678) failed: no route to host")


def listed(name: str, at: str, state: Json, **spec: Any) -> Json:
    """A WorkflowRun that is there."""
    return {
        "apiVersion": API_VERSION,
        "kind": "WorkflowRun",
        "metadata": {"name": name, "namespace": "monitoring", "creationTimestamp": at},
        "spec": {"workflowRef": {"name": "high-cpu"}, **spec},
        "status": state,
    }


def test_a_run_is_one_call(terminal: Terminal) -> None:
    """Without a word more it is of the active version, and nobody waits."""
    result = terminal.keep("run", "high-cpu")
    assert result.exit_code == 0, result.output
    (made,) = terminal.created
    assert made["spec"] == {"workflowRef": {"name": "high-cpu"}}
    assert made["metadata"]["namespace"] == "monitoring"
    assert result.stdout == f"Run {made['metadata']['name']} is asked for; what becomes of it: kubectl get wfrun " + (
        f"{made['metadata']['name']}\n"
    )


@pytest.mark.parametrize(
    ("words", "spec"),
    [
        (("--revision", "v1"), {"revision": {"number": 1}}),
        (("--revision", "production"), {"revision": {"number": 2}}),
        (("--revision", HASHES[3][:8]), {"revision": {"number": 3}}),
        (("--revision", "7"), {"revision": {"number": 7}}),
        (("--revision", "staging"), {"revision": {"tag": "staging"}}),
        (("--revision", "a" * 64), {"revision": {"contentHash": "a" * 64}}),
        (("--revision", "active"), {}),
        (("--mode", "dryrun"), {"mode": "DryRun"}),
        (("--input", "host=db-1", "--input", "note=a=b"), {"inputs": {"host": "db-1", "note": "a=b"}}),
        (("--input-json", "limit=80", "--input-json", 'list=["a"]'), {"inputs": {"limit": 80, "list": ["a"]}}),
        (("--retry", "high-cpu-1"), {"retryOf": {"name": "high-cpu-1"}}),
        (("--run-timeout", "5m"), {"timeout": "5m"}),
        (("--idempotency-key", "incident-1"), {"idempotencyKey": "incident-1"}),
    ],
)
def test_what_is_asked_for_is_what_the_operator_takes(
    terminal: Terminal, words: tuple[str, ...], spec: dict[str, object]
) -> None:
    """What is made is valid by the operator's own rules, and says what was asked for."""
    result = terminal.keep("run", "high-cpu", *words)
    assert result.exit_code == 0, result.output
    (made,) = terminal.created
    assert made["spec"] == {"workflowRef": {"name": "high-cpu"}, **spec}
    parsed = run.parse_spec(made["spec"])
    assert not isinstance(parsed, Invalid), parsed
    assert run.violations(parsed, made["metadata"]["name"]) == ()


def test_waiting_for_the_end(terminal: Terminal) -> None:
    """A script learns by the exit code whether it succeeded, and a person what came of it."""
    becomes(terminal, RUNNING, DONE)
    result = terminal.keep("run", "high-cpu", "--wait")
    assert (result.exit_code, result.stdout) == (0, "Succeeded: v2 (12345678) has run to its end, in 12s\n")
    becomes(terminal, RUNNING, FAILED)
    result = terminal.keep("run", "high-cpu", "--wait")
    assert result.exit_code == 1
    assert "StepFailed: v2 (12345678) failed: no route to host" in result.stderr
    page = {"resultUrl": "https://keep.example.com/r/1"}
    for state, stream in ((DONE, "stdout"), (FAILED, "stderr")):
        becomes(terminal, state | page)
        told = getattr(terminal.keep("run", "high-cpu", "--wait"), stream)
        assert told.endswith(". See https://keep.example.com/r/1\n"), told


def test_a_run_that_is_refused_is_told(terminal: Terminal) -> None:
    """It never starts, so nobody waits for it."""
    becomes(terminal, status("Failed", "False", "Suspended", 'Workflow "high-cpu" is suspended'))
    result = terminal.keep("run", "high-cpu", "--wait")
    assert result.exit_code == 1
    assert 'Suspended: Workflow "high-cpu" is suspended' in result.stderr


def test_following_the_steps(terminal: Terminal) -> None:
    """Each step is printed once for each thing that becomes of it."""
    one = {"name": "look", "state": "Running"}
    two = {"name": "look", "state": "Succeeded", "duration": "2s"}
    bad = {"name": "tell", "state": "Failed", "message": "no route to host"}
    becomes(terminal, RUNNING | {"steps": [one]}, RUNNING | {"steps": [two]}, FAILED | {"steps": [two, bad]})
    result = terminal.keep("run", "high-cpu", "--follow")
    assert result.stdout == "look: Running\nlook: Succeeded in 2s\ntell: Failed: no route to host\n"
    assert result.exit_code == 1


def test_a_run_that_takes_longer_than_somebody_waits(terminal: Terminal) -> None:
    """It goes on, and the message says how to end it."""
    becomes(terminal, RUNNING)
    result = terminal.keep("run", "high-cpu", "--wait", "--timeout", "0.5")
    assert result.exit_code == 5
    assert "It goes on; to end it: kubectl keep cancel x" in result.stderr


def test_a_call_that_is_repeated_starts_nothing_more(terminal: Terminal) -> None:
    """With a key the second call meets the run of the first; for something else the key cannot be taken."""
    words = ("run", "high-cpu", "--idempotency-key", "incident-1", "-o", "name")
    first, second = terminal.keep(*words), terminal.keep(*words)
    assert first.stdout == second.stdout != ""
    assert len([name for name in terminal.objects if "workflowrun" in name]) == 1
    other = terminal.keep(*words, "--mode", "DryRun")
    assert other.exit_code == 6
    assert "take another --idempotency-key" in other.stderr


def test_a_dry_run_of_the_command_makes_nothing(terminal: Terminal) -> None:
    """The manifest is printed, to be kept or applied."""
    result = terminal.keep("run", "high-cpu", "--dry-run", "-o", "json")
    assert json.loads(result.stdout)["kind"] == "WorkflowRun"
    assert terminal.created == []


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("run", "low-cpu"), 4, 'there is no Workflow "low-cpu"'),
        (("run", "high-cpu", "--input", "host"), 2, "KEY=VALUE"),
        (("run", "high-cpu", "--input", "=x"), 2, "KEY=VALUE"),
        (("run", "high-cpu", "--input-json", "a={"), 2, "is no JSON"),
        (("run", "high-cpu", "--mode", "maybe"), 2, "maybe"),
        (("runs", "low-cpu"), 4, 'there is no Workflow "low-cpu"'),
        (("cancel", "gone"), 4, "gone"),
    ],
)
def test_what_cannot_be_asked_for(terminal: Terminal, words: tuple[str, ...], code: int, told: str) -> None:
    """A slip is told before anything is made."""
    result = terminal.keep(*words)
    assert result.exit_code == code, result.output
    assert told in result.output + result.stderr
    assert terminal.created == []


def test_runs_that_have_an_object(terminal: Terminal) -> None:
    """The newest first; filters combine; those of other workflows are not there."""
    for each in (
        listed("one", "2026-11-25T01:00:00Z", DONE),
        listed("two", "2026-11-25T02:00:00Z", FAILED, trigger="API"),
        listed("three", "2026-11-25T03:00:00Z", RUNNING | {"revision": {"number": 3}}),
        listed("four", "2026-11-25T04:00:00Z", {}),
        listed("other", "2026-11-25T05:00:00Z", DONE, workflowRef={"name": "low-cpu"}),
    ):
        terminal.put(each)
    table = terminal.keep("runs", "high-cpu").stdout.splitlines()
    assert [line.split()[0] for line in table] == ["NAME", "four", "three", "two", "one"]
    assert "v3" in table[2] and "Running" in table[2]
    for words, names in (
        (("--state", "failed"), ["two"]),
        (("--revision", "2"), ["two", "one"]),
        (("--trigger", "Manual", "--revision", "2"), ["one"]),
        (("--revision", "production"), ["two", "one"]),
        (("--limit", "1"), ["four"]),
        (("--state", "Cancelled"), []),
    ):
        told = terminal.keep("runs", "high-cpu", *words, "-o", "json")
        assert [each["metadata"]["name"] for each in json.loads(told.stdout)] == names, words
    assert terminal.keep("runs", "high-cpu", "--state", "Cancelled").stdout == "No runs.\n"


def test_filters_that_only_the_read_api_knows(terminal: Terminal) -> None:
    """Objects are kept for an hour or so: who asks for a time means all runs."""
    result = terminal.keep("runs", "high-cpu", "--from", "2026-11-25T00:00:00Z")
    assert result.exit_code == 2
    assert "--all" in result.output + result.stderr


def test_cancel(terminal: Terminal) -> None:
    """One patch of one field; what has ended is told to have."""
    terminal.put(listed("one", "2026-11-25T01:00:00Z", RUNNING))
    terminal.put(listed("two", "2026-11-25T01:00:00Z", DONE))
    assert terminal.keep("cancel", "one").stdout == "Run one is to be ended: kubectl get wfrun one\n"
    (call,) = [words for words in terminal.calls if words[0] == "patch"]
    assert '--patch={"spec": {"cancel": true}}' in call
    assert "has ended already" in terminal.keep("cancel", "two").stdout
