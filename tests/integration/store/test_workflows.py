"""What happens to a workflow's row: made once, handed on with its history, and never brought back once it was deleted."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import text

from integration.store import lineages, samples
from integration.store.lineages import ACTOR, ME, done, own
from keep_operator.domain import history
from keep_operator.domain.history import Cause, Hold, Lineage
from keep_operator.domain.verdict import Handled
from keep_operator.errors import Conflict, Refused, Waiting
from keep_operator.resources.kinds import Key
from keep_operator.store import decisions, deployments, ledger, providers, revisions, tenants, workflows
from keep_operator.store import engine as database
from keep_operator.store import history as past
from keep_operator.store import lineages as rows
from keep_operator.store.connection import Connection, Prepared
from keep_operator.store.engine import Engine
from keep_operator.store.tables import WORKFLOW

pytestmark = pytest.mark.integration

OTHER = samples.owner("other")


@pytest.fixture
async def lineage(engine: Engine) -> Lineage:
    """Workflow monitoring/high-cpu in tenant keep, with versions A, B, A."""
    await samples.have_tenant(engine)
    return await lineages.have(engine, contents="ABA")


def hold(content: str, target: int) -> Hold:
    """A rollback of this content."""
    return Hold(
        lineages.hash_of(content), target, "bob", "It is loud", datetime(2026, 6, 1, tzinfo=UTC), request_id="r1"
    )


async def test_a_lineage_is_read_as_it_was_written(engine: Engine) -> None:
    """What stands in the spec is what stands in the database, to the last digit, and the row is known to be ours."""
    await samples.have_tenant(engine)
    declared = lineages.new(settings={"run": {"maxAttempts": 1}, "name": "Grüße", "x": 1e23}, suspended=True)
    await done(engine, lambda conn: workflows.insert(conn, declared, actor=ACTOR))
    assert await own(engine) == replace(declared, checksum=history.checksum(declared))
    assert (await own(engine)).intact


async def test_a_plan_knows_all_from_one_question(engine: Engine, lineage: Lineage) -> None:
    """Versions, what is active since when, the hold, tags, deployments: one statement, however much there is."""
    for number, cause in ((1, Cause.ALL_AT_ONCE), (2, Cause.ALL_AT_ONCE), (1, Cause.ROLLBACK)):
        await lineages.activate(engine, number, cause)
    rolled_back = hold("B", 1)
    await done(engine, lambda conn: deployments.set_hold(conn, lineage, rolled_back, actor="bob"))
    other = await lineages.have(engine, "other", of=OTHER)
    counted = database.queries(engine)
    before = counted.statements
    async with database.look(engine) as conn:
        mine, holder = await rows.observe(conn, ME.cluster_id, ME.uid, "keep", "other")
    assert counted.statements == before + 1
    assert mine is not None
    assert holder == other
    assert (mine.latest_number, mine.active_number, mine.hold) == (3, 1, rolled_back)
    assert [each.content_hash for each in mine.revisions] == [lineages.hash_of(each) for each in "ABA"]
    assert [(each.revision, each.from_revision, each.cause) for each in mine.deployments] == [
        (1, 2, Cause.ROLLBACK),
        (2, 1, Cause.ALL_AT_ONCE),
        (1, None, Cause.ALL_AT_ONCE),
    ]
    first, second, third = mine.revisions
    assert first.first_active_at == mine.deployments[2].at
    assert first.last_active_at == second.last_active_at == mine.deployments[0].at
    assert third.first_active_at is None
    assert await lineages.looked(engine, lambda conn: rows.find(conn, lineage.id)) == mine


async def test_without_a_tenant_there_is_no_row(engine: Engine) -> None:
    """The tenant vanishes between the look and the write: the workflow waits for it, nobody sees SQL (A-DEP-5)."""
    with pytest.raises(Waiting) as caught:
        await done(engine, lambda conn: workflows.insert(conn, lineages.new(), actor=ACTOR))
    assert caught.value.reason == "TenantNotReady"
    assert "fkey" not in caught.value.message


async def test_a_name_is_had_once_in_a_tenant(engine: Engine, lineage: Lineage) -> None:
    """Two objects that ask for one name at the same moment: one gets it."""
    with pytest.raises(Conflict) as caught:
        await lineages.have(engine, lineage.external_name, of=OTHER)
    assert caught.value.reason == "ExternalNameConflict"
    with pytest.raises(Conflict):
        await lineages.have(engine, "another", of=ME)


async def test_what_cannot_be_stored_is_refused(engine: Engine) -> None:
    """Settings with what PostgreSQL cannot hold: the spec is at fault, and says so."""
    await samples.have_tenant(engine)
    for name in ("\x00", "\ud800"):
        declared = lineages.new(settings={"name": name})
        with pytest.raises(Refused):
            await done(engine, partial(workflows.insert, lineage=declared, actor=ACTOR))


async def test_nothing_changed_means_nothing_written(engine: Engine, lineage: Lineage) -> None:
    """At rest there is no UPDATE and no ledger entry (A-DR-2)."""
    entries = await samples.entries(engine)
    assert await done(engine, lambda conn: workflows.update(conn, lineage, actor=ACTOR)) is False
    assert await samples.entries(engine) == entries


async def test_a_change_names_its_fields(engine: Engine, lineage: Lineage) -> None:
    """Settings, suspension, policy and name change in place: the id stays, and the ledger names what was changed."""
    declared = replace(
        lineage, external_name="cpu", suspended=True, settings={"run": {}, "name": "CPU"}, deletion_policy="Orphan"
    )
    assert await done(engine, lambda conn: workflows.update(conn, declared, actor=ACTOR)) is True
    assert await own(engine) == replace(declared, checksum=history.checksum(declared))
    assert (await lineages.told(engine))[-2:] == [
        ("Workflow", "Renamed", {"from": "high-cpu", "to": "cpu"}),
        ("Workflow", "Updated", {"fields": ["deletionPolicy", "settings.name", "settings.run", "suspend"]}),
    ]
    assert await lineages.holder(engine, "high-cpu") is None


async def test_drift_is_told_at_once_and_corrected(engine: Engine, database_url: str, lineage: Lineage) -> None:
    """Whoever edits a workflow's row, hold, tag or version state by hand is heard of, and the row is set right (A-DR-1)."""
    by_hand = [
        "UPDATE keep_operator.workflow SET suspended = true",
        "UPDATE keep_operator.revision_state SET rejected_reason = 'RejectedByUser' WHERE number = 1",
        "INSERT INTO keep_operator.revision_tag SELECT id, 'x', 1 FROM keep_operator.workflow",
        "DELETE FROM keep_operator.revision_tag",
    ]
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as listening:
        await listening.execute("LISTEN keep_operator_changed")
        for statement in by_hand:
            await lineages.run(engine, statement)
        heard = [notified.payload async for notified in listening.notifies(timeout=5, stop_after=len(by_hand))]
    assert len(heard) == 3 + 1
    assert set(heard) == {'{"kind" : "Workflow", "namespace" : "monitoring", "name" : "high-cpu"}'}
    assert not (await own(engine)).intact
    assert await done(engine, lambda conn: workflows.update(conn, lineage, actor=ACTOR)) is True
    assert (await own(engine)).intact
    assert (await lineages.told(engine))[-1] == ("Workflow", "DriftCorrected", {"fields": ["suspend"]})


