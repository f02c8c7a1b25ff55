"""What the operator knows, and who is woken when it learns something new.

Whatever is learnt, from a watch or from the answer to an own write, comes in by `World.take`, so that an edge wakes its
dependants exactly once. Nothing here waits for anything:

::

    Tenant     became ready, admits others, came, went   ->  its Providers and Workflows, and the runs that wait for these
               other defaults or floors for Workflows    ->  its Workflows
    Provider   came, went, changed its claim or record   ->  those that claim the same name
               came, went, became ready, has a new name  ->  the Workflows that use that name
    Workflow   came, went, changed its claim or record   ->  those that claim the same name
    both       came, went, became ready                  ->  their Tenant (counts, deletion guard)
    Revision   came, went, changed, by other hands       ->  the Workflows that it names or that own it
    Secret     came, went, changed                       ->  the Providers and Tenants that name it
    Workflow   came, went, changed                       ->  the decisions about it that are not handled yet,
                                                             the runs of it that are not accepted yet
               keeps more or fewer runs                  ->  the runs of it that have ended
    Run        ended                                     ->  the runs of the same Workflow that ended before
    ConfigMap  came, went, changed                       ->  the Workflows that name it
    Namespace  changed its labels                        ->  what is in it and whose Tenant selects by labels
"""

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable
from typing import Any, Final

from keep_operator.domain import decision, image, provider, run, tenancy, tenant, workflow
from keep_operator.domain.image import Said
from keep_operator.resources.decision import WorkflowDecisionSpec
from keep_operator.resources.kinds import (
    PROVIDERS,
    RECONCILED,
    TENANTS,
    WORKFLOW_REVISIONS,
    WORKFLOW_RUNS,
    WORKFLOWS,
    Key,
)
from keep_operator.resources.objects import Object
from keep_operator.resources.provider import ProviderSpec
from keep_operator.resources.run import WorkflowRunSpec
from keep_operator.resources.shapes import Invalid
from keep_operator.resources.tenant import TenantSpec
from keep_operator.resources.workflow import WorkflowSpec
from keep_operator.runtime.cache import Cache, Change
from keep_operator.runtime.workqueue import WorkQueue

# Counts in a Tenant's status are written at most this often, in seconds (design of Tenant's status).
COUNTS_EVERY_S: Final = 30.0
# A Tenant that has just come is Ready within moments as a rule. Its Providers and Workflows are woken by that edge, and told
# that it is there but not Ready only after this time, in seconds: else each would cost a status write more (A-CTL-8).
SETTLE_S: Final = 2.0
# Stands in the index for an object without tenantRef; no object is named so.
UNSET: Final = ""
# The kinds that belong to a Tenant, and the field of its status that counts them.
COUNTED: Final = {PROVIDERS.kind: "providers", WORKFLOWS.kind: "workflows"}
_QUEUED: Final = frozenset(resource.kind for resource in RECONCILED)


