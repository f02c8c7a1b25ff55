"""A canary, step by step, and which runs it gets."""

import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keep_operator.domain import canary
from keep_operator.domain.canary import Measured, Progress, Stats
from keep_operator.domain.gates import Guard
from keep_operator.domain.history import Canary
from keep_operator.resources.release import Analysis, CanaryStep, Pause
from unit.lineages import hash_of, minute

LINE = UUID(int=7)
MINUTE = timedelta(minutes=1)


def weight(percent: int) -> CanaryStep:
    """`setWeight`."""
    return CanaryStep(set_weight=percent)


def wait(minutes: int | None = None) -> CanaryStep:
    """`pause`."""
    return CanaryStep(pause=Pause(duration=None if minutes is None else timedelta(minutes=minutes)))


def analysis(**fields: Any) -> CanaryStep:
    """`analysis` of ten runs within half an hour, of which one in ten may fail."""
    given: dict[str, Any] = {"min_runs": 10, "window": timedelta(minutes=30), "max_failure_rate_percent": 10}
    return CanaryStep(analysis=Analysis(**(given | fields)))


def begun(*steps: CanaryStep) -> Canary:
    """A canary of v2 beside v1."""
    return canary.begin(2, 1, steps, None, minute(0))


def goes(steps: tuple[CanaryStep, ...], known: Canary | None = None, at: int = 0, **seen: Any) -> Progress:
    """How it goes on after so many minutes."""
    guard = seen.pop("guard", None)
    measured = Measured(**seen) if seen else None
    return canary.advance(known or begun(*steps), steps, measured, guard, minute(at))


def where(progress: Progress) -> tuple[int, int, str]:
    """Step, weight, and what is said."""
    assert progress.canary is not None
    return progress.canary.step, progress.canary.weight, progress.deployed.reason


def test_a_canary_gets_its_first_share_at_once_and_goes_on_by_the_clock() -> None:
    """A pause lasts as long as it says, by the clock, whoever looks when."""
    steps = (weight(20), wait(10), weight(50), wait(10))
    first = goes(steps)
    assert where(first) == (1, 20, "CanaryInProgress")
    assert first.wake_in == 10 * MINUTE
    assert goes(steps, first.canary, 9).canary == first.canary
    second = goes(steps, first.canary, 10)
    assert where(second) == (3, 50, "CanaryInProgress")
    end = goes(steps, second.canary, 20)
    assert end.canary is None and end.failure is None and end.deployed.reason == "RevisionActive"


def test_after_a_long_night_no_pause_is_skipped() -> None:
    """A-CAN-8: the operator was away for two pauses; the first is over by the clock, the second begins with its weight."""
    steps = (weight(20), wait(10), weight(50), wait(10), weight(80), wait(10))
    first = goes(steps)
    assert where(goes(steps, first.canary, 600)) == (3, 50, "CanaryInProgress")


def test_a_pause_without_an_end_waits_for_a_person() -> None:
    """It waits for ever, keeps its share, and says what to decide."""
    steps = (weight(20), wait())
    progress = goes(steps, at=100_000)
    assert where(progress) == (1, 20, "CanaryPaused")
    assert progress.wake_in is None and "Promote" in progress.deployed.message


@pytest.mark.parametrize(
    ("fields", "seen", "at", "expected"),
    [
        # enough runs, and good ones
        ({}, {"candidate": Stats(10, 1)}, 1, "passed"),
        ({}, {"candidate": Stats(10, 2)}, 1, "failed"),
        ({}, {"candidate": Stats(9, 9)}, 1, "pending"),
        ({}, {"candidate": Stats(0, 0)}, 30, "inconclusive"),
        ({}, {"candidate": Stats(1, 0)}, 30, "inconclusive"),
        ({}, {"candidate": Stats(10, 0)}, 31, "passed"),
        ({"failure_limit": 1}, {"candidate": Stats(10, 10)}, 1, "again"),
        # against the stable one
        ({"max_error_rate_delta_percent": 5}, {"candidate": Stats(20, 2), "stable": Stats(100, 6)}, 1, "passed"),
        ({"max_error_rate_delta_percent": 5}, {"candidate": Stats(20, 2), "stable": Stats(100, 4)}, 1, "failed"),
        ({"max_error_rate_delta_percent": 5}, {"candidate": Stats(20, 2)}, 1, "pending"),
        ({"max_error_rate_delta_percent": 5}, {"candidate": Stats(20, 2)}, 30, "inconclusive"),
        # how long they take
        ({"max_p95_duration": timedelta(seconds=2)}, {"candidate": Stats(10, 0, 2.1)}, 1, "failed"),
        ({"max_p95_duration": timedelta(seconds=2)}, {"candidate": Stats(10, 0, 2.0)}, 1, "passed"),
    ],
)
def test_an_analysis(fields: dict[str, Any], seen: dict[str, Any], at: int, expected: str) -> None:
    """A-CAN-4: enough runs, and not too many bad ones; no data is no success, and is no failure either."""
    steps = (weight(20), analysis(**fields), wait())
    known = goes(steps).canary
    assert known is not None
    progress = goes(steps, known, at, **seen)
    if expected == "failed":
        assert progress.canary is None and progress.failure is not None
        assert progress.deployed.reason == "AutoRolledBack"
        return
    assert progress.canary is not None and progress.failure is None
    if expected == "passed":
        assert where(progress) == (2, 20, "CanaryPaused")
    elif expected == "again":
        assert (progress.canary.failed, progress.canary.measured_since) == (1, minute(at))
    elif expected == "inconclusive":
        assert where(progress) == (1, 20, "AnalysisInconclusive")
        assert goes(steps, progress.canary, 10_000, candidate=Stats(50, 0)).canary == progress.canary
    else:
        assert progress.canary == known and progress.deployed.reason == "CanaryInProgress"


