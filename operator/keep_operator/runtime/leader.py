"""Which replica writes: a Lease, as every Kubernetes controller keeps one, and the number that fences its writes.

::

    standby ──Lease free, released or not renewed for its length──► leader ──renews in time──────────► ...
       ▲  watches and caches stay warm meanwhile                       │
       └──────────── the process ends and starts anew ◄────────────────┴─ not renewed in time: stops before
                                                                         anybody else may begin

Clocks of machines differ, so nobody compares them: a standby counts, on its own monotonic clock, the time in which the
Lease has not changed; a leader counts from the moment it *asked* for the last renewal that was granted. This needs
clocks that run about equally fast: an observer's may be faster than a leader's by a quarter (1 / GIVE_UP_AFTER).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from keep_operator.cluster.client import Cluster
from keep_operator.errors import Conflict, KeepOperatorError
from keep_operator.resources.kinds import LEASES, Key

log = logging.getLogger(__name__)

# Between a standby's looks at the Lease: with it a take-over comes within the Lease's length and this.
RETRY_S: Final = 2.0
# Renewals a Lease length, but from 10 s (the default) on none sooner than 5 s after the last, since a resting operator
# writes as little as it can (A-DR-2); one that failed is tried again after a second, until it is time to give up.
RENEWALS: Final = 3
RENEW_AT_MOST_EACH_S: Final = 5.0
# The part of the Lease's length after which a leader that could not renew gives up, before a standby may begin.
GIVE_UP_AFTER: Final = 0.8


@dataclass(frozen=True, slots=True)
class _Seen:
    """The Lease as it was when it last changed, and when we noticed (monotonic seconds)."""

    version: str
    at_s: float


class _Deposed(Conflict):
    """The Lease is in other hands, or gone."""

    def __init__(self, leader: str | None) -> None:
        super().__init__("LeadershipLost", f"the Lease is no longer ours, it belongs to {leader or 'nobody'}")


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
        self._wait_s = self._length_s
        self._version = ""
        self._turn = asyncio.Lock()  # one write at a time, since each needs the version that the last one made
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
                if await self._try() and self.held:  # an answer that came too late is no leadership
                    return self.epoch
            except Conflict:
                pass  # somebody else was faster, or the answer to our own write was lost: the next look tells
            except KeepOperatorError as error:
                log.warning(
                    "the Lease cannot be read or written", extra={"reason": error.reason, "detail": error.message}
                )
            if self.leader is not None:
                on_wait(self.leader)
            await self._sleep(self._until_next_look_s())

    async def hold(self) -> None:
        """Renew until the Lease is lost; returns then, before anybody else may lead. `raise_epoch` may run meanwhile."""
        rest_s = min(max(self._length_s / RENEWALS, RENEW_AT_MOST_EACH_S), self._length_s / 2)
        pause_s = rest_s
        while self.held:
            await self._sleep(max(0.0, min(pause_s, self._deadline_s - self._clock())))
            asked_s = self._clock()
            left_s = self._deadline_s - asked_s
            if left_s <= 0:
                break
            try:
                # Half of what is left: a connection that has died in silence leaves time for another.
                async with asyncio.timeout(max(left_s / 2, min(left_s, 1.0))):
                    await self._change()
                self._deadline_s = asked_s + self._length_s * GIVE_UP_AFTER
                pause_s = rest_s - (self._clock() - asked_s)  # from the asking on: a slow server needs all of the time
            except _Deposed:
                break
            except (KeepOperatorError, TimeoutError) as error:
                log.debug("the Lease was not renewed", extra={"detail": str(error)})
                pause_s = min(1.0, self._length_s / 10)  # whether it is still ours is not known; the deadline decides
        self._deadline_s = float("-inf")
        log.error("the Lease was lost", extra={"lease": self._name, "leader": self.leader})

    async def release(self) -> None:
        """Give the Lease back, so that a standby need not wait for its end; safe to call when it is not held."""
        if not self.held:
            return
        self._deadline_s = float("-inf")
        try:
            async with asyncio.timeout(RETRY_S):
                await self._change(holderIdentity="", leaseDurationSeconds=1)
        except (KeepOperatorError, TimeoutError):
            log.debug("the Lease could not be given back; it runs out by itself")

    async def raise_epoch(self, above: int) -> int:
        """Lift the transition count above a number (a Lease that was deleted begins at 0 again); the new count.

        Raises Conflict `LeadershipLost` where the Lease is no longer ours; on any error the count stays as it was
        here, and to call it again is safe. Does not prolong the leadership.
        """
        if not self.held:
            raise _Deposed(self.leader)
        epoch = max(above, self.epoch) + 1
        await self._change(leaseTransitions=epoch)
        self.epoch = epoch
        return epoch

    async def _try(self) -> bool:
        lease = await self._cluster.get(LEASES, self._namespace, self._name)
        asked_s = self._clock()
        if lease is None:
            # Whoever led when it was deleted learns of it at the next renewal, or gives up: until then it is not free.
            if self.leader not in (None, self._identity) and not self._unchanged_long_enough("", asked_s):
                return False
            return self._won(await self._cluster.create(LEASES, self._namespace, self._manifest()), asked_s)
        spec, version = lease.get("spec") or {}, lease["metadata"]["resourceVersion"]
        # Never less than our own length: somebody may have written a shorter one, of which the leader does not know.
        self._wait_s = max(self._length_s, float(spec.get("leaseDurationSeconds") or 0))
        self.leader = spec.get("holderIdentity") or None
        unchanged = self._unchanged_long_enough(version, asked_s)
        if self.leader not in (None, self._identity) and not unchanged:
            return False
        wanted = {
            **self._spec(),
            "leaseTransitions": int(spec.get("leaseTransitions") or 0) + 1,
            "acquireTime": self._moment(),
        }
        self._version = version
        return self._won(await self._write(wanted), asked_s)

    def _unchanged_long_enough(self, version: str, at_s: float) -> bool:
        """Whether nobody can lead by the Lease as it is seen now; an empty version is a Lease that is not there."""
        if self._seen is None or self._seen.version != version:
            self._seen = _Seen(version, at_s)
        return at_s - self._seen.at_s >= self._wait_s

    def _until_next_look_s(self) -> float:
        """Up to the moment when the Lease runs out, where that is sooner than the next look would be."""
        usual_s = min(RETRY_S, self._length_s / 2)
        left_s = usual_s if self._seen is None else self._seen.at_s + self._wait_s - self._clock()
        return min(usual_s, left_s) if left_s > 0 else usual_s

    def _won(self, lease: dict[str, Any], asked_s: float) -> bool:
        self._version = lease["metadata"]["resourceVersion"]
        self._deadline_s = asked_s + self._length_s * GIVE_UP_AFTER
        self.epoch = int(lease["spec"].get("leaseTransitions") or 0)
        self.leader = self._identity
        return True

    async def _change(self, **fields: Any) -> None:
        """Renew the Lease that is ours, whole, so that what was edited by hand is mended, with ``fields`` changed.

        A conflict may be with a write of our own whose answer was lost: then it is still ours, and written again.
        Raises Conflict `LeadershipLost` where it is not.
        """
        async with self._turn:
            spec = {**self._spec(), "leaseTransitions": self.epoch, **fields}
            try:
                await self._write(spec)
            except Conflict:
                lease = await self._cluster.get(LEASES, self._namespace, self._name)
                self.leader = None if lease is None else (lease.get("spec") or {}).get("holderIdentity") or None
                if lease is None or self.leader != self._identity:
                    raise _Deposed(self.leader) from None
                self._version = lease["metadata"]["resourceVersion"]
                await self._write(spec)

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
