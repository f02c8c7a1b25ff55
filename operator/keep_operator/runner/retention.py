"""Removes runs that are older than they are kept, with their steps and logs: a batch at a time, by one runner at a time."""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from keep_operator.errors import KeepOperatorError
from keep_operator.store import engine as database
from keep_operator.store import runs
from keep_operator.store.engine import Engine

log = logging.getLogger(__name__)

# Between two looks, in seconds. Nothing is kept to the minute.
LOOK_S: Final = 600.0
# Batches in one look; the rest is for the next one.
BATCHES: Final = 200
# Between two batches, so that runs come first.
PAUSE_S: Final = 0.2


async def keep(engine: Engine, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
    """Look again and again, until cancelled."""
    while True:
        try:
            await clean(engine, clock())
        except KeepOperatorError as error:
            log.debug("nothing is removed now", extra={"reason": error.reason})
        await asyncio.sleep(LOOK_S)


async def clean(engine: Engine, now: datetime, most: int = runs.BATCH) -> int:
    """Remove what is too old by then; how many."""
    count = 0
    for _ in range(BATCHES):
        async with database.transaction(engine) as conn:
            removed = await runs.expire(conn, now, most) if await runs.retaining(conn) else 0
        count += removed
        if removed < most:
            break
        await asyncio.sleep(PAUSE_S)
    if count:
        log.info("old runs were removed", extra={"count": count})
    return count
