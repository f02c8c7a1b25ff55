"""How much is let through."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keep_operator.console import rates
from keep_operator.console.rates import Rates

pytestmark = pytest.mark.unit


@dataclass
class Clock:
    """Seconds as the test says."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_and_then_a_steady_rate() -> None:
    """Whoever was quiet may send much at once; others are not concerned."""
    clock = Clock()
    taken = Rates[str](clock, per_s=2, burst=5)
    assert [taken.take("a") for _ in range(5)] == [0.0] * 5
    assert taken.take("a") == 0.5
    assert taken.take("b") == 0.0
    clock.now += 0.5
    assert taken.take("a") == 0.0
    assert taken.take("a", 3) == 1.5
    clock.now += 1_000
    assert taken.take("a", 5) == 0.0
    assert taken.take("a", 1) == 0.5


def test_more_than_a_burst_waits_for_a_full_bucket_and_is_paid_for() -> None:
    """A request that is larger than a burst is let through at last, and those after it wait the longer."""
    clock = Clock()
    taken = Rates[str](clock, per_s=1, burst=5)
    assert taken.take("a", 10) == 0.0
    assert taken.take("a") == 6.0


def test_what_is_given_back_counts_not() -> None:
    """Only failures shall be counted."""
    taken = Rates[str](Clock(), per_s=1, burst=1)
    for _ in range(3):
        assert taken.take("a") == 0.0
        taken.give_back("a")


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A million addresses take no more memory than some thousand."""
    monkeypatch.setattr(rates, "REMEMBERED", 10)
    taken = Rates[int](Clock(), per_s=1, burst=1)
    for key in range(100):
        taken.take(key)
    assert len(taken._buckets) <= 10


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 4)), max_size=60))
def test_never_more_than_a_burst_and_the_rate(steps: list[tuple[float, int]]) -> None:
    """Whatever the pace, what is let through stays below what was promised."""
    clock = Clock()
    taken = Rates[str](clock, per_s=2, burst=5)
    through = 0
    for pause, units in steps:
        clock.now += pause
        wait_s = taken.take("a", units)
        assert wait_s >= 0
        through += units if wait_s == 0 else 0
        assert through <= 5 + 2 * (clock.now - 100.0) + 1e-6
