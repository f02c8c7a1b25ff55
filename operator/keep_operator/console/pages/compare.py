"""Any two versions of a workflow, or a draft and a version: by meaning on top, then line by line or side by side."""

from typing import Any, Final

from starlette.responses import Response

from keep_operator.cluster.reviews import Right
from keep_operator.console import problems
from keep_operator.console.asked import Draft
from keep_operator.console.pages import differences, place
from keep_operator.console.pages.place import Subject
from keep_operator.console.pages.visit import Visit
from keep_operator.console.problems import Problem
from keep_operator.domain.history import Revision
from keep_operator.resources.kinds import WORKFLOW_REVISIONS

VIEWS: Final = ("unified", "beside")


async def choose(visit: Visit) -> Response:
    """What shall be compared; with both named, the comparison itself. A draft is pasted, compared, and kept nowhere."""
    about = await _subject(visit)
    if visit.request.method == "POST":
        return await _draft(visit, about)
    before, after = visit.query("before", 72), visit.query("after", 72)
    if before and after:
        return visit.go(about.href("compare", f"{about.named(before).number}...{about.named(after).number}"))
    return _form(visit, about)


async def show(visit: Visit) -> Response:
    """Two versions, named in the path as `3...5`, `active...desired` and so on."""
    about = await _subject(visit)
    before, dots, after = visit.path("pair").partition("...")
    if not dots:
        raise problems.missing("PathNotFound", "Name two versions, such as compare/3...5 or compare/active...desired.")
    first, second = about.named(before), about.named(after)
    told = await differences.shown(visit, about, first, second)
    return await visit.here.comparisons.aside(_show, visit, about, told, first, second)


def _show(visit: Visit, about: Subject, told: dict[str, Any], first: Revision, second: Revision | None) -> Response:
    view = visit.query("view") or "unified"
    return visit.show(
        "compare.html",
        about=about,
        difference=told,
        view=view if view in VIEWS else "unified",
        pair=None if second is None else f"{first.number}...{second.number}",
        back=None if second is None else about.href("compare", f"{second.number}...{first.number}"),
        faults=told.get("faults", ()),
    )


def _form(visit: Visit, about: Subject, fault: str = "", text: str = "") -> Response:
    numbers = [str(each) for each in reversed(about.lineage.revisions)]
    return visit.show(
        "compare_form.html",
        about=about,
        fault=fault,
        text=text,
        versions=[(each.number, numbers[place]) for place, each in enumerate(reversed(about.lineage.revisions))],
    )


async def _draft(visit: Visit, about: Subject) -> Response:
    fields = await visit.form()
    text = fields.get("draft", "")
    first = about.named(fields.get("before") or "active")
    try:
        told = await differences.with_draft(visit, about, first, Draft(text, is_json=False))
    except Problem as problem:
        return _form(visit, about, problem.detail, text)
    return await visit.here.comparisons.aside(_show, visit, about, told, first, None)


async def _subject(visit: Visit) -> Subject:
    about = await place.subject(visit)
    await visit.admit(Right("get", WORKFLOW_REVISIONS, about.place.namespace))
    return about
