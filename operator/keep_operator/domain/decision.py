"""What one decision of a person or machine does to a workflow, or why it does nothing: once, whatever comes of it.

::

    handled before? ── known to this version? ── as expected? ── which revision? ── may it be? ── effects

All effects of a decision, the mark that it was handled, and its ledger entry are one transaction. Deleting the decision
undoes nothing, and the same `requestId` never does anything again (A-AP-6).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

from keep_operator.domain import canary, conditions, gates, history, release, tenancy
from keep_operator.domain.conditions import Finding, Truth
from keep_operator.domain.effects import (
    Activate,
    Approve,
    CheckItem,
    ClearRejection,
    Deny,
    Effect,
    EndCanary,
    EndHold,
    Note,
    Reject,
    Review,
    SetCanary,
    SetHold,
    Tag,
    Untag,
)
from keep_operator.domain.gates import Gates
from keep_operator.domain.history import Canary, Cause, Hold, Lineage, Reference, Refusal, Revision
from keep_operator.domain.planning import Plan, SetMetadata
from keep_operator.domain.release import Scene
from keep_operator.resources.decision import RevisionChoice, WorkflowDecisionSpec
from keep_operator.resources.kinds import API_VERSION, GROUP, WORKFLOWS, Key
from keep_operator.resources.objects import Object
from keep_operator.resources.release import RESERVED_TAGS
from keep_operator.resources.shapes import Invalid

# How long a decision waits for the Workflow that it names.
PATIENCE: Final = timedelta(minutes=10)
# How long the object of a decision stays after that was handled; the database remembers it for ever.
KEPT: Final = timedelta(days=30)
# The Workflow itself is looked at first, which wakes the decision; this is for the edge that nobody thought of.
LOOK_AGAIN: Final = timedelta(seconds=5)
# What anybody who may make a decision may decide where nobody can prove who that is: it stops harm, and is undone easily.
UNPROVEN: Final = ("Rollback", "Abort", "Pause", "Resume", "Note")
# These tools make again what is deleted.
_TRACKING: Final = ("ArgoCD", "Flux", "Helm")
# As many as the status of a revision shows.
TAGS_LIMIT: Final = 32
# Too late, or nothing to do, is no fault of the decision.
_CARRIED_OUT: Final = ("Done", "NoOp", "Superseded")


@dataclass(frozen=True, slots=True)
class Handled:
    """A decision that was handled, as the database remembers it for ever; ``uid`` is its object's."""

    request_id: str
    action: str
    outcome: str
    message: str
    at: datetime
    ledger_id: str | None = None
    from_number: int | None = None
    to_number: int | None = None
    uid: str | None = None


