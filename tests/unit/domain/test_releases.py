"""Stories of releases, with database and cluster in memory: approval, checklist, canary, automatic rollback."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from keep_operator.domain.effects import EndCanary
from keep_operator.domain.history import Author, Flaw
from keep_operator.resources.decision import WorkflowDecisionSpec
from keep_operator.resources.parts import Approval, ChecklistItem
from keep_operator.resources.tenant import TenantPolicy
from unit.builders import tenant_sight
from unit.workflows import Ended, World, spec_of

CANARY: dict[str, Any] = {
    "strategy": {
        "type": "Canary",
        "canary": {
            "steps": [
                {"setWeight": 20},
                {"analysis": {"minRuns": 5, "window": "30m", "maxFailureRatePercent": 20}},
                {"setWeight": 50},
                {"pause": {"duration": "10m"}},
            ]
        },
    }
}
GUARD = {"autoRollback": {"enabled": True, "window": "1h", "minRuns": 4, "maxFailureRatePercent": 25}}
_REQUESTS = iter(range(1_000_000))


def world(*letters: str, release: dict[str, Any] | None = None, **fields: Any) -> World:
    """A Workflow that has had these definitions, one after the other, each of which became active; then this release."""
    made = World(spec=spec_of(letters[0]))
    for letter in letters:
        made.edit(spec_of(letter))
        made.settle()
    if release is not None:
        made.edit(spec_of(letters[-1], release=release, **fields))
        made.settle()
    return made


def decide(made: World, action: str, revision: Any = None, actor: str = "bob", **fields: Any) -> str:
    """What comes of a decision; then the Workflow is looked at."""
    raw = {
        "workflowRef": {"name": "high-cpu"},
        "action": action,
        "actor": actor,
        "requestId": f"request-{next(_REQUESTS)}",
        "reason": "since I say so",
        **({"revision": {"number": revision} if isinstance(revision, int) else revision} if revision else {}),
        **fields,
    }
    outcome = made.decide(WorkflowDecisionSpec.model_validate(raw)).outcome
    made.settle()
    return outcome


def ran(made: World, number: int, *failed: bool | None, minutes: int = 1, mode: str = "Live") -> None:
    """These runs of a revision have been asked for and have ended a while later."""
    made.now += timedelta(minutes=minutes)
    made.ended += [Ended(number, made.now, each, mode) for each in failed]
    made.now += timedelta(seconds=1)
    made.settle()


def shares(made: World) -> dict[int, int]:
    """What the status says of who takes how many runs."""
    return {each["revision"]: each["percent"] for each in made.status["traffic"]}


def test_a_canary_goes_all_the_way() -> None:
    """Its share, an analysis of its own runs, a larger share, a pause, and everything."""
    made = world("A", release=CANARY)
    made.edit(spec_of("B", release=CANARY))
    made.settle()
    assert shares(made) == {1: 80, 2: 20}
    assert made.condition("Deployed") == ("Unknown", "CanaryInProgress")
    assert made.condition("Ready") == ("Unknown", "CanaryInProgress")
    assert made.condition("Available") == ("True", "Serving")
    assert made.status["stableRevision"]["number"] == made.status["activeRevision"]["number"] == 1
    ran(made, 2, False, False)
    assert made.status["canary"]["analysis"] == {
        "runs": 2,
        "failures": 0,
        "failurePermille": 0,
        "verdict": "Pending",
    }
    ran(made, 2, False, False, True)
    assert shares(made) == {1: 50, 2: 50}
    made.now += timedelta(minutes=10)
    made.settle()
    assert shares(made) == {2: 100}
    assert made.condition("Ready") == ("True", "Ready")
    assert [str(each.cause) for each in made.lineage.deployments] == ["Canary", "AllAtOnce"]
    assert "canary" not in made.status and "stableRevision" not in made.status


def test_a_failing_canary_is_taken_back_for_good() -> None:
    """A-CAN-5: all runs are the stable one's, the content is rejected; only another one, or Retry, begins anew."""
    made = world("A", release=CANARY)
    made.edit(spec_of("B", release=CANARY))
    made.settle()
    ran(made, 2, True, True, False, False, False)
    assert shares(made) == {1: 100}
    assert made.condition("Deployed") == made.condition("Ready") == ("False", "AutoRolledBack")
    assert made.status["hold"]["automatic"] and made.status["hold"]["target"] == 1
    assert made.lineage.revisions[1].rejected == "AnalysisFailed"
    made.edit(spec_of("B", more={"description": "the same again"}, release=CANARY))
    made.settle()
    assert shares(made) == {1: 100} and made.lineage.latest_number == 2
    assert decide(made, "Retry") == "Done"
    assert shares(made) == {1: 80, 2: 20}
    ran(made, 2, True, True, False, False, False)
    made.edit(spec_of("C", release=CANARY))
    made.settle()
    assert shares(made) == {1: 80, 3: 20}
    assert made.condition("Deployed") == ("Unknown", "CanaryInProgress")
    assert made.lineage.hold is None


