"""The rows of Tenants: one function for each thing that can happen to one.

::

          insert           update, hand_over           delete
    ──────────────▶ owned ──────────────────▶ owned ──────────▶ gone, when no record needs it; else unowned and
                     │  ▲                                       `delete_when_empty`: it goes with the last one
              orphan │  │ adopt                                 (`providers.delete`, `workflows.delete`)
                     ▼  │
                    unowned ◀── adopt also calls `delete_when_empty` off

Each write is guarded by the owner that the caller has seen: if no row matches, Conflict. Each brings its ledger
entry in the same statement. All run within `engine.transaction`; ``find`` and ``observe`` are content with
`engine.look`. Ids are compared in lower case: two that differ in case only collide.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSON

from keep_operator.domain import tenant
from keep_operator.domain.collection import Lost
from keep_operator.domain.ownership import Owner
from keep_operator.domain.tenant import Record, Token
from keep_operator.resources.kinds import TENANTS, Key
from keep_operator.resources.shapes import DeletionPolicy
from keep_operator.store import documents, ledger, ownership, tokens
from keep_operator.store.connection import Connection, Row, prepared
from keep_operator.store.ledger import Action, Deed
from keep_operator.store.tables import INGEST_TOKEN, LEDGER, PROVIDER, TENANT, WORKFLOW

_RECORD: Final = (
    TENANT.c.id,
    TENANT.c.display_name,
    TENANT.c.delete_when_empty,
    TENANT.c.owner_cluster,
    TENANT.c.owner_namespace,
    TENANT.c.owner_name,
    TENANT.c.owner_uid,
    TENANT.c.deletion_policy,
    TENANT.c.checksum,
    TENANT.c.settings,
)

_IS_OWN: Final = sa.and_(TENANT.c.owner_cluster == sa.bindparam("cluster"), TENANT.c.owner_uid == sa.bindparam("uid"))
_HAS_ID: Final = sa.func.lower(TENANT.c.id) == sa.func.lower(sa.bindparam("tenant", type_=sa.Text))

# A workflow that is deleted, and kept for its history only, needs no tenant.
_IN_USE: Final = sa.or_(
    sa.exists().where(PROVIDER.c.tenant_id == TENANT.c.id),
    sa.exists().where(WORKFLOW.c.living_tenant_id == TENANT.c.id),
)

_FIND: Final = prepared(sa.select(*_RECORD).where(_HAS_ID))
_FIND_OWNED: Final = prepared(sa.select(*_RECORD).where(_IS_OWN))
_SETTINGS: Final = prepared(sa.select(TENANT.c.settings).where(TENANT.c.id == sa.bindparam("tenant", type_=sa.Text)))
_TOKENS: Final = (
    sa.select(
        sa.func.json_agg(
            sa.func.json_build_array(
                INGEST_TOKEN.c.name,
                sa.func.encode(INGEST_TOKEN.c.salt, "hex"),
                sa.func.encode(INGEST_TOKEN.c.digest, "hex"),
            )
        )
    )
    .where(INGEST_TOKEN.c.tenant_id == TENANT.c.id)
    .scalar_subquery()
    .label("tokens")
)
_OBSERVE: Final = prepared(sa.select(*_RECORD, _TOKENS).where(sa.or_(_IS_OWN, _HAS_ID)))


async def observe(
    conn: Connection, owner_cluster: str, uid: str, tenant_id: str
) -> tuple[Record | None, Record | None]:
    """The object's own record, and the record that holds the id, with their tokens: one statement.

    Both are the same record when the object has the id it wants. A holder whose ``id`` is not ``tenant_id`` collides
    with it after lower-casing.
    """
    asked = {"cluster": owner_cluster, "uid": uid, "tenant": tenant_id}
    records = [_with_tokens(row) for row in await conn.execute(_OBSERVE, asked)]
    own = (each for each in records if each.owner and (each.owner.cluster_id, each.owner.uid) == (owner_cluster, uid))
    holder = (each for each in records if each.id.lower() == tenant_id.lower())
    return next(own, None), next(holder, None)


async def find(conn: Connection, tenant_id: str) -> Record | None:
    """The record of this id, whatever its case: an ``id`` other than ``tenant_id`` is a collision."""
    return _first(await conn.execute(_FIND, {"tenant": tenant_id}))


async def find_owned(conn: Connection, owner: Owner) -> Record | None:
    """The record whose marker has this owner's cluster and uid."""
    return _first(await conn.execute(_FIND_OWNED, {"cluster": owner.cluster_id, "uid": owner.uid}))


