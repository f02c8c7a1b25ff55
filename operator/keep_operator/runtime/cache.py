"""What the operator knows of its objects: slim snapshots, newest only, with reverse maps.

The cache may lag behind the server, never run backwards: every snapshot is compared by resourceVersion with what
is already here, since answers to our own writes arrive before the watch repeats them. That comparison takes
resourceVersions as growing integers, as the API server has always made them.
"""

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from keep_operator.resources.kinds import Key
from keep_operator.resources.objects import Object

AnyObject: TypeAlias = Object[Any]
Indexer: TypeAlias = Callable[[AnyObject], Iterable[Hashable]]

# Deletions remembered so that a late answer cannot bring an object back; an answer is late by seconds at most.
TOMBSTONES: Final = 4096


@dataclass(frozen=True, slots=True)
class Change:
    """One step in an object's life as the cache saw it; ``old`` or ``new`` is None where it began or ended."""

    key: Key
    old: AnyObject | None
    new: AnyObject | None


class Cache:
    """Snapshots by key, and by every index that its kind has.

    ``indexes`` maps a kind to named functions from an object to the values under which `find` lists it.
    Only for use in one event loop; no method waits.
    """

    def __init__(self, indexes: Mapping[str, Mapping[str, Indexer]]) -> None:
        self._indexes = indexes
        self._objects: dict[str, dict[Key, AnyObject]] = {kind: {} for kind in indexes}
        self._found: dict[str, dict[Hashable, dict[Key, None]]] = defaultdict(lambda: defaultdict(dict))
        self._removed: OrderedDict[Key, int] = OrderedDict()
        self._awaited: set[str] = set()
        self._warm = asyncio.Event()

    def get(self, key: Key) -> AnyObject | None:
        """The newest snapshot of one object, None if it does not exist as far as is known."""
        return self._objects[key.kind].get(key)

    def all(self, kind: str) -> Iterator[AnyObject]:
        """Every object of a kind; do not change the cache while iterating."""
        return iter(self._objects[kind].values())

    def count(self, kind: str) -> int:
        """How many objects of a kind are here."""
        return len(self._objects[kind])

    def find(self, index: str, value: Hashable) -> list[AnyObject]:
        """The objects that an index lists under a value."""
        keys = self._found[index].get(value, {})
        return [self._objects[key.kind][key] for key in keys]

    def listed(self, index: str, value: Hashable) -> int:
        """How many objects an index lists under a value, without looking at them."""
        return len(self._found[index].get(value, ()))

    def knows(self, key: Key, uid: str, resource_version: str) -> bool:
        """Whether `put` would learn nothing from this version of the object, so that it need not even be read."""
        known, version = self._objects[key.kind].get(key), int(resource_version)
        if known is None:
            return version <= self._removed.get(key, -1)
        return known.uid == uid and int(known.resource_version) >= version

    def put(self, obj: AnyObject) -> Change | None:
        """Take in a snapshot; None when it tells nothing new (an echo of our own write, or older than what is here)."""
        self._arrived(obj.uid)
        if obj.deleting and not obj.finalizers:
            return self.remove(obj)  # nothing holds it any longer: the server has dropped it with this very version
        old = self._objects[obj.key.kind].get(obj.key)
        version = int(obj.resource_version)
        if version <= (int(old.resource_version) if old is not None else self._removed.get(obj.key, -1)):
            return None
        if old is not None:
            self._unlist(old)
        self._objects[obj.key.kind][obj.key] = obj
        for index, values in self._indexes[obj.key.kind].items():
            for value in values(obj):
                self._found[index][value][obj.key] = None
        return Change(obj.key, old, obj)

    def remove(self, obj: AnyObject) -> Change | None:
        """Take note of a deletion; None when this object is not here (a newer one of the same name stays)."""
        self._arrived(obj.uid)
        old = self._objects[obj.key.kind].get(obj.key)
        if old is not None and old.uid != obj.uid and int(old.resource_version) > int(obj.resource_version):
            return None
        versions = (obj.resource_version, old.resource_version if old is not None else "0")
        self._removed[obj.key] = max(*map(int, versions), self._removed.get(obj.key, 0))
        self._removed.move_to_end(obj.key)
        if len(self._removed) > TOMBSTONES:
            self._removed.popitem(last=False)
        if old is None:
            return None
        del self._objects[obj.key.kind][obj.key]
        self._unlist(old)
        return Change(obj.key, old, None)

    def forget(self, key: Key) -> Change | None:
        """Drop an object that the server said it does not have."""
        old = self._objects[key.kind].get(key)
        return self.remove(old) if old is not None else None

    def expect(self, uids: Iterable[str]) -> None:
        """Call the cache warm once all of these objects have been seen, alive or deleted.

        Asked again it counts anew: an object that was deleted before the watch began is never seen, nor expected then.
        """
        self._awaited = set(uids) - self._known()
        if not self._awaited:
            self._warm.set()

    async def warm(self) -> None:
        """Wait until everything that was expected has arrived."""
        await self._warm.wait()

    @property
    def is_warm(self) -> bool:
        """Whether everything that was expected has arrived."""
        return self._warm.is_set()

    @property
    def missing(self) -> int:
        """How many expected objects have not been seen yet."""
        return len(self._awaited)

    def _known(self) -> set[str]:
        return {obj.uid for objects in self._objects.values() for obj in objects.values()}

    def _arrived(self, uid: str) -> None:
        if self._awaited:
            self._awaited.discard(uid)
            if not self._awaited:
                self._warm.set()

    def _unlist(self, obj: AnyObject) -> None:
        for index, values in self._indexes[obj.key.kind].items():
            for value in values(obj):
                listed = self._found[index][value]
                listed.pop(obj.key, None)
                if not listed:
                    del self._found[index][value]
