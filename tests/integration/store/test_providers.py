"""What happens to a Provider's row: made once, renamed in place, handed on whole, and gone without a trace."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import text

from integration.store import samples
from keep_operator.domain.provider import Content, Record
from keep_operator.errors import Conflict, Waiting
from keep_operator.store import engine as database
from keep_operator.store import providers, tenants
from keep_operator.store.connection import Connection
from keep_operator.store.engine import Engine

pytestmark = pytest.mark.integration

VMS = samples.owner("vms")
VICTORIA = samples.owner("victoriametrics")

Work = Callable[[Connection], Awaitable[Any]]


@pytest.fixture
async def record(engine: Engine) -> Record:
    """The record of Provider monitoring/vms in tenant keep."""
    await samples.have_tenant(engine)
    return await samples.have_provider(engine)


async def done(engine: Engine, work: Work) -> Any:
    """Do it in a transaction of its own."""
    async with database.transaction(engine) as conn:
        return await work(conn)


async def rows(engine: Engine) -> int:
    """How many provider rows there are."""
    async with database.look(engine) as conn:
        return int(await conn.scalar(text("SELECT count(*) FROM keep_operator.provider")) or 0)


async def last_entry(engine: Engine) -> tuple[str, Any]:
    """The newest entry's action and details."""
    entry = (await samples.entries(engine))[-1]
    return entry.action, entry.details


async def test_a_record_is_read_as_it_was_written(engine: Engine) -> None:
    """What stands in the spec is what stands in the database."""
    await samples.have_tenant(engine)
    declared = samples.provider_record(
        holding=samples.content(
            {"url": "http://vms", "nested": {"list": [1, 2.5, None, True]}}, pulling_enabled=False, config_hash="h1"
        )
    )
    await samples.have_provider(engine, declared)
    assert await samples.own_record(engine, VMS) == declared


async def test_what_it_has_and_what_it_wants_are_seen_at_once(engine: Engine, record: Record) -> None:
    """One question tells apart: mine, somebody's, nobody's; and a tenant that is not known yet asks for its own only."""
    other = await samples.have_provider(engine, samples.provider_record("victoriametrics"))

    async def seen(uid: str, tenant_id: str | None, name: str | None) -> tuple[Record | None, Record | None]:
        async with database.look(engine) as conn:
            return await providers.observe(conn, samples.CLUSTER, uid, tenant_id, name)

    assert await seen("uid-vms", "keep", "vms") == (record, record)
    assert await seen("uid-vms", "keep", "victoriametrics") == (record, other)
    assert await seen("uid-vms", "keep", "free") == (record, None)
    assert await seen("uid-new", "keep", "vms") == (None, record)
    assert await seen("uid-new", "other", "vms") == (None, None)
    assert await seen("uid-vms", None, None) == (record, None)
    async with database.look(engine) as conn:
        assert await providers.observe(conn, "cluster-b", "uid-vms", "keep", "free") == (None, None)


async def test_an_orphan_is_nobodys(engine: Engine, record: Record) -> None:
    """`deletionPolicy: Orphan` leaves the row and clears the marker (A-GC-2)."""
    await done(engine, lambda conn: providers.orphan(conn, record.id, VMS, actor=samples.ACTOR))
    assert await samples.own_record(engine, VMS) is None
    assert await samples.holder(engine, "vms") == dataclasses.replace(record, owner=None)
    assert await samples.actions(engine) == ["Created", "Orphaned"]


async def test_nothing_changed_means_nothing_written(engine: Engine, record: Record) -> None:
    """At rest there is no UPDATE and no ledger entry, however often it is asked (A-DR-2)."""
    counted = database.queries(engine)
    config = {"b": 1, "a": {"d": 1.5, "c": None}}
    await done(
        engine,
        lambda conn: providers.update(
            conn, record.id, VMS, external_name="vms", content=samples.content(config), actor=samples.ACTOR
        ),
    )
    entries = await samples.entries(engine)
    statements = counted.statements
    reordered = samples.content({"a": {"c": None, "d": 1.5}, "b": 1})
    for _ in range(3):
        changed = await done(
            engine,
            lambda conn: providers.update(
                conn, record.id, VMS, external_name="vms", content=reordered, actor=samples.ACTOR
            ),
        )
        assert changed is False
    assert counted.statements == statements + 3  # one look under lock each
    assert await samples.entries(engine) == entries


