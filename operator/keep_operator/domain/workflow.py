"""What a Workflow needs next: its row, a revision of what is desired, the objects of revisions, and what is active.

::

    spec refused? ── tenant there, admitting, ready? ── finalizer and owner reference on the object?
        ── whose row is it? ── does the database know what the object knows? ── does the row say what the spec says?
        ── definition there? ── revision of it made? ── objects of revisions, and what shall be active ── archive ── Ready

The first answer that is not "yes" decides. Desired is not active: which revision is, `release` says; what its Providers
wait for keeps the desired one from it, but neither a pin nor a rollback.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias
from uuid import UUID

from keep_operator.domain import (
    checklist,
    comparison,
    conditions,
    desired,
    effects,
    gates,
    history,
    mirror,
    ownership,
    planning,
    release,
    retention,
    rollback_to,
    tenancy,
)
from keep_operator.domain.canary import LOOK_AGAIN, Measured, Question, Stats
from keep_operator.domain.conditions import Finding, Truth
from keep_operator.domain.decision import Handle
from keep_operator.domain.desired import Desired, ProviderSight, Wanted
from keep_operator.domain.effects import Take
from keep_operator.domain.gates import Gates
from keep_operator.domain.grammar.faults import Reason
from keep_operator.domain.history import Author, Cause, Hold, Lineage, Reference, Revision
from keep_operator.domain.mirror import CreateImage, DeleteImage, Image, PatchImage
from keep_operator.domain.ownership import Claim, Holder, HolderState, Owner
from keep_operator.domain.planning import Plan, SetMetadata
from keep_operator.domain.release import Choice, Scene
from keep_operator.domain.retention import Judgement
from keep_operator.domain.rollback_to import Asked
from keep_operator.domain.tenancy import TenantSight
from keep_operator.domain.verdict import Handled, Situation
from keep_operator.resources import workflow
from keep_operator.resources.kinds import FIELD_MANAGER, GROUP, Key
from keep_operator.resources.objects import Object
from keep_operator.resources.shapes import DeletionPolicy, Invalid
from keep_operator.resources.workflow import WorkflowSpec

FINALIZER: Final = f"{GROUP}/workflow"
# In the order in which they are shown. Which of them make `Ready` depends on `readyWhen`; `Available` often does not.
LIVING: Final = (
    "DefinitionValid",
    "TenantReady",
    "ProvidersReady",
    "Approved",
    "Deployed",
    "Available",
    "Synced",
)
DEFAULT_DEADLINE: Final = timedelta(seconds=600)
# A deletion that waits for another object is woken by it, in milliseconds; this is for the edge that nobody thought of.
DELETION_RECHECK: Final = timedelta(seconds=5)
# How long a deletion waits for runs if the spec cannot be read.
DEFAULT_GRACE: Final = timedelta(seconds=60)
# How many runs are under way is told this often, and at once where that begins or ends to be none.
RUNS_EVERY: Final = timedelta(minutes=1)
# How long runs are told of while the checklist waits for them; then the next look says so again.
WATCHED: Final = timedelta(days=1)
# As much of a sentence as a hold keeps.
_WHY: Final = 1024
# More than that many are archived by the next looks, a second apart (A-RET-4).
ARCHIVE_AGAIN: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Declared:
    """What the spec says of the row, apart from revisions."""

    external_name: str
    deletion_policy: DeletionPolicy
    suspended: bool
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Observed:
    """One look at the world of a Workflow.

    ``own`` is the lineage whose row carries our marker, ``holder`` another one under the name that the spec asks for,
    with ``holder_state`` telling what has become of that row's object. ``rivals`` are the other live objects that ask
    for the same name, ``heirs`` those that ask for the name which ``own`` has. ``providers`` are those of the tenant by
    the names that definitions use. ``images`` are the WorkflowRevisions that are labelled as ours. ``previous_content``
    is the newest revision's, ``active_content`` the active one's; None where it was not read. ``counted`` are the runs that
    `release.questions` and the checklist ask for, ``ticks`` are the items of the checklist that stand otherwise than is
    remembered. ``important``: its author marks the definition so. ``runs_told_at`` is
    when the status last told how many runs are under way, as far as is known. ``note`` and ``author`` are of the present
    definition, ``source`` as the status has it. ``asked`` is what the annotation `rollback-to` asks for, None once the status
    says that it was handled. ``referenced``: its Tenant owns it, by reference. ``done`` names the last action of this very
    reconcile. ``new_id`` is for the lineage that may begin now.
    """

    object: Object[WorkflowSpec]
    cluster_id: str
    tenant_name: str | None
    tenant: TenantSight | None
    wanted: Wanted | None = None
    own: Lineage | None = None
    holder: Lineage | None = None
    holder_state: HolderState | None = None
    rivals: tuple[Claim, ...] = ()
    heirs: tuple[Claim, ...] = ()
    providers: Mapping[str, ProviderSight] = field(default_factory=dict)
    images: tuple[Image, ...] = ()
    previous_content: Mapping[str, Any] | None = None
    active_content: Mapping[str, Any] | None = None
    counted: Mapping[str, Stats] = field(default_factory=dict)
    ticks: tuple[effects.CheckItem, ...] = ()
    important: bool = False
    runs_told_at: datetime | None = None
    note: str | None = None
    author: Author | None = None
    source: Mapping[str, Any] | None = None
    asked: Asked | None = None
    referenced: bool = True
    done: str | None = None
    new_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Insert:
    """A new lineage, without revisions yet."""

    lineage: Lineage


@dataclass(frozen=True, slots=True)
class Update:
    """Our row shall say this; a changed ``external_name`` is a rename, the id stays."""

    lineage: Lineage
    declared: Declared


@dataclass(frozen=True, slots=True)
class Correct:
    """Our row, changed by other hands, shall say again what is declared (A-DR-1)."""

    lineage: Lineage
    declared: Declared


@dataclass(frozen=True, slots=True)
class HandOver:
    """The lineage passes to another object of this cluster; ``again``: to the same one, restored (ledger Reattached)."""

    lineage: Lineage
    to: Owner
    again: bool = False


@dataclass(frozen=True, slots=True)
class Adopt:
    """A lineage that nobody of this cluster owns becomes ours, with its history (A-AD-1)."""

    lineage: Lineage
    to: Owner
    declared: Declared


@dataclass(frozen=True, slots=True)
class Delete:
    """Our lineage is marked deleted: its name is free, its history stays (A-REV-8)."""

    lineage: Lineage


@dataclass(frozen=True, slots=True)
class Orphan:
    """Our lineage stays, without an owner."""

    lineage: Lineage


@dataclass(frozen=True, slots=True)
class CancelRuns:
    """All runs of the lineage that have not ended shall end."""

    lineage: Lineage


@dataclass(frozen=True, slots=True)
class InsertRevision:
    """The next revision; not made if another has been made since ``lineage`` was read, so that there is no gap (A-REV-5)."""

    lineage: Lineage
    revision: Revision
    content: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Archive:
    """These revisions have no object any more."""

    lineage: Lineage
    numbers: tuple[int, ...]


Action: TypeAlias = (
    Insert
    | Update
    | Correct
    | HandOver
    | Adopt
    | Delete
    | Orphan
    | CancelRuns
    | InsertRevision
    | Take
    | Archive
    | Handle
    | CreateImage
    | DeleteImage
    | PatchImage
)


def external_name(obj: Object[WorkflowSpec]) -> str | None:
    """The name that the spec asks for, None where the spec cannot be read."""
    return None if isinstance(obj.spec, Invalid) else workflow.effective_name(obj.spec, obj.key.name)


def metadata_due(seen: Observed) -> SetMetadata | None:
    """What is missing of finalizer and owner reference; while it is, nobody needs to look for rows."""
    return tenancy.metadata_due(seen.object, seen.tenant, _recorded_tenant(seen), FINALIZER, referenced=seen.referenced)


def plan(seen: Observed, now: datetime) -> Plan[Action]:
    """What to do next; safe to ask as often as one likes, and empty once there is nothing left to do."""
    obj, spec = seen.object, seen.object.spec
    if obj.deleting:
        return _plan_deletion(seen, now)
    if (untied := tenancy.untied(obj, referenced=seen.referenced)) is not None:
        return Plan(actions=(untied,))
    if tenancy.abandoned(obj, seen.tenant, referenced=seen.referenced):
        return _plan_giving_up(seen, now)
    if isinstance(spec, Invalid):
        return _report(seen, conditions.false("Synced", "SpecRefused", f"The spec is not valid: {spec}"), now=now)
    if spec.suspend and seen.own is not None and not seen.own.suspended:
        # The one thing that is written while suspended: runs must stop.
        return Plan(actions=(Update(seen.own, replace(_said(seen.own), suspended=True)),))
    if faults := checklist.faults(spec.release):
        message = f"The spec is not valid: {'; '.join(faults)}"
        return _report(seen, conditions.false("Synced", "SpecRefused", message), now=now)
    made = _plan_active(seen, spec, now)
    return _report(seen, planning.PENDING, fields=_told(seen), now=now) if spec.suspend and made.actions else made


@dataclass(frozen=True, slots=True)
class Questions:
    """What must be read besides the history: runs that are counted, by what for, and the content of what is active."""

    count: Mapping[str, Question] = field(default_factory=dict)
    active_content: bool = False


def questions(seen: Observed, spec: WorkflowSpec) -> Questions:
    """Nothing for most Workflows: only releases that are under way, watched or held up by a gate are asked about."""
    own, asked_of = seen.own, gates_of(seen, spec)
    if own is None:
        return Questions()
    told = next(
        (
            str(each.get("reason"))
            for each in seen.object.status.get("conditions") or ()
            if each.get("type") == "Deployed"
        ),
        "",
    )
    count = {} if own.read_at is None else release.questions(own, asked_of, own.read_at, told=told)
    latest = release.desired_revision(own, seen.wanted.hash_in(own)) if isinstance(seen.wanted, Desired) else None
    if isinstance(seen.wanted, Desired) and (latest is None or not latest.was_active):
        auto = any(each.auto is not None for each in asked_of.checklist)
        if auto and latest is not None:
            count |= {mode: Question(latest.number, latest.created_at, None, mode) for mode in checklist.MODES}
        return Questions(count, auto or asked_of.approval.required == "ImportantOnly")
    return Questions(count)


def situation(seen: Observed, handled: Handled | None, now: datetime | None = None) -> Situation | None:
    """What a decision about this Workflow meets; None while there is no record of it."""
    spec, policy = seen.object.spec, None if seen.tenant is None else seen.tenant.policy
    if seen.own is None or isinstance(spec, Invalid):
        return None
    behind = _judge_memory(seen)
    return Situation(
        lineage=seen.own,
        scene=_scene(seen, spec, seen.own, now),
        pin=release.reference(spec.release.pin),
        gates=gates_of(seen, spec),
        trusted=() if policy is None else policy.trusted_authors,
        handled=handled,
        behind=None if behind is None else behind.message,
    )


def _scene(seen: Observed, spec: WorkflowSpec, own: Lineage, now: datetime | None) -> Scene:
    """What is known besides the history; times of releases are the database's, whatever the clock of this replica says."""
    at = own.read_at or now
    assert at is not None  # whoever has read a lineage has been told the time
    waits, counted = None, seen.counted
    changed: tuple[str, ...] = ()
    if isinstance(seen.wanted, Desired):
        providers = _judge_providers(seen, spec, own, seen.wanted)
        waits = None if providers.truth is Truth.TRUE else providers
        if seen.active_content is not None or own.active is None:
            changed = comparison.compare(seen.active_content or {}, seen.wanted.content).paths
    measured = None
    if "candidate" in counted:
        measured = Measured(counted["candidate"], counted["stable"], counted.get("whole", Stats()))
    return Scene(at, changed, seen.important, waits, measured, counted.get("active"))


