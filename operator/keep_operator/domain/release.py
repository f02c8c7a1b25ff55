"""Which revision shall be active: what is desired, unless something of higher rank says otherwise.

::

    pin in the spec ── else: hold of a rollback ── else: gates of the desired revision ── else: the desired revision

In whatever way it is named: what is invalid, denied or rejected is never chosen, and what has never been active needs
its gates open (A-AP-2). Where nothing may be chosen what is active stays so. `spec.suspend` and `disabled` stand above
all of that, but stop runs and not this choice.

A hold ends by itself when another content is desired, which a git revert to its target is too (A-RB). A gate that this
version of the operator does not know how to open is shut (A-AP-9).
"""

from dataclasses import dataclass
from typing import Final

from keep_operator.domain import conditions, history
from keep_operator.domain.conditions import Finding
from keep_operator.domain.history import Cause, Hold, Lineage, Reference, Refusal, Revision
from keep_operator.resources.parts import Approval, ChecklistItem
from keep_operator.resources.release import Pin, Release

_STRICTNESS: Final = ("Never", "ImportantOnly", "Always")
NOT_REQUIRED: Final = conditions.true("Approved", "NotRequired", "No approval is asked for")


@dataclass(frozen=True, slots=True)
class Gates:
    """What must be open for a revision that has never been active.

    ``approval`` is the field `required`, ``open_items`` the titles of what is left to do, ``unsupported`` what of the
    strategy this version of the operator does not carry out, in the words of the spec.
    """

    approval: str = "Never"
    open_items: tuple[str, ...] = ()
    unsupported: str | None = None
    manual: bool = False

    def shut(self) -> Finding | None:
        """The first gate that nobody can open yet, as a finding of ``Deployed``; None: all are open."""
        if self.approval != "Never":
            return conditions.unknown(
                "Deployed",
                "AwaitingApproval",
                f"Approval is asked for ({self.approval}), which this version of the operator cannot take. What is active "
                "stays active.",
            )
        if self.open_items:
            return conditions.unknown(
                "Deployed",
                "ChecklistIncomplete",
                f"Left to do: {', '.join(self.open_items)}. This version of the operator cannot tick that off. What is "
                "active stays active.",
            )
        if self.unsupported is not None:
            return conditions.false(
                "Deployed",
                "StrategyUnsupported",
                f"{self.unsupported} is not supported by this version of the operator. What is active stays active.",
            )
        return None


OPEN: Final = Gates()


@dataclass(frozen=True, slots=True)
class Activate:
    """A revision becomes active in place of the one that ``lineage`` has; its object comes back if it was archived.

    Done as one: the pointer, the deployment, the times of both revisions, the ledger's entry.
    """

    lineage: Lineage
    number: int
    cause: Cause
    actor: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class EndHold:
    """The hold that ``lineage`` has is over."""

    lineage: Lineage


@dataclass(frozen=True, slots=True)
class Choice:
    """``number`` shall be active (None: nothing yet), for ``cause`` if it is not so already; what to say of it.

    ``ends_hold``: the hold there is has nothing to hold back any more. ``held``: ``deployed`` tells of a rollback that a
    person wanted, which is no fault (semantics, section 8).
    """

    number: int | None
    cause: Cause
    approved: Finding
    deployed: Finding
    ends_hold: bool = False
    held: bool = False


def gates(
    release: Release, default: Approval | None, floor: Approval | None, checklist: tuple[ChecklistItem, ...]
) -> Gates:
    """The gates of a workflow: its own, else its tenant's ``default``; never less than the tenant's floors (A-AP-8)."""
    asked: list[str] = [each.required for each in (release.approval, default) if each and each.required]
    least = floor.required if floor is not None and floor.required is not None else "Never"
    unsupported = None
    if release.strategy.type == "Canary":
        unsupported = "spec.release.strategy.type: Canary"
    elif release.auto_rollback.enabled:
        unsupported = "spec.release.autoRollback"
    return Gates(
        approval=max(asked[0] if asked else "Never", least, key=_STRICTNESS.index),
        open_items=tuple(dict.fromkeys(item.title for item in (*release.checklist, *checklist) if item.required)),
        unsupported=unsupported,
        manual=release.strategy.type == "Manual",
    )


def reference(pin: Pin | None) -> Reference | None:
    """What a pin names."""
    return None if pin is None else Reference(number=pin.revision, content_hash=pin.content_hash, tag=pin.tag)


def desired_revision(lineage: Lineage, content_hash: str) -> Revision | None:
    """The revision that the definition in the spec is: the newest, or none that has been made yet."""
    latest = lineage.latest
    return latest if latest is not None and latest.content_hash == content_hash else None


def in_force(hold: Hold | None, desired: str) -> bool:
    """Whether a hold still holds back what is desired."""
    return hold is not None and hold.rejected_hash == desired


def choose(lineage: Lineage, desired: str, pin: Reference | None, gates: Gates) -> Choice:
    """The revision that shall be active while the definition in the spec has the hash ``desired``."""
    hold = lineage.hold
    holds = in_force(hold, desired)
    ends = hold is not None and not holds
    approved = _judge_approval(desired_revision(lineage, desired), gates)
    if pin is not None:
        return _pinned(lineage, pin, gates, approved, ends_hold=ends)
    if hold is not None and holds:
        return _held(lineage, hold, approved)
    revision = desired_revision(lineage, desired)
    cause = Cause.HOLD_ENDED if ends else Cause.ALL_AT_ONCE
    obstacle = _judge_desired(lineage, revision, gates)
    if obstacle is not None or revision is None:
        waiting = obstacle or conditions.unknown("Deployed", "Progressing", "The revision is about to be made")
        return Choice(lineage.active_number, cause, approved, waiting, ends_hold=ends)
    found = conditions.true("Deployed", "RevisionActive", f"{revision} is active, as the definition says")
    return Choice(revision.number, cause, approved, found, ends_hold=ends)


