"""What an older dump has cost of workflows, and how the cluster gives it back: by what its objects remember (A-REV-13).

::

    Workflow          id, name, owner, what was active when, the rollback in force ─┐
    WorkflowRevision  number, content, when it was active, rejection, tags          ├──► the lineage as it was
    WorkflowDecision  that it was handled, and how                                 ─┘

Ids, numbers and hashes stay as they were. Nothing is taken from a lineage of which the objects do not know more than the
database: a status may be older than its row, and then the row is right.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, TypeAlias
from uuid import UUID

from keep_operator.domain import conditions, decision, desired, mirror, revision
from keep_operator.domain.desired import Desired
from keep_operator.domain.history import Author, Cause, Deployment, Flaw, Hold, Lineage, Revision
from keep_operator.domain.ownership import Owner
from keep_operator.domain.verdict import Handled
from keep_operator.resources import workflow
from keep_operator.resources.decision import WorkflowDecisionSpec
from keep_operator.resources.kinds import Key
from keep_operator.resources.objects import Object
from keep_operator.resources.revision import WorkflowRevisionSpec
from keep_operator.resources.shapes import Invalid
from keep_operator.resources.workflow import WorkflowSpec

_FLAWED: Final = "False"


@dataclass(frozen=True, slots=True)
class Make:
    """The lineage is to be made again, without revisions at first."""

    key: Key
    lineage: Lineage


@dataclass(frozen=True, slots=True)
class Give:
    """The lineage is there, and is to be given back to the object, as ``declared``."""

    key: Key
    lineage: Lineage
    declared: Lineage


@dataclass(frozen=True, slots=True)
class Remove:
    """A lineage that came back with the dump, and whose object is gone, stands in the way and is to be deleted again."""

    key: Key
    lineage: Lineage


@dataclass(frozen=True, slots=True)
class MakeRevision:
    """The revision is to be made again, with its number and content; ``name`` is its object's."""

    key: Key
    lineage: Lineage
    revision: Revision
    content: Mapping[str, Any]
    name: str


@dataclass(frozen=True, slots=True)
class Skip:
    """Nobody has the content of this revision any more: its number is not given again."""

    key: Key
    lineage: Lineage
    number: int


@dataclass(frozen=True, slots=True)
class Recall:
    """When the revision was active, what was said of its content, and its tags; ``name`` is its object's.

    ``rejected`` is the reason for which it is to be rejected, ``cleared``: it is not rejected any more.
    """

    key: Key
    lineage: Lineage
    number: int
    name: str
    content_hash: str
    first_active_at: datetime | None = None
    last_active_at: datetime | None = None
    rejected: str | None = None
    cleared: bool = False
    tags: tuple[str, ...] = ()
    untagged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Redeploy:
    """These deployments are to be noted again, the oldest first, and what was active last is active."""

    key: Key
    lineage: Lineage
    deployments: tuple[Deployment, ...]
    active_number: int


@dataclass(frozen=True, slots=True)
class Rehold:
    """The rollback that was in force is in force again; None: the one that came back with the dump is over."""

    key: Key
    lineage: Lineage
    hold: Hold | None


@dataclass(frozen=True, slots=True)
class Rehandle:
    """The decision was handled, and is not to be carried out again."""

    key: Key
    lineage: Lineage
    decision: Key
    uid: str
    handled: Handled


@dataclass(frozen=True, slots=True)
class Blocked:
    """A person must decide first; ``why`` names the fact and the remedy."""

    key: Key
    record_id: UUID
    why: str


Step: TypeAlias = Make | Give | Remove | MakeRevision | Skip | Recall | Redeploy | Rehold | Rehandle | Blocked


@dataclass(frozen=True, slots=True)
class Cluster:
    """What the cluster remembers: its Workflows, and all WorkflowRevisions and WorkflowDecisions."""

    id: str
    workflows: Sequence[Object[WorkflowSpec]]
    revisions: Sequence[Object[WorkflowRevisionSpec]] = ()
    decisions: Sequence[Object[WorkflowDecisionSpec]] = ()


@dataclass(frozen=True, slots=True)
class Database:
    """What the database has: all lineages without histories, those that are asked for with them, and the tenants' ids.

    ``known`` are lineages that objects remember, by id, deleted ones too; ``handled`` the requests that were handled of each.
    """

    rows: Sequence[Lineage]
    known: Mapping[UUID, Lineage] = field(default_factory=dict)
    handled: Mapping[UUID, AbstractSet[str]] = field(default_factory=dict)
    tenants: AbstractSet[str] = frozenset()


