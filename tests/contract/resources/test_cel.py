"""Each rule over several fields means the same to the API server (CEL) and to the operator (Python)."""

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
from cel_expr_python import cel
from hypothesis import given
from hypothesis import strategies as st

from keep_operator.resources import crds, decision, provider, revision, run, tenant, workflow
from keep_operator.resources.decision import ACTIONS
from keep_operator.resources.provider import ProviderSpec
from keep_operator.resources.revision import WorkflowRevisionSpec, WorkflowRevisionStatus
from keep_operator.resources.rules import Reported
from keep_operator.resources.run import WorkflowRunSpec, WorkflowRunStatus
from keep_operator.resources.shapes import Invalid, Violation

pytestmark = pytest.mark.contract

Json = dict[str, Any]
SCHEMAS = {
    crd["spec"]["names"]["kind"]: crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"] for crd in crds.build_all()
}
# A function that the API server has beyond the language; lists of numbers are all that is asked of it here.
IS_SORTED = cel.FunctionDecl(
    "isSorted",
    [
        cel.Overload(
            id="list_is_sorted",
            return_type=cel.Type.BOOL,
            parameters=[cel.Type.List(cel.Type.DYN)],
            is_member=True,
            impl=lambda values: values == sorted(values),
        )
    ],
)
ENVIRONMENT = cel.NewEnv(variables={"self": cel.Type.DYN, "oldSelf": cel.Type.DYN}, functions=[IS_SORTED])
ABSENT = object()


@cache
def compiled(rule: str) -> Any:
    """The expression, type-checked as far as untyped data allows."""
    return ENVIRONMENT.compile(rule)


def holds(rule: str, value: object, old: object) -> bool:
    """What the API server concludes: a rule that ends in an error does not hold."""
    result = compiled(rule).eval(data={"self": value, "oldSelf": None if old is ABSENT else old})
    # A missing key is not raised but returned as a value of type ERROR.
    return bool(result.type() == cel.Type.BOOL and result.value())


def refused(schema: Json, value: Any, old: Any = ABSENT, path: str = "") -> Iterator[tuple[str, str]]:
    """Path and message of every rule in a schema that a value breaks, as the API server evaluates them.

    A rule on a change is skipped where there is no old value, and inside of lists that are replaced as a whole.
    """
    for entry in schema.get("x-kubernetes-validations", ()):
        change = "oldSelf" in entry["rule"]
        if (not change or old is not ABSENT) and not holds(entry["rule"], value, old):
            yield (path + entry.get("fieldPath", "")).lstrip("."), entry["message"]
    for name, field in schema.get("properties", {}).items():
        if name in value:
            before = ABSENT if old is ABSENT else old.get(name, ABSENT)
            yield from refused(field, value[name], before, f"{path}.{name}")
    if "items" in schema:
        for index, entry in enumerate(value):
            yield from refused(schema["items"], entry, path=f"{path}[{index}]")


def defaulted(schema: Json, value: Any) -> Any:
    """The value with the defaults that the API server fills in before it checks anything."""
    if isinstance(value, dict) and "properties" in schema:
        fields = schema["properties"]
        filled = {name: field["default"] for name, field in fields.items() if "default" in field} | value
        return {name: defaulted(fields.get(name, {}), below) for name, below in filled.items()}
    if isinstance(value, list):
        return [defaulted(schema.get("items", {}), entry) for entry in value]
    return value


def by_server(kind: str, name: str, new: Json, old: Json | None = None) -> set[tuple[str, str]]:
    """What a server with CEL says to an object, or to a change of it."""
    thing = defaulted(SCHEMAS[kind], {"metadata": {"name": name}, "spec": new})
    before = ABSENT if old is None else defaulted(SCHEMAS[kind], {"metadata": {"name": name}, "spec": old})
    return set(refused(SCHEMAS[kind], thing, before))


def by_operator(kind: str, name: str, new: Json, old: Json | None = None) -> set[tuple[str, str]]:
    """What the operator says to the same."""
    reader, forbidden = READERS[kind]
    spec = reader.parse_spec(new)
    assert not isinstance(spec, Invalid), spec
    found = reader.violations(spec, name)
    if old is not None:
        before = reader.parse_spec(old)
        assert not isinstance(before, Invalid), before
        found += forbidden(before, spec, name)
    return {(violation.path, violation.message) for violation in found}


Forbidden = Callable[[Any, Any, str], tuple[Violation, ...]]
READERS: dict[str, tuple[Any, Forbidden]] = {
    "Tenant": (tenant, tenant.forbidden_changes),
    "Provider": (provider, lambda old, new, _name: provider.forbidden_changes(old, new)),
    "Workflow": (workflow, lambda old, new, _name: workflow.forbidden_changes(old, new)),
    "WorkflowRevision": (
        revision,
        lambda old, new, _name: revision.forbidden_changes(Reported(old, None), Reported(new, None)),
    ),
    "WorkflowRun": (run, lambda old, new, _name: run.forbidden_changes(Reported(old, None), Reported(new, None))),
    "WorkflowDecision": (decision, decision.forbidden_changes),
}


