"""What one decision of a person or machine does to a workflow, or why it does nothing: once, whatever comes of it.

::

    handled before? ── as expected? ── which revision? ── may it be? ── effects

All effects of a decision, the mark that it was handled, and its ledger entry are one transaction. The same `requestId` never
does anything again (A-AP-6).
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from keep_operator.domain import canary, gates, history, release
from keep_operator.domain.conditions import Truth
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
from keep_operator.domain.release import Scene
from keep_operator.resources.decision import RevisionChoice, WorkflowDecisionSpec
from keep_operator.resources.release import RESERVED_TAGS

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

    @property
    def truth(self) -> Truth:
        """The status of ``Handled``."""
        return _truth(self.outcome)


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
        return _truth(self.outcome)


def _truth(outcome: str) -> Truth:
    return Truth.TRUE if outcome in _CARRIED_OUT else Truth.FALSE


def judge(spec: WorkflowDecisionSpec, met: Situation, now: datetime) -> Verdict:
    """What the decision does; the same question always has the same answer."""
    lineage = met.lineage
    if met.handled is not None:
        return Verdict("NoOp", f"Request {spec.request_id} was handled already: {met.handled.outcome}")
    if (stale := _stale(spec, lineage)) is not None:
        return stale
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


def _stale(spec: WorkflowDecisionSpec, lineage: Lineage) -> Verdict | None:
    """What is not any more as the author of the decision saw it; None: all that he named is."""
    number = None if spec.expect is None else spec.expect.active_revision
    step = None if spec.expect is None else spec.expect.canary_step_index
    if number is not None and number != lineage.active_number:
        return Verdict("Stale", f"v{number} was expected to be active, but {lineage.active or 'none'} is")
    tried = lineage.canary
    if step is not None and (tried is None or tried.step != step):
        there = "none is under way" if tried is None else f"that of v{tried.candidate} is at step {tried.step + 1}"
        return Verdict("Stale", f"A canary was expected at step {step + 1}, but {there}")
    return None


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
        if isinstance(meant := _of_canary(spec, lineage), Verdict):
            return meant
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
    if spec.revision is not None:
        named = _find(spec, lineage)
        if isinstance(named, Verdict):
            return named
        if named.content_hash != lineage.hold.rejected_hash:
            return Verdict("Superseded", f"{named} is not what is held back by now", to_number=named.number)
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