async def test_a_change_names_the_fields_and_not_the_values(engine: Engine, record: Record) -> None:
    """The ledger tells what was changed without repeating what is in it."""
    declared = Content({"url": "http://new", "added": 1}, True, "hash-2")
    changed = await done(
        engine,
        lambda conn: providers.update(conn, record.id, VMS, external_name="vms", content=declared, actor="ann"),
    )
    assert changed is True
    assert await samples.own_record(engine, VMS) == samples.summed(dataclasses.replace(record, content=declared))
    entry = (await samples.entries(engine))[-1]
    assert (entry.action, entry.actor, entry.key.path, entry.uid) == ("Updated", "ann", "monitoring/vms", "uid-vms")
    assert entry.details == {
        "id": str(record.id),
        "fields": ["config.added", "config.url", "configHash", "pullingEnabled"],
    }


async def test_a_rotated_secret_is_a_change_of_the_hash_only(engine: Engine, record: Record) -> None:
    """A new password in the Secret shows in the ledger as what it is."""
    rotated = dataclasses.replace(record.content, config_hash="after-rotation")
    await done(
        engine,
        lambda conn: providers.update(conn, record.id, VMS, external_name="vms", content=rotated, actor=samples.ACTOR),
    )
    assert await last_entry(engine) == ("Updated", {"id": str(record.id), "fields": ["configHash"]})


async def test_an_unset_field_is_unmanaged(engine: Engine, record: Record) -> None:
    """`pullingEnabled` that is taken out of the spec keeps its value; it is never reset to a default (A-DR-3)."""

    async def declare(pulling_enabled: bool | None) -> Any:
        content = dataclasses.replace(record.content, pulling_enabled=pulling_enabled)
        return await done(
            engine,
            lambda conn: providers.update(
                conn, record.id, VMS, external_name="vms", content=content, actor=samples.ACTOR
            ),
        )

    assert await declare(False) is True
    assert await declare(None) is False
    own = await samples.own_record(engine, VMS)
    assert own is not None
    assert own.content.pulling_enabled is False


async def test_a_rename_keeps_the_id(engine: Engine, record: Record) -> None:
    """`externalName` changed in place: the same record under another name, the old name is free (A-GC-3)."""
    await done(
        engine,
        lambda conn: providers.update(
            conn, record.id, VMS, external_name="victoriametrics", content=record.content, actor=samples.ACTOR
        ),
    )
    renamed = await samples.own_record(engine, VMS)
    assert renamed == samples.summed(dataclasses.replace(record, external_name="victoriametrics"))
    assert await samples.holder(engine, "vms") is None
    assert await last_entry(engine) == ("Renamed", {"id": str(record.id), "from": "vms", "to": "victoriametrics"})


async def test_a_rename_with_a_change_is_two_entries_of_one_write(engine: Engine, record: Record) -> None:
    """Both facts are told, and neither without the other."""
    await done(
        engine,
        lambda conn: providers.update(
            conn, record.id, VMS, external_name="b", content=samples.content({}), actor=samples.ACTOR
        ),
    )
    assert await samples.actions(engine) == ["Created", "Renamed", "Updated"]


async def test_a_rename_to_a_taken_name_changes_nothing(engine: Engine, record: Record) -> None:
    """The row keeps its name, its content and its ledger when the new name is somebody else's."""
    await samples.have_provider(engine, samples.provider_record("taken"))
    before = await samples.entries(engine)
    with pytest.raises(Conflict) as caught:
        await done(
            engine,
            lambda conn: providers.update(
                conn, record.id, VMS, external_name="taken", content=samples.content({}), actor=samples.ACTOR
            ),
        )
    assert caught.value.reason == "ExternalNameConflict"
    assert await samples.own_record(engine, VMS) == record
    assert await samples.entries(engine) == before


async def test_a_handed_over_record_is_the_same_record(engine: Engine, record: Record) -> None:
    """Renamed in Git: the new object goes on with the old one's record, id and content kept (A-GC-3)."""
    await done(engine, lambda conn: providers.hand_over(conn, record.id, VMS, VICTORIA, actor=samples.ACTOR))
    assert await samples.own_record(engine, VMS) is None
    assert await samples.own_record(engine, VICTORIA) == dataclasses.replace(record, owner=VICTORIA)
    entry = (await samples.entries(engine))[-1]
    assert (entry.action, entry.key.path) == ("HandedOver", "monitoring/victoriametrics")
    assert entry.details["from"] == {
        "clusterId": samples.CLUSTER,
        "namespace": "monitoring",
        "name": "vms",
        "uid": "uid-vms",
    }
    assert entry.details["to"]["uid"] == "uid-victoriametrics"


