"""One workflow: what runs and why, its versions, and everything that was done to it, the newest first."""

from typing import Any, Final

from starlette.responses import Response

from keep_operator.console import past
from keep_operator.console.pages import decide, place
from keep_operator.console.pages.place import Subject
from keep_operator.console.pages.visit import Visit
from keep_operator.domain.history import Revision
from keep_operator.store import history
from keep_operator.store.ledger import Entry

# Entries and versions on one page.
ENTRIES: Final = 50
VERSIONS: Final = 20
# Decisions that are about the whole workflow, when they make sense.
_QUIET: Final = frozenset({"Created", "Archived", "Updated", "DriftCorrected"})


async def show(visit: Visit) -> Response:
    """The page; `after` and `versions` are cursors of the timeline and of the list of versions."""
    about = await place.subject(visit)
    name = visit.query("decision")
    may = await place.actions(visit, about)
    async with visit.here.look() as conn:
        timeline = await past.page(
            history.timeline(conn, about.lineage.id, after=visit.query("after") or None, limit=ENTRIES)
        )
        versions = await past.page(
            history.revisions(conn, about.lineage.id, after=visit.query("versions") or None, limit=VERSIONS)
        )
    values: dict[str, Any] = {
        "about": about,
        "may": may,
        "decided": await decide.outcome(visit, about, name) if name else None,
        "timeline": [_entry(each) for each in timeline.items],
        "timeline_after": timeline.after,
        "versions": [_version(about, each) for each in versions.items],
        "versions_after": versions.after,
        "buttons": buttons(about, may),
        "source": {"tool": "", "trackingId": "", **(about.status.get("source") or {})},
    }
    return visit.show("workflow.html", **values)


def buttons(about: Subject, may: dict[str, bool]) -> list[dict[str, str]]:
    """The decisions that make sense now and that the user may make, the most likely first."""
    lineage, deployed = about.lineage, str(about.condition("Deployed").get("reason") or "")
    desired = lineage.latest
    sensible: list[tuple[str, dict[str, str]]] = []
    if deployed == "AwaitingApproval" and desired is not None:
        sensible += [(each, {"revision": str(desired.number)}) for each in ("Approve", "Deny")]
    if deployed == "AwaitingDeploy" and desired is not None:
        sensible.append(("Deploy", {"revision": str(desired.number)}))
    if lineage.canary is not None:
        sensible += [("Promote", {}), ("Promote", {"full": "true"}), ("Abort", {})]
        sensible.append(("Resume", {}) if lineage.canary.paused else ("Pause", {}))
    elif lineage.active is not None and len(lineage.deployments) > 1:
        sensible.append(("Rollback", {}))
    if lineage.hold is not None:
        sensible.append(("Retry", {}) if lineage.hold.automatic else ("Resume", {}))
    return [
        {
            "label": f"{action} to the end" if extra.get("full") else action,
            "href": about.href("decide", action.lower(), **extra),
            "command": decide.command(about, decide.Wish(action, None, full="full" in extra)),
        }
        for action, extra in sensible
        if may[action]
    ]


def _entry(entry: Entry) -> dict[str, Any]:
    """One thing that was done, with what is worth saying of it."""
    details = {key: value for key, value in entry.details.items() if key != "id" and value not in (None, "", [], {})}
    return {
        "at": entry.at,
        "action": entry.action,
        "actor": entry.actor,
        "kind": entry.key.kind,
        "reason": details.pop("reason", ""),
        "details": details,
        "quiet": entry.action in _QUIET,
    }


def _version(about: Subject, each: Revision) -> dict[str, Any]:
    lineage = about.lineage
    against = lineage.active_number if lineage.active_number not in (None, each.number) else each.parent_number
    return {
        "revision": each,
        "marks": about.marks(each.number),
        "compare": about.href("compare", f"{against}...{each.number}") if against else None,
        "rollback": about.href("decide", "rollback", revision=str(each.number))
        if each.was_active and each.number != lineage.active_number
        else None,
    }
