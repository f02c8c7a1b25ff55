"""Runners are killed again and again: no run is lost, nothing finished is repeated, and what must not be done twice is not.

Processes of their own and a real database; a receiver notes each request, as the outside world would see it.
"""

import asyncio
import contextlib
import os
import random
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import web
from sqlalchemy import text

from integration.runner import scene
from integration.store import lineages
from keep_operator.domain.execution import Run, State
from keep_operator.store.engine import Engine
from keep_operator.store.vault import Vault

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]

SOAK: Final = bool(os.environ.get("KEEP_OPERATOR_SOAK"))
RUNS: Final = 300 if SOAK else 60
KILL_EVERY_S: Final = 2.0
WORKERS: Final = 3
HEARTBEAT_S, STALLED_S = 1.0, 5.0
# As long as a step takes at the far side, so that kills hit steps.
TAKES_S: Final = 0.15


@dataclass
class Receiver:
    """The outside: which run was told what, how often."""

    port: int = 0
    told: Counter[tuple[str, str]] = field(default_factory=Counter)

    async def answer(self, request: web.Request) -> web.Response:
        """Note what comes, and take a while."""
        self.told[(request.query["run"], request.match_info["step"])] += 1
        await asyncio.sleep(TAKES_S)
        return web.json_response({"ok": True})


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver on a port of its own."""
    receiver = Receiver()
    application = web.Application()
    application.router.add_route("*", "/{step}", receiver.answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.port = runner.addresses[0][1]
    try:
        yield receiver
    finally:
        await runner.cleanup()


class Runners:
    """Processes of `keep-operator runner`; one that dies is started anew."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url, self._folder = url, folder
        self._processes: list[asyncio.subprocess.Process] = []
        self.kills = 0

    async def start(self, count: int) -> None:
        """So many more."""
        for _ in range(count):
            given = {
                "KEEP_OPERATOR_DATABASE_URL": self._url,
                "KEEP_OPERATOR_ENCRYPTION_KEY": scene.KEY.get_secret_value(),
                "KEEP_OPERATOR_HEALTH_PORT": "0",
                "KEEP_OPERATOR_RUN_HEARTBEAT_SECONDS": str(HEARTBEAT_S),
                "KEEP_OPERATOR_RUN_STALLED_SECONDS": str(STALLED_S),
                "KEEP_OPERATOR_RUNS_AT_ONCE": "5",
                "KEEP_OPERATOR_LOG_FORMAT": "json",
            }
            with (self._folder / "runners.log").open("ab") as output:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "keep_operator", "runner"),
                    env={**os.environ, **given},
                    stdout=output,
                    stderr=output,
                )
            self._processes.append(process)

    async def kill_one(self, dice: random.Random) -> None:
        """kill -9 of one, and another in its place."""
        victim = dice.choice(self._processes)
        self._processes.remove(victim)
        victim.send_signal(signal.SIGKILL)
        await victim.wait()
        self.kills += 1
        await self.start(1)

    async def stop(self) -> None:
        """All of them, in order."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        await asyncio.gather(*(process.wait() for process in self._processes))

    @property
    def said(self) -> str:
        """All that they have logged."""
        return (self._folder / "runners.log").read_text(encoding="utf-8", errors="replace")


async def prepared(engine: Engine, receiver: Receiver) -> Any:
    """A workflow of five steps, two of which must not be repeated; the receiver may be reached."""

    def http(name: str, method: str, kind: str) -> dict[str, Any]:
        url = f"http://127.0.0.1:{receiver.port}/{name}?run={{{{ inputs.run }}}}"
        return scene.step(name, "http", given={"url": url, "method": method})

    lineage = await scene.have(
        engine,
        http("first", "GET", "step"),
        scene.step("second"),
        http("third", "GET", "step"),
        actions=[http("fourth", "POST", "action"), http("fifth", "POST", "action")],
        inputs=[{"name": "run", "type": "string"}],
    )
    await lineages.run(
        engine, """UPDATE keep_operator.tenant SET settings = '{"egress": {"allow": ["127.0.0.1/32"]}}'"""
    )
    await lineages.run(
        engine,
        "INSERT INTO keep_operator.installation (cluster_id, key_name) "  # noqa: S608 - a digest
        f"VALUES ('test', '{Vault([scene.KEY]).name}') ON CONFLICT (single) DO UPDATE SET key_name = excluded.key_name",
    )
    return lineage


async def all_ended(engine: Engine) -> bool:
    """Whether no run that was asked for waits or is under way."""
    query = text("SELECT count(*) FROM keep_operator.run WHERE completed_at IS NULL AND trigger <> 'Interval'")
    return bool(await lineages.looked(engine, lambda conn: conn.scalar(query)) == 0)


async def test_runners_are_killed_while_they_work(engine: Engine, database_url: str, tmp_path: Path) -> None:
    """kill -9 every two seconds until all runs have ended; then the books are compared with what the outside has seen."""
    runners = Runners(database_url, tmp_path)
    async with receiving() as receiver:
        lineage = await prepared(engine, receiver)
        await scene.have_ticker(engine, 1)
        try:
            await runners.start(WORKERS)
            made: list[Run] = []
            for number in range(RUNS):
                made.append(await scene.asked(engine, lineage, inputs={"run": f"r{number}"}))
            dice = random.Random(6)  # noqa: S311 - a die
            for _ in range(150):
                await asyncio.sleep(KILL_EVERY_S)
                if await all_ended(engine):
                    break
                await runners.kill_one(dice)
            assert await all_ended(engine), runners.said[-5_000:]
        finally:
            await runners.stop()
    assert runners.kills >= 2
    states: Counter[str] = Counter()
    for number, run in enumerate(made):
        found = await scene.now(engine, run)
        rows = await scene.steps(engine, run)
        states[f"{found.state} {found.reason}"] += 1
        lost = [row for row in rows if row.state == "Lost"]
        by_name = defaultdict(list)
        for row in rows:
            by_name[row.name].append(row)
        for name, starts in by_name.items():
            # Each start but the last was hit by a kill, and is marked; what has succeeded was not started again.
            assert [row.state for row in starts[:-1]] == ["Lost"] * (len(starts) - 1), (found, rows)
            seen = receiver.told[(f"r{number}", name)]
            if name in ("fourth", "fifth"):
                assert len(starts) == 1
                assert seen <= 1
            elif name != "second":
                assert seen <= len(starts)
        if found.state is State.SUCCEEDED:
            assert set(by_name) == {"first", "second", "third", "fourth", "fifth"}
            assert all(starts[-1].state == "Succeeded" for starts in by_name.values())
            assert all(receiver.told[(f"r{number}", name)] >= 1 for name in ("first", "third", "fourth", "fifth"))
        else:
            assert found.reason == "WorkerLost"
            assert any(row.side_effects == "Effect" for row in lost) or found.attempt >= found.max_attempts
    assert sum(states.values()) == RUNS
    assert states["Succeeded Completed"] >= RUNS // 2, states
    assert "Traceback" not in runners.said
    await ticked_in_step(engine)


async def ticked_in_step(engine: Engine) -> None:
    """The ticks of every second: none twice, all in step with the first, and few were missed while runners died."""
    query = text("SELECT tick FROM keep_operator.run WHERE trigger = 'Interval' ORDER BY tick")
    ticks = list((await lineages.looked(engine, lambda conn: conn.execute(query))).scalars())
    assert len(ticks) == len(set(ticks)) >= 3
    assert all((tick - ticks[0]).total_seconds() % 1 == 0 for tick in ticks)


async def test_a_runner_that_was_asleep_is_fenced_off(engine: Engine, database_url: str, tmp_path: Path) -> None:
    """SIGSTOP in the middle of a step, longer than the threshold; another goes on; SIGCONT: the sleeper writes nothing."""
    sleepers, others = Runners(database_url, tmp_path), Runners(database_url, tmp_path)
    async with receiving() as receiver:
        lineage = await prepared(engine, receiver)
        try:
            await sleepers.start(1)
            run = await scene.asked(engine, lineage, inputs={"run": "r"})

            async def begun() -> bool:
                return receiver.told[("r", "first")] == 1

            await scene.soon(begun)
            (sleeper,) = sleepers._processes
            sleeper.send_signal(signal.SIGSTOP)
            await others.start(1)
            for _ in range(120):
                if await all_ended(engine):
                    break
                await asyncio.sleep(0.25)
            sleeper.send_signal(signal.SIGCONT)
            assert (await scene.now(engine, run)).state is State.SUCCEEDED
            await asyncio.sleep(1.0)
        finally:
            await sleepers.stop()
            await others.stop()
    rows = await scene.steps(engine, run)
    assert [(row.name, row.state) for row in rows[:2]] == [("first", "Lost"), ("first", "Succeeded")]
    assert receiver.told[("r", "fourth")] == receiver.told[("r", "fifth")] == 1
    assert (await scene.now(engine, run)).state is State.SUCCEEDED


async def test_a_runner_that_is_told_to_stop_loses_nothing(engine: Engine, database_url: str, tmp_path: Path) -> None:
    """SIGTERM while twenty runs are under way, twice: all succeed, no start is lost, and each process ends by itself."""
    async with receiving() as receiver:
        lineage = await prepared(engine, receiver)
        made = [await scene.asked(engine, lineage, inputs={"run": f"r{number}"}) for number in range(20)]
        for _ in range(2):
            stopped = Runners(database_url, tmp_path)
            await stopped.start(1)

            async def some() -> bool:
                return sum(receiver.told.values()) >= 3

            await scene.soon(some)
            await stopped.stop()
            assert stopped._processes[0].returncode == 0
            receiver.told.clear()
        last = Runners(database_url, tmp_path)
        try:
            await last.start(1)
            for _ in range(240):
                if await all_ended(engine):
                    break
                await asyncio.sleep(0.25)
        finally:
            await last.stop()
    for run in made:
        assert (await scene.now(engine, run)).state is State.SUCCEEDED
        assert len(await scene.steps(engine, run)) == 5
