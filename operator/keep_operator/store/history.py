"""The past of a workflow, page by page, the newest first: versions, deployments, and the timeline of all that was done.

A page costs one statement that reads as many rows of an index as it shows, wherever in the history it is: nothing is
counted, skipped or joined to contents (A-HIS-1). The timeline is the lineage's part of the ledger. Whatever its object was
called at the time, it is found by the lineage; so a workflow that was deleted and made again shows nothing of the old one.
"""

import base64
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

import sqlalchemy as sa

from keep_operator.domain.history import Deployment, Revision
from keep_operator.resources.kinds import Key
from keep_operator.store import ledger, lineages
from keep_operator.store.connection import Connection, Prepared, Row, prepared
from keep_operator.store.ledger import Entry
from keep_operator.store.tables import (
    DEPLOYMENT,
    LEDGER,
    LINEAGE_KINDS,
    REVISION_STATE,
    REVISION_TAG,
    WORKFLOW,
    WORKFLOW_REVISION,
)

# Rows on a page at most (A-HIS-1).
LIMIT: Final = 200

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Some items, and what to ask with for those behind them; None: there are none."""

    items: tuple[Item, ...]
    after: str | None


@dataclass(frozen=True, slots=True)
class Line:
    """A lineage by its place, without its history: whose it is, and what is active. ``deleted_at`` as in a lineage."""

    id: UUID
    tenant_id: str
    latest_number: int
    active_number: int | None
    deleted_at: datetime | None


class NotAPage(ValueError):
    """What was given as ``after`` came from no page of this kind."""


_BEFORE: Final = sa.bindparam("before", type_=sa.BigInteger)
_MOST: Final = sa.bindparam("most", type_=sa.Integer)
_LINEAGE: Final = sa.bindparam("lineage", type_=sa.Uuid)


def _newest(question: sa.Select[Any], place: sa.ColumnElement[int]) -> tuple[sa.Select[Any], sa.Select[Any]]:
    """The first page, and one behind a place, which stands in the last column."""
    page = question.add_columns(place.label("place")).order_by(place.desc()).limit(_MOST)
    return page, page.where(place < _BEFORE)


def _pages(question: sa.Select[Any], place: sa.ColumnElement[int]) -> list[Prepared]:
    return [prepared(page) for page in _newest(question, place)]


def _with_states(page: sa.Select[Any]) -> sa.Select[Any]:
    """The versions of a page as `lineages.LIGHT` has them, and their tags; of no others a state is read."""
    shown = page.subquery("page")
    tags = (
        sa.select(sa.func.array_agg(REVISION_TAG.c.tag))
        .where(REVISION_TAG.c.workflow_id == shown.c.workflow_id, REVISION_TAG.c.number == shown.c.number)
        .correlate(shown)
        .scalar_subquery()
    )
    its_state = sa.and_(REVISION_STATE.c.workflow_id == shown.c.workflow_id, REVISION_STATE.c.number == shown.c.number)
    light = (shown.c[each.name] if each.table is WORKFLOW_REVISION else each for each in lineages.LIGHT)
    return (
        sa.select(*light, tags.label("tags"), shown.c.place)
        .join_from(shown, REVISION_STATE, its_state)
        .order_by(shown.c.place.desc())
    )


_CONTENTLESS: Final = (each for each in WORKFLOW_REVISION.c if each.name != "definition")
_REVISIONS: Final = [
    prepared(_with_states(page))
    for page in _newest(
        sa.select(*_CONTENTLESS).where(WORKFLOW_REVISION.c.workflow_id == _LINEAGE), WORKFLOW_REVISION.c.number
    )
]
_DEPLOYMENTS: Final = _pages(sa.select(*lineages.DEPLOYED).where(DEPLOYMENT.c.workflow_id == _LINEAGE), DEPLOYMENT.c.id)
# As the index has it: the kinds must stand in the statement itself.
_TIMELINE: Final = _pages(
    sa.select(LEDGER).where(
        LEDGER.c.details.op("->>", return_type=sa.Text)(sa.literal_column("'id'")) == sa.cast(_LINEAGE, sa.Text),
        LEDGER.c.kind.in_([sa.literal_column(f"'{kind}'", sa.Text) for kind in LINEAGE_KINDS]),
    ),
    LEDGER.c.id,
)
_OF_TENANT: Final = _pages(sa.select(LEDGER).where(LEDGER.c.tenant_id == sa.bindparam("tenant")), LEDGER.c.id)
_OF_ITS_OBJECT: Final = _pages(
    sa.select(LEDGER).where(
        LEDGER.c.tenant_id == sa.bindparam("tenant"),
        *(LEDGER.c[name] == sa.bindparam(name) for name in ("kind", "namespace", "name")),
    ),
    LEDGER.c.id,
)
_OF_OBJECT: Final = _pages(
    sa.select(LEDGER).where(
        *(LEDGER.c[name] == sa.bindparam(name) for name in ("kind", "namespace", "name")),
    ),
    LEDGER.c.id,
)


_OF_PLACE: Final = (
    sa.select(
        WORKFLOW.c.id,
        WORKFLOW.c.tenant_id,
        WORKFLOW.c.latest_revision,
        WORKFLOW.c.active_revision,
        WORKFLOW.c.deleted_at,
    )
    .where(*(WORKFLOW.c[f"owner_{part}"] == sa.bindparam(part) for part in ("cluster", "namespace", "name")))
    .order_by(WORKFLOW.c.id.desc())  # of one that was made again before the old one was collected, the newer
    .limit(1)
)
_LIVING: Final = prepared(_OF_PLACE.where(lineages.LIVING))
_KNOWN: Final = prepared(_OF_PLACE.where(WORKFLOW.c.id == _LINEAGE))


async def line(
    conn: Connection, cluster_id: str, namespace: str, name: str, lineage_id: UUID | None = None
) -> Line | None:
    """The lineage of the Workflow of this name; with its id also one that is deleted, and whose name was this one."""
    asked = {"cluster": cluster_id, "namespace": namespace, "name": name}
    if lineage_id is None:
        row = (await conn.execute(_LIVING, asked)).first()
    else:
        row = (await conn.execute(_KNOWN, {**asked, "lineage": lineage_id})).first()
    return None if row is None else Line(*row)


async def revisions(
    conn: Connection, lineage_id: UUID, *, after: str | None = None, limit: int = ledger.PAGE
) -> Page[Revision]:
    """The versions without their contents, the highest number first."""
    return await _page(conn, "versions", _REVISIONS, {"lineage": lineage_id}, after, limit, _revision)


async def deployments(
    conn: Connection, lineage_id: UUID, *, after: str | None = None, limit: int = ledger.PAGE
) -> Page[Deployment]:
    """What was made active, the last first."""
    return await _page(conn, "deployments", _DEPLOYMENTS, {"lineage": lineage_id}, after, limit, _deployment)


async def timeline(
    conn: Connection, lineage_id: UUID, *, after: str | None = None, limit: int = ledger.PAGE
) -> Page[Entry]:
    """All that was done to the workflow, its versions and by decisions about it, the last first (A-HIS-4)."""
    return await _page(conn, "timeline", _TIMELINE, {"lineage": lineage_id}, after, limit, ledger.entry)


async def entries_of_tenant(
    conn: Connection, tenant_id: str, key: Key | None = None, *, after: str | None = None, limit: int = ledger.PAGE
) -> Page[Entry]:
    """The ledger of a tenant, or its part about one object, the last entry first."""
    if key is not None:
        asked = {"tenant": tenant_id, "kind": key.kind, "namespace": key.namespace, "name": key.name}
        return await _page(conn, "tenant", _OF_ITS_OBJECT, asked, after, limit, ledger.entry)
    return await _page(conn, "tenant", _OF_TENANT, {"tenant": tenant_id}, after, limit, ledger.entry)


async def entries_of_object(
    conn: Connection, key: Key, *, after: str | None = None, limit: int = ledger.PAGE
) -> Page[Entry]:
    """The ledger of an object, by its name: also of one that had the name before. The last entry first."""
    asked = {"kind": key.kind, "namespace": key.namespace, "name": key.name}
    return await _page(conn, "object", _OF_OBJECT, asked, after, limit, ledger.entry)


async def _page(
    conn: Connection,
    kind: str,
    question: Sequence[Prepared],
    asked: dict[str, Any],
    after: str | None,
    limit: int,
    read: Callable[[Row], Item],
) -> Page[Item]:
    first, behind = question
    most = max(1, min(limit, LIMIT))
    given = {**asked, "most": most + 1}  # the one too many tells that there is another page
    if after is None:
        rows = (await conn.execute(first, given)).all()
    else:
        rows = (await conn.execute(behind, {**given, "before": _place(kind, after)})).all()
    shown = rows[:most]
    return Page(tuple(read(row) for row in shown), _after(kind, shown[-1].place) if len(rows) > most else None)


def _after(kind: str, place: int) -> str:
    return base64.urlsafe_b64encode(f"{kind} {place}".encode()).decode().rstrip("=")


def _place(kind: str, after: str) -> int:
    """The place that ``after`` was made from; raises NotAPage."""
    with contextlib.suppress(ValueError):
        told = base64.urlsafe_b64decode(after + "=" * (-len(after) % 4)).decode()
        place = int(told.rpartition(" ")[2])
        if _after(kind, place) == after and 0 <= place < 2**63:
            return place
    raise NotAPage("`after` is none that a page of this kind has given")


def _revision(row: Row) -> Revision:
    return lineages.revision_of(row[: len(lineages.LIGHT)], sorted(row.tags or ()))


def _deployment(row: Row) -> Deployment:
    return lineages.deployment_of(row[: len(lineages.DEPLOYED)])
