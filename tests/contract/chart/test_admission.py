"""The admission policies of the chart, evaluated as the API server does it: by CEL, with its answers about rights."""

import json
import re
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import pytest
from cel_expr_python import cel

from charts import ANCIENT, NAMESPACE, NEWEST, OLDEST, Json, helm, of_kind, one
from keep_operator.domain import proof
from keep_operator.resources.decision import ACTIONS
from keep_operator.resources.kinds import GROUP
from manifests import admission_binding, admission_policy

pytestmark = pytest.mark.contract

POLICY: Final = "ValidatingAdmissionPolicy"
OPERATOR: Final = f"system:serviceaccount:{NAMESPACE}:keep-operator"
ALICE: Final = "alice@example.com"


def _member(name: str, impl: Any, *parameters: Any, returns: Any = cel.Type.STRING) -> cel.FunctionDecl:
    """A method of texts: the question about a right is a text too, in JSON."""
    overload = cel.Overload(
        id=f"member_{name}",
        return_type=returns,
        parameters=[cel.Type.STRING, *parameters],
        is_member=True,
        impl=impl,
    )
    return cel.FunctionDecl(name, [overload])


def _narrowed(name: str) -> cel.FunctionDecl:
    return _member(name, lambda asked, value: json.dumps({**json.loads(asked), name: value}), cel.Type.STRING)


def _may(asked: str) -> bool:
    question = json.loads(asked)
    right = [question[part] for part in ("group", "resource", "namespace", "name", "check")]
    return right in question["rights"]


# The API server's own functions: a question about a right is built up, and answered from the rights of the user.
FUNCTIONS: Final = [
    *(_narrowed(name) for name in ("group", "resource", "namespace", "name", "check")),
    _member("allowed", _may, returns=cel.Type.BOOL),
    _member("lowerAscii", str.lower),
    cel.FunctionDecl(
        "join",
        [
            cel.Overload(
                id="list_join",
                return_type=cel.Type.STRING,
                parameters=[cel.Type.List(cel.Type.DYN), cel.Type.STRING],
                is_member=True,
                impl=lambda values, between: between.join(values),
            )
        ],
    ),
]
NAMES: Final = ("object", "oldObject", "request", "authorizer", "variables")
ENVIRONMENT: Final = cel.NewEnv(variables=dict.fromkeys(NAMES, cel.Type.DYN), functions=FUNCTIONS)


@cache
def _compiled(expression: str) -> Any:
    return ENVIRONMENT.compile(expression)


def _value(expression: str, given: Json) -> Any:
    result = _compiled(expression).eval(data=given)
    assert result.type() != cel.Type.ERROR, f"{expression}: {result.value()}"
    return result.plain_value()


def denied(
    name: str, request: Json, *rights: tuple[str, ...], new: Json | None = None, old: Json | None = None
) -> list[str]:
    """The messages with which the policy refuses the request; none where it lets it through."""
    spec = one(helm().render(), POLICY, f"keep-operator-{name}")["spec"]
    rule = spec["matchConstraints"]["resourceRules"][0]
    assert request["operation"] in rule["operations"], "the API server would not even ask"
    given: Json = {"object": new, "oldObject": old, "request": request, "variables": {}}
    given["authorizer"] = json.dumps({"rights": rights})
    if not all(_value(each["expression"], given) for each in spec.get("matchConditions", ())):
        return []
    for variable in spec.get("variables", ()):
        given["variables"] = {**given["variables"], variable["name"]: _value(variable["expression"], given)}
    broken = [each for each in spec["validations"] if not _value(each["expression"], given)]
    return [each.get("message") or _value(each["messageExpression"], given) for each in broken]


def asks(operation: str, user: str = ALICE, groups: Sequence[str] = ("system:authenticated",), **more: object) -> Json:
    """What the API server knows of a request."""
    who = {"username": user, "groups": list(groups)}
    return {"operation": operation, "userInfo": who, "namespace": "monitoring", "options": {}, **more}


def verb(name: str, on: str = "high-cpu", namespace: str = "monitoring") -> tuple[str, ...]:
    """A right on one Workflow."""
    return (GROUP, "workflows", namespace, on, name)


def decision(action: str, actor: str = ALICE, **spec: object) -> Json:
    """As somebody sends it."""
    return {"spec": {"workflowRef": {"name": "high-cpu"}, "action": action, "actor": actor, "requestId": "1", **spec}}


