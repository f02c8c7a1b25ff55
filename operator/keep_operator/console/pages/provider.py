"""One Provider: how it is, whose it is, and which workflows would miss it. What it holds is nobody's business here."""

from typing import Any, Final

from starlette.responses import Response

from keep_operator.cluster.reviews import Right
from keep_operator.console import problems, room
from keep_operator.console.pages import fleet, place
from keep_operator.console.pages.visit import Visit, address
from keep_operator.errors import KeepOperatorError
from keep_operator.resources.kinds import PROVIDERS, TENANTS, WORKFLOWS
from keep_operator.store import uses

# Workflows on one page.
SHOWN: Final = 100


async def show(visit: Visit) -> Response:
    """The page; `after` is the last workflow of an earlier one, as NAMESPACE/NAME."""
    namespace, name = place.named(visit, "Provider")
    await visit.admit(Right("get", PROVIDERS, namespace, name))
    try:
        found = await visit.here.cluster.get(PROVIDERS, namespace, name)
    except KeepOperatorError as failure:
        raise room.cluster_failed(failure) from None
    if found is None:
        raise problems.missing("ProviderNotFound", f"Provider {namespace}/{name} does not exist.")
    spec, status = found.get("spec") or {}, found.get("status") or {}
    tenant_id = status.get("tenantId")
    called = str(status.get("externalName") or spec.get("externalName") or name)
    (ledger,) = await visit.may(Right("get", TENANTS, name=str((spec.get("tenantRef") or {}).get("name") or tenant_id)))
    using = await _using(visit, str(tenant_id), called) if tenant_id else []
    shown = using[:SHOWN]
    values: dict[str, Any] = {
        "namespace": namespace,
        "name": name,
        "called": called,
        "type": str(spec.get("type") or ""),
        "tenant": tenant_id,
        "ledger": address("ledger", tenant_id, kind="Provider", namespace=namespace, name=name)
        if tenant_id and ledger
        else None,
        "conditions": list(status.get("conditions") or ()),
        "using": [
            {
                "name": f"{each.namespace}/{each.name}",
                "href": place.href(each.namespace, each.name),
                "versions": [
                    f"v{number}, active" if number == each.active else f"v{number}" for number in each.numbers
                ],
            }
            for each in shown
        ],
        "next": address("p", namespace, name, after=f"{shown[-1].namespace}/{shown[-1].name}")
        if len(using) > SHOWN
        else None,
    }
    return visit.show("provider.html", **values)


async def _using(visit: Visit, tenant_id: str, called: str) -> list[uses.Use]:
    """Those of the workflows that use it that the user may list."""
    after, _, last = visit.query("after", 320).partition("/")
    if "\0" in after + last:
        raise problems.bad("CursorInvalid", "The parameter after must be a workflow, as NAMESPACE/NAME.")
    namespaces = await fleet.namespaces(visit, WORKFLOWS, "")
    async with visit.here.look() as conn:
        return await uses.of_provider(
            conn,
            visit.here.cluster_id,
            tenant_id,
            called,
            namespaces=None if namespaces == [""] else namespaces,
            after=(after, last),
            most=SHOWN + 1,
        )
