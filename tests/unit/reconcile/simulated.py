"""A cluster and a control database made of dicts, for the real reconcilers to work on.

``Server`` keeps the promises of an API server that the operator relies on: resource versions, generations, finalizers,
the garbage collector. ``Rows`` keeps those of `store`: guards by owner, unique names, foreign key. Both check with
every write that nothing is done that must never happen; what is broken is raised as `Broken`.
"""

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, cast
from unittest import mock
from uuid import UUID

from pydantic import SecretStr

from keep_operator.cluster.client import Listing
from keep_operator.domain import provider, reasons, tenant
from keep_operator.domain.conditions import MESSAGE_LIMIT
from keep_operator.domain.ownership import Owner
from keep_operator.errors import Conflict, Refused, Unavailable, Waiting
from keep_operator.reconcile import provider as provider_shell
from keep_operator.reconcile import tenant as tenant_shell
from keep_operator.resources import objects, shapes
from keep_operator.resources import provider as provider_reader
from keep_operator.resources import tenant as tenant_reader
from keep_operator.resources.kinds import GROUP, OURS, Key, Resource
from keep_operator.resources.objects import Object
from keep_operator.resources.provider import ProviderStatus
from keep_operator.resources.shapes import DeletionPolicy, Invalid
from keep_operator.resources.tenant import TenantStatus
from keep_operator.store.vault import Sealed, Vault
from unit.builders import stamp

Raw = Mapping[str, Any]
READERS: Final[Mapping[str, Any]] = {"Tenant": tenant_reader, "Provider": provider_reader}
FINALIZERS: Final = {"Tenant": tenant.FINALIZER, "Provider": provider.FINALIZER}
FOREGROUND: Final = "foregroundDeletion"


class Broken(AssertionError):
    """Something happened that must never happen."""


async def at_once() -> None:
    """The pause before an answer that does not take any time."""


@dataclass
class Rows:
    """The tables `tenant` and `provider`. ``pause`` is awaited before each statement; ``down`` refuses them all."""

    tenants: dict[str, tenant.Record] = field(default_factory=dict)
    providers: dict[UUID, provider.Record] = field(default_factory=dict)
    orphaned: frozenset[UUID] = frozenset()
    made: int = 0
    pause: Callable[[], Awaitable[None]] = at_once
    down: bool = False
    # Answers to be lost though the transaction was committed.
    lost_answers: int = 0
    server: "Server | None" = None

    def reach(self) -> None:
        if self.down:
            raise Unavailable("DatabaseUnavailable", "the control database does not answer")

    def owned(self, record_id: UUID, owner: Owner | None) -> provider.Record:
        """The row, if it still has this owner."""
        row = self.providers.get(record_id)
        if row is None or not _same_owner(row.owner, owner):
            raise Conflict("SyncFailed", "changed meanwhile")
        return row

    def owned_tenant(self, tenant_id: str, owner: Owner | None) -> tenant.Record:
        row = self.tenants.get(tenant_id)
        if row is None or not _same_owner(row.owner, owner):
            raise Conflict("SyncFailed", "changed meanwhile")
        return row

    def put(self, row: provider.Record) -> None:
        """Write a row, as far as the unique indexes and the foreign key allow."""
        if row.tenant_id not in self.tenants:
            raise Waiting("TenantNotReady", "the tenant has no row")
        for other in self.providers.values():
            if other.id == row.id:
                continue
            if (other.tenant_id, other.external_name) == (row.tenant_id, row.external_name):
                raise Conflict("ExternalNameConflict", "taken at the same moment")
            if row.owner is not None and _same_owner(other.owner, row.owner):
                raise Conflict("SyncFailed", "the owner has a record already")
        self.providers[row.id] = row

    def put_tenant(self, row: tenant.Record) -> None:
        for other in self.tenants.values():
            if other.id == row.id:
                continue
            if other.id.lower() == row.id.lower() or (row.owner is not None and _same_owner(other.owner, row.owner)):
                raise Conflict("SyncFailed", "made at the same moment")
        self.tenants[row.id] = row

    def living_owner(self, owner: Owner | None) -> Object[Any] | None:
        """The object that a marker names, if it exists and is not being deleted."""
        if owner is None or self.server is None:
            return None
        kind = "Provider" if owner.namespace else "Tenant"
        obj = self.server.find(Key(kind, owner.namespace, owner.name))
        return obj if obj is not None and obj.uid == owner.uid and not obj.deleting else None


