"""Runs: how one is asked for, and what is known of it; what workers do with it is in `executions`.

::

    request: look ──▶ binding.bind ──▶ one statement: row and queue job, both or none (A-RUN-1)

The row names (workflow, revision, hash) by foreign key: a pair that does not exist cannot be told of any run. A job holds
the run's id and nothing else; when it is taken up, that row says what to load.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import uuid6

from keep_operator.domain import binding
from keep_operator.domain.binding import Asked, Bound, Candidate, Concurrency, Seen, Tried
from keep_operator.domain.execution import Reason, Run, State
from keep_operator.domain.history import Refusal
from keep_operator.errors import Conflict, Refused
from keep_operator.store import documents, failures, ownership
from keep_operator.store.connection import Connection, Prepared, Row

# What jobs are called in the queue.
TASK: Final = "keep_operator.run"
QUEUE: Final = "runs"
# Part of the statement that ends a run: the job that has brought it to this worker goes at the same moment.
JOB_GONE: Final = "DELETE FROM keep_operator.procrastinate_jobs job USING held WHERE job.id = %(job)s"
# A tenant's next run is less urgent with each that it has waiting; more than these make no difference.
BACKLOG: Final = 1_000
# Rows that one statement removes at most, so that none holds locks for long (A-RET-6).
BATCH: Final = 5_000
# How long runs are kept where their Workflow does not say.
MAX_AGE: Final = timedelta(days=90)

_COLUMNS: Final = """
    run.id, run.tenant_id, run.workflow_id, run.revision, run.content_hash, run.selection, run.trigger, run.mode, run.state,
    run.reason, run.message, run.requested_by, run.queued_at, run.started_at, run.completed_at, run.fingerprint, run.tick,
    run.owner_cluster, run.owner_namespace, run.owner_name, run.owner_uid, run.retry_of, run.try_number, run.attempt,
    run.max_attempts, run.timeout_s, run.cancel_requested, run.provider_config_hashes, run.worker