@dataclass(frozen=True, slots=True)
class Situation:
    """What a decision meets: the workflow as it is, the pin in its spec, its gates, and the decision's own past.

    ``scene`` is what else is known at this moment. ``trusted`` are the accounts that the Tenant believes when they say for
    whom they decide (`person`). ``behind`` says what the database is known to have had and does not have now; None where there
    is no such thing.
    """

    lineage: Lineage
    scene: Scene
    pin: Reference | None = None
    gates: Gates = gates.OPEN
    trusted: Collection[str] = ()
    handled: Handled | None = None
    behind: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What comes of a decision: the reason of ``Handled``, a sentence, the effects in order, and from where to where."""

    outcome: str
    message: str
    effects: tuple[Effect, ...] = ()
    to_number: int | None = None

    @property
    def truth(self) -> Truth:
        """The status of ``Handled``."""
        return Truth.TRUE if self.outcome in _CARRIED_OUT else Truth.FALSE


def judge(spec: WorkflowDecisionSpec, met: Situation, now: datetime) -> Verdict:
    """What the decision does; the same question always has the same answer."""
    lineage = met.lineage
    if met.handled is not None:
        return Verdict("NoOp", f"Request {spec.request_id} was handled already: {met.handled.outcome}")
    expected = None if spec.expect is None else spec.expect.active_revision
    if expected is not None and expected != lineage.active_number:
        return Verdict("Stale", f"v{expected} was expected to be active, but {lineage.active or 'none'} is")
    match spec.action:
        case "Rollback":
            return _rollback(spec, met, now)
        case "Deploy":
            return _deploy(spec, met)
        case "Resume":
            return _resume(spec, met)
        case "Reject":
            return _reject(spec, met)
        case "Retry":
            return _retry(spec, met)
        case "Tag":
            return _tag(spec, met)
        case "Untag":
            return _untag(spec, met)
        case "Note":
            return _note(spec, met)
        case "Approve":
            return _approve(spec, met, now)
        case "Deny":
            return _deny(spec, met)
        case "CheckItem":
            return _check_item(spec, met)
        case "Promote":
            return _promote(spec, met)
        case "Abort":
            return _abort(spec, met, now)
        case "Pause":
            return _pause(spec, met)


def _reference(choice: RevisionChoice) -> Reference:
    return Reference(choice.number, choice.content_hash, choice.tag, choice.previous is True)


def _find(spec: WorkflowDecisionSpec, lineage: Lineage) -> Revision | Verdict:
    """The revision that the decision names, the previous one where it names none; else how that ends."""
    wanted = Reference(previous=True) if spec.revision is None else _reference(spec.revision)
    found = history.resolve(lineage, wanted)
    if isinstance(found, Refusal):
        return Verdict("Refused" if found.reason == "RevisionNotFound" else found.reason, found.message)
    return found


def _pinned(met: Situation) -> Verdict | None:
    if met.pin is None:
        return None
    return Verdict("Refused", f"spec.release.pin names {met.pin}: change it where the Workflow's manifest is kept")


def _barred(spec: WorkflowDecisionSpec, lineage: Lineage, revision: Revision) -> Verdict | None:
    """Why a revision may not become active by this decision; `force` takes a rejected one."""
    bar = release.barred(lineage, revision)
    if bar is None:
        return None
    denied = lineage.denial(revision) is not None
    reason = "TargetInvalid" if not revision.valid else "TargetDenied" if denied else "TargetRejected"
    if reason == "TargetRejected" and spec.force:
        return None
    return Verdict(reason, bar.message, to_number=revision.number)


def _cleared(lineage: Lineage, revision: Revision) -> tuple[Effect, ...]:
    return (ClearRejection(revision.content_hash),) if lineage.rejection(revision) is not None else ()


def _activate(spec: WorkflowDecisionSpec, met: Situation, number: int, cause: Cause) -> tuple[Effect, ...]:
    """The revision becomes active; if that rests on what people have said of it, it is approved for good from now on."""
    lineage = met.lineage
    if number == lineage.active_number:
        return ()
    revision = lineage.get(number)
    assert revision is not None  # it was found, or chosen
    verdict = release.judge_approval(lineage, revision, met.gates, met.scene).remember
    approved = () if verdict is None else (Approve(number, verdict),)
    return (*approved, Activate(lineage, number, cause, spec.actor, spec.reason or ""))


def _ended(lineage: Lineage) -> tuple[Effect, ...]:
    return () if lineage.hold is None else (EndHold(lineage),)


def _over(lineage: Lineage, outcome: str) -> tuple[Effect, ...]:
    """The canary ends, if there is one."""
    return () if lineage.canary is None else (EndCanary(lineage, outcome),)


def _rollback(spec: WorkflowDecisionSpec, met: Situation, now: datetime) -> Verdict:
    lineage, active, latest = met.lineage, met.lineage.active, met.lineage.latest
    if (pinned := _pinned(met)) is not None:
        return pinned
    if lineage.canary is not None and (spec.revision is None or spec.revision.previous):
        return _abort(spec, met, now)  # A-RB-5
    target = _find(spec, lineage)
    if isinstance(target, Verdict):
        return target
    if active is None or latest is None:
        return Verdict("NoRollbackTarget", "No revision is active")
    if lineage.canary is not None and target.content_hash == active.content_hash:
        return _abort(spec, met, now)
    if target.content_hash == active.content_hash:
        return Verdict("NoOp", f"The content of {target} is active already, as {active}", to_number=active.number)
    if (barred := _barred(spec, lineage, target)) is not None:
        return barred
    if not target.was_active:
        return Verdict("Refused", f"{target} has never been active, so there is no way back to it: decide Deploy")
    cleared = _cleared(lineage, target)
    if target.content_hash == latest.content_hash:
        effects = (
            *cleared,
            *_ended(lineage),
            *_activate(spec, met, target.number, Cause.HOLD_ENDED),
            *_over(lineage, "RolledBack"),
        )
        return Verdict("Done", f"{target} is active again, as the definition says", effects, target.number)
    hold = lineage.hold
    hold = Hold(
        rejected_hash=latest.content_hash,
        target=target.number,
        actor=spec.actor,
        reason=spec.reason or "",
        since=hold.since if hold is not None and release.in_force(hold, latest.content_hash) else now,
        request_id=spec.request_id,
    )
    effects = (
        *cleared,
        SetHold(hold),
        *_activate(spec, met, target.number, Cause.ROLLBACK),
        *_over(lineage, "RolledBack"),
    )
    return Verdict("Done", f"{target} is active in place of {active}; {latest} is held back", effects, target.number)


def _deploy(spec: WorkflowDecisionSpec, met: Situation) -> Verdict:
    lineage, latest = met.lineage, met.lineage.latest
    if (pinned := _pinned(met)) is not None:
        return pinned
    target = _find(spec, lineage)
    if isinstance(target, Verdict):
        return target
    assert latest is not None  # since one was found
    if target.content_hash != latest.content_hash:
        return Verdict(
            "Superseded", f"The definition is {latest} by now, so {target} was not deployed. To go back decide Rollback"
        )
    if latest.number == lineage.active_number:
        return Verdict("NoOp", f"{latest} is active already", to_number=latest.number)
    if (barred := _barred(spec, lineage, latest)) is not None:
        return barred
    shut = release.shut(lineage, latest, met.gates, met.scene) or met.scene.waits
    if shut is not None:
        return Verdict("Refused", shut.message, to_number=latest.number)
    effects = (
        *_cleared(lineage, latest),
        *_ended(lineage),
        *_activate(spec, met, latest.number, Cause.DEPLOY),
        *_over(lineage, "Deployed"),
    )
    return Verdict("Done", f"{latest} is active", effects, latest.number)


def _resume(spec: WorkflowDecisionSpec, met: Situation) -> Verdict:
    """What is paused goes on; or the hold ends, and what is desired takes over where nothing else stands in its way."""
    lineage, latest = met.lineage, met.lineage.latest
    tried = lineage.canary
    if tried is not None and tried.paused is not None:
        if (closed := _closed(spec, met)) is not None:
            return closed
        goes_on = canary.resume(tried, met.scene.now)
        return Verdict(
            "Done", f"The canary of v{tried.candidate} goes on", (SetCanary(lineage, goes_on),), tried.candidate
        )
    if tried is not None:
        return Verdict("NoOp", f"The canary of v{tried.candidate} is not paused; to skip a step decide Promote")
    if lineage.hold is None or latest is None:
        return Verdict("NoOp", "Nothing is held back")
    free = replace(lineage, hold=None)
    choice = release.choose(free, latest.content_hash, met.pin, met.gates, met.scene)
    effects: tuple[Effect, ...] = (EndHold(lineage),)
    number = lineage.active_number if choice.taken_back is not None else choice.number
    if number is not None:
        effects += _activate(spec, met, number, Cause.HOLD_ENDED)
    bar = release.barred(free, latest)
    stays = "" if bar is None else f", and yet does not run: {bar.message}"
    return Verdict("Done", f"{latest} is not held back any more{stays}", effects, number)


def _reject(spec: WorkflowDecisionSpec, met: Situation) -> Verdict:
    """Never chosen again; if it is active the one before takes over, and there must be one."""
    lineage, active = met.lineage, met.lineage.active
    target = _find(spec, lineage)
    if isinstance(target, Verdict):
        return target
    if lineage.rejection(target) is not None:
        return Verdict("NoOp", f"The content of {target} is rejected already", to_number=target.number)
    effects: tuple[Effect, ...] = (Reject(target.number, "RejectedByUser"),)
    tried = lineage.candidate
    rejects_active = active is not None and active.content_hash == target.content_hash
    if tried is not None and tried.content_hash == target.content_hash:
        effects += _over(lineage, "Rejected")
    elif rejects_active:
        effects += _over(lineage, "Superseded")  # it begins anew, against what is active then
    if active is None or active.content_hash != target.content_hash:
        return Verdict("Done", f"{target} is rejected", effects, target.number)
    if (pinned := _pinned(met)) is not None:
        return pinned
    instead = history.previous(lineage)
    if isinstance(instead, Refusal):
        return Verdict(instead.reason, f"{target} is active. {instead.message}", to_number=target.number)
    if lineage.hold is not None:
        effects += (SetHold(replace(lineage.hold, target=instead.number)),)
    effects += _activate(spec, met, instead.number, Cause.REJECTED)
    return Verdict("Done", f"{target} is rejected; {instead} is active in its place", effects, instead.number)


def _retry(spec: WorkflowDecisionSpec, met: Situation) -> Verdict:
    """The desired content, or the one that is named, may be chosen again; the workflow's own look chooses."""
    lineage = met.lineage
    target = lineage.latest if spec.revision is None else _find(spec, lineage)
    if isinstance(target, Verdict):
        return target
    hold = lineage.hold
    held = (
        hold is not None and hold.rejected_hash == target.content_hash and (hold.automatic or hold.aborted)
        if target
        else False
    )
    if target is None or (lineage.rejection(target) is None and not held):
        return Verdict("NoOp", "Nothing is rejected")
    effects: tuple[Effect, ...] = _cleared(lineage, target)
    if held:
        effects += (EndHold(lineage),)
    return Verdict("Done", f"{target} may be tried again", effects, target.number)