def selector(**requirement: object) -> Json:
    """A Tenant's spec with a selector of one requirement."""
    return {"allowedNamespaces": {"selector": {"matchExpressions": [{"key": "a", **requirement}]}}}


def strategy(kind: str | None = None, *steps: Json) -> Json:
    """A Workflow's spec that releases in this way; with steps it says `canary`."""
    given: Json = {"type": kind} if kind else {}
    return FLOW | {"release": {"strategy": given | ({"canary": {"steps": list(steps)}} if steps else {})}}


def release(**parts: Any) -> Json:
    """A Workflow's spec with these parts of `release`."""
    return FLOW | {"release": parts}


FLOW: Json = {"definition": {"triggers": [{"type": "manual"}]}}
FROM: Json = {"definitionFrom": {"configMapKeyRef": {"name": "flows", "key": "a.yaml"}}}
ANALYSIS: Json = {"analysis": {"minRuns": 1, "window": "30m", "maxFailureRatePercent": 5}}
GUARD: Json = {"enabled": True, "window": "1h", "minRuns": 20, "maxFailureRatePercent": 10}
HASH = "0123456789abcdef" * 4
RECORD: Json = {
    "workflowRef": {"name": "a"},
    "lineageId": "0b8d6c1e-54c0-4f0e-8b2f-3a9d0a4a7e55",
    "number": 2,
    "contentHash": HASH,
    "hashVersion": 1,
    "definition": {"steps": [{"name": "a", "with": {"x": [1, None]}}]},
    "createdFromGeneration": 4,
}
EDITED = {"steps": [{"name": "a", "with": {"x": [2, None]}}]}


def decided(action: str, **more: Any) -> Json:
    """A WorkflowDecision's spec."""
    return {"workflowRef": {"name": "a"}, "action": action, "actor": "ann", "requestId": "1", **more}


def asked(**more: Any) -> Json:
    """A WorkflowRun's spec."""
    return {"workflowRef": {"name": "a"}, **more}


