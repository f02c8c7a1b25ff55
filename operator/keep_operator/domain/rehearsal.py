"""What would come of a Workflow: the operator's own plan, carried out on paper until nothing is left to do.

::

    what is known ──► workflow.plan ──► actions ──► what is known then ──► workflow.plan ──► … ──► the status it would report

No rule is here, only what each action does to what is known, as `store` and `cluster` do it to what there is. Nothing happens
meanwhile: no time passes, no run ends, nobody decides.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, assert_never

from keep_operator.domain import checklist, effects, gates, history, mirror, planning, release, workflow
from keep_operator.domain.decision import Handle
from keep_operator.domain.desired import Desired
from keep_operator.domain.effects import Effect, Take
from keep_operator.domain.history import Deployment, Lineage, Revision
from keep_operator.domain.mirror import CreateImage, DeleteImage, Image, PatchImage
from keep_operator.domain.planning import SetMetadata
from keep_operator.domain.verdict import Handled
from keep_operator.domain.workflow import Observed
from keep_operator.resources.shapes import Invalid

# A new Workflow takes four looks; a plan that acts on and on would be a fault of the rules.
LOOKS: Final = 24


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is known before and after, what was done on the way, and the ``status`` that the operator would report."""

    before: Observed
    after: Observed
    done: tuple[Any, ...]
    status: Mapping[str, Any]

    @property
    def effects(self) -> tuple[Effect, ...]:
        """What was done to the history, in order."""
        return tuple(each.effect for each in self.done if isinstance(each, Take))

    @property
    def made(self) -> Revision | None:
        """The revision that would be made."""
        return next((each.revision for each in self.done if isinstance(each, workflow.InsertRevision)), None)

    def condition(self, kind: str) -> Mapping[str, Any] | None:
        """One of the conditions that would be reported."""
        return next((each for each in self.status.get("conditions") or () if each["type"] == kind), None)


def rehearse(seen: Observed, contents: Mapping[int, Mapping[str, Any]], now: datetime) -> Outcome:
    """Everything that comes of ``seen``; ``contents`` are those of its revisions that are known, by number.

    Where no objects of revisions are given they are taken to be as they shall be.
    """
    known: dict[int, Mapping[str, Any]] = dict(contents)
    done: list[Any] = []
    latest = 0 if seen.own is None else seen.own.latest_number
    here = _recalled(_pictured(seen, now), known, latest)
    for _ in range(LOOKS):
        plan = workflow.plan(here, now)
        if not plan.actions:
            return Outcome(seen, here, tuple(done), plan.status or here.object.status)
        for action in plan.actions:
            if isinstance(action, workflow.InsertRevision):
                known[action.revision.number] = action.content
            here = _carried_out(here, action, now)
            done.append(action)
            name = type(action).__name__
            here = replace(here, done=name) if name in planning.DONE else here
        here = _recalled(here, known, latest)
    raise AssertionError(f"no end after {LOOKS} looks")


def _pictured(seen: Observed, now: datetime) -> Observed:
    own, met = seen.own, workflow.situation(seen, None, now)
    if own is None or own.latest is None or met is None or seen.images:
        return seen
    approved = release.judge_approval(own, own.latest, met.gates, met.scene).finding
    images: tuple[Image, ...] = ()
    for action in mirror.due(seen.object.key.name, own, (), met.gates, approved, {}, now):
        images = _shown(images, action)
    return replace(seen, images=images)


def _recalled(seen: Observed, contents: Mapping[int, Mapping[str, Any]], latest: int) -> Observed:
    """With what the plan reads: contents of the newest revision, if another one follows, and of the active one; and the ticks.

    Up to ``latest`` revisions are there already. Of these the runs are not counted here, so what is remembered of items that
    ask about runs stays as it is.
    """
    own, wanted = seen.own, seen.wanted
    if own is None:
        return seen
    follows = isinstance(wanted, Desired) and release.desired_revision(own, wanted.hash_in(own)) is None
    active = None if own.active_number is None else contents.get(own.active_number)
    seen = replace(seen, previous_content=contents.get(own.latest_number) if follows else None, active_content=active)
    spec = seen.object.spec
    if isinstance(spec, Invalid) or checklist.faults(spec.release):
        return seen
    ticks = workflow.ticks(seen, spec)
    if own.latest_number <= latest:
        about_runs = {each.id for each in workflow.gates_of(seen, spec).checklist if "runs" in (each.auto or "")}
        kept = about_runs & gates.checked(own, own.latest_number).keys()
        ticks = tuple(each for each in ticks if each.item not in kept)
    return replace(seen, ticks=ticks)


