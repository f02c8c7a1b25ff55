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

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias
from uuid import UUID

from keep_operator.domain import catalogue, conditions, ownership, planning, tenancy
from keep_operator.domain.conditions import Finding, Truth
from keep_operator.domain.ownership import Claim, Holder, HolderState, Owner
from keep_operator.domain.planning import Plan, SetMetadata, Tell
from keep_operator.domain.tenancy import TenantSight
from keep_operator.resources import provider
from keep_operator.resources.kinds import GROUP, Key
from keep_operator.resources.objects import Object
from keep_operator.resources.provider import ProviderSpec
from keep_operator.resources.shapes import DeletionPolicy, Invalid, describe

FINALIZER: Final = f"{GROUP}/provider"
LIVING: Final = ("TenantReady", "CredentialsResolved", "Synced")
DEFAULT_DEADLINE: Final = timedelta(seconds=600)
# So many Workflows are named that use a Provider which goes; of more their number is told.
NAMED: Final = 5
# A deletion that waits for another object is woken by it, in milliseconds; this is for the edge that nobody thought of.
DELETION_RECHECK: Final = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Content:
    """What the spec manages in a row; compared as a whole to see whether anything is left to write.

    ``pulling_enabled`` is None when the spec does not manage it (A-DR-3). ``config_hash`` is a keyed HMAC over
    config and credentials, so that a rotated Secret shows without being read. ``authentication`` are the credentials by
    field, as Secrets have them (base64); None where they need not be written and so were not read.
    """

    config: Mapping[str, Any]
    pulling_enabled: bool | None
    config_hash: str
    deletion_policy: DeletionPolicy = "Delete"
    authentication: Mapping[str, str] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Record:
    """The row of one provider. ``id`` is random and kept through renames and hand-overs (A-GC-3).

    ``sealed`` and ``key_name`` are its credentials at rest and the key they open with, None where it has none.
    ``checksum`` is the one that was written with the row, None in a row that is older than checksums.
    """

    id: UUID
    tenant_id: str
    type: str
    external_name: str
    content: Content
    owner: Owner | None
    sealed: str | None = field(default=None, repr=False)
    key_name: str | None = None
    checksum: str | None = None

    @property
    def intact(self) -> bool:
        """Whether the row is as the operator wrote it; one that has no checksum yet passes for that."""
        pulling = self.content.pulling_enabled
        return self.checksum in (None, checksum(self, pulling), checksum(self, None))


def checksum(record: Record, pulling_enabled: bool | None) -> str:
    """What is stored beside all that the operator wrote, so that a change by other hands shows (A-DR-1).

    It guards against accidents and well-meant edits; who means harm can compute it too. ``pulling_enabled`` is None
    where the spec leaves that to others. The owner is not in it: that is changed by name.
    """
    content = record.content
    parts = (
        [str(record.id), record.tenant_id, record.type, record.external_name],
        [content.config, pulling_enabled, content.config_hash, content.deletion_policy],
        [record.sealed, record.key_name],
    )
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


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
    ask for the same name, ``heirs`` those that ask for the name which ``own`` has. ``users`` are the Workflows that stay and
    use that name; they are looked for only when the Provider goes.
    ``content`` is what the row shall hold; None until the credentials are there. ``readable`` is whether the credentials
    of ``own`` open with our keys, ``key_fits`` whether the database is sealed with one of them. ``referenced``: its Tenant
    owns it, by reference. ``done`` names the last action of this very reconcile.
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
    users: tuple[Key, ...] = ()
    readable: bool = True
    key_fits: bool = True
    referenced: bool = True
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
class Correct:
    """Our record, changed by other hands, shall say again what is declared (A-DR-1)."""

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


Action: TypeAlias = Insert | Update | Correct | HandOver | Adopt | Delete | Orphan


def external_name(obj: Object[ProviderSpec]) -> str | None:
    """The name that the spec asks for, None where the spec cannot be read."""
    return None if isinstance(obj.spec, Invalid) else provider.effective_name(obj.spec, obj.key.name)