def test_a_definition_that_changes_meanwhile_begins_anew_against_the_same_stable_one() -> None:
    """A-CAN-6: v3 gets its own share from the first step on; v2 gets no run any more."""
    made = world("A", release=CANARY)
    made.edit(spec_of("B", release=CANARY))
    made.settle()
    ran(made, 2, *[False] * 5)
    assert shares(made) == {1: 50, 2: 50}
    made.edit(spec_of("C", release=CANARY))
    made.settle()
    assert shares(made) == {1: 80, 3: 20}


def test_other_steps_begin_anew() -> None:
    """Whoever edits the steps while they are walked gets those that he wrote."""
    made = world("A", release=CANARY)
    made.edit(spec_of("B", release=CANARY))
    made.settle()
    ran(made, 2, *[False] * 5)
    other = {"strategy": {"type": "Canary", "canary": {"steps": [{"setWeight": 5}, {"pause": {}}]}}}
    made.edit(spec_of("B", release=other))
    made.settle()
    assert shares(made) == {1: 95, 2: 5}
    assert made.condition("Deployed") == ("Unknown", "CanaryPaused")
    made.edit(spec_of("B"))
    made.settle()
    assert shares(made) == {2: 100}


def test_the_first_version_and_the_way_back_need_no_trial() -> None:
    """A-CAN-6: there is nothing to compare with, or it was active a short while ago."""
    assert shares(world("A", release=CANARY)) == {1: 100}
    fresh = World(spec=spec_of("A", release=CANARY))
    fresh.settle()
    assert shares(fresh) == {1: 100}
    steps = CANARY["strategy"]["canary"]["steps"]
    window = {"strategy": {"type": "Canary", "canary": {"steps": steps, "rollbackWindow": {"revisions": 1}}}}
    made = world("A", "B", release=window)
    made.edit(spec_of("A", release=window))
    made.settle()
    assert shares(made) == {3: 100}
    made = world("A", "B", "C", release=window)
    made.edit(spec_of("A", release=window))
    made.settle()
    assert shares(made) == {3: 80, 4: 20}


def test_a_revert_to_what_is_active_needs_no_trial() -> None:
    """The canary's definition is taken out of Git again: the stable content, under a new number, has all runs at once."""
    made = world("A", release=CANARY)
    made.edit(spec_of("B", release=CANARY))
    made.settle()
    made.edit(spec_of("A", release=CANARY))
    made.settle()
    assert shares(made) == {3: 100}


def test_what_a_person_decides_of_a_canary() -> None:
    """Pause keeps the share, Resume goes on, Promote skips a step, with `full` all; Abort gives everything back."""
    made = world("A", release=CANARY)
    made.edit(spec_of("B", release=CANARY))
    made.settle()
    assert decide(made, "Pause") == "Done"
    assert decide(made, "Pause") == "NoOp"
    ran(made, 2, *[False] * 9)
    assert shares(made) == {1: 80, 2: 20}
    assert made.condition("Deployed") == ("Unknown", "CanaryPaused")
    assert decide(made, "Resume") == "Done"
    assert shares(made) == {1: 80, 2: 20}
    assert decide(made, "Promote", 1) == "Superseded"
    assert decide(made, "Promote") == "Done"
    assert shares(made) == {1: 50, 2: 50}
    assert decide(made, "Abort") == "Done"
    assert shares(made) == {1: 100}
    assert made.condition("Deployed") == ("False", "Aborted")
    assert made.lineage.revisions[1].rejected is None
    assert decide(made, "Promote") == "Refused"
    assert decide(made, "Resume") == "Done"
    assert shares(made) == {1: 80, 2: 20}
    assert decide(made, "Promote", full=True) == "Done"
    assert shares(made) == {2: 100}
    assert decide(made, "Pause") == "Refused"


