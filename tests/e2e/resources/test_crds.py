"""The definitions on a real API server: accepted, pruning, checking, defaulting, and no conflict with anybody."""

import time
from collections.abc import Iterator
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import pytest

from keep_operator.cli import crds as commands
from keep_operator.resources import crds, provider, tenant
from keep_operator.resources.kinds import CUSTOM_RESOURCE_DEFINITIONS, PROVIDERS, TENANTS
from keep_operator.resources.shapes import Invalid

from .conftest import DRY_RUN, Api, Json, new_name

pytestmark = pytest.mark.e2e

SECRET = {"namespace": "default", "name": "s", "key": "k"}
FULL_TENANT: Json = {
    "displayName": "Team A",
    "runtime": "builtin",
    "allowedNamespaces": {"names": ["default", "monitoring"]},
    "policy": {
        "approvalFloor": {"required": "ImportantOnly"},
        "checklistFloor": [{"id": "a", "title": "A", "required": False}],
    },
    "ingestTokens": [{"secretRef": SECRET}],
    "egress": {"allow": ["10.0.0.0/8"]},
    "deletionPolicy": "Delete",
    "adoptionPolicy": "IfUnowned",
    "driftPolicy": "Report",
    "suspend": True,
}
# Without anything that the operator owns, servers as old as 1.20 take the whole object for somebody else's.
DEFAULT = {"keep-operator.dev/default": "true"}
ENTRY = {"key": "a", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}


def test_applying_again_changes_nothing_and_says_so(server: commands.Server) -> None:
    """Whoever runs `crds apply` twice, or in every deployment, does no harm."""
    said: list[str] = []
    path = CUSTOM_RESOURCE_DEFINITIONS.path(name="tenants.keep-operator.dev")
    _, before = server.send("GET", path)
    commands.apply(server, timedelta(seconds=60), said.append)
    _, after = server.send("GET", path)
    assert "tenants.keep-operator.dev unchanged" in said
    assert "providers.keep-operator.dev unchanged" in said
    assert before["metadata"]["generation"] == after["metadata"]["generation"]


def test_what_the_server_does_not_know_is_named(server: commands.Server) -> None:
    """Nobody believes in a check that this cluster does not make."""
    said: list[str] = []
    commands.apply(server, timedelta(seconds=60), said.append)
    version = server.send("GET", "/version")[1]["gitVersion"]
    told = any("x-kubernetes-validations" in line for line in said)
    assert told != crds.features_of(version).validations


def test_the_server_finds_no_fault_in_the_schemas(server: commands.Server) -> None:
    """The schemas are structural to the server too, hence unknown fields are pruned."""
    for definition in crds.build_all():
        _, crd = server.send("GET", CUSTOM_RESOURCE_DEFINITIONS.path(name=definition["metadata"]["name"]))
        conditions = {condition["type"]: condition["status"] for condition in crd["status"]["conditions"]}
        assert conditions["Established"] == "True"
        assert conditions.get("NonStructuralSchema", "False") == "False"


def test_unknown_fields_are_pruned_and_settings_are_kept(api: Api) -> None:
    """A misspelt field is not stored; whatever stands in `config` is, as it was written."""
    config = {"s": "x", "n": 1, "f": 1.5, "b": True, "z": None, "l": [1, None, {"a": None}], "o": {"deep": {"er": 1}}}
    status, stored = api.try_create(PROVIDERS, {"type": "slack", "config": config, "bogus": 1})
    assert status == HTTPStatus.CREATED
    assert stored["spec"]["config"] == config
    assert "bogus" not in stored["spec"]
    assert isinstance(provider.parse_spec(stored["spec"]), provider.ProviderSpec)


