"""Bad input ends in a clear condition or heals by itself; it never hurts anybody else."""

import json
import time

import pytest

from e2e.cluster import Database, Json, Kube, credential, eventually, provider, secret, tenant
from e2e.conftest import Operate

pytestmark = pytest.mark.e2e
CANARY = "canary-7f3a9c51d2"


def test_unknown_type_names_the_likely_one(team: str, kube: Kube, namespace: str, database: Database) -> None:
    """A misspelt type is refused with the likely name, and is Ready after the object is made anew with it."""
    vm = provider("vm", namespace, team, "victoriametric")
    kube.create(vm)
    refused = kube.await_condition(vm, "Ready", ("False", "UnknownProviderType"))
    assert 'Did you mean "victoriametrics"?' in refused.message("Ready")
    assert refused.condition("Stalled") == ("True", "SpecRefused")
    assert database.providers() == []
    (event,) = kube.events(namespace, "Warning")
    assert event["reason"] == "UnknownProviderType"


def test_foreign_namespace_is_refused_until_it_is_admitted(team: str, kube: Kube, namespace: str) -> None:
    """A namespace that the Tenant does not admit is told what to change; a label on it is enough where labels select."""
    kube.create(tenant("closed", allowedNamespaces={"selector": {"matchLabels": {"team": "sre"}}}))
    vm = provider("vm", namespace, "closed")
    kube.create(vm)
    refused = kube.await_condition(vm, "Ready", ("False", "NamespaceNotAllowed"))
    assert "allowedNamespaces" in refused.message("Ready")
    assert "finalizers" not in refused.raw["metadata"]
    kube.patch(f"/api/v1/namespaces/{namespace}", {"metadata": {"labels": {"team": "sre"}}})
    kube.await_ready(vm)


@pytest.mark.parametrize(
    "headers",
    [
        {"big": "x" * 1_000_000},
        {"text": "snow \u2603, astral \U0001f600, right-to-left \u202e, bell \x07, escape \x1b[31m"},
        {"deep": json.loads("[" * 400 + "]" * 400)},
        {"many": [{"n": n} for n in range(20_000)]},
        {"numbers": [1, 1.0, 1e22, -0.0, 2**53, 0.1]},
        {"": "an empty key", "a.b/c": {"{{ x }}": None}},
    ],
    ids=["one-megabyte", "unicode-and-control", "nested", "many", "numbers", "odd-keys"],
)
def test_strange_configs_end_somewhere_clear(
    team: str, headers: Json, kube: Kube, namespace: str, database: Database
) -> None:
    """Whatever a config holds: stored as it is and Ready without writing again, or refused with its path."""
    config = {"url": "http://receiver:8080", "headers": headers}
    vm = provider("vm", namespace, team, "webhook", config=config)
    kube.create(vm)
    seen = eventually(lambda: kube.get(vm), lambda t: (t.condition("Ready") or ("Unknown",))[0] != "Unknown")
    if seen.ready:
        assert database.providers()[0]["config"] == config
    else:
        assert seen.condition("Stalled") == ("True", "SpecRefused")
        assert "spec.config" in seen.message("Ready")
    time.sleep(1.0)
    assert kube.get(vm).version == seen.version


def test_all_faults_of_a_config_are_told_at_once(team: str, kube: Kube, namespace: str, database: Database) -> None:
    """One look at the message is enough to correct a misspelt field, a misplaced credential and a bad address."""
    vm = provider(
        "vm",
        namespace,
        team,
        config={"VMBackendUrl": "http://vm", "BasicAuthPassword": CANARY, "VMAlertURL": "vm", "": 1},
    )
    kube.create(vm)
    refused = kube.await_condition(vm, "Ready", ("False", "InvalidConfig"))
    for told in ("VMBackendURL?", "spec.config.BasicAuthPassword", "spec.config.VMAlertURL", "spec.config['']"):
        assert told in refused.message("Ready")
    assert CANARY not in json.dumps(refused.status)
    assert database.providers() == []
    kube.edit(
        vm,
        config={
            "VMBackendUrl": None,
            "BasicAuthPassword": None,
            "VMAlertURL": None,
            "": None,
            "VMBackendURL": "http://vm",
        },
    )
    kube.await_ready(vm)


def test_deeply_nested_config_blinds_nobody(team: str, kube: Kube, namespace: str) -> None:
    """A config nested thousands deep is refused, and the next Provider is served as ever."""
    deep = provider("deep", namespace, team, config={})
    text = json.dumps(deep).replace('"config": {}', '"config": {"a": ' + "[" * 5000 + "]" * 5000 + "}")
    path = f"/apis/keep-operator.dev/v1alpha1/namespaces/{namespace}/providers"
    request = kube.server.client.param_serialize(
        "POST", path, header_params={"Content-Type": "application/json"}, auth_settings=["BearerToken"]
    )
    response = kube.server.client.rest_client.pool_manager.request(
        "POST", request[1], headers={**request[2]}, body=text.encode()
    )
    assert response.status == 201, response.data[:500]
    vm = provider("vm", namespace, team)
    kube.create(vm)
    kube.await_ready(vm)
    status = eventually(
        lambda: kube.kubectl(
            "get",
            "providers.keep-operator.dev",
            "deep",
            "-n",
            namespace,
            "-o",
            "jsonpath={.status.conditions[0].reason}",
        ),
        bool,
    )
    assert status == "SpecRefused"