def _plan_active(seen: Observed, spec: WorkflowSpec, now: datetime) -> Plan[Action]:
    tenant = seen.tenant
    tenant_ready = tenancy.judge(seen.object, seen.tenant_name, tenant, _recorded_tenant(seen))
    if (metadata := metadata_due(seen)) is not None:
        return Plan(actions=(metadata,))
    if tenant_ready.truth is not Truth.TRUE or tenant is None:
        return _report(seen, tenant_ready, now=now)
    valid = desired.judge(seen.wanted)
    own = _plan_row(seen, spec, tenant, (valid, tenant_ready), now)
    return own if isinstance(own, Plan) else _plan_revisions(seen, spec, own, (valid, tenant_ready), now)


def _plan_row(
    seen: Observed, spec: WorkflowSpec, tenant: TenantSight, so_far: tuple[Finding, ...], now: datetime
) -> Plan[Action] | Lineage:
    """What is left to do about the row before anything can be said of revisions; else our lineage, which may be a new one."""
    obj, own, holder = seen.object, seen.own, seen.holder
    name, me = workflow.effective_name(spec, obj.key.name), tenancy.owner_of(obj, seen.cluster_id)
    if (behind := _judge_memory(seen)) is not None:
        return _report(seen, *so_far, behind, now=now)
    mine = Claim(obj.key, obj.uid, obj.created_at, "", ready_to_own=True, can_own=True, has_record=own is not None)
    held = None if holder is None else Holder(holder.owner, "", seen.holder_state)
    blocked = ownership.judge(
        name, mine, seen.rivals, held, cluster_id=seen.cluster_id, adoption_policy=spec.adoption_policy
    )
    if blocked is not None:
        return _report(seen, *so_far, blocked, fields=_told(seen), now=now)
    if own is not None:
        return _plan_own(seen, spec, own, name, so_far, now) or own
    if holder is not None and holder.owner is not None and holder.owner.cluster_id == seen.cluster_id:
        again = (holder.owner.namespace, holder.owner.name) == (obj.key.namespace, obj.key.name)
        return Plan(actions=(HandOver(holder, me, again),), wakes=() if again else (_key_of(holder.owner),))
    if holder is not None:
        return Plan(actions=(Adopt(holder, me, _declared(spec, name, seen.wanted, holder)),))
    if not isinstance(seen.wanted, Desired):
        return _report(seen, *so_far, now=now)
    assert seen.new_id is not None  # since there is none of ours
    return declaring(Lineage(seen.new_id, tenant.tenant_id, name, me), _declared(spec, name, seen.wanted, None))


