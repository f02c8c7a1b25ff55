"""The sample story of `make run`: applies it step by step and shows live what becomes of each object.

::

    two Providers, no Tenant   ->  they wait, and say for what
    the Tenant                 ->  all Ready, by themselves
    vms -> victoriametrics     ->  the new object waits, the old one is pruned, the record passes over with its id
    the record's own name      ->  renamed in place

    a Workflow, a Provider missing  ->  it waits; once that has come version 1 is active
    a broken edit, a good one       ->  version 2 cannot run, and 1 stays; version 3 takes over
    compare 1 and 3, roll back      ->  version 1 is active again, whatever Git applies
    another edit                    ->  version 4 ends the hold

Once version 1 is active its interval is due: a runner executes it against the receiver, which shows what arrives. A second
Workflow goes on doing so every ten seconds.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from importlib import resources as package_files
from typing import Any, Final, Protocol

import yaml

from keep_operator.cluster.client import Cluster
from keep_operator.domain import comparison
from keep_operator.domain.comparison import Comparison
from keep_operator.errors import Conflict, Unavailable
from keep_operator.resources.kinds import (
    NAMESPACES,
    PROVIDERS,
    SECRETS,
    TENANTS,
    WORKFLOW_DECISIONS,
    WORKFLOW_REVISIONS,
    WORKFLOWS,
    Resource,
)
from keep_operator.sandbox import receiver
from keep_operator.sandbox.row import Row

NAMESPACE: Final = "monitoring"
LOOK_EACH_S: Final = 0.1
# What takes a second on a quiet machine may take this long; then the story says so instead of hanging.
PATIENCE: Final = timedelta(seconds=90)
# Long enough for eyes to follow one step before the next.
PAUSE_S: Final = 1.2
# Versions are told by their Workflow.
SHOWN: Final = (TENANTS, PROVIDERS, WORKFLOWS, WORKFLOW_DECISIONS)
RESOURCES: Final = {resource.kind: resource for resource in (*SHOWN, SECRETS)}
WORKFLOW: Final = "high-cpu"
# What the story makes, in the order in which it may be removed.
CAST: Final = (
    (WORKFLOW_DECISIONS, NAMESPACE, "high-cpu-back"),
    (WORKFLOWS, NAMESPACE, WORKFLOW),
    (WORKFLOWS, NAMESPACE, "heartbeat"),
    *((PROVIDERS, NAMESPACE, name) for name in ("vms", "ntfy", "victoriametrics", "oncall")),
    (TENANTS, None, "platform"),
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

    def __init__(
        self,
        cluster: Cluster,
        screen: Screen,
        *,
        alive: Callable[[], str | None],
        receiver_url: str,
        news: Callable[[], Sequence[str]],
    ) -> None:
        """``news`` has each line on runs, and on what the receiver heard, once."""
        self._cluster = cluster
        self._screen = screen
        self._alive = alive
        self._receiver_url = receiver_url
        self._news = news
        self._told: list[str] = []

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
            lambda rows: _all_ready(rows) and any(row.record.startswith("victoriametrics ") for row in rows)
        )
        return took + await self._release()

    async def _release(self) -> timedelta:
        """The life of a Workflow: what the operator took for it."""
        self._screen.chapter("A Workflow is applied. It names a Provider that is not there yet, and waits.")
        took = await self._step("4-workflow.yaml", lambda rows: _reason(rows, WORKFLOW) == "ProvidersNotReady")
        self._screen.chapter("The Provider comes: version 1 is active.")
        took += await self._step("5-oncall.yaml", lambda rows: _all_ready(rows) and _runs(rows, 1))
        self._screen.chapter("Its interval is due at once: a runner executes version 1. The receiver hears of it.")
        await self._until(lambda _: self._has_heard("POST /oncall") and self._has_run(WORKFLOW))
        self._screen.chapter("An edit with a slip of the pen: version 2 cannot run. Version 1 stays active.")
        took += await self._step("6-slip.yaml", lambda rows: _reason(rows, WORKFLOW) == "SchemaError")
        self._screen.chapter("Git mends the slip: version 3 takes over.")
        took += await self._step("7-edited.yaml", lambda rows: _all_ready(rows) and _runs(rows, 3))
        self._screen.chapter("It wakes somebody every minute. What did it change?")
        for line in await self._difference(1, 3):
            self._screen.say(f"  {line}")
        await asyncio.sleep(PAUSE_S)
        self._screen.chapter("Take it back: a decision, which edits nothing that Git owns.")
        took += await self._step("8-rollback.yaml", _rolled_back)
        self._screen.chapter("Git applies its manifest again and again. Version 1 stays.")
        for _ in range(2):
            took += await self._step("7-edited.yaml", _rolled_back)
        self._screen.chapter("Git has the edit as it was meant: version 4 ends the hold by itself.")
        took += await self._step("9-mended.yaml", lambda rows: _all_ready(rows) and _runs(rows, 4))
        self._screen.chapter("Another Workflow runs every ten seconds, as long as the sandbox does.")
        took += await self._step("10-heartbeat.yaml", _all_ready)
        await self._until(lambda _: self._has_heard("POST /heartbeat") and self._has_run("heartbeat"))
        return took

    def _has_heard(self, what: str) -> bool:
        return any(line.startswith(f"receiver: {what}") for line in self._told)

    def _has_run(self, name: str) -> bool:
        return any(line.startswith("run ") and f" of {name} " in line for line in self._told)

    async def _difference(self, before: int, after: int) -> list[str]:
        """A line for each part that differs, from one version to another."""
        found = {
            each["spec"]["number"]: each["spec"]["definition"]
            for each in (await self._cluster.list(WORKFLOW_REVISIONS, NAMESPACE)).items
            if each["spec"]["workflowRef"]["name"] == WORKFLOW
        }
        compared = comparison.compare(found[before], found[after])
        return [comparison.summary(Comparison((change,))) for change in compared.changes]

    async def follow(self) -> None:
        """Show what happens from now on, until cancelled."""
        async for rows in self._looks():
            self._screen.show(rows)

    async def _clear(self) -> None:
        """Remove what an earlier run of the story left."""
        for resource, namespace, name in CAST:
            await self._cluster.delete(resource, namespace, name)
        gone = frozenset(name for _, _, name in CAST)
        await self._until(lambda rows: not any(row.name in gone for row in rows), shown=False)

    async def _step(self, sample: str, until: Callable[[list[Row]], bool]) -> timedelta:
        text = (package_files.files(__package__) / "samples" / sample).read_text(encoding="utf-8")
        text = text.replace(receiver.IN_SAMPLES, self._receiver_url)
        for manifest in yaml.safe_load_all(text):
            if manifest["kind"] == WORKFLOW_DECISIONS.kind:  # carried out once for each id, for ever
                manifest["spec"]["requestId"] = str(uuid.uuid4())
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
                stuck = "; ".join(
                    [*self._told[-3:], *(f"{row.kind} {row.name}: {row.reason}, {row.message}" for row in rows)]
                )
                raise Unavailable("SandboxStoryStuck", f"nothing more happens after {PATIENCE.seconds} s: {stuck}")
        await asyncio.sleep(PAUSE_S if shown else 0.0)
        return took

    async def _looks(self) -> AsyncIterator[list[Row]]:
        while True:
            if (trouble := self._alive()) is not None:
                raise Unavailable("SandboxProcessDied", trouble)
            for line in self._news():
                self._told.append(line)
                self._screen.say(f"            {line}")
            listings = [await self._cluster.list(resource) for resource in SHOWN]
            yield [
                Row.of({"kind": resource.kind, **item})
                for resource, listing in zip(SHOWN, listings, strict=True)
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


def _runs(rows: list[Row], number: int) -> bool:
    return any(row.name == WORKFLOW and row.record == f"v{number} active" for row in rows)


def _rolled_back(rows: list[Row]) -> bool:
    return _all_ready(rows) and _reason(rows, WORKFLOW) == "RolledBack"