async def test_an_object_that_came_back_is_reattached(engine: Engine, record: Record) -> None:
    """After a restore the object has a new uid: the same place, so no hand-over but a return (A-REV-8)."""
    back = samples.owner("vms", "uid-after-restore")
    await done(engine, lambda conn: providers.hand_over(conn, record.id, VMS, back, actor=samples.ACTOR))
    assert await samples.own_record(engine, back) == dataclasses.replace(record, owner=back)
    assert await samples.actions(engine) == ["Created", "Reattached"]


async def test_a_record_is_handed_over_once(engine: Engine, record: Record) -> None:
    """Two claimants reach for the record of a deleted owner at the same moment: one gets it, the other looks again."""
    claimants = [samples.owner(f"claimant-{number}") for number in range(8)]

    async def claim(number: int) -> None:
        await done(
            engine, lambda conn: providers.hand_over(conn, record.id, VMS, claimants[number], actor=samples.ACTOR)
        )

    ended = await asyncio.gather(*(claim(number) for number in range(8)), return_exceptions=True)
    assert sorted(type(each).__name__ for each in ended) == ["Conflict"] * 7 + ["NoneType"]
    assert await samples.actions(engine) == ["Created", "HandedOver"]
    assert await rows(engine) == 1


async def test_a_hand_over_that_breaks_off_leaves_the_old_owner(engine: Engine, record: Record) -> None:
    """The operator dies between the write and the commit: the record has one owner, the old one."""

    async def break_off() -> None:
        async with database.transaction(engine) as conn:
            await providers.hand_over(conn, record.id, VMS, VICTORIA, actor=samples.ACTOR)
            raise ConnectionError

    with pytest.raises(ConnectionError):
        await break_off()
    assert await samples.own_record(engine, VMS) == record
    assert await samples.own_record(engine, VICTORIA) is None
    assert await samples.actions(engine) == ["Created"]


async def test_a_claimant_with_a_record_of_its_own_gets_no_second(engine: Engine, record: Record) -> None:
    """One object, one record."""
    await samples.have_provider(engine, samples.provider_record("victoriametrics"))
    with pytest.raises(Conflict):
        await done(engine, lambda conn: providers.hand_over(conn, record.id, VMS, VICTORIA, actor=samples.ACTOR))
    assert await samples.own_record(engine, VMS) == record


async def test_an_adopted_record_can_be_put_back(engine: Engine, record: Record) -> None:
    """Adoption keeps the id and notes what was there before, to the last digit (A-AD-1, A-AD-2)."""
    previous = Content({"number": 1e23, "whole": 10**30, "text": "Grüße\u2028"}, True, "old")
    await done(
        engine,
        lambda conn: providers.update(conn, record.id, VMS, external_name="vms", content=previous, actor="x"),
    )
    await done(engine, lambda conn: providers.orphan(conn, record.id, VMS, actor="x"))
    leftover = await samples.holder(engine, "vms")
    assert leftover is not None
    declared = Content({"url": "http://mine"}, None, "new")
    await done(engine, lambda conn: providers.adopt(conn, leftover, VICTORIA, declared, actor="x"))

    adopted = await samples.own_record(engine, VICTORIA)
    assert adopted is not None
    assert adopted.intact
    assert dataclasses.replace(adopted, checksum=None) == dataclasses.replace(
        leftover, owner=VICTORIA, content=dataclasses.replace(declared, pulling_enabled=True), checksum=None
    )
    action, details = await last_entry(engine)
    assert action == "Adopted"
    assert details == {
        "id": str(record.id),
        "previous": {
            "type": record.type,
            "externalName": "vms",
            "config": previous.config,
            "pullingEnabled": True,
            "configHash": "old",
            "deletionPolicy": "Delete",
        },
        "from": None,
    }
    assert isinstance(details["previous"]["config"]["number"], float)


async def test_a_forced_adoption_names_whom_it_was_taken_from(engine: Engine) -> None:
    """`Force` takes a record from another cluster; the ledger knows from which."""
    await samples.have_tenant(engine)
    foreign = samples.owner("vms", "uid-there", cluster="cluster-b")
    theirs = await samples.have_provider(engine, samples.provider_record(of=foreign))
    await done(engine, lambda conn: providers.adopt(conn, theirs, VMS, samples.content(), actor=samples.ACTOR))
    assert (await samples.own_record(engine, VMS) or theirs).id == theirs.id
    _, details = await last_entry(engine)
    assert details["from"] == {
        "clusterId": "cluster-b",
        "namespace": "monitoring",
        "name": "vms",
        "uid": "uid-there",
    }