def test_two_who_see_the_same_step_take_one_step() -> None:
    """The second one who presses Promote has not seen what is there by then, and is told so instead of promoting that."""
    made = world("A", release=CANARY)
    made.edit(spec_of("B", release=CANARY))
    made.settle()
    seen: Any = {"expect": {"activeRevision": 1, "canaryStepIndex": made.status["canary"]["stepIndex"]}}
    assert decide(made, "Promote", 2, **seen) == "Done"
    assert shares(made) == {1: 50, 2: 50}
    assert decide(made, "Promote", 2, actor="carl", **seen) == "Stale"
    assert shares(made) == {1: 50, 2: 50}


def test_an_old_page_takes_no_abort_back() -> None:
    """Whoever saw a canary paused, and presses Resume after it was aborted, does not begin it anew; nor that of another version."""
    made = world("A", release=CANARY)
    made.edit(spec_of("B", release=CANARY))
    made.settle()
    assert decide(made, "Pause") == "Done"
    seen: Any = {"expect": {"activeRevision": 1, "canaryStepIndex": made.status["canary"]["stepIndex"]}}
    assert decide(made, "Abort") == "Done"
    assert decide(made, "Resume", 2, **seen) == "Stale"
    assert shares(made) == {1: 100}
    made.edit(spec_of("C", release=CANARY))
    made.settle()
    assert decide(made, "Pause") == "Done"
    assert decide(made, "Resume", 2) == "Superseded"
    assert made.condition("Deployed") == ("Unknown", "CanaryPaused")
    assert decide(made, "Abort") == "Done"
    assert decide(made, "Resume", 2) == "Superseded"
    assert made.condition("Deployed") == ("False", "Aborted")
    assert decide(made, "Resume", 3) == "Done"


def test_a_rollback_during_a_canary_ends_it() -> None:
    """A-RB-5: whoever is woken at night needs one word for everything."""
    made = world("A", "B", release=CANARY)
    made.edit(spec_of("C", release=CANARY))
    made.settle()
    assert shares(made) == {2: 80, 3: 20}
    assert decide(made, "Rollback") == "Done"
    assert shares(made) == {2: 100}
    assert made.condition("Deployed") == ("False", "Aborted")
    assert decide(made, "Resume") == "Done"
    assert decide(made, "Rollback", 1) == "Done"
    assert shares(made) == {1: 100}
    assert made.condition("Deployed") == ("False", "RolledBack")
    assert made.lineage.canary is None


def test_too_little_is_known() -> None:
    """A-CAN-4: after half an hour with four runs a person is asked, and may have it measured again."""
    made = world("A", release=CANARY)
    made.edit(spec_of("B", release=CANARY))
    made.settle()
    ran(made, 2, False, None, None, None, False, minutes=2)
    made.now += timedelta(minutes=30)
    made.settle()
    assert made.condition("Deployed") == ("Unknown", "AnalysisInconclusive")
    assert made.status["canary"]["paused"] is True
    assert decide(made, "Resume") == "Done"
    ran(made, 2, *[False] * 5)
    assert shares(made) == {1: 50, 2: 50}


def test_what_took_over_at_once_is_watched_too() -> None:
    """A-CAN-7: more than a quarter of its first runs fail, so the one before is active again."""
    made = world("A", release=GUARD)
    made.edit(spec_of("B", release=GUARD))
    made.settle()
    assert made.lineage.watched_until == made.now + timedelta(hours=1, seconds=10)
    ran(made, 2, True, True, True)
    assert shares(made) == {2: 100}
    ran(made, 2, False)
    assert shares(made) == {1: 100}
    assert made.condition("Ready") == ("False", "AutoRolledBack")
    assert str(made.lineage.deployments[0].cause) == "AutoRollback"
    ran(made, 1, True, True, True, True)
    assert shares(made) == {1: 100}
    made.edit(spec_of("A", release=GUARD))
    made.settle()
    assert made.condition("Ready") == ("True", "Ready")


