"""What happens to a Tenant's row: one for each id, whatever its case; gone when nothing needs it any more."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from sqlalchemy import text

from integration.store import lineages, samples
from integration.store.lineages import looked
from keep_operator.domain.tenant import Record
from keep_operator.errors import Conflict
from keep_operator.store import engine as database
from keep_operator.store import tenants
from keep_operator.store.connection import Connection
from keep_operator.store.engine import Engine

pytestmark = pytest.mark.integration

KEEP = samples.TENANT_OWNER
OTHER = samples.owner("other", namespace="")


@pytest.fixture
async def record(engine: Engine) -> Record:
    """The record of Tenant keep."""
    return await samples.have_tenant(engine)


async def done(engine: Engine, work: Callable[[Connection], Awaitable[Any]]) -> Any:
    """Do it in a transaction of its own."""
    async with database.transaction(engine) as conn:
        return await work(conn)


async def found(engine: Engine, tenant_id: str = "keep") -> Record | None:
    """The record of the id."""
    async with database.look(engine) as conn:
        return await tenants.find(conn, tenant_id)


async def test_a_record_is_read_as_it_was_written(engine: Engine) -> None:
    """What stands in the spec is what stands in the database, in any script."""
    written = Record("team-a", "Équipe «A» 漢字 🚒", KEEP)
    await done(engine, lambda conn: tenants.insert(conn, written, actor=samples.ACTOR))
    assert await found(engine, "team-a") == written
    async with database.look(engine) as conn:
        assert await tenants.find_owned(conn, KEEP) == written
        assert await tenants.find_owned(conn, OTHER) is None


async def test_what_it_has_and_what_it_wants_are_seen_at_once(engine: Engine, record: Record) -> None:
    """One question tells apart: mine, somebody's, nobody's."""
    theirs = await samples.have_tenant(engine, "theirs", of=OTHER)

    async def seen(uid: str, tenant_id: str) -> tuple[Record | None, Record | None]:
        async with database.look(engine) as conn:
            return await tenants.observe(conn, samples.CLUSTER, uid, tenant_id)

    assert await seen("uid-keep", "keep") == (record, record)
    assert await seen("uid-keep", "theirs") == (record, theirs)
    assert await seen("uid-keep", "free") == (record, None)
    assert await seen("uid-new", "keep") == (None, record)


async def test_ids_that_differ_in_case_only_collide(engine: Engine) -> None:
    """A row `Keep` made by other hands is found for the id `keep`, and a second one cannot come beside it."""
    await samples.have_tenant(engine, "Keep", of=None)
    collision = await found(engine, "keep")
    assert collision is not None
    assert collision.id == "Keep"
    async with database.look(engine) as conn:
        assert (await tenants.observe(conn, samples.CLUSTER, "uid-keep", "kEEP"))[1] == collision
    with pytest.raises(Conflict):
        await samples.have_tenant(engine, "keep")
    assert await samples.actions(engine, "Tenant") == []


async def test_two_replicas_make_one_row(engine: Engine) -> None:
    """The default tenant is made by whoever is first; the others look again (A-TEN-4)."""
    ended = await asyncio.gather(*(samples.have_tenant(engine) for _ in range(8)), return_exceptions=True)
    assert sorted(type(each).__name__ for each in ended) == ["Conflict"] * 7 + ["Record"]
    assert await samples.actions(engine, "Tenant") == ["Created"]


async def test_a_new_display_name_is_written_once(engine: Engine, record: Record) -> None:
    """The same name again is no write and no entry (A-DR-2)."""
    for expected in (True, False, False):
        changed = await done(
            engine,
            lambda conn: tenants.update(
                conn, "keep", KEEP, display_name="Platform", deletion_policy="Orphan", actor=samples.ACTOR
            ),
        )
        assert changed is expected
    assert await found(engine) == samples.checked(dataclasses.replace(record, display_name="Platform"))
    assert await samples.actions(engine, "Tenant") == ["Created", "Updated"]


async def test_what_steps_may_reach_is_kept_with_the_row(engine: Engine, record: Record) -> None:
    """Written once, told in the ledger with what was before, read by runners, and gone again when nobody says it."""
    allowed = {"egress": {"allow": ["10.0.0.0/8", "hooks.example.com"]}}
    assert await looked(engine, lambda conn: tenants.egress(conn, "keep")) == ()
    for settings, reach in ((allowed, ("10.0.0.0/8", "hooks.example.com")), ({}, ())):
        for expected in (True, False):
            changed = await done(
                engine,
                partial(
                    tenants.update,
                    tenant_id="keep",
                    owner=KEEP,
                    display_name="Keep",
                    deletion_policy="Orphan",
                    settings=settings,
                    actor=samples.ACTOR,
                ),
            )
            assert changed is expected
        now = await found(engine)
        assert now is not None
        assert (now.settings, now.intact) == (settings, True)
        assert await looked(engine, lambda conn: tenants.egress(conn, "keep")) == reach
    assert await found(engine) == record
    changes = [each.details["egress"] for each in (await samples.entries(engine))[-2:]]
    assert changes == [{"from": None, "to": allowed["egress"]}, {"from": allowed["egress"], "to": None}]


@pytest.mark.parametrize(
    "text", ["[]", "7", '{"egress": 7}', '{"egress": {"allow": "all"}}', '{"egress": {"allow": [7]}}']
)
async def test_what_others_wrote_in_its_place_opens_nothing(engine: Engine, record: Record, text: str) -> None:
    """A row that no operator wrote like that allows nothing, and breaks no look."""
    await lineages.run(engine, f"UPDATE keep_operator.tenant SET settings = '{text}'")  # noqa: S608
    assert await looked(engine, lambda conn: tenants.egress(conn, "keep")) == ()
    now = await found(engine)
    assert now is not None
    assert not now.intact


async def test_a_restored_tenant_is_reattached(engine: Engine, record: Record) -> None:
    """After a restore the Tenant has a new uid and goes on with its row."""
    back = dataclasses.replace(KEEP, uid="uid-after-restore")
    await done(engine, lambda conn: tenants.hand_over(conn, "keep", KEEP, back, actor=samples.ACTOR))
    assert await found(engine) == dataclasses.replace(record, owner=back)
    assert await samples.actions(engine, "Tenant") == ["Created", "Reattached"]


async def test_a_tenant_of_another_name_takes_the_row_over(engine: Engine, record: Record) -> None:
    """A Tenant renamed in Git with the same tenantId: a hand-over."""
    await done(engine, lambda conn: tenants.hand_over(conn, "keep", KEEP, OTHER, actor=samples.ACTOR))
    assert await found(engine) == dataclasses.replace(record, owner=OTHER)
    assert await samples.actions(engine, "Tenant") == ["Created", "HandedOver"]


async def test_an_orphan_is_adopted_with_its_history(engine: Engine, record: Record) -> None:
    """`Orphan` leaves the row to nobody; who adopts it leaves a note of what was there before (A-AD-1)."""
    await done(engine, lambda conn: tenants.orphan(conn, "keep", KEEP, actor=samples.ACTOR))
    orphan = await found(engine)
    assert orphan == dataclasses.replace(record, owner=None)
    await done(
        engine,
        lambda conn: tenants.adopt(
            conn, orphan, OTHER, display_name="New", deletion_policy="Orphan", actor=samples.ACTOR
        ),
    )
    assert await found(engine) == samples.checked(Record("keep", "New", OTHER))
    entry = (await samples.entries(engine))[-1]
    assert entry.action == "Adopted"
    assert entry.details == {
        "id": "keep",
        "previous": {"displayName": "Keep", "deleteWhenEmpty": False},
        "from": None,
    }


async def test_a_deleted_tenant_without_providers_is_gone(engine: Engine, record: Record) -> None:
    """Nothing is left but the ledger."""
    assert await done(engine, lambda conn: tenants.delete(conn, "keep", KEEP, actor=samples.ACTOR)) is True
    assert await found(engine) is None
    assert await samples.actions(engine, "Tenant") == ["Created", "Deleted"]


async def test_a_deleted_tenant_with_providers_waits_for_them(engine: Engine, record: Record) -> None:
    """With confirmed deletion the Tenant goes first: its row serves the providers until the last has gone (A-GC-8)."""
    await samples.have_provider(engine)
    assert await done(engine, lambda conn: tenants.delete(conn, "keep", KEEP, actor=samples.ACTOR)) is False
    assert await found(engine) == dataclasses.replace(record, owner=None, delete_when_empty=True)
    entry = (await samples.entries(engine))[-1]
    assert (entry.action, entry.details) == ("Orphaned", {"id": "keep", "deleteWhenEmpty": True})


async def test_a_tenant_that_comes_back_keeps_its_row(engine: Engine, record: Record) -> None:
    """Deleted and applied again while a provider was still there: the row no longer goes with the last provider."""
    await samples.have_provider(engine)
    await done(engine, lambda conn: tenants.delete(conn, "keep", KEEP, actor=samples.ACTOR))
    waiting = await found(engine)
    assert waiting is not None
    await done(
        engine,
        lambda conn: tenants.adopt(
            conn, waiting, OTHER, display_name="Keep", deletion_policy="Orphan", actor=samples.ACTOR
        ),
    )
    assert await found(engine) == dataclasses.replace(record, owner=OTHER)
    assert (await samples.entries(engine))[-1].details["previous"]["deleteWhenEmpty"] is True


NOT_MINE: dict[str, Callable[[Connection, Record], Awaitable[Any]]] = {
    "update": lambda conn, _: tenants.update(
        conn, "keep", OTHER, display_name="x", deletion_policy="Orphan", actor="x"
    ),
    "hand_over": lambda conn, _: tenants.hand_over(conn, "keep", OTHER, KEEP, actor="x"),
    "adopt": lambda conn, record: tenants.adopt(
        conn, dataclasses.replace(record, owner=None), OTHER, display_name="x", deletion_policy="Orphan", actor="x"
    ),
    "orphan": lambda conn, _: tenants.orphan(conn, "keep", OTHER, actor="x"),
    "delete": lambda conn, _: tenants.delete(conn, "keep", OTHER, actor="x"),
    "delete one that is gone": lambda conn, _: tenants.delete(conn, "gone", KEEP, actor="x"),
}


@pytest.mark.parametrize("work", NOT_MINE.values(), ids=NOT_MINE)
async def test_nobody_touches_what_is_not_his(
    engine: Engine, record: Record, work: Callable[[Connection, Record], Awaitable[Any]]
) -> None:
    """A stale view is a Conflict and changes nothing."""
    with pytest.raises(Conflict):
        await done(engine, lambda conn: work(conn, record))
    assert await found(engine) == record
    assert await samples.actions(engine, "Tenant") == ["Created"]


BUDGETS: dict[str, tuple[int, Callable[[Connection, Record], Awaitable[Any]]]] = {
    "insert": (1, lambda conn, _: tenants.insert(conn, Record("new", "New", OTHER), actor="x")),
    "no change": (
        1,
        lambda conn, _: tenants.update(conn, "keep", KEEP, display_name="Keep", deletion_policy="Orphan", actor="x"),
    ),
    "update": (
        2,
        lambda conn, _: tenants.update(conn, "keep", KEEP, display_name="x", deletion_policy="Orphan", actor="x"),
    ),
    "hand_over": (1, lambda conn, _: tenants.hand_over(conn, "keep", KEEP, OTHER, actor="x")),
    "adopt": (
        1,
        lambda conn, record: tenants.adopt(conn, record, OTHER, display_name="x", deletion_policy="Orphan", actor="x"),
    ),
    "orphan": (1, lambda conn, _: tenants.orphan(conn, "keep", KEEP, actor="x")),
    "delete": (2, lambda conn, _: tenants.delete(conn, "keep", KEEP, actor="x")),
}


@pytest.mark.parametrize(("statements", "work"), BUDGETS.values(), ids=BUDGETS)
async def test_a_write_costs_at_most_two_statements(
    engine: Engine,
    record: Record,
    statements: int,
    work: Callable[[Connection, Record], Awaitable[Any]],
) -> None:
    """What a Tenant costs is agreed."""
    counted = database.queries(engine)
    before = (counted.statements, counted.transactions)
    await done(engine, lambda conn: work(conn, record))
    assert (counted.statements - before[0], counted.transactions - before[1]) == (statements, 1)


async def test_rows_know_when_they_were_made_and_changed(engine: Engine, record: Record) -> None:
    """Someone with psql sees since when a row is as it is."""
    times = text("SELECT created_at, updated_at, updated_at > created_at FROM keep_operator.tenant")
    async with database.look(engine) as conn:
        made, _, changed = (await conn.execute(times)).one()
    assert not changed
    assert made.utcoffset().total_seconds() == 0
    await done(
        engine, lambda conn: tenants.update(conn, "keep", KEEP, display_name="x", deletion_policy="Orphan", actor="x")
    )
    async with database.look(engine) as conn:
        still, _, changed = (await conn.execute(times)).one()
    assert changed
    assert still == made
