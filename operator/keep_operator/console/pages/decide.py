"""Deciding: what will happen is shown with its difference, then a WorkflowDecision is made with the user's own token.

::

    GET   who may, what is active now, what would change ──► a form that holds what was seen (`expect.activeRevision`)
    POST  the decision as the user ──► some seconds for the operator ──► back, with what came of it

Whoever decides by a page that is old is told so by the operator (`Stale`), and nothing happens.
"""

import asyncio
import hashlib
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from uuid import uuid4

from starlette.responses import Response

from keep_operator.cluster.reviews import Right
from keep_operator.console import problems, room
from keep_operator.console.pages import place
from keep_operator.console.pages.differences import shown
from keep_operator.console.pages.place import Subject
from keep_operator.console.pages.visit import Visit
from keep_operator.console.problems import Problem
from keep_operator.domain import history, release
from keep_operator.domain.history import Lineage, Refusal, Revision
from keep_operator.errors import Conflict, KeepOperatorError, Refused
from keep_operator.resources.decision import ACTIONS, NEED_NO_REVISION, NEED_REASON
from keep_operator.resources.kinds import API_VERSION, WORKFLOW_DECISIONS, WORKFLOW_REVISIONS, WORKFLOWS
from keep_operator.resources.shapes import NO_CONTROL_CHARACTERS

# Seconds that a page waits for the operator; later the workflow's own page tells.
WAIT_S: Final = 8.0
ASK_EVERY_S: Final = 0.25
_NAME_LIMIT: Final = 200
# What a decision can hold of the groups of a user.
_GROUPS_LIMIT: Final = 128
_GROUP: Final = re.compile(r"[^\x00-\x1f\x7f]{1,253}")
# These are about the canary that is seen, or what is held back, and not about another one that is there by then.
_OF_CANARY: Final = ("Promote", "Abort", "Pause", "Resume")
# What a form that is sent twice agrees in. What is active has changed since, if it was carried out.
_SAME: Final = ("workflowRef", "action", "actor", "revision", "reason", "tag", "item", "full", "force")
WORDS: Final[Mapping[str, str]] = {
    "Approve": "This version may run. It takes over as soon as nothing else stands in its way.",
    "Deny": "This content never runs, under whatever number it comes back.",
    "Deploy": "This version takes over all runs.",
    "Rollback": "The earlier version takes over at once. What the definition asks for is held back, until it changes in Git.",
    "Promote": "The canary goes on to its next step.",
    "Abort": "The stable version takes all runs again, and the canary is held back, until it changes in Git.",
    "Pause": "The canary keeps its share until somebody decides Resume, Promote or Abort.",
    "Resume": "What is held back, or paused, goes on.",
    "Retry": "A content that was rejected or taken back may be chosen again.",
    "Reject": "This content is not chosen any more. If it is active the version before takes over.",
    "Tag": "The tag points to this version from now on.",
    "Untag": "The tag points to nothing any more.",
    "CheckItem": "This item of the checklist is done.",
    "Note": "Your words go to the ledger.",
}


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody is about to decide. ``step`` is the canary's that he sees, where it matters."""

    action: str
    target: Revision | None
    step: int | None = None
    item: str = ""
    tag: str = ""
    full: bool = False


async def show(visit: Visit) -> Response:
    """The page before, or what comes of the form."""
    about = await place.subject(visit)
    action = next((each for each in ACTIONS if each.lower() == visit.path("action")), None)
    if action is None:
        raise problems.missing("PathNotFound", f"There is no such decision; there are {', '.join(ACTIONS)}.")
    await visit.admit(Right(action.lower(), WORKFLOWS, about.place.namespace, about.place.name))
    if visit.request.method == "POST":
        return await _make(visit, about, action)
    wish = _wish(about, action, visit.query)
    (may_compare,) = await visit.may(Right("get", WORKFLOW_REVISIONS, about.place.namespace))
    values: dict[str, Any] = {
        "about": about,
        "wish": wish,
        "words": WORDS[action],
        "heed": _heed(about, action),
        "needs_reason": action in NEED_REASON,
        "active": about.lineage.active,
        "request_id": str(uuid4()),
        "difference": await _difference(visit, about, wish) if may_compare else None,
        "may_compare": may_compare,
        "command": command(about, wish),
        "fault": "",
    }
    return await visit.here.comparisons.aside(visit.show, "decide.html", **values)