def test_the_operator_knows_the_policy_that_it_relies_on() -> None:
    """What the operator takes for a proof is what the chart installs, no less and no more."""
    objects = helm().render()
    policy, binding = one(objects, POLICY, proof.POLICY), one(objects, f"{POLICY}Binding", proof.POLICY)
    since = {"creationTimestamp": "2026-05-01T12:00:00Z", "generation": 1}
    found = proof.standing(*({**each, "metadata": {**each["metadata"], **since}} for each in (policy, binding)))
    assert found.lack == ""
    assert _comparable(policy["spec"]) == _comparable(admission_policy()["spec"]), (
        "the operator's tests use another policy"
    )
    assert binding["spec"] == admission_binding()["spec"]


def _comparable(policy: Json) -> Json:
    return {**policy, "validations": sorted("".join(each["expression"].split()) for each in policy["validations"])}


@pytest.mark.parametrize("action", ACTIONS)
def test_each_action_needs_its_verb_on_that_workflow(action: str) -> None:
    """Nobody approves who may only roll back, and nobody decides about another team's Workflow."""
    needed = verb(action.lower())
    assert denied("decision", asks("CREATE"), needed, new=decision(action)) == []
    others = [verb(each.lower()) for each in ACTIONS if each != action]
    others += [verb(action.lower(), on="low-cpu"), verb(action.lower(), namespace="sre")]
    (told,) = denied("decision", asks("CREATE"), *others, new=decision(action))
    assert told == (
        f"'{ALICE}' lacks the verb '{action.lower()}' on workflows.keep-operator.dev 'high-cpu' in namespace 'monitoring'"
    )


def test_nobody_decides_in_the_name_of_others() -> None:
    """The actor in the ledger is the user who was let in."""
    (told,) = denied("decision", asks("CREATE"), verb("rollback"), new=decision("Rollback", actor="bob@example.com"))
    assert told == (
        f"spec.actor is 'bob@example.com', but the decision is made by '{ALICE}': nobody decides in the name of others"
    )


def test_nobody_approves_for_a_group_that_he_is_not_in() -> None:
    """The groups in a decision are those that the API server knows its author in; he need not name all of them."""
    request = asks("CREATE", groups=("sre", "on-call", "system:authenticated"))
    for named in ([], ["sre"], ["on-call", "sre"]):
        assert denied("decision", request, verb("approve"), new=decision("Approve", actorGroups=named)) == []
    (told,) = denied("decision", request, verb("approve"), new=decision("Approve", actorGroups=["sre", "board", "ops"]))
    assert told == f"'{ALICE}' is not in all of the groups that spec.actorGroups names: not in board, ops"


def test_force_and_claims_need_verbs_of_their_own() -> None:
    """Taking a rejected version, and speaking for somebody else, are rights by themselves."""
    forced = decision("Rollback", force=True, onBehalfOf="carol")
    assert len(denied("decision", asks("CREATE"), verb("rollback"), new=forced)) == 2
    assert len(denied("decision", asks("CREATE"), verb("rollback"), verb("force"), new=forced)) == 1
    assert denied("decision", asks("CREATE"), *map(verb, ("rollback", "force", "onbehalfof")), new=forced) == []
    assert denied("decision", asks("CREATE"), verb("rollback"), new=decision("Rollback", force=False)) == []


@pytest.mark.parametrize(
    ("before", "after", "guarded"),
    [
        ({}, {}, False),
        ({}, {"release": {"strategy": {"type": "Manual"}}}, False),
        ({"release": {"checklist": []}}, {}, False),
        ({}, {"release": {"approval": {"required": "Always"}}}, True),
        ({"release": {"approval": {"required": "Always"}}}, {}, True),
        ({"release": {"approval": {"required": "Always"}}}, {"release": {"approval": {"required": "Never"}}}, True),
        ({"release": {"checklist": ["a"]}}, {"release": {"checklist": ["a", "b"]}}, True),
        ({"release": {"checklist": ["a"]}}, {"release": {}}, True),
        ({"release": {"checklist": ["a"]}}, {"release": {"checklist": ["a"]}}, False),
    ],
)
def test_who_has_to_be_asked_is_not_for_everybody_to_change(before: Json, after: Json, guarded: bool) -> None:
    """Whoever may edit a Workflow cannot edit its approval away."""
    request = asks("UPDATE", name="high-cpu")
    old, new = {"spec": {"definition": {}, **before}}, {"spec": {"definition": {}, **after}}
    assert bool(denied("release-guard", request, new=new, old=old)) is guarded
    assert denied("release-guard", request, verb("editapproval"), new=new, old=old) == []


