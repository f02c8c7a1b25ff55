"""Which workflows fail, by the runs of their active versions: asked of a real database, of all workflows at once."""

from typing import Any

import pytest

from integration.console import started
from integration.store import lineages, samples
from integration.store.lineages import ME, done, looked
from integration.store.test_run_objects import started as begun
from keep_operator.domain.execution import Reason
from keep_operator.domain.history import Lineage
from keep_operator.resources.kinds import WORKFLOWS, Key
from keep_operator.store import executions, failing, workflows
from keep_operator.store.engine import Engine
from keep_operator.store.failing import Lately

pytestmark = pytest.mark.integration

WORKFLOW = Key(WORKFLOWS.kind, ME.namespace, ME.name)
ENDS = {"s": Reason.COMPLETED, "f": Reason.STEP_FAILED, "t": Reason.TIMED_OUT, "c": Reason.CANCELLED}


@pytest.fixture
async def lineage(engine: Engine) -> Lineage:
    """Workflow monitoring/high-cpu in tenant keep, with versions A and B; the second is active."""
    await samples.have_tenant(engine)
    await lineages.have(engine, contents="AB")
    return await lineages.activate(engine, 2)


async def ran(engine: Engine, lineage: Lineage, ends: str, **fields: Any) -> None:
    """Runs that ended so, one after the other: s(ucceeded), f(ailed), t(imed out), c(ancelled); r is still running."""
    for letter in ends:
        made = await begun(engine, lineage, **fields)
        if letter in ENDS:
            reason = ENDS[letter]
            await done(engine, lambda conn: executions.end(conn, made, reason, "done"))  # noqa: B023 - called at once


async def found(engine: Engine) -> dict[Key, Lately]:
    """Those of this cluster that fail."""
    return await looked(engine, lambda conn: failing.failing(conn, samples.CLUSTER))


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        ("", None),
        ("f", "the last run failed"),
        ("ssf", "the last run failed"),
        ("sssst", "the last run failed"),
        ("ff", "the last 2 runs failed"),
        ("sftft", "4 of the last 5 runs failed"),
        ("ffffffff", "the last 5 runs failed"),
        ("fffffs", "4 of the last 5 runs failed"),
        ("sfffss", "3 of the last 5 runs failed"),
        ("ffsss", None),
        ("fffffsss", None),
        ("fs", None),
        ("fcrc", "the last run failed"),
        ("fcs", None),
        ("rrr", None),
    ],
)
async def test_a_workflow_fails_until_it_goes_well_again(
    engine: Engine, lineage: Lineage, ends: str, words: str | None
) -> None:
    """The newest run failed, or most of the last five did; what is under way or was cancelled says nothing."""
    await ran(engine, lineage, ends)
    told = await found(engine)
    assert {key: str(lately) for key, lately in told.items()} == ({WORKFLOW: words} if words else {})
    assert all(lately.revision == 2 for lately in told.values())


async def test_only_the_active_version_counts(engine: Engine, lineage: Lineage) -> None:
    """After a rollback the version that is active again is judged by its own runs, and no trial run judges anything."""
    await ran(engine, lineage, "fff")
    await ran(engine, lineage, "s", mode="DryRun")
    assert list(await found(engine)) == [WORKFLOW]
    back = await lineages.activate(engine, 1)
    assert await found(engine) == {}
    await ran(engine, back, "f", mode="DryRun")
    assert await found(engine) == {}
    await ran(engine, back, "f")
    assert (await found(engine))[WORKFLOW] == Lately(1, 1, 1, last_failed=True)


async def test_who_is_suspended_gone_or_of_another_cluster_is_left_alone(engine: Engine, lineage: Lineage) -> None:
    """Of each workflow that is still to be looked after its own runs, and nobody else's."""
    other = await started.have(engine, "other", {"type": "manual"})
    await ran(engine, lineage, "f")
    await ran(engine, other, "s")
    assert list(await found(engine)) == [WORKFLOW]
    assert await looked(engine, lambda conn: failing.failing(conn, "elsewhere")) == {}
    await lineages.run(engine, "UPDATE keep_operator.workflow SET suspended = true WHERE owner_name = 'high-cpu'")
    assert await found(engine) == {}
    await ran(engine, other, "f")
    assert [key.name for key in await found(engine)] == ["other"]
    seen = await lineages.own(engine, samples.owner("other"))
    await done(engine, lambda conn: workflows.delete(conn, seen.id, seen.owner, actor=samples.ACTOR))
    assert await found(engine) == {}
