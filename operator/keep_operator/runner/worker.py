"""Works runs off: as many at once as there are places, gives back what it cannot finish when it is told to stop.

::

    queue ──▶ job ──▶ `execution.execute` ──▶ the run's row tells how it ended, and the job is gone with it
      ▲                    │ stop: between two steps
      └────────────────────┘
    recovery, in one runner at a time: jobs of the dead go back to the queue
"""

import asyncio
import contextlib
import logging
from collections import Counter
from typing import Final
from uuid import UUID

from keep_operator.errors import KeepOperatorError, Unavailable
from keep_operator.runner.execution import Means, Orders, Stopped, execute
from keep_operator.store import changes, runs
from keep_operator.store import engine as database
from keep_operator.store.queue import GivenBack, Pace, Queue

log = logging.getLogger(__name__)

# Before the worker begins anew when the database has gone away.
AGAIN_S: Final = 1.0
# Each run that is under way is asked for orders this often, in case the word of a cancellation was lost.
ASK_S: Final = 15.0


class Worker:
    """One process's work on runs; ``under_way`` are those that it has now, ``ended`` counts by state."""

    def __init__(self, means: Means, queue: Queue, *, places: int, pace: Pace) -> None:
        self._means = means
        self._queue = queue
        self._places = places
        self._pace = pace
        self.ended: Counter[str] = Counter()
        self.under_way: dict[UUID, Orders] = {}
        self._stopping = False

    async def work(self, stop: asyncio.Event) -> None:
        """Work until told to stop, and then until what is under way is done or given back."""
        while not stop.is_set():
            working = asyncio.create_task(self._queue.work(self._one, self._places))
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set():
                self._stopping = True
                for orders in self.under_way.values():
                    orders.stop.set()
                working.cancel()
            stopping.cancel()
            try:
                await working
            except asyncio.CancelledError:
                if not stop.is_set():
                    raise
            except KeepOperatorError as error:
                log.warning("the queue is away: %s", error.message, extra={"reason": error.reason})
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), AGAIN_S)

    def cancel(self, run_id: str) -> None:
        """Order a run to end, if it is under way here."""
        with contextlib.suppress(ValueError):
            if (orders := self.under_way.get(UUID(run_id))) is not None:
                orders.cancel.set()

    async def recover(self) -> None:
        """Bring back what the dead have left behind, until cancelled."""
        while True:
            await asyncio.sleep(self._pace.heartbeat_s)
            try:
                async with database.transaction(self._means.engine) as conn:
                    count = await self._queue.recover(conn)
                if count:
                    self._means.measures.recovered.inc(count)
                    log.warning("runs of workers that have died go on", extra={"count": count})
            except KeepOperatorError as error:
                log.debug("nothing is recovered now", extra={"reason": error.reason})

    async def listen(self, url: str) -> None:
        """Hear which runs are to be cancelled, until cancelled itself."""
        name = f"{self._means.worker} (cancellations)"
        channels = {changes.CANCELLED: self.cancel}
        async with asyncio.TaskGroup() as both:
            both.create_task(changes.hear(url, application_name=name, channels=channels, connected=lambda: None))
            both.create_task(self._ask())

    async def _ask(self) -> None:
        while True:
            await asyncio.sleep(ASK_S)
            with contextlib.suppress(Unavailable):
                async with database.look(self._means.engine) as conn:
                    for run_id in await runs.cancelled(conn, list(self.under_way)):
                        self.cancel(str(run_id))

    async def _one(self, run_id: UUID, job: int) -> bool:
        orders = self.under_way[run_id] = Orders()
        if self._stopping:
            orders.stop.set()
        try:
            run = await execute(self._means, run_id, orders, job)
            if run is not None:
                self.ended[run.state.value] += 1
            return run is not None
        except Stopped:
            raise GivenBack from None
        finally:
            del self.under_way[run_id]