def _plan_own(
    seen: Observed, spec: WorkflowSpec, own: Lineage, name: str, so_far: tuple[Finding, ...], now: datetime
) -> Plan[Action] | None:
    """Our row shall say what the spec says; what others did to it is undone, or only told, by ``driftPolicy``."""
    declared = _declared(spec, name, seen.wanted, own)
    wakes = _keys(seen.heirs) if own.external_name != name else ()
    if not own.intact and spec.drift_policy == "Report":
        fields = ", ".join(differences(own, declared)) or "only the checksum"
        drifted = conditions.false(
            "Synced",
            "DriftDetected",
            f"The record {own.id} was changed by other hands: {fields}. Undo it there, or set spec.driftPolicy: Correct.",
        )
        return _report(seen, *so_far, drifted, fields=_told(seen), now=now)
    if not own.intact:
        return Plan(actions=(Correct(own, declared),), wakes=wakes)
    if differences(own, declared) or own.checksum is None:
        return Plan(actions=(Update(own, declared),), wakes=wakes)
    return None


def _plan_revisions(
    seen: Observed, spec: WorkflowSpec, own: Lineage, so_far: tuple[Finding, Finding], now: datetime
) -> Plan[Action]:
    """Revisions, what is active, and their objects; all but a new revision also while the definition cannot be read.

    Rows first, as one: the lineage that begins, its revision, and that this is active, be it what comes of them.
    """
    pin, asked_of = release.reference(spec.release.pin), gates_of(seen, spec)
    rows: list[Action] = [] if seen.own is not None else [Insert(own)]
    contents: dict[int, Mapping[str, Any]] = {}
    found: tuple[Finding, ...]
    if isinstance(seen.wanted, Desired):
        wanted, content_hash = seen.wanted, seen.wanted.hash_in(own)
        if release.desired_revision(own, content_hash) is None or _can_now(own, wanted):
            made = _next_revision(seen, spec, own, wanted, now)
            rows.append(InsertRevision(own, made, wanted.content))
            own = replace(own, latest_number=made.number, revisions=(*own.revisions, made))
        contents[own.latest_number] = wanted.content
        ticked = seen.ticks
        rows += effects.of(own, ticked, FIELD_MANAGER)
        choice = release.choose(
            checklist.ticked(own, ticked, now), content_hash, pin, asked_of, _scene(seen, spec, own, now)
        )
        found = (*so_far, _judge_providers(seen, spec, own, wanted), choice.approved, choice.deployed)
    else:
        valid = so_far[0]
        unread = Finding("Deployed", valid.truth, valid.reason, valid.message)
        choice = release.choose_without(own, pin, asked_of, _scene(seen, spec, own, now), unread)
        found = (*so_far, choice.deployed)
    rows += _release(own, asked_of, choice, own.read_at or now)
    if rows:
        return Plan(actions=tuple(rows))
    asked, met = seen.asked, situation(seen, None, now)
    if asked is not None and asked.handled is None and met is not None:
        return Plan(actions=(rollback_to.handle(seen.object, met, asked, now),))
    kept = _retained(seen, spec, own, pin, now)
    if kept.archive and seen.done != "Archive":
        return Plan(actions=(Archive(own, kept.archive[: retention.BATCH]),))
    if images := mirror.due(seen.object.key.name, own, seen.images, asked_of, choice.approved, contents, now):
        return Plan(actions=images)
    synced = planning.synced(seen.object, seen.done, f'Record {own.id} ("{own.external_name}")')
    counted, recount_in = _count_runs(seen, own, now)
    fields = {"source": seen.source, **_told(seen, choice), **counted}
    fields |= {} if asked is None else {"lastHandledAction": asked.value}
    told = _report(seen, *found, synced, fields=fields, aside=_aside(spec, choice), now=now)
    wake_in = _sooner(_sooner(told.wake_in, recount_in), _again_in(kept, now))
    if waits_for_runs(own, asked_of, choice):
        wake_in = _sooner(wake_in, LOOK_AGAIN)
    return replace(told, wake_in=_sooner(wake_in, choice.wake_in))


