"""What a Workflow sees of other objects, and what its own metadata says: the same for the operator and for a plan on paper."""

from collections.abc import Collection, Mapping
from typing import Final

from keep_operator.domain import tenant
from keep_operator.domain.desired import ProviderSight
from keep_operator.domain.gates import TRUSTED
from keep_operator.domain.history import Author
from keep_operator.domain.tenancy import TenantSight
from keep_operator.resources.objects import AUTHOR, CHANGE_NOTE, IMPORTANT, Object
from keep_operator.resources.provider import ProviderSpec
from keep_operator.resources.shapes import Invalid
from keep_operator.resources.tenant import TenantSpec
from keep_operator.resources.workflow import WorkflowSpec

# What a revision's object takes, in characters.
NOTE_LIMIT: Final = 1024
NAME_LIMIT: Final = 253


def of_tenant(
    owner: Object[TenantSpec], namespace: str, labels: Mapping[str, str], default_id: str | None
) -> TenantSight:
    """The Tenant as objects of a namespace with these labels see it."""
    spec = None if isinstance(owner.spec, Invalid) else owner.spec
    return TenantSight(
        name=owner.key.name,
        uid=owner.uid,
        tenant_id=tenant.effective_id(owner),
        ready=owner.ready,
        serving="tenantId" in owner.status and owner.condition("Ready") != "False",
        deleting=owner.deleting,
        leaving=tenant.leaving(owner),
        admits=tenant.admits(owner, namespace, labels, default_id),
        defaults=None if spec is None else spec.defaults,
        policy=None if spec is None else spec.policy,
        runtime=None if spec is None else spec.runtime,
    )


def of_provider(obj: Object[ProviderSpec], name: str) -> ProviderSight:
    """A Provider by the name that a definition uses; one that is about to get it does not serve under it yet."""
    has_it = obj.status.get("externalName") == name
    return ProviderSight(
        type="" if isinstance(obj.spec, Invalid) else obj.spec.type,
        ready=has_it and obj.ready,
        serving=has_it and obj.status.get("providerId") is not None,
    )


def author(obj: Object[WorkflowSpec], trusted: Collection[str]) -> Author | None:
    """Who changed the definition, as far as the object tells: a claim, unless the tenant trusts who wrote it (A-AP-3)."""
    claimed = _cut(obj.annotations.get(AUTHOR), NAME_LIMIT)
    manager = _cut(obj.source.get("fieldManager"), NAME_LIMIT)
    if claimed is not None:
        return Author(claimed, TRUSTED if manager in trusted else "Annotation")
    return None if manager is None else Author(manager, "FieldManager")


def note(obj: Object[WorkflowSpec]) -> str | None:
    """Why the definition was changed, in the words of its author."""
    return _cut(obj.annotations.get(CHANGE_NOTE), NOTE_LIMIT)


def is_marked(obj: Object[WorkflowSpec]) -> bool:
    """Whether its author calls it important."""
    return obj.annotations.get(IMPORTANT) == "true"


def _cut(text: str | None, limit: int) -> str | None:
    """The text as one line, without what no terminal and no database takes; None where nothing is left."""
    printable = "".join(each if each.isprintable() else " " for each in text or "")
    return " ".join(printable.split())[:limit].strip() or None
