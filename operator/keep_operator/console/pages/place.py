"""The workflow that a page is about: its object, its line of versions, its gates, and what the user may do with it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from keep_operator.cluster.reviews import Right
from keep_operator.console import asked, problems, room
from keep_operator.console.asked import Place
from keep_operator.console.pages.visit import Visit, address
from keep_operator.console.room import Room
from keep_operator.domain import gates
from keep_operator.domain.gates import Gates
from keep_operator.domain.history import Lineage, Revision
from keep_operator.errors import KeepOperatorError
from keep_operator.resources import tenant, workflow
from keep_operator.resources.decision import ACTIONS
from keep_operator.resources.kinds import TENANTS, WORKFLOW_DECISIONS, WORKFLOWS
from keep_operator.resources.shapes import DNS_LABEL, DNS_SUBDOMAIN, Invalid
from keep_operator.resources.tenant import TenantSpec
from keep_operator.store import lineages, tenants

BUILTIN: Final = "builtin"


@dataclass(frozen=True, slots=True)
class Subject:
    """``manifest`` is the Workflow as the API server has it, empty where it is gone; ``lineage`` its history."""

    place: Place
    manifest: Mapping[str, Any]
    lineage: Lineage

    @property
    def status(self) -> Mapping[str, Any]:
        """Its status."""
        return self.manifest.get("status") or {}

    @property
    def conditions(self) -> list[Mapping[str, Any]]:
        """Its conditions, as the operator orders them."""
        return list(self.status.get("conditions") or ())

    def condition(self, kind: str) -> Mapping[str, Any]:
        """One of them; Unknown, without a word, where it is not there."""
        found = next((each for each in self.conditions if each.get("type") == kind), {})
        return {"type": kind, "status": "Unknown", "reason": "", "message": "", **found}

    def named(self, text: str) -> Revision:
        """The version that is meant. Raises Problem 404."""
        return asked.resolved(self.lineage, text, self.place)

    def marks(self, number: int) -> list[str]:
        """What a version is at this moment, in words."""
        lineage, tried = self.lineage, self.lineage.canary
        each = lineage.get(number)
        if each is None:
            return []
        found = {
            "stable": number == lineage.active_number and tried is not None,
            "active": number == lineage.active_number and tried is None,
            f"canary, {tried.weight} %" if tried else "": tried is not None and number == tried.candidate,
            "desired": number == lineage.latest_number,
            "rejected": lineage.rejection(each) is not None,
            "denied": lineage.denial(each) is not None,
            "invalid": not each.valid,
        }
        return [word for word, applies in found.items() if applies]

    @property
    def pinned(self) -> bool:
        """Whether its manifest names the version that runs, so that no decision can."""
        return bool(((self.manifest.get("spec") or {}).get("release") or {}).get("pin"))

    def leads_back_to(self, revision: Revision) -> bool:
        """Whether a rollback to that version would change what runs."""
        lineage, active = self.lineage, self.lineage.active
        another = active is not None and active.content_hash != revision.content_hash
        return another and revision.was_active and lineage.eligible(revision) and not self.pinned

    def href(self, *parts: object, **query: str) -> str:
        """The address of one of its pages."""
        return href(self.place.namespace, self.place.name, *parts, **query)


def href(namespace: str, name: str, *parts: object, **query: str) -> str:
    """The address of a page of a workflow."""
    return address("w", namespace, name, *parts, **query)


async def subject(visit: Visit) -> Subject:
    """The workflow in the path, if the user may read it. Raises Problem: 403, 404, 503."""
    namespace, name = named(visit, WORKFLOWS.kind)
    where = Place(namespace, name)
    visit.request.state.told["workflow"] = name
    await visit.admit(Right("get", WORKFLOWS, namespace, name))
    return await read(visit.here, where)


def named(visit: Visit, kind: str) -> tuple[str, str]:
    """Namespace and name in the path. Raises Problem 404 where no object can be called so."""
    namespace, name = visit.path("namespace"), visit.path("name")
    if not _fits(DNS_LABEL, namespace, 63) or not _fits(DNS_SUBDOMAIN, name, 253):
        raise problems.missing(f"{kind}NotFound", f"No {kind} can have that name.")
    looked_after(visit, namespace)
    visit.request.state.told["namespace"] = namespace
    return namespace, name


def looked_after(visit: Visit, namespace: str) -> None:
    """Raises Problem 404 where there can be no such namespace, or it is none of those that this console may look at."""
    if not _fits(DNS_LABEL, namespace, 63):
        raise problems.missing("NamespaceNotFound", "No namespace can have that name.")
    if visit.pages.watched and namespace not in visit.pages.watched:
        raise problems.missing(
            "NamespaceNotWatched",
            f"keep-operator does not look after namespace {namespace}: it is none of its KEEP_OPERATOR_WATCH_NAMESPACES. Whoever "
            "runs it can add it.",
        )


async def read(here: Room, where: Place) -> Subject:
    """A workflow, whoever asks. Raises Problem: 404, 503."""
    try:
        found = await here.cluster.get(WORKFLOWS, where.namespace, where.name)
    except KeepOperatorError as failure:
        raise room.cluster_failed(failure) from None
    async with here.look() as conn:
        line = await here.line(conn, where)
        lineage = await lineages.find(conn, line.id)
    assert lineage is not None  # rows of lineages are never removed
    return Subject(where, found or {}, lineage)


def _fits(pattern: str, text: str, longest: int) -> bool:
    return len(text) <= longest and re.fullmatch(pattern[1:-1], text) is not None


async def actions(visit: Visit, about: Subject) -> dict[str, bool]:
    """Which decisions the user may make, by their names; the API server has the last word."""
    (may,) = await visit.may(Right("create", WORKFLOW_DECISIONS, about.place.namespace))
    if not may:  # those who only look are many, and what is denied is remembered for nobody
        return dict.fromkeys(ACTIONS, False)
    verbs = [Right(each.lower(), WORKFLOWS, about.place.namespace, about.place.name) for each in ACTIONS]
    return dict(zip(ACTIONS, await visit.may(*verbs), strict=True))


async def gates_of(here: Room, about: Subject) -> Gates | None:
    """What stands before the workflow's new versions; None where its spec is refused. Raises Problem 503."""
    spec = workflow.parse_spec(about.manifest.get("spec") or {})
    if not about.manifest or isinstance(spec, Invalid):
        return None
    of, runtime = await _tenant(here, about.lineage.tenant_id)
    defaults, floors = (None, None) if of is None else (of.defaults, of.policy)
    return gates.gates(
        spec.release,
        None if defaults is None else defaults.approval,
        None if floors is None else floors.approval_floor,
        () if floors is None else floors.checklist_floor,
        runtime=runtime,
    )


async def _tenant(here: Room, tenant_id: str) -> tuple[TenantSpec | None, str]:
    """The spec of the Tenant, which has the floors, and its runtime; None: it is gone or refused, and sets none."""
    async with here.look() as conn:
        record = await tenants.find(conn, tenant_id)
    if record is None or record.owner is None or record.owner.cluster_id != here.cluster_id:
        return None, BUILTIN
    try:
        found = await here.cluster.get(TENANTS, None, record.owner.name)
    except KeepOperatorError as failure:
        raise room.cluster_failed(failure) from None
    if found is None:
        return None, BUILTIN
    spec = tenant.parse_spec(found.get("spec") or {})
    runtime = str((found.get("status") or {}).get("runtime") or BUILTIN)
    return (None, runtime) if isinstance(spec, Invalid) else (spec, runtime)
