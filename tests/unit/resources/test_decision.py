"""The WorkflowDecision's spec as people and machines write it."""

from typing import Any

import pytest

from keep_operator.resources import decision, shapes
from keep_operator.resources.decision import ACTIONS, WorkflowDecisionSpec, WorkflowDecisionStatus
from keep_operator.resources.shapes import Invalid

pytestmark = pytest.mark.unit

HASH = "0123456789abcdef" * 4
ONE: dict[str, Any] = {"revision": {"number": 1}}
COMPLETE: dict[str, dict[str, Any]] = {
    "Approve": ONE,
    "Deny": ONE | {"reason": "Too loud"},
    "Deploy": ONE,
    "Rollback": {"reason": "Incident 4711"},
    "Promote": {},
    "Abort": {},
    "Pause": {},
    "Resume": {},
    "Retry": {},
    "Reject": ONE | {"reason": "Too loud"},
    "Tag": ONE | {"tag": "production"},
    "Untag": {"tag": "production"},
    "CheckItem": ONE | {"item": "tried"},
    "Note": {"reason": "Seen by the team"},
}


def read(action: str, /, **more: Any) -> WorkflowDecisionSpec | Invalid:
    """A decision by ann about `high-cpu`."""
    raw = {"workflowRef": {"name": "high-cpu"}, "action": action, "actor": "ann", "requestId": "1"}
    return decision.parse_spec(raw | more)


def paths(action: str, /, **more: Any) -> list[str]:
    """The fields of a well-formed decision that rules blame."""
    spec = read(action, **more)
    assert isinstance(spec, WorkflowDecisionSpec), spec
    return [violation.path for violation in decision.violations(spec, "any.name")]


def test_every_action_can_be_asked_for() -> None:
    """For each of them there is a decision that no rule refuses."""
    assert set(COMPLETE) == set(ACTIONS)
    for action, parts in COMPLETE.items():
        assert paths(action, **parts) == [], action


@pytest.mark.parametrize("action", ACTIONS)
def test_what_an_action_needs_is_asked_for_by_name(action: str) -> None:
    """Nothing is guessed that a person has to say, and nothing is asked for in vain."""
    for part in COMPLETE[action]:
        rest = {name: value for name, value in COMPLETE[action].items() if name != part}
        assert paths(action, **rest) == [f"spec.{part}"]
    if "tag" not in COMPLETE[action]:
        assert paths(action, **COMPLETE[action], tag="production") == ["spec.tag"]
    if "item" not in COMPLETE[action]:
        assert paths(action, **COMPLETE[action], item="tried") == ["spec.item"]


def test_the_documented_example_is_understood() -> None:
    """What the page shows can be applied."""
    spec = read(
        "Rollback",
        revision={"number": 1},
        expect={"activeRevision": 2},
        actorGroups=["sre", "on-call"],
        onBehalfOf="bob@example.com",
        reason="Version 2 notifies every five minutes\n(incident 4711)",
        force=True,
    )
    assert isinstance(spec, WorkflowDecisionSpec)
    assert spec.expect is not None
    assert (spec.expect.active_revision, spec.full, spec.force) == (2, False, True)


@pytest.mark.parametrize("way", [{"number": 1}, {"contentHash": HASH}, {"tag": "v1.0"}, {"previous": True}])
def test_a_version_is_named_in_one_way(way: dict[str, Any]) -> None:
    """Whether the number or the tag is meant is never a matter of precedence."""
    assert paths("Approve", revision=way) == []
    assert paths("Approve", revision=way | {"number": 1, "tag": "v1.0"}) == ["spec.revision"]
    assert paths("Approve", revision={}) == ["spec.revision"]


def test_words_for_a_state_are_no_tags() -> None:
    """`stable` always means the stable version; one that got in all the same can be taken away."""
    assert paths("Tag", **ONE, tag="stable") == ["spec.tag"]
    assert paths("Untag", tag="stable") == []


@pytest.mark.parametrize(
    "bad",
    [
        {"action": "approve"},
        {"action": "Delete"},
        {"actor": ""},
        {"actor": "ann\x00"},
        {"actorGroups": "sre"},
        {"actorGroups": ["sre", "sre"]},
        {"actorGroups": [""]},
        {"actorGroups": [str(number) for number in range(129)]},
        {"requestId": ""},
        {"requestId": "x" * 129},
        {"workflowRef": {"name": "Has Spaces"}},
        {"revision": {"previous": False}},
        {"revision": {"number": "1"}},
        {"revision": {"contentHash": HASH[:16]}},
        {"expect": {"revision": 1}},
        {"reason": "x" * 1025},
        {"force": "true"},
    ],
)
def test_a_slip_is_refused(bad: dict[str, Any]) -> None:
    """What cannot be carried out is not recorded as if it could."""
    assert isinstance(read("Promote", **bad), Invalid)


@pytest.mark.parametrize("field", ["workflowRef", "action", "actor", "requestId"])
def test_who_and_what_is_always_said(field: str) -> None:
    """Each decision has somebody to ask, and can be told from its repetition."""
    raw = {"workflowRef": {"name": "a"}, "action": "Promote", "actor": "ann", "requestId": "1"}
    del raw[field]
    assert str(decision.parse_spec(raw)) == f"spec.{field}: is required"


def test_a_decision_cannot_be_changed() -> None:
    """What was approved is what was read; writing out a default is no change."""
    old = read("Promote")
    assert isinstance(old, WorkflowDecisionSpec)
    for new, blamed in [
        (read("Promote"), []),
        (read("Promote", full=False), []),
        (read("Promote", full=True), ["spec"]),
        (read("Abort"), ["spec"]),
        (read("Promote", actor="bob"), ["spec"]),
        (read("Promote", reason="because"), ["spec"]),
    ]:
        assert isinstance(new, WorkflowDecisionSpec)
        assert [violation.path for violation in decision.forbidden_changes(old, new, "a")] == blamed


def test_the_status_speaks_the_words_of_the_api() -> None:
    """`from` is a word of Python, and of the API all the same."""
    status = shapes.parse(WorkflowDecisionStatus, {"from": 2, "to": 1, "ledgerId": "x", "novel": 1})
    assert isinstance(status, WorkflowDecisionStatus)
    assert (status.from_, status.to) == (2, 1)
