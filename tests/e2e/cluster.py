"""A test's hands on the cluster and the database: applies as a user would, reads and counts as an auditor would."""

import json
import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import psycopg
import yaml
from psycopg.rows import dict_row

from keep_operator.cli.crds import Server
from keep_operator.resources.kinds import EVENTS, NAMESPACES, OURS, PROVIDERS, SECRETS, TENANTS, Resource

T = TypeVar("T")
Json = dict[str, Any]
# How long a test waits for what takes a second on a quiet machine.
PATIENCE_S: Final = 60.0
# `make soak` watches quiet windows at their full length, `make test` for this long at most, in seconds.
SHORT_WINDOW_S: Final = 20.0
MERGE, APPLY = "merge-patch+json", "apply-patch+yaml"


def eventually(
    read: Callable[[], T], until: Callable[[T], object], what: str = "", patience_s: float = PATIENCE_S
) -> T:
    """The first reading that ``until`` accepts; fails with the last one after a while."""
    end = time.monotonic() + patience_s
    while True:
        seen = read()
        if until(seen):
            return seen
        assert time.monotonic() < end, f"{what or 'it'} did not come about; last seen: {seen!r}"
        time.sleep(0.05)


def window(full_s: float) -> float:
    """How long to watch that nothing happens, in seconds."""
    return full_s if os.environ.get("KEEP_OPERATOR_SOAK") else min(full_s, SHORT_WINDOW_S)


@dataclass(frozen=True, slots=True)
class Thing:
    """One object as the test reads it; empty where it does not exist."""

    raw: Json

    def __bool__(self) -> bool:
        return bool(self.raw)

    @property
    def uid(self) -> str:
        return str(self.raw["metadata"]["uid"])

    @property
    def version(self) -> str:
        return str(self.raw["metadata"]["resourceVersion"])

    @property
    def status(self) -> Json:
        return self.raw.get("status") or {}

    def condition(self, kind: str) -> tuple[str, str] | None:
        """Status and reason."""
        found = next((c for c in self.status.get("conditions", ()) if c["type"] == kind), None)
        return None if found is None else (found["status"], found["reason"])

    def message(self, kind: str) -> str:
        return str(next(c["message"] for c in self.status["conditions"] if c["type"] == kind))

    @property
    def ready(self) -> bool:
        return (
            self.condition("Ready") == ("True", "Ready")
            and self.status.get("observedGeneration") == self.raw["metadata"]["generation"]
        )