async def test_a_deleted_provider_leaves_nothing_but_its_history(engine: Engine, record: Record) -> None:
    """The row is gone, the ledger remains."""
    await done(engine, lambda conn: providers.delete(conn, record.id, VMS, actor=samples.ACTOR))
    assert await rows(engine) == 0
    assert await last_entry(engine) == ("Deleted", {"id": str(record.id), "externalName": "vms"})
    async with database.look(engine) as conn:
        assert await tenants.find(conn, "keep") is not None


STRANGER = samples.owner("stranger")
NOT_MINE: dict[str, Callable[[Connection, Record], Awaitable[Any]]] = {
    "update": lambda conn, record: providers.update(
        conn, record.id, STRANGER, external_name="x", content=samples.content({}), actor="x"
    ),
    "hand_over": lambda conn, record: providers.hand_over(conn, record.id, STRANGER, VICTORIA, actor="x"),
    "adopt": lambda conn, record: providers.adopt(
        conn, dataclasses.replace(record, owner=None), STRANGER, samples.content({}), actor="x"
    ),
    "orphan": lambda conn, record: providers.orphan(conn, record.id, STRANGER, actor="x"),
    "delete": lambda conn, record: providers.delete(conn, record.id, STRANGER, actor="x"),
    "delete for another cluster": lambda conn, record: providers.delete(
        conn, record.id, dataclasses.replace(VMS, cluster_id="cluster-b"), actor="x"
    ),
    "delete with an old uid": lambda conn, record: providers.delete(
        conn, record.id, dataclasses.replace(VMS, uid="uid-before-restore"), actor="x"
    ),
    "delete another record": lambda conn, _: providers.delete(conn, providers.new_id(), VMS, actor="x"),
}


@pytest.mark.parametrize("work", NOT_MINE.values(), ids=NOT_MINE)
async def test_nobody_touches_what_is_not_his(
    engine: Engine, record: Record, work: Callable[[Connection, Record], Awaitable[Any]]
) -> None:
    """Only rows with our marker are ever changed or deleted (A-GC-1); a stale view is a Conflict and changes nothing."""
    with pytest.raises(Conflict):
        await done(engine, lambda conn: work(conn, record))
    assert await samples.own_record(engine, VMS) == record
    assert await samples.actions(engine) == ["Created"]


async def test_twenty_at_once_make_one_row(engine: Engine) -> None:
    """Twenty objects want one name on an empty database: one row, one entry, nineteen that look again."""
    await samples.have_tenant(engine)

    async def want(number: int) -> None:
        await samples.have_provider(engine, samples.provider_record(of=samples.owner(f"object-{number}")))

    ended = await asyncio.gather(*(want(number) for number in range(20)), return_exceptions=True)
    assert sorted(type(each).__name__ for each in ended) == ["Conflict"] * 19 + ["NoneType"]
    assert await rows(engine) == 1
    assert await samples.actions(engine) == ["Created"]


async def test_the_last_provider_takes_a_waiting_tenant_along(engine: Engine) -> None:
    """The Tenant was deleted first: its row stays for its providers and goes with the last of them (A-GC-8)."""
    await samples.have_tenant(engine)
    records = [await samples.have_provider(engine, samples.provider_record(f"p{number}")) for number in range(10)]
    await done(engine, lambda conn: tenants.delete(conn, "keep", samples.TENANT_OWNER, actor=samples.ACTOR))

    async def remove(record: Record) -> None:
        assert record.owner is not None
        owner = record.owner
        await done(engine, lambda conn: providers.delete(conn, record.id, owner, actor=samples.ACTOR))

    await asyncio.gather(*(remove(record) for record in records))
    async with database.look(engine) as conn:
        assert await tenants.find(conn, "keep") is None
    assert await samples.actions(engine, "Tenant") == ["Created", "Orphaned", "Deleted"]


@pytest.mark.parametrize("round_", range(10))
async def test_a_tenant_and_its_last_provider_go_at_the_same_moment(engine: Engine, round_: int) -> None:
    """Whoever comes second takes the row along: no tenant row is left behind for ever."""
    record = await _tenant_with_provider(engine)
    await asyncio.gather(
        done(engine, lambda conn: tenants.delete(conn, "keep", samples.TENANT_OWNER, actor="x")),
        done(engine, lambda conn: providers.delete(conn, record.id, VMS, actor="x")),
    )
    async with database.look(engine) as conn:
        assert await tenants.find(conn, "keep") is None
    assert (await samples.actions(engine, "Tenant"))[-1] == "Deleted"
    assert await rows(engine) == 0


