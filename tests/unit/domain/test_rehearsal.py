"""What a plan on paper says, a Workflow in a cluster and a database then does."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keep_operator.domain import rehearsal
from keep_operator.domain.rehearsal import Outcome
from keep_operator.resources import decision as reader
from keep_operator.resources.parts import Approval
from keep_operator.resources.shapes import Invalid
from keep_operator.resources.tenant import TenantPolicy
from unit.builders import tenant_sight
from unit.workflows import World, spec_of

CANARY = {"strategy": {"type": "Canary", "canary": {"steps": [{"setWeight": 10}, {"pause": {}}]}}}
WINDOW = {
    "strategy": {
        "type": "Canary",
        "canary": {"steps": [{"setWeight": 10}, {"pause": {"duration": "10m"}}], "rollbackWindow": {"revisions": 2}},
    }
}
ALWAYS = {"approval": {"required": "Always", "minApprovals": 2}}
IMPORTANT = {"approval": {"required": "ImportantOnly", "importantPaths": ["steps"]}}
CHECKLIST = {
    "checklist": [
        {"id": "load", "title": "Load was looked at"},
        {"id": "small", "title": "Few places change", "auto": "size(diff.paths) < 3"},
    ]
}
MANUAL = {"strategy": {"type": "Manual"}}
RELEASES = [
    {},
    CANARY,
    WINDOW,
    ALWAYS,
    IMPORTANT,
    CHECKLIST,
    MANUAL,
    {"pin": {"revision": 1}},
    {**CANARY, **ALWAYS, **CHECKLIST},
]


def rehearsed(world: World) -> Outcome:
    """The plan for the world as it is."""
    contents = {number: content for (_, number), content in world.contents.items()}
    return rehearsal.rehearse(world.observe(), contents, world.now)


def comes_true(world: World) -> Outcome:
    """Whatever the plan says is so after the reconcile, and nothing else."""
    outcome = rehearsed(world)
    # Who plans from outside is given no objects of revisions, and says the same.
    contents = {number: content for (_, number), content in world.contents.items()}
    assert rehearsal.rehearse(replace(world.observe(), images=()), contents, world.now).status == outcome.status
    world.reconcile()
    said = {name: value for name, value in outcome.status.items() if value is not None}
    assert said == dict(world.status)
    if world.rows:
        then = outcome.after.own
        assert then is not None
        assert (then.active_number, then.hold, then.canary) == (
            world.lineage.active_number,
            world.lineage.hold,
            world.lineage.canary,
        )
        assert [replace(each, created_at=world.now) for each in then.revisions] == [
            replace(each, created_at=world.now) for each in world.lineage.revisions
        ]
    return outcome


def decide(world: World, action: str, **fields: Any) -> None:
    """Somebody decides."""
    spec = {
        "workflowRef": {"name": "high-cpu"},
        "actor": "bob",
        "requestId": f"{action}-{len(world.handled)}",
        **fields,
    }
    parsed = reader.parse_spec({"action": action, **spec})
    assert not isinstance(parsed, Invalid), parsed
    world.decide(parsed)


@pytest.mark.parametrize("release", RELEASES, ids=lambda each: "-".join(each) or "plain")
def test_a_new_workflow_becomes_what_the_plan_says(release: dict[str, Any]) -> None:
    """Nothing in the cluster yet, and the first version may wait for people all the same."""
    outcome = comes_true(World(spec_of("A", release=release)))
    assert outcome.made is not None
    assert outcome.made.number == 1


@pytest.mark.parametrize("release", RELEASES, ids=lambda each: "-".join(each) or "plain")
@pytest.mark.parametrize("letters", ["AB", "ABA", "ABB", "ABa", "ABP"])
def test_an_edit_comes_to_what_the_plan_says(letters: str, release: dict[str, Any]) -> None:
    """Another content, an older one, the same, a broken one, or one whose Provider is missing."""
    world = World(spec_of(letters[0]))
    world.settle()
    for letter in letters[1:]:
        world.pass_time(1)
        world.edit(spec_of(letter, release=release))
        comes_true(world)


def test_the_tenant_decides_as_it_will() -> None:
    """Its floor holds what the Workflow alone would let through, and nothing comes of a Workflow whose Tenant is not there."""
    floor = TenantPolicy(approval_floor=Approval(required="Always"))
    held = comes_true(World(spec_of("A"), tenant=tenant_sight(policy=floor))).condition("Approved")
    assert held is not None
    assert (held["status"], held["reason"]) == ("Unknown", "AwaitingApproval")
    absent = comes_true(World(spec_of("A"), tenant=None)).condition("TenantReady")
    assert absent is not None
    assert absent["reason"] == "TenantNotFound"


def test_nothing_comes_of_the_same_again() -> None:
    """A folder that is applied without end plans nothing, whatever the last release was."""
    for release in RELEASES:
        world = World(spec_of("A", release=release))
        world.settle()
        outcome = rehearsed(world)
        assert (outcome.done, outcome.made) == ((), None)


STEP = st.one_of(
    st.tuples(st.just("edit"), st.sampled_from("ABCPa"), st.sampled_from(RELEASES)),
    st.tuples(st.just("Rollback"), st.just(""), st.just({})),
    st.tuples(st.just("Resume"), st.just(""), st.just({})),
    st.tuples(st.just("Approve"), st.just(""), st.just({})),
    st.tuples(st.just("Promote"), st.just(""), st.just({})),
    st.tuples(st.just("Abort"), st.just(""), st.just({})),
)


@given(st.lists(STEP, min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_any_story_goes_on_as_the_plan_says(story: list[tuple[str, str, dict[str, Any]]]) -> None:
    """After whatever people have decided, the next plan is as true as the first."""
    world = World(spec_of("A"))
    world.settle()
    for what, letter, release in story:
        world.pass_time(1)
        if what == "edit":
            world.edit(spec_of(letter, release=release))
        elif what == "Approve":
            decide(world, what, revision={"number": world.lineage.latest_number}, actor=f"bob-{len(world.handled)}")
        else:
            decide(world, what, **({"reason": "x"} if what == "Rollback" else {}))
        comes_true(world)
