"""When the record of an object that is gone may be collected, with time as an argument."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keep_operator.domain import collection
from keep_operator.domain.collection import Lost, Note, Notes
from keep_operator.domain.ownership import Owner

pytestmark = pytest.mark.unit

INTERVAL_S = 600.0
DEFINITIONS = {"Provider": "d1", "Tenant": "d1"}


def a_lost(name: str = "vms", uid: str = "uid-1", kind: str = "Provider") -> Lost:
    return Lost(kind, f"id-{name}", "keep", "slack", name, Owner("cluster", "monitoring", name, uid), "Delete")


def judge(
    notes: Notes, *missed: Lost, now_s: float, definitions: dict[str, str] | None = None
) -> tuple[Notes, list[Lost]]:
    return collection.judge(notes, missed, definitions or DEFINITIONS, now_s=now_s, interval_s=INTERVAL_S)


def test_the_first_miss_is_only_noted() -> None:
    """One list may be wrong."""
    notes, due = judge({}, a_lost(), now_s=100.0)
    assert due == []
    assert list(notes.values()) == [Note(100.0, "d1")]


def test_the_second_miss_counts_after_a_whole_interval() -> None:
    """Sweeps that a broken stream asked for come close together, and count as one."""
    notes, _ = judge({}, a_lost(), now_s=100.0)
    notes, due = judge(notes, a_lost(), now_s=100.0 + INTERVAL_S - 1)
    assert due == []
    _, due = judge(notes, a_lost(), now_s=100.0 + INTERVAL_S)
    assert due == [a_lost()]


def test_a_new_owner_of_the_row_is_missed_anew() -> None:
    """The row passed to another object in between: that one has been missed only once."""
    notes, _ = judge({}, a_lost(uid="uid-1"), now_s=0.0)
    _, due = judge(notes, a_lost(uid="uid-2"), now_s=INTERVAL_S)
    assert due == []


def test_a_definition_made_anew_starts_the_count_of_its_kind_anew() -> None:
    """And of no other kind."""
    both = (a_lost(), a_lost("keep", kind="Tenant"))
    notes, _ = judge({}, *both, now_s=0.0)
    _, due = judge(notes, *both, now_s=INTERVAL_S, definitions={"Provider": "d2", "Tenant": "d1"})
    assert due == [both[1]]


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 2 * INTERVAL_S)), max_size=12))
def test_nothing_is_due_that_was_seen_within_the_last_interval(sweeps: list[tuple[bool, float]]) -> None:
    """Whatever the sweeps saw and whenever they came."""
    notes: Notes = {}
    now_s, missed_since_s = 0.0, None
    for missed, passed_s in sweeps:
        now_s += passed_s
        notes, due = judge(notes, *([a_lost()] if missed else []), now_s=now_s)
        missed_since_s = (now_s if missed_since_s is None else missed_since_s) if missed else None
        assert bool(due) == (missed_since_s is not None and now_s - missed_since_s >= INTERVAL_S)
