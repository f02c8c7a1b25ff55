"""What the operator knows: never older than before, found under what it says, nothing twice."""

import asyncio
from collections.abc import Hashable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from keep_operator.resources.kinds import Key
from keep_operator.resources.objects import Object
from keep_operator.resources.shapes import Invalid
from keep_operator.runtime import cache as cache_module
from keep_operator.runtime.cache import Cache, Change
from unit import virtual_time
from unit.builders import a_tenant

pytestmark = pytest.mark.unit

KEY = Key("Tenant", "", "keep")


def by_display_name(obj: Object[Any]) -> tuple[Hashable, ...]:
    """An index over something that changes; objects that say nothing stand under nothing."""
    name = None if isinstance(obj.spec, Invalid) else obj.spec.display_name
    return () if name is None else (name,)


def made() -> Cache:
    """A cache of Tenants with one index."""
    return Cache({"Tenant": {"display": by_display_name}})


def tenant(version: int, display: str | None = None, name: str = "keep", uid: str = "1", **more: Any) -> Object[Any]:
    """A Tenant at a version."""
    return a_tenant(name, {"displayName": display} if display else {}, uid=uid, version=version, **more)


def test_a_first_snapshot_is_news() -> None:
    """An object came: there is no old one."""
    cache, new = made(), tenant(1)
    assert cache.put(new) == Change(KEY, None, new)
    assert cache.get(KEY) is new
    assert cache.count("Tenant") == 1
    assert list(cache.all("Tenant")) == [new]


def test_the_echo_of_our_own_write_is_no_news() -> None:
    """The answer to a write comes first, the watch repeats it: nobody is woken twice (A-DR-2)."""
    cache, written = made(), tenant(5)
    cache.put(written)
    assert cache.put(tenant(5)) is None
    assert cache.put(tenant(4)) is None
    assert cache.get(KEY) is written


def test_a_newer_snapshot_replaces_the_old_one() -> None:
    """Also under what it is found."""
    cache, old, new = made(), tenant(1, "a"), tenant(2, "b")
    cache.put(old)
    assert cache.put(new) == Change(KEY, old, new)
    assert cache.find("display", "a") == []
    assert cache.find("display", "b") == [new]
    assert cache.listed("display", "b") == 1


def test_a_deletion_takes_the_object_out_of_everything() -> None:
    """And the change tells what it was."""
    cache, old = made(), tenant(1, "a")
    cache.put(old)
    assert cache.remove(tenant(2, "a")) == Change(KEY, old, None)
    assert cache.get(KEY) is None
    assert cache.find("display", "a") == []
    assert cache.remove(tenant(2, "a")) is None


def test_a_late_answer_does_not_bring_a_deleted_object_back() -> None:
    """A patch that was under way when the watch told of the deletion."""
    cache = made()
    cache.put(tenant(1))
    cache.remove(tenant(5))
    assert cache.put(tenant(4)) is None
    assert cache.get(KEY) is None


def test_an_object_of_the_same_name_may_come_again() -> None:
    """Deleted and applied again: another uid, a higher version."""
    cache, again = made(), tenant(6, uid="2")
    cache.put(tenant(1))
    cache.remove(tenant(5))
    assert cache.put(again) == Change(KEY, None, again)


def test_a_late_deletion_of_a_predecessor_does_not_take_its_successor() -> None:
    """Deleted and applied again while the watch was behind: identity is the uid."""
    cache, successor = made(), tenant(7, uid="2")
    cache.put(successor)
    assert cache.remove(tenant(6, uid="1")) is None
    assert cache.get(KEY) is successor


def test_a_late_deletion_of_a_predecessor_does_not_forget_the_later_one() -> None:
    """The tombstone is of the latest deletion, in whatever order they are told."""
    cache = made()
    cache.put(tenant(7, uid="2"))
    cache.remove(tenant(9, uid="2"))
    cache.remove(tenant(6, uid="1"))
    assert cache.put(tenant(8, uid="2")) is None


def test_an_answer_without_finalizers_is_the_end_of_a_deleting_object() -> None:
    """The patch that takes off the last finalizer is answered with the object, which the server no longer has."""
    cache, old = made(), tenant(1, deleting=True, finalizers=["f"])
    cache.put(old)
    assert cache.put(tenant(2, deleting=True)) == Change(KEY, old, None)
    assert cache.get(KEY) is None