def _tag(spec: WorkflowDecisionSpec, met: Situation) -> Verdict:
    tag = spec.tag or ""
    target = _find(spec, met.lineage)
    if isinstance(target, Verdict):
        return target
    if tag in RESERVED_TAGS:
        return Verdict("Refused", f"{', '.join(RESERVED_TAGS)} are reserved; choose another tag")
    if tag in target.tags:
        return Verdict("NoOp", f'{target} has the tag "{tag}" already', to_number=target.number)
    if len(target.tags) >= TAGS_LIMIT:
        return Verdict("Refused", f"{target} has {TAGS_LIMIT} tags, the most that are possible")
    return Verdict("Done", f'The tag "{tag}" points to {target}', (Tag(tag, target.number),), target.number)


def _untag(spec: WorkflowDecisionSpec, met: Situation) -> Verdict:
    tag = spec.tag or ""
    holder = history.resolve(met.lineage, Reference(tag=tag))
    if isinstance(holder, Refusal):
        return Verdict("NoOp", f'There is no tag "{tag}"')
    if spec.revision is not None:
        named = _find(spec, met.lineage)
        if isinstance(named, Verdict):
            return named
        if named.number != holder.number:
            return Verdict("Refused", f'The tag "{tag}" points to {holder}, not to {named}')
    return Verdict("Done", f'The tag "{tag}" is gone; it pointed to {holder}', (Untag(tag),), holder.number)


