"""Which revision shall be active, and which one is tried beside it: what is desired, unless something of higher rank speaks.

::

    pin in the spec ── else: hold of a rollback ── else: gates of the desired revision ── else: its canary ── else: it

In whatever way it is named: what is invalid, denied or rejected is never chosen, and what has never been active needs
its gates open (A-AP-2). Where nothing may be chosen what is active stays so. `spec.suspend` and `disabled` stand above
all of that, but stop runs and not this choice.

A hold ends by itself when another content is desired, which a git revert to its target is too (A-RB). What has become
active is watched for a while, and taken back where too many of its runs fail (A-CAN-7).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from keep_operator.domain import canary as canaries
from keep_operator.domain import conditions, gates, history
from keep_operator.domain.canary import Measured, Question, Stats
from keep_operator.domain.conditions import Finding
from keep_operator.domain.gates import NOT_REQUIRED, Approved, Gates
from keep_operator.domain.history import Canary, Cause, Hold, Lineage, Reference, Refusal, Revision
from keep_operator.resources.release import Pin

# Why a content is rejected that did badly.
ANALYSIS_FAILED: Final = "AnalysisFailed"


@dataclass(frozen=True, slots=True)
class Scene:
    """What is known at this moment besides the history. ``now`` is the database's time.

    ``changed`` are the places in which what is desired differs from what is active, ``marked``: its author calls it important
    now. ``waits`` is why the desired revision must not begin to run, such as a Provider that is not there. ``measured`` is of
    the canary, ``active`` of what is active since it became so; None: not counted.
    """

    now: datetime
    changed: Collection[str] = ()
    marked: bool = False
    waits: Finding | None = None
    measured: Measured | None = None
    active: Stats | None = None


@dataclass(frozen=True, slots=True)
class TakenBack:
    """What did badly is rejected: revision ``number``, whose content is held back from now on, and what runs instead."""

    number: int
    target: int
    why: str


@dataclass(frozen=True, slots=True)
class Choice:
    """``number`` shall be active (None: nothing yet), for ``cause`` if it is not so already; what to say of it.

    ``canary`` is the one that shall be under way. ``approve`` is what is to be remembered of the desired revision's approval.
    ``ends_hold``: the hold there is has nothing to hold back any more. ``held``: ``deployed`` tells of a rollback that a
    person wanted, which is no fault (semantics, section 8).
    """

    number: int | None
    cause: Cause
    approved: Finding
    deployed: Finding
    canary: Canary | None = None
    approve: str | None = None
    taken_back: TakenBack | None = None
    ends_hold: bool = False
    held: bool = False
    analysis: Mapping[str, Any] | None = None
    wake_in: timedelta | None = None


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


def choose(lineage: Lineage, desired: str, pin: Reference | None, gates_: Gates, scene: Scene) -> Choice:
    """The revision that shall be active while the definition in the spec has the hash ``desired``."""
    hold = lineage.hold
    ends = hold is not None and not in_force(hold, desired)
    revision = desired_revision(lineage, desired)
    approved = _judge_approval(lineage, revision, gates_, scene)
    if pin is not None:
        chosen = _pinned(lineage, pin, gates_, approved.finding)
    elif hold is not None and not ends:
        chosen = _held(lineage, hold, approved.finding)
    else:
        cause = Cause.HOLD_ENDED if ends else Cause.ALL_AT_ONCE
        stays = Choice(lineage.active_number, cause, approved.finding, NOT_REQUIRED)
        if revision is None:
            waiting = conditions.unknown("Deployed", "Progressing", "The revision is about to be made")
            chosen = replace(stays, deployed=waiting, canary=lineage.canary)
        else:
            chosen = _desired(lineage, revision, gates_, approved, scene, stays)
        chosen = _guarded(lineage, revision, gates_, scene, chosen)
    return replace(chosen, ends_hold=ends, approve=approved.remember)


def choose_without(lineage: Lineage, pin: Reference | None, gates_: Gates, unread: Finding) -> Choice:
    """The same while the definition in the spec cannot be read, of which ``unread`` tells, as a finding of ``Deployed``.

    A pin and a hold stay in force: there is no new content that could end them. So does a canary, which stands still.
    """
    approved = NOT_REQUIRED
    if gates_.approval.required != "Never":
        approved = conditions.unknown("Approved", "AwaitingApproval", "The new revision may need approval")
    if pin is not None:
        return _pinned(lineage, pin, gates_, approved)
    if lineage.hold is not None:
        return _held(lineage, lineage.hold, approved)
    return Choice(lineage.active_number, Cause.ALL_AT_ONCE, approved, unread, canary=lineage.canary)


def barred(lineage: Lineage, revision: Revision) -> Finding | None:
    """Why a revision may never be active, as a finding of ``Deployed``; None if it may."""
    if revision.flaw is not None:
        return conditions.false("Deployed", "InvalidRevision", f"{revision} is not valid: {revision.flaw.message}")
    if lineage.denial(revision) is not None:
        return conditions.false("Deployed", "Denied", f"The content of {revision} was denied. Change the definition.")
    if (why := lineage.rejection(revision)) is not None:
        remedy = "Change the definition, or decide Retry to try it again."
        if why == ANALYSIS_FAILED:
            return conditions.false(
                "Deployed", "AutoRolledBack", f"The content of {revision} was taken back: its runs failed. {remedy}"
            )
        return conditions.false("Deployed", "RejectedByUser", f"The content of {revision} was rejected. {remedy}")
    return None


def shut(lineage: Lineage, revision: Revision, gates_: Gates, scene: Scene) -> Finding | None:
    """The first gate that keeps a revision from the runs, but for the decision Deploy; None: all are open."""
    if (found := gates.unsupported(gates_)) is not None:
        return found
    return gates.shut(gates_, lineage, revision, judge_approval(lineage, revision, gates_, scene))


def judge_approval(lineage: Lineage, revision: Revision, gates_: Gates, scene: Scene) -> Approved:
    """What ``Approved`` says of a revision at this moment."""
    important = gates.is_important(gates_.approval, revision, scene.changed, marked=scene.marked)
    return gates.judge(gates_.approval, lineage, revision, important=important)


def questions(lineage: Lineage, gates_: Gates, now: datetime, *, told: str = "") -> dict[str, Question]:
    """Which runs must be counted for `choose`, by what for; none where nothing is tried and nothing watched.

    ``told`` is the reason that ``Deployed`` has by now: what could not be taken back is counted for as long as that is said.
    """
    asked: dict[str, Question] = {}
    if (tried := lineage.canary) is not None:
        asked["candidate"] = Question(tried.candidate, tried.measured_since)
        asked["stable"] = Question(tried.stable, tried.measured_since)
        if gates_.guard is not None:
            asked["whole"] = Question(tried.candidate, tried.began)
    last, guard = lineage.deployed, gates_.guard
    if guard is not None and last is not None and last.cause.releases and last.revision == lineage.active_number:
        until = last.at + guard.window
        if now < until + canaries.LOOK_AGAIN or told == "NoRollbackTarget":
            asked["active"] = Question(last.revision, last.at, until)
    return asked


def _judge_approval(lineage: Lineage, revision: Revision | None, gates_: Gates, scene: Scene) -> Approved:
    if revision is not None:
        return judge_approval(lineage, revision, gates_, scene)
    if gates_.approval.required == "Never":
        return Approved(NOT_REQUIRED)
    return Approved(conditions.unknown("Approved", "AwaitingApproval", "The new revision may need approval"))


def _desired(
    lineage: Lineage, revision: Revision, gates_: Gates, approved: Approved, scene: Scene, stays: Choice
) -> Choice:
    """What is desired becomes active, at once or by and by; or what is active stays so, and why."""
    found = conditions.true("Deployed", "RevisionActive", f"{revision} is active, as the definition says")
    if revision.number == lineage.active_number:
        return replace(stays, deployed=barred(lineage, revision) or gates.unsupported(gates_) or found)
    obstacle = barred(lineage, revision) or gates.unsupported(gates_) or gates.shut(gates_, lineage, revision, approved)
    if obstacle is None and gates_.manual and not revision.was_active:
        message = f"{revision} waits for the decision Deploy, as spec.release.strategy says"
        obstacle = conditions.unknown("Deployed", "AwaitingDeploy", message)
    if obstacle is not None:
        return replace(stays, deployed=obstacle)
    tried = _tried(lineage, revision, gates_, scene)
    if scene.waits is not None and (tried is None or not _is_under_way(lineage, tried)):
        waits = scene.waits
        return replace(stays, deployed=Finding("Deployed", waits.truth, waits.reason, waits.message))
    if tried is None:
        return replace(stays, number=revision.number, deployed=found)
    names = (str(revision), str(lineage.active))
    progress = canaries.advance(tried, gates_.steps, _measured(lineage, tried, scene), gates_.guard, scene.now, names)
    if progress.failure is not None:
        taken = TakenBack(revision.number, tried.stable, progress.failure)
        return replace(stays, deployed=progress.deployed, taken_back=taken, analysis=progress.analysis)
    if progress.canary is None:
        return replace(stays, number=revision.number, cause=Cause.CANARY, deployed=progress.deployed)
    return replace(
        stays,
        canary=progress.canary,
        deployed=progress.deployed,
        analysis=progress.analysis,
        wake_in=progress.wake_in,
    )


def _tried(lineage: Lineage, revision: Revision, gates_: Gates, scene: Scene) -> Canary | None:
    """The canary of a revision, be it one that begins now; None: it takes all runs at once (A-CAN-6).

    A content that is active has nothing to prove against itself.
    """
    active = lineage.active
    if not gates_.steps or active is None or active.content_hash == revision.content_hash:
        return None
    if _goes_back(lineage, revision, gates_.rollback_window):
        return None
    begun = canaries.begin(revision.number, active.number, gates_.steps, gates_.sticky_key, scene.now)
    known = lineage.canary
    if known is not None and _same(known, begun):
        return replace(known, sticky_key=gates_.sticky_key)
    return begun


def _same(known: Canary, begun: Canary) -> bool:
    return (known.candidate, known.stable, known.steps) == (begun.candidate, begun.stable, begun.steps)


def _is_under_way(lineage: Lineage, tried: Canary) -> bool:
    return lineage.canary is not None and lineage.canary.began == tried.began


def _measured(lineage: Lineage, tried: Canary, scene: Scene) -> Measured | None:
    """What was counted, if it was for this very canary."""
    known = lineage.canary
    if known is None or (known.began, known.measured_since) != (tried.began, tried.measured_since):
        return None
    return scene.measured


def _goes_back(lineage: Lineage, revision: Revision, window: int) -> bool:
    """Whether the content is one of the last that were active, which needs no trial."""
    recent: list[str] = []
    active = lineage.active
    for each in lineage.deployments:
        found = lineage.get(each.revision)
        if found is not None and found.content_hash not in recent and found is not active:
            recent.append(found.content_hash)
    return revision.content_hash in recent[:window]


def _guarded(lineage: Lineage, desired: Revision | None, gates_: Gates, scene: Scene, chosen: Choice) -> Choice:
    """What became active a short while ago is taken back if it does badly, whatever is desired by now."""
    active, last, guard = lineage.active, lineage.deployed, gates_.guard
    if active is None or guard is None or scene.active is None or last is None:
        return chosen
    why = canaries.judge_guard(guard, scene.active)
    if why is None:
        left = last.at + guard.window - scene.now
        return (
            replace(chosen, wake_in=_sooner(chosen.wake_in, min(left, canaries.LOOK_AGAIN)))
            if left > timedelta()
            else chosen
        )
    before = history.previous(lineage)
    if not isinstance(before, Refusal):
        taken = TakenBack(active.number, before.number, f"{active}: {why}")
        return replace(chosen, number=before.number, cause=Cause.AUTO_ROLLBACK, canary=None, taken_back=taken)
    if desired != active:
        return chosen
    message = f"{active} does badly: {why}. {before.message}"
    return replace(chosen, deployed=conditions.false("Deployed", "NoRollbackTarget", message))


def _sooner(one: timedelta | None, other: timedelta | None) -> timedelta | None:
    return min((each for each in (one, other) if each is not None), default=None)


def _pinned(lineage: Lineage, pin: Reference, gates_: Gates, approved: Finding) -> Choice:
    found = history.resolve(lineage, pin)
    deployed: Finding | None
    if isinstance(found, Refusal):
        deployed = conditions.false("Deployed", found.reason, f"spec.release.pin: {found.message}")
    else:
        deployed = barred(lineage, found) or _shut_for_pin(lineage, found, gates_)
    if deployed is not None or isinstance(found, Refusal):
        assert deployed is not None
        return Choice(lineage.active_number, Cause.PIN, approved, deployed)
    deployed = conditions.true("Deployed", "Pinned", f"{found} is active: spec.release.pin names {pin}")
    return Choice(found.number, Cause.PIN, approved, deployed)


def _shut_for_pin(lineage: Lineage, revision: Revision, gates_: Gates) -> Finding | None:
    """A pin opens no gate. What is pinned counts as important: nobody compares it with what is active."""
    if revision.was_active:
        return None
    approved = gates.judge(gates_.approval, lineage, revision, important=True)
    return gates.unsupported(gates_) or gates.shut(gates_, lineage, revision, approved)


def _held(lineage: Lineage, hold: Hold, approved: Finding) -> Choice:
    """The target, or what is active if the target may not be so any more; a hold by hand is no fault."""
    target = lineage.get(hold.target)
    number = hold.target if target is not None and lineage.eligible(target) else lineage.active_number
    held_back = lineage.with_content(hold.rejected_hash)
    what = str(held_back[-1]) if held_back else f"content {hold.rejected_hash[: history.SHORT_HASH]}"
    active = lineage.get(number) if number is not None else None
    instead = f"{active or 'Nothing'} is active instead."
    if hold.automatic:
        reason = "AutoRolledBack"
        message = (
            f"{what} was taken back ({hold.reason}). {instead} Change the definition, or decide Retry to try it again."
        )
    else:
        reason = "Aborted" if hold.aborted else "RolledBack"
        why = f" ({hold.reason})" if hold.reason else ""
        message = (
            f"{what} is held back by {hold.actor}{why}. {instead} The hold ends when the "
            "definition in Git changes or goes back to what is active, or by the decision Resume."
        )
    deployed = conditions.false("Deployed", reason, message)
    return Choice(number, Cause.ROLLBACK, approved, deployed, held=reason == "RolledBack")


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
