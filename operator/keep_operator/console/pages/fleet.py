"""Everything at once: tenants, providers, workflows as the cluster shows them; what needs a person comes first."""

import asyncio
from collections.abc import Sequence
from itertools import chain
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from starlette.responses import Response

from keep_operator.cluster.client import TableRow
from keep_operator.cluster.reviews import Right
from keep_operator.console import problems, room
from keep_operator.console.pages import place
from keep_operator.console.pages.lists import Failing, Known, Rows
from keep_operator.console.pages.visit import Visit, address
from keep_operator.console.problems import Problem
from keep_operator.errors import KeepOperatorError
from keep_operator.resources.kinds import PROVIDERS, TENANTS, WORKFLOW_RUNS, WORKFLOWS, Resource
from keep_operator.store import failing as store_failing
from keep_operator.store import lineages
from keep_operator.store.failing import Lately

# Rows on one page.
SHOWN: Final = 100
# Namespaces that are tried for somebody who may not see all of them.
NAMESPACES_TRIED: Final = 200
KINDS: Final = {"workflows": WORKFLOWS, "providers": PROVIDERS, "tenants": TENANTS}
# Waiting for these is waiting for a person.
FOR_PEOPLE: Final = frozenset(
    {"AwaitingApproval", "ChecklistIncomplete", "AwaitingDeploy", "CanaryPaused", "AnalysisInconclusive"}
)
NONE: Final[Failing] = MappingProxyType({})
ORDER: Final = attrgetter("order")


class Entry(NamedTuple):
    """A row of the fleet. ``order`` begins with 0 for what needs somebody, 1 for what is under way, 2 for the rest."""

    order: tuple[int, str, str]
    text: str
    row: TableRow
    lately: Lately | None

    @property
    def urgent(self) -> bool:
        """Somebody should look."""
        return self.order[0] == 0


async def show(visit: Visit) -> Response:
    """One kind, filtered by text, from the object that `from` names; with `only=urgent` what needs somebody."""
    kind = visit.query("kind") or "workflows"
    if kind not in KINDS:
        raise problems.missing("PathNotFound", f"The fleet has {', '.join(KINDS)}.")
    resource, text = KINDS[kind], visit.query("q").lower()
    wanted = visit.query("namespace") if resource.namespaced else ""
    only = visit.query("only") == "urgent"
    among = await namespaces(visit, resource, wanted)
    sees = await _sees_runs(visit, among) if resource is WORKFLOWS else [False] * len(among)
    failing, lists = await asyncio.gather(
        _failing(visit, any(sees)), asyncio.gather(*(_rows(visit, resource, each) for each in among))
    )
    boards = [
        visit.pages.lists.made((kind, namespace, may), _board, rows.value, failing.value if may and failing else NONE)
        for namespace, may, rows in zip(among, sees, lists, strict=True)
    ]
    entries = boards[0] if len(boards) == 1 else sorted(chain(*boards), key=ORDER)
    found = [each for each in entries if text in each.text] if text else entries
    urgent = sum(each.urgent for each in found)
    chosen = found[:urgent] if only else found
    start = _start(visit.query("from"))
    filters = {"kind": kind, "q": visit.query("q"), "namespace": wanted}
    values: dict[str, Any] = {
        **filters,
        "kinds": tuple(KINDS),
        "rows": [_told(kind, each) for each in chosen[start : start + SHOWN]],
        "total": len(found),
        "urgent": urgent,
        "only": only,
        "urgent_href": address(**filters, only="urgent"),
        "all_href": address(**filters),
        "next": address(**filters, only="urgent" if only else "", **{"from": str(start + SHOWN)})
        if start + SHOWN < len(chosen)
        else None,
        "left": min(SHOWN, len(chosen) - start - SHOWN),
        "namespaces": among,
        "runs_known": failing is not None or not any(sees),
        "age_s": max((each.age_s for each in lists), default=0.0),
    }
    return visit.show("fleet.html", **values)


def _board(rows: Rows, failing: Failing) -> list[Entry]:
    """The rows in the order in which they are shown."""
    known = {(key.namespace, key.name): lately for key, lately in failing.items()}
    return sorted((_entry(row, known.get((row.namespace, row.name))) for row in rows), key=ORDER)


def _entry(row: TableRow, lately: Lately | None) -> Entry:
    """What is wrong and will not heal by itself, or waits for a person, before all else; then what is under way."""
    ready, reason = row.cells.get("Ready"), row.cells.get("Reason")
    group = 0 if ready == "False" or reason in FOR_PEOPLE or lately is not None else 1 if ready != "True" else 2
    return Entry((group, row.namespace, row.name), f"{row.namespace}/{row.name}".lower(), row, lately)


def _start(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 0


async def namespaces(visit: Visit, resource: Resource, wanted: str) -> list[str]:
    """Where the user may look: everywhere (""), or in some of the namespaces that have something. Raises Problem: 403, 404."""
    watched = visit.pages.watched
    if wanted or not resource.namespaced:
        await visit.admit(Right("list", resource, wanted))
        if wanted:
            place.looked_after(visit, wanted)
        return [wanted]
    (everywhere,) = await visit.may(Right("list", resource))
    if everywhere:
        return list(watched) or [""]
    known: Sequence[str] = watched
    if not watched:
        async with visit.here.look() as conn:
            known = await lineages.namespaces(conn, visit.here.cluster_id, NAMESPACES_TRIED)
    allowed = await visit.may(*(Right("list", resource, each) for each in known))
    return [each for each, may in zip(known, allowed, strict=True) if may]


async def _sees_runs(visit: Visit, among: Sequence[str]) -> list[bool]:
    """In which of these namespaces the user may know how runs ended."""
    return await visit.may(*(Right("get", WORKFLOW_RUNS, each) for each in among))


async def _failing(visit: Visit, wanted: bool) -> Known[Failing] | None:
    """The workflows that fail; None where that is not known now: the rest of the fleet is shown all the same."""
    if not wanted:
        return Known(NONE)

    async def read() -> Failing:
        async with visit.here.look() as conn:
            return await store_failing.failing(conn, visit.here.cluster_id)

    try:
        return await visit.pages.lists.failing(read)
    except Problem:
        return None


async def _rows(visit: Visit, resource: Resource, namespace: str) -> Known[Rows]:
    try:
        return await visit.pages.lists.rows(visit.here.cluster, resource, namespace)
    except KeepOperatorError as failure:
        raise room.cluster_failed(failure) from None


def _told(kind: str, entry: Entry) -> dict[str, Any]:
    row, lately = entry.row, entry.lately
    failed = None
    if lately is not None:
        of = place.href(row.namespace, row.name, "runs", version=str(lately.revision))
        failed = {"words": str(lately), "href": f"{of}&state=Failed&state=TimedOut"}
    return {
        "namespace": row.namespace,
        "name": row.name,
        "ready": str(row.cells.get("Ready") or "Unknown"),
        "reason": str(row.cells.get("Reason") or ""),
        "active": row.cells.get("Active"),
        "desired": row.cells.get("Desired"),
        "canary": row.cells.get("Canary"),
        "age": str(row.cells.get("Age") or ""),
        "failed": failed,
        "urgent": entry.urgent,
        "href": _href(kind, row),
    }


def _href(kind: str, row: TableRow) -> str | None:
    """The page of an object; of a Tenant that has no record yet there is none."""
    if kind == "tenants":
        tenant_id = row.cells.get("Tenant-ID")
        return address("ledger", tenant_id) if tenant_id else None
    return address("w" if kind == "workflows" else "p", row.namespace, row.name)