def _same_owner(one: Owner | None, other: Owner | None) -> bool:
    if one is None or other is None:
        return one is other
    return (one.cluster_id, one.uid) == (other.cluster_id, other.uid)


class _Providers:
    """What `store.providers` promises, on `Rows`."""

    @staticmethod
    def new_id() -> UUID:
        raise AssertionError("no source of ids was given")

    @staticmethod
    async def observe(
        rows: Rows, cluster: str, uid: str, tenant_id: str | None, name: str | None
    ) -> tuple[provider.Record | None, provider.Record | None]:
        own = [r for r in rows.providers.values() if r.owner and (r.owner.cluster_id, r.owner.uid) == (cluster, uid)]
        holder = [r for r in rows.providers.values() if (r.tenant_id, r.external_name) == (tenant_id, name)]
        return next(iter(own), None), next(iter(holder), None)

    @staticmethod
    async def insert(rows: Rows, record: provider.Record, *, actor: str, sealed: Sealed | None = None) -> None:
        rows.put(_written(record, record.external_name, record.content, sealed))

    @staticmethod
    async def update(
        rows: Rows,
        record_id: UUID,
        owner: Owner,
        *,
        external_name: str,
        content: provider.Content,
        actor: str,
        sealed: Sealed | None = None,
    ) -> bool:
        row = rows.owned(record_id, owner)
        rows.put(_written(row, external_name, content, sealed))
        return True

    @staticmethod
    async def hand_over(rows: Rows, record_id: UUID, frm: Owner, to: Owner, *, actor: str) -> None:
        await rows.pause()  # the heir may be on its way out by the time the statement comes
        if (giver := rows.living_owner(frm)) is not None:
            raise Broken(f"the record of {giver.key}, which is alive, was given away")
        row = rows.owned(record_id, frm)
        heir = None if rows.server is None else rows.server.find(Key("Provider", to.namespace, to.name))
        if heir is not None and heir.uid == to.uid and rows.server is not None:
            rows.server.check_same_tenant(row, heir)
            if provider.FINALIZER not in heir.finalizers and not rows.server.meddled(heir.key):
                raise Broken(f"{heir.key} got a record without having the finalizer that would clean it up")
        rows.put(replace(row, owner=to))

    @staticmethod
    async def adopt(
        rows: Rows,
        before: provider.Record,
        to: Owner,
        content: provider.Content,
        *,
        actor: str,
        sealed: Sealed | None = None,
    ) -> None:
        row = rows.owned(before.id, before.owner)
        rows.put(replace(_written(row, row.external_name, content, sealed), owner=to))
        rows.orphaned -= {row.id}

    @staticmethod
    async def orphan(rows: Rows, record_id: UUID, owner: Owner, *, actor: str) -> None:
        rows.put(replace(rows.owned(record_id, owner), owner=None))
        rows.orphaned |= {record_id}

    @staticmethod
    async def delete(rows: Rows, record_id: UUID, owner: Owner, *, actor: str) -> None:
        row = rows.owned(record_id, owner)
        if (keeper := rows.living_owner(row.owner)) is not None:
            raise Broken(f"the record of {keeper.key}, which is alive, was deleted")
        del rows.providers[record_id]
        empty = not any(other.tenant_id == row.tenant_id for other in rows.providers.values())
        if empty and rows.tenants[row.tenant_id].delete_when_empty:
            del rows.tenants[row.tenant_id]


