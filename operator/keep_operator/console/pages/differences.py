"""What differs between two versions, for the pages: by meaning, and as text."""

from typing import Any, Final

from keep_operator.console import differences
from keep_operator.console.asked import Draft
from keep_operator.console.pages.place import Subject
from keep_operator.console.pages.visit import Visit
from keep_operator.domain import difference
from keep_operator.domain.history import Revision
from keep_operator.store import revisions

# Faults of a draft that are told.
_FAULTS: Final = 50


async def shown(visit: Visit, about: Subject, before: Revision, after: Revision, context: int = 3) -> dict[str, Any]:
    """``changes`` by meaning and ``unified`` text, as the API tells them, with the names of both sides."""
    told = await differences.between(visit.here, about.lineage, before, after, context)
    return {**told, "before": before, "after": after}


async def with_draft(visit: Visit, about: Subject, before: Revision, draft: Draft) -> dict[str, Any]:
    """The same from a version to a draft, with the ``faults`` of that. Raises Problem 400 where it is none."""
    async with visit.here.look() as conn:
        found = await revisions.definitions(conn, about.lineage.id, {before.number})
    judged = await visit.here.comparisons.aside(draft.judged)
    assert judged.definition is not None  # `judged` raises before that
    told = await visit.here.comparisons.aside(difference.told, found[before.number], judged.definition)
    faults = [{"path": each.path, "message": each.message} for each in judged.faults[:_FAULTS]]
    return {**told, "before": before, "after": "the draft", "faults": faults}
