"""The rows of Providers: one function for each thing that can happen to one.

::

          insert            update (content, rename)        hand_over(frm -> to)
    ──────────────▶ owned ──────────────────────────▶ owned ─────────────────────▶ owned by another
                     │  ▲                               │
              orphan │  │ adopt                         │ delete
                     ▼  │                               ▼
                    unowned                            gone (and its tenant's row, if that waits for it)

Each write is guarded by the owner that the caller has seen, in its WHERE clause: if no row matches, Conflict.
Each brings its ledger entry in the same statement. All run within `engine.transaction`, which turns the
driver's errors into ours; ``observe`` is content with `engine.look`.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
import uuid6
from sqlalchemy.dialects.postgresql import ARRAY, JSON

from keep_operator.domain import provider
from keep_operator.domain.collection import Lost
from keep_operator.domain.ownership import Owner
from keep_operator.domain.provider import Content, Record
from keep_operator.resources.kinds import PROVIDERS, Key
from keep_operator.store import documents, ledger, ownership, tenants
from keep_operator.store.connection import Connection, Row, prepared
from keep_operator.store.ledger import Action, Deed
from keep_operator.store.tables import PROVIDER
from keep_operator.store.vault import Sealed

_RECORD: Final = (
    PROVIDER.c.id,
    PROVIDER.c.tenant_id,
    PROVIDER.c.type,
    PROVIDER.c.external_name,
    PROVIDER.c.config,
    PROVIDER.c.pulling_enabled,
    PROVIDER.c.config_hash,
    PROVIDER.c.owner_cluster,
    PROVIDER.c.owner_namespace,
    PROVIDER.c.owner_name,
    PROVIDER.c.owner_uid,
    PROVIDER.c.deletion_policy,
    PROVIDER.c.credentials,
    PROVIDER.c.key_name,
    PROVIDER.c.checksum,
)

# What an object has and what it wants, in one question: at most two rows, each found by a unique index.
_OBSERVE: Final = prepared(
    sa.select(*_RECORD).where(
        sa.or_(
            sa.and_(PROVIDER.c.owner_cluster == sa.bindparam("cluster"), PROVIDER.c.owner_uid == sa.bindparam("uid")),
            sa.and_(PROVIDER.c.tenant_id == sa.bindparam("tenant"), PROVIDER.c.external_name == sa.bindparam("name")),
        )
    )
)

_CREATE: Final = (
    sa.insert(PROVIDER)
    .values(
        {each.name: sa.bindparam(f"new_{each.name}") for each in _RECORD}
        | {"config": sa.cast(sa.bindparam("new_config", type_=sa.Text), JSON)}
    )
    .returning(PROVIDER.c.tenant_id)
    .cte("created")
)
# Built once: of all writes this is the one that comes in thousands, and building it costs more than running it.
_INSERT: Final = {
    action: prepared(ledger.done(Deed(_CREATE, action, sa.cast(sa.bindparam("details", type_=sa.Text), JSON))))
    for action in (Action.CREATED, Action.RECOVERED)
}


def new_id() -> UUID:
    """A fresh record id: random and ordered by time (uuid7), never derived from a name (A-GC-3)."""
    return UUID(int=uuid6.uuid7().int)


async def observe(
    conn: Connection, owner_cluster: str, uid: str, tenant_id: str | None, external_name: str | None
) -> tuple[Record | None, Record | None]:
    """The object's own record, and the record that holds (tenant_id, external_name): one statement.

    Both are the same record when the object has the name it wants. ``tenant_id`` or ``external_name`` None (not
    known): its own only.
    """
    asked = {"cluster": owner_cluster, "uid": uid, "tenant": tenant_id, "name": external_name}
    records = [_record(row) for row in await conn.execute(_OBSERVE, asked)]
    own = (each for each in records if each.owner and (each.owner.cluster_id, each.owner.uid) == (owner_cluster, uid))
    holder = (each for each in records if (each.tenant_id, each.external_name) == (tenant_id, external_name))
    return next(own, None), next(holder, None)


async def everything(conn: Connection, tenant_id: str | None = None) -> list[Record]:
    """All rows, or those of a tenant, by tenant and name; for commands, not for reconciles."""
    asked = sa.select(*_RECORD).order_by(PROVIDER.c.tenant_id, PROVIDER.c.external_name)
    if tenant_id is not None:
        asked = asked.where(PROVIDER.c.tenant_id == tenant_id)
    return [_record(row) for row in await conn.execute(asked)]


async def reseal(conn: Connection, before: Record, sealed: Sealed, *, actor: str) -> bool:
    """Puts the same credentials under another key; False where the row has other ones by now, or none.

    Ledger: Updated. A row that others had changed stays recognisable as such.
    """
    after = replace(before, sealed=sealed.text, key_name=sealed.key_name)
    managed = before.content.pulling_enabled
    if before.checksum == provider.checksum(before, None):
        managed = None
    checksum = provider.checksum(after, managed) if before.intact else before.checksum
    resealed = (
        sa.update(PROVIDER)
        .where(PROVIDER.c.id == before.id, PROVIDER.c.credentials == before.sealed)
        .values(credentials=after.sealed, key_name=after.key_name, checksum=checksum)
        .returning(PROVIDER.c.tenant_id)
        .cte("resealed")
    )
    details = {"id": str(before.id), "fields": ["credentials"], **ownership.because("KeyRotation")}
    key, uid = _subject(before.owner, before.external_name)
    done = await conn.execute(ledger.done(Deed(resealed, Action.UPDATED, details)), ledger.subject(key, uid, actor))
    return done.first() is not None


async def existing(conn: Connection, ids: Sequence[UUID]) -> set[UUID]:
    """Those of the ids that have a row, whoever owns it."""
    asked = sa.func.unnest(sa.literal(list(ids), ARRAY(sa.Uuid))).table_valued("id", name="asked").render_derived()
    found = await conn.execute(sa.select(PROVIDER.c.id).join(asked, asked.c.id == PROVIDER.c.id))
    return set(found.scalars())


async def lost(conn: Connection, cluster_id: str, uids: Sequence[str], namespaces: Sequence[str] | None) -> list[Lost]:
    """The rows of this cluster whose owner is none of ``uids``; only those of ``namespaces``, None: of all."""
    missed = sa.select(*_RECORD).where(ownership.unseen(PROVIDER, cluster_id, uids))
    if namespaces is not None:
        missed = missed.where(PROVIDER.c.owner_namespace.in_(namespaces))
    return [
        Lost(PROVIDERS.kind, str(row.id), row.tenant_id, row.type, row.external_name, owner, row.deletion_policy)
        for row in await conn.execute(missed)
        if (owner := ownership.of(row)) is not None
    ]


async def insert(
    conn: Connection, record: Record, *, actor: str, action: Action = Action.CREATED, sealed: Sealed | None = None
) -> None:
    """Makes the row, with its credentials as ``sealed``. Ledger: Created, or what ``action`` says.

    At the statement: Waiting TenantNotReady when the tenant has no row (A-DEP-5), Conflict when the external name
    or the owner has a record already, Refused when the config cannot be stored.
    """
    made = _with(record, record.external_name, record.content, sealed)
    details = {"id": str(made.id), "type": made.type, "externalName": made.external_name}
    row = {
        "id": made.id,
        "tenant_id": made.tenant_id,
        "type": made.type,
        "external_name": made.external_name,
        "config": documents.text(made.content.config),
        "pulling_enabled": made.content.pulling_enabled,
        "config_hash": made.content.config_hash,
        "deletion_policy": made.content.deletion_policy,
        "credentials": made.sealed,
        "key_name": made.key_name,
        "checksum": made.checksum,
        **ownership.marker(made.owner),
    }
    key, uid = _subject(made.owner, made.external_name)
    given = {f"new_{name}": value for name, value in row.items()} | {"details": documents.text(details)}
    await conn.execute(_INSERT[action], given | ledger.subject(key, uid, actor))


async def update(
    conn: Connection,
    record_id: UUID,
    owner: Owner,
    *,
    external_name: str,
    content: Content,
    actor: str,
    sealed: Sealed | None = None,
) -> bool:
    """Makes the row say what is declared; False, and nothing written, when it does already.

    Ledger: Renamed (from, to) and Updated (names of the changed fields); DriftCorrected (all their names) where the row
    was not as the operator had written it. ``pulling_enabled`` None leaves the row's value, ``authentication`` None its
    credentials, which otherwise become ``sealed``. Conflict when the owner has no such row, or the new name is taken.
    """
    found = await conn.execute(
        sa.select(*_RECORD).where(PROVIDER.c.id == record_id, ownership.owned_by(PROVIDER, owner)).with_for_update()
    )
    row = found.one_or_none()
    if row is None:
        raise _conflict(owner)
    before = _record(row)
    after = _with(before, external_name, content, sealed)
    fields = provider.differences(before, external_name, after.content, readable=before.sealed == after.sealed)
    if not fields and before.intact and before.checksum is not None:
        return False
    changed = (
        sa.update(PROVIDER)
        .where(PROVIDER.c.id == record_id, ownership.owned_by(PROVIDER, owner))
        .values(external_name=external_name, **_content(after, content), updated_at=sa.func.now())
        .returning(PROVIDER.c.tenant_id)
        .cte("changed")
    )
    renamed = before.external_name != external_name
    deeds = []
    if not before.intact:
        deeds.append(Deed(changed, Action.DRIFT_CORRECTED, {"id": str(record_id), "fields": fields or ["checksum"]}))
    else:
        fields = [name for name in fields if name != "externalName"] or ([] if renamed else ["checksum"])
        if renamed:
            was = {"id": str(record_id), "from": before.external_name, "to": external_name}
            deeds.append(Deed(changed, Action.RENAMED, was))
        if fields:
            deeds.append(Deed(changed, Action.UPDATED, {"id": str(record_id), "fields": fields}))
    await conn.execute(ledger.done(*deeds), ledger.subject(_key(owner), owner.uid, actor))
    return True


async def hand_over(conn: Connection, record_id: UUID, frm: Owner, to: Owner, *, actor: str) -> None:
    """Gives the record to another object, id and content kept (A-GC-3). Ledger: HandedOver, or Reattached.

    Conflict when ``frm`` does not own it any more, or ``to`` has another record.
    """
    moved = (
        sa.update(PROVIDER)
        .where(PROVIDER.c.id == record_id, ownership.owned_by(PROVIDER, frm))
        .values(**ownership.marker(to), updated_at=sa.func.now())
        .returning(PROVIDER.c.tenant_id)
        .cte("moved")
    )
    deed = ownership.handing_over(moved, str(record_id), frm, to)
    done = await conn.execute(ledger.done(deed), ledger.subject(_key(to), to.uid, actor))
    if done.first() is None:
        raise _conflict(frm)


async def adopt(
    conn: Connection, before: Record, to: Owner, content: Content, *, actor: str, sealed: Sealed | None = None
) -> None:
    """Takes a record that is nobody's, or by force another's, and makes it say what is declared; id kept (A-AD-1, -2).

    Ledger: Adopted, with the content and owner that the row really had at that moment, to the last digit, its credentials
    aside. Conflict when its owner is not ``before.owner`` any more.
    """
    await _take(conn, before, _with(before, before.external_name, content, sealed), to, content, Action.ADOPTED, actor)


async def recover(conn: Connection, before: Record, to: Owner, name: str, *, actor: str) -> None:
    """Gives a record that is there under an old name or owner back to the object that knows its id (A-REV-13).

    Ledger: Recovered, as `adopt`. Conflict when its owner is not ``before.owner`` any more, or the name is taken.
    """
    after = _with(before, name, before.content, None)
    await _take(conn, before, after, to, before.content, Action.RECOVERED, actor)


async def _take(
    conn: Connection, before: Record, after: Record, to: Owner, managed: Content, action: Action, actor: str
) -> None:
    previous = (
        sa.select(*_RECORD)
        .where(PROVIDER.c.id == before.id, ownership.owned_by(PROVIDER, before.owner))
        .with_for_update()
        .cte("previous")
    )
    adopted = (
        sa.update(PROVIDER)
        .where(PROVIDER.c.id == previous.c.id)
        .values(
            external_name=after.external_name,
            **ownership.marker(to),
            **_content(after, managed),
            updated_at=sa.func.now(),
        )
        .returning(PROVIDER.c.tenant_id, *(previous.c[each.name].label(f"was_{each.name}") for each in _RECORD))
        .cte("adopted")
    )
    was = {each.name: adopted.c[f"was_{each.name}"] for each in _RECORD}
    content_before = {
        "type": was["type"],
        "externalName": was["external_name"],
        "config": was["config"],
        "pullingEnabled": was["pulling_enabled"],
        "configHash": was["config_hash"],
        "deletionPolicy": was["deletion_policy"],
    }
    details = ledger.built(
        {"id": was["id"], "previous": ledger.built(content_before), "from": ledger.owner_details(before.owner)}
    )
    done = await conn.execute(ledger.done(Deed(adopted, action, details)), ledger.subject(_key(to), to.uid, actor))
    if done.first() is None:
        raise _conflict(before.owner or to)


async def orphan(conn: Connection, record_id: UUID, owner: Owner, *, actor: str, cause: str | None = None) -> None:
    """Clears the marker and leaves the row (A-GC-2). Ledger: Orphaned, with ``cause``. Conflict when it is not the owner's."""
    left = (
        sa.update(PROVIDER)
        .where(PROVIDER.c.id == record_id, ownership.owned_by(PROVIDER, owner))
        .values(**ownership.marker(None), updated_at=sa.func.now())
        .returning(PROVIDER.c.tenant_id)
        .cte("left_behind")
    )
    details = {"id": str(record_id), "from": ledger.owner_details(owner), **ownership.because(cause)}
    deed = Deed(left, Action.ORPHANED, details)
    done = await conn.execute(ledger.done(deed), ledger.subject(_key(owner), owner.uid, actor))
    if done.first() is None:
        raise _conflict(owner)