def test_what_was_measured_before_a_step_does_not_decide_it() -> None:
    """The bad runs at 1 % end an analysis, and the good ones there do not pass the next."""
    steps = (weight(1), analysis(), weight(50), analysis())
    known = goes(steps).canary
    progress = goes(steps, known, 1, candidate=Stats(10, 0))
    assert where(progress) == (3, 50, "CanaryInProgress")


def test_a_person_stops_the_clock() -> None:
    """A pause of ten minutes that is paused after four has six left, and an analysis counts anew."""
    steps = (weight(20), wait(10), weight(50))
    known = goes(steps).canary
    assert known is not None
    paused = canary.pause(known, minute(4))
    assert where(goes(steps, paused, 500)) == (1, 20, "CanaryPaused")
    on = canary.resume(paused, minute(500))
    assert goes(steps, on, 505).canary == on
    assert goes(steps, on, 506).canary is None
    assert on.measured_since == minute(500)


def test_the_guard_watches_all_the_way() -> None:
    """A-CAN-7: autoRollback takes a canary back in a step without an analysis, and in a pause that a person made."""
    guard = Guard(timedelta(hours=1), 5, 50)
    steps = (weight(20), wait())
    known = goes(steps).canary
    assert known is not None
    assert goes(steps, known, 1, guard=guard, whole=Stats(5, 2)).failure is None
    assert goes(steps, known, 1, guard=guard, whole=Stats(4, 4)).failure is None
    assert goes(steps, known, 1, guard=guard, whole=Stats(5, 3)).failure is not None
    assert goes(steps, canary.pause(known, minute(1)), 2, guard=guard, whole=Stats(5, 3)).failure is not None


KEYS = [f"fingerprint-{number}" for number in range(10_000)]


@pytest.mark.parametrize("percent", [1, 5, 20, 50, 99])
def test_the_share_is_the_weight(percent: int) -> None:
    """A-CAN-1: of 10,000 keys a part of the weight, within three standard deviations of the binomial distribution."""
    chosen = sum(canary.chooses(key, LINE, hash_of("B"), percent) for key in KEYS)
    deviation = (len(KEYS) * percent / 100 * (1 - percent / 100)) ** 0.5
    assert abs(chosen - len(KEYS) * percent / 100) <= 3 * deviation


def test_all_and_nothing_are_exact() -> None:
    """0 % is no run, 100 % every run."""
    assert not any(canary.chooses(key, LINE, hash_of("B"), 0) for key in KEYS)
    assert all(canary.chooses(key, LINE, hash_of("B"), 100) for key in KEYS)


@given(st.text(), st.integers(0, 100), st.integers(0, 100))
def test_raising_the_weight_takes_no_key_from_the_candidate(key: str, one: int, other: int) -> None:
    """A-CAN-1: an alert that is with the new version stays with it."""
    low, high = sorted((one, other))
    if canary.chooses(key, LINE, hash_of("B"), low):
        assert canary.chooses(key, LINE, hash_of("B"), high)


def test_two_processes_choose_alike() -> None:
    """A-CAN-1: whatever process of whatever replica makes the run, without a word between them."""
    code = (
        "import sys\nfrom uuid import UUID\nfrom keep_operator.domain import canary\n"
        "print(sum(1 << place for place, key in enumerate(sys.stdin.read().split())"
        " if canary.chooses(key, UUID(int=7), sys.argv[1], 20)))"
    )
    asked = [sys.executable, "-c", code, hash_of("B")]
    told = {
        subprocess.run(
            asked, input="\n".join(KEYS), capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    here = sum(1 << place for place, key in enumerate(KEYS) if canary.chooses(key, LINE, hash_of("B"), 20))
    assert told == {f"{here}\n"}


def test_another_candidate_is_met_by_other_keys() -> None:
    """The same unlucky alerts are not the first to meet every new version."""
    first = {key for key in KEYS if canary.chooses(key, LINE, hash_of("B"), 20)}
    second = {key for key in KEYS if canary.chooses(key, LINE, hash_of("C"), 20)}
    assert 200 < len(first & second) < 600


@given(st.lists(st.integers(0, 3), max_size=8), st.integers(0, 100))
def test_a_look_that_is_repeated_changes_nothing(words: list[int], minutes: int) -> None:
    """Whoever looks again at the same moment finds the canary as the first look left it."""
    made = {0: weight(30), 1: wait(5), 2: wait(), 3: analysis()}
    steps = tuple(made[word] for word in words) or (weight(30),)
    first = goes(steps, at=minutes)
    if first.canary is not None:
        again = canary.advance(first.canary, steps, None, None, minute(minutes))
        assert again.canary == first.canary
        assert replace(first, analysis=None) == replace(again, analysis=None)
