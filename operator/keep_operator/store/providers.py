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

from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
import uuid6
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.ext.asyncio import AsyncConnection

from keep_operator.domain.ownership import Owner
from keep_operator.domain.provider import Content, Record
from keep_operator.resources.kinds import PROVIDERS, TENANTS, Key
from keep_operator.store import documents, ledger, ownership
from keep_operator.store.ledger import Action, Deed
from keep_operator.store.tables import PROVIDER, TENANT

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
)

# What an object has and what it wants, in one question: at most two rows, each found by a unique index.
_OBSERVE: Final = sa.select(*_RECORD).where(
    sa.or_(
        sa.and_(PROVIDER.c.owner_cluster == sa.bindparam("cluster"), PROVIDER.c.owner_uid == sa.bindparam("uid")),
        sa.and_(PROVIDER.c.tenant_id == sa.bindparam("tenant"), PROVIDER.c.external_name == sa.bindparam("name")),
    )
)

# Built once: of all writes this is the one that comes in thousands, and building it costs more than running it.
_INSERT: Final = ledger.done(
    Deed(
        sa.insert(PROVIDER)
        .values(
            {each.name: sa.bindparam(f"new_{each.name}") for each in _RECORD}
            | {"config": sa.cast(sa.bindparam("new_config", type_=sa.Text), JSON)}
        )
        .returning(PROVIDER.c.tenant_id)
        .cte("created"),
        Action.CREATED,
        sa.cast(sa.bindparam("details", type_=sa.Text), JSON),
    )
)


def new_id() -> UUID:
    """A fresh record id: random and ordered by time (uuid7), never derived from a name (A-GC-3)."""
    return UUID(int=uuid6.uuid7().int)


