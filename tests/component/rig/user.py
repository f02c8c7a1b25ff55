"""A user of the cluster: applies, edits, deletes and waits, as with kubectl; never late, and never refused by a fault."""

import asyncio
from collections.abc import Callable
from typing import Any, Final, TypeVar

from component.apiserver import patches
from component.apiserver.server import ApiServer
from component.apiserver.state import Failure, Name
from databases import Database
from keep_operator.resources.kinds import EVENTS, OURS, Resource
from manifests import RESOURCES, Json, Thing

T = TypeVar("T")
PATIENCE_S: Final = 900.0
"""How long something may take to come about, in seconds of the leaping clock: longer than any back-off or resync."""
LOOK_EVERY_S: Final = 1.0
"""Between two looks while no object changes, in the same seconds."""


class User:
    """Acts on the server's state directly: whatever befalls requests is not about people."""

    def __init__(self, server: ApiServer, database: Database) -> None:
        self._server = server
        self._database = database

    def apply(self, *manifests: Json) -> None:
        """Make objects, or change those that exist to what the manifests say."""
        for manifest in manifests:
            resource, name = _of(manifest)
            if name in self._server.state.all(resource):
                self.patch(
                    manifest, {key: value for key, value in manifest.items() if key not in ("apiVersion", "kind")}
                )
            else:
                self._server.state.create(resource, name, manifest, manager="kubectl")

    def edit(self, manifest: Json, **spec: object) -> None:
        """Edit the spec; None takes a field away."""
        self.patch(manifest, {"spec": spec})

    def patch(self, manifest: Json, body: Json) -> None:
        """Change anything but the status."""
        resource, name = _of(manifest)
        old = self._server.state.get(resource, name)
        self._server.state.change(resource, name, patches.merge(old, body), manager="kubectl")

    def delete(self, *manifests: Json) -> None:
        """Ask for deletion; those that are gone are gone."""
        for manifest in manifests:
            resource, name = _of(manifest)
            if name in self._server.state.all(resource):
                self._server.state.delete(resource, name)

    def fail_runs(self) -> None:
        """Let every run that waits fail, as a runner would."""
        self._database.execute(
            "UPDATE keep_operator.run SET state = 'Failed', reason = 'StepFailed', message = 'It is broken', "
            "started_at = now(), completed_at = now() WHERE state = 'Queued'"
        )

    def get(self, manifest: Json) -> Thing:
        """An object as it is now."""
        try:
            return Thing(self._server.state.get(*_of(manifest)))
        except Failure:
            return Thing({})

    def objects(self, *resources: Resource) -> list[Thing]:
        """All objects of some kinds; of ours where none is named."""
        return [Thing(obj) for resource in resources or OURS for obj in self._server.state.all(resource).values()]

    def events(self, type: str | None = None) -> list[tuple[str, str, str]]:
        """What was told about which object: type, reason, name."""
        found = [thing.raw for thing in self.objects(EVENTS)]
        return [
            (event["type"], event["reason"], event["involvedObject"]["name"])
            for event in found
            if type in (None, event["type"])
        ]

    async def eventually(self, read: Callable[[], T], until: Callable[[T], Any], what: str = "it") -> T:
        """The first reading that ``until`` accepts; fails with the last one."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + PATIENCE_S
        while not until(seen := read()):
            assert loop.time() < end_s, f"{what} did not come about; last seen: {seen!r}"
            await self._server.watches.change(LOOK_EVERY_S)
        return seen

    async def until(self, manifest: Json, wanted: Callable[[Thing], Any], what: str) -> Thing:
        """The object once it is as wanted."""
        name = f"{what} of {manifest['kind']} {manifest['metadata']['name']}"
        return await self.eventually(lambda: self.get(manifest), wanted, name)

    async def ready(self, *manifests: Json) -> list[Thing]:
        """All of them once they are Ready."""
        return [await self.until(each, lambda thing: thing and thing.ready, "Ready") for each in manifests]

    async def condition(self, manifest: Json, kind: str, wanted: tuple[str, str]) -> Thing:
        """The object once a condition has this status and reason."""
        return await self.until(manifest, lambda thing: thing and thing.condition(kind) == wanted, f"{kind} {wanted}")

    async def gone(self, *manifests: Json) -> None:
        """Returns once none of them exists."""
        for each in manifests:
            await self.until(each, lambda thing: not thing, "end")


def _of(manifest: Json) -> tuple[Resource, Name]:
    metadata = manifest["metadata"]
    return RESOURCES[manifest["kind"]], Name(metadata.get("namespace", ""), metadata["name"])
