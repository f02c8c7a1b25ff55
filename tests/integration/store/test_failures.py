"""What each failure of the database means to the one who waits for his Provider; every one provoked for real."""

import asyncio
import hashlib
import logging
import traceback
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from sqlalchemy import text

import databases
from integration.store import samples
from integration.store.proxy import Talk, answering, login, proxied, refusal, serving
from keep_operator.errors import Conflict, KeepOperatorError, Refused, Unavailable, Waiting
from keep_operator.store import engine as database
from keep_operator.store import providers, schema
from keep_operator.store.engine import Engine

pytestmark = pytest.mark.integration

CANARY = "canary-53cr3t"


async def failing(engine: Engine, *statements: str) -> KeepOperatorError:
    """The error that a transaction of these statements ends with."""

    async def run() -> None:
        async with database.transaction(engine) as conn:
            for statement in statements:
                await conn.execute(text(statement))

    with pytest.raises(KeepOperatorError) as caught:
        await run()
    return caught.value


def assert_silent(error: BaseException) -> None:
    """Neither the error nor the traceback that a log would print tells SQL, a value or a password."""
    printed = "".join(traceback.format_exception(error))
    for word in ("SELECT", "INSERT", "select ", "insert ", CANARY):
        assert word not in str(error)
    assert CANARY not in printed
    assert "[SQL" not in printed
    assert "psycopg.errors" not in printed


async def test_a_provider_without_a_tenant_row_waits(engine: Engine) -> None:
    """The tenant's row went away between check and insert: the Provider waits for its Tenant (A-DEP-5)."""
    with pytest.raises(Waiting) as caught:
        await samples.have_provider(engine, samples.provider_record(CANARY))
    assert caught.value.reason == "TenantNotReady"
    assert_silent(caught.value)
    assert await samples.holder(engine, CANARY) is None
    assert await samples.entries(engine) == []


async def test_a_name_that_is_taken_is_read_again(engine: Engine) -> None:
    """Two Providers want one name at the same moment: the later one looks again and finds the first."""
    await samples.have_tenant(engine)
    await samples.have_provider(engine)
    with pytest.raises(Conflict) as caught:
        await samples.have_provider(engine, samples.provider_record(of=samples.owner("other")))
    assert caught.value.reason == "ExternalNameConflict"
    assert_silent(caught.value)


async def test_an_owner_has_one_record(engine: Engine) -> None:
    """Two workers, or two replicas, insert for one object: the later one looks again."""
    await samples.have_tenant(engine)
    await samples.have_provider(engine)
    with pytest.raises(Conflict):
        await samples.have_provider(engine, samples.provider_record("second", of=samples.owner("vms")))
    assert await samples.holder(engine, "second") is None


async def test_a_tenant_in_use_cannot_be_deleted_by_hand(engine: Engine) -> None:
    """The foreign key keeps a tenant's row as long as providers point to it; nobody is told to wait for a Tenant."""
    await samples.have_tenant(engine)
    await samples.have_provider(engine)
    error = await failing(engine, "DELETE FROM keep_operator.tenant")
    assert isinstance(error, Conflict)
    assert_silent(error)


async def test_a_lost_update_is_read_again(engine: Engine) -> None:
    """A transaction that saw an older state than the newest must begin anew (40001)."""
    await samples.have_tenant(engine)
    change = text("UPDATE keep_operator.tenant SET display_name = display_name || '!'")

    async def change_what_was_changed() -> None:
        async with database.transaction(engine) as first:
            await first.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            await first.execute(text("SELECT 1 FROM keep_operator.tenant"))
            async with database.transaction(engine) as second:
                await second.execute(change)
            await first.execute(change)

    with pytest.raises(Conflict) as caught:
        await change_what_was_changed()
    assert_silent(caught.value)