async def test_the_operators_own_writes_are_no_news(engine: Engine, database_url: str) -> None:
    """The operator is not woken by what it does itself."""
    await samples.have_tenant(engine)
    operator = database.connect(database_url, application_name="operator", operates=True)
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as listening:
        await listening.execute("LISTEN keep_operator_changed")
        await lineages.have(operator, contents="A")
        await lineages.activate(operator, 1)
        await listening.execute("NOTIFY keep_operator_changed, 'last'")
        heard = [notified.payload async for notified in listening.notifies(timeout=5, stop_after=1)]
    await operator.dispose()
    assert heard == ["last"]


async def test_a_hand_over_takes_the_history_along(engine: Engine, lineage: Lineage) -> None:
    """A rename of the object in Git keeps id, versions and what is active (A-GC-3)."""
    await lineages.activate(engine, 1)
    before = await own(engine)
    await done(engine, lambda conn: workflows.hand_over(conn, lineage.id, ME, OTHER, actor=ACTOR))
    assert await own(engine, OTHER) == replace(before, owner=OTHER)
    with pytest.raises(Conflict):
        await done(engine, lambda conn: workflows.hand_over(conn, lineage.id, ME, OTHER, actor=ACTOR))
    restored = replace(OTHER, uid="uid-after-restore")
    await done(engine, lambda conn: workflows.hand_over(conn, lineage.id, OTHER, restored, actor=ACTOR))
    assert [action for _, action, _ in await lineages.told(engine)][-2:] == ["HandedOver", "Reattached"]


