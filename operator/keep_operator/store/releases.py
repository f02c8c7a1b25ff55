"""What becomes of revisions on their way to being active: reviews, the checklist, the canary, and how their runs did.

::

    review ── every word of a person; approve, deny ── what follows from them, for good
    canary ── one row while it is under way; whoever makes runs reads the weight there (A-CAN-8)
    count  ── runs of a revision that ended, as an analysis asks for them (A-CAN-4)

Each write names the owner that the caller has seen, and brings its ledger entry in the same statement; see `workflows`. A
canary is moved or ended only where it is still as the caller has seen it: who was slower gets Conflict.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert

from keep_operator.domain.canary import Question, Stats
from keep_operator.domain.effects import CheckItem, Review
from keep_operator.domain.history import Canary, Lineage
from keep_operator.store import deployments, ledger, workflows
from keep_operator.store.connection import Connection, Prepared
from keep_operator.store.ledger import Action, Deed
from keep_operator.store.tables import CANARY, CHECKLIST_RESULT, REVIEW, REVISION_STATE, WORKFLOW
from keep_operator.store.workflows import LOCKED, OURS, with_tenant

# Ids begin with the time at which their run was asked for, by the clock of who asked: an hour is more than clocks differ.
_COUNT: Final = Prepared(
    """
    SELECT asked.name, count(run.id) AS runs, count(run.id) FILTER (WHERE run.state <> 'Succeeded') AS failures,
        percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM run.completed_at - run.started_at)) AS p95_s
    FROM unnest(%(names)s::text[], %(numbers)s::int[], %(modes)s::text[], %(since)s::timestamptz[], %(until)s::timestamptz[])
        AS asked(name, number, mode, since, until)
    LEFT JOIN keep_operator.run ON run.workflow_id = %(workflow_id)s AND run.revision = asked.number
        AND run.id >= (lpad(to_hex((extract(epoch FROM asked.since - interval '1 hour') * 1000)::bigint), 12, '0')
            || repeat('0', 20))::uuid
        AND run.mode = asked.mode AND run.queued_at >= asked.since AND (asked.until IS NULL OR run.queued_at < asked.until)
        AND run.state IN ('Succeeded', 'Failed', 'TimedOut')
    GROUP BY asked.name
    """,
    {},
)


async def count(conn: Connection, lineage: Lineage, asked: Mapping[str, Question]) -> dict[str, Stats]:
    """The answers by the names of the questions; runs that were cancelled or have not ended are not counted."""
    if not asked:
        return {}
    questions = list(asked.values())
    given = {
        "workflow_id": lineage.id,
        "names": list(asked),
        "numbers": [each.number for each in questions],
        "modes": [each.mode for each in questions],
        "since": [each.since for each in questions],
        "until": [each.until for each in questions],
    }
    return {
        row.name: Stats(row.runs, row.failures, None if row.p95_s is None else float(row.p95_s))
        for row in await conn.execute(_COUNT, given)
    }


async def set_canary(conn: Connection, seen: Lineage, canary: Canary, *, actor: str, reason: str = "") -> None:
    """Begins the canary, in place of one that is, or takes it where it shall be. Ledger: CanaryStarted, or CanaryMoved.

    Conflict when it is not as it was seen any more, when another revision is active than the stable one, when the candidate's
    content has been rejected or denied meanwhile, or the lineage is not the owner's any more.
    """
    known = seen.canary
    values = {each.name: getattr(canary, each.name) for each in CANARY.c if each.name != "workflow_id"}
    literals = (sa.literal(value, CANARY.c[name].type) for name, value in values.items())
    allowed = (
        sa.select(LOCKED.c.id, *literals)
        .select_from(sa.join(LOCKED, WORKFLOW, WORKFLOW.c.id == LOCKED.c.id))
        .where(WORKFLOW.c.active_revision == canary.stable, ~deployments.barred(sa.literal(canary.candidate)))
    )
    put: sa.Insert | sa.Update
    if known is None:
        put = upsert(CANARY).from_select(["workflow_id", *values], allowed).on_conflict_do_nothing()
    else:
        may = allowed.cte("may")
        put = sa.update(CANARY).where(CANARY.c.workflow_id == may.c.id, _as_seen(known)).values(**values)
    begins = known is None or known.began != canary.began
    details = {
        "id": str(seen.id),
        "candidate": canary.candidate,
        "stable": canary.stable,
        "step": canary.step,
        "weight": canary.weight,
        "paused": canary.paused,
        "failedMeasurements": canary.failed,
        "reason": reason,
    }
    action = Action.CANARY_STARTED if begins else Action.CANARY_MOVED
    done = with_tenant(put.returning(CANARY.c.workflow_id).cte("put"))
    await workflows.by_owner(conn, seen, ledger.done(Deed(done, action, details)), actor)


async def end_canary(conn: Connection, seen: Lineage, outcome: str, *, actor: str, reason: str = "") -> None:
    """No run is given to the candidate from now on, as one. Ledger: CanaryEnded.

    Conflict when there is none, or not this one, or the lineage is not the owner's any more.
    """
    assert seen.canary is not None
    ended = (
        sa.delete(CANARY)
        .where(CANARY.c.workflow_id == LOCKED.c.id, _as_seen(seen.canary))
        .returning(LOCKED.c.tenant_id, CANARY.c.candidate, CANARY.c.stable, CANARY.c.step, CANARY.c.weight)
        .cte("ended")
    )
    told = {name: ended.c[name] for name in ("candidate", "stable", "step", "weight")}
    details = ledger.built({"id": str(seen.id), **told, "outcome": outcome, "reason": reason})
    await workflows.by_owner(conn, seen, ledger.done(Deed(ended, Action.CANARY_ENDED, details)), actor)


def _as_seen(known: Canary) -> sa.ColumnElement[bool]:
    return sa.and_(
        CANARY.c.candidate == known.candidate,
        CANARY.c.began == known.began,
        CANARY.c.step == known.step,
        CANARY.c.measured_since == known.measured_since,
        CANARY.c.paused.is_not_distinct_from(known.paused),
    )


async def review(conn: Connection, seen: Lineage, said: Review, *, actor: str, reason: str = "") -> None:
    """Notes what a person thinks of a revision, in place of what he said before. Ledger: Reviewed."""
    row = {"number": said.number, "actor": said.actor, "approves": said.approves, "groups": list(said.groups)}
    literals = (sa.literal(value, REVIEW.c[name].type) for name, value in row.items())
    put = upsert(REVIEW).from_select(["workflow_id", *row], sa.select(LOCKED.c.id, *literals))
    put = put.on_conflict_do_update(
        index_elements=[REVIEW.c.workflow_id, REVIEW.c.number, REVIEW.c.actor],
        set_={"approves": put.excluded.approves, "groups": put.excluded.groups, "at": sa.func.now()},
    )
    word = "Approve" if said.approves else "Deny"
    details = {"id": str(seen.id), "number": said.number, "by": said.actor, "decision": word, "reason": reason}
    done = with_tenant(put.returning(REVIEW.c.workflow_id).cte("put"))
    await workflows.by_owner(conn, seen, ledger.done(Deed(done, Action.REVIEWED, details)), actor)


async def approve(conn: Connection, seen: Lineage, number: int, verdict: str, *, actor: str, reason: str = "") -> None:
    """The revision is approved for good. Ledger: Approved. Conflict where it is already, or was denied."""
    details = {"id": str(seen.id), "number": number, "verdict": verdict, "reason": reason}
    said = _said(number, {"approved_reason": verdict})
    await workflows.by_owner(conn, seen, ledger.done(Deed(said, Action.APPROVED, details)), actor)


async def deny(conn: Connection, seen: Lineage, number: int, verdict: str, *, actor: str, reason: str = "") -> None:
    """The revision is denied for good. Ledger: Denied. Conflict where it is already, or was approved."""
    details = {"id": str(seen.id), "number": number, "verdict": verdict, "reason": reason}
    said = _said(number, {"denied_reason": verdict})
    await workflows.by_owner(conn, seen, ledger.done(Deed(said, Action.DENIED, details)), actor)


def _said(number: int, verdict: dict[str, str]) -> sa.CTE:
    state = REVISION_STATE.c
    return (
        sa.update(REVISION_STATE)
        .where(
            state.workflow_id == LOCKED.c.id,
            state.number == number,
            state.approved_reason.is_(None),
            state.denied_reason.is_(None),
        )
        .values(**verdict)
        .returning(LOCKED.c.tenant_id)
        .cte("said")
    )


async def check(conn: Connection, seen: Lineage, item: CheckItem, *, actor: str) -> None:
    """Notes how an item of the checklist stands for a revision. Ledger: ItemChecked."""
    row = {"number": item.number, "item": item.item, "done": item.done, "by": item.by, "message": item.message}
    literals = (sa.literal(value, CHECKLIST_RESULT.c[name].type) for name, value in row.items())
    put = upsert(CHECKLIST_RESULT).from_select(["workflow_id", *row], sa.select(LOCKED.c.id, *literals))
    keys = [CHECKLIST_RESULT.c[name] for name in ("workflow_id", "number", "item")]
    put = put.on_conflict_do_update(
        index_elements=keys,
        set_={**{name: put.excluded[name] for name in ("done", "by", "message")}, "at": sa.func.now()},
    )
    done = with_tenant(put.returning(CHECKLIST_RESULT.c.workflow_id).cte("put"))
    details = {"id": str(seen.id), **row}
    await workflows.by_owner(conn, seen, ledger.done(Deed(done, Action.ITEM_CHECKED, details)), actor)


async def watch(conn: Connection, seen: Lineage, until: datetime) -> None:
    """Has the operator told of each run that ends, until then. It is no fact of the history, so no entry tells of it."""
    moved = sa.update(WORKFLOW).where(OURS).values(watched_until=until).returning(WORKFLOW.c.id)
    if (await conn.execute(moved, workflows.guard(seen))).first() is None:
        raise workflows.conflict(workflows.owner_of(seen))