async def test_of_two_that_wait_for_each_other_one_begins_anew(engine: Engine) -> None:
    """A deadlock ends by itself; the victim reads again (40P01)."""
    await samples.have_tenant(engine, "a", of=None)
    await samples.have_tenant(engine, "b", of=None)
    ready = asyncio.Barrier(2)

    async def lock(first: str, second: str) -> None:
        async with database.transaction(engine) as conn:
            for step, tenant_id in enumerate((first, second)):
                if step:
                    await ready.wait()
                await conn.execute(
                    text("UPDATE keep_operator.tenant SET display_name = 'x' WHERE id = :id"), {"id": tenant_id}
                )

    ended = await asyncio.gather(lock("a", "b"), lock("b", "a"), return_exceptions=True)
    victims = [each for each in ended if each is not None]
    assert [type(each) for each in victims] == [Conflict]


async def test_a_row_that_somebody_holds_is_tried_later(engine: Engine) -> None:
    """Someone left a transaction open in psql: the Provider shows DatabaseUnavailable, its worker goes on (55P03)."""
    await samples.have_tenant(engine)
    async with database.transaction(engine) as holder:
        await holder.execute(text("SELECT 1 FROM keep_operator.tenant FOR UPDATE"))
        error = await failing(
            engine, "SET LOCAL lock_timeout = '50ms'", "UPDATE keep_operator.tenant SET display_name = 'x'"
        )
    assert isinstance(error, Unavailable)
    assert error.reason == "DatabaseUnavailable"


UNAVAILABLE = {
    "statement timeout": ("SET LOCAL statement_timeout = '20ms'", "SELECT pg_sleep(5)"),
    "session ended by the administrator": ("SELECT pg_terminate_backend(pg_backend_pid())",),
    "out of memory": ("DO $$ BEGIN RAISE EXCEPTION 'canary-53cr3t' USING ERRCODE = '53200'; END $$",),
    "disk full": ("DO $$ BEGIN RAISE EXCEPTION 'canary-53cr3t' USING ERRCODE = '53100'; END $$",),
    "crash of a neighbour": ("DO $$ BEGIN RAISE EXCEPTION 'canary-53cr3t' USING ERRCODE = '57P02'; END $$",),
    "file trouble": ("DO $$ BEGIN RAISE EXCEPTION 'canary-53cr3t' USING ERRCODE = '58030'; END $$",),
}


@pytest.mark.parametrize("statements", UNAVAILABLE.values(), ids=UNAVAILABLE)
async def test_trouble_of_the_server_is_waited_out(engine: Engine, statements: tuple[str, ...]) -> None:
    """What only the database can mend shows as DatabaseUnavailable, and the next attempt may succeed."""
    error = await failing(engine, *statements)
    assert isinstance(error, Unavailable)
    assert error.reason == "DatabaseUnavailable"
    assert_silent(error)
    async with database.look(engine) as conn:
        assert await conn.scalar(text("SELECT 1")) == 1


async def test_a_session_that_slept_in_a_transaction_is_ended(engine: Engine) -> None:
    """A worker that was stopped in the middle holds its locks for a limited time only (25P03)."""

    async def sleep_in_a_transaction() -> None:
        async with database.transaction(engine) as conn:
            pid = await conn.scalar(text("SELECT pg_backend_pid()"))
            await conn.execute(text("SET LOCAL idle_in_transaction_session_timeout = '20ms'"))
            async with database.look(engine) as other:
                gone = text("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = :pid)")
                await samples.until(lambda: other.scalar(gone, {"pid": pid}))
            await conn.execute(text("SELECT 1"))

    with pytest.raises(Unavailable) as caught:
        await sleep_in_a_transaction()
    assert caught.value.reason == "DatabaseUnavailable"


