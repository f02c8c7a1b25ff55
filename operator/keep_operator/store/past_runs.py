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

_PAGE: Final = """
    SELECT {columns} FROM keep_operator.run
    WHERE workflow_id = %(workflow_id)s {filters}
    ORDER BY id DESC LIMIT %(most)s
"""
# Of each revision as many as the page has at most, so that each is a range of the index by revision.
_PAGE_OF_SEVERAL: Final = """
    SELECT {columns} FROM unnest(%(numbers)s::int[]) AS each(number)
    CROSS JOIN LATERAL (
        SELECT * FROM keep_operator.run WHERE workflow_id = %(workflow_id)s AND revision = each.number {filters}
        ORDER BY id DESC LIMIT %(most)s
    ) run ORDER BY id DESC LIMIT %(most)s
"""
_FILTERS: Final = {
    "number": "revision = %(number)s",
    "state": "state = %(state)s",
    "trigger": "trigger = %(trigger)s",
    "since": "queued_at >= %(since)s AND id >= %(since_id)s",
    "until": "queued_at < %(until)s AND id < %(until_id)s",
    "after": "id < %(after)s",
}
_GET: Final = Prepared(
    f"""
    SELECT {runs.COLUMNS}, run.inputs, run.event, w.owner_cluster AS cluster, w.owner_namespace AS namespace,
        coalesce(w.owner_name, w.external_name) AS name
    FROM keep_operator.run JOIN keep_operator.workflow w ON w.id = run.workflow_id WHERE run.id = %(id)s
    """,  # noqa: S608 - constants
    {},
)
_LINES: Final = Prepared(
    "SELECT id, at, position, level, message FROM keep_operator.run_log WHERE run_id = %(id)s AND id > %(after)s "
    "ORDER BY id LIMIT %(most)s",
    {},
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which runs: of one of these revisions, in a state, started so, queued from a time and before another."""

    numbers: Sequence[int] | None = None
    state: str | None = None
    trigger: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class InFull:
    """A run, what it got, and whose it is; of a workflow that nobody owns cluster and namespace are None."""

    run: Run
    inputs: Mapping[str, Any]
    event: Mapping[str, Any] | None
    tenant_id: str
    cluster: str | None
    namespace: str | None
    name: str


async def page(conn: Connection, workflow_id: UUID, wanted: Wanted, after: str | None, limit: int) -> Page[Run]:
    """The newest runs, or those behind an earlier page. Raises NotAPage."""
    most = max(1, min(limit, LIMIT))
    given: dict[str, Any] = {"workflow_id": workflow_id, "most": most + 1}
    if wanted.numbers is not None and len(wanted.numbers) == 1:
        given["number"] = wanted.numbers[0]
    elif wanted.numbers is not None:
        given["numbers"] = list(wanted.numbers)
    if wanted.state is not None:
        given["state"] = wanted.state
    if wanted.trigger is not None:
        given["trigger"] = wanted.trigger
    if wanted.since is not None:
        given |= {"since": wanted.since, "since_id": _id_at(wanted.since, -_CLOCKS_APART)}
    if wanted.until is not None:
        given |= {"until": wanted.until, "until_id": _id_at(wanted.until, _CLOCKS_APART)}
    if after is not None:
        given["after"] = UUID(int=_place("runs", after, 128))
    filters = "".join(f" AND {text}" for name, text in _FILTERS.items() if name in given)
    question = (_PAGE_OF_SEVERAL if "numbers" in given else _PAGE).format(columns=runs.COLUMNS, filters=filters)
    rows = (await conn.execute(Prepared(question, {}), given)).all()
    shown = rows[:most]
    behind = _cursor("runs", shown[-1].id.int) if len(rows) > most else None
    return Page(tuple(runs.run_of(row) for row in shown), behind)


async def get(conn: Connection, run_id: UUID) -> InFull | None:
    """The run of this id."""
    row = (await conn.execute(_GET, {"id": run_id})).one_or_none()
    if row is None:
        return None
    return InFull(runs.run_of(row), row.inputs, row.event, row.tenant_id, row.cluster, row.namespace, row.name)


async def lines(conn: Connection, run_id: UUID, after: str | None, limit: int) -> Page[Row]:
    """Lines of a run's log (at, position, level, message), the oldest first. Raises NotAPage."""
    most = max(1, min(limit, LIMIT))
    place = 0 if after is None else _place("log", after, 63)
    rows = (await conn.execute(_LINES, {"id": run_id, "after": place, "most": most + 1})).all()
    shown = rows[:most]
    return Page(tuple(shown), _cursor("log", shown[-1].id) if len(rows) > most else None)


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
