"""The Workflow's spec as users write it."""

from datetime import timedelta
from typing import Any

import pytest

from keep_operator.resources import shapes, workflow
from keep_operator.resources.shapes import Invalid
from keep_operator.resources.workflow import WorkflowSpec, WorkflowStatus

pytestmark = pytest.mark.unit

HASH = "0123456789abcdef" * 4
DEFINITION: dict[str, Any] = {"triggers": [{"type": "manual"}], "steps": [], "actions": []}


def parsed(**raw: Any) -> WorkflowSpec:
    """A spec that is well-formed; it has a definition unless given."""
    spec = workflow.parse_spec({"definition": DEFINITION, **raw})
    assert isinstance(spec, WorkflowSpec), spec
    return spec


def paths(spec: WorkflowSpec) -> list[str]:
    """The fields that rules blame."""
    return [violation.path for violation in workflow.violations(spec, "a")]


def test_a_definition_is_all_that_is_needed() -> None:
    """The smallest manifest has the documented defaults, the nested ones too."""
    spec = parsed()
    assert spec.definition == DEFINITION
    assert (spec.suspend, spec.dependency_policy, spec.progress_deadline_seconds) == (False, "Wait", 600)
    assert (spec.run.concurrency, spec.run.missed_ticks, spec.run.max_attempts) == (None, "Skip", 3)
    assert (spec.release.strategy.type, spec.release.ready_when) == ("AllAtOnce", "Deployed")
    assert (spec.release.auto_rollback.enabled, spec.release.pin, spec.release.tags) == (False, None, ())
    assert (spec.run_history.successful, spec.run_history.failed, spec.run_history.max_age) == (3, 1, None)
    assert (spec.revision_history_limit, spec.deletion_grace_seconds) == (10, 60)
    assert (spec.deletion_policy, spec.adoption_policy, spec.drift_policy) == ("Delete", "Never", "Correct")
    assert workflow.effective_name(spec, "high-cpu") == "high-cpu"
    assert paths(spec) == []


def test_what_the_tenant_may_say_stays_open() -> None:
    """A Workflow that says nothing of approval and retention gets its Tenant's, not a default that hides it."""
    spec = parsed(release={"approval": {"minApprovals": 2}})
    assert spec.retention is None
    assert spec.release.approval is not None
    assert spec.release.approval.model_dump(exclude_none=True) == {"min_approvals": 2}


def test_every_documented_field_is_understood() -> None:
    """Fields that act only later are accepted and checked today."""
    spec = parsed(
        tenantRef={"name": "keep"},
        externalName="High CPU",
        suspend=True,
        dependencyPolicy="Warn",
        run={"concurrency": "Replace", "missedTicks": "RunOnce", "maxAttempts": 1},
        release={
            "strategy": {
                "type": "Canary",
                "canary": {
                    "steps": [
                        {"setWeight": 20},
                        {"pause": {}},
                        {"pause": {"duration": "10m"}},
                        {
                            "analysis": {
                                "minRuns": 20,
                                "window": "30m",
                                "maxFailureRatePercent": 5,
                                "maxP95Duration": "30s",
                                "maxErrorRateDeltaPercent": 2,
                                "failureLimit": 1,
                            }
                        },
                        {"setWeight": 20},
                        {"setWeight": 100},
                    ],
                    "stickyKey": "alert.labels.host",
                    "rollbackWindow": {"revisions": 3},
                },
            },
            "approval": {"required": "ImportantOnly", "approvers": {"groups": ["sre"]}, "importantPaths": ["actions"]},
            "checklist": [{"id": "tried", "title": "Tried in staging", "auto": "runs.total > 3"}],
            "autoRollback": {"enabled": True, "window": "1h", "minRuns": 20, "maxFailureRatePercent": 10},
            "readyWhen": "Available",
            "pin": {"contentHash": HASH},
            "tags": ["v1.2", "production"],
            "changeNote": "Limit lowered.\n\tSee incident 4711.",
        },
        revisionHistoryLimit=0,
        retention={"sinceCreate": "48h", "sinceLastActive": "15h", "max": 1000},
        runHistory={"successful": 0, "failed": 0, "maxAge": "720h"},
        deletionGraceSeconds=0,
        deletionPolicy="Orphan",
        adoptionPolicy="Force",
        driftPolicy="Report",
    )
    assert paths(spec) == []
    assert workflow.effective_name(spec, "high-cpu") == "High CPU"
    canary = spec.release.strategy.canary
    assert canary is not None
    assert canary.steps[3].analysis is not None
    assert canary.steps[3].analysis.max_p95_duration == timedelta(seconds=30)
    assert canary.rollback_window.revisions == 3
    assert spec.release.checklist[0].required


def test_the_definition_has_one_source() -> None:
    """Whether the ConfigMap or the object is right is never a matter of precedence."""
    source = {"configMapKeyRef": {"name": "flows", "key": "high-cpu.yaml"}}
    assert paths(parsed(definitionFrom=source)) == ["spec"]
    spec = workflow.parse_spec({})
    assert isinstance(spec, WorkflowSpec)
    assert paths(spec) == ["spec"]
    spec = workflow.parse_spec({"definitionFrom": source})
    assert isinstance(spec, WorkflowSpec)
    assert paths(spec) == []


