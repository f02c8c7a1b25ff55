"""Lineages as the database has them: a workflow's row, its revisions without their contents, what was deployed, and what is said.

One statement brings all that a reconcile judges by. Everything here reads, and is content with `engine.look`.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by

from keep_operator.domain.collection import Lost
from keep_operator.domain.history import Author, Canary, Cause, Check, Deployment, Flaw, Hold, Lineage, Review, Revision
from keep_operator.resources.kinds import WORKFLOWS
from keep_operator.store import ownership
from keep_operator.store.connection import Connection, Row, prepared
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

ROW: Final = (
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
    *ROW,
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
    asked = sa.select(*ROW).where(LIVING).order_by(WORKFLOW.c.tenant_id, WORKFLOW.c.external_name)
    if tenant_id is not None:
        asked = asked.where(WORKFLOW.c.living_tenant_id == tenant_id)
    return [bare(row) for row in await conn.execute(asked)]


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
    missed = sa.select(*ROW).where(ownership.unseen(WORKFLOW, cluster_id, uids), LIVING)
    if namespaces is not None:
        missed = missed.where(WORKFLOW.c.owner_namespace.in_(namespaces))
    return [
        Lost(WORKFLOWS.kind, str(row.id), row.tenant_id, "", row.external_name, owner, row.deletion_policy)
        for row in await conn.execute(missed)
        if (owner := ownership.of(row)) is not None
    ]


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


def _lineage(row: Row) -> Lineage:
    tags: dict[int, list[str]] = {}
    for tag, number in sorted((row.tags or {}).items()):
        tags.setdefault(number, []).append(tag)
    return replace(
        bare(row),
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


def bare(row: Row) -> Lineage:
    """The lineage that `ROW` has brought, without its history."""
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
