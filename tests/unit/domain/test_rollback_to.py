"""A rollback by annotation: a decision for whoever has nothing but kubectl."""

from typing import Any

import pytest

from keep_operator.domain import rollback_to
from keep_operator.domain.history import Cause
from keep_operator.resources.objects import ROLLBACK_TO
from unit.workflows import World, spec_of

pytestmark = pytest.mark.unit


def world(*letters: str) -> World:
    """A Workflow with a version for each letter, at rest."""
    made = World(spec=spec_of(letters[0]))
    made.settle()
    for letter in letters[1:]:
        made.edit(spec_of(letter))
        made.settle()
    made.log.clear()
    return made


def ask(made: World, value: str) -> None:
    """Somebody annotates the Workflow."""
    made.annotations = {ROLLBACK_TO: value}
    made.settle()


def outcome(made: World, value: str) -> str:
    """What came of it."""
    return made.handled[rollback_to.request_id(value)].outcome


@pytest.mark.parametrize("value", ["1@a", "previous@2026-11-29T10:00:00+00:00", "production@x@y"])
def test_it_leads_back(value: str) -> None:
    """By number, by tag, or one step; it is a hold, as after the decision, and says whose it is."""
    made = World(spec=spec_of("A", release={"tags": ["production"]}))
    made.settle()
    made.edit(spec_of("B"))
    made.settle()
    ask(made, value)
    assert made.lineage.active_number == 1
    assert made.condition("Deployed") == ("False", "RolledBack")
    assert made.condition("Ready") == ("True", "Ready")
    hold = made.lineage.hold
    assert hold is not None
    assert (hold.actor, hold.reason) == (rollback_to.ACTOR, value)
    assert made.lineage.deployments[0].cause is Cause.ROLLBACK
    assert made.status["lastHandledAction"] == value


def test_it_is_acted_upon_once() -> None:
    """It may stay where it is: what happens later is not undone by it, and the same again needs another token."""
    made = world("A", "B")
    ask(made, "previous@1")
    made.edit(spec_of("C"))
    made.settle()
    assert made.lineage.active_number == 3
    ask(made, "previous@2")
    assert made.lineage.active_number == 1
    made.log.clear()
    made.annotations = {}
    made.settle()
    ask(made, "previous@1")
    assert made.log == ["Status"]
    assert made.lineage.active_number == 1


@pytest.mark.parametrize("crash_after", range(3))
def test_death_in_the_middle_does_it_once(crash_after: int) -> None:
    """Before it was carried out, or after that and before anybody was told."""
    made = world("A", "B", "C")
    made.annotations = {ROLLBACK_TO: "previous@1"}
    made.reconcile(crash_after=crash_after)
    made.settle()
    assert [each.revision for each in made.lineage.deployments] == [2, 3, 2, 1]
    assert made.status["lastHandledAction"] == "previous@1"


def test_it_is_remembered_by_either_side() -> None:
    """The status alone, after an older dump; the database alone, after a backup of the object without its status."""
    made = world("A", "B")
    ask(made, "previous@1")
    made.edit(spec_of("C"))
    made.settle()
    made.handled.clear()
    made.settle()
    assert made.lineage.active_number == 3
    made = world("A", "B")
    ask(made, "previous@1")
    made.edit(spec_of("C"))
    made.settle()
    made.status = {name: value for name, value in made.status.items() if name != "lastHandledAction"}
    made.settle()
    assert (made.lineage.active_number, made.status["lastHandledAction"]) == (3, "previous@1")


@pytest.mark.parametrize("value", ["1", "@1", "1@", "A!@1", "0@1", "9" * 30 + "@1", "²@1", " @\x00", "\n"])
def test_what_nobody_can_read_is_refused_once(value: str) -> None:
    """It is told, changes nothing, and is not told again at each look."""
    made = world("A", "B")
    ask(made, value)
    assert outcome(made, value) == "Refused"
    assert made.log == ["Handle", "Status"]
    assert made.lineage.active_number == 2
    assert made.lineage.hold is None


@pytest.mark.parametrize(
    ("letters", "spec", "value", "ends"),
    [
        ("AB", {}, "7@1", "Refused"),
        ("A", {}, "previous@1", "NoRollbackTarget"),
        ("Ab", {}, "2@1", "TargetInvalid"),
        ("AB", {"release": {"pin": {"revision": 2}}}, "1@1", "Refused"),
        ("AB", {}, "2@1", "NoOp"),
    ],
)
def test_it_may_do_no_more_than_the_decision(letters: str, spec: dict[str, Any], value: str, ends: str) -> None:
    """The rules are the same, and so are the words."""
    made = world(*letters)
    made.edit(spec_of(letters[-1], **spec))
    made.settle()
    before = made.lineage.deployments
    ask(made, value)
    assert outcome(made, value) == ends
    assert made.lineage.deployments == before


def test_an_edit_in_the_same_moment_is_looked_at_first() -> None:
    """Who changes the definition and asks for the version before gets the new one held back."""
    made = world("A", "B")
    made.edit(spec_of("C"))
    ask(made, "1@now")
    assert made.lineage.latest_number == 3
    assert made.lineage.active_number == 1
    assert made.condition("Deployed") == ("False", "RolledBack")


def test_it_waits_while_nothing_is_written() -> None:
    """With `suspend: true`, and it is carried out when that ends."""
    made = world("A", "B")
    made.edit(spec_of("B", suspend=True))
    ask(made, "1@now")
    assert made.lineage.active_number == 2
    assert "lastHandledAction" not in made.status
    made.edit(spec_of("B"))
    made.settle()
    assert made.lineage.active_number == 1


def test_a_long_value_has_an_id_that_is_taken() -> None:
    """The database takes ids of 128 characters, without what is no text."""
    values = ["1@" + "x" * 1000, "1@" + "x" * 999 + "y", "1@\n", "1@ok"]
    ids = [rollback_to.request_id(value) for value in values]
    assert len(set(ids)) == len(values)
    assert all(len(each) <= 128 and each.isprintable() for each in ids)