def test_defaults_are_the_models(api: Api) -> None:
    """What is stored for the smallest manifest is what the operator would assume."""
    _, stored = api.try_create(PROVIDERS, {"type": "slack"})
    assert stored["spec"] == {
        "type": "slack",
        "progressDeadlineSeconds": 600,
        "deletionPolicy": "Delete",
        "adoptionPolicy": "Never",
        "driftPolicy": "Correct",
        "suspend": False,
    }
    assert provider.parse_spec(stored["spec"]) == provider.parse_spec({"type": "slack"})
    _, stored = api.try_create(TENANTS, {})
    assert stored["spec"] == {"deletionPolicy": "Orphan", "driftPolicy": "Correct", "suspend": False}
    assert tenant.parse_spec(stored["spec"]) == tenant.parse_spec({})


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"type": "Slack"},
        {"type": "a" * 64},
        {"type": 1},
        {"type": "slack", "externalName": "a.b"},
        {"type": "slack", "externalName": "a" * 64},
        {"type": "slack", "resyncPeriod": "1h30"},
        {"type": "slack", "resyncPeriod": "-10m"},
        {"type": "slack", "resyncPeriod": "1s" * 9},
        {"type": "slack", "progressDeadlineSeconds": 29},
        {"type": "slack", "progressDeadlineSeconds": 86401},
        {"type": "slack", "deletionPolicy": "Keep"},
        {"type": "slack", "adoptionPolicy": "Always"},
        {"type": "slack", "driftPolicy": "correct"},
        {"type": "slack", "suspend": "true"},
        {"type": "slack", "tenantRef": {}},
        {"type": "slack", "tenantRef": {"name": "A"}},
        {"type": "slack", "secrets": [ENTRY, ENTRY]},
        {"type": "slack", "secrets": [{"key": "a"}]},
        {"type": "slack", "secrets": [{"key": "a", "valueFrom": {"secretKeyRef": {"name": "../x", "key": "k"}}}]},
        {"type": "slack", "secrets": [{**ENTRY, "key": str(i)} for i in range(65)]},
        {"type": "slack", "config": {str(i): i for i in range(65)}},
        {"type": "slack", "config": []},
    ],
)
def test_a_bad_provider_is_refused_at_once(api: Api, spec: Json) -> None:
    """A slip is told by `kubectl apply`, before anything is stored; the operator would say the same."""
    status, answer = api.try_create(PROVIDERS, spec)
    assert status == HTTPStatus.UNPROCESSABLE_ENTITY, answer
    assert isinstance(provider.parse_spec(spec), Invalid)


@pytest.mark.parametrize(
    "spec",
    [
        {"tenantId": "Team-A"},
        {"tenantId": "a" * 64},
        {"displayName": ""},
        {"displayName": "a\x00b"},
        {"displayName": "é" * 254},
        {"runtime": "Keep"},
        {"allowedNamespaces": {"all": False}},
        {"allowedNamespaces": {"names": ["a", "a"]}},
        {"allowedNamespaces": {"names": ["A"]}},
        {"allowedNamespaces": {"selector": {"matchExpressions": [{"key": "a", "operator": "Like"}]}}},
        {"policy": {"trustedAuthors": [str(i) for i in range(33)]}},
        {"policy": {"checklistFloor": [{"id": "a", "title": "x"}, {"id": "a", "title": "y"}]}},
        {"policy": {"approvalFloor": {"minApprovals": 0}}},
        {"defaults": {"retention": {"sinceCreate": "2d"}}},
        {"ingestTokens": [{"secretRef": {"name": "s", "key": "k"}}]},
        {"ingestTokens": [{"secretRef": SECRET}] * 9},
        {"egress": {"allow": ["a b"]}},
        {"keep": {"secretManager": "K8S"}},
        {"keep": {"connectionSecretRef": SECRET, "secretManager": "Vault"}},
        {"adoptionPolicy": "never"},
    ],
)
def test_a_bad_tenant_is_refused_at_once(api: Api, spec: Json) -> None:
    """As for Providers."""
    status, answer = api.try_create(TENANTS, spec)
    assert status == HTTPStatus.UNPROCESSABLE_ENTITY, answer
    assert isinstance(tenant.parse_spec(spec), Invalid)


@pytest.mark.parametrize(("resource", "spec"), [(TENANTS, None), (PROVIDERS, None)])
def test_a_spec_is_required(api: Api, resource: Any, spec: None) -> None:
    """An object without a spec is a mistake, not a wish for nothing."""
    assert api.try_create(resource, spec)[0] == HTTPStatus.UNPROCESSABLE_ENTITY


def test_everything_that_is_documented_is_accepted(api: Api) -> None:
    """Fields that act only later can be declared today, and are stored as written."""
    secret_ref = {"secretRef": SECRET}
    spec = FULL_TENANT | {
        "tenantId": "team-a",
        "defaults": {
            "approval": {"required": "Always", "minApprovals": 2, "approvers": {"users": ["ann"], "groups": ["sre"]}},
            "retention": {"sinceCreate": "48h", "sinceLastActive": "15h", "max": 1000},
        },
        "keep": {
            "connectionSecretRef": SECRET,
            "secretManager": "K8S",
            "apiKeys": [{"name": "ci", **secret_ref}],
        },
        "policy": {"trustedAuthors": ["system:serviceaccount:argocd:argocd-application-controller"]},
    }
    status, stored = api.try_create(TENANTS, spec)
    assert status == HTTPStatus.CREATED, stored
    assert stored["spec"] == spec