def test_after_its_time_nobody_watches() -> None:
    """A version that has done well for an hour is not taken back for what happens a week later."""
    made = world("A", release=GUARD)
    made.edit(spec_of("B", release=GUARD))
    made.settle()
    ran(made, 2, *[True] * 9, minutes=61)
    assert shares(made) == {2: 100}


def test_a_first_version_that_does_badly_stays_and_is_told() -> None:
    """A-RB-7: there is nothing to go back to; what can be done is said, and nothing is rejected."""
    made = World(spec=spec_of("A", release=GUARD))
    made.settle()
    ran(made, 1, *[True] * 4)
    assert shares(made) == {1: 100}
    assert made.condition("Deployed") == made.condition("Ready") == ("False", "NoRollbackTarget")
    assert made.lineage.revisions[0].rejected is None
    made.now += timedelta(hours=5)
    made.settle()
    assert made.condition("Deployed") == ("False", "NoRollbackTarget")


def test_the_one_before_is_taken_back_to_while_the_next_waits() -> None:
    """v3 awaits approval while v2, fresh, fails: v1 is active, and v3 still awaits."""
    gated = {**GUARD, "approval": {"required": "Always"}}
    made = world("A", release=GUARD)
    made.edit(spec_of("B", release=GUARD))
    made.settle()
    made.edit(spec_of("C", release=gated))
    made.settle()
    ran(made, 2, *[True] * 4)
    assert shares(made) == {1: 100}
    assert made.condition("Deployed") == ("Unknown", "AwaitingApproval")


APPROVAL = {"approval": {"required": "Always", "minApprovals": 2}}


def test_two_people_approve_and_the_author_is_none_of_them() -> None:
    """A-AP-3, A-AP-4: nothing runs before; then it does, and the objects say who said so."""
    made = world("A", release=APPROVAL)
    made.author = Author("ann", "Annotation")
    made.edit(spec_of("B", release=APPROVAL))
    made.settle()
    assert made.condition("Ready") == ("Unknown", "AwaitingApproval")
    assert made.status["pendingApprovals"] == 1
    assert decide(made, "Approve", 2, "ann") == "SelfApproval"
    assert decide(made, "Approve", 2, "bob") == "Done"
    assert decide(made, "Approve", 2, "bob") == "NoOp"
    assert shares(made) == {1: 100}
    assert decide(made, "Approve", 2, "eve") == "Done"
    assert shares(made) == {2: 100}
    assert made.condition("Approved") == ("True", "ApprovedByPeers")
    (image,) = [each for each in made.images.values() if each.number == 2]
    assert [each["actor"] for each in image.status["approvals"]] == ["bob", "eve"]
    found = {each["type"]: each["reason"] for each in image.status["conditions"]}
    assert (found["Approved"], found["Ready"]) == ("ApprovedByPeers", "Ready")
    assert "pendingApprovals" not in made.status


def test_an_approval_that_comes_too_late_deploys_nothing() -> None:
    """A-AP-4: v2 was read, and v3 is what is desired by now."""
    made = world("A", release=APPROVAL)
    for letter in "BC":
        made.edit(spec_of(letter, release=APPROVAL))
        made.settle()
    assert decide(made, "Approve", 2) == "Superseded"
    assert decide(made, "Approve", 2, "eve") == "Superseded"
    assert shares(made) == {1: 100}


def test_what_is_denied_never_comes_back() -> None:
    """A-AP-4: under a new number it is the same content, whatever is asked for by then."""
    made = world("A", release=APPROVAL)
    made.edit(spec_of("B", release=APPROVAL))
    made.settle()
    assert decide(made, "Deny", 2) == "Done"
    assert made.condition("Approved") == ("False", "Denied")
    assert decide(made, "Approve", 2) == "TargetDenied"
    for letter in "CB":
        made.edit(spec_of(letter))
        made.settle()
    assert (made.lineage.active_number, made.lineage.latest_number) == (3, 4)
    assert made.condition("Ready") == ("False", "Denied")
    (image,) = [each for each in made.images.values() if each.number == 4]
    assert "DeniedByContent" in {each["reason"] for each in image.status["conditions"]}
    assert decide(made, "Deny", 1) == "Refused"


