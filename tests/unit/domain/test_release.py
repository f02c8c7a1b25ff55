"""Which revision shall be active, rule by rule."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from keep_operator.domain import gates as gate_rules
from keep_operator.domain import release
from keep_operator.domain.gates import OPEN, Gates, Guard, Rule
from keep_operator.domain.history import Cause, Lineage, Reference
from keep_operator.domain.release import Choice, Scene
from keep_operator.resources.parts import Approval, ChecklistItem
from keep_operator.resources.release import AutoRollback, Canary, CanaryStep, Pin, Release, Strategy
from unit.lineages import hash_of, hold, lineage, minute

V1, V2 = Reference(number=1), Reference(number=2)
REJECTED = {"rejected": "RejectedByUser"}
TELL = ChecklistItem(id="told", title="Tell the team")


def choose(seen: Lineage, desired: str, pin: Reference | None = None, gates: Gates = OPEN, **scene: Any) -> Choice:
    """What is chosen while the definition in the spec is that of this letter."""
    scene.setdefault("changed", ("steps.look",))
    return release.choose(seen, hash_of(desired), pin, gates, Scene(minute(1_000), **scene))


def chosen(
    seen: Lineage, desired: str, pin: Reference | None = None, gates: Gates = OPEN
) -> tuple[int | None, str, str]:
    """What shall be active, and what Deployed says."""
    choice = choose(seen, desired, pin, gates)
    return choice.number, str(choice.deployed.truth), choice.deployed.reason


@pytest.mark.parametrize(
    ("seen", "desired", "pin", "expected"),
    [
        # the newest eligible revision
        (lineage("A"), "A", None, (1, "True", "RevisionActive")),
        (lineage("AB", "1"), "B", None, (2, "True", "RevisionActive")),
        (lineage("ABA", "1 2"), "A", None, (3, "True", "RevisionActive")),
        # it has not been made yet, is invalid, denied, rejected: what is active stays
        (lineage(""), "A", None, (None, "Unknown", "Progressing")),
        (lineage("A", "1"), "B", None, (1, "Unknown", "Progressing")),
        (lineage("Ab", "1"), "b", None, (1, "False", "InvalidRevision")),
        (lineage("a"), "a", None, (None, "False", "InvalidRevision")),
        (lineage("AB", "1", change={2: {"denied": "DeniedByPeer"}}), "B", None, (1, "False", "Denied")),
        (lineage("AB", "1", change={2: REJECTED}), "B", None, (1, "False", "RejectedByUser")),
        (lineage("ABAB", "1 2 3", change={2: REJECTED}), "B", None, (3, "False", "RejectedByUser")),
        # a hold: its target, whatever the spec says, until the spec says something else
        (lineage("AB", "1 2", hold=hold("B", 1)), "B", None, (1, "False", "RolledBack")),
        (lineage("AB", "1 2", hold=hold("B", 1, automatic=True)), "B", None, (1, "False", "AutoRolledBack")),
        (lineage("ABC", "1 2 R1", hold=hold("B", 1)), "C", None, (3, "True", "RevisionActive")),
        (lineage("ABA", "1 2 R1", hold=hold("B", 1)), "A", None, (3, "True", "RevisionActive")),
        (lineage("ABc", "1 2 R1", hold=hold("B", 1)), "c", None, (1, "False", "InvalidRevision")),
        # a hold to what may not run any more changes nothing
        (lineage("AB", "1 2", hold=hold("B", 1), change={1: REJECTED}), "B", None, (2, "False", "RolledBack")),
        # a pin is above the hold and what is desired
        (lineage("AB", "1 2"), "B", V1, (1, "True", "Pinned")),
        (lineage("ABC", "1 2 3", hold=hold("C", 1)), "C", V2, (2, "True", "Pinned")),
        (lineage("AB", "1 2"), "B", Reference(content_hash=hash_of("A")), (1, "True", "Pinned")),
        (lineage("AB", "1 2"), "B", Reference(number=7), (2, "False", "RevisionNotFound")),
        # and below what may never run
        (lineage("aB", "2"), "B", V1, (2, "False", "InvalidRevision")),
        (lineage("AB", "1 2", change={1: REJECTED}), "B", V1, (2, "False", "RejectedByUser")),
        (lineage("AB", "1 2", change={1: {"denied": "DeniedByPeer"}}), "B", V1, (2, "False", "Denied")),
    ],
)
def test_precedence(seen: Lineage, desired: str, pin: Reference | None, expected: tuple[int | None, str, str]) -> None:
    """Section 8: rejected revision (never), pin, hold, newest eligible; what is active stays where none may be chosen."""
    assert chosen(seen, desired, pin) == expected


@pytest.mark.parametrize(
    ("gates", "expected"),
    [
        (Gates(approval=Rule("Always")), ("Unknown", "AwaitingApproval")),
        (Gates(approval=Rule("ImportantOnly", important_paths=("steps",))), ("Unknown", "AwaitingApproval")),
        (Gates(checklist=(TELL,)), ("Unknown", "ChecklistIncomplete")),
        (Gates(unsupported="spec.release.autoRollback"), ("False", "StrategyUnsupported")),
        (Gates(manual=True), ("Unknown", "AwaitingDeploy")),
    ],
)
def test_a_gate_that_is_shut_keeps_what_is_active(gates: Gates, expected: tuple[str, str]) -> None:
    """A-AP-2, A-AP-7, A-CHK-1: whoever asks for approval or a checklist never gets a revision without it."""
    assert chosen(lineage("AB", "1"), "B", gates=gates) == (1, *expected)
    assert chosen(lineage("A"), "A", gates=gates) == (None, *expected)
    if not gates.manual:
        assert chosen(lineage("ABC", "1", hold=None), "C", V2, gates) == (1, *expected)


def test_the_way_back_is_open_when_gates_are_shut() -> None:
    """An incident: what has served before may serve again by pin or hold, though approval is asked for by now."""
    shut = Gates(approval=Rule("Always"), checklist=(TELL,))
    assert chosen(lineage("AB", "1 2"), "B", V1, shut) == (1, "True", "Pinned")
    assert chosen(lineage("AB", "1 2 R1", hold=hold("B", 1)), "B", gates=shut) == (1, "False", "RolledBack")


def test_a_guard_that_nobody_keeps_is_told_of_at_once() -> None:
    """A-AP-9: with autoRollback enabled on what is active already, nobody may believe that it is watched."""
    gates = Gates(unsupported="spec.release.autoRollback")
    assert chosen(lineage("AB", "1 2"), "B", gates=gates) == (2, "False", "StrategyUnsupported")


def test_approval_is_about_what_has_never_been_active() -> None:
    """A-AP-7: the condition Approved waits with the new revision, and says that the old one needs none."""
    gates = Gates(approval=Rule("Always"))
    assert choose(lineage("AB", "1"), "B", None, gates).approved.reason == "AwaitingApproval"
    assert choose(lineage("AB", "1 2"), "B", None, gates).approved == gate_rules.NOT_REQUIRED
    assert choose(lineage("AB", "1"), "B", None, OPEN).approved == gate_rules.NOT_REQUIRED


@pytest.mark.parametrize(("desired", "ends"), [("B", False), ("C", True), ("A", True)])
def test_a_hold_ends_with_another_definition_and_with_a_revert_to_its_target(desired: str, ends: bool) -> None:
    """Section 8: nobody has to take a hold off by hand once Git has moved on."""
    seen = lineage("AB" + desired.strip("B"), "1 2 R1", hold=hold("B", 1))
    choice = choose(seen, desired, None, OPEN)
    assert choice.ends_hold is ends
    assert choice.cause is (Cause.HOLD_ENDED if ends else Cause.ROLLBACK)


def test_a_rollback_by_hand_is_no_fault_and_one_by_the_operator_is() -> None:
    """Section 8: Ready stays True with the first, and asks for a person with the second."""
    seen = lineage("AB", "1 2 R1", hold=hold("B", 1))
    assert choose(seen, "B", None, OPEN).held
    automatic = replace(seen, hold=hold("B", 1, automatic=True))
    assert not choose(automatic, "B", None, OPEN).held


def test_the_message_of_a_hold_names_who_why_and_what_in_git_ends_it() -> None:
    """A-RB-8: whoever sees RolledBack knows what to do next."""
    seen = lineage("AB", "1 2 R1", hold=hold("B", 1))
    message = choose(seen, "B", None, OPEN).deployed.message
    for each in ("v2", "bob", "It notifies too often", "v1", "Git", "Resume"):
        assert each in message


def approval(required: Any) -> Approval:
    """An approval of which only this is said."""
    return Approval(required=required)


@pytest.mark.parametrize(
    ("own", "default", "floor", "expected"),
    [
        (None, None, None, "Never"),
        (None, "Always", None, "Always"),
        ("Never", "Always", None, "Never"),
        ("Never", None, "ImportantOnly", "ImportantOnly"),
        ("Always", None, "ImportantOnly", "Always"),
        (None, None, "Always", "Always"),
    ],
)
def test_a_workflow_may_only_tighten_what_its_tenant_asks_for(
    own: str | None, default: str | None, floor: str | None, expected: str
) -> None:
    """A-AP-8: lowering approval below the tenant's floor has no effect."""
    gates = gate_rules.gates(
        Release(approval=None if own is None else approval(own)),
        None if default is None else approval(default),
        None if floor is None else approval(floor),
        (),
    )
    assert gates.approval.required == expected


