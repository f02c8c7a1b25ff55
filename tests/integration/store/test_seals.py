"""Whatever is changed in the ledger behind the operator's back, `keep-operator ledger verify` finds it."""

import asyncio
import json
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from click.testing import CliRunner, Result
from sqlalchemy import Connection, text

from integration.store import samples
from keep_operator.cli.ledger import group
from keep_operator.domain.chain import Breach
from keep_operator.errors import Conflict, Unavailable
from keep_operator.reconcile.database import Database
from keep_operator.resources.kinds import Key
from keep_operator.store import engine as database
from keep_operator.store import ledger, schema, seals
from keep_operator.store.engine import Engine

pytestmark = pytest.mark.integration

COLUMNS = {
    "at": "at + interval '1 microsecond'",
    "tenant_id": "'other'",
    "kind": "'Tenant'",
    "namespace": "'elsewhere'",
    "name": "'other'",
    "uid": "''",
    "action": "'Deleted'",
    "actor": "'nobody'",
    "details": '\'{"note":  "1"}\'',
}


async def append(engine: Engine, *notes: object, tenant_id: str = "keep") -> None:
    """Add an entry for each note, each in its own transaction."""
    for note in notes:
        async with database.transaction(engine) as conn:
            await add(conn, note, tenant_id)


async def add(conn: Any, note: object, tenant_id: str = "keep") -> int:
    """Add an entry."""
    key = Key("Provider", "monitoring", "vms")
    return await ledger.append(
        conn, tenant_id, key, "uid-vms", action="Noted", actor="ann", details={"note": str(note)}
    )


async def seal(engine: Engine, most: int = seals.BATCH) -> int:
    """Seal what waits."""
    async with database.transaction(engine) as conn:
        return await seals.seal(conn, most)


ENTRY, SEAL = "keep_operator.ledger", "keep_operator.ledger_seal"


def change(table: str, what: str, number: int) -> str:
    """An UPDATE of an entry or a seal, by the entry's number."""
    return f"UPDATE {table} SET {what} WHERE {'id' if table == ENTRY else 'ledger_id'} = {number}"  # noqa: S608


def remove(table: str, *numbers: int) -> str:
    """A DELETE of entries or seals, by the entries' numbers."""
    numbered = ", ".join(map(str, numbers))
    return f"DELETE FROM {table} WHERE {'id' if table == ENTRY else 'ledger_id'} IN ({numbered})"  # noqa: S608


async def tamper(engine: Engine, *statements: str) -> None:
    """What the owner of the tables can do: switch the triggers off, change, and switch them on again."""
    async with database.transaction(engine) as conn:
        for table in ("ledger", "ledger_seal"):
            await conn.execute(text(f"ALTER TABLE keep_operator.{table} DISABLE TRIGGER USER"))
        for statement in statements:
            assert (await conn.execute(text(statement))).rowcount
        for table in ("ledger", "ledger_seal"):
            await conn.execute(text(f"ALTER TABLE keep_operator.{table} ENABLE TRIGGER USER"))


async def found(engine: Engine, *noted: tuple[str, str]) -> tuple[Breach, int | None] | None:
    """The first fault of the tenant `keep`."""
    async with database.snapshot(engine) as conn:
        verification = await seals.verify(conn, None, noted)
    fault = verification.chains["keep"].fault
    assert verification.fine == (fault is None)
    return None if fault is None else (fault.breach, fault.position)


async def head(engine: Engine) -> str:
    """The head of the tenant `keep`."""
    async with database.snapshot(engine) as conn:
        return (await seals.verify(conn, "keep")).chains["keep"].head.hex()


@pytest.fixture
async def chain(engine: Engine) -> Engine:
    """A database with two tenants' entries, sealed: ids 1 to 4 of `keep`."""
    await append(engine, 1, 2, 3, 4)
    await append(engine, 5, tenant_id="team")
    assert await seal(engine) == 5
    assert await found(engine) is None
    return engine


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seals, "PAGE", 3)


@pytest.mark.parametrize("table", ["ledger", "ledger_seal"])
@pytest.mark.parametrize("deed", ["UPDATE {} SET tenant_id = 'x'", "DELETE FROM {}", "TRUNCATE {}"])
async def test_entries_and_seals_cannot_be_changed(chain: Engine, table: str, deed: str) -> None:
    """Nobody rewrites the past by an oversight."""
    with pytest.raises(Unavailable):
        async with database.transaction(chain) as conn:
            await conn.execute(text(deed.format(f"keep_operator.{table}")))
    assert await found(chain) is None


