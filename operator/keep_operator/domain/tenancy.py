"""What every object that belongs to a Tenant asks of it: whether it is there, admits, and may own the object.

Providers and Workflows share these rules, so that both wait for the same thing in the same words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from keep_operator.domain import conditions, planning
from keep_operator.domain.conditions import Finding
from keep_operator.domain.ownership import Owner
from keep_operator.domain.planning import Plan, SetMetadata
from keep_operator.resources.kinds import API_VERSION, GROUP
from keep_operator.resources.objects import Object
from keep_operator.resources.tenant import TenantPolicy, WorkflowDefaults

OwnerReferences = Literal["ExceptArgoCD", "Always"]
# What stays in a status when the record is given up.
_LASTING: Final = frozenset({"observedGeneration", "conditions", "lastHandledReconcileAt"})


@dataclass(frozen=True, slots=True)
class TenantSight:
    """What an object sees of its Tenant. ``admits`` answers for the object's namespace.

    ``serving``: the Tenant has its row and nothing says that it is wrong, though it may not be Ready at this moment (an
    edit that has not been looked at, a pause, an outage). That is enough for an object that has its record: a passing loss
    of the Tenant's readiness must not make all that depends on it flap (A-DEP-8). ``leaving``: it is being deleted, and a
    person has confirmed that what depends on it goes too. ``defaults``, ``policy`` and ``runtime`` are
    what its spec says of Workflows.
    """

    name: str
    uid: str
    tenant_id: str
    ready: bool
    serving: bool
    deleting: bool
    admits: bool
    leaving: bool = False
    defaults: WorkflowDefaults | None = None
    policy: TenantPolicy | None = None
    runtime: str | None = None

    def suffices(self, recorded: bool) -> bool:
        """Whether an object may go on: one with a record needs less than one that has none yet."""
        return self.ready or (recorded and self.serving)


def owner_of(obj: Object[Any], cluster_id: str) -> Owner:
    """The marker that says: this object manages the row."""
    return Owner(cluster_id, obj.key.namespace, obj.key.name, obj.uid)


def recorded(obj: Object[Any], of_record: str | None) -> str | None:
    """The tenant that an object's record belongs to; by the status where the record was not looked for, None if none."""
    return of_record if of_record is not None else obj.status.get("tenantId")


def judge(obj: Object[Any], name: str | None, tenant: TenantSight | None, recorded: str | None) -> Finding:
    """The condition ``TenantReady``; ``name`` is what the spec leads to, ``recorded`` as above."""
    if name is None:
        return conditions.false(
            "TenantReady",
            "NoDefaultTenant",
            "spec.tenantRef is not set and the operator has no default tenant. Set spec.tenantRef.name.",
        )
    if tenant is None:
        return conditions.unknown("TenantReady", "TenantNotFound", f'Waiting for Tenant "{name}"')
    if recorded is not None and recorded != tenant.tenant_id:
        return conditions.false(
            "TenantReady",
            "TenantChanged",
            f'The record belongs to tenant "{recorded}", spec.tenantRef now leads to "{tenant.tenant_id}". '
            f"Set it back, or make a new {obj.key.kind} for the other tenant.",
        )
    if not tenant.admits:
        return conditions.false(
            "TenantReady",
            "NamespaceNotAllowed",
            f'Tenant "{name}" does not admit namespace "{obj.key.namespace}". Add it to the Tenant\'s spec.allowedNamespaces.',
        )
    if tenant.deleting and recorded is None:
        return conditions.unknown("TenantReady", "TenantNotReady", f'Tenant "{name}" is being deleted')
    if not tenant.suffices(recorded is not None):
        return conditions.unknown("TenantReady", "TenantNotReady", f'Waiting for Tenant "{name}" to be Ready')
    return conditions.true("TenantReady", "TenantReady", f'Tenant "{name}" is Ready')


def referenced(obj: Object[Any], policy: OwnerReferences) -> bool:
    """Whether an owner reference of ours belongs on the object: Argo CD does not prune what has an owner (A-GO-9)."""
    return policy == "Always" or not obj.in_argo_cd


def untied(obj: Object[Any], *, referenced: bool) -> SetMetadata | None:
    """An owner reference of ours that may not be there goes, whatever else is wrong with the object; None: there is none."""
    others = tuple(owner for owner in obj.owners if str(owner.get("apiVersion", "")).partition("/")[0] != GROUP)
    return None if referenced or others == obj.owners else SetMetadata(obj.finalizers, others)


def abandoned(obj: Object[Any], tenant: TenantSight | None, *, referenced: bool) -> bool:
    """Whether the object gives up its record because its Tenant goes; nobody collects one without an owner reference."""
    return not referenced and not obj.deleting and tenant is not None and tenant.leaving


def given_up(
    obj: Object[Any], tenant: TenantSight, deadline: timedelta, abnormal: Sequence[Finding], now: datetime
) -> Plan[Any]:
    """The status of an object that has no record any more, since its Tenant goes: as if it had just been applied."""
    waiting = judge(obj, tenant.name, tenant, None)
    forgotten = {name: None for name in obj.status if name not in _LASTING}
    lasting = {name: value for name, value in obj.status.items() if name in _LASTING}
    bare = replace(obj, status=lasting)
    return planning.report(bare, [waiting], abnormal=abnormal, fields=forgotten, deadline=deadline, now=now)


def metadata_due(
    obj: Object[Any], tenant: TenantSight | None, recorded: str | None, finalizer: str, *, referenced: bool = True
) -> SetMetadata | None:
    """What is missing of finalizer and owner reference, in one patch (A-CTL-8); None: nothing, or not their time yet.

    They belong on the object once the Tenant admits it and is not going away; the reference only where it is ``referenced``.
    """
    if tenant is None or not tenant.admits or recorded not in (None, tenant.tenant_id):
        return None
    if tenant.deleting and recorded is None:
        return None
    owners = _with_owner(obj.owners, tenant) if referenced else obj.owners
    if finalizer in obj.finalizers and owners == obj.owners:
        return None
    return SetMetadata(obj.finalizers if finalizer in obj.finalizers else (*obj.finalizers, finalizer), owners)


def _with_owner(owners: tuple[Mapping[str, Any], ...], tenant: TenantSight) -> tuple[Mapping[str, Any], ...]:
    """The owner references with exactly one to this Tenant; a stale one (restored from a backup) is replaced (A-GC-9)."""
    wanted = {
        "apiVersion": API_VERSION,
        "kind": "Tenant",
        "name": tenant.name,
        "uid": tenant.uid,
        "controller": False,
        "blockOwnerDeletion": True,
    }
    ours = [owner for owner in owners if is_tenant(owner)]
    if ours == [wanted]:
        return owners
    return (*(owner for owner in owners if owner not in ours), wanted)


def is_tenant(owner: Mapping[str, Any]) -> bool:
    """Whether an owner reference is to a Tenant, of whatever version of our API."""
    return owner.get("kind") == "Tenant" and str(owner.get("apiVersion", "")).partition("/")[0] == GROUP