def _wish(about: Subject, action: str, given: Callable[[str, int], str]) -> Wish:
    """What the address asks for. Raises Problem: 400, 404 for a version that is not there, 409 where there is none to go back to."""
    lineage, text = about.lineage, given("revision", 253)
    target: Revision | None = None
    if text:
        target = about.named(text)
    elif action == "Rollback":
        found = history.previous(lineage)
        if isinstance(found, Refusal):
            raise Problem(HTTPStatus.CONFLICT, found.reason, found.message)
        target = found
    elif action in _OF_CANARY:
        target = lineage.candidate or (_held_back(lineage) if action == "Resume" else None)
    elif action not in NEED_NO_REVISION:
        target = about.named("desired")
    active = lineage.active
    alike = target is not None and active is not None and target.content_hash == active.content_hash
    if action == "Rollback" and alike and lineage.canary is None:
        raise Problem(HTTPStatus.CONFLICT, "NoOp", f"The content of {target} is active already, as {active}.")
    full = action == "Promote" and given("full", 5) == "true"
    return Wish(
        action,
        target,
        lineage.canary.step if lineage.canary and action in ("Promote", "Resume") and not full else None,
        _line(given, "item") if action == "CheckItem" else "",
        _line(given, "tag") if action in ("Tag", "Untag") else "",
        full,
    )


def _held_back(lineage: Lineage) -> Revision | None:
    found = () if lineage.hold is None else lineage.with_content(lineage.hold.rejected_hash)
    return found[-1] if found else None


def _line(given: Callable[[str, int], str], name: str) -> str:
    text = given(name, 63)
    if re.fullmatch(NO_CONTROL_CHARACTERS, text) is None:
        raise problems.bad("ParameterInvalid", f"The parameter {name} must be one line of text.")
    return text


def _heed(about: Subject, action: str) -> str:
    """What somebody might expect of a decision, and it does not do; empty: it does what its name says."""
    lineage, latest = about.lineage, about.lineage.latest
    paused = lineage.canary is not None and lineage.canary.paused is not None
    if action != "Resume" or latest is None or paused:
        return ""
    bar = release.barred(lineage, latest)
    return "" if bar is None else f"It does not run by that: {bar.message}"


async def _difference(visit: Visit, about: Subject, wish: Wish) -> dict[str, Any] | None:
    """From what runs now to what would run; None where nothing would."""
    active, target = about.lineage.active, wish.target
    if active is None or target is None or target.number == active.number:
        return None
    return await shown(visit, about, active, target)


def command(about: Subject, wish: Wish) -> str:
    """The same for a terminal. Names of items and tags are other people's words, which a shell must not obey."""
    words = ["kubectl", "keep", "check" if wish.action == "CheckItem" else wish.action.lower(), about.place.name]
    if wish.item:
        words.append(wish.item)
    if wish.tag:
        words.append(wish.tag)
    if wish.target is not None and wish.action not in _OF_CANARY:
        words += ["--to", f"v{wish.target.number}"] if wish.action == "Rollback" else [f"v{wish.target.number}"]
    if wish.full:
        words.append("--full")
    return shlex.join([*words, "-n", about.place.namespace])


async def _make(visit: Visit, about: Subject, action: str) -> Response:
    """The decision as the user, and what the operator says of it. Raises Problem where the API server refuses it."""
    fields = await visit.form()
    if (wait_s := visit.pages.decisions.take(visit.user)) > 0:
        raise problems.too_many("These were too many decisions", wait_s)
    groups = await _groups(visit, about) if action in ("Approve", "Deny") else []
    manifest = _manifest(visit.user, groups, about, action, fields)
    name = manifest["metadata"]["name"]
    try:
        await visit.here.cluster.create(WORKFLOW_DECISIONS, about.place.namespace, manifest, token=visit.token)
    except Conflict as failure:
        if failure.reason != "AlreadyExists":
            raise room.cluster_failed(failure) from None
        await _same(visit, about, manifest)
    except Refused as failure:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "DecisionRefused", failure.message) from None
    except KeepOperatorError as failure:
        if failure.reason == "ApiAccessDenied":
            raise problems.forbidden(failure.message) from None
        raise room.cluster_failed(failure) from None
    await _wait(visit, about, name)
    return visit.go(about.href(decision=name))