STRATEGY = "spec.release.strategy"
KEEP, OTHER = {"tenantRef": {"name": "keep"}}, {"tenantRef": {"name": "other"}}
SLACK, TEAMS = {"type": "slack"}, {"type": "teams"}
# kind, name, spec, earlier spec, the paths that are blamed
SAMPLES: list[tuple[str, str, Json, Json | None, set[str]]] = [
    ("Tenant", "keep", {}, None, set()),
    ("Tenant", "team.a", {}, None, {"spec.tenantId"}),
    ("Tenant", "a" * 63, {}, None, set()),
    ("Tenant", "a" * 64, {}, None, {"spec.tenantId"}),
    ("Tenant", "team.a", {"tenantId": "team-a"}, None, set()),
    ("Tenant", "keep", {}, {}, set()),
    ("Tenant", "keep", {"tenantId": "keep"}, {}, set()),
    ("Tenant", "keep", {}, {"tenantId": "keep"}, set()),
    ("Tenant", "keep", {"tenantId": "other"}, {}, {"spec.tenantId"}),
    ("Tenant", "keep", {}, {"tenantId": "other"}, {"spec.tenantId"}),
    ("Tenant", "keep", {"tenantId": "a"}, {"tenantId": "b"}, {"spec.tenantId"}),
    ("Tenant", "keep", {"allowedNamespaces": {}}, None, {"spec.allowedNamespaces"}),
    ("Tenant", "keep", {"allowedNamespaces": {"names": []}}, None, set()),
    ("Tenant", "keep", {"allowedNamespaces": {"selector": {}}}, None, set()),
    ("Tenant", "keep", {"allowedNamespaces": {"all": True}}, None, set()),
    ("Tenant", "keep", {"allowedNamespaces": {"all": True, "names": ["a"]}}, None, {"spec.allowedNamespaces"}),
    ("Tenant", "keep", selector(operator="In", values=["a"]), None, set()),
    ("Tenant", "keep", selector(operator="Exists"), None, set()),
    ("Tenant", "keep", selector(operator="DoesNotExist", values=[]), None, set()),
    (
        "Tenant",
        "keep",
        selector(operator="NotIn"),
        None,
        {"spec.allowedNamespaces.selector.matchExpressions[0].values"},
    ),
    (
        "Tenant",
        "keep",
        selector(operator="Exists", values=["a"]),
        None,
        {"spec.allowedNamespaces.selector.matchExpressions[0].values"},
    ),
    ("Provider", "vm", SLACK, None, set()),
    ("Provider", "vm.a", SLACK, None, {"spec.externalName"}),
    ("Provider", "vm.a", {**SLACK, "externalName": "VM_a"}, None, set()),
    ("Provider", "vm", {**SLACK, "resyncPeriod": "30s"}, None, set()),
    ("Provider", "vm", {**SLACK, "resyncPeriod": "1h30m"}, None, set()),
    ("Provider", "vm", {**SLACK, "resyncPeriod": "29.999s"}, None, {"spec.resyncPeriod"}),
    ("Provider", "vm", {**SLACK, "resyncPeriod": "0s"}, None, {"spec.resyncPeriod"}),
    ("Provider", "vm", TEAMS, SLACK, {"spec.type"}),
    ("Provider", "vm", SLACK | KEEP, SLACK, set()),
    ("Provider", "vm", SLACK | KEEP, SLACK | KEEP, set()),
    ("Provider", "vm", SLACK | OTHER, SLACK | KEEP, {"spec.tenantRef"}),
    ("Provider", "vm", SLACK, SLACK | KEEP, {"spec.tenantRef"}),
    (
        "Provider",
        "vm.a",
        TEAMS | {"resyncPeriod": "1s"},
        SLACK | KEEP,
        {"spec.externalName", "spec.resyncPeriod", "spec.type", "spec.tenantRef"},
    ),
    ("Workflow", "a.b", FLOW, None, set()),
    ("Workflow", "a", {"definition": {}}, None, set()),
    ("Workflow", "a", FROM, None, set()),
    ("Workflow", "a", {}, None, {"spec"}),
    ("Workflow", "a", FLOW | FROM, None, {"spec"}),
    ("Workflow", "a", FROM, FLOW, set()),
    ("Workflow", "a", FLOW | KEEP, FLOW, set()),
    ("Workflow", "a", FLOW | KEEP, FROM | KEEP, set()),
    ("Workflow", "a", FLOW | OTHER, FLOW | KEEP, {"spec.tenantRef"}),
    ("Workflow", "a", FLOW, FLOW | KEEP, {"spec.tenantRef"}),
    ("Workflow", "a", strategy(), None, set()),
    ("Workflow", "a", strategy("Manual"), None, set()),
    ("Workflow", "a", strategy("Canary"), None, {f"{STRATEGY}.canary"}),
    ("Workflow", "a", strategy(None, {"setWeight": 5}), None, {f"{STRATEGY}.canary"}),
    ("Workflow", "a", strategy("AllAtOnce", {"setWeight": 5}), None, {f"{STRATEGY}.canary"}),
    ("Workflow", "a", strategy("Canary", {"setWeight": 5}, {"pause": {}}, ANALYSIS, {"setWeight": 5}), None, set()),
    ("Workflow", "a", strategy("Canary", {"pause": {"duration": "10m"}}), None, set()),
    ("Workflow", "a", strategy("Canary", {"setWeight": 5}, {}), None, {f"{STRATEGY}.canary.steps[1]"}),
    (
        "Workflow",
        "a",
        strategy("Canary", {"setWeight": 5, "pause": {}}, {"pause": {}} | ANALYSIS),
        None,
        {f"{STRATEGY}.canary.steps[0]", f"{STRATEGY}.canary.steps[1]"},
    ),
    (
        "Workflow",
        "a",
        strategy("Canary", {"setWeight": 20}, ANALYSIS, {"setWeight": 19}),
        None,
        {f"{STRATEGY}.canary.steps"},
    ),
    ("Workflow", "a", release(autoRollback={}), None, set()),
    ("Workflow", "a", release(autoRollback=GUARD), None, set()),
    ("Workflow", "a", release(autoRollback={"minRuns": 1}), None, set()),
    ("Workflow", "a", release(autoRollback={"enabled": True}), None, {"spec.release.autoRollback"}),
    (
        "Workflow",
        "a",
        release(autoRollback={key: value for key, value in GUARD.items() if key != "window"}),
        None,
        {"spec.release.autoRollback"},
    ),
    ("Workflow", "a", release(pin={}), None, {"spec.release.pin"}),
    ("Workflow", "a", release(pin={"revision": 1}), None, set()),
    ("Workflow", "a", release(pin={"contentHash": HASH}), None, set()),
    ("Workflow", "a", release(pin={"tag": "production"}), None, set()),
    ("Workflow", "a", release(pin={"revision": 1, "tag": "production"}), None, {"spec.release.pin"}),
    ("Workflow", "a", release(tags=["v1.0", "production"]), None, set()),
    ("Workflow", "a", release(tags=["v1.0", "latest"]), None, {"spec.release.tags"}),
    ("WorkflowRevision", "a", RECORD, None, set()),
    ("WorkflowRevision", "a", RECORD, RECORD, set()),
    ("WorkflowRevision", "a", RECORD | {"definition": EDITED}, RECORD, {"spec"}),
    ("WorkflowRevision", "a", RECORD | {"definition": {}}, RECORD, {"spec"}),
    ("WorkflowRevision", "a", RECORD | {"number": 3}, RECORD, {"spec"}),
    ("WorkflowRevision", "a", RECORD | {"changeNote": ""}, RECORD, {"spec"}),
    ("WorkflowRevision", "a", RECORD, RECORD | {"author": {"username": "ann", "source": "Annotation"}}, {"spec"}),
    ("WorkflowRun", "a", asked(), None, set()),
    ("WorkflowRun", "a", asked(revision={"number": 1}), None, set()),
    ("WorkflowRun", "a", asked(revision={"contentHash": HASH}), None, set()),
    ("WorkflowRun", "a", asked(revision={}), None, {"spec.revision"}),
    ("WorkflowRun", "a", asked(revision={"number": 1, "tag": "a"}), None, {"spec.revision"}),
    ("WorkflowRun", "a", asked(timeout="1s"), None, set()),
    ("WorkflowRun", "a", asked(timeout="999ms"), None, {"spec.timeout"}),
    ("WorkflowRun", "a", asked(), asked(), set()),
    ("WorkflowRun", "a", asked(cancel=True), asked(), set()),
    ("WorkflowRun", "a", asked(cancel=True), asked(cancel=True), set()),
    ("WorkflowRun", "a", asked(), asked(cancel=True), {"spec.cancel"}),
    ("WorkflowRun", "a", asked(cancel=False), asked(cancel=True), {"spec.cancel"}),
    ("WorkflowRun", "a", asked(timeout="60s"), asked(timeout="1m"), set()),
    ("WorkflowRun", "a", asked(mode="Live", trigger="Manual", ttlSecondsAfterFinished=3600), asked(), set()),
    ("WorkflowRun", "a", asked(mode="DryRun"), asked(), {"spec"}),
    ("WorkflowRun", "a", asked(trigger="Alert"), asked(), {"spec"}),
    ("WorkflowRun", "a", asked(workflowRef={"name": "b"}), asked(), {"spec"}),
    ("WorkflowRun", "a", asked(revision={"number": 2}), asked(revision={"number": 1}), {"spec"}),
    ("WorkflowRun", "a", asked(), asked(revision={"number": 1}), {"spec"}),
    ("WorkflowRun", "a", asked(inputs={}), asked(), {"spec"}),
    ("WorkflowRun", "a", asked(inputs={"x": 1}), asked(inputs={"x": 1}), set()),
    ("WorkflowRun", "a", asked(inputs={"x": 2}), asked(inputs={"x": 1}), {"spec"}),
    ("WorkflowRun", "a", asked(retryOf={"name": "c"}), asked(retryOf={"name": "b"}), {"spec"}),
    ("WorkflowRun", "a", asked(idempotencyKey="1"), asked(), {"spec"}),
    ("WorkflowRun", "a", asked(timeout="2s"), asked(timeout="1s"), {"spec"}),
    ("WorkflowRun", "a", asked(ttlSecondsAfterFinished=0), asked(), {"spec"}),
    ("WorkflowDecision", "a", decided("Rollback", reason="x"), None, set()),
    ("WorkflowDecision", "a", decided("Rollback"), None, {"spec.reason"}),
    ("WorkflowDecision", "a", decided("Note", reason=""), None, {"spec.reason"}),
    ("WorkflowDecision", "a", decided("Deny", revision={"number": 1}), None, {"spec.reason"}),
    ("WorkflowDecision", "a", decided("Reject"), None, {"spec.reason", "spec.revision"}),
    ("WorkflowDecision", "a", decided("Resume"), None, set()),
    ("WorkflowDecision", "a", decided("Approve"), None, {"spec.revision"}),
    ("WorkflowDecision", "a", decided("Approve", revision={}), None, {"spec.revision"}),
    ("WorkflowDecision", "a", decided("Approve", revision={"number": 1, "tag": "a"}), None, {"spec.revision"}),
    ("WorkflowDecision", "a", decided("Approve", revision={"contentHash": HASH}), None, set()),
    ("WorkflowDecision", "a", decided("Deploy", revision={"previous": True}), None, set()),
    ("WorkflowDecision", "a", decided("Tag", revision={"number": 1}, tag="production"), None, set()),
    ("WorkflowDecision", "a", decided("Tag", revision={"number": 1}), None, {"spec.tag"}),
    ("WorkflowDecision", "a", decided("Tag", revision={"number": 1}, tag="latest"), None, {"spec.tag"}),
    ("WorkflowDecision", "a", decided("Untag", tag="latest"), None, set()),
    ("WorkflowDecision", "a", decided("Pause", tag="a"), None, {"spec.tag"}),
    ("WorkflowDecision", "a", decided("CheckItem", revision={"number": 1}, item="tried"), None, set()),
    ("WorkflowDecision", "a", decided("CheckItem", revision={"number": 1}), None, {"spec.item"}),
    ("WorkflowDecision", "a", decided("Promote", item="tried"), None, {"spec.item"}),
    ("WorkflowDecision", "a", decided("Promote"), decided("Promote"), set()),
    ("WorkflowDecision", "a", decided("Promote", full=False), decided("Promote"), set()),
    ("WorkflowDecision", "a", decided("Promote"), decided("Abort"), {"spec"}),
    ("WorkflowDecision", "a", decided("Promote", full=True), decided("Promote"), {"spec"}),
    ("WorkflowDecision", "a", decided("Promote") | {"actor": "bob"}, decided("Promote"), {"spec"}),
]


