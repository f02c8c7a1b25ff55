"""Which replica writes: a Lease, as every Kubernetes controller keeps one, and the number that fences its writes.

::

    standby ──Lease free, released or not renewed for its length──► leader ──renews every third of it──► ...
       ▲  watches and caches stay warm meanwhile                       │
       └──────────── the process ends and starts anew ◄────────────────┴─ not renewed in time: stops before
                                                                         anybody else may begin

Clocks of machines differ, so nobody compares them: a standby counts, on its own monotonic clock, the time in which the
Lease has not changed; a leader counts from the moment it *asked* for the last renewal that was granted.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from keep_operator.cluster.client import Cluster
from keep_operator.errors import Conflict, KeepOperatorError, Unavailable
from keep_operator.resources.kinds import LEASES, Key

log = logging.getLogger(__name__)

# Between a standby's looks at the Lease: with it a take-over comes within the Lease's length and this.
RETRY_S: Final = 2.0
# Renewals a Lease length, so that two may fail; never more often than each 5 s at the default of 10 s and above, since a
# resting operator writes as little as it can (A-DR-2).
RENEWALS: Final = 3
RENEW_AT_MOST_EACH_S: Final = 5.0
# The part of the Lease's length after which a leader that could not renew gives up, before a standby may begin.
GIVE_UP_AFTER: Final = 0.8


@dataclass(frozen=True, slots=True)
class _Seen:
    """The Lease as it was when it last changed, and when we noticed (monotonic seconds)."""

    version: str
    at_s: float


class Leadership:
    """One replica's part in the election. ``identity`` is unique per process, ``length`` the Lease's duration.

    ``clock`` gives monotonic seconds, ``now`` the wall clock, which only people read.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        lease: Key,
        identity: str,
        length: timedelta,
        clock: Callable[[], float],
        now: Callable[[], datetime],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._cluster = cluster
        self._namespace, self._name = lease.namespace, lease.name
        self._identity = identity
        self._length_s = length.total_seconds()
        self._clock = clock
        self._now = now
        self._sleep = sleep
        self._seen: _Seen | None = None
        self._version = ""
        self._deadline_s = float("-inf")
        self.leader: str | None = None
        self.epoch = 0

    @property
    def held(self) -> bool:
        """Whether this replica may write now; answers from memory, by the monotonic deadline."""
        return self._clock() < self._deadline_s

    async def acquire(self, on_wait: Callable[[str], None] = lambda leader: None) -> int:
        """Wait until this replica leads; the Lease's transition count. ``on_wait`` is told who leads meanwhile."""
        while True:
            try:
                if await self._try():
                    return self.epoch
            except Conflict:
                pass  # somebody else was faster
            except KeepOperatorError as error:
                log.warning(
                    "the Lease cannot be read or written", extra={"reason": error.reason, "detail": error.message}
                )
            if self.leader is not None:
                on_wait(self.leader)
            await self._sleep(min(RETRY_S, self._length_s / 2))

    async def hold(self) -> None:
        """Renew until the Lease is lost; returns then, before anybody else may lead."""
        pause_s = min(max(self._length_s / RENEWALS, RENEW_AT_MOST_EACH_S), self._length_s / 2)
        while self.held:
            await self._sleep(max(0.0, min(pause_s, self._deadline_s - self._clock())))
            asked_s = self._clock()
            left_s = self._deadline_s - asked_s
            if left_s <= 0:
                break
            try:
                async with asyncio.timeout(left_s):
                    await self._write({"renewTime": self._moment()})
                self._deadline_s = asked_s + self._length_s * GIVE_UP_AFTER
                pause_s = min(max(self._length_s / RENEWALS, RENEW_AT_MOST_EACH_S), self._length_s / 2)
            except Conflict:
                if not await self._still_ours(left_s):
                    break
                pause_s = 0.0
            except (Unavailable, TimeoutError):
                pause_s = min(1.0, self._length_s / 10)
        self._deadline_s = float("-inf")
        log.error("the Lease was lost", extra={"lease": self._name, "leader": self.leader})

    async def release(self) -> None:
        """Give the Lease back, so that a standby need not wait for its end; safe to call when it is not held."""
        if not self.held:
            return
        self._deadline_s = float("-inf")
        try:
            async with asyncio.timeout(RETRY_S):
                await self._write({"holderIdentity": "", "renewTime": self._moment(), "leaseDurationSeconds": 1})
        except (KeepOperatorError, TimeoutError):
            log.debug("the Lease could not be given back; it runs out by itself")

    async def raise_epoch(self, above: int) -> int:
        """Lift the transition count above a number (a Lease that was deleted begins at 0 again); the new count."""
        self.epoch = above + 1
        await self._write({"leaseTransitions": self.epoch})
        return self.epoch

    async def _try(self) -> bool:
        lease = await self._cluster.get(LEASES, self._namespace, self._name)
        asked_s = self._clock()
        if lease is None:
            made = await self._cluster.create(LEASES, self._namespace, self._manifest())
            return self._won(made, asked_s)
        spec, version = lease.get("spec") or {}, lease["metadata"]["resourceVersion"]
        if self._seen is None or self._seen.version != version:
            self._seen = _Seen(version, asked_s)
        holder = spec.get("holderIdentity") or ""
        self.leader = holder or None
        length_s = float(spec.get("leaseDurationSeconds") or self._length_s)
        if holder and holder != self._identity and asked_s - self._seen.at_s < length_s:
            return False
        wanted = {
            **self._spec(),
            "leaseTransitions": int(spec.get("leaseTransitions") or 0) + 1,
            "acquireTime": self._moment(),
        }
        self._version = version
        return self._won(await self._write(wanted), asked_s)

    def _won(self, lease: dict[str, Any], asked_s: float) -> bool:
        self._version = lease["metadata"]["resourceVersion"]
        self._deadline_s = asked_s + self._length_s * GIVE_UP_AFTER
        self.epoch = int(lease["spec"].get("leaseTransitions") or 0)
        self.leader = self._identity
        return True

    async def _still_ours(self, limit_s: float) -> bool:
        """After a conflict: somebody touched the Lease; is it still ours?"""
        try:
            async with asyncio.timeout(limit_s):
                lease = await self._cluster.get(LEASES, self._namespace, self._name)
        except (Unavailable, TimeoutError):
            return True  # not known; the deadline decides
        spec = {} if lease is None else lease.get("spec") or {}
        self.leader = spec.get("holderIdentity")
        if lease is None or self.leader != self._identity or spec.get("leaseTransitions") != self.epoch:
            return False
        self._version = lease["metadata"]["resourceVersion"]
        return True

    async def _write(self, spec: dict[str, Any]) -> dict[str, Any]:
        body = {"metadata": {"resourceVersion": self._version}, "spec": spec}
        lease = await self._cluster.patch(LEASES, self._namespace, self._name, body)
        self._version = lease["metadata"]["resourceVersion"]
        return lease

    def _manifest(self) -> dict[str, Any]:
        return {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": {**self._spec(), "leaseTransitions": 1, "acquireTime": self._moment()},
        }

    def _spec(self) -> dict[str, Any]:
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._length_s)),
            "renewTime": self._moment(),
        }

    def _moment(self) -> str:
        return self._now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
