"""A test's hands on the cluster and the database: applies as a user would, reads and counts as an auditor would."""

import json
import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from databases import Database
from keep_operator.cli.crds import Server
from keep_operator.resources.kinds import EVENTS, LEASES, OURS, PROVIDERS, Resource
from manifests import RESOURCES, Json, Thing, as_yaml, credential, path_of, provider, secret, tenant

__all__ = ["Database", "Json", "Thing", "as_yaml", "credential", "path_of", "provider", "secret", "tenant"]

T = TypeVar("T")
# How long a test waits for what takes a second on a quiet machine.
PATIENCE_S: Final = 60.0
# `make soak` takes long windows at their full length, `make test` for this long at most, in seconds.
SHORT_WINDOW_S: Final = 8.0
SOAK: Final = bool(os.environ.get("KEEP_OPERATOR_SOAK"))
# Requests of a test under way at the same time.
AT_ONCE: Final = 8
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


def window(full_s: float, short_s: float = SHORT_WINDOW_S) -> float:
    """How long to watch that nothing happens, or to keep a server away, in seconds."""
    return full_s if SOAK else min(full_s, short_s)


def at_once(work: Callable[[T], object], items: Iterable[T]) -> None:
    """Do the same with many things, some at a time; the first failure is raised."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(work, items))


class Kube:
    """One identity's view of the cluster. ``tools`` is the folder of a current kubectl."""

    def __init__(self, kubeconfig: Path, tools: Path) -> None:
        self.kubeconfig = kubeconfig
        self.server = Server.connect(str(kubeconfig), None)
        self.tools = tools

    def kubectl(self, *args: str, stdin: str | None = None, check: bool = True) -> str:
        """What kubectl prints, standard error included."""
        done = subprocess.run(
            [str(self.tools / "kubectl"), f"--kubeconfig={self.kubeconfig}", *args],
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

    def await_all_ready(self, *manifests: Json, patience_s: float = PATIENCE_S) -> list[Thing]:
        """All of them once they are Ready; for many Providers, which are read together."""
        things: dict[tuple[str, str], Thing] = {}

        def missing() -> list[str]:
            things.clear()
            things.update((_name_of(thing.raw), thing) for thing in self.objects(PROVIDERS))
            names = map(_name_of, manifests)
            return ["/".join(name) for name in names if name not in things or not things[name].ready]

        eventually(missing, lambda left: not left, "Ready", patience_s)
        return [things[_name_of(manifest)] for manifest in manifests]

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
        """Remove every object of ours from the cluster, whoever holds it, and let nobody lead."""

        def remove(path: str) -> None:
            self.patch(path, {"metadata": {"finalizers": None}})
            self.send("DELETE", path)

        self.send("DELETE", LEASES.path("default", "keep-operator"))
        for resource in reversed(OURS):
            metadata = [thing.raw["metadata"] for thing in self.objects(resource)]
            at_once(remove, [resource.path(each.get("namespace"), each["name"]) for each in metadata])
        eventually(lambda: [thing for resource in OURS for thing in self.objects(resource)], lambda left: not left)


def _name_of(manifest: Mapping[str, Any]) -> tuple[str, str]:
    return manifest["metadata"].get("namespace", ""), manifest["metadata"]["name"]
