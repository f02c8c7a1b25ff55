"""Builders that set only what a test is about; everything else has the value that means "nothing special"."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from keep_operator.domain import provider, tenant
from keep_operator.domain.conditions import Truth
from keep_operator.domain.ownership import Claim, Owner
from keep_operator.domain.planning import Plan
from keep_operator.domain.provider import Content, Credentials
from keep_operator.domain.tenancy import TenantSight
from keep_operator.resources import objects
from keep_operator.resources import provider as provider_reader
from keep_operator.resources import tenant as tenant_reader
from keep_operator.resources.kinds import API_VERSION, Key
from keep_operator.resources.objects import Object
from keep_operator.resources.provider import ProviderSpec
from keep_operator.resources.tenant import TenantSpec

NOW: Final = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
CLUSTER: Final = "cluster-1"
ROW_ID: Final = UUID(int=1)
CONTENT: Final = Content({}, None, "hash-1")


def stamp(at: datetime) -> str:
    """A moment as the API server writes it."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def condition(
    kind: str, status: str = "True", reason: str = "Any", message: str = "", at: datetime = NOW
) -> dict[str, Any]:
    """A condition as it stands in a status."""
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": 1,
        "lastTransitionTime": stamp(at),
    }


def manifest(
    name: str,
    spec: Mapping[str, Any],
    *,
    namespace: str = "",
    uid: str | None = None,
    version: int = 1,
    generation: int = 1,
    created_at: datetime = NOW - timedelta(hours=1),
    deleting: bool = False,
    finalizers: Sequence[str] = (),
    owners: Sequence[Mapping[str, Any]] = (),
    annotations: Mapping[str, str] | None = None,
    status: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """An object as the API server sends it."""
    metadata: dict[str, Any] = {
        "name": name,
        "uid": uid or f"uid-{name}",
        "resourceVersion": str(version),
        "generation": generation,
        "creationTimestamp": stamp(created_at),
        "finalizers": list(finalizers),
        "ownerReferences": [dict(owner) for owner in owners],
        "annotations": dict(annotations or {}),
    }
    if namespace:
        metadata["namespace"] = namespace
    if deleting:
        metadata["deletionTimestamp"] = stamp(NOW)
    return {"metadata": metadata, "spec": dict(spec), "status": dict(status or {})}


def a_provider(name: str = "vm", spec: Mapping[str, Any] | None = None, **metadata: Any) -> Object[ProviderSpec]:
    """A Provider in namespace `monitoring`, of type `victoriametrics`, in Tenant `keep`."""
    filled = {"type": "victoriametrics", "tenantRef": {"name": "keep"}, **(spec or {})}
    filled = {field: value for field, value in filled.items() if value is not None}
    raw = manifest(name, filled, **{"namespace": "monitoring", **metadata})
    return objects.parse("Provider", raw, provider_reader)


def a_tenant(name: str = "keep", spec: Mapping[str, Any] | None = None, **metadata: Any) -> Object[TenantSpec]:
    """A Tenant."""
    return objects.parse("Tenant", manifest(name, spec or {}, **metadata), tenant_reader)


def tenant_sight(**changes: Any) -> TenantSight:
    """Tenant `keep`, Ready, admitting the Provider's namespace."""
    sight = TenantSight("keep", "uid-keep", "keep", ready=True, serving=True, deleting=False, admits=True)
    return replace(sight, **changes)


def owner_reference(name: str = "keep", uid: str = "uid-keep", **changes: Any) -> dict[str, Any]:
    """The reference to its Tenant that every Provider carries."""
    reference = {"apiVersion": API_VERSION, "kind": "Tenant", "name": name, "uid": uid}
    return {**reference, "controller": False, "blockOwnerDeletion": True, **changes}


def provider_owner(name: str = "vm", **changes: str) -> Owner:
    """The marker of a Provider of namespace `monitoring`."""
    return replace(Owner(CLUSTER, "monitoring", name, f"uid-{name}"), **changes)


def tenant_owner(name: str = "keep", **changes: str) -> Owner:
    """The marker of a Tenant."""
    return replace(Owner(CLUSTER, "", name, f"uid-{name}"), **changes)


def provider_record(name: str = "vm", **changes: Any) -> provider.Record:
    """The row of Provider `vm`, as its spec wants it."""
    record = provider.Record(ROW_ID, "keep", "victoriametrics", name, CONTENT, provider_owner(name))
    record = replace(record, **changes)
    checksum = provider.checksum(record, record.content.pulling_enabled)
    return record if "checksum" in changes else replace(record, checksum=checksum)


def tenant_record(name: str = "keep", **changes: Any) -> tenant.Record:
    """The row of Tenant `keep`, as its spec wants it."""
    record = replace(tenant.Record(name, name, tenant_owner(name)), **changes)
    return record if "checksum" in changes else replace(record, checksum=tenant.checksum(record, record.display_name))


def a_claim(name: str = "other", **changes: Any) -> Claim:
    """Another live Provider of the same type, younger, that asks for the same name and has our finalizer."""
    claim = Claim(
        key=Key("Provider", "monitoring", name),
        uid=f"uid-{name}",
        created_at=NOW,
        type="victoriametrics",
        ready_to_own=True,
        can_own=True,
        tenant_id="keep",
    )
    return replace(claim, **changes)


def a_look(obj: Object[ProviderSpec] | None = None, **seen: Any) -> provider.Observed:
    """A look at a Provider that lacks nothing but its record: finalizer, owner reference, Tenant and credentials are there."""
    look = provider.Observed(
        object=settled_provider() if obj is None else obj,
        cluster_id=CLUSTER,
        tenant_name="keep",
        tenant=tenant_sight(),
        credentials=Credentials({}),
        content=CONTENT,
    )
    return replace(look, **seen)


def settled_provider(name: str = "vm", spec: Mapping[str, Any] | None = None, **metadata: Any) -> Object[ProviderSpec]:
    """A Provider that has its finalizer and its owner reference."""
    return a_provider(name, spec, **{"finalizers": (provider.FINALIZER,), "owners": (owner_reference(),), **metadata})


def a_tenant_look(obj: Object[TenantSpec] | None = None, **seen: Any) -> tenant.Observed:
    """A look at a Tenant that has its finalizer, and no row yet."""
    look = tenant.Observed(
        object=settled_tenant() if obj is None else obj, cluster_id=CLUSTER, default_id="keep", runtime="builtin"
    )
    return replace(look, **seen)


def settled_tenant(name: str = "keep", spec: Mapping[str, Any] | None = None, **metadata: Any) -> Object[TenantSpec]:
    """A Tenant that has its finalizer."""
    return a_tenant(name, spec, **{"finalizers": (tenant.FINALIZER,), **metadata})


def found(plan: Plan[Any], kind: str) -> tuple[str, str] | None:
    """(status, reason) of a condition in the status that a plan reports, None where it has no such condition."""
    assert plan.status is not None, plan
    for each in plan.status["conditions"]:
        if each["type"] == kind:
            return each["status"], each["reason"]
    return None


def told(plan: Plan[Any], kind: str = "Ready") -> str:
    """The message of a condition in the status that a plan reports."""
    assert plan.status is not None, plan
    return next(str(each["message"]) for each in plan.status["conditions"] if each["type"] == kind)


def ready_status(generation: int = 1, **fields: Any) -> dict[str, Any]:
    """The status of a Provider that has been Ready for a while."""
    living = (
        ("Ready", "Ready"),
        ("TenantReady", "TenantReady"),
        ("CredentialsResolved", "Resolved"),
        ("Synced", "InSync"),
    )
    return {
        "observedGeneration": generation,
        "conditions": [
            condition(kind, Truth.TRUE.value, reason, at=NOW - timedelta(hours=1)) for kind, reason in living
        ],
        "providerId": str(ROW_ID),
        "externalName": "vm",
        "tenantId": "keep",
        **fields,
    }
