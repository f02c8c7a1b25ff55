"""What a decision does to a workflow, or why nothing."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from keep_operator.domain import conditions, decision, verdict
from keep_operator.domain.decision import Handle, Observed
from keep_operator.domain.effects import (
    Activate,
    ClearRejection,
    EndHold,
    Note,
    Reject,
    SetHold,
    Tag,
    Untag,
)
from keep_operator.domain.gates import Gates, Rule
from keep_operator.domain.history import Cause, Lineage, Reference
from keep_operator.domain.planning import Plan, SetMetadata
from keep_operator.domain.release import Scene
from keep_operator.domain.verdict import Handled, Verdict
from keep_operator.resources.decision import WorkflowDecisionSpec
from keep_operator.resources.kinds import Key
from keep_operator.resources.objects import Object
from keep_operator.resources.shapes import Invalid, Violation
from unit.lineages import hash_of, hold, lineage

NOW = datetime(2026, 5, 1, 18, 0, tzinfo=UTC)
LACK = "there is no policy"
REJECTED = {"rejected": "RejectedByUser"}


def decide(action: str, revision: Any = None, **fields: Any) -> WorkflowDecisionSpec:
    """A decision by Bob; a bare number names a revision."""
    choice = {"number": revision} if isinstance(revision, int) else revision
    raw = {
        "workflowRef": {"name": "high-cpu"},
        "action": action,
        "actor": "bob",
        "requestId": "request-1",
        "reason": "It notifies too often",
        **({"revision": choice} if choice else {}),
        **fields,
    }
    return WorkflowDecisionSpec.model_validate(raw)


def Situation(seen: Lineage, **fields: Any) -> verdict.Situation:  # noqa: N802 - stands for it
    """A situation of which only this matters."""
    return verdict.Situation(seen, **({"scene": Scene(NOW)} | fields))


WAITS: Any = {
    "scene": Scene(NOW, waits=conditions.unknown("ProvidersReady", "ProvidersNotReady", "Waiting for Provider slack"))
}


def judge(spec: WorkflowDecisionSpec, seen: Lineage, **fields: Any) -> Verdict:
    """What comes of it."""
    return verdict.judge(spec, Situation(seen, **fields), NOW)


def after(seen: Lineage, verdict: Verdict) -> tuple[int | None, int | None]:
    """What is active and what is held to once the effects are carried out."""
    active, held = seen.active_number, seen.hold
    for effect in verdict.effects:
        match effect:
            case Activate():
                active = effect.number
            case SetHold(it):
                held = it
            case EndHold():
                held = None
    return active, None if held is None else held.target


def test_one_rollback_makes_the_version_before_active_and_holds_it() -> None:
    """A-RB-1: one object, nothing in Git: v1 is active, and the hold says who, why, since when and what is held back."""
    seen = lineage("AB", "1 2")
    verdict = judge(decide("Rollback"), seen)
    assert verdict.outcome == "Done"
    held, activated = verdict.effects
    assert isinstance(held, SetHold) and isinstance(activated, Activate)
    assert held.hold == hold("B", 1, since=NOW, request_id="request-1")
    assert (activated.number, activated.cause, activated.actor) == (1, Cause.ROLLBACK, "bob")
    assert activated.reason == "It notifies too often"


def test_a_second_rollback_leads_further_back_and_the_hold_is_as_old_as_the_first() -> None:
    """A-RB-4: v3, v2, v1."""
    seen = lineage("ABC", "1 2 3 R2", hold=hold("C", 2))
    verdict = judge(decide("Rollback"), seen)
    assert after(seen, verdict) == (1, 1)
    assert isinstance(verdict.effects[0], SetHold) and seen.hold is not None
    assert verdict.effects[0].hold.since == seen.hold.since


@pytest.mark.parametrize(
    ("spec", "seen", "fields", "outcome"),
    [
        # A-RB-2: explicit targets
        (decide("Rollback", 1), lineage("ABC", "1 2 3"), {}, "Done"),
        (decide("Rollback", 1), lineage("AB", "1 2", change={1: {"archived_at": NOW}}), {}, "Done"),
        (decide("Rollback", 1), lineage("aBC", "2 3"), {}, "TargetInvalid"),
        (decide("Rollback", 1), lineage("AB", "1 2", change={1: {"denied": "DeniedByPeer"}}), {}, "TargetDenied"),
        (decide("Rollback", 1), lineage("AB", "1 2", change={1: REJECTED}), {}, "TargetRejected"),
        (decide("Rollback", 1, force=True), lineage("AB", "1 2", change={1: REJECTED}), {}, "Done"),
        (decide("Rollback", 2), lineage("ABC", "1 3"), {}, "Refused"),
        (decide("Rollback", 9), lineage("AB", "1 2"), {}, "Refused"),
        (decide("Rollback", {"tag": "gone"}), lineage("AB", "1 2"), {}, "Refused"),
        # A-RB-3
        (decide("Rollback", expect={"activeRevision": 1}), lineage("AB", "1 2"), {}, "Stale"),
        (decide("Rollback", expect={"activeRevision": 2}), lineage("AB", "1 2"), {}, "Done"),
        # A-RB-4
        (decide("Rollback", 2), lineage("AB", "1 2"), {}, "NoOp"),
        (decide("Rollback", 1), lineage("ABA", "1 2 3"), {}, "NoOp"),
        # A-RB-6
        (decide("Rollback"), lineage("AB", "1 2"), {"pin": Reference(tag="production")}, "Refused"),
        # A-RB-7
        (decide("Rollback"), lineage("A", "1"), {}, "NoRollbackTarget"),
        (decide("Rollback"), lineage(""), {}, "NoRollbackTarget"),
        # back to what the definition says
        (decide("Rollback", 2), lineage("AB", "1 2 R1", hold=hold("B", 1)), {}, "Done"),
        # Deploy
        (decide("Deploy", 2), lineage("AB", "1"), {"gates": Gates(manual=True)}, "Done"),
        (decide("Deploy", 2), lineage("AB", "1 D2"), {}, "NoOp"),
        (decide("Deploy", 1), lineage("AB", ""), {}, "Superseded"),
        (decide("Deploy", 2), lineage("Ab", "1"), {}, "TargetInvalid"),
        (decide("Deploy", 2), lineage("AB", "1", change={2: REJECTED}), {}, "TargetRejected"),
        (decide("Deploy", 2), lineage("AB", "1"), {"gates": Gates(approval=Rule("Always"), manual=True)}, "Refused"),
        (decide("Deploy", 2), lineage("AB", "1"), WAITS, "Refused"),
        (decide("Deploy", 2), lineage("AB", "1"), {"pin": Reference(number=1)}, "Refused"),
        # Resume, Retry, Reject
        (decide("Resume"), lineage("AB", "1 2"), {}, "NoOp"),
        (decide("Retry"), lineage("AB", "1 2"), {}, "NoOp"),
        (decide("Retry"), lineage(""), {}, "NoOp"),
        (decide("Retry"), lineage("AB", "1", change={2: REJECTED}), {}, "Done"),
        (decide("Reject", 1), lineage("AB", "1 2"), {}, "Done"),
        (decide("Reject", 1), lineage("AB", "1 2", change={1: REJECTED}), {}, "NoOp"),
        (decide("Reject", 1), lineage("A", "1"), {}, "NoRollbackTarget"),
        (decide("Reject", 1), lineage("AB", "1 2 P1"), {"pin": Reference(number=1)}, "Refused"),
        # Tag, Untag, Note
        (decide("Tag", 1, tag="production"), lineage("AB", "1 2"), {}, "Done"),
        (decide("Tag", 9, tag="production"), lineage("AB", "1 2"), {}, "Refused"),
        (decide("Tag", 1, tag="stable"), lineage("AB", "1 2"), {}, "Refused"),
        (decide("Untag", tag="production"), lineage("AB", "1 2"), {}, "NoOp"),
        (decide("Note"), lineage("AB", "1 2"), {}, "Done"),
        (decide("Note", 9), lineage("AB", "1 2"), {}, "Refused"),
    ],
)
def test_outcomes(spec: WorkflowDecisionSpec, seen: Lineage, fields: dict[str, Any], outcome: str) -> None:
    """A-RB-2..7 and section 7 of the API: each decision ends as documented, and only Done has effects."""
    verdict = judge(spec, seen, **fields)
    assert verdict.outcome == outcome
    assert bool(verdict.effects) == (outcome == "Done")
    assert verdict.truth == ("True" if outcome in ("Done", "NoOp", "Superseded") else "False")


def test_a_rollback_while_pinned_is_refused_and_told_of_the_pin() -> None:
    """A-RB-6: whoever works with Git is sent there."""
    verdict = judge(decide("Rollback"), lineage("AB", "1 2"), pin=Reference(tag="production"))
    assert 'tag "production"' in verdict.message and "pin" in verdict.message


def test_without_a_way_back_the_offer_is_to_suspend() -> None:
    """A-RB-7: nothing is stopped by itself, but the message says how."""
    assert "spec.suspend" in judge(decide("Rollback"), lineage("A", "1")).message


def test_a_forced_rollback_takes_the_rejection_off() -> None:
    """A-RB-2: what is active is never a rejected version."""
    seen = lineage("AB", "1 2", change={1: REJECTED})
    assert ClearRejection(hash_of("A")) in judge(decide("Rollback", 1, force=True), seen).effects


@pytest.mark.parametrize(
    ("spec", "seen", "expected"),
    [
        (decide("Rollback", 2), lineage("AB", "1 2 R1", hold=hold("B", 1)), (2, None)),
        (decide("Rollback", 1), lineage("ABC", "1 2 3"), (1, 1)),
        (decide("Resume"), lineage("AB", "1 2 R1", hold=hold("B", 1)), (2, None)),
        (decide("Resume"), lineage("Ab", "1", hold=hold("b", 1)), (1, None)),
        (decide("Deploy", 2), lineage("AB", "1 2 R1", hold=hold("B", 1)), (2, None)),
        (decide("Reject", 2), lineage("AB", "1 2"), (1, None)),
        (decide("Reject", 2), lineage("ABC", "1 2 3 R2", hold=hold("C", 2)), (1, 1)),
        (decide("Reject", 1), lineage("AB", "1 2"), (2, None)),
        (decide("Retry"), lineage("AB", "1 2 R1", hold=hold("B", 1), change={2: REJECTED}), (1, 1)),
        (
            decide("Retry"),
            lineage("AB", "1 2 R1", hold=hold("B", 1, automatic=True), change={2: REJECTED}),
            (1, None),
        ),
    ],
)
def test_what_is_active_and_held_afterwards(
    spec: WorkflowDecisionSpec, seen: Lineage, expected: tuple[int | None, int | None]
) -> None:
    """Holds begin with Rollback, end with Resume, Deploy or going back to the definition, and follow a Reject."""
    verdict = judge(spec, seen)
    assert verdict.outcome == "Done"
    assert after(seen, verdict) == expected


def test_resume_does_not_pass_what_stands_in_the_way() -> None:
    """A hold that ends opens no gate: a pin stays in force, and a missing Provider is waited for."""
    seen = lineage("ABC", "1 3 R1", hold=hold("C", 1))
    assert after(seen, judge(decide("Resume"), seen, pin=Reference(number=1))) == (1, None)
    assert after(seen, judge(decide("Resume"), seen, **WAITS)) == (1, None)


def test_resume_says_what_it_does_not_undo() -> None:
    """A version that was taken back, or rejected, stays so when the hold ends: whoever resumes it learns that it takes a Retry."""
    taken = lineage("AB", "1 2 R1", hold=hold("B", 1, automatic=True), change={2: REJECTED})
    verdict = judge(decide("Resume"), taken)
    assert (verdict.outcome, after(taken, verdict)) == ("Done", (1, None))
    assert "not held back any more, and yet does not run" in verdict.message and "decide Retry" in verdict.message
    free = judge(decide("Resume"), lineage("AB", "1 2 R1", hold=hold("B", 1)))
    assert free.message.endswith("is not held back any more")


def test_tags_move_by_decision_only() -> None:
    """A-TAG-1: unique in a lineage; Tag moves one, Untag takes it off, a second Tag does nothing."""
    seen = lineage("AB", "1 2", change={1: {"tags": ("production",)}})
    assert judge(decide("Tag", 2, tag="production"), seen).effects == (Tag("production", 2),)
    assert judge(decide("Tag", 1, tag="production"), seen).outcome == "NoOp"
    assert judge(decide("Untag", tag="production"), seen).effects == (Untag("production"),)
    assert judge(decide("Untag", 2, tag="production"), seen).outcome == "Refused"
    assert judge(decide("Untag", 1, tag="production"), seen).outcome == "Done"


def test_a_revision_has_a_bounded_number_of_tags() -> None:
    """The status of a revision shows them all."""
    seen = lineage("A", "1", change={1: {"tags": tuple(f"t{each}" for each in range(verdict.TAGS_LIMIT))}})
    assert judge(decide("Tag", 1, tag="one-more"), seen).outcome == "Refused"


def test_a_note_is_about_the_active_revision_unless_another_is_named() -> None:
    """A-NOTE-1: notes go to the ledger, and make no revision."""
    assert judge(decide("Note"), lineage("AB", "1 2")).effects == (Note(2, "It notifies too often"),)
    assert judge(decide("Note", 1), lineage("AB", "1 2")).effects == (Note(1, "It notifies too often"),)
    assert judge(decide("Note"), lineage("")).effects == (Note(None, "It notifies too often"),)


def test_rejecting_tells_why_for_good() -> None:
    """The condition Rejected of the revision says that a person did it."""
    assert judge(decide("Reject", 1), lineage("AB", "1 2")).effects == (Reject(1, "RejectedByUser"),)


def an_object(spec: WorkflowDecisionSpec | Invalid, **fields: Any) -> Object[WorkflowDecisionSpec]:
    """A WorkflowDecision as the cluster has it."""
    given: dict[str, Any] = {
        "key": Key("WorkflowDecision", "monitoring", "back"),
        "uid": "uid-9",
        "resource_version": "1",
        "generation": 1,
        "created_at": NOW,
        "deleted_at": None,
        "finalizers": (),
        "owners": (),
        "annotations": {},
        "spec": spec,
        "status": {},
    }
    return Object(**(given | fields))


def told(observed: Observed, now: datetime = NOW) -> tuple[str, str]:
    """Status and reason of Handled in the status that is reported."""
    status = decision.plan(observed, now).status
    assert status is not None
    (handled,) = status["conditions"]
    return handled["status"], handled["reason"]


DONE = Handled("request-1", "Rollback", "Done", "v1 is active", NOW + timedelta(seconds=2), "17", 2, 1, "uid-9")


def test_a_decision_is_carried_out_once_and_then_told() -> None:
    """First everything it does in one action; then what came of it, from the database; then nothing ever again."""
    obj, seen = an_object(decide("Rollback")), lineage("AB", "1 2")
    (action,) = decision.plan(Observed(obj, Situation(seen)), NOW).actions
    assert isinstance(action, Handle) and action.verdict.outcome == "Done"
    handled = Observed(obj, Situation(lineage("AB", "1 2 R1", hold=hold("B", 1)), handled=DONE))
    status = decision.plan(handled, NOW + timedelta(minutes=1)).status
    assert status is not None
    assert (status["from"], status["to"], status["ledgerId"]) == (2, 1, "17")
    assert status["handledAt"] == "2026-05-01T18:00:02Z"
    assert told(handled) == ("True", "Done")
    again = replace(handled, object=replace(obj, status=status))
    assert decision.plan(again, NOW + timedelta(days=1)) == Plan(wake_in=timedelta(days=29, seconds=2))


def test_a_decision_that_comes_back_from_a_backup_does_nothing() -> None:
    """A-AP-6: the same requestId again, whatever the object is called, ends NoOp."""
    obj = an_object(decide("Rollback"), uid="uid-10")
    observed = Observed(obj, Situation(lineage("ABC", "1 2 R1 3"), handled=DONE))
    assert told(observed) == ("True", "NoOp")
    assert judge(decide("Rollback"), lineage("AB", "1 2"), handled=DONE).outcome == "NoOp"


def test_a_decision_waits_ten_minutes_for_its_workflow() -> None:
    """Applied in one go with the Workflow it works; for a workflow that does not come it is refused."""
    observed = Observed(an_object(decide("Rollback")), None)
    assert told(observed) == ("Unknown", "WorkflowNotFound")
    assert decision.plan(observed, NOW).wake_in == timedelta(minutes=10)
    assert told(observed, NOW + timedelta(minutes=10)) == ("False", "Refused")


def test_what_may_not_be_decided_is_not_carried_out() -> None:
    """A spec that breaks the rules, or an author without the right."""
    invalid = an_object(Invalid((Violation("spec.reason", "is needed"),)))
    assert told(Observed(invalid, Situation(lineage("AB", "1 2")))) == ("False", "Refused")
    forbidden = conditions.false("Handled", "Forbidden", "bob may not roll back")
    assert told(Observed(an_object(decide("Rollback")), None, forbidden)) == ("False", "Forbidden")
    (action,) = decision.plan(
        Observed(an_object(decide("Rollback")), Situation(lineage("AB", "1 2")), forbidden), NOW
    ).actions
    assert isinstance(action, Handle)
    assert action.verdict == Verdict("Forbidden", "bob may not roll back")


@pytest.mark.parametrize("action", ["Rollback", "Abort", "Pause", "Resume", "Note"])
def test_what_stops_harm_needs_no_proof_of_who_decides(action: str) -> None:
    """A-AP-5: in an incident whoever may make decisions may roll back, on a cluster without admission policies too."""
    assert decision.distrust(decide(action), LACK) is None


@pytest.mark.parametrize(
    "action", ["Approve", "Deny", "Deploy", "Promote", "Retry", "Reject", "Tag", "Untag", "CheckItem"]
)
def test_what_lets_something_run_needs_a_proof_of_who_decides(action: str) -> None:
    """A-AP-5: without a proof these end ActorUnverified, and the message names the setting that lets them through."""
    more: dict[str, Any] = {"CheckItem": {"item": "told"}, "Tag": {"tag": "t"}, "Untag": {"tag": "t"}}.get(action, {})
    found = decision.distrust(decide(action, 1, **more), LACK)
    assert found is not None
    assert (found.truth, found.reason) == ("False", "ActorUnverified")
    assert "KEEP_OPERATOR_DECISIONS_UNVERIFIED=Record" in found.message
    assert LACK in found.message


def test_a_claim_counts_where_the_tenant_trusts_its_author() -> None:
    """A-AP-3: whom somebody acts for is who decided only where that account is believed; else it is the account itself."""
    claimed = decide("Approve", 1, actor="argo", onBehalfOf="ann")
    assert verdict.person(claimed, {"argo"}) == "ann"
    assert verdict.person(claimed, {"ann", "flux"}) == "argo"
    assert verdict.person(decide("Approve", 1, actor="argo"), {"argo"}) == "argo"


def test_what_is_proven_is_recorded_so() -> None:
    """The ledger knows of each decision whether the cluster vouches for its author."""
    for verified in (True, False):
        seen = Observed(an_object(decide("Rollback")), Situation(lineage("AB", "1 2")), verified=verified)
        (action,) = decision.plan(seen, NOW).actions
        assert isinstance(action, Handle)
        assert action.verified is verified


def test_force_needs_a_proof_whatever_the_action() -> None:
    """A rollback to a rejected version is not for everybody."""
    assert decision.distrust(decide("Rollback", 1, force=True), LACK) is not None


def test_a_decision_is_not_judged_before_the_newest_definition_was_looked_at() -> None:
    """An edit and a rollback in the same second: the edit makes its version first, so that it is the one rolled back."""
    seen = Observed(an_object(decide("Rollback")), Situation(lineage("AB", "1 2")), looked_at=False)
    assert decision.plan(seen, NOW) == Plan(wake_in=decision.LOOK_AGAIN)
    assert decision.plan(seen, NOW + decision.PATIENCE).actions != ()


def test_nothing_is_decided_on_a_database_that_is_behind() -> None:
    """A-REV-13: what an older dump says is no ground to judge by."""
    situation = Situation(lineage("AB", "1 2"), behind="There has been revision v3")
    assert told(Observed(an_object(decide("Rollback")), situation)) == ("Unknown", "DatabaseBehind")


def test_a_handled_decision_goes_with_its_workflow() -> None:
    """It gets the Workflow as its owner, in place of one that was there before; what others own of it stays so."""
    other = {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "uid-x"}
    stale = {"apiVersion": "keep-operator.dev/v1alpha1", "kind": "Workflow", "name": "high-cpu", "uid": "uid-0"}
    situation = Situation(lineage("AB", "1 2 R1"), handled=DONE)
    seen = Observed(an_object(decide("Rollback"), owners=(other, stale)), situation, workflow_uid="uid-1")
    (action,) = decision.plan(seen, NOW).actions
    assert isinstance(action, SetMetadata)
    assert [owner["uid"] for owner in action.owners] == ["uid-x", "uid-1"]
    owned = replace(seen, object=replace(seen.object, owners=action.owners))
    assert told(owned) == ("True", "Done")


def test_a_handled_decision_goes_after_thirty_days() -> None:
    """The ledger has it for ever; what Argo CD, Flux or Helm would make again is left to them (A-AP-6)."""
    status = {"handledAt": "2026-05-01T18:00:00Z", "conditions": [{"type": "Handled", "status": "True"}]}
    seen = Observed(an_object(decide("Rollback"), status=status), None)
    assert decision.plan(seen, NOW + timedelta(days=29)).wake_in == timedelta(days=1)
    assert decision.plan(seen, NOW + timedelta(days=30)).actions == (decision.Expire(seen.object.key, "uid-9"),)
    tracked = replace(seen, object=replace(seen.object, source={"tool": "ArgoCD"}))
    assert decision.plan(tracked, NOW + timedelta(days=30)) == Plan()


def test_a_decision_about_a_workflow_without_a_record_says_so() -> None:
    """The Workflow is there and its Tenant is not: that is something else than a misspelt name."""
    seen = Observed(an_object(decide("Rollback")), None, workflow_uid="uid-1")
    status = decision.plan(seen, NOW).status
    assert status is not None
    assert "to have a record" in status["conditions"][0]["message"]
    assert told(seen, NOW + timedelta(minutes=10)) == ("False", "Refused")


def test_a_decision_that_is_deleted_is_left_alone() -> None:
    """It has no finalizer, and deleting it undoes nothing."""
    gone = an_object(decide("Rollback"), deleted_at=NOW)
    assert decision.plan(Observed(gone, Situation(lineage("AB", "1 2"))), NOW) == Plan()
