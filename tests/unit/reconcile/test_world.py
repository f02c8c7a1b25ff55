"""Who is woken when the operator learns something, and who is not."""

from collections.abc import Hashable
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from keep_operator.domain import provider
from keep_operator.reconcile.world import COUNTS_EVERY_S, SETTLE_S, World
from keep_operator.resources.kinds import Key
from keep_operator.resources.objects import Object
from keep_operator.runtime.workqueue import WorkQueue
from unit.builders import a_provider, a_tenant, condition, owner_reference

pytestmark = pytest.mark.unit

KEEP, OTHER = Key("Tenant", "", "keep"), Key("Tenant", "", "other")
VM, VMS, ELSEWHERE = (Key("Provider", "monitoring", name) for name in ("vm", "vms", "elsewhere"))
READY = [condition("Ready")]
versions = count(1)


class Woken(WorkQueue):
    """Notes who is woken, now or in how many seconds."""

    def __init__(self) -> None:
        super().__init__(clock=lambda: 0.0)
        self.now: list[Key] = []
        self.later: dict[Key, float] = {}

    def add(self, key: Key, *, urgent: bool = True) -> None:
        self.now.append(key)

    def schedule(self, key: Key, delay_s: float, *, urgent: bool = False) -> None:
        self.later[key] = delay_s

    def heard(self) -> set[Key]:
        """Who was woken since the last time this was asked."""
        woken, self.now, self.later = {*self.now, *self.later}, [], {}
        return woken


def the_world(*objects: Object[Any], default: str | None = "keep") -> tuple[World, Woken]:
    """A world that knows these objects, and has woken everybody already."""
    queue = Woken()
    world = World(queue, default)
    for obj in objects:
        world.take(obj)
    queue.heard()
    return world, queue


def tenant(name: str = "keep", spec: dict[str, Any] | None = None, **more: Any) -> Object[Any]:
    """A Tenant, newer than whatever was made before."""
    return a_tenant(name, spec, **{"version": next(versions), **more})


def ready_tenant(name: str = "keep", spec: dict[str, Any] | None = None, **status: Any) -> Object[Any]:
    """A Tenant that is Ready."""
    return tenant(name, spec, status={"observedGeneration": 1, "conditions": READY, "tenantId": name, **status})


def one(name: str = "vm", spec: dict[str, Any] | None = None, **more: Any) -> Object[Any]:
    """A Provider, newer than whatever was made before."""
    return a_provider(name, spec, **{"version": next(versions), **more})


def ready_one(name: str = "vm", spec: dict[str, Any] | None = None, **more: Any) -> Object[Any]:
    """A Provider that is Ready."""
    return one(name, spec, **{"status": {"observedGeneration": 1, "conditions": READY, "externalName": name}, **more})


def newest(obj: Object[Any]) -> Object[Any]:
    """The same, at a later version."""
    return replace(obj, resource_version=str(next(versions)))


# Tenant -> its Providers.

COUNTED: dict[str, Any] = {"providers": {"total": 1, "ready": 0}}
LABELLED: dict[str, Any] = {"allowedNamespaces": {"selector": {"matchLabels": {"team": "a"}}}}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (tenant(status=COUNTED), ready_tenant(**COUNTED)),
        (ready_tenant(**COUNTED), tenant(status=COUNTED)),
        (ready_tenant(**COUNTED), ready_tenant(spec={"allowedNamespaces": {"all": True}}, **COUNTED)),
        (ready_tenant(**COUNTED), ready_tenant(**COUNTED, tenantId="recorded")),
        (
            ready_tenant(**COUNTED),
            tenant(deleting=True, finalizers=["f"], status={"observedGeneration": 1, "conditions": READY} | COUNTED),
        ),
        (ready_tenant(**COUNTED), tenant(uid="uid-again", status=COUNTED)),
    ],
    ids=["became ready", "not ready any more", "admits others", "other id", "being deleted", "made again"],
)
def test_an_edge_of_a_tenant_wakes_its_providers(before: Object[Any], after: Object[Any]) -> None:
    """Those that wait for it go on within a second, not at a timer (A-DEP-3)."""
    world, queue = the_world(before, one("vm"), one("elsewhere", {"tenantRef": {"name": "other"}}))
    world.wrote(newest(after))
    assert queue.heard() == {VM}


@pytest.mark.parametrize(
    "after",
    [
        ready_tenant(**COUNTED, runtime="builtin"),
        ready_tenant(providers={"total": 1, "ready": 1}),
        ready_tenant(spec={"displayName": "New"}, **COUNTED),
    ],
    ids=["status field", "counts", "display name"],
)
def test_nothing_else_of_a_tenant_wakes_anybody(after: Object[Any]) -> None:
    """Its counts change all the time: two thousand Providers must not be looked at for that."""
    world, queue = the_world(ready_tenant(**COUNTED), one("vm"))
    world.wrote(newest(after))
    assert queue.heard() == set()