def test_gates_come_from_the_spec_and_from_the_tenant() -> None:
    """Each part of spec.release is read; a floor's items stand before the Workflow's, and what is optional shuts nothing."""
    item, optional = ChecklistItem(id="a", title="Tell the team"), ChecklistItem(id="b", title="Cake", required=False)
    floor = ChecklistItem(id="c", title="Read the runbook")
    assert gate_rules.gates(Release(), None, None, ()) == OPEN
    read = gate_rules.gates(Release(checklist=(item, optional)), None, None, (floor,))
    open_ = gate_rules.open_items(read, lineage("AB", "1"), lineage("AB", "1").revisions[1])
    assert [each.title for each in open_] == ["Read the runbook", "Tell the team"]
    canary = Release(strategy=Strategy(type="Canary", canary=Canary(steps=(CanaryStep(set_weight=10),))))
    assert gate_rules.gates(canary, None, None, ()).steps == (CanaryStep(set_weight=10),)
    assert "Canary" in (gate_rules.gates(canary, None, None, (), runtime="keep").unsupported or "")
    hour = timedelta(hours=1)
    guard = Release(auto_rollback=AutoRollback(enabled=True, window=hour, min_runs=5, max_failure_rate_percent=10))
    assert gate_rules.gates(guard, None, None, ()).guard == Guard(hour, 5, 10)
    assert "autoRollback" in (gate_rules.gates(guard, None, None, (), runtime="keep").unsupported or "")
    assert gate_rules.gates(Release(strategy=Strategy(type="Manual")), None, None, ()).manual