def _note(spec: WorkflowDecisionSpec, met: Situation) -> Verdict:
    about = met.lineage.active if spec.revision is None else _find(spec, met.lineage)
    if isinstance(about, Verdict):
        return about
    number = None if about is None else about.number
    return Verdict("Done", f"Noted of {about or 'the workflow'}", (Note(number, spec.reason or ""),), number)


def person(spec: WorkflowDecisionSpec, trusted: Collection[str]) -> str:
    """Whose decision it is: the actor's, or that of whom he says to act for if he is one of the ``trusted`` (A-AP-3)."""
    return spec.on_behalf_of if spec.on_behalf_of is not None and spec.actor in trusted else spec.actor


def _approve(spec: WorkflowDecisionSpec, met: Situation, now: datetime) -> Verdict:
    """What was read is approved: this number with this content, and nothing that comes after it (A-AP-4)."""
    lineage, rule = met.lineage, met.gates.approval
    target = _find(spec, lineage)
    if isinstance(target, Verdict):
        return target
    if (bar := _barred(spec, lineage, target)) is not None:
        return bar
    if target.approved is not None or target.was_active:
        return Verdict("NoOp", f"{target} needs no approval any more", to_number=target.number)
    if target is not lineage.latest:
        return Verdict(
            "Superseded", f"The definition is {lineage.latest} by now, so {target} is not deployed", (), target.number
        )
    who = person(spec, met.trusted)
    if (objection := gates.objection(rule, target.author, who, spec.actor_groups)) is not None:
        return Verdict(objection.reason, objection.message, to_number=target.number)
    known = next((each for each in lineage.reviews if (each.number, each.actor) == (target.number, who)), None)
    if known is not None and known.approves:
        return Verdict("NoOp", f'"{who}" has approved {target} already', to_number=target.number)
    review = history.Review(target.number, who, approves=True, at=now, groups=tuple(spec.actor_groups))
    others = tuple(each for each in lineage.reviews if each is not known)
    reviewed = replace(lineage, reviews=(*others, review))
    after = release.judge_approval(reviewed, target, met.gates, met.scene)
    effects: tuple[Effect, ...] = (Review(target.number, True, who, review.groups),)
    if after.remember is not None:
        effects += (Approve(target.number, after.remember),)
    return Verdict("Done", after.finding.message, effects, target.number)


