"""The words and the fine print of a plan: who asks for what, what a step does, what is worst."""

from datetime import timedelta
from typing import Any

import pytest

from keep_operator.domain import forecast, rehearsal
from keep_operator.resources.parts import Approval
from keep_operator.resources.release import CanaryStep
from keep_operator.resources.tenant import TenantPolicy, WorkflowDefaults
from unit.builders import tenant_sight
from unit.workflows import World, spec_of


def foretold(world: World) -> dict[str, Any]:
    """The plan for the world, beside the spec that it would replace."""
    contents = {number: content for (_, number), content in world.contents.items()}
    outcome = rehearsal.rehearse(world.observe(), contents, world.now)
    return forecast.told(outcome, None, contents)


@pytest.mark.parametrize(
    ("own", "default", "floor", "required", "by"),
    [
        (None, None, None, "Never", None),
        ("Always", None, None, "Always", "Workflow"),
        ("ImportantOnly", "Always", None, "ImportantOnly", "Workflow"),
        (None, "Always", None, "Always", "TenantDefault"),
        ("Never", "ImportantOnly", "Always", "Always", "TenantFloor"),
        ("Always", None, "Always", "Always", "Workflow"),
        (None, None, "ImportantOnly", "ImportantOnly", "TenantFloor"),
    ],
)
def test_who_asks_for_approval_is_named(own: Any, default: Any, floor: Any, required: str, by: str | None) -> None:
    """Whoever wants it otherwise knows whom to ask: the Workflow's author, or who keeps the Tenant."""
    sight = tenant_sight(
        defaults=None if default is None else WorkflowDefaults(approval=Approval(required=default)),
        policy=None if floor is None else TenantPolicy(approval_floor=Approval(required=floor)),
    )
    release = {} if own is None else {"approval": {"required": own}}
    approval = foretold(World(spec_of("A", release=release), tenant=sight))["release"]["approval"]
    assert (approval["required"], approval["setBy"]) == (required, by)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"setWeight": 5}, "5 % of the runs"),
        ({"pause": {"duration": "90s"}}, "wait 1m30s"),
        ({"pause": {}}, "wait for a person (promote or abort)"),
        (
            {"analysis": {"minRuns": 1, "window": "1h", "maxFailureRatePercent": 0}},
            "go on if, of 1 run or more within 1h, at most 0 % failed",
        ),
        (
            {
                "analysis": {
                    "minRuns": 20,
                    "window": "25h",
                    "maxFailureRatePercent": 10,
                    "maxErrorRateDeltaPercent": 5,
                    "maxP95Duration": "1.5s",
                    "failureLimit": 2,
                }
            },
            "go on if, of 20 runs or more within 25h, at most 10 % failed, at most 5 points worse than the stable version, "
            "95 of 100 within 1.5s; 2 failed measurements are forgiven",
        ),
    ],
)
def test_a_step_is_a_sentence(step: dict[str, Any], words: str) -> None:
    """Reviewers read what a canary does without knowing the fields."""
    assert forecast.in_words(CanaryStep.model_validate(step, by_alias=True)) == words


def test_durations_are_as_a_spec_has_them() -> None:
    """What is read can be written down again."""
    for text, seconds in (("0s", 0), ("45s", 45), ("10m", 600), ("1h1m1s", 3661), ("0.25s", 0.25)):
        assert forecast.lasting(timedelta(seconds=seconds)) == text


def test_one_fault_outweighs_all() -> None:
    """A folder is as good as its worst Workflow, and an empty one changes nothing."""
    assert forecast.worst(iter(["Changes", "Held", "Unchanged"])) == "Held"
    assert forecast.worst(iter(["Held", "Faulty"])) == "Faulty"
    assert forecast.worst(iter([])) == "Unchanged"


def test_a_bad_expression_of_the_checklist_is_a_fault() -> None:
    """An item that could never become true is found before it is merged."""
    release = {"checklist": [{"id": "x", "title": "X", "auto": "runs.live.total >"}]}
    found = foretold(World(spec_of("A", release=release)))
    assert (found["outcome"], found["faults"][0]["reason"]) == ("Faulty", "SpecRefused")
    assert "spec.release.checklist[0].auto" in found["faults"][0]["message"]
