"""Has the ledger's entries sealed soon after they were written, many at once, and is still where nothing is written.

::

    leadership ──▶ seal what a predecessor left ──▶ wait for a write of ours, or the interval ──▶ gather ──▶ seal ──▶ …
                                          ▲                                                               │
                                          └───────── back off, 1 s to 30 s, where it failed ◀─────────────┘

Only the leader seals. No reconcile waits for it: an entry counts from its own transaction on, sealed or not.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from keep_operator.errors import KeepOperatorError
from keep_operator.reconcile.database import Database
from keep_operator.store import seals

log = logging.getLogger(__name__)

# From the first write to the sealing, in seconds: what is written meanwhile shares the transaction, and all of it is
# sealed within a second (A-HIS-4).
GATHER_S: Final = 0.5
# After a failure, in seconds, doubled each time. The database is away, most often; nothing gets lost by waiting.
RETRY_FIRST_S: Final = 1.0
RETRY_LIMIT_S: Final = 30.0


class Sealer:
    """``interval``: how often to look for what other programs wrote, of which nobody tells."""

    def __init__(self, database: Database, interval: timedelta, clock: Callable[[], float]) -> None:
        self._database = database
        self._interval_s = interval.total_seconds()
        self._clock = clock
        self._since: float | None = None

    def unsealed_s(self) -> float:
        """How long entries have been waiting that this process knows of; 0 when there are none."""
        return 0.0 if self._since is None else self._clock() - self._since

    async def run(self) -> None:
        """Seal, for as long as this process leads, until cancelled; a failure is told once and tried again."""
        delay_s, told = RETRY_FIRST_S, ""
        while True:
            self._database.wrote.clear()
            trouble = await self._seal()
            if not trouble:
                delay_s, told, self._since = RETRY_FIRST_S, "", None
                await self._news()
                continue
            if trouble.reason != told:
                told = trouble.reason
                log.warning("ledger entries wait for their seals", extra={"reason": told, "detail": trouble.message})
            await asyncio.sleep(delay_s)
            delay_s = min(RETRY_LIMIT_S, delay_s * 2)

    async def _seal(self) -> KeepOperatorError | None:
        """Seal all that waits; what kept us from it, or None."""
        try:
            while await self._database.seal() == seals.BATCH:
                pass
        except KeepOperatorError as error:
            return error
        except Exception as bug:
            log.exception("internal error", extra={"detail": "sealing the ledger"})
            return KeepOperatorError("InternalError", type(bug).__name__)
        return None

    async def _news(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._interval_s):
                await self._database.wrote.wait()
        if self._database.wrote.is_set():
            self._since = self._clock()
            await asyncio.sleep(GATHER_S)