def ticks(seen: Observed, spec: WorkflowSpec) -> tuple[effects.CheckItem, ...]:
    """The items of the checklist that are found true by now, or not any more; may take a while, so not on the loop."""
    own, asked_of = seen.own, gates_of(seen, spec)
    if own is None or not isinstance(seen.wanted, Desired):
        return ()
    latest = release.desired_revision(own, seen.wanted.hash_in(own))
    if latest is None or latest.was_active:
        return ()
    counted = {mode: seen.counted.get(mode, Stats()) for mode in checklist.MODES}
    difference = comparison.compare(seen.active_content or {}, seen.wanted.content)
    return checklist.ticks(asked_of.checklist, own, latest, difference, counted)


def _release(own: Lineage, asked_of: Gates, choice: Choice, now: datetime) -> list[Action]:
    """What has to be written so that what was chosen is so."""
    made: list[effects.Effect] = []
    why = ""
    if choice.approve is not None:
        made.append(effects.Approve(own.latest_number, choice.approve))
    if (taken := choice.taken_back) is not None:
        why = taken.why
        back = own.get(taken.number)
        assert back is not None
        made.append(effects.Reject(taken.number, release.ANALYSIS_FAILED))
        if choice.ends_hold:
            made.append(effects.EndHold(own))
        if back.content_hash == (own.latest.content_hash if own.latest else None):
            made.append(
                effects.SetHold(Hold(back.content_hash, taken.target, FIELD_MANAGER, why[:_WHY], now, automatic=True))
            )
    elif own.hold is not None and choice.cause is Cause.ROLLBACK:
        why = own.hold.reason
    if choice.number is not None and choice.number != own.active_number:
        made.append(effects.Activate(own, choice.number, choice.cause, FIELD_MANAGER, why))
    if choice.ends_hold and taken is None:
        made.append(effects.EndHold(own))
    if own.canary is not None and choice.canary is None:
        made.append(effects.EndCanary(own, _outcome(own, choice)))
    elif choice.canary is not None and choice.canary != own.canary:
        made.append(effects.SetCanary(own, choice.canary))
    if (until := _to_watch(own, asked_of, choice, now)) is not None:
        made.append(effects.Watch(until))
    return [*effects.of(own, made, FIELD_MANAGER, why)]