async def egress(conn: Connection, tenant_id: str) -> tuple[str, ...]:
    """What steps of the tenant may reach beyond what all may: networks and names, `spec.egress.allow`."""
    settings = await conn.scalar(_SETTINGS, {"tenant": tenant_id})
    match settings:
        case {"egress": {"allow": [*entries]}}:
            return tuple(each for each in entries if isinstance(each, str))
    return ()


async def everything(conn: Connection) -> list[Record]:
    """All rows by id; for commands, not for reconciles."""
    return [_record(row) for row in await conn.execute(sa.select(*_RECORD).order_by(TENANT.c.id))]


async def lost(conn: Connection, cluster_id: str, uids: Sequence[str]) -> list[Lost]:
    """The rows of this cluster whose owner is none of ``uids``."""
    missed = sa.select(*_RECORD).where(ownership.unseen(TENANT, cluster_id, uids))
    return [
        Lost(TENANTS.kind, row.id, row.id, "", row.display_name, owner, row.deletion_policy)
        for row in await conn.execute(missed)
        if (owner := ownership.of(row)) is not None
    ]


async def insert(conn: Connection, record: Record, *, actor: str) -> None:
    """Makes the row. Ledger: Created. Conflict when the id (whatever its case) or the owner has a row already."""
    created = (
        sa.insert(TENANT)
        .values(
            id=record.id,
            display_name=record.display_name,
            delete_when_empty=record.delete_when_empty,
            deletion_policy=record.deletion_policy,
            checksum=record.checksum,
            settings=_stored(record),
            **ownership.marker(record.owner),
        )
        .returning(TENANT.c.id.label("tenant_id"))
        .cte("created")
    )
    deed = Deed(created, Action.CREATED, {"id": record.id, "displayName": record.display_name})
    key = _key(record.owner) if record.owner else Key(TENANTS.kind, "", record.id)
    uid = record.owner.uid if record.owner else ""
    await conn.execute(ledger.done(deed), ledger.subject(key, uid, actor))


async def update(
    conn: Connection,
    tenant_id: str,
    owner: Owner,
    *,
    display_name: str | None,
    deletion_policy: DeletionPolicy,
    settings: Mapping[str, Any] = MappingProxyType({}),
    actor: str,
) -> bool:
    """Makes the row say what is declared; False, and nothing written, when it does already.

    ``display_name`` None leaves it. Ledger: Updated, or DriftCorrected where the row was not as the operator had written
    it: the fields, and the name before and after. Conflict when the owner has no such row.
    """
    found = await conn.execute(_guarded(tenant_id, owner).with_for_update())
    row = found.one_or_none()
    if row is None:
        raise _conflict(tenant_id)
    before = _record(row)
    after = _with(before, display_name, deletion_policy, settings)
    if after == before:
        return False
    fields = tenant.differences(before, display_name, deletion_policy, settings) or ["checksum"]
    details: dict[str, Any] = {"id": tenant_id, "fields": fields}
    if "displayName" in fields:
        details |= {"from": before.display_name, "to": after.display_name}
    if "egress" in fields:
        details["egress"] = {"from": before.settings.get("egress"), "to": after.settings.get("egress")}
    changed = _changing(tenant_id, owner, **_content(after))
    action = Action.UPDATED if before.intact else Action.DRIFT_CORRECTED
    await conn.execute(ledger.done(Deed(changed, action, details)), ledger.subject(_key(owner), owner.uid, actor))
    return True


async def hand_over(conn: Connection, tenant_id: str, frm: Owner, to: Owner, *, actor: str) -> None:
    """Gives the record to another object. Ledger: HandedOver, or Reattached.

    Conflict when ``frm`` does not own it any more, or ``to`` has another record.
    """
    moved = _changing(tenant_id, frm, **ownership.marker(to))
    deed = ownership.handing_over(moved, tenant_id, frm, to)
    done = await conn.execute(ledger.done(deed), ledger.subject(_key(to), to.uid, actor))
    if done.first() is None:
        raise _conflict(tenant_id)


