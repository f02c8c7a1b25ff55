"""Connections through restarts, silence and impatience: work goes on, or ends with Unavailable; it never hangs."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

import databases
from integration.store import samples
from integration.store.proxy import Proxy, proxied
from keep_operator.errors import Refused, Unavailable
from keep_operator.sandbox import postgres
from keep_operator.sandbox.postgres import Server
from keep_operator.store import engine as database
from keep_operator.store import schema
from keep_operator.store.engine import Engine

pytestmark = pytest.mark.integration

# A bound, not an expectation: what is tested here would otherwise wait for ever.
NEVER_HANGS_S = 20.0

ONE = text("SELECT 1")


async def asked(engine: Engine) -> Any:
    """The answer to the simplest of looks."""
    async with database.look(engine) as conn:
        return await conn.scalar(ONE)


async def backends(engine: Engine) -> set[int]:
    """The server's processes that serve this engine's connections, all of them opened."""
    size = database.pool(engine).size
    together = asyncio.Barrier(size)

    async def one() -> int:
        async with database.look(engine) as conn:
            pid = await conn.scalar(text("SELECT pg_backend_pid()"))
            await together.wait()
            return int(pid or 0)

    return set(await asyncio.gather(*(one() for _ in range(size))))


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[Proxy]:
    """A network that the test can break."""
    async with proxied(database_url) as between:
        yield between


@pytest.fixture
async def far_engine(proxy: Proxy) -> AsyncIterator[Engine]:
    """The store behind that network."""
    connected = database.connect(f"{proxy.url}?connect_timeout=2", application_name="test", pool_size=4)
    yield connected
    proxy.cut()
    await connected.dispose()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limits of silence, short enough for a test."""
    monkeypatch.setattr(database, "BORROW_LIMIT", timedelta(seconds=0.3))
    monkeypatch.setattr(database, "PING_LIMIT", timedelta(seconds=0.3))


@pytest.fixture(scope="module")
def own_server() -> Iterator[Server]:
    """A server that the tests of this module may stop and start."""
    with tempfile.TemporaryDirectory(prefix="keep-operator-") as folder, postgres.running(Path(folder)) as server:
        yield server


@pytest.fixture
def own_url(own_server: Server) -> Iterator[str]:
    """A database of that server."""
    with databases.temporary(own_server.url()) as url:
        yield url


async def test_a_look_cannot_write(engine: Engine) -> None:
    """What only looks can break nothing, whatever its author thought: the database refuses."""
    with pytest.raises(Unavailable):
        async with database.look(engine) as conn:
            await conn.execute(text("INSERT INTO keep_operator.tenant (id, display_name) VALUES ('x', 'x')"))
    async with database.look(engine) as conn:
        assert await conn.scalar(text("SELECT count(*) FROM keep_operator.tenant")) == 0


async def test_a_connection_that_looked_can_write_afterwards(database_url: str) -> None:
    """Looks and transactions share the pool, and do not leave their mode behind."""
    single = database.connect(database_url, application_name="test", pool_size=1)
    try:
        for _ in range(3):
            await asked(single)
            async with database.transaction(single) as conn:
                await conn.execute(text("UPDATE keep_operator.tenant SET display_name = 'x'"))
            with pytest.raises(Unavailable):
                async with database.look(single) as conn:
                    await conn.execute(text("UPDATE keep_operator.tenant SET display_name = 'x'"))
    finally:
        await single.dispose()


async def test_an_exception_rolls_back(engine: Engine) -> None:
    """A row and its ledger entry come together or not at all."""

    async def think_again() -> None:
        async with database.transaction(engine) as conn:
            await conn.execute(text("INSERT INTO keep_operator.tenant (id, display_name) VALUES ('x', 'x')"))
            raise Refused("SpecRefused", "second thoughts")

    with pytest.raises(Refused):
        await think_again()
    async with database.look(engine) as conn:
        assert await conn.scalar(text("SELECT count(*) FROM keep_operator.tenant")) == 0


