"""Which revision of a workflow is active, and which rollback holds it.

Guarded as all writes about a lineage (`store.workflows`): by its owner, and by the active revision that the caller has seen; if
that is not so any more, Conflict. Each brings its ledger entry in the same statement.
"""

from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert

from keep_operator.domain.history import Cause, Deployment, Hold, Lineage
from keep_operator.store import documents, ledger, workflows
from keep_operator.store.connection import Connection, prepared
from keep_operator.store.ledger import Action, Deed
from keep_operator.store.tables import DEPLOYMENT, HOLD, REVISION_STATE, WORKFLOW, WORKFLOW_REVISION
from keep_operator.store.workflows import DETAILS, LOCKED, OURS, with_tenant

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
    await workflows.by_owner(conn, seen, _ACTIVATE, actor, given)


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
    await workflows.by_owner(conn, seen, ledger.done(Deed(moved, Action.RECOVERED, details)), actor)
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
    await workflows.by_owner(conn, seen, ledger.done(Deed(skipped, Action.RECOVERED, details)), actor)


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
    await workflows.by_owner(conn, seen, ledger.done(deed), actor)


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
    await workflows.by_owner(conn, seen, ledger.done(Deed(ended, Action.HOLD_ENDED, details)), actor)