@pytest.mark.parametrize(("kind", "name", "new", "old", "blamed"), SAMPLES)
def test_server_and_operator_say_the_same(kind: str, name: str, new: Json, old: Json | None, blamed: set[str]) -> None:
    """Whether a cluster knows CEL or not, a user gets the same answer about the same field."""
    assert {path for path, _ in by_server(kind, name, new, old)} == blamed
    assert by_operator(kind, name, new, old) == by_server(kind, name, new, old)


def verdicts(**conditions: str) -> Json:
    """A WorkflowRevision's status with these conditions."""
    return {"conditions": [condition(kind, status) for kind, status in conditions.items()]}


def condition(kind: str, status: str) -> Json:
    """A condition of this type and status."""
    time = "2026-11-25T07:00:00Z"
    return {"type": kind, "status": status, "reason": "X", "message": "", "lastTransitionTime": time}


APPROVED, DENIED = verdicts(Approved="True", Ready="True"), verdicts(Denied="True")
# status, earlier status (None: none), the paths that are blamed
STATES: list[tuple[Json | None, Json | None, set[str]]] = [
    (None, None, set()),
    (None, {"runs": {"total": 1, "failed": 0}}, set()),
    (None, verdicts(Ready="True"), set()),
    (APPROVED, None, set()),
    (APPROVED, APPROVED, set()),
    (APPROVED, verdicts(), set()),
    (verdicts(Approved="True", Ready="False"), APPROVED, set()),
    (verdicts(Approved="True", Denied="False"), None, set()),
    (None, APPROVED, {"status"}),
    ({}, APPROVED, {"status"}),
    (verdicts(), APPROVED, {"status"}),
    (verdicts(Ready="True"), APPROVED, {"status"}),
    (verdicts(Approved="False"), APPROVED, {"status"}),
    (verdicts(Approved="Unknown"), APPROVED, {"status"}),
    (None, DENIED, {"status"}),
    (verdicts(Denied="False"), DENIED, {"status"}),
    (APPROVED, DENIED, {"status"}),
    (verdicts(Approved="True", Denied="True"), None, {"status.conditions"}),
    (verdicts(Approved="True", Denied="True"), APPROVED, {"status.conditions"}),
]