def remembered(obj: Object[Any]) -> UUID | None:
    """The id of the lineage that a Workflow is known to have had; None while it is on its way out, or has none."""
    if obj.deleting:
        return None
    try:
        return UUID(obj.status["workflowId"])
    except (KeyError, ValueError):
        return None


def latest_told(obj: Object[Any]) -> int:
    """The highest number of a revision that a Workflow's status tells of, 0 if none."""
    return int((obj.status.get("latestCreatedRevision") or {}).get("number", 0))


def plan(cluster: Cluster, database: Database, now: datetime) -> list[Step]:
    """The steps in their order, those of one Workflow together; empty when the database knows all that objects remember.

    Safe to repeat: what has been done is not planned again.
    """
    steps: list[Step] = []
    for obj in sorted(cluster.workflows, key=lambda each: each.key):
        if (record_id := remembered(obj)) is not None:
            steps += _plan_one(obj, record_id, cluster, database, now)
    return steps


def _plan_one(
    obj: Object[WorkflowSpec], record_id: UUID, cluster: Cluster, database: Database, now: datetime
) -> Iterable[Step]:
    known = database.known.get(record_id)
    mine = Owner(cluster.id, obj.key.namespace, obj.key.name, obj.uid)
    if known is not None and known.deleted_at is None and _owns(mine, known):
        return _plan_history(obj, known, cluster, database, now)
    live = {each.uid for each in cluster.workflows}
    if (why := _obstacle(obj, mine, known, live, database)) is not None:
        return [Blocked(obj.key, record_id, why)]
    assert not isinstance(obj.spec, Invalid)  # that is an obstacle
    declared = Lineage(
        record_id,
        str(obj.status.get("tenantId")),
        workflow.effective_name(obj.spec, obj.key.name),
        mine,
        obj.spec.deletion_policy,
        obj.spec.suspend,
    )
    steps: list[Step] = []
    holder = _holder(declared, database)
    if holder is not None and holder.id != record_id:
        if _state(holder, cluster.id, live) != "gone" or holder.deletion_policy == "Orphan":
            whose = "nobody owns: `keep-operator prune`" if holder.owner is None else f"{holder.owner} has or had"
            name = declared.external_name
            return [Blocked(obj.key, record_id, f'the name "{name}" is held by record {holder.id}, which {whose}')]
        steps.append(Remove(obj.key, holder))
    if known is None:
        steps.append(Make(obj.key, declared))
        return [*steps, *_plan_history(obj, declared, cluster, database, now)]
    given = replace(known, owner=mine, external_name=declared.external_name)
    steps.append(Give(obj.key, known, given))
    return [*steps, *_plan_history(obj, given, cluster, database, now)]


def _obstacle(
    obj: Object[WorkflowSpec], mine: Owner, known: Lineage | None, live: AbstractSet[str], database: Database
) -> str | None:
    if any(_owns(mine, row) for row in database.rows):
        return "the object has another record by now; delete one of the two"
    if isinstance(obj.spec, Invalid):
        return "its spec cannot be read; correct it first"
    if known is not None and known.deleted_at is not None:
        return "its record was deleted, and nothing brings that back; delete the object and make it again"
    if known is not None and _state(known, mine.cluster_id, live) in ("ours", "another cluster"):
        return f"the record belongs to {known.owner}, which must give it up first"
    if obj.status.get("tenantId") not in database.tenants:
        return f'tenant "{obj.status.get("tenantId")}" has no row; its Tenant must become Ready first'
    return None


def _owns(mine: Owner, row: Lineage) -> bool:
    return row.owner is not None and (row.owner.cluster_id, row.owner.uid) == (mine.cluster_id, mine.uid)


def _state(row: Lineage, cluster_id: str, live: AbstractSet[str]) -> str:
    if row.owner is None:
        return "nobody"
    if row.owner.cluster_id != cluster_id:
        return "another cluster"
    return "ours" if row.owner.uid in live else "gone"


def _holder(declared: Lineage, database: Database) -> Lineage | None:
    place = (declared.tenant_id, declared.external_name)
    return next((row for row in database.rows if (row.tenant_id, row.external_name) == place), None)