def test_a_tenant_that_stops_being_ready_while_its_spec_is_new_wakes_too() -> None:
    """A Tenant that was edited still serves; when it then turns out to be refused, its Providers must know."""
    edited = tenant(generation=2, status={"observedGeneration": 1, "conditions": READY} | COUNTED)
    refused = tenant(
        generation=2, status={"observedGeneration": 2, "conditions": [condition("Ready", "False")]} | COUNTED
    )
    world, queue = the_world(edited, one("vm"))
    world.wrote(newest(refused))
    assert VM in queue.heard()


def test_a_tenant_that_comes_wakes_its_providers_when_it_has_settled() -> None:
    """It is Ready within moments as a rule: telling that it is there but not Ready would be a write for nothing."""
    world, queue = the_world(one("vm"))
    world.take(tenant())
    assert queue.later == {VM: SETTLE_S}
    assert KEEP in queue.now


def test_a_tenant_that_goes_wakes_its_providers() -> None:
    """They wait for it again, and say so."""
    gone = ready_tenant(**COUNTED)
    world, queue = the_world(gone, one("vm"))
    world.lose(newest(gone))
    assert VM in queue.heard()


def test_a_tenant_that_the_server_does_not_have_wakes_its_providers() -> None:
    """Learnt from a read, before the watch tells."""
    world, queue = the_world(ready_tenant(**COUNTED), one("vm"))
    world.forget(KEEP)
    assert queue.heard() == {VM}


@pytest.mark.parametrize(("name", "spec"), [("keep", {}), ("named-else", {"tenantId": "keep"})])
def test_the_default_tenant_wakes_providers_that_name_none(name: str, spec: dict[str, Any]) -> None:
    """By its name or by its id (A-TEN-3)."""
    world, queue = the_world(tenant(name, spec), one("vm", {"tenantRef": None}))
    world.wrote(ready_tenant(name, spec, tenantId="keep"))
    assert VM in queue.heard()


def test_another_tenant_does_not() -> None:
    """Only the default one has them."""
    world, queue = the_world(ready_tenant(**COUNTED), tenant("other"), one("vm", {"tenantRef": None}))
    world.wrote(ready_tenant("other"))
    assert queue.heard() == set()


def test_tenants_of_one_id_wake_each_other() -> None:
    """When the one that has it goes, the other takes over."""
    first = ready_tenant()
    world, queue = the_world(first, tenant("other", {"tenantId": "keep"}))
    world.lose(newest(first))
    assert OTHER in queue.heard()


# Provider -> those that claim the same name.

CLAIM: dict[str, Any] = {"externalName": "x"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (one("vm", CLAIM), one("vm", {"externalName": "y"})),
        (one("vm", {"externalName": "y"}), one("vm", CLAIM)),
        (one("vm", CLAIM), one("vm", CLAIM, deleting=True, finalizers=[provider.FINALIZER])),
        (one("vm", CLAIM), one("vm", CLAIM, finalizers=[provider.FINALIZER])),
        (one("vm", CLAIM), one("vm", CLAIM | {"suspend": True})),
        (one("vm", CLAIM), one("vm", CLAIM | {"type": "slack"})),
        (one("vm", CLAIM), one("vm", CLAIM | {"type": "nothing_like_it"})),
        (one("vm", CLAIM), one("vm", CLAIM | {"config": {"VMBackendURL": "\x00"}})),
        (one("vm", CLAIM), one("vm", CLAIM | {"resyncPeriod": "1s"})),
        (one("vm", CLAIM), one("vm", CLAIM | {"tenantRef": {"name": "other"}})),
        (one("vm", CLAIM), one("vm", CLAIM, status={"providerId": "1"})),
        (one("vm", {"externalName": "y"}, status={"externalName": "x"}), one("vm", {"externalName": "y"})),
        (one("vm", CLAIM), one("vm", CLAIM, uid="uid-again")),
    ],
    ids=[
        "gives it up",
        "asks for it",
        "being deleted",
        "finalizer",
        "suspended",
        "other type",
        "refused",
        "bad config",
        "unreadable",
        "other tenant",
        "has its record",
        "renamed its record",
        "made again",
    ],
)
def test_what_a_claim_says_wakes_the_other_claimants(before: Object[Any], after: Object[Any]) -> None:
    """Whatever their decision depends on: who wins, who inherits, whether the name is free (A-CF-1)."""
    world, queue = the_world(before, one("vms", CLAIM), one("elsewhere", {"externalName": "z"}))
    world.wrote(newest(after))
    assert queue.heard() == {VMS}


