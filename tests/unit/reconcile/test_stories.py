"""The stories that the project is for, on a simulated cluster: what is written, how often, and what stays."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import pairwise, permutations
from typing import Any
from uuid import UUID

import pytest

from keep_operator.domain import provider, tenancy
from keep_operator.reconcile.world import COUNTS_EVERY_S
from keep_operator.resources.kinds import Key
from unit import virtual_time
from unit.builders import CLUSTER
from unit.reconcile.simulation import Simulation, operating

pytestmark = pytest.mark.unit

KEEP = Key("Tenant", "", "keep")
VMS, VICTORIA = Key("Provider", "monitoring", "vms"), Key("Provider", "monitoring", "victoriametrics")
ALL: dict[str, Any] = {"allowedNamespaces": {"all": True}}
# Longer than anything that is on its way, shorter than any back-off but the first ones.
SOON_S = 5.0


def tell(story: Callable[[Simulation], Awaitable[None]], seed: int = 0) -> None:
    """Play a story; nothing in it may be an error, and at its end all must be well."""

    async def play() -> None:
        async with operating(seed) as simulation:
            await story(simulation)
            await asyncio.sleep(COUNTS_EVERY_S + SOON_S)
            await simulation.check_at_rest()

    virtual_time.run(play())


def vm(external_name: str | None = "vm", **more: Any) -> dict[str, Any]:
    """The spec of a Provider of type `victoriametrics`."""
    named = {} if external_name is None else {"externalName": external_name}
    return {"type": "victoriametrics", "tenantRef": {"name": "keep"}, **named, **more}


def record(simulation: Simulation, key: Key) -> provider.Record:
    """The record of a Provider."""
    obj = simulation.server.find(key)
    assert obj is not None
    (own,) = (row for row in simulation.rows.providers.values() if row.owner and row.owner.uid == obj.uid)
    return own


def record_id(simulation: Simulation, key: Key) -> UUID:
    """Its id, which must be the one in the status."""
    obj = simulation.server.find(key)
    assert obj is not None
    found = record(simulation, key).id
    assert obj.status["providerId"] == str(found)
    return found


def ready(simulation: Simulation, *keys: Key) -> bool:
    """Whether these objects exist and are Ready."""
    return all((obj := simulation.server.find(key)) is not None and obj.ready for key in keys)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("order", tuple(permutations((KEEP, VMS, VICTORIA))))
def test_a_first_deployment_succeeds_in_any_order(order: tuple[Key, ...], seed: int) -> None:
    """On an empty database, without a Warning, without a restart (P1, A-DEP-1)."""

    async def story(simulation: Simulation) -> None:
        for key in order:
            simulation.server.create(key, ALL if key == KEEP else vm(key.name))
            await asyncio.sleep(seed)  # all at once, or one after the other
        await asyncio.sleep(SOON_S)
        assert ready(simulation, *order)
        assert [kind for _, kind, _ in simulation.recorder.told if kind == "Warning"] == []

    tell(story, seed)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("before", "after", "metadata", "status", "events"),
    [(ALL, ALL, 1, 1, 0), (ALL | {"suspend": True}, ALL, 1, 2, 1), (None, ALL, 1, 2, 1)],
    ids=["tenant ready", "tenant not ready", "no tenant"],
)
def test_a_provider_costs_no_more_writes_than_it_may(
    before: dict[str, Any] | None, after: dict[str, Any], metadata: int, status: int, events: int, seed: int
) -> None:
    """Two writes if its Tenant is Ready, three if it has to wait (A-CTL-8)."""

    async def story(simulation: Simulation) -> None:
        if before is not None:
            simulation.server.create(KEEP, before)
        await asyncio.sleep(SOON_S)
        simulation.server.create(VMS, vm())
        await asyncio.sleep(SOON_S)
        if before is None:
            simulation.server.create(KEEP, after)
        else:
            simulation.server.edit(KEEP, after)
        await asyncio.sleep(COUNTS_EVERY_S + SOON_S)
        assert ready(simulation, VMS)
        patches = Counter(what for key, what in simulation.server.patches if key == VMS)
        assert patches == {"metadata": metadata, "status": status}
        assert len([reason for key, _, reason in simulation.recorder.told if key == VMS]) == events

    tell(story, seed)


def test_a_provider_that_waits_is_not_looked_at() -> None:
    """While it waits the counter of reconciles stands still (A-DEP-2)."""

    async def story(simulation: Simulation) -> None:
        simulation.server.create(VMS, vm())
        await asyncio.sleep(SOON_S)
        looked = simulation.looks
        await asyncio.sleep(300)
        assert simulation.looks == looked

    tell(story)


@pytest.mark.parametrize("seed", range(12))
def test_a_chain_of_renames_keeps_the_record(seed: int) -> None:
    """Renamed in Git again and again, faster than the operator looks, and heard of in any order: the same id (A-GC-3)."""

    async def story(simulation: Simulation) -> None:
        simulation.server.create(KEEP, ALL)
        names = [Key("Provider", "monitoring", f"vm-{number}") for number in range(4)]
        simulation.server.create(names[0], vm())
        await asyncio.sleep(SOON_S)
        before = record_id(simulation, names[0])
        for old, new in pairwise(names):
            simulation.server.create(new, vm())
            simulation.server.delete(old)
            await asyncio.sleep(0.01 * (seed % 3))
        await asyncio.sleep(2 * SOON_S)
        assert record_id(simulation, names[-1]) == before
        assert len(simulation.rows.providers) == 1

    tell(story, seed)


def test_a_record_that_comes_at_the_last_moment_is_not_left_behind() -> None:
    """While a deleted Provider is looked at, the record passes to it, and its giver goes: it is the record's owner now."""

    async def story(simulation: Simulation) -> None:
        for key, spec in ((KEEP, ALL), (VMS, vm()), (VICTORIA, vm())):
            simulation.server.create(key, spec)
            await asyncio.sleep(SOON_S)
        (row,) = simulation.rows.providers.values()
        await simulation.kill()
        simulation.server.delete(VMS)
        simulation.server.delete(VICTORIA)
        dying = simulation.server.find(VICTORIA)
        assert dying is not None
        simulation.start()
        await simulation.kill()  # it knows both, and does nothing by itself
        reads = 0

        async def pause() -> None:
            nonlocal reads
            reads += 1
            if reads == 2:  # the answer is on its way: meanwhile
                simulation.rows.providers[row.id] = replace(row, owner=tenancy.owner_of(dying, CLUSTER))
                simulation.server.strip(VMS)
                simulation.world.forget(VMS)

        simulation.rows.pause = pause
        kind = simulation.shell._kinds["Provider"]
        plan = kind.plan(await kind.observe(dying), simulation.now())
        assert plan.actions == (provider.Delete(simulation.rows.providers[row.id]),)

    async def play() -> None:
        async with operating() as simulation:
            await story(simulation)

    virtual_time.run(play())