def _deny(spec: WorkflowDecisionSpec, met: Situation) -> Verdict:
    """Never this content, under whatever number it comes back (A-AP-4); what is active cannot be denied any more."""
    lineage = met.lineage
    target = _find(spec, lineage)
    if isinstance(target, Verdict):
        return target
    if lineage.denial(target) is not None:
        return Verdict("NoOp", f"The content of {target} is denied already", to_number=target.number)
    if target.approved is not None or target.was_active:
        message = f"{target} has passed approval, which is final: decide Reject, or Rollback if it is active"
        return Verdict("Refused", message, to_number=target.number)
    if lineage.active is not None and lineage.active.content_hash == target.content_hash:
        message = f"The content of {target} is active, as {lineage.active}: decide Reject, or Rollback"
        return Verdict("Refused", message, to_number=target.number)
    effects: tuple[Effect, ...] = (
        Review(target.number, False, person(spec, met.trusted), tuple(spec.actor_groups)),
        Deny(target.number, "DeniedByPeer"),
    )
    if lineage.candidate is not None and lineage.candidate.content_hash == target.content_hash:
        effects += _over(lineage, "Denied")
    return Verdict("Done", f"{target} is denied, and so is its content for ever", effects, target.number)


def _check_item(spec: WorkflowDecisionSpec, met: Situation) -> Verdict:
    lineage, wanted = met.lineage, spec.item or ""
    target = _find(spec, lineage)
    if isinstance(target, Verdict):
        return target
    item = next((each for each in met.gates.checklist if each.id == wanted), None)
    if item is None:
        known = ", ".join(each.id for each in met.gates.checklist) or "none"
        return Verdict("Refused", f'The checklist has no item "{wanted}"; there are: {known}')
    if item.auto is not None:
        return Verdict("Refused", f'"{wanted}" is found true by itself, by what spec says: {item.auto}')
    if target is not lineage.latest:
        return Verdict(
            "Superseded", f"The definition is {lineage.latest} by now, not {target}", to_number=target.number
        )
    known_check = gates.checked(lineage, target.number).get(wanted)
    if known_check is not None and known_check.done:
        return Verdict("NoOp", f'"{wanted}" was ticked by {known_check.by} already', to_number=target.number)
    effect = CheckItem(target.number, wanted, True, person(spec, met.trusted), spec.reason or "")
    return Verdict("Done", f'"{wanted}" is done for {target}', (effect,), target.number)