class World:
    """Cache and queue together. ``default_tenant`` is the id of the default tenant, None where there is none."""

    def __init__(self, queue: WorkQueue, default_tenant: str | None) -> None:
        self.queue = queue
        self.default_tenant = default_tenant
        self.cache = Cache(
            {
                # Index values come from the object alone, so that an object is found again where it was listed.
                "Tenant": {"tenant-id": lambda obj: (tenant.effective_id(obj),), "token": _tokens},
                "Provider": {
                    "Provider of": _tenant_refs,
                    "claim": lambda obj: (provider.external_name(obj),),
                    "known as": _known_as,
                    "secret": _secrets,
                    "namespace": lambda obj: (obj.key.namespace,),
                },
                "Workflow": {
                    "Workflow of": _tenant_refs,
                    "Workflow's claim": lambda obj: (workflow.external_name(obj),),
                    "config map": _config_maps,
                    "namespace": lambda obj: (obj.key.namespace,),
                },
                "WorkflowRevision": {
                    "revision of": lambda obj: ((obj.key.namespace, name) for name in image.workflows(obj))
                },
                "WorkflowRun": {"run to accept": _still_to_accept, "run that ended": _that_ended},
                "WorkflowDecision": {"decision about": _still_to_decide},
            }
        )
        self._uses: dict[Key, frozenset[str]] = {}
        self._users: defaultdict[str, set[Key]] = defaultdict(set)

    def tenant_of(self, obj: Object[Any]) -> tuple[str | None, Object[TenantSpec] | None]:
        """The name of the Tenant that an object belongs to (None without `tenantRef` and default tenant), and that Tenant."""
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

    def dependents(self, owner: Object[TenantSpec], kinds: Collection[str] = tuple(COUNTED)) -> list[Object[Any]]:
        """What belongs to a Tenant, in all namespaces: Providers and Workflows."""
        return [obj for kind in kinds for ref in self._refs(owner) for obj in self.cache.find(f"{kind} of", ref)]

    def _has_dependents(self, owner: Object[TenantSpec], kinds: Collection[str] = tuple(COUNTED)) -> bool:
        return any(self.cache.listed(f"{kind} of", ref) for kind in kinds for ref in self._refs(owner))

    def _refs(self, owner: Object[TenantSpec]) -> tuple[str, ...]:
        """How objects name this Tenant: by its name, and the default one also by none."""
        default = self._default()
        return (owner.key.name, UNSET) if default is not None and default.key == owner.key else (owner.key.name,)

    def claimants(self, tenant_name: str | None, external_name: str, kind: str = PROVIDERS.kind) -> list[Object[Any]]:
        """The Providers, or Workflows, that ask for a name within a tenant."""
        return [obj for obj in self.claiming(external_name, kind) if self.tenant_of(obj)[0] == tenant_name]

    def claiming(self, external_name: str, kind: str) -> list[Object[Any]]:
        """The Providers, or Workflows, that ask for a name, of whatever tenant."""
        return self.cache.find(_CLAIM_INDEX[kind], external_name)

    def provider(self, tenant_name: str | None, name: str) -> Object[ProviderSpec] | None:
        """The Provider that has the name within a tenant, else one that asks for it."""
        found = [obj for obj in self.cache.find("known as", name) if self.tenant_of(obj)[0] == tenant_name]
        return max(found, key=lambda obj: obj.status.get("externalName") == name, default=None)

    def uses(self, key: Key, names: Collection[str]) -> None:
        """Wake the Workflow when something happens to Providers of these names, which its definition uses; only these."""
        if self.cache.get(key) is None:
            names = ()
        for name in self._uses.pop(key, frozenset()).difference(names):
            self._users[name].discard(key)
            if not self._users[name]:
                del self._users[name]
        if names:
            self._uses[key] = frozenset(names)
        for name in names:
            self._users[name].add(key)

    def users(self, tenant_name: str | None, name: str) -> list[Object[WorkflowSpec]]:
        """The Workflows of a tenant whose definition uses a Provider's name, as far as they have been looked at."""
        found = [obj for key in self._users.get(name, ()) if (obj := self.cache.get(key)) is not None]
        return [obj for obj in found if self.tenant_of(obj)[0] == tenant_name]

    def revisions(self, of: Object[WorkflowSpec]) -> list[Object[Said]]:
        """The WorkflowRevisions that name the Workflow, or that it owns; without those that are going."""
        return [obj for obj in self.cache.find("revision of", (of.key.namespace, of.key.name)) if not obj.deleting]

    def ended_runs(self, namespace: str, workflow_name: str) -> list[Object[WorkflowRunSpec]]:
        """The WorkflowRuns of a Workflow that have ended."""
        return self.cache.find("run that ended", (namespace, workflow_name))

    def take(self, obj: Object[object], *, urgent: bool = True) -> None:
        """Learn from the watch how an object looks now; it and whoever depends on it is queued, if this is news."""
        if change := self.cache.put(obj):
            self._queue(change, urgent=urgent)
            self._wake(change)

    def lose(self, obj: Object[object]) -> None:
        """Learn from the watch that an object is gone."""
        if change := self.cache.remove(obj):
            self._queue(change)
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
        for index in ("secret", "token"):
            self._wake_all(self.cache.find(index, (namespace, name)))

    def config_map_changed(self, namespace: str, name: str) -> None:
        """A ConfigMap came, went or changed."""
        for obj in self.cache.find("config map", (namespace, name)):
            self.queue.add(obj.key)

    def namespace_changed(self, _scope: str, name: str) -> None:
        """A Namespace came, went or changed its labels."""
        for obj in self.cache.find("namespace", name):
            _, owner = self.tenant_of(obj)
            if owner is not None and not isinstance(owner.spec, Invalid):
                allowed = owner.spec.allowed_namespaces
                if allowed is not None and allowed.selector is not None:
                    self.queue.add(obj.key)

    def _queue(self, change: Change, *, urgent: bool = True) -> None:
        """Have whatever changed looked at; a revision by its Workflow, which writes it."""
        if change.key.kind == WORKFLOW_REVISIONS.kind:
            states = [obj for obj in (change.old, change.new) if obj is not None]
            for name in frozenset().union(*map(image.workflows, states)):
                key = Key(WORKFLOWS.kind, change.key.namespace, name)
                if self.cache.get(key) is not None:
                    self.queue.add(key, urgent=urgent)
        elif change.key.kind in _QUEUED:
            self.queue.add(change.key, urgent=urgent)

    def _wake(self, change: Change) -> None:
        kind = change.key.kind
        if kind == TENANTS.kind:
            self._wake_for_tenant(change)
        if kind in COUNTED:
            self._wake_claimants(change)
            self._wake_tenant(change)
        if kind == PROVIDERS.kind:
            self._wake_users(change)
        if kind == WORKFLOWS.kind:
            self._wake_about(change.key)
            if _keeps(change.old) != _keeps(change.new):
                self._wake_all(self.cache.find("run that ended", (change.key.namespace, change.key.name)))
            if change.new is None:
                self.uses(change.key, ())
        if kind == WORKFLOW_RUNS.kind and change.new is not None:
            self._wake_ended_before(change.old, change.new)

    def _wake_about(self, key: Key) -> None:
        """Whatever waits for this Workflow."""
        for index in ("decision about", "run to accept"):
            self._wake_all(self.cache.find(index, (key.namespace, key.name)))

    def _wake_ended_before(self, old: Object[WorkflowRunSpec] | None, new: Object[WorkflowRunSpec]) -> None:
        """Another run has ended, so an older one may have no place any more."""
        if not run.is_ended(new) or (old is not None and run.is_ended(old)):
            return
        for place in _that_ended(new):
            self._wake_all(self.cache.find("run that ended", place), but=new.key)

    def _wake_for_tenant(self, change: Change) -> None:
        seen = change.new or change.old
        if seen is None:
            return
        unnamed = tenant.effective_id(seen) == self.default_tenant or seen.key.name == self.default_tenant
        refs = (seen.key.name, UNSET) if unnamed else (seen.key.name,)
        if _seen_by_all(change.old) == _seen_by_all(change.new):
            if _seen_by_workflows(change.old) != _seen_by_workflows(change.new):
                self._wake_all(obj for ref in refs for obj in self.cache.find("Workflow of", ref))
            return
        dependents = [obj for kind in COUNTED for ref in refs for obj in self.cache.find(f"{kind} of", ref)]
        ready = any(obj is not None and obj.ready for obj in (change.old, change.new))
        if ready or change.new is None or tenant.leaving(change.new):
            self._wake_all(dependents)
            for obj in dependents:
                if obj.key.kind == WORKFLOWS.kind:
                    self._wake_all(self.cache.find("run to accept", (obj.key.namespace, obj.key.name)))
        else:
            for obj in dependents:
                self.queue.schedule(obj.key, SETTLE_S)
        self._wake_all(self.cache.find("tenant-id", tenant.effective_id(seen)), but=seen.key)

    def _wake_claimants(self, change: Change) -> None:
        if _claim_of(change.old) == _claim_of(change.new):
            return
        states = [obj for obj in (change.old, change.new) if obj is not None]
        names = {_asked_for(obj) for obj in states} | {obj.status.get("externalName") for obj in states}
        for name in names - {None}:
            self._wake_all(self.cache.find(_CLAIM_INDEX[change.key.kind], name), but=change.key)

    def _wake_tenant(self, change: Change) -> None:
        if _counted(change.old) != _counted(change.new):
            states = [obj for obj in (change.old, change.new) if obj is not None]
            for owner in {owner.key: owner for obj in states if (owner := self.tenant_of(obj)[1])}.values():
                self._recount(owner, change.key.kind)

    def _wake_users(self, change: Change) -> None:
        if _seen_by_users(change.old) == _seen_by_users(change.new):
            return
        states = [obj for obj in (change.old, change.new) if obj is not None]
        tenants = {self.tenant_of(obj)[0] for obj in states}
        names = {name for obj in states for name in _known_as(obj)}
        self._wake_all(user for name in names for tenant_name in tenants for user in self.users(tenant_name, name))

    def _recount(self, owner: Object[TenantSpec], kind: str) -> None:
        """Let the Tenant count again: at once where its total leaves or reaches 0 or a deletion waits, else soon."""
        written = (owner.status.get(COUNTED[kind]) or {}).get("total", 0)
        goes = tenant.leaving(owner) or (owner.deleting and not self._has_dependents(owner))
        if goes or bool(written) != self._has_dependents(owner, (kind,)):
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

    def _wake_all(self, objects: Iterable[Object[Any]], *, but: Key | None = None) -> None:
        for obj in objects:
            if obj.key != but:
                self.queue.add(obj.key)


