"""A view as the rules of `domain` know workflows, so that kubectl keep and the operator have one answer."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from keep_operator.domain import history
from keep_operator.domain.history import Author, Canary, Cause, Check, Deployment, Flaw, Hold, Lineage, Review, Revision
from keep_operator.plugin.kubectl import Json
from keep_operator.plugin.view import Version, View

# What a status says of an approval that nobody gave, since none was asked for.
_NOT_REQUIRED: Final = "NotRequired"


def previous(view: View) -> int | None:
    """The number of the version to which a rollback without a target would lead."""
    found = history.previous(of(view))
    return found.number if isinstance(found, Revision) else None


def of(view: View, archived: Sequence[Version] = (), *, steps: str = "", groups: Sequence[str] = ()) -> Lineage:
    """The history as far as objects tell it: the last ten deployments, and of archived versions those that are given.

    ``steps`` are those of a canary under way, which no status tells; ``groups`` those that who approved is taken to be in.
    """
    hold, status = view.hold, view.status
    every = sorted((*view.versions, *archived), key=lambda each: each.number)
    return Lineage(
        id=UUID(status["workflowId"]) if status.get("workflowId") else UUID(int=0),
        tenant_id=status.get("tenantId") or "",
        external_name=view.name,
        owner=None,
        latest_number=max(
            (status.get("latestCreatedRevision") or {}).get("number", 0), every[-1].number if every else 0
        ),
        active_number=view.active_number,
        revisions=tuple(map(_revision, every)),
        deployments=tuple(
            Deployment(
                revision=each["revision"],
                from_revision=None,
                cause=Cause(each["reason"]) if each.get("reason") in list(Cause) else Cause.ALL_AT_ONCE,
                actor=each.get("actor") or "",
                at=_time(each["at"]),
            )
            for each in status.get("history") or ()
        ),
        hold=None
        if hold is None
        else Hold(
            hold["rejectedHash"],
            hold["target"],
            hold["actor"],
            hold["reason"],
            _time(hold["since"]),
            automatic=bool(hold.get("automatic")),
            aborted=view.condition("Deployed").get("reason") == "Aborted",
        ),
        canary=None if view.canary is None else _canary(view, view.canary, steps),
        reviews=tuple(
            Review(each.number, said["actor"], said["decision"] == "Approve", _time(said["at"]), tuple(groups))
            for each in every
            for said in each.status.get("approvals") or ()
        ),
        checks=tuple(
            Check(each.number, item["id"], item["done"], item.get("by") or "", _time(item.get("at") or each.made or ""))
            for each in every
            for item in each.status.get("checklist") or ()
        ),
    )


def _canary(view: View, told: Json, steps: str) -> Canary:
    """The canary that a status tells of; since when it measures, and what was forgiven, it does not tell."""
    since = _time(told["stepStartedAt"])
    deployed = view.condition("Deployed").get("reason", "")
    return Canary(
        candidate=told["revision"],
        stable=view.active_number or 0,
        steps=steps,
        step=told.get("stepIndex", 0),
        step_since=since,
        weight=told["weight"],
        began=since,
        measured_since=since,
        paused=deployed if told.get("paused") else None,
        paused_since=since if told.get("paused") else None,
    )


def _revision(version: Version) -> Revision:
    def reason(kind: str, status: str) -> str | None:
        condition = version.condition(kind)
        return condition.get("reason") if condition.get("status") == status else None

    flaw, approved = reason("Valid", "False"), reason("Approved", "True")
    author = version.spec.get("author")
    first, last = version.status.get("firstActiveAt"), version.status.get("lastActiveAt")
    return Revision(
        number=version.number,
        content_hash=version.content_hash,
        created_at=_time(version.object["metadata"]["creationTimestamp"]),
        hash_version=version.spec.get("hashVersion", 1),
        flaw=None if flaw is None else Flaw(flaw, version.condition("Valid").get("message", "")),
        author=None if author is None else Author(author["username"], author.get("source", "")),
        diff_summary=version.status.get("diffSummary"),
        first_active_at=None if first is None else _time(first),
        last_active_at=None if last is None else _time(last),
        rejected=reason("Rejected", "True"),
        denied=reason("Denied", "True"),
        approved=None if approved == _NOT_REQUIRED else approved,
        archived_at=_time(version.object["metadata"]["creationTimestamp"]) if version.archived else None,
        tags=version.tags,
    )


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
