"""Decisions that were handled, by their request id: each once, and remembered for ever (A-AP-6).

`handle` goes first in the transaction that carries a decision out. Of two who handle the same one at the same moment the
second fails with Conflict, and what it has done with it; when it looks again, it finds what the first has said.
"""

from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from keep_operator.domain.history import Lineage
from keep_operator.domain.verdict import Handled
from keep_operator.resources.kinds import Key
from keep_operator.store import documents, ledger, workflows
from keep_operator.store.connection import Connection, Prepared, prepared
from keep_operator.store.ledger import Action, Deed
from keep_operator.store.tables import HANDLED_DECISION, LEDGER, WORKFLOW
from keep_operator.store.workflows import DETAILS, LOCKED

# Also what was decided about a workflow that was in the same place before, and was deleted.
_IN_THIS_PLACE: Final = sa.and_(
    *(WORKFLOW.c[f"owner_{part}"] == sa.bindparam(part) for part in ("cluster", "namespace", "name"))
)
_FIND: Final = prepared(
    sa.select(HANDLED_DECISION, LEDGER.c.uid)
    .join(WORKFLOW, WORKFLOW.c.id == HANDLED_DECISION.c.workflow_id)
    .outerjoin(LEDGER, LEDGER.c.id == HANDLED_DECISION.c.ledger_id)
    .where(
        HANDLED_DECISION.c.request_id == sa.bindparam("request_id"),
        sa.or_(WORKFLOW.c.id == sa.bindparam("lineage"), _IN_THIS_PLACE),
    )
    .order_by(HANDLED_DECISION.c.ledger_id.desc())
    .limit(1)
)


_SAID: Final[dict[str, sa.types.TypeEngine[Any]]] = {
    "request_id": sa.Text(),
    "action": sa.Text(),
    "outcome": sa.Text(),
    "message": sa.Text(),
    "from_revision": sa.Integer(),
    "to_revision": sa.Integer(),
    "at": sa.DateTime(timezone=True),
}


def _handling(action: Action) -> sa.Executable:
    entry = ledger.done(Deed(LOCKED, action, DETAILS)).cte("entry")
    said = (sa.bindparam(f"said_{name}", type_=kind) for name, kind in _SAID.items())
    return (
        sa.insert(HANDLED_DECISION)
        .from_select(
            ["workflow_id", "ledger_id", *_SAID],
            sa.select(LOCKED.c.id, entry.c.id, *said).select_from(sa.join(LOCKED, entry, sa.true())),
        )
        .returning(HANDLED_DECISION.c.ledger_id)
    )


_HANDLE: Final = prepared(_handling(Action.HANDLED))
_RECOVER: Final = prepared(_handling(Action.RECOVERED))
_NOTE: Final = prepared(ledger.done(Deed(LOCKED, Action.NOTED, DETAILS)))


async def find(conn: Connection, seen: Lineage, request_id: str) -> Handled | None:
    """What became of the decision of this id; None: it was not handled.

    Also where it was about a workflow that the same place had before: whoever deletes a workflow and makes it again does not
    want old decisions to be carried out on the new one, which come back from Git or a backup with it.
    """
    owner = workflows.owner_of(seen)
    place = {"cluster": owner.cluster_id, "namespace": owner.namespace, "name": owner.name}
    row = (await conn.execute(_FIND, {"lineage": seen.id, "request_id": request_id, **place})).one_or_none()
    if row is None:
        return None
    return Handled(
        request_id=row.request_id,
        action=row.action,
        outcome=row.outcome,
        message=row.message,
        at=row.at,
        ledger_id=str(row.ledger_id),
        from_number=row.from_revision,
        to_number=row.to_revision,
        uid=row.uid,
    )


async def handled(conn: Connection, lineage_id: UUID) -> set[str]:
    """The ids of all requests that were handled of a lineage."""
    asked = sa.select(HANDLED_DECISION.c.request_id).where(HANDLED_DECISION.c.workflow_id == lineage_id)
    return set((await conn.execute(asked)).scalars())


async def handle(  # noqa: PLR0913 - all that is said of it
    conn: Connection,
    seen: Lineage,
    decision: Key,
    uid: str,
    handled: Handled,
    *,
    actor: str,
    reason: str = "",
    on_behalf_of: str | None = None,
    verified: bool = True,
) -> str:
    """Notes that the decision, an object of this name and uid, is handled; the id of its ledger entry.

    Ledger: Handled, with the decision's ``reason``, whom the actor claims to act for, and whether it is proven that he is who
    decided. Conflict when it was handled before, or the lineage is not the owner's any more; it is locked from here on.
    """
    subject = ledger.subject(decision, uid, actor)
    claims: dict[str, Any] = {} if on_behalf_of is None else {"onBehalfOf": on_behalf_of}
    claims |= {} if verified else {"verified": False}
    return await _handle(conn, _HANDLE, seen, handled, {"reason": reason, **claims}, subject)


async def recover(conn: Connection, seen: Lineage, decision: Key, uid: str, handled: Handled, *, actor: str) -> str:
    """Notes again what an older dump does not know: that the decision was handled. Nothing is carried out (A-REV-13).

    Ledger: Recovered. Conflict as `handle`.
    """
    return await _handle(conn, _RECOVER, seen, handled, {}, ledger.subject(decision, uid, actor))


async def _handle(
    conn: Connection, how: Prepared, seen: Lineage, handled: Handled, more: dict[str, Any], subject: dict[str, str]
) -> str:
    details = {
        "id": str(seen.id),
        "requestId": handled.request_id,
        "action": handled.action,
        "outcome": handled.outcome,
        "message": handled.message,
        "from": handled.from_number,
        "to": handled.to_number,
        **more,
    }
    given = {
        "said_request_id": handled.request_id,
        "said_action": handled.action,
        "said_outcome": handled.outcome,
        "said_message": handled.message,
        "said_from_revision": handled.from_number,
        "said_to_revision": handled.to_number,
        "said_at": handled.at,
        "details": documents.text(details),
    }
    done = await workflows.by_owner(conn, seen, how, subject["actor"], given | subject)
    return str(done.scalar_one())


async def note(conn: Connection, seen: Lineage, number: int | None, text: str, *, actor: str) -> None:
    """Adds what somebody has to say about a revision, or None: about the workflow. Ledger: Noted (A-NOTE-1)."""
    details = documents.text({"id": str(seen.id), "number": number, "reason": text})
    await workflows.by_owner(conn, seen, _NOTE, actor, {"details": details})
