"""What workers write of the runs that they have: each write says which claim it is of, and none of a lost claim arrives.

::

    claim ──▶ attempt = attempt + 1 ──▶ write … write ──▶ end
                                            │ all of them: WHERE attempt = mine, holding the run's row meanwhile
    another worker claims ──────────────────┴──▶ Lost: the first one stops at once

A worker that was paused and wakes up again finds its next write refused, whatever it did in between (A-RUN-6).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from keep_operator.domain.execution import STATE_OF, Reason, Run, State, Step, StepState
from keep_operator.errors import Conflict, Refused
from keep_operator.store import documents, runs
from keep_operator.store.connection import Connection, Prepared, Row
from keep_operator.store.vault import Sealed

# A result that is longer is cut, and marked; in characters of JSON.
RESULT_LIMIT: Final = 256 * 1024
MESSAGE_LIMIT: Final = 2_048
LOG_LINES: Final = 1_000

# `reason IS NULL` is what a run that has not ended looks like here, and not `completed_at IS NULL`, which is the same (a CHECK): that
# would lead the planner from the one row of an id into the index of all that have not ended.

# What earlier events and runs left behind, as the first worker finds it: when the last run that succeeded began, and lists of its
# results by the names of its steps; since when the event's alert has been firing, which actions have told of it since then, and
# when it last came before.
_BEHIND: Final = """
    SELECT json_build_object('startedAt', last.started_at, 'results', last.results, 'firingSince', a.firing_since, 'told',
        (SELECT json_agg(DISTINCT s.name) FROM keep_operator.run told JOIN keep_operator.run_step s ON s.run_id = told.id
         WHERE told.workflow_id = run.workflow_id AND told.fingerprint = run.fingerprint AND told.id < run.id
            AND run.fingerprint IS NOT NULL
            AND s.kind = 'action' AND s.state = 'Succeeded' AND told.queued_at >= a.firing_since),
        'firedBefore', coalesce((SELECT max(before.queued_at) FROM keep_operator.run before
            WHERE before.workflow_id = run.workflow_id AND before.fingerprint = run.fingerprint AND before.id < run.id
                AND run.fingerprint IS NOT NULL),
            CASE WHEN a.first_seen < run.queued_at THEN a.first_seen END))
    FROM (SELECT 1) one
    LEFT JOIN keep_operator.alert a ON a.tenant_id = run.tenant_id AND a.fingerprint = run.fingerprint
    LEFT JOIN LATERAL (
        SELECT before.started_at, (SELECT json_object_agg(brought.name, brought.results) FROM (
            SELECT s.name, json_agg(s.result ORDER BY s.position, s.iteration) AS results FROM keep_operator.run_step s
            WHERE s.run_id = before.id AND s.state = 'Succeeded' GROUP BY s.name) brought) AS results
        FROM keep_operator.run before
        WHERE before.workflow_id = run.workflow_id AND before.state = 'Succeeded' AND before.id < run.id
        ORDER BY before.id DESC LIMIT 1
    ) last ON true
"""
_CLAIM: Final = Prepared(
    f"""
    WITH claimed AS (
        UPDATE keep_operator.run SET attempt = attempt + 1, state = 'Running', worker = %(worker)s,
            started_at = coalesce(started_at, now()), context = coalesce(context, ({_BEHIND}))
        WHERE id = %(id)s AND reason IS NULL AND attempt - returned < max_attempts
        RETURNING *
    ), lost AS (
        UPDATE keep_operator.run_step SET state = 'Lost', completed_at = now(),
            message = 'The worker that had begun it was lost'
        FROM claimed WHERE run_step.run_id = claimed.id AND run_step.state = 'Running'
        RETURNING run_step.*
    )
    SELECT {runs.COLUMNS.replace("run.", "claimed.")}, claimed.inputs, claimed.event, claimed.context,
        r.definition, w.external_name, w.settings,
        (SELECT json_agg(row_to_json(s) ORDER BY s.position, s.iteration, s.attempt, s.try_number) FROM (
            SELECT * FROM lost UNION ALL
            SELECT * FROM keep_operator.run_step before WHERE before.run_id = claimed.id AND before.state <> 'Running'
        ) s) AS steps
    FROM claimed
    JOIN keep_operator.workflow_revision r ON r.workflow_id = claimed.workflow_id AND r.number = claimed.revision
    JOIN keep_operator.workflow w ON w.id = claimed.workflow_id
    """,  # noqa: S608 - constants
    {},
)
# What one write tells, in parts that hang together: who does not hold the run writes nothing at all. A step is begun once and ends
# once; the same told again changes nothing, so that a write whose answer was lost can be repeated. What a step tells of an alert that
# is not there (any more) is told to nobody.
_GIVEN: Final = """
    given AS (SELECT * FROM json_to_recordset(%(steps)s::json) AS given(position int, iteration int, try_number int, name text,
        kind text, type text, state text, side_effects text, result text, truncated boolean, message text, facts text))