@pytest.mark.parametrize("seed", range(5))
def test_a_rename_in_git_keeps_the_record(seed: int) -> None:
    """The new object is applied, then the old one is pruned: same id, and no moment without a record (A-GC-3)."""

    async def story(simulation: Simulation) -> None:
        simulation.server.create(KEEP, ALL)
        simulation.server.create(VMS, vm())
        await asyncio.sleep(SOON_S)
        before = record_id(simulation, VMS)
        simulation.server.create(VICTORIA, vm())
        await asyncio.sleep(0.01 * seed)
        simulation.server.delete(VMS)
        await asyncio.sleep(2)
        assert simulation.server.find(VMS) is None
        assert ready(simulation, VICTORIA)
        assert record_id(simulation, VICTORIA) == before

    tell(story, seed)


def test_pruned_first_it_is_a_new_record() -> None:
    """Between the two nobody asked for the name: the record went by its policy (A-GC-3)."""

    async def story(simulation: Simulation) -> None:
        simulation.server.create(KEEP, ALL)
        simulation.server.create(VMS, vm())
        await asyncio.sleep(SOON_S)
        before = record_id(simulation, VMS)
        simulation.server.delete(VMS)
        await asyncio.sleep(SOON_S)
        assert simulation.rows.providers == {}
        simulation.server.create(VICTORIA, vm())
        await asyncio.sleep(SOON_S)
        assert record_id(simulation, VICTORIA) != before

    tell(story)


def test_renamed_in_place_it_keeps_its_id() -> None:
    """Another `externalName` in the same object (A-GC-3)."""

    async def story(simulation: Simulation) -> None:
        simulation.server.create(KEEP, ALL)
        simulation.server.create(VMS, vm())
        await asyncio.sleep(SOON_S)
        before = record_id(simulation, VMS)
        simulation.server.edit(VMS, vm("victoriametrics"))
        await asyncio.sleep(SOON_S)
        assert record_id(simulation, VMS) == before
        assert record(simulation, VMS).external_name == "victoriametrics"

    tell(story)


def test_a_plain_rename_leaves_nothing_behind() -> None:
    """Without `externalName` it is another provider: a new record, and the old one goes (A-GC-3)."""

    async def story(simulation: Simulation) -> None:
        simulation.server.create(KEEP, ALL)
        simulation.server.create(VMS, vm(None))
        await asyncio.sleep(SOON_S)
        simulation.server.create(VICTORIA, vm(None))
        simulation.server.delete(VMS)
        await asyncio.sleep(SOON_S)
        assert [row.external_name for row in simulation.rows.providers.values()] == ["victoriametrics"]

    tell(story)


