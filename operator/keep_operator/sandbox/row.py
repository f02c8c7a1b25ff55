"""What a person wants to know of one object at a glance."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keep_operator.resources.kinds import WORKFLOW_DECISIONS, WORKFLOWS


@dataclass(frozen=True, slots=True)
class Row:
    """One object: whether it is Ready and why, and what the database has of it."""

    kind: str
    name: str
    ready: str
    reason: str
    message: str
    record: str

    @property
    def looked_at(self) -> bool:
        """Whether the operator has said anything about it."""
        return self.ready != "-"

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> "Row":
        """The row of a Tenant, Provider, Workflow or WorkflowDecision."""
        status = raw.get("status") or {}
        conditions = {condition["type"]: condition for condition in status.get("conditions") or ()}
        ready = conditions.get("Handled" if raw["kind"] == WORKFLOW_DECISIONS.kind else "Ready") or {}
        shown = conditions.get("Deleting") or ready
        if shown.get("status") == "True" and conditions.get("Deployed", {}).get("status") == "False":
            shown = conditions["Deployed"]  # somebody wanted it so, and that is worth telling
        return cls(
            kind=raw["kind"].removeprefix("Workflow") or raw["kind"],
            name=raw["metadata"]["name"],
            ready="Deleting" if "deletionTimestamp" in raw["metadata"] else ready.get("status", "-"),
            reason=shown.get("reason", "-"),
            message=shown.get("message", "not looked at yet"),
            record=_versions(status, conditions) if raw["kind"] == WORKFLOWS.kind else _record(status),
        )


def _record(status: Mapping[str, Any]) -> str:
    """The name that it has there, and the end of its id; of a decision its entry in the ledger."""
    if "ledgerId" in status:
        return f"ledger {status['ledgerId']}"
    name = status.get("externalName") or status.get("tenantId") or "-"
    return f"{name} {str(status.get('providerId') or '')[-8:]}".rstrip()


def _versions(status: Mapping[str, Any], conditions: Mapping[str, Any]) -> str:
    """Which version is active, and what has become of the one that is desired."""
    active, desired = ((status.get(name) or {}).get("number") for name in ("activeRevision", "desiredRevision"))
    told = [] if active is None else [f"v{active} active"]
    if desired not in (None, active):
        valid = conditions.get("DefinitionValid", {}).get("status") != "False"
        told.append(f"v{desired} {'held back' if status.get('hold') else 'waits' if valid else 'broken'}")
    return ", ".join(told) or "-"
