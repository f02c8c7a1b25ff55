"""Approval and the checklist, rule by rule."""

from dataclasses import replace
from typing import Any

import pytest

from keep_operator.domain import checklist, comparison, gates
from keep_operator.domain.canary import Stats
from keep_operator.domain.gates import TRUSTED, Rule
from keep_operator.domain.history import Author, Lineage, Review
from keep_operator.resources.parts import Approval, Approvers, ChecklistItem
from keep_operator.resources.release import Release
from unit.lineages import lineage, minute

ANN = Author("ann", TRUSTED)
PIPELINE = "system:serviceaccount:argocd:argocd-application-controller"


def approving(*actors: str, number: int = 2, groups: tuple[str, ...] = ()) -> tuple[Review, ...]:
    """What these people think of a revision."""
    return tuple(Review(number, actor, True, minute(300), groups) for actor in actors)


def judged(seen: Lineage, rule: Rule, *, important: bool = True) -> tuple[str, str, str | None]:
    """Approved of the newest revision, and what is to be remembered."""
    assert seen.latest is not None
    found = gates.judge(rule, seen, seen.latest, important=important)
    return str(found.finding.truth), found.finding.reason, found.remember


def by(author: Author | None, contents: str = "AB", deployed: str = "1", **fields: Any) -> Lineage:
    """A history whose newest revision is by this author."""
    number = len(contents)
    change = {number: {"author": author, **fields.pop("latest", {})}, **fields.pop("change", {})}
    return lineage(contents, deployed, change=change, **fields)


AWAITS = ("Unknown", "AwaitingApproval", None)
APPROVED = ("True", "ApprovedByPeers", "ApprovedByPeers")
FREE = ("True", "NotRequired", None)


@pytest.mark.parametrize(
    ("seen", "rule", "expected"),
    [
        (by(ANN), Rule("Never"), FREE),
        (by(ANN), Rule("Always"), AWAITS),
        (by(ANN, deployed="1 2"), Rule("Always"), FREE),
        (by(ANN, reviews=approving("bob")), Rule("Always"), APPROVED),
        (by(ANN, reviews=approving("bob")), Rule("Always", least=2), AWAITS),
        (by(ANN, reviews=approving("bob", "eve")), Rule("Always", least=2), APPROVED),
        # of another revision, or by the author
        (by(ANN, reviews=approving("bob", number=1)), Rule("Always"), AWAITS),
        (by(ANN, reviews=approving("ann")), Rule("Always"), AWAITS),
        (by(ANN, reviews=approving("ann")), Rule("Always", forbid_self=False), APPROVED),
        (by(Author("ann", "Annotation"), reviews=approving("ann")), Rule("Always"), AWAITS),
        # those who may
        (by(ANN, reviews=approving("bob")), Rule("Always", approvers=(Approvers(users=("eve",)),)), AWAITS),
        (by(ANN, reviews=approving("eve")), Rule("Always", approvers=(Approvers(users=("eve",)),)), APPROVED),
        (
            by(ANN, reviews=approving("bob", groups=("sre",))),
            Rule("Always", approvers=(Approvers(groups=("sre",)),)),
            APPROVED,
        ),
        # the floor's list and the Workflow's: both must admit
        (
            by(ANN, reviews=approving("eve")),
            Rule("Always", approvers=(Approvers(users=("eve",)), Approvers(users=("bob",)))),
            AWAITS,
        ),
        # a machine is nobody to vouch for what nobody knows the author of
        (by(None, reviews=approving(PIPELINE)), Rule("Always"), AWAITS),
        (by(None, reviews=approving(PIPELINE, "bob")), Rule("Always"), APPROVED),
        (by(ANN, reviews=approving(PIPELINE)), Rule("Always"), APPROVED),
        # what is approved stays so
        (by(ANN, latest={"approved": "ApprovedByPeers"}), Rule("Always", least=9), ("True", "ApprovedByPeers", None)),
        # equal content
        (by(ANN, "ABA", change={1: {"approved": "ApprovedByPeers"}}), Rule("Always"), AWAITS),
        (
            by(ANN, "ABA", change={1: {"approved": "ApprovedByPeers"}}),
            Rule("Always", carry_over=True),
            ("True", "CarriedOver", "CarriedOver"),
        ),
        (by(ANN, "ABA", change={1: {"denied": "DeniedByPeer"}}), Rule("Never"), ("False", "Denied", None)),
    ],
)
def test_who_may_let_a_revision_run(seen: Lineage, rule: Rule, expected: tuple[str, str, str | None]) -> None:
    """A-AP-1..4: the right people, enough of them, of this very revision; a denial goes with the content for ever."""
    assert judged(seen, rule) == expected


def test_a_person_takes_an_approval_back_by_denying() -> None:
    """The last word of each counts."""
    seen = by(ANN, reviews=(Review(2, "bob", False, minute(301)),))
    assert judged(seen, Rule("Always")) == AWAITS


