"""What a Tenant needs next: its row, and a guard that holds it while anything depends on it.

::

    (none) ──insert──► owned ──Tenant deleted, no dependents (or confirmed)──► without owner   deletionPolicy: Orphan
                         │                                                └──► deleted, with or after its last provider
                         └── another Tenant object asks for the same id: hand-over, as for providers
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from keep_operator.domain import conditions, ownership, planning
from keep_operator.domain.conditions import Finding
from keep_operator.domain.ownership import Claim, HolderState, Owner
from keep_operator.domain.planning import Plan, SetMetadata
from keep_operator.resources.kinds import GROUP, Key
from keep_operator.resources.objects import CONFIRM_DELETION, Object
from keep_operator.resources.parts import LabelSelector
from keep_operator.resources.shapes import DeletionPolicy, Invalid
from keep_operator.resources.tenant import TenantSpec

FINALIZER: Final = f"{GROUP}/tenant"
LIVING: Final = ("Synced",)
# A Tenant about to go does not count how many of its objects are still Ready.
COUNTS_LATER: Final = timedelta(seconds=30)
# A condition of its own, which `Ready` does not sum up.
TOKENS_RESOLVED: Final = "TokensResolved"
# When Secrets that could not be read are asked for again: no watch would tell.
TOKENS_AGAIN: Final = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Token:
    """A token of a machine that posts events, as it is stored; ``name`` is where it stands: namespace/Secret/key."""

    name: str
    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Tokens:
    """What became of the Secrets with tokens. ``accepted`` are the tokens as they shall be stored.

    The others by their names: whose Secret (or key) is missing, which cannot be a token, and which could not be read just
    now; of those what is stored stays in ``accepted``.
    """

    accepted: tuple[Token, ...] = ()
    without_secret: tuple[str, ...] = ()
    without_key: tuple[str, ...] = ()
    out_of_reach: tuple[str, ...] = ()
    unusable: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def any(self) -> bool:
        """Whether the spec names one at all."""
        return any(
            (self.accepted, self.without_secret, self.without_key, self.out_of_reach, self.unusable, self.unread)
        )


@dataclass(frozen=True, slots=True)
class Record:
    """The row of one tenant. ``id`` is the effective tenant id, the target of every foreign key.

    ``delete_when_empty``: its Tenant is gone with ``deletionPolicy: Delete``; the row goes with the last
    provider row that still points to it (A-GC-8). ``checksum`` is the one that was written with the row, None in a row
    that is older than checksums. ``settings`` is what runners need of the spec (see `settings`).
    """

    id: str
    display_name: str
    owner: Owner | None
    delete_when_empty: bool = False
    deletion_policy: DeletionPolicy = "Orphan"
    checksum: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)
    tokens: tuple[Token, ...] = ()

    @property
    def intact(self) -> bool:
        """Whether the row is as the operator wrote it; one that has no checksum yet passes for that."""
        return self.checksum in (None, checksum(self, self.display_name), checksum(self, None))


def checksum(record: Record, display_name: str | None) -> str:
    """What is stored beside all that the operator wrote (see `domain.provider.checksum`).

    ``display_name`` is None where the spec leaves it to others. Without settings it is as it was before there were any.
    """
    content: list[Any] = [record.id, display_name, record.deletion_policy]
    if record.settings:
        content.append(record.settings)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def settings(spec: TenantSpec) -> dict[str, Any]:
    """What runners need of a spec, as it is stored; empty where it says nothing."""
    allow = () if spec.egress is None else spec.egress.allow
    return {"egress": {"allow": sorted(allow)}} if allow else {}


@dataclass(frozen=True, slots=True)
class Dependents:
    """The Providers, or the Workflows, that name this Tenant, in any namespace."""

    total: int = 0
    ready: int = 0


@dataclass(frozen=True, slots=True)
class Observed:
    """One look at the world of a Tenant.

    ``record`` is the row of its effective id, whoever owns it; ``collides_with`` another row whose id differs in
    letter case only. ``providers`` and ``workflows`` are what depends on it. ``rivals`` are the other live Tenants with the
    same effective id; ``counts_due_in`` is the time until the counts may be written again (at most every 30 s, so that a
    thousand new Providers are not a thousand writes). ``to_give_up``: dependents without an owner reference still have
    their records. ``tokens`` is what became of the Secrets that the spec names. ``done`` names the last action of this very reconcile.
    """

    object: Object[TenantSpec]
    cluster_id: str
    default_id: str | None
    runtime: str
    providers: Dependents = Dependents()
    workflows: Dependents = Dependents()
    counts_due_in: timedelta = timedelta()
    record: Record | None = None
    collides_with: str | None = None
    holder_state: HolderState | None = None
    rivals: tuple[Claim, ...] = ()
    to_give_up: bool = False
    tokens: Tokens = Tokens()
    done: str | None = None


@dataclass(frozen=True, slots=True)
class Insert:
    """A new row."""

    record: Record


@dataclass(frozen=True, slots=True)
class Update:
    """Our row shall say this; ``display_name`` None leaves it as it is."""

    record: Record
    display_name: str | None
    deletion_policy: DeletionPolicy
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Correct:
    """Our row, changed by other hands, shall say again what is declared (A-DR-1)."""

    record: Record
    display_name: str | None
    deletion_policy: DeletionPolicy
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)


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
    display_name: str | None
    deletion_policy: DeletionPolicy
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Delete:
    """The row goes, now or with the last provider row that points to it."""

    record: Record


@dataclass(frozen=True, slots=True)
class Orphan:
    """The row stays, without an owner."""

    record: Record


@dataclass(frozen=True, slots=True)
class SetTokens:
    """Events shall be taken with these tokens, and with no others."""

    record: Record
    tokens: tuple[Token, ...]


Action: TypeAlias = Insert | Update | Correct | HandOver | Adopt | Delete | Orphan | SetTokens


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


def confirmed(obj: Object[TenantSpec]) -> bool:
    """Whether a person has said that it may be deleted though others depend on it (A-GC-8)."""
    return obj.annotations.get(CONFIRM_DELETION) == obj.key.name


def leaving(obj: Object[TenantSpec]) -> bool:
    """Whether it goes, and what depends on it with it."""
    return obj.deleting and confirmed(obj)


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
    declared = (spec.display_name, spec.deletion_policy, settings(spec))
    record = seen.record
    if record is None:
        tenant_id = declared_id(obj)
        made = Record(
            tenant_id,
            spec.display_name or tenant_id,
            me,
            deletion_policy=spec.deletion_policy,
            settings=settings(spec),
        )
        return Plan(actions=(Insert(replace(made, checksum=checksum(made, spec.display_name))),))
    if record.owner != me:
        if record.owner is not None and record.owner.cluster_id == seen.cluster_id:
            return Plan(actions=(HandOver(record, me),), wakes=(Key("Tenant", "", record.owner.name),))
        return Plan(actions=(Adopt(record, me, *declared),))
    differs = differences(record, *declared)
    if not record.intact and spec.drift_policy == "Report":
        return _report(seen, _drifted(record, differs), now=now)
    if not record.intact:
        return Plan(actions=(Correct(record, *declared),))
    if differs or record.checksum is None:
        return Plan(actions=(Update(record, *declared),))
    if set(record.tokens) != set(seen.tokens.accepted):
        return Plan(actions=(SetTokens(record, seen.tokens.accepted),))
    fields: dict[str, Any] = {"tenantId": record.id, "runtime": spec.runtime or seen.runtime}
    synced = planning.synced(obj, seen.done, f'Tenant id "{record.id}"')
    told = (_judge_tokens(seen.tokens),) if seen.tokens.any else ()
    report = _report(seen, synced, abnormal=told, fields=fields, now=now)
    if seen.tokens.unread:
        return replace(report, wake_in=min(TOKENS_AGAIN, report.wake_in or TOKENS_AGAIN))
    return report


def _judge_tokens(tokens: Tokens) -> Finding:
    """Whether all tokens are accepted. It is no part of `Ready`: the tenant serves without them (docs/tenant.md)."""
    if tokens.unread:
        return conditions.unknown(
            TOKENS_RESOLVED,
            "SecretUnreadable",
            f"Cannot be read just now, so what it was stays: {_list(tokens.unread)}",
        )
    if tokens.out_of_reach:
        return conditions.unknown(
            TOKENS_RESOLVED,
            "SecretNotFound",
            f"The operator may not read Secrets there: {_list(tokens.out_of_reach)}. Add the namespace to "
            "KEEP_OPERATOR_SECRET_NAMESPACES.",
        )
    if tokens.without_secret:
        return conditions.unknown(
            TOKENS_RESOLVED, "SecretNotFound", f"Waiting for the Secret of {_list(tokens.without_secret)}"
        )
    if tokens.without_key:
        return conditions.unknown(TOKENS_RESOLVED, "SecretKeyNotFound", f"Waiting for {_list(tokens.without_key)}")
    if tokens.unusable:
        return conditions.false(
            TOKENS_RESOLVED,
            "TokenInvalid",
            f"Not a token: {_list(tokens.unusable)}. Put 16 to 4096 letters, digits or any of . _ ~ + / - there.",
        )
    count = len(tokens.accepted)
    return conditions.true(TOKENS_RESOLVED, "Resolved", f"{count} token{'' if count == 1 else 's'} accepted")


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(sorted(names))


def differences(
    record: Record,
    display_name: str | None,
    deletion_policy: DeletionPolicy,
    declared: Mapping[str, Any] = MappingProxyType({}),
) -> list[str]:
    """The names of the fields in which a row differs from what is declared, as they stand in the spec; sorted."""
    renamed = display_name not in (None, record.display_name)
    others = [
        name for name in declared.keys() | record.settings.keys() if declared.get(name) != record.settings.get(name)
    ]
    return sorted(["deletionPolicy"] * (deletion_policy != record.deletion_policy) + ["displayName"] * renamed + others)


def _drifted(record: Record, fields: list[str]) -> Finding:
    return conditions.false(
        "Synced",
        "DriftDetected",
        f"The row of tenant {record.id} was changed by other hands: {', '.join(fields) or 'only the checksum'}. "
        "Undo it there, or set spec.driftPolicy: Correct.",
    )


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
    if (seen.providers.total or seen.workflows.total) and not confirmed(obj):
        held = conditions.true(
            "Deleting",
            "DependentsExist",
            f"{_still_there(seen)} of this Tenant still there and serving. "
            f"Delete them first, or confirm with the annotation {CONFIRM_DELETION}={obj.key.name} to delete them too.",
        )
        doubt = conditions.unknown("Synced", "Deleting", "The Tenant is being deleted")
        (known,) = planning.known_before(obj, LIVING, doubt)
        return _report(seen, known, abnormal=(held,), now=now)
    if seen.to_give_up:
        message = (
            "Waiting until what Argo CD tracks has given up its records"  # no number: that would be a write for each
        )
        giving = conditions.true("Deleting", "Finalizing", message)
        doubt = conditions.unknown("Synced", "Deleting", "The Tenant is being deleted")
        (known,) = planning.known_before(obj, LIVING, doubt)
        later = max(seen.counts_due_in, COUNTS_LATER)
        return _report(replace(seen, counts_due_in=later), known, abnormal=(giving,), now=now)
    if record is not None and _owns(seen, record):
        if heir is not None and heir.ready_to_own:
            to = Owner(seen.cluster_id, "", heir.key.name, heir.uid)
            return Plan(actions=(HandOver(record, to),), wakes=(heir.key,))
        if record.tokens:
            return Plan(actions=(SetTokens(record, ()),))
        orphans = isinstance(obj.spec, Invalid) or obj.spec.deletion_policy == "Orphan"
        return Plan(actions=(Orphan(record) if orphans else Delete(record),))
    kept = tuple(name for name in obj.finalizers if name != FINALIZER)
    return Plan(actions=(SetMetadata(kept, obj.owners),), wakes=tuple(claim.key for claim in seen.rivals))


def _still_there(seen: Observed) -> str:
    """How many there are, in words; as the status has it, which is not written anew for each that goes."""
    status = {**seen.object.status, **_counts(seen)}
    counts = {kind: (status.get(f"{kind.lower()}s") or {}).get("total", 0) for kind in ("Provider", "Workflow")}
    return " and ".join(f"{count} {kind}{'' if count == 1 else 's'}" for kind, count in counts.items() if count)


def _counts(seen: Observed) -> dict[str, Any]:
    """The status fields of the dependents; without those that may not be written yet.

    A total that leaves or reaches 0 is written at once: admission policies read it. So is the one that a deletion is first
    held for, since its message names it.
    """
    found = {}
    for name, dependents in (("providers", seen.providers), ("workflows", seen.workflows)):
        counted = {"total": dependents.total, "ready": dependents.ready}
        written = seen.object.status.get(name)
        total = (written or {}).get("total", 0)
        held_first = seen.object.deleting and seen.object.condition("Deleting") is None
        due = not seen.counts_due_in or held_first or bool(total) != bool(dependents.total)
        if due or written == counted:
            found[name] = counted
    return found


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
    return made if len(counts) == 2 else replace(made, wake_in=seen.counts_due_in)
