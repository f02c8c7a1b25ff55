"""What an API server keeps: objects, one counter of versions, and all that ever happened, in order.

::

    create, change, remove ──► objects as they are now
                          └──► log: version 1001, 1002, ... ──► watches replay it; a view of an earlier version is its beginning

Objects are replaced, never edited, so what was once handed out stays as it was. Beside the store live two controllers that no
cluster is without: the garbage collector, and the one that empties a namespace which goes.
"""

import base64
import copy
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from component.apiserver import patches
from component.apiserver.patches import Json, Path
from keep_operator.resources.kinds import (
    ADMISSION_POLICIES,
    ADMISSION_POLICY_BINDINGS,
    CONFIG_MAPS,
    CUSTOM_RESOURCE_DEFINITIONS,
    EVENTS,
    GROUP,
    LEASES,
    NAMESPACES,
    OURS,
    SECRETS,
    Resource,
)

POLICIES: Final = (ADMISSION_POLICIES, ADMISSION_POLICY_BINDINGS)
"""Kept and shown, and not carried out: here nobody asks who somebody is."""
CORE: Final = (NAMESPACES, SECRETS, CONFIG_MAPS, EVENTS, LEASES, CUSTOM_RESOURCE_DEFINITIONS, *POLICIES)
"""What every cluster has, as far as anybody here asks for it; kopf hangs without Namespaces, Events and CRDs."""
FIRST_VERSION: Final = 1000
NAMESPACE_CONTROLLER: Final = "kubernetes"
_KEPT: Final = ("uid", "name", "namespace", "creationTimestamp", "generation", "deletionTimestamp", "resourceVersion")
"""Metadata that no client sets."""


class Name(NamedTuple):
    """One object of a resource; ``namespace`` is empty for cluster-scoped ones."""

    namespace: str
    name: str


class Failure(Exception):
    """A request that is not carried out, as the ``Status`` object says it."""

    def __init__(self, code: int, reason: str, message: str = "", **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.status = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "code": code,
            "reason": reason,
            "message": message or reason,
            "details": details,
        }


@dataclass(frozen=True, slots=True)
class Happening:
    """One step in the life of one object, as a watch tells it; ``object`` is how it was left."""

    version: int
    type: str
    resource: Resource
    name: Name
    object: Json


