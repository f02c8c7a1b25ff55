"""Workflows live on a real cluster, and their past is read by those who may, with the tokens that the cluster gives out."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
import yaml

from contract.docs import pages
from databases import name_of
from e2e import accounts
from e2e.cluster import Database, Json, Kube, eventually
from e2e.conftest import Operate
from e2e.operators import Operator
from keep_operator.sandbox.instance import Sandbox
from manifests import definition, tenant, workflow

pytestmark = pytest.mark.e2e

RBAC = "/apis/rbac.authorization.k8s.io/v1"
PASSWORD = "only-for-reading"


@dataclass
class Console:
    """A console process, and its API for one namespace."""

    process: Operator
    namespace: str

    def ask(self, path: str, token: str = "", **query: str | None) -> tuple[int, Any]:
        """Status and body of an answer."""
        (serving,) = self.process.told("serving the API")
        given = {"namespace": self.namespace, "workflow": "hello", **query}
        asked = urllib.parse.urlencode({name: value for name, value in given.items() if value is not None})
        request = urllib.request.Request(
            f"http://127.0.0.1:{serving['port']}/api/v1{path}?{asked}",
            headers={"Authorization": f"Bearer {token}"} if token else {},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def keep(self, kube: Kube, *args: str, token: str) -> str:
        """What `kubectl keep` prints, for an administrator who shows the console this token."""
        (serving,) = self.process.told("serving the API")
        api = (f"--api-url=http://127.0.0.1:{serving['port']}", f"--api-token={token}")
        done = subprocess.run(
            [
                str(Path(sys.executable).parent / "kubectl-keep"),
                args[0],
                *api,
                f"--namespace={self.namespace}",
                *args[1:],
            ],
            env={**os.environ, "KUBECONFIG": str(kube.kubeconfig), "PATH": f"{kube.tools}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def post(kube: Kube, path: str, body: Json) -> Json:
    """What was made; what was there already stays."""
    status, answer = kube.send("POST", path, body)
    assert status in (200, 201, 409), answer
    return answer


def account(kube: Kube, namespace: str, name: str) -> str:
    """A token of a new service account."""
    post(kube, f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": name}})
    return accounts.token(kube, namespace, name)


def allow(kube: Kube, namespace: str, name: str) -> None:
    """The account may view the namespace, and thereby what is ours in it, by the role that the page of the API has."""
    page = pages.read(pages.ROOT / "docs" / "api.md")
    (block,) = [each for each in page.blocks if "aggregate-to-view" in each.text]
    post(kube, f"{RBAC}/clusterroles", yaml.safe_load(block.text))
    bound = {
        "metadata": {"name": "views"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "namespace": namespace, "name": name}],
    }
    post(kube, f"{RBAC}/namespaces/{namespace}/rolebindings", bound)


def allow_tenant(kube: Kube, namespace: str, name: str) -> None:
    """The account may read the one Tenant, by a role for that."""
    named = {"metadata": {"name": f"reads-team-{namespace}"}}
    rule = {"apiGroups": ["keep-operator.dev"], "resources": ["tenants"], "resourceNames": ["team"], "verbs": ["get"]}
    bound = {
        **named,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": f"reads-team-{namespace}"},
        "subjects": [{"kind": "ServiceAccount", "namespace": namespace, "name": name}],
    }
    post(kube, f"{RBAC}/clusterroles", {**named, "rules": [rule]})
    post(kube, f"{RBAC}/clusterrolebindings", bound)


@pytest.fixture
def read_only(sandbox: Sandbox, database: Database) -> Iterator[str]:
    """The database's URL for a role that may read, and nothing else; granted once the schema is there."""
    name = name_of(database.url)
    role = f"reader_of_{name}"
    parts = urlsplit(database.url)
    with psycopg.connect(sandbox.database.url(name, superuser=True), autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
        yield urlunsplit(parts._replace(netloc=f"{role}:{PASSWORD}@{parts.hostname}:{parts.port}"))
        admin.execute(f"DROP OWNED BY {role}")
        admin.execute(f"DROP ROLE {role}")


@pytest.fixture
def console(
    operate: Operate, kube: Kube, sandbox: Sandbox, namespace: str, database: Database, read_only: str, tmp_path: Path
) -> Iterator[Console]:
    """An operator that has made two versions of a workflow, and a console that has no right beyond its own."""
    operate()
    kube.create(tenant("team"))
    kube.create(workflow("hello", namespace, "team", definition("one")))
    kube.await_ready(workflow("hello", namespace))
    kube.edit(workflow("hello", namespace), definition=definition("two"))
    kube.await_state(
        workflow("hello", namespace), lambda thing: thing.status["activeRevision"]["number"] == 2, "the second version"
    )
    role = urlsplit(read_only).username
    with psycopg.connect(sandbox.database.url(name_of(database.url), superuser=True), autocommit=True) as admin:
        admin.execute(f"GRANT USAGE ON SCHEMA keep_operator TO {role}")
        admin.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA keep_operator TO {role}")
    given = {
        "KUBECONFIG": str(sandbox.kubeconfig("console")),
        "KEEP_OPERATOR_DATABASE_URL": read_only,
        "KEEP_OPERATOR_CONSOLE_PORT": "0",
    }
    process = Operator(given, tmp_path / "console.log", "console")
    yield Console(process.await_ready(), namespace)
    assert process.stop() == 0
    assert "Traceback" not in process.log, process.log[-5000:]


def test_the_past_is_read_by_whoever_may_read_the_objects(console: Console, kube: Kube, namespace: str) -> None:
    """Versions, timeline, differences and retention, for a token of the cluster with a common role; by a console that can
    write neither into the cluster nor into the database. Without the role nothing, without a token nothing; and when it is
    told to end, it ends in peace."""
    stranger, reader = account(kube, namespace, "stranger"), account(kube, namespace, "reader")
    assert console.ask("/revisions", reader)[0] == 403, "the role comes later"
    allow(kube, namespace, "reader")
    eventually(lambda: console.ask("/revisions", reader)[0], lambda status: status == 200, "the role holds")
    for path in ("/revisions", "/history", "/retention"):
        assert console.ask(path)[0] == 401
        assert console.ask(path, "not-a-token")[0] == 401
        status, told = console.ask(path, stranger)
        assert (status, told["reason"]) == (403, "Forbidden")
        assert f"system:serviceaccount:{namespace}:stranger" in told["detail"]

    assert [each["number"] for each in console.ask("/revisions", reader)[1]["items"]] == [2, 1]
    entries = console.ask("/history", reader)[1]["items"]
    assert [each["action"] for each in entries if each["action"] == "Deployed"] == ["Deployed"] * 2
    status, told = console.ask("/diff", reader, before="previous", after="active")
    assert (status, told["changes"][0]["name"]) == (200, "actions.say")
    assert told["changes"][0]["values"] == [{"path": "provider.with.message", "before": "one", "after": "two"}]
    status, told = console.ask("/retention", reader)
    assert (status, told["archive"]) == (200, [])
    assert {each["number"] for each in told["kept"]} == {1, 2}

    status, told = console.ask("/ledger", reader, namespace=None, workflow=None, tenant="team")
    assert (status, told["reason"]) == (403, "Forbidden"), "a tenant's ledger tells of all its namespaces"
    allow_tenant(kube, namespace, "reader")
    status, told = console.ask("/ledger", reader, namespace=None, workflow=None, tenant="team")
    assert (status, {each["tenant"] for each in told["items"]}) == (200, {"team"})
    told = console.keep(kube, "ledger", "hello", "--limit=3", "--output=json", token=reader)
    assert [each["id"] for each in json.loads(told)] == [each["id"] for each in entries[:3]]
    assert "goes" not in console.keep(kube, "retention", "hello", "--dry-run", token=reader)

    lines = console.process.told("request")
    assert {line["status"] for line in lines} == {200, 401, 403}
    assert {line.get("user") for line in lines} >= {f"system:serviceaccount:{namespace}:reader"}
    assert reader not in console.process.log
    assert stranger not in console.process.log
    assert PASSWORD not in console.process.log
