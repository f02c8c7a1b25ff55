"""What a repetition of a step or an action does, as the runner has to know it before it repeats one."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keep_operator.domain import abilities
from keep_operator.domain.abilities import ABILITIES, Kind, SideEffects

pytestmark = pytest.mark.unit

NONE, IDEMPOTENT, EFFECT = SideEffects.NONE, SideEffects.IDEMPOTENT, SideEffects.EFFECT


@pytest.mark.parametrize(
    ("type_name", "kind", "parameters", "does"),
    [
        ("console", "action", {}, NONE),
        ("slack", "action", {"message": "x"}, EFFECT),
        ("slack", "action", {"message": "x", "slack_timestamp": "1.2"}, IDEMPOTENT),
        ("slack", "action", {"message": "x", "thread_timestamp": "1.2"}, EFFECT),
        ("slack", "action", {"message": "eyes", "notification_type": "reaction"}, IDEMPOTENT),
        ("http", "step", {"url": "x"}, NONE),
        ("http", "step", {"url": "x", "method": "post"}, EFFECT),
        ("http", "action", {"url": "x", "method": " head "}, NONE),
        ("http", "action", {"url": "x", "method": "POST", "idempotency_key": True}, IDEMPOTENT),
        ("http", "action", {"url": "x", "method": "POST", "idempotency_key": False}, EFFECT),
        ("webhook", "step", {"url": "x"}, EFFECT),
        ("webhook", "step", {"url": "x", "method": "GET"}, NONE),
        ("webhook", "action", {"method": "GET"}, EFFECT),
        ("webhook", "action", {"idempotency_key": "mine"}, IDEMPOTENT),
        ("pagerduty", "action", {}, IDEMPOTENT),
        ("opsgenie", "action", {}, IDEMPOTENT),
        ("ilert", "action", {"_type": "event"}, IDEMPOTENT),
        ("ilert", "action", {"summary": "x"}, EFFECT),
        ("ilert", "action", {"id": "0"}, EFFECT),
        ("ilert", "action", {"id": "5"}, IDEMPOTENT),
        ("jira", "action", {"summary": "x"}, EFFECT),
        ("jira", "action", {"issue_id": "1"}, IDEMPOTENT),
        ("servicenow", "action", {"payload": {}}, EFFECT),
        ("servicenow", "action", {"ticket_id": "1"}, NONE),
        ("postgres", "step", {"query": "DELETE FROM x"}, NONE),
        ("postgres", "action", {"query": "SELECT 1"}, EFFECT),
        ("mysql", "step", {"query": "SELECT 1"}, NONE),
        ("mysql", "step", {"query": "DELETE FROM x"}, EFFECT),
        ("mysql", "action", {"query": "SELECT 1"}, EFFECT),
        ("clickhouse", "step", {"query": None}, EFFECT),
        ("slack", "step", {}, None),
        ("openshift", "step", {}, None),
    ],
)
def test_what_a_repetition_does(
    type_name: str, kind: Kind, parameters: dict[str, Any], does: SideEffects | None
) -> None:
    """A worker that died in a step leaves it to this whether the step is done again, or its run ends."""
    assert abilities.side_effects(type_name, kind, parameters) is does


@pytest.mark.parametrize(
    ("query", "does"),
    [
        ("select 1", True),
        ("  \n-- why\nSELECT 1", True),
        ("/* a */ # b\n ((select 1) union (select 2))", True),
        ("WITH a AS (SELECT 1) SELECT * FROM a", True),
        ("Show TABLES", True),
        ("EXPLAIN SELECT 1", True),
        ("selection", False),
        ("INSERT INTO a SELECT 1", False),
        ("-- select 1", False),
        ("/* select */", False),
        ("/* select", False),
        ("; select 1", False),
        ("", False),
        (None, False),
        (5, False),
    ],
)
def test_which_statements_read(query: object, does: bool) -> None:
    """By its first word, behind brackets and comments; what is not known to read is taken to write."""
    assert abilities.reads(query) is does


@given(st.text(alphabet="(-/*#\n \tselect", max_size=300))
def test_no_statement_is_too_odd(query: str) -> None:
    """Whatever a template makes of a statement, it is looked at once from its beginning to its first word."""
    assert abilities.reads(query) in (True, False)


def test_every_type_is_one_of_keeps() -> None:
    """The runtime has no types that a definition for Keep could not name, and does nothing that Keep's provider cannot."""
    from keep_operator.domain import catalogue
    from keep_operator.domain.grammar.steps import UNLISTED

    for name, ability in ABILITIES.items():
        kind = catalogue.find(name)
        assert kind is not None or name in UNLISTED, name
        if kind is not None:
            assert ability.query is None or kind.can_query, name
            assert ability.notify is None or kind.can_notify, name


def test_what_runs_code_is_never_there() -> None:
    """A definition is anybody's in the team, and the runner has everybody's credentials."""
    assert abilities.NEVER & ABILITIES.keys() == set()
    for name in abilities.NEVER:
        assert "never will be" in (abilities.fault(name, "step") or "")
