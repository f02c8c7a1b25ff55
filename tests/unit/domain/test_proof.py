"""What the chart's admission policy proves about who decides, and when it does not."""

from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from keep_operator.domain import proof
from keep_operator.domain.proof import Standing
from keep_operator.resources import decision, objects
from keep_operator.resources.decision import WorkflowDecisionSpec
from keep_operator.resources.kinds import WORKFLOW_DECISIONS
from keep_operator.resources.objects import Object
from manifests import Json, admission_binding, admission_policy
from unit.builders import manifest, stamp

pytestmark = pytest.mark.unit

INSTALLED = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
LATER = INSTALLED + timedelta(hours=1)


def stored(what: Json, generation: int = 1, **metadata: Any) -> Json:
    """As the API server has it since the chart was installed."""
    there = {"creationTimestamp": stamp(INSTALLED), "generation": generation, **metadata}
    return {**what, "metadata": {**what["metadata"], **there}}


def edited(at: datetime, by: str = "f:spec") -> Json:
    """An entry of managedFields."""
    return {"manager": "helm", "operation": "Update", "time": stamp(at), "fieldsV1": {by: {}}}


POLICY, BINDING = stored(admission_policy()), stored(admission_binding())


def made(at: datetime, generation: int = 1, **spec: Any) -> Object[WorkflowDecisionSpec]:
    """A decision of that moment."""
    raw = {"workflowRef": {"name": "high-cpu"}, "action": "Promote", "actor": "bob", "requestId": "1", **spec}
    body = manifest("decision", raw, namespace="monitoring", created_at=at, generation=generation)
    return objects.parse(WORKFLOW_DECISIONS.kind, body, decision)


def test_the_policy_proves_who_decides() -> None:
    """What was made while the policy was in force was made by whom it names, with the right to."""
    found = proof.standing(POLICY, BINDING)
    assert found == Standing(INSTALLED)
    assert proof.lack(found, made(LATER)) is None


def test_what_was_made_before_is_not_proven() -> None:
    """A policy looks at nothing that is there already, and each API server learns of it at its own time."""
    found = proof.standing(POLICY, BINDING)
    for early in (INSTALLED - timedelta(days=1), INSTALLED, INSTALLED + timedelta(seconds=59)):
        assert "was in force for a minute" in str(proof.lack(found, made(early)))
    assert proof.lack(found, made(INSTALLED + proof.SETTLING)) is None
    late = proof.standing(POLICY, stored(admission_binding(), creationTimestamp=stamp(LATER)))
    assert late == Standing(LATER)


def test_a_decision_that_was_changed_proves_nothing() -> None:
    """The policy looks at what is made; where the definition of the kind does not forbid edits one might follow."""
    assert "was changed" in str(proof.lack(proof.standing(POLICY, BINDING), made(LATER, generation=2)))


def test_a_policy_that_was_weak_for_a_while_begins_anew() -> None:
    """Whoever loosened it and made it whole again has left no proof of what was made meanwhile."""
    for policy, binding in (
        (stored(admission_policy(), 3, managedFields=[edited(LATER), edited(INSTALLED)]), BINDING),
        (POLICY, stored(admission_binding(), 2, managedFields=[edited(LATER)])),
    ):
        assert proof.standing(policy, binding) == Standing(LATER)
    labels = stored(admission_policy(), 2, managedFields=[edited(INSTALLED), edited(LATER, "f:metadata")])
    assert proof.standing(labels, BINDING) == Standing(INSTALLED)
    wiped = proof.standing(stored(admission_policy(), 2), BINDING)
    assert wiped.since is None
    assert "nobody can tell since when" in wiped.lack


@pytest.mark.parametrize(
    ("policy", "binding", "told"),
    [
        (None, None, 'there is no ValidatingAdmissionPolicy "keep-operator-decision"'),
        (POLICY, None, 'there is no ValidatingAdmissionPolicyBinding "keep-operator-decision"'),
        (stored(admission_policy(), deletionTimestamp=stamp(LATER)), BINDING, "there is no ValidatingAdmissionPolicy "),
    ],
)
def test_both_must_be_there(policy: Json | None, binding: Json | None, told: str) -> None:
    """A policy that nobody bound does nothing, and one that goes does not count."""
    found = proof.standing(policy, binding)
    assert found.since is None
    assert found.lack.startswith(told)


