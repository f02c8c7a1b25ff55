"""Makes one WorkflowDecision, waits until the operator has said what came of it, and tells that.

The name of the object follows from its request id. So a call that is repeated with the same ``--request-id``, after a broken
connection say, meets the decision of before and tells what came of that; the operator does nothing twice anyway.
"""

import hashlib
import sys
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from keep_operator.plugin import actor, ends, output, patience, view
from keep_operator.plugin.actor import Actor
from keep_operator.plugin.kubectl import Json, Kubectl
from keep_operator.plugin.view import View
from keep_operator.resources.kinds import API_VERSION, GROUP, WORKFLOW_DECISIONS

_NAME_LIMIT: Final = 200
# What a repeated request must agree in with the first one. What was active has changed since, if it was carried out.
_SAME: Final = ("workflowRef", "action", "revision", "reason", "tag", "item", "full", "force", "onBehalfOf")


_MOVING: Final = ("Rollback", "Resume", "Deploy")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the options of all decisions say."""

    wait: bool
    timeout_s: float
    dry_run: bool
    form: str
    request_id: str | None
    actor: str | None
    on_behalf_of: str | None


def look(kubectl: Kubectl, workflow: str, asked: Asked) -> tuple[View, Actor]:
    """The workflow, and who decides; asked for at the same time."""
    found, revisions, who = kubectl.tries(*view.questions(workflow), actor.QUESTION)
    seen = view.of(kubectl, workflow, found, revisions)
    return seen, actor.of(kubectl, who, asked.actor, seen.approving_groups)


def revision(seen: View, reference: str) -> Json:
    """How a decision names the version that is meant: by number if it has an object, else as it was named.

    The operator also knows those that are archived.
    """
    if reference == "previous":
        return {"previous": True}
    found = seen.find(reference)
    if found is not None:
        return {"number": found.number}
    number = view.as_number(reference)
    if number is not None:
        return {"number": number}
    if len(reference) == 64 and not set(reference) - set("0123456789abcdef"):
        return {"contentHash": reference}
    return {"tag": reference.removeprefix("tag:")}


def decide(kubectl: Kubectl, seen: View, who: Actor, action: str, asked: Asked, **about: Any) -> None:
    """Make a decision, and say what became of it. ``about`` are fields of its spec; those that are None are left out.

    Raises No if it was not carried out, Unanswered if nobody said in time.
    """
    manifest = _manifest(seen, who, action, asked, {name: value for name, value in about.items() if value is not None})
    if asked.dry_run:
        output.data(manifest, "json" if asked.form == "json" else "yaml")
        return
    made = _make(kubectl, manifest)
    name = made["metadata"]["name"]
    try:
        if asked.form == "name":
            output.echo(f"workflowdecision.{GROUP}/{name}")
        elif asked.form == "table" and asked.wait:
            output.echo(f"Decision {name}: waiting for the operator ...", err=True)
        if asked.wait:
            made = patience.until(kubectl, WORKFLOW_DECISIONS, made, asked.timeout_s, _handled)
    except KeyboardInterrupt:
        output.echo(f"\nNot waiting any more. The decision stays: kubectl get wfd {name}", err=True)
        sys.exit(130)
    _tell(made, asked)


def _manifest(seen: View, who: Actor, action: str, asked: Asked, about: Json) -> Json:
    request_id = asked.request_id or str(uuid4())
    digest = hashlib.sha256(f"{seen.name} {request_id}".encode()).hexdigest()[:10]
    expect = {} if seen.active_number is None else {"expect": {"activeRevision": seen.active_number}}
    groups = {"actorGroups": list(who.groups)} if who.groups else {}
    claim = {} if asked.on_behalf_of is None else {"onBehalfOf": asked.on_behalf_of}
    return {
        "apiVersion": API_VERSION,
        "kind": WORKFLOW_DECISIONS.kind,
        "metadata": {
            "name": f"{seen.name[:_NAME_LIMIT].rstrip('-.')}-{action.lower()}-{digest}",
            "namespace": seen.namespace,
        },
        "spec": {
            "workflowRef": {"name": seen.name},
            "action": action,
            **about,
            **expect,
            "actor": who.name,
            **groups,
            **claim,
            "requestId": request_id,
        },
    }


def _make(kubectl: Kubectl, manifest: Json) -> Json:
    try:
        return kubectl.create(manifest)
    except ends.Exists:
        there = kubectl.get(WORKFLOW_DECISIONS, manifest["metadata"]["name"])
        wanted = manifest["spec"]
        if any((there["spec"].get(each) or None) != (wanted.get(each) or None) for each in _SAME):
            raise ends.Refused(
                f"request {wanted['requestId']} was already made for something else: take another --request-id"
            ) from None
        return there


def _handled(decision: Json) -> bool:
    return _condition(decision).get("status") in ("True", "False")


def _condition(decision: Json) -> Json:
    conditions = (decision.get("status") or {}).get("conditions") or ()
    return next((each for each in conditions if each["type"] == "Handled"), {})


def _tell(decision: Json, asked: Asked) -> None:
    """Print what came of it, and end as that asks for."""
    verdict, name = _condition(decision), decision["metadata"]["name"]
    if asked.form in ("json", "yaml"):
        output.data(decision, asked.form)
    if not asked.wait:
        if asked.form == "table":
            output.echo(f"Decision {name} is made; what becomes of it: kubectl get wfd {name}")
        return
    match verdict.get("status"):
        case "True":
            if asked.form == "table":
                output.echo(f"{output.coloured(verdict['reason'])}: {_sentence(decision, verdict)}")
        case "False":
            raise ends.No(f"{verdict['reason']}: {verdict.get('message', '')}")
        case _:
            so_far = f"{verdict['reason']}: {verdict.get('message', '')}" if verdict else "the operator has not seen it"
            raise ends.Unanswered(
                f"nothing has come of decision {name} within {asked.timeout_s:g} s ({so_far}). It stays and "
                f"will be carried out later; to take it back: kubectl delete wfd {name}"
            )


def _sentence(decision: Json, verdict: Json) -> str:
    status = decision.get("status") or {}
    before, after = status.get("from"), status.get("to")
    message = str(verdict.get("message", "")).rstrip(".")
    # Of others `to` is the version that they are about, which is not made active.
    moves = (decision.get("spec") or {}).get("action") in _MOVING
    if not moves or before is None or after is None or before == after:
        return message
    return f"{message} (v{before} -> v{after})"