class Kube:
    """One identity's view of the cluster. ``tools`` is the folder of a current kubectl."""

    def __init__(self, kubeconfig: Path, tools: Path) -> None:
        self.kubeconfig = kubeconfig
        self.server = Server.connect(str(kubeconfig), None)
        self._tools = tools

    def kubectl(self, *args: str, stdin: str | None = None, check: bool = True) -> str:
        """What kubectl prints, standard error included."""
        done = subprocess.run(
            [str(self._tools / "kubectl"), f"--kubeconfig={self.kubeconfig}", *args],
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert not check or done.returncode == 0, f"kubectl {' '.join(args)}: {done.stdout}"
        return done.stdout

    def send(self, method: str, path: str, body: object = None) -> tuple[int, Json]:
        return self.server.send(method, path, body)

    def patch(self, path: str, body: object, kind: str = MERGE) -> tuple[int, Json]:
        """A patch of a kind that Kubernetes knows."""
        headers = {"Accept": "application/json", "Content-Type": f"application/{kind}"}
        request = self.server.client.param_serialize(
            "PATCH", path, header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        response = self.server.client.call_api(*request, _request_timeout=30)
        response.read()
        return response.status, json.loads(response.data)

    def create(self, *manifests: Json) -> list[Thing]:
        """Create objects, each with one POST."""
        made = []
        for manifest in manifests:
            resource = RESOURCES[manifest["kind"]]
            status, answer = self.send("POST", resource.path(manifest["metadata"].get("namespace")), manifest)
            assert status == 201, answer
            made.append(Thing(answer))
        return made

    def get(self, manifest: Json) -> Thing:
        """The object as it is now."""
        status, answer = self.send("GET", path_of(manifest))
        assert status in (200, 404), answer
        return Thing(answer if status == 200 else {})

    def edit(self, manifest: Json, **spec: object) -> Thing:
        """A user's edit of the spec."""
        status, answer = self.patch(path_of(manifest), {"spec": spec})
        assert status == 200, answer
        return Thing(answer)

    def delete(self, manifest: Json, propagation: str = "Background") -> None:
        status, answer = self.send("DELETE", f"{path_of(manifest)}?propagationPolicy={propagation}")
        assert status in (200, 202, 404), answer

    def objects(self, resource: Resource, namespace: str | None = None) -> list[Thing]:
        status, answer = self.send("GET", resource.path(namespace))
        assert status == 200, answer
        return [Thing(item) for item in answer["items"]]

    def await_ready(self, *manifests: Json) -> list[Thing]:
        """All of them once they are Ready."""
        return [self.await_state(manifest, lambda thing: thing.ready, "Ready") for manifest in manifests]

    def await_state(
        self, manifest: Json, until: Callable[[Thing], object], what: str, patience_s: float = PATIENCE_S
    ) -> Thing:
        """The object once it is as wanted."""
        name = manifest["metadata"]["name"]
        return eventually(lambda: self.get(manifest), until, f"{what} of {name}", patience_s)

    def await_condition(self, manifest: Json, kind: str, wanted: tuple[str, str]) -> Thing:
        """The object once a condition has this status and reason."""
        return self.await_state(manifest, lambda thing: thing.condition(kind) == wanted, f"{kind} {wanted}")

    def await_gone(self, *manifests: Json) -> None:
        """Returns once none of them exists."""
        for manifest in manifests:
            self.await_state(manifest, lambda thing: not thing, "end")

    def events(self, namespace: str, kind: str | None = None) -> list[Json]:
        """The Events of a namespace, of one type."""
        found = [thing.raw for thing in self.objects(EVENTS, namespace)]
        return [event for event in found if kind is None or event["type"] == kind]

    def writes(self) -> Counter[str]:
        """How many writes of each kind the API server has answered since it started, by its own count."""
        request = self.server.client.param_serialize("GET", "/metrics", auth_settings=["BearerToken"])
        response = self.server.client.call_api(*request, _request_timeout=30)
        response.read()
        counted: Counter[str] = Counter()
        for line in response.data.decode().splitlines():
            found = re.match(r"apiserver_request_total\{(.*)\} (\S+)$", line)
            if not found:
                continue
            labels = dict(re.findall(r'(\w+)="([^"]*)"', found[1]))
            if labels["verb"] in ("POST", "PATCH", "PUT", "APPLY", "DELETE") and labels["code"].startswith("2"):
                target = labels["resource"] + (f"/{labels['subresource']}" if labels["subresource"] else "")
                counted[f"{labels['verb']} {target}"] += int(float(found[2]))
        return counted

    def sweep(self) -> None:
        """Remove every object of ours from the cluster, whoever holds it."""
        for resource in reversed(OURS):
            for thing in self.objects(resource):
                path = resource.path(thing.raw["metadata"].get("namespace"), thing.raw["metadata"]["name"])
                self.patch(path, {"metadata": {"finalizers": None}})
                self.send("DELETE", path)
        eventually(lambda: [thing for resource in OURS for thing in self.objects(resource)], lambda left: not left)


RESOURCES: Final = {resource.kind: resource for resource in (TENANTS, PROVIDERS, SECRETS, NAMESPACES)}


def path_of(manifest: Mapping[str, Any]) -> str:
    """Where the object lives."""
    metadata = manifest["metadata"]
    return RESOURCES[manifest["kind"]].path(metadata.get("namespace"), metadata["name"])


def tenant(name: str, **spec: object) -> Json:
    """A Tenant that admits every namespace."""
    return _manifest(TENANTS, name, None, {"allowedNamespaces": {"all": True}, **spec})


def provider(
    name: str, namespace: str, tenant: str | None = None, type: str = "victoriametrics", **spec: object
) -> Json:
    """A Provider; of the default tenant where none is named."""
    ref = {"tenantRef": {"name": tenant}} if tenant else {}
    return _manifest(
        PROVIDERS, name, namespace, {**ref, "type": type, "config": {"VMBackendURL": "http://vm:8428"}, **spec}
    )


def secret(name: str, namespace: str, **values: str) -> Json:
    """A Secret."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": values,
    }


def credential(key: str, secret: str, secret_key: str) -> Json:
    """An entry of a Provider's `secrets`."""
    return {"key": key, "valueFrom": {"secretKeyRef": {"name": secret, "key": secret_key}}}


def as_yaml(*manifests: Json) -> str:
    """What stands in a Git repository."""
    return yaml.safe_dump_all(manifests)


def _manifest(resource: Resource, name: str, namespace: str | None, spec: Json) -> Json:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, "spec": spec}


@dataclass(frozen=True, slots=True)
class Database:
    """One control database, read with plain SQL."""

    url: str = field(repr=False)

    def rows(self, statement: str, *values: object) -> list[Json]:
        with psycopg.connect(self.url, row_factory=dict_row, autocommit=True) as conn:
            return list(conn.execute(statement, values))  # type: ignore[arg-type,unused-ignore]

    def execute(self, statement: str, *values: object) -> None:
        with psycopg.connect(self.url, autocommit=True) as conn:
            conn.execute(statement, values)  # type: ignore[arg-type,unused-ignore]

    def providers(self) -> list[Json]:
        return self.rows("SELECT * FROM keep_operator.provider ORDER BY external_name")

    def tenants(self) -> list[Json]:
        return self.rows("SELECT * FROM keep_operator.tenant ORDER BY id")

    def ledger(self, kind: str | None = None) -> list[Json]:
        found = self.rows("SELECT * FROM keep_operator.ledger ORDER BY id")
        return [entry for entry in found if kind in (None, entry["kind"])]
