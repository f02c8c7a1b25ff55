"""Retention as a dry run: what the operator would do, judged by its own rule, and why."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from integration.console.visit import Console
from integration.store import lineages
from integration.store.lineages import ME, done
from keep_operator.domain.history import Lineage
from keep_operator.resources.kinds import TENANTS
from keep_operator.store import revisions

pytestmark = pytest.mark.integration

PLACE = {"namespace": "monitoring", "workflow": "high-cpu"}


@pytest.fixture
async def six(console: Console) -> Lineage:
    """Six versions that all were active, the last one is; long ago, as the console's clock has it."""
    await lineages.have(console.engine, contents="ABCDEF")
    for number in range(1, 7):
        await lineages.activate(console.engine, number)
    console.clock.now = datetime.now(UTC) + timedelta(days=30)
    return await lineages.own(console.engine)


def image(number: int, **annotations: str) -> dict[str, Any]:
    """The object of a version, as far as it is asked about."""
    return {
        "metadata": {
            "name": lineages.object_name(number),
            "labels": {"keep-operator.dev/workflow": "high-cpu", "keep-operator.dev/revision": str(number)},
            "annotations": {f"keep-operator.dev/{key.replace('_', '-')}": each for key, each in annotations.items()},
            "ownerReferences": [{"uid": ME.uid}],
        }
    }


async def test_each_version_that_stays_has_its_reason(console: Console, six: Lineage) -> None:
    """Limit, tag, pin, annotation, active: whoever wonders why a version is still there is told."""
    await done(console.engine, lambda conn: revisions.tag(conn, six, 1, "blue", actor="bob"))
    console.played.have_workflow(ME.uid, revisionHistoryLimit=1, release={"pin": {"revision": 2}})
    console.played.revisions = [image(3, no_gc="true"), image(4, no_gc="false")]
    told = await console.get("/retention")
    assert told["archive"] == [4]
    assert {each["number"]: each["why"] for each in told["kept"]} == {
        1: "tag blue",
        2: "spec.release.pin",
        3: "annotation no-gc",
        5: "one of the last 1 to go back to",
        6: "active",
    }
    assert told["policy"]["revisionHistoryLimit"] == 1


async def test_nothing_is_changed(console: Console, six: Lineage) -> None:
    """A dry run is one: no row, no object, no entry."""
    console.played.have_workflow(ME.uid, revisionHistoryLimit=0)
    before = await lineages.own(console.engine), await lineages.told(console.engine)
    console.played.asked.clear()
    assert (await console.get("/retention"))["archive"] == [1, 2, 3, 4, 5]
    assert (await lineages.own(console.engine), await lineages.told(console.engine)) == before
    assert console.played.asked.keys() <= {
        "POST tokenreviews",
        "POST subjectaccessreviews",
        "GET high-cpu",
        "GET keep",
        "GET workflowrevisions",
    }


async def test_a_young_version_stays_until_a_time(console: Console, six: Lineage) -> None:
    """Who waits for a version to go is told when it may."""
    console.clock.now = datetime.now(UTC)
    console.played.have_workflow(ME.uid, revisionHistoryLimit=0, retention={"sinceCreate": "1h"})
    told = await console.get("/retention")
    assert told["archive"] == []
    assert {each["why"] for each in told["kept"]} == {"too young", "active"}
    assert all(each["until"].endswith("Z") for each in told["kept"] if each["why"] == "too young")
    assert told["policy"]["sinceCreateSeconds"] == 3600


async def test_the_tenant_sets_what_the_workflow_leaves_open(console: Console, six: Lineage) -> None:
    """The policy that holds is told, whoever has set it."""
    console.played.have_workflow(ME.uid, retention={"sinceCreate": "1h"})
    console.played.objects[TENANTS.path(None, "keep")] = {
        "metadata": {"name": "keep"},
        "spec": {"defaults": {"retention": {"sinceCreate": "5h", "sinceLastActive": "2h"}}},
    }
    policy = (await console.get("/retention"))["policy"]
    assert (policy["sinceCreateSeconds"], policy["sinceLastActiveSeconds"]) == (3600, 7200)


async def test_what_cannot_be_judged_says_why(console: Console, six: Lineage) -> None:
    """No object, no record, a spec that is refused: no answer is made up."""
    await console.problem("/retention", 404, "WorkflowNotFound", params=PLACE)
    console.played.have_workflow("another-uid")
    await console.problem("/retention", 404, "WorkflowNotFound", params=PLACE)
    console.played.have_workflow(ME.uid, revisionHistoryLimit="many")
    await console.problem("/retention", 409, "SpecRefused", params=PLACE)
