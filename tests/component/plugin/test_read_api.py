"""What objects cannot tell: asked of the read API, with the user's token, whether by an address or by a port-forward."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import yaml

from keep_operator.plugin import kubectl

from .conftest import HASHES, LINEAGE, Terminal, definition

pytestmark = pytest.mark.component

Json = dict[str, Any]
ENTRIES = [
    {
        "id": str(number),
        "at": f"2026-11-25T{number:02}:00:00+00:00",
        "tenant": "keep",
        "kind": "Workflow",
        "namespace": "monitoring",
        "name": "high-cpu",
        "uid": "u",
        "action": "Deployed",
        "actor": "system:serviceaccount:argocd:controller",
        "details": {"id": "x", "from": number, "to": number + 1, "cause": "AllAtOnce", "reason": "Limit lowered"},
    }
    for number in range(7, 0, -1)
]

ARCHIVED = {
    "workflowId": "x",
    "number": 1,
    "contentHash": HASHES[1],
    "createdAt": "2026-11-20T00:00:00.000Z",
    "author": {"username": "ann@example.com", "source": "Annotation"},
    "changeNote": "First version",
    "tags": [],
    "valid": True,
    "flaw": None,
    "rejected": None,
    "denied": None,
    "archivedAt": "2026-11-24T00:00:00.000Z",
    "definition": definition(10),
}

RUNS = [
    {
        "id": "01a22822-5caf-7078-b33b-26b60f595b67",
        "revision": 2,
        "state": "Failed",
        "trigger": "Alert",
        "message": "no route to host",
        "queuedAt": "2026-11-25T01:00:00.000Z",
        "startedAt": "2026-11-25T01:00:01.000Z",
        "completedAt": "2026-11-25T01:01:06.500Z",
    },
    {
        "id": "01a22818-f4ca-72a9-876f-aa5f4ab7d4c9",
        "revision": 1,
        "state": "Queued",
        "trigger": "Interval",
        "message": None,
        "queuedAt": "2026-11-25T00:00:00.000Z",
        "startedAt": None,
        "completedAt": None,
    },
]


@dataclass
class Console:
    """A read API with pages of three; ``answer`` may do something else instead."""

    port: int = 0
    asked: list[tuple[str, Json, str]] = field(default_factory=list)
    answer: Callable[[str], tuple[int, str] | None] = lambda path: None

    def of(self, path: str, query: Json) -> tuple[int, str]:
        if (instead := self.answer(path)) is not None:
            return instead
        if path == "/api/v1/":
            return 200, json.dumps({"user": "carol@example.com", "paths": []})
        if path.startswith("/api/v1/revisions/"):
            if path != "/api/v1/revisions/v1":
                return 404, json.dumps({"detail": "Workflow monitoring/high-cpu has no such version"})
            return 200, json.dumps(ARCHIVED)
        if path == "/api/v1/revisions":
            return 200, json.dumps({"items": [{k: v for k, v in ARCHIVED.items() if k != "definition"}], "after": None})
        if path == "/api/v1/runs":
            return 200, json.dumps({"items": RUNS, "after": None})
        if path == "/api/v1/retention":
            kept = [
                {"number": 2, "why": "active", "until": None},
                {"number": 3, "why": "too young", "until": "2026-11-27T00:00:00Z"},
            ]
            return 200, json.dumps({"archive": [1], "kept": kept})
        start, size = int(query.get("after", 0)), min(3, int(query["limit"]))
        items = ENTRIES[start : start + size]
        after = str(start + size) if start + size < len(ENTRIES) else None
        return 200, json.dumps({"items": items, "after": after})


@pytest.fixture
def console() -> Iterator[Console]:
    found = Console()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = dict(parse_qsl(parts.query))
            found.asked.append((parts.path, query, self.headers["Authorization"]))
            status, body = found.of(parts.path, query)
            self.send_response(status)
            if status == 302:
                self.send_header("Location", f"http://127.0.0.1:{found.port}/elsewhere")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *args: object) -> None:
            """In silence."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


def _config(**user: object) -> Json:
    return {
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": user}],
    }


def test_the_ledger_is_read_page_by_page(terminal: Terminal, console: Console) -> None:
    """Everything that was asked for comes, in pages, by a port-forward and with the kubeconfig's token; nothing more."""
    terminal.config, terminal.port = _config(token="of-the-kubeconfig"), console.port
    result = terminal.keep("ledger", "high-cpu", "--limit", "5", "-o", "json", "-n", "monitoring")
    assert result.exit_code == 0, result.output
    assert [each["id"] for each in json.loads(result.stdout)] == ["7", "6", "5", "4", "3"]
    where = {"namespace": "monitoring", "workflow": "high-cpu"}
    assert console.asked == [
        ("/api/v1/history", {**where, "limit": "5"}, "Bearer of-the-kubeconfig"),
        ("/api/v1/history", {**where, "limit": "2", "after": "3"}, "Bearer of-the-kubeconfig"),
    ]
    (forward,) = [call for call in terminal.calls if call[0] == "port-forward"]
    assert "service/keep-operator-console" in forward
    assert forward[-1] == "--namespace=keep-operator"