@pytest.mark.parametrize(
    ("changed", "paths", "important"),
    [
        (("actions.notify.provider.with.message",), ("actions",), True),
        (("actions.notify.provider.with.message",), ("actions.notify",), True),
        (("actions.notify",), ("actions.notify.provider",), True),
        (("actions.notify-two",), ("actions.notify",), False),
        (("consts.limit",), ("actions", "triggers"), False),
        (("triggers.interval",), ("triggers",), True),
        (("steps[0].if",), ("steps",), True),
        ((), ("actions",), False),
    ],
)
def test_a_change_below_an_important_path_makes_a_version_important(
    changed: tuple[str, ...], paths: tuple[str, ...], important: bool
) -> None:
    """A-AP-1: a path is met by what lies below it, and by what goes or comes with all that is below."""
    latest = by(ANN).revisions[1]
    rule = Rule("ImportantOnly", important_paths=paths)
    assert gates.is_important(rule, latest, changed) is important
    assert gates.is_important(rule, latest, changed, marked=True)
    assert gates.is_important(rule, replace(latest, important=True), ())


def test_a_floor_is_the_least_in_every_part() -> None:
    """A-AP-8: fewer approvals, self-approval, carrying over, other approvers, fewer paths: nothing of it gets below the floor."""
    floor = Approval(
        required="Always",
        min_approvals=2,
        approvers=Approvers(groups=("sre",)),
        forbid_self_approval=True,
        carry_over=False,
        important_paths=("actions",),
    )
    own = Approval(
        required="Never",
        min_approvals=1,
        approvers=Approvers(users=("ann",)),
        forbid_self_approval=False,
        carry_over=True,
        important_paths=("steps",),
    )
    read = gates.gates(Release(approval=own), None, floor).approval
    assert read == Rule(
        "Always", 2, (Approvers(users=("ann",)), Approvers(groups=("sre",))), True, False, ("steps", "actions")
    )
    assert gates.gates(Release(approval=own), None, None).approval == Rule(
        "Never", 1, (Approvers(users=("ann",)),), False, True, ("steps",)
    )
    assert gates.gates(Release(), own, None).approval == gates.gates(Release(approval=own), None, None).approval


def test_an_item_of_the_floor_cannot_be_replaced() -> None:
    """A-AP-8: an item with the same id in the Workflow that asks for less changes nothing."""
    floor = ChecklistItem(id="told", title="Tell the team")
    own = ChecklistItem(id="told", title="Tell nobody", required=False)
    assert gates.gates(Release(checklist=(own,)), None, None, (floor,)).checklist == (floor,)


def item(auto: str, **fields: Any) -> ChecklistItem:
    """An item that finds itself true."""
    return ChecklistItem(id="tried", title="Tried", auto=auto, **fields)


@pytest.mark.parametrize(
    ("auto", "done"),
    [
        ("runs.dryRun.succeeded >= 10 && runs.dryRun.failed == 0", True),
        ("runs.live.total > 0", False),
        ("revision.number == 2 && revision.author == 'ann'", True),
        ("diff.steps.changed.exists(s, s == 'steps.look')", True),
        ("'steps.look.provider.with.content' in diff.paths", True),
        ("diff.triggers.added == []", True),
        ("revision.changeNote.contains('incident')", False),
        ("revision.nothing == 1", False),
        ("[1,2,3].all(x, [1,2,3].all(y, [1,2,3].all(z, true)))", True),
    ],
)
def test_items_find_themselves_true(auto: str, done: bool) -> None:
    """A-CHK-1: CEL over the revision, its difference and its runs; what cannot be evaluated is not true, and says why."""
    before = {"steps": [{"name": "look", "provider": {"type": "mock", "with": {"content": "A"}}}]}
    after = {"steps": [{"name": "look", "provider": {"type": "mock", "with": {"content": "B"}}}]}
    seen, counted = by(ANN), {"DryRun": Stats(12, 0), "Live": Stats()}
    difference = comparison.compare(before, after)
    (tick,) = checklist.ticks((item(auto),), seen, seen.revisions[1], difference, counted)
    assert tick.done is done
    assert bool(tick.message) is ("nothing" in auto)
    again = checklist.ticked(seen, (tick,), minute(400))
    assert checklist.ticks((item(auto),), again, seen.revisions[1], difference, counted) == ()
    assert bool(gates.open_items(gates.Gates(checklist=(item(auto),)), again, seen.revisions[1])) is not done


def test_an_expression_that_never_ends_is_cut_off() -> None:
    """A list that doubles itself, or loops within loops, is not true, and takes no time from anybody else."""
    loops = "[0,1,2,3,4,5,6,7,8,9]"
    bomb = f"{loops}.all(a, {loops}.all(b, {loops}.all(c, {loops}.all(d, {loops}.all(e, true)))))"
    seen = by(ANN)
    (tick,) = checklist.ticks((item(bomb),), seen, seen.revisions[1], comparison.compare({}, {}), {})
    assert not tick.done and "too much work" in tick.message
