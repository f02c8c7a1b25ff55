"""What the cluster shows of a history: the WorkflowRevisions of a workflow, and fields of the Workflow's status.

All of it is the image of rows, never their source: an object that is missing is made again, one that does not agree is
removed and made again, one of an archived revision goes.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from keep_operator.domain import conditions, gates
from keep_operator.domain.conditions import Finding, Truth
from keep_operator.domain.gates import Gates
from keep_operator.domain.history import SHORT_HASH, Lineage, Revision
from keep_operator.resources.kinds import GROUP

_LABEL_LIMIT: Final = 63
_NAME_LIMIT: Final = 200
# So many digits of a hash fit into a label and are plenty to select by.
_LABEL_HASH: Final = 16
_TAG: Final = f"tag.{GROUP}/"
# How many deployments the status shows; the database has all (A-HIS-5).
HISTORY_LIMIT: Final = 10
# How many approvals and items of a checklist a revision shows.
_LIST_LIMIT: Final = 32
# The generation of an object that has just been made.
NEW: Final = 1


@dataclass(frozen=True, slots=True)
class Image:
    """One WorkflowRevision as it is. ``true``: its content has the hash that it says; ``owned``: our Workflow owns it.

    ``left``: an object that had the Workflow's name before owns it.
    """

    name: str
    uid: str
    resource_version: str
    generation: int
    lineage_id: str
    number: int
    content_hash: str
    labels: Mapping[str, str]
    status: Mapping[str, Any]
    true: bool = True
    owned: bool = True
    left: bool = False
    spared: bool = False
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class CreateImage:
    """The object of a revision, and what its status says then. ``content`` None: it is read from the row."""

    lineage: Lineage
    revision: Revision
    name: str
    labels: Mapping[str, str]
    status: Mapping[str, Any]
    content: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class DeleteImage:
    """An object goes; ``wrong``: because it does not agree with its row, which a person should know. None: with its row."""

    lineage: Lineage | None
    image: Image
    wrong: bool


@dataclass(frozen=True, slots=True)
class PatchImage:
    """An object's labels (None takes one off) and status shall say this; empty: they do."""

    image: Image
    labels: Mapping[str, str | None]
    status: Mapping[str, Any]


def object_name(workflow: str, revision: Revision) -> str:
    """``<workflow>-v<number>-<hash>``; a long workflow's name is cut and gets a hash."""
    return f"{_cut(workflow, _NAME_LIMIT)}-v{revision.number}-{revision.content_hash[:SHORT_HASH]}"


def labels(workflow: str, lineage: Lineage, revision: Revision) -> dict[str, str]:
    """All labels of a revision's object; nothing is copied from the Workflow (A-REV-9)."""
    return {
        "app.kubernetes.io/managed-by": "keep-operator",
        f"{GROUP}/workflow": label_value(workflow),
        f"{GROUP}/revision": str(revision.number),
        f"{GROUP}/content-hash": revision.content_hash[:_LABEL_HASH],
        f"{GROUP}/tenant": label_value(lineage.tenant_id),
        **{f"{_TAG}{label_value(tag)}": "" for tag in revision.tags},
    }


def label_value(text: str) -> str:
    """What stands in a label for a name: itself, or its beginning and a hash where it is too long for one."""
    return _cut(text, _LABEL_LIMIT)


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    return f"{text[: limit - 9].rstrip('-.')}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def due(
    workflow: str,
    lineage: Lineage,
    images: Sequence[Image],
    gates_: Gates,
    approved: Finding | None,
    contents: Mapping[int, Mapping[str, Any]],
    now: datetime,
) -> tuple[DeleteImage | CreateImage | PatchImage, ...]:
    """What does not agree with its row or is archived goes, what is missing is made, what has news to tell is told it.

    ``approved`` is what is to be said of the newest; ``contents`` are those that are known, by number. Empty when the objects
    say what the rows say.
    """
    wanted = {each.number: each for each in lineage.revisions if each.archived_at is None}
    told = _Teller(workflow, lineage, gates_, approved, now)
    shown: set[int] = set()
    deleted: list[DeleteImage] = []
    patched: list[PatchImage] = []
    for image in images:
        row = lineage.get(image.number)
        if row is None or not _agrees(workflow, lineage, image, row) or image.number in shown:
            deleted.append(DeleteImage(lineage, image, wrong=not image.left))
        elif image.number not in wanted:
            deleted.append(DeleteImage(lineage, image, wrong=False))
        else:
            shown.add(image.number)
            patched += told.news(image, row)
    created = [told.first(each, contents.get(number)) for number, each in wanted.items() if number not in shown]
    return (*deleted, *created, *patched)


def _agrees(workflow: str, lineage: Lineage, image: Image, row: Revision) -> bool:
    return (
        image.true
        and image.owned
        and image.lineage_id == str(lineage.id)
        and image.content_hash == row.content_hash
        and image.name == object_name(workflow, row)
    )


