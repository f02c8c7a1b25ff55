"""Sealing follows writing, goes on after a failure, and leaves the database alone in between."""

import asyncio
from datetime import timedelta
from typing import Any, cast

from keep_operator.errors import Unavailable
from keep_operator.reconcile.sealer import Sealer
from keep_operator.store import seals
from unit import virtual_time


class _Waiting:
    """A database with entries that wait; it notes when it was asked to seal, and is away until a moment."""

    def __init__(self, count: int = 0, away_until: float = 0.0) -> None:
        self.wrote = asyncio.Event()
        self.count = count
        self.asked: list[float] = []
        self._away_until = away_until

    async def seal(self) -> int:
        now = asyncio.get_running_loop().time()
        self.asked.append(now)
        if now < self._away_until:
            raise Unavailable("DatabaseUnavailable", "away")
        taken = min(self.count, seals.BATCH)
        self.count -= taken
        return taken

    def write(self) -> None:
        self.count += 1
        self.wrote.set()


async def _at(database: _Waiting, *writes: float, until: float) -> Sealer:
    """A sealer that has run until then, with writes at some moments."""
    loop = asyncio.get_running_loop()
    sealer = Sealer(cast(Any, database), timedelta(seconds=600), loop.time)
    running = asyncio.create_task(sealer.run())
    for moment in writes:
        loop.call_at(moment, database.write)
    await asyncio.sleep(until)
    running.cancel()
    return sealer


def test_what_a_predecessor_left_is_sealed_at_once() -> None:
    """However much it is, a new leader begins with it, batch after batch."""

    async def story() -> None:
        database = _Waiting(count=2 * seals.BATCH + 1)
        await _at(database, until=1)
        assert (database.count, database.asked) == (0, [0.0, 0.0, 0.0])

    virtual_time.run(story())


def test_writes_share_a_sealing_within_a_second() -> None:
    """A burst of entries costs one transaction more, not one for each; without writes it is asked at the interval."""

    async def story() -> None:
        database = _Waiting()
        sealer = await _at(database, 10.0, 10.1, 10.4, until=700)
        assert database.asked == [0.0, 10.5, 610.5]
        assert (database.count, sealer.unsealed_s()) == (0, 0.0)

    virtual_time.run(story())


def test_while_the_database_is_away_it_is_tried_again_ever_more_seldom() -> None:
    """Nothing is lost by waiting, and all is sealed when it is back."""

    async def story() -> None:
        database = _Waiting(away_until=100)
        await _at(database, 1.5, until=60)
        gaps = [later - earlier for earlier, later in zip(database.asked, database.asked[1:], strict=False)]
        assert gaps == [1.0, 2.0, 4.0, 8.0, 16.0]
        assert database.count == 1
        later = _Waiting(count=1, away_until=20)
        sealer = await _at(later, until=60)
        assert (later.count, sealer.unsealed_s()) == (0, 0.0)

    virtual_time.run(story())