class _Tenants:
    """What `store.tenants` promises, on `Rows`."""

    @staticmethod
    async def observe(
        rows: Rows, cluster: str, uid: str, tenant_id: str
    ) -> tuple[tenant.Record | None, tenant.Record | None]:
        own = [r for r in rows.tenants.values() if r.owner and (r.owner.cluster_id, r.owner.uid) == (cluster, uid)]
        holder = [r for r in rows.tenants.values() if r.id.lower() == tenant_id.lower()]
        return next(iter(own), None), next(iter(holder), None)

    @staticmethod
    async def insert(rows: Rows, record: tenant.Record, *, actor: str) -> None:
        if record.id in rows.tenants:
            raise Conflict("SyncFailed", "made at the same moment")
        rows.put_tenant(record)

    @staticmethod
    async def update(
        rows: Rows,
        tenant_id: str,
        owner: Owner,
        *,
        display_name: str | None,
        deletion_policy: DeletionPolicy,
        settings: Mapping[str, Any],
        actor: str,
    ) -> bool:
        row = rows.owned_tenant(tenant_id, owner)
        rows.put_tenant(_written_tenant(row, display_name, deletion_policy, settings))
        return True

    @staticmethod
    async def hand_over(rows: Rows, tenant_id: str, frm: Owner, to: Owner, *, actor: str) -> None:
        if (giver := rows.living_owner(frm)) is not None:
            raise Broken(f"the record of {giver.key}, which is alive, was given away")
        rows.put_tenant(replace(rows.owned_tenant(tenant_id, frm), owner=to))

    @staticmethod
    async def adopt(
        rows: Rows,
        before: tenant.Record,
        to: Owner,
        *,
        display_name: str | None,
        deletion_policy: DeletionPolicy,
        settings: Mapping[str, Any],
        actor: str,
    ) -> None:
        row = _written_tenant(rows.owned_tenant(before.id, before.owner), display_name, deletion_policy, settings)
        rows.put_tenant(replace(row, owner=to, delete_when_empty=False))

    @staticmethod
    async def orphan(rows: Rows, tenant_id: str, owner: Owner, *, actor: str) -> None:
        rows.put_tenant(replace(rows.owned_tenant(tenant_id, owner), owner=None))

    @staticmethod
    async def delete(rows: Rows, tenant_id: str, owner: Owner, *, actor: str) -> bool:
        row = rows.owned_tenant(tenant_id, owner)
        if (keeper := rows.living_owner(row.owner)) is not None:
            raise Broken(f"the record of {keeper.key}, which is alive, was deleted")
        if any(other.tenant_id == tenant_id for other in rows.providers.values()):
            rows.put_tenant(replace(row, owner=None, delete_when_empty=True))
            return False
        del rows.tenants[tenant_id]
        return True


def _written(
    before: provider.Record, external_name: str, content: provider.Content, sealed: Sealed | None
) -> provider.Record:
    """The row after a write of everything that the spec manages."""
    pulling = before.content.pulling_enabled if content.pulling_enabled is None else content.pulling_enabled
    after = replace(
        before,
        external_name=external_name,
        content=replace(content, pulling_enabled=pulling, authentication=None),
    )
    if content.authentication is not None:
        after = replace(after, sealed=sealed.text if sealed else None, key_name=sealed.key_name if sealed else None)
    return replace(after, checksum=provider.checksum(after, content.pulling_enabled))


def _written_tenant(
    before: tenant.Record, display_name: str | None, policy: DeletionPolicy, settings: Mapping[str, Any]
) -> tenant.Record:
    name = before.display_name if display_name is None else display_name
    after = replace(before, display_name=name, deletion_policy=policy, settings=settings)
    return replace(after, checksum=tenant.checksum(after, display_name))


class GlassVault(Vault):
    """Hides nothing, so that the same credentials look the same each time."""

    def __init__(self) -> None:
        super().__init__([SecretStr("k" * 43)])
        self.trust(None)

    def seal(self, record_id: UUID, authentication: Mapping[str, str]) -> Sealed:
        return Sealed(self.name, json.dumps({"id": str(record_id), "authentication": dict(authentication)}))

    def open(self, record_id: UUID, sealed: Sealed) -> dict[str, str] | None:
        document = json.loads(sealed.text)
        return dict(document["authentication"]) if document["id"] == str(record_id) else None


class Database:
    """`reconcile.database.Database` over rows in memory; every replica leads here."""

    def __init__(self, rows: Rows, cluster_id: str) -> None:
        self.rows = rows
        self.cluster_id = cluster_id

    @contextlib.asynccontextmanager
    async def look(self) -> AsyncIterator[Rows]:
        await self.rows.pause()
        self.rows.reach()
        yield self.rows
        await self.rows.pause()  # the answer is on its way: what it says may be past

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Rows]:
        await self.rows.pause()
        self.rows.reach()
        yield self.rows
        await self.rows.pause()
        if self.rows.lost_answers:
            self.rows.lost_answers -= 1
            raise Unavailable("DatabaseUnavailable", "the answer was lost; the transaction may have been committed")


def set_new_id(new_id: Callable[[], UUID]) -> None:
    """Where the ids of new rows come from."""
    _Providers.new_id = staticmethod(new_id)  # type: ignore[method-assign]


@contextlib.contextmanager
def in_place_of_the_store(new_id: Callable[[], UUID]) -> Iterator[None]:
    """Have the reconcilers work on `Rows` (through a `Database` of them); ids of new rows come from ``new_id``."""
    set_new_id(new_id)
    with (
        mock.patch.multiple(provider_shell, providers=_Providers),
        mock.patch.multiple(tenant_shell, tenants=_Tenants),
    ):
        yield


