"""The rows of workflows, one for each lineage; a function for each thing that can happen to one.

::

          insert            update (settings, rename), hand_over
    ──────────────▶ owned ───────────────────────────────────────────▶ owned
                     │  ▲                                                │
              orphan │  │ adopt                                          │ delete
                     ▼  │                                                ▼
                    unowned                                       deleted: name, tenant and owner are free again,
                                                                  the history stays, nothing brings it back (A-REV-8)

Each write names the owner that the caller has seen in its WHERE clause: if no row matches, Conflict. Each brings its ledger
entry in the same statement, and locks the lineage's row: what is said of one lineage is said one after the other. All run
within `engine.transaction`. What hangs on a lineage is guarded in the same way (`OURS`, `LOCKED`, `by_owner`).
"""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
import uuid6
from sqlalchemy import Executable
from sqlalchemy.dialects.postgresql import JSON

from keep_operator.domain import history, provider
from keep_operator.domain.history import Lineage
from keep_operator.domain.ownership import Owner
from keep_operator.resources.kinds import WORKFLOWS, Key
from keep_operator.store import documents, ledger, lineages, ownership, tenants
from keep_operator.store.connection import Connection, Prepared, Result, prepared
from keep_operator.store.ledger import Action, Deed
from keep_operator.store.tables import WORKFLOW

# The lineage, while it lives and is the owner's; the parameters are those of `guard`.
OURS: Final = sa.and_(
    WORKFLOW.c.id == sa.bindparam("lineage"),
    WORKFLOW.c.owner_cluster == sa.bindparam("cluster"),
    WORKFLOW.c.owner_uid == sa.bindparam("uid"),
    lineages.LIVING,
)
# Held until the transaction ends.
LOCKED: Final = sa.select(WORKFLOW.c.id, WORKFLOW.c.tenant_id).where(OURS).with_for_update().cte("locked")
DETAILS: Final = sa.cast(sa.bindparam("details", type_=sa.Text), JSON)

_CREATED: Final = tuple(
    each for each in lineages.ROW if each.name not in ("active_revision", "deleted_at", "watched_until")
)
_CREATE: Final = (
    sa.insert(WORKFLOW)
    .values(
        {each.name: sa.bindparam(f"new_{each.name}") for each in _CREATED}
        | {"settings": sa.cast(sa.bindparam("new_settings", type_=sa.Text), JSON)}
    )
    .returning(WORKFLOW.c.tenant_id)
    .cte("created")
)
_INSERT: Final = {
    action: prepared(ledger.done(Deed(_CREATE, action, DETAILS))) for action in (Action.CREATED, Action.RECOVERED)
}


def new_id() -> UUID:
    """A fresh lineage: random and ordered by time (uuid7), never derived from a name (A-GC-3)."""
    return UUID(int=uuid6.uuid7().int)


async def insert(conn: Connection, lineage: Lineage, *, actor: str, action: Action = Action.CREATED) -> None:
    """Makes the row, without revisions. Ledger: Created, or what ``action`` says.

    At the statement: Waiting TenantNotReady when the tenant has no row (A-DEP-5), Conflict when the external name or the
    owner has a lineage already, Refused when the settings cannot be stored.
    """
    owner = owner_of(lineage)
    row = {
        "id": lineage.id,
        "tenant_id": lineage.tenant_id,
        **_declared(lineage),
        "latest_revision": lineage.latest_number,
        **ownership.marker(owner),
    }
    details = documents.text({"id": str(lineage.id), "externalName": lineage.external_name})
    given = {f"new_{name}": value for name, value in row.items()} | {"details": details}
    await conn.execute(_INSERT[action], given | _subject(owner, actor))