async def _groups(visit: Visit, about: Subject) -> list[str]:
    """The user's groups, as far as a decision can name them; those first that approvals are asked of."""
    assert visit.visitor is not None
    asked = await place.gates_of(visit.here, about)
    wanted = set() if asked is None else {group for each in asked.approval.approvers for group in each.groups}
    own = filter(_GROUP.fullmatch, dict.fromkeys(visit.visitor.user.groups))
    return sorted(own, key=lambda each: each not in wanted)[:_GROUPS_LIMIT]


async def _same(visit: Visit, about: Subject, manifest: Mapping[str, Any]) -> None:
    """Returns if there is this very decision: a form that is sent twice is one. Raises Problem: 409, 503."""
    try:
        found = await visit.here.cluster.get(WORKFLOW_DECISIONS, about.place.namespace, manifest["metadata"]["name"])
    except KeepOperatorError as failure:
        raise room.cluster_failed(failure) from None
    there, wanted = (found or {}).get("spec") or {}, manifest["spec"]
    if any((there.get(each) or None) != (wanted.get(each) or None) for each in _SAME):
        raise Problem(
            HTTPStatus.CONFLICT,
            "AlreadyDecided",
            "This form was sent before, with something else in it, which stands. Open the page again to decide anew.",
        )


def _manifest(
    user: str, groups: Sequence[str], about: Subject, action: str, fields: Mapping[str, str]
) -> dict[str, Any]:
    request_id = (fields.get("request_id") or str(uuid4()))[:128]
    digest = hashlib.sha256(f"{about.place.name} {request_id}".encode()).hexdigest()[:10]
    spec: dict[str, Any] = {
        "workflowRef": {"name": about.place.name},
        "action": action,
        "actor": user,
        "requestId": request_id,
    }
    if groups:
        spec["actorGroups"] = list(groups)
    if (number := _number(fields, "revision")) is not None:
        spec["revision"] = {"number": number}
    expect = {"activeRevision": _number(fields, "expect"), "canaryStepIndex": _number(fields, "step")}
    if expect := {name: value for name, value in expect.items() if value is not None}:
        spec["expect"] = expect
    for key in ("reason", "tag", "item"):
        if fields.get(key, "").strip():
            spec[key] = fields[key].strip()
    for key in ("full", "force"):
        if fields.get(key) == "true":
            spec[key] = True
    name = f"{about.place.name[:_NAME_LIMIT].rstrip('-.')}-{action.lower()}-{digest}"
    return {
        "apiVersion": API_VERSION,
        "kind": WORKFLOW_DECISIONS.kind,
        "metadata": {"name": name, "namespace": about.place.namespace},
        "spec": spec,
    }


def _number(fields: Mapping[str, str], name: str) -> int | None:
    """A whole number of a form. Raises Problem 400 for anything else: what somebody has named is not left out."""
    text = fields.get(name, "")
    if text and re.fullmatch("[0-9]{1,9}", text) is None:
        raise problems.bad("FormInvalid", f"The field {name} must be a whole number.")
    return int(text) if text else None


async def outcome(visit: Visit, about: Subject, name: str) -> dict[str, Any] | None:
    """What became of a decision of this workflow: status, reason and message of ``Handled``; None: there is none."""
    try:
        found = await visit.here.cluster.get(WORKFLOW_DECISIONS, about.place.namespace, name)
    except KeepOperatorError:
        return None
    if found is None or (found.get("spec") or {}).get("workflowRef", {}).get("name") != about.place.name:
        return None
    told = {each["type"]: each for each in (found.get("status") or {}).get("conditions") or ()}.get("Handled", {})
    return {
        "action": found["spec"].get("action"),
        "status": told.get("status", "Unknown"),
        "reason": told.get("reason", "Waiting"),
        "message": told.get("message", "The operator has not looked at it yet."),
    }


async def _wait(visit: Visit, about: Subject, name: str) -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + WAIT_S
    while loop.time() < until:
        told = await outcome(visit, about, name)
        if told is not None and told["status"] != "Unknown":
            return
        await asyncio.sleep(ASK_EVERY_S)
