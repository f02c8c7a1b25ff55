"""The rows of workflows, one for each lineage, and which of its revisions is active; a function for each thing that can happen.

::

          insert        update (settings, rename), hand_over, activate, hold
    ──────────────▶ owned ───────────────────────────────────────────▶ owned
                     │  ▲                                                │
              orphan │  │ adopt                                          │ delete
                     ▼  │                                                ▼
                    unowned                                       deleted: name, tenant and owner are free again,
                                                                  the history stays, nothing brings it back (A-REV-8)

Each write names the owner that the caller has seen, and `activate` the active revision, in its WHERE clause: if no row
matches, Conflict. Each brings its ledger entry in the same statement, and locks the lineage's row: what is said of one
lineage is said one after the other. All run within `engine.transaction`; ``observe`` is content with `engine.look`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
import uuid6
from sqlalchemy import Executable
from sqlalchemy.dialects.postgresql import ARRAY, JSON, aggregate_order_by
from sqlalchemy.dialects.postgresql import insert as upsert

from keep_operator.domain import history, provider
from keep_operator.domain.collection import Lost
from keep_operator.domain.history import (
    Author,
    Canary,
    Cause,
    Check,
    Deployment,
    Flaw,
    Hold,
    Lineage,
    Review,
    Revision,
)
from keep_operator.domain.ownership import Owner
from keep_operator.resources.kinds import WORKFLOWS, Key
from keep_operator.store import documents, ledger, ownership, tenants
from keep_operator.store.connection import Connection, Prepared, Result, Row, prepared
from keep_operator.store.ledger import Action, Deed
from keep_operator.store.tables import (
    CANARY,
    CHECKLIST_RESULT,
    DEPLOYMENT,
    HOLD,
    REVIEW,
    REVISION_STATE,
    REVISION_TAG,
    RUN,
    WORKFLOW,
    WORKFLOW_REVISION,
)

# Deployments that a look brings. The status shows ten; the way back of a rollback may be longer.
DEPLOYMENTS: Final = 50

_ROW: Final = (
    WORKFLOW.c.id,
    WORKFLOW.c.tenant_id,
    WORKFLOW.c.external_name,
    WORKFLOW.c.deletion_policy,
    WORKFLOW.c.suspended,
    WORKFLOW.c.settings,
    WORKFLOW.c.latest_revision,
    WORKFLOW.c.active_revision,
    WORKFLOW.c.owner_cluster,
    WORKFLOW.c.owner_namespace,
    WORKFLOW.c.owner_name,
    WORKFLOW.c.owner_uid,
    WORKFLOW.c.deleted_at,
    WORKFLOW.c.checksum,
    WORKFLOW.c.watched_until,
)

# A revision but for its content and its tags, in the order in which `revision_of` reads it.
LIGHT: Final = (
    WORKFLOW_REVISION.c.number,
    WORKFLOW_REVISION.c.content_hash,
    WORKFLOW_REVISION.c.created_at,
    WORKFLOW_REVISION.c.hash_version,
    WORKFLOW_REVISION.c.flaw_reason,
    WORKFLOW_REVISION.c.flaw_message,
    WORKFLOW_REVISION.c.parent_number,
    WORKFLOW_REVISION.c.same_content_as,
    WORKFLOW_REVISION.c.change_note,
    WORKFLOW_REVISION.c.author_username,
    WORKFLOW_REVISION.c.author_source,
    WORKFLOW_REVISION.c.created_from_generation,
    WORKFLOW_REVISION.c.diff_summary,
    REVISION_STATE.c.first_active_at,
    REVISION_STATE.c.last_active_at,
    REVISION_STATE.c.rejected_reason,
    REVISION_STATE.c.denied_reason,
    REVISION_STATE.c.archived_at,
    REVISION_STATE.c.approved_reason,
    REVISION_STATE.c.important,
)
_WITH_STATE: Final = sa.join(
    WORKFLOW_REVISION,
    REVISION_STATE,
    sa.and_(
        REVISION_STATE.c.workflow_id == WORKFLOW_REVISION.c.workflow_id,
        REVISION_STATE.c.number == WORKFLOW_REVISION.c.number,
    ),
)

# As `deployment_of` reads it.
DEPLOYED: Final = (
    DEPLOYMENT.c.revision,
    DEPLOYMENT.c.from_revision,
    DEPLOYMENT.c.cause,
    DEPLOYMENT.c.actor,
    DEPLOYMENT.c.at,
    DEPLOYMENT.c.reason,
)

_REVISIONS: Final = (
    sa.select(sa.func.json_agg(aggregate_order_by(sa.func.json_build_array(*LIGHT), WORKFLOW_REVISION.c.number)))
    .select_from(_WITH_STATE)
    .where(WORKFLOW_REVISION.c.workflow_id == WORKFLOW.c.id)
    .correlate(WORKFLOW)
    .scalar_subquery()
)
_TAGS: Final = (
    sa.select(sa.func.json_object_agg(REVISION_TAG.c.tag, REVISION_TAG.c.number))
    .where(REVISION_TAG.c.workflow_id == WORKFLOW.c.id)
    .correlate(WORKFLOW)
    .scalar_subquery()
)
_RECENT: Final = (
    sa.select(DEPLOYMENT.c.id, *DEPLOYED)
    .where(DEPLOYMENT.c.workflow_id == WORKFLOW.c.id)
    .order_by(DEPLOYMENT.c.id.desc())
    .limit(DEPLOYMENTS)
    .correlate(WORKFLOW)
    .subquery("recent")
)
_DEPLOYMENTS: Final = sa.select(
    sa.func.json_agg(
        aggregate_order_by(sa.func.json_build_array(*(_RECENT.c[each.name] for each in DEPLOYED)), _RECENT.c.id.desc())
    )
).scalar_subquery()

# As `Review` and `Check` have them.
_REVIEWED: Final = (REVIEW.c.number, REVIEW.c.actor, REVIEW.c.approves, REVIEW.c.at, REVIEW.c.groups)
_CHECKED: Final = (
    CHECKLIST_RESULT.c.number,
    CHECKLIST_RESULT.c.item,
    CHECKLIST_RESULT.c.done,
    CHECKLIST_RESULT.c.by,
    CHECKLIST_RESULT.c.at,
    CHECKLIST_RESULT.c.message,
)


def _all_of(table: sa.Table, columns: Sequence[sa.Column[Any]], *order: sa.Column[Any]) -> sa.ScalarSelect[Any]:
    """What is said of all revisions of the lineage, in this order."""
    return (
        sa.select(sa.func.json_agg(aggregate_order_by(sa.func.json_build_array(*columns), *order)))
        .where(table.c.workflow_id == WORKFLOW.c.id)
        .correlate(WORKFLOW)
        .scalar_subquery()
    )


_REVIEWS: Final = _all_of(REVIEW, _REVIEWED, REVIEW.c.at, REVIEW.c.actor)
_CHECKS: Final = _all_of(CHECKLIST_RESULT, _CHECKED, CHECKLIST_RESULT.c.number, CHECKLIST_RESULT.c.item)

_UNFINISHED: Final = (
    sa.select(RUN.c.revision, sa.func.count().label("runs"))
    .where(RUN.c.tenant_id == WORKFLOW.c.tenant_id, RUN.c.workflow_id == WORKFLOW.c.id, RUN.c.completed_at.is_(None))
    .group_by(RUN.c.revision)
    .correlate(WORKFLOW)
    .subquery("unfinished")
)
_RUNNING: Final = sa.select(sa.func.json_object_agg(_UNFINISHED.c.revision, _UNFINISHED.c.runs)).scalar_subquery()

_LOOK: Final = sa.select(
    *_ROW,
    _REVISIONS.label("revisions"),
    _TAGS.label("tags"),
    _DEPLOYMENTS.label("deployments"),
    _RUNNING.label("running"),
    sa.func.clock_timestamp().label("read_at"),
    _REVIEWS.label("reviews"),
    _CHECKS.label("checks"),
    *(each.label(f"hold_{each.name}") for each in HOLD.c),
    *(each.label(f"canary_{each.name}") for each in CANARY.c),
).select_from(
    sa.outerjoin(WORKFLOW, HOLD, HOLD.c.workflow_id == WORKFLOW.c.id).outerjoin(
        CANARY, CANARY.c.workflow_id == WORKFLOW.c.id
    )
)

LIVING: Final = WORKFLOW.c.deleted_at.is_(None)
# At most two rows, each found by a unique index.
_OBSERVE: Final = prepared(
    _LOOK.where(
        LIVING,
        sa.or_(
            sa.and_(WORKFLOW.c.owner_cluster == sa.bindparam("cluster"), WORKFLOW.c.owner_uid == sa.bindparam("uid")),
            sa.and_(
                WORKFLOW.c.living_tenant_id == sa.bindparam("tenant"), WORKFLOW.c.external_name == sa.bindparam("name")
            ),
        ),
    )
)
_FIND: Final = prepared(_LOOK.where(WORKFLOW.c.id == sa.bindparam("lineage")))

# The lineage, while it lives and is the owner's; the parameters are those of `guard`.
OURS: Final = sa.and_(
    WORKFLOW.c.id == sa.bindparam("lineage"),
    WORKFLOW.c.owner_cluster == sa.bindparam("cluster"),
    WORKFLOW.c.owner_uid == sa.bindparam("uid"),
    LIVING,
)
# Held until the transaction ends.
LOCKED: Final = sa.select(WORKFLOW.c.id, WORKFLOW.c.tenant_id).where(OURS).with_for_update().cte("locked")
DETAILS: Final = sa.cast(sa.bindparam("details", type_=sa.Text), JSON)

_CREATED: Final = tuple(each for each in _ROW if each.name not in ("active_revision", "deleted_at", "watched_until"))
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

_FROM: Final = sa.bindparam("from_revision", type_=sa.Integer)
_TO: Final = sa.bindparam("to_revision", type_=sa.Integer)
_CHOSEN, _ALIKE = WORKFLOW_REVISION.alias("chosen"), WORKFLOW_REVISION.alias("alike")


def barred(number: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    """Whether the content of this revision of the lineage was rejected or denied, under whichever of its numbers."""
    return (
        sa.select(sa.literal(1))
        .select_from(
            sa.join(
                _CHOSEN,
                _ALIKE,
                sa.and_(
                    _ALIKE.c.workflow_id == _CHOSEN.c.workflow_id,
                    _ALIKE.c.content_hash == _CHOSEN.c.content_hash,
                ),
            ).join(
                REVISION_STATE,
                sa.and_(
                    REVISION_STATE.c.workflow_id == _ALIKE.c.workflow_id, REVISION_STATE.c.number == _ALIKE.c.number
                ),
            )
        )
        .where(
            _CHOSEN.c.workflow_id == WORKFLOW.c.id,
            _CHOSEN.c.number == number,
            sa.or_(REVISION_STATE.c.rejected_reason.is_not(None), REVISION_STATE.c.denied_reason.is_not(None)),
        )
        .correlate(WORKFLOW)
        .exists()
    )


_MOVED: Final = (
    sa.update(WORKFLOW)
    .where(OURS, WORKFLOW.c.active_revision.is_not_distinct_from(_FROM), ~barred(_TO))
    .values(active_revision=_TO, updated_at=sa.func.now())
    .returning(WORKFLOW.c.id, WORKFLOW.c.tenant_id)
    .cte("moved")
)
_ADDED: Final = (
    sa.insert(DEPLOYMENT)
    .from_select(
        ["workflow_id", "revision", "from_revision", "cause", "actor", "reason"],
        sa.select(
            _MOVED.c.id, _TO, _FROM, *(sa.bindparam(name, type_=sa.Text) for name in ("cause", "actor", "reason"))
        ),
    )
    .cte("added")
)
_TOUCHED: Final = (
    sa.update(REVISION_STATE)
    .where(REVISION_STATE.c.workflow_id == _MOVED.c.id, REVISION_STATE.c.number.in_((_FROM, _TO)))
    .values(
        first_active_at=sa.func.coalesce(REVISION_STATE.c.first_active_at, sa.func.now()),
        last_active_at=sa.func.now(),
        archived_at=sa.case((REVISION_STATE.c.number != _TO, REVISION_STATE.c.archived_at)),
    )
    .cte("touched")
)
_ACTIVATE: Final = prepared(ledger.done(Deed(_MOVED, Action.DEPLOYED, DETAILS)).add_cte(_ADDED, _TOUCHED))


def new_id() -> UUID:
    """A fresh lineage: random and ordered by time (uuid7), never derived from a name (A-GC-3)."""
    return UUID(int=uuid6.uuid7().int)


async def observe(
    conn: Connection, owner_cluster: str, uid: str, tenant_id: str | None, external_name: str | None
) -> tuple[Lineage | None, Lineage | None]:
    """The object's own lineage, and the one that holds (tenant_id, external_name), with all but contents: one statement.

    Both are the same when the object has the name it wants. ``tenant_id`` or ``external_name`` None (not known): its own
    only. Deleted ones are not there.
    """
    asked = {"cluster": owner_cluster, "uid": uid, "tenant": tenant_id, "name": external_name}
    found = [_lineage(row) for row in await conn.execute(_OBSERVE, asked)]
    own = (each for each in found if each.owner and (each.owner.cluster_id, each.owner.uid) == (owner_cluster, uid))
    holder = (each for each in found if (each.tenant_id, each.external_name) == (tenant_id, external_name))
    return next(own, None), next(holder, None)


async def find(conn: Connection, lineage_id: UUID) -> Lineage | None:
    """The lineage of this id, be it deleted or not."""
    row = (await conn.execute(_FIND, {"lineage": lineage_id})).one_or_none()
    return None if row is None else _lineage(row)


async def everything(conn: Connection, tenant_id: str | None = None) -> list[Lineage]:
    """All lineages that are not deleted, or those of a tenant, without their histories; for commands, not for reconciles."""
    asked = sa.select(*_ROW).where(LIVING).order_by(WORKFLOW.c.tenant_id, WORKFLOW.c.external_name)
    if tenant_id is not None:
        asked = asked.where(WORKFLOW.c.living_tenant_id == tenant_id)
    return [_bare(row) for row in await conn.execute(asked)]


async def namespaces(conn: Connection, cluster_id: str, most: int) -> list[str]:
    """The namespaces of a cluster that have a workflow, at most so many."""
    asked = sa.select(WORKFLOW.c.owner_namespace).where(WORKFLOW.c.owner_cluster == cluster_id, LIVING).distinct()
    found = (await conn.execute(asked.order_by(WORKFLOW.c.owner_namespace).limit(most))).scalars()
    return [each for each in found if each is not None]


async def latest(conn: Connection, ids: Sequence[UUID]) -> dict[UUID, int]:
    """The highest number ever given in those of the lineages that have a row, whoever owns it, be it deleted or not."""
    asked = WORKFLOW.c.id == sa.func.any(sa.literal(list(ids), ARRAY(sa.Uuid)))
    found = await conn.execute(sa.select(WORKFLOW.c.id, WORKFLOW.c.latest_revision).where(asked))
    return {row.id: row.latest_revision for row in found}


async def lost(conn: Connection, cluster_id: str, uids: Sequence[str], namespaces: Sequence[str] | None) -> list[Lost]:
    """The lineages of this cluster whose owner is none of ``uids``; only those of ``namespaces``, None: of all."""
    missed = sa.select(*_ROW).where(ownership.unseen(WORKFLOW, cluster_id, uids), LIVING)
    if namespaces is not None:
        missed = missed.where(WORKFLOW.c.owner_namespace.in_(namespaces))
    return [
        Lost(WORKFLOWS.kind, str(row.id), row.tenant_id, "", row.external_name, owner, row.deletion_policy)
        for row in await conn.execute(missed)
        if (owner := ownership.of(row)) is not None
    ]


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
    before = _bare(row)
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
        .returning(WORKFLOW.c.tenant_id, *(previous.c[each.name].label(f"was_{each.name}") for each in _ROW))
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
    whose = (WORKFLOW.c.id == lineage_id, ownership.owned_by(WORKFLOW, owner), LIVING)
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


async def activate(conn: Connection, seen: Lineage, number: int, *, cause: Cause, actor: str, reason: str = "") -> None:
    """Makes a revision the one that takes runs: the pointer, a deployment, and when both revisions were active.

    It is archived no more: its object comes back (A-RET-3).
    Ledger: Deployed (from, to, cause, reason). Conflict when another than ``seen.active_number`` is active by now, when the
    content has been rejected meanwhile, when the lineage is not the owner's any more, or when it has no such revision.
    """
    details = {"id": str(seen.id), "from": seen.active_number, "to": number, "cause": cause.value, "reason": reason}
    given = {
        "from_revision": seen.active_number,
        "to_revision": number,
        "cause": cause.value,
        "reason": reason,
        "details": documents.text(details),
    }
    await by_owner(conn, seen, _ACTIVATE, actor, given)


async def redeploy(
    conn: Connection, seen: Lineage, deployments: Sequence[Deployment], number: int, *, actor: str
) -> None:
    """Notes deployments again that an older dump does not know, oldest first; ``number`` is active (A-REV-13).

    Ledger: Recovered. Conflict when another than ``seen.active_number`` is active by now, or the lineage is not the owner's
    any more.
    """
    values = [
        {"workflow_id": seen.id, "revision": each.revision, "from_revision": each.from_revision}
        | {"cause": each.cause.value, "actor": each.actor, "reason": each.reason, "at": each.at}
        for each in deployments
    ]
    moved = (
        sa.update(WORKFLOW)
        .where(OURS, WORKFLOW.c.active_revision.is_not_distinct_from(sa.literal(seen.active_number, sa.Integer)))
        .values(active_revision=number, updated_at=sa.func.now())
        .returning(WORKFLOW.c.tenant_id)
        .cte("moved")
    )
    details = {"id": str(seen.id), "from": seen.active_number, "to": number, "deployments": len(values)}
    await by_owner(conn, seen, ledger.done(Deed(moved, Action.RECOVERED, details)), actor)
    for each in values:
        await conn.execute(sa.insert(DEPLOYMENT).values(**each))


async def skip(conn: Connection, seen: Lineage, number: int, *, actor: str) -> None:
    """Has numbering go on above ``number``, whose content is lost with an older dump (A-REV-13). Ledger: Recovered.

    Conflict when that number was given already, or the lineage is not the owner's any more.
    """
    skipped = (
        sa.update(WORKFLOW)
        .where(OURS, WORKFLOW.c.latest_revision < number)
        .values(latest_revision=number, updated_at=sa.func.now())
        .returning(WORKFLOW.c.tenant_id)
        .cte("skipped")
    )
    details = {"id": str(seen.id), "lost": number}
    await by_owner(conn, seen, ledger.done(Deed(skipped, Action.RECOVERED, details)), actor)


async def set_hold(conn: Connection, seen: Lineage, hold: Hold, *, actor: str) -> None:
    """Puts a rollback in force, in place of one that is. Ledger: HoldSet.

    Conflict when the lineage is not the owner's any more, or when it has no such revision.
    """
    values = {each.name: getattr(hold, each.name) for each in HOLD.c if each.name != "workflow_id"}
    literals = (sa.literal(value, HOLD.c[name].type) for name, value in values.items())
    put = upsert(HOLD).from_select(["workflow_id", *values], sa.select(LOCKED.c.id, *literals))
    put = put.on_conflict_do_update(
        index_elements=[HOLD.c.workflow_id], set_={name: put.excluded[name] for name in values}
    )
    details = {
        "id": str(seen.id),
        "rejectedHash": hold.rejected_hash,
        "target": hold.target,
        "reason": hold.reason,
        "automatic": hold.automatic,
        "aborted": hold.aborted,
    }
    deed = Deed(with_tenant(put.returning(HOLD.c.workflow_id).cte("put")), Action.HOLD_SET, details)
    await by_owner(conn, seen, ledger.done(deed), actor)


async def end_hold(conn: Connection, seen: Lineage, *, actor: str, reason: str = "") -> None:
    """Ends the rollback that is in force. Ledger: HoldEnded.

    Conflict when there is none any more, or when the lineage is not the owner's any more.
    """
    ended = (
        sa.delete(HOLD)
        .where(HOLD.c.workflow_id == LOCKED.c.id)
        .returning(LOCKED.c.tenant_id, HOLD.c.rejected_hash, HOLD.c.target)
        .cte("ended")
    )
    details = ledger.built(
        {"id": str(seen.id), "rejectedHash": ended.c.rejected_hash, "target": ended.c.target, "reason": reason}
    )
    await by_owner(conn, seen, ledger.done(Deed(ended, Action.HOLD_ENDED, details)), actor)


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


def revision_of(values: Sequence[Any], tags: Sequence[str] = ()) -> Revision:
    """The revision that `LIGHT` has brought."""
    number, content_hash, created_at, hash_version, flaw, message, parent, same = values[:8]
    note, user, source, generation, summary = values[8:13]
    first_active_at, last_active_at, rejected, denied, archived_at, approved, important = values[13:]
    return Revision(
        number=number,
        content_hash=content_hash,
        created_at=created_at,
        hash_version=hash_version,
        flaw=None if flaw is None else Flaw(flaw, message),
        parent_number=parent,
        same_content_as=same,
        change_note=note,
        author=None if user is None else Author(user, source),
        created_from_generation=generation,
        diff_summary=summary,
        first_active_at=first_active_at,
        last_active_at=last_active_at,
        rejected=rejected,
        denied=denied,
        approved=approved,
        important=important,
        archived_at=archived_at,
        tags=tuple(tags),
    )


def deployment_of(values: Sequence[Any]) -> Deployment:
    """The deployment that `DEPLOYED` has brought."""
    revision, from_revision, cause, actor, at, reason = values
    return Deployment(revision, from_revision, Cause(cause), actor, at, reason)


def conflict(owner: Owner) -> Exception:
    """No row matched what the caller has seen."""
    return ownership.changed_meanwhile(str(_key(owner)))


def _lineage(row: Row) -> Lineage:
    tags: dict[int, list[str]] = {}
    for tag, number in sorted((row.tags or {}).items()):
        tags.setdefault(number, []).append(tag)
    return replace(
        _bare(row),
        revisions=tuple(
            revision_of(_with_times(each, _MOMENTS), tags.get(each[0], ())) for each in row.revisions or ()
        ),
        deployments=tuple(deployment_of(_with_times(each, _DEPLOYED_AT)) for each in row.deployments or ()),
        hold=None if row.hold_workflow_id is None else _hold(row),
        canary=None if row.canary_workflow_id is None else _canary(row),
        reviews=tuple(_review(_with_times(each, _REVIEWED_AT)) for each in row.reviews or ()),
        checks=tuple(Check(*_with_times(each, _CHECKED_AT)) for each in row.checks or ()),
        running={int(number): runs for number, runs in (row.running or {}).items()},
        read_at=row.read_at,
    )


def _places(columns: Sequence[sa.Column[Any]]) -> tuple[int, ...]:
    return tuple(place for place, each in enumerate(columns) if isinstance(each.type, sa.DateTime))


_MOMENTS: Final = _places(LIGHT)
_DEPLOYED_AT: Final = _places(DEPLOYED)
_REVIEWED_AT: Final = _places(_REVIEWED)
_CHECKED_AT: Final = _places(_CHECKED)


def _with_times(values: list[Any], places: Sequence[int]) -> list[Any]:
    """JSON has no times; the session's are in UTC."""
    for place in places:
        if values[place] is not None:
            values[place] = datetime.fromisoformat(values[place])
    return values


