"""What must be open before a revision may take runs: the approval of peers, the checklist, somebody who says Deploy.

::

    spec.release ──┐
    Tenant.defaults├──▶ Gates ──▶ approval of this revision ── its open items ── waits for Deploy
    Tenant's floors┘              (a revision that was active has passed them all, for good)

A floor is the least: what a Workflow says can only make it stricter (A-AP-8). Nothing here is remembered but what people
said of a revision and that it was approved; all else is judged anew at each look, by the gates of that moment.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from keep_operator.domain import conditions
from keep_operator.domain.conditions import Finding, Truth
from keep_operator.domain.history import Author, Check, Lineage, Refusal, Review, Revision
from keep_operator.resources.parts import Approval, Approvers, ChecklistItem
from keep_operator.resources.release import CanaryStep, Release

_STRICTNESS: Final = ("Never", "ImportantOnly", "Always")
# Where an author is named by an annotation that an account of `policy.trustedAuthors` wrote.
TRUSTED: Final = "TrustedAnnotation"
# Machines, as Kubernetes names them.
_MACHINES: Final = "system:"


@dataclass(frozen=True, slots=True)
class Rule:
    """Whose approval is needed. Each of ``approvers`` must admit who approves: the Workflow's own list, and the floor's."""

    required: str = "Never"
    least: int = 1
    approvers: tuple[Approvers, ...] = ()
    forbid_self: bool = True
    carry_over: bool = False
    important_paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Guard:
    """When what has just become active is taken back: of at least ``runs`` within ``window`` more than ``percent`` fail."""

    window: timedelta
    runs: int
    percent: int


@dataclass(frozen=True, slots=True)
class Gates:
    """All that stands between a revision and the runs, and how it gets them once that is open.

    ``steps`` is empty where it gets all at once. ``unsupported`` is what of the strategy the runtime cannot carry out, in the
    words of the spec.
    """

    approval: Rule = field(default_factory=Rule)
    checklist: tuple[ChecklistItem, ...] = ()
    manual: bool = False
    steps: tuple[CanaryStep, ...] = ()
    sticky_key: str | None = None
    rollback_window: int = 0
    guard: Guard | None = None
    unsupported: str | None = None


OPEN: Final = Gates()
NOT_REQUIRED: Final = conditions.true("Approved", "NotRequired", "No approval is asked for")


@dataclass(frozen=True, slots=True)
class Approved:
    """The outcome for one revision: what ``Approved`` says, and what is to be remembered of it, if that is new."""

    finding: Finding
    remember: str | None = None

    @property
    def open(self) -> bool:
        """Whether it may run, as far as approval goes."""
        return self.finding.truth is Truth.TRUE


def gates(
    release: Release,
    default: Approval | None,
    floor: Approval | None,
    checklist: Sequence[ChecklistItem] = (),
    *,
    runtime: str = "builtin",
) -> Gates:
    """The gates of a workflow: its own, else its tenant's ``default``; never less than the tenant's floors (A-AP-8)."""
    canary, guard = release.strategy.canary, release.auto_rollback
    unsupported = None
    if runtime != "builtin" and canary is not None:
        unsupported = "spec.release.strategy.type: Canary"
    elif runtime != "builtin" and guard.enabled:
        unsupported = "spec.release.autoRollback"
    watch = None
    if guard.enabled and guard.window and guard.min_runs and guard.max_failure_rate_percent:
        watch = Guard(guard.window, guard.min_runs, guard.max_failure_rate_percent)
    return Gates(
        approval=_rule(release.approval, default, floor),
        checklist=tuple(_items(checklist, release.checklist)),
        manual=release.strategy.type == "Manual",
        steps=() if canary is None else canary.steps,
        sticky_key=None if canary is None else canary.sticky_key,
        rollback_window=0 if canary is None else canary.rollback_window.revisions,
        guard=watch,
        unsupported=unsupported,
    )


def _rule(own: Approval | None, default: Approval | None, floor: Approval | None) -> Rule:
    """Field by field: what the Workflow says, else the default; then no less than the floor."""
    said = [each for each in (own, default) if each is not None]
    required = next((each.required for each in said if each.required is not None), "Never")
    least = next((each.min_approvals for each in said if each.min_approvals is not None), 1)
    forbid_self = next((each.forbid_self_approval for each in said if each.forbid_self_approval is not None), None)
    carry_over = next((each.carry_over for each in said if each.carry_over is not None), False)
    approvers = [each.approvers for each in said if each.approvers is not None][:1]
    paths = next((each.important_paths for each in said if each.important_paths is not None), ())
    if floor is not None:
        required = max(required, floor.required or "Never", key=_STRICTNESS.index)
        least = max(least, floor.min_approvals or 1)
        # Only what forbids is a floor; where nobody says anything it is forbidden.
        forbid_self = True if floor.forbid_self_approval else forbid_self
        carry_over = carry_over and floor.carry_over is not False
        approvers += [] if floor.approvers is None else [floor.approvers]
        paths = tuple(dict.fromkeys((*paths, *(floor.important_paths or ()))))
    return Rule(
        required=required,
        least=least,
        approvers=tuple(each for each in approvers if each.users or each.groups),
        forbid_self=forbid_self is not False,
        carry_over=carry_over,
        important_paths=tuple(paths),
    )


def _items(floor: Sequence[ChecklistItem], own: Sequence[ChecklistItem]) -> Iterator[ChecklistItem]:
    """The floor's items first; an item of the Workflow with the same id takes nothing of them away."""
    known = {each.id for each in floor}
    yield from floor
    yield from (each for each in own if each.id not in known)