@pytest.mark.parametrize("column", COLUMNS)
async def test_a_changed_column_is_found(chain: Engine, column: str) -> None:
    """Whoever switches the triggers off and changes an entry is found, to the last space of the details."""
    await tamper(chain, change(ENTRY, f"{column} = {COLUMNS[column]}", 2))
    assert await found(chain) == (Breach.CHANGED, 2)


async def test_a_removed_row_is_found(chain: Engine) -> None:
    """The seal proves that there was an entry."""
    await tamper(chain, remove(ENTRY, 4))
    assert await found(chain) == (Breach.REMOVED, 4)


async def test_a_row_that_is_removed_before_its_seal_is_found(chain: Engine) -> None:
    """Not even within the moment before the sealing can an entry be made to vanish; the sealer goes on."""
    await append(chain, 6, 7)
    await tamper(chain, remove(ENTRY, 6))
    assert await seal(chain) == 1
    async with database.snapshot(chain) as conn:
        assert (await seals.verify(conn)).general == [(Breach.LOST, "6")]


@pytest.mark.parametrize(("number", "expected"), [(2, (Breach.GAP, 3)), (4, (Breach.UNSEALED, None))])
async def test_a_removed_seal_is_found(chain: Engine, number: int, expected: tuple[Breach, int | None]) -> None:
    """In the middle it leaves a gap, at the end an entry that nobody seals."""
    await tamper(chain, remove(SEAL, number))
    assert await found(chain) == expected


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("hash = sha256('x')", (Breach.SEAL_CHANGED, 2)),
        ("form = 2", (Breach.FORM_UNKNOWN, 2)),
        ("position = 9", (Breach.GAP, 3)),
        ("tenant_id = 'other'", (Breach.GAP, 3)),
        ("ledger_id = 9", (Breach.REMOVED, 2)),
    ],
)
async def test_a_changed_seal_is_found(chain: Engine, what: str, expected: tuple[Breach, int]) -> None:
    """Nor can the proof be changed."""
    await tamper(chain, change(SEAL, what, 2))
    assert await found(chain) == expected


async def test_a_forged_entry_with_a_forged_seal_is_found(chain: Engine) -> None:
    """An entry that was slipped in has a seal that does not follow from the one before."""
    await tamper(
        chain,
        "INSERT INTO keep_operator.ledger (tenant_id, kind, namespace, name, uid, action, actor, details) "
        "VALUES ('keep', 'Provider', 'x', 'x', '', 'Created', 'ann', '{}')",
        "INSERT INTO keep_operator.ledger_seal SELECT 6, 'keep', 5, 1, sha256('x')",
    )
    assert await found(chain) == (Breach.MISMATCH, 5)


async def test_a_trigger_that_is_off_is_found(chain: Engine) -> None:
    """Before anything is changed it is known that it could be."""
    async with database.transaction(chain) as conn:
        await conn.execute(text("ALTER TABLE keep_operator.ledger DISABLE TRIGGER ledger_append_only"))
    async with database.snapshot(chain) as conn:
        assert (await seals.verify(conn)).general == [(Breach.GUARD_OFF, "ledger_append_only")]


async def test_only_a_noted_head_finds_a_cut_end(chain: Engine) -> None:
    """Entries and seals of the end are gone together: what remains fits, and the head that was noted is not in it."""
    noted = ("keep", await head(chain))
    await append(chain, 6)
    await seal(chain)
    assert await found(chain, noted) is None
    await tamper(chain, remove(ENTRY, 4, 6), remove(SEAL, 4, 6))
    assert await found(chain) is None
    assert await found(chain, noted) == (Breach.HEAD_MISSING, None)


async def test_entries_of_late_commits_are_sealed(engine: Engine, database_url: str) -> None:
    """A transaction that ends after a later one has been sealed: its entry gets a later place, and none is lost."""
    async with await psycopg.AsyncConnection.connect(database_url) as slow:
        await slow.execute("BEGIN READ WRITE")
        await slow.execute(
            "INSERT INTO keep_operator.ledger (tenant_id, kind, namespace, name, uid, action, actor, details) "
            "VALUES ('keep', 'Provider', '', 'slow', '', 'Noted', 'ann', '{}')"
        )
        await append(engine, "quick")
        assert await seal(engine) == 1
        await slow.commit()
    assert await seal(engine) == 1
    async with database.look(engine) as conn:
        order = list(
            (await conn.execute(text("SELECT ledger_id FROM keep_operator.ledger_seal ORDER BY position"))).scalars()
        )
    assert order == [2, 1]
    assert await found(engine) is None


