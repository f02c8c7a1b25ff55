"""The past is read page by page: nothing is skipped or told twice, and a page costs the same wherever it is."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from integration.store import lineages, samples
from integration.store.lineages import ACTOR, ME, done
from keep_operator.cli.ledger import group
from keep_operator.domain.history import Cause, Lineage
from keep_operator.domain.verdict import Handled
from keep_operator.resources.kinds import Key
from keep_operator.store import decisions, history, revisions, seals, workflows
from keep_operator.store import engine as database
from keep_operator.store import lineages as rows
from keep_operator.store.connection import Connection
from keep_operator.store.engine import Engine
from keep_operator.store.history import NotAPage, Page

pytestmark = pytest.mark.integration

Ask = Callable[[Connection, str | None, int], Awaitable[Page[Any]]]


@pytest.fixture
async def lineage(engine: Engine) -> Lineage:
    """A workflow of 1,000 versions, another of 500, and 5,000 ledger entries of others before and after them."""
    await samples.have_tenant(engine)
    await lineages.run(engine, others(2_500))
    lineage = await lineages.have(engine)
    await lineages.run(engine, lineages.many_versions(lineage.id, 1_000))
    other = await lineages.have(engine, "other", of=samples.owner("other"))
    await lineages.run(engine, lineages.many_versions(other.id, 500))
    await lineages.run(engine, others(2_500))
    await lineages.run(engine, "ANALYZE")
    return lineage


def others(count: int) -> str:
    """SQL that writes entries about workflows of the tenant, and about providers of twenty other tenants."""
    return f"""
        INSERT INTO keep_operator.ledger (tenant_id, kind, namespace, name, uid, action, actor, details)
        SELECT
            CASE n % 2 WHEN 0 THEN 'keep' ELSE 'team-' || n % 20 END,
            CASE n % 2 WHEN 0 THEN 'Workflow' ELSE 'Provider' END,
            'monitoring', 'w' || n % 50, '', 'Updated', 'operator', json_build_object('id', 'w' || n % 50)
        FROM generate_series(1, {count}) n
    """  # noqa: S608


async def walk(engine: Engine, ask: Ask, limit: int) -> tuple[list[Any], int]:
    """All items, page by page, and how many statements that took."""
    counted = database.queries(engine)
    before = counted.statements
    items: list[Any] = []
    after: str | None = None
    while True:
        async with database.look(engine) as conn:
            page = await ask(conn, after, limit)
        assert len(page.items) <= min(limit, history.LIMIT)
        items += page.items
        after = page.after
        if after is None:
            return items, counted.statements - before


async def test_versions_are_paged(engine: Engine, lineage: Lineage) -> None:
    """A thousand versions in ten pages, the newest first; no page has more than 200, whatever was asked for."""

    async def ask(conn: Connection, after: str | None, limit: int) -> Page[Any]:
        return await history.revisions(conn, lineage.id, after=after, limit=limit)

    for limit, statements in ((100, 10), (10_000, 5), (999, 5)):
        items, asked = await walk(engine, ask, limit)
        assert [each.number for each in items] == list(range(1_000, 0, -1))
        assert asked == statements


async def test_a_version_on_a_page_is_the_one_that_plans_see(engine: Engine) -> None:
    """With its tags, its state, and when it was active."""
    await samples.have_tenant(engine)
    seen = await lineages.have(engine, contents="Ab")
    for tag in ("x", "a"):
        await done(engine, lambda conn, tag=tag: revisions.tag(conn, seen, 1, tag, actor=ACTOR))  # type: ignore[misc]
    await done(engine, lambda conn: revisions.reject(conn, seen, 2, verdict="RejectedByUser", actor=ACTOR))
    lineage = await lineages.activate(engine, 1)
    page = await lineages.looked(engine, lambda conn: history.revisions(conn, lineage.id))
    assert page.items == lineage.revisions[::-1]


async def test_deployments_are_paged(engine: Engine, lineage: Lineage) -> None:
    """A thousand deployments, the last first, though a plan sees only the last of them."""

    async def ask(conn: Connection, after: str | None, limit: int) -> Page[Any]:
        return await history.deployments(conn, lineage.id, after=after, limit=limit)

    items, asked = await walk(engine, ask, 200)
    assert [each.revision for each in items] == list(range(1_000, 0, -1))
    assert asked == 5
    found = await lineages.own(engine)
    assert list(found.deployments) == items[: rows.DEPLOYMENTS]


async def test_the_timeline_is_of_one_workflow(engine: Engine, lineage: Lineage) -> None:
    """Of 6,500 entries those of this workflow, the last first, whatever lies between them (A-HIS-4)."""

    async def ask(conn: Connection, after: str | None, limit: int) -> Page[Any]:
        return await history.timeline(conn, lineage.id, after=after, limit=limit)

    items, asked = await walk(engine, ask, 200)
    assert [each.details.get("to") for each in items] == [*range(1_000, 0, -1), None]
    assert asked == 6


async def test_the_ledger_is_paged_by_tenant_and_by_object(engine: Engine, lineage: Lineage) -> None:
    """An auditor reads all of a tenant, or all of a name, from now back to the beginning."""

    async def of_tenant(conn: Connection, after: str | None, limit: int) -> Page[Any]:
        return await history.entries_of_tenant(conn, "keep", after=after, limit=limit)

    async def of_object(conn: Connection, after: str | None, limit: int) -> Page[Any]:
        return await history.entries_of_object(conn, Key("Workflow", "monitoring", "w2"), after=after, limit=limit)

    items, asked = await walk(engine, of_tenant, 200)
    numbers = [each.id for each in items]
    assert numbers == sorted(numbers, reverse=True)
    assert (len(items), asked) == (1 + 1_250 + 1_001 + 501 + 1_250, 21)
    items, asked = await walk(engine, of_object, 60)
    assert (len(items), asked) == (100, 2)


async def test_the_timeline_merges_all_that_happened(engine: Engine) -> None:
    """Versions, deployments, holds, tags, decisions and notes stand in one order, through a rename and a hand-over."""
    await samples.have_tenant(engine)
    seen = await lineages.have(engine, contents="AB")
    await lineages.activate(engine, 2)
    decision = Key("WorkflowDecision", "monitoring", "d")
    handled = Handled("1", "Tag", "Done", "", lineages.EARLIER)
    async with database.transaction(engine) as conn:
        await decisions.handle(conn, seen, decision, "", handled, actor="ann")
        await revisions.tag(conn, seen, 1, "good", actor="ann")
        await decisions.note(conn, seen, None, "Hm", actor="ann")
    heir = samples.owner("heir")
    await done(engine, lambda conn: workflows.hand_over(conn, seen.id, ME, heir, actor=ACTOR))
    await lineages.activate(engine, 1, Cause.ROLLBACK, of=heir)
    await lineages.have(engine, "other", contents="A")
    page = await lineages.looked(engine, lambda conn: history.timeline(conn, seen.id))
    assert page.after is None
    assert [(each.key.kind, each.action) for each in page.items[::-1]] == [
        ("Workflow", "Created"),
        ("WorkflowRevision", "Created"),
        ("WorkflowRevision", "Created"),
        ("Workflow", "Deployed"),
        ("WorkflowDecision", "Handled"),
        ("Workflow", "Tagged"),
        ("Workflow", "Noted"),
        ("Workflow", "HandedOver"),
        ("Workflow", "Deployed"),
    ]


async def test_what_comes_meanwhile_moves_no_page(engine: Engine, lineage: Lineage) -> None:
    """Somebody reads on while new versions are made: nothing is told twice."""
    first = await lineages.looked(engine, lambda conn: history.revisions(conn, lineage.id, limit=10))
    await lineages.add(engine, "A")
    second = await lineages.looked(
        engine, lambda conn: history.revisions(conn, lineage.id, after=first.after, limit=10)
    )
    assert [each.number for each in first.items + second.items] == list(range(1_000, 980, -1))


@pytest.mark.parametrize("after", ["", "x", "dGltZWxpbmUgMQ=", "dmVyc2lvbnMgLTE", "dmVyc2lvbnMgMSA", "é", "A" * 5_000])
async def test_a_page_that_was_never_given_is_refused(engine: Engine, after: str) -> None:
    """What somebody has made up is no place in a list, and no question to the database."""
    async with database.look(engine) as conn:
        with pytest.raises(NotAPage):
            await history.revisions(conn, workflows.new_id(), after=after)
    assert database.queries(engine).statements == 0


async def test_a_place_in_one_list_is_none_in_another(engine: Engine) -> None:
    """Deployments and versions are counted apart."""
    await samples.have_tenant(engine)
    lineage = await lineages.have(engine, contents="AB")
    async with database.look(engine) as conn:
        page = await history.revisions(conn, lineage.id, limit=1)
        assert page.after is not None
        with pytest.raises(NotAPage):
            await history.deployments(conn, lineage.id, after=page.after)


async def test_a_page_is_read_from_an_index(engine: Engine) -> None:
    """In the middle of a long history, one of many, a page reads its own rows and no others (A-HIS-1)."""
    await samples.have_tenant(engine)
    crowd = [await lineages.have(engine, f"w{each}", of=samples.owner(f"w{each}")) for each in range(20)]
    for each in crowd:
        await lineages.run(engine, lineages.many_versions(each.id, 200))
    await lineages.run(engine, others(5_000))
    await lineages.run(engine, "ANALYZE")
    asked = {"lineage": crowd[9].id, "tenant": "team-7", "kind": "Provider", "namespace": "monitoring", "name": "w7"}
    for question, index, before in (
        (history._REVISIONS, "workflow_revision_pkey", 150),
        (history._DEPLOYMENTS, "deployment_workflow_id_id_idx", 3_000),
        (history._TIMELINE, "ledger_lineage_idx", 8_000),
        (history._OF_TENANT, "ledger_tenant_id_id_idx", 8_000),
        (history._OF_OBJECT, "ledger_object_idx", 8_000),
    ):
        for statement in question:
            async with database.transaction(engine) as conn:
                # So few rows are sorted as fast as they are read in order; of a million they are not.
                for way in ("bitmapscan", "seqscan", "sort"):
                    await conn.execute(text(f"SET LOCAL enable_{way} = off"))
                cursor = await conn.driver.execute(
                    "EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) " + statement.text,
                    {**statement.values, **asked, "before": before, "most": 11},
                )
                ((plan,),) = await cursor.fetchall()
            nodes = list(walked(plan[0]["Plan"]))
            assert index in {node.get("Index Name") for node in nodes}
            assert "Seq Scan" not in {node["Node Type"] for node in nodes}
            assert not any(node.get("Rows Removed by Filter") for node in nodes)
            assert nodes[0]["Actual Rows"] == 11
            assert all(node["Actual Rows"] <= 11 for node in nodes)


def walked(node: dict[str, Any]) -> Any:
    """A plan's node and all below it."""
    yield node
    for child in node.get("Plans", ()):
        yield from walked(child)


async def test_the_chain_proves_a_workflows_history(engine: Engine, database_url: str) -> None:
    """`ledger verify` finds an entry about a workflow that a superuser has changed, and nothing before that."""
    await samples.have_tenant(engine)
    await lineages.have(engine, contents="AB")
    await lineages.activate(engine, 2)
    async with database.transaction(engine) as conn:
        await seals.seal(conn)
    runner = CliRunner(env={"KEEP_OPERATOR_DATABASE_URL": database_url})
    fine = await asyncio.to_thread(runner.invoke, group, ["verify"])
    assert fine.exit_code == 0, fine.output
    async with database.transaction(engine) as conn:
        await conn.execute(text("ALTER TABLE keep_operator.ledger DISABLE TRIGGER USER"))
        await conn.execute(
            text("UPDATE keep_operator.ledger SET actor = 'nobody' WHERE action = 'Deployed' AND kind = 'Workflow'")
        )
        await conn.execute(text("ALTER TABLE keep_operator.ledger ENABLE TRIGGER USER"))
    broken = await asyncio.to_thread(runner.invoke, group, ["verify"])
    assert broken.exit_code == 1
    assert "was changed" in broken.output
