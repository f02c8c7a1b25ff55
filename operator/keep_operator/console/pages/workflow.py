"""One workflow: what runs and why, its versions, and everything that was done to it, the newest first."""

from typing import Any, Final

from starlette.responses import Response

from keep_operator.console import past
from keep_operator.console.pages import decide, place
from keep_operator.console.pages.live import News
from keep_operator.console.pages.place import Subject
from keep_operator.console.pages.visit import Visit
from keep_operator.domain import history as history_rules
from keep_operator.domain.history import Revision
from keep_operator.store import history
from keep_operator.store.ledger import Entry

# Entries and versions on one page.
ENTRIES: Final = 50
VERSIONS: Final = 20
# Decisions that are about the whole workflow, when they make sense.
_QUIET: Final = frozenset({"Created", "Archived", "Updated", "DriftCorrected"})
# What undoes a rollback is offered, and suggested to nobody.
_UNDO: Final = ("Resume", "Retry")


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
        "timeline": [entry(each) for each in timeline.items],
        "timeline_after": timeline.after,
        "versions": [_version(about, each) for each in versions.items],
        "versions_after": versions.after,
        "buttons": buttons(about, may),
        "source": _source(about),
    }
    return visit.show("workflow.html", **values)


async def live(visit: Visit) -> Response:
    """What runs and why, whenever it changes."""
    about = await place.subject(visit)
    may = await place.actions(visit, about)
    here, where = visit.here, about.place

    async def look(before: News | None) -> News:
        del before
        return News(await place.read(here, where))

    def tell(seen: Subject) -> str:
        given = {"about": seen, "buttons": buttons(seen, may), "source": _source(seen)}
        return visit.pages.renderer.render("workflow_live.html", given)

    return visit.stream(("workflow", where), look, tell, tuple(may.values()))


def _source(about: Subject) -> dict[str, str]:
    return {"tool": "", "trackingId": "", **(about.status.get("source") or {})}


def buttons(about: Subject, may: dict[str, bool]) -> list[dict[str, Any]]:
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
    elif isinstance(target := history_rules.previous(lineage), Revision) and not about.pinned:
        sensible.append(("Rollback", {"revision": str(target.number)}))
    if lineage.hold is not None:
        sensible.append(("Retry", {}) if lineage.hold.automatic else ("Resume", {}))
    offered = [(action, extra) for action, extra in sensible if may[action]]
    return [
        {
            "label": _label(action, extra),
            "first": (action, extra) == offered[0] and action not in _UNDO,
            "href": about.href("decide", action.lower(), **extra),
            "command": decide.command(
                about, decide.Wish(action, lineage.get(int(extra.get("revision", 0))), full="full" in extra)
            ),
        }
        for action, extra in offered
    ]


def _label(action: str, extra: dict[str, str]) -> str:
    if action == "Rollback":
        return f"Rollback to v{extra['revision']}"
    return f"{action} to the end" if extra.get("full") else action


def entry(each: Entry) -> dict[str, Any]:
    """One thing that was done, with what is worth saying of it."""
    details = {key: value for key, value in each.details.items() if key != "id" and value not in (None, "", [], {})}
    return {
        "at": each.at,
        "action": each.action,
        "actor": each.actor,
        "kind": each.key.kind,
        "reason": details.pop("reason", ""),
        "details": details,
        "quiet": each.action in _QUIET,
    }


def _version(about: Subject, each: Revision) -> dict[str, Any]:
    lineage = about.lineage
    against = lineage.active_number if lineage.active_number not in (None, each.number) else each.parent_number
    return {
        "revision": each,
        "marks": about.marks(each.number),
        "compare": about.href("compare", f"{against}...{each.number}") if against else None,
        "rollback": about.href("decide", "rollback", revision=str(each.number)) if about.leads_back_to(each) else None,
    }