"""
_MINE: Final = """
    run.id = %(id)s AND run.attempt = %(attempt)s AND run.reason IS NULL AND NOT EXISTS (SELECT 1 FROM given
        JOIN keep_operator.run_step s ON s.run_id = %(id)s AND s.attempt = %(attempt)s AND s.position = given.position
            AND s.iteration = given.iteration AND s.try_number = given.try_number
        WHERE s.state NOT IN ('Running', given.state))
"""
_WRITTEN: Final = """
    written AS (
        INSERT INTO keep_operator.run_step AS step (run_id, position, iteration, try_number, attempt, name, kind, type, state,
            side_effects, started_at, completed_at, result, result_truncated, message, facts)
        SELECT held.id, position, iteration, try_number, %(attempt)s, name, kind, type, state, side_effects, clock_timestamp(),
            CASE WHEN state <> 'Running' THEN clock_timestamp() END, result::json, truncated, message, facts::json
        FROM held, given
        ON CONFLICT (run_id, position, iteration, try_number, attempt) DO UPDATE SET state = excluded.state,
            completed_at = excluded.completed_at, result = excluded.result, result_truncated = excluded.result_truncated,
            message = excluded.message, facts = excluded.facts
        WHERE step.state = 'Running'
    ), told AS (
        INSERT INTO keep_operator.run_log (run_id, at, position, level, message)
        SELECT held.id, line.at, line.position, line.level, line.message FROM held,
            json_to_recordset(%(lines)s::json) AS line(at timestamptz, position int, level text, message text)
    ), enriched AS (
        UPDATE keep_operator.alert SET enrichments = (enrichments::jsonb || more.more::jsonb)::json, updated_at = now()
        FROM held, json_to_recordset(%(enrichments)s::json) AS more(fingerprint text, more json)
        WHERE alert.tenant_id = held.tenant_id AND alert.fingerprint = more.fingerprint
    )
"""
# Of those that are begun the ones that this very write does not tell the end of.
_OPEN: Final = """
    run_id = held.id AND run_step.state = 'Running' AND NOT EXISTS (SELECT 1 FROM given
        WHERE given.position = run_step.position AND given.iteration = run_step.iteration
            AND given.try_number = run_step.try_number AND run_step.attempt = %(attempt)s)
