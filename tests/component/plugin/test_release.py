"""`kubectl keep release`: how far it has come, and what to do next; once, or followed to its end."""

import json
import os
import pty
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from keep_operator.plugin import release_view

from .conftest import HASHES, Json, Terminal
from .test_plan import META, tenant
from .test_terminal import KEEP

pytestmark = pytest.mark.component

STEPS = [
    {"setWeight": 10},
    {"pause": {"duration": "10m"}},
    {"analysis": {"minRuns": 5, "window": "30m", "maxFailureRatePercent": 10}},
    {"setWeight": 50},
    {"pause": {}},
]
CANARY = {"strategy": {"type": "Canary", "canary": {"steps": STEPS}}}


def flow(terminal: Terminal) -> Json:
    """The Workflow, to be changed."""
    found: Json = terminal.objects["workflows.keep-operator.dev/high-cpu"]
    return found


def deployed(terminal: Terminal, status: str, reason: str, message: str) -> None:
    """What the operator says of the release."""
    told = flow(terminal)["status"]["conditions"]
    kept = [each for each in told if each["type"] not in ("Deployed", "Approved")]
    at = {"lastTransitionTime": META["creationTimestamp"]}
    condition = {"type": "Deployed", "status": status, "reason": reason, "message": message, **at}
    flow(terminal)["status"]["conditions"] = [*kept, condition]


@pytest.fixture
def waiting(terminal: Terminal) -> Terminal:
    """v2 is active, v3 is asked for and has never been active."""
    terminal.put(tenant())
    found = flow(terminal)
    found["metadata"] |= {
        "uid": "w-1",
        "resourceVersion": "9",
        "generation": 3,
        "creationTimestamp": META["creationTimestamp"],
    }
    status = found["status"]
    del status["hold"]
    status["history"] = status["history"][2:]
    status |= {
        "tenantId": "keep",
        "observedGeneration": 3,
        "activeRevision": {
            "number": 2,
            "contentHash": HASHES[2],
            "since": "2026-11-25T02:00:00Z",
            "reason": "AllAtOnce",
        },
        "latestCreatedRevision": {"number": 3, "contentHash": HASHES[3]},
    }
    for number in (1, 2):
        name = next(name for name in terminal.objects if f"-v{number}-" in name)
        terminal.objects[name]["status"]["firstActiveAt"] = f"2026-11-25T0{number}:00:00Z"
    return terminal


def third(terminal: Terminal) -> Json:
    """The object of v3."""
    return next(each for name, each in terminal.objects.items() if "-v3-" in name)


def test_a_version_that_waits_is_shown_with_all_that_it_waits_for(waiting: Terminal) -> None:
    """Whoever comes in the morning sees who has said yes, what is left to do, and the commands that do it."""
    approval = {"required": "Always", "minApprovals": 2, "approvers": {"users": ["dave"], "groups": ["sre"]}}
    checklist = [
        {"id": "load", "title": "Load was looked at"},
        {"id": "dry", "title": "Ten dry runs", "auto": "runs.dryRun.succeeded >= 10"},
    ]
    flow(waiting)["spec"]["release"] = {"approval": approval, "checklist": checklist}
    third(waiting)["status"] |= {
        "approvals": [{"actor": "dave", "decision": "Approve", "at": "2026-11-25T05:00:00Z"}],
        "checklist": [{"id": "dry", "done": True, "by": "keep-operator", "at": "2026-11-25T05:00:00Z"}],
    }
    deployed(waiting, "Unknown", "AwaitingApproval", "v3 needs approval, 1 of 2 to come.")
    assert waiting.keep("release", "high-cpu").stdout == WAITING
    told = json.loads(waiting.keep("release", "high-cpu", "-o", "json").stdout)
    assert (told["phase"], [each["done"] for each in told["checklist"]]) == ("Waiting", [False, True])


def test_who_may_not_read_the_tenant_sees_what_the_operator_waits_for(waiting: Terminal) -> None:
    """A floor that the user cannot see still holds the version, and the operator's own words say so."""
    waiting.failures["get tenants"] = 'Error from server (Forbidden): User "eve" cannot list resource "tenants"'
    deployed(waiting, "Unknown", "ChecklistIncomplete", 'Left to do for v3: load ("Load"). Decide CheckItem.')
    told = flow(waiting)["status"]["conditions"]
    told.append({**told[-1], "type": "Approved", "reason": "AwaitingApproval", "message": "v3 needs approval."})
    shown = waiting.keep("release", "high-cpu")
    assert 'Checklist: Left to do for v3: load ("Load")' in shown.stdout
    assert "Approval: v3 needs approval." in shown.stdout
    assert "kubectl keep approve high-cpu v3" in shown.stdout