async def test_a_session_is_set_up_for_us(engine: Engine) -> None:
    """Times are in UTC, waits are bounded by the server too, and a DBA sees who it is."""
    names = ("TimeZone", "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "search_path")
    async with database.look(engine) as conn:
        set_to = [await conn.scalar(text("SELECT current_setting(:name)"), {"name": name}) for name in names]
        seen_as = await conn.scalar(text("SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()"))
    assert set_to == ["UTC", "10s", "5s", "30s", "pg_catalog"]
    assert seen_as == "test"


async def test_statements_and_transactions_are_counted(engine: Engine) -> None:
    """Metrics and write budgets rest on these numbers."""
    counted = database.queries(engine)
    assert (counted.statements, counted.transactions) == (0, 0)
    await asked(engine)
    assert (counted.statements, counted.transactions) == (1, 0)
    async with database.transaction(engine) as conn:
        await conn.execute(ONE)
        await conn.execute(ONE)
    assert (counted.statements, counted.transactions) == (3, 1)


async def test_the_pool_tells_how_it_stands(engine: Engine) -> None:
    """The metrics of the pool are what is really open."""
    assert database.pool(engine) == database.Pool(size=8, in_use=0, idle=0)
    async with database.look(engine):
        assert database.pool(engine) == database.Pool(size=8, in_use=1, idle=0)
    assert database.pool(engine) == database.Pool(size=8, in_use=0, idle=1)


async def test_more_work_than_connections_is_done_in_turn(engine: Engine) -> None:
    """Fifty looks at once on eight connections all get their answer."""
    assert await asyncio.gather(*(asked(engine) for _ in range(50))) == [1] * 50
    assert database.pool(engine).idle <= 8


async def test_a_pool_that_stays_exhausted_is_unavailable(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A leak of connections shows as DatabaseUnavailable, not as a worker that is gone for ever."""
    monkeypatch.setattr(database, "POOL_TIMEOUT", timedelta(seconds=0.1))
    engine = database.connect(database_url, application_name="test", pool_size=1)
    try:
        async with database.look(engine):
            with pytest.raises(Unavailable, match="pool"):
                await asked(engine)
        assert await asked(engine) == 1
    finally:
        await engine.dispose()


async def test_a_restart_of_the_database_goes_unnoticed_by_who_comes_after(own_server: Server, own_url: str) -> None:
    """After the restart the first statement on every old connection works: not one error (A-CTL-7)."""
    engine = database.connect(own_url, application_name="test", pool_size=4)
    try:
        await schema.migrate(engine)
        before = await backends(engine)
        assert len(before) == 4
        await asyncio.to_thread(own_server.restart)
        await samples.have_tenant(engine)  # a transaction, on a connection of before
        assert await asyncio.gather(*(asked(engine) for _ in range(8))) == [1] * 8
        assert not before & await backends(engine)
    finally:
        await engine.dispose()


async def test_a_wrong_password_is_told_and_tried_again(own_server: Server) -> None:
    """The Secret with the URL is out of date: the message says where to look, and a rotation under way heals."""
    engine = database.connect(own_server.url().replace(own_server.password, "outdated"), application_name="test")
    try:
        with pytest.raises(Unavailable, match="check user, password"):
            await asked(engine)
    finally:
        await engine.dispose()


async def test_while_the_database_is_down_everything_is_unavailable(own_server: Server, own_url: str) -> None:
    """Down: DatabaseUnavailable at once, for looks, transactions and migrations. Back: works, without a restart."""
    engine = database.connect(own_url, application_name="test", pool_size=4)
    try:
        await schema.migrate(engine)
        await backends(engine)
        await asyncio.to_thread(own_server.stop)
        try:
            async with asyncio.timeout(NEVER_HANGS_S):
                for attempt in (asked(engine), samples.have_tenant(engine), schema.check(engine)):
                    with pytest.raises(Unavailable) as caught:
                        await attempt
                    assert caught.value.reason == "DatabaseUnavailable"
        finally:
            await asyncio.to_thread(own_server.start)
        await samples.have_tenant(engine)
        assert await schema.check(engine) == schema.REVISION
    finally:
        await engine.dispose()


async def test_a_stop_in_the_middle_of_a_transaction_loses_it_whole(own_server: Server, own_url: str) -> None:
    """Half of a change is never kept: after the restart there is neither row nor entry."""
    engine = database.connect(own_url, application_name="test", pool_size=4)

    async def change() -> None:
        async with database.transaction(engine) as conn:
            await conn.execute(text("INSERT INTO keep_operator.tenant (id, display_name) VALUES ('x', 'x')"))
            await asyncio.to_thread(own_server.restart)
            await conn.execute(ONE)

    try:
        await schema.migrate(engine)
        with pytest.raises(Unavailable):
            await change()
        async with database.look(engine) as conn:
            assert await conn.scalar(text("SELECT count(*) FROM keep_operator.tenant")) == 0
    finally:
        await engine.dispose()


@pytest.mark.usefixtures("impatient")
async def test_a_silent_server_does_not_hold_a_worker(proxy: Proxy, far_engine: Engine) -> None:
    """The node of the database is frozen in the middle of a statement: the worker is free after the limit."""
    await backends(far_engine)
    proxy.freeze()
    async with asyncio.timeout(NEVER_HANGS_S):
        with pytest.raises(Unavailable) as caught:
            await asked(far_engine)
        with pytest.raises(Unavailable):
            await samples.have_tenant(far_engine)
    assert caught.value.reason == "DatabaseUnavailable"
    proxy.thaw()
    assert await asked(far_engine) == 1
    assert database.pool(far_engine).in_use == 0


@pytest.mark.usefixtures("impatient")
async def test_a_server_that_falls_silent_at_the_commit(proxy: Proxy, far_engine: Engine) -> None:
    """Whether it was committed is unknown: Unavailable, and the next look tells."""

    async def change() -> None:
        async with database.transaction(far_engine) as conn:
            await conn.execute(ONE)
            proxy.freeze()

    async with asyncio.timeout(NEVER_HANGS_S):
        with pytest.raises(Unavailable):
            await change()
    proxy.thaw()
    assert await asked(far_engine) == 1


async def test_a_server_that_is_silent_at_the_door(proxy: Proxy) -> None:
    """A connection that is taken but never answered is given up after the time to connect."""
    proxy.freeze()
    engine = database.connect(f"{proxy.url}?connect_timeout=2", application_name="test")
    try:
        async with asyncio.timeout(NEVER_HANGS_S):
            with pytest.raises(Unavailable, match="did not answer in time"):
                await asked(engine)
    finally:
        proxy.cut()
        await engine.dispose()


@pytest.mark.usefixtures("impatient")
async def test_a_connection_forgotten_by_the_network_is_replaced(
    proxy: Proxy, far_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A firewall dropped the idle connections without a word: the next look finds out, and works on a new one."""
    await backends(far_engine)
    opened = proxy.connections
    proxy.freeze_present()
    monkeypatch.setattr(database, "PING_AFTER_IDLE", timedelta(0))
    async with asyncio.timeout(NEVER_HANGS_S):
        assert await asked(far_engine) == 1
    assert proxy.connections > opened


async def test_a_cut_in_the_middle_is_unavailable_and_then_over(proxy: Proxy, far_engine: Engine) -> None:
    """A load balancer resets the connections: who was in the middle tries again, the others see nothing."""

    async def change() -> None:
        async with database.transaction(far_engine) as conn:
            await conn.execute(ONE)
            proxy.cut()
            await conn.execute(ONE)

    await backends(far_engine)
    with pytest.raises(Unavailable):
        await change()
    assert await asyncio.gather(*(asked(far_engine) for _ in range(8))) == [1] * 8


async def test_a_worker_that_is_stopped_gives_its_locks_back(engine: Engine) -> None:
    """The operator shuts down while a worker waits for a row: nothing stays locked, no connection is lost."""
    await samples.have_tenant(engine)
    change = text("UPDATE keep_operator.tenant SET display_name = 'x'")
    started = asyncio.Event()

    async def wait_for_the_row() -> None:
        async with database.transaction(engine) as conn:
            started.set()
            await conn.execute(change)

    async with database.transaction(engine) as conn:
        await conn.execute(change)
        worker = asyncio.create_task(wait_for_the_row())
        await started.wait()
        async with database.look(engine) as other:
            waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            await samples.until(lambda: other.scalar(waiting))
        worker.cancel()
        with pytest.raises(asyncio.CancelledError):
            await worker
    async with database.transaction(engine) as conn:
        await conn.execute(change)
    assert database.pool(engine).in_use == 0


async def test_a_worker_that_is_stopped_between_two_statements_leaves_nothing(engine: Engine) -> None:
    """The operator shuts down between a change and its commit: it is undone, and nobody inherits the open transaction."""
    changed = asyncio.Event()

    async def change_and_stay() -> None:
        async with database.transaction(engine) as conn:
            await conn.execute(text("INSERT INTO keep_operator.tenant (id, display_name) VALUES ('x', 'x')"))
            changed.set()
            await asyncio.Event().wait()

    worker = asyncio.create_task(change_and_stay())
    await changed.wait()
    worker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await worker
    assert database.pool(engine) == database.Pool(size=8, in_use=0, idle=0)
    async with database.look(engine) as conn:
        assert await conn.scalar(text("SELECT count(*) FROM keep_operator.tenant")) == 0


@pytest.mark.usefixtures("impatient")
async def test_a_worker_can_be_stopped_while_the_server_is_silent(proxy: Proxy, far_engine: Engine) -> None:
    """Shutting down does not wait for a database that does not answer."""
    await backends(far_engine)
    proxy.freeze()
    worker = asyncio.create_task(asked(far_engine))
    await asyncio.sleep(0.05)
    worker.cancel()
    async with asyncio.timeout(NEVER_HANGS_S):
        with pytest.raises((asyncio.CancelledError, Unavailable)):
            await worker
    proxy.thaw()
    assert await asked(far_engine) == 1


@pytest.mark.parametrize(
    "url",
    [
        "",
        "  ",
        "mysql://user:canary@host/keep",
        "postgresql+psycopg2://user:canary@host/keep",
        "host=localhost password=canary",
        "postgresql://user:canary@host:no-port/keep",
        "postgresql://user:canary%zz@host/keep",
        "postgresql://user:can@ary@host/keep",
        "postgresql://user:can@ar/y@host/keep",
        "postgresql://host/keep?pasword=canary",
        "postgresql://[::1/keep?password=canary",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_being_shown(url: str) -> None:
    """A typo in a Secret is told with its remedy, and the password does not land in the log."""
    with pytest.raises(Refused) as caught:
        database.connect(url, application_name="test")
    assert caught.value.reason == "InvalidDatabaseURL"
    assert "postgresql://USER:PASSWORD@HOST" in caught.value.message
    assert "canary" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


async def test_what_the_url_says_prevails(database_url: str) -> None:
    """Who sets a libpq option in the URL gets it."""
    engine = database.connect(f"{database_url}?keepalives_idle=77", application_name="test")
    try:
        async with database.look(engine) as conn:
            parameters = conn.driver.info.get_parameters()
        assert parameters["keepalives_idle"] == "77"
        assert parameters["tcp_user_timeout"] == "25000"
    finally:
        await engine.dispose()
