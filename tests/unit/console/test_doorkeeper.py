"""What is remembered of visitors: for a moment, and not too much of it."""

import pytest

from keep_operator.console.doorkeeper import Memory

pytestmark = pytest.mark.unit


class Clock:
    """Seconds as the test says."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_is_remembered_is_forgotten_in_time() -> None:
    """A right that was taken away is asked for anew when the moment is over, not a bit later."""
    clock = Clock()
    memory: Memory[str, str] = Memory(clock, 10.0, 100)
    memory.put("ann", "may")
    clock.now = 9.9
    assert memory.get("ann") == "may"
    clock.now = 10.0
    assert memory.get("ann") is None
    assert len(memory) == 0


def test_a_thousand_strangers_do_not_fill_the_memory() -> None:
    """However many tokens there are, only so many are known; the oldest is forgotten first."""
    memory: Memory[int, int] = Memory(Clock(), 10.0, 3)
    for number in range(1_000):
        memory.put(number, number)
        assert len(memory) <= 3
    assert [memory.get(number) for number in (996, 997, 998, 999)] == [None, 997, 998, 999]


def test_what_is_told_again_is_the_newest() -> None:
    """Who comes again is not forgotten before those who came in between."""
    clock = Clock()
    memory: Memory[str, int] = Memory(clock, 10.0, 2)
    memory.put("ann", 1)
    memory.put("bob", 1)
    clock.now = 5.0
    memory.put("ann", 2)
    memory.put("eve", 1)
    clock.now = 12.0
    assert (memory.get("ann"), memory.get("bob"), memory.get("eve")) == (2, None, 1)