_CLAIM_INDEX: Final = {PROVIDERS.kind: "claim", WORKFLOWS.kind: "Workflow's claim"}


def _tenant_ref(obj: Object[Any]) -> str | None:
    """The Tenant by name; of a spec that cannot be read the one that has been its owner so far, None if there is none."""
    if isinstance(obj.spec, Invalid):
        return next((str(owner["name"]) for owner in obj.owners if tenancy.is_tenant(owner)), None)
    return UNSET if obj.spec.tenant_ref is None else str(obj.spec.tenant_ref.name)


def _tenant_refs(obj: Object[Any]) -> tuple[str, ...]:
    return () if (ref := _tenant_ref(obj)) is None else (ref,)


def _known_as(obj: Object[ProviderSpec]) -> frozenset[str]:
    """The name that a Provider has, and the one that it asks for."""
    return frozenset(name for name in (obj.status.get("externalName"), provider.external_name(obj)) if name)


def _secrets(obj: Object[ProviderSpec]) -> tuple[Hashable, ...]:
    if isinstance(obj.spec, Invalid):
        return ()
    return tuple({(obj.key.namespace, entry.value_from.secret_key_ref.name) for entry in obj.spec.secrets})


def _tokens(obj: Object[TenantSpec]) -> tuple[Hashable, ...]:
    if isinstance(obj.spec, Invalid):
        return ()
    return tuple({(each.secret_ref.namespace, each.secret_ref.name) for each in obj.spec.ingest_tokens})


