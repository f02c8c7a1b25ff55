"""`diff`: what differs between two versions of a workflow, or between a draft and a version."""

from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from keep_operator.console import answers, asked, problems, room
from keep_operator.console.answers import Json
from keep_operator.console.asked import Draft, Place
from keep_operator.console.room import Room
from keep_operator.domain import difference, revision
from keep_operator.domain.grammar.faults import Fault
from keep_operator.domain.grammar.workflow import Judgement
from keep_operator.domain.history import Lineage, Revision
from keep_operator.resources.kinds import WORKFLOW_REVISIONS
from keep_operator.store import lineages, revisions

# Faults and warnings of a draft that are told.
_TOLD: Final = 100


async def of_versions(here: Room, request: Request) -> Response:
    """From the version ``before`` to the version ``after``."""
    given = room.parameters(request)
    where, context = asked.place(given), given.number("context")
    names = [given.must(side) for side in ("before", "after")]
    await here.admit_to(request, where, WORKFLOW_REVISIONS)
    async with here.look() as conn:
        lineage = await lineages.find(conn, (await here.line(conn, where)).id)
        assert lineage is not None  # rows of lineages are never removed
        first, second = (asked.resolved(lineage, name, where) for name in names)
        tag = answers.tag_of("diff", first.content_hash, second.content_hash, first.number, second.number, context)
        if answers.known(request, tag):
            return answers.not_modified(tag)
    told = await between(here, lineage, first, second, context)
    sides = {"before": _version(where, first), "after": _version(where, second)}
    return answers.answer(request, {"workflowId": str(lineage.id), **sides, **told}, tag)


async def of_draft(here: Room, request: Request) -> Response:
    """From the version ``before`` (the active one, if none is named) to the definition in the body."""
    given = room.parameters(request)
    where, context = asked.place(given), given.number("context")
    name = given.text("before") or "active"
    await here.admit_to(request, where, WORKFLOW_REVISIONS)
    body = await asked.draft(request)
    judged, draft, content_hash = await here.comparisons.aside(_read, body)
    async with here.look() as conn:
        lineage = await lineages.find(conn, (await here.line(conn, where)).id)
        assert lineage is not None
        first = asked.resolved(lineage, name, where)
        found = await revisions.definitions(conn, lineage.id, [first.number])
    told = await here.comparisons.aside(difference.told, found[first.number], draft, context=context)
    return answers.answer(
        request,
        {
            "workflowId": str(lineage.id),
            "before": _version(where, first),
            "after": {"name": "draft", "number": _number(lineage, content_hash), "contentHash": content_hash},
            "faults": [_fault(each) for each in judged.faults[:_TOLD]],
            "warnings": [_fault(each) for each in judged.warnings[:_TOLD]],
            **told,
        },
    )


def _read(body: Draft) -> tuple[Judgement, Mapping[str, Any], str]:
    """The draft, what is wrong with it, and its hash. Raises Problem 400."""
    judged = body.judged()
    assert judged.definition is not None  # `judged` raises before that
    try:
        return judged, judged.definition, revision.content_hash(judged.definition)
    except revision.Unhashable as error:
        raise problems.bad("DraftInvalid", f"The draft cannot be compared: {error}") from None


async def between(here: Room, lineage: Lineage, before: Revision, after: Revision, context: int) -> Json:
    """As `difference.told`, of two versions; what is kept of it is not read again. Raises Problem 503."""

    async def read() -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        async with here.look() as conn:
            found = await revisions.definitions(conn, lineage.id, {before.number, after.number})
        return found[before.number], found[after.number]

    return await here.comparisons.between(before.content_hash, after.content_hash, context, read)


def _version(where: Place, each: Revision) -> Json:
    return {"name": f"{where.name} {each}", "number": each.number, "contentHash": each.content_hash}


def _number(lineage: Lineage, content_hash: str) -> int | None:
    """The newest version that is as the draft."""
    same = lineage.with_content(content_hash)
    return same[-1].number if same else None


def _fault(fault: Fault) -> Json:
    return {"reason": str(fault.reason), "path": fault.path, "line": fault.line, "message": fault.message}
