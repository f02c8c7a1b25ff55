"""Differences that are made once, and kept as long as there is room."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from keep_operator.console import comparisons
from keep_operator.console.comparisons import Comparisons
from keep_operator.domain import difference

pytestmark = pytest.mark.unit


class Reader:
    """Two contents, and how often they were read."""

    def __init__(self, message: str = "after", fault: Exception | None = None) -> None:
        self.contents = {"consts": {"message": "before"}}, {"consts": {"message": message}}
        self.reads = 0
        self.goes_on = asyncio.Event()
        self.fault = fault

    async def read(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Both, once the test lets it go on."""
        self.reads += 1
        await self.goes_on.wait()
        if self.fault is not None:
            raise self.fault
        return self.contents

    @property
    def told(self) -> dict[str, Any]:
        """What is to be told of them."""
        return difference.told(*self.contents)


def free(message: str = "after") -> Reader:
    """One that does not wait."""
    reader = Reader(message)
    reader.goes_on.set()
    return reader


async def test_what_many_ask_at_once_is_compared_once() -> None:
    """Ten people who open the link in the chat cost one comparison; those who come later cost none."""
    made, reader = Comparisons(), Reader()
    asking = [asyncio.create_task(made.between("a", "b", 3, reader.read)) for _ in range(10)]
    await asyncio.sleep(0)
    reader.goes_on.set()
    assert await asyncio.gather(*asking) == [reader.told] * 10
    assert await made.between("a", "b", 3, reader.read) == reader.told
    assert reader.reads == 1


async def test_another_direction_and_another_context_are_other_differences() -> None:
    """What was kept for one question is no answer to another."""
    made, reader = Comparisons(), free()
    for key in (("a", "b", 3), ("b", "a", 3), ("a", "b", 0)):
        await made.between(*key, reader.read)
    assert reader.reads == 3


async def test_who_leaves_takes_it_from_nobody() -> None:
    """The first one closes his browser: the others still get it. When all have left nothing goes on for nobody."""
    made, reader = Comparisons(), Reader()
    first, second = (asyncio.create_task(made.between("a", "b", 3, reader.read)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    reader.goes_on.set()
    assert await second == reader.told
    abandoned = Reader()
    alone = asyncio.create_task(made.between("c", "d", 3, abandoned.read))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    alone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await alone
    assert await made.between("c", "d", 3, (again := free()).read) == again.told
    assert (abandoned.reads, again.reads) == (1, 1)


async def test_a_failure_is_told_to_all_and_kept_for_nobody() -> None:
    """While the database is away all are told so; the next one who asks gets the difference."""
    made, reader = Comparisons(), Reader(fault=RuntimeError("away"))
    asking = [asyncio.create_task(made.between("a", "b", 3, reader.read)) for _ in range(3)]
    await asyncio.sleep(0)
    reader.goes_on.set()
    assert [str(each) for each in await asyncio.gather(*asking, return_exceptions=True)] == ["away"] * 3
    assert await made.between("a", "b", 3, (good := free()).read) == good.told


async def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever walks through all pairs of a thousand versions fills no memory; what was looked at last is kept."""
    monkeypatch.setattr(comparisons, "KEPT", 3)
    made, reader = Comparisons(), free()
    for n in range(6):
        await made.between("a", str(n), 3, reader.read)
        await made.between("a", "0", 3, reader.read)
    assert reader.reads == 6
    await made.between("a", "1", 3, reader.read)
    assert reader.reads == 7
    small = Comparisons(most_bytes=2_000)
    large, little = free("x" * 3_000), free()
    await small.between("a", "b", 3, little.read)
    for _ in range(2):
        assert await small.between("a", "c", 3, large.read) == large.told
    await small.between("a", "b", 3, little.read)
    assert (large.reads, little.reads) == (2, 1), "what is larger than all room is not kept, and drives nothing out"