def snapshot(status: Json | None) -> Reported[WorkflowRevisionSpec, WorkflowRevisionStatus]:
    """A version in this state, as the operator reads it."""
    spec, read = revision.parse_spec(RECORD), None if status is None else revision.parse_status(status)
    assert not isinstance(spec, Invalid), spec
    assert not isinstance(read, Invalid), read
    return Reported(spec, read)


def state_by_server(status: Json | None, earlier: Json | None) -> set[tuple[str, str]]:
    """What a server with CEL says to a write of a version's status."""
    old, new = (
        {"metadata": {"name": "a"}, "spec": RECORD} | ({} if each is None else {"status": each})
        for each in (earlier, status)
    )
    return set(refused(SCHEMAS["WorkflowRevision"], new, old))


def state_by_operator(status: Json | None, earlier: Json | None) -> set[tuple[str, str]]:
    """What the operator says to the same."""
    old, new = snapshot(earlier), snapshot(status)
    found = revision.forbidden_changes(old, new) + (revision.status_violations(new.status) if new.status else ())
    return {(violation.path, violation.message) for violation in found}


@pytest.mark.parametrize(("status", "earlier", "blamed"), STATES)
def test_verdicts_are_final_for_both(status: Json | None, earlier: Json | None, blamed: set[str]) -> None:
    """No approval is taken back and no denial forgotten, by whatever write: not by removing the status either."""
    assert {path for path, _ in state_by_server(status, earlier)} == blamed
    assert state_by_operator(status, earlier) == state_by_server(status, earlier)


