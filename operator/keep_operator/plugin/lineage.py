"""A view as the rules of `domain` know workflows, so that kubectl keep and the operator have one answer."""

from datetime import datetime
from uuid import UUID

from keep_operator.domain import history
from keep_operator.domain.history import Cause, Deployment, Flaw, Hold, Lineage, Revision
from keep_operator.plugin.view import Version, View


def previous(view: View) -> int | None:
    """The number of the version to which a rollback without a target would lead."""
    found = history.previous(of(view))
    return found.number if isinstance(found, Revision) else None


def of(view: View) -> Lineage:
    """The history as far as objects tell it: the last ten deployments, no archived versions."""
    hold = view.hold
    return Lineage(
        id=UUID(int=0),
        tenant_id="",
        external_name=view.name,
        owner=None,
        active_number=view.active_number,
        revisions=tuple(_revision(each) for each in reversed(view.versions)),
        deployments=tuple(
            Deployment(
                revision=each["revision"],
                from_revision=None,
                cause=Cause(each["reason"]) if each.get("reason") in list(Cause) else Cause.ALL_AT_ONCE,
                actor=each.get("actor") or "",
                at=_time(each["at"]),
            )
            for each in view.status.get("history") or ()
        ),
        hold=None
        if hold is None
        else Hold(hold["rejectedHash"], hold["target"], hold["actor"], hold["reason"], _time(hold["since"])),
    )


def _revision(version: Version) -> Revision:
    def reason(kind: str, status: str) -> str | None:
        condition = version.condition(kind)
        return condition.get("reason") if condition.get("status") == status else None

    flaw = reason("Valid", "False")
    return Revision(
        number=version.number,
        content_hash=version.content_hash,
        created_at=_time(version.object["metadata"]["creationTimestamp"]),
        flaw=None if flaw is None else Flaw(flaw, ""),
        rejected=reason("Rejected", "True"),
        denied=reason("Denied", "True"),
        tags=version.tags,
    )


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
