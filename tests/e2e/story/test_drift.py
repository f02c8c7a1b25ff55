"""What others do to a record: it is seen at once, undone or told, and the ledger names it (A-DR-1)."""

import pytest

from e2e.cluster import Database, Kube, credential, eventually, provider, secret, tenant
from e2e.conftest import Operate

pytestmark = pytest.mark.e2e
# Nothing here may come about by a resync: only by word from the database.
NEVER = {"KEEP_OPERATOR_RESYNC_PERIOD": "24h", "KEEP_OPERATOR_SWEEP_INTERVAL": "24h"}


def _sql(database: Database, assignment: str, name: str = "vm") -> None:
    database.execute(f"UPDATE keep_operator.provider SET {assignment} WHERE external_name = '{name}'")  # noqa: S608


@pytest.mark.parametrize(
    ("assignment", "fields"),
    [
        ('config = \'{"VMBackendURL": "http://elsewhere:1"}\'', ["config.VMBackendURL"]),
        ("external_name = 'other'", ["externalName"]),
        ("deletion_policy = 'Orphan'", ["deletionPolicy"]),
        ("config_hash = 'x'", ["configHash"]),
        ("checksum = 'x'", ["checksum"]),
    ],
    ids=["config", "name", "policy", "hash", "checksum"],
)
def test_a_change_by_sql_is_undone(
    operate: Operate, kube: Kube, namespace: str, database: Database, assignment: str, fields: list[str]
) -> None:
    """Somebody edits the row: it says again what the spec says, under the same id, and one entry names the fields."""
    operate(**NEVER)
    vm = provider("vm", namespace)
    kube.create(vm)
    kube.await_ready(vm)
    (before,) = database.providers()
    _sql(database, assignment)
    kube.await_condition(vm, "Synced", ("True", "DriftCorrected"))
    (after,) = database.providers()
    assert {**after, "updated_at": None} == {**before, "updated_at": None}
    entry = database.ledger("Provider")[-1]
    assert (entry["action"], entry["details"]["fields"]) == ("DriftCorrected", fields)


def test_what_is_only_to_be_reported_is_left_as_it_is(
    operate: Operate, kube: Kube, namespace: str, database: Database
) -> None:
    """`driftPolicy: Report` names the fields and writes nothing; undone by hand, the Provider is Ready again by itself."""
    operate(**NEVER)
    vm = provider("vm", namespace, driftPolicy="Report")
    kube.create(vm)
    kube.await_ready(vm)
    _sql(database, 'config = \'{"VMBackendURL": "http://elsewhere:1"}\'')
    thing = kube.await_condition(vm, "Ready", ("False", "DriftDetected"))
    assert "config.VMBackendURL" in thing.message("Synced")
    (row,) = database.providers()
    assert row["config"] == {"VMBackendURL": "http://elsewhere:1"}
    assert [entry["action"] for entry in database.ledger("Provider")] == ["Created"]
    _sql(database, 'config = \'{"VMBackendURL": "http://vm:8428"}\'')
    kube.await_ready(vm)


def test_drift_of_a_tenant(operate: Operate, kube: Kube, namespace: str, database: Database) -> None:
    """The same holds for a Tenant's row; a display name that the spec does not set is not ours to correct."""
    operate(**NEVER)
    named, free = tenant("named", displayName="The team"), tenant("free")
    kube.create(named, free)
    kube.await_ready(named, free)
    database.execute("UPDATE keep_operator.tenant SET display_name = 'X'")
    kube.await_condition(named, "Synced", ("True", "DriftCorrected"))
    names = {row["id"]: row["display_name"] for row in database.rows("SELECT * FROM keep_operator.tenant")}
    assert (names["named"], names["free"]) == ("The team", "X")
    assert kube.get(free).condition("Synced") == ("True", "Created")


def test_credentials_are_sealed_at_rest_and_kept(
    operate: Operate, kube: Kube, namespace: str, database: Database
) -> None:
    """A password is in no dump in clear text; damaged in the database, it is written again from its Secret."""
    operator = operate(**NEVER)
    canary = "canary-password-4711"
    login = secret("login", namespace, password=canary)
    vm = provider("vm", namespace, secrets=[credential("BasicAuthPassword", "login", "password")])
    kube.create(login, vm)
    kube.await_ready(vm)
    (row,) = database.providers()
    assert row["credentials"]
    assert canary not in str(row)
    _sql(database, "credentials = 'damaged'")
    kube.await_condition(vm, "Synced", ("True", "DriftCorrected"))
    (mended,) = database.providers()
    assert mended["credentials"] not in ("damaged", row["credentials"])
    assert canary not in operator.log + str(database.ledger("Provider")) + str(kube.get(vm).raw)


def test_a_rotated_secret_is_sealed_anew(operate: Operate, kube: Kube, namespace: str, database: Database) -> None:
    """A new password in the Secret reaches the record by itself; a Provider that drops its Secret keeps none."""
    operate(**NEVER)
    kube.create(secret("login", namespace, password="one"))
    vm = provider("vm", namespace, secrets=[credential("BasicAuthPassword", "login", "password")])
    kube.create(vm)
    kube.await_ready(vm)
    (before,) = database.providers()
    kube.patch(f"/api/v1/namespaces/{namespace}/secrets/login", {"stringData": {"password": "two"}})
    eventually(lambda: database.providers()[0]["credentials"], lambda sealed: sealed != before["credentials"])
    kube.edit(vm, secrets=[])
    eventually(lambda: database.providers()[0], lambda row: row["credentials"] is None and row["key_name"] is None)
    kube.await_ready(vm)
