"""The Tenant's spec as users write it."""

import re
from typing import Any

import pytest

from keep_operator.resources import tenant
from keep_operator.resources.shapes import Invalid, Violation
from keep_operator.resources.tenant import TenantSpec

pytestmark = pytest.mark.unit


def parsed(**raw: Any) -> TenantSpec:
    """A spec that is well-formed."""
    spec = tenant.parse_spec(raw)
    assert isinstance(spec, TenantSpec), spec
    return spec


def test_an_empty_spec_is_a_whole_tenant() -> None:
    """`spec: {}` is all that is needed; what depends on the operator stays open."""
    spec = parsed()
    assert (spec.deletion_policy, spec.drift_policy, spec.suspend) == ("Orphan", "Correct", False)
    assert (spec.runtime, spec.adoption_policy, spec.allowed_namespaces) == (None, None, None)
    assert tenant.violations(spec, "keep") == ()
    assert tenant.effective_id(spec, "keep") == "keep"


def test_every_documented_field_is_understood() -> None:
    """Fields that act only later are accepted and checked today."""
    secret = {"namespace": "keep", "name": "s", "key": "k"}
    spec = parsed(
        tenantId="team-a",
        displayName="Team A ☃",
        runtime="keep",
        allowedNamespaces={
            "selector": {
                "matchLabels": {"keep-operator.dev/team": "a"},
                "matchExpressions": [{"key": "env", "operator": "In", "values": ["prod", ""]}],
            }
        },
        defaults={
            "approval": {"required": "Always", "approvers": {"users": ["ann"], "groups": ["sre"]}},
            "retention": {"sinceCreate": "48h", "sinceLastActive": "15h", "max": 1000},
        },
        policy={
            "approvalFloor": {"required": "ImportantOnly", "minApprovals": 1, "importantPaths": ["actions"]},
            "checklistFloor": [{"id": "tested", "title": "Tried in staging"}],
            "trustedAuthors": ["system:serviceaccount:argocd:argocd-application-controller"],
        },
        ingestTokens=[{"secretRef": secret}],
        egress={"allow": ["10.0.0.0/8", "hooks.slack.com", "fd00::/8"]},
        keep={
            "connectionSecretRef": secret,
            "secretManager": "K8S",
            "apiKeys": [{"name": "ci", "secretRef": secret}],
        },
        deletionPolicy="Delete",
        adoptionPolicy="Force",
        driftPolicy="Report",
        suspend=True,
    )
    assert tenant.violations(spec, "team-a.example") == ()
    assert spec.policy is not None
    assert spec.policy.checklist_floor[0].required
    assert spec.keep is not None
    assert spec.keep.api_keys[0].secret_ref.key == "k"


def test_a_floor_says_nothing_that_was_not_written() -> None:
    """An unset field of a floor is no demand, so that a tenant asks for exactly what its manifest says."""
    spec = parsed(policy={"approvalFloor": {"required": "Always"}})
    assert spec.policy is not None
    assert spec.policy.approval_floor is not None
    assert spec.policy.approval_floor.model_dump(exclude_none=True) == {"required": "Always"}


@pytest.mark.parametrize("given", [{}, {"names": ["a"], "all": True}, {"names": [], "selector": {}}])
def test_allowed_namespaces_are_said_in_one_way(given: dict[str, Any]) -> None:
    """Who may enter a tenant is never a matter of precedence."""
    assert tenant.violations(parsed(allowedNamespaces=given), "keep") == (
        Violation("spec.allowedNamespaces", "exactly one of names, selector and all must be given"),
    )


def test_all_namespaces_cannot_be_switched_off_by_false() -> None:
    """`all: false` would look like a way to say none; it is refused."""
    assert str(tenant.parse_spec({"allowedNamespaces": {"all": False}})) == "spec.allowedNamespaces.all: must be true"


@pytest.mark.parametrize(
    ("operator", "values", "holds"),
    [
        ("In", ["a"], True),
        ("NotIn", [], False),
        ("In", None, False),
        ("Exists", None, True),
        ("Exists", [], True),
        ("DoesNotExist", ["a"], False),
    ],
)
def test_a_selector_that_can_mean_nothing_is_refused(operator: str, values: list[str] | None, holds: bool) -> None:
    """A slip in a selector is told, not silently matched against nothing."""
    requirement: dict[str, Any] = {"key": "env", "operator": operator}
    if values is not None:
        requirement["values"] = values
    spec = parsed(allowedNamespaces={"selector": {"matchExpressions": [requirement]}})
    found = [violation.path for violation in tenant.violations(spec, "keep")]
    assert found == ([] if holds else ["spec.allowedNamespaces.selector.matchExpressions[0].values"])


