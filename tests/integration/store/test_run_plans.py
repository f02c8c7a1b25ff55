"""How the database finds runs among many: by an index, and of that as many rows as are shown or counted."""

from typing import Any

import pytest
from sqlalchemy import text

from integration.console import started
from integration.store import lineages, samples
from integration.store.test_history import walked
from keep_operator.domain.history import Lineage
from keep_operator.store import engine as database
from keep_operator.store import executions, failing, past_runs
from keep_operator.store.engine import Engine
from keep_operator.store.past_runs import Wanted

pytestmark = pytest.mark.integration

# Of each workflow: of its runs every second was started by an alert, one of 20, and one in a thousand by an incident.
MANY = """
    INSERT INTO keep_operator.run (id, tenant_id, workflow_id, revision, content_hash, selection, trigger, mode, state, reason, inputs,
        fingerprint, idempotency_key, requested_by, max_attempts, timeout_s, completed_at)
    SELECT (lpad(to_hex(1700000000000 + n * 20 + row_number() OVER ()), 12, '0') || '70008000'
            || substr(md5(w.id::text || n), 1, 12))::uuid,
        w.tenant_id, w.id, w.active_revision, r.content_hash, 'Active',
        CASE WHEN n % 1000 = 7 THEN 'Incident' WHEN n % 2 = 0 THEN 'Alert' ELSE 'Interval' END, 'Live',
        CASE WHEN n % 10 = 0 THEN 'Failed' ELSE 'Succeeded' END, CASE WHEN n % 10 = 0 THEN 'StepFailed' ELSE 'Completed' END, '{}',
        CASE WHEN n % 2 = 0 THEN 'fp-' || n % 40 END, n::text, 'x', 3, 60, now()
    FROM keep_operator.workflow w JOIN keep_operator.workflow_revision r ON r.workflow_id = w.id AND r.number = w.active_revision,
        generate_series(1, 3000) n
"""


class Asked(Exception):
    """A statement that would be run."""


class Ear:
    """Stands for a connection, to hear what is asked."""

    async def execute(self, statement: Any, values: Any) -> Any:
        """Nothing is run."""
        raise Asked(statement.text, {**statement.values, **values})


async def heard(asking: Any) -> tuple[str, dict[str, Any]]:
    """The statement and its values."""
    with pytest.raises(Asked) as caught:
        await asking
    statement, values = caught.value.args
    return statement, values


async def plan(engine: Engine, statement: str, values: dict[str, Any]) -> list[dict[str, Any]]:
    """The nodes of the plan that is carried out."""
    async with database.transaction(engine) as conn:
        cursor = await conn.driver.execute(
            "EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) " + statement,
            values,
        )
        ((found,),) = await cursor.fetchall()
    return list(walked(found[0]["Plan"]))


@pytest.fixture
async def crowd(engine: Engine) -> list[Lineage]:
    """Ten workflows with 3,000 runs each."""
    await samples.have_tenant(engine)
    found = [await started.have(engine, f"w{n}", {"type": "manual"}) for n in range(10)]
    await lineages.run(engine, MANY)
    await lineages.run(engine, "ANALYZE")
    return found


async def test_runs_are_found_where_they_stand(engine: Engine, crowd: list[Lineage]) -> None:
    """A trigger that is rare, the failures of the last five of each workflow, what earlier runs did for the same alert."""
    page, values = await heard(past_runs.page(Ear(), crowd[3].id, Wanted(trigger="Incident"), None, 50))  # type: ignore[arg-type]
    rare = await plan(engine, page, values)
    lately = await plan(engine, *(await heard(failing.failing(Ear(), samples.CLUSTER))))  # type: ignore[arg-type]
    async with database.look(engine) as conn:
        newest = text("SELECT id FROM keep_operator.run WHERE trigger = 'Alert' ORDER BY id DESC LIMIT 1")
        run = (await conn.execute(newest)).one()
    behind = f"SELECT ({executions._BEHIND}) FROM keep_operator.run WHERE id = %(id)s"  # noqa: S608
    context = await plan(engine, behind, {"id": run.id})
    for nodes, index, most in (
        (rare, "run_workflow_id_trigger_id_idx", 3),
        (lately, "run_workflow_id_revision_id_idx", failing.COUNTED + 1),
        (context, "run_workflow_id_fingerprint_id_idx", 3_000 / 20),
    ):
        of_runs = [node for node in nodes if node.get("Relation Name") == "run" or node.get("Index Name") == index]
        assert index in {node.get("Index Name") for node in nodes}
        assert "Seq Scan" not in {node["Node Type"] for node in of_runs}
        assert max(node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in of_runs) <= most, of_runs