def _plan_history(
    obj: Object[WorkflowSpec], lineage: Lineage, cluster: Cluster, database: Database, now: datetime
) -> list[Step]:
    """What the lineage lacks. Only if it lacks something of which there can be only more is the rest believed, too."""
    images = {each.spec.number: each for each in cluster.revisions if _is_true(each, obj, lineage)}  # type: ignore[union-attr]
    steps: list[Step] = [*_plan_revisions(obj, lineage, images, now)]
    there = {each.number for each in lineage.revisions}
    there |= {step.revision.number for step in steps if isinstance(step, MakeRevision)}
    deployments = tuple(each for each in _missing_deployments(obj, lineage) if each.revision in there)
    about = [each for each in cluster.decisions if _was_about(each, obj)]
    handled = [*_plan_decisions(obj, lineage, about, database.handled.get(lineage.id, frozenset()))]
    if not steps and not deployments and not handled:
        return []
    judged: set[str] = set()
    for number in sorted(there & images.keys()):
        recalled = _recall(obj, lineage, images[number])
        if recalled.content_hash in judged:
            # A verdict is about a content, and each of its revisions shows it.
            recalled = replace(recalled, rejected=None, cleared=False)
        judged.add(recalled.content_hash)
        if recalled != Recall(obj.key, lineage, number, recalled.name, recalled.content_hash):
            steps.append(recalled)
    active = (obj.status.get("activeRevision") or {}).get("number")
    if active in there and (deployments or active != lineage.active_number):
        steps.append(Redeploy(obj.key, lineage, deployments, active))
    steps += _plan_hold(obj, lineage, there)
    return [*steps, *handled]


def _is_true(image: Object[WorkflowRevisionSpec], obj: Object[WorkflowSpec], lineage: Lineage) -> bool:
    """Whether an object is a revision of the lineage and says the truth about its content."""
    spec = image.spec
    if isinstance(spec, Invalid) or spec.lineage_id != str(lineage.id) or image.generation != 1:
        return False
    if (
        not any(owner.get("uid") == obj.uid for owner in image.owners)
        or spec.hash_version not in revision.PRESENTATIONAL
    ):
        return False
    try:
        return revision.content_hash(spec.definition, spec.hash_version) == spec.content_hash
    except revision.Unhashable:
        return False


def _plan_revisions(
    obj: Object[WorkflowSpec],
    lineage: Lineage,
    images: Mapping[int, Object[WorkflowRevisionSpec]],
    now: datetime,
) -> Iterator[MakeRevision | Skip]:
    highest = lineage.latest_number
    for number in sorted(images.keys() - {each.number for each in lineage.revisions}):
        image = images[number]
        assert not isinstance(image.spec, Invalid)  # see `_is_true`
        yield MakeRevision(obj.key, lineage, _revision_of(image, image.spec), image.spec.definition, image.key.name)
        highest = max(highest, number)
    told = obj.status.get("latestCreatedRevision") or {}
    if (number := latest_told(obj)) <= highest:
        return
    wanted = None
    if not isinstance(obj.spec, Invalid) and obj.spec.definition is not None:
        wanted = desired.read(obj.spec.definition)
    if isinstance(wanted, Desired) and wanted.hashes[revision.HASH_VERSION] == told.get("contentHash"):
        made = Revision(
            number,
            told["contentHash"],
            now,
            hash_version=revision.HASH_VERSION,
            flaw=wanted.flaw,
            parent_number=number - 1 or None,
            created_from_generation=obj.generation,
        )
        yield MakeRevision(obj.key, lineage, made, wanted.content, mirror.object_name(obj.key.name, made))
    else:
        yield Skip(obj.key, lineage, number)


def _revision_of(image: Object[WorkflowRevisionSpec], spec: WorkflowRevisionSpec) -> Revision:
    valid = next((each for each in image.status.get("conditions") or () if each["type"] == "Valid"), None)
    flaw = None
    if valid is None:
        wanted = desired.read(spec.definition)
        flaw = wanted.flaw if isinstance(wanted, Desired) else wanted
    elif valid["status"] == _FLAWED:
        flaw = Flaw(valid["reason"], valid["message"])
    first = _time(image.status.get("firstActiveAt"))
    return Revision(
        number=spec.number,
        content_hash=spec.content_hash,
        created_at=image.created_at if first is None else min(first, image.created_at),
        hash_version=spec.hash_version,
        flaw=flaw,
        parent_number=spec.parent_number,
        change_note=spec.change_note,
        author=None if spec.author is None else Author(spec.author.username, spec.author.source),
        created_from_generation=spec.created_from_generation,
        diff_summary=image.status.get("diffSummary"),
    )


