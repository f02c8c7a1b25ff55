"""Rows whose object is gone: collected by the second sweep that misses it, and by nothing less (A-GC-4)."""

from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, cast

import pytest
from sqlalchemy import text

from integration.store import lineages, samples
from keep_operator.cluster.client import Listing
from keep_operator.domain import provider as provider_rules
from keep_operator.domain.history import Lineage
from keep_operator.errors import Unavailable
from keep_operator.reconcile.database import Database
from keep_operator.reconcile.sweep import Found, Sweep
from keep_operator.reconcile.world import World
from keep_operator.resources import objects, provider, tenant, workflow
from keep_operator.resources.kinds import Key, Resource
from keep_operator.resources.shapes import DeletionPolicy
from keep_operator.runtime.workqueue import WorkQueue
from keep_operator.store import engine as store
from keep_operator.store import lineages as rows
from keep_operator.store import providers, tenants, workflows
from keep_operator.store.engine import Engine

pytestmark = pytest.mark.integration

INTERVAL = timedelta(minutes=10)
READERS = {"Tenant": tenant, "Provider": provider, "Workflow": workflow}
SPECS: dict[str, dict[str, Any]] = {
    "Tenant": {},
    "Provider": {"type": "victoriametrics", "config": {"VMBackendURL": "http://vm:8428"}},
    "Workflow": {"definition": {"steps": []}},
}


@dataclass
class Server:
    """An API server that lists what it has; ``definition`` is the uid of every kind's definition."""

    things: defaultdict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    hidden: list[dict[str, Any]] = field(default_factory=list)
    definition: str | None = "definition-1"
    broken: bool = False

    async def list(self, resource: Resource, namespace: str | None = None, **_: object) -> Listing:
        if self.broken:
            raise Unavailable("ApiServerUnavailable", "cut in the middle of the list")
        found = [each for each in self.things[resource.kind] if namespace in (None, each["metadata"].get("namespace"))]
        return Listing(found, "1000")

    async def get(self, resource: Resource, namespace: str | None, name: str) -> dict[str, Any] | None:
        if resource.kind == "CustomResourceDefinition":
            return None if self.definition is None else {"metadata": {"uid": self.definition}}
        known = [*self.things[resource.kind], *self.hidden]
        return next((each for each in known if each["metadata"]["name"] == name), None)


def thing(kind: str, name: str, *, uid: str | None = None, **status: object) -> dict[str, Any]:
    metadata = {
        "name": name,
        "uid": uid or f"uid-{name}",
        "resourceVersion": "5",
        "generation": 1,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        **({} if kind == "Tenant" else {"namespace": "monitoring"}),
    }
    return {"metadata": metadata, "spec": dict(SPECS[kind]), "status": status}


class Rig:
    """A leader's sweep over a real database, with the time in the test's hands."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.server = Server()
        self.world = World(WorkQueue(lambda: 0.0), "keep")
        self.now_s = 0.0
        self.sweep = Sweep(
            self.world,
            cast(Any, self.server),
            Database(engine, samples.CLUSTER),
            (),
            INTERVAL,
            leads=lambda: True,
            clock=lambda: self.now_s,
        )

    def show(self, kind: str, raw: dict[str, Any]) -> None:
        """The object exists, and the watch has told so."""
        self.server.things[kind].append(raw)
        self.world.take(objects.parse(kind, raw, cast(Any, READERS[kind])))
        for key in (Key(kind, raw["metadata"].get("namespace", ""), raw["metadata"]["name"]),):
            self.world.queue.forget(key)

    async def after(self, passed: timedelta = INTERVAL) -> Found:
        self.now_s += passed.total_seconds()
        return await self.sweep.once()

    async def rows(self) -> dict[str, str | None]:
        """The providers' rows by name."""
        async with store.look(self.engine) as conn:
            found = await conn.execute(text("SELECT external_name, owner_uid FROM keep_operator.provider"))
            return {row.external_name: row.owner_uid for row in found}


@pytest.fixture
async def rig(engine: Engine) -> Rig:
    """A Tenant with its row, and nothing else."""
    async with store.transaction(engine) as conn:
        await conn.execute(text("INSERT INTO keep_operator.installation (cluster_id) VALUES ('cluster-a')"))
    await samples.have_tenant(engine)
    made = Rig(engine)
    made.show("Tenant", thing("Tenant", "keep", tenantId="keep"))
    return made


async def have(rig: Rig, name: str, policy: str = "Delete") -> str:
    """A provider's row whose object is not there."""
    content = samples.content()
    object.__setattr__(content, "deletion_policy", policy)
    record = await samples.have_provider(rig.engine, samples.provider_record(name, holding=content))
    return str(record.id)


