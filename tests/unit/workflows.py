"""A Workflow with its database and its cluster in memory: what the actions of a plan do, and nothing else."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final, assert_never
from uuid import UUID

from keep_operator.domain import binding, desired, effects, history, planning, rollback_to, workflow
from keep_operator.domain.binding import Bound, Candidate, Seen, Tried
from keep_operator.domain.canary import Question, Stats
from keep_operator.domain.conditions import Truth
from keep_operator.domain.decision import Handle
from keep_operator.domain.desired import Desired, ProviderSight, Wanted
from keep_operator.domain.effects import Activate, Effect, Take
from keep_operator.domain.history import Author, Check, Deployment, Flaw, Lineage, Refusal, Review, Revision
from keep_operator.domain.mirror import CreateImage, DeleteImage, Image, PatchImage
from keep_operator.domain.ownership import Claim, HolderState
from keep_operator.domain.planning import Plan, SetMetadata
from keep_operator.domain.rollback_to import Asked
from keep_operator.domain.tenancy import TenantSight
from keep_operator.domain.verdict import Handled, Verdict, judge
from keep_operator.domain.workflow import Observed
from keep_operator.resources import workflow as reader
from keep_operator.resources.decision import WorkflowDecisionSpec
from keep_operator.resources.kinds import Key
from keep_operator.resources.objects import IMPORTANT, ROLLBACK_TO, Object
from keep_operator.resources.shapes import Invalid
from keep_operator.resources.workflow import WorkflowSpec
from unit.builders import tenant_sight
from unit.lineages import START

CLUSTER: Final = "cluster-1"
NAME: Final = "high-cpu"
KEY: Final = Key("Workflow", "monitoring", NAME)
ANN: Final = Author("ann", "FieldManager")


def definition(letter: str, **more: Any) -> dict[str, Any]:
    """A definition whose behaviour is told apart by a letter; a lower case one names no steps, so it is not valid.

    The letter P calls Provider `vm`, all others call none.
    """
    if letter.islower():
        return {"id": letter, "consts": {"content": letter}, **more}
    provider: dict[str, Any] = {"type": "mock", "with": {"content": letter}}
    if letter == "P":
        provider = {"type": "victoriametrics", "config": "{{ providers.vm }}", "with": {"query": "up"}}
    return {
        "id": NAME,
        "triggers": [{"type": "manual"}],
        "steps": [{"name": "look", "provider": provider}],
        **more,
    }


def spec_of(letter: str = "A", *, more: Mapping[str, Any] | None = None, **fields: Any) -> WorkflowSpec:
    """A spec with this content; ``more`` are further keys of the definition, ``fields`` those of the spec in camelCase."""
    found = reader.parse_spec({"definition": definition(letter, **(more or {})), **fields})
    assert not isinstance(found, Invalid), found
    return found


@dataclass(frozen=True)
class Ended:
    """A run that has ended. ``failed`` None: it was cancelled."""

    number: int
    at: datetime
    failed: bool | None = False
    mode: str = "Live"
    took_s: float = 1.0


class Refused(Exception):
    """The database would refuse this: what the action was planned on does not hold any more."""


@dataclass
class World:
    """Everything there is. ``rows`` are all lineages by id, ``contents`` what their revisions are, for ever.

    ``now`` is the database's time; the operator's clock is ahead of it by ``ahead``.
    """

    spec: WorkflowSpec | Invalid = field(default_factory=spec_of)
    now: datetime = START
    ahead: timedelta = timedelta()
    uid: int = 1
    generation: int = 1
    author: Author = ANN
    annotations: dict[str, str] = field(default_factory=dict)
    metadata: SetMetadata = field(default_factory=lambda: SetMetadata((), ()))
    status: Mapping[str, Any] = field(default_factory=dict)
    deleted_at: datetime | None = None
    gone: bool = False
    rows: dict[UUID, Lineage] = field(default_factory=dict)
    contents: dict[tuple[UUID, int], Mapping[str, Any]] = field(default_factory=dict)
    images: dict[str, Image] = field(default_factory=dict)
    handled: dict[str, Handled] = field(default_factory=dict)
    providers: dict[str, ProviderSight] = field(default_factory=dict)
    tenant: TenantSight | None = field(default_factory=tenant_sight)
    wanted: Wanted | None = None
    heirs: tuple[Claim, ...] = ()
    done: str | None = None
    runs_told_at: datetime | None = None
    ended: list[Ended] = field(default_factory=list)
    ledger: list[tuple[UUID, str, Effect]] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    @property
    def object(self) -> Object[WorkflowSpec]:
        """The Workflow as the API server has it."""
        return Object(
            key=KEY,
            uid=f"uid-{self.uid}",
            resource_version="1",
            generation=self.generation,
            created_at=START,
            deleted_at=self.deleted_at,
            finalizers=self.metadata.finalizers,
            owners=self.metadata.owners,
            annotations=self.annotations,
            spec=self.spec,
            status=self.status,
        )

    @property
    def lineage(self) -> Lineage:
        """Our row."""
        found = self._own()
        assert found is not None
        return found

    def _own(self) -> Lineage | None:
        uid = f"uid-{self.uid}"
        return next(
            (row for row in self.rows.values() if row.owner and row.owner.uid == uid and row.deleted_at is None), None
        )

    def observe(self) -> Observed:
        """One look."""
        own = self._own()
        name = workflow.external_name(self.object) or NAME
        holder = next(
            (each for each in self.rows.values() if each.external_name == name and each.deleted_at is None), None
        )
        wanted = self.wanted
        if wanted is None and not isinstance(self.spec, Invalid) and self.spec.definition is not None:
            wanted = _read(json.dumps(self.spec.definition))
        latest = None if own is None else own.latest
        seen = Observed(
            object=self.object,
            cluster_id=CLUSTER,
            tenant_name="keep",
            tenant=self.tenant,
            wanted=wanted,
            own=None if own is None else replace(own, read_at=self.now),
            holder=None if holder is own else holder,
            holder_state=None if holder is None or holder is own else HolderState.GONE,
            heirs=self.heirs,
            providers=self.providers,
            images=tuple(self.images.values()),
            previous_content=None if own is None or latest is None else self.contents[own.id, latest.number],
            author=self.author,
            important=self.annotations.get(IMPORTANT) == "true",
            source={"tool": "kubectl"},
            asked=self._asked(),
            runs_told_at=self.runs_told_at,
            done=self.done,
            new_id=UUID(int=len(self.rows) + 1),
        )
        if own is None or isinstance(self.spec, Invalid):
            return seen
        asked = workflow.questions(seen, self.spec)
        active = self.contents.get((own.id, own.active_number or 0)) if asked.active_content else None
        counted = {name: self._count(each) for name, each in asked.count.items()}
        seen = replace(seen, active_content=active, counted=counted)
        return replace(seen, ticks=workflow.ticks(seen, self.spec))

    def _count(self, asked: Question) -> Stats:
        found = [
            each
            for each in self.ended
            if (each.number, each.mode) == (asked.number, asked.mode)
            and each.failed is not None
            and asked.since <= each.at
            and (asked.until is None or each.at < asked.until)
        ]
        longest = sorted(each.took_s for each in found)
        p95 = longest[max(0, -(-len(longest) * 95 // 100) - 1)] if longest else None
        return Stats(len(found), sum(bool(each.failed) for each in found), p95)

    def _asked(self) -> Asked | None:
        value = self.annotations.get(ROLLBACK_TO)
        if not value or value == self.status.get("lastHandledAction"):
            return None
        return Asked(value, self.handled.get(rollback_to.request_id(value)))

    def plan(self) -> Plan[Any]:
        """What the rules say now."""
        return workflow.plan(self.observe(), self.now + self.ahead)

    def reconcile(self, *, crash_after: int | None = None, looks: int = 8) -> Plan[Any]:
        """As the shell does it; ``crash_after`` so many steps the process dies, before it has reported anything."""
        self.done = None
        for _ in range(0 if self.gone else looks):
            plan = self.plan()
            for step in planning.steps(plan.actions):
                if crash_after is not None and crash_after <= 0:
                    return plan
                crash_after = None if crash_after is None else crash_after - 1
                self.transact(step)
            if self.gone or not plan.actions:
                self._report(plan)
                return plan
        if self.gone:
            return Plan()
        raise AssertionError(f"no end after {looks} looks: {self.log[-20:]}")

    def transact(self, step: Iterable[Any]) -> None:
        """One step of a plan: all of it, or nothing where it is Refused."""
        before = dict(self.rows), dict(self.contents), dict(self.handled), list(self.ledger), self.done
        try:
            for action in step:
                self.apply(action)
                name = type(action).__name__
                self.done = name if name in planning.DONE else self.done
        except Refused:
            self.rows, self.contents, self.handled, self.ledger, self.done = before
            raise

    def settle(self) -> Plan[Any]:
        """Reconciles until a reconcile does nothing; what is archived in batches takes several."""
        for _ in range(30):
            before = len(self.log)
            plan = self.reconcile()
            if len(self.log) == before:
                return plan
        raise AssertionError(f"it does not settle: {self.log[-20:]}")

    def _report(self, plan: Plan[Any]) -> None:
        if plan.status is not None:
            status = {name: value for name, value in plan.status.items() if value is not None}
            if status != self.status:
                self.log.append("Status")
                self.status = status

    def condition(self, kind: str) -> tuple[str, str] | None:
        """Status and reason of a condition of the Workflow."""
        found = next((each for each in self.status.get("conditions", ()) if each["type"] == kind), None)
        return None if found is None else (found["status"], found["reason"])

    def edit(self, spec: WorkflowSpec | Invalid) -> None:
        """Somebody applies another spec."""
        if spec != self.spec:
            self.spec, self.generation = spec, self.generation + 1

    def delete(self) -> None:
        """Somebody deletes the Workflow; without a finalizer it is gone at once."""
        self.deleted_at, self.gone = self.now, not self.metadata.finalizers

    def runs(self, **running: int) -> None:
        """So many runs of each revision are under way: ``v1=2``."""
        row = self.lineage
        self.rows[row.id] = replace(row, running={int(name[1:]): number for name, number in running.items()})

    def create_again(self) -> None:
        """The Workflow is made again under its name, as another object; Kubernetes collects what the old one owned."""
        assert self.gone
        self.uid, self.generation, self.status, self.gone, self.deleted_at = self.uid + 1, 1, {}, False, None
        self.metadata = SetMetadata((), ())
        self.images = {}

    def decide(self, spec: WorkflowDecisionSpec) -> Verdict:
        """A decision is handled, in one transaction."""
        met = workflow.situation(self.observe(), self.handled.get(spec.request_id))
        assert met is not None
        verdict = judge(spec, met, self.now + self.ahead)
        self._carry_out(met.lineage.id, spec, verdict)
        return verdict

    def ask(self, asked: binding.Asked) -> Bound | Refusal:
        """Somebody asks for a run, which is bound to a revision as `store.runs` has it done."""
        row = self._own()
        if row is None:
            return binding.bind(asked, None)
        wanted = asked.reference
        meant = row.active if wanted is None else history.resolve(row, wanted)
        tried = None
        if row.canary is not None and row.candidate is not None:
            tried = Tried(row.candidate.number, row.candidate.content_hash, row.canary.weight, row.canary.sticky_key)
        seen = Seen(
            workflow_id=row.id,
            tenant_id=row.tenant_id,
            suspended=row.suspended,
            settings=row.settings.get("run") or {},
            active_number=row.active_number,
            candidate=_candidate(row, meant) if isinstance(meant, Revision) else None,
            tried=tried,
        )
        if binding.is_tried(asked, row.id, tried) and row.candidate is not None:
            seen = replace(seen, candidate=_candidate(row, row.candidate))
        return binding.bind(asked, seen)

    def _carry_out(self, lineage: UUID, spec: WorkflowDecisionSpec, verdict: Verdict) -> None:
        for effect in verdict.effects:
            self._affect(lineage, effect, spec.actor)
        self.handled.setdefault(
            spec.request_id, Handled(spec.request_id, spec.action, verdict.outcome, verdict.message, self.now)
        )

    def _affect(self, lineage: UUID, effect: Effect, actor: str) -> None:  # noqa: PLR0915 - a case each
        row = self.rows[lineage]
        self.log.append(type(effect).__name__)
        self.ledger.append((lineage, actor, effect))
        match effect:
            case Activate():
                self._activate(effect)
            case effects.EndHold():
                if row.hold is None:
                    raise Refused("there is no hold")
                self._write(row, hold=None)
            case effects.SetHold(hold):
                self._write(row, hold=hold)
            case effects.SetCanary(seen, canary):
                tried = row.get(canary.candidate)
                if seen.canary != row.canary or row.active_number != canary.stable:
                    raise Refused("the canary is not as it was seen")
                if tried is None or row.rejection(tried) is not None or row.denial(tried) is not None:
                    raise Refused("its content is barred")
                self._write(row, canary=canary)
            case effects.EndCanary(seen, _):
                if row.canary is None or seen.canary != row.canary:
                    raise Refused("the canary is not as it was seen")
                self._write(row, canary=None)
            case effects.Review(number, approves, who, groups):
                others = tuple(each for each in row.reviews if (each.number, each.actor) != (number, who))
                self._write(row, reviews=(*others, Review(number, who, approves, self.now, tuple(groups))))
            case effects.Approve(number, verdict):
                self._verdict(row, number, approved=verdict)
            case effects.Deny(number, verdict):
                self._verdict(row, number, denied=verdict)
            case effects.CheckItem(number, item, done, by, message):
                kept = tuple(each for each in row.checks if (each.number, each.item) != (number, item))
                self._write(row, checks=(*kept, Check(number, item, done, by, self.now, message)))
            case effects.Watch(until):
                self._write(row, watched_until=until)
            case effects.Reject(number, reason):
                if any(each.number == number and each.rejected for each in row.revisions):
                    raise Refused("that was said already")
                self._change(lineage, lambda each: each.number == number, rejected=reason)
            case effects.ClearRejection(content_hash):
                self._change(lineage, lambda each: each.content_hash == content_hash, rejected=None)
            case effects.Tag(tag, number):
                self._untag(lineage, tag)
                found = self.rows[lineage].get(number)
                assert found is not None
                self._change(lineage, lambda each: each.number == number, tags=tuple(sorted((*found.tags, tag))))
            case effects.Untag(tag):
                self._untag(lineage, tag)
            case effects.Note():
                pass
            case _:
                assert_never(effect)

    def _verdict(self, row: Lineage, number: int, **verdict: str) -> None:
        found = row.get(number)
        if found is None or found.approved is not None or found.denied is not None:
            raise Refused("that is said for good")
        self._change(row.id, numbered(number), **verdict)

    def _untag(self, lineage: UUID, tag: str) -> None:
        for each in self.rows[lineage].revisions:
            if tag in each.tags:
                kept = tuple(it for it in each.tags if it != tag)
                self._change(lineage, numbered(each.number), tags=kept)

    def _write(self, row: Lineage, **fields: Any) -> Lineage:
        written = replace(self.rows[row.id], **fields)
        written = replace(written, checksum=history.checksum(written))
        self.rows[row.id] = written
        return written

    def _change(self, lineage: UUID, which: Any, **fields: Any) -> None:
        row = self.rows[lineage]
        revisions = tuple(replace(each, **fields) if which(each) else each for each in row.revisions)
        self.rows[lineage] = replace(row, revisions=revisions)

    def apply(self, action: Any) -> None:
        """One action, all of it or nothing."""
        self.log.append(type(action).__name__)
        match action:
            case SetMetadata():
                self.metadata = action
                self.gone = self.deleted_at is not None and not action.finalizers
            case workflow.Insert(row):
                self.rows[row.id] = row
                self._write(row)
            case workflow.Update(row, declared) | workflow.Correct(row, declared):
                self._write(row, **_fields(declared))
            case workflow.HandOver(row, to):
                self._write(row, owner=to)
            case workflow.Adopt(row, to, declared):
                self._write(row, owner=to, **_fields(declared))
            case workflow.Delete(row):
                self._write(row, deleted_at=self.now)
            case workflow.CancelRuns(row):
                self.rows[row.id] = replace(self.rows[row.id], running={})
            case workflow.Orphan(row):
                self._write(row, owner=None)
            case workflow.InsertRevision(row, revision, content):
                self._insert(row, revision, content)
            case Take(row, effect, actor):
                self.log.pop()
                self._affect(row.id, effect, actor)
            case Handle():
                self._carry_out(action.lineage.id, action.decision, action.verdict)
            case workflow.Archive(row, numbers):
                self._change(row.id, lambda each: each.number in numbers, archived_at=self.now)
            case CreateImage(row, revision, name, labels, status, content):
                assert content in (None, self.contents[row.id, revision.number])
                if name in self.images:
                    raise Refused(name)
                self.images[name] = Image(
                    name=name,
                    uid=f"image-{len(self.log)}",
                    resource_version="1",
                    generation=1,
                    lineage_id=str(row.id),
                    number=revision.number,
                    content_hash=revision.content_hash,
                    labels=dict(labels),
                    status=status,
                )
            case DeleteImage(_, image):
                self.images.pop(image.name, None)
            case PatchImage(image, labels, status):
                kept = {key: value for key, value in {**image.labels, **labels}.items() if value is not None}
                self.images[image.name] = replace(image, labels=kept, status=status or image.status)
            case _:
                raise AssertionError(action)

    def _insert(self, row: Lineage, revision: Revision, content: Mapping[str, Any]) -> None:
        known = self.rows[row.id]
        if known.latest_number + 1 != revision.number:
            raise Refused("the number is taken")
        made = replace(revision, created_at=self.now)  # the database says when
        self._write(row, latest_number=revision.number, revisions=(*known.revisions, made))
        self.contents[row.id, revision.number] = content

    def _activate(self, action: Activate) -> None:
        row = self.rows[action.lineage.id]
        if row.active_number != action.lineage.active_number:
            raise Refused("another one is active by now")
        chosen = row.get(action.number)
        if chosen is None or row.rejection(chosen) is not None or row.denial(chosen) is not None:
            raise Refused("its content is barred")
        both = {row.active_number, action.number}
        for each in row.revisions:
            if each.number in both:
                first = each.first_active_at or self.now
                shown = None if each.number == action.number else each.archived_at
                self._change(
                    row.id,
                    numbered(each.number),
                    first_active_at=first,
                    last_active_at=self.now,
                    archived_at=shown,
                )
        made = Deployment(action.number, row.active_number, action.cause, action.actor, self.now, action.reason)
        self._write(row, active_number=action.number, deployments=(made, *row.deployments))

    def active_images(self) -> list[int]:
        """The numbers of the objects that say that they take runs."""
        return [
            image.number
            for image in self.images.values()
            for each in image.status.get("conditions", ())
            if each["type"] == "Active" and each["status"] == Truth.TRUE
        ]

    def pass_time(self, hours: int) -> None:
        """The clock moves on."""
        self.now += timedelta(hours=hours)


def _candidate(row: Lineage, revision: Revision) -> Candidate:
    return Candidate(
        number=revision.number,
        content_hash=revision.content_hash,
        flaw=None if revision.flaw is None else revision.flaw.message,
        denied=row.denial(revision),
        rejected=row.rejection(revision),
        approved=revision.approved is not None,
        was_active=revision.was_active,
    )


@cache
def _read(text: str) -> Desired | Flaw:
    """A definition as the shell has it; judged once, since looks are many."""
    return desired.read(json.loads(text))


def numbered(number: int) -> Callable[[Revision], bool]:
    """Picks one revision."""
    return lambda each: each.number == number


def _fields(declared: workflow.Declared) -> dict[str, Any]:
    return {
        "external_name": declared.external_name,
        "deletion_policy": declared.deletion_policy,
        "suspended": declared.suspended,
        "settings": declared.settings,
    }