_parsed: dict[int, tuple[Raw, Object[Any]]] = {}


def parse(kind: str, raw: Raw) -> Object[Any]:
    """The snapshot of a raw object; parsed once, since raw objects are never edited."""
    known = _parsed.get(id(raw))
    if known is None or known[0] is not raw:
        if len(_parsed) > 200_000:
            _parsed.clear()
        known = _parsed[id(raw)] = (raw, objects.parse(kind, raw, READERS[kind]))
    return known[1]


@dataclass
class Server:
    """The API server: objects by key, each a raw object that is replaced and never edited.

    ``emit`` is called with ("ADDED" | "MODIFIED" | "DELETED", kind, raw) for each change. ``stripped`` are the uids
    whose finalizer was taken off by hand, ``touched`` the keys whose metadata was edited by hand.
    """

    objects: dict[Key, Raw] = field(default_factory=dict)
    secrets: dict[tuple[str, str], Raw] = field(default_factory=dict)
    version: int = 0
    uids: int = 0
    stripped: frozenset[str] = frozenset()
    touched: frozenset[Key] = frozenset()
    now: Callable[[], datetime] = lambda: datetime.fromisoformat("2026-03-01T12:00:00Z")
    pause: Callable[[], Awaitable[None]] = at_once
    emit: Callable[[str, str, Raw], None] = lambda _type, _kind, _raw: None
    rows: Rows | None = None
    down: bool = False
    # The names of Providers that a Workflow of Tenant `keep` uses, to which nothing ever happens.
    used: tuple[str, ...] = ()
    # What the operator has written, in order: of which object, and whether "metadata" or "status".
    patches: list[tuple[Key, str]] = field(default_factory=list)

    # What a client of the operator's calls.

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Raw | None:
        await self.pause()
        self._reach()
        if resource.kind == "Secret":
            return self.secrets.get((namespace or "", name))
        return self.objects.get(Key(resource.kind, namespace or "", name))

    async def list(self, resource: Resource, namespace: str | None = None, **_: object) -> Listing:
        await self.pause()
        self._reach()
        found = [dict(raw) for key, raw in self.objects.items() if key.kind == resource.kind]
        return Listing(found, str(self.version))

    async def patch(
        self, resource: Resource, namespace: str | None, name: str, body: Raw, subresource: str | None = None
    ) -> Raw:
        await self.pause()
        self._reach()
        key = Key(resource.kind, namespace or "", name)
        old = self.objects.get(key)
        if old is None:
            raise Conflict("ObjectGone", f"{key} not found")
        if body["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"]:
            raise Conflict("ObjectChanged", f"{key} was changed")
        if subresource == "status":
            self._check_status(key, old, body["status"])
            answer = self._store(key, {**old, "status": _merged(old["status"], body["status"])})
        else:
            added = set(body["metadata"]["finalizers"]) - set(old["metadata"]["finalizers"])
            if added and "deletionTimestamp" in old["metadata"]:
                raise Refused("ApiRejected", "no new finalizers can be added if the object is being deleted")
            changes = {name: body["metadata"][name] for name in ("finalizers", "ownerReferences")}
            self._check_release(key, old, changes["finalizers"])
            answer = self._store(key, {**old, "metadata": {**old["metadata"], **changes}})
        self.patches.append((key, subresource or "metadata"))
        await self.pause()
        self._reach()
        return answer

    # What people and Kubernetes do.

    def create(self, key: Key, spec: Raw, *, annotations: Mapping[str, str] | None = None) -> None:
        """Apply an object that does not exist."""
        self.uids += 1
        metadata: dict[str, Any] = {
            "name": key.name,
            "uid": f"uid-{self.uids}",
            "generation": 1,
            "creationTimestamp": stamp(self.now()),
            "finalizers": [],
            "ownerReferences": [],
            "annotations": dict(annotations or {}),
        }
        if key.namespace:
            metadata["namespace"] = key.namespace
        self._store(key, {"metadata": metadata, "spec": dict(spec), "status": {}})

    def edit(self, key: Key, spec: Raw) -> None:
        """Apply another spec."""
        old = self.objects[key]
        if old["spec"] != spec:
            generation = old["metadata"]["generation"] + 1
            self._store(key, {**old, "spec": dict(spec), "metadata": {**old["metadata"], "generation": generation}})

    def annotate(self, key: Key, annotations: Mapping[str, str]) -> None:
        """Set annotations."""
        old = self.objects[key]
        self._store(
            key,
            {**old, "metadata": {**old["metadata"], "annotations": {**old["metadata"]["annotations"], **annotations}}},
        )

    def delete(self, key: Key, *, foreground: bool = False) -> None:
        """Delete an object: it goes once nothing holds it."""
        old = self.objects[key]
        metadata = {"deletionTimestamp": stamp(self.now()), **old["metadata"]}
        if foreground and FOREGROUND not in metadata["finalizers"]:
            metadata["finalizers"] = [*metadata["finalizers"], FOREGROUND]
        if metadata != old["metadata"] and "deletionTimestamp" not in old["metadata"]:
            metadata["generation"] += 1
        self._store(key, {**old, "metadata": metadata})

    def strip(self, key: Key) -> None:
        """Take our finalizer off by hand."""
        old = self.objects[key]
        kept = [name for name in old["metadata"]["finalizers"] if not name.startswith(GROUP)]
        self.stripped |= {old["metadata"]["uid"]}
        self.touched |= {key}
        self._store(key, {**old, "metadata": {**old["metadata"], "finalizers": kept}})

    def collect(self) -> None:
        """The garbage collector: what has no living owner goes, and what waits for its dependents is released."""
        uids = {raw["metadata"]["uid"]: key for key, raw in self.objects.items()}
        leaving = {key for key, raw in self.objects.items() if FOREGROUND in raw["metadata"]["finalizers"]}
        blocked: set[Key] = set()
        for key, raw in list(self.objects.items()):
            owners = [owner["uid"] for owner in raw["metadata"]["ownerReferences"]]
            living = {uids[uid] for uid in owners if uid in uids}
            if owners and living <= leaving and "deletionTimestamp" not in raw["metadata"]:
                self.delete(key)
            if key in self.objects:
                blocked |= living
        for key in leaving - blocked:
            old = self.objects[key]
            kept = [name for name in old["metadata"]["finalizers"] if name != FOREGROUND]
            self._store(key, {**old, "metadata": {**old["metadata"], "finalizers": kept}})

    def put_secret(self, namespace: str, name: str, data: Mapping[str, str] | None) -> None:
        """Create, change or (None) delete a Secret."""
        self.version += 1
        if data is None:
            self.secrets.pop((namespace, name), None)
        else:
            metadata = {"name": name, "namespace": namespace, "resourceVersion": str(self.version)}
            self.secrets[namespace, name] = {"metadata": metadata, "data": dict(data)}

    # What a test reads.

    def find(self, key: Key) -> Object[Any] | None:
        """An object as it is now."""
        raw = self.objects.get(key)
        return None if raw is None else parse(key.kind, raw)

    def all(self, kind: str) -> Sequence[Object[Any]]:
        """All objects of a kind as they are now."""
        return [parse(key.kind, raw) for key, raw in self.objects.items() if key.kind == kind]

    def meddled(self, key: Key) -> bool:
        """Whether somebody edited the metadata of the object by hand."""
        return key in self.touched

    def tenant_of(self, obj: Object[Any]) -> Object[Any] | None:
        """The Tenant that a Provider names."""
        if isinstance(obj.spec, Invalid):
            return None
        name = obj.spec.tenant_ref.name if obj.spec.tenant_ref is not None else "keep"
        return self.find(Key("Tenant", "", name))

    def check_same_tenant(self, row: provider.Record, heir: Object[Any]) -> None:
        """A record never leaves its tenant."""
        owner = self.tenant_of(heir)
        if owner is not None and tenant.effective_id(owner) != row.tenant_id:
            raise Broken(f"the record of tenant {row.tenant_id} went to {heir.key} of {tenant.effective_id(owner)}")

    def _reach(self) -> None:
        if self.down:
            raise Unavailable("ApiServerUnavailable", "the API server does not answer")

    def _store(self, key: Key, raw: Raw) -> Raw:
        old = self.objects.get(key)
        if old == raw:
            return old
        self.version += 1
        raw = {**raw, "metadata": {**raw["metadata"], "resourceVersion": str(self.version)}}
        if "deletionTimestamp" in raw["metadata"] and not raw["metadata"]["finalizers"]:
            self.objects.pop(key, None)
            self.emit("DELETED", key.kind, raw)
            return raw
        self.objects[key] = raw
        self.emit("ADDED" if old is None else "MODIFIED", key.kind, raw)
        return raw

    def _check_release(self, key: Key, old: Raw, finalizers: Sequence[str]) -> None:
        """The finalizer goes only once no row carries the object's marker."""
        ours = FINALIZERS[key.kind]
        if ours not in old["metadata"]["finalizers"] or ours in finalizers or self.rows is None:
            return
        if "deletionTimestamp" not in old["metadata"]:
            raise Broken(f"the finalizer of {key} was removed though it is not being deleted")
        tables = self.rows.providers if key.kind == "Provider" else self.rows.tenants
        for row in tables.values():
            if row.owner is not None and row.owner.uid == old["metadata"]["uid"]:
                raise Broken(f"{key} was released while the record {row.id} still carries its marker")

    def _check_status(self, key: Key, old: Raw, changes: Raw) -> None:
        status = _merged(old["status"], changes)
        shape: type[ProviderStatus] | type[TenantStatus] = ProviderStatus if key.kind == "Provider" else TenantStatus
        read = cast(ProviderStatus | TenantStatus | Invalid, shapes.parse(shape, status, "status"))
        if isinstance(read, Invalid):
            raise Broken(f"{key}: the API server would refuse this status: {read}")
        for each in read.conditions:
            if each.reason not in reasons.MEANINGS:
                raise Broken(f"{key}: the reason {each.reason} of {each.type} is not a documented one")
            if len(each.message) > MESSAGE_LIMIT:
                raise Broken(f"{key}: message of {len(each.message)} characters")
        ready = next(each for each in read.conditions if each.type == "Ready")
        suspended = any(each.type == "Suspended" for each in read.conditions)
        # While it is being deleted the last known state stands.
        deleting = "deletionTimestamp" in old["metadata"]
        if ready.status == "True" and not suspended and not deleting and self.rows is not None:
            check_truth(parse(key.kind, old), self.rows, self)