async def test_a_forced_deletion_is_cleaned_up_by_the_second_sweep(rig: Rig) -> None:
    """A Provider whose finalizer was stripped leaves its record: it stays for one interval, and then goes."""
    await have(rig, "vms")
    assert (await rig.after()).missed == 1
    assert (await rig.after(INTERVAL - timedelta(seconds=1))).collected == 0
    assert await rig.rows() == {"vms": "uid-vms"}
    assert (await rig.after(timedelta(seconds=1))).collected == 1
    assert await rig.rows() == {}
    entry = (await samples.entries(rig.engine))[-1]
    assert (entry.action, entry.details["cause"], entry.key.name) == ("Deleted", "ObjectGone", "vms")


async def test_the_policy_in_the_row_decides(rig: Rig) -> None:
    """`deletionPolicy: Orphan` holds for an object that was deleted by force too: its record stays, without an owner."""
    await have(rig, "vms", "Orphan")
    await rig.after()
    await rig.after()
    assert await rig.rows() == {"vms": None}
    assert (await samples.entries(rig.engine))[-1].details["cause"] == "ObjectGone"
    assert (await rig.after()).missed == 0


async def test_living_objects_keep_their_records(rig: Rig) -> None:
    """However often it is swept."""
    await have(rig, "vms")
    rig.show("Provider", thing("Provider", "vms"))
    for _ in range(3):
        assert await rig.after() == Found(_uids={"uid-keep", "uid-vms"})
    assert await rig.rows() == {"vms": "uid-vms"}


async def test_an_object_that_is_back_in_between_starts_the_count_anew(rig: Rig) -> None:
    """An etcd that was restored and then caught up: two misses in a row are needed."""
    await have(rig, "vms")
    await rig.after()
    rig.show("Provider", thing("Provider", "vms"))
    await rig.after()
    rig.server.things["Provider"].clear()
    assert (await rig.after()).collected == 0
    assert (await rig.after()).collected == 1


async def test_a_list_that_fails_collects_nothing(rig: Rig) -> None:
    """An API server that breaks in the middle of the second sweep: nothing goes, and the next complete one decides."""
    await have(rig, "vms")
    await rig.after()
    rig.server.broken = True
    with pytest.raises(Unavailable):
        await rig.after()
    assert await rig.rows() == {"vms": "uid-vms"}
    rig.server.broken = False
    assert (await rig.after()).collected == 1


async def test_a_definition_made_anew_starts_the_count_anew(rig: Rig) -> None:
    """CRDs deleted and re-created between two sweeps: the empty list in between says nothing about the records."""
    await have(rig, "vms")
    await rig.after()
    rig.server.definition = None
    with pytest.raises(Unavailable):
        await rig.after()
    rig.server.definition = "definition-2"
    assert (await rig.after()).collected == 0
    assert await rig.rows() == {"vms": "uid-vms"}


async def test_a_record_that_another_object_asks_for_is_left_to_it(rig: Rig) -> None:
    """Deleted by force and applied again under a new uid: the new object takes the record over, with its id."""
    await have(rig, "vms")
    rig.show("Provider", thing("Provider", "vms", uid="uid-new"))
    await rig.after()
    assert (await rig.after()).collected == 0
    assert await rig.rows() == {"vms": "uid-vms"}
    assert rig.world.queue.depth >= 1


async def test_a_refused_object_does_not_keep_a_record_for_ever(rig: Rig) -> None:
    """An object of the same name that can never take the record over does not hold it back."""
    await have(rig, "vms")
    raw = thing("Provider", "vms", uid="uid-new")
    raw["spec"]["type"] = "no_such_type"
    rig.show("Provider", raw)
    await rig.after()
    assert (await rig.after()).collected == 1


async def test_an_object_that_the_list_did_not_show_yet_is_asked_for(rig: Rig) -> None:
    """Right before a record goes its object is looked for once more by name."""
    await have(rig, "vms")
    rig.server.hidden.append(thing("Provider", "vms"))
    await rig.after()
    assert (await rig.after()).collected == 0
    assert await rig.rows() == {"vms": "uid-vms"}


async def test_a_database_that_is_behind_loses_nothing(rig: Rig) -> None:
    """An older dump under a live cluster: an object knows of a record that is not there, so no record at all is collected."""
    await have(rig, "old")
    unknown = str(providers.new_id())
    rig.show("Provider", thing("Provider", "new", providerId=unknown))
    for _ in range(3):
        assert (await rig.after()).collected == 0
    assert "old" in await rig.rows()
    assert rig.world.queue.depth >= 1


async def test_a_record_that_an_object_remembers_is_not_collected(rig: Rig) -> None:
    """An older dump brings back the owner before the last hand-over: the record is the new owner's, who knows its id."""
    identity = await have(rig, "vms")
    raw = thing("Provider", "victoria", providerId=identity)
    rig.show("Provider", raw)
    await rig.after()
    assert (await rig.after()).collected == 0
    assert await rig.rows() == {"vms": "uid-vms"}


