"""Pages that keep themselves up to date: streams of a running console, read as a browser reads them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import UUID

import aiohttp
import pytest

from integration.console import started
from integration.console.test_pages import Browser
from integration.console.test_run_pages import begun, lineage, reader, step
from integration.console.test_runs import have
from integration.store.lineages import done
from keep_operator.console.pages import live
from keep_operator.store import executions, past_runs, runs
from keep_operator.store.executions import Progress

pytestmark = pytest.mark.integration
__all__ = ["lineage", "reader"]

# Seconds in which whatever is waited for comes; only a bound against hanging.
BOUND_S = 20.0


@asynccontextmanager
async def watching(browser: Browser, path: str) -> AsyncIterator[aiohttp.ClientResponse]:
    """A stream that is open."""
    headers = {"Cookie": "; ".join(f"{k}={v}" for k, v in browser.cookies.items()), "Accept": live.MEDIA_TYPE}
    async with browser.console.session.get(f"{browser.console.url}{path}", headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        yield answer


async def message(stream: aiohttp.ClientResponse) -> str:
    """The next message that is no comment, with its name before it; empty at the end of the stream."""
    async with asyncio.timeout(BOUND_S):
        while raw := await _piece(stream):
            told = [line for line in raw.decode().split("\n") if line and not line.startswith(":")]
            if told:
                return "\n".join(line.removeprefix("data: ") for line in told)
    return ""


async def _piece(stream: aiohttp.ClientResponse) -> bytes:
    try:
        return await stream.content.readuntil(b"\n\n")
    except asyncio.IncompleteReadError:
        return b""


async def until(stream: aiohttp.ClientResponse, text: str) -> str:
    """The first message that has this text."""
    for _ in range(50):
        if text in (told := await message(stream)) or not told:
            assert text in told, "the stream has ended"
            return told
    raise AssertionError(text)


async def test_a_run_is_seen_while_it_goes_on(reader: Browser) -> None:
    """Whoever has its page open sees each step begin and end, and how the run ended, and then is left in peace."""
    console = reader.console
    run = await have(console)
    assert f'hx-sse:connect="/live/run/{run["id"]}"' in await (await reader.get(f"/r/{run['id']}")).text()
    async with watching(reader, f"/live/run/{run['id']}") as stream:
        assert stream.headers["Content-Type"].startswith(live.MEDIA_TYPE)
        assert "default-src 'self'" in stream.headers["Content-Security-Policy"]
        assert "Queued" in await message(stream)
        claimed = await begun(console, run["id"])
        assert "Running" in await message(stream)
        await step(console, claimed, 0, "tell", result="<b>x</b>", message="first\r\rdata: <i>\r\nevent: ended")
        told = await until(stream, "Succeeded")
        assert "tell" in told and "<b>" not in told and "<i>" not in told
        lines = [{"at": "2026-06-01T00:00:00Z", "position": 0, "level": "INFO", "message": "first <u>line"}]
        await done(console.engine, lambda conn: executions.write(conn, claimed, Progress(lines=lines)))
        assert "<u>" not in await until(stream, "first &lt;u&gt;line")
        await started.end(console.engine, UUID(run["id"]))
        assert "first" in await until(stream, "Completed")
        assert await message(stream) == "event: ended\n"
        assert await message(stream) == ""
    assert "hx-sse" not in await (await reader.get(f"/r/{run['id']}")).text()


async def test_however_many_watch_a_run_the_database_is_asked_by_one(
    reader: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty people with the same page open have its steps read once for each change."""
    run = await have(reader.console)
    read, reads = past_runs.steps, 0

    async def counting(*asked: Any) -> Any:
        nonlocal reads
        reads += 1
        return await read(*asked)

    monkeypatch.setattr(past_runs, "steps", counting)
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(watching(reader, f"/live/run/{run['id']}")) for _ in range(20)]
        for each in streams:
            assert "Queued" in await message(each)
        await done(reader.console.engine, lambda conn: runs.cancel(conn, UUID(run["id"]), message="enough"))
        for each in streams:
            assert "enough" in await message(each)
    assert reads == 2


async def test_two_hundred_windows_open_at_once(reader: Browser) -> None:
    """After a rollout all screens come back in the same second: each is kept up to date, and keeps nobody from deciding."""
    console = reader.console
    run = await have(console)
    path, windows = f"/live/run/{run['id']}", 200
    cookies = []
    for each in range(windows // live.MOST_OF_ONE):
        console.played.give(f"eve-{each}", *console.played.rights["ann"])
        somebody = Browser(console)
        assert (await somebody.post("/signin", token=f"token-of-eve-{each}")).status == 303
        cookies.append("; ".join(f"{k}={v}" for k, v in somebody.cookies.items()))
    told = asyncio.Semaphore(0)

    async def window(number: int) -> None:
        headers = {"Cookie": cookies[number % len(cookies)], "Accept": live.MEDIA_TYPE}
        async with session.get(f"{console.url}{path}", headers=headers) as stream:
            assert stream.status == 200, await stream.text()
            assert "Queued" in await message(stream)
            told.release()
            await closing.wait()

    closing = asyncio.Event()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session, asyncio.TaskGroup() as group:
        for number in range(windows):
            group.create_task(window(number))
        async with asyncio.timeout(BOUND_S):
            for _ in range(windows):
                await told.acquire()
        assert (await reader.get(f"/r/{run['id']}")).status == 200
        closing.set()


async def test_who_finds_no_place_is_told_that_the_page_is_not_live(
    reader: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streams are bounded, for all and for each user; a place that is given back is there for the next one."""
    run = await have(reader.console)
    path = f"/live/run/{run['id']}"
    for bound in ("MOST", "MOST_OF_ONE"):
        with monkeypatch.context() as patched:
            patched.setattr(live, bound, 1)
            async with watching(reader, path) as stream:
                assert await message(stream)
                answer = await reader.get(path)
                assert answer.status == 503 and "TooManyStreams" in await answer.text()
            for _ in range(1_000):  # the server learns a little later that it is gone
                if (status := await _status(reader, path)) == 200:
                    break
                await asyncio.sleep(0.01)
            assert status == 200


async def _status(browser: Browser, path: str) -> int:
    headers = {"Cookie": "; ".join(f"{k}={v}" for k, v in browser.cookies.items())}
    async with browser.console.session.get(f"{browser.console.url}{path}", headers=headers) as answer:
        return answer.status


async def test_a_stream_does_not_outlive_the_session(reader: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends by itself within a minute; whoever asks again with a token that was taken back is not let in, nor led away."""
    console = reader.console
    run = await have(console)
    path = f"/live/run/{run['id']}"
    monkeypatch.setattr(live, "LIVES_S", 0.3)
    monkeypatch.setattr(live, "HEARTBEAT_S", 0.05)
    async with watching(reader, path) as stream:
        assert await message(stream)
        assert b":\n\n" in await stream.content.read()
    del console.played.tokens[console.token]
    console.clock.seconds += 11
    assert (await reader.get(path)).status == 401
    assert (await Browser(console).get(path)).status == 401


async def test_streams_end_when_the_console_is_told_to_stop(reader: Browser) -> None:
    """A rollout does not wait for those who watch, and they go on at another replica."""
    run = await have(reader.console)
    async with watching(reader, f"/live/run/{run['id']}") as stream:
        assert await message(stream)
        reader.console.stop.set()
        assert await message(stream) == ""