states = st.none() | st.dictionaries(
    st.sampled_from(["Approved", "Denied", "Ready"]), st.sampled_from(["True", "False", "Unknown"])
).map(lambda conditions: verdicts(**conditions))


@given(states, states)
def test_any_state_is_judged_alike(status: Json | None, earlier: Json | None) -> None:
    """No verdict is final here and open there."""
    assert state_by_operator(status, earlier) == state_by_server(status, earlier)


BOUND: Json = {"revision": {"number": 2, "name": "a-v2-01234567", "contentHash": HASH}}
ELSEWHERE: Json = {"revision": BOUND["revision"] | {"number": 1}}
RUNNING, DONE, FAILED = (BOUND | verdicts(Succeeded=each) for each in ("Unknown", "True", "False"))
# status, earlier status (None: none), the paths that are blamed
RUNS: list[tuple[Json | None, Json | None, set[str]]] = [
    (None, None, set()),
    (BOUND, None, set()),
    (BOUND, {}, set()),
    (BOUND, verdicts(Accepted="Unknown"), set()),
    (RUNNING, BOUND, set()),
    (DONE, RUNNING, set()),
    (FAILED, RUNNING, set()),
    (DONE, DONE, set()),
    (verdicts(Succeeded="False"), verdicts(Accepted="Unknown", Succeeded="Unknown"), set()),
    (None, BOUND, {"status"}),
    ({}, BOUND, {"status"}),
    (ELSEWHERE, BOUND, {"status"}),
    (None, verdicts(Succeeded="True"), {"status"}),
    (verdicts(), verdicts(Succeeded="True"), {"status"}),
    (FAILED, DONE, {"status"}),
    (DONE, FAILED, {"status"}),
    (RUNNING, DONE, {"status"}),
    (None, DONE, {"status"}),
]


def run_by_server(status: Json | None, earlier: Json | None) -> set[tuple[str, str]]:
    """What a server with CEL says to a write of a run's status."""
    old, new = (
        {"metadata": {"name": "a"}, "spec": asked()} | ({} if each is None else {"status": each})
        for each in (earlier, status)
    )
    return set(refused(SCHEMAS["WorkflowRun"], new, old))


def run_by_operator(status: Json | None, earlier: Json | None) -> set[tuple[str, str]]:
    """What the operator says to the same."""

    def snapshot(status: Json | None) -> Reported[WorkflowRunSpec, WorkflowRunStatus]:
        spec, read = run.parse_spec(asked()), None if status is None else run.parse_status(status)
        assert not isinstance(spec, Invalid), spec
        assert not isinstance(read, Invalid), read
        return Reported(spec, read)

    found = run.forbidden_changes(snapshot(earlier), snapshot(status))
    return {(violation.path, violation.message) for violation in found}


@pytest.mark.parametrize(("status", "earlier", "blamed"), RUNS)
def test_a_run_is_bound_and_ends_once_for_both(status: Json | None, earlier: Json | None, blamed: set[str]) -> None:
    """A-RUN-2: nobody makes a run one of another version, or lets one that has ended go on; not by removing the status either."""
    assert {path for path, _ in run_by_server(status, earlier)} == blamed
    assert run_by_operator(status, earlier) == run_by_server(status, earlier)


run_states = st.none() | st.builds(
    lambda bound, conditions: {**bound, **conditions},
    st.sampled_from([{}, BOUND, ELSEWHERE]),
    st.sampled_from([{}, *(verdicts(Accepted="True", Succeeded=each) for each in ("True", "False", "Unknown"))]),
)


@given(run_states, run_states)
def test_any_state_of_a_run_is_judged_alike(status: Json | None, earlier: Json | None) -> None:
    """No end is final here and open there."""
    assert run_by_operator(status, earlier) == run_by_server(status, earlier)


# kind, name, spec as it was before there was the rule, spec after an edit, the paths that are blamed
ELDERS: list[tuple[str, str, Json, Json, set[str]]] = [
    ("Tenant", "team.a", {}, {}, set()),
    ("Tenant", "team.a", {}, {"suspend": True}, set()),
    ("Tenant", "team.a", {"tenantId": "team-a"}, {}, {"spec.tenantId"}),
    ("Provider", "vm.a", SLACK, SLACK, set()),
    ("Provider", "vm.a", SLACK, SLACK | {"suspend": True}, set()),
    ("Provider", "vm.a", SLACK | {"externalName": "a"}, SLACK, {"spec.externalName"}),
]


@pytest.mark.parametrize(("kind", "name", "old", "new", "blamed"), ELDERS)
def test_an_object_that_is_older_than_a_rule_can_be_reported_on_and_go(
    kind: str, name: str, old: Json, new: Json, blamed: set[str]
) -> None:
    """Writes of status and finalizers are not refused for what was there before; who newly breaks a rule is."""
    state = {"metadata": {"name": name}, "status": {}}
    found = refused(SCHEMAS[kind], {**state, "spec": new}, {**state, "spec": old})
    assert {path for path, _ in found} == blamed