@dataclass
class State:
    """The objects of a cluster; every method that changes something is one step, done or refused as a whole."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    version: int = FIRST_VERSION
    served: list[Resource] = field(default_factory=lambda: [*CORE])
    log: list[Happening] = field(default_factory=list)
    objects: dict[Resource, dict[Name, Json]] = field(default_factory=dict)
    managers: dict[tuple[Resource, Name], dict[Path, set[str]]] = field(default_factory=dict)
    """Who owns which field of an object; kept beside it, and not shown in ``managedFields``."""
    tell: Callable[[], None] = lambda: None
    """Called after each step."""

    def __post_init__(self) -> None:
        if not self.objects:
            self.create(NAMESPACES, Name("", "default"), {})
            for resource in OURS:
                self.define(resource)

    def copy(self) -> "State":
        """The same cluster once more; what happens to one is not seen by the other."""
        return State(
            now=self.now,
            version=self.version,
            served=list(self.served),
            log=list(self.log),
            objects={resource: dict(kept) for resource, kept in self.objects.items()},
            managers={what: {path: set(who) for path, who in owned.items()} for what, owned in self.managers.items()},
        )

    # -- reading --------------------------------------------------------------------------------------------------

    def all(self, resource: Resource, *, as_of: int | None = None) -> dict[Name, Json]:
        """The objects of a resource by name, in the order of a list; ``as_of`` an earlier version."""
        found = dict(self.objects.get(resource, {}))
        if as_of is not None:
            found = {}
            for happening in self.log:
                if happening.version > as_of:
                    break
                if happening.resource == resource:
                    found[happening.name] = happening.object
                    if happening.type == "DELETED":
                        del found[happening.name]
        return dict(sorted(found.items()))

    def get(self, resource: Resource, name: Name, *, as_of: int | None = None) -> Json:
        """An object; raises NotFound."""
        found = self.all(resource, as_of=as_of) if as_of is not None else self.objects.get(resource, {})
        if name not in found:
            raise absent(resource, name.name)
        return found[name]

    # -- definitions ----------------------------------------------------------------------------------------------

    def define(self, resource: Resource) -> None:
        """Serve one of our kinds, by a definition of its own."""
        self.create(CUSTOM_RESOURCE_DEFINITIONS, definition(resource), {"spec": {"group": resource.group}})
        self.served.append(resource)

    def withdraw(self, resource: Resource) -> None:
        """Serve a kind no more, its definition being gone; its objects stay, and nobody sees them."""
        self.served.remove(resource)
        self.delete(CUSTOM_RESOURCE_DEFINITIONS, definition(resource))

    # -- writing --------------------------------------------------------------------------------------------------

    def create(self, resource: Resource, name: Name, body: Json, *, manager: str = "") -> Json:
        """Make an object; it begins with generation 1 and without a status, where its kind has those."""
        self._check_namespace(name.namespace)
        if name in self.objects.get(resource, {}):
            raise Failure(409, "AlreadyExists", f'{resource.plural} "{name.name}" already exists', name=name.name)
        made = copy.deepcopy(body) | {"apiVersion": resource.api_version, "kind": resource.kind}
        given = {key: value for key, value in made.get("metadata", {}).items() if key not in _KEPT}
        made["metadata"] = given | {
            "name": name.name,
            **({"namespace": name.namespace} if name.namespace else {}),
            "uid": str(uuid.uuid4()),
            "creationTimestamp": self._stamp(),
            **({"generation": 1} if counted(resource) else {}),
        }
        if ours(resource):
            made.pop("status", None)
        if resource == NAMESPACES:
            made |= {"spec": {"finalizers": [NAMESPACE_CONTROLLER]}, "status": {"phase": "Active"}}
        made = self._settled(resource, name, "ADDED", _as_stored(resource, made))
        self._own(resource, name, made, {}, manager)
        if "ownerReferences" in made["metadata"]:
            self.collect()
        return made

    def change(
        self, resource: Resource, name: Name, new: Json, *, subresource: str | None = None, manager: str = ""
    ) -> Json:
        """Let an object be as a patch left it, as far as that may change it; nothing happens where nothing differs."""
        old = self.get(resource, name)
        self._check_unchanged(resource, name, old, new)
        changed = _within_reach(resource, old, new, subresource)
        finalizers = changed["metadata"].get("finalizers") or []
        if "deletionTimestamp" in old["metadata"] and set(finalizers) - set(old["metadata"].get("finalizers", [])):
            message = (
                f"metadata.finalizers: Forbidden: no new finalizers can be added to {name.name}, it is being deleted"
            )
            raise Failure(422, "Invalid", message, name=name.name)
        for emptied in ("finalizers", "ownerReferences"):
            if changed["metadata"].get(emptied) == []:
                del changed["metadata"][emptied]
        changed = _as_stored(resource, changed)
        if changed == old:
            return old
        if counted(resource) and _declared(changed) != _declared(old):
            changed["metadata"]["generation"] += 1
        going = "deletionTimestamp" in old["metadata"] and not finalizers and resource != NAMESPACES
        changed = self._settled(resource, name, "DELETED" if going else "MODIFIED", changed)
        self._own(resource, name, changed, old, manager)
        if going or "ownerReferences" in changed["metadata"]:
            self.collect()
        return changed

    def apply(self, resource: Resource, name: Name, body: Json, *, manager: str, force: bool) -> tuple[Json, bool]:
        """Server-side apply, and whether that made the object. Raises a conflict where others own what it would change.

        Fields that a manager applied before and leaves out now stay: nobody here takes a field back.
        """
        if name not in self.objects.get(resource, {}):
            return self.create(resource, name, body, manager=manager), True
        old = self.get(resource, name)
        owned = self.managers.get((resource, name), {})
        causes = [
            {"reason": "FieldManagerConflict", "message": f'conflict with "{other}"', "field": "." + ".".join(path)}
            for path, value in _applied(body)
            for other in sorted(owned.get(path, set()) - {manager})
            if patches.field(old, path) != value
        ]
        if causes and not force:
            message = f"Apply failed with {len(causes)} conflicts"
            raise Failure(409, "Conflict", message, name=name.name, causes=causes)
        changed = self.change(resource, name, patches.merge(old, body), manager=manager)
        for path, _ in _applied(body):
            self.managers[resource, name].setdefault(path, set()).add(manager)
        return changed, False

    def delete(self, resource: Resource, name: Name, *, uid: str | None = None) -> Json:
        """Remove an object, or mark it where finalizers hold it; with ``uid`` only that very one."""
        old = self.get(resource, name)
        if uid is not None and uid != old["metadata"]["uid"]:
            message = f"the UID in the precondition ({uid}) does not match the UID in record ({old['metadata']['uid']})"
            raise Failure(409, "Conflict", message, name=name.name)
        going = copy.deepcopy(old)
        if not going["metadata"].get("finalizers") and resource != NAMESPACES:  # those go when they are empty
            return self._gone(resource, name, going)
        if "deletionTimestamp" not in going["metadata"]:
            going["metadata"]["deletionTimestamp"] = self._stamp()
            going["metadata"]["deletionGracePeriodSeconds"] = 0
            if "generation" in going["metadata"]:
                going["metadata"]["generation"] += 1
            if resource == NAMESPACES:
                going["status"] = {"phase": "Terminating"}
            going = self._settled(resource, name, "MODIFIED", going)
            self.collect()
        return going

    def _gone(self, resource: Resource, name: Name, last: Json) -> Json:
        last = self._settled(resource, name, "DELETED", last)
        self.collect()
        return last

    def _settled(self, resource: Resource, name: Name, type: str, obj: Json) -> Json:
        """Give the object its version, keep or drop it, and note what has happened."""
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        kept = self.objects.setdefault(resource, {})
        if type == "DELETED":
            kept.pop(name)
            self.managers.pop((resource, name), None)
        else:
            kept[name] = obj
        self.log.append(Happening(self.version, type, resource, name, obj))
        self.tell()
        return obj

    def _own(self, resource: Resource, name: Name, new: Json, old: Json, manager: str) -> None:
        """Whoever changes a field owns it from then on, alone."""
        if name in self.objects[resource]:
            owned = self.managers.setdefault((resource, name), {})
            owned |= {path: {manager} for path, value in _applied(new) if patches.field(old, path) != value}

    def _check_namespace(self, namespace: str) -> None:
        if not namespace:
            return
        if "deletionTimestamp" in self.get(NAMESPACES, Name("", namespace))["metadata"]:
            message = f"unable to create new content in namespace {namespace} because it is being terminated"
            causes = [{"reason": "NamespaceTerminating", "message": message, "field": "metadata.namespace"}]
            raise Failure(403, "Forbidden", message, causes=causes)

    @staticmethod
    def _check_unchanged(resource: Resource, name: Name, old: Json, new: Json) -> None:
        for seen in ("resourceVersion", "uid"):
            if new["metadata"].get(seen) not in (None, old["metadata"][seen]):
                message = (
                    f'Operation cannot be fulfilled on {resource.plural} "{name.name}": the object has been modified'
                )
                raise Failure(409, "Conflict", message, name=name.name)

    def _stamp(self) -> str:
        return self.now().strftime("%Y-%m-%dT%H:%M:%SZ")

    # -- controllers ----------------------------------------------------------------------------------------------

    def collect(self) -> None:
        """Delete what has lost all of its owners, and what is in a namespace that goes; then that namespace."""
        for resource, name in list(self._doomed()):
            if name in self.objects[resource]:
                self.delete(resource, name)
        for name, obj in list(self.objects.get(NAMESPACES, {}).items()):
            content = any(each.namespace == name.name for kept in self.objects.values() for each in kept)
            if "deletionTimestamp" in obj["metadata"] and not content and name in self.objects[NAMESPACES]:
                self._gone(NAMESPACES, name, copy.deepcopy(obj))

    def _doomed(self) -> Iterator[tuple[Resource, Name]]:
        uids = {obj["metadata"]["uid"] for kept in self.objects.values() for obj in kept.values()}
        ending = {
            name.name
            for name, obj in self.objects.get(NAMESPACES, {}).items()
            if "deletionTimestamp" in obj["metadata"]
        }
        for resource, kept in self.objects.items():
            for name, obj in kept.items():
                owners = obj["metadata"].get("ownerReferences", ())
                lost = bool(owners) and not any(owner["uid"] in uids for owner in owners)
                if (lost or name.namespace in ending) and "deletionTimestamp" not in obj["metadata"]:
                    yield resource, name


def definition(resource: Resource) -> Name:
    """The name of the definition of a kind."""
    return Name("", f"{resource.plural}.{resource.group}")


def counted(resource: Resource) -> bool:
    """Whether its objects count the generations of their specs, as far as anybody here asks for them."""
    return ours(resource) or resource in POLICIES


def ours(resource: Resource) -> bool:
    """Whether the resource is one of a CRD: those count generations and have a status of their own."""
    return resource.group == GROUP


def absent(resource: Resource, name: str) -> Failure:
    """The server's own word that an object does not exist."""
    return Failure(404, "NotFound", f'{resource.plural} "{name}" not found', name=name, kind=resource.plural)


