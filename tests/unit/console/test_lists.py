"""What is read once for all who look, and what is shown while the next one is read."""

import asyncio

import pytest

from keep_operator.console.pages import lists
from keep_operator.console.pages.lists import Known, Lists, Shared

pytestmark = pytest.mark.unit


class Source:
    """Something that is read: counts, and takes as long as the test wants. ``seconds`` is the clock."""

    def __init__(self) -> None:
        self.reads = 0
        self.seconds = 0.0
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.fault: Exception | None = None
        self.shared: Shared[int] = Shared(lambda: self.seconds)

    async def read(self) -> int:
        """The number of the reading."""
        self.reads += 1
        number = self.reads
        await self.goes_on.wait()
        if self.fault is not None:
            raise self.fault
        return number

    async def get(self) -> Known[int]:
        """What somebody is shown."""
        return await self.shared.get("it", self.read)


async def test_what_was_read_lately_is_not_read_again() -> None:
    """Twenty who look within three seconds are one reading, at once or one after the other; then it is read anew."""
    source = Source()
    assert await asyncio.gather(*(source.get() for _ in range(20))) == [Known(1)] * 20
    source.seconds = 2.5
    assert await source.get() == Known(1, 2.5)
    source.seconds = 3.0
    assert await source.get() == Known(2)


async def test_nobody_waits_long_where_there_is_an_older_one() -> None:
    """Ten thousand objects take the API server seconds to list: meanwhile the older list is shown, with its age."""
    source = Source()
    await source.get()
    source.seconds = 10.0
    source.goes_on.clear()
    assert await asyncio.gather(*(source.get() for _ in range(3))) == [Known(1, 10.0)] * 3
    assert source.reads == 2
    source.goes_on.set()
    source.seconds = 11.0
    assert await source.get() == Known(2)
    assert source.reads == 2, "what was begun for others is there by now"


async def test_what_is_very_old_is_shown_to_nobody() -> None:
    """Whoever comes back after an hour waits for what there is now."""
    source = Source()
    await source.get()
    source.seconds = 60.0
    source.goes_on.clear()
    asking = asyncio.create_task(source.get())
    await asyncio.sleep(2 * lists.PATIENCE_S)
    assert not asking.done()
    source.goes_on.set()
    assert await asking == Known(2)


async def test_a_failure_is_told_and_the_next_one_tries_again() -> None:
    """The API server is away: who looks is told so, and sees the fleet as soon as it is back."""
    source = Source()
    source.fault = RuntimeError("away")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="away"):
            await source.get()
    source.fault = None
    assert await source.get() == Known(3)


async def test_who_leaves_takes_it_from_nobody() -> None:
    """The first one closes his browser while the list is read: the others get it."""
    source = Source()
    source.goes_on.clear()
    first, second = (asyncio.create_task(source.get()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    source.goes_on.set()
    assert await second == Known(1)
    assert source.reads == 1


def test_what_is_made_of_lists_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand rows are sorted once for each list, not for each who looks; and the last ones are kept only."""
    monkeypatch.setattr(lists, "MADE", 2)
    made, sorts = Lists(lambda: 0.0), 0

    def make(rows: list[int], more: list[int]) -> list[int]:
        nonlocal sorts
        sorts += 1
        return sorted(rows + more)

    one, two = [3, 1], [2]
    for _ in range(3):
        assert made.made("a", make, one, two) == [1, 2, 3]
    assert sorts == 1
    assert made.made("a", make, list(one), two) == [1, 2, 3]
    assert sorts == 2
    for key in "bca":
        made.made(key, make, one, two)
    assert sorts == 5
