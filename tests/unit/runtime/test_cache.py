"""What the operator knows: never older than before, found under what it says, nothing twice."""

import asyncio
from collections.abc import Hashable, Iterable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from keep_operator.resources.kinds import Key
from keep_operator.resources.objects import Object
from keep_operator.runtime import cache as cache_module
from keep_operator.runtime.cache import Cache, Change
from unit import virtual_time
from unit.builders import a_tenant

pytestmark = pytest.mark.unit

KEY = Key("Tenant", "", "keep")


def by_display_name(obj: Object[Any]) -> Iterable[Hashable]:
    """An index over something that changes; objects that say nothing stand under nothing."""
    return (obj.spec.display_name,) if obj.spec.display_name else ()


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
    """A server with a history, and a cache that is told of it late, twice, and in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = made()
        self.version = 0
        self.history: list[tuple[str, Object[Any]]] = []
        self.alive: dict[str, Object[Any]] = {}
        self.highest: dict[Key, int] = {}
        self.uids = 0

    @initialize()
    def begin(self) -> None:
        """Nothing exists."""

    def _happens(self, what: str, name: str, uid: str, display: str | None) -> Object[Any]:
        self.version += 1
        obj = tenant(self.version, display, name, uid)
        self.history.append((what, obj))
        return obj

    @rule(name=st.sampled_from("ab"), display=st.sampled_from(["x", "y", None]))
    def apply(self, name: str, display: str | None) -> None:
        """An object comes or changes on the server."""
        known = self.alive.get(name)
        if known is None:
            self.uids += 1
        self.alive[name] = self._happens("put", name, known.uid if known else str(self.uids), display)

    @rule(name=st.sampled_from("ab"))
    def delete(self, name: str) -> None:
        """An object goes on the server."""
        if (known := self.alive.pop(name, None)) is not None:
            self._happens("remove", name, known.uid, known.spec.display_name)

    @rule(data=st.data())
    def tell(self, data: st.DataObject) -> None:
        """The cache hears of something that happened at some time."""
        if not self.history:
            return
        what, obj = data.draw(st.sampled_from(self.history))
        before = self.cache.get(obj.key)
        change = self.cache.put(obj) if what == "put" else self.cache.remove(obj)
        after = self.cache.get(obj.key)
        if change is None:
            assert after is before
        else:
            assert (change.old, change.new) == (before, after)
        self.highest[obj.key] = max(self.highest.get(obj.key, 0), int(obj.resource_version))

    @rule(name=st.sampled_from("ab"))
    def tell_the_newest(self, name: str) -> None:
        """Once the cache has heard the last thing, it knows the truth, whatever it hears later."""
        told = [each for each in self.history if each[1].key.name == name]
        if told:
            what, obj = told[-1]
            _ = self.cache.put(obj) if what == "put" else self.cache.remove(obj)
            self.highest[obj.key] = int(obj.resource_version)
            known = self.cache.get(obj.key)
            assert known == self.alive.get(name)

    @invariant()
    def never_runs_backwards(self) -> None:
        """What is here is the newest that was told of this object, if it is not deleted."""
        for obj in self.cache.all("Tenant"):
            newest = max(
                int(each.resource_version) for _, each in self.history if each.key == obj.key and each.uid == obj.uid
            )
            assert int(obj.resource_version) <= newest
            assert int(obj.resource_version) == max(
                int(each.resource_version)
                for what, each in self.history
                if each.key == obj.key
                and each.uid == obj.uid
                and what == "put"
                and int(each.resource_version) <= self.highest[obj.key]
                and int(each.resource_version) <= int(obj.resource_version)
            )

    @invariant()
    def indexes_agree_with_the_objects(self) -> None:
        """Everything is found under what it says, and under nothing else."""
        for display in ("x", "y"):
            expected = {obj.key for obj in self.cache.all("Tenant") if obj.spec.display_name == display}
            assert {obj.key for obj in self.cache.find("display", display)} == expected
            assert self.cache.listed("display", display) == len(expected)
        assert self.cache.count("Tenant") == len(list(self.cache.all("Tenant")))


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
