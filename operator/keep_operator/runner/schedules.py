"""Starts what is due, in every runner at once: the database says who takes which, and a tick is started once."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from keep_operator.domain import schedule
from keep_operator.domain.binding import Asked
from keep_operator.domain.grammar import triggers
from keep_operator.domain.grammar.faults import Findings
from keep_operator.domain.grammar.triggers import Interval
from keep_operator.domain.history import Refusal
from keep_operator.domain.schedule import MissedTicks
from keep_operator.errors import Conflict, Unavailable
from keep_operator.store import engine as database
from keep_operator.store import runs, schedules
from keep_operator.store.engine import Engine

log = logging.getLogger(__name__)

# Between two looks, in seconds: a new schedule waits for one at most, and a tick no longer than the shorter one.
LOOK_S: Final = 1.0
SHORTEST_S: Final = 0.05
# Schedules that one round takes, so that it ends.
ROUND: Final = 1_000


def _untold(_: int) -> None:
    pass


async def keep(engine: Engine, missed: Callable[[int], None] = _untold) -> None:
    """Start what is due, until cancelled; ``missed`` is told how many ticks were not started in time."""
    away = False
    while True:
        try:
            wait_s = await _round(engine, missed)
            away = False
        except Unavailable as error:
            if not away:
                log.warning("nothing is started at its time now: %s", error.message, extra={"reason": error.reason})
            away, wait_s = True, LOOK_S
        await asyncio.sleep(wait_s)


async def _round(engine: Engine, missed: Callable[[int], None] = _untold) -> float:
    """Do all that is due; the seconds until the next look."""
    async with database.look(engine) as conn:
        wait_s = await schedules.wait_s(conn)
    if wait_s is None or wait_s > 0:
        return LOOK_S if wait_s is None else min(LOOK_S, max(SHORTEST_S, wait_s))
    for step in (_replan, partial(_start, missed=missed)):
        for _ in range(ROUND):
            if not await step(engine):
                break
    return SHORTEST_S


async def _replan(engine: Engine) -> bool:
    """Make one stale schedule anew; False: there was none."""
    async with database.transaction(engine) as conn:
        found = await schedules.stale(conn)
        if found is None:
            return False
        every = None
        if not found.still:
            read = triggers.read(dict(found.definition), Findings())
            every = next((each.every for each in reversed(read) if isinstance(each, Interval)), None)
        next_tick = schedule.replanned(found.now, every, found.every, found.next_tick)
        await schedules.plan(conn, found, every, next_tick)
    return True


async def _start(engine: Engine, *, missed: Callable[[int], None] = _untold) -> bool:
    """Start one workflow whose tick has come, or skip the tick; False: there was none."""
    try:
        async with database.transaction(engine) as conn:
            found = await schedules.due(conn)
            if found is None:
                return False
            policy: MissedTicks = "RunOnce" if found.settings.get("missedTicks") == "RunOnce" else "Skip"
            due = schedule.due(found.now, found.every, found.next_tick, policy)
            refusal = None
            if due.tick is not None:
                key = f"tick/{due.tick.isoformat()}"
                asked = Asked("Interval", key, "schedule", tick=due.tick)
                done = await runs.request(conn, found.workflow_id, asked)
                refusal = done if isinstance(done, Refusal) else None
            await schedules.move(conn, found, due.next_tick)
    except Conflict as error:
        log.debug("a tick is tried again", extra={"reason": error.reason})
        return True
    if due.missed:
        missed(due.missed)
    told = {"workflowId": str(found.workflow_id)}
    if refusal is not None:
        log.info("a tick started nothing: %s", refusal.message, extra={**told, "reason": refusal.reason})
    elif due.missed:
        log.warning("ticks were not started in time", extra={**told, "count": due.missed, "policy": policy})
    return True