REFUSED = {
    "NUL in a name": (samples.provider_record(f"{CANARY}\0"), "SpecRefused"),
    "half a surrogate in a name": (samples.provider_record(f"{CANARY}\ud800"), "SpecRefused"),
    "NUL in the config": (samples.provider_record(holding=samples.content({CANARY: "\0"})), "SpecRefused"),
    "half a surrogate in the config": (samples.provider_record(holding=samples.content({CANARY: "\udfff"})), None),
    "not a number": (samples.provider_record(holding=samples.content({CANARY: float("nan")})), "SpecRefused"),
    "infinity": (samples.provider_record(holding=samples.content({CANARY: [float("inf")]})), "SpecRefused"),
    "an endless number": (samples.provider_record(holding=samples.content({CANARY: 10**5000})), "SpecRefused"),
    "not JSON": (samples.provider_record(holding=samples.content({CANARY: {1, 2}})), "SpecRefused"),
    "a very long name": (samples.provider_record(CANARY + hashlib.shake_256().hexdigest(5_000)), "SpecRefused"),
}


@pytest.mark.parametrize(("record", "reason"), REFUSED.values(), ids=REFUSED)
async def test_what_cannot_be_stored_is_refused(engine: Engine, record: Any, reason: str | None) -> None:
    """Hostile content ends in a clear refusal, not in retries for ever, and leaves no row."""
    await samples.have_tenant(engine)
    with pytest.raises(Refused) as caught:
        await samples.have_provider(engine, record)
    assert caught.value.reason == reason or reason is None
    assert_silent(caught.value)
    async with database.look(engine) as conn:
        assert await conn.scalar(text("SELECT count(*) FROM keep_operator.provider")) == 0


DATA_FAULTS = {
    "a config that is no object": "UPDATE keep_operator.provider SET config = '[]'",
    "a config with NUL": """UPDATE keep_operator.provider SET config = '{"a": "\\u0000"}'""",
    "a number beyond numeric": "SELECT '1e200000'::numeric",
    "division by zero": "SELECT 1 / 0",
    "half an owner": "UPDATE keep_operator.provider SET owner_uid = NULL",
    "too deep for the server": "SELECT repeat('[', 100000)::jsonb",
}


@pytest.mark.parametrize("statement", DATA_FAULTS.values(), ids=DATA_FAULTS)
async def test_the_database_itself_refuses_what_must_not_be(engine: Engine, statement: str) -> None:
    """Whoever writes a row, it has the form that all readers rely on."""
    await samples.have_tenant(engine)
    await samples.have_provider(engine)
    with pytest.raises(Refused) as caught:
        async with database.transaction(engine) as conn:
            await conn.execute(text(statement.replace(":", r"\:")))
    assert_silent(caught.value)


async def test_a_missing_schema_has_a_reason_of_its_own(empty_url: str) -> None:
    """Before the migrations have run everybody is told to run them."""
    engine = database.connect(empty_url, application_name="test")
    try:
        with pytest.raises(Unavailable) as caught:
            await samples.holder(engine, "vms")
        assert caught.value.reason == "SchemaMissing"
        error = await failing(engine, "CREATE TABLE keep_operator.x ()")
        assert error.reason == "SchemaMissing"
    finally:
        await engine.dispose()


async def test_a_missing_privilege_names_the_remedy(engine: Engine) -> None:
    """A role without rights keeps trying, since granting them heals it."""
    error = await failing(
        engine, "REVOKE ALL ON keep_operator.tenant FROM CURRENT_USER", "SELECT id FROM keep_operator.tenant"
    )
    assert isinstance(error, Unavailable)
    assert "grant" in error.message


UNEXPECTED = {
    "a syntax error": "SELEKT 'canary-53cr3t'",
    "an unknown column": 'SELECT "canary-53cr3t" FROM keep_operator.tenant',
    "a value of no known enum": "DO $$ BEGIN RAISE EXCEPTION 'canary-53cr3t'; END $$",
    "a null where none may be": "INSERT INTO keep_operator.tenant (id) VALUES ('canary-53cr3t')",
}