def is_important(rule: Rule, revision: Revision, changed: Collection[str], *, marked: bool = False) -> bool:
    """Whether approval is asked for where only important versions need it (A-AP-1).

    ``changed`` are the places in which it differs from what is active, all there are where nothing is; ``marked``: the
    annotation is there at this moment.
    """
    if revision.important or marked:
        return True
    return any(_touches(place, path) for place in changed for path in rule.important_paths)


def _touches(place: str, path: str) -> bool:
    """Whether one is the other, or lies below it."""
    longer, shorter = (place, path) if len(place) >= len(path) else (path, place)
    return longer.startswith(shorter) and (len(longer) == len(shorter) or longer[len(shorter)] in ".[#")


def judge(rule: Rule, lineage: Lineage, revision: Revision, *, important: bool) -> Approved:
    """Condition ``Approved`` of one revision; an approval that was given stays, whatever the rule says by now."""
    if lineage.denial(revision) is not None:
        return Approved(conditions.false("Approved", "Denied", f"The content of {revision} was denied"))
    if revision.approved is not None:
        return Approved(conditions.true("Approved", revision.approved, f"{revision} is approved"))
    needed = rule.required == "Always" or (rule.required == "ImportantOnly" and important)
    if revision.was_active or not needed:
        return Approved(NOT_REQUIRED)
    same = [each for each in lineage.with_content(revision.content_hash) if each.approved is not None]
    if rule.carry_over and same:
        message = f"{revision} has the content of {same[-1]}, which is approved"
        return Approved(conditions.true("Approved", "CarriedOver", message), "CarriedOver")
    counted = [each for each in lineage.reviews if each.number == revision.number and each.approves]
    counted = [each for each in counted if objection(rule, revision.author, each.actor, each.groups) is None]
    missing = rule.least - len(counted)
    if missing <= 0 and _has_a_person(rule, revision.author, counted):
        who = ", ".join(each.actor for each in counted)
        return Approved(
            conditions.true("Approved", "ApprovedByPeers", f"{revision} is approved by {who}"), "ApprovedByPeers"
        )
    why = "" if rule.required == "Always" else ", since it is important"
    if missing > 0:
        need = f"{missing} of {rule.least}" if counted else str(rule.least)
        message = f"{revision} needs approval{why}, {need} to come. Decide Approve or Deny."
    else:
        message = f"{revision} needs the approval of a person{why}: nobody can prove who its author is."
    return Approved(conditions.unknown("Approved", "AwaitingApproval", message))


def objection(rule: Rule, author: Author | None, actor: str, groups: Collection[str]) -> Refusal | None:
    """Why the approval of this person does not count, with a reason of ``Handled``; None: it does."""
    if rule.forbid_self and author is not None and author.username == actor:
        return Refusal("SelfApproval", f'"{actor}" is the author; somebody else must approve')
    for each in rule.approvers:
        if actor not in each.users and not set(groups) & set(each.groups):
            named = ", ".join([*each.users, *(f"group {group}" for group in each.groups)])
            return Refusal("Forbidden", f'"{actor}" is none of the approvers, who are: {named}')
    return None


def _has_a_person(rule: Rule, author: Author | None, counted: Sequence[Review]) -> bool:
    """Where the author is hearsay one approval must be a person's: a pipeline would approve what it wrote (A-AP-3)."""
    if not rule.forbid_self or (author is not None and author.source == TRUSTED):
        return True
    return any(not each.actor.startswith(_MACHINES) for each in counted)


def open_items(gates: Gates, lineage: Lineage, revision: Revision) -> tuple[ChecklistItem, ...]:
    """What must still be done, or be found true, before the revision may take runs (A-CHK-1)."""
    done = {each.item for each in lineage.checks if each.number == revision.number and each.done}
    return tuple(each for each in gates.checklist if each.required and each.id not in done)


def shut(gates: Gates, lineage: Lineage, revision: Revision, approved: Approved) -> Finding | None:
    """The first gate that is shut for a revision, as a finding of ``Deployed``; None: all are open."""
    if revision.was_active:
        return None
    if not approved.open:
        found = approved.finding
        return Finding("Deployed", found.truth, found.reason, f"{found.message} What is active stays active.")
    if items := open_items(gates, lineage, revision):
        titles = ", ".join(f'{each.id} ("{each.title}")' for each in items)
        message = f"Left to do for {revision}: {titles}. Decide CheckItem. What is active stays active."
        if all(each.auto is not None for each in items):
            message = f"Not found true for {revision} yet: {titles}. What is active stays active."
        return conditions.unknown("Deployed", "ChecklistIncomplete", message)
    return None


def unsupported(gates: Gates) -> Finding | None:
    """What the tenant's runtime cannot do, as a finding of ``Deployed``: whoever asks for it must learn that at once."""
    if gates.unsupported is None:
        return None
    return conditions.false(
        "Deployed",
        "StrategyUnsupported",
        f"{gates.unsupported} is not supported by the tenant's runtime. What is active stays active.",
    )


def checked(lineage: Lineage, number: int) -> dict[str, Check]:
    """How each item stands for a revision, by its id."""
    return {each.item: each for each in lineage.checks if each.number == number}