def test_people_read_the_ledger_as_a_table(terminal: Terminal, console: Console) -> None:
    """Who did what, when, and why, one line for each deed."""
    address = f"http://127.0.0.1:{console.port}/"
    shown = terminal.keep("ledger", "--tenant", "keep", "--api-url", address, "--api-token", "t").stdout.splitlines()
    assert shown[0].split() == ["AT", "(UTC)", "ACTION", "BY", "WHAT"]
    told = "Deployed  argocd:controller  Workflow monitoring/high-cpu: v7 -> v8, AllAtOnce: Limit lowered"
    assert shown[1] == f"2026-11-25 07:00:00  {told}"
    assert len(shown) == 8
    assert console.asked[0][0] == "/api/v1/ledger"


@pytest.mark.parametrize(
    ("details", "told"),
    [
        ({"number": 3, "changeNote": "Limit 30"}, "v3: Limit 30"),
        ({"from": None, "to": 1, "cause": "AllAtOnce", "reason": ""}, "v1, AllAtOnce"),
        ({"target": 1, "rejectedHash": "x", "reason": "incident"}, "v1: incident"),
        ({"tag": "golden", "from": 1, "to": 2, "reason": "checked"}, "v1 -> v2, tag golden: checked"),
        (
            {"action": "Rollback", "outcome": "Done", "from": 2, "to": 1, "reason": "a", "message": "b"},
            "Rollback Done, v2 -> v1: a",
        ),
        (
            {"action": "Rollback", "outcome": "Stale", "from": 2, "to": 2, "reason": "a", "message": "v3 is active"},
            "Rollback Stale, v2: v3 is active",
        ),
        ({"externalName": "high-cpu"}, "Workflow monitoring/high-cpu"),
    ],
)
def test_each_deed_is_told_in_a_line(terminal: Terminal, console: Console, details: Json, told: str) -> None:
    """What it was about, and the words that people left; of what was refused, why."""
    page = json.dumps({"items": [{**ENTRIES[0], "details": details}], "after": None})
    console.answer = lambda path: (200, page)
    api = ("--api-url", f"http://127.0.0.1:{console.port}", "--api-token", "t")
    shown = terminal.keep("ledger", "high-cpu", *api).stdout.splitlines()[1]
    assert shown.partition("argocd:controller  ")[2] == told


def test_the_past_of_a_workflow_that_is_gone_can_be_read(terminal: Terminal, console: Console) -> None:
    """Its namesake of today has another past; the id of the old one leads to its own."""
    api = ("--api-url", f"http://127.0.0.1:{console.port}", "--api-token", "t")
    assert terminal.keep("ledger", "high-cpu", "--workflow-id", LINEAGE, *api).exit_code == 0
    assert console.asked[0][1]["workflowId"] == LINEAGE


def test_retention_says_why_a_version_stays(terminal: Terminal, console: Console) -> None:
    """Nothing is done; each version has its reason, and those that wait for a time have that."""
    words = ("retention", "high-cpu", "--api-url", f"http://127.0.0.1:{console.port}", "--api-token", "t")
    assert terminal.keep(*words).exit_code == 2
    shown = terminal.keep(*words, "--dry-run")
    assert [line.split() for line in shown.stdout.splitlines()] == [
        ["VERSION", "WOULD", "WHY"],
        ["v1", "goes"],
        ["v2", "stays", "active"],
        ["v3", "stays", "too", "young,", "until", "2026-11-27", "00:00:00", "UTC"],
    ]


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        ((401, '{"detail": "token expired"}'), 6, "does not take your token: token expired"),
        ((403, '{"detail": "carol may not"}'), 6, "carol may not"),
        ((404, '{"detail": "no Workflow x"}'), 4, "no Workflow x"),
        ((500, '{"detail": "DatabaseUnavailable"}'), 3, "DatabaseUnavailable"),
        ((200, "<html>"), 3, "does not answer"),
        ((200, "[]"), 3, "HTTP 200"),
        ((302, "{}"), 3, "HTTP 302"),
    ],
)
def test_each_answer_of_the_api_has_its_end(
    terminal: Terminal, console: Console, answer: tuple[int, str], code: int, words: str
) -> None:
    """What the API refuses, does not have, or cannot do is told in its words; the token goes nowhere else."""
    console.answer = lambda path: answer
    address = f"http://127.0.0.1:{console.port}"
    result = terminal.keep("ledger", "high-cpu", "--api-url", address, "--api-token", "planted-token")
    assert (result.exit_code, result.stdout) == (code, "")
    assert words in result.stderr
    assert "planted-token" not in result.output
    assert [path for path, _, _ in console.asked] == ["/api/v1/history"]