def _of_canary(spec: WorkflowDecisionSpec, lineage: Lineage) -> Canary | Verdict:
    """The canary that is meant, or why there is none."""
    if lineage.canary is None:
        return Verdict("Refused", "No canary is under way")
    if spec.revision is None:
        return lineage.canary
    named = _find(spec, lineage)
    if isinstance(named, Verdict):
        return named
    if named.number != lineage.canary.candidate:
        return Verdict("Superseded", f"{lineage.candidate} is tried by now, not {named}", to_number=named.number)
    return lineage.canary


def _closed(spec: WorkflowDecisionSpec, met: Situation) -> Verdict | None:
    """Why the candidate keeps no share: a gate was shut since the canary began, and the Workflow's next look will end it."""
    lineage, candidate = met.lineage, met.lineage.candidate
    assert candidate is not None  # the foreign key
    if (barred := _barred(spec, lineage, candidate)) is not None:
        return barred
    shut = release.shut(lineage, candidate, met.gates, met.scene)
    return None if shut is None else Verdict("Refused", shut.message, to_number=candidate.number)


def _promote(spec: WorkflowDecisionSpec, met: Situation) -> Verdict:
    """The next step, or with ``full`` the end of all of them; no way around a gate that was shut since it began."""
    lineage, steps = met.lineage, met.gates.steps
    if (pinned := _pinned(met)) is not None:
        return pinned
    tried = _of_canary(spec, lineage)
    if isinstance(tried, Verdict):
        return tried
    if (closed := _closed(spec, met)) is not None:
        return closed
    further = canary.skip(replace(tried, paused=None, paused_since=None), met.scene.now)
    progress = canary.advance(further, steps, None, None, met.scene.now)
    if spec.full or progress.canary is None:
        effects = (*_activate(spec, met, tried.candidate, Cause.CANARY), *_over(lineage, "Promoted"))
        return Verdict("Done", f"{lineage.candidate} is active", effects, tried.candidate)
    message = (
        f"{lineage.candidate} is at step {progress.canary.step + 1} of {len(steps)}, with {progress.canary.weight} %"
    )
    return Verdict("Done", message, (SetCanary(lineage, progress.canary),), tried.candidate)


def _abort(spec: WorkflowDecisionSpec, met: Situation, now: datetime) -> Verdict:
    """The stable revision has all runs again, and what was tried is held back until it changes, or somebody decides Resume."""
    lineage, tried = met.lineage, _of_canary(spec if spec.action == "Abort" else _unnamed(spec), met.lineage)
    if isinstance(tried, Verdict):
        return tried
    candidate = lineage.candidate
    assert candidate is not None  # the foreign key
    hold = Hold(
        rejected_hash=candidate.content_hash,
        target=tried.stable,
        actor=spec.actor,
        reason=spec.reason or "",
        since=now,
        request_id=spec.request_id,
        aborted=True,
    )
    effects = (SetHold(hold), EndCanary(lineage, "Aborted"))
    return Verdict("Done", f"{candidate} has no runs any more; {lineage.active} has all", effects, tried.stable)


def _unnamed(spec: WorkflowDecisionSpec) -> WorkflowDecisionSpec:
    return spec.model_copy(update={"revision": None})


def _pause(spec: WorkflowDecisionSpec, met: Situation) -> Verdict:
    tried = _of_canary(spec, met.lineage)
    if isinstance(tried, Verdict):
        return tried
    if tried.paused is not None:
        return Verdict("NoOp", f"The canary of v{tried.candidate} is paused already", to_number=tried.candidate)
    if (closed := _closed(spec, met)) is not None:
        return closed
    effect = SetCanary(met.lineage, canary.pause(tried, met.scene.now))
    return Verdict("Done", f"v{tried.candidate} keeps {tried.weight} % of the runs", (effect,), tried.candidate)