async def adopt(
    conn: Connection,
    before: Record,
    to: Owner,
    *,
    display_name: str | None,
    deletion_policy: DeletionPolicy,
    settings: Mapping[str, Any] = MappingProxyType({}),
    actor: str,
) -> None:
    """Takes a record that is nobody's, or by force another's (A-AD-1); it no longer goes with its last provider.

    ``display_name`` None leaves it. Ledger: Adopted, with what the row really held at that moment. Conflict when its
    owner is not ``before.owner`` any more.
    """
    after = _with(before, display_name, deletion_policy, settings)
    previous = _guarded(before.id, before.owner).with_for_update().cte("previous")
    adopted = (
        sa.update(TENANT)
        .where(TENANT.c.id == previous.c.id)
        .values(**_content(after), delete_when_empty=False, **ownership.marker(to), updated_at=sa.func.now())
        .returning(
            TENANT.c.id.label("tenant_id"),
            previous.c.display_name.label("was_display_name"),
            previous.c.delete_when_empty.label("was_delete_when_empty"),
        )
        .cte("adopted")
    )
    held = {"displayName": adopted.c.was_display_name, "deleteWhenEmpty": adopted.c.was_delete_when_empty}
    details = ledger.built(
        {"id": before.id, "previous": ledger.built(held), "from": ledger.owner_details(before.owner)}
    )
    done = await conn.execute(
        ledger.done(Deed(adopted, Action.ADOPTED, details)), ledger.subject(_key(to), to.uid, actor)
    )
    if done.first() is None:
        raise _conflict(before.id)


async def orphan(conn: Connection, tenant_id: str, owner: Owner, *, actor: str, cause: str | None = None) -> None:
    """Clears the marker and leaves the row. Ledger: Orphaned, with ``cause``. Conflict when it is not the owner's."""
    left = _changing(tenant_id, owner, **ownership.marker(None))
    details = {"id": tenant_id, "from": ledger.owner_details(owner), **ownership.because(cause)}
    deed = Deed(left, Action.ORPHANED, details)
    done = await conn.execute(ledger.done(deed), ledger.subject(_key(owner), owner.uid, actor))
    if done.first() is None:
        raise _conflict(tenant_id)


async def delete(
    conn: Connection, tenant_id: str, owner: Owner | None, *, actor: str, cause: str | None = None
) -> bool:
    """Removes the row if no provider or workflow needs it (True); else leaves it to go with the last one (False).

    ``owner`` None: a row that nobody owns. Ledger: Deleted, or Orphaned with ``deleteWhenEmpty``, with ``cause``. Conflict
    when the owner has no such row. The row is locked against new and vanishing records before they are looked for: their
    insert and delete wait.
    """
    locked = await conn.execute(_guarded(tenant_id, owner).with_for_update())
    if locked.first() is None:
        raise _conflict(tenant_id)
    # A statement of its own: it sees what those have committed that the lock waited for.
    gone = (
        sa.delete(TENANT)
        .where(TENANT.c.id == tenant_id, ~_IN_USE)
        .returning(TENANT.c.id.label("tenant_id"))
        .cte("gone")
    )
    kept = (
        sa.update(TENANT)
        .where(TENANT.c.id == tenant_id, _IN_USE)
        .values(delete_when_empty=True, **ownership.marker(None), updated_at=sa.func.now())
        .returning(TENANT.c.id.label("tenant_id"))
        .cte("kept")
    )
    why = ownership.because(cause)
    deleted = Deed(gone, Action.DELETED, {"id": tenant_id, **why})
    waiting = Deed(kept, Action.ORPHANED, {"id": tenant_id, "deleteWhenEmpty": True, **why})
    key, uid = (_key(owner), owner.uid) if owner else (Key(TENANTS.kind, "", tenant_id), "")
    done = await conn.execute(ledger.done(deleted, waiting).returning(LEDGER.c.action), ledger.subject(key, uid, actor))
    return bool(done.one().action == Action.DELETED)