def _to_watch(own: Lineage, asked_of: Gates, choice: Choice, now: datetime) -> datetime | None:
    """Until when runs shall tell of their end from now on, whoever has made active what is watched; None: as it is."""
    guard, last, known = asked_of.guard, own.deployed, own.watched_until
    if choice.number is not None and choice.number != own.active_number:
        # The deployment is later than the look, by less than that.
        return now + guard.window + LOOK_AGAIN if guard is not None and choice.cause.releases else None
    if guard is not None and last is not None and last.cause.releases and now < last.at + guard.window:
        until = last.at + guard.window
        if known is None or known < until:
            return until
    if waits_for_runs(own, asked_of, choice) and (known is None or known < now + WATCHED / 2):
        return now + WATCHED
    return None


def waits_for_runs(own: Lineage, asked_of: Gates, choice: Choice) -> bool:
    """Whether the next run that ends may tick what is left of the checklist."""
    if choice.deployed.reason != "ChecklistIncomplete" or own.latest is None:
        return False
    return any(each.auto is not None for each in gates.open_items(asked_of, own, own.latest))


@dataclass(frozen=True, slots=True)
class RolledBack:
    """What the operator takes back by itself, and how it noticed. ``shown``: the status will tell of it."""

    lineage: Lineage
    number: int
    cause: Cause
    why: str
    shown: bool


def rolled_back(actions: Collection[Any]) -> RolledBack | None:
    """The rollback that is among these actions, if one is."""
    took = [each for each in actions if isinstance(each, Take)]
    shown = any(isinstance(each.effect, effects.SetHold) and each.effect.hold.automatic for each in took)
    for lineage, effect, why in ((each.lineage, each.effect, each.reason) for each in took):
        if isinstance(effect, effects.Reject) and effect.reason == release.ANALYSIS_FAILED:
            cause = Cause.AUTO_ROLLBACK if effect.number == lineage.active_number else Cause.CANARY
            return RolledBack(lineage, effect.number, cause, why, shown)
    return None


def _outcome(own: Lineage, choice: Choice) -> str:
    """What became of a canary, as one word."""
    assert own.canary is not None
    if choice.taken_back is not None and choice.taken_back.number == own.canary.candidate:
        return "Failed"
    return "Promoted" if choice.number == own.canary.candidate else "Superseded"


def _count_runs(seen: Observed, own: Lineage, now: datetime) -> tuple[dict[str, Any], timedelta | None]:
    """The field `runs`, and when it is to be written anew where that is not now."""
    told, running = (seen.object.status.get("runs") or {}).get("running", 0), sum(own.running.values())
    since = None if seen.runs_told_at is None else now - seen.runs_told_at
    if told == running:
        return {}, None
    if bool(told) == bool(running) and since is not None and since < RUNS_EVERY:
        return {}, RUNS_EVERY - since
    return {"runs": {"running": running}}, None


def _told(seen: Observed, choice: Choice | None = None) -> dict[str, Any]:
    """The fields of the status that tell of the history, if there is one."""
    own, wanted = seen.own, seen.wanted
    if own is None:
        return {}
    made_of = release.desired_revision(own, wanted.hash_in(own)) if isinstance(wanted, Desired) else None
    return mirror.told(
        seen.object.key.name,
        own,
        made_of,
        analysis=None if choice is None else choice.analysis,
        awaits_approval=choice is not None and choice.approved.reason == "AwaitingApproval",
    )


