"""A runner lives for weeks: calls leave no connections, files, tasks or threads behind, however they end."""

import asyncio
import gc
import os
import threading
from contextlib import suppress
from typing import Any

import pytest
from aiohttp import web
from apprise.plugins.pushover import NotifyPushover

from component.runner import far_side, mysql_side
from component.runner.conftest import Make
from component.runner.far_side import FarSide, answer
from keep_operator.runner import egress
from keep_operator.runner.actions import ActionFailed, Call, Egress, perform

pytestmark = pytest.mark.component


def open_files() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


async def settled() -> int:
    """The number of open files, once it does not change any more."""
    last = -1
    for _ in range(100):
        if (now := open_files()) == last:
            break
        last = now
        await asyncio.sleep(0.2)
    return last


async def stall(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    return web.Response()


async def ends(made: Call) -> None:
    with suppress(ActionFailed):
        await perform(made)


async def test_whatever_happens(call: Make, there: FarSide, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty rounds of success, refusal, silence and forbidden places: as many open files as before, and no task."""
    monkeypatch.setattr(NotifyPushover, "notify_url", f"{there.url}/pushover")
    letter = {"from_email": "a@example.com", "to_email": "b@example.com", "body": "x"}
    async with mysql_side.serve() as mysql, far_side.raw(_silent) as silent:
        pushover: dict[str, Any] = {"token": "t" * 30, "user_key": "u" * 30}
        database = {"host": "127.0.0.1", "username": "u", "password": "p"}
        mail = {"smtp_server": "127.0.0.1", "encryption": "None"}
        round_of_calls = [
            call("http", url=there.url),
            call("http", url=f"{there.url}/stall", timeout_s=0.1),
            call("http", url="http://127.0.0.1:1/"),
            call("http", url=there.url, egress=Egress()),
            call("pushover", pushover, message="x"),
            call("pushover", pushover, message="x", egress=Egress()),
            call("mysql", {**database, "port": mysql.port}, kind="step", query="select 1"),
            call("mysql", {**database, "port": silent}, kind="step", query="select 1", timeout_s=0.1),
            call("postgres", {**database, "port": silent}, kind="step", query="select 1", timeout_s=0.1),
            call("smtp", {**mail, "smtp_port": silent}, timeout_s=0.1, **letter),
        ]

        async def answers(request: web.Request) -> web.StreamResponse:
            return await (stall if request.path == "/stall" else answer({"status": 1}))(request)

        there.otherwise = answers
        for each in round_of_calls:
            await ends(each)
        before, tasks = await settled(), len(asyncio.all_tasks())
        for _ in range(4):
            await asyncio.gather(*(ends(each) for each in round_of_calls))
        assert await settled() <= before + 2
        assert len(asyncio.all_tasks()) <= tasks
    assert threading.active_count() <= egress._THREADS + 10


async def _silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read(-1)
    await asyncio.sleep(0)


async def test_lookups_that_hang_do_not_stop_others(
    call: Make, there: FarSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten steps wait for a name server that is dead; others, whose names are known, go on meanwhile."""
    over = threading.Event()
    look_up = egress.look_up

    def slow(host: str, port: int) -> list[tuple[Any, ...]]:
        if host == "dead.example":
            over.wait(20)
            return []
        return look_up(host, port)

    monkeypatch.setattr(egress, "look_up", slow)
    waiting = [asyncio.create_task(ends(call("http", url="http://dead.example/", timeout_s=5))) for _ in range(10)]
    await asyncio.sleep(0)
    allowed = Egress.of(["localhost"])
    url = there.url.replace("127.0.0.1", "localhost")
    assert (await perform(call("http", url=url, egress=allowed))).result["status_code"] == 200
    assert not any(each.done() for each in waiting)
    over.set()
    await asyncio.gather(*waiting)