def check_truth(obj: Object[Any], rows: Rows, server: Server) -> None:
    """Ready=True says: there is a row, it is ours, and it says what the spec says."""
    if isinstance(obj.spec, Invalid):
        raise Broken(f"{obj.key} is Ready with a spec that cannot be read")
    if obj.key.kind == "Tenant":
        row = next((r for r in rows.tenants.values() if r.owner and r.owner.uid == obj.uid), None)
        if row is None or row.id != tenant.declared_id(obj):
            raise Broken(f"{obj.key} is Ready with the row {row}")
        return
    own = next((r for r in rows.providers.values() if r.owner and r.owner.uid == obj.uid), None)
    if own is None:
        raise Broken(f"{obj.key} is Ready without a row")
    wanted = provider_reader.effective_name(obj.spec, obj.key.name)
    if (own.external_name, own.type, own.content.config) != (wanted, obj.spec.type, obj.spec.config or {}):
        raise Broken(f"{obj.key} is Ready but its row says {own}")
    owner = server.tenant_of(obj)
    if owner is not None and tenant.effective_id(owner) != own.tenant_id:
        raise Broken(f"{obj.key} is Ready with a row in tenant {own.tenant_id}")


def check_rows(rows: Rows, server: Server) -> None:
    """When all is quiet: a row without a living owner was orphaned, or lost its object by force."""
    live = {obj.uid for kind in OURS for obj in server.all(kind.kind)}
    for row in rows.providers.values():
        if row.owner is None:
            if row.id not in rows.orphaned:
                raise Broken(f"nobody owns {row}, and nobody orphaned it")
        elif row.owner.uid not in live and row.owner.uid not in server.stripped:
            raise Broken(f"the object of {row} is gone")
        if row.tenant_id not in rows.tenants:
            raise Broken(f"the tenant of {row} is gone")
    for each in rows.tenants.values():
        if each.owner is not None and each.owner.uid not in live and each.owner.uid not in server.stripped:
            raise Broken(f"the object of {each} is gone")
        if each.delete_when_empty and not any(row.tenant_id == each.id for row in rows.providers.values()):
            raise Broken(f"{each} was to go with its last provider")


def _merged(old: Raw, changes: Raw) -> dict[str, Any]:
    """A JSON merge patch, one level of maps deep as our status is."""
    merged = dict(old)
    for name, value in changes.items():
        if isinstance(value, Mapping) and isinstance(merged.get(name), Mapping):
            merged[name] = {**merged[name], **value}
        else:
            merged[name] = value
    return merged