def test_a_pin_is_read_in_each_of_its_three_ways() -> None:
    """A-RB-6: by number, hash or tag."""
    assert release.reference(None) is None
    assert release.reference(Pin(revision=3)) == Reference(number=3)
    assert release.reference(Pin(tag="production")) == Reference(tag="production")
    assert release.reference(Pin(content_hash=hash_of("A"))) == Reference(content_hash=hash_of("A"))


@pytest.mark.parametrize(
    ("seen", "fields", "expected"),
    [
        (None, {}, ("Unknown", "NoRevisionYet")),
        (lineage("A"), {}, ("Unknown", "NoRevisionYet")),
        (lineage("a"), {}, ("False", "NeverDeployed")),
        (lineage("A", "1"), {}, ("True", "Serving")),
        (lineage("Ab", "1"), {}, ("True", "Serving")),
        (lineage("A", "1"), {"suspended": True}, ("False", "Suspended")),
        (lineage("A", "1"), {"disabled": True}, ("False", "DisabledInDefinition")),
        (lineage("A", "1"), {"broken": "Provider slack is gone"}, ("False", "ActiveRevisionBroken")),
    ],
)
def test_available_says_whether_anything_takes_runs(
    seen: Lineage | None, fields: dict[str, Any], expected: tuple[str, str]
) -> None:
    """A person who asks "does it work now" needs one condition."""
    found = release.available(seen, **({"suspended": False, "disabled": False} | fields))
    assert (str(found.truth), found.reason) == expected
