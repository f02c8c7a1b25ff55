"""What the operator knows, and who is woken when it learns something new.

Whatever is learnt, from a watch or from the answer to an own write, comes in by `World.take`, so that an edge wakes its
dependants exactly once. Nothing here waits for anything:

::

    Tenant     became ready, admits others, came, went   ->  its Providers
    Provider   came, went, changed its claim or record   ->  those that claim the same name
               came, went, became ready                  ->  its Tenant (counts, deletion guard)
    Secret     came, went, changed                       ->  the Providers that name it
    Namespace  changed its labels                        ->  the Providers in it whose Tenant selects by labels
"""

from collections.abc import Hashable, Iterable
from typing import Final

from keep_operator.domain import provider, tenant
from keep_operator.resources.kinds import Key
from keep_operator.resources.objects import Object
from keep_operator.resources.provider import ProviderSpec
from keep_operator.resources.shapes import Invalid
from keep_operator.resources.tenant import TenantSpec
from keep_operator.runtime.cache import Cache, Change
from keep_operator.runtime.workqueue import WorkQueue

# Counts in a Tenant's status are written at most this often, in seconds (design of Tenant's status).
COUNTS_EVERY_S: Final = 30.0
# A Tenant that has just come is Ready within moments as a rule. Its Providers are woken by that edge, and told that it is
# there but not Ready only after this time, in seconds: else each would cost a status write more (A-CTL-8).
SETTLE_S: Final = 2.0
# Stands in the index for a Provider without tenantRef; no object is named so.
UNSET: Final = ""


class World:
    """Cache and queue together. ``default_tenant`` is the id of the default tenant, None where there is none."""

    def __init__(self, queue: WorkQueue, default_tenant: str | None) -> None:
        self.queue = queue
        self.default_tenant = default_tenant
        self.cache = Cache(
            {
                # Index values come from the object alone, so that an object is found again where it was listed.
                "Tenant": {"tenant-id": lambda obj: (tenant.effective_id(obj),)},
                "Provider": {
                    "tenant": lambda obj: () if (ref := _tenant_ref(obj)) is None else (ref,),
                    "claim": lambda obj: (provider.external_name(obj),),
                    "secret": _secrets,
                    "namespace": lambda obj: (obj.key.namespace,),
                },
            }
        )

    def tenant_of(self, obj: Object[ProviderSpec]) -> tuple[str | None, Object[TenantSpec] | None]:
        """The name of the Tenant that a Provider belongs to (None without `tenantRef` and default tenant), and that Tenant."""
        ref = _tenant_ref(obj)
        if ref is None:
            return None, None
        if ref != UNSET:
            return ref, self.tenant(ref)
        found = self._default()
        return (found.key.name if found is not None else self.default_tenant), found

    def tenant(self, name: str) -> Object[TenantSpec] | None:
        """A Tenant by its object's name."""
        return self.cache.get(Key("Tenant", "", name))

    def dependents(self, owner: Object[TenantSpec]) -> list[Object[ProviderSpec]]:
        """The Providers that belong to a Tenant, in all namespaces."""
        named = self.cache.find("tenant", owner.key.name)
        default = self._default()
        unnamed = self.cache.find("tenant", UNSET) if default is not None and default.key == owner.key else []
        return [*named, *unnamed]

    def _has_dependents(self, owner: Object[TenantSpec]) -> bool:
        default = self._default()
        unnamed = default is not None and default.key == owner.key and self.cache.listed("tenant", UNSET)
        return bool(unnamed or self.cache.listed("tenant", owner.key.name))

    def claimants(self, tenant_name: str | None, external_name: str) -> list[Object[ProviderSpec]]:
        """The Providers that ask for a name within a tenant."""
        found = self.cache.find("claim", external_name)
        return [obj for obj in found if self.tenant_of(obj)[0] == tenant_name]

    def take(self, obj: Object[object], *, urgent: bool = True) -> None:
        """Learn from the watch how an object looks now; it and whoever depends on it is queued, if this is news."""
        if change := self.cache.put(obj):
            self.queue.add(change.key, urgent=urgent)
            self._wake(change)

    def lose(self, obj: Object[object]) -> None:
        """Learn from the watch that an object is gone."""
        if change := self.cache.remove(obj):
            self.queue.add(change.key)
            self._wake(change)

    def wrote(self, obj: Object[object]) -> None:
        """Learn from the answer to an own write; the writer itself looks again, so only the others are queued."""
        if change := self.cache.put(obj):
            self._wake(change)

    def forget(self, key: Key) -> None:
        """Learn from an answer that the object does not exist."""
        if change := self.cache.forget(key):
            self._wake(change)

    def secret_changed(self, namespace: str, name: str) -> None:
        """A Secret came, went or changed."""
        for obj in self.cache.find("secret", (namespace, name)):
            self.queue.add(obj.key)

    def namespace_changed(self, _scope: str, name: str) -> None:
        """A Namespace came, went or changed its labels."""
        for obj in self.cache.find("namespace", name):
            _, owner = self.tenant_of(obj)
            if owner is not None and not isinstance(owner.spec, Invalid):
                allowed = owner.spec.allowed_namespaces
                if allowed is not None and allowed.selector is not None:
                    self.queue.add(obj.key)

    def _wake(self, change: Change) -> None:
        if change.key.kind == "Tenant":
            self._wake_for_tenant(change)
        else:
            self._wake_for_provider(change)

    def _wake_for_tenant(self, change: Change) -> None:
        seen = change.new or change.old
        if seen is None or _seen_by_providers(change.old) == _seen_by_providers(change.new):
            return
        unnamed = tenant.effective_id(seen) == self.default_tenant or seen.key.name == self.default_tenant
        dependents = [*self.cache.find("tenant", seen.key.name), *(self.cache.find("tenant", UNSET) if unnamed else ())]
        if any(obj is not None and obj.ready for obj in (change.old, change.new)) or change.new is None:
            self._wake_all(dependents)
        else:
            for obj in dependents:
                self.queue.schedule(obj.key, SETTLE_S)
        self._wake_all(self.cache.find("tenant-id", tenant.effective_id(seen)), but=seen.key)

    def _wake_for_provider(self, change: Change) -> None:
        states = [obj for obj in (change.old, change.new) if obj is not None]
        if _claim_of(change.old) != _claim_of(change.new):
            asked_for = {provider.external_name(obj) for obj in states}
            for name in (asked_for | {obj.status.get("externalName") for obj in states}) - {None}:
                self._wake_all(self.cache.find("claim", name), but=change.key)
        if _counted(change.old) != _counted(change.new):
            for owner in {owner.key: owner for obj in states if (owner := self.tenant_of(obj)[1])}.values():
                self._recount(owner)

    def _recount(self, owner: Object[TenantSpec]) -> None:
        """Let the Tenant count again: at once where its total leaves or reaches 0 or a deletion waits, else soon."""
        written, left = (owner.status.get("providers") or {}).get("total", 0), self._has_dependents(owner)
        if bool(written) != left or (owner.deleting and not left):
            self.queue.add(owner.key)
        else:
            self.queue.schedule(owner.key, COUNTS_EVERY_S)

    def _default(self) -> Object[TenantSpec] | None:
        """The default tenant's object: the one of that name, else the one with that id."""
        default = self.default_tenant
        if not default:
            return None
        found = self.cache.find("tenant-id", default)
        return self.tenant(default) or (found[0] if found else None)

    def _wake_all(self, objects: Iterable[Object[object]], *, but: Key | None = None) -> None:
        for obj in objects:
            if obj.key != but:
                self.queue.add(obj.key)