def test_nul_characters_are_refused_by_path(team: str, kube: Kube, namespace: str) -> None:
    """A NUL, which PostgreSQL cannot store, is named with its path."""
    vm = provider("vm", namespace, team, config={"VMBackendURL": "http://a\0b"})
    kube.create(vm)
    refused = kube.await_condition(vm, "Ready", ("False", "InvalidConfig"))
    assert "spec.config.VMBackendURL" in refused.message("Ready")
    kube.edit(vm, config={"VMBackendURL": "http://ab"})
    kube.await_ready(vm)


def test_a_key_given_twice_is_refused(team: str, kube: Kube, namespace: str) -> None:
    """A field both in config and in secrets is refused before any Secret is read."""
    vm = provider("vm", namespace, team, secrets=[credential("VMBackendURL", "nowhere", "url")])
    kube.create(vm)
    refused = kube.await_condition(vm, "Ready", ("False", "InvalidConfig"))
    assert "VMBackendURL" in refused.message("Ready")


def test_changed_type_and_tenant_stay_in_force_where_nothing_forbids_them(
    team: str, kube: Kube, namespace: str, database: Database, server_version: tuple[int, int]
) -> None:
    """On a server without CEL a changed type or Tenant is reported, and the recorded one stays in force."""
    vm = provider("vm", namespace, team)
    kube.create(vm, tenant("other"))
    kube.await_ready(vm, tenant("other"))
    (row,) = database.providers()
    if server_version >= (1, 25):
        return  # such an edit does not get in there
    kube.edit(vm, type="slack", config=None)
    kube.await_condition(vm, "Stalled", ("True", "ImmutableFieldChanged"))
    assert database.providers() == [row]
    kube.edit(vm, type="victoriametrics", config={"VMBackendURL": "http://vm:8428"}, tenantRef={"name": "other"})
    kube.await_condition(vm, "Ready", ("False", "TenantChanged"))
    assert database.providers() == [row]
    kube.edit(vm, tenantRef={"name": team})
    kube.await_ready(vm)


def test_tenant_ids_that_differ_in_case_only(operate: Operate, kube: Kube, database: Database) -> None:
    """A tenant id in capitals does not get in; one that is in the database in capitals is not doubled."""
    operate()
    status, answer = kube.send("POST", "/apis/keep-operator.dev/v1alpha1/tenants", tenant("caps", tenantId="CAPS"))
    assert (status, answer["reason"]) == (422, "Invalid")
    database.execute("INSERT INTO keep_operator.tenant (id, display_name) VALUES ('Legacy', 'Legacy')")
    kube.create(tenant("legacy"))
    refused = kube.await_condition(tenant("legacy"), "Ready", ("False", "ExternalResourceExists"))
    assert '"Legacy"' in refused.message("Ready")
    assert sorted(row["id"] for row in database.tenants()) == ["Legacy", "keep"]


def test_two_tenants_of_one_id(operate: Operate, kube: Kube, database: Database) -> None:
    """A second Tenant with the same tenantId is refused by name, and takes over when the first is gone."""
    operate()
    kube.create(tenant("first", tenantId="shared"))
    kube.await_ready(tenant("first"))
    kube.create(tenant("second", tenantId="shared"))
    refused = kube.await_condition(tenant("second"), "Ready", ("False", "ExternalNameConflict"))
    assert "Managed by Tenant first" in refused.message("Ready")
    kube.delete(tenant("first"))
    kube.await_gone(tenant("first"))
    kube.await_ready(tenant("second"))
    assert sorted(row["id"] for row in database.tenants()) == ["keep", "shared"]


def test_a_canary_secret_stands_nowhere(operate: Operate, kube: Kube, namespace: str, database: Database) -> None:
    """A credential's value appears in no log, status, Event, metric or row, in no encoding that people would grep for."""
    import base64
    import hashlib

    operator = operate()
    vm = provider("vm", namespace, secrets=[credential("BasicAuthPassword", "vm-auth", "password")])
    kube.create(secret("vm-auth", namespace, password=CANARY), vm)
    kube.await_ready(vm)
    kube.edit(vm, secrets=[credential("BasicAuthPassword", "vm-auth", "absent")])
    kube.await_condition(vm, "CredentialsResolved", ("Unknown", "SecretKeyNotFound"))
    everything = {
        "log": operator.log,
        "metrics": operator.page("/metrics")[1],
        "status": json.dumps(kube.get(vm).raw),
        "events": json.dumps(kube.events(namespace)),
        "rows": json.dumps([database.tenants(), database.providers(), database.ledger()], default=str),
    }
    encodings = {
        CANARY,
        base64.b64encode(CANARY.encode()).decode().rstrip("="),
        hashlib.sha256(CANARY.encode()).hexdigest(),
        hashlib.md5(CANARY.encode(), usedforsecurity=False).hexdigest(),
    }
    found = [(place, form) for place, text in everything.items() for form in encodings if form in text]
    assert found == []


def test_a_status_forged_by_hand_is_put_right(team: str, kube: Kube, namespace: str) -> None:
    """Somebody with too many rights writes a status: the next look puts it right."""
    vm = provider("vm", namespace, team)
    kube.create(vm)
    (before,) = kube.await_ready(vm)
    path = f"/apis/keep-operator.dev/v1alpha1/namespaces/{namespace}/providers/vm/status"
    status, answer = kube.patch(path, {"status": {"externalName": "forged", "conditions": []}})
    assert status == 200, answer
    healed = eventually(lambda: kube.get(vm), lambda t: t.ready and t.status["externalName"] == "vm")
    assert healed.status["providerId"] == before.status["providerId"]
