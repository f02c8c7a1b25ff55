"""Tokens of machines are stored so that they can be compared, and not be read."""

import pytest
from sqlalchemy import text

from integration.store import samples
from integration.store.lineages import done, looked
from keep_operator.domain.tenant import Token
from keep_operator.errors import Conflict
from keep_operator.store import tenants, tokens
from keep_operator.store.engine import Engine

pytestmark = pytest.mark.integration

SECRET = "canary-of-a-token-0123456789"


async def test_a_token_fits_itself_alone(engine: Engine) -> None:
    """Neither the token nor a plain hash of it is in the database, and the same token never looks the same twice."""
    await samples.have_tenant(engine)
    one, two = tokens.hashed("a/b/c", SECRET), tokens.hashed("a/b/d", SECRET)
    await done(engine, lambda conn: tokens.put(conn, "keep", [one, two]))
    stored = await looked(engine, lambda conn: tokens.of_tenant(conn, "keep"))
    assert stored == [one, two]
    assert tokens.fits(stored[0], SECRET)
    assert not tokens.fits(stored[0], SECRET + "x")
    assert not tokens.fits(tokens.NOBODYS, SECRET)
    assert (one.salt, one.digest) != (two.salt, two.digest)
    (row,) = await looked(
        engine, lambda conn: conn.execute(text("SELECT string_agg(t::text, ' ') FROM keep_operator.ingest_token t"))
    )
    assert "canary" not in row[0]
    assert "canary" not in repr(stored)
    assert stored[0].digest.hex() not in repr(stored)


async def test_tokens_are_what_was_set_last(engine: Engine) -> None:
    """One that is not named any more is gone; one that stays is not written again. The ledger has their names only."""
    record = await samples.have_tenant(engine)
    assert record.owner is not None
    owner = record.owner
    first, second = tokens.hashed("a/b/c", SECRET), tokens.hashed("a/b/d", SECRET)

    async def put(*wanted: Token) -> None:
        await done(engine, lambda conn: tenants.set_tokens(conn, "keep", owner, wanted, actor=samples.ACTOR))

    await put(first)
    versions = text("SELECT name, xmin::text FROM keep_operator.ingest_token ORDER BY name")
    before = (await looked(engine, lambda conn: conn.execute(versions))).all()
    await put(first, second)
    assert (await looked(engine, lambda conn: conn.execute(versions))).all()[:1] == before
    await put(second)
    own, _ = await looked(engine, lambda conn: tenants.observe(conn, samples.CLUSTER, owner.uid, "keep"))
    assert own is not None
    assert own.tokens == (second,)
    entries = [each for each in await samples.entries(engine) if "ingestTokens" in each.details.get("fields", ())]
    assert [each.details["to"] for each in entries] == [["a/b/c"], ["a/b/c", "a/b/d"], ["a/b/d"]]
    assert second.digest.hex() not in str(entries)
    await put()
    assert await looked(engine, lambda conn: tokens.of_tenant(conn, "keep")) == []


async def test_only_its_owner_sets_a_tenants_tokens(engine: Engine) -> None:
    """A Tenant object that has lost the record writes nothing into it."""
    await samples.have_tenant(engine)
    stranger = samples.owner("other", namespace="")
    with pytest.raises(Conflict):
        await done(
            engine,
            lambda conn: tenants.set_tokens(
                conn, "keep", stranger, [tokens.hashed("a/b/c", SECRET)], actor=samples.ACTOR
            ),
        )
    assert await looked(engine, lambda conn: tokens.of_tenant(conn, "keep")) == []


async def test_tokens_go_with_their_tenant(engine: Engine) -> None:
    """A row that is removed takes no events."""
    record = await samples.have_tenant(engine)
    await done(engine, lambda conn: tokens.put(conn, "keep", [tokens.hashed("a/b/c", SECRET)]))
    await done(engine, lambda conn: tenants.delete(conn, "keep", record.owner, actor=samples.ACTOR))
    assert await looked(engine, lambda conn: tokens.of_tenant(conn, "keep")) == []


@pytest.mark.parametrize("token", ["a" * 16, "A9._~+/-" * 3 + "==", "x" * 4_096])
def test_what_can_be_a_token(token: str) -> None:
    """What an Authorization header can carry, and nobody finds by trying."""
    assert tokens.FORM.fullmatch(token)


@pytest.mark.parametrize(
    "token", ["", "a" * 15, "with a space in it", "ümlaut-ümlaut-ümlaut", "x" * 4_097, "a" * 20 + "\n"]
)
def test_what_can_be_none(token: str) -> None:
    """Short, or with characters that no header carries."""
    assert not tokens.FORM.fullmatch(token)
