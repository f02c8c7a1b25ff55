"""What `make run` shows of an object in one line."""

from typing import Any

import pytest

from keep_operator.sandbox.row import Row


def _row(kind: str, conditions: dict[str, tuple[str, str]] | None = None, **status: Any) -> Row:
    told = [
        {"type": name, "status": value, "reason": reason, "message": f"{name} is {value}"}
        for name, (value, reason) in (conditions or {}).items()
    ]
    return Row.of({"kind": kind, "metadata": {"name": "x"}, "status": {"conditions": told, **status}})


@pytest.mark.parametrize(
    ("valid", "status", "told"),
    [
        ("True", {}, "-"),
        ("True", {"desiredRevision": {"number": 1}}, "v1 waits"),
        ("True", {"activeRevision": {"number": 1}, "desiredRevision": {"number": 1}}, "v1 active"),
        ("True", {"activeRevision": {"number": 1}, "desiredRevision": {"number": 2}}, "v1 active, v2 waits"),
        ("False", {"activeRevision": {"number": 1}, "desiredRevision": {"number": 2}}, "v1 active, v2 broken"),
        (
            "True",
            {"activeRevision": {"number": 1}, "desiredRevision": {"number": 3}, "hold": {"target": 1}},
            "v1 active, v3 held back",
        ),
    ],
)
def test_which_version_runs(valid: str, status: dict[str, Any], told: str) -> None:
    """A Workflow's line says which version is active, and what has become of the one that Git wants."""
    assert _row("Workflow", {"Ready": ("True", "Ready"), "DefinitionValid": (valid, "")}, **status).record == told


def test_a_rollback_is_seen_though_all_is_ready() -> None:
    """Ready stays True under a rollback that somebody wanted; the line tells of it all the same."""
    row = _row("Workflow", {"Ready": ("True", "Ready"), "Deployed": ("False", "RolledBack")})
    assert (row.ready, row.reason, row.message) == ("True", "RolledBack", "Deployed is False")


def test_why_something_waits_comes_before_why_nothing_is_deployed() -> None:
    """What is in the way of Ready is what a person must mend."""
    row = _row("Workflow", {"Ready": ("False", "SchemaError"), "Deployed": ("False", "InvalidRevision")})
    assert (row.ready, row.reason) == ("False", "SchemaError")


def test_what_became_of_a_decision() -> None:
    """A decision has no Ready; its line says how it was handled, and where that is kept."""
    row = _row("WorkflowDecision", {"Handled": ("True", "Done")}, ledgerId=57)
    assert (row.kind, row.ready, row.reason, row.record) == ("Decision", "True", "Done", "ledger 57")


def test_records_of_providers_and_tenants() -> None:
    """The name in the database, and enough of the id to see that a rename has kept it."""
    assert _row("Provider", externalName="vms", providerId="0199-0123456789ab").record == "vms 456789ab"
    assert _row("Tenant", tenantId="platform").record == "platform"
    assert not _row("Provider").looked_at