"""
_WRITE: Final = Prepared(
    f"""
    WITH {_GIVEN}, held AS (SELECT id, tenant_id FROM keep_operator.run WHERE {_MINE} FOR SHARE), {_WRITTEN}
    SELECT id FROM held
    """,  # noqa: S608 - constants
    {},
)
_END: Final = Prepared(
    f"""
    WITH {_GIVEN}, held AS (
        UPDATE keep_operator.run SET state = %(state)s, reason = %(reason)s, message = %(message)s,
            completed_at = clock_timestamp()
        WHERE {_MINE} RETURNING id, tenant_id
    ), {_WRITTEN}, closed AS (
        UPDATE keep_operator.run_step SET state = 'Failed', completed_at = clock_timestamp(), message = 'Ended with the run'
        FROM held WHERE {_OPEN}
    ), gone AS ({runs.JOB_GONE})
    SELECT id FROM held
    """,  # noqa: S608
    {},
)
# What is marked as begun was not done: it is given back between two steps.
_GIVE_BACK: Final = Prepared(
    f"""
    WITH {_GIVEN}, held AS (
        UPDATE keep_operator.run SET returned = returned + 1, worker = NULL
        WHERE {_MINE} AND worker IS NOT NULL RETURNING id, tenant_id
    ), {_WRITTEN}, undone AS (DELETE FROM keep_operator.run_step USING held WHERE {_OPEN})
    SELECT id FROM held
    """,  # noqa: S608
    {},
)
_PROVIDERS: Final = Prepared(
    "UPDATE keep_operator.run SET provider_config_hashes = %(hashes)s::json "
    "WHERE id = %(id)s AND attempt = %(attempt)s AND reason IS NULL RETURNING id",
    {},
)
_GIVE_UP: Final = Prepared(
    """
    UPDATE keep_operator.run SET state = 'Failed', reason = 'WorkerLost', message = %(message)s, completed_at = now()
    WHERE id = %(id)s AND reason IS NULL AND attempt - returned >= max_attempts RETURNING id
    """,
    {},
)
_STATE: Final = Prepared("SELECT reason, worker FROM keep_operator.run WHERE id = %(id)s AND attempt = %(attempt)s", {})
_STEPS: Final = Prepared(
    """
    SELECT * FROM keep_operator.run_step WHERE run_id = %(id)s ORDER BY position, iteration, attempt, try_number
    LIMIT %(most)s
    """,
    {},
)
_LOGGED: Final = Prepared(
    "SELECT id, at, position, level, message FROM keep_operator.run_log WHERE run_id = %(id)s AND id > %(after)s "
    "ORDER BY id LIMIT %(most)s",
    {},
)


_USED: Final = Prepared(
    """
    SELECT p.id, p.external_name, p.type, p.config, p.config_hash, p.credentials, p.key_name
    FROM keep_operator.provider p WHERE p.tenant_id = %(tenant)s AND p.external_name = ANY(%(names)s)
    """,
    {},
)


class Lost(Conflict):
    """Another worker has the run, or it has ended: whoever gets this stops at once, and writes nothing more."""

    def __init__(self, run_id: UUID) -> None:
        super().__init__("RunLost", f"run {run_id} is another worker's by now, or has ended")


@dataclass(frozen=True, slots=True)
class Claim:
    """A run that a worker has now, and all that it needs to go on. ``definition`` is the bound revision's, and no other.

    ``context`` is what earlier events and runs left behind, as the run's first worker found it: ``startedAt`` and ``results`` of the
    last run that succeeded, ``firingSince`` and ``firedBefore`` of the event's alert, ``told``: actions that succeeded for it since
    it fires. ``steps`` are all starts so far, ended or lost.
    """

    run: Run
    workflow_name: str
    context: Mapping[str, Any]
    settings: Mapping[str, Any]
    definition: Mapping[str, Any]
    inputs: Mapping[str, Any]
    event: Mapping[str, Any] | None
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """What one write tells of a run.

    ``steps``: those that are begun, and those that have ended, begun before or never (skipped). ``lines`` for its log: ``at`` in ISO
    form, ``position``, ``level``, ``message``. ``enrichments``: by the fingerprint of an alert what a step tells of it,
    ``{key: {"value": …, "disposable": …}}``.
    """

    steps: Sequence[Step] = ()
    lines: Sequence[Mapping[str, Any]] = ()
    enrichments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


NOTHING: Final = Progress()


@dataclass(frozen=True, slots=True)
class Used:
    """A Provider's record as a run uses it; ``sealed`` are its credentials, None: it has none."""

    id: UUID
    name: str
    type: str
    config: Mapping[str, Any]
    config_hash: str
    sealed: Sealed | None


async def providers(conn: Connection, tenant_id: str, names: Sequence[str]) -> dict[str, Used]:
    """The tenant's Providers of these names, as far as they are there."""
    found = await conn.execute(_USED, {"tenant": tenant_id, "names": list(names)})
    return {
        row.external_name: Used(
            row.id,
            row.external_name,
            row.type,
            row.config,
            row.config_hash,
            None if row.credentials is None else Sealed(row.key_name, row.credentials),
        )
        for row in found
    }


async def claim(conn: Connection, run_id: UUID, worker: str) -> Claim | None:
    """Take a run up; whoever had it before has lost it, and what he had begun is marked so.

    None where it has ended, or was taken up as often as it may be: then it ends here, WorkerLost.
    """
    row = (await conn.execute(_CLAIM, {"id": run_id, "worker": worker})).one_or_none()
    if row is None:
        message = "Its workers were lost as often as run.maxAttempts allows"
        await conn.execute(_GIVE_UP, {"id": run_id, "message": message})
        return None
    return Claim(
        run=runs.run_of(row),
        workflow_name=row.external_name,
        context=row.context,
        settings=row.settings,
        definition=row.definition,
        inputs=row.inputs,
        event=row.event,
        steps=tuple(_step_of_json(each) for each in row.steps or ()),
    )


async def write(conn: Connection, run: Run, progress: Progress) -> None:
    """Tell how far the run is: in one statement, so all of it or nothing. Raises Lost."""
    await _write(conn, run, _WRITE, _told(progress))


async def note_providers(conn: Connection, run: Run, hashes: Mapping[str, str]) -> None:
    """Note the configurations that the run uses, by their keyed hashes (A-RUN-2). Raises Lost."""
    await _write(conn, run, _PROVIDERS, {"hashes": documents.text(dict(hashes))})


