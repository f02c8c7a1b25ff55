"""What a Tenant needs next: its row, and a guard that holds it while anything depends on it.

::

    (none) ──insert──► owned ──Tenant deleted, no dependents (or confirmed)──► without owner   deletionPolicy: Orphan
                         │                                                └──► deleted, with or after its last provider
                         └── another Tenant object asks for the same id: hand-over, as for providers
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

from keep_operator.domain import conditions, ownership, planning
from keep_operator.domain.conditions import Finding
from keep_operator.domain.ownership import Claim, HolderState, Owner
from keep_operator.domain.planning import Plan, SetMetadata
from keep_operator.resources.kinds import GROUP, Key
from keep_operator.resources.objects import CONFIRM_DELETION, Object
from keep_operator.resources.parts import LabelSelector
from keep_operator.resources.shapes import Invalid
from keep_operator.resources.tenant import TenantSpec

FINALIZER: Final = f"{GROUP}/tenant"
LIVING: Final = ("Synced",)


@dataclass(frozen=True, slots=True)
class Record:
    """The row of one tenant. ``id`` is the effective tenant id, the target of every foreign key.

    ``delete_when_empty``: its Tenant is gone with ``deletionPolicy: Delete``; the row goes with the last
    provider row that still points to it (A-GC-8).
    """

    id: str
    display_name: str
    owner: Owner | None
    delete_when_empty: bool = False


@dataclass(frozen=True, slots=True)
class Dependents:
    """The Providers that name this Tenant, in any namespace."""

    total: int = 0
    ready: int = 0


@dataclass(frozen=True, slots=True)
class Observed:
    """One look at the world of a Tenant.

    ``record`` is the row of its effective id, whoever owns it; ``collides_with`` another row whose id differs in
    letter case only. ``rivals`` are the other live Tenants with the same effective id; ``counts_due_in`` is the time
    until the counts may be written again (at most every 30 s, so that a thousand new Providers are not a thousand writes).
    ``done`` names the last action of this very reconcile.
    """

    object: Object[TenantSpec]
    cluster_id: str
    default_id: str | None
    runtime: str
    dependents: Dependents = Dependents()
    counts_due_in: timedelta = timedelta()
    record: Record | None = None
    collides_with: str | None = None
    holder_state: HolderState | None = None
    rivals: tuple[Claim, ...] = ()
    done: str | None = None


@dataclass(frozen=True, slots=True)
class Insert:
    """A new row."""

    record: Record


@dataclass(frozen=True, slots=True)
class Rename:
    """The row's display name shall be this."""

    record: Record
    display_name: str


@dataclass(frozen=True, slots=True)
class HandOver:
    """The row passes to another Tenant object of this cluster."""

    record: Record
    to: Owner


@dataclass(frozen=True, slots=True)
class Adopt:
    """A row that nobody of this cluster owns becomes ours; who had it goes to the ledger (A-AD-1)."""

    record: Record
    to: Owner


@dataclass(frozen=True, slots=True)
class Delete:
    """The row goes, now or with the last provider row that points to it."""

    record: Record


@dataclass(frozen=True, slots=True)
class Orphan:
    """The row stays, without an owner."""

    record: Record


Action: TypeAlias = Insert | Rename | HandOver | Adopt | Delete | Orphan


def declared_id(obj: Object[TenantSpec]) -> str:
    """The tenant id that the spec asks for; the name where it says nothing or cannot be read."""
    return obj.key.name if isinstance(obj.spec, Invalid) else obj.spec.tenant_id or obj.key.name


def effective_id(obj: Object[TenantSpec]) -> str:
    """The tenant id in force: the recorded one wins over a spec that was changed where nothing forbids it."""
    return str(obj.status.get("tenantId") or declared_id(obj))


def admits(obj: Object[TenantSpec], namespace: str, labels: Mapping[str, str], default_id: str | None) -> bool:
    """Whether objects of a namespace (with these labels) may belong to the tenant.

    Where the spec says nothing, the default tenant admits all and any other none (design of `allowedNamespaces`).
    """
    if isinstance(obj.spec, Invalid):
        return False
    allowed = obj.spec.allowed_namespaces
    if allowed is None:
        return effective_id(obj) == default_id
    if allowed.all is not None:
        return bool(allowed.all)
    if allowed.names is not None:
        return namespace in allowed.names
    return allowed.selector is not None and _selects(allowed.selector, labels)