def choose_without(lineage: Lineage, pin: Reference | None, gates: Gates, unread: Finding) -> Choice:
    """The same while the definition in the spec cannot be read, of which ``unread`` tells, as a finding of ``Deployed``.

    A pin and a hold stay in force: there is no new content that could end them.
    """
    approved = _judge_approval(None, gates)
    if pin is not None:
        return _pinned(lineage, pin, gates, approved, ends_hold=False)
    if lineage.hold is not None:
        return _held(lineage, lineage.hold, approved)
    return Choice(lineage.active_number, Cause.ALL_AT_ONCE, approved, unread)


def barred(lineage: Lineage, revision: Revision) -> Finding | None:
    """Why a revision may never be active, as a finding of ``Deployed``; None if it may."""
    if revision.flaw is not None:
        return conditions.false("Deployed", "InvalidRevision", f"{revision} is not valid: {revision.flaw.message}")
    if lineage.denial(revision) is not None:
        return conditions.false("Deployed", "Denied", f"The content of {revision} was denied. Change the definition.")
    if lineage.rejection(revision) is not None:
        return conditions.false(
            "Deployed",
            "RejectedByUser",
            f"The content of {revision} was rejected. Change the definition, or decide Retry to try it again.",
        )
    return None


def _judge_approval(revision: Revision | None, gates: Gates) -> Finding:
    """What was active before approval was asked for has passed that gate for good."""
    if gates.approval == "Never" or (revision is not None and revision.was_active):
        return NOT_REQUIRED
    which = "The new revision" if revision is None else str(revision)
    return conditions.unknown(
        "Approved",
        "AwaitingApproval",
        f"{which} needs approval ({gates.approval}), which this version of the operator cannot take.",
    )


def _judge_desired(lineage: Lineage, revision: Revision | None, gates: Gates) -> Finding | None:
    if revision is not None and (bar := barred(lineage, revision)) is not None:
        return bar
    if revision is not None and revision.was_active:
        # Whoever asks for a canary or a guard must learn at once that nobody watches.
        return Gates(unsupported=gates.unsupported).shut()
    if (shut := gates.shut()) is not None:
        return shut
    if gates.manual and revision is not None:
        return conditions.unknown(
            "Deployed", "AwaitingDeploy", f"{revision} waits for the decision Deploy, as spec.release.strategy says"
        )
    return None


def _pinned(lineage: Lineage, pin: Reference, gates: Gates, approved: Finding, *, ends_hold: bool) -> Choice:
    found = history.resolve(lineage, pin)
    deployed: Finding | None
    if isinstance(found, Refusal):
        deployed = conditions.false("Deployed", found.reason, f"spec.release.pin: {found.message}")
    else:
        deployed = barred(lineage, found) or (None if found.was_active else gates.shut())
    if deployed is not None or isinstance(found, Refusal):
        assert deployed is not None
        return Choice(lineage.active_number, Cause.PIN, approved, deployed, ends_hold=ends_hold)
    deployed = conditions.true("Deployed", "Pinned", f"{found} is active: spec.release.pin names {pin}")
    return Choice(found.number, Cause.PIN, approved, deployed, ends_hold=ends_hold)


def _held(lineage: Lineage, hold: Hold, approved: Finding) -> Choice:
    """The target, or what is active if the target may not be so any more; a hold by hand is no fault."""
    target = lineage.get(hold.target)
    number = hold.target if target is not None and lineage.eligible(target) else lineage.active_number
    held_back = lineage.with_content(hold.rejected_hash)
    what = str(held_back[-1]) if held_back else f"content {hold.rejected_hash[: history.SHORT_HASH]}"
    active = lineage.get(number) if number is not None else None
    message = (
        f"{what} is held back by {hold.actor} ({hold.reason}). {active or 'Nothing'} is active instead. The hold ends when the "
        "definition in Git changes or goes back to what is active, or by the decision Resume."
    )
    reason = "AutoRolledBack" if hold.automatic else "RolledBack"
    deployed = conditions.false("Deployed", reason, message)
    return Choice(number, Cause.ROLLBACK, approved, deployed, held=not hold.automatic)


def available(lineage: Lineage | None, *, suspended: bool, disabled: bool, broken: str | None = None) -> Finding:
    """Whether a revision takes runs; ``broken`` says what the active one lacks, such as its Provider."""
    active = None if lineage is None else lineage.active
    if suspended:
        return conditions.false("Available", "Suspended", "spec.suspend is true: nothing starts the workflow")
    if disabled:
        return conditions.false("Available", "DisabledInDefinition", "The definition says disabled: true")
    if active is None:
        if lineage is not None and lineage.revisions and not lineage.all_eligible():
            return conditions.false("Available", "NeverDeployed", "There has been no revision that may run")
        return conditions.unknown("Available", "NoRevisionYet", "No revision is active yet")
    if broken is not None:
        return conditions.false("Available", "ActiveRevisionBroken", f"{active} is active, but {broken}")
    return conditions.true("Available", "Serving", f"{active} takes runs")