def test_an_object_that_the_server_does_not_have_is_forgotten() -> None:
    """Told by a read, before the watch tells; what was known at most is not brought back."""
    cache, old = made(), tenant(3)
    cache.put(old)
    assert cache.forget(KEY) == Change(KEY, old, None)
    assert cache.forget(KEY) is None
    assert cache.put(tenant(3)) is None


def test_tombstones_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster in which objects come and go for a year fills no memory."""
    monkeypatch.setattr(cache_module, "TOMBSTONES", 3)
    cache = made()
    for number in range(10):
        cache.remove(tenant(number + 1, name=f"t{number}"))
    assert len(cache._removed) == 3


async def test_the_cache_is_warm_once_all_that_exists_was_seen() -> None:
    """Alive, or deleted meanwhile; only then the queue opens."""
    cache = made()
    cache.put(tenant(1, name="a", uid="a"))
    cache.expect({"a", "b", "c"})
    assert cache.missing == 2
    waiting = asyncio.create_task(cache.warm())
    cache.put(tenant(2, name="b", uid="b"))
    await asyncio.sleep(0)
    assert not waiting.done()
    cache.remove(tenant(3, name="c", uid="c"))
    await waiting
    assert cache.missing == 0


async def test_an_empty_cluster_is_warm_at_once() -> None:
    """A fresh installation waits for nothing."""
    cache = made()
    cache.expect([])
    await cache.warm()


async def test_asked_again_it_expects_what_exists_now() -> None:
    """An object that went before the watch began is never seen: a second list says that nobody need wait for it."""
    cache = made()
    cache.expect(["a", "gone"])
    cache.put(tenant(1, name="a", uid="a"))
    assert cache.missing == 1
    cache.expect(["a"])
    await cache.warm()


def test_a_cache_that_is_not_warm_waits() -> None:
    """Nothing is decided from half of the objects."""
    cache = made()
    cache.expect(["a"])
    with pytest.raises(virtual_time.Stuck):
        virtual_time.run(cache.warm())


class Machine(RuleBasedStateMachine):
    """A server with a history, and a cache that is told of it late, twice, and in any order.

    The rule is simple: of all that was told of a name the highest version counts, and a deletion is told of by a
    version too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cache = made()
        self.version = 0
        self.history: list[tuple[bool, Object[Any]]] = []
        self.alive: dict[str, Object[Any]] = {}
        self.told: dict[Key, list[tuple[int, bool]]] = {}

    def _happens(self, name: str, uid: str | None, display: str | None, *, gone: bool) -> Object[Any]:
        self.version += 1
        obj = tenant(self.version, display, name, uid or f"uid-{self.version}")
        self.history.append((gone, obj))
        return obj

    @rule(name=st.sampled_from("ab"), display=st.sampled_from(["x", "y", None]))
    def apply(self, name: str, display: str | None) -> None:
        """An object comes or changes on the server."""
        known = self.alive.get(name)
        self.alive[name] = self._happens(name, known.uid if known else None, display, gone=False)

    @rule(name=st.sampled_from("ab"))
    def delete(self, name: str) -> None:
        """An object goes on the server."""
        if (known := self.alive.pop(name, None)) is not None:
            self._happens(name, known.uid, None, gone=True)

    @rule(pick=st.integers(0, 100))
    def tell(self, pick: int) -> None:
        """The cache hears of something that happened at some time."""
        if not self.history:
            return
        gone, obj = self.history[-1 - pick % len(self.history)]
        before = self.cache.get(obj.key)
        change = self.cache.remove(obj) if gone else self.cache.put(obj)
        after = self.cache.get(obj.key)
        assert (change is None) == (before is after)
        assert change is None or (change.old, change.new) == (before, after)
        self.told.setdefault(obj.key, []).append((int(obj.resource_version), gone))

    @invariant()
    def the_highest_version_counts(self) -> None:
        """Never backwards, never back from the dead."""
        for key, told in self.told.items():
            version, gone = max(told)
            known = self.cache.get(key)
            assert (known and int(known.resource_version)) == (None if gone else version)

    @invariant()
    def indexes_agree_with_the_objects(self) -> None:
        """Everything is found under what it says, and under nothing else."""
        for display in ("x", "y"):
            expected = {obj.key for obj in self.cache.all("Tenant") if display in by_display_name(obj)}
            assert {obj.key for obj in self.cache.find("display", display)} == expected
            assert self.cache.listed("display", display) == len(expected)
        assert self.cache.count("Tenant") == len(list(self.cache.all("Tenant")))


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