async def delete(
    conn: Connection, record_id: UUID, owner: Owner | None, *, actor: str, cause: str | None = None
) -> None:
    """Removes the row, and its tenant's row if that waits for its last provider (A-GC-8).

    ``owner`` None: a row that nobody owns. Ledger: Deleted, with ``cause``. Conflict when the owner has no such row.
    """
    locked = tenants.locked_of(
        sa.select(PROVIDER.c.tenant_id).where(PROVIDER.c.id == record_id, ownership.owned_by(PROVIDER, owner))
    )
    gone = (
        sa.delete(PROVIDER)
        .where(PROVIDER.c.id == record_id, ownership.owned_by(PROVIDER, owner), PROVIDER.c.tenant_id == locked.c.id)
        .returning(PROVIDER.c.tenant_id, PROVIDER.c.external_name, locked.c.delete_when_empty)
        .cte("gone")
    )
    details = ledger.built({"id": str(record_id), "externalName": gone.c.external_name, **ownership.because(cause)})
    tenant = (gone.c.tenant_id, gone.c.delete_when_empty)
    statement = ledger.done(Deed(gone, Action.DELETED, details)).returning(
        *(sa.select(each).scalar_subquery().label(each.name) for each in tenant)
    )
    key, uid = _subject(owner, str(record_id))
    done = await conn.execute(statement, ledger.subject(key, uid, actor))
    row = done.one_or_none()
    if row is None:
        raise ownership.changed_meanwhile(str(key))
    if row.delete_when_empty:
        await tenants.delete_if_empty(conn, row.tenant_id, actor=actor)


