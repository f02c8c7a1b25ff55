"""Which revisions are archived, and why the others stay."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keep_operator.domain import retention
from keep_operator.domain.history import Lineage, Reference
from keep_operator.domain.retention import Policy, Uses
from keep_operator.resources.parts import Retention
from unit.lineages import hold, lineage, minute

LATER = minute(100_000)
REJECTED = {"rejected": "RejectedByUser"}
NONE = Uses()


def archived(seen: Lineage, policy: Policy, uses: Uses = NONE, now: Any = LATER) -> tuple[int, ...]:
    """The numbers that go."""
    return retention.judge(seen, policy, uses, now).archive


def test_the_last_ones_to_go_back_to_stay_and_older_ones_go_oldest_first() -> None:
    """A-RET-1: the limit counts what one could go back to, besides what is in use anyway."""
    assert archived(lineage("ABCDEF", "1 2 3 4 5 6"), Policy(limit=2)) == (1, 2, 3)
    assert archived(lineage("ABCDEF", "1 2 3 4 5 6"), Policy(limit=0)) == (1, 2, 3, 4, 5)
    assert archived(lineage("ABC", "1 2 3"), Policy(limit=10)) == ()


def test_both_times_must_have_passed() -> None:
    """A-RET-1: what was made or served lately stays, however many there are; the judgement says until when."""
    seen, policy = lineage("ABC", "1 2 3"), Policy(limit=0)
    young = retention.judge(seen, policy, NONE, minute(200))
    assert young.archive == ()
    assert young.due == minute(1) + policy.since_create
    # v1 served until minute 102, but was made in minute 1
    patient = Policy(limit=0, since_create=timedelta(), since_last_active=timedelta(hours=1))
    assert archived(seen, patient, now=minute(102 + 59)) == ()
    assert archived(seen, patient, now=minute(102 + 60)) == (1,)


def test_above_the_maximum_the_times_do_not_count() -> None:
    """A-RET-1: twenty versions an hour do not fill the cluster, but the last few to go back to stay."""
    assert archived(lineage("ABCDE", "1 2 3 4 5"), Policy(limit=1, maximum=4), now=minute(200)) == (1, 2, 3)
    assert archived(lineage("ABCDE", "1 2 3 4 5"), Policy(limit=1, maximum=5), now=minute(200)) == ()


@pytest.mark.parametrize(
    ("fields", "uses", "why"),
    [
        ({}, NONE, "one of the last"),
        ({"change": {2: {"tags": ("production",)}}}, NONE, "tag production"),
        ({"hold": hold("F", 2)}, NONE, "rollback"),
        ({}, Uses(pin=Reference(number=2)), "pin"),
        ({}, Uses(spared={2}), "no-gc"),
        ({}, Uses(running={2}), "runs"),
    ],
)
def test_what_is_needed_stays_and_says_why(fields: dict[str, Any], uses: Uses, why: str) -> None:
    """A-RET-2: tagged, held to, pinned, spared or running ones stay, whatever their age."""
    seen = lineage("ABCDEF", "1 2 3 4 5 6", **fields)
    limit = 4 if why == "one of the last" else 0
    found = retention.judge(seen, Policy(limit=limit), uses, LATER)
    assert 2 not in found.archive
    assert why in next(each.why for each in found.kept if each.number == 2)


def test_what_is_active_or_desired_never_goes() -> None:
    """A-RET-2, A-RET-5: after a rollback both the old one that runs and the new one that does not."""
    found = retention.judge(lineage("AbC", "1"), Policy(limit=0), NONE, LATER)
    assert found.archive == (2,)
    assert {each.number: each.why for each in found.kept} == {1: "active", 3: "the definition in the spec"}


def test_what_never_served_or_was_rejected_takes_no_place_and_goes_after_its_time() -> None:
    """A-RET-2: ten broken attempts in a row do not push out the last good version."""
    seen = lineage("ABcdefgH", "1 2 8", change={2: REJECTED})
    assert archived(seen, Policy(limit=1)) == (3, 4, 5, 6, 7, 2)
    assert archived(seen, Policy(limit=1), now=minute(200)) == ()


def test_what_is_archived_is_not_looked_at_again() -> None:
    """A-RET-4: a look that was cut off is repeated, and takes what is left."""
    seen = lineage("ABCD", "1 2 3 4", change={1: {"archived_at": minute(300)}})
    assert archived(seen, Policy(limit=0)) == (2, 3)


def test_a_workflow_says_field_by_field_what_its_tenant_has_said_before() -> None:
    """Unset fields are the tenant's, and else the documented ones."""
    assert retention.policy(10, None, None) == Policy()
    tenant = Retention(since_create=timedelta(hours=1), max=7)
    own = Retention(since_create=timedelta(hours=2))
    assert retention.policy(3, own, tenant) == Policy(limit=3, since_create=timedelta(hours=2), maximum=7)


_CONTENTS = st.text(alphabet="ABCDabc", min_size=1, max_size=12)


@given(contents=_CONTENTS, data=st.data())
def test_every_revision_with_an_object_is_judged_once_and_a_second_look_takes_nothing_more(
    contents: str, data: st.DataObject
) -> None:
    """A-RET-1..4: nothing is forgotten, what is needed stays, and archiving what was said leaves nothing to archive."""
    numbers = [number for number, letter in enumerate(contents, start=1) if letter.isupper()]
    deployed = data.draw(st.lists(st.sampled_from(numbers), max_size=8)) if numbers else []
    seen = lineage(contents, " ".join(map(str, deployed)))
    policy = Policy(limit=data.draw(st.integers(0, 4)), maximum=data.draw(st.integers(1, 15)))
    now = minute(data.draw(st.integers(0, 10_000)))
    found = retention.judge(seen, policy, NONE, now)
    assert sorted((*found.archive, *(each.number for each in found.kept))) == list(range(1, len(contents) + 1))
    assert seen.active_number not in found.archive and seen.latest_number not in found.archive
    left = lineage(
        contents, " ".join(map(str, deployed)), change={each: {"archived_at": now} for each in found.archive}
    )
    assert retention.judge(left, policy, NONE, now).archive == ()
    assert found.due is None or found.due > now