def _retained(seen: Observed, spec: WorkflowSpec, own: Lineage, pin: Reference | None, now: datetime) -> Judgement:
    tenant = seen.tenant
    default = None if tenant is None or tenant.defaults is None else tenant.defaults.retention
    policy = retention.policy(spec.revision_history_limit, spec.retention, default)
    spared = {image.number for image in seen.images if image.spared}
    return retention.judge(own, policy, retention.Uses(pin, spared, own.running), now)


def _again_in(kept: Judgement, now: datetime) -> timedelta | None:
    if kept.archive:
        return ARCHIVE_AGAIN
    return None if kept.due is None else kept.due - now


def _sooner(one: timedelta | None, other: timedelta | None) -> timedelta | None:
    return min((each for each in (one, other) if each is not None), default=None)


def _can_now(own: Lineage, wanted: Desired) -> bool:
    """Whether the runtime has learnt what the newest revision needs, which was judged when it was made, and for good."""
    flaw = None if own.latest is None else own.latest.flaw
    return flaw is not None and flaw.reason == str(Reason.ACTION_NOT_SUPPORTED) and wanted.flaw is None


def _next_revision(seen: Observed, spec: WorkflowSpec, own: Lineage, wanted: Desired, now: datetime) -> Revision:
    """The revision that the desired definition is. Tags that another revision has stay there (A-TAG-1)."""
    content_hash = wanted.hash_in(own)
    same = own.with_content(content_hash)
    taken = {tag for each in own.revisions for tag in each.tags}
    summary = None
    if seen.previous_content is not None:
        summary = comparison.summary(comparison.compare(seen.previous_content, wanted.content))
    return Revision(
        number=own.latest_number + 1,
        content_hash=content_hash,
        created_at=now,
        flaw=wanted.flaw,
        parent_number=own.latest_number or None,
        same_content_as=same[0].number if same else None,
        change_note=spec.release.change_note or seen.note or summary,
        author=seen.author,
        created_from_generation=seen.object.generation,
        diff_summary=summary,
        important=seen.important,
        tags=tuple(sorted(set(spec.release.tags) - taken)),
    )


def _declared(spec: WorkflowSpec, name: str, wanted: Wanted | None, known: Lineage | None) -> Declared:
    """What the row shall say. Of a definition that cannot be read the row keeps what it knows."""
    presentation: Mapping[str, Any] = {} if known is None else known.settings.get("presentation") or {}
    disabled = known is not None and bool(known.settings.get("disabled"))
    if isinstance(wanted, Desired):
        presentation, disabled = wanted.presentation, wanted.disabled
    settings: dict[str, Any] = {
        "run": spec.run.model_dump(mode="json", by_alias=True, exclude_none=True),
        "presentation": dict(presentation),
        "disabled": disabled,
    }
    if (max_age := spec.run_history.max_age) is not None:
        settings["runHistory"] = {"maxAgeSeconds": int(max_age.total_seconds())}
    return Declared(name, spec.deletion_policy, spec.suspend or disabled, settings)


def declaring(row: Lineage, declared: Declared) -> Lineage:
    """The row as it shall be."""
    return replace(
        row,
        external_name=declared.external_name,
        deletion_policy=declared.deletion_policy,
        suspended=declared.suspended,
        settings=declared.settings,
    )


def settled(row: Lineage, spec: WorkflowSpec, wanted: Wanted | None) -> Lineage:
    """The row as it is once it says what the spec says, for those who know the spec and not the row."""
    written = declaring(row, _declared(spec, row.external_name, wanted, row))
    return replace(written, checksum=history.checksum(written))


def _said(own: Lineage) -> Declared:
    return Declared(own.external_name, own.deletion_policy, own.suspended, own.settings)


def differences(own: Lineage, declared: Declared) -> list[str]:
    """The names of the fields in which a row differs from what is declared; sorted."""
    said = {
        "deletionPolicy": own.deletion_policy != declared.deletion_policy,
        "externalName": own.external_name != declared.external_name,
        "suspend": own.suspended != declared.suspended,
        "settings": history.text(own.settings) != history.text(declared.settings),
    }
    return sorted(name for name, differs in said.items() if differs)


def gates_of(seen: Observed, spec: WorkflowSpec) -> Gates:
    """What its spec asks for, and its Tenant."""
    defaults, policy = (None, None) if seen.tenant is None else (seen.tenant.defaults, seen.tenant.policy)
    return gates.gates(
        spec.release,
        None if defaults is None else defaults.approval,
        None if policy is None else policy.approval_floor,
        () if policy is None else policy.checklist_floor,
        runtime="builtin" if seen.tenant is None or seen.tenant.runtime is None else seen.tenant.runtime,
    )