def _record(row: Row) -> Record:
    return Record(
        id=row.id,
        tenant_id=row.tenant_id,
        type=row.type,
        external_name=row.external_name,
        content=Content(row.config, row.pulling_enabled, row.config_hash, row.deletion_policy),
        owner=ownership.of(row),
        sealed=row.credentials,
        key_name=row.key_name,
        checksum=row.checksum,
    )


def _with(before: Record, external_name: str, content: Content, sealed: Sealed | None) -> Record:
    """The record as it shall be, with its checksum; raises Refused where its config cannot be stored."""
    documents.text(content.config)
    managed = content.pulling_enabled
    if managed is None:
        content = replace(content, pulling_enabled=before.content.pulling_enabled)
    after = replace(before, external_name=external_name, content=content)
    if content.authentication is not None:
        after = replace(after, sealed=sealed.text if sealed else None, key_name=sealed.key_name if sealed else None)
    return replace(after, checksum=provider.checksum(after, managed))


def _config(content: Content) -> Any:
    return sa.cast(sa.literal(documents.text(content.config), sa.Text), JSON)


def _content(record: Record, managed: Content) -> dict[str, Any]:
    """The columns that the spec manages: without ``pulling_enabled`` when it does not say (A-DR-3)."""
    columns = {
        "config": _config(record.content),
        "config_hash": record.content.config_hash,
        "deletion_policy": record.content.deletion_policy,
        "credentials": record.sealed,
        "key_name": record.key_name,
        "checksum": record.checksum,
    }
    if managed.pulling_enabled is not None:
        columns["pulling_enabled"] = managed.pulling_enabled
    return columns


def _subject(owner: Owner | None, name: str) -> tuple[Key, str]:
    return (_key(owner), owner.uid) if owner else (Key(PROVIDERS.kind, "", name), "")


def _key(owner: Owner) -> Key:
    return Key(PROVIDERS.kind, owner.namespace, owner.name)


def _conflict(owner: Owner) -> Exception:
    return ownership.changed_meanwhile(str(_key(owner)))