async def observe(
    conn: AsyncConnection, owner_cluster: str, uid: str, tenant_id: str | None, external_name: str | None
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


async def insert(conn: AsyncConnection, record: Record, *, actor: str) -> None:
    """Makes the row. Ledger: Created.

    At the statement: Waiting TenantNotReady when the tenant has no row (A-DEP-5), Conflict when the external name
    or the owner has a record already, Refused when the config cannot be stored.
    """
    details = {"id": str(record.id), "type": record.type, "externalName": record.external_name}
    row = {
        "id": record.id,
        "tenant_id": record.tenant_id,
        "type": record.type,
        "external_name": record.external_name,
        "config": documents.text(record.content.config),
        "pulling_enabled": record.content.pulling_enabled,
        "config_hash": record.content.config_hash,
        **ownership.marker(record.owner),
    }
    key, uid = _subject(record.owner, record.external_name)
    given = {f"new_{name}": value for name, value in row.items()} | {"details": documents.text(details)}
    await conn.execute(_INSERT, given | ledger.subject(key, uid, actor))


async def update(
    conn: AsyncConnection, record_id: UUID, owner: Owner, *, external_name: str, content: Content, actor: str
) -> bool:
    """Makes the row say what is declared; False, and nothing written, when it does already.

    Ledger: Renamed (from, to) and Updated (names of the changed fields). ``pulling_enabled`` None leaves the row's
    value. Conflict when the owner has no such row, or the new name is taken.
    """
    found = await conn.execute(
        sa.select(
            PROVIDER.c.external_name,
            PROVIDER.c.config,
            PROVIDER.c.pulling_enabled,
            PROVIDER.c.config_hash,
        )
        .where(PROVIDER.c.id == record_id, ownership.owned_by(PROVIDER, owner))
        .with_for_update()
    )
    before = found.one_or_none()
    if before is None:
        raise _conflict(owner)
    fields = _changed_fields(before, content)
    if before.external_name == external_name and not fields:
        return False
    changed = (
        sa.update(PROVIDER)
        .where(PROVIDER.c.id == record_id, ownership.owned_by(PROVIDER, owner))
        .values(external_name=external_name, **_content(content), updated_at=sa.func.now())
        .returning(PROVIDER.c.tenant_id)
        .cte("changed")
    )
    deeds = []
    if before.external_name != external_name:
        renamed = {"id": str(record_id), "from": before.external_name, "to": external_name}
        deeds.append(Deed(changed, Action.RENAMED, renamed))
    if fields:
        deeds.append(Deed(changed, Action.UPDATED, {"id": str(record_id), "fields": fields}))
    await conn.execute(ledger.done(*deeds), ledger.subject(_key(owner), owner.uid, actor))
    return True


async def hand_over(conn: AsyncConnection, record_id: UUID, frm: Owner, to: Owner, *, actor: str) -> None:
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


async def adopt(conn: AsyncConnection, before: Record, to: Owner, content: Content, *, actor: str) -> None:
    """Takes a record that is nobody's, or by force another's, and makes it say what is declared; id kept (A-AD-1, -2).

    Ledger: Adopted, with the content and owner that the row really had at that moment, to the last digit. Conflict
    when its owner is not ``before.owner`` any more.
    """
    previous = (
        sa.select(*_RECORD)
        .where(PROVIDER.c.id == before.id, ownership.owned_by(PROVIDER, before.owner))
        .with_for_update()
        .cte("previous")
    )
    adopted = (
        sa.update(PROVIDER)
        .where(PROVIDER.c.id == previous.c.id)
        .values(**ownership.marker(to), **_content(content), updated_at=sa.func.now())
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
    }
    details = ledger.built(
        {"id": was["id"], "previous": ledger.built(content_before), "from": ledger.owner_details(before.owner)}
    )
    done = await conn.execute(
        ledger.done(Deed(adopted, Action.ADOPTED, details)), ledger.subject(_key(to), to.uid, actor)
    )
    if done.first() is None:
        raise _conflict(before.owner or to)


async def orphan(conn: AsyncConnection, record_id: UUID, owner: Owner, *, actor: str) -> None:
    """Clears the marker and leaves the row (A-GC-2). Ledger: Orphaned. Conflict when it is not the owner's."""
    left = (
        sa.update(PROVIDER)
        .where(PROVIDER.c.id == record_id, ownership.owned_by(PROVIDER, owner))
        .values(**ownership.marker(None), updated_at=sa.func.now())
        .returning(PROVIDER.c.tenant_id)
        .cte("left_behind")
    )
    deed = Deed(left, Action.ORPHANED, {"id": str(record_id), "from": ledger.owner_details(owner)})
    done = await conn.execute(ledger.done(deed), ledger.subject(_key(owner), owner.uid, actor))
    if done.first() is None:
        raise _conflict(owner)


async def delete(conn: AsyncConnection, record_id: UUID, owner: Owner, *, actor: str) -> None:
    """Removes the row, and its tenant's row if that waits for its last provider (A-GC-8). Ledger: Deleted.

    Conflict when the owner has no such row. The tenant's row is locked first, so that of two providers that go
    at the same moment one sees that it is the last.
    """
    locked = (
        sa.select(TENANT.c.id, TENANT.c.delete_when_empty)
        .where(
            TENANT.c.id
            == sa.select(PROVIDER.c.tenant_id)
            .where(PROVIDER.c.id == record_id, ownership.owned_by(PROVIDER, owner))
            .scalar_subquery()
        )
        .with_for_update()
        .cte("locked")
    )
    gone = (
        sa.delete(PROVIDER)
        .where(PROVIDER.c.id == record_id, ownership.owned_by(PROVIDER, owner), PROVIDER.c.tenant_id == locked.c.id)
        .returning(PROVIDER.c.tenant_id, PROVIDER.c.external_name, locked.c.delete_when_empty)
        .cte("gone")
    )
    details = ledger.built({"id": str(record_id), "externalName": gone.c.external_name})
    tenant = (gone.c.tenant_id, gone.c.delete_when_empty)
    statement = ledger.done(Deed(gone, Action.DELETED, details)).returning(
        *(sa.select(each).scalar_subquery().label(each.name) for each in tenant)
    )
    done = await conn.execute(statement, ledger.subject(_key(owner), owner.uid, actor))
    row = done.one_or_none()
    if row is None:
        raise _conflict(owner)
    if row.delete_when_empty:
        await _delete_empty_tenant(conn, row.tenant_id, actor)


async def _delete_empty_tenant(conn: AsyncConnection, tenant_id: str, actor: str) -> None:
    gone = (
        sa.delete(TENANT)
        .where(
            TENANT.c.id == tenant_id,
            TENANT.c.delete_when_empty,
            ~sa.exists().where(PROVIDER.c.tenant_id == TENANT.c.id),
        )
        .returning(TENANT.c.id.label("tenant_id"))
        .cte("gone")
    )
    deed = Deed(gone, Action.DELETED, {"id": tenant_id, "delayed": True})
    await conn.execute(ledger.done(deed), ledger.subject(Key(TENANTS.kind, "", tenant_id), "", actor))


def _record(row: ownership.AnyRow) -> Record:
    return Record(
        id=row.id,
        tenant_id=row.tenant_id,
        type=row.type,
        external_name=row.external_name,
        content=Content(row.config, row.pulling_enabled, row.config_hash),
        owner=ownership.of(row),
    )


def _config(content: Content) -> Any:
    return sa.cast(sa.literal(documents.text(content.config), sa.Text), JSON)


def _content(content: Content) -> dict[str, Any]:
    """The columns that the spec manages: without ``pulling_enabled`` when it does not say (A-DR-3)."""
    columns = {"config": _config(content), "config_hash": content.config_hash}
    if content.pulling_enabled is not None:
        columns["pulling_enabled"] = content.pulling_enabled
    return columns


def _changed_fields(before: ownership.AnyRow, content: Content) -> list[str]:
    """The names of what differs, as in the spec; a rotated credential shows as ``configHash`` alone."""
    fields = sorted(f"config.{name}" for name in documents.differing(before.config, content.config))
    if content.pulling_enabled not in (None, before.pulling_enabled):
        fields.append("pullingEnabled")
    if before.config_hash != content.config_hash:
        fields.append("configHash")
    return fields


def _subject(owner: Owner | None, name: str) -> tuple[Key, str]:
    return (_key(owner), owner.uid) if owner else (Key(PROVIDERS.kind, "", name), "")


def _key(owner: Owner) -> Key:
    return Key(PROVIDERS.kind, owner.namespace, owner.name)


def _conflict(owner: Owner) -> Exception:
    return ownership.changed_meanwhile(str(_key(owner)))
