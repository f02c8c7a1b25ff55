"""What a run is told apart by while a canary is under way; which revision it gets is asked of the database, in the integration tests."""

from datetime import UTC, datetime
from typing import Any

import pytest

from keep_operator.domain import binding
from keep_operator.domain.binding import Asked

EVENT = {"name": "cpu", "labels": {"host": "web-1"}}


def asked(**fields: Any) -> Asked:
    """A run that an alert asks for, or whatever the test says."""
    given = {"trigger": "Alert", "idempotency_key": "k", "requested_by": "ann", "event": EVENT, "fingerprint": "f"}
    return Asked(**given | fields)


@pytest.mark.parametrize(
    ("sticky_key", "key"),
    [
        (None, "f"),
        ("event.labels.host", "key web-1"),
        ("alert.labels.host", "key web-1"),
        ("trigger + '/' + fingerprint", "key Alert/f"),
        ("event.labels.nothing", "f"),
        ("event.name > 3", "f"),
        ("has(event.trigger) || has(event.severity_change)", "key False"),
    ],
)
def test_an_alert_is_told_apart_by_what_was_posted(sticky_key: str | None, key: str) -> None:
    """By its fingerprint, or by what the spec says of it; what a trigger adds afterwards makes no difference."""
    matched = {**EVENT, "trigger": "alert", "severity_changed": True, "severity_change": "increased"}
    assert binding.key_of(asked(), sticky_key) == key
    assert binding.key_of(asked(event=matched), sticky_key) == key


def test_inputs_can_tell_runs_of_people_apart() -> None:
    """Without a key each is for itself, by what makes it one request."""
    by_hand = asked(trigger="Manual", event=None, fingerprint=None, inputs={"team": "a"})
    assert binding.key_of(by_hand, "inputs.team") == "key a"
    assert binding.key_of(by_hand, "inputs.host") == "k"
    assert binding.key_of(by_hand, None) == "k"


def test_each_tick_is_a_key_of_its_own() -> None:
    """A-CAN-2: a key that is the same for all ticks would give all of them to one version."""
    tick = datetime(2026, 5, 1, tzinfo=UTC)
    ticking = asked(trigger="Interval", event=None, fingerprint=None, tick=tick)
    assert binding.key_of(ticking, "fingerprint") == binding.key_of(ticking, None) == "tick 1777593600"