def test_only_important_changes_are_asked_about() -> None:
    """A-AP-1: below an important path, or marked by the author; compared with what is active, not with what was typed last."""
    release = {"approval": {"required": "ImportantOnly", "importantPaths": ["steps"]}}
    made = world("A", release=release)
    made.edit(spec_of("A", more={"consts": {"limit": 5}}, release=release))
    made.settle()
    assert made.lineage.active_number == 2
    made.edit(spec_of("B", more={"consts": {"limit": 5}}, release=release))
    made.settle()
    assert made.condition("Ready") == ("Unknown", "AwaitingApproval")
    made.edit(spec_of("B", more={"consts": {"limit": 6}}, release=release))
    made.settle()
    assert (made.lineage.active_number, made.lineage.latest_number) == (2, 4)
    assert decide(made, "Approve", 4) == "Done"
    assert made.lineage.active_number == 4
    made.annotations["keep-operator.dev/important"] = "true"
    made.edit(spec_of("B", more={"consts": {"limit": 7}}, release=release))
    made.settle()
    del made.annotations["keep-operator.dev/important"]
    made.settle()
    assert made.lineage.active_number == 4


def test_a_canary_does_not_begin_before_it_is_approved_and_ends_when_that_is_asked_for() -> None:
    """A-AP-2: a floor that is raised while a canary walks stops it."""
    made = world("A", release=CANARY)
    made.edit(spec_of("B", release=CANARY))
    made.settle()
    assert shares(made) == {1: 80, 2: 20}
    made.tenant = tenant_sight(policy=TenantPolicy(approval_floor=Approval(required="Always")))
    made.settle()
    assert shares(made) == {1: 100}
    assert made.condition("Ready") == ("Unknown", "AwaitingApproval")
    assert decide(made, "Approve", 2) == "Done"
    assert shares(made) == {1: 80, 2: 20}


def test_a_checklist_is_ticked_by_people_and_by_what_runs_show() -> None:
    """A-CHK-1: one item by hand, one by five dry runs without an error."""
    release = {
        "checklist": [
            {"id": "told", "title": "Tell the team"},
            {"id": "tried", "title": "Tried", "auto": "runs.dryRun.succeeded >= 5 && runs.dryRun.failed == 0"},
            {"id": "cake", "title": "Cake", "required": False},
        ]
    }
    made = world("A", release=release)
    made.edit(spec_of("B", release=release))
    made.settle()
    assert made.condition("Ready") == ("Unknown", "ChecklistIncomplete")
    assert decide(made, "CheckItem", 2, item="tried") == "Refused"
    assert decide(made, "CheckItem", 2, item="nothing") == "Refused"
    assert decide(made, "CheckItem", 2, item="told") == "Done"
    assert decide(made, "CheckItem", 2, item="told") == "NoOp"
    ran(made, 2, *[False] * 4, mode="DryRun")
    assert made.lineage.active_number == 1
    # Or nobody would look when the fifth ends.
    assert made.lineage.watched_until is not None and made.plan().wake_in is not None
    ran(made, 2, False, mode="DryRun")
    assert made.lineage.active_number == 2
    (image,) = [each for each in made.images.values() if each.number == 2]
    assert {each["id"]: each["done"] for each in image.status["checklist"]} == {"told": True, "tried": True}
    floor = TenantPolicy(checklist_floor=(ChecklistItem(id="audit", title="Audit"),))
    made.tenant = tenant_sight(policy=floor)
    made.edit(spec_of("C"))
    made.settle()
    assert made.condition("Ready") == ("Unknown", "ChecklistIncomplete")


@pytest.mark.parametrize(
    "release",
    [
        {"checklist": [{"id": "a", "title": "A", "auto": "runs.dryRun.succeeded >="}]},
        {"strategy": {"type": "Canary", "canary": {"steps": [{"setWeight": 5}], "stickyKey": "event. ="}}},
    ],
)
def test_an_expression_that_is_none_is_refused_with_its_place(release: dict[str, Any]) -> None:
    """A typo does not wait for its first run to be found."""
    made = world("A")
    made.edit(spec_of("B", release=release))
    made.settle()
    assert made.lineage.latest_number == 1
    assert made.condition("Ready") == ("False", "SpecRefused")
    message = next(each["message"] for each in made.status["conditions"] if each["type"] == "Synced")
    assert "spec.release." in message and "is not CEL" in message


