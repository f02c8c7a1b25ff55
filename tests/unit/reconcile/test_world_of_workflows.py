"""Who is woken by what concerns Workflows, and who is not."""

from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from keep_operator.domain import image
from keep_operator.reconcile.world import COUNTS_EVERY_S, SETTLE_S, World
from keep_operator.resources import decision, objects, run, workflow
from keep_operator.resources.kinds import Key
from keep_operator.resources.objects import Object
from unit.builders import a_provider, a_tenant, condition, manifest
from unit.reconcile.test_world import Woken

pytestmark = pytest.mark.unit

KEEP = Key("Tenant", "", "keep")
HIGH, LOW = Key("Workflow", "monitoring", "high"), Key("Workflow", "monitoring", "low")
READY = [condition("Ready")]
SERVING: dict[str, Any] = {"observedGeneration": 1, "conditions": READY}
CALM: dict[str, Any] = {"providers": {"total": 1, "ready": 1}, "workflows": {"total": 1, "ready": 1}}
versions = count(1)


def the_world(*known: Object[Any]) -> tuple[World, Woken]:
    """A world that knows these objects, and has woken everybody already."""
    queue = Woken()
    world = World(queue, "keep")
    for obj in known:
        world.take(obj)
    queue.heard()
    return world, queue


def flow(name: str = "high", spec: dict[str, Any] | None = None, **more: Any) -> Object[Any]:
    """A Workflow in Tenant `keep`, newer than whatever was made before."""
    filled = {"tenantRef": {"name": "keep"}, "definition": {"steps": []}, **(spec or {})}
    filled = {field: value for field, value in filled.items() if value is not None}
    raw = manifest(name, filled, **{"namespace": "monitoring", "version": next(versions), **more})
    return objects.parse("Workflow", raw, workflow)


def from_file(name: str, config_map: str) -> Object[Any]:
    """A Workflow whose definition stands in a ConfigMap."""
    source = {"configMapKeyRef": {"name": config_map, "key": "k"}}
    return flow(name, {"definition": None, "definitionFrom": source})


def tenant(spec: dict[str, Any] | None = None, **status: Any) -> Object[Any]:
    """A Tenant that is Ready."""
    told = SERVING | CALM | {"tenantId": "keep"} | status
    return a_tenant("keep", spec, version=next(versions), status=told)


def one(name: str = "vm", spec: dict[str, Any] | None = None, **status: Any) -> Object[Any]:
    """A Provider that is Ready and has its name."""
    told = SERVING | {"externalName": name, "providerId": "1", "tenantId": "keep"} | status
    return a_provider(name, spec, version=next(versions), status=told)


def version(number: int = 1, of: str = "high", **metadata: Any) -> Object[Any]:
    """The object of a version."""
    spec = {
        "workflowRef": {"name": of},
        "lineageId": "lineage",
        "number": number,
        "contentHash": "0" * 64,
        "hashVersion": 1,
        "definition": {"steps": []},
        "createdFromGeneration": 1,
    }
    raw = manifest(f"v{number}", spec, namespace="monitoring", **{"version": next(versions), **metadata})
    return objects.parse("WorkflowRevision", raw, image)


def newest(obj: Object[Any]) -> Object[Any]:
    """The same, at a later version."""
    return replace(obj, resource_version=str(next(versions)))


# Tenant -> its Workflows.


def test_a_tenant_that_becomes_ready_wakes_its_workflows() -> None:
    """They go on at that edge, not at a timer (A-DEP-3)."""
    before = a_tenant("keep", version=next(versions), status=CALM)
    world, queue = the_world(before, flow(), flow("low", {"tenantRef": {"name": "other"}}))
    world.wrote(tenant())
    assert queue.heard() == {HIGH}


def test_a_tenant_that_comes_wakes_its_workflows_when_it_has_settled() -> None:
    """As its Providers: it is Ready within moments."""
    world, queue = the_world(flow())
    come: Object[Any] = a_tenant("keep", version=next(versions))
    world.take(come)
    assert queue.later == {HIGH: SETTLE_S}


@pytest.mark.parametrize(
    "spec",
    [
        {"policy": {"approvalFloor": {"required": "Always"}}},
        {"defaults": {"retention": {"max": 3}}},
    ],
    ids=["floor", "retention"],
)
def test_what_a_tenant_asks_of_workflows_wakes_no_provider(spec: dict[str, Any]) -> None:
    """A floor holds from the moment on in which it is set."""
    world, queue = the_world(tenant(), one(), flow())
    world.wrote(tenant(spec))
    assert queue.heard() == {HIGH}