def _judge_memory(seen: Observed) -> Finding | None:
    """Whether the object, or its revisions, are known to have had more than the database has (A-REV-13)."""
    status, own, holder = seen.object.status, seen.own, seen.holder
    known_id = status.get("workflowId")
    remedy = "Nothing was written. Was an older dump restored? `keep-operator recover` shows what is missing."
    if own is None:
        found = holder is not None and str(holder.id) == known_id
        orphans = known_id is None and holder is None and any(image.owned for image in seen.images)
        if found or (known_id is None and not orphans):
            return None
        what = f"record {known_id}" if known_id else "record"
        return conditions.false(
            "Synced", "DatabaseBehind", f"The database has no {what} of this object, which it had. {remedy}"
        )
    told = (status.get("latestCreatedRevision") or {}).get("number", 0) if known_id == str(own.id) else 0
    shown = [image.number for image in seen.images if image.lineage_id == str(own.id) and image.owned and image.true]
    highest = max([told, *shown])
    if highest <= own.latest_number:
        return _judge_deployments(status, own, remedy) if known_id == str(own.id) else None
    return conditions.false(
        "Synced",
        "DatabaseBehind",
        f"There has been revision v{highest}, but the database knows v{own.latest_number} as the newest. {remedy}",
    )


def _judge_deployments(status: Mapping[str, Any], own: Lineage, remedy: str) -> Finding | None:
    """Whether something became active of which the database knows nothing: a rollback that was lost must not be undone."""
    unheard = mirror.unheard(status, own)
    if not unheard:
        return None
    what = f"v{unheard[0].get('revision')} became active at {unheard[0].get('at')}"
    return conditions.false("Synced", "DatabaseBehind", f"{what}, of which the database knows nothing. {remedy}")


def _serves(own: Lineage, wanted: Desired) -> bool:
    """Whether what is desired is what is active."""
    return own.active is not None and own.active.content_hash == wanted.hash_in(own)


def _judge_providers(seen: Observed, spec: WorkflowSpec, own: Lineage, wanted: Desired) -> Finding:
    serves = _serves(own, wanted)
    return desired.judge_providers(wanted, seen.providers, policy=spec.dependency_policy, serves=serves)


def _judge_available(seen: Observed, spec: WorkflowSpec, own: Lineage) -> Finding:
    wanted, broken = seen.wanted, None
    if isinstance(wanted, Desired) and _serves(own, wanted):
        gone = [use.name for use in wanted.uses if use.name not in seen.providers]
        broken = f"Provider {', '.join(dict.fromkeys(gone))} is gone" if gone else None
    disabled = wanted.disabled if isinstance(wanted, Desired) else bool(own.settings.get("disabled"))
    return release.available(own, suspended=spec.suspend, disabled=disabled, broken=broken)


def _aside(spec: WorkflowSpec, choice: Choice) -> frozenset[str]:
    """The conditions that are shown, but not summed up in ``Ready`` (A-GO-8, section 8)."""
    if spec.release.ready_when == "Available" or choice.held:
        return frozenset({"Approved", "Deployed"})
    return frozenset()


def _recorded_tenant(seen: Observed) -> str | None:
    return tenancy.recorded(seen.object, None if seen.own is None else seen.own.tenant_id)


def _plan_deletion(seen: Observed, now: datetime) -> Plan[Action]:
    """The row first, by hand-over or by policy; the finalizer goes once no row carries our marker."""
    obj, own, holder = seen.object, seen.own, seen.holder
    if FINALIZER not in obj.finalizers:
        return Plan()
    if own is None and holder is not None and seen.holder_state is HolderState.DELETING:
        # It may just be handing its row to us, having seen us alive; it waits for nobody who is being deleted.
        return _wait_in_deletion(seen, f'{holder.owner} is about to give up the record "{holder.external_name}"', now)
    if own is None:
        kept = tuple(name for name in obj.finalizers if name != FINALIZER)
        return Plan(actions=(SetMetadata(kept, obj.owners),))
    heir = ownership.winner(each for each in seen.heirs if ownership.may_inherit(each, "", own.tenant_id))
    if heir is not None and heir.ready_to_own:
        to = Owner(seen.cluster_id, heir.key.namespace, heir.key.name, heir.uid)
        return Plan(actions=(HandOver(own, to),), wakes=(heir.key,))
    if heir is not None:
        # It will take the row over itself as soon as its finalizer is on, and wake us then.
        return _wait_in_deletion(seen, f'The record "{own.external_name}" passes to {heir.key.path}', now)
    if (draining := _plan_drain(seen, own, now)) is not None:
        return draining
    return Plan(actions=(Orphan(own) if _orphans(obj) else Delete(own),), wakes=_keys(seen.heirs))