def _config_maps(obj: Object[WorkflowSpec]) -> tuple[Hashable, ...]:
    if isinstance(obj.spec, Invalid) or obj.spec.definition_from is None:
        return ()
    return ((obj.key.namespace, obj.spec.definition_from.config_map_key_ref.name),)


def _still_to_decide(obj: Object[WorkflowDecisionSpec]) -> tuple[Hashable, ...]:
    """The Workflow that a decision is about, until that is handled."""
    if isinstance(obj.spec, Invalid) or decision.is_handled(obj):
        return ()
    return ((obj.key.namespace, obj.spec.workflow_ref.name),)


def _still_to_accept(obj: Object[WorkflowRunSpec]) -> tuple[Hashable, ...]:
    """The Workflow that a run is of, until that has a row or was refused."""
    if isinstance(obj.spec, Invalid) or run.is_ended(obj) or "executionId" in obj.status:
        return ()
    return ((obj.key.namespace, obj.spec.workflow_ref.name),)


def _that_ended(obj: Object[WorkflowRunSpec]) -> tuple[Hashable, ...]:
    """The Workflow that a run was of, once that has ended."""
    if isinstance(obj.spec, Invalid) or not run.is_ended(obj):
        return ()
    return ((obj.key.namespace, obj.spec.workflow_ref.name),)


def _keeps(obj: Object[WorkflowSpec] | None) -> Hashable:
    """How many runs a Workflow keeps."""
    if obj is None or isinstance(obj.spec, Invalid):
        return None
    return (obj.spec.run_history.successful, obj.spec.run_history.failed)


def _seen_by_all(obj: Object[TenantSpec] | None) -> Hashable:
    """What the plans of all that belong to a Tenant read of it."""
    if obj is None:
        return None
    readable = not isinstance(obj.spec, Invalid)
    allowed = None if isinstance(obj.spec, Invalid) else obj.spec.allowed_namespaces
    ready = (obj.ready, obj.condition("Ready"))
    return (
        obj.uid,
        ready,
        obj.deleting,
        tenant.leaving(obj),
        tenant.effective_id(obj),
        readable,
        allowed and allowed.model_dump_json(),
    )


def _seen_by_workflows(obj: Object[TenantSpec] | None) -> Hashable:
    """What only the plan of a Workflow reads."""
    if obj is None or isinstance(obj.spec, Invalid):
        return None
    rules = (obj.spec.defaults, obj.spec.policy)
    return tuple(None if each is None else each.model_dump_json() for each in rules)


def _seen_by_users(obj: Object[ProviderSpec] | None) -> Hashable:
    """What the plan of a Workflow reads of a Provider that its definition uses."""
    if obj is None:
        return None
    kind = None if isinstance(obj.spec, Invalid) else obj.spec.type
    return (obj.uid, kind, obj.ready, obj.status.get("providerId"), _known_as(obj), _tenant_ref(obj))


def _asked_for(obj: Object[Any]) -> str | None:
    return provider.external_name(obj) if obj.key.kind == PROVIDERS.kind else workflow.external_name(obj)


def _claim_of(obj: Object[Any] | None) -> Hashable:
    """What others that claim the same name read of this one."""
    if obj is None:
        return None
    record = tuple(obj.status.get(field) for field in ("providerId", "workflowId", "externalName", "tenantId"))
    spec: Hashable = None
    finalizer = workflow.FINALIZER
    if obj.key.kind == PROVIDERS.kind:
        finalizer = provider.FINALIZER
        if not isinstance(obj.spec, Invalid):
            spec = (obj.spec.type, obj.spec.suspend, provider.refusal(obj) is None)
    elif not isinstance(obj.spec, Invalid):
        spec = obj.spec.suspend
    return (obj.uid, obj.deleting, _tenant_ref(obj), _asked_for(obj), spec, finalizer in obj.finalizers, record)


def _counted(obj: Object[Any] | None) -> Hashable:
    if obj is None:
        return None
    return (obj.uid, obj.ready, _tenant_ref(obj), obj.deleting, "tenantId" in obj.status, obj.condition("TenantReady"))