def test_a_canary_is_shown_with_its_share_and_figures(waiting: Terminal) -> None:
    """During a canary one look tells who has which share, what was measured, and what comes next."""
    flow(waiting)["spec"]["release"] = CANARY
    flow(waiting)["status"]["canary"] = {
        "revision": 3,
        "weight": 10,
        "stepIndex": 2,
        "stepStartedAt": "2026-11-25T05:00:00Z",
        "analysis": {"runs": 3, "failures": 1, "failurePermille": 333, "verdict": "Pending"},
    }
    deployed(waiting, "Unknown", "CanaryInProgress", "v3 has 10 % of the runs, v2 the rest")
    assert waiting.keep("release", "high-cpu", "-n", "monitoring").stdout == TRIED
    flow(waiting)["status"]["canary"] |= {"stepIndex": 4, "weight": 50, "analysis": None}
    deployed(waiting, "Unknown", "CanaryPaused", "v3 waits for a person")
    shown = waiting.keep("release", "high-cpu").stdout
    assert shown.startswith("high-cpu in monitoring: v3 is tried, and waits for a person\n")
    assert "Next: kubectl keep promote high-cpu\n" in shown


@pytest.mark.parametrize(
    ("reason", "phase", "command"),
    [
        ("AutoRolledBack", "TakenBack", "retry high-cpu"),
        ("Aborted", "Aborted", "retry high-cpu"),
        ("RejectedByUser", "Rejected", "retry high-cpu"),
        ("RolledBack", "RolledBack", "resume high-cpu"),
        ("Denied", "Denied", None),
        ("Pinned", "Pinned", "pin high-cpu --remove"),
    ],
)
def test_an_end_that_nobody_wanted_is_exit_code_1(
    waiting: Terminal, reason: str, phase: str, command: str | None
) -> None:
    """A pipeline that watches learns how it ended, and people how it can go on."""
    deployed(waiting, "True" if reason == "Pinned" else "False", reason, "So it is")
    told = json.loads(waiting.keep("release", "high-cpu", "-o", "json").stdout)
    assert (told["phase"], told["next"]) == (phase, [f"kubectl keep {command}"] if command else [])
    watched = waiting.keep("release", "high-cpu", "--watch")
    assert (watched.exit_code, watched.stderr) == (1, "Error: So it is\n")


def test_what_is_released_ends_the_watching(waiting: Terminal) -> None:
    """Active and not watched any more is the end; within the window of automatic rollback it is not."""
    flow(waiting)["status"]["activeRevision"] = {"number": 3, "since": "2026-11-25T05:00:00Z", "reason": "Canary"}
    deployed(waiting, "True", "RevisionActive", "v3 is active")
    done = waiting.keep("release", "high-cpu", "--watch")
    assert (done.exit_code, done.stdout[8:]) == (0, "  v3 is released: v3 is active\n")
    guard = {"enabled": True, "window": "876000h", "minRuns": 5, "maxFailureRatePercent": 20}
    flow(waiting)["spec"]["release"] = {"autoRollback": guard}
    still = waiting.keep("release", "high-cpu", "--watch", "--timeout", "0.5")
    assert (still.exit_code, "is not over within 0.5 s" in still.stderr) == (5, True)
    assert "v3 is released, and watched" in still.stdout


def test_an_edit_that_nobody_has_looked_at_is_waited_for(waiting: Terminal) -> None:
    """Right after a merge the status still speaks of the version before: that is no end."""
    flow(waiting)["metadata"]["generation"] = 4
    result = waiting.keep("release", "high-cpu", "--watch", "--timeout", "0.5")
    assert (result.exit_code, "has not been looked at by the operator yet" in result.stdout) == (5, True)


