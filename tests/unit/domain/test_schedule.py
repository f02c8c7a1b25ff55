"""Ticks keep their distance and start once, whatever happens to the schedule and to those who start them."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keep_operator.domain import schedule
from keep_operator.domain.schedule import MissedTicks

pytestmark = pytest.mark.unit

START = datetime(2026, 11, 29, 12, tzinfo=UTC)
EVERY = timedelta(minutes=5)
spans = st.integers(1, 90_000).map(lambda s: timedelta(seconds=s))
policies = st.sampled_from(["Skip", "RunOnce"])


def test_a_new_interval_begins_at_once() -> None:
    """Who deploys a check every day does not wait a day for the first one."""
    assert schedule.replanned(START, EVERY, None, None) == START


def test_a_rollout_does_not_disturb_the_ticks() -> None:
    """A revision that leaves the interval alone neither runs early nor late."""
    next_tick = START + timedelta(minutes=3)
    assert schedule.replanned(START, EVERY, EVERY, next_tick) == next_tick


@pytest.mark.parametrize(("minutes", "expected"), [(10, 8), (3, 1), (1, 0)])
def test_another_interval_counts_from_the_last_tick(minutes: int, expected: int) -> None:
    """The last tick was 2 minutes ago; a shorter interval that has passed already is due now, and once."""
    next_tick = START + timedelta(minutes=3)
    found = schedule.replanned(START, timedelta(minutes=minutes), EVERY, next_tick)
    assert found == START + timedelta(minutes=expected)


def test_without_an_interval_nothing_is_due() -> None:
    """Suspended, deleted, or the trigger is gone."""
    assert schedule.replanned(START, None, EVERY, START) is None


def test_a_tick_that_is_late_by_a_little_is_started() -> None:
    """The tick is the time that was planned, not the time at which it was started."""
    due = schedule.due(START + timedelta(seconds=20), EVERY, START, "Skip")
    assert (due.tick, due.next_tick, due.missed) == (START, START + EVERY, 0)


@pytest.mark.parametrize(("policy", "starts"), [("Skip", False), ("RunOnce", True)])
def test_after_an_hour_away_nothing_is_made_up_for_but_once(policy: MissedTicks, starts: bool) -> None:
    """All runners were away for 62 minutes: twelve ticks were missed, and the next is in step with those before."""
    due = schedule.due(START + timedelta(minutes=62), EVERY, START, policy)
    assert due.tick == (START + timedelta(minutes=60) if starts else None)
    assert due.next_tick == START + timedelta(minutes=65)
    assert due.missed == 13


@given(late=st.integers(0, 10**7), every=spans, policy=policies)
def test_no_drift_and_no_tick_from_the_future(late: int, every: timedelta, policy: MissedTicks) -> None:
    """However late: the next tick is in the future, a whole number of intervals from the first, and at most one is started."""
    now = START + timedelta(seconds=late)
    due = schedule.due(now, every, START, policy)
    assert now < due.next_tick <= now + every
    assert (due.next_tick - START) % every == timedelta(0)
    if due.tick is not None:
        assert START <= due.tick <= now
        assert due.tick + every == due.next_tick


@given(st.lists(st.tuples(spans, policies), min_size=1, max_size=30), spans)
def test_no_tick_is_started_twice(steps: list[tuple[timedelta, MissedTicks]], every: timedelta) -> None:
    """Looked at in any rhythm, the ticks that are started only grow."""
    now, next_tick, started = START, START, []
    for pause, policy in steps:
        now += pause
        if now >= next_tick:
            due = schedule.due(now, every, next_tick, policy)
            next_tick = due.next_tick
            if due.tick is not None:
                started.append(due.tick)
    assert started == sorted(set(started))