async def test_rows_of_other_clusters_and_of_nobody_are_not_ours_to_judge(rig: Rig) -> None:
    """Only rows with this cluster's marker are ever collected (A-GC-1)."""
    await samples.have_provider(rig.engine, samples.provider_record("theirs", of=samples.owner(cluster="cluster-b")))
    record = await samples.have_provider(rig.engine, samples.provider_record("nobody's"))
    assert record.owner is not None
    async with store.transaction(rig.engine) as conn:
        await providers.orphan(conn, record.id, record.owner, actor="x")
    for _ in range(3):
        assert (await rig.after()).missed == 0
    assert set(await rig.rows()) == {"theirs", "nobody's"}


async def test_a_tenant_that_was_deleted_by_force_is_orphaned(rig: Rig) -> None:
    """Its row stays for its Providers, without an owner, since that is a Tenant's policy unless it says otherwise."""
    await have(rig, "vms")
    rig.show("Provider", thing("Provider", "vms"))
    rig.server.things["Tenant"].clear()
    await rig.after()
    assert (await rig.after()).collected == 1
    async with store.look(rig.engine) as conn:
        left = await tenants.find(conn, "keep")
    assert left is not None
    assert left.owner is None


async def test_a_standby_collects_nothing(rig: Rig) -> None:
    """Only the leader writes; the sweep of a standby keeps its cache true and leaves the rows alone."""
    await have(rig, "vms")
    rig.sweep._leads = lambda: False
    await rig.after()
    assert (await rig.after()).missed == 0
    assert await rig.rows() == {"vms": "uid-vms"}


async def have_workflow(rig: Rig, policy: DeletionPolicy = "Delete") -> Lineage:
    """The row of Workflow monitoring/high-cpu with two versions, the second active; its object is not there."""
    made = replace(lineages.new(), deletion_policy=policy)
    await lineages.done(rig.engine, lambda conn: workflows.insert(conn, made, actor="x"))
    for content in "AB":
        await lineages.add(rig.engine, content)
    return await lineages.activate(rig.engine, 2)


async def lineage_of(rig: Rig, seen: Lineage) -> Lineage:
    """The lineage as it is now, deleted or not."""
    found = await lineages.looked(rig.engine, lambda conn: rows.find(conn, seen.id))
    assert found is not None
    return found


async def test_a_workflow_that_was_deleted_by_force_keeps_its_history(rig: Rig) -> None:
    """Its finalizer was stripped: after two sweeps its name is free and nothing runs, and its versions are still there."""
    seen = await have_workflow(rig)
    assert (await rig.after()).missed == 1
    assert (await lineage_of(rig, seen)).deleted_at is None
    assert (await rig.after()).collected == 1
    left = await lineage_of(rig, seen)
    assert left.deleted_at is not None
    assert [each.number for each in left.revisions] == [1, 2]
    assert (await samples.entries(rig.engine))[-1].details["cause"] == "ObjectGone"
    assert (await rig.after()).missed == 0


async def test_an_orphaned_workflow_stays_for_whoever_adopts_it(rig: Rig) -> None:
    """`deletionPolicy: Orphan`, though nobody can ask the object any more: the row stays, without an owner."""
    seen = await have_workflow(rig, "Orphan")
    await rig.after()
    await rig.after()
    left = await lineage_of(rig, seen)
    assert (left.deleted_at, left.owner) == (None, None)


async def test_a_workflow_that_is_applied_again_takes_its_lineage(rig: Rig) -> None:
    """Under a new uid, without a record yet: the row is left to it, and it is woken."""
    seen = await have_workflow(rig)
    rig.show("Workflow", thing("Workflow", "high-cpu", uid="uid-new"))
    await rig.after()
    assert (await rig.after()).collected == 0
    assert (await lineage_of(rig, seen)).deleted_at is None
    assert rig.world.queue.depth >= 1


@pytest.mark.parametrize("number", [1, 3])
async def test_a_version_that_the_database_lacks_stops_all_collecting(rig: Rig, number: int) -> None:
    """A-REV-13: restored to version 2 under a cluster that has seen 3: no record goes, whoever it is of."""
    await have(rig, "vms")
    seen = await have_workflow(rig)
    told: dict[str, Any] = {"workflowId": str(seen.id), "latestCreatedRevision": {"number": number}}
    rig.show("Workflow", thing("Workflow", "high-cpu", **told))
    await rig.after()
    assert (await rig.after()).collected == (1 if number == 1 else 0)
    assert ("vms" in await rig.rows()) == (number == 3)


def test_the_finalizer_is_what_makes_all_of_this_rare() -> None:
    """The name that users see on their objects, and may strip, is a documented one."""
    assert provider_rules.FINALIZER == "keep-operator.dev/provider"