async def end(
    conn: Connection, run: Run, reason: Reason, message: str, progress: Progress = NOTHING, job: int | None = None
) -> State:
    """End the run, with the last of its progress, and with it its ``job``; nothing changes that any more. Raises Lost."""
    state = STATE_OF[reason]
    given = {"state": state, "reason": reason, "message": _short(message), "job": job}
    await _write(conn, run, _END, {**given, **_told(progress)})
    return state


async def ended(conn: Connection, run: Run, reason: Reason) -> bool:
    """Whether it has ended so in this claim: what `end` wrote, though its answer was lost."""
    row = (await conn.execute(_STATE, {"id": run.id, "attempt": run.attempt})).one_or_none()
    return row is not None and row.reason == reason


async def returned(conn: Connection, run: Run) -> bool:
    """Whether it was given back in this claim, though the answer was lost."""
    row = (await conn.execute(_STATE, {"id": run.id, "attempt": run.attempt})).one_or_none()
    return row is not None and row.worker is None and row.reason is None


async def give_back(conn: Connection, run: Run, progress: Progress = NOTHING) -> None:
    """Note that the worker gives the run back in order, between two steps: that is no loss. Raises Lost."""
    await _write(conn, run, _GIVE_BACK, _told(progress))


async def steps(conn: Connection, run_id: UUID, most: int = 1_000) -> list[Step]:
    """All starts of the run's steps, in their order."""
    return [step_of(row) for row in await conn.execute(_STEPS, {"id": run_id, "most": most})]


async def logged(conn: Connection, run_id: UUID, after: int = 0, most: int = 200) -> list[Row]:
    """Lines of the log (id, at, position, level, message) behind that id."""
    return list(await conn.execute(_LOGGED, {"id": run_id, "after": after, "most": most}))


def step_of(row: Row) -> Step:
    """The step in a row of the table."""
    return Step(
        position=row.position,
        iteration=row.iteration,
        try_number=row.try_number,
        attempt=row.attempt,
        name=row.name,
        kind=row.kind,
        type=row.type,
        state=StepState(row.state),
        side_effects=row.side_effects,
        started_at=row.started_at,
        completed_at=row.completed_at,
        result=row.result,
        result_truncated=row.result_truncated,
        message=row.message,
        facts=row.facts,
    )


def _step_of_json(values: Mapping[str, Any]) -> Step:
    times = {name: _moment(values[name]) for name in ("started_at", "completed_at")}
    given = {name: value for name, value in values.items() if name != "run_id"}
    return Step(**{**given, **times, "state": StepState(values["state"])})


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


async def _write(conn: Connection, run: Run, what: Prepared, values: Mapping[str, Any]) -> None:
    done = await conn.execute(what, {"id": run.id, "attempt": run.attempt, **values})
    if done.first() is None:
        raise Lost(run.id)


def _told(progress: Progress) -> dict[str, str]:
    lines = [dict(line, message=_short(str(line["message"]))) for line in progress.lines[:LOG_LINES]]
    more = [{"fingerprint": each, "more": told} for each, told in progress.enrichments.items()]
    return {
        "steps": _text([_row(step) for step in progress.steps]),
        "lines": _text(lines),
        "enrichments": _text(more),
    }


def _text(rows: list[dict[str, Any]]) -> str:
    return documents.text(rows) if rows else "[]"


def _row(step: Step) -> dict[str, Any]:
    result, truncated = _cut(step.result)
    return {
        "position": step.position,
        "iteration": step.iteration,
        "try_number": step.try_number,
        "name": step.name,
        "kind": step.kind,
        "type": step.type,
        "state": step.state,
        "side_effects": step.side_effects,
        "result": result,
        "truncated": truncated or step.result_truncated,
        "message": _short(step.message),
        "facts": None if step.facts is None else documents.text(dict(step.facts)),
    }


def _cut(result: Any) -> tuple[str | None, bool]:
    """The result as JSON; where it is too long, as the text of its beginning; where it cannot be stored, why not."""
    if result is None:
        return None, False
    try:
        text = documents.text(result)
    except Refused:
        why = f"a result that cannot be kept: it nests more than {documents.MAX_DEPTH} levels deep, or holds what JSON has no form for"
        return documents.text(why), True
    if len(text) <= RESULT_LIMIT:
        return text, False
    return documents.text(text[: RESULT_LIMIT - 1_024]), True


def _short(text: str | None) -> str | None:
    return None if text is None else text.replace("\0", "\N{REPLACEMENT CHARACTER}")[:MESSAGE_LIMIT]