def _selects(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Kubernetes' rule: every label and every expression must hold; NotIn and DoesNotExist hold for absent keys too."""
    for wanted in selector.match_expressions:
        value = labels.get(wanted.key)
        match wanted.operator:
            case "In":
                holds = value is not None and value in wanted.values
            case "NotIn":
                holds = value is None or value not in wanted.values
            case "Exists":
                holds = value is not None
            case "DoesNotExist":
                holds = value is None
        if not holds:
            return False
    return all(labels.get(key) == value for key, value in selector.match_labels.items())


def plan(seen: Observed, now: datetime) -> Plan[Action]:
    """What to do next; safe to ask as often as one likes, and empty once there is nothing left to do."""
    return _plan_deletion(seen, now) if seen.object.deleting else _plan_life(seen, now)


def refusal(seen: Observed) -> Finding | None:
    """Why this spec can never be carried out, whatever the rest of the world looks like; None if it can."""
    obj, spec = seen.object, seen.object.spec
    if isinstance(spec, Invalid):
        return conditions.false("Synced", "SpecRefused", f"The spec is not valid: {spec}")
    recorded, declared = _recorded_id(seen), declared_id(obj)
    if recorded is not None and recorded != declared:
        return conditions.false(
            "Synced",
            "ImmutableFieldChanged",
            f'The tenant id is "{recorded}" and stays in force; spec.tenantId now says "{declared}". Set it back, or make a new Tenant.',
        )
    runtime = spec.runtime or seen.runtime
    if spec.keep is not None and runtime != "keep":
        return conditions.false(
            "Synced", "SpecRefused", "spec.keep is only for spec.runtime: keep. Remove it, or set the runtime."
        )
    if runtime != "builtin":
        return conditions.false(
            "Synced",
            "SpecRefused",
            f'spec.runtime "{runtime}" is not supported by this version of the operator. Use builtin.',
        )
    return None


def _plan_life(seen: Observed, now: datetime) -> Plan[Action]:
    spec = seen.object.spec
    refused = refusal(seen)
    if refused is not None or isinstance(spec, Invalid):
        assert refused is not None
        return _report(seen, refused, now=now)
    made = _plan_active(seen, spec, now)
    if spec.suspend and made.actions:
        return _report(seen, planning.PENDING, now=now)
    return made


def _plan_active(seen: Observed, spec: TenantSpec, now: datetime) -> Plan[Action]:
    obj = seen.object
    if FINALIZER not in obj.finalizers:
        return Plan(actions=(SetMetadata((*obj.finalizers, FINALIZER), obj.owners),))
    blocked = _judge_record(seen)
    if blocked is not None:
        return _report(seen, blocked, now=now)
    me = Owner(seen.cluster_id, "", obj.key.name, obj.uid)
    record = seen.record
    if record is None:
        tenant_id = declared_id(obj)
        return Plan(actions=(Insert(Record(tenant_id, spec.display_name or tenant_id, me)),))
    if record.owner != me:
        if record.owner is not None and record.owner.cluster_id == seen.cluster_id:
            return Plan(actions=(HandOver(record, me),), wakes=(Key("Tenant", "", record.owner.name),))
        return Plan(actions=(Adopt(record, me),))
    if spec.display_name is not None and record.display_name != spec.display_name:
        return Plan(actions=(Rename(record, spec.display_name),))
    fields: dict[str, Any] = {"tenantId": record.id, "runtime": spec.runtime or seen.runtime}
    synced = planning.synced(obj, seen.done, f'Tenant id "{record.id}"')
    return _report(seen, synced, fields=fields, now=now)


def _judge_record(seen: Observed) -> Finding | None:
    """Whether somebody else's claim to the tenant id stands in the way; None if nobody's does."""
    obj, record = seen.object, seen.record
    spec = obj.spec
    assert not isinstance(spec, Invalid)
    mine = Claim(obj.key, obj.uid, obj.created_at, "", ready_to_own=True, can_own=True)
    first = ownership.winner([mine, *(rival for rival in seen.rivals if rival.can_own)]) or mine
    if seen.collides_with is not None:
        return conditions.false(
            "Synced",
            "ExternalResourceExists",
            f'Tenant id "{declared_id(obj)}" differs from the existing "{seen.collides_with}" in letter case only. '
            "Choose another spec.tenantId.",
        )
    if record is None:
        return None if first is mine else _conflict(first.key.name, declared_id(obj))
    owner = record.owner
    if owner is None or owner.cluster_id != seen.cluster_id:
        policy = spec.adoption_policy or ("IfUnowned" if record.id == seen.default_id else "Never")
        if policy == "Force" or (policy == "IfUnowned" and owner is None):
            return None
        whose = f"belongs to another cluster ({owner})" if owner else "is not managed by any object"
        wanted = "Force" if owner else "IfUnowned"
        return conditions.false(
            "Synced",
            "ExternalResourceExists",
            f'The tenant "{record.id}" exists and {whose}. To take it over set spec.adoptionPolicy: {wanted}.',
        )
    if owner.uid == obj.uid:
        return None
    if seen.holder_state is HolderState.LIVE or first is not mine:
        return _conflict(owner.name if seen.holder_state is HolderState.LIVE else first.key.name, record.id)
    return None


def _conflict(holder: str, tenant_id: str) -> Finding:
    return conditions.false(
        "Synced",
        "ExternalNameConflict",
        f'The tenant id "{tenant_id}" is taken. Managed by Tenant {holder}. Choose another spec.tenantId.',
    )


def _plan_deletion(seen: Observed, now: datetime) -> Plan[Action]:
    """Nothing while dependents exist and nobody confirmed; then the row by hand-over or policy, then the finalizer."""
    obj, record = seen.object, seen.record
    if FINALIZER not in obj.finalizers:
        return Plan()
    heir = ownership.winner(claim for claim in seen.rivals if claim.can_own)
    confirmed = obj.annotations.get(CONFIRM_DELETION) == obj.key.name
    if seen.dependents.total and not confirmed:
        counts = _counts(seen)
        count = (counts or obj.status)["providers"]["total"]
        held = conditions.true(
            "Deleting",
            "DependentsExist",
            f"{'1 Provider' if count == 1 else f'{count} Providers'} of this Tenant still there and serving. "
            f"Delete them first, or confirm with the annotation {CONFIRM_DELETION}={obj.key.name} to delete them too.",
        )
        doubt = conditions.unknown("Synced", "Deleting", "The Tenant is being deleted")
        (known,) = planning.known_before(obj, LIVING, doubt)
        return _report(seen, known, abnormal=(held,), now=now)
    if record is not None and _owns(seen, record):
        if heir is not None and heir.ready_to_own:
            to = Owner(seen.cluster_id, "", heir.key.name, heir.uid)
            return Plan(actions=(HandOver(record, to),), wakes=(heir.key,))
        orphans = isinstance(obj.spec, Invalid) or obj.spec.deletion_policy == "Orphan"
        return Plan(actions=(Orphan(record) if orphans else Delete(record),))
    kept = tuple(name for name in obj.finalizers if name != FINALIZER)
    return Plan(actions=(SetMetadata(kept, obj.owners),), wakes=tuple(claim.key for claim in seen.rivals))


def _counts(seen: Observed) -> dict[str, Any]:
    """The status fields of the dependents; left out while they may not be written yet.

    A total that leaves or reaches 0 is written at once: admission policies read it. So is the one that a deletion is first
    held for, since its message names it.
    """
    total, ready = seen.dependents.total, seen.dependents.ready
    counted = {"total": total, "ready": ready}
    written = seen.object.status.get("providers") or {}
    held_first = seen.object.deleting and seen.object.condition("Deleting") is None
    due = not seen.counts_due_in or held_first or bool(written.get("total", 0)) != bool(total)
    return {"providers": counted} if due or written == counted else {}


def _recorded_id(seen: Observed) -> str | None:
    """The id of the row that is ours, else the one in the status; None where there has been no row."""
    if seen.record is not None and _owns(seen, seen.record):
        return seen.record.id
    return seen.object.status.get("tenantId")


def _owns(seen: Observed, record: Record) -> bool:
    owner = record.owner
    return owner is not None and (owner.cluster_id, owner.uid) == (seen.cluster_id, seen.object.uid)


def _report(
    seen: Observed,
    synced: Finding,
    *,
    abnormal: tuple[Finding, ...] = (),
    fields: dict[str, Any] | None = None,
    now: datetime,
) -> Plan[Action]:
    """Report ``synced``, the id in force, and the dependents, whatever else is wrong: policies rely on their number."""
    recorded, counts, spec = _recorded_id(seen), _counts(seen), seen.object.spec
    if not isinstance(spec, Invalid) and spec.suspend:
        abnormal = (*abnormal, planning.SUSPENDED)
    known = {} if recorded is None else {"tenantId": recorded}
    made: Plan[Action] = planning.report(
        seen.object, [synced], abnormal=abnormal, fields={**known, **(fields or {}), **counts}, now=now
    )
    return made if counts else replace(made, wake_in=seen.counts_due_in)
