"""`kubectl keep history` and `show`: what runs, what there is, and what it does."""

import json
import re

import pytest
import yaml

from .conftest import HASHES, VERSIONS, Terminal, definition

pytestmark = pytest.mark.component


def test_history_says_what_runs_and_why(terminal: Terminal) -> None:
    """In the middle of an incident one command says which version runs, who rolled back, and what else there is."""
    result = terminal.keep("history", "high-cpu")
    assert result.exit_code == 0, result.output
    first, hold, *_ = result.stdout.splitlines()
    assert first == "high-cpu in monitoring: v2 is active, v3 is held back"
    assert hold.endswith("by bob@example.com: Notifies every five minutes (incident 4711)")
    lines = [line.split() for line in result.stdout.splitlines() if line.startswith("v")]
    assert [(line[0], line[1]) for line in lines] == [(f"v{n}", HASHES[n][:8]) for n in (3, 2, 1)]
    assert "[production] Limit 20" in result.stdout
    assert [line.split()[-3:] for line in result.stdout.splitlines()[-4:]] == [
        ["v2", "Rollback", "bob@example.com"],
        ["v3", "AllAtOnce", "ann@example.com"],
        ["v2", "AllAtOnce", "ann@example.com"],
        ["v1", "AllAtOnce", "ann@example.com"],
    ]


def test_history_is_short_to_ask(terminal: Terminal) -> None:
    """Two questions, asked at once, select by label what they need; flags for the cluster are passed on."""
    terminal.keep("--context", "prod", "history", "high-cpu", "-n", "monitoring")
    flags = ["--context=prod", "--namespace=monitoring"]
    assert sorted(terminal.calls) == [
        [
            "get",
            "workflowrevisions.keep-operator.dev",
            "--selector=keep-operator.dev/workflow=high-cpu",
            "--output=json",
            *flags,
        ],
        ["get", "workflows.keep-operator.dev", "high-cpu", "--output=json", *flags],
    ]


def test_a_flag_that_is_given_twice_counts_once(terminal: Terminal) -> None:
    """An alias may set a namespace, and the command line another: the last one counts."""
    terminal.keep(
        "-n", "default", "history", "high-cpu", "-n", "monitoring", "--as", "eve", "--as-group", "a", "--as-group", "b"
    )
    for call in terminal.calls:
        assert call[-4:] == ["--namespace=monitoring", "--as=eve", "--as-group=a", "--as-group=b"]


def test_scripts_read_history_as_data(terminal: Terminal) -> None:
    """JSON and YAML are the same, and names are what kubectl takes."""
    told = json.loads(terminal.keep("history", "high-cpu", "-o", "json").stdout)
    assert yaml.safe_load(terminal.keep("history", "high-cpu", "-o", "yaml").stdout) == told
    assert told["activeRevision"] == 2
    assert [(each["number"], each["state"]) for each in told["revisions"]] == [
        (3, "held back"),
        (2, "active"),
        (1, "was active"),
    ]
    names = terminal.keep("history", "high-cpu", "-o", "name").stdout.split()
    assert names == [f"workflowrevision.keep-operator.dev/{VERSIONS[n]['metadata']['name']}" for n in (3, 2, 1)]


def test_versions_of_a_namesake_are_not_shown(terminal: Terminal) -> None:
    """A workflow that was deleted and made again does not show the versions of the old one that are still going."""
    stale = {**VERSIONS[1], "metadata": {**VERSIONS[1]["metadata"], "name": "stale"}}
    stale["spec"] = {**stale["spec"], "number": 9, "lineageId": "another"}
    terminal.put(stale)
    assert "v9" not in terminal.keep("history", "high-cpu").stdout


def test_a_version_that_was_brought_back_is_as_old_as_before(terminal: Terminal) -> None:
    """Its object is new, the version is not."""
    version = terminal.objects[next(key for key in terminal.objects if "-v2-" in key)]
    version["status"]["firstActiveAt"] = "2026-10-01T00:00:00Z"
    assert "# made 2026-10-01 00:00:00 UTC by ann@example.com" in terminal.keep("show", "high-cpu", "v2").stdout


@pytest.mark.parametrize(
    ("reference", "number"),
    [
        ("active", 2),
        ("desired", 3),
        ("latest", 3),
        ("previous", 1),
        ("3", 3),
        ("v1", 1),
        ("production", 2),
        ("tag:production", 2),
        (HASHES[1][:8], 1),
        (HASHES[3], 3),
    ],
)
def test_a_version_has_many_names(terminal: Terminal, reference: str, number: int) -> None:
    """However a version is called, the same one is meant."""
    result = terminal.keep("show", "high-cpu", reference)
    assert result.exit_code == 0, result.output
    assert yaml.safe_load(result.stdout) == definition(number * 10)
    assert result.stdout.startswith(f"# high-cpu v{number} ({HASHES[number][:8]})")


@pytest.mark.parametrize("reference", ["staging", "tag:3", "deadbeef"])
def test_a_version_that_is_not_there_is_named(terminal: Terminal, reference: str) -> None:
    """A slip of the finger says which versions there are, and has its own exit code; also where the read API is away."""
    result = terminal.keep("show", "high-cpu", reference, "--api-url", "http://127.0.0.1:1", "--api-token", "t")
    assert result.exit_code == 4
    told = (
        f'Error: high-cpu has no version "{reference}" with an object: there are v3, v2, v1. Of archived ones only the'
    )
    assert result.stderr.startswith(told)
    assert terminal.keep("show", "high-cpu", "v7").stderr == "Error: high-cpu has no v7 yet: there are v3, v2, v1\n"


