"""What an object that belongs to a Tenant sees of it."""

from collections.abc import Callable, Mapping

from keep_operator.domain import sights
from keep_operator.domain.tenancy import TenantSight
from keep_operator.reconcile.world import World
from keep_operator.resources.objects import Object
from keep_operator.resources.tenant import TenantSpec

# The labels of a namespace, None where there is none.
Labels = Callable[[str], Mapping[str, str] | None]


def sight(world: World, owner: Object[TenantSpec], namespace: str, labels: Labels) -> TenantSight:
    """The Tenant as objects of this namespace see it."""
    return sights.of_tenant(owner, namespace, labels(namespace) or {}, world.default_tenant)
