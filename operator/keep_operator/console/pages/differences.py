"""What differs between two versions, for the pages: by meaning, and as text."""

import asyncio
from typing import Any

from keep_operator.console.pages.place import Subject
from keep_operator.console.pages.visit import Visit
from keep_operator.domain import difference
from keep_operator.domain.history import Revision
from keep_operator.store import revisions


async def shown(visit: Visit, about: Subject, before: Revision, after: Revision, context: int = 3) -> dict[str, Any]:
    """``changes`` by meaning and ``unified`` text, as the API tells them, with the names of both sides."""
    async with visit.here.look() as conn:
        found = await revisions.definitions(conn, about.lineage.id, {before.number, after.number})
    async with visit.here.comparing:
        told = await asyncio.to_thread(
            difference.told, found[before.number], found[after.number], context=context
        )
    return {**told, "before": before, "after": after}