def test_a_manifest_takes_the_bootstrapped_tenant_over_without_a_fight(api: Api) -> None:
    """Git may declare the default tenant later, by server-side or client-side apply: nobody has to force (A-TEN-2)."""
    name = new_name()
    status, made = api.apply(TENANTS, {}, name, "keep-operator", DEFAULT)
    assert status == HTTPStatus.CREATED, made
    assert made["spec"]["deletionPolicy"] == "Orphan"
    status, taken = api.apply(TENANTS, FULL_TENANT, name, "argocd-controller")
    assert status == HTTPStatus.OK, taken
    assert taken["spec"]["deletionPolicy"] == "Delete"
    status, edited = api.client_side_apply(TENANTS, FULL_TENANT | {"displayName": "Team B"}, name)
    assert status == HTTPStatus.OK, edited
    assert edited["spec"]["displayName"] == "Team B"
    assert edited["metadata"]["labels"] == DEFAULT


def test_a_client_side_apply_takes_the_bootstrapped_tenant_over_too(api: Api) -> None:
    """The same for `kubectl apply -f` as the first to declare it."""
    name = new_name()
    api.apply(TENANTS, {}, name, "keep-operator", DEFAULT)
    status, taken = api.client_side_apply(TENANTS, FULL_TENANT, name)
    assert status == HTTPStatus.OK, taken
    assert {key: taken["spec"][key] for key in FULL_TENANT} == FULL_TENANT


def test_two_appliers_may_own_a_credential_each(api: Api) -> None:
    """Credentials are entries by key: a platform team and an application team can each add their own."""
    name = new_name()
    first = {"type": "slack", "secrets": [ENTRY]}
    second = {"secrets": [{**ENTRY, "key": "b"}]}
    assert api.apply(PROVIDERS, first, name, "platform")[0] == HTTPStatus.CREATED
    status, both = api.apply(PROVIDERS, second, name, "application")
    assert status == HTTPStatus.OK, both
    assert {entry["key"] for entry in both["spec"]["secrets"]} == {"a", "b"}


def test_a_reference_is_replaced_as_a_whole(api: Api) -> None:
    """Two appliers cannot end up with one's Secret and the other's key."""
    name = new_name()
    mine = {"type": "slack", "secrets": [ENTRY]}
    theirs = {"secrets": [{"key": "a", "valueFrom": {"secretKeyRef": {"name": "other", "key": "k"}}}]}
    api.apply(PROVIDERS, mine, name, "mine")
    status, answer = api.apply(PROVIDERS, theirs, name, "theirs")
    assert status == HTTPStatus.CONFLICT
    assert "secretKeyRef" in answer["message"]


@pytest.mark.needs_cel("rules over several fields are evaluated by the API server from Kubernetes 1.25 on")
@pytest.mark.parametrize(
    ("resource", "name", "spec", "blamed"),
    [
        (TENANTS, "team.a", {}, "spec.tenantId"),
        (TENANTS, None, {"allowedNamespaces": {}}, "spec.allowedNamespaces"),
        (PROVIDERS, "vm.a", {"type": "slack"}, "spec.externalName"),
        (PROVIDERS, None, {"type": "slack", "resyncPeriod": "29s"}, "spec.resyncPeriod"),
    ],
)
def test_rules_over_several_fields_are_told_at_once(
    api: Api, resource: Any, name: str | None, spec: Json, blamed: str
) -> None:
    """Where the server knows CEL, these slips too are told by `kubectl apply`."""
    status, answer = api.try_create(resource, spec, name)
    assert status == HTTPStatus.UNPROCESSABLE_ENTITY
    assert blamed in answer["message"]


@pytest.mark.needs_cel("rules about changes are evaluated by the API server from Kubernetes 1.25 on")
def test_what_may_not_change_is_kept_by_the_server(api: Api) -> None:
    """Where the server knows CEL, a provider's type and a tenant's id cannot even be stored differently."""
    name = new_name()
    api.apply(PROVIDERS, {"type": "slack"}, name, "test")
    assert api.apply(PROVIDERS, {"type": "teams"}, name, "test")[0] == HTTPStatus.UNPROCESSABLE_ENTITY
    api.apply(TENANTS, {}, name, "test")
    assert api.apply(TENANTS, {"tenantId": name}, name, "test")[0] == HTTPStatus.OK
    assert api.apply(TENANTS, {"tenantId": "other"}, name, "test")[0] == HTTPStatus.UNPROCESSABLE_ENTITY