async def test_an_orphan_is_adopted_with_its_history(engine: Engine, lineage: Lineage) -> None:
    """Left behind, and taken over by another object: the ledger keeps what the row said before (A-AD-1, A-AD-2)."""
    await lineages.activate(engine, 2)
    await done(engine, lambda conn: workflows.orphan(conn, lineage.id, ME, actor=ACTOR))
    unowned = await lineages.holder(engine, "high-cpu")
    assert unowned is not None
    assert unowned.owner is None
    declared = replace(unowned, owner=OTHER, suspended=True, settings={})
    await done(engine, lambda conn: workflows.adopt(conn, unowned, declared, actor=ACTOR))
    assert await own(engine, OTHER) == replace(declared, checksum=history.checksum(declared))
    kind, action, details = (await lineages.told(engine))[-1]
    assert (kind, action, details["from"]) == ("Workflow", "Adopted", None)
    assert details["previous"] == {
        "externalName": "high-cpu",
        "deletionPolicy": "Delete",
        "suspended": False,
        "settings": {"run": {"maxAttempts": 3}},
        "activeRevision": 2,
    }
    with pytest.raises(Conflict):
        await done(engine, lambda conn: workflows.adopt(conn, unowned, declared, actor=ACTOR))


async def test_a_deleted_workflow_leaves_its_name_free_and_its_history_behind(engine: Engine, lineage: Lineage) -> None:
    """Deleted and made again under the same name, by the same object or another: a new line, nothing of the old (A-REV-8)."""
    await lineages.activate(engine, 2)
    await done(engine, lambda conn: workflows.delete(conn, lineage.id, ME, actor=ACTOR, cause="ObjectGone"))
    assert await lineages.holder(engine, "high-cpu") is None
    again = await lineages.have(engine)
    assert again.id != lineage.id
    assert again.revisions == ()
    old = await lineages.looked(engine, lambda conn: rows.find(conn, lineage.id))
    assert old is not None
    assert old.deleted_at is not None
    assert (old.active_number, len(old.revisions), old.owner) == (2, 3, ME)
    entry = [each for each in await lineages.told(engine) if each[1] == "Deleted"]
    assert entry == [("Workflow", "Deleted", {"externalName": "high-cpu", "cause": "ObjectGone"})]


async def test_nothing_touches_a_deleted_workflow(engine: Engine, lineage: Lineage) -> None:
    """Whoever comes late with a write for a workflow that is gone is told so."""
    await done(engine, lambda conn: workflows.delete(conn, lineage.id, ME, actor=ACTOR))
    entries = await samples.entries(engine)
    late: list[Any] = [
        lambda conn: workflows.delete(conn, lineage.id, ME, actor=ACTOR),
        lambda conn: workflows.update(conn, lineage, actor=ACTOR),
        lambda conn: deployments.activate(conn, lineage, 1, cause=Cause.DEPLOY, actor=ACTOR),
        lambda conn: workflows.orphan(conn, lineage.id, ME, actor=ACTOR),
        lambda conn: workflows.hand_over(conn, lineage.id, ME, OTHER, actor=ACTOR),
        lambda conn: deployments.set_hold(conn, lineage, hold("A", 2), actor=ACTOR),
    ]
    for attempt in late:
        with pytest.raises(Conflict):
            await done(engine, attempt)
    with pytest.raises(Conflict):
        await lineages.insert(engine, lineage, "C")
    assert await samples.entries(engine) == entries