def plan(seen: Observed, now: datetime) -> Plan[Action]:
    """What to do next; safe to ask as often as one likes, and empty once there is nothing left to do."""
    obj = seen.object
    if obj.deleting:
        return _plan_deletion(seen, now)
    if (untied := tenancy.untied(obj, referenced=seen.referenced)) is not None:
        return Plan(actions=(untied,))
    if tenancy.abandoned(obj, seen.tenant, referenced=seen.referenced):
        return _plan_giving_up(seen, now)
    return _plan_life(seen, now)


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
    tenant_ready = tenancy.judge(obj, seen.tenant_name, tenant, _recorded_tenant(seen))
    if (metadata := metadata_due(seen)) is not None:
        return Plan(actions=(metadata,))
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
    me = tenancy.owner_of(obj, seen.cluster_id)

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
    if not seen.key_fits:
        return stop(
            conditions.false(
                "Synced",
                "EncryptionKeyMismatch",
                "The credentials in the database are sealed with another key than KEEP_OPERATOR_ENCRYPTION_KEY. Nothing was "
                "written. Give that key back; if it is lost, see `keep-operator keys replace`.",
            )
        )
    if own is None and (behind := _judge_memory(seen)) is not None:
        return stop(behind)
    mine = Claim(obj.key, obj.uid, obj.created_at, kind, ready_to_own=True, can_own=True, has_record=own is not None)
    holder = seen.holder
    held = None if holder is None else Holder(holder.owner, holder.type, seen.holder_state)
    policy = obj.spec.adoption_policy
    blocked = ownership.judge(name, mine, seen.rivals, held, cluster_id=seen.cluster_id, adoption_policy=policy)
    if blocked is not None:
        return stop(blocked)
    if own is not None:
        return _plan_own(seen, own, name, content, so_far, now)
    if holder is None:
        return Plan(actions=(Insert(tenant.tenant_id, kind, name, content, me),))
    if holder.owner is not None and holder.owner.cluster_id == seen.cluster_id:
        return Plan(actions=(HandOver(holder, me),), wakes=(_key_of(holder.owner),))
    return Plan(actions=(Adopt(holder, me, content),))


def _plan_own(
    seen: Observed, own: Record, name: str, content: Content, so_far: tuple[Finding, ...], now: datetime
) -> Plan[Action]:
    """Our record shall say what the spec says; what others did to it is undone, or only told, by ``driftPolicy``."""
    spec = seen.object.spec
    assert not isinstance(spec, Invalid)
    renamed = own.external_name != name
    wakes = _keys(seen.heirs) if renamed else ()
    if not own.intact:
        if spec.drift_policy == "Report":
            return _report(seen, *so_far, _drifted(seen, own, name, content), now=now)
        return Plan(actions=(Correct(own, name, content),), wakes=wakes)
    if renamed or own.checksum is None or not seen.readable or _differs(own.content, content):
        return Plan(actions=(Update(own, name, content),), wakes=wakes)
    return _synced(seen, own, so_far, now)


def _drifted(seen: Observed, own: Record, name: str, content: Content) -> Finding:
    fields = ", ".join(differences(own, name, content, readable=seen.readable)) or "only the checksum"
    return conditions.false(
        "Synced",
        "DriftDetected",
        f"Record {own.id} was changed by other hands: {fields}. Undo it there, or set spec.driftPolicy: Correct.",
    )


def differences(record: Record, external_name: str, content: Content, *, readable: bool = True) -> list[str]:
    """The names of the fields in which a row differs from what is declared, as they stand in the spec.

    Sorted; a rotated credential shows as ``configHash`` alone, credentials that do not open as ``credentials``.
    """
    is_, shall = record.content, content
    names = {f"config.{key}" for key in differing(is_.config, shall.config)}
    if record.external_name != external_name:
        names.add("externalName")
    if shall.pulling_enabled not in (None, is_.pulling_enabled):
        names.add("pullingEnabled")
    if is_.config_hash != shall.config_hash:
        names.add("configHash")
    if is_.deletion_policy != shall.deletion_policy:
        names.add("deletionPolicy")
    if not readable:
        names.add("credentials")
    return sorted(names)


def _judge_memory(seen: Observed) -> Finding | None:
    """Whether the object is known to have had a record that is not there: then nothing may be made or taken (A-REV-13)."""
    known_id = seen.object.status.get("providerId")
    if known_id is None or (seen.holder is not None and str(seen.holder.id) == known_id):
        return None
    return conditions.false(
        "Synced",
        "DatabaseBehind",
        f"The database has no record {known_id} of this object, which it had. Nothing was written. Was an older dump "
        "restored? `keep-operator recover` shows what is missing and gives it back.",
    )


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


def _plan_giving_up(seen: Observed, now: datetime) -> Plan[Action]:
    """The Tenant goes for good: the record goes by its policy, the object stays to whoever applies it (A-GO-9)."""
    obj, own = seen.object, seen.own
    if own is not None:
        return Plan(actions=(Orphan(own) if _orphans(obj) else Delete(own),))
    assert seen.tenant is not None
    return tenancy.given_up(obj, seen.tenant, _deadline(obj), _suspended(obj), now)


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
    heir = ownership.winner(claim for claim in seen.heirs if ownership.may_inherit(claim, own.type, own.tenant_id))
    if heir is not None and heir.ready_to_own:
        to = Owner(seen.cluster_id, heir.key.namespace, heir.key.name, heir.uid)
        return Plan(actions=(HandOver(own, to),), wakes=(heir.key,))
    if heir is not None:
        # It will take the record over itself as soon as its finalizer is on, and wake us then.
        return _wait_in_deletion(seen, f'The record "{own.external_name}" passes to {heir.key.path}', now)
    end = Orphan(own) if _orphans(obj) else Delete(own)
    warning = (Tell(_warning(seen, own, now)),) if seen.users and not _is_warned(obj) else ()
    return Plan(actions=(*warning, end), wakes=_keys(seen.heirs))