@pytest.mark.needs_cel("rules are evaluated by the API server from Kubernetes 1.25 on")
def test_a_create_cannot_bring_a_status_along_to_escape_a_rule(server: commands.Server, api: Api) -> None:
    """The rules at the root leave alone what has a status, and nothing has one when it is created."""
    for resource in (TENANTS, PROVIDERS):
        body = api.thing(resource, {"type": "slack"} if resource is PROVIDERS else {}, f"a.{new_name()}")
        status, answer = server.send("POST", api.path(resource) + DRY_RUN, body | {"status": {"observedGeneration": 1}})
        assert status == HTTPStatus.UNPROCESSABLE_ENTITY, answer


@pytest.mark.needs_cel("rules are evaluated by the API server from Kubernetes 1.25 on")
@pytest.mark.parametrize("text", ["1d", "10 min", "-5m"])
def test_a_slip_in_a_duration_is_told_once(api: Api, text: str) -> None:
    """No second line about protobuf types hides the one that says what a duration looks like."""
    _, answer = api.try_create(PROVIDERS, {"type": "slack", "resyncPeriod": text})
    (cause,) = answer["details"]["causes"]
    assert cause["field"] == "spec.resyncPeriod"
    assert "should match" in cause["message"]


@pytest.fixture
def without_rules(server: commands.Server, api: Api) -> Iterator[None]:
    """Definitions without rules, as an earlier release or an older server had them; afterwards with all rules."""
    for crd in crds.build_all():
        older, _ = crds.without_unknown(crd, crds.ServerFeatures(validations=False))
        path = CUSTOM_RESOURCE_DEFINITIONS.path(name=crd["metadata"]["name"])
        status, answer = server.send("PUT", path, older | {"metadata": server.send("GET", path)[1]["metadata"]})
        assert status == HTTPStatus.OK, answer
    await_rules(api, HTTPStatus.CREATED)
    yield
    commands.apply(server, timedelta(seconds=60), lambda _line: None)
    await_rules(api, HTTPStatus.UNPROCESSABLE_ENTITY)


def await_rules(api: Api, answered: HTTPStatus) -> None:
    """Returns when objects that break a rule get this answer: a changed definition is in force a moment later."""
    for _ in range(100):
        specs: dict[Any, Json] = {TENANTS: {}, PROVIDERS: {"type": "slack"}}
        if all(api.try_create(resource, specs[resource], f"a.{new_name()}")[0] == answered for resource in specs):
            return
        time.sleep(0.1)
    raise AssertionError(f"the server did not come to answer {answered}")


@pytest.mark.needs_cel("rules are evaluated by the API server from Kubernetes 1.25 on")
@pytest.mark.usefixtures("without_rules")
@pytest.mark.parametrize(("resource", "spec"), [(TENANTS, {}), (PROVIDERS, {"type": "slack"})])
def test_an_object_that_is_older_than_a_rule_can_be_reported_on_and_go(
    server: commands.Server, api: Api, resource: Any, spec: Json
) -> None:
    """An upgrade that brings a rule, of the cluster or of ours, leaves no object stuck: neither silent nor undeletable."""
    name = f"a.{new_name()}"
    path = api.path(resource, name)
    assert api.apply(resource, spec, name, "test")[0] == HTTPStatus.CREATED
    held = {"metadata": {"finalizers": ["keep-operator.dev/test"]}}
    assert api.patch(path, "merge-patch+json", held)[0] == HTTPStatus.OK
    commands.apply(server, timedelta(seconds=60), lambda _line: None)
    await_rules(api, HTTPStatus.UNPROCESSABLE_ENTITY)
    status, answer = api.patch(f"{path}/status", "merge-patch+json", {"status": {"observedGeneration": 1}})
    assert status == HTTPStatus.OK, answer
    assert api.patch(path, "merge-patch+json", {"spec": {"suspend": True}})[0] == HTTPStatus.OK
    server.send("DELETE", path)
    status, answer = api.patch(path, "merge-patch+json", {"metadata": {"finalizers": None}})
    assert status == HTTPStatus.OK, answer
    assert server.send("GET", path)[0] == HTTPStatus.NOT_FOUND