@pytest.mark.parametrize("round_", range(10))
async def test_a_provider_arrives_while_its_tenant_goes(engine: Engine, round_: int) -> None:
    """Either the row is in time and keeps the tenant, or it waits for the tenant; never a row without a tenant."""
    await samples.have_tenant(engine)
    _, arrived = await asyncio.gather(
        done(engine, lambda conn: tenants.delete(conn, "keep", samples.TENANT_OWNER, actor="x")),
        samples.have_provider(engine),
        return_exceptions=True,
    )
    async with database.look(engine) as conn:
        tenant = await tenants.find(conn, "keep")
    if isinstance(arrived, Record):
        assert tenant is not None
        assert tenant.delete_when_empty
    else:
        assert isinstance(arrived, Waiting)
        assert tenant is None


async def _tenant_with_provider(engine: Engine) -> Record:
    await samples.have_tenant(engine)
    return await samples.have_provider(engine)


BUDGETS: dict[str, tuple[int, Callable[[Connection, Record], Awaitable[Any]]]] = {
    "insert": (1, lambda conn, _: providers.insert(conn, samples.provider_record("new"), actor="x")),
    "no change": (
        1,
        lambda conn, record: providers.update(
            conn, record.id, VMS, external_name="vms", content=record.content, actor="x"
        ),
    ),
    "update": (
        2,
        lambda conn, record: providers.update(
            conn, record.id, VMS, external_name="new", content=samples.content({}), actor="x"
        ),
    ),
    "hand_over": (1, lambda conn, record: providers.hand_over(conn, record.id, VMS, VICTORIA, actor="x")),
    "orphan": (1, lambda conn, record: providers.orphan(conn, record.id, VMS, actor="x")),
    "delete": (1, lambda conn, record: providers.delete(conn, record.id, VMS, actor="x")),
    "adopt": (1, lambda conn, record: providers.adopt(conn, record, VICTORIA, record.content, actor="x")),
}


@pytest.mark.parametrize(("statements", "work"), BUDGETS.values(), ids=BUDGETS)
async def test_a_write_costs_at_most_two_statements(
    engine: Engine,
    record: Record,
    statements: int,
    work: Callable[[Connection, Record], Awaitable[Any]],
) -> None:
    """Thousands of Providers are applied at once: what one costs is agreed."""
    counted = database.queries(engine)
    before = (counted.statements, counted.transactions)
    await done(engine, lambda conn: work(conn, record))
    assert (counted.statements - before[0], counted.transactions - before[1]) == (statements, 1)


async def test_a_look_costs_one_statement(engine: Engine, record: Record) -> None:
    """At rest the operator does nothing but look."""
    counted = database.queries(engine)
    before = (counted.statements, counted.transactions)
    async with database.look(engine) as conn:
        await providers.observe(conn, samples.CLUSTER, "uid-vms", "keep", "vms")
    assert (counted.statements - before[0], counted.transactions - before[1]) == (1, 0)


async def test_a_look_among_many_reads_by_index(engine: Engine) -> None:
    """With 20,000 rows a look still touches a handful of pages: neither of its two questions scans the table."""
    await samples.have_tenant(engine)
    async with database.transaction(engine) as conn:
        await conn.execute(
            text(
                "INSERT INTO keep_operator.provider (id, tenant_id, type, external_name, config, config_hash, "
                "owner_cluster, owner_namespace, owner_name, owner_uid) "
                "SELECT gen_random_uuid(), 'keep', 't', 'n' || i, '{}', 'h', :cluster, 'ns', 'n' || i, 'u' || i "
                "FROM generate_series(1, 20000) AS i"
            ),
            {"cluster": samples.CLUSTER},
        )
        await conn.execute(text("ANALYZE keep_operator.provider"))
    async with database.look(engine) as conn:
        for _ in range(12):  # past the number after which the server may keep a generic plan
            own, holder = await providers.observe(conn, samples.CLUSTER, "u7", "keep", "n8")
        assert own is not None
        assert holder is not None
        assert (own.external_name, holder.external_name) == ("n7", "n8")
    async with database.transaction(engine) as conn:
        await conn.execute(text("SELECT pg_stat_force_next_flush()"))
    async with database.look(engine) as conn:
        used = text("SELECT seq_tup_read, idx_scan FROM pg_stat_user_tables WHERE relname = 'provider'")
        read, scans = (await conn.execute(used)).one()
    assert read < 20_000 * 2  # ANALYZE and what the insert's foreign key needs, but not a scan for each look
    assert scans >= 12