@pytest.mark.parametrize("statement", UNEXPECTED.values(), ids=UNEXPECTED)
async def test_the_unexpected_is_named_without_being_repeated(engine: Engine, statement: str) -> None:
    """A fault of ours is retried with back-off; the message has the SQLSTATE to search for, and nothing to hide."""
    error = await failing(engine, statement)
    assert isinstance(error, Unavailable)
    assert error.reason == "SyncFailed"
    assert "SQLSTATE" in error.message
    assert_silent(error)


async def test_a_bug_of_ours_stays_a_bug(engine: Engine) -> None:
    """What is no failure of the database is not dressed up as one."""
    with pytest.raises(ZeroDivisionError):
        async with database.transaction(engine):
            raise ZeroDivisionError
    with pytest.raises(Refused, match="mine"):
        async with database.transaction(engine):
            raise Refused("Mine", "mine")


AT_THE_DOOR: dict[str, tuple[Talk, type[KeepOperatorError], str, str]] = {
    "wrong password": (
        answering(refusal("28P01", 'password authentication failed for user "x"')),
        Unavailable,
        "DatabaseUnavailable",
        "check user, password",
    ),
    "starting": (
        answering(refusal("57P03", "the database system is starting up")),
        Unavailable,
        "DatabaseUnavailable",
        "starting",
    ),
    "full": (
        answering(refusal("53300", "sorry, too many clients already")),
        Unavailable,
        "DatabaseUnavailable",
        "out of resources",
    ),
    "another language": (
        answering(refusal("57P03", "das Datenbanksystem startet")),
        Unavailable,
        "DatabaseUnavailable",
        "lost",
    ),
    "too old": (
        answering(login(server_version="13.22", server_encoding="UTF8", client_encoding="UTF8")),
        Refused,
        "DatabaseUnsupported",
        "PostgreSQL 14 or newer; this server reports 13.22",
    ),
    "CockroachDB": (
        answering(login(server_version="15.0", crdb_version="CockroachDB v25", server_encoding="UTF8")),
        Refused,
        "DatabaseUnsupported",
        "must be PostgreSQL",
    ),
    "a standby": (
        answering(login(server_version="18.1", in_hot_standby="on", default_transaction_read_only="off")),
        Unavailable,
        "DatabaseUnavailable",
        "primary",
    ),
    "MySQL": (
        answering(b"\x4a\x00\x00\x00\x0a8.0.36\x00" + bytes(60)),
        Refused,
        "DatabaseUnsupported",
        "not PostgreSQL",
    ),
    "a web server": (
        answering(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"),
        Refused,
        "DatabaseUnsupported",
        "not PostgreSQL",
    ),
}


@pytest.mark.parametrize(("talk", "kind", "reason", "words"), AT_THE_DOOR.values(), ids=AT_THE_DOOR)
async def test_a_server_that_does_not_let_us_in_is_told_apart(
    talk: Talk, kind: type[KeepOperatorError], reason: str, words: str
) -> None:
    """Who reads /readyz knows what to mend: the password, the version, or just to wait."""
    async with serving(talk) as port:
        url = f"postgresql://user:{CANARY}@127.0.0.1:{port}/keep"
        error = await unreachable(url)
    assert type(error) is kind
    assert error.reason == reason
    assert words in error.message
    assert_silent(error)


async def unreachable(url: str) -> KeepOperatorError:
    """The error of a first look at this database."""
    engine = database.connect(url, application_name="test")
    try:
        with pytest.raises(KeepOperatorError) as caught:
            async with database.look(engine) as conn:
                await conn.execute(text("SELECT 1"))
        return caught.value
    finally:
        await engine.dispose()


async def test_a_closed_port_is_unavailable() -> None:
    """The database is not there yet: wait for it."""
    async with serving(answering(b"")) as port:
        pass
    error = await unreachable(f"postgresql://user:{CANARY}@127.0.0.1:{port}/keep")
    assert isinstance(error, Unavailable)
    assert "refuses connections" in error.message
    assert_silent(error)


async def test_an_unknown_host_is_unavailable() -> None:
    """A Service that does not exist yet has no name yet."""
    error = await unreachable(f"postgresql://user:{CANARY}@no-such-host.invalid/keep")
    assert isinstance(error, Unavailable)
    assert "host name" in error.message
    assert_silent(error)


async def test_an_unknown_database_is_unavailable(server_url: str) -> None:
    """A database that is still to be created is waited for."""
    error = await unreachable(databases.beside(server_url, "no_such_database"))
    assert isinstance(error, Unavailable)
    assert "create it" in error.message


async def test_a_database_that_cannot_hold_all_characters_is_refused(server_url: str) -> None:
    """A database in SQL_ASCII would mix up encodings; it is refused before a row is written."""
    with databases.temporary(server_url, encoding="SQL_ASCII") as url:
        error = await unreachable(url)
    assert isinstance(error, Refused)
    assert "UTF8" in error.message


async def wrong_password(url: str) -> None:
    """Log in with a password that the server refuses."""
    async with serving(answering(refusal("28P01", f'password authentication failed for "{CANARY}"'))) as port:
        await unreachable(urlunsplit(urlsplit(url)._replace(netloc=f"user:{CANARY}@127.0.0.1:{port}")))


async def no_server(url: str) -> None:
    """Find nobody at home."""
    await unreachable(urlunsplit(urlsplit(url)._replace(netloc=f"user:{CANARY}@127.0.0.1:1")))


async def cut_in_the_middle(url: str) -> None:
    """Lose the connection between two statements."""
    async with proxied(url) as proxy:
        engine = database.connect(proxy.url, application_name="test")

        async def change() -> None:
            async with database.transaction(engine) as conn:
                await conn.execute(text("SELECT :canary"), {"canary": CANARY})
                proxy.cut()
                await conn.execute(text("SELECT :canary"), {"canary": CANARY})

        with pytest.raises(Unavailable):
            await change()
        await engine.dispose()


async def broken_migration(url: str) -> None:
    """Fail within a migration."""
    engine = database.connect(url, application_name="test")
    async with database.transaction(engine) as conn:
        await conn.execute(text("CREATE SCHEMA keep_operator CREATE TABLE ledger ()"))
    with pytest.raises(Unavailable):
        await schema.migrate(engine)
    await engine.dispose()


@pytest.mark.parametrize("scenario", [wrong_password, no_server, cut_in_the_middle, broken_migration])
async def test_the_password_is_in_no_log(
    empty_url: str, caplog: pytest.LogCaptureFixture, scenario: Callable[[str], Awaitable[None]]
) -> None:
    """With every logger of every library at DEBUG, what goes wrong does not print the password or a value."""
    with caplog.at_level(logging.DEBUG):
        await scenario(empty_url)
    assert CANARY not in caplog.text
    password = urlsplit(empty_url).password
    assert not password or password not in caplog.text


async def test_the_engine_does_not_show_its_url() -> None:
    """An engine that is printed, logged or shown in a debugger's view tells no part of the URL."""
    engine = database.connect(f"postgresql://user:{CANARY}@host-name/keep?password={CANARY}", application_name="test")
    shown = repr(engine) + str(engine) + repr(engine.pool)
    assert CANARY not in shown
    assert "host-name" not in shown


async def test_a_query_of_the_driver_itself_is_translated(engine: Engine) -> None:
    """Not only what goes by way of SQLAlchemy: a raw cursor's failure is ours too."""

    async def raw() -> None:
        async with database.transaction(engine) as conn:
            await conn.execute(text("SET LOCAL statement_timeout = '20ms'"))
            await conn.driver.execute("SELECT pg_sleep(5)")

    with pytest.raises(Unavailable):
        await raw()


def test_new_ids_are_random_and_in_order_of_time() -> None:
    """A record's id says nothing about its name, and indexes stay compact."""
    ids = [providers.new_id() for _ in range(1000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 1000
    assert {each.version for each in ids} == {7}