@pytest.mark.parametrize("name", ["team.a", "a" * 64])
def test_a_name_that_is_no_dns_label_needs_a_tenant_id(name: str) -> None:
    """The id in the database is always one that Keep can use."""
    assert [violation.path for violation in tenant.violations(parsed(), name)] == ["spec.tenantId"]
    assert tenant.violations(parsed(tenantId="team-a"), name) == ()


@pytest.mark.parametrize("bad", ["Team-A", "team_a", "-a", "a-", "", "a" * 64, "a\n", "a.b"])
def test_a_tenant_id_is_a_dns_label(bad: str) -> None:
    """Ids that Keep would fold into one (`Team_A`, `team-a`) cannot be made."""
    assert isinstance(tenant.parse_spec({"tenantId": bad}), Invalid)


@pytest.mark.parametrize("bad", ["a\x00b", "a\nb", "a\x1bb", "", "a" * 254])
def test_a_display_name_holds_no_control_characters(bad: str) -> None:
    """A name cannot break a terminal, a log line or the database."""
    assert isinstance(tenant.parse_spec({"displayName": bad}), Invalid)


def test_the_default_may_be_written_out_but_not_changed() -> None:
    """A Git manifest that names the id in effect is accepted; one that moves the tenant is not."""
    bare, written, moved = parsed(), parsed(tenantId="keep"), parsed(tenantId="other")
    assert tenant.forbidden_changes(bare, written, "keep") == ()
    assert tenant.forbidden_changes(written, bare, "keep") == ()
    assert [violation.path for violation in tenant.forbidden_changes(bare, moved, "keep")] == ["spec.tenantId"]
    assert [violation.path for violation in tenant.forbidden_changes(moved, bare, "keep")] == ["spec.tenantId"]


@pytest.mark.parametrize(
    "raw",
    [
        {"allowedNamespaces": {"names": ["a", "a"]}},
        {"policy": {"checklistFloor": [{"id": "a", "title": "x"}, {"id": "a", "title": "y"}]}},
        {"egress": {"allow": ["a", "a"]}},
    ],
)
def test_lists_that_are_sets_have_no_doubles(raw: dict[str, Any]) -> None:
    """As on the API server: which of two equal entries counts is never a question."""
    assert re.search(r"has an entry( with the same id)? twice", str(tenant.parse_spec(raw)))


@pytest.mark.parametrize(
    "entry",
    [
        "10.0.0.0/33",
        "10.0.0.1:8080",
        "localhost:80",
        "http:",
        "a/b",
        "*",
        "*.",
        "a.*.b",
        "-a",
        "a..b",
        "1.2.3",
        "300.1.1.1",
        ":",
        "fe80::/129",
    ],
)
def test_a_place_that_is_none(entry: str) -> None:
    """A slip in what steps may reach is told, and does not quietly open nothing."""
    found = tenant.parse_spec({"egress": {"allow": ["10.0.0.0/8", entry]}})
    assert isinstance(found, Invalid)
    assert re.search(r"spec\.egress\.allow\[1\]:? must be an address, a network", str(found))


@pytest.mark.parametrize(
    "entry", ["127.0.0.1", "10.1.2.3/8", "::1", "fd00::/8", "db", "db.example.com.", "*.lab.example", "my_db.x"]
)
def test_a_place(entry: str) -> None:
    """Addresses, networks, names, and all names below one."""
    assert not isinstance(tenant.parse_spec({"egress": {"allow": [entry]}}), Invalid)


def test_a_status_of_a_newer_release_can_be_read() -> None:
    """After a downgrade the operator still knows what it had made."""
    condition = {
        "type": "Ready",
        "status": "True",
        "reason": "Ready",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "severity": "None",
    }
    status = tenant.TenantStatus.model_validate(
        {"tenantId": "keep", "conditions": [condition], "providers": {"total": 2, "ready": 1}, "fromTheFuture": {}}
    )
    assert status.conditions[0].last_transition_time == "2026-01-01T00:00:00Z"
    assert status.providers is not None
    assert (status.providers.total, status.tenant_id) == (2, "keep")