def _plan_drain(seen: Observed, own: Lineage, now: datetime) -> Plan[Action] | None:
    """Before the row is marked deleted its runs may end: no new ones, and for a while those that are there; then they are cancelled.

    None: there are none, or the row stays as it is.
    """
    obj, running = seen.object, sum(own.running.values())
    if _orphans(obj) or not running:
        return None
    if not own.suspended:
        return Plan(actions=(Update(own, replace(_said(own), suspended=True)),))
    assert obj.deleted_at is not None
    grace = DEFAULT_GRACE if isinstance(obj.spec, Invalid) else timedelta(seconds=obj.spec.deletion_grace_seconds)
    left = obj.deleted_at + grace - now
    if left <= timedelta():
        return Plan(actions=(CancelRuns(own), Delete(own)), wakes=_keys(seen.heirs))
    message = f"Waiting for {running} run(s) to end; after spec.deletionGraceSeconds they are cancelled"
    draining = conditions.true("Deleting", "DrainingRuns", message)
    return replace(_report_deletion(seen, draining, now), wake_in=min(left, DELETION_RECHECK))


def _plan_giving_up(seen: Observed, now: datetime) -> Plan[Action]:
    """The Tenant goes for good: the row goes by its policy with the objects of its revisions, the Workflow stays (A-GO-9)."""
    obj, own = seen.object, seen.own
    rows: tuple[Action, ...] = () if own is None else (Orphan(own) if _orphans(obj) else Delete(own),)
    if own is not None and own.running and not _orphans(obj):
        rows = (CancelRuns(own), *rows)
    if actions := (*rows, *(DeleteImage(own, image, wrong=False) for image in seen.images)):
        return Plan(actions=actions)
    assert seen.tenant is not None
    abnormal = () if isinstance(obj.spec, Invalid) or not obj.spec.suspend else (planning.SUSPENDED,)
    return tenancy.given_up(obj, seen.tenant, _deadline(obj), abnormal, now)


def _orphans(obj: Object[WorkflowSpec]) -> bool:
    """Whether the row stays; also where the spec cannot be read, since deleting cannot be taken back."""
    return isinstance(obj.spec, Invalid) or obj.spec.deletion_policy == "Orphan"


def _wait_in_deletion(seen: Observed, message: str, now: datetime) -> Plan[Action]:
    waiting = conditions.true("Deleting", "Finalizing", message)
    return replace(_report_deletion(seen, waiting, now), wake_in=DELETION_RECHECK)


def _report_deletion(seen: Observed, waiting: Finding, now: datetime) -> Plan[Action]:
    known = planning.known_before(seen.object, LIVING, conditions.unknown("Synced", "Deleting", waiting.message))
    return planning.report(seen.object, known, abnormal=[waiting], now=now)


def _report(
    seen: Observed,
    *found: Finding,
    fields: Mapping[str, Any] | None = None,
    aside: Collection[str] | None = None,
    now: datetime,
) -> Plan[Action]:
    """Report what was found; of the conditions that this look did not reach, what was True before still stands.

    ``aside`` names those that are shown and not summed up; None: `Approved` and `Deployed` by what the spec says.
    `Available` is summed up only where `readyWhen` says so.
    """
    obj, spec, own = seen.object, seen.object.spec, seen.own
    available_counts = not isinstance(spec, Invalid) and spec.release.ready_when == "Available"
    if own is not None:
        fields = {
            "workflowId": str(own.id),
            "tenantId": own.tenant_id,
            **(fields or {}),
        }
        if not isinstance(spec, Invalid):
            found = (*found, _judge_available(seen, spec, own))
    old = obj.status.get("conditions") or ()
    reached = {each.type for each in found}
    rest = [it for kind in LIVING if kind not in reached and (it := planning.carried(old, kind)) is not None]
    ordered = sorted([*found, *rest], key=lambda each: LIVING.index(each.type))
    apart = set(aside if aside is not None else {"Approved", "Deployed"} if available_counts else ())
    if not available_counts:
        apart.add("Available")
    abnormal = [each for each in ordered if each.type in apart]
    if not isinstance(spec, Invalid) and spec.suspend:
        abnormal.append(planning.SUSPENDED)
    return planning.report(
        obj,
        [each for each in ordered if each.type not in apart],
        abnormal=abnormal,
        fields=fields,
        deadline=_deadline(obj),
        now=now,
    )


def _deadline(obj: Object[WorkflowSpec]) -> timedelta:
    seconds = None if isinstance(obj.spec, Invalid) else obj.spec.progress_deadline_seconds
    return DEFAULT_DEADLINE if seconds is None else timedelta(seconds=seconds)


def _keys(claims: tuple[Claim, ...]) -> tuple[Key, ...]:
    return tuple(claim.key for claim in claims)


def _key_of(owner: Owner) -> Key:
    return Key("Workflow", owner.namespace, owner.name)
