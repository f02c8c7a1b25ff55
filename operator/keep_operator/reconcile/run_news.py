"""What Workflows must learn of runs that nobody asked for by an object: that they are under way, and that they failed.

::

    a run failed (NOTIFY) ──► one Event about its Workflow, named after the run: told once, by whichever leader
    connected again       ──► those of the last hour, of which nobody heard
    every ten seconds     ──► Workflows whose status tells another number of runs are looked at
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from keep_operator.cluster.events import Recorder, Subject
from keep_operator.domain import workflow
from keep_operator.domain.links import NO_LINKS, Links
from keep_operator.errors import KeepOperatorError
from keep_operator.reconcile.database import Database
from keep_operator.reconcile.world import World
from keep_operator.resources.kinds import WORKFLOWS, Key
from keep_operator.resources.objects import Object
from keep_operator.store import run_objects
from keep_operator.store.run_objects import Failure

log = logging.getLogger(__name__)

# Between two counts of what is under way, in seconds: a run that is over sooner costs no status write.
COUNT_EVERY_S: Final = 10.0
# Runs that end within this many seconds of each other are counted by one look.
SETTLED_S: Final = 1.0
# Failures that wait to be told; of a flood the oldest are left out, since Kubernetes would not keep the Events of all.
WAITING: Final = 1_000
# Kubernetes keeps Events for an hour, so older failures are no news.
NEWS: Final = timedelta(hours=1)


class RunNews:
    """Tells the cluster of runs; only the leader does. ``now`` is the time of day."""

    def __init__(
        self,
        world: World,
        database: Database,
        recorder: Recorder,
        now: Callable[[], datetime],
        leads: Callable[[], bool],
        links: Links = NO_LINKS,
    ) -> None:
        self._world = world
        self._database = database
        self._recorder = recorder
        self._now = now
        self._leads = leads
        self._links = links
        self._failures: deque[Failure] = deque(maxlen=WAITING)
        self._missed = True
        self._woken = asyncio.Event()

    def failed(self, told: Mapping[str, Any]) -> None:
        """A run has failed, as the database tells it; raises KeyError or ValueError where that cannot be read."""
        failure = run_objects.failure_of(told)
        if told["cluster"] == self._database.cluster_id:
            self._failures.append(failure)
            self._woken.set()

    def ended(self, told: Mapping[str, Any]) -> None:
        """A run has ended of a workflow whose release is under way or watched; of many at once one look is enough.

        Raises KeyError where that cannot be read. What nobody hears is found by the look that each release has planned.
        """
        if told["cluster"] == self._database.cluster_id:
            key = Key(WORKFLOWS.kind, told["namespace"], told["name"])
            if self._world.cache.get(key) is not None:
                self._world.queue.schedule(key, SETTLED_S)

    def may_have_missed(self) -> None:
        """The connection on which failures are told is new."""
        self._missed = True
        self._woken.set()

    async def run(self) -> None:
        """Tell and count, until cancelled; what goes wrong is tried again with the next round."""
        clock = asyncio.get_running_loop().time
        count_at_s = clock() + COUNT_EVERY_S
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(count_at_s):
                    await self._woken.wait()
            self._woken.clear()
            await self._attempt(self._tell)
            if clock() >= count_at_s:
                await self._attempt(self._count)
                count_at_s = clock() + COUNT_EVERY_S

    async def _attempt(self, work: Callable[[], Any]) -> None:
        if not self._leads():
            return
        try:
            await work()
        except KeepOperatorError as error:
            log.debug("runs are not told of now", extra={"reason": error.reason})

    async def _tell(self) -> None:
        if self._missed:
            async with self._database.look() as conn:
                found = await run_objects.failed(conn, self._database.cluster_id, self._now() - NEWS)
            self._missed = False
            self._failures.extend(found)
        while self._failures:
            await self._tell_one(self._failures.popleft())

    async def _tell_one(self, failure: Failure) -> None:
        """One Event and one log line, both with number and hash (A-RUN-10)."""
        why = f": {failure.message}" if failure.message else ""
        log.warning(
            "a run failed",
            extra={
                "kind": WORKFLOWS.kind,
                "object": failure.workflow.path,
                "run": str(failure.run_id),
                "version": failure.version,
                "reason": failure.reason,
            },
        )
        subject = Subject(WORKFLOWS, failure.workflow.namespace, failure.workflow.name, failure.workflow_uid)
        message = f"Run {failure.run_id} of {failure.version} failed{why}"
        # The end of the id is random, its beginning the time.
        once, page = failure.run_id.hex[12:], self._links.run(failure.run_id)
        await self._recorder.record(subject, "Warning", failure.reason, message, once=once, see=page)

    async def _count(self) -> None:
        async with self._database.look() as conn:
            running = await run_objects.running(conn, self._database.cluster_id)
        for obj in self._world.cache.all(WORKFLOWS.kind):
            if _told(obj) != running.get(obj.key, 0) and not obj.deleting:
                self._wake(obj.key, at_once=not (_told(obj) and obj.key in running))

    def _wake(self, key: Key, *, at_once: bool) -> None:
        """Have the Workflow looked at; where only the number has changed, with the minute in which it may be told."""
        if at_once:
            self._world.queue.add(key, urgent=False)
        else:
            self._world.queue.schedule(key, workflow.RUNS_EVERY.total_seconds())


def _told(obj: Object[Any]) -> int:
    number: int = (obj.status.get("runs") or {}).get("running", 0)
    return number