# Providers -> the Workflows that use them.


@pytest.mark.parametrize(
    "after",
    [
        one(conditions=[condition("Ready", "False")]),
        one(spec={"externalName": "renamed"}, externalName="renamed"),
        one(providerId=None),
    ],
    ids=["not ready", "another name", "no record"],
)
def test_a_provider_wakes_those_whose_definition_uses_it(after: Object[Any]) -> None:
    """By the name that it has or had; others are left alone (A-DEP-7)."""
    world, queue = the_world(tenant(), one(), flow(), flow("low"))
    world.uses(HIGH, {"vm"})
    world.uses(LOW, {"chat"})
    world.wrote(newest(after))
    assert queue.heard() & {HIGH, LOW} == {HIGH}


def test_a_provider_that_comes_or_goes_wakes_those_that_use_its_name() -> None:
    """Also if its name was used long before it came."""
    world, queue = the_world(tenant(), flow())
    world.uses(HIGH, {"vm"})
    vm = one()
    world.take(vm)
    assert HIGH in queue.heard()
    world.lose(newest(vm))
    assert HIGH in queue.heard()


def test_a_provider_of_another_tenant_is_another_one() -> None:
    """The same name in two tenants names two records."""
    world, queue = the_world(tenant(), flow())
    world.uses(HIGH, {"vm"})
    world.take(one(spec={"tenantRef": {"name": "other"}}))
    assert HIGH not in queue.heard()
    assert world.provider("keep", "vm") is None


def test_who_uses_a_provider_is_known_by_its_name() -> None:
    """Of that tenant only, and only as long as the definition says so."""
    world, _ = the_world(tenant(), flow(), flow("low", {"tenantRef": {"name": "other"}}))
    world.uses(HIGH, {"vm"})
    world.uses(LOW, {"vm"})
    assert [obj.key for obj in world.users("keep", "vm")] == [HIGH]
    assert [obj.key for obj in world.users("other", "vm")] == [LOW]
    world.uses(HIGH, ())
    assert world.users("keep", "vm") == []


def test_what_a_definition_uses_no_more_wakes_nobody() -> None:
    """An edit may take a Provider out; a Workflow that is gone uses none."""
    world, queue = the_world(tenant(), one(), flow())
    world.uses(HIGH, {"vm", "chat"})
    world.uses(HIGH, {"chat"})
    world.wrote(newest(one(conditions=[])))
    assert HIGH not in queue.heard()
    world.uses(HIGH, {"vm"})
    world.lose(flow())
    world.uses(HIGH, {"vm"})  # a look that was under way
    queue.heard()
    world.wrote(newest(one()))
    assert HIGH not in queue.heard()


def test_what_else_happens_to_a_provider_wakes_no_workflow() -> None:
    """A rotated Secret changes its status: two hundred Workflows that use it must not be looked at for that."""
    world, queue = the_world(tenant(), one(configHash="1"), flow())
    world.uses(HIGH, {"vm"})
    world.wrote(one(configHash="2"))
    assert HIGH not in queue.heard()


def test_a_name_is_that_of_the_record() -> None:
    """One that has the name comes before one that merely asks for it."""
    asking = one("other", {"externalName": "vm"}, externalName=None, providerId=None)
    holding = one("vm")
    world, _ = the_world(tenant(), asking, holding)
    assert world.provider("keep", "vm") == holding
    world, _ = the_world(tenant(), asking)
    assert world.provider("keep", "vm") == asking


# Claims and counts.


def test_workflows_that_ask_for_one_name_wake_each_other() -> None:
    """Those of Providers are of no interest."""
    claim = {"externalName": "x"}
    world, queue = the_world(tenant(), flow("low", claim), one("vm", claim))
    world.take(flow("high", claim))
    assert LOW in queue.heard()
    assert {obj.key for obj in world.claimants("keep", "x", "Workflow")} == {HIGH, LOW}


def test_the_first_and_the_last_workflow_wake_their_tenant_at_once() -> None:
    """The policy that guards its deletion reads the number; the others are counted soon."""
    world, queue = the_world(tenant(workflows={"total": 0, "ready": 0}))
    first = flow()
    world.take(first)
    assert KEEP in queue.now
    world.wrote(tenant())
    queue.heard()
    world.take(flow("low"))
    assert queue.later == {KEEP: COUNTS_EVERY_S}
    queue.heard()
    world.lose(newest(flow("low")))
    world.lose(newest(first))
    assert KEEP in queue.now


# Revisions, decisions, ConfigMaps, Namespaces.


