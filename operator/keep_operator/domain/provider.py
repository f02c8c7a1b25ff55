"""What a Provider needs next: the rules of waiting, ownership, rename and removal, as one pure function.

::

    spec refused? ── suspended? ── tenant there, admitting, ready? ── finalizer and owner reference on the object?
        ── credentials found? ── whose record is it? ── does the record say what the spec says? ── Ready

The first answer that is not "yes" decides. The life of a record:

::

    (none) ──insert──► owned ──update, rename──► owned ──owner deleted──► deleted        deletionPolicy: Delete
                         ▲                                   │       └──► without owner  deletionPolicy: Orphan
                         └───────────── hand-over ───────────┘            another object claims the name (A-GC-3)
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias
from uuid import UUID

from keep_operator.domain import catalogue, conditions, ownership, planning
from keep_operator.domain.conditions import Finding, Truth
from keep_operator.domain.ownership import Claim, HolderState, Owner
from keep_operator.domain.planning import Plan, SetMetadata
from keep_operator.resources import provider
from keep_operator.resources.kinds import API_VERSION, GROUP, Key
from keep_operator.resources.objects import Object
from keep_operator.resources.provider import ProviderSpec
from keep_operator.resources.shapes import Invalid, describe

FINALIZER: Final = f"{GROUP}/provider"
LIVING: Final = ("TenantReady", "CredentialsResolved", "Synced")
DEFAULT_DEADLINE: Final = timedelta(seconds=600)
# A deletion that waits for another object is woken by it, in milliseconds; this is for the edge that nobody thought of.
DELETION_RECHECK: Final = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Content:
    """What the spec manages in a row; compared as a whole to see whether anything is left to write.

    ``pulling_enabled`` is None when the spec does not manage it (A-DR-3). ``config_hash`` is a keyed HMAC over
    config and credentials, so that a rotated Secret shows without its value being stored.
    """

    config: Mapping[str, Any]
    pulling_enabled: bool | None
    config_hash: str


@dataclass(frozen=True, slots=True)
class Record:
    """The row of one provider. ``id`` is random and kept through renames and hand-overs (A-GC-3)."""

    id: UUID
    tenant_id: str
    type: str
    external_name: str
    content: Content
    owner: Owner | None


@dataclass(frozen=True, slots=True)
class TenantSight:
    """What a Provider sees of its Tenant. ``admits`` answers for the Provider's namespace.

    ``serving``: the Tenant has its row and nothing says that it is wrong, though it may not be Ready at this moment (an
    edit that has not been looked at, a pause, an outage). That is enough for a Provider that has its record: a passing loss
    of the Tenant's readiness must not make all its Providers flap (A-DEP-8).
    """

    name: str
    uid: str
    tenant_id: str
    ready: bool
    serving: bool
    deleting: bool
    admits: bool

    def suffices(self, recorded: bool) -> bool:
        """Whether a Provider may go on: one with a record needs less than one that has none yet."""
        return self.ready or (recorded and self.serving)


@dataclass(frozen=True, slots=True)
class Credentials:
    """The referenced Secrets as found: ``versions`` by Secret name, and what is ``missing`` as (name, key or None)."""

    versions: Mapping[str, str]
    missing: tuple[tuple[str, str | None], ...] = ()
    out_of_reach: bool = False


@dataclass(frozen=True, slots=True)
class Observed:
    """One look at the world of a Provider.

    ``own`` is the record that carries our marker, ``holder`` another record under the name that the spec asks for,
    with ``holder_state`` telling what has become of that record's object. ``rivals`` are the other live objects that
    ask for the same name, ``heirs`` those that ask for the name which ``own`` has.
    ``content`` is what the row shall hold; None until the credentials are there. ``done`` names the last action of this
    very reconcile.
    """

    object: Object[ProviderSpec]
    cluster_id: str
    tenant_name: str | None
    tenant: TenantSight | None
    credentials: Credentials | None = None
    content: Content | None = None
    own: Record | None = None
    holder: Record | None = None
    holder_state: HolderState | None = None
    rivals: tuple[Claim, ...] = ()
    heirs: tuple[Claim, ...] = ()
    done: str | None = None


@dataclass(frozen=True, slots=True)
class Insert:
    """A new record."""

    tenant_id: str
    type: str
    external_name: str
    content: Content
    owner: Owner


@dataclass(frozen=True, slots=True)
class Update:
    """Our record shall say this; a changed ``external_name`` is a rename, the id stays."""

    record: Record
    external_name: str
    content: Content


@dataclass(frozen=True, slots=True)
class HandOver:
    """The record passes to another object of this cluster, with its id and content."""

    record: Record
    to: Owner


@dataclass(frozen=True, slots=True)
class Adopt:
    """A record that nobody of this cluster owns becomes ours; what it said goes to the ledger (A-AD-1)."""

    record: Record
    to: Owner
    content: Content


@dataclass(frozen=True, slots=True)
class Delete:
    """Our record goes, with all that belongs to it."""

    record: Record


@dataclass(frozen=True, slots=True)
class Orphan:
    """Our record stays, without an owner."""

    record: Record


Action: TypeAlias = Insert | Update | HandOver | Adopt | Delete | Orphan


def external_name(obj: Object[ProviderSpec]) -> str | None:
    """The name that the spec asks for, None where the spec cannot be read."""
    return None if isinstance(obj.spec, Invalid) else provider.effective_name(obj.spec, obj.key.name)


def owner_of(obj: Object[Any], cluster_id: str) -> Owner:
    """The marker that says: this object manages the row."""
    return Owner(cluster_id, obj.key.namespace, obj.key.name, obj.uid)


def plan(seen: Observed, now: datetime) -> Plan[Action]:
    """What to do next; safe to ask as often as one likes, and empty once there is nothing left to do."""
    return _plan_deletion(seen, now) if seen.object.deleting else _plan_life(seen, now)


def refusal(obj: Object[ProviderSpec]) -> Finding | None:
    """Why this spec can never be carried out, whatever the rest of the world looks like; None if it can."""
    spec = obj.spec
    if isinstance(spec, Invalid):
        return conditions.false("Synced", "SpecRefused", f"The spec is not valid: {spec}")
    if not catalogue.known(spec.type):
        near = catalogue.suggest(spec.type)
        hint = f' Did you mean "{near}"?' if near else " The docs page of Provider lists the known types."
        return conditions.false(
            "Synced", "UnknownProviderType", f'spec.type: "{spec.type}" is not a provider type.{hint}'
        )
    faults = (
        *provider.config_violations(spec),
        *catalogue.faults(spec.type, spec.config or {}, [entry.key for entry in spec.secrets]),
    )
    return conditions.false("Synced", "InvalidConfig", describe(faults)) if faults else None


def _plan_life(seen: Observed, now: datetime) -> Plan[Action]:
    obj, spec = seen.object, seen.object.spec
    refused = refusal(obj)
    if refused is not None or isinstance(spec, Invalid):
        assert refused is not None
        return _report(seen, refused, now=now)
    made = _plan_active(seen, now)
    if spec.suspend and made.actions:
        return _report(seen, planning.PENDING, now=now)
    return made


def _plan_active(seen: Observed, now: datetime) -> Plan[Action]:
    obj, tenant = seen.object, seen.tenant
    tenant_ready = _judge_tenant(seen)
    if tenant is not None and _may_own(seen, tenant):
        owners = _with_owner(obj.owners, tenant)
        if FINALIZER not in obj.finalizers or owners != obj.owners:
            finalizers = obj.finalizers if FINALIZER in obj.finalizers else (*obj.finalizers, FINALIZER)
            return Plan(actions=(SetMetadata(finalizers, owners),))
    if tenant_ready.truth is not Truth.TRUE:
        return _report(seen, tenant_ready, now=now)
    resolved = _judge_credentials(seen.credentials, obj.key.namespace)
    if resolved.truth is not Truth.TRUE:
        return _report(seen, tenant_ready, resolved, now=now)
    assert seen.content is not None and tenant is not None
    return _plan_record(seen, seen.content, tenant, (tenant_ready, resolved), now)


def _plan_record(
    seen: Observed, content: Content, tenant: TenantSight, so_far: tuple[Finding, ...], now: datetime
) -> Plan[Action]:
    obj, own = seen.object, seen.own
    assert not isinstance(obj.spec, Invalid)
    name, kind = provider.effective_name(obj.spec, obj.key.name), obj.spec.type
    me = owner_of(obj, seen.cluster_id)

    def stop(finding: Finding) -> Plan[Action]:
        return _report(seen, *so_far, finding, now=now)

    if own is not None and own.type != kind:
        return stop(
            conditions.false(
                "Synced",
                "ImmutableFieldChanged",
                f'spec.type is "{kind}" but the record was made as "{own.type}", which stays in force. '
                "Set it back, or make a new Provider.",
            )
        )
    blocked = _judge_holder(seen, name, kind)
    if blocked is not None:
        return stop(blocked)
    if own is not None:
        if own.external_name != name or _differs(own.content, content):
            return Plan(
                actions=(Update(own, name, content),), wakes=_keys(seen.heirs) if own.external_name != name else ()
            )
        return _synced(seen, own, so_far, now)
    holder = seen.holder
    if holder is None:
        if (known_id := obj.status.get("providerId")) is not None:
            return stop(
                conditions.false(
                    "Synced",
                    "DatabaseBehind",
                    f"The database has no record {known_id}, which this object had. Nothing was written. Was an older dump restored?",
                )
            )
        return Plan(actions=(Insert(tenant.tenant_id, kind, name, content, me),))
    if holder.owner is not None and holder.owner.cluster_id == seen.cluster_id:
        return Plan(actions=(HandOver(holder, me),), wakes=(_key_of(holder.owner),))
    return Plan(actions=(Adopt(holder, me, content),))


def _judge_holder(seen: Observed, name: str, kind: str) -> Finding | None:
    """Whether somebody else's claim to the name stands in the way (A-CF-1, A-AD-1); None if nobody's does."""
    obj, holder = seen.object, seen.holder
    assert not isinstance(obj.spec, Invalid)
    mine = Claim(obj.key, obj.uid, obj.created_at, kind, ready_to_own=True, can_own=True)
    first = ownership.winner([mine, *(rival for rival in seen.rivals if rival.can_own)])
    if holder is None:
        if first is mine or seen.own is not None:
            return None
        assert first is not None
        return _conflict(name, first.key.path, same_type=first.type == kind)
    owner = holder.owner
    if owner is None or owner.cluster_id != seen.cluster_id:
        if seen.own is None and holder.type == kind and _may_adopt(obj.spec.adoption_policy, owner):
            return None
        whose = f"belongs to another cluster ({owner})" if owner else "is not managed by any object"
        return conditions.false(
            "Synced",
            "ExternalResourceExists",
            f'The record "{name}" of this tenant (type {holder.type}) {whose}. {_adoption_advice(seen, holder)}',
        )
    if seen.holder_state is HolderState.LIVE:
        return _conflict(name, str(owner), same_type=holder.type == kind)
    if holder.type != kind or seen.own is not None:
        return conditions.unknown("Synced", "ExternalNameConflict", f'Waiting until "{name}" is released by {owner}')
    if first is not mine and first is not None:
        return _conflict(name, first.key.path, same_type=first.type == kind)
    return None


def _conflict(name: str, holder: str, *, same_type: bool) -> Finding:
    message = f'The name "{name}" of this tenant is taken. Managed by {holder}'
    if same_type:  # it may be the second half of a rename: the first half is about to go
        return conditions.unknown("Synced", "ExternalNameConflict", message)
    return conditions.false(
        "Synced", "ExternalNameConflict", f"{message}, which is of another type. Choose another name."
    )


def _may_adopt(policy: str, owner: Owner | None) -> bool:
    return policy == "Force" or (policy == "IfUnowned" and owner is None)


def _adoption_advice(seen: Observed, holder: Record) -> str:
    assert not isinstance(seen.object.spec, Invalid)
    if seen.own is not None:
        return "Choose another spec.externalName."
    if holder.type != seen.object.spec.type:
        return "It is of another type: choose another spec.externalName, or remove the record."
    wanted = "IfUnowned" if holder.owner is None else "Force"
    return f"To take it over with its id and history set spec.adoptionPolicy: {wanted}."


def _synced(seen: Observed, own: Record, so_far: tuple[Finding, ...], now: datetime) -> Plan[Action]:
    assert seen.credentials is not None and seen.content is not None
    fields = {
        "configHash": seen.content.config_hash,
        "secretVersions": [
            {"name": name, "resourceVersion": version} for name, version in sorted(seen.credentials.versions.items())
        ],
    }
    synced = planning.synced(seen.object, seen.done, f'Record {own.id} ("{own.external_name}")')
    return _report(seen, *so_far, synced, fields=fields, now=now)


def _plan_deletion(seen: Observed, now: datetime) -> Plan[Action]:
    """The record first, by hand-over or by policy; the finalizer goes once no record carries our marker."""
    obj, own = seen.object, seen.own
    if FINALIZER not in obj.finalizers:
        return Plan()
    if own is None and _may_be_given(seen):
        assert seen.holder is not None
        return _wait_in_deletion(
            seen, f'{seen.holder.owner} is about to give up the record "{seen.holder.external_name}"', now
        )
    if own is None:
        kept = tuple(name for name in obj.finalizers if name != FINALIZER)
        return Plan(actions=(SetMetadata(kept, obj.owners),))
    heir = ownership.winner(claim for claim in seen.heirs if _may_inherit(claim, own))
    if heir is not None and heir.ready_to_own:
        to = Owner(seen.cluster_id, heir.key.namespace, heir.key.name, heir.uid)
        return Plan(actions=(HandOver(own, to),), wakes=(heir.key,))
    if heir is not None:
        # It will take the record over itself as soon as its finalizer is on, and wake us then.
        return _wait_in_deletion(seen, f'The record "{own.external_name}" passes to {heir.key.path}', now)
    return Plan(actions=(Orphan(own) if _orphans(obj) else Delete(own),), wakes=_keys(seen.heirs))


def _may_be_given(seen: Observed) -> bool:
    """Whether another that goes too may just be handing its record to us, having seen us alive.

    Our finalizer stays until it has decided, else the record would be left behind with our marker. It waits for nobody
    who is being deleted, so this ends.
    """
    return seen.holder is not None and seen.holder_state is HolderState.DELETING


def _wait_in_deletion(seen: Observed, message: str, now: datetime) -> Plan[Action]:
    waiting = conditions.true("Deleting", "Finalizing", message)
    known = planning.known_before(seen.object, LIVING, conditions.unknown("Synced", "Deleting", message))
    made: Plan[Action] = planning.report(seen.object, known, abnormal=[waiting], now=now)
    return replace(made, wake_in=DELETION_RECHECK)


def _may_inherit(claim: Claim, record: Record) -> bool:
    """Whether a record of a Provider that goes may pass to another: it never changes its type, nor its tenant."""
    return claim.can_own and not claim.has_record and (claim.type, claim.tenant_id) == (record.type, record.tenant_id)


def _orphans(obj: Object[ProviderSpec]) -> bool:
    """Whether the record stays; also where the spec cannot be read, since deleting cannot be taken back."""
    return isinstance(obj.spec, Invalid) or obj.spec.deletion_policy == "Orphan"


def _judge_tenant(seen: Observed) -> Finding:
    name, tenant, recorded = seen.tenant_name, seen.tenant, _recorded_tenant(seen)
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
            "Set it back, or make a new Provider for the other tenant.",
        )
    if not tenant.admits:
        return conditions.false(
            "TenantReady",
            "NamespaceNotAllowed",
            f'Tenant "{name}" does not admit namespace "{seen.object.key.namespace}". Add it to the Tenant\'s spec.allowedNamespaces.',
        )
    if tenant.deleting and recorded is None:
        return conditions.unknown("TenantReady", "TenantNotReady", f'Tenant "{name}" is being deleted')
    if not tenant.suffices(recorded is not None):
        return conditions.unknown("TenantReady", "TenantNotReady", f'Waiting for Tenant "{name}" to be Ready')
    return conditions.true("TenantReady", "TenantReady", f'Tenant "{name}" is Ready')


def _judge_credentials(credentials: Credentials | None, namespace: str) -> Finding:
    if credentials is None:
        return conditions.unknown("CredentialsResolved", "SecretNotFound", "The Secrets have not been looked at yet")
    if credentials.out_of_reach:
        return conditions.unknown(
            "CredentialsResolved",
            "SecretNotFound",
            f'The operator may not read Secrets in namespace "{namespace}": add it to KEEP_OPERATOR_SECRET_NAMESPACES.',
        )
    absent = sorted({secret for secret, key in credentials.missing if key is None})
    if absent:
        return conditions.unknown("CredentialsResolved", "SecretNotFound", f"Waiting for Secret {', '.join(absent)}")
    if credentials.missing:
        keys = ", ".join(f"{key} in Secret {secret}" for secret, key in sorted(credentials.missing, key=str))
        return conditions.unknown("CredentialsResolved", "SecretKeyNotFound", f"Waiting for key {keys}")
    count = len(credentials.versions)
    found = f"Read from {count} {'Secret' if count == 1 else 'Secrets'}" if count else "No Secret is named"
    return conditions.true("CredentialsResolved", "Resolved", found)


def _may_own(seen: Observed, tenant: TenantSight) -> bool:
    """Whether finalizer and owner reference belong on the object now: the Tenant admits it and is not going away."""
    recorded = _recorded_tenant(seen)
    return tenant.admits and (not tenant.deleting or recorded is not None) and recorded in (None, tenant.tenant_id)


def _recorded_tenant(seen: Observed) -> str | None:
    """The tenant that the record belongs to; by the status where the record was not looked for, None if there is none."""
    return seen.own.tenant_id if seen.own is not None else seen.object.status.get("tenantId")


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


def _text(config: Mapping[str, Any]) -> str:
    """What tells 1 from true and from 1.0, which Python takes for equal."""
    return json.dumps(config, sort_keys=True)


def _differs(is_: Content, shall: Content) -> bool:
    unmanaged = shall.pulling_enabled is None
    return (
        _text(is_.config) != _text(shall.config)
        or is_.config_hash != shall.config_hash
        or (not unmanaged and is_.pulling_enabled != shall.pulling_enabled)
    )


def _report(seen: Observed, *living: Finding, fields: Mapping[str, Any] | None = None, now: datetime) -> Plan[Action]:
    """Report ``living``; of the conditions that this look did not reach, what was True before still stands.

    Which record is ours is told whatever else is wrong: others read from it that we take no second one.
    """
    own = seen.own
    if own is not None:
        recorded = {"providerId": str(own.id), "externalName": own.external_name, "tenantId": own.tenant_id}
        fields = {**recorded, **(fields or {})}
    old = seen.object.status.get("conditions") or ()
    reached = {finding.type for finding in living}
    rest = [finding for kind in LIVING if kind not in reached and (finding := planning.carried(old, kind)) is not None]
    ordered = sorted([*living, *rest], key=lambda finding: LIVING.index(finding.type))
    spec = seen.object.spec
    seconds = None if isinstance(spec, Invalid) else spec.progress_deadline_seconds
    deadline = DEFAULT_DEADLINE if seconds is None else timedelta(seconds=seconds)
    abnormal = () if isinstance(spec, Invalid) or not spec.suspend else (planning.SUSPENDED,)
    return planning.report(seen.object, ordered, abnormal=abnormal, fields=fields, deadline=deadline, now=now)


def _keys(claims: tuple[Claim, ...]) -> tuple[Key, ...]:
    return tuple(claim.key for claim in claims)


def _key_of(owner: Owner) -> Key:
    return Key("Provider", owner.namespace, owner.name)