def test_a_claimant_that_comes_or_goes_wakes_the_others() -> None:
    """The first half of a rename, and the second."""
    world, queue = the_world(one("vms", CLAIM))
    came = one("vm", CLAIM)
    world.take(came)
    assert queue.heard() == {VM, VMS}
    world.lose(newest(came))
    assert queue.heard() == {VM, VMS}


@pytest.mark.parametrize(
    "after",
    [
        one("vm", CLAIM, status={"conditions": [condition("Synced", "Unknown")]}),
        one("vm", CLAIM | {"config": {"VMBackendPort": 1}}),
        one("vm", CLAIM, annotations={"a": "b"}),
    ],
    ids=["conditions", "config", "annotations"],
)
def test_nothing_else_of_a_provider_wakes_anybody(after: Object[Any]) -> None:
    """Its own status writes least of all."""
    world, queue = the_world(one("vm", CLAIM), one("vms", CLAIM))
    world.wrote(newest(after))
    assert queue.heard() == set()


# Provider -> its Tenant.


def test_the_first_and_the_last_provider_wake_their_tenant_at_once() -> None:
    """Its total leaves and reaches zero, which a policy reads."""
    world, queue = the_world(ready_tenant())
    first = one("vm")
    world.take(first)
    assert KEEP in queue.now
    world.wrote(ready_tenant(**COUNTED))
    queue.heard()
    world.lose(newest(first))
    assert KEEP in queue.now


@pytest.mark.parametrize(
    ("before", "after"), [(one("vm"), ready_one("vm")), (ready_one("vm"), one("vm"))], ids=["ready", "not ready"]
)
def test_the_others_are_counted_soon(before: Object[Any], after: Object[Any]) -> None:
    """One look at the Tenant for a thousand Providers that become Ready."""
    world, queue = the_world(ready_tenant(**COUNTED), before)
    world.wrote(newest(after))
    assert queue.later == {KEEP: COUNTS_EVERY_S}
    assert KEEP not in queue.now


def test_a_tenant_that_waits_for_its_dependents_is_woken_by_the_last_one() -> None:
    """Not by each of a thousand that go; even if it never counted them (A-GC-8)."""
    one_left, last = one("vms"), one("vm")
    world, queue = the_world(tenant(deleting=True, finalizers=["f"], status=COUNTED), one_left, last)
    world.lose(newest(one_left))
    assert queue.later == {KEEP: COUNTS_EVERY_S}
    world.lose(newest(last))
    assert KEEP in queue.now
    uncounted, queue = the_world(tenant(deleting=True, finalizers=["f"]), last)
    uncounted.lose(newest(last))
    assert KEEP in queue.now


def test_a_provider_that_moves_wakes_both_tenants() -> None:
    """Where CEL forbids nothing: the one that it leaves, and the one that it enters."""
    world, queue = the_world(ready_tenant(**COUNTED), ready_tenant("other"), one("vm"))
    world.wrote(one("vm", {"tenantRef": {"name": "other"}}))
    assert {KEEP, OTHER} <= queue.heard()


def test_dependents_are_those_that_name_the_tenant_and_for_the_default_one_those_that_name_none() -> None:
    """In all namespaces."""
    named, unnamed = one("vm"), one("vms", {"tenantRef": None})
    other = one("elsewhere", {"tenantRef": {"name": "other"}})
    world, _ = the_world(ready_tenant(), ready_tenant("other"), named, unnamed, other)
    keep, two = world.tenant("keep"), world.tenant("other")
    assert keep is not None
    assert two is not None
    assert {obj.key for obj in world.dependents(keep)} == {VM, VMS}
    assert {obj.key for obj in world.dependents(two)} == {ELSEWHERE}


def test_a_provider_whose_spec_cannot_be_read_stays_with_its_tenant() -> None:
    """By its owner reference: its Tenant must not go as if it had no dependents, and Kubernetes collect it."""
    unreadable = one(
        "vm", {"resyncPeriod": "1s", "tenantRef": {"name": "other"}}, owners=[owner_reference("other", "uid-other")]
    )
    never_admitted = one("vms", {"resyncPeriod": "1s"})
    world, _ = the_world(ready_tenant(), ready_tenant("other"), unreadable, never_admitted)
    two, keep = world.tenant("other"), world.tenant("keep")
    assert two is not None
    assert keep is not None
    assert world.dependents(two) == [unreadable]
    assert world.dependents(keep) == []
    assert world.tenant_of(unreadable) == ("other", two)
    assert world.tenant_of(never_admitted) == (None, None)


