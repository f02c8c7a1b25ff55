"""What an object that belongs to a Tenant sees of it."""

from collections.abc import Callable, Mapping

from keep_operator.domain import tenant
from keep_operator.domain.tenancy import TenantSight
from keep_operator.reconcile.world import World
from keep_operator.resources.objects import Object
from keep_operator.resources.shapes import Invalid
from keep_operator.resources.tenant import TenantSpec

# The labels of a namespace, None where there is none.
Labels = Callable[[str], Mapping[str, str] | None]


def sight(world: World, owner: Object[TenantSpec], namespace: str, labels: Labels) -> TenantSight:
    """The Tenant as objects of this namespace see it."""
    spec = None if isinstance(owner.spec, Invalid) else owner.spec
    return TenantSight(
        name=owner.key.name,
        uid=owner.uid,
        tenant_id=tenant.effective_id(owner),
        ready=owner.ready,
        serving="tenantId" in owner.status and owner.condition("Ready") != "False",
        deleting=owner.deleting,
        leaving=tenant.leaving(owner),
        admits=tenant.admits(owner, namespace, labels(namespace) or {}, world.default_tenant),
        defaults=None if spec is None else spec.defaults,
        policy=None if spec is None else spec.policy,
        runtime=None if spec is None else spec.runtime,
    )