class _Teller:
    """What the objects of a lineage shall say."""

    def __init__(self, workflow: str, lineage: Lineage, gates_: Gates, approved: Finding | None, now: datetime) -> None:
        self._workflow = workflow
        self._lineage = lineage
        self._gates = gates_
        self._approved = approved
        self._now = now
        self._rejected, self._denied = lineage.verdicts()

    def first(self, revision: Revision, content: Mapping[str, Any] | None) -> CreateImage:
        """The object of a revision that has none."""
        name, marks = object_name(self._workflow, revision), labels(self._workflow, self._lineage, revision)
        return CreateImage(self._lineage, revision, name, marks, self._status(revision, {}, NEW), content)

    def news(self, image: Image, revision: Revision) -> list[PatchImage]:
        """What an object does not say yet, or not any more."""
        shall = labels(self._workflow, self._lineage, revision)
        changed: dict[str, str | None] = {key: it for key, it in shall.items() if image.labels.get(key) != it}
        changed |= {key: None for key in image.labels if key.startswith(_TAG) and key not in shall}
        status = self._status(revision, image.status, image.generation)
        if not changed and status == image.status:
            return []
        return [PatchImage(image, changed, status if status != image.status else {})]

    def _status(self, revision: Revision, before: Mapping[str, Any], generation: int) -> dict[str, Any]:
        rejected, denied = (of.get(revision.content_hash) for of in (self._rejected, self._denied))
        open_ = self._is_approved(revision)
        findings = _findings(self._lineage, revision, rejected, denied, open_=open_)
        checklist = self._checklist(revision)
        if checklist or (self._gates.checklist and revision is self._lineage.latest and not revision.was_active):
            findings.append(self._complete(revision))
        fields = {
            "approvals": [
                {"actor": each.actor, "decision": "Approve" if each.approves else "Deny", "at": _time(each.at)}
                for each in self._lineage.reviews
                if each.number == revision.number
            ][-_LIST_LIMIT:]
            or None,
            "checklist": checklist or None,
            "sameContentAs": revision.same_content_as,
            "firstActiveAt": _time(revision.first_active_at),
            "lastActiveAt": _time(revision.last_active_at),
            "tags": list(revision.tags) or None,
            "diffSummary": revision.diff_summary,
        }
        kept = {key: value for key, value in before.items() if key not in fields}
        old = before.get("conditions") or ()
        return {
            **kept,
            **{key: value for key, value in fields.items() if value is not None},
            "observedGeneration": generation,
            "conditions": conditions.merge(old, findings, generation=generation, now=self._now),
        }

    def _is_approved(self, revision: Revision) -> bool:
        if revision.approved is not None or revision.was_active or self._gates.approval.required == "Never":
            return True
        latest = self._lineage.latest
        return revision is latest and self._approved is not None and self._approved.truth is Truth.TRUE

    def _checklist(self, revision: Revision) -> list[dict[str, Any]]:
        return [
            {"id": each.item, "done": each.done, "by": each.by, "at": _time(each.at)}
            for each in self._lineage.checks
            if each.number == revision.number
        ][:_LIST_LIMIT]

    def _complete(self, revision: Revision) -> Finding:
        left = gates.open_items(self._gates, self._lineage, revision)
        if left and not revision.was_active:
            names = ", ".join(each.id for each in left)
            return conditions.false("ChecklistComplete", "ItemsOpen", f"Left to do: {names}")
        return conditions.true("ChecklistComplete", "Complete", "Nothing is left to do")


def _time(at: datetime | None) -> str | None:
    return None if at is None else conditions.rfc3339(at)


def _findings(
    lineage: Lineage, revision: Revision, rejected: str | None, denied: str | None, *, open_: bool
) -> list[Finding]:
    found = [_ready(revision, denied, open_=open_)]
    if revision.flaw is None:
        found.append(conditions.true("Valid", "Valid", "The definition can run"))
    else:
        found.append(conditions.false("Valid", revision.flaw.reason, revision.flaw.message))
    if revision.approved is not None:
        found.append(conditions.true("Approved", revision.approved, "It may run, whatever is asked for later"))
    elif revision.was_active:  # not before: it is final, and approval may still be asked for
        found.append(conditions.true("Approved", "NotRequired", "No approval was asked for"))
    elif denied is not None:
        reason = denied if revision.denied is not None else "DeniedByContent"
        found.append(conditions.true("Denied", reason, "Its content was denied"))
    found.append(_active(lineage, revision))
    if rejected is not None:
        found.append(conditions.true("Rejected", rejected, "Its content was rejected; the decision Retry clears that"))
    return found