def _bare(row: Row) -> Lineage:
    return Lineage(
        id=row.id,
        tenant_id=row.tenant_id,
        external_name=row.external_name,
        owner=ownership.of(row),
        deletion_policy=row.deletion_policy,
        suspended=row.suspended,
        settings=row.settings,
        latest_number=row.latest_revision,
        active_number=row.active_revision,
        deleted_at=row.deleted_at,
        checksum=row.checksum,
        watched_until=row.watched_until,
    )


def _review(values: Sequence[Any]) -> Review:
    number, actor, approves, at, groups = values
    return Review(number, actor, approves, at, tuple(groups))


def _canary(row: Row) -> Canary:
    return Canary(
        candidate=row.canary_candidate,
        stable=row.canary_stable,
        steps=row.canary_steps,
        step=row.canary_step,
        step_since=row.canary_step_since,
        weight=row.canary_weight,
        began=row.canary_began,
        measured_since=row.canary_measured_since,
        failed=row.canary_failed,
        paused=row.canary_paused,
        paused_since=row.canary_paused_since,
        sticky_key=row.canary_sticky_key,
    )


def _hold(row: Row) -> Hold:
    return Hold(
        rejected_hash=row.hold_rejected_hash,
        target=row.hold_target,
        actor=row.hold_actor,
        reason=row.hold_reason,
        since=row.hold_since,
        automatic=row.hold_automatic,
        request_id=row.hold_request_id,
        aborted=row.hold_aborted,
    )


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
    return sa.select(*_ROW).where(WORKFLOW.c.id == lineage_id, ownership.owned_by(WORKFLOW, owner), LIVING)


def _changing(lineage_id: UUID, owner: Owner, **values: Any) -> sa.CTE:
    return (
        sa.update(WORKFLOW)
        .where(WORKFLOW.c.id == lineage_id, ownership.owned_by(WORKFLOW, owner), LIVING)
        .values(**values, updated_at=sa.func.now())
        .returning(WORKFLOW.c.tenant_id)
        .cte("changed")
    )


def _key(owner: Owner) -> Key:
    return Key(WORKFLOWS.kind, owner.namespace, owner.name)


def _subject(owner: Owner, actor: str) -> dict[str, str]:
    return ledger.subject(_key(owner), owner.uid, actor)