def _carried_out(seen: Observed, action: Any, now: datetime) -> Observed:
    own = seen.own
    match action:
        case SetMetadata(finalizers, owners):
            return replace(seen, object=replace(seen.object, finalizers=finalizers, owners=owners))
        case workflow.Insert(lineage):
            return _with(seen, lineage, read_at=now)
        case workflow.Update(lineage, declared) | workflow.Correct(lineage, declared):
            return _with(seen, workflow.declaring(own or lineage, declared))
        case workflow.Adopt(lineage, to, declared):
            return replace(_with(seen, workflow.declaring(replace(lineage, owner=to), declared)), holder=None)
        case workflow.HandOver(lineage, to):
            return replace(_with(seen, replace(lineage, owner=to)), holder=None)
        case workflow.InsertRevision(lineage, revision, _):
            row = own or lineage
            return _with(seen, row, latest_number=revision.number, revisions=(*row.revisions, revision))
        case Take(lineage, effect, actor, reason):
            return _with(seen, affected(own or lineage, effect, actor, now, reason))
        case workflow.Archive(lineage, numbers):
            return _with(seen, _changed(own or lineage, numbers, archived_at=now))
        case Handle(decision=decided, verdict=verdict):
            assert own is not None and seen.asked is not None
            row = own
            for effect in verdict.effects:
                row = affected(row, effect, decided.actor, now, decided.reason or "")
            handled = Handled(decided.request_id, decided.action, verdict.outcome, verdict.message, now)
            return replace(_with(seen, row), asked=replace(seen.asked, handled=handled))
        case CreateImage() | DeleteImage() | PatchImage():
            return replace(seen, images=_shown(seen.images, action))
        case workflow.Delete() | workflow.Orphan():
            return replace(seen, own=None)
        case workflow.CancelRuns(lineage):
            return _with(seen, own or lineage, running={})
        case _:
            raise AssertionError(action)


def _with(seen: Observed, row: Lineage, **fields: Any) -> Observed:
    """The row as it is written, with its checksum."""
    written = replace(row, **fields)
    return replace(seen, own=replace(written, checksum=history.checksum(written)))


def affected(row: Lineage, effect: Effect, actor: str, now: datetime, reason: str = "") -> Lineage:
    """The lineage once an effect was carried out."""
    match effect:
        case effects.Activate(_, number, cause, who, why):
            made = Deployment(number, row.active_number, cause, who, now, why)
            both = {number, row.active_number}
            revisions = tuple(
                replace(each, first_active_at=each.first_active_at or now, last_active_at=now, archived_at=None)
                if each.number in both
                else each
                for each in row.revisions
            )
            return replace(row, active_number=number, deployments=(made, *row.deployments), revisions=revisions)
        case effects.SetHold(hold):
            return replace(row, hold=hold)
        case effects.EndHold():
            return replace(row, hold=None)
        case effects.SetCanary(_, canary):
            return replace(row, canary=canary)
        case effects.EndCanary():
            return replace(row, canary=None)
        case effects.Review(number, approves, who, groups):
            others = (each for each in row.reviews if (each.number, each.actor) != (number, who))
            said = history.Review(number, who, approves, now, tuple(groups))
            return replace(row, reviews=(*others, said))
        case effects.Approve(number, verdict):
            return _changed(row, (number,), approved=verdict)
        case effects.Deny(number, verdict):
            return _changed(row, (number,), denied=verdict)
        case effects.CheckItem():
            return checklist.ticked(row, [effect], now)
        case effects.Reject(number, why):
            return _changed(row, (number,), rejected=why)
        case effects.ClearRejection(content_hash):
            same = [each.number for each in row.with_content(content_hash)]
            return _changed(row, same, rejected=None)
        case effects.Tag(tag, number):
            free = affected(row, effects.Untag(tag), actor, now)
            found = free.get(number)
            return free if found is None else _changed(free, (number,), tags=tuple(sorted({*found.tags, tag})))
        case effects.Untag(tag):
            kept = (
                replace(each, tags=tuple(it for it in each.tags if it != tag)) if tag in each.tags else each
                for each in row.revisions
            )
            return replace(row, revisions=tuple(kept))
        case effects.Watch(until):
            return replace(row, watched_until=until)
        case effects.Note():
            return row
        case _:
            assert_never(effect)


def _changed(row: Lineage, numbers: Sequence[int], **fields: Any) -> Lineage:
    changed = (replace(each, **fields) if each.number in numbers else each for each in row.revisions)
    return replace(row, revisions=tuple(changed))


def _shown(images: Sequence[Image], action: CreateImage | DeleteImage | PatchImage) -> tuple[Image, ...]:
    match action:
        case CreateImage(lineage, revision, name, labels, status):
            made = Image(
                name=name,
                uid=name,
                resource_version="",
                generation=mirror.NEW,
                lineage_id=str(lineage.id),
                number=revision.number,
                content_hash=revision.content_hash,
                labels=labels,
                status=status,
            )
            return (*images, made)
        case DeleteImage(_, gone):
            return tuple(each for each in images if each.name != gone.name)
        case PatchImage(image, labels, status):
            kept = {key: value for key, value in {**image.labels, **labels}.items() if value is not None}
            new = replace(image, labels=kept, status=status or image.status)
            return tuple(new if each.name == image.name else each for each in images)