def rules_of(schema: Json) -> Iterator[tuple[Json, str]]:
    """Every rule below a schema, with the schema that it stands on."""
    for entry in schema.get("x-kubernetes-validations", ()):
        yield schema, entry["rule"]
    for field in schema.get("properties", {}).values():
        yield from rules_of(field)
    if "items" in schema:
        yield from rules_of(schema["items"])


RULES = [(kind, schema, rule) for kind, root in SCHEMAS.items() for schema, rule in rules_of(root)]


def test_every_rule_has_a_sample_that_breaks_it() -> None:
    """No rule is only believed to work."""
    messages = {entry["message"] for _, schema, _ in RULES for entry in schema["x-kubernetes-validations"]}
    broken = {message for kind, name, new, old, _ in SAMPLES for _, message in by_server(kind, name, new, old)}
    broken |= {message for status, earlier, _ in STATES for _, message in state_by_server(status, earlier)}
    broken |= {message for status, earlier, _ in RUNS for _, message in run_by_server(status, earlier)}
    assert broken == messages


@pytest.mark.parametrize(("kind", "schema", "rule"), RULES)
def test_rules_speak_only_of_fields_that_exist(kind: str, schema: Json, rule: str) -> None:
    """The API server, which knows the types, refuses a definition whose rule has a slip in a field's name."""
    for path in re.findall(r"\b(?:self|oldSelf)((?:\.\w+)+)", rule):
        node = schema
        for part in path.strip(".").split("."):
            if part in {"matches", "exists_one", "exists", "filter"}:
                break
            if part == "metadata" and "spec" in node["properties"]:
                assert path.startswith(".metadata.name"), path
                break
            assert part in node["properties"], f"{kind}: {path}"
            node = node["properties"][part]
    assert compiled(rule).return_type() == cel.Type.BOOL or compiled(rule).return_type() == cel.Type.DYN


@pytest.mark.parametrize(("kind", "schema", "rule"), RULES)
def test_a_rule_blames_a_field_that_exists(kind: str, schema: Json, rule: str) -> None:
    """The API server refuses a definition whose `fieldPath` leads nowhere."""
    entry = next(entry for entry in schema["x-kubernetes-validations"] if entry["rule"] == rule)
    node = schema
    for part in entry.get("fieldPath", "").strip(".").split("."):
        node = node["properties"][part] if part else node
    assert not entry["message"].endswith(".")


def test_rules_about_changes_stand_where_they_cannot_be_avoided() -> None:
    """A client cannot skip such a rule by removing the value that it stands on."""
    for kind, schema, rule in RULES:
        if "oldSelf" in rule:
            assert schema is SCHEMAS[kind] or schema is SCHEMAS[kind]["properties"]["spec"], rule
            assert "spec" in SCHEMAS[kind]["required"]


names = st.one_of(
    st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,8}[a-z0-9])?", fullmatch=True),
    st.integers(60, 66).map(lambda length: "a" * length),
)
labels = st.sampled_from(["keep", "other", "a", "a-b", "x" * 63])
numbers = st.one_of(st.integers(0, 120).map(str), st.decimals(0, 120, places=3).map(str))
# Google's C++ evaluator allows 10,000 years, the API server's Go 292: stay below both.
durations = (
    st.lists(st.tuples(numbers, st.sampled_from(["ns", "us", "ms", "s", "m", "h"])), min_size=1, max_size=3)
    .map(lambda parts: "".join(number + unit for number, unit in parts))
    .filter(lambda text: len(text) <= 16)
)


# The evaluator refuses objects with wider ones; to the API server a rule does not even see `config`.
integers = st.integers(-(2**63), 2**63 - 1)


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    """Objects in which each of the fields may be absent."""
    return st.fixed_dictionaries({}, optional=fields)