def test_claimants_are_of_one_tenant() -> None:
    """The same name in another tenant is another name."""
    mine, unnamed = one("vm", CLAIM), one("vms", CLAIM | {"tenantRef": None})
    other = one("elsewhere", CLAIM | {"tenantRef": {"name": "other"}})
    world, _ = the_world(ready_tenant(), mine, unnamed, other)
    assert {obj.key for obj in world.claimants("keep", "x")} == {VM, VMS}
    assert {obj.key for obj in world.claimants("other", "x")} == {ELSEWHERE}


@pytest.mark.parametrize(
    ("tenants", "default", "expected"),
    [
        ([], None, (None, None)),
        ([], "keep", ("keep", None)),
        ([ready_tenant()], "keep", ("keep", "keep")),
        ([tenant("named-else", {"tenantId": "keep"})], "keep", ("named-else", "named-else")),
        ([tenant("named-else", {"tenantId": "keep"}), ready_tenant()], "keep", ("keep", "keep")),
        ([ready_tenant()], None, (None, None)),
    ],
)
def test_the_tenant_of_a_provider_that_names_none(
    tenants: list[Object[Any]], default: str | None, expected: tuple[str | None, str | None]
) -> None:
    """The default tenant: by name, else by id; where it is switched off there is none."""
    world, _ = the_world(*tenants, default=default)
    name, owner = world.tenant_of(one("vm", {"tenantRef": None}))
    assert (name, owner and owner.key.name) == expected


# Secrets and Namespaces.


def test_a_secret_wakes_those_that_name_it() -> None:
    """In its namespace, by its name (A-DEP-6)."""
    secret = {"secrets": [{"key": "BasicAuthPassword", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}
    namesake = one("elsewhere", secret, namespace="other")
    world, queue = the_world(one("vm", secret), one("vms"), namesake)
    world.secret_changed("monitoring", "s")
    assert queue.heard() == {VM}
    world.secret_changed("monitoring", "unheard-of")
    assert queue.heard() == set()


def test_a_namespace_wakes_those_whose_tenant_asks_for_its_labels() -> None:
    """Others do not depend on labels."""
    in_another = one("elsewhere", {"tenantRef": {"name": "other"}}, namespace="other")
    world, queue = the_world(
        ready_tenant(),
        ready_tenant("other", LABELLED),
        one("vm"),
        one("vms", {"tenantRef": {"name": "other"}}),
        in_another,
    )
    world.namespace_changed("", "monitoring")
    assert queue.heard() == {VMS}


# News and echoes.


def test_an_object_is_woken_by_its_own_change() -> None:
    """From the watch, not from the answer to its own write: the writer looks again by itself."""
    world, queue = the_world()
    world.take(one("vm"))
    assert queue.now == [VM]
    queue.heard()
    world.wrote(one("vm"))
    assert queue.heard() == set()


def test_the_echo_of_a_write_wakes_nobody() -> None:
    """The watch repeats what the answer has told."""
    world, queue = the_world(one("vms", CLAIM))
    written = one("vm", CLAIM)
    world.wrote(written)
    queue.heard()
    world.take(written)
    assert queue.heard() == set()


def test_what_is_listed_at_the_start_is_not_urgent() -> None:
    """A new object does not wait behind a restart (A-CTL-1)."""

    class Lanes(Woken):
        def add(self, key: Key, *, urgent: bool = True) -> None:
            super().add(key, urgent=urgent)
            lanes.append(urgent)

    lanes: list[bool] = []
    world = World(Lanes(), "keep")
    world.take(one("vm"), urgent=False)
    world.take(one("vms"))
    assert lanes == [False, True]


# Many.


def test_work_grows_with_the_number_of_providers_and_not_with_its_square() -> None:
    """Two thousand Providers of one Tenant: taken in, given their finalizers, reported Ready."""
    world, queue = the_world(ready_tenant(**COUNTED))
    number, seen = 2_000, 0
    find = world.cache.find

    def counting(index: str, value: Hashable) -> list[Object[Any]]:
        nonlocal seen
        found = find(index, value)
        seen += len(found)
        return found

    world.cache.find = counting  # type: ignore[method-assign]
    for step in ({}, {"finalizers": [provider.FINALIZER]}, {"status": {"observedGeneration": 1, "conditions": READY}}):
        for each in range(number):
            world.take(one(f"p{each}", **step))
    assert len(queue.now) <= 4 * number
    assert seen <= 8 * number