def distrust(spec: WorkflowDecisionSpec, lack: str) -> Finding | None:
    """Why a decision is not carried out where nobody can prove that its actor made it; None: it is, as unverified (A-AP-5).

    ``lack`` says what the proof lacks (`proof.lack`).
    """
    if spec.action in UNPROVEN and not spec.force:
        return None
    what = f"{spec.action} by force" if spec.force else spec.action
    return conditions.false(
        "Handled",
        "ActorUnverified",
        f'This cluster cannot prove that "{spec.actor}" made the decision: {lack}. {what} is for the privileged. '
        "KEEP_OPERATOR_DECISIONS_UNVERIFIED=Record would carry it out, and record it as unverified.",
    )


def forbid(spec: WorkflowDecisionSpec, verb: str) -> Finding:
    """Why nothing is carried out that its actor may not decide, whoever made it."""
    return conditions.false(
        "Handled",
        "Forbidden",
        f'"{spec.actor}" lacks the verb "{verb}" on {WORKFLOWS.plural}.{GROUP} "{spec.workflow_ref.name}"',
    )


@dataclass(frozen=True, slots=True)
class Observed:
    """One look at a decision. ``met`` is None while there is no such workflow, or none that has its record.

    ``workflow_uid`` is that of the Workflow's object, ``looked_at`` says whether the Workflow has been looked at since its
    spec last changed. ``forbidden`` says why its author may not decide so (reasons Forbidden, ActorUnverified); None:
    nothing against it. ``verified``: the cluster proves that its actor made it. ``referenced``: its Workflow owns it, by
    reference. ``done`` names the last action of this very reconcile.
    """

    object: Object[WorkflowDecisionSpec]
    met: Situation | None
    forbidden: Finding | None = None
    workflow_uid: str | None = None
    looked_at: bool = True
    referenced: bool = True
    done: str | None = None
    verified: bool = False


@dataclass(frozen=True, slots=True)
class Handle:
    """All effects of a decision and the mark that it was handled, as one; not twice for one `requestId`.

    ``key`` and ``uid`` are those of its object, ``lineage`` is what it was judged by: if that is not so any more, it must be
    judged anew. ``verified``: it is proven who decided.
    """

    key: Key
    uid: str
    lineage: Lineage
    decision: WorkflowDecisionSpec
    verdict: Verdict
    at: datetime
    verified: bool = False


@dataclass(frozen=True, slots=True)
class Expire:
    """The object of a decision that was handled long ago goes."""

    key: Key
    uid: str


Action: TypeAlias = Handle | Expire


def is_handled(obj: Object[Any]) -> bool:
    """Whether the status says what came of it; that never changes."""
    return obj.condition("Handled") in (Truth.TRUE, Truth.FALSE)


def plan(seen: Observed, now: datetime) -> Plan[Action]:
    """What to do next; nothing once the status tells what came of it, until the object has served its time."""
    obj, met = seen.object, seen.met
    if obj.deleting:
        return Plan()
    if (untied := tenancy.untied(obj, referenced=seen.referenced)) is not None:
        return Plan(actions=(untied,))
    if is_handled(obj):
        return _plan_end(obj, now)
    if isinstance(obj.spec, Invalid):
        return _report(obj, conditions.false("Handled", "Refused", f"The spec is not valid: {obj.spec}"), now)
    if met is not None and met.handled is not None:
        if (owners := _owners_due(seen, obj.spec)) is not None:
            return Plan(actions=(SetMetadata(obj.finalizers, owners),))
        return _report(obj, *_remembered(obj, met.handled))
    if met is None:
        return _plan_wait(seen, obj.spec, now)
    if met.behind is not None:
        return _report(obj, conditions.unknown("Handled", "DatabaseBehind", met.behind), now)
    if not seen.looked_at and now < obj.created_at + PATIENCE:
        return Plan(wake_in=LOOK_AGAIN)
    verdict = judge(obj.spec, met, now)
    if seen.forbidden is not None:
        verdict = Verdict(seen.forbidden.reason, seen.forbidden.message)
    handle = Handle(obj.key, obj.uid, met.lineage, obj.spec, verdict, now, seen.verified)
    return Plan(actions=(handle,), wakes=(Key(WORKFLOWS.kind, obj.key.namespace, obj.spec.workflow_ref.name),))


