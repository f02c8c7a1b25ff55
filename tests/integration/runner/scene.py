"""Runs of a workflow, workers that can be killed at any write, and an outside world that remembers what was done to it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from unittest import mock
from uuid import uuid4

from pydantic import SecretStr

from integration.store import lineages, samples
from keep_operator.domain import revision
from keep_operator.domain.binding import Asked
from keep_operator.domain.execution import Run, Step
from keep_operator.domain.history import Lineage, Revision
from keep_operator.domain.ownership import Owner
from keep_operator.runner import execution
from keep_operator.runner.actions import Call, Outcome
from keep_operator.runner.execution import Contents, Means, Orders
from keep_operator.store import engine as database
from keep_operator.store import executions, revisions, runs
from keep_operator.store.connection import Connection
from keep_operator.store.engine import Engine
from keep_operator.store.intake import Intake
from keep_operator.store.runs import Requested
from keep_operator.store.vault import Vault

KEY: Final = SecretStr("k" * 43)


class Killed(BaseException):
    """The process is gone: nothing of it runs any more, not even what is there for exceptions."""


@dataclass
class World:
    """What was done outside: the keys of calls, in their order. ``answer`` may fail, or wait, or kill."""

    done: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    answer: Callable[[Call], Awaitable[Any]] | None = None

    async def perform(self, call: Call) -> Outcome:
        """As `actions.perform`."""
        self.done.append(call.idempotency_key.partition("/")[2])
        self.calls.append(call)
        result = {"n": len(self.done)} if self.answer is None else await self.answer(call)
        return Outcome(result, f"{call.type} was told")

    @property
    def counted(self) -> Counter[str]:
        """How often each (position, iteration) was carried out."""
        return Counter(self.done)


@asynccontextmanager
async def played(world: World) -> AsyncIterator[World]:
    """Have actions go to this world, for the length of a block."""
    with mock.patch.object(execution, "perform", world.perform):
        yield world


def step(name: str, type_name: str = "mock", **more: Any) -> dict[str, Any]:
    """A step of a definition."""
    provider = {"type": type_name, "with": more.pop("given", {})}
    return {"name": name, "provider": provider, **more}


async def have(engine: Engine, *steps: dict[str, Any], actions: Sequence[dict[str, Any]] = (), **more: Any) -> Lineage:
    """Workflow high-cpu with this definition, active; its tenant too."""
    await samples.have_tenant(engine)
    seen = await lineages.have(engine)
    return await deploy(engine, seen, {"steps": list(steps), "actions": list(actions), **more})


async def have_ticker(engine: Engine, every_s: int) -> Lineage:
    """Another workflow of the tenant, with one step and an interval; active."""
    of = samples.owner("ticker")
    seen = await lineages.have(engine, "ticker", of=of)
    definition = {"triggers": [{"type": "interval", "value": every_s}], "steps": [step("tick")]}
    return await deploy(engine, seen, definition, of=of)


async def deploy(engine: Engine, seen: Lineage, definition: dict[str, Any], *, of: Owner = lineages.ME) -> Lineage:
    """Another version of it, active."""
    number = seen.latest_number + 1
    made = replace(lineages.revision(number, "A"), content_hash=revision.content_hash(definition))
    assert isinstance(made, Revision)
    name = f"{of.name}-v{number}"
    await lineages.done(
        engine, lambda conn: revisions.insert(conn, seen, made, definition, name=name, actor=lineages.ACTOR)
    )
    return await lineages.activate(engine, number, of=of)


async def asked(engine: Engine, lineage: Lineage, **fields: Any) -> Run:
    """A run of what is active."""
    given: dict[str, Any] = {"trigger": "Manual", "idempotency_key": str(uuid4()), "requested_by": "ann"}
    what = Asked(**given | fields)
    got = await lineages.done(engine, lambda conn: runs.request(conn, lineage.id, what))
    assert isinstance(got, Requested), got
    return got.run


def means(engine: Engine, worker: str = "w", **fields: Any) -> Means:
    """What a worker has."""
    taking = Intake(engine, lambda: datetime.now(UTC), timedelta(days=1))
    return Means(engine, Vault([KEY]), worker, taking, contents=Contents(), **fields)


async def executed(engine: Engine, run: Run, worker: str = "w", orders: Orders | None = None) -> Run | None:
    """Carry the run out."""
    return await execution.execute(means(engine, worker), run.id, orders or Orders())


async def now(engine: Engine, run: Run) -> Run:
    """The run as it is."""
    found = await lineages.looked(engine, lambda conn: runs.get(conn, run.id))
    assert found is not None
    return found


async def steps(engine: Engine, run: Run) -> list[Step]:
    """All starts of its steps."""
    return await lineages.looked(engine, lambda conn: executions.steps(conn, run.id))


async def logged(engine: Engine, run: Run) -> list[str]:
    """The lines of its log."""
    return [row.message for row in await lineages.looked(engine, lambda conn: executions.logged(conn, run.id))]


class Mortal:
    """Transactions of a worker, of which one is its last: the process dies before it is committed, or right after."""

    def __init__(self, at: int, *, committed: bool) -> None:
        self._left = at
        self._committed = committed
        self.count = 0

    def alone(self, engine: Engine) -> AbstractAsyncContextManager[Connection]:
        """As `engine.alone`."""
        return self._living(engine, database.alone)

    def transaction(self, engine: Engine) -> AbstractAsyncContextManager[Connection]:
        """As `engine.transaction`."""
        return self._living(engine, database.transaction)

    @asynccontextmanager
    async def _living(
        self, engine: Engine, how: Callable[[Engine], AbstractAsyncContextManager[Connection]]
    ) -> AsyncIterator[Connection]:
        self.count += 1
        self._left -= 1
        if self._left != 0:
            async with how(engine) as conn:
                yield conn
            return
        if self._committed:
            async with how(engine) as conn:
                yield conn
            raise Killed
        async with database.transaction(engine) as conn:
            yield conn
            raise Killed


@dataclass(frozen=True)
class _Dead:
    """A database module whose transactions are a mortal's."""

    alone: Any
    transaction: Any
    look: Any = database.look


async def until_killed(
    engine: Engine, run: Run, at: int, *, committed: bool, worker: str = "w", inside: Any = execution
) -> bool:
    """Carry the run out until the worker dies at its n-th transaction in this module; False: it did not come to that."""
    mortal = Mortal(at, committed=committed)
    with mock.patch.object(inside, "database", _Dead(mortal.alone, mortal.transaction)):
        try:
            await executed(engine, run, worker)
        except Killed:
            return True
    return False


async def soon(question: Callable[[], Awaitable[object]]) -> None:
    """Ask until the answer is yes."""
    for _ in range(1_000):
        if await question():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


def key(position: int, iteration: int = -1) -> str:
    """The end of an idempotency key."""
    return f"{position}/{iteration}"
