"""How findings become conditions, and conditions one `Ready`."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keep_operator.domain import conditions
from keep_operator.domain.conditions import MESSAGE_LIMIT, Finding, Truth, false, true, unknown
from keep_operator.resources import shapes
from keep_operator.resources.provider import ProviderStatus
from keep_operator.resources.shapes import Invalid
from unit.builders import NOW, condition, stamp

pytestmark = pytest.mark.unit

EARLIER, LATER = NOW - timedelta(minutes=5), NOW + timedelta(minutes=5)


def merged(old: list[dict[str, object]], *findings: Finding, generation: int = 2) -> list[dict[str, object]]:
    """The conditions after a look at NOW."""
    return conditions.merge(old, findings, generation=generation, now=NOW)


def test_a_status_that_stays_keeps_its_time() -> None:
    """`kubectl wait` and alerts see since when it is so, however often it was looked at."""
    old = [condition("Synced", "True", "Created", "before", at=EARLIER)]
    (after,) = merged(old, true("Synced", "Updated", "now"))
    assert after["lastTransitionTime"] == stamp(EARLIER)
    assert (after["reason"], after["message"], after["observedGeneration"]) == ("Updated", "now", 2)


@pytest.mark.parametrize("before", ["False", "Unknown", None])
def test_a_status_that_changes_gets_the_time_of_the_look(before: str | None) -> None:
    """The time tells of the transition, not of the first sight."""
    old = [] if before is None else [condition("Synced", before, at=EARLIER)]
    (after,) = merged(old, true("Synced", "InSync"))
    assert after["lastTransitionTime"] == stamp(NOW)


def test_what_no_look_speaks_of_any_more_is_dropped() -> None:
    """`Stalled` is present only while it is true."""
    old = [condition("Stalled", "True", "SpecRefused"), condition("Synced", "True")]
    assert [each["type"] for each in merged(old, true("Synced", "InSync"))] == ["Synced"]


def test_times_are_whole_seconds_in_utc() -> None:
    """The API server keeps nothing finer, and refuses what is no RFC 3339."""
    moment = NOW + timedelta(microseconds=987_654)
    (after,) = conditions.merge([], [true("Synced", "InSync")], generation=1, now=moment)
    assert after["lastTransitionTime"] == "2026-03-01T12:00:00Z"


def test_a_message_without_words_is_never_empty() -> None:
    """Old API servers take an empty string for none, and refuse the status."""
    (after,) = merged([], true("Ready", "Ready"))
    assert after["message"] == "Ready"


@given(st.text(max_size=3 * MESSAGE_LIMIT))
def test_a_message_is_bounded(message: str) -> None:
    """A hundred names in a message do not make a status that the API server refuses."""
    (after,) = merged([], unknown("Synced", "SyncFailed", message))
    status = {"conditions": [after]}
    assert len(str(after["message"])) <= MESSAGE_LIMIT
    assert not isinstance(shapes.parse(ProviderStatus, status), Invalid)


def test_ready_is_true_when_all_of_the_living_set_is() -> None:
    """Nothing is wrong: the one word that people look for."""
    found = conditions.ready([true("TenantReady", "TenantReady"), true("Synced", "InSync")], [], NOW)
    assert (found.truth, found.reason) == (Truth.TRUE, "Ready")


def test_false_goes_before_unknown() -> None:
    """What needs a person is told before what heals by waiting."""
    living = [unknown("TenantReady", "TenantNotFound", "w"), false("Synced", "InvalidConfig", "f")]
    found = conditions.ready(living, [], NOW)
    assert (found.truth, found.reason, found.message) == (Truth.FALSE, "InvalidConfig", "f")


def test_of_several_false_ones_the_latest_wins() -> None:
    """What went wrong last is what somebody has just done."""
    old = [condition("TenantReady", "False", at=EARLIER), condition("Synced", "False", at=NOW)]
    living = [false("TenantReady", "NamespaceNotAllowed", "t"), false("Synced", "InvalidConfig", "s")]
    assert conditions.ready(living, old, LATER).reason == "InvalidConfig"
    assert conditions.ready(living, list(reversed(old)), LATER).reason == "InvalidConfig"


def test_one_that_turns_false_now_is_the_latest() -> None:
    """A transition in this very look is later than any that is recorded."""
    old = [condition("TenantReady", "False", at=EARLIER), condition("Synced", "True", at=NOW)]
    living = [false("TenantReady", "NamespaceNotAllowed", "t"), false("Synced", "InvalidConfig", "s")]
    assert conditions.ready(living, old, LATER).reason == "InvalidConfig"


def test_of_several_unknown_ones_the_first_wins() -> None:
    """The order of the living set is the order in which things become possible."""
    living = [unknown("TenantReady", "TenantNotReady", ""), unknown("CredentialsResolved", "SecretNotFound", "")]
    assert conditions.ready(living, [], NOW).reason == "TenantNotReady"


findings = st.builds(
    Finding,
    type=st.sampled_from(["TenantReady", "CredentialsResolved", "Synced"]),
    truth=st.sampled_from(list(Truth)),
    reason=st.sampled_from(["A", "B"]),
    message=st.sampled_from(["", "m"]),
)


@given(st.lists(findings, unique_by=lambda each: each.type, min_size=1))
def test_the_same_look_again_changes_nothing(living: list[Finding]) -> None:
    """At rest nothing is written: a second look, later, gives the very same conditions."""
    once = conditions.merge([], [conditions.ready(living, [], NOW), *living], generation=1, now=NOW)
    again = conditions.merge(once, [conditions.ready(living, once, LATER), *living], generation=1, now=LATER)
    assert again == once


@given(st.lists(findings, unique_by=lambda each: each.type, min_size=1))
def test_ready_is_never_better_than_its_worst(living: list[Finding]) -> None:
    """Ready=True means that each of the living set is True."""
    truths = {each.truth for each in living}
    worst = next(truth for truth in (Truth.FALSE, Truth.UNKNOWN, Truth.TRUE) if truth in truths)
    assert conditions.ready(living, [], NOW).truth is worst


def test_since_when_a_condition_is_true() -> None:
    """Only a condition that is True has a beginning."""
    old = [condition("Deleting", "True", at=EARLIER), condition("Synced", "False", at=EARLIER)]
    assert conditions.since(old, "Deleting") == EARLIER
    assert conditions.since(old, "Synced") is None
    assert conditions.since(old, "Ready") is None
