"""`make run` as a newcomer sees it."""

import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import psutil
import psycopg
import pytest

from e2e.cluster import eventually
from keep_operator.domain.revision import content_hash

pytestmark = pytest.mark.e2e


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """`keep-operator sandbox run` in a folder of its own, and the file with what it prints."""
    printed = tmp_path / "printed"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("KEEP_OPERATOR_")}
    environment["KEEP_OPERATOR_SANDBOX_DIR"] = str(tmp_path / "sandbox")
    with printed.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "keep_operator", "sandbox", "run"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            text=True,
        )
        yield process, printed
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(60)


def _of(folder: Path) -> list[psutil.Process]:
    """The processes that have to do with a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(folder) in " ".join([*process.cmdline(), process.cwd()]):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def _typed(text: str, folder: Path) -> str:
    """What the lines print that the screen offers for a run and for the read API, in a second terminal."""
    offered = re.search(
        r"^ +kubectl keep run high-cpu .*^ +kubectl keep ledger [^\n]*$", text, re.MULTILINE | re.DOTALL
    )
    assert offered is not None, text
    environment = {key: value for key, value in os.environ.items() if not key.startswith("KEEP_OPERATOR_")}
    done = subprocess.run(
        ["bash", "-euc", f'eval "$("$1" -m keep_operator sandbox env)"\n{offered[0]}', "bash", sys.executable],
        env={**environment, "KEEP_OPERATOR_SANDBOX_DIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _executed(folder: Path) -> list[tuple[str, int, str, str, str]]:
    """The runs in the database, each with the beginning of the hash of what its revision really says."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("KEEP_OPERATOR_")}
    told = subprocess.run(
        [sys.executable, "-m", "keep_operator", "sandbox", "env"],
        env={**environment, "KEEP_OPERATOR_SANDBOX_DIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    url = re.search(r"^export KEEP_OPERATOR_DATABASE_URL='?([^'\n]+)", told, re.MULTILINE)
    assert url is not None
    with psycopg.connect(url[1]) as connection:
        rows = connection.execute(
            "SELECT w.external_name, r.revision, v.definition, r.state, r.trigger FROM keep_operator.run r "
            "JOIN keep_operator.workflow w ON w.id = r.workflow_id JOIN keep_operator.workflow_revision v "
            "ON (v.workflow_id, v.number, v.content_hash) = (r.workflow_id, r.revision, r.content_hash) ORDER BY r.id"
        ).fetchall()
    return [(name, number, content_hash(said)[:8], state, trigger) for name, number, said, state, trigger in rows]


def _seen(text: str) -> tuple[str, int]:
    """What somebody sees of the workflow who opens the printed address, and what the next one gets who does."""
    offered = re.search(r"http://127\.0\.0\.1:\d+/signin/once/\S+", text)
    assert offered is not None, text
    cookies: dict[str, str] = {}
    for _ in range(2):
        status, headers, _ = _asked(offered[0], {})
        cookies |= dict(each.partition(";")[0].split("=", 1) for each in headers.get_all("Set-Cookie", []))
    return _asked(offered[0].partition("/signin")[0] + "/w/monitoring/high-cpu", cookies)[2], status


def _asked(url: str, cookies: dict[str, str]) -> tuple[int, Message, str]:
    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None:
            return None

    told = {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}
    request = urllib.request.Request(url, headers=told)  # noqa: S310 - a console of the test's own
    try:
        with urllib.request.build_opener(Stay).open(request, timeout=30) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read().decode()


def test_the_story_is_told_and_ctrl_c_leaves_nothing(
    running: tuple[subprocess.Popen[str], Path], tmp_path: Path
) -> None:
    """The sample story runs to its end: waiting, renames, versions that are executed, a lasting rollback; Ctrl-C leaves nothing."""
    process, printed = running
    eventually(
        lambda: (printed.read_text(), process.poll()),
        lambda seen: "Ctrl-C ends everything" in seen[0] or seen[1] is not None,
        patience_s=180,
    )
    text = printed.read_text()
    assert process.poll() is None, text
    told = re.findall(
        r"^\d\d:\d\d:\d\d +(?:Provider|Tenant|Workflow|Decision) +(\S+) +(True|False|Unknown|Deleting|gone) *(\S*)",
        text,
        re.MULTILINE,
    )
    assert ("vms", "Unknown", "TenantNotFound") in told
    assert ("victoriametrics", "Unknown", "ExternalNameConflict") in told
    assert ("vms", "gone", "") in told
    assert [line for line in told if line[0] == "high-cpu"] == [
        ("high-cpu", "Unknown", "ProvidersNotReady"),
        ("high-cpu", "True", "Ready"),
        ("high-cpu", "False", "SchemaError"),
        ("high-cpu", "True", "Ready"),
        ("high-cpu", "True", "RolledBack"),
        ("high-cpu", "True", "Ready"),
    ]
    assert [line for line in told if line[1] == "False"] == [("high-cpu", "False", "SchemaError")]
    assert ("high-cpu-back", "True", "Done") in told
    told_of_versions = [
        "v1 active\n",
        "v1 active, v2 broken. ",
        "v3 active\n",
        "consts changed (limit: 80 → 8)\n",
        " is held back by admin (Version 3 wakes somebody every minute). v1 ",
        "v4 active\n",
    ]
    places = [text.index(words) for words in told_of_versions]
    assert places == sorted(places)
    assert "Deployed" in _typed(text, tmp_path / "sandbox"), text
    page, again = _seen(text)
    assert again == 410
    assert "system:serviceaccount:default:admin" in page and "v4 (" in page and "Go back to v1" in page
    assert "receiver: POST /oncall  CPU at 91 %" in text
    assert 'receiver: POST /heartbeat  {"from": "heartbeat"}' in text
    told_of_runs = re.findall(r"run \S+ of (\S+) v(\d+) \((\w+)\): (\w+)", text)
    executed = _executed(tmp_path / "sandbox")
    assert [(name, int(number), short, state, "Interval") for name, number, short, state in told_of_runs][:2] == [
        each for each in executed if each[3] == "Succeeded"
    ][:2]
    assert {(name, state) for name, _, _, state, _ in executed} >= {
        ("high-cpu", "Succeeded"),
        ("heartbeat", "Succeeded"),
    }
    assert {state for *_, state, _ in executed} <= {"Queued", "Running", "Succeeded"}
    process.send_signal(signal.SIGINT)
    process.wait(60)
    eventually(lambda: _of(tmp_path / "sandbox"), lambda left: not left, "end of every process")
