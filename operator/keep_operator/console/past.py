"""`revisions`, `history`, `ledger`: the past of a workflow or a tenant, page by page, the newest first.

Each page is two statements: which line of versions is meant, and as many rows of an index as are shown (A-HIS-1).
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Protocol, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from keep_operator.cluster.reviews import Right
from keep_operator.console import answers, asked, problems, room
from keep_operator.console.answers import Json
from keep_operator.console.described import Given
from keep_operator.console.room import Room
from keep_operator.resources.kinds import TENANTS, WORKFLOW_REVISIONS, WORKFLOWS, Resource
from keep_operator.store import history, ledger, lineages, revisions, tenants
from keep_operator.store.history import NotAPage, Page

Item = TypeVar("Item")


async def of_revisions(here: Room, request: Request) -> Response:
    """The versions of a workflow without their definitions, archived ones too."""
    given = room.parameters(request)
    return await _of_workflow(here, request, given, WORKFLOW_REVISIONS, history.revisions, answers.revision)


async def of_revision(here: Room, request: Request) -> Response:
    """One version with its definition."""
    where = asked.place(room.parameters(request))
    text = request.path_params["revision"]
    await here.admit_to(request, where, WORKFLOW_REVISIONS)
    async with here.look() as conn:
        lineage = await lineages.find(conn, (await here.line(conn, where)).id)
        assert lineage is not None  # rows of lineages are never removed
        found = asked.resolved(lineage, text, where)
        definition = (await revisions.definitions(conn, lineage.id, [found.number]))[found.number]
    told = {"workflowId": str(lineage.id), **answers.revision(found), "definition": definition}
    return answers.answer(request, told)


async def of_workflow(here: Room, request: Request) -> Response:
    """Everything that was done to a workflow; with ``only=deployments`` what was made active, as in `status.history`."""
    given = room.parameters(request)
    match given.text("only"):
        case None:
            return await _of_workflow(here, request, given, WORKFLOWS, history.timeline, ledger.told)
        case _:
            return await _of_workflow(here, request, given, WORKFLOWS, history.deployments, answers.deployment)


async def of_tenant(here: Room, request: Request) -> Response:
    """Everything that was done to a tenant and all that belongs to it."""
    given = room.parameters(request)
    tenant_id, after, limit = given.must("tenant"), given.text("after"), given.number("limit")
    await admit_to_tenant(here, tenant_id, partial(here.admit, request))
    async with here.look() as conn:
        found = await page(history.entries_of_tenant(conn, tenant_id, after=after, limit=limit))
    return answers.answer(request, answers.page(found, ledger.told))


class Admit(Protocol):
    """Returns if the user may do that; ``told`` as in `Doorkeeper.admit`."""

    def __call__(self, right: Right, told: str = "") -> Awaitable[None]:
        """Raises Problem: 403, 503."""


async def admit_to_tenant(here: Room, tenant_id: str, admit: Admit) -> None:
    """Returns if there is a tenant of this id, and the user may read it. Raises Problem: 403, 404, 503."""
    async with here.look() as conn:
        record = await tenants.find(conn, tenant_id)
    owner = None if record is None or record.owner is None else record.owner
    ours = owner is not None and owner.cluster_id == here.cluster_id
    # Who may not read the Tenant does not learn whether there is one, nor its name where that is another than its id.
    right = Right("get", TENANTS, name=tenant_id)
    named = replace(right, name=owner.name) if owner is not None and ours else right
    await admit(named, told=str(right))
    if not ours:
        raise problems.missing(
            "TenantNotFound",
            f'No Tenant of this cluster has the id "{tenant_id}". Of one that is deleted `keep-operator ledger show` has the '
            "ledger.",
        )


async def _of_workflow(
    here: Room,
    request: Request,
    given: Given,
    resource: Resource,
    read: Callable[..., Awaitable[Page[Item]]],
    tell: Callable[[Item], Json],
) -> Response:
    where, after, limit = asked.place(given), given.text("after"), given.number("limit")
    await here.admit_to(request, where, resource)
    async with here.look() as conn:
        line = await here.line(conn, where)
        found = await page(read(conn, line.id, after=after, limit=limit))
    return answers.answer(request, {"workflowId": str(line.id), **answers.page(found, tell)})


async def page(asking: Awaitable[Page[Item]]) -> Page[Item]:
    """The page that is asked for. Raises Problem 400 where its cursor is none."""
    try:
        return await asking
    except NotAPage:
        raise problems.bad(
            "CursorInvalid",
            "The parameter after must be the `after` of an earlier page of the same list; leave it out to begin anew.",
        ) from None