async def set_tokens(conn: Connection, tenant_id: str, owner: Owner, new: Sequence[Token], *, actor: str) -> None:
    """Makes these the tokens that events are taken with. Ledger: Updated, with their names. Conflict when it is not the owner's."""
    if (await conn.execute(_guarded(tenant_id, owner).with_for_update())).first() is None:
        raise _conflict(tenant_id)
    await tokens.put(conn, tenant_id, new)
    details = {"id": tenant_id, "fields": ["ingestTokens"], "to": sorted(each.name for each in new)}
    await ledger.append(conn, tenant_id, _key(owner), owner.uid, action=Action.UPDATED, actor=actor, details=details)


def locked_of(owning: sa.Select[tuple[str]]) -> sa.CTE:
    """The tenant whose id the query finds, locked: of two records that go at the same moment one sees that it is the last."""
    return (
        sa.select(TENANT.c.id, TENANT.c.delete_when_empty)
        .where(TENANT.c.id == owning.scalar_subquery())
        .with_for_update()
        .cte("locked")
    )


async def delete_if_empty(conn: Connection, tenant_id: str, *, actor: str) -> None:
    """Removes a row that waits for its last record, if that is gone; it must be locked. Ledger: Deleted."""
    gone = (
        sa.delete(TENANT)
        .where(TENANT.c.id == tenant_id, TENANT.c.delete_when_empty, ~_IN_USE)
        .returning(TENANT.c.id.label("tenant_id"))
        .cte("gone")
    )
    deed = Deed(gone, Action.DELETED, {"id": tenant_id, "delayed": True})
    await conn.execute(ledger.done(deed), ledger.subject(Key(TENANTS.kind, "", tenant_id), "", actor))


def _guarded(tenant_id: str, owner: Owner | None) -> sa.Select[Any]:
    return sa.select(*_RECORD).where(TENANT.c.id == tenant_id, ownership.owned_by(TENANT, owner))


def _changing(tenant_id: str, owner: Owner, **values: Any) -> sa.CTE:
    return (
        sa.update(TENANT)
        .where(TENANT.c.id == tenant_id, ownership.owned_by(TENANT, owner))
        .values(**values, updated_at=sa.func.now())
        .returning(TENANT.c.id.label("tenant_id"))
        .cte("changed")
    )


def _first(found: Any) -> Record | None:
    row = found.first()
    return None if row is None else _record(row)


def _record(row: Row) -> Record:
    return Record(
        id=row.id,
        display_name=row.display_name,
        owner=ownership.of(row),
        delete_when_empty=row.delete_when_empty,
        deletion_policy=row.deletion_policy,
        checksum=row.checksum,
        # What is no object was not written by the operator.
        settings=row.settings if isinstance(row.settings, dict) else {} if row.settings is None else {"": row.settings},
    )


def _with_tokens(row: Row) -> Record:
    found = tuple(Token(name, bytes.fromhex(salt), bytes.fromhex(digest)) for name, salt, digest in row.tokens or ())
    return replace(_record(row), tokens=found)


def _with(
    before: Record, display_name: str | None, deletion_policy: DeletionPolicy, settings: Mapping[str, Any]
) -> Record:
    """The record as it shall be, with its checksum."""
    name = before.display_name if display_name is None else display_name
    after = replace(before, display_name=name, deletion_policy=deletion_policy, settings=settings)
    return replace(after, checksum=tenant.checksum(after, display_name))


def _content(record: Record) -> dict[str, Any]:
    return {
        "display_name": record.display_name,
        "deletion_policy": record.deletion_policy,
        "checksum": record.checksum,
        "settings": _stored(record),
    }


def _stored(record: Record) -> Any:
    """NULL where there is nothing to say, as in the rows of before."""
    return sa.cast(sa.literal(documents.text(dict(record.settings)), sa.Text), JSON) if record.settings else sa.null()


def _key(owner: Owner) -> Key:
    return Key(TENANTS.kind, owner.namespace, owner.name)


def _conflict(tenant_id: str) -> Exception:
    return ownership.changed_meanwhile(f"tenant {tenant_id}")
