"""Everything at once: tenants, providers, workflows as the cluster shows them; what needs a person comes first."""

from collections.abc import Sequence
from typing import Any, Final

from starlette.responses import Response

from keep_operator.cluster.client import TableRow
from keep_operator.cluster.reviews import Right
from keep_operator.console import problems, room
from keep_operator.console.pages.visit import Visit, address
from keep_operator.errors import KeepOperatorError
from keep_operator.resources.kinds import PROVIDERS, TENANTS, WORKFLOWS, Resource
from keep_operator.store import lineages

# Rows on one page.
SHOWN: Final = 100
# Namespaces that are tried for somebody who may not see all of them.
NAMESPACES_TRIED: Final = 200
KINDS: Final = {"workflows": WORKFLOWS, "providers": PROVIDERS, "tenants": TENANTS}
# Waiting for these is waiting for a person.
FOR_PEOPLE: Final = frozenset(
    {"AwaitingApproval", "ChecklistIncomplete", "AwaitingDeploy", "CanaryPaused", "AnalysisInconclusive"}
)


async def show(visit: Visit) -> Response:
    """One kind, filtered by text, from the object that `after` names."""
    kind = visit.query("kind") or "workflows"
    if kind not in KINDS:
        raise problems.missing("PathNotFound", f"The fleet has {', '.join(KINDS)}.")
    resource, text = KINDS[kind], visit.query("q").lower()
    wanted = visit.query("namespace") if resource.namespaced else ""
    among = await namespaces(visit, resource, wanted)
    rows = [row for each in among for row in await _rows(visit, resource, each)]
    chosen = sorted((row for row in rows if text in f"{row.namespace}/{row.name}".lower()), key=_urgency)
    start = _start(visit.query("from"))
    values: dict[str, Any] = {
        "kind": kind,
        "kinds": tuple(KINDS),
        "rows": [_told(kind, row) for row in chosen[start : start + SHOWN]],
        "total": len(chosen),
        "urgent": sum(_urgency(row)[0] == 0 for row in chosen),
        "start": start,
        "next": start + SHOWN if start + SHOWN < len(chosen) else None,
        "q": visit.query("q"),
        "namespace": wanted,
        "namespaces": among,
        "everything": among == [""],
    }
    return visit.show("fleet.html", **values)


def _start(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 0


async def namespaces(visit: Visit, resource: Resource, wanted: str) -> list[str]:
    """Where the user may look: everywhere (""), or in some of the namespaces that have something. Raises Problem 403."""
    watched = visit.pages.watched
    if wanted or not resource.namespaced:
        await visit.admit(Right("list", resource, wanted))
        return [] if wanted and watched and wanted not in watched else [wanted]
    (everywhere,) = await visit.may(Right("list", resource))
    if everywhere:
        return list(watched) or [""]
    async with visit.here.look() as conn:
        known = await lineages.namespaces(conn, visit.here.cluster_id, NAMESPACES_TRIED)
    allowed = await visit.may(*(Right("list", resource, each) for each in known))
    return [each for each, may in zip(known, allowed, strict=True) if may]


async def _rows(visit: Visit, resource: Resource, namespace: str) -> Sequence[TableRow]:
    try:
        return await visit.pages.lists.rows(visit.here.cluster, resource, namespace)
    except KeepOperatorError as failure:
        raise room.cluster_failed(failure) from None


def _urgency(row: TableRow) -> tuple[int, str, str]:
    """What is wrong and will not heal by itself, or waits for a person, before all else; then what is under way."""
    ready, reason = row.cells.get("Ready"), row.cells.get("Reason")
    if ready == "False" or reason in FOR_PEOPLE:
        return 0, row.namespace, row.name
    return (1 if ready != "True" else 2), row.namespace, row.name


def _told(kind: str, row: TableRow) -> dict[str, Any]:
    cells = {name: value for name, value in row.cells.items() if name not in ("Name", "Namespace")}
    return {
        "namespace": row.namespace,
        "name": row.name,
        "ready": str(cells.get("Ready") or "Unknown"),
        "reason": str(cells.get("Reason") or ""),
        "active": cells.get("Active"),
        "desired": cells.get("Desired"),
        "canary": cells.get("Canary"),
        "age": str(cells.get("Age") or ""),
        "cells": cells,
        "urgent": _urgency(row)[0] == 0,
        "href": _href(kind, row),
    }


def _href(kind: str, row: TableRow) -> str | None:
    """The page of an object; of a Tenant that has no record yet there is none."""
    if kind == "tenants":
        tenant_id = row.cells.get("Tenant-ID")
        return address("ledger", tenant_id) if tenant_id else None
    return address("w" if kind == "workflows" else "p", row.namespace, row.name)