def _tenant_ref(obj: Object[ProviderSpec]) -> str | None:
    """The Tenant by name; of a spec that cannot be read the one that has been its owner so far, None if there is none."""
    if isinstance(obj.spec, Invalid):
        return next((str(owner["name"]) for owner in obj.owners if provider.is_tenant(owner)), None)
    return UNSET if obj.spec.tenant_ref is None else obj.spec.tenant_ref.name


def _secrets(obj: Object[ProviderSpec]) -> tuple[Hashable, ...]:
    if isinstance(obj.spec, Invalid):
        return ()
    return tuple({(obj.key.namespace, entry.value_from.secret_key_ref.name) for entry in obj.spec.secrets})


def _seen_by_providers(obj: Object[TenantSpec] | None) -> Hashable:
    """What a Provider's plan reads of its Tenant."""
    if obj is None:
        return None
    readable = not isinstance(obj.spec, Invalid)
    allowed = None if isinstance(obj.spec, Invalid) else obj.spec.allowed_namespaces
    ready = (obj.ready, obj.condition("Ready"))
    return (obj.uid, ready, obj.deleting, tenant.effective_id(obj), readable, allowed and allowed.model_dump_json())


def _claim_of(obj: Object[ProviderSpec] | None) -> Hashable:
    """What others that claim the same name read of this one."""
    if obj is None:
        return None
    spec = None if isinstance(obj.spec, Invalid) else (obj.spec.type, obj.spec.suspend, provider.refusal(obj) is None)
    record = tuple(obj.status.get(field) for field in ("providerId", "externalName", "tenantId"))
    finalizer = provider.FINALIZER in obj.finalizers
    return (obj.uid, obj.deleting, _tenant_ref(obj), provider.external_name(obj), spec, finalizer, record)


def _counted(obj: Object[ProviderSpec] | None) -> Hashable:
    return None if obj is None else (obj.uid, obj.ready, _tenant_ref(obj))