def _plan_end(obj: Object[WorkflowDecisionSpec], now: datetime) -> Plan[Action]:
    """Objects that a tool would make again are left to it: they would only come back (A-AP-6)."""
    handled_at = obj.status.get("handledAt")
    if handled_at is None or obj.source.get("tool") in _TRACKING:
        return Plan()
    left = datetime.fromisoformat(handled_at) + KEPT - now
    return Plan(wake_in=left) if left > timedelta() else Plan(actions=(Expire(obj.key, obj.uid),))


def _plan_wait(seen: Observed, spec: WorkflowDecisionSpec, now: datetime) -> Plan[Action]:
    if seen.forbidden is not None:
        return _report(seen.object, seen.forbidden, now)
    name, left = spec.workflow_ref.name, seen.object.created_at + PATIENCE - now
    there = seen.workflow_uid is not None
    if left > timedelta():
        message = f'Waiting for Workflow "{name}"' + (
            " to have a record, and a Tenant that admits it; see its conditions" if there else ""
        )
        return replace(
            _report(seen.object, conditions.unknown("Handled", "WorkflowNotFound", message), now), wake_in=left
        )
    message = (
        f'Workflow "{name}" has no record, or no Tenant that admits it' if there else f'There is no Workflow "{name}"'
    )
    return _report(seen.object, conditions.false("Handled", "Refused", message), now)


def _owners_due(seen: Observed, spec: WorkflowDecisionSpec) -> tuple[Mapping[str, Any], ...] | None:
    """The owner references with one to the Workflow, so that a decision goes with it; None where that is so."""
    owners = seen.object.owners
    if not seen.referenced:
        return None
    if any(owner.get("uid") == seen.workflow_uid for owner in owners) or seen.workflow_uid is None:
        return None
    mine = {
        "apiVersion": API_VERSION,
        "kind": WORKFLOWS.kind,
        "name": spec.workflow_ref.name,
        "uid": seen.workflow_uid,
        "controller": False,
        "blockOwnerDeletion": False,
    }
    return (*(owner for owner in owners if not _is_workflow(owner)), mine)


def _is_workflow(owner: Mapping[str, Any]) -> bool:
    return owner.get("kind") == WORKFLOWS.kind and str(owner.get("apiVersion", "")).partition("/")[0] == GROUP


def _remembered(obj: Object[WorkflowDecisionSpec], handled: Handled) -> tuple[Finding, datetime, Handled]:
    """What the database knows of it. Another object with the same id is a copy, from Git or a backup, and did nothing."""
    truth = Truth.TRUE if handled.outcome in _CARRIED_OUT else Truth.FALSE
    finding = Finding("Handled", truth, handled.outcome, handled.message)
    if handled.uid not in (None, obj.uid):
        message = (
            f"Request {handled.request_id} was handled already, at {conditions.rfc3339(handled.at)}: {handled.outcome}"
        )
        finding = conditions.true("Handled", "NoOp", message)
    return finding, handled.at, handled


def _report(
    obj: Object[WorkflowDecisionSpec], finding: Finding, now: datetime, handled: Handled | None = None
) -> Plan[Action]:
    old = obj.status.get("conditions") or ()
    status: dict[str, Any] = {
        **obj.status,
        "observedGeneration": obj.generation,
        "conditions": conditions.merge(old, [finding], generation=obj.generation, now=now),
    }
    if finding.truth is not Truth.UNKNOWN:
        status["handledAt"] = conditions.rfc3339(now)
    if handled is not None:
        known = {"ledgerId": handled.ledger_id, "from": handled.from_number, "to": handled.to_number}
        status |= {name: value for name, value in known.items() if value is not None}
    return Plan(status=status)