RULE = ("apiGroups", "apiVersions", "operations", "resources", "resourceNames", "scope")


def narrowed(**matched: Any) -> dict[str, Any]:
    """What to match, with something else than the chart says."""
    constraints = deepcopy(admission_policy()["spec"]["matchConstraints"])
    rule = {key: value for key, value in matched.items() if key in RULE}
    constraints["resourceRules"][0] |= rule
    return {"matchConstraints": {**constraints, **{key: value for key, value in matched.items() if key not in rule}}}


SELECTOR = {"matchLabels": {"checked": "true"}}


@pytest.mark.parametrize(
    "weaker",
    [
        {"failurePolicy": "Ignore"},
        {"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}},
        {"matchConditions": [{"name": "not-mine", "expression": "request.userInfo.username != 'eve'"}]},
        {"matchConstraints": {}},
        narrowed(operations=["UPDATE"]),
        narrowed(apiVersions=["v1alpha1"]),
        narrowed(apiGroups=["example.com"]),
        narrowed(resources=["workflows"]),
        narrowed(resourceNames=["one"]),
        narrowed(scope="Cluster"),
        narrowed(namespaceSelector=SELECTOR),
        narrowed(objectSelector=SELECTOR),
        narrowed(excludeResourceRules=[{"resources": ["workflowdecisions"]}]),
        {"validations": []},
        *(
            {"validations": [{"expression": each} for each in proof.REQUIRED.values() if each != left_out]}
            for left_out in proof.REQUIRED.values()
        ),
        {"validations": [{"expression": f"true || ({each})"} for each in proof.REQUIRED.values()]},
    ],
)
def test_a_weaker_policy_proves_nothing(weaker: dict[str, Any]) -> None:
    """Whatever lets somebody through takes the proof away, and the message says what it is."""
    found = proof.standing(stored(admission_policy(**weaker)), BINDING)
    assert found.since is None
    assert found.lack.startswith('the ValidatingAdmissionPolicy "keep-operator-decision" ')


@pytest.mark.parametrize(
    "weaker",
    [
        {"policyName": "another"},
        {"validationActions": ["Audit", "Warn"]},
        {"paramRef": {"name": "a", "parameterNotFoundAction": "Allow"}},
        {"matchResources": {"namespaceSelector": SELECTOR}},
        {"matchResources": {"resourceRules": [{"resources": ["workflows"]}]}},
    ],
)
def test_a_weaker_binding_proves_nothing(weaker: dict[str, Any]) -> None:
    """The same of the binding."""
    found = proof.standing(POLICY, stored(admission_binding(**weaker)))
    assert found.since is None
    assert found.lack.startswith('the ValidatingAdmissionPolicyBinding "keep-operator-decision" ')


def test_what_the_api_server_fills_in_weakens_nothing() -> None:
    """It writes defaults, may wrap lines, and an administrator may ask for more."""
    constraints = narrowed(scope="*", namespaceSelector={}, objectSelector={}, matchPolicy="Equivalent")
    more = [{"expression": f"{each}\n ".replace(" ", "\n  ")} for each in proof.REQUIRED.values()]
    policy = admission_policy(**constraints, validations=[*more, {"expression": "size(object.spec.reason) > 10"}])
    binding = admission_binding(validationActions=["Deny", "Audit"], matchResources={"namespaceSelector": {}})
    assert proof.standing(stored(policy), stored(binding)) == Standing(INSTALLED)


def test_only_of_service_accounts_all_groups_are_known() -> None:
    """Nobody can ask which groups a person is in; of a service account the name tells."""
    assert proof.known_groups("system:serviceaccount:argocd:argocd-server") == (
        "system:serviceaccounts",
        "system:serviceaccounts:argocd",
        "system:authenticated",
    )
    for other in ("ann@example.com", "system:admin", "system:serviceaccount:argocd", "system:node:a:b", "a:b:c:d"):
        assert proof.known_groups(other) is None


def test_force_and_claims_are_rights_of_their_own() -> None:
    """The second look asks for what the policy asks for."""
    spec = made(LATER, force=True, onBehalfOf="ann").spec
    assert isinstance(spec, WorkflowDecisionSpec)
    assert proof.verbs(spec) == ("promote", "force", "onbehalfof")
    plain = made(LATER).spec
    assert isinstance(plain, WorkflowDecisionSpec)
    assert proof.verbs(plain) == ("promote",)