@pytest.mark.parametrize("seed", range(3))
def test_a_database_outage_takes_nothing_away(seed: int) -> None:
    """However long it lasts, and Ready again within seconds of its end (A-DEP-8, A-CTL-7)."""

    async def story(simulation: Simulation) -> None:
        simulation.server.create(KEEP, ALL)
        simulation.server.create(VMS, vm())
        await asyncio.sleep(SOON_S)
        before = record(simulation, VMS)
        simulation.rows.down = True
        simulation.server.edit(VMS, vm(config={"VMBackendPort": 8428}))
        await asyncio.sleep(1800)
        obj = simulation.server.find(VMS)
        assert obj is not None
        assert obj.condition("Ready") == "Unknown"
        assert obj.status["providerId"] == str(before.id)
        simulation.rows.down = False
        await asyncio.sleep(SOON_S)
        assert ready(simulation, VMS)
        assert record(simulation, VMS).content.config == {"VMBackendPort": 8428}

    tell(story, seed)


@pytest.mark.parametrize("foreground", [False, True])
@pytest.mark.parametrize("order", tuple(permutations((KEEP, VMS, VICTORIA))))
def test_deleting_everything_at_once_ends_in_any_order(order: tuple[Key, ...], foreground: bool) -> None:
    """As `helm uninstall` does it, or Argo CD in the foreground (A-GC-8)."""

    async def story(simulation: Simulation) -> None:
        simulation.server.create(KEEP, ALL | {"deletionPolicy": "Delete"})
        simulation.server.create(VMS, vm("a"))
        simulation.server.create(VICTORIA, vm("b"))
        await asyncio.sleep(SOON_S)
        for key in order:
            simulation.server.delete(key, foreground=foreground and key == KEEP)
        await asyncio.sleep(SOON_S)
        assert simulation.server.objects == {}
        assert (simulation.rows.providers, simulation.rows.tenants) == ({}, {})

    tell(story)


def test_a_tenant_is_held_until_its_last_provider_is_gone() -> None:
    """It keeps serving, and goes by itself (A-GC-8)."""

    async def story(simulation: Simulation) -> None:
        simulation.server.create(KEEP, ALL)
        simulation.server.create(VMS, vm())
        await asyncio.sleep(SOON_S)
        simulation.server.delete(KEEP)
        await asyncio.sleep(600)
        held = simulation.server.find(KEEP)
        assert held is not None
        assert held.condition("Deleting") == "True"
        assert ready(simulation, VMS)
        simulation.server.delete(VMS)
        await asyncio.sleep(SOON_S)
        assert simulation.server.objects == {}

    tell(story)


def test_an_edit_of_a_tenant_does_not_stir_its_providers() -> None:
    """A new display name is two writes to the Tenant and its row, and none to a thousand Providers (A-DEP-8)."""

    async def story(simulation: Simulation) -> None:
        simulation.server.create(KEEP, ALL)
        keys = [Key("Provider", "monitoring", f"p{number}") for number in range(20)]
        for key in keys:
            simulation.server.create(key, vm(None))
        await asyncio.sleep(COUNTS_EVERY_S + SOON_S)
        assert ready(simulation, *keys)
        written = len(simulation.server.patches)
        simulation.server.edit(KEEP, ALL | {"displayName": "New"})
        await asyncio.sleep(COUNTS_EVERY_S + SOON_S)
        assert {key for key, _ in simulation.server.patches[written:]} == {KEEP}

    tell(story)


@pytest.mark.parametrize("policy", ["Delete", "Orphan"])
def test_a_deletion_that_the_finalizer_came_too_late_for_leaves_nothing(policy: str) -> None:
    """A Provider is deleted while its finalizer is being put on, and Kubernetes drops it: its new record goes by the policy."""

    async def story(simulation: Simulation) -> None:
        simulation.server.create(KEEP, ALL)
        await asyncio.sleep(SOON_S)
        simulation.server.create(VMS, vm(deletionPolicy=policy))
        while not simulation.rows.providers:  # noqa: ASYNC110 - in virtual time
            await asyncio.sleep(0.001)
        simulation.server.strip(VMS)
        simulation.server.delete(VMS)
        await asyncio.sleep(SOON_S)
        assert simulation.server.find(VMS) is None
        assert [row.owner for row in simulation.rows.providers.values()] == [None] * (policy == "Orphan")

    tell(story)
