"""The door of the console: how many are let in at once, who waits, who is sent away."""

import asyncio
import json
from typing import Any

import pytest

from keep_operator.console import app
from keep_operator.console.app import Front

pytestmark = pytest.mark.unit

HTML = (b"content-type", b"text/html")


class House:
    """An application whose answers take as long as the test wants; ``inside`` are those it is at, by their paths."""

    def __init__(self) -> None:
        self.inside: list[str] = []
        self.came = asyncio.Semaphore(0)
        self.goes_on = asyncio.Event()
        self.most = 0
        self.front = Front(self._answer)

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        self.inside.append(scope["path"])
        self.most = max(self.most, len(self.inside))
        self.came.release()
        kind = (b"content-type", app.STREAM) if scope["path"] == "/live" else HTML
        if scope["path"] == "/live":
            await send({"type": "http.response.start", "status": 200, "headers": [kind]})
        await self.goes_on.wait()
        self.inside.remove(scope["path"])
        if scope["path"] != "/live":
            await send({"type": "http.response.start", "status": 200, "headers": [kind]})
        await send({"type": "http.response.body", "body": b""})

    async def ask(self, path: str = "/") -> tuple[int, str]:
        """The status, and the reason where it is no page."""
        told: list[Any] = []

        async def send(message: Any) -> None:
            told.append(message)

        async def receive() -> Any:
            return {"type": "http.request"}

        await self.front({"type": "http", "method": "GET", "path": path}, receive, send)
        body = b"".join(each.get("body", b"") for each in told)
        return told[0]["status"], json.loads(body)["reason"] if body else ""


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> House:
    """A house for two, before which three may wait."""
    monkeypatch.setattr(app, "AT_ONCE", 2)
    monkeypatch.setattr(app, "WAITING", 3)
    return House()


async def arrived(house: House, count: int) -> None:
    """So many more have come in."""
    async with asyncio.timeout(10):
        for _ in range(count):
            await house.came.acquire()


async def test_those_who_find_no_place_wait_for_one(house: House) -> None:
    """Five come at once to a house for two: all are answered, never more than two at a time."""
    asking = [asyncio.create_task(house.ask()) for _ in range(5)]
    await arrived(house, 2)
    house.goes_on.set()
    assert await asyncio.gather(*asking) == [(200, "")] * 5
    assert house.most == 2


async def test_a_crowd_is_told_to_come_back(house: House) -> None:
    """Where even those who wait are too many, the next one is refused at once, and the others are answered all the same."""
    asking = [asyncio.create_task(house.ask()) for _ in range(5)]
    await arrived(house, 2)
    assert await house.ask() == (503, "Busy")
    house.goes_on.set()
    assert await asyncio.gather(*asking) == [(200, "")] * 5


async def test_nobody_waits_for_ever(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody leaves, who waits is told so after a while; later there is a place again."""
    monkeypatch.setattr(app, "WAIT_S", 0.01)
    asking = [asyncio.create_task(house.ask()) for _ in range(2)]
    await arrived(house, 2)
    assert await house.ask() == (503, "Busy")
    house.goes_on.set()
    await asyncio.gather(*asking)
    assert await house.ask() == (200, "")


async def test_streams_take_no_place_of_other_requests(house: House) -> None:
    """A wall of screens that shows a run keeps nobody from deciding; and gives no place back that it does not have."""
    screens = [asyncio.create_task(house.ask("/live")) for _ in range(4)]
    await arrived(house, 4)
    asking = [asyncio.create_task(house.ask()) for _ in range(2)]
    await arrived(house, 2)
    waiting = [asyncio.create_task(house.ask()) for _ in range(3)]
    await asyncio.sleep(0)
    assert await house.ask() == (503, "Busy")
    house.goes_on.set()
    assert await asyncio.gather(*screens, *asking, *waiting) == [(200, "")] * 9