requirements = st.fixed_dictionaries(
    {"key": labels, "operator": st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"])},
    optional={"values": st.lists(labels, max_size=2)},
)
selectors = some(
    matchLabels=st.dictionaries(labels, labels, max_size=2), matchExpressions=st.lists(requirements, max_size=3)
)
tenants = some(
    tenantId=labels,
    runtime=st.sampled_from(["builtin", "keep"]),
    allowedNamespaces=some(names=st.lists(labels, max_size=3, unique=True), selector=selectors, all=st.just(True)),
    suspend=st.booleans(),
)
secrets = st.lists(
    st.fixed_dictionaries({"key": labels, "valueFrom": st.just({"secretKeyRef": {"name": "s", "key": "k"}})}),
    max_size=2,
    unique_by=lambda entry: str(entry["key"]),
)
providers = st.fixed_dictionaries(
    {"type": st.sampled_from(["slack", "teams"])},
    optional={
        "tenantRef": st.fixed_dictionaries({"name": labels}),
        "externalName": labels,
        "resyncPeriod": durations,
        "secrets": secrets,
        "config": st.dictionaries(labels, st.none() | integers | st.text(max_size=3), max_size=2),
    },
)


@given(names, tenants, st.none() | tenants)
def test_any_tenant_is_judged_alike(name: str, new: Json, old: Json | None) -> None:
    """No Tenant is accepted here and refused there."""
    assert by_operator("Tenant", name, new, old) == by_server("Tenant", name, new, old)


@given(names, providers, st.none() | providers)
def test_any_provider_is_judged_alike(name: str, new: Json, old: Json | None) -> None:
    """No Provider is accepted here and refused there."""
    assert by_operator("Provider", name, new, old) == by_server("Provider", name, new, old)


weights = st.fixed_dictionaries({"setWeight": st.integers(1, 100)})
steps = st.lists(
    st.one_of(weights, st.sampled_from([{}, {"pause": {}}, ANALYSIS, {"pause": {}, "setWeight": 1}])),
    min_size=1,
    max_size=5,
)
workflows = some(
    tenantRef=st.fixed_dictionaries({"name": labels}),
    definition=st.dictionaries(labels, st.none() | integers | st.text(max_size=3), max_size=2),
    definitionFrom=st.just(FROM["definitionFrom"]),
    release=some(
        strategy=some(
            type=st.sampled_from(["AllAtOnce", "Canary", "Manual"]), canary=st.fixed_dictionaries({"steps": steps})
        ),
        autoRollback=some(
            enabled=st.booleans(), window=durations, minRuns=st.just(1), maxFailureRatePercent=st.just(1)
        ),
        pin=some(revision=st.just(1), contentHash=st.just(HASH), tag=labels),
        tags=st.lists(st.sampled_from(["a", "b.c", "latest", "stable"]), max_size=3, unique=True),
    ),
)


@given(workflows, st.none() | workflows)
def test_any_workflow_is_judged_alike(new: Json, old: Json | None) -> None:
    """No Workflow is accepted here and refused there."""
    assert by_operator("Workflow", "a", new, old) == by_server("Workflow", "a", new, old)


decisions = st.fixed_dictionaries(
    {
        "workflowRef": st.just({"name": "a"}),
        "action": st.sampled_from(ACTIONS),
        "actor": st.just("ann"),
        "requestId": st.just("1"),
    },
    optional={
        "revision": some(number=st.integers(1, 9), contentHash=st.just(HASH), tag=labels, previous=st.just(True)),
        "reason": st.text("ab", max_size=2),
        "tag": st.sampled_from(["a", "b.c", "latest", "stable"]),
        "item": labels,
        "full": st.booleans(),
        "force": st.booleans(),
        "actorGroups": st.lists(labels, max_size=2, unique=True),
    },
)


@given(decisions, st.none() | decisions)
def test_any_decision_is_judged_alike(new: Json, old: Json | None) -> None:
    """No decision is accepted here and refused there."""
    assert by_operator("WorkflowDecision", "a", new, old) == by_server("WorkflowDecision", "a", new, old)


@given(durations)
def test_durations_are_as_long_to_us_as_to_the_server(text: str) -> None:
    """A period means the same on both sides, to the microsecond."""
    parsed = provider.parse_spec({"type": "slack", "resyncPeriod": text})
    assert isinstance(parsed, ProviderSpec)
    result = compiled("duration(self)").eval(data={"self": text})
    assert result.value() == parsed.resync_period


some_runs = st.fixed_dictionaries(
    {"workflowRef": st.fixed_dictionaries({"name": st.sampled_from("ab")})},
    optional={
        "revision": some(number=st.just(1), contentHash=st.just(HASH), tag=labels),
        "inputs": st.dictionaries(labels, st.none() | integers | st.text(max_size=3), max_size=2),
        "trigger": st.sampled_from(["Manual", "Alert"]),
        "mode": st.sampled_from(["Live", "DryRun"]),
        "retryOf": st.fixed_dictionaries({"name": st.sampled_from("ab")}),
        "idempotencyKey": st.sampled_from("ab"),
        "timeout": durations,
        "ttlSecondsAfterFinished": st.sampled_from([0, 3600]),
        "cancel": st.booleans(),
    },
)


@given(some_runs, st.none() | some_runs)
def test_any_run_is_judged_alike(new: Json, old: Json | None) -> None:
    """No WorkflowRun is accepted here and refused there."""
    assert by_operator("WorkflowRun", "a", new, old) == by_server("WorkflowRun", "a", new, old)
