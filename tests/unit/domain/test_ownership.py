"""Who owns a record, and who of several claimants wins it."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keep_operator.domain import ownership
from unit.builders import NOW, a_claim, provider_owner, tenant_owner

pytestmark = pytest.mark.unit


def test_the_oldest_claim_wins() -> None:
    """Who was there first keeps the name (A-CF-1)."""
    old, young = a_claim("old", created_at=NOW - timedelta(days=1)), a_claim("young")
    assert ownership.winner([young, old]) is old


def test_of_two_that_came_in_the_same_second_the_lower_uid_wins() -> None:
    """One `kubectl apply` of a folder makes them in the same second: every replica must choose alike."""
    one, two = a_claim("one", uid="a"), a_claim("two", uid="b")
    assert ownership.winner([two, one]) is one


def test_without_claims_nobody_wins() -> None:
    """Nobody asks for the name."""
    assert ownership.winner([]) is None


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abcdef")), unique_by=lambda each: each[1], min_size=1))
def test_the_winner_does_not_depend_on_the_order(ages: list[tuple[int, str]]) -> None:
    """Two workers that list the claimants differently agree."""
    claims = [a_claim(uid, uid=uid, created_at=NOW - timedelta(hours=age)) for age, uid in ages]
    assert ownership.winner(claims) == ownership.winner(reversed(claims))


def test_an_owner_is_named_as_people_name_it() -> None:
    """`Managed by monitoring/vm`, and the bare name of what has no namespace."""
    assert str(provider_owner("vm")) == "monitoring/vm"
    assert str(tenant_owner("keep")) == "keep"