def _is_warned(obj: Object[ProviderSpec]) -> bool:
    """Whether the warning has been given; a deletion that fails is tried again without it."""
    told = obj.status.get("conditions") or ()
    reasons = {each.get("reason") for each in told if each.get("type") == "Deleting"}
    return not reasons.isdisjoint({"InUseByWorkflows", "DeletionFailed"})


def _warning(seen: Observed, own: Record, now: datetime) -> Mapping[str, Any]:
    """The status that names the Workflows which lose a Provider; nothing waits for them (A-GO-5)."""
    names = [key.path for key in sorted(seen.users, key=lambda key: key.path)]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    message = (
        f'"{own.external_name}" goes, though it is used by Workflow {", ".join(names[:NAMED])}{more}. Apply a Provider '
        "of that name again, or change what uses it."
    )
    made = _report_deletion(seen, conditions.true("Deleting", "InUseByWorkflows", message), now)
    assert made.status is not None
    return made.status


def _may_be_given(seen: Observed) -> bool:
    """Whether another that goes too may just be handing its record to us, having seen us alive.

    Our finalizer stays until it has decided, else the record would be left behind with our marker. It waits for nobody
    who is being deleted, so this ends.
    """
    return seen.holder is not None and seen.holder_state is HolderState.DELETING


def _wait_in_deletion(seen: Observed, message: str, now: datetime) -> Plan[Action]:
    made = _report_deletion(seen, conditions.true("Deleting", "Finalizing", message), now)
    return replace(made, wake_in=DELETION_RECHECK)


def _report_deletion(seen: Observed, deleting: Finding, now: datetime) -> Plan[Action]:
    known = planning.known_before(seen.object, LIVING, conditions.unknown("Synced", "Deleting", deleting.message))
    return planning.report(seen.object, known, abnormal=[deleting], now=now)


def _orphans(obj: Object[ProviderSpec]) -> bool:
    """Whether the record stays; also where the spec cannot be read, since deleting cannot be taken back."""
    return isinstance(obj.spec, Invalid) or obj.spec.deletion_policy == "Orphan"


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


def metadata_due(seen: Observed) -> SetMetadata | None:
    """What is missing of finalizer and owner reference; while it is, nobody needs to look for Secrets or rows."""
    return tenancy.metadata_due(seen.object, seen.tenant, _recorded_tenant(seen), FINALIZER, referenced=seen.referenced)


def _recorded_tenant(seen: Observed) -> str | None:
    return tenancy.recorded(seen.object, None if seen.own is None else seen.own.tenant_id)


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    """The keys, on the first level, under which two documents do not mean the same; 1, 1.0 and true differ."""
    return {
        key
        for key in one.keys() | other.keys()
        if not (key in one and key in other and _text(one[key]) == _text(other[key]))
    }


def _text(value: Any) -> str:
    """What tells 1 from true and from 1.0, which Python takes for equal."""
    return json.dumps(value, sort_keys=True)


def _differs(is_: Content, shall: Content) -> bool:
    return (
        _text(is_.config) != _text(shall.config)
        or (is_.config_hash, is_.deletion_policy) != (shall.config_hash, shall.deletion_policy)
        or shall.pulling_enabled not in (None, is_.pulling_enabled)
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
    obj = seen.object
    return planning.report(obj, ordered, abnormal=_suspended(obj), fields=fields, deadline=_deadline(obj), now=now)


def _deadline(obj: Object[ProviderSpec]) -> timedelta:
    seconds = None if isinstance(obj.spec, Invalid) else obj.spec.progress_deadline_seconds
    return DEFAULT_DEADLINE if seconds is None else timedelta(seconds=seconds)


def _suspended(obj: Object[ProviderSpec]) -> tuple[Finding, ...]:
    return () if isinstance(obj.spec, Invalid) or not obj.spec.suspend else (planning.SUSPENDED,)


def _keys(claims: tuple[Claim, ...]) -> tuple[Key, ...]:
    return tuple(claim.key for claim in claims)


def _key_of(owner: Owner) -> Key:
    return Key("Provider", owner.namespace, owner.name)
