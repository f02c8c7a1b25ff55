"""The sample story of `make run`: applies it step by step and shows live what becomes of each object.

::

    two Providers, no Tenant   ->  they wait, and say for what
    the Tenant                 ->  all Ready, by themselves
    vms -> victoriametrics     ->  the new object waits, the old one is pruned, the record passes over with its id
    the record's own name      ->  renamed in place
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from importlib import resources as package_files
from typing import Any, Final, Protocol

import yaml

from keep_operator.cluster.client import Cluster
from keep_operator.errors import Conflict, Unavailable
from keep_operator.resources.kinds import NAMESPACES, OURS, PROVIDERS, SECRETS, TENANTS, Resource

NAMESPACE: Final = "monitoring"
LOOK_EACH_S: Final = 0.1
# What takes a second on a quiet machine may take this long; then the story says so instead of hanging.
PATIENCE: Final = timedelta(seconds=90)
# Long enough for eyes to follow one step before the next.
PAUSE_S: Final = 1.2
_CAST: Final = frozenset({"vms", "ntfy", "victoriametrics", "platform"})
RESOURCES: Final = {resource.kind: resource for resource in (TENANTS, PROVIDERS, SECRETS)}


@dataclass(frozen=True, slots=True)
class Row:
    """What a person wants to know of one object at a glance."""

    kind: str
    name: str
    external_name: str
    ready: str
    reason: str
    message: str
    record: str

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> "Row":
        """The row of a Tenant or Provider."""
        status = raw.get("status") or {}
        conditions = {condition["type"]: condition for condition in status.get("conditions") or ()}
        shown = conditions.get("Deleting") or conditions.get("Ready") or {}
        ready = conditions.get("Ready", {}).get("status", "-")
        return cls(
            kind=raw["kind"],
            name=raw["metadata"]["name"],
            external_name=status.get("externalName") or status.get("tenantId") or "-",
            ready="Deleting" if "deletionTimestamp" in raw["metadata"] else ready,
            reason=shown.get("reason", "-"),
            message=shown.get("message", "not looked at yet"),
            record=str(status.get("providerId") or "-")[-12:],
        )


class Screen(Protocol):
    """What the story needs of a display; see `screen.py`."""

    def chapter(self, text: str) -> None:
        """A step of the story begins."""

    def say(self, text: str) -> None:
        """One line for the reader."""

    def show(self, rows: Sequence[Row]) -> None:
        """How all objects are now."""


class Story:
    """Plays the story on a cluster in which the operator runs."""

    def __init__(self, cluster: Cluster, screen: Screen, *, alive: Callable[[], str | None]) -> None:
        self._cluster = cluster
        self._screen = screen
        self._alive = alive

    async def play(self) -> timedelta:
        """Step by step until all is Ready; how long the operator took in sum, without the pauses for the eye.

        Raises Unavailable when a step does not come about.
        """
        await self._apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        await self._clear()
        took = timedelta()
        self._screen.chapter("Two Providers are applied. Their Tenant does not exist yet: they wait, and say so.")
        took += await self._step("1-providers.yaml", _all_told)
        self._screen.chapter("The Tenant is applied. Nobody touches the Providers: they go on by themselves.")
        took += await self._step("2-tenant.yaml", _all_ready)
        self._screen.chapter("Git renames vms to victoriametrics: the new object comes before the old one is pruned.")
        took += await self._step(
            "3-renamed.yaml", lambda rows: _reason(rows, "victoriametrics") == "ExternalNameConflict"
        )
        self._screen.chapter("vms is pruned. Its record passes to victoriametrics with its id; alerts go on.")
        await self._cluster.delete(PROVIDERS, NAMESPACE, "vms")
        took += await self._until(lambda rows: _all_ready(rows) and not any(row.name == "vms" for row in rows))
        self._screen.chapter("externalName is taken out of the manifest: the record takes the new name, in place.")
        await self._rename()
        took += await self._until(
            lambda rows: _all_ready(rows) and any(row.external_name == "victoriametrics" for row in rows)
        )
        return took

    async def follow(self) -> None:
        """Show what happens from now on, until cancelled."""
        async for rows in self._looks():
            self._screen.show(rows)

    async def _clear(self) -> None:
        """Remove what an earlier run of the story left."""
        before = [(PROVIDERS, NAMESPACE, name) for name in ("vms", "ntfy", "victoriametrics")]
        for resource, namespace, name in [*before, (TENANTS, None, "platform")]:
            await self._cluster.delete(resource, namespace, name)
        await self._until(lambda rows: not any(row.name in _CAST for row in rows), shown=False)

    async def _step(self, sample: str, until: Callable[[list[Row]], bool]) -> timedelta:
        text = (package_files.files(__package__) / "samples" / sample).read_text(encoding="utf-8")
        for manifest in yaml.safe_load_all(text):
            await self._apply(RESOURCES[manifest["kind"]], manifest)
        return await self._until(until)

    async def _apply(self, resource: Resource, manifest: dict[str, Any]) -> None:
        metadata = manifest["metadata"]
        await self._cluster.apply(resource, metadata.get("namespace"), metadata["name"], manifest, force=True)

    async def _rename(self) -> None:
        while True:
            raw = await self._cluster.get(PROVIDERS, NAMESPACE, "victoriametrics")
            assert raw is not None
            body = {"metadata": {"resourceVersion": raw["metadata"]["resourceVersion"]}, "spec": {"externalName": None}}
            try:
                await self._cluster.patch(PROVIDERS, NAMESPACE, "victoriametrics", body)
            except Conflict:
                continue
            return

    async def _until(self, until: Callable[[list[Row]], bool], *, shown: bool = True) -> timedelta:
        began = time.monotonic()
        took = timedelta()
        async for rows in self._looks():
            if shown:
                self._screen.show(rows)
            took = timedelta(seconds=time.monotonic() - began)
            if until(rows):
                break
            if took > PATIENCE:
                stuck = "; ".join(f"{row.kind} {row.name}: {row.reason}, {row.message}" for row in rows)
                raise Unavailable("SandboxStoryStuck", f"nothing more happens after {PATIENCE.seconds} s: {stuck}")
        await asyncio.sleep(PAUSE_S if shown else 0.0)
        return took

    async def _looks(self) -> AsyncIterator[list[Row]]:
        while True:
            if (trouble := self._alive()) is not None:
                raise Unavailable("SandboxProcessDied", trouble)
            listings = [await self._cluster.list(resource) for resource in OURS]
            yield [
                Row.of({"kind": resource.kind, **item})
                for resource, listing in zip(OURS, listings, strict=True)
                for item in listing.items
            ]
            await asyncio.sleep(LOOK_EACH_S)


def _all_told(rows: list[Row]) -> bool:
    told = {row.name: row.reason for row in rows}
    return {"vms", "ntfy"} <= told.keys() and "-" not in told.values()


def _all_ready(rows: list[Row]) -> bool:
    return bool(rows) and all(row.ready == "True" for row in rows)


def _reason(rows: list[Row], name: str) -> str | None:
    return next((row.reason for row in rows if row.name == name), None)
