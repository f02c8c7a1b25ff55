"""The WorkflowRevision as users read it: an immutable record of one version of a workflow, and its rules.

The operator alone writes it. Docstrings and descriptions of the models are what ``kubectl explain`` shows.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import AfterValidator, Field

from keep_operator.resources import free, rules, shapes
from keep_operator.resources.free import ComparedObject
from keep_operator.resources.parts import CONDITIONS, Conditions, WorkflowRef
from keep_operator.resources.rules import ChangeRule, Reported, Rule, Ruled
from keep_operator.resources.shapes import (
    ContentHash,
    Count,
    Invalid,
    Items,
    Line,
    Note,
    RevisionNumber,
    Shape,
    StatusShape,
    Tag,
    Timestamp,
    Violation,
    as_map,
    as_set,
    distinct_by,
    distinct_entries,
)

# A verdict of people is not taken back by whoever may write a status.
TERMINAL: Final = ("Approved", "Denied")


class Author(Shape):
    """Who changed the definition, and how that is known."""

    username: Line = Field(description="The user's name.")
    source: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[A-Z][A-Za-z]*$")] = Field(
        description="How it is known, such as `Annotation`. A claim is worth as much as its source."
    )


class WorkflowRevisionSpec(Shape):
    """One version of a workflow. Nothing of it ever changes."""

    workflow_ref: WorkflowRef = Field(description="The Workflow that this is a version of.")
    lineage_id: Annotated[str, Field(min_length=1, max_length=63)] = Field(
        description="Id of the line of versions. A Workflow that is deleted and made again begins a new one."
    )
    number: RevisionNumber = Field(description="Counts the versions of the line from 1, without gaps.")
    content_hash: ContentHash = Field(description="SHA-256 of the hashed part of the definition as canonical JSON.")
    hash_version: int = Field(
        ge=1, le=1000, description="Which keys of the definition are hashed, and how. The first way is 1."
    )
    definition: ComparedObject = Field(description="The hashed part of the definition.")
    change_note: Note | None = Field(default=None, description="Why the definition was changed.")
    author: Author | None = Field(default=None, description="Who changed it.")
    parent_number: RevisionNumber | None = Field(
        default=None, description="Number of the version that was the newest before."
    )
    created_from_generation: int = Field(ge=0, description="The generation of the Workflow that this was made from.")


class RevisionRuns(StatusShape):
    """Runs of this version."""

    total: Count = Field(description="How many there were.")
    failed: Count = Field(description="How many of them failed.")


class ApprovalRecord(StatusShape):
    """What one person said about the version."""

    actor: Annotated[str, Field(max_length=253)] = Field(description="Who.")
    decision: Literal["Approve", "Deny"] = Field(description="What they said.")
    at: Timestamp = Field(description="When.")


class ChecklistRecord(StatusShape):
    """How one item of the release checklist stands for this version."""

    id: Annotated[str, Field(min_length=1, max_length=63)] = Field(description="Short name of the item.")
    done: bool = Field(description="Whether it is ticked.")
    by: Annotated[str, Field(max_length=253)] | None = Field(default=None, description="Who ticked it.")
    at: Timestamp | None = Field(default=None, description="When.")


class WorkflowRevisionStatus(Ruled, StatusShape):
    """What has become of the version; written by the operator alone."""

    observed_generation: int | None = Field(default=None, ge=0, description="The generation that this status is about.")
    conditions: Conditions = CONDITIONS
    same_content_as: RevisionNumber | None = Field(
        default=None, description="Number of the first version with the same content, if this is not it."
    )
    first_active_at: Timestamp | None = Field(default=None, description="When it first took runs.")
    last_active_at: Timestamp | None = Field(
        default=None, description="When it last began to take runs, or stopped doing so."
    )
    runs: RevisionRuns | None = Field(default=None, description="Runs of this version.")
    tags: Annotated[Items[Tag], AfterValidator(distinct_entries())] = Field(
        default=(), max_length=32, description="The tags that point to it.", json_schema_extra=as_set()
    )
    approvals: Items[ApprovalRecord] = Field(
        default=(),
        max_length=32,
        description="What people said about it, in that order.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    checklist: Annotated[Items[ChecklistRecord], AfterValidator(distinct_by("id"))] = Field(
        default=(), max_length=32, description="How the release checklist stands.", json_schema_extra=as_map("id")
    )
    diff_summary: Annotated[str, Field(max_length=512)] | None = Field(
        default=None, description="What differs from the version before, in one line."
    )
    archived_at: Timestamp | None = Field(
        default=None, description="When its object was cleaned up; set on one that was brought back."
    )

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!(self.exists(c, c.type == 'Approved' && c.status == 'True') && "
            "self.exists(c, c.type == 'Denied' && c.status == 'True'))",
            "a version cannot be both Approved and Denied",
            lambda conditions: not {(kind, "True") for kind in TERMINAL} <= {(c.type, c.status) for c in conditions},
            on="conditions",
        ),
    )


Snapshot = Reported[WorkflowRevisionSpec, WorkflowRevisionStatus]


def _unchanged(old: Snapshot, new: Snapshot) -> bool:
    one, other = (each.spec.model_copy(update={"definition": {}}) for each in (old, new))
    return one == other and free.same(old.spec.definition, new.spec.definition)


def _verdicts(revision: Snapshot) -> set[tuple[str, str]]:
    conditions = revision.status.conditions if revision.status else ()
    return {(condition.type, condition.status) for condition in conditions if condition.type in TERMINAL}


# At the root, the one place that cannot be removed: a rule on the status is not asked when a client sends
# `status: null`.
OBJECT_CHANGE_RULES: Final = (
    ChangeRule(
        "self.spec == oldSelf.spec",
        "a version cannot be changed; change the Workflow, which makes another one",
        _unchanged,
        field="spec",
        reason="FieldValueForbidden",
    ),
    ChangeRule(
        "!has(oldSelf.status) || !has(oldSelf.status.conditions) || "
        f"oldSelf.status.conditions.filter(o, o.type in {list(TERMINAL)}).all(o, "
        "has(self.status) && has(self.status.conditions) && "
        "self.status.conditions.exists(c, c.type == o.type && c.status == o.status))",
        "Approved and Denied are final; decide about another version",
        lambda old, new: _verdicts(old) <= _verdicts(new),
        field="status",
        reason="FieldValueForbidden",
    ),
)


def parse_spec(raw: Mapping[str, Any]) -> WorkflowRevisionSpec | Invalid:
    """The spec as the API server sends it, or every fault of its shape; ``definition`` is the stored JSON itself."""
    return shapes.parse(WorkflowRevisionSpec, raw)


def parse_status(raw: Mapping[str, Any]) -> WorkflowRevisionStatus | Invalid:
    """The status as the API server sends it, or every fault of its shape."""
    return shapes.parse(WorkflowRevisionStatus, raw, "status")


def violations(spec: WorkflowRevisionSpec, name: str) -> tuple[Violation, ...]:
    """Nothing: a version is judged by its record in the database, not by rules."""
    del spec, name
    return ()


def status_violations(status: WorkflowRevisionStatus) -> tuple[Violation, ...]:
    """Every rule that the status breaks; empty on servers that check CEL themselves."""
    return tuple(rules.broken_within(status, "status"))


def forbidden_changes(old: Snapshot, new: Snapshot) -> tuple[Violation, ...]:
    """Every rule that the change from ``old`` to ``new`` breaks."""
    return tuple(rules.broken_by_change(OBJECT_CHANGE_RULES, old, new, ""))
