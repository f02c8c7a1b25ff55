"""The runs of a workflow, page by page, the newest first; and one run with what it got, and its log.

Ids are made in the order of time, so a page is a range of an index: by workflow, with a revision or a state as well, and of
that as many rows as are shown, and those that the other filters leave out (A-HIS-1, A-HIS-2).
"""

import base64
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from keep_operator.domain.execution import Run
from keep_operator.store import runs
from keep_operator.store.connection import Connection, Prepared, Row
from keep_operator.store.history import LIMIT, NotAPage, Page

# The clock that makes an id is the program's, the one that a run is queued by is the database's.
_CLOCKS_APART: Final = timedelta(minutes=10)
# Runs that rates are made of: two thousand rows of an index and of the table take ten milliseconds.
COUNTED: Final = 2_000

_PAGE: Final = "SELECT {columns} FROM ({ranges}) run ORDER BY id DESC LIMIT %(most)s"
# Of each revision and of each state as many as the page has at most, so that each is a range of an index. States stand apart, so
# that the planner knows how rare each of them is.
_RANGE: Final = """
    SELECT * FROM keep_operator.run WHERE workflow_id = %(workflow_id)s {filters} ORDER BY id DESC LIMIT %(most)s
"""
_VERSIONS: Final = "unnest(%(numbers)s::int[]) AS version(number) CROSS JOIN LATERAL"
_FILTERS: Final = {
    "number": "revision = %(number)s",
    "numbers": "revision = version.number",
    "trigger": "trigger = %(trigger)s",
    "since": "queued_at >= %(since)s AND id >= %(since_id)s",
    "until": "queued_at < %(until)s AND id < %(until_id)s",
    "after": "id < %(after)s",
}
# The newest first, and only then by trigger: however few a filter leaves, so many rows are read and no more.
_RATES: Final = """
    SELECT lately.revision AS number, min(lately.content_hash) AS content_hash, count(*) AS runs,
        count(*) FILTER (WHERE lately.state IN ('Succeeded', 'Failed', 'TimedOut')) AS ended,
        count(*) FILTER (WHERE lately.state IN ('Failed', 'TimedOut')) AS failures,
        percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY extract(epoch FROM lately.completed_at - lately.started_at))
            FILTER (WHERE lately.state IN ('Succeeded', 'Failed', 'TimedOut')) AS took_s,
        min(lately.queued_at) AS since
    FROM {several} (
        SELECT revision, content_hash, state, trigger, queued_at, started_at, completed_at FROM keep_operator.run
        WHERE workflow_id = %(workflow_id)s {filters} ORDER BY id DESC LIMIT %(most)s
    ) lately WHERE %(trigger)s::text IS NULL OR lately.trigger = %(trigger)s
    GROUP BY lately.revision ORDER BY lately.revision DESC
"""
# Runs that have ended, of each version the newest, by the piece of time in which they were asked for.
_COURSE: Final = Prepared(
    """
    SELECT lately.revision AS number, floor(extract(epoch FROM lately.queued_at - %(since)s) / %(piece_s)s)::int AS piece,
        count(*) AS ended, count(*) FILTER (WHERE lately.state <> 'Succeeded') AS failures
    FROM unnest(%(numbers)s::int[]) AS version(number) CROSS JOIN LATERAL (
        SELECT revision, state, queued_at FROM keep_operator.run
        WHERE workflow_id = %(workflow_id)s AND revision = version.number AND id >= %(since_id)s AND queued_at >= %(since)s
            AND state IN ('Succeeded', 'Failed', 'TimedOut')
        ORDER BY id DESC LIMIT %(most)s
    ) lately GROUP BY 1, 2 ORDER BY 1, 2
    """,
    {},
)
_GET: Final = Prepared(
    f"""
    SELECT {runs.COLUMNS}, run.inputs, run.event, w.owner_cluster AS cluster, w.owner_namespace AS namespace,
        coalesce(w.owner_name, w.external_name) AS name, t.owner_cluster AS tenant_cluster, t.owner_name AS tenant_name
    FROM keep_operator.run JOIN keep_operator.workflow w ON w.id = run.workflow_id
        JOIN keep_operator.tenant t ON t.id = run.tenant_id WHERE run.id = %(id)s
    """,  # noqa: S608 - constants
    {},
)
_LINES: Final = Prepared(
    "SELECT id, at, position, level, message FROM keep_operator.run_log WHERE run_id = %(id)s AND id > %(after)s "
    "ORDER BY id LIMIT %(most)s",
    {},
)
_LAST_LINES: Final = Prepared(
    "SELECT id, at, position, level, message FROM keep_operator.run_log WHERE run_id = %(id)s AND id < %(before)s "
    "ORDER BY id DESC LIMIT %(most)s",
    {},
)
# The newest starts of steps first, by the primary key; of what a step brought as much as a page shows.
_STEPS: Final = """
    SELECT position, iteration, try_number, attempt, name, kind, type, state, started_at, completed_at,
        left(result::text, %(longest)s) AS result, coalesce(length(result::text) > %(longest)s, false) OR result_truncated AS cut,
        message FROM keep_operator.run_step WHERE run_id = %(id)s {behind}
    ORDER BY position DESC, iteration DESC, try_number DESC, attempt DESC LIMIT %(most)s
"""
_BEHIND: Final = (
    "AND (position, iteration, try_number, attempt) < (%(position)s, %(iteration)s, %(try_number)s, %(attempt)s)"
)
_FIRST_STEPS: Final = Prepared(_STEPS.format(behind=""), {})
_MORE_STEPS: Final = Prepared(_STEPS.format(behind=_BEHIND), {})
# What changes whenever something of a run does; cheap however many steps it has.
_PULSE: Final = Prepared(
    """
    SELECT state, attempt, cancel_requested, completed_at, s.begun, s.ended, s.last,
        (SELECT max(id) FROM keep_operator.run_log WHERE run_id = %(id)s) AS line
    FROM keep_operator.run,
        (SELECT count(*) AS begun, count(completed_at) AS ended, max(completed_at) AS last FROM keep_operator.run_step
         WHERE run_id = %(id)s) s
    WHERE id = %(id)s
    """,
    {},
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which runs: of one of these revisions, in one of these states, started so, queued from a time and before another."""

    numbers: Sequence[int] | None = None
    states: Sequence[str] | None = None
    trigger: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Rate:
    """How runs of one version did: ``ended`` are those that were not cancelled, ``median_s`` and ``p95_s`` what they took."""

    number: int
    content_hash: str
    runs: int
    ended: int
    failures: int
    median_s: float | None
    p95_s: float | None
    since: datetime


@dataclass(frozen=True, slots=True)
class Piece:
    """How many runs of a version have ended that were asked for in one piece of time; the first piece is 0."""

    number: int
    piece: int
    ended: int
    failures: int


@dataclass(frozen=True, slots=True)
class InFull:
    """A run, what it got, and whose it is; of a workflow that nobody owns cluster and namespace are None.

    ``tenant_cluster`` and ``tenant_name`` are of the Tenant's object, None where there is none.
    """

    run: Run
    inputs: Mapping[str, Any]
    event: Mapping[str, Any] | None
    cluster: str | None
    namespace: str | None
    name: str
    tenant_cluster: str | None
    tenant_name: str | None


async def page(conn: Connection, workflow_id: UUID, wanted: Wanted, after: str | None, limit: int) -> Page[Run]:
    """The newest runs, or those behind an earlier page. Raises NotAPage."""
    most = max(1, min(limit, LIMIT))
    given = {"workflow_id": workflow_id, "most": most + 1, **_asked(wanted)}
    if wanted.trigger is not None:
        given["trigger"] = wanted.trigger
    if after is not None:
        given["after"] = UUID(int=_place("runs", after, 128))
    states = {f"state_{place}": state for place, state in enumerate(wanted.states or ())}
    each_of = [f" AND state = %({name})s" for name in states] or [""]
    ranges = [_RANGE.format(filters=_filters(given) + each) for each in each_of]
    if "numbers" in given:
        ranges = [f"SELECT run.* FROM {_VERSIONS} ({each}) run" for each in ranges]  # noqa: S608 - constants
    question = _PAGE.format(columns=runs.COLUMNS, ranges=" UNION ALL ".join(f"({each})" for each in ranges))
    rows = (await conn.execute(Prepared(question, {}), {**given, **states})).all()
    shown = rows[:most]
    behind = _cursor("runs", shown[-1].id.int) if len(rows) > most else None
    return Page(tuple(runs.run_of(row) for row in shown), behind)


def _asked(wanted: Wanted) -> dict[str, Any]:
    """Which versions and times are wanted, as parameters."""
    given: dict[str, Any] = {}
    if wanted.numbers is not None:
        one = len(wanted.numbers) == 1
        given |= {"number": wanted.numbers[0]} if one else {"numbers": list(wanted.numbers)}
    if wanted.since is not None:
        given |= {"since": wanted.since, "since_id": _id_at(wanted.since, -_CLOCKS_APART)}
    if wanted.until is not None:
        given |= {"until": wanted.until, "until_id": _id_at(wanted.until, _CLOCKS_APART)}
    return given


def _filters(given: Mapping[str, Any]) -> str:
    return "".join(f" AND {text}" for name, text in _FILTERS.items() if name in given)


async def rates(conn: Connection, workflow_id: UUID, wanted: Wanted, most: int = COUNTED) -> list[Rate]:
    """How the newest runs did, by version, the newest version first.

    Read are the newest ``most`` runs of the wanted versions and times, of each version its share where several are named; the
    state is no filter here.
    """
    share = max(1, most // max(1, len(wanted.numbers or ())))
    given = {"workflow_id": workflow_id, "most": share, **_asked(wanted)}
    question = _RATES.format(several=_VERSIONS if "numbers" in given else "", filters=_filters(given))
    rows = await conn.execute(Prepared(question, {}), {**given, "trigger": wanted.trigger})
    return [
        Rate(row.number, row.content_hash, row.runs, row.ended, row.failures, median_s, p95_s, row.since)
        for row in rows
        for median_s, p95_s in (row.took_s or (None, None),)
    ]


async def course(
    conn: Connection, workflow_id: UUID, numbers: Sequence[int], since: datetime, piece: timedelta, most: int = COUNTED
) -> list[Piece]:
    """How many runs of these versions failed, in each piece of the time since then; of each version the newest ``most``."""
    given = {
        "workflow_id": workflow_id,
        "numbers": list(numbers),
        "since": since,
        "since_id": _id_at(since, -_CLOCKS_APART),
        "piece_s": piece.total_seconds(),
        "most": most,
    }
    return [Piece(*row) for row in await conn.execute(_COURSE, given)]


async def get(conn: Connection, run_id: UUID) -> InFull | None:
    """The run of this id."""
    row = (await conn.execute(_GET, {"id": run_id})).one_or_none()
    if row is None:
        return None
    at = (row.cluster, row.namespace, row.name, row.tenant_cluster, row.tenant_name)
    return InFull(runs.run_of(row), row.inputs, row.event, *at)


async def lines(conn: Connection, run_id: UUID, after: str | None, limit: int) -> Page[Row]:
    """Lines of a run's log (at, position, level, message), the oldest first. Raises NotAPage."""
    most = max(1, min(limit, LIMIT))
    place = 0 if after is None else _place("log", after, 63)
    rows = (await conn.execute(_LINES, {"id": run_id, "after": place, "most": most + 1})).all()
    shown = rows[:most]
    return Page(tuple(shown), _cursor("log", shown[-1].id) if len(rows) > most else None)


async def last_lines(conn: Connection, run_id: UUID, before: str | None, limit: int) -> Page[Row]:
    """The last lines of a run's log, or those before an earlier page's, in their order. Raises NotAPage."""
    most = max(1, min(limit, LIMIT))
    place = 2**63 - 1 if before is None else _place("log", before, 63)
    rows = (await conn.execute(_LAST_LINES, {"id": run_id, "before": place, "most": most + 1})).all()
    shown = rows[:most]
    return Page(tuple(reversed(shown)), _cursor("log", shown[-1].id) if len(rows) > most else None)


async def steps(conn: Connection, run_id: UUID, after: str | None, limit: int, longest: int) -> Page[Row]:
    """The last starts of a run's steps, or those before an earlier page's, in their order. Raises NotAPage.

    ``result`` is JSON, cut after ``longest`` characters where ``cut`` says so.
    """
    most = max(1, min(limit, LIMIT))
    given = {"id": run_id, "most": most + 1, "longest": longest}
    if after is None:
        rows = (await conn.execute(_FIRST_STEPS, given)).all()
    else:
        place = _place("steps", after, 128)
        parts = [place >> shift & 0xFFFFFFFF for shift in (96, 64, 32, 0)]
        if max(parts) >= 2**31:
            raise NotAPage("`after` is none that a page of this kind has given")
        behind = dict(zip(("position", "iteration", "try_number", "attempt"), parts, strict=True))
        rows = (await conn.execute(_MORE_STEPS, {**given, **behind, "iteration": behind["iteration"] - 1})).all()
    shown = rows[:most]
    return Page(tuple(reversed(shown)), _cursor("steps", _place_of(shown[-1])) if len(rows) > most else None)


def _place_of(step: Row) -> int:
    place = 0
    for part in (step.position, step.iteration + 1, step.try_number, step.attempt):
        place = place << 32 | part
    return place


async def pulse(conn: Connection, run_id: UUID) -> Row | None:
    """What is another whenever the run or one of its steps has changed; None: there is no such run."""
    return (await conn.execute(_PULSE, {"id": run_id})).one_or_none()


def _id_at(at: datetime, apart: timedelta) -> UUID:
    """The least id that can be made at a time (uuid7: milliseconds in the first 48 bits)."""
    try:
        moment_ms = int((at + apart).timestamp() * 1000)
    except OverflowError:
        moment_ms = 0 if apart < timedelta() else 2**48 - 1
    return UUID(int=max(0, min(moment_ms, 2**48 - 1)) << 80)


def _cursor(kind: str, place: int) -> str:
    return base64.urlsafe_b64encode(f"{kind} {place:x}".encode()).decode().rstrip("=")


def _place(kind: str, after: str, bits: int) -> int:
    with contextlib.suppress(ValueError):
        told = base64.urlsafe_b64decode(after + "=" * (-len(after) % 4)).decode()
        place = int(told.rpartition(" ")[2], 16)
        if _cursor(kind, place) == after and 0 <= place < 2**bits:
            return place
    raise NotAPage("`after` is none that a page of this kind has given")
