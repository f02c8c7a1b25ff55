"""Whether the chart's admission policy `decision` has proven who made a decision (A-AP-5).

::

    policy and its binding ── as strict as the chart's? ── in force since ── well before the decision was made? ──► proven

Only the API server knows who sent a request. It does not tell the operator, but it has let nobody make a decision in the name of
others while this policy was in force. So what is looked at is the policy.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from keep_operator.resources.decision import WorkflowDecisionSpec
from keep_operator.resources.kinds import GROUP, WORKFLOW_DECISIONS
from keep_operator.resources.objects import Object

# The policy and its binding, as the chart names them.
POLICY: Final = "keep-operator-decision"
# API servers learn of a new policy by a watch of their own, each at its own time: nothing is proven before all of them know.
SETTLING: Final = timedelta(minutes=1)
_ON_WORKFLOW: Final = (
    "authorizer.group('keep-operator.dev').resource('workflows').namespace(request.namespace)"
    " .name(object.spec.workflowRef.name)"
)
# What must hold of a decision, as the chart's policy says it. More may be asked for, less may not.
REQUIRED: Final[Mapping[str, str]] = {
    "that the actor is the user": "object.spec.actor == request.userInfo.username",
    "that the user is in the groups": (
        "!has(object.spec.actorGroups) || object.spec.actorGroups.all(g, g in request.userInfo.groups)"
    ),
    "for the verb of the action": f"{_ON_WORKFLOW}.check(object.spec.action.lowerAscii()).allowed()",
    "for the verb force": (f"!has(object.spec.force) || !object.spec.force || {_ON_WORKFLOW}.check('force').allowed()"),
    "for the verb onbehalfof": f"!has(object.spec.onBehalfOf) || {_ON_WORKFLOW}.check('onbehalfof').allowed()",
}


@dataclass(frozen=True, slots=True)
class Standing:
    """Since when the policy has been in force; if it is not, ``lack`` says what is missing, as the rest of a sentence."""

    since: datetime | None
    lack: str = ""


def standing(policy: Mapping[str, Any] | None, binding: Mapping[str, Any] | None) -> Standing:
    """How things are with the ValidatingAdmissionPolicy and its binding as the API server has them; None: not there."""
    for kind, found in (("ValidatingAdmissionPolicy", policy), ("ValidatingAdmissionPolicyBinding", binding)):
        if found is None or found["metadata"].get("deletionTimestamp"):
            return Standing(None, f'there is no {kind} "{POLICY}"')
    assert policy is not None
    assert binding is not None
    for fault in (*_weak_policy(policy.get("spec") or {}), *_weak_binding(binding.get("spec") or {})):
        return Standing(None, fault)
    since = _unchanged_since(policy), _unchanged_since(binding)
    if None in since:
        return Standing(None, f'nobody can tell since when "{POLICY}" has been as it is: delete it and apply it again')
    return Standing(max(filter(None, since)))


def lack(found: Standing, obj: Object[WorkflowDecisionSpec]) -> str | None:
    """Why it is not proven that its actor made this decision, as the rest of a sentence; None: it is proven."""
    if found.since is None:
        return found.lack
    if obj.generation != 1:
        return "the decision was changed after it was made"
    if obj.created_at < found.since + SETTLING:
        return f'it was made before the ValidatingAdmissionPolicy "{POLICY}" was in force for a minute'
    return None


def _weak_policy(spec: Mapping[str, Any]) -> Iterator[str]:
    """What makes the policy let through more than the chart's does."""
    named = f'the ValidatingAdmissionPolicy "{POLICY}"'
    if spec.get("failurePolicy", "Fail") != "Fail":
        yield f"{named} has not failurePolicy Fail"
    if spec.get("paramKind"):
        yield f"{named} has a paramKind"
    if spec.get("matchConditions"):
        yield f"{named} has matchConditions"
    matched = spec.get("matchConstraints") or {}
    if _narrowed(matched) or not any(_covers(rule) for rule in matched.get("resourceRules") or ()):
        yield f"{named} does not match every WorkflowDecision that is made"
    asked = {_plain(each.get("expression", "")) for each in spec.get("validations") or ()}
    for what, expression in REQUIRED.items():
        if _plain(expression) not in asked:
            yield f"{named} does not ask {what} in the chart's words"


def _weak_binding(spec: Mapping[str, Any]) -> Iterator[str]:
    named = f'the ValidatingAdmissionPolicyBinding "{POLICY}"'
    if spec.get("policyName") != POLICY:
        yield f"{named} binds another policy"
    if "Deny" not in (spec.get("validationActions") or ()):
        yield f"{named} does not Deny"
    matched = spec.get("matchResources") or {}
    if spec.get("paramRef") or _narrowed(matched) or matched.get("resourceRules"):
        yield f"{named} does not bind it for every WorkflowDecision"


def _narrowed(matched: Mapping[str, Any]) -> bool:
    return any(matched.get(each) for each in ("namespaceSelector", "objectSelector", "excludeResourceRules"))


def _covers(rule: Mapping[str, Any]) -> bool:
    wanted = {
        "apiGroups": GROUP,
        "apiVersions": "*",
        "operations": "CREATE",
        "resources": WORKFLOW_DECISIONS.plural,
    }
    everything = all({"*", value} & set(rule.get(part) or ()) for part, value in wanted.items())
    return everything and not rule.get("resourceNames") and rule.get("scope", "*") in ("*", "Namespaced")


def _plain(expression: str) -> str:
    """Without what means nothing in CEL: white space, of which there is none in the texts of these expressions."""
    return "".join(expression.split())


def _unchanged_since(found: Mapping[str, Any]) -> datetime | None:
    """When its spec was last changed; None where that was taken off. Generation 1 is the spec that it was made with."""
    metadata = found["metadata"]
    if metadata.get("generation") == 1:
        return datetime.fromisoformat(metadata["creationTimestamp"])
    managed = metadata.get("managedFields") or ()
    changed = [each.get("time") for each in managed if "f:spec" in (each.get("fieldsV1") or {})]
    return max((datetime.fromisoformat(time) for time in changed if time), default=None)


def known_groups(actor: str) -> tuple[str, ...] | None:
    """All groups of a service account, which its name tells; None of anybody else, whose groups only a request shows."""
    parts = actor.split(":")
    if len(parts) != 4 or parts[:2] != ["system", "serviceaccount"]:
        return None
    return "system:serviceaccounts", f"system:serviceaccounts:{parts[2]}", "system:authenticated"


def verbs(spec: WorkflowDecisionSpec) -> tuple[str, ...]:
    """The verbs on the Workflow that the policy asks for."""
    more = {"force": spec.force, "onbehalfof": spec.on_behalf_of is not None}
    return spec.action.lower(), *(verb for verb, needed in more.items() if needed)
