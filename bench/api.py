"""The measuring client: applies, watches, counts and clears objects over one bare aiohttp session."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import aiohttp

from keep_operator.cluster import connection
from keep_operator.resources.kinds import API_VERSION, PROVIDERS, TENANTS, WORKFLOW_REVISIONS, WORKFLOWS, Resource

Json = dict[str, Any]
T = TypeVar("T")

# Where kube-apiserver 1.20 is fastest on two cores; more requests in flight make it slower.
APPLY_IN_FLIGHT: Final = 64
# One line of a watch is one object; ours are of a few KiB, and aiohttp's own bound is 64 KiB.
LINE_BYTES: Final = 1 << 20
# Before an ended watch is opened again, in seconds: short beside what is measured.
REOPEN_S: Final = 0.02
WRITES: Final = ("POST", "PATCH", "PUT", "APPLY", "DELETE")


class Api:
    """One API server, spoken to without repeats, caches or checks; any answer but success or 404 on DELETE raises."""

    def __init__(self, session: aiohttp.ClientSession, server: str) -> None:
        self._session = session
        self._server = server

    @classmethod
    @asynccontextmanager
    async def opened(cls, kubeconfig: Path) -> AsyncIterator["Api"]:
        """The server that a kubeconfig names, as the identity in it."""
        link = connection.load({"KUBECONFIG": str(kubeconfig)})
        async with await link.open_session() as session:
            yield cls(session, link.server)

    async def send(self, method: str, path: str, body: Json | None = None, may: Collection[int] = ()) -> Json:
        """The answer's document. Raises RuntimeError on a status of 400 or more that is not in ``may``."""
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        payload = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": kind, "Accept": "application/json", "Accept-Encoding": "identity"}
        async with self._session.request(method, self._server + path, data=payload, headers=headers) as answer:
            text = await answer.read()
            if answer.status >= 400 and answer.status not in may:
                raise RuntimeError(f"{method} {path}: {answer.status} {text[:300]!r}")
            document = json.loads(text)
            assert isinstance(document, dict)
            return document

    async def create(self, resource: Resource, manifest: Json) -> Json:
        """POST one object."""
        return await self.send("POST", resource.path(manifest["metadata"].get("namespace")), manifest)

    async def create_all(self, resource: Resource, manifests: Iterable[Json]) -> None:
        """POST many objects, 64 in flight."""
        await in_flight(manifests, lambda manifest: self.create(resource, manifest), APPLY_IN_FLIGHT)

    async def writes(self) -> Counter[str]:
        """Successful writes by verb and resource since the server started, by its own count."""
        async with self._session.get(f"{self._server}/metrics") as answer:
            answer.raise_for_status()
            text = await answer.text()
        counted: Counter[str] = Counter()
        for found in re.finditer(r"^apiserver_request_total\{(.*)\} (\S+)$", text, re.MULTILINE):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', found[1]))
            if labels["verb"] in WRITES:
                target = labels["resource"] + (f"/{labels['subresource']}" if labels["subresource"] else "")
                verdict = "" if labels["code"].startswith("2") else f" -> {labels['code']}"
                counted[f"{labels['verb']} {target}{verdict}"] += int(float(found[2]))
        return counted

    async def watch(self, resource: Resource, since: str, seen: Callable[[Json], None]) -> None:
        """Hand over each object of a kind as it comes or changes; runs until cancelled.

        The server ends streams of its own accord, the first ones when a definition settles; each is taken up again.
        """
        unbounded = aiohttp.ClientTimeout(total=None)
        while True:
            url = f"{self._server}{resource.path()}?watch=1&resourceVersion={since}"
            async with self._session.get(url, timeout=unbounded, read_bufsize=LINE_BYTES) as stream:
                async for line in stream.content:
                    document = json.loads(line)
                    if document["type"] == "ERROR":
                        raise RuntimeError(f"the watch broke: {document}")
                    since = document["object"]["metadata"]["resourceVersion"]
                    seen(document["object"])
            await asyncio.sleep(REOPEN_S)

    async def version(self, resource: Resource) -> str:
        """The resourceVersion of the present list of a kind."""
        return str((await self.send("GET", f"{resource.path()}?limit=1"))["metadata"]["resourceVersion"])

    async def sample(self, resource: Resource) -> Json:
        """Some object of a kind."""
        found = (await self.send("GET", f"{resource.path()}?limit=1"))["items"][0]
        assert isinstance(found, dict)
        return found

    async def clear(self) -> None:
        """Remove all objects of ours, whoever holds them, and wait until they are gone."""
        for resource in (WORKFLOWS, WORKFLOW_REVISIONS, PROVIDERS, TENANTS):

            async def remove(item: Json, resource: Resource = resource) -> None:
                path = resource.path(item["metadata"].get("namespace"), item["metadata"]["name"])
                if item["metadata"].get("finalizers"):
                    await self.send("PATCH", path, {"metadata": {"finalizers": None}}, may=(404,))
                await self.send("DELETE", path, may=(404,))

            while items := (await self.send("GET", resource.path()))["items"]:
                await in_flight(items, remove, APPLY_IN_FLIGHT)


def tenant(name: str) -> Json:
    """A Tenant that admits every namespace."""
    return {
        "apiVersion": API_VERSION,
        "kind": TENANTS.kind,
        "metadata": {"name": name},
        "spec": {"allowedNamespaces": {"all": True}},
    }


def provider(name: str, namespace: str, tenant: str) -> Json:
    """A Provider without credentials."""
    return {
        "apiVersion": API_VERSION,
        "kind": PROVIDERS.kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "tenantRef": {"name": tenant},
            "type": "victoriametrics",
            "config": {"VMBackendURL": "http://vm:8428"},
        },
    }


def workflow(name: str, namespace: str, tenant: str, provider: str) -> Json:
    """A Workflow that asks one Provider every five minutes, and tells a console."""
    return {
        "apiVersion": API_VERSION,
        "kind": WORKFLOWS.kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"tenantRef": {"name": tenant}, "definition": _definition(name, provider)},
    }


def _definition(name: str, provider: str) -> Json:
    return {
        "id": name,
        "description": "Tell when a query is above its limit",
        "consts": {"limit": 80},
        "triggers": [{"type": "manual"}, {"type": "interval", "value": "5m"}],
        "steps": [
            {
                "name": "cpu",
                "provider": {
                    "type": "victoriametrics",
                    "config": f"{{{{ providers.{provider} }}}}",
                    "with": {"query": "100 * avg(rate(process_cpu_seconds_total[5m]))", "queryType": "query"},
                },
            }
        ],
        "actions": [
            {
                "name": "notify",
                "condition": [
                    {
                        "name": "too-high",
                        "type": "threshold",
                        "value": "{{ steps.cpu.results.data.result.0.value.1 }}",
                        "compare_to": "{{ consts.limit }}",
                        "compare_type": "gt",
                    }
                ],
                "provider": {"type": "console", "with": {"message": "CPU at {{ steps.cpu.results }} %"}},
            }
        ],
    }


async def in_flight(items: Iterable[T], work: Callable[[T], Awaitable[object]], limit: int) -> None:
    """Await ``work`` for each item, in their order, at most ``limit`` at a time; the first failure ends all."""
    rest = iter(items)

    async def lane() -> None:
        for item in rest:
            await work(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(limit):
            group.create_task(lane())


def is_ready(item: Json) -> bool:
    """Whether it says so."""
    conditions = (item.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