def test_an_archived_version_is_shown_compared_and_pinned(terminal: Terminal, console: Console) -> None:
    """That its object is gone is no reason not to see what it did; what has an object is not asked for."""
    api = ("--api-url", f"http://127.0.0.1:{console.port}", "--api-token", "t")
    terminal.objects.pop(next(key for key in terminal.objects if "-v1-" in key))
    shown = terminal.keep("show", "high-cpu", "v1", *api)
    assert shown.stdout.startswith(f"# high-cpu v1 ({HASHES[1][:8]}), archived\n# made 2026-11-20 00:00:00 UTC by ann")
    assert yaml.safe_load(shown.stdout) == definition(10)
    compared = terminal.keep("diff", "high-cpu", "v1", "v2", *api)
    assert (compared.exit_code, "limit: 10 -> 20" in compared.stdout) == (1, True)
    pinned = terminal.keep("pin", "high-cpu", "v1", *api)
    assert yaml.safe_load(pinned.stdout)["spec"]["release"]["pin"] == {"contentHash": HASHES[1]}
    assert {path for path, _, _ in console.asked} == {"/api/v1/revisions/v1"}
    assert "archived" in terminal.keep("history", "high-cpu", "--all", *api).stdout
    # v1 is where a rollback would lead; objects alone no longer tell that.
    console.asked.clear()
    terminal.keep("show", "high-cpu", "previous", *api)
    assert [path for path, _, _ in console.asked] == ["/api/v1/revisions/previous"]
    missing = terminal.keep("show", "high-cpu", "staging", *api)
    assert (missing.exit_code, missing.stderr) == (4, "Error: Workflow monitoring/high-cpu has no such version\n")


def test_runs_without_an_object_are_listed_too(terminal: Terminal, console: Console) -> None:
    """The read API knows of those that alerts and intervals started; it gets every filter as it was given."""
    terminal.config, terminal.port = _config(token="t"), console.port
    filters = ("--revision", "v2", "--state", "failed", "--trigger", "alert", "--from", "2026-11-01T00:00:00Z")
    result = terminal.keep("runs", "high-cpu", "--all", *filters, "-n", "monitoring")
    assert result.exit_code == 0, result.output
    head, one, two = result.stdout.splitlines()
    assert head.split()[:4] == ["NAME", "VERSION", "STATE", "TRIGGER"]
    assert one.startswith("01a22822-5caf-7078-b33b-26b60f595b67") and "1m6s" in one and one.endswith("no route to host")
    assert two.split()[1:4] == ["v1", "Queued", "Interval"]
    ((path, query, _),) = console.asked
    assert path == "/api/v1/runs"
    assert query == {
        "namespace": "monitoring",
        "workflow": "high-cpu",
        "revision": "v2",
        "state": "Failed",
        "trigger": "Alert",
        "from": "2026-11-01T00:00:00Z",
        "limit": "50",
    }
    assert terminal.keep("runs", "high-cpu", "--all", "-o", "name").stdout.split() == [each["id"] for each in RUNS]


def test_doctor_tells_whom_the_api_takes_one_for(terminal: Terminal, console: Console) -> None:
    """A token of somebody else would show other things than one may expect."""
    result = terminal.keep("doctor", "--api-url", f"http://127.0.0.1:{console.port}", "--api-token", "t")
    assert result.exit_code == 0
    assert "ok    read API" in result.stdout
    assert result.stdout.endswith("where you are carol@example.com\n")


def test_who_has_no_token_learns_how_to_get_one(terminal: Terminal) -> None:
    """A certificate proves an administrator to the API server, and to nobody else."""
    terminal.config = _config()
    result = terminal.keep("ledger", "high-cpu")
    assert result.exit_code == 3
    assert "kubectl create token" in result.stderr


def test_nobody_reads_the_ledger_as_somebody_else(terminal: Terminal) -> None:
    """With --as the token would still be one's own, and show what the other may not see."""
    terminal.config = _config(token="t")
    result = terminal.keep("ledger", "high-cpu", "--as", "eve")
    assert result.exit_code == 2
    assert "knows no --as" in result.stderr


def test_a_job_in_a_pod_uses_its_own_account(
    terminal: Terminal, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CI inside of the cluster has no kubeconfig; kubectl takes the pod's token, and so does the read API."""
    (tmp_path / "token").write_text("of-the-pod\n", encoding="utf-8")
    monkeypatch.setattr(kubectl, "POD", tmp_path)
    result = terminal.keep("ledger", "high-cpu", "--api-url", f"http://127.0.0.1:{console.port}")
    assert result.exit_code == 0, result.output
    assert {token for _, _, token in console.asked} == {"Bearer of-the-pod"}


def test_a_service_that_is_not_there_is_told(terminal: Terminal) -> None:
    """kubectl's words, and what to give instead."""
    terminal.config = _config(token="t")
    terminal.failures["port-forward"] = 'Error from server (NotFound): services "keep-operator-console" not found'
    result = terminal.keep("ledger", "high-cpu")
    assert result.exit_code == 3
    assert 'services "keep-operator-console" not found' in result.stderr
    assert "--api-url" in result.stderr
