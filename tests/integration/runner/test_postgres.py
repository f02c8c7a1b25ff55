"""Steps that read a real PostgreSQL, actions that write there, and what neither may do."""

import asyncio
from typing import Any
from urllib.parse import urlsplit

import pytest

from databases import Database
from keep_operator.domain.abilities import Kind
from keep_operator.runner.actions import ActionFailed, Call, Egress, Outcome, perform

pytestmark = pytest.mark.integration

LOOPBACK = Egress.of(["127.0.0.0/8", "::1/128"])


@pytest.fixture
def config(empty_url: str) -> dict[str, Any]:
    """A Provider of the user's database."""
    Database(empty_url).execute("CREATE TABLE disk (name text, defects int)")
    Database(empty_url).execute("INSERT INTO disk VALUES ('a', 55), ('ä', NULL)")
    parts = urlsplit(empty_url)
    return {
        "host": parts.hostname,
        "port": parts.port,
        "username": parts.username,
        "password": parts.password or "not asked for",
        "database": parts.path.removeprefix("/"),
    }


async def ask(config: dict[str, Any], kind: Kind, query: str, timeout_s: float = 20.0) -> Outcome:
    parameters = {"query": query}
    return await perform(
        Call(
            kind,
            "postgres",
            parameters=parameters,
            config=config,
            idempotency_key="k",
            timeout_s=timeout_s,
            egress=LOOPBACK,
        )
    )


async def test_rows(config: dict[str, Any]) -> None:
    """Rows come as lists, as Keep gives them, with values that JSON has."""
    done = await ask(config, "step", "SELECT * FROM disk ORDER BY defects")
    assert done.result == [["a", 55], ["ä", None]]
    values = await ask(
        config,
        "step",
        "SELECT 1.50::numeric, 2::numeric, 'NaN'::float8, 'Infinity'::numeric, timestamp '2026-11-29 12:00', date '2026-11-29',"
        " interval '1 day', '{\"a\": [1]}'::jsonb, array[1, 2], '\\xff'::bytea, true, 123456789012345678901234567890::numeric",
    )
    assert values.result == [
        [
            1.5,
            2,
            "nan",
            "Infinity",
            "2026-11-29 12:00:00",
            "2026-11-29",
            "1 day, 0:00:00",
            {"a": [1]},
            [1, 2],
            "\ufffd",
            True,
            123456789012345678901234567890,
        ]
    ]
    assert (await ask(config, "step", "SELECT 'a%b' WHERE 'x' LIKE '%s'")).result == []
    assert (await ask(config, "step", "SHOW server_encoding")).result == [["UTF8"]]


async def test_an_action_writes(config: dict[str, Any], empty_url: str) -> None:
    """What an action writes is there afterwards, also where the statement returns rows."""
    await ask(config, "action", "INSERT INTO disk VALUES ('b', 1)")
    await ask(config, "action", "INSERT INTO disk VALUES ('c', 2) RETURNING name")
    assert [row["name"] for row in Database(empty_url).rows("SELECT name FROM disk WHERE defects < 5 ORDER BY 1")] == [
        "b",
        "c",
    ]


@pytest.mark.parametrize(
    "query",
    [
        "INSERT INTO disk VALUES ('x', 1)",
        "INSERT INTO disk VALUES ('x', 1) RETURNING name",
        "WITH w AS (DELETE FROM disk RETURNING name) SELECT * FROM w",
        "SELECT * INTO other FROM disk",
        "CREATE TABLE other (a int)",
        "EXPLAIN ANALYZE DELETE FROM disk",
        "SELECT 1; COMMIT; DELETE FROM disk",
        "COMMIT; DELETE FROM disk",
        "SET TRANSACTION READ WRITE; DELETE FROM disk",
    ],
)
async def test_a_step_does_not(query: str, config: dict[str, Any], empty_url: str) -> None:
    """A step may be repeated at any time, so it cannot write, not even by a second statement behind the first."""
    with pytest.raises(ActionFailed) as failed:
        await ask(config, "step", query)
    assert not failed.value.retryable
    assert len(Database(empty_url).rows("SELECT * FROM disk")) == 2


async def test_a_statement_without_rows(config: dict[str, Any]) -> None:
    """A step asks for rows: a statement that has none belongs into an action."""
    with pytest.raises(ActionFailed, match="has no rows for this statement"):
        await ask(config, "step", "SET work_mem = '4MB'")
    await ask(config, "action", "SET work_mem = '4MB'")


async def test_a_step_that_writes_is_told_what_to_do(config: dict[str, Any]) -> None:
    """The failure says that it is a step, and that an action is wanted."""
    with pytest.raises(ActionFailed, match="was asked by a step to write, and steps only read; make it an action"):
        await ask(config, "step", "DELETE FROM disk")


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("SELECT * FROM nowhere", r'says 42P01: relation "nowhere" does not exist'),
        ("SELEC 1", "says 42601: syntax error"),
        ("SELECT 1/0", "says 22012: division by zero"),
    ],
)
async def test_what_it_says(query: str, told: str, config: dict[str, Any]) -> None:
    """A query that fails is told in PostgreSQL's words, with its code, and is not tried again."""
    with pytest.raises(ActionFailed, match=told) as failed:
        await ask(config, "step", query)
    assert not failed.value.retryable


async def test_the_wrong_password(config: dict[str, Any]) -> None:
    """Neither a wrong nor a right password is in what is told of a database that lets nobody in."""
    with pytest.raises(ActionFailed) as failed:
        await ask({**config, "username": "nobody-of-that-name", "password": "canary-password"}, "step", "SELECT 1")
    assert "canary-password" not in str(failed.value)


async def test_the_password_of_our_own_database(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A Provider without a password does not get that of the control database, which libpq would take from the environment."""
    monkeypatch.setenv("PGPASSWORD", "canary-of-the-control-database")
    monkeypatch.setenv("PGOPTIONS", "-c work_mem=7MB")
    with pytest.raises(ActionFailed, match="the Provider has no password"):
        await ask({**config, "password": ""}, "step", "SELECT 1")
    assert (await ask(config, "step", "SHOW work_mem")).result != [["7MB"]]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT repeat('x', 1000) FROM generate_series(1, 100000)",
        "SELECT repeat('x', 100000000)",
        "SELECT repeat('x', 300) FROM generate_series(1, 5000)",
    ],
)
async def test_too_many_rows(query: str, config: dict[str, Any]) -> None:
    """A hundred megabytes are not taken, whether as many rows or as one."""
    with pytest.raises(ActionFailed, match="more than 1024 KiB of rows") as failed:
        await ask(config, "step", query)
    assert not failed.value.retryable


async def test_a_query_that_takes_too_long(config: dict[str, Any], empty_url: str) -> None:
    """A query is given up when its time is over, and the database is told so: it does not go on for nobody."""
    with pytest.raises(ActionFailed, match=r"within 0\.5 s"):
        await ask(config, "step", "SELECT pg_sleep(60)", timeout_s=0.5)
    sleeping = "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND state = 'active' AND pid <> pg_backend_pid()"
    for _ in range(100):
        if not Database(empty_url).rows(sleeping.replace("%", "%%")):
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the query is still running")


async def test_a_name_is_resolved_once(config: dict[str, Any]) -> None:
    """A host given as a name is connected to at the address that was judged."""
    allowed = Egress.of(["localhost"])
    asked = Call(
        "step",
        "postgres",
        parameters={"query": "SELECT inet_server_addr()::text"},
        config={**config, "host": "localhost"},
        egress=allowed,
    )
    assert (await perform(asked)).result[0][0].startswith(("127.", "::1"))