def test_a_new_workflow_has_no_history_yet(terminal: Terminal) -> None:
    """Before the operator's first look nothing is made up."""
    terminal.objects.clear()
    terminal.put(
        {
            "apiVersion": "keep-operator.dev/v1alpha1",
            "kind": "Workflow",
            "spec": {},
            "metadata": {"name": "new", "namespace": "monitoring"},
        }
    )
    result = terminal.keep("history", "new")
    assert result.exit_code == 0
    assert result.stdout == "new in monitoring: the operator has not looked at it yet\n  It has no versions yet.\n"
    assert terminal.keep("show", "new").exit_code == 4


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ('Error from server (Forbidden): workflows is forbidden: User "eve" cannot list', 6),
        ("The connection to the server 10.0.0.1:6443 was refused - did you specify the right host or port?", 3),
        ("error: You must be logged in to the server (Unauthorized)", 3),
        ('error: context "nowhere" does not exist', 3),
        ('error: the server doesn\'t have a resource type "workflows"', 3),
    ],
)
def test_kubectls_complaints_reach_the_user(terminal: Terminal, words: str, code: int) -> None:
    """Scripts can tell what went wrong, and people read kubectl's own words."""
    terminal.failures["get"] = words
    result = terminal.keep("history", "high-cpu")
    assert result.exit_code == code
    assert result.stdout == ""
    assert words.partition(": ")[2][:20] in result.stderr


def test_the_wrong_namespace_is_seen_at_once(terminal: Terminal) -> None:
    """The most common slip at night: the message says where was looked."""
    result = terminal.keep("rollback", "nobody", "-m", "x")
    assert (result.exit_code, terminal.created) == (4, [])
    assert result.stderr == 'Error: there is no Workflow "nobody" in namespace monitoring\n'


def test_without_kubectl_the_remedy_is_said(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has installed the plugin alone learns what it needs."""
    monkeypatch.setenv("PATH", "")
    result = terminal.keep("history", "high-cpu")
    assert result.exit_code == 3
    assert "kubectl cannot be run" in result.stderr


def test_a_canary_and_shut_gates_are_told(terminal: Terminal) -> None:
    """Whoever looks during a release sees who has which share, at which step, and what is waited for."""
    flow = terminal.objects["workflows.keep-operator.dev/high-cpu"]
    flow["spec"]["release"] = {"strategy": {"type": "Canary", "canary": {"steps": [{"setWeight": 10}, {"pause": {}}]}}}
    del flow["status"]["hold"]
    flow["status"]["canary"] = {
        "revision": 3,
        "weight": 10,
        "stepIndex": 1,
        "stepStartedAt": "2026-11-25T05:00:00Z",
        "paused": True,
    }
    shown = terminal.keep("history", "high-cpu").stdout
    assert shown.startswith("high-cpu in monitoring: v2 is active, v3 is tried\n")
    assert (
        "  Canary: v3 has 10 % of the runs, at step 2 of 2 since 2026-11-25 05:00:00 UTC, waits for a person\n" in shown
    )
    assert re.search(r"v3 +[0-9a-f]{8} +canary", shown)

    del flow["status"]["canary"]
    third = next(each for name, each in terminal.objects.items() if "-v3-" in name)
    waiting = {"type": "Ready", "status": "Unknown", "reason": "AwaitingApproval", "message": "Approval is asked for"}
    third["status"]["conditions"].append(waiting)
    third["status"]["approvals"] = [{"actor": "dave", "decision": "Approve", "at": "2026-11-25T05:00:00Z"}]
    asked = {"status": "Unknown", "reason": "AwaitingApproval", "message": "v3 needs approval, 1 of 2 to come."}
    flow["status"]["conditions"] += [{"type": "Approved", **asked}, {"type": "Deployed", **asked}]
    terminal.put(flow)
    terminal.put(third)
    shown = terminal.keep("history", "high-cpu").stdout
    assert shown.count("v3 needs approval, 1 of 2 to come.") == 1
    assert re.search(r"v3 +[0-9a-f]{8} +awaits approval", shown)
    told = json.loads(terminal.keep("history", "high-cpu", "-o", "json").stdout)
    assert told["revisions"][0]["approvals"] == third["status"]["approvals"]


def test_who_took_it_back_is_told(terminal: Terminal) -> None:
    """A rollback by itself and an aborted canary do not read as if a person had rolled back."""
    flow = terminal.objects["workflows.keep-operator.dev/high-cpu"]
    flow["status"]["hold"] |= {"automatic": True, "actor": "keep-operator", "reason": "3 of 5 runs failed"}
    shown = terminal.keep("history", "high-cpu").stdout
    assert "  Taken back 2026-11-25 04:00:00 UTC by keep-operator: 3 of 5 runs failed\n" in shown
    flow = terminal.objects["workflows.keep-operator.dev/high-cpu"]
    flow["status"]["hold"] |= {"automatic": False, "actor": "bob", "reason": ""}
    flow["status"]["conditions"].append({"type": "Deployed", "status": "False", "reason": "Aborted", "message": "x"})
    assert "  Canary aborted 2026-11-25 04:00:00 UTC by bob\n" in terminal.keep("history", "high-cpu").stdout