def _within_reach(resource: Resource, old: Json, new: Json, subresource: str | None) -> Json:
    """The new object, with all of the old one's that this request may not change."""
    new = copy.deepcopy(new)
    if subresource == "status":
        changed = copy.deepcopy(old)
        changed.pop("status", None)
        return changed | ({"status": new["status"]} if "status" in new else {})
    if ours(resource):
        new.pop("status", None)
        new |= {"status": old["status"]} if "status" in old else {}
    new["metadata"] = {key: value for key, value in new["metadata"].items() if key not in _KEPT}
    new["metadata"] |= {key: old["metadata"][key] for key in _KEPT if key in old["metadata"]}
    if "deletionGracePeriodSeconds" in old["metadata"]:
        new["metadata"]["deletionGracePeriodSeconds"] = old["metadata"]["deletionGracePeriodSeconds"]
    return new


def _as_stored(resource: Resource, obj: Json) -> Json:
    """Secrets take text and keep it in base64."""
    if resource == SECRETS and (texts := obj.pop("stringData", None)):
        encoded = {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
        obj["data"] = obj.get("data", {}) | encoded
    return obj


def _declared(obj: Json) -> Json:
    """What a generation counts the changes of."""
    return {key: value for key, value in obj.items() if key not in ("metadata", "status")}


def _applied(body: Json) -> Iterator[tuple[Path, Any]]:
    """The fields of a body that have owners: all but what the server sets."""
    for path, value in patches.leaves(body):
        if path[0] not in ("apiVersion", "kind", "status") and not (
            path[0] == "metadata" and path[1:2] and path[1] in _KEPT
        ):
            yield path, value