async def test_a_tenant_waits_for_its_last_record(engine: Engine, lineage: Lineage) -> None:
    """A deleted Tenant's row stays while a workflow or provider lives, and goes with the last one; history stays (A-GC-8)."""
    assert await done(engine, lambda conn: tenants.delete(conn, "keep", samples.TENANT_OWNER, actor=ACTOR)) is False
    provider = await samples.have_provider(engine)
    await done(engine, lambda conn: workflows.delete(conn, lineage.id, ME, actor=ACTOR))
    other = await lineages.have(engine, "other", of=OTHER)
    await done(engine, lambda conn: providers.delete(conn, provider.id, provider.owner, actor=ACTOR))
    async with database.look(engine) as conn:
        assert await tenants.find(conn, "keep") is not None
    await done(engine, lambda conn: workflows.delete(conn, other.id, OTHER, actor=ACTOR))
    async with database.look(engine) as conn:
        assert await tenants.find(conn, "keep") is None
        assert await rows.find(conn, lineage.id) is not None


async def test_a_tenant_whose_workflows_are_all_deleted_is_removed_at_once(engine: Engine, lineage: Lineage) -> None:
    """What is kept for its history only holds nobody back."""
    await done(engine, lambda conn: workflows.delete(conn, lineage.id, ME, actor=ACTOR))
    assert await done(engine, lambda conn: tenants.delete(conn, "keep", samples.TENANT_OWNER, actor=ACTOR)) is True


async def test_activation_is_one_fact(engine: Engine, lineage: Lineage) -> None:
    """Pointer, deployment, when it was active, ledger entry: one statement, so all of it or nothing."""
    counted = database.queries(engine)
    before = counted.statements
    await done(
        engine,
        lambda conn: deployments.activate(conn, lineage, 2, cause=Cause.DEPLOY, actor="ann", reason="for the weekend"),
    )
    assert counted.statements == before + 1
    active = await own(engine)
    assert active.active_number == 2
    (deployment,) = active.deployments
    assert (deployment.cause, deployment.actor, deployment.reason) == (Cause.DEPLOY, "ann", "for the weekend")
    assert (await lineages.told(engine))[-1] == (
        "Workflow",
        "Deployed",
        {"from": None, "to": 2, "cause": "Deploy", "reason": "for the weekend"},
    )


async def test_of_two_who_activate_at_once_one_does(engine: Engine, lineage: Lineage) -> None:
    """Whoever has seen another version active than is active by now changes nothing (A-RB-3)."""

    async def attempt(number: int) -> bool:
        try:
            await done(
                engine, lambda conn: deployments.activate(conn, lineage, number, cause=Cause.DEPLOY, actor=ACTOR)
            )
        except Conflict:
            return False
        return True

    succeeded = await asyncio.gather(*(attempt(number) for number in (1, 2, 3, 1, 2, 3)))
    assert succeeded.count(True) == 1
    after = await own(engine)
    assert len(after.deployments) == 1
    assert after.active_number == after.deployments[0].revision == (1, 2, 3, 1, 2, 3)[succeeded.index(True)]


async def test_an_interrupted_activation_leaves_nothing(engine: Engine, lineage: Lineage) -> None:
    """The operator dies before the commit: neither pointer nor deployment nor entry."""
    entries = await samples.entries(engine)

    async def break_off(conn: Connection) -> None:
        await deployments.activate(conn, lineage, 2, cause=Cause.DEPLOY, actor=ACTOR)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await done(engine, break_off)
    assert await own(engine) == lineage
    assert await samples.entries(engine) == entries