def _ready(revision: Revision, denied: str | None, *, open_: bool) -> Finding:
    if not revision.valid:
        return conditions.false("Ready", "Invalid", "The definition cannot run")
    if denied is not None:
        return conditions.false("Ready", "Denied", "Its content was denied")
    if not open_:
        return conditions.unknown("Ready", "AwaitingApproval", "Approval is asked for")
    return conditions.true("Ready", "Ready", "It may run")


def _active(lineage: Lineage, revision: Revision) -> Finding:
    tried = lineage.canary
    if lineage.active_number == revision.number:
        if tried is None:
            return conditions.true("Active", "Active", "It takes runs")
        return conditions.true(
            "Active", "Stable", f"It takes the runs that v{tried.candidate}, which is tried, does not"
        )
    if tried is not None and tried.candidate == revision.number:
        return conditions.true("Active", "Canary", "It is tried with a part of the runs")
    if revision.was_active:
        return conditions.false("Active", "Reserve", "It was active, and can be gone back to")
    if lineage.latest is not None and lineage.latest.number != revision.number:
        return conditions.false("Active", "Superseded", "A newer one came before it could be active")
    return conditions.false("Active", "NeverActive", "It has not been active")


def told(
    workflow: str,
    own: Lineage,
    desired: Revision | None,
    *,
    analysis: Mapping[str, Any] | None = None,
    awaits_approval: bool = False,
) -> dict[str, Any]:
    """The fields of the Workflow's status that tell of the history; None takes one out.

    ``analysis`` is that of the canary, ``awaits_approval`` says so of what is desired.
    """
    eligible = own.all_eligible()
    active, hold, tried = own.active, own.hold, own.canary
    since = next((each for each in own.deployments if each.revision == own.active_number), None)
    return {
        "desiredRevision": _pointer(workflow, desired),
        "latestCreatedRevision": _pointer(workflow, own.latest),
        "latestReadyRevision": _pointer(workflow, eligible[-1] if eligible else None),
        "activeRevision": None
        if active is None
        else {
            **(_pointer(workflow, active) or {}),
            **({} if since is None else {"since": conditions.rfc3339(since.at), "reason": str(since.cause)}),
        },
        "hold": None
        if hold is None
        else {
            "rejectedHash": hold.rejected_hash,
            "target": hold.target,
            "actor": hold.actor,
            "reason": hold.reason,
            "since": conditions.rfc3339(hold.since),
            "automatic": hold.automatic,
        },
        "stableRevision": None if tried is None else _pointer(workflow, active),
        "canary": None
        if tried is None
        else {
            "revision": tried.candidate,
            "weight": tried.weight,
            "stepIndex": tried.step,
            "stepStartedAt": conditions.rfc3339(tried.step_since),
            **({} if tried.paused is None else {"paused": True}),
            **({} if analysis is None else {"analysis": dict(analysis)}),
        },
        "traffic": None if active is None else _traffic(own, active),
        "pendingApprovals": int(awaits_approval) or None,
        "history": [
            {
                "revision": each.revision,
                "at": conditions.rfc3339(each.at),
                "reason": str(each.cause),
                "actor": each.actor,
            }
            for each in own.deployments[:HISTORY_LIMIT]
        ],
        "revisionCount": len(own.revisions),
    }


def _traffic(own: Lineage, active: Revision) -> list[dict[str, Any]]:
    shares = {active.number: 100}
    if own.canary is not None and own.canary.weight:
        shares = {active.number: 100 - own.canary.weight, own.canary.candidate: own.canary.weight}
    return [
        {"revision": number, "percent": percent} | ({"tag": tags[0]} if (tags := _tags(own, number)) else {})
        for number, percent in shares.items()
    ]


def _tags(own: Lineage, number: int) -> tuple[str, ...]:
    found = own.get(number)
    return () if found is None else found.tags


def unheard(status: Mapping[str, Any], own: Lineage) -> Sequence[Mapping[str, Any]]:
    """The deployments that a Workflow's status tells of and its row does not know, the newest first; of an older dump (A-REV-13).

    A status that is older than its row tells nothing new. Times in a status are whole seconds, so places count, not times.
    """
    told: Sequence[Mapping[str, Any]] = status.get("history") or ()
    said = [(each.get("revision"), str(each.get("at")), each.get("reason")) for each in told]
    known = [(each.revision, conditions.rfc3339(each.at), str(each.cause)) for each in own.deployments]
    if not known:
        return told
    if not said or said[0][1] < known[0][1]:
        return ()
    for place in range(len(known)):
        window = known[place : place + len(said)]
        if said[: len(window)] == window:
            return ()
    newer = (count for count in range(1, len(said)) if said[count:][: len(known)] == known[: len(said) - count])
    return told[: next(newer, len(said))]


def _pointer(workflow: str, revision: Revision | None) -> dict[str, Any] | None:
    if revision is None:
        return None
    return {
        "number": revision.number,
        "name": object_name(workflow, revision),
        "contentHash": revision.content_hash,
    }