def test_a_pin_ends_a_canary_and_is_above_the_guard() -> None:
    """Section 8: what Git pins, no analysis undoes."""
    made = world("A", release={**CANARY, **GUARD})
    made.edit(spec_of("B", release={**CANARY, **GUARD}))
    made.settle()
    made.edit(spec_of("B", release={**CANARY, **GUARD, "pin": {"revision": 1}}))
    made.settle()
    assert shares(made) == {1: 100}
    assert made.condition("Deployed") == ("True", "Pinned")
    assert decide(made, "Abort") == "Refused"


def test_what_is_active_is_not_tried_against_itself() -> None:
    """A git revert while a canary walks: the content has all runs already, and is not taken back for its own failures."""
    made = world("A", release=CANARY)
    for letter in "BA":
        made.edit(spec_of(letter, release=CANARY))
        made.settle()
    assert shares(made) == {3: 100}
    assert made.lineage.canary is None
    assert made.condition("Ready") == ("True", "Ready")


def test_what_is_active_cannot_be_denied_under_another_number() -> None:
    """v3 awaits approval with the content that v1 runs: a denial would stop the workflow, so Reject is offered."""
    always = {"approval": {"required": "Always"}}
    made = world("A", release=always)
    for letter in "BA":
        made.edit(spec_of(letter, release=always))
        made.settle()
    assert decide(made, "Deny", 3) == "Refused"
    assert made.condition("Available") == ("True", "Serving")
    assert decide(made, "Deny", 2) == "Done"


@pytest.mark.parametrize(
    ("action", "more"), [("Promote", {"full": True}), ("Promote", {}), ("Pause", {}), ("Resume", {})]
)
def test_no_decision_keeps_a_canary_whose_gate_was_shut(action: str, more: dict[str, Any]) -> None:
    """A-AP-8: the Tenant has just asked for approval, and nobody has looked at the Workflow since."""
    made = world("A", release=CANARY)
    made.edit(spec_of("B", release=CANARY))
    made.settle()
    if action == "Resume":
        assert decide(made, "Pause") == "Done"
    made.tenant = tenant_sight(policy=TenantPolicy(approval_floor=Approval(required="Always")))
    assert decide(made, action, **more) == "Refused"
    assert shares(made) == {1: 100}


def test_the_stable_one_is_rejected_while_another_is_tried() -> None:
    """v2 goes at once, v1 is active in its place, and v3 begins anew against it."""
    made = world("A", "B", release=CANARY)
    made.edit(spec_of("C", release=CANARY))
    made.settle()
    began = made.lineage.canary
    assert decide(made, "Reject", 2) == "Done"
    assert shares(made) == {1: 80, 3: 20}
    assert made.lineage.canary not in (None, began)
    outcomes = [effect.outcome for _, _, effect in made.ledger if isinstance(effect, EndCanary)]
    assert outcomes == ["Superseded"]


@pytest.mark.parametrize("how", ["Deploy", "Promote", "guard"])
def test_whatever_made_it_active_its_runs_are_heard_of(how: str) -> None:
    """A-CAN-7: the end of each run is told also where a person has let it take over, or it was watched only afterwards."""
    release = {**CANARY, **GUARD} if how == "Promote" else {"strategy": {"type": "Manual"}, **GUARD}
    if how == "guard":
        release = {}
    made = world("A", release=release)
    made.edit(spec_of("B", release=release))
    made.settle()
    if how == "guard":
        made.edit(spec_of("B", release=GUARD))
        made.settle()
    else:
        assert decide(made, how, 2, full=True) == "Done"
    until = made.lineage.watched_until
    assert made.lineage.active_number == 2
    assert until is not None and until >= made.now + timedelta(hours=1)
    ran(made, 2, True, True, True, True)
    assert shares(made) == {1: 100}


def test_the_stable_one_is_taken_back_while_another_is_tried() -> None:
    """v2 fails within its first hour though v3 is tried beside it: v3 has not failed, and is tried against v1."""
    made = world("A", release=GUARD)
    made.edit(spec_of("B", release=GUARD))
    made.settle()
    made.edit(spec_of("C", release={**CANARY, **GUARD}))
    made.settle()
    assert shares(made) == {2: 80, 3: 20}
    ran(made, 2, True, True, True, True)
    assert shares(made) == {1: 80, 3: 20}
    assert [effect.outcome for _, _, effect in made.ledger if isinstance(effect, EndCanary)] == ["Superseded"]