async def test_only_a_version_of_its_own_can_be_active(engine: Engine, lineage: Lineage) -> None:
    """Not even whoever writes SQL can point a workflow to a version that it does not have, or another's."""
    other = await lineages.have(engine, "other", of=OTHER)
    for number in (1, 3, 4):
        with pytest.raises(Conflict):
            await done(engine, partial(deployments.activate, seen=other, number=number, cause=Cause.PIN, actor=ACTOR))
    pointed = f"UPDATE keep_operator.workflow SET active_revision = 1 WHERE id = '{other.id}'"  # noqa: S608
    with pytest.raises(Conflict):
        await lineages.run(engine, pointed)
    with pytest.raises(Conflict):
        await done(engine, lambda conn: deployments.set_hold(conn, other, hold("A", 1), actor=ACTOR))
    assert await own(engine, OTHER) == other
    assert lineage == await own(engine)


async def test_a_hold_is_set_replaced_and_ended(engine: Engine, lineage: Lineage) -> None:
    """A rollback is one row while it is in force, and two lines in the ledger for ever."""
    await done(engine, lambda conn: deployments.set_hold(conn, lineage, hold("A", 2), actor="bob"))
    again = replace(hold("A", 1), reason="Still loud", automatic=True, request_id=None)
    await done(engine, lambda conn: deployments.set_hold(conn, lineage, again, actor="eve"))
    assert (await own(engine)).hold == again
    await done(engine, lambda conn: deployments.end_hold(conn, lineage, actor="ann", reason="Fixed"))
    assert (await own(engine)).hold is None
    with pytest.raises(Conflict):
        await done(engine, lambda conn: deployments.end_hold(conn, lineage, actor="ann"))
    rejected = {"rejectedHash": lineages.hash_of("A")}
    assert (await lineages.told(engine))[-3:] == [
        ("Workflow", "HoldSet", rejected | {"target": 2, "reason": "It is loud", "automatic": False, "aborted": False}),
        ("Workflow", "HoldSet", rejected | {"target": 1, "reason": "Still loud", "automatic": True, "aborted": False}),
        ("Workflow", "HoldEnded", rejected | {"target": 1, "reason": "Fixed"}),
    ]


async def test_lost_objects_are_found_by_their_rows(engine: Engine, lineage: Lineage) -> None:
    """The sweep sees whose object is gone; a deleted workflow and other clusters' are none of its business (A-GC-4)."""
    gone = await lineages.have(engine, "gone", of=samples.owner("gone"))
    await lineages.have(engine, "far", of=samples.owner("far", cluster="cluster-b"))
    deleted = await lineages.have(engine, "deleted", of=samples.owner("deleted"))
    await done(engine, lambda conn: workflows.delete(conn, deleted.id, samples.owner("deleted"), actor=ACTOR))
    async with database.look(engine) as conn:
        (found,) = await rows.lost(conn, samples.CLUSTER, [ME.uid], None)
        assert await rows.lost(conn, samples.CLUSTER, [ME.uid], ["elsewhere"]) == []
        listed = await rows.everything(conn, "keep")
        assert [each.external_name for each in listed] == ["far", "gone", "high-cpu"]
        assert len(await rows.everything(conn)) == 3
        assert await rows.everything(conn, "other") == []
    assert (found.kind, UUID(found.id), found.owner) == ("Workflow", gone.id, samples.owner("gone"))


async def test_a_lineage_is_recovered_under_its_own_id(engine: Engine) -> None:
    """An older dump does not have it: it is made again, and numbering goes on above (A-REV-13)."""
    await samples.have_tenant(engine)
    known = lineages.new(latest_number=7)
    await done(engine, lambda conn: workflows.insert(conn, known, actor=ACTOR, action=ledger.Action.RECOVERED))
    found = await own(engine)
    assert (found.id, found.latest_number, found.revisions) == (known.id, 7, ())
    assert [action for _, action, _ in await lineages.told(engine)] == ["Recovered"]
    unknown = workflows.new_id()
    assert await lineages.looked(engine, lambda conn: rows.latest(conn, [known.id, unknown])) == {
        known.id: known.latest_number
    }


