"""An API server that knows one Lease, and the bad links over which replicas reach it; in virtual time."""

import asyncio
import copy
import random
from dataclasses import dataclass, field
from typing import Any, cast

from keep_operator.cluster.client import Cluster
from keep_operator.errors import Conflict, Refused, Unavailable
from unit.virtual_time import now_s


class Server:
    """The Lease, its versions, and how often it was written."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.writes: list[float] = []

    @property
    def spec(self) -> dict[str, Any]:
        """What the Lease says; fails where there is none."""
        assert self.lease is not None
        return cast("dict[str, Any]", self.lease["spec"])

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        """As POST: there can be only one."""
        if self.lease is not None:
            raise Conflict("AlreadyExists", "there is a Lease of that name")
        self.lease = copy.deepcopy(body)
        return self._committed()

    def patch(self, body: dict[str, Any]) -> dict[str, Any]:
        """As a merge patch with a resourceVersion."""
        if self.lease is None or body["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise Conflict("Conflict", "the Lease has changed")
        self.lease["spec"] |= body["spec"]
        return self._committed()

    def edit(self, **spec: Any) -> None:
        """As a person does with kubectl edit."""
        self.spec.update(spec)
        self._committed()

    def _committed(self) -> dict[str, Any]:
        assert self.lease is not None
        self.version += 1
        self.lease["metadata"]["resourceVersion"] = str(self.version)
        self.writes.append(now_s())
        return copy.deepcopy(self.lease)


@dataclass
class Link:
    """How one replica reaches the server, and whether it runs at all; times in seconds of the loop."""

    server: Server
    chance: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311 - a schedule, no secret
    cut_until_s: float = 0.0
    frozen_until_s: float = 0.0
    slow_until_s: float = 0.0
    lossy_until_s: float = 0.0
    slowest_s: float = 3.0
    lose_next_answers: int = 0
    refuse_writes: bool = False
    latency_s: float = 0.01

    @property
    def cluster(self) -> Cluster:
        """This link in the place of the API client."""
        return cast("Cluster", self)

    async def get(self, *_: object) -> dict[str, Any] | None:
        """The Lease as it was when the question arrived; the answer may be old when it is read."""
        await self._travel()
        seen = copy.deepcopy(self.server.lease)
        await self._travel()
        return seen

    async def create(self, _resource: object, _namespace: object, body: dict[str, Any]) -> dict[str, Any]:
        """Not repeated: where the answer is lost, the Lease is there."""
        await self._travel()
        made = self.server.create(body)
        if self._loses():
            raise Unavailable("Lost", "no answer")
        await self._travel()
        return made

    async def patch(self, _resource: object, _ns: object, _name: object, body: dict[str, Any]) -> dict[str, Any]:
        """Where the answer is lost the client may ask again by itself, and meets its own write (Conflict)."""
        await self._travel()
        if self.refuse_writes:
            raise Refused("Forbidden", "a policy forbids it")
        done = self.server.patch(body)
        if self._loses():
            if self.chance.random() < 0.5:
                raise Unavailable("Lost", "no answer")
            await self._travel()
            self.server.patch(body)
        await self._travel()
        return done

    async def runs(self) -> None:
        """Wait while the process is stopped (SIGSTOP, a full node)."""
        await asyncio.sleep(max(0.0, self.frozen_until_s - now_s()))

    def _loses(self) -> bool:
        if self.lose_next_answers:
            self.lose_next_answers -= 1
            return True
        return now_s() < self.lossy_until_s and self.chance.random() < 0.5

    async def _travel(self) -> None:
        await self.runs()
        slow_s = self.chance.uniform(0, self.slowest_s) if now_s() < self.slow_until_s else 0.0
        await asyncio.sleep(self.latency_s + slow_s)
        if now_s() < self.cut_until_s:
            await asyncio.sleep(self.chance.uniform(0, 1))
            raise Unavailable("Partition", "no route to host")
        await self.runs()