def test_a_hold_gives_way_to_the_one_that_a_failure_makes() -> None:
    """A reverted canary, and the content that is active fails within its first hour: held back, and told as such."""
    made = world("A", release=GUARD)
    made.edit(spec_of("B", release=GUARD))
    made.settle()
    made.edit(spec_of("C", release={**CANARY, **GUARD}))
    made.settle()
    assert decide(made, "Abort") == "Done"
    made.ended += [Ended(2, made.now, True)] * 4
    made.edit(spec_of("B", release={**CANARY, **GUARD}))
    made.settle()
    assert shares(made) == {1: 100}
    assert made.condition("Ready") == ("False", "AutoRolledBack")


def test_clocks_that_differ_move_no_step() -> None:
    """Replicas lead in turn, minutes ahead and behind: a pause ends by the database's clock, once."""
    made = world("A", release=CANARY)
    made.edit(spec_of("B", release=CANARY))
    made.settle()
    ran(made, 2, False, False, False, False, False)
    assert shares(made) == {1: 50, 2: 50}
    for ahead, minutes in ((15, 1), (-15, 4), (15, 4)):
        made.ahead = timedelta(minutes=ahead)
        made.now += timedelta(minutes=minutes)
        made.settle()
        assert shares(made) == {1: 50, 2: 50}
    made.ahead = timedelta(minutes=-15)
    made.now += timedelta(minutes=1)
    made.settle()
    assert shares(made) == {2: 100}


def test_an_operator_that_was_down_over_several_pauses_goes_on_where_it_was() -> None:
    """A-CAN-8: a week later one pause is over, not three; the shares did not change meanwhile."""
    steps = [{"setWeight": 10}, {"pause": {"duration": "1h"}}, {"setWeight": 20}, {"pause": {"duration": "1h"}}]
    release = {"strategy": {"type": "Canary", "canary": {"steps": [*steps, {"setWeight": 30}, {"pause": {}}]}}}
    made = world("A", release=release)
    made.edit(spec_of("B", release=release))
    made.settle()
    assert shares(made) == {1: 90, 2: 10}
    made.now += timedelta(days=7)
    assert made.lineage.canary is not None and made.lineage.canary.weight == 10
    made.settle()
    assert shares(made) == {1: 80, 2: 20}
    made.now += timedelta(minutes=59)
    made.settle()
    assert shares(made) == {1: 80, 2: 20}


@pytest.mark.parametrize("failed", [(), (True,), (None, None, None, None, None)])
def test_nothing_is_learnt_from_too_few_runs(failed: tuple[bool | None, ...]) -> None:
    """No run, one run, only cancelled ones: no verdict at all, and after its time a person is asked."""
    made = world("A", release=CANARY)
    made.edit(spec_of("B", release=CANARY))
    made.settle()
    ran(made, 2, *failed)
    assert made.condition("Deployed") == ("Unknown", "CanaryInProgress")
    made.now += timedelta(minutes=30)
    made.settle()
    assert made.condition("Deployed") == ("Unknown", "AnalysisInconclusive")
    assert shares(made) == {1: 80, 2: 20}


def test_the_way_back_may_be_archived() -> None:
    """The version that takes over from a failing one has no object any more: it comes back with its number and hash."""
    fields: dict[str, Any] = {"revisionHistoryLimit": 0}
    made = world("A", release=GUARD, **fields)
    first = made.lineage.revisions[0]
    made.edit(spec_of("B", release=GUARD, **fields))
    made.settle()
    made.now += timedelta(minutes=30)
    row = made.lineage
    gone = replace(first, archived_at=made.now, first_active_at=row.revisions[0].first_active_at)
    made.rows[row.id] = replace(row, revisions=(gone, *row.revisions[1:]))
    made.settle()
    assert [image.number for image in made.images.values()] == [2]
    ran(made, 2, True, True, True, True)
    assert shares(made) == {1: 100}
    assert sorted(image.number for image in made.images.values()) == [1, 2]
    assert (made.lineage.active or first).content_hash == first.content_hash