async def test_each_deed_is_one_statement(engine: Engine, lineage: Lineage) -> None:
    """A round trip for each: what is seen in the WHERE clause need not be asked for before, nor the ledger written after."""
    handled = Handled("r", "Note", "Done", "", lineages.EARLIER)
    content = lineages.hash_of("A")
    made = lineages.revision(4, "D")
    named = {1: "high-cpu-v1", 2: "high-cpu-v2"}
    key = Key("WorkflowDecision", "monitoring", "d")
    unowned = replace(lineage, owner=None)
    suspended = replace(lineage, suspended=True)
    deeds: list[tuple[int, Callable[[Connection], Awaitable[Any]]]] = [
        (
            2,
            lambda conn: workflows.update(conn, suspended, actor=ACTOR),
        ),  # what the row says comes before what it shall
        (1, lambda conn: workflows.update(conn, suspended, actor=ACTOR)),
        (1, lambda conn: revisions.insert(conn, lineage, made, {}, name="high-cpu-v4", actor=ACTOR)),
        (1, lambda conn: deployments.activate(conn, lineage, 2, cause=Cause.DEPLOY, actor=ACTOR)),
        (1, lambda conn: deployments.set_hold(conn, lineage, hold("A", 2), actor=ACTOR)),
        (1, lambda conn: deployments.end_hold(conn, lineage, actor=ACTOR)),
        (1, lambda conn: revisions.archive(conn, lineage, named, actor=ACTOR)),
        (1, lambda conn: revisions.reject(conn, lineage, 1, verdict="RejectedByUser", actor=ACTOR)),
        (1, lambda conn: revisions.clear_rejection(conn, lineage, content, actor=ACTOR)),
        (1, lambda conn: revisions.tag(conn, lineage, 1, "good", actor=ACTOR)),
        (1, lambda conn: revisions.untag(conn, lineage, "good", actor=ACTOR)),
        (1, lambda conn: decisions.handle(conn, lineage, key, "", handled, actor=ACTOR)),
        (1, lambda conn: decisions.find(conn, lineage, "r")),
        (1, lambda conn: decisions.note(conn, lineage, 1, "text", actor=ACTOR)),
        (1, lambda conn: revisions.definitions(conn, lineage.id, [1, 2])),
        (1, lambda conn: workflows.hand_over(conn, lineage.id, ME, OTHER, actor=ACTOR)),
        (1, lambda conn: workflows.orphan(conn, lineage.id, OTHER, actor=ACTOR)),
        (1, lambda conn: workflows.adopt(conn, unowned, lineage, actor=ACTOR)),
        (1, lambda conn: workflows.delete(conn, lineage.id, ME, actor=ACTOR)),
        (1, lambda conn: workflows.insert(conn, lineages.new(), actor=ACTOR)),
    ]
    counted = database.queries(engine)
    for expected, deed in deeds:
        before = counted.statements
        await done(engine, deed)
        assert counted.statements == before + expected


async def test_looks_and_guards_use_indexes(engine: Engine) -> None:
    """With thousands of workflows a look still finds its two by unique indexes, and the read API the one of a name by another."""
    await samples.have_tenant(engine)
    many = """
        INSERT INTO keep_operator.workflow (id, tenant_id, external_name, deletion_policy, suspended, settings, checksum,
            owner_cluster, owner_namespace, owner_name, owner_uid)
        SELECT gen_random_uuid(), 'keep', 'w' || n, 'Delete', false, '{}', '', 'cluster-a', 'monitoring', 'w' || n, 'u' || n
        FROM generate_series(1, 5000) n
    """
    async with database.transaction(engine) as conn:
        await conn.execute(text(many))
        await conn.execute(text("ANALYZE keep_operator.workflow"))
        seen = await explained(conn, rows._OBSERVE, uid="u7", tenant="keep", name="w8")
        named = await explained(conn, past._LIVING, namespace="monitoring", name="w8")
    assert "workflow_owner_key" in seen
    assert "workflow_tenant_id_external_name_key" in seen
    assert "workflow_place_idx" in named
    assert f"Seq Scan on {WORKFLOW.name} " not in seen + named


async def explained(conn: Connection, statement: Prepared, **given: str) -> str:
    """How the database would go about a statement."""
    values = {**statement.values, "cluster": "cluster-a", **given}
    cursor = await conn.driver.execute(cast(Any, "EXPLAIN " + statement.text), values)
    return "\n".join(row[0] for row in await cursor.fetchall())
