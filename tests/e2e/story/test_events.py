"""Alertmanager is connected as the guide says, and its alerts start workflows; people ask for runs with the tokens that the
cluster gives out. The console has no right beyond those that its page names."""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import yaml

from contract.docs import pages
from databases import name_of
from e2e.cluster import Database, Json, Kube, eventually
from e2e.conftest import Operate
from e2e.operators import Operator
from e2e.story.test_read_api import RBAC, account, post, read_only
from keep_operator.sandbox.instance import Sandbox
from manifests import definition, workflow
from unit.domain.events.alerts import prometheus, webhook

pytestmark = pytest.mark.e2e
__all__ = ["read_only"]

GUIDE = pages.read(pages.ROOT / "docs" / "events.md")
TOKEN = "canary-of-alertmanager-0123456789"
NEXT = "canary-of-the-next-one-0123456789"


def guided(namespace: str) -> tuple[Json, Json, str]:
    """Secret and Tenant of the guide, in this namespace, and the path that its receiver posts to."""
    (manifests,) = [
        each.text for each in GUIDE.blocks if "alertmanager-token\n" in each.text and "kind: Tenant" in each.text
    ]
    secret, tenant = yaml.safe_load_all(manifests.replace("monitoring", namespace))
    secret["stringData"]["token"] = TOKEN
    (receiver,) = [yaml.safe_load(each.text) for each in GUIDE.blocks if "webhook_configs" in each.text]
    (hook,) = receiver["receivers"][0]["webhook_configs"]
    assert receiver["route"]["receiver"] == receiver["receivers"][0]["name"]
    assert hook["http_config"]["authorization"]["type"] == "Bearer"
    assert hook["http_config"]["authorization"]["credentials_file"].endswith(f"/{secret['metadata']['name']}/token")
    return secret, tenant, urlsplit(hook["url"]).path


def posted_by_hand() -> Json:
    """The alert that the guide posts with curl."""
    (command,) = [each.text for each in GUIDE.blocks if "curl" in each.text]
    (body,) = re.findall(r"-d '(.*)'$", command.strip(), re.MULTILINE)
    return dict(json.loads(body))