async def update(conn: Connection, declared: Lineage, *, actor: str) -> bool:
    """Makes the row say what is declared (name, policy, suspension, settings); False, and nothing written, if it does.

    Ledger: Renamed (from, to) and Updated (names of the changed fields); DriftCorrected (all their names) where the row
    was not as the operator had written it. Conflict when ``declared.owner`` has no such row, or the new name is taken.
    """
    owner = owner_of(declared)
    row = (await conn.execute(_whose(declared.id, owner).with_for_update())).one_or_none()
    if row is None:
        raise conflict(owner)
    before = lineages.bare(row)
    fields = _differences(before, declared)
    if not fields and before.intact:
        return False
    changed = _changing(declared.id, owner, **_columns(declared))
    record_id = str(declared.id)
    deeds = []
    if not before.intact:
        deeds.append(Deed(changed, Action.DRIFT_CORRECTED, {"id": record_id, "fields": fields or ["checksum"]}))
    else:
        if before.external_name != declared.external_name:
            fields.remove("externalName")
            was = {"id": record_id, "from": before.external_name, "to": declared.external_name}
            deeds.append(Deed(changed, Action.RENAMED, was))
        if fields:
            deeds.append(Deed(changed, Action.UPDATED, {"id": record_id, "fields": fields}))
    await conn.execute(ledger.done(*deeds), _subject(owner, actor))
    return True


async def hand_over(conn: Connection, lineage_id: UUID, frm: Owner, to: Owner, *, actor: str) -> None:
    """Gives the lineage to another object, with its history (A-GC-3). Ledger: HandedOver, or Reattached (A-REV-8).

    Conflict when ``frm`` does not own it any more, or ``to`` has another one.
    """
    moved = _changing(lineage_id, frm, **ownership.marker(to))
    deed = ownership.handing_over(moved, str(lineage_id), frm, to)
    if (await conn.execute(ledger.done(deed), _subject(to, actor))).first() is None:
        raise conflict(frm)


async def adopt(
    conn: Connection, before: Lineage, declared: Lineage, *, actor: str, action: Action = Action.ADOPTED
) -> None:
    """Takes a lineage that is nobody's, or by force another's, and makes it say what is declared (A-AD-1, -2).

    Ledger: Adopted, or what ``action`` says, with what the row really held at that moment. Conflict when its owner is not
    ``before.owner`` any more, or the name is taken.
    """
    to = owner_of(declared)
    previous = _whose(before.id, before.owner).with_for_update().cte("previous")
    adopted = (
        sa.update(WORKFLOW)
        .where(WORKFLOW.c.id == previous.c.id)
        .values(**ownership.marker(to), **_columns(declared), updated_at=sa.func.now())
        .returning(WORKFLOW.c.tenant_id, *(previous.c[each.name].label(f"was_{each.name}") for each in lineages.ROW))
        .cte("adopted")
    )
    held = {
        "externalName": adopted.c.was_external_name,
        "deletionPolicy": adopted.c.was_deletion_policy,
        "suspended": adopted.c.was_suspended,
        "settings": adopted.c.was_settings,
        "activeRevision": adopted.c.was_active_revision,
    }
    details = ledger.built(
        {"id": str(before.id), "previous": ledger.built(held), "from": ledger.owner_details(before.owner)}
    )
    done = await conn.execute(ledger.done(Deed(adopted, action, details)), _subject(to, actor))
    if done.first() is None:
        raise conflict(before.owner or to)


async def orphan(conn: Connection, lineage_id: UUID, owner: Owner, *, actor: str, cause: str | None = None) -> None:
    """Clears the marker and leaves the row (A-GC-2). Ledger: Orphaned, with ``cause``. Conflict when it is not the owner's."""
    left = _changing(lineage_id, owner, **ownership.marker(None))
    details = {"id": str(lineage_id), "from": ledger.owner_details(owner), **ownership.because(cause)}
    if (await conn.execute(ledger.done(Deed(left, Action.ORPHANED, details)), _subject(owner, actor))).first() is None:
        raise conflict(owner)