"""
COLUMNS: Final = " ".join(_COLUMNS.split())

# The candidate: the revision of that number, tag or hash (of several the active one, else the newest), of the run that is to be
# tried again, or else the active one. The definition is looked into only where its strategy or its inputs can matter.
_LOOK: Final = Prepared(
    """
    SELECT w.id, w.tenant_id, w.suspended, w.settings, w.active_revision, again.try_number,
        c.number, c.content_hash, c.flaw_message, c.first_active_at, c.denied, c.rejected, c.approved_reason,
        tried.candidate, tried.weight, tried.sticky_key, tried.content_hash AS candidate_hash,
        CASE WHEN %(fingerprint)s::text IS NOT NULL THEN c.definition ->> 'strategy' END AS strategy,
        CASE WHEN NOT %(by_itself)s THEN c.definition -> 'inputs' END AS inputs,
        EXISTS (SELECT 1 FROM keep_operator.run WHERE tenant_id = w.tenant_id AND workflow_id = w.id
            AND completed_at IS NULL) AS unfinished,
        EXISTS (SELECT 1 FROM keep_operator.run WHERE tenant_id = w.tenant_id AND workflow_id = w.id
            AND completed_at IS NULL AND fingerprint = %(fingerprint)s::text) AS unfinished_alike
    FROM keep_operator.workflow w
    LEFT JOIN LATERAL (SELECT k.candidate, k.weight, k.sticky_key, r.content_hash FROM keep_operator.canary k
        JOIN keep_operator.workflow_revision r ON r.workflow_id = k.workflow_id AND r.number = k.candidate
        WHERE k.workflow_id = w.id) tried ON true
    LEFT JOIN keep_operator.run again ON again.id = %(retry_of)s::uuid AND again.workflow_id = w.id
    LEFT JOIN LATERAL (
        SELECT r.number, r.content_hash, r.flaw_message, r.definition, s.first_active_at, s.approved_reason,
            verdict.denied, verdict.rejected
        FROM keep_operator.workflow_revision r
        JOIN keep_operator.revision_state s ON s.workflow_id = r.workflow_id AND s.number = r.number
        CROSS JOIN LATERAL (SELECT min(d.denied_reason) AS denied, min(d.rejected_reason) AS rejected
            FROM keep_operator.workflow_revision alike
            JOIN keep_operator.revision_state d ON d.workflow_id = alike.workflow_id AND d.number = alike.number
            WHERE alike.workflow_id = w.id AND alike.content_hash = r.content_hash) verdict
        WHERE r.workflow_id = w.id AND r.number = CASE
            WHEN %(number)s::int IS NOT NULL THEN %(number)s::int
            WHEN %(hash)s::text IS NOT NULL THEN (SELECT alike.number FROM keep_operator.workflow_revision alike
                WHERE alike.workflow_id = w.id AND alike.content_hash = %(hash)s::text
                ORDER BY alike.number = w.active_revision DESC NULLS LAST, alike.number DESC LIMIT 1)
            WHEN %(tag)s::text IS NOT NULL THEN (SELECT t.number FROM keep_operator.revision_tag t
                WHERE t.workflow_id = w.id AND t.tag = %(tag)s::text)
            WHEN %(retry_of)s::uuid IS NOT NULL THEN again.revision
            ELSE w.active_revision END
    ) c ON true
    WHERE w.id = %(workflow_id)s AND w.deleted_at IS NULL
    """,
    {},
)
_ONE_AT_A_TIME: Final = Prepared("SELECT pg_advisory_xact_lock(hashtextextended(%(workflow_id)s::text, 6))", {})

# Everything that must still hold stands in the WHERE clause; the priority is what keeps tenants fair to each other. Jobs of one
# lock keep their order, whatever the priority of the later one would be.
_REQUEST: Final = Prepared(
    f"""
    WITH made AS (
        INSERT INTO keep_operator.run (id, tenant_id, workflow_id, revision, content_hash, selection, trigger, mode, state,
            inputs, event, fingerprint, idempotency_key, tick, requested_by, owner_cluster, owner_namespace, owner_name,
            owner_uid, retry_of, try_number, max_attempts, timeout_s)
        SELECT %(id)s, w.tenant_id, w.id, %(revision)s, %(content_hash)s, %(selection)s, %(trigger)s, %(mode)s, 'Queued',
            %(inputs)s::json, %(event)s::json, %(fingerprint)s, %(idempotency_key)s, %(tick)s, %(requested_by)s,
            %(owner_cluster)s, %(owner_namespace)s, %(owner_name)s, %(owner_uid)s, %(retry_of)s, %(try_number)s,
            %(max_attempts)s, %(timeout_s)s
        FROM keep_operator.workflow w
        WHERE w.id = %(workflow_id)s AND w.deleted_at IS NULL AND NOT w.suspended
            AND (%(selection)s <> 'Active' OR w.active_revision = %(revision)s)
            AND (%(selection)s <> 'Canary' OR EXISTS (SELECT 1 FROM keep_operator.canary k
                WHERE k.workflow_id = w.id AND k.candidate = %(revision)s AND k.weight > 0))
        ON CONFLICT DO NOTHING RETURNING run.*
    ), priority AS (
        SELECT least(-(SELECT count(*) FROM (SELECT 1 FROM keep_operator.run
                WHERE tenant_id = made.tenant_id AND completed_at IS NULL LIMIT {BACKLOG}) waiting),
            (SELECT min(waiting.priority) FROM keep_operator.procrastinate_jobs waiting
                WHERE waiting.lock = %(lock)s AND waiting.status = 'todo'))::int AS value
        FROM made
    ), job AS (
        SELECT keep_operator.procrastinate_defer_jobs_v1(ARRAY[ROW('{QUEUE}', '{TASK}', priority.value, %(lock)s, NULL,
            jsonb_build_object('run_id', made.id), NULL)::keep_operator.procrastinate_job_to_defer_v1]) AS ids
        FROM made, priority
    )
    SELECT {COLUMNS.replace("run.", "made.")} FROM made, job
    """,  # noqa: S608 - constants
    {},
)
_ASKED_BEFORE: Final = Prepared(
    f"""
    SELECT {COLUMNS} FROM keep_operator.run
    WHERE workflow_id = %(workflow_id)s AND (idempotency_key = %(idempotency_key)s OR tick = %(tick)s::timestamptz)
    """,  # noqa: S608
    {},
)
_GET: Final = Prepared(f"SELECT {COLUMNS} FROM keep_operator.run WHERE id = %(id)s", {})  # noqa: S608
_OF_OBJECT: Final = Prepared(
    f"SELECT {COLUMNS} FROM keep_operator.run WHERE owner_cluster = %(cluster)s AND owner_uid = %(uid)s",  # noqa: S608
    {},
)
_CANCEL: Final = Prepared(
    f"""
    UPDATE keep_operator.run SET cancel_requested = true,
        state = CASE state WHEN 'Queued' THEN 'Cancelled' ELSE state END,
        reason = CASE state WHEN 'Queued' THEN '{Reason.CANCELLED}' END,
        message = CASE state WHEN 'Queued' THEN %(message)s ELSE message END,
        completed_at = CASE state WHEN 'Queued' THEN now() END
    WHERE state IN ('Queued', 'Running') AND NOT cancel_requested
        AND (id = %(id)s::uuid OR workflow_id = %(workflow_id)s::uuid)
    RETURNING id
    """,  # noqa: S608
    {},
)
_CANCELLED: Final = Prepared(
    "SELECT id FROM keep_operator.run WHERE id = ANY(%(ids)s) AND cancel_requested AND completed_at IS NULL", {}
)
# Unfinished runs are few beside those that have ended, and an index has them alone.
_BACKLOG: Final = Prepared(
    """
    SELECT count(*) AS waiting, coalesce(extract(epoch FROM now() - min(queued_at)), 0) AS oldest_s
    FROM keep_operator.run WHERE completed_at IS NULL AND state = 'Queued'
    """,
    {},
)
_UNFINISHED: Final = Prepared(
    f"""
    SELECT {COLUMNS} FROM keep_operator.run JOIN keep_operator.workflow w ON w.id = run.workflow_id
    WHERE w.id = %(workflow_id)s AND run.tenant_id = w.tenant_id AND run.completed_at IS NULL ORDER BY run.id LIMIT %(most)s
    """,  # noqa: S608
    {},
)
# Ids begin with the time at which their run was asked for, so that of each workflow only the oldest are looked at; by the clock of
# who asked, hence an hour more.
_EXPIRE: Final = Prepared(
    """
    DELETE FROM keep_operator.run WHERE id IN (
        SELECT old.id
        FROM keep_operator.workflow w
        CROSS JOIN LATERAL (SELECT %(now)s - make_interval(secs => coalesce(
            (w.settings -> 'runHistory' ->> 'maxAgeSeconds')::float, %(max_age_s)s)) AS before) kept
        CROSS JOIN LATERAL (
            SELECT run.id FROM keep_operator.run
            WHERE run.workflow_id = w.id AND run.completed_at < kept.before AND run.id < (lpad(to_hex((extract(
                epoch FROM kept.before + interval '1 hour') * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
            ORDER BY run.id LIMIT %(most)s FOR UPDATE SKIP LOCKED
        ) old
        LIMIT %(most)s)
    """,
    {"max_age_s": MAX_AGE.total_seconds()},
)


# One runner at a time removes what is old; arbitrary, but for ever.
_RETAINING: Final = Prepared("SELECT pg_try_advisory_xact_lock(7237117975334838382)", {})


@dataclass(frozen=True, slots=True)
class Requested:
    """A run that there is now; ``created`` is False where it was asked for before."""

    run: Run
    created: bool


@dataclass(frozen=True, slots=True)
class Backlog:
    """The runs of the whole installation that wait, and how long the oldest of them has."""

    waiting: int
    oldest_s: float


async def request(conn: Connection, workflow_id: UUID, asked: Asked) -> Requested | Refusal:
    """Bind a run to its revision and queue it, in the caller's transaction; the same request again gets the same run.

    A Refusal has a reason of condition ``Accepted``, and nothing was written. Raises Conflict where what was seen has changed
    (look again), Refused SpecRefused for inputs that cannot be stored.
    """
    bound, seen = await _bound(conn, workflow_id, asked)
    if isinstance(bound, Bound) and bound.concurrency in (Concurrency.FORBID, Concurrency.REPLACE):
        # Whether another run has not ended is looked up again, now that nobody else can start one.
        await conn.execute(_ONE_AT_A_TIME, {"workflow_id": workflow_id})
        bound, seen = await _bound(conn, workflow_id, asked)
    if isinstance(bound, Refusal):
        before = None if seen is None else await _asked_before(conn, workflow_id, asked)
        return bound if before is None else Requested(before, created=False)
    before = await _asked_before(conn, workflow_id, asked) if bound.replaces else None
    if before is None and bound.replaces:
        await cancel_all(conn, workflow_id, message="Replaced by a newer run")
    if before is None:
        row = (await conn.execute(_REQUEST, _values(workflow_id, asked, bound))).one_or_none()
        if row is not None:
            return Requested(run_of(row), created=True)
        before = await _asked_before(conn, workflow_id, asked)
    if before is None:
        raise _changed()
    return Requested(before, created=False)


async def get(conn: Connection, run_id: UUID) -> Run | None:
    """The run of this id."""
    row = (await conn.execute(_GET, {"id": run_id})).one_or_none()
    return None if row is None else run_of(row)


async def observe(conn: Connection, cluster_id: str, uid: str) -> Run | None:
    """The run that this WorkflowRun object asked for."""
    row = (await conn.execute(_OF_OBJECT, {"cluster": cluster_id, "uid": uid})).one_or_none()
    return None if row is None else run_of(row)


async def unfinished(conn: Connection, workflow_id: UUID, most: int = 100) -> Sequence[Run]:
    """The runs of a workflow that have not ended, the oldest first."""
    rows = await conn.execute(_UNFINISHED, {"workflow_id": workflow_id, "most": most})
    return [run_of(row) for row in rows]


async def cancel(conn: Connection, run_id: UUID, *, message: str) -> bool:
    """Ask that a run ends: at once where it waits, soon where a worker has it; False where it has ended or was asked to."""
    asked = {"id": run_id, "workflow_id": None, "message": message}
    return (await conn.execute(_CANCEL, asked)).first() is not None


async def cancel_all(conn: Connection, workflow_id: UUID, *, message: str) -> int:
    """The same for all runs of a workflow that have not ended; how many."""
    asked = {"id": None, "workflow_id": workflow_id, "message": message}
    return len((await conn.execute(_CANCEL, asked)).all())


async def backlog(conn: Connection) -> Backlog:
    """What no worker has taken up yet."""
    row = (await conn.execute(_BACKLOG)).one()
    return Backlog(row.waiting, float(row.oldest_s))


async def cancelled(conn: Connection, ids: Sequence[UUID]) -> list[UUID]:
    """Those of the runs that have been asked to end and have not."""
    return list((await conn.execute(_CANCELLED, {"ids": list(ids)})).scalars()) if ids else []


async def retaining(conn: Connection) -> bool:
    """Whether nobody else removes old rows, until the transaction ends."""
    return bool(await conn.scalar(_RETAINING))


async def expire(conn: Connection, now: datetime, most: int = BATCH) -> int:
    """Remove runs that ended longer ago than their workflow says, with their steps and logs; how many (A-RET-6).

    Repeat while it is ``most``. Rows in use are left for the next time.
    """
    return (await conn.execute(_EXPIRE, {"now": now, "most": most})).rowcount


def run_of(row: Row) -> Run:
    """The run in a row of `COLUMNS`."""
    return Run(
        id=row.id,
        tenant_id=row.tenant_id,
        workflow_id=row.workflow_id,
        revision=row.revision,
        content_hash=row.content_hash,
        selection=row.selection,
        trigger=row.trigger,
        mode=row.mode,
        state=State(row.state),
        reason=row.reason,
        message=row.message,
        requested_by=row.requested_by,
        queued_at=row.queued_at,
        started_at=row.started_at,
        completed_at=row.completed_at,
        fingerprint=row.fingerprint,
        tick=row.tick,
        owner=ownership.of(row),
        retry_of=row.retry_of,
        try_number=row.try_number,
        attempt=row.attempt,
        max_attempts=row.max_attempts,
        timeout_s=row.timeout_s,
        cancel_requested=row.cancel_requested,
        provider_config_hashes=row.provider_config_hashes or {},
        worker=row.worker,
    )


async def _bound(conn: Connection, workflow_id: UUID, asked: Asked) -> tuple[Bound | Refusal, Seen | None]:
    reference = asked.reference
    if reference is not None and reference.previous:
        raise Refused(failures.SPEC_REFUSED, "a run names its revision by number, content hash or tag")
    wanted = {
        "workflow_id": workflow_id,
        "retry_of": asked.retry_of,
        "fingerprint": asked.fingerprint,
        "by_itself": asked.by_itself,
        "number": None if reference is None else reference.number,
        "hash": None if reference is None else reference.content_hash,
        "tag": None if reference is None else reference.tag,
    }
    row = (await conn.execute(_LOOK, wanted)).one_or_none()
    seen = None if row is None else _seen(row)
    tried = None if seen is None else seen.tried
    if tried is not None and await asyncio.to_thread(binding.is_tried, asked, workflow_id, tried):
        row = (await conn.execute(_LOOK, {**wanted, "number": tried.number})).one_or_none()
        # Where that canary is over by now, the statement that makes the run finds none.
        seen = None if row is None else replace(_seen(row), tried=tried)
    return binding.bind(asked, seen), seen


def _changed() -> Conflict:
    return Conflict(failures.SYNC_FAILED, "the workflow has changed while a run of it was asked for; ask again")


def _seen(row: Row) -> Seen:
    candidate = None
    if row.number is not None:
        candidate = Candidate(
            number=row.number,
            content_hash=row.content_hash,
            flaw=row.flaw_message,
            denied=row.denied,
            rejected=row.rejected,
            approved=row.approved_reason is not None,
            was_active=row.first_active_at is not None,
        )
    return Seen(
        workflow_id=row.id,
        tenant_id=row.tenant_id,
        suspended=row.suspended,
        settings=row.settings.get("run") or {},
        active_number=row.active_revision,
        candidate=candidate,
        tried=None if row.candidate is None else Tried(row.candidate, row.candidate_hash, row.weight, row.sticky_key),
        strategy=row.strategy,
        unfinished=row.unfinished,
        unfinished_alike=row.unfinished_alike,
        try_number=row.try_number or 0,
        inputs=row.inputs or (),
    )


async def _asked_before(conn: Connection, workflow_id: UUID, asked: Asked) -> Run | None:
    wanted = {"workflow_id": workflow_id, "idempotency_key": asked.idempotency_key, "tick": asked.tick}
    row = (await conn.execute(_ASKED_BEFORE, wanted)).first()
    return None if row is None else run_of(row)


def _values(workflow_id: UUID, asked: Asked, bound: Bound) -> dict[str, Any]:
    return {
        "id": UUID(int=uuid6.uuid7().int),
        "workflow_id": workflow_id,
        "revision": bound.number,
        "content_hash": bound.content_hash,
        "selection": bound.selection,
        "trigger": asked.trigger,
        "mode": asked.mode,
        "inputs": documents.text(dict(asked.inputs)),
        "event": None if asked.event is None else documents.text(dict(asked.event)),
        "fingerprint": asked.fingerprint,
        "idempotency_key": asked.idempotency_key,
        "tick": asked.tick,
        "requested_by": asked.requested_by,
        **ownership.marker(asked.owner),
        "retry_of": asked.retry_of,
        "try_number": bound.try_number,
        "max_attempts": bound.max_attempts,
        "timeout_s": asked.timeout_s,
        "lock": bound.lock,
    }
