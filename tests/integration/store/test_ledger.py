"""The ledger only grows, tells who did what, and is read page by page."""

import asyncio

import psycopg
import pytest
from sqlalchemy import text

from integration.store import samples
from keep_operator.errors import Unavailable
from keep_operator.resources.kinds import Key
from keep_operator.store import engine as database
from keep_operator.store import ledger, providers
from keep_operator.store.engine import Engine

pytestmark = pytest.mark.integration

KEY = Key("Provider", "monitoring", "vms")


async def append(engine: Engine, tenant_id: str = "keep", note: str = "") -> int:
    """Add an entry."""
    async with database.transaction(engine) as conn:
        return await ledger.append(
            conn, tenant_id, KEY, "uid-vms", action="Noted", actor="ann@example.com", details={"note": note}
        )


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE keep_operator.ledger SET actor = 'nobody'",
        "UPDATE keep_operator.ledger SET actor = 'nobody' WHERE false",
        "DELETE FROM keep_operator.ledger",
        "TRUNCATE keep_operator.ledger",
    ],
)
async def test_history_cannot_be_changed(engine: Engine, statement: str) -> None:
    """Not even the database's administrator changes it by an oversight; psql says why."""
    await append(engine)
    before = await samples.entries(engine)
    with pytest.raises(Unavailable):
        async with database.transaction(engine) as conn:
            await conn.execute(text(statement))
    told = "no message"
    async with database.transaction(engine) as conn:
        await conn.execute(text("SAVEPOINT attempt"))
        try:
            await conn.driver.execute(text(statement).text)
        except psycopg.Error as refusal:
            told = str(refusal)
        await conn.execute(text("ROLLBACK TO attempt"))
    assert "keep_operator.ledger only grows" in told
    assert await samples.entries(engine) == before


async def test_a_change_that_is_rolled_back_is_not_in_the_history(engine: Engine) -> None:
    """The entry comes with its row or not at all."""
    await samples.have_tenant(engine)
    before = await samples.entries(engine)

    async def break_off() -> None:
        async with database.transaction(engine) as conn:
            await providers.insert(conn, samples.provider_record(), actor=samples.ACTOR)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await break_off()
    assert await samples.entries(engine) == before


async def test_an_entry_says_who_did_what_to_what_and_when(engine: Engine) -> None:
    """The audit log answers its questions without a second look, and in UTC."""
    number = await append(engine, note="Grüße\u0001\n")
    (entry,) = await samples.entries(engine)
    assert (entry.id, entry.tenant_id, entry.key, entry.uid) == (number, "keep", KEY, "uid-vms")
    assert (entry.action, entry.actor, entry.details) == ("Noted", "ann@example.com", {"note": "Grüße\u0001\n"})
    offset = entry.at.utcoffset()
    assert offset is not None
    assert offset.total_seconds() == 0


async def test_entries_of_one_transaction_keep_their_order(engine: Engine) -> None:
    """Two deeds of one transaction have two times."""
    async with database.transaction(engine) as conn:
        for note in ("first", "second"):
            await ledger.append(conn, "keep", KEY, "", action="Noted", actor="x", details={"note": note})
    first, second = await samples.entries(engine)
    assert [first.details["note"], second.details["note"]] == ["first", "second"]
    assert first.at < second.at
    assert first.id < second.id


async def test_the_history_is_read_in_pages(engine: Engine) -> None:
    """However long it is, a page costs one small query, and nothing is skipped or told twice."""
    await asyncio.gather(*(append(engine, note=str(number)) for number in range(25)))
    await append(engine, tenant_id="other")
    told: list[str] = []
    after = 0
    while True:
        async with database.look(engine) as conn:
            page = await ledger.entries(conn, "keep", after=after, limit=10)
        if not page:
            break
        told += [entry.details["note"] for entry in page]
        after = page[-1].id
    assert sorted(told, key=int) == [str(number) for number in range(25)]
