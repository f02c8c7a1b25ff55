"""The schedule: which workflow is due when, by the database's clock, for any number of runners.

A trigger of table `workflow` marks a row as stale when what it was made from has changed; a runner reads the interval anew.
Rows are taken with SKIP LOCKED: two runners never work at the same one, and none waits for another. That a tick starts once is
not left to that: `run` has a unique key (workflow, tick).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from keep_operator.store.connection import Connection, Prepared

_STALE: Final = Prepared(
    """
    SELECT s.workflow_id, s.interval_s, s.next_tick, now() AS now, w.active_revision, w.tenant_id,
        w.suspended OR w.deleted_at IS NOT NULL OR w.active_revision IS NULL AS still,
        r.definition -> 'triggers' AS triggers, r.definition -> 'interval' AS interval
    FROM keep_operator.schedule s
    JOIN keep_operator.workflow w ON w.id = s.workflow_id
    LEFT JOIN keep_operator.workflow_revision r ON r.workflow_id = w.id AND r.number = w.active_revision
    WHERE s.stale ORDER BY s.workflow_id LIMIT 1 FOR UPDATE OF s SKIP LOCKED
    """,
    {},
)
_PLAN: Final = Prepared(
    "UPDATE keep_operator.schedule SET revision = %(revision)s, interval_s = %(interval_s)s, next_tick = %(next_tick)s, "
    "stale = false WHERE workflow_id = %(workflow_id)s",
    {},
)
_DUE: Final = Prepared(
    """
    SELECT s.workflow_id, s.interval_s, s.next_tick, now() AS now, w.settings
    FROM keep_operator.schedule s JOIN keep_operator.workflow w ON w.id = s.workflow_id
    WHERE s.next_tick <= now() AND NOT s.stale ORDER BY s.next_tick LIMIT 1 FOR UPDATE OF s SKIP LOCKED
    """,
    {},
)
_MOVE: Final = Prepared(
    "UPDATE keep_operator.schedule SET next_tick = %(next_tick)s WHERE workflow_id = %(workflow_id)s", {}
)
_NEXT: Final = Prepared(
    "SELECT EXISTS (SELECT 1 FROM keep_operator.schedule WHERE stale) AS stale, "
    "extract(epoch FROM (SELECT min(next_tick) FROM keep_operator.schedule WHERE next_tick IS NOT NULL) - now()) AS wait_s",
    {},
)


@dataclass(frozen=True, slots=True)
class Stale:
    """A schedule to be made anew. ``definition`` has what tells the interval; ``still``: nothing starts the workflow now."""

    workflow_id: UUID
    tenant_id: str
    active_number: int | None
    still: bool
    definition: Mapping[str, Any]
    every: timedelta | None
    next_tick: datetime | None
    now: datetime


@dataclass(frozen=True, slots=True)
class Waiting:
    """A workflow whose tick has come. ``settings`` are `run` of its spec."""

    workflow_id: UUID
    every: timedelta
    next_tick: datetime
    now: datetime
    settings: Mapping[str, Any]


async def wait_s(conn: Connection) -> float | None:
    """Seconds until something is to be done, 0: now; None: nothing is scheduled at all."""
    row = (await conn.execute(_NEXT)).one()
    if row.stale:
        return 0.0
    return None if row.wait_s is None else max(0.0, float(row.wait_s))


async def stale(conn: Connection) -> Stale | None:
    """A schedule to be made anew, locked until the transaction ends; None: there is none, or another runner has it."""
    row = (await conn.execute(_STALE)).one_or_none()
    if row is None:
        return None
    definition = {key: value for key in ("triggers", "interval") if (value := getattr(row, key)) is not None}
    every = None if row.interval_s is None else timedelta(seconds=row.interval_s)
    return Stale(
        row.workflow_id, row.tenant_id, row.active_revision, row.still, definition, every, row.next_tick, row.now
    )


async def plan(conn: Connection, of: Stale, every: timedelta | None, next_tick: datetime | None) -> None:
    """Note the interval and the next tick of a schedule that is locked."""
    given = {"workflow_id": of.workflow_id, "revision": of.active_number, "next_tick": next_tick}
    await conn.execute(_PLAN, {**given, "interval_s": None if every is None else int(every.total_seconds())})


async def due(conn: Connection) -> Waiting | None:
    """A workflow whose tick has come, locked until the transaction ends; None: there is none, or another runner has it."""
    row = (await conn.execute(_DUE)).one_or_none()
    if row is None:
        return None
    every = timedelta(seconds=row.interval_s)
    return Waiting(row.workflow_id, every, row.next_tick, row.now, row.settings.get("run") or {})


async def move(conn: Connection, of: Waiting, next_tick: datetime) -> None:
    """Note when a workflow that is locked is due again."""
    await conn.execute(_MOVE, {"workflow_id": of.workflow_id, "next_tick": next_tick})