def test_changes_are_lines_and_an_outage_is_survived(waiting: Terminal) -> None:
    """Into a log goes one line for each change, and a server that is away for a while costs nothing but a remark."""
    deployed(waiting, "Unknown", "AwaitingDeploy", "v3 waits for the decision Deploy")
    flow(waiting)["spec"]["release"] = {"strategy": {"type": "Manual"}}

    def looks() -> int:
        calls = waiting.calls
        return len([each for each in calls if each[:2] == ["get", "workflows.keep-operator.dev"]])

    def await_looks(number: int) -> None:
        end = time.monotonic() + 60
        while looks() < number and time.monotonic() < end:
            time.sleep(0.05)

    def afterwards() -> None:
        await_looks(2)
        change(lambda world: world["failures"].update(get="Unable to connect to the server: dial tcp: refused"))
        await_looks(looks() + 3)
        change(lambda world: (world["failures"].clear(), world["objects"].update(released)))

    def change(how: Callable[[Json], object]) -> None:
        world = json.loads(waiting.world.read_text(encoding="utf-8"))
        how(world)
        fresh = waiting.world.with_suffix(".new")
        fresh.write_text(json.dumps(world), encoding="utf-8")
        fresh.replace(waiting.world)

    name = "workflows.keep-operator.dev/high-cpu"
    released = json.loads(json.dumps({name: waiting.objects[name]}))
    at = {"lastTransitionTime": META["creationTimestamp"]}
    active = {"type": "Deployed", "status": "True", "reason": "RevisionActive", "message": "v3 is active", **at}
    released[name]["status"] |= {
        "activeRevision": {"number": 3, "since": "2026-11-25T05:00:00Z", "reason": "Deploy"},
        "conditions": [active],
    }
    waiting.save()
    later = threading.Thread(target=afterwards)
    later.start()
    result = waiting.keep("release", "high-cpu", "--watch", "--timeout", "60")
    later.join()
    assert result.exit_code == 0, result.output
    first, *_, last = result.stdout.splitlines()
    assert "v3 waits: Deploy: v3 (980dfc05) waits for the decision Deploy" in first
    assert "v3 is released" in last
    assert result.stderr.count("the cluster does not answer, trying again") == 1
    assert result.stderr.count("the cluster answers again") == 1


WAITING = """\
high-cpu in monitoring: v3 waits
  v2 is active
  held  Approval: v3 (980dfc05) needs approval, 1 of 2 to come. Decide Approve or Deny.
  held  Checklist: Left to do or to be found true: load ("Load was looked at")
  Approval: 2 approvals from dave or group sre, not the author (Always, by spec.release.approval)
    yes  dave, 2026-11-25 05:00:00 UTC
  [ ] load: Load was looked at
  [x] dry: Ten dry runs, once runs.dryRun.succeeded >= 10
  Next: kubectl keep diff high-cpu active v3
        kubectl keep approve high-cpu v3
        kubectl keep deny high-cpu v3 -m "..."
        kubectl keep check high-cpu load
"""

TRIED = """\
high-cpu in monitoring: v3 is tried
  v3 has 10 % of the runs, v2 the rest
  [###...........................] v3 10 %, v2 90 %
  done 1. 10 % of the runs
  done 2. wait 10m
  now  3. go on if, of 5 runs or more within 30m, at most 10 % failed
          3 runs ended, 1 failed, 33.3 %: Pending
       4. 50 % of the runs
       5. wait for a person (promote or abort)
  Next: kubectl keep promote high-cpu -n monitoring
        kubectl keep pause high-cpu -n monitoring
        kubectl keep abort high-cpu -m "..." -n monitoring
"""


def test_a_terminal_is_drawn_over_and_left_clean(waiting: Terminal) -> None:
    """Live figures stand where they stood, nothing is cut off, and Ctrl-C gives the cursor back and ends nothing else."""
    flow(waiting)["spec"]["release"] = CANARY
    since = datetime.now(UTC).isoformat(timespec="seconds")
    flow(waiting)["status"]["canary"] = {"revision": 3, "weight": 10, "stepIndex": 1, "stepStartedAt": since}
    deployed(waiting, "Unknown", "CanaryInProgress", "v3 has 10 % of the runs, v2 the rest\x1b[2J")
    waiting.save()
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", "LINES": "40", "TERM": "xterm-256color"}
    words = [KEEP, "release", "high-cpu", "--watch"]
    process = subprocess.Popen(
        words, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    )
    os.close(theirs)
    shown = b""
    while shown.count(b"Ctrl-C") < 3:
        shown += os.read(ours, 65536)
    process.send_signal(signal.SIGINT)
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:  # the other end is closed: that is how Linux says it
        pass
    os.close(ours)
    assert process.wait(20) == 130
    text = shown.decode()
    assert "\\u001b[2J" in text and "\x1b[2J" not in text  # nobody else draws
    assert "\x1b[1A" in text  # up, to draw over what was there
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l") >= 0  # the cursor is there again
    assert re.search(r"9m[0-9]+s left", text)


def test_every_phase_is_in_the_guide() -> None:
    """Whoever reads a phase can look up what it means, and how watching ends with it."""
    page = (Path(__file__).parents[3] / "docs" / "plan.md").read_text(encoding="utf-8")
    rows = [
        line.split("|")
        for line in page.partition("| Phase |")[2].partition("## ")[0].splitlines()
        if line.startswith("| `")
    ]
    told = {name: row[3].strip() for row in rows for name in re.findall(r"`(\w+)`", row[1])}
    assert set(told) == set(release_view.PHASES)
    assert {name for name, end in told.items() if end == "1"} == set(release_view.LOST)
    assert {name for name, end in told.items() if end == "0"} == set(release_view.OVER)