@pytest.mark.parametrize(
    ("release", "fault"),
    [
        ({"strategy": {"type": "Shadow"}}, "spec.release.strategy.type: must be"),
        ({"strategy": {"type": "Canary", "canary": {}}}, "spec.release.strategy.canary.steps: is required"),
        ({"strategy": {"canary": {"steps": []}}}, "spec.release.strategy.canary.steps: must have at least 1 entry"),
        ({"strategy": {"canary": {"steps": [{"setWeight": 101}]}}}, "steps[0].setWeight: must be at most 100"),
        ({"strategy": {"canary": {"steps": [{"pause": {}}] * 21}}}, "must not have more than 20 entries"),
        ({"strategy": {"canary": {"steps": [{"analysis": {"minRuns": 1}}]}}}, "analysis.window: is required"),
        ({"autoRollback": {"maxFailureRatePercent": 0}}, "maxFailureRatePercent: must be at least 1"),
        ({"pin": {"contentHash": HASH.upper()}}, "spec.release.pin.contentHash: must match"),
        ({"pin": {"revision": 0}}, "spec.release.pin.revision: must be at least 1"),
        ({"pin": {"revision": True}}, "spec.release.pin.revision: must be an integer"),
        ({"tags": ["V1"]}, "spec.release.tags[0]: must match"),
        ({"tags": ["a", "a"]}, "spec.release.tags: has an entry twice"),
        ({"tags": [f"t{n}" for n in range(17)]}, "spec.release.tags: must not have more than 16 entries"),
        ({"checklist": [{"id": "a", "title": "A"}] * 2}, "has an entry with the same id twice"),
        ({"changeNote": "a\x1b[31m"}, "spec.release.changeNote: must match"),
        ({"changeNote": "x" * 1025}, "spec.release.changeNote: must not be longer than 1024 characters"),
        ({"approve": {}}, "spec.release.approve: is not a known field"),
    ],
)
def test_a_slip_in_the_release_is_told_with_its_place(release: dict[str, Any], fault: str) -> None:
    """Nobody relies on a gate that is misspelt."""
    found = workflow.parse_spec({"definition": DEFINITION, "release": release})
    assert isinstance(found, Invalid)
    assert fault in str(found)


@pytest.mark.parametrize("weights", [[20, 10], [1, 100, 99], [50, 50, 49]])
def test_weights_do_not_fall(weights: list[int]) -> None:
    """A canary never takes runs away from the version that it tries, but by aborting it."""
    steps: list[dict[str, Any]] = [{"setWeight": weight} for weight in weights]
    spec = parsed(
        release={"strategy": {"type": "Canary", "canary": {"steps": [*steps[:1], {"pause": {}}, *steps[1:]]}}}
    )
    assert paths(spec) == ["spec.release.strategy.canary.steps"]


@pytest.mark.parametrize("missing", ["window", "minRuns", "maxFailureRatePercent"])
def test_a_guard_that_could_not_decide_is_refused(missing: str) -> None:
    """Who switches the automatic rollback on gets one, or an error; never silence."""
    guard = {"enabled": True, "window": "1h", "minRuns": 1, "maxFailureRatePercent": 10}
    del guard[missing]
    assert paths(parsed(release={"autoRollback": guard})) == ["spec.release.autoRollback"]
    assert paths(parsed(release={"autoRollback": guard | {"enabled": False}})) == []


@pytest.mark.parametrize("tag", ["latest", "active", "desired", "stable", "canary"])
def test_words_for_a_state_are_no_tags(tag: str) -> None:
    """`stable` always means the stable version."""
    assert paths(parsed(release={"tags": ["a", tag]})) == ["spec.release.tags"]


def test_a_tenant_may_be_added_once_and_then_stays() -> None:
    """A workflow does not move between tenants with its history."""
    none, keep, other = parsed(), parsed(tenantRef={"name": "keep"}), parsed(tenantRef={"name": "other"})
    assert workflow.forbidden_changes(none, keep) == ()
    for new in (none, other):
        assert [violation.path for violation in workflow.forbidden_changes(keep, new)] == ["spec.tenantRef"]


def test_everything_else_may_change() -> None:
    """New definitions, names and gates are ordinary edits."""
    new = parsed(definition={"steps": [1]}, externalName="b", release={"strategy": {"type": "Manual"}})
    assert workflow.forbidden_changes(parsed(), new) == ()


def test_a_definition_that_is_too_large_is_told_with_its_size() -> None:
    """The limit is on the bytes that are stored, and the message says how far away it is."""
    limit = 200 * 1024
    just = {"a": "x" * (limit - len('{"a":""}'))}
    assert workflow.oversize(just) is None
    found = workflow.oversize(just | {"b": "é"})
    assert found is not None
    assert str(found) == "spec.definition: has 201 KiB as JSON; at most 200 KiB are taken: split the workflow"


def test_a_status_of_a_newer_version_is_read() -> None:
    """An operator that was downgraded reads what it knows."""
    pointer = {"number": 2, "name": "a-v2-01234567", "contentHash": HASH, "novel": 1}
    status = shapes.parse(WorkflowStatus, {"activeRevision": pointer | {"since": "2026-11-23T07:09:29Z"}, "novel": {}})
    assert isinstance(status, WorkflowStatus)
    assert status.active_revision is not None
    assert (status.active_revision.number, status.active_revision.content_hash) == (2, HASH)