def _recall(obj: Object[WorkflowSpec], lineage: Lineage, image: Object[WorkflowRevisionSpec]) -> Recall:
    spec = image.spec
    assert not isinstance(spec, Invalid)  # see `_is_true`
    row = lineage.get(spec.number)
    verdict = next((each for each in image.status.get("conditions") or () if each["type"] == "Rejected"), None)
    known = next((each.rejected for each in lineage.with_content(spec.content_hash) if each.rejected), None)
    tags, had = set(image.status.get("tags") or ()), set(row.tags if row else ())
    return Recall(
        obj.key,
        lineage,
        spec.number,
        image.key.name,
        spec.content_hash,
        _newer(image.status.get("firstActiveAt"), row.first_active_at if row else None),
        _newer(image.status.get("lastActiveAt"), row.last_active_at if row else None),
        rejected=verdict["reason"] if verdict is not None and known is None else None,
        cleared=verdict is None and known is not None and bool(image.status.get("conditions")),
        tags=tuple(sorted(tags - had)),
        untagged=tuple(sorted(had - tags)),
    )


def _newer(told: str | None, known: datetime | None) -> datetime | None:
    """The time that a status tells, if it is none that the row has, in whole seconds."""
    if told is None or (known is not None and conditions.rfc3339(known) >= told):
        return None
    return _time(told)


def _time(told: str | None) -> datetime | None:
    return None if told is None else datetime.fromisoformat(told)


def _missing_deployments(obj: Object[WorkflowSpec], lineage: Lineage) -> list[Deployment]:
    """What the status tells of and the row does not know, the oldest first."""
    found: list[Deployment] = []
    before = lineage.active_number
    for each in reversed(mirror.unheard(obj.status, lineage)):
        cause = Cause(each["reason"]) if each.get("reason") in list(Cause) else Cause.ALL_AT_ONCE
        at = datetime.fromisoformat(each["at"])
        found.append(Deployment(each["revision"], before, cause, each.get("actor") or "", at))
        before = each["revision"]
    return found


def _plan_hold(obj: Object[WorkflowSpec], lineage: Lineage, there: AbstractSet[int]) -> Iterator[Rehold]:
    told = obj.status.get("hold")
    if told is None:
        if lineage.hold is not None:
            yield Rehold(obj.key, lineage, None)
        return
    hold = Hold(
        told["rejectedHash"],
        told["target"],
        told["actor"],
        told["reason"],
        datetime.fromisoformat(told["since"]),
        bool(told.get("automatic")),
    )
    known = lineage.hold
    if known is not None:
        known = replace(known, since=known.since.replace(microsecond=0), request_id=None)
    if hold.target in there and hold != known:
        yield Rehold(obj.key, lineage, hold)


def _was_about(obj: Object[WorkflowDecisionSpec], about: Object[WorkflowSpec]) -> bool:
    """Whether it was handled by what the database knew of this Workflow; one that was not has no entry of the ledger."""
    told = decision.is_handled(obj) and obj.status.get("ledgerId") is not None and "handledAt" in obj.status
    return told and any(owner.get("uid") == about.uid for owner in obj.owners)


def _plan_decisions(
    obj: Object[WorkflowSpec],
    lineage: Lineage,
    about: Iterable[Object[WorkflowDecisionSpec]],
    known: AbstractSet[str],
) -> Iterator[Rehandle]:
    done: set[str] = set()
    for each in sorted(about, key=lambda it: (it.status["handledAt"], it.condition("Handled") != "True", it.key)):
        spec = each.spec
        if isinstance(spec, Invalid) or spec.request_id in known | done:
            continue
        done.add(spec.request_id)
        told = next(it for it in each.status["conditions"] if it["type"] == "Handled")
        handled = Handled(
            spec.request_id,
            spec.action,
            told["reason"],
            told["message"],
            datetime.fromisoformat(each.status["handledAt"]),
            from_number=each.status.get("from"),
            to_number=each.status.get("to"),
        )
        yield Rehandle(obj.key, lineage, each.key, each.uid, handled)
