"""The ledger of a tenant: everything that was done to it and all that belongs to it, by whom, the newest first."""

import re
from typing import Any, Final
from urllib.parse import urlencode

from starlette.responses import Response

from keep_operator.console import past, problems
from keep_operator.console.pages import place
from keep_operator.console.pages.visit import Visit, address
from keep_operator.console.pages.workflow import entry
from keep_operator.resources.kinds import PROVIDERS, TENANTS, WORKFLOW_DECISIONS, WORKFLOW_REVISIONS, WORKFLOWS, Key
from keep_operator.resources.shapes import DNS_LABEL
from keep_operator.store import history
from keep_operator.store.ledger import Entry

# Entries on one page.
SHOWN: Final = 100
KINDS: Final = tuple(each.kind for each in (TENANTS, PROVIDERS, WORKFLOWS, WORKFLOW_REVISIONS, WORKFLOW_DECISIONS))


async def show(visit: Visit) -> Response:
    """The page; `after` is a cursor, the object that is named a filter."""
    tenant_id = visit.path("tenant")
    if re.fullmatch(DNS_LABEL[1:-1], tenant_id) is None or len(tenant_id) > 63:
        raise problems.missing("TenantNotFound", "No tenant can have that id.")
    visit.request.state.told["tenant"] = tenant_id
    await past.admit_to_tenant(visit.here, tenant_id, visit.admit)
    kind, namespace, name, after = (visit.query(each) for each in ("kind", "namespace", "name", "after"))
    if kind and kind not in KINDS:
        raise problems.bad("ParameterInvalid", f"{kind[:40]} is no kind; there are {', '.join(KINDS)}.")
    if "\0" in namespace + name:
        raise problems.bad("ParameterInvalid", "No object has such a name.")
    key = Key(kind, "" if kind == TENANTS.kind else namespace, name) if kind and name else None
    async with visit.here.look() as conn:
        found = await past.page(history.entries_of_tenant(conn, tenant_id, key, after=after or None, limit=SHOWN))
    query = {"kind": kind, "namespace": namespace, "name": name} if key is not None else {}
    values: dict[str, Any] = {
        "tenant": tenant_id,
        "entries": [{**entry(each), **_object(tenant_id, each)} for each in found.items],
        "kinds": KINDS,
        "kind": kind,
        "namespace": namespace,
        "name": name,
        "key": key,
        "next": _behind(tenant_id, {**query, "after": found.after}) if found.after else None,
        "newest": _behind(tenant_id, query) if after else None,
    }
    return visit.show("ledger.html", **values)


def _behind(tenant_id: str, query: dict[str, str]) -> str:
    told = urlencode({name: value for name, value in query.items() if value})
    return f"{address('ledger', tenant_id)}?{told}" if told else address("ledger", tenant_id)


def _object(tenant_id: str, each: Entry) -> dict[str, Any]:
    """What an entry is about, with the address of its page, and of its part of the ledger."""
    key = each.key
    page = None
    if key.kind == WORKFLOWS.kind and key.namespace:
        page = place.href(key.namespace, key.name)
    elif key.kind == PROVIDERS.kind and key.namespace:
        page = address("p", key.namespace, key.name)
    told = {"kind": key.kind, "namespace": key.namespace, "name": key.name}
    return {"key": key, "page": page, "only": _behind(tenant_id, told) if key.kind in KINDS and key.name else None}
