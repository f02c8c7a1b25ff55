"""A plain kopf operator, as kopf's documentation would have one write it: the yardstick of P-1.

Handlers for creation and deletion, kopf's default settings and storages, waiting by ``TemporaryError(delay=5)``, the
same rows. Run by ``kopf run``; it is no part of the product.
"""

import os
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any, Final

import kopf

from bench import rows
from keep_operator.resources.kinds import GROUP, VERSION

PROVIDERS: Final = (GROUP, VERSION, "providers")
TENANTS: Final = (GROUP, VERSION, "tenants")

_stack = AsyncExitStack()
_opened: list[rows.Pool] = []


@kopf.on.startup()
async def open_pool(**_: Any) -> None:
    """Connect to the database."""
    _opened.append(await _stack.enter_async_context(rows.opened(os.environ["BENCH_DATABASE_URL"])))


@kopf.on.cleanup()
async def close_pool(**_: Any) -> None:
    """Disconnect from the database."""
    await _stack.aclose()


@kopf.on.create(*TENANTS)
async def create_tenant(name: str | None, patch: kopf.Patch, **_: Any) -> None:
    """The row, then Ready."""
    await rows.add_tenant(_opened[0], str(name))
    patch.status["tenantId"] = name
    patch.status["conditions"] = [_ready()]


@kopf.on.delete(*TENANTS)
async def delete_tenant(**_: Any) -> None:
    """The row stays, as in the operator while it has providers; the handler is there for its finalizer."""


@kopf.on.create(*PROVIDERS)
async def create_provider(
    body: kopf.Body, spec: kopf.Spec, name: str | None, namespace: str | None, patch: kopf.Patch, **_: Any
) -> None:
    """Wait for the tenant's row, write the provider's, then Ready."""
    tenant = spec["tenantRef"]["name"]
    if not await rows.has_tenant(_opened[0], tenant):
        raise kopf.TemporaryError(f"tenant {tenant} is not there yet", delay=5)
    uid = str(body.metadata["uid"])
    await rows.add_provider(_opened[0], {"spec": dict(spec)}, uid, str(namespace), str(name))
    patch.status["tenantId"] = tenant
    patch.status["conditions"] = [_ready()]


@kopf.on.delete(*PROVIDERS)
async def delete_provider(body: kopf.Body, **_: Any) -> None:
    """Remove the row."""
    await rows.remove_provider(_opened[0], str(body.metadata["uid"]))


def _ready() -> dict[str, str]:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "type": "Ready",
        "status": "True",
        "reason": "Ready",
        "message": "the row stands",
        "lastTransitionTime": now,
    }