async def delete(
    conn: Connection, lineage_id: UUID, owner: Owner | None, *, actor: str, cause: str | None = None
) -> None:
    """Marks the lineage as deleted, and removes its tenant's row if that waits for its last record (A-GC-8).

    Its history stays; its name, its owner and its tenant are free. ``owner`` None: a row that nobody owns. Ledger:
    Deleted, with ``cause``. Conflict when the owner has no such row.
    """
    whose = (WORKFLOW.c.id == lineage_id, ownership.owned_by(WORKFLOW, owner), lineages.LIVING)
    locked = tenants.locked_of(sa.select(WORKFLOW.c.tenant_id).where(*whose))
    gone = (
        sa.update(WORKFLOW)
        .where(*whose, WORKFLOW.c.tenant_id == locked.c.id)
        .values(deleted_at=sa.func.now(), updated_at=sa.func.now())
        .returning(WORKFLOW.c.tenant_id, WORKFLOW.c.external_name, locked.c.delete_when_empty)
        .cte("gone")
    )
    details = ledger.built({"id": str(lineage_id), "externalName": gone.c.external_name, **ownership.because(cause)})
    statement = ledger.done(Deed(gone, Action.DELETED, details)).returning(
        *(sa.select(each).scalar_subquery().label(each.name) for each in (gone.c.tenant_id, gone.c.delete_when_empty))
    )
    subject = _subject(owner, actor) if owner else ledger.subject(Key(WORKFLOWS.kind, "", str(lineage_id)), "", actor)
    row = (await conn.execute(statement, subject)).one_or_none()
    if row is None:
        raise ownership.changed_meanwhile(str(_key(owner)) if owner else f"{WORKFLOWS.kind} {lineage_id}")
    if row.delete_when_empty:
        await tenants.delete_if_empty(conn, row.tenant_id, actor=actor)


async def by_owner(
    conn: Connection,
    seen: Lineage,
    statement: Executable | Prepared,
    actor: str,
    values: Mapping[str, Any] | None = None,
) -> Result:
    """Runs a statement that is guarded by `OURS`, for the lineage's object; raises Conflict where it has done nothing."""
    done = await conn.execute(statement, {**guard(seen), **_subject(owner_of(seen), actor), **(values or {})})
    if done.first() is None:
        raise conflict(owner_of(seen))
    return done


def guard(seen: Lineage) -> dict[str, Any]:
    """The parameters of `OURS`."""
    owner = owner_of(seen)
    return {"lineage": seen.id, "cluster": owner.cluster_id, "uid": owner.uid}


def owner_of(seen: Lineage) -> Owner:
    """The owner, which whoever writes must have seen."""
    assert seen.owner is not None
    return seen.owner


def with_tenant(change: sa.CTE) -> sa.CTE:
    """A change of what hangs on the lineage that is `LOCKED`, as a `Deed` wants it."""
    return sa.select(LOCKED.c.tenant_id, *change.c).join(change, change.c.workflow_id == LOCKED.c.id).cte("done")


def conflict(owner: Owner) -> Exception:
    """No row matched what the caller has seen."""
    return ownership.changed_meanwhile(str(_key(owner)))


def _declared(lineage: Lineage) -> dict[str, Any]:
    """The columns that the spec manages, with their checksum; raises Refused where the settings cannot be stored."""
    settings = documents.text(lineage.settings)
    return {
        "external_name": lineage.external_name,
        "deletion_policy": lineage.deletion_policy,
        "suspended": lineage.suspended,
        "settings": settings,
        "checksum": history.checksum(lineage),
    }


def _columns(lineage: Lineage) -> dict[str, Any]:
    columns = _declared(lineage)
    return columns | {"settings": sa.cast(sa.literal(columns["settings"], sa.Text), JSON)}


def _differences(is_: Lineage, shall: Lineage) -> list[str]:
    """The names of the fields in which a row differs from what is declared, sorted."""
    names = {f"settings.{key}" for key in provider.differing(is_.settings, shall.settings)}
    if is_.external_name != shall.external_name:
        names.add("externalName")
    if is_.deletion_policy != shall.deletion_policy:
        names.add("deletionPolicy")
    if is_.suspended != shall.suspended:
        names.add("suspend")
    return sorted(names)


def _whose(lineage_id: UUID, owner: Owner | None) -> sa.Select[Any]:
    return sa.select(*lineages.ROW).where(
        WORKFLOW.c.id == lineage_id, ownership.owned_by(WORKFLOW, owner), lineages.LIVING
    )


def _changing(lineage_id: UUID, owner: Owner, **values: Any) -> sa.CTE:
    return (
        sa.update(WORKFLOW)
        .where(WORKFLOW.c.id == lineage_id, ownership.owned_by(WORKFLOW, owner), lineages.LIVING)
        .values(**values, updated_at=sa.func.now())
        .returning(WORKFLOW.c.tenant_id)
        .cte("changed")
    )


def _key(owner: Owner) -> Key:
    return Key(WORKFLOWS.kind, owner.namespace, owner.name)


def _subject(owner: Owner, actor: str) -> dict[str, str]:
    return ledger.subject(_key(owner), owner.uid, actor)
