"""A workflow with three versions, the second of which was rolled back to, behind a kubectl that the test plays."""

import json
import sys
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from keep_operator.domain import revision
from keep_operator.plugin.main import keep
from keep_operator.resources.kinds import API_VERSION

Json = dict[str, Any]
FAKE = Path(__file__).with_name("fake_kubectl.py")
LINEAGE = "0b8d6c1e-54c0-4f0e-8b2f-3a9d0a4a7e55"


def definition(limit: int) -> Json:
    """What the workflow does; versions differ in the limit."""
    return {
        "consts": {"limit": limit},
        "triggers": [{"type": "interval", "value": "5m"}],
        "actions": [{"name": "notify", "provider": {"type": "console", "with": {"message": "hot"}}}],
    }


def version(number: int, *conditions: str, tags: tuple[str, ...] = (), note: str | None = None) -> Json:
    """A WorkflowRevision; conditions are like ``Active=False:Reserve``."""
    content = definition(number * 10)
    told = [each.replace("=", " ").replace(":", " ").split() for each in ("Valid=True:Valid", *conditions)]
    content_hash = revision.content_hash(content)
    return {
        "apiVersion": API_VERSION,
        "kind": "WorkflowRevision",
        "metadata": {
            "name": f"high-cpu-v{number}-{content_hash[:8]}",
            "namespace": "monitoring",
            "creationTimestamp": f"2026-11-25T0{number}:00:00Z",
        },
        "spec": {
            "workflowRef": {"name": "high-cpu"},
            "lineageId": LINEAGE,
            "number": number,
            "contentHash": content_hash,
            "hashVersion": 1,
            "definition": content,
            "author": {"username": "ann@example.com", "source": "Annotation"},
            "createdFromGeneration": number,
            **({} if note is None else {"changeNote": note}),
        },
        "status": {
            "tags": list(tags),
            "conditions": [
                {"type": kind, "status": status, "reason": reason, "message": "It is so"}
                for kind, status, reason in told
            ],
        },
    }


VERSIONS = {
    1: version(1, "Active=False:Reserve", note="First version"),
    2: version(2, "Active=True:Active", tags=("production",), note="Limit 20"),
    3: version(3, "Active=False:Reserve", note="Limit 30"),
}
HASHES = {number: each["spec"]["contentHash"] for number, each in VERSIONS.items()}


def workflow() -> Json:
    """The Workflow: v3 is asked for and held back, v2 is active."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Workflow",
        "metadata": {"name": "high-cpu", "namespace": "monitoring"},
        "spec": {"definition": {**definition(30), "description": "Tells the channel."}},
        "status": {
            "workflowId": LINEAGE,
            "activeRevision": {"number": 2},
            "desiredRevision": {"number": 3, "contentHash": HASHES[3]},
            "hold": {
                "rejectedHash": HASHES[3],
                "target": 2,
                "actor": "bob@example.com",
                "reason": "Notifies every five minutes (incident 4711)",
                "since": "2026-11-25T04:00:00Z",
                "automatic": False,
            },
            "history": [
                {"revision": 2, "at": "2026-11-25T04:00:00Z", "reason": "Rollback", "actor": "bob@example.com"},
                {"revision": 3, "at": "2026-11-25T03:00:00Z", "reason": "AllAtOnce", "actor": "ann@example.com"},
                {"revision": 2, "at": "2026-11-25T02:00:00Z", "reason": "AllAtOnce", "actor": "ann@example.com"},
                {"revision": 1, "at": "2026-11-25T01:00:00Z", "reason": "AllAtOnce", "actor": "ann@example.com"},
            ],
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True",
                    "reason": "Ready",
                    "message": "It is so",
                    "lastTransitionTime": "2026-11-25T04:00:00Z",
                }
            ],
        },
    }


@dataclass
class Terminal:
    """A user with a kubectl. What the cluster shall be is changed before a call, and ``calls`` tells what was asked of it."""

    folder: Path
    objects: dict[str, Json] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    hanging: list[str] = field(default_factory=list)
    watched: list[Json] = field(default_factory=list)
    denied: list[str] = field(default_factory=list)
    user: str = "carol@example.com"
    groups: list[str] = field(default_factory=list)
    config: Json = field(default_factory=dict)
    port: int = 1

    @property
    def world(self) -> Path:
        return self.folder / "world.json"

    def put(self, thing: Json) -> None:
        group = ".keep-operator.dev" if "/" in thing["apiVersion"] else ""
        self.objects[f"{thing['kind'].lower()}s{group}/{thing['metadata']['name']}"] = deepcopy(thing)

    def save(self) -> None:
        state = {name: getattr(self, name) for name in Terminal.__dataclass_fields__ if name != "folder"}
        self.world.write_text(json.dumps(state), encoding="utf-8")
        (self.folder / "calls").unlink(missing_ok=True)

    def keep(self, *words: str, given: str | None = None) -> Result:
        """What ``kubectl keep`` with these words prints, and how it ends."""
        self.save()
        result = CliRunner().invoke(keep, list(words), input=given, prog_name="kubectl keep", catch_exceptions=False)
        self.objects = json.loads(self.world.read_text(encoding="utf-8"))["objects"]
        return result

    @property
    def calls(self) -> list[list[str]]:
        return [each["words"] for each in self._log()]

    @property
    def created(self) -> list[Json]:
        return [json.loads(each["given"]) for each in self._log() if each["words"][0] == "create"]

    def _log(self) -> list[Json]:
        path = self.folder / "calls"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def answers(self, status: str, reason: str, message: str, **more: Any) -> None:
        """The operator's verdict on the next decision, a Rollback but for ``action``: first it is seen without one."""
        action = more.pop("action", "Rollback")
        self.watched = [
            {"metadata": {"name": "x"}, "spec": {"action": action}},
            {
                "metadata": {"name": "x"},
                "spec": {"action": action},
                "status": {
                    "conditions": [{"type": "Handled", "status": status, "reason": reason, "message": message}],
                    **more,
                },
            },
        ]


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal whose kubectl reaches a cluster with the workflow `high-cpu`."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    program = bin_folder / "kubectl"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E {FAKE} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(bin_folder))
    found = Terminal(tmp_path)
    monkeypatch.setenv("FAKE_KUBECTL", str(found.world))
    found.put(workflow())
    for each in VERSIONS.values():
        found.put(each)
    return found