def test_a_version_is_looked_at_by_its_workflow() -> None:
    """Whatever others do to it; what we do to it ourselves is no news."""
    world, queue = the_world(flow(), flow("low"))
    world.take(version())
    assert queue.heard() == {HIGH}
    world.take(version(of="low"))
    assert queue.heard() == {HIGH, LOW}
    world.wrote(version())
    assert queue.heard() == set()
    world.lose(version())
    assert queue.heard() == {HIGH}


def test_a_version_that_no_workflow_has_wakes_nobody() -> None:
    """Nor is it looked at by itself."""
    world, queue = the_world()
    world.take(version())
    assert queue.heard() == set()


def test_a_version_is_found_by_its_owner_too() -> None:
    """However its spec was edited, the Workflow that owns it sees it and makes it again."""
    owned = version(of="low", owners=[{"kind": "Workflow", "name": "high", "uid": "uid-high"}])
    world, _ = the_world(flow(), owned, version(2, finalizers=["f"], deleting=True))
    high = world.cache.get(HIGH)
    assert high is not None
    assert world.revisions(high) == [owned]


def test_a_decision_is_known_by_its_workflow() -> None:
    """What is decided about a Workflow can be found from it."""
    spec = {"workflowRef": {"name": "high"}, "action": "Resume", "actor": "ann", "requestId": "1"}
    decided = objects.parse(
        "WorkflowDecision", manifest("d", spec, namespace="monitoring", version=next(versions)), decision
    )
    world, _ = the_world(flow(), decided)
    assert world.cache.find("decision about", ("monitoring", "high")) == [decided]


def test_a_config_map_wakes_those_that_name_it() -> None:
    """In its namespace, by its name."""
    world, queue = the_world(from_file("high", "files"), from_file("low", "others"), flow("inline"))
    world.config_map_changed("monitoring", "files")
    assert queue.heard() == {HIGH}
    world.config_map_changed("elsewhere", "files")
    assert queue.heard() == set()


def test_a_namespace_wakes_workflows_whose_tenant_asks_for_its_labels() -> None:
    """As it does Providers."""
    labelled = {"allowedNamespaces": {"selector": {"matchLabels": {"team": "a"}}}}
    world, queue = the_world(tenant(labelled), flow())
    world.namespace_changed("", "monitoring")
    assert queue.heard() == {HIGH}


def a_run(name: str, about: str = "high", **status: Any) -> Object[Any]:
    """A WorkflowRun, newer than whatever was made before."""
    raw = manifest(
        name, {"workflowRef": {"name": about}}, namespace="monitoring", version=next(versions), status=status
    )
    return objects.parse("WorkflowRun", raw, run)


ENDED: dict[str, Any] = {"executionId": "1", "conditions": [condition("Succeeded")]}


def key_of(name: str) -> Key:
    """The key of a WorkflowRun."""
    return Key("WorkflowRun", "monitoring", name)


def test_a_workflow_wakes_the_runs_that_wait_for_it() -> None:
    """Not those that have their row, or have ended, or are of another Workflow."""
    known = (
        a_run("waits"),
        a_run("accepted", executionId="1"),
        a_run("ended", **ENDED),
        a_run("other", about="low"),
    )
    world, queue = the_world(flow(), *known)
    world.take(flow(status={"observedGeneration": 1}))
    assert queue.heard() == {HIGH, key_of("waits")}
    world.lose(flow())
    assert key_of("waits") in queue.heard()


def test_a_tenant_that_is_back_wakes_the_runs_that_wait() -> None:
    """Though the Workflow itself has nothing to tell of that."""
    world, queue = the_world(tenant(conditions=[condition("Ready", "Unknown")]), flow(), a_run("waits"))
    world.take(tenant())
    assert key_of("waits") in queue.heard()


def test_a_run_that_ends_wakes_those_that_ended_before() -> None:
    """There may be no place for the oldest any more; a run that begins concerns nobody."""
    world, queue = the_world(flow(), a_run("old", **ENDED), a_run("new"), a_run("other", about="low", **ENDED))
    world.wrote(a_run("new", executionId="1"))
    assert queue.heard() == set()
    world.wrote(a_run("new", **ENDED))
    assert queue.heard() == {key_of("old")}
    world.wrote(a_run("new", **ENDED))
    assert queue.heard() == set()


def test_a_workflow_that_keeps_fewer_runs_wakes_them() -> None:
    """An edit of `runHistory` counts at once."""
    world, queue = the_world(flow(), a_run("old", **ENDED))
    world.take(flow(spec={"runHistory": {"successful": 0}}, generation=2))
    assert key_of("old") in queue.heard()
