"""Messages of streams, and what is watched."""

import asyncio

import pytest

from keep_operator.console.pages import live
from keep_operator.console.pages.live import Hub, News
from keep_operator.console.problems import Problem, missing


@pytest.mark.parametrize("ending", ["\n", "\r", "\r\n", "\n\n", "\r\r", "\n\r"])
def test_text_of_users_makes_no_message_of_its_own(ending: str) -> None:
    """Whatever ends a line for browsers begins another line of the same text."""
    told = live.event(f"a{ending}event: ended{ending}data: b")
    assert "\r" not in told and told.count("\n\n") == 1 and told.endswith("\n\n")
    assert all(line.startswith("data: ") for line in told.rstrip("\n").split("\n"))


def test_a_message_has_its_name_before_it() -> None:
    """As the standard has it."""
    assert live.event("", "ended") == "event: ended\ndata: \n\n"


async def test_nobody_looks_at_what_nobody_watches() -> None:
    """The poller comes with the first and goes with the last; who comes later hears what there is at once."""
    hub, looks = Hub(every_s=0.001), 0

    async def look(before: News | None) -> News:
        nonlocal looks
        looks += 1
        if looks == 2:
            raise missing("RunNotFound", "It is away for a moment.")
        return News(min(looks, 3))

    with hub.watching("it", look) as one:
        assert await one.later_than(0, 5.0)
        while one.version < 2:
            assert await one.later_than(one.version, 5.0)
        with hub.watching("it", look) as other:
            assert other is one and await other.later_than(0, 5.0)
            assert other.news == News(3)
        assert len(hub) == 1
    assert len(hub) == 0
    await asyncio.sleep(0.01)
    before = looks
    await asyncio.sleep(0.01)
    assert looks == before


async def test_a_fault_ends_what_is_watched_and_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody waits for a poller that has died."""

    async def look(before: News | None) -> News:
        raise RuntimeError("no")

    hub = Hub()
    with hub.watching("it", look) as topic:
        assert not await topic.later_than(0, 5.0)
        assert topic.closed
    assert "could not be looked at" in caplog.text


def test_places_are_given_back_however_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """One who opens more tabs than anybody needs takes no place of others."""
    monkeypatch.setattr(live, "MOST_OF_ONE", 1)
    hub = Hub()
    with hub.place("ann"), hub.place("bob"), pytest.raises(Problem), hub.place("ann"):
        raise AssertionError
    with hub.place("ann"):
        pass