ACTIVE: Final[Json] = {"status": {"conditions": [{"type": "Active", "status": "True"}]}}
INACTIVE: Final[Json] = {
    "status": {"conditions": [{"type": "Active", "status": "False"}, {"type": "Ready", "status": "True"}]}
}


def test_versions_are_made_by_the_operator() -> None:
    """Nobody slips in a version that was never declared, and the one that runs stays."""
    assert denied("revision-writer", asks("CREATE"), new={})
    assert denied("revision-writer", asks("DELETE"), old=ACTIVE)
    assert denied("revision-writer", asks("DELETE"), old=INACTIVE) == []
    assert denied("revision-writer", asks("DELETE"), old={}) == []


@pytest.mark.parametrize(
    "user",
    [
        OPERATOR,
        "system:serviceaccount:kube-system:generic-garbage-collector",
        "system:serviceaccount:kube-system:namespace-controller",
        "system:kube-controller-manager",
    ],
)
def test_the_cluster_itself_may_collect_them(user: str) -> None:
    """A namespace that is deleted does not hang on its active versions, nor does a Workflow."""
    assert denied("revision-writer", asks("DELETE", user), old=ACTIVE) == []


def test_the_operator_s_account_is_the_one_of_the_pods() -> None:
    """Where the account has another name, the policy knows it."""
    objects = helm().render({"operator": {"serviceAccount": {"create": False, "name": "mine"}}})
    (condition,) = one(objects, POLICY, "keep-operator-revision-writer")["spec"]["matchConditions"]
    assert f"'system:serviceaccount:{NAMESPACE}:mine'" in condition["expression"]


def _tenant(annotation: str | None = None, **status: object) -> Json:
    annotations = {"keep-operator.dev/confirm-deletion": annotation} if annotation else {}
    return {"metadata": {"name": "team", "annotations": annotations}, "status": status}


@pytest.mark.parametrize(
    ("policy", "old", "refused"),
    [
        ("Foreground", _tenant(providers={"total": 1}), True),
        ("Foreground", _tenant(workflows={"total": 1}), True),
        ("Foreground", _tenant("other", providers={"total": 1}), True),
        ("Foreground", _tenant("team", providers={"total": 1}), False),
        ("Foreground", _tenant(providers={"total": 0}, workflows={"total": 0}), False),
        ("Foreground", _tenant(), False),
        ("Foreground", {"metadata": {"name": "team"}}, False),
        ("Background", _tenant(providers={"total": 1}), False),
        ("Orphan", _tenant(providers={"total": 1}), False),
        (None, _tenant(providers={"total": 1}), False),
    ],
)
def test_one_wrong_prune_does_not_take_every_child(policy: str | None, old: Json, refused: bool) -> None:
    """A Tenant in use is not deleted in the foreground, unless somebody confirms it; all else is left to the finalizer."""
    request = asks("DELETE", options={"propagationPolicy": policy} if policy else {})
    assert bool(denied("tenant-guard", request, old=old)) is refused


def test_policies_are_rendered_where_they_are_served() -> None:
    """An old server is not given a kind that it does not know, and nobody is given rules that he does not want."""
    assert len(of_kind(helm().render({}, NEWEST), POLICY)) == 4
    assert len(of_kind(helm().render({}, "1.30.0"), POLICY)) == 4
    for kubernetes in (OLDEST, ANCIENT):
        assert not of_kind(helm().render({}, kubernetes), POLICY)
    assert not of_kind(helm().render({"admissionPolicies": {"enabled": False}}), POLICY)


def test_each_policy_is_bound_and_denies() -> None:
    """A policy without a binding does nothing."""
    objects = helm().render()
    names = {each["metadata"]["name"] for each in of_kind(objects, POLICY)}
    bindings = of_kind(objects, f"{POLICY}Binding")
    assert {each["spec"]["policyName"] for each in bindings} == names
    assert all(each["spec"]["validationActions"] == ["Deny"] for each in bindings)
    for name in names:
        spec = one(objects, POLICY, name)["spec"]
        assert spec["failurePolicy"] == "Fail"
        for each in spec["validations"]:
            assert "message" in each or "messageExpression" in each
            assert not re.search(r"[\n]", each.get("message", ""))