def grants(role: str) -> list[str]:
    """What the page of the API grants the console in the database, for this role."""
    text = (pages.ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    found = re.findall(r"^ +(GRANT .* TO console);$", text, re.MULTILINE)
    assert len(found) == 5
    return [each.replace("TO console", f"TO {role}") for each in found]


@dataclass
class Console:
    """A console process."""

    process: Operator

    def ask(self, path: str, token: str, body: Any = None) -> tuple[int, Any]:
        """Status and body of an answer; with a body it is posted."""
        (serving,) = self.process.told("serving the API")
        request = urllib.request.Request(
            f"http://127.0.0.1:{serving['port']}{path}",
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            data=None if body is None else json.dumps(body).encode(),
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())


@pytest.fixture
def console(
    operate: Operate, sandbox: Sandbox, database: Database, read_only: str, tmp_path: Path
) -> Iterator[Console]:
    """An operator, and a console whose role in the database is that of its page."""
    operate()
    role = urlsplit(read_only).username
    assert role is not None
    with psycopg.connect(sandbox.database.url(name_of(database.url), superuser=True), autocommit=True) as admin:
        for each in grants(role):
            admin.execute(each)  # type: ignore[call-overload,unused-ignore]
    given = {
        "KUBECONFIG": str(sandbox.kubeconfig("console")),
        "KEEP_OPERATOR_DATABASE_URL": read_only,
        "KEEP_OPERATOR_CONSOLE_PORT": "0",
    }
    process = Operator(given, tmp_path / "console.log", "console")
    yield Console(process.await_ready())
    assert process.stop() == 0
    assert "Traceback" not in process.log, process.log[-5000:]
    assert "canary" not in process.log


def allow(kube: Kube, namespace: str, name: str) -> None:
    """The account may ask for runs in the namespace, look at them, and cancel them."""
    rule = {"apiGroups": ["keep-operator.dev"], "resources": ["workflowruns"], "verbs": ["get", "create", "patch"]}
    bound = {
        "metadata": {"name": "runs"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "runs"},
        "subjects": [{"kind": "ServiceAccount", "namespace": namespace, "name": name}],
    }
    post(kube, f"{RBAC}/namespaces/{namespace}/roles", {"metadata": {"name": "runs"}, "rules": [rule]})
    post(kube, f"{RBAC}/namespaces/{namespace}/rolebindings", bound)


def test_alerts_start_workflows(
    console: Console, kube: Kube, namespace: str, database: Database, operate: Operate
) -> None:
    """From the Secret to the run: the Tenant serves without its token, takes it when it comes, follows its rotation, and
    takes it away with its Secret. One alert is one run, and nothing of a token is in a log or the database."""
    secret, tenant, path = guided(namespace)
    kube.create(tenant)
    kube.await_ready(tenant)
    kube.await_condition(tenant, "TokensResolved", ("Unknown", "SecretNotFound"))
    assert console.ask(path, TOKEN, webhook())[0] == 401
    kube.create(secret)
    kube.await_condition(tenant, "TokensResolved", ("True", "Resolved"))

    does = {**definition(), "triggers": [{"type": "alert", "cel": "severity == 'critical' && source == 'prometheus'"}]}
    high = workflow("high-cpu", namespace, "platform", does)
    kube.create(high)
    kube.await_ready(high)
    posted = eventually(
        lambda: console.ask(path, TOKEN, webhook()), lambda answer: answer[0] == 200, "a refusal is forgotten"
    )
    (event,) = posted[1]["events"]
    assert (event["outcome"], event["refused"], event["failed"]) == ("accepted", [], [])
    (run,) = event["runs"]
    assert (run["namespace"], run["workflow"], run["revision"]) == (namespace, "high-cpu", 1)
    assert console.ask(path, TOKEN, webhook())[1]["events"][0]["outcome"] == "duplicate"
    assert (
        console.ask(path, TOKEN, webhook(prometheus(labels={"alertname": "A"}, fingerprint="b")))[1]["events"][0][
            "runs"
        ]
        == []
    )

    assert console.ask(path, TOKEN, posted_by_hand())[1]["events"][0]["name"] == "disk is full"

    stranger, runner = account(kube, namespace, "stranger"), account(kube, namespace, "runner")
    allow(kube, namespace, "runner")
    request = {"namespace": namespace, "workflow": "high-cpu", "requestId": "deploy-4711"}
    assert console.ask("/api/v1/runs", stranger, request)[0] == 403
    status, made = eventually(
        lambda: console.ask("/api/v1/runs", runner, request), lambda answer: answer[0] != 403, "the role holds"
    )
    assert (status, made["revision"], made["trigger"]) == (201, 1, "API")
    assert console.ask("/api/v1/runs", runner, request) == (200, made)
    status, shown = console.ask(f"/api/v1/runs/{run['id']}", runner)
    assert (status, shown["event"]["labels"]["instance"], shown["trigger"]) == (200, "web-1", "Alert")
    assert console.ask(f"/api/v1/runs/{run['id']}", stranger)[0] == 404
    assert console.ask(f"/api/v1/runs/{made['id']}/cancel", runner, {})[1]["state"] == "Cancelled"
    assert len(database.rows("SELECT * FROM keep_operator.procrastinate_jobs")) == 2

    kube.kubectl(
        "-n", namespace, "patch", "secret", "alertmanager-token", "-p", json.dumps({"stringData": {"token": NEXT}})
    )
    eventually(
        lambda: console.ask(path, NEXT, webhook())[0], lambda status: status == 200, "the next token is accepted"
    )
    kube.delete(secret)
    kube.await_condition(tenant, "TokensResolved", ("Unknown", "SecretNotFound"))
    assert kube.get(tenant).ready
    assert database.rows("SELECT * FROM keep_operator.ingest_token") == []
    assert "canary" not in str(database.ledger())