def test_a_gate_is_not_lifted_by_making_the_workflow_anew() -> None:
    """A-AP-8: deleted and applied again without its approval, it has the Tenant's; what was approved before counts no more."""
    made = world("A")
    made.tenant = tenant_sight(policy=TenantPolicy(approval_floor=Approval(required="Always")))
    made.edit(spec_of("B"))
    made.settle()
    assert decide(made, "Approve", 2) == "Done"
    made.delete()
    made.settle()
    made.create_again()
    made.settle()
    assert made.lineage.active_number is None
    assert made.condition("Ready") == ("Unknown", "AwaitingApproval")


def test_two_who_contradict_each_other() -> None:
    """Approve and Deny, Promote and Abort: the first one counts, and the second learns why it came too late."""
    made = world("A", release={"approval": {"required": "Always"}})
    made.edit(spec_of("B", release={"approval": {"required": "Always"}}))
    made.settle()
    assert (decide(made, "Approve", 2), decide(made, "Deny", 2, actor="eve")) == ("Done", "Refused")
    made.edit(spec_of("C", release={"approval": {"required": "Always"}}))
    made.settle()
    assert (decide(made, "Deny", 3), decide(made, "Approve", 3, actor="eve")) == ("Done", "TargetDenied")
    made = world("A", release=CANARY)
    made.edit(spec_of("B", release=CANARY))
    made.settle()
    assert (decide(made, "Promote", full=True), decide(made, "Abort", actor="eve")) == ("Done", "Refused")
    made.edit(spec_of("C", release=CANARY))
    made.settle()
    assert (decide(made, "Abort"), decide(made, "Promote", full=True, actor="eve")) == ("Done", "Refused")
    assert shares(made) == {2: 100}


UNREAD = Flaw("ConfigMapNotFound", "ConfigMap high-cpu is not there")


def test_a_canary_whose_definition_is_gone_stands_still_and_still_fails() -> None:
    """Somebody deletes the ConfigMap: no step passes, nothing ends for that; runs that fail end it all the same."""
    made = world("A", release=CANARY)
    made.edit(spec_of("B", release=CANARY))
    made.settle()
    made.wanted = UNREAD
    ran(made, 2, False, False, False, False, False)
    assert shares(made) == {1: 80, 2: 20}
    ran(made, 2, True, True, True)
    assert shares(made) == {1: 100}
    assert made.lineage.rejection(made.lineage.revisions[1]) == "AnalysisFailed"


def test_a_gate_is_shut_also_where_the_definition_is_gone() -> None:
    """A-AP-2: approval is asked for while a canary stands still, so it ends."""
    made = world("A", release=CANARY)
    made.edit(spec_of("B", release=CANARY))
    made.settle()
    made.wanted = UNREAD
    made.settle()
    made.tenant = tenant_sight(policy=TenantPolicy(approval_floor=Approval(required="Always")))
    made.settle()
    assert shares(made) == {1: 100}


def test_what_is_active_is_watched_also_where_the_definition_is_gone() -> None:
    """A-CAN-7: the fresh version fails, and nobody can read what is desired."""
    made = world("A", release=GUARD)
    made.edit(spec_of("B", release=GUARD))
    made.settle()
    made.wanted = UNREAD
    ran(made, 2, True, True, True, True)
    assert shares(made) == {1: 100}


def test_what_is_deployed_on_the_word_of_peers_is_approved_for_good() -> None:
    """Approved while nobody had to, then a floor while the Workflow is suspended, and no look in between: Deploy notes it."""
    made = World(spec=spec_of("A", suspend=True))
    made.settle()
    made.edit(spec_of("A", release={"strategy": {"type": "Manual"}}))
    made.settle()
    assert decide(made, "Approve", 1) == "Done"
    made.edit(spec_of("A", suspend=True, release={"strategy": {"type": "Manual"}}))
    made.settle()
    made.tenant = tenant_sight(policy=TenantPolicy(approval_floor=Approval(required="Always")))
    assert decide(made, "Deploy", 1) == "Done"
    assert made.lineage.active_number == 1
    assert made.lineage.revisions[0].approved == "ApprovedByPeers"