async def test_sealers_at_the_same_moment_do_not_fork_a_chain(engine: Engine) -> None:
    """A leader that does not know yet that it is deposed seals beside its successor: one chain, each entry once."""

    async def sealing() -> None:
        for _ in range(30):
            try:
                await seal(engine, most=4)
            except Conflict:
                await asyncio.sleep(0)

    await asyncio.gather(sealing(), sealing(), *(append(engine, *range(10)) for _ in range(4)))
    while await seal(engine):
        pass
    assert await found(engine) is None
    async with database.look(engine) as conn:
        positions = list(
            (await conn.execute(text("SELECT position FROM keep_operator.ledger_seal ORDER BY 1"))).scalars()
        )
    assert positions == list(range(1, 41))


async def test_entries_from_before_the_upgrade_are_sealed(empty_url: str) -> None:
    """What an older version wrote gets its seals from the first leader of this one."""
    engine = database.connect(empty_url, application_name="test", pool_size=2)
    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS).replace("%", "%%"))

    def until(conn: Connection, revision: str) -> None:
        config.attributes["connection"] = conn
        command.upgrade(config, revision)

    try:
        async with database.session(engine, database.BORROW_LIMIT) as conn:
            await conn.execute(text("CREATE SCHEMA keep_operator"))
            await conn.commit()
            await conn.run_sync(until, "0003")
        await append(engine, 1, 2, 3)
        assert (await schema.migrate(engine)).before == "0003"
        await append(engine, 4)
        assert [await seal(engine, most=3), await seal(engine), await seal(engine)] == [3, 1, 0]
        assert await found(engine) is None
    finally:
        await engine.dispose()


async def test_a_sealer_at_rest_takes_no_write_transaction(engine: Engine) -> None:
    """Where nothing is written, looking for entries to seal is a read."""
    leader = Database(engine, samples.CLUSTER)
    async with database.transaction(engine) as conn:
        await conn.execute(text("INSERT INTO keep_operator.installation (cluster_id) VALUES ('cluster-a')"))
    await leader.claim(1)
    await append(engine, 1)
    assert await leader.seal() == 1
    before = database.queries(engine).transactions
    assert await leader.seal() == 0
    assert database.queries(engine).transactions == before


@pytest.fixture
def run(chain: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `keep-operator ledger …` on the database."""
    monkeypatch.setenv("KEEP_OPERATOR_DATABASE_URL", database_url)

    async def running(*arguments: str) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, group, list(arguments))

    return running


async def test_verify_tells_what_a_person_needs(chain: Engine, run: Any) -> None:
    """Entries, heads and what waits; then the place of the first fault, with exit code 1."""
    noted = await head(chain)
    await append(chain, 6)
    fine = await run("verify", "--head", f"keep={noted}")
    assert fine.exit_code == 0, fine.output
    assert ["keep", "4", "1", noted, "fine"] in [line.split() for line in fine.output.splitlines()]
    assert "The ledger is fine." in fine.output
    await tamper(chain, change(ENTRY, "actor = 'bob'", 2))
    broken = await run("verify")
    assert broken.exit_code == 1
    assert f"BROKEN at position 2, entry 2: {Breach.CHANGED}" in broken.output
    assert (await run("verify", "--tenant", "team")).exit_code == 0


@pytest.mark.parametrize("wrong", [("--head", "keep"), ("--tenant", "team", "--head", f"keep={'0' * 64}")])
async def test_a_head_that_cannot_be_checked_is_refused(run: Any, wrong: tuple[str, ...]) -> None:
    """A slip of the hand is not taken for a proof."""
    assert (await run("verify", *wrong)).exit_code == 2


async def test_show_reads_the_newest_entries(run: Any) -> None:
    """The history of a tenant or an object without SQL."""
    told = await run("show", "--tenant", "keep", "--limit", "2", "-o", "json")
    assert [(each["id"], each["details"]["note"]) for each in json.loads(told.output)] == [("3", "3"), ("4", "4")]
    table = await run("show", "--object", "Provider/monitoring/vms")
    assert table.output.count("Provider/monitoring/vms") == 5
    assert "no such entry" in (await run("show", "--object", "Tenant/keep")).output
