"""The append-only record of what was done to tenants and their objects, by whom.

Every write of a record carries its entry in the same SQL statement (`done`), so neither can be without the other.
The database refuses UPDATE, DELETE and TRUNCATE (a trigger, whoever asks).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import CTE, ColumnElement, Text, bindparam, cast, func, insert, literal, select, union_all
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.sql.dml import ReturningInsert

from keep_operator.domain import conditions
from keep_operator.domain.ownership import Owner
from keep_operator.resources.kinds import Key
from keep_operator.store import documents
from keep_operator.store.connection import Connection, Row
from keep_operator.store.tables import LEDGER

# Entries on a page: what fits a screen a few times over, and a small answer even with whole configurations in it.
PAGE: Final = 100


class Action(StrEnum):
    """What can be done to a record."""

    CREATED = "Created"
    UPDATED = "Updated"
    RENAMED = "Renamed"
    DRIFT_CORRECTED = "DriftCorrected"
    HANDED_OVER = "HandedOver"
    REATTACHED = "Reattached"
    ADOPTED = "Adopted"
    ORPHANED = "Orphaned"
    DELETED = "Deleted"
    RECOVERED = "Recovered"
    # Of workflows and their revisions only.
    DEPLOYED = "Deployed"
    HOLD_SET = "HoldSet"
    HOLD_ENDED = "HoldEnded"
    CANARY_STARTED = "CanaryStarted"
    CANARY_MOVED = "CanaryMoved"
    CANARY_ENDED = "CanaryEnded"
    REVIEWED = "Reviewed"
    APPROVED = "Approved"
    DENIED = "Denied"
    ITEM_CHECKED = "ItemChecked"
    REJECTED = "Rejected"
    REJECTION_CLEARED = "RejectionCleared"
    TAGGED = "Tagged"
    UNTAGGED = "Untagged"
    NOTED = "Noted"
    ARCHIVED = "Archived"
    HANDLED = "Handled"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger. ``key`` and ``uid`` name the object that the deed was done for; ``at`` is in UTC."""

    id: int
    at: datetime
    tenant_id: str
    key: Key
    uid: str
    action: str
    actor: str
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Deed:
    """A change and what it adds to the ledger: one entry for each row that the change touches.

    ``change`` is an INSERT, UPDATE or DELETE that returns the row's tenant as ``tenant_id``, or a query over one.
    ``details`` is a value, or an SQL expression over the change for what only the database knows. ``name`` is that of the
    object where a change is about several; else the subject's.
    """

    change: CTE
    action: Action
    details: Mapping[str, Any] | ColumnElement[Any]
    name: ColumnElement[Any] | None = None


_FIELDS: Final = ("tenant_id", "kind", "namespace", "name", "uid", "action", "actor", "details")


def done(*deeds: Deed) -> ReturningInsert[int]:
    """The statement that does the deeds and writes them into the ledger, in one round trip.

    It wants the parameters of `subject`, and returns the ids of the entries: none means that no row was touched.
    """
    rows = [
        select(
            deed.change.c.tenant_id,
            *(bindparam(f"subject_{field}", type_=Text) for field in ("kind", "namespace")),
            bindparam("subject_name", type_=Text) if deed.name is None else deed.name,
            bindparam("subject_uid", type_=Text),
            literal(deed.action.value, Text),
            bindparam("actor", type_=Text),
            _document(deed.details),
        ).select_from(deed.change)
        for deed in deeds
    ]
    source = union_all(*rows) if len(rows) > 1 else rows[0]
    return insert(LEDGER).from_select(_FIELDS, source).returning(LEDGER.c.id)


def subject(key: Key, uid: str, actor: str) -> dict[str, str]:
    """Whom the deeds are done for and by whom, as the parameters of `done`."""
    return {
        "subject_kind": key.kind,
        "subject_namespace": key.namespace,
        "subject_name": key.name,
        "subject_uid": uid,
        "actor": actor,
    }


async def append(
    conn: Connection,
    tenant_id: str,
    key: Key,
    uid: str,
    *,
    action: str,
    actor: str,
    details: Mapping[str, Any],
) -> int:
    """Adds an entry that goes with no change of a row; its id."""
    values = (tenant_id, key.kind, key.namespace, key.name, uid, action, actor, _document(details))
    added = await conn.execute(insert(LEDGER).values(dict(zip(_FIELDS, values, strict=True))).returning(LEDGER.c.id))
    return int(added.scalar_one())


async def entries(conn: Connection, tenant_id: str, *, after: int = 0, limit: int = PAGE) -> list[Entry]:
    """The tenant's entries in the order of their ids, those after ``after``; the last id is the next ``after``.

    Ids are given before commit: an entry may become visible after one with a higher id has. A reader that must
    miss nothing reads again from a little before its last.
    """
    found = await conn.execute(
        select(LEDGER).where(LEDGER.c.tenant_id == tenant_id, LEDGER.c.id > after).order_by(LEDGER.c.id).limit(limit)
    )
    return [entry(row) for row in found]


async def newest(
    conn: Connection, tenant_id: str | None = None, key: Key | None = None, *, limit: int = PAGE
) -> list[Entry]:
    """The last entries of all, of a tenant, of an object, or of both, in the order of their ids."""
    question = select(LEDGER).order_by(LEDGER.c.id.desc()).limit(limit)
    if tenant_id is not None:
        question = question.where(LEDGER.c.tenant_id == tenant_id)
    if key is not None:
        question = question.where(
            LEDGER.c.kind == key.kind, LEDGER.c.namespace == key.namespace, LEDGER.c.name == key.name
        )
    return [entry(row) for row in reversed((await conn.execute(question)).all())]


def built(document: Mapping[str, Any]) -> ColumnElement[Any]:
    """A document of which some values are known to the database only: SQL expressions stand among plain values.

    What is a JSON column stays as it is, to the last digit.
    """
    parts: list[ColumnElement[Any]] = []
    for key, value in document.items():
        parts += [literal(key, Text), value if isinstance(value, ColumnElement) else _json(value)]
    return func.json_build_object(*parts)


def owner_details(owner: Owner | None) -> dict[str, str] | None:
    """An owner as it stands in the details of an entry."""
    if owner is None:
        return None
    return {
        "clusterId": owner.cluster_id,
        "namespace": owner.namespace,
        "name": owner.name,
        "uid": owner.uid,
    }


def _document(details: Mapping[str, Any] | ColumnElement[Any]) -> ColumnElement[Any]:
    return details if isinstance(details, ColumnElement) else _json(details)


def _json(value: Any) -> ColumnElement[Any]:
    return cast(literal(documents.text(value), Text), JSON)


def entry(row: Row) -> Entry:
    """The line that a row of the table is."""
    return Entry(
        id=row.id,
        at=row.at,
        tenant_id=row.tenant_id,
        key=Key(row.kind, row.namespace, row.name),
        uid=row.uid,
        action=row.action,
        actor=row.actor,
        details=row.details,
    )


def told(entry: Entry) -> dict[str, Any]:
    """The line as JSON, the same wherever it is told: by the read API, `kubectl keep ledger` and `keep-operator ledger show`."""
    return {
        "id": str(entry.id),
        "at": conditions.to_milliseconds(entry.at),
        "tenant": entry.tenant_id,
        "kind": entry.key.kind,
        "namespace": entry.key.namespace,
        "name": entry.key.name,
        "uid": entry.uid,
        "action": str(entry.action),
        "actor": entry.actor,
        "details": dict(entry.details),
    }
