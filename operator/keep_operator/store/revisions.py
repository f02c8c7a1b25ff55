"""The revisions of a lineage: contents that are made once, and what may change of them.

::

    latest_revision 2 ── insert(3) ──▶ 3       the row of the lineage counts: of two who have seen 2, one makes 3,
          │                                    the other gets Conflict and looks again
          ▼
    workflow_revision (content: never changed)  ──  revision_state (rejected, archived), revision_tag

Each write names the owner that the caller has seen, and brings its ledger entry in the same statement; see `workflows`.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSON
from sqlalchemy.dialects.postgresql import insert as upsert

from keep_operator.domain import revision as revision_rules
from keep_operator.domain.history import Lineage, Revision
from keep_operator.resources.kinds import WORKFLOW_REVISIONS, Key
from keep_operator.store import documents, ledger, workflows
from keep_operator.store.connection import Connection, Prepared, Row, prepared
from keep_operator.store.ledger import Action, Deed
from keep_operator.store.tables import LEDGER, REVISION_STATE, REVISION_TAG, WORKFLOW, WORKFLOW_REVISION
from keep_operator.store.workflows import LOCKED, OURS, with_tenant

# Contents that are read at once by who reads all; each has up to 200 KiB.
_PAGE: Final = 50

# What the caller says of a new revision; the number, and which older one has the same content, are found here.
_GIVEN: Final = (
    WORKFLOW_REVISION.c.content_hash,
    WORKFLOW_REVISION.c.hash_version,
    WORKFLOW_REVISION.c.flaw_reason,
    WORKFLOW_REVISION.c.flaw_message,
    WORKFLOW_REVISION.c.parent_number,
    WORKFLOW_REVISION.c.change_note,
    WORKFLOW_REVISION.c.author_username,
    WORKFLOW_REVISION.c.author_source,
    WORKFLOW_REVISION.c.created_from_generation,
    WORKFLOW_REVISION.c.diff_summary,
)


def _inserting(counted: sa.CTE, number: sa.ColumnElement[int], action: Action) -> sa.Executable:
    """The revision of the lineage that ``counted`` has locked, with its state, tags and ledger entry."""
    same = (
        sa.select(sa.func.min(WORKFLOW_REVISION.c.number))
        .where(
            WORKFLOW_REVISION.c.workflow_id == counted.c.id,
            WORKFLOW_REVISION.c.number < number,
            WORKFLOW_REVISION.c.content_hash == sa.bindparam("new_content_hash"),
            WORKFLOW_REVISION.c.hash_version == sa.bindparam("new_hash_version"),
        )
        .correlate(counted)
        .scalar_subquery()
    )
    values = {
        "workflow_id": counted.c.id,
        "number": number,
        "definition": sa.cast(sa.bindparam("new_definition", type_=sa.Text), JSON),
        "same_content_as": same,
        "created_at": sa.func.coalesce(sa.bindparam("new_created_at", type_=sa.DateTime(timezone=True)), sa.func.now()),
        **{each.name: sa.bindparam(f"new_{each.name}", type_=each.type) for each in _GIVEN},
    }
    made = (
        sa.insert(WORKFLOW_REVISION)
        .from_select([*values], sa.select(*values.values()))
        .returning(
            WORKFLOW_REVISION.c.workflow_id,
            WORKFLOW_REVISION.c.number,
            WORKFLOW_REVISION.c.content_hash,
            WORKFLOW_REVISION.c.same_content_as,
        )
        .cte("made")
    )
    state = (
        sa.insert(REVISION_STATE)
        .from_select(
            ["workflow_id", "number", "important"],
            sa.select(made.c.workflow_id, made.c.number, sa.bindparam("new_important", type_=sa.Boolean)),
        )
        .cte("state")
    )
    tags = sa.func.unnest(sa.bindparam("new_tags", type_=ARRAY(sa.Text))).column_valued("tag")
    tagged = (
        upsert(REVISION_TAG)
        .from_select(["workflow_id", "number", "tag"], sa.select(made.c.workflow_id, made.c.number, tags))
        .on_conflict_do_nothing()
        .returning(REVISION_TAG.c.tag)
        .cte("tagged")
    )
    told = sa.select(counted.c.tenant_id, *made.c).join(made, made.c.workflow_id == counted.c.id).cte("told")
    details = ledger.built(
        {
            "id": told.c.workflow_id,
            "number": told.c.number,
            "contentHash": told.c.content_hash,
            "sameContentAs": told.c.same_content_as,
            "flaw": sa.bindparam("new_flaw_reason", type_=sa.Text),
            "tags": sa.select(sa.func.json_agg(tagged.c.tag)).scalar_subquery(),
        }
    )
    return ledger.done(Deed(told, action, details)).add_cte(state)


_NUMBER: Final = sa.bindparam("number", type_=sa.Integer)
_COUNTED: Final = (
    sa.update(WORKFLOW)
    .where(OURS, WORKFLOW.c.latest_revision == _NUMBER - 1)
    .values(latest_revision=_NUMBER, updated_at=sa.func.now())
    .returning(WORKFLOW.c.id, WORKFLOW.c.tenant_id)
    .cte("counted")
)
_INSERT: Final = prepared(_inserting(_COUNTED, _NUMBER, Action.CREATED))
_RECOUNTED: Final = (
    sa.update(WORKFLOW)
    .where(OURS)
    .values(latest_revision=sa.func.greatest(WORKFLOW.c.latest_revision, _NUMBER), updated_at=sa.func.now())
    .returning(WORKFLOW.c.id, WORKFLOW.c.tenant_id)
    .cte("counted")
)
_RECOVER: Final = prepared(_inserting(_RECOUNTED, _NUMBER, Action.RECOVERED))

_DEFINITIONS: Final = prepared(
    sa.select(WORKFLOW_REVISION.c.number, WORKFLOW_REVISION.c.definition).where(
        WORKFLOW_REVISION.c.workflow_id == sa.bindparam("lineage"),
        WORKFLOW_REVISION.c.number == sa.func.any(sa.bindparam("numbers", type_=ARRAY(sa.Integer))),
    )
)


async def definitions(conn: Connection, lineage_id: UUID, numbers: Collection[int]) -> dict[int, Mapping[str, Any]]:
    """The contents of these revisions by number, archived ones too; what there is not is not among them."""
    found = await conn.execute(_DEFINITIONS, {"lineage": lineage_id, "numbers": sorted(numbers)})
    return {row.number: row.definition for row in found}


async def changed(conn: Connection, tenant_id: str | None = None) -> list[str]:
    """The versions, of one tenant or of all, whose content is not the one that was recorded: lineage and number.

    A content must have its hash, and an entry of the ledger must tell of that hash. Reads every content, page by page; needs
    `engine.snapshot`.
    """
    place = sa.tuple_(WORKFLOW_REVISION.c.workflow_id, WORKFLOW_REVISION.c.number)
    id_, number = LEDGER.c.details.op("->>")("id"), LEDGER.c.details.op("->>")("number")
    told = sa.exists().where(
        LEDGER.c.kind == WORKFLOW_REVISIONS.kind,
        LEDGER.c.action.in_((Action.CREATED.value, Action.RECOVERED.value)),
        id_ == sa.cast(WORKFLOW_REVISION.c.workflow_id, sa.Text),
        number == sa.cast(WORKFLOW_REVISION.c.number, sa.Text),
        LEDGER.c.details.op("->>")("contentHash") == WORKFLOW_REVISION.c.content_hash,
    )
    question = sa.select(WORKFLOW_REVISION, told.label("told")).order_by(*place).limit(_PAGE)
    if tenant_id is not None:
        question = question.join(WORKFLOW, WORKFLOW.c.id == WORKFLOW_REVISION.c.workflow_id)
        question = question.where(WORKFLOW.c.tenant_id == tenant_id)
    found: list[str] = []
    rows = (await conn.execute(question)).all()
    while rows:
        found += [f"{row.workflow_id} v{row.number}" for row in rows if not (row.told and _has_its_hash(row))]
        after = sa.tuple_(sa.literal(rows[-1].workflow_id), sa.literal(rows[-1].number))
        rows = (await conn.execute(question.where(place > after))).all()
    return found


def _has_its_hash(row: Row) -> bool:
    try:
        return bool(revision_rules.content_hash(row.definition, row.hash_version) == row.content_hash)
    except (revision_rules.Unhashable, KeyError):
        return False


async def insert(
    conn: Connection, seen: Lineage, revision: Revision, definition: Mapping[str, Any], *, name: str, actor: str
) -> None:
    """Makes the revision ``revision.number``, which must follow the latest one; ``name`` is that of its object.

    ``same_content_as`` is found here, the first revision of the lineage with the same hash, and ``created_at`` is now. It
    gets those of its tags that point to no other one (A-TAG-1). Ledger: Created. Conflict when the latest number is not the
    one before any more, or the lineage not the owner's: nothing is left out, and nothing made twice. Refused when the
    definition cannot be stored.
    """
    await _insert(conn, _INSERT, seen, revision, definition, name=name, actor=actor)


async def recover(
    conn: Connection, seen: Lineage, revision: Revision, definition: Mapping[str, Any], *, name: str, actor: str
) -> None:
    """Makes a revision again that an older dump does not have, under its own number; numbering goes on above (A-REV-13).

    ``created_at`` stays. Ledger: Recovered. Conflict when the number is there, or the lineage is not the owner's.
    """
    await _insert(conn, _RECOVER, seen, revision, definition, name=name, actor=actor)


async def _insert(
    conn: Connection,
    how: Prepared,
    seen: Lineage,
    revision: Revision,
    definition: Mapping[str, Any],
    *,
    name: str,
    actor: str,
) -> None:
    flaw, author = revision.flaw, revision.author
    given = {
        "number": revision.number,
        "new_content_hash": revision.content_hash,
        "new_hash_version": revision.hash_version,
        "new_definition": documents.text(definition),
        "new_flaw_reason": flaw.reason if flaw else None,
        "new_flaw_message": flaw.message if flaw else None,
        "new_parent_number": revision.parent_number,
        "new_change_note": revision.change_note,
        "new_author_username": author.username if author else None,
        "new_author_source": author.source if author else None,
        "new_created_from_generation": revision.created_from_generation,
        "new_diff_summary": revision.diff_summary,
        "new_created_at": revision.created_at if how is _RECOVER else None,
        "new_tags": list(revision.tags),
        "new_important": revision.important,
    }
    await workflows.by_owner(conn, seen, how, actor, given | _subject(seen, name, actor))


async def recall(
    conn: Connection,
    seen: Lineage,
    number: int,
    *,
    first_active_at: datetime | None,
    last_active_at: datetime | None,
    name: str,
    actor: str,
) -> None:
    """Notes again when a revision was active, where an older dump does not know it; None: as it is (A-REV-13).

    Ledger: Recovered. Conflict when there is no such revision, or the lineage is not the owner's any more.
    """
    state = REVISION_STATE.c
    recalled = (
        sa.update(REVISION_STATE)
        .where(state.workflow_id == LOCKED.c.id, state.number == number)
        .values(
            first_active_at=sa.func.coalesce(
                sa.literal(first_active_at, state.first_active_at.type), state.first_active_at
            ),
            last_active_at=sa.func.coalesce(
                sa.literal(last_active_at, state.last_active_at.type), state.last_active_at
            ),
        )
        .returning(LOCKED.c.tenant_id)
        .cte("recalled")
    )
    told = {"firstActiveAt": first_active_at, "lastActiveAt": last_active_at}
    details = {"id": str(seen.id), "number": number} | {key: str(at) for key, at in told.items() if at is not None}
    statement = ledger.done(Deed(recalled, Action.RECOVERED, details))
    await workflows.by_owner(conn, seen, statement, actor, _subject(seen, name, actor))


async def archive(conn: Connection, seen: Lineage, names: Mapping[int, str], *, actor: str) -> int:
    """Notes that the objects of these revisions go, by number and name; how many were not archived before.

    Their contents stay, and whichever becomes active has an object again. Ledger: Archived for each.
    """
    asked = (
        sa.func.unnest(sa.literal(list(names), ARRAY(sa.Integer)), sa.literal(list(names.values()), ARRAY(sa.Text)))
        .table_valued(sa.column("number", sa.Integer), sa.column("name", sa.Text))
        .render_derived("asked")
    )
    archived = (
        sa.update(REVISION_STATE)
        .where(
            REVISION_STATE.c.workflow_id == LOCKED.c.id,
            REVISION_STATE.c.number == asked.c.number,
            REVISION_STATE.c.archived_at.is_(None),
        )
        .values(archived_at=sa.func.now())
        .returning(LOCKED.c.tenant_id, REVISION_STATE.c.number, asked.c.name)
        .cte("archived")
    )
    deed = Deed(
        archived,
        Action.ARCHIVED,
        ledger.built({"id": str(seen.id), "number": archived.c.number}),
        archived.c.name,
    )
    done = await conn.execute(ledger.done(deed), workflows.guard(seen) | _subject(seen, "", actor))
    return len(done.all())


async def reject(conn: Connection, seen: Lineage, number: int, *, verdict: str, actor: str, reason: str = "") -> None:
    """Says that the content of this revision shall not run, for ``verdict``, a reason of condition ``Rejected``.

    Ledger: Rejected. Conflict where that was said already, or the lineage is not the owner's any more.
    """
    rejected = (
        sa.update(REVISION_STATE)
        .where(
            REVISION_STATE.c.workflow_id == LOCKED.c.id,
            REVISION_STATE.c.number == number,
            REVISION_STATE.c.rejected_reason.is_(None),
        )
        .values(rejected_reason=verdict)
        .returning(LOCKED.c.tenant_id)
        .cte("rejected")
    )
    details = {"id": str(seen.id), "number": number, "verdict": verdict, "reason": reason}
    await workflows.by_owner(conn, seen, ledger.done(Deed(rejected, Action.REJECTED, details)), actor)


async def clear_rejection(conn: Connection, seen: Lineage, content_hash: str, *, actor: str, reason: str = "") -> None:
    """Says that this content may run again, under whichever of its numbers it was rejected.

    Ledger: RejectionCleared. Conflict where it was not rejected, or the lineage is not the owner's any more.
    """
    alike = sa.select(WORKFLOW_REVISION.c.number).where(
        WORKFLOW_REVISION.c.workflow_id == seen.id, WORKFLOW_REVISION.c.content_hash == content_hash
    )
    cleared = (
        sa.update(REVISION_STATE)
        .where(
            REVISION_STATE.c.workflow_id == LOCKED.c.id,
            REVISION_STATE.c.number.in_(alike),
            REVISION_STATE.c.rejected_reason.is_not(None),
        )
        .values(rejected_reason=None)
        .returning(LOCKED.c.tenant_id)
        .cte("cleared")
    )
    once = sa.select(cleared.c.tenant_id).distinct().cte("once")
    details = {"id": str(seen.id), "contentHash": content_hash, "reason": reason}
    await workflows.by_owner(conn, seen, ledger.done(Deed(once, Action.REJECTION_CLEARED, details)), actor)


async def tag(conn: Connection, seen: Lineage, number: int, tag: str, *, actor: str, reason: str = "") -> None:
    """Makes the tag point to this revision, whatever it has pointed to. Ledger: Tagged (from, to).

    Conflict where it points there already, where there is no such revision, or the lineage is not the owner's any more.
    """
    before = (
        sa.select(REVISION_TAG.c.number)
        .where(REVISION_TAG.c.workflow_id == seen.id, REVISION_TAG.c.tag == tag)
        .scalar_subquery()
    )
    put = upsert(REVISION_TAG).from_select(
        ["workflow_id", "tag", "number"],
        sa.select(LOCKED.c.id, sa.literal(tag, sa.Text), sa.literal(number, sa.Integer)),
    )
    put = put.on_conflict_do_update(
        index_elements=[REVISION_TAG.c.workflow_id, REVISION_TAG.c.tag],
        set_={"number": put.excluded.number},
        where=REVISION_TAG.c.number != put.excluded.number,
    )
    done = with_tenant(put.returning(REVISION_TAG.c.workflow_id).cte("put"))
    details = ledger.built({"id": str(seen.id), "tag": tag, "from": before, "to": number, "reason": reason})
    await workflows.by_owner(conn, seen, ledger.done(Deed(done, Action.TAGGED, details)), actor)


async def untag(conn: Connection, seen: Lineage, tag: str, *, actor: str, reason: str = "") -> None:
    """Removes the tag. Ledger: Untagged (from). Conflict where there is none, or the lineage is not the owner's any more."""
    removed = (
        sa.delete(REVISION_TAG)
        .where(REVISION_TAG.c.workflow_id == LOCKED.c.id, REVISION_TAG.c.tag == tag)
        .returning(LOCKED.c.tenant_id, REVISION_TAG.c.number)
        .cte("removed")
    )
    details = ledger.built({"id": str(seen.id), "tag": tag, "from": removed.c.number, "reason": reason})
    await workflows.by_owner(conn, seen, ledger.done(Deed(removed, Action.UNTAGGED, details)), actor)


def _subject(seen: Lineage, name: str, actor: str) -> dict[str, str]:
    return ledger.subject(Key(WORKFLOW_REVISIONS.kind, workflows.owner_of(seen).namespace, name), "", actor)
