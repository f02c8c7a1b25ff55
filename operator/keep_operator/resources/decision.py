"""The WorkflowDecision as users write and read it: what one person or machine decides about a workflow, once.

Docstrings and descriptions of the models are what ``kubectl explain`` shows.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, get_args

from pydantic import AfterValidator, Field

from keep_operator.resources import rules, shapes
from keep_operator.resources.parts import CONDITIONS, Conditions, WorkflowRef
from keep_operator.resources.release import RESERVED_TAGS
from keep_operator.resources.rules import ChangeRule, Named, Rule, Ruled
from keep_operator.resources.shapes import (
    NO_CONTROL_CHARACTERS,
    ContentHash,
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
    as_set,
    distinct_entries,
)

Action = Literal[
    "Approve",
    "Deny",
    "Deploy",
    "Rollback",
    "Promote",
    "Abort",
    "Pause",
    "Resume",
    "Retry",
    "Reject",
    "Tag",
    "Untag",
    "CheckItem",
    "Note",
]
ACTIONS: Final[tuple[str, ...]] = get_args(Action)
# A reason is asked for where somebody will ask for it later.
NEED_REASON: Final = ("Rollback", "Deny", "Reject", "Note")
# These find their version by themselves.
NEED_NO_REVISION: Final = ("Rollback", "Promote", "Abort", "Pause", "Resume", "Retry", "Untag", "Note")


class RevisionChoice(Ruled):
    """Names one version: exactly one of the four ways."""

    number: RevisionNumber | None = Field(default=None, description="By its number.")
    content_hash: ContentHash | None = Field(default=None, description="By the hash of its content.")
    tag: Tag | None = Field(default=None, description="By a tag.")
    previous: Literal[True] | None = Field(
        default=None, description="`true`: the last active version before the one that is active."
    )

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "[has(self.number), has(self.contentHash), has(self.tag), has(self.previous)].exists_one(x, x)",
            "exactly one of number, contentHash, tag and previous must be given",
            lambda self: [self.number, self.content_hash, self.tag, self.previous].count(None) == 3,
        ),
    )


class Expectation(Shape):
    """What must hold for the decision to be carried out; else it is `Stale`."""

    active_revision: RevisionNumber | None = Field(
        default=None, description="Number of the version that the author of the decision saw as the active one."
    )
    canary_step_index: Annotated[int, Field(ge=0, le=20)] | None = Field(
        default=None,
        description="The step that the author saw the canary at, as in `status.canary.stepIndex` of the Workflow.",
    )


class WorkflowDecisionSpec(Ruled):
    """What is decided. It cannot be changed; another decision is another object."""

    workflow_ref: WorkflowRef = Field(description="The Workflow that the decision is about.")
    action: Action = Field(description="What shall be done.")
    revision: RevisionChoice | None = Field(
        default=None,
        description="The version that it is about. Unset: for `Rollback` the previous one, for `Note` the active one; "
        "`Promote`, `Abort`, `Pause`, `Resume`, `Retry` and `Untag` need none.",
    )
    expect: Expectation | None = Field(
        default=None, description="What must hold for the decision to be carried out; else it is `Stale`."
    )
    actor: Line = Field(description="The Kubernetes user that creates the decision.")
    actor_groups: Annotated[Items[Line], AfterValidator(distinct_entries())] = Field(
        default=(),
        max_length=128,
        description="Groups that this user is in, as far as they shall count for approvals.",
        json_schema_extra=as_set(),
    )
    on_behalf_of: Line | None = Field(
        default=None,
        description="Whom the actor acts for: a claim, which counts only where the Tenant trusts the actor.",
    )
    reason: Note | None = Field(
        default=None, description="Why. Needed for `Rollback`, `Deny`, `Reject`, and for `Note`, whose text it is."
    )
    request_id: Annotated[str, Field(min_length=1, max_length=128, pattern=NO_CONTROL_CHARACTERS)] = Field(
        description="Any text that no other decision has. Remembered for ever: the same again does nothing."
    )
    tag: Tag | None = Field(default=None, description="The tag, for `Tag` and `Untag`.")
    item: Annotated[str, Field(min_length=1, max_length=63)] | None = Field(
        default=None, description="Short name of the item of the checklist, for `CheckItem`."
    )
    full: bool = Field(default=False, description="For `Promote`: skip the remaining steps.")
    force: bool = Field(
        default=False, description="When true, also a rejected version is taken. Needs a right of its own."
    )

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"!(self.action in {list(NEED_REASON)}) || (has(self.reason) && size(self.reason) > 0)",
            f"reason is needed for {', '.join(NEED_REASON)}",
            lambda self: self.action not in NEED_REASON or bool(self.reason),
            field="reason",
        ),
        Rule(
            "(self.action in ['Tag', 'Untag']) == has(self.tag)",
            "tag is needed for Tag and Untag, and not allowed for any other action",
            lambda self: (self.action in ("Tag", "Untag")) == (self.tag is not None),
            field="tag",
        ),
        Rule(
            f"self.action != 'Tag' || !has(self.tag) || !(self.tag in {list(RESERVED_TAGS)})",
            f"{', '.join(RESERVED_TAGS)} are reserved; choose another tag",
            lambda self: self.action != "Tag" or self.tag not in RESERVED_TAGS,
            field="tag",
        ),
        Rule(
            "(self.action == 'CheckItem') == has(self.item)",
            "item is needed for CheckItem, and not allowed for any other action",
            lambda self: (self.action == "CheckItem") == (self.item is not None),
            field="item",
        ),
        Rule(
            f"self.action in {list(NEED_NO_REVISION)} || has(self.revision)",
            f"revision is needed for all actions but {', '.join(NEED_NO_REVISION)}",
            lambda self: self.action in NEED_NO_REVISION or self.revision is not None,
            field="revision",
        ),
    )


class WorkflowDecisionStatus(StatusShape):
    """What came of the decision; written by the operator alone."""

    observed_generation: int | None = Field(default=None, ge=0, description="The generation that this status is about.")
    conditions: Conditions = CONDITIONS
    ledger_id: Annotated[str, Field(max_length=63)] | None = Field(
        default=None, description="Id of the ledger's entry about it."
    )
    from_: RevisionNumber | None = Field(
        default=None, alias="from", description="Number of the version that was active before."
    )
    to: RevisionNumber | None = Field(
        default=None, description="Number of the version that was decided upon, or became active."
    )
    handled_at: Timestamp | None = Field(default=None, description="When it was handled.")


OBJECT_CHANGE_RULES: Final = (
    ChangeRule(
        "self.spec == oldSelf.spec",
        "a decision cannot be changed; make another one",
        lambda old, new: old.spec == new.spec,
        field="spec",
        reason="FieldValueForbidden",
    ),
)


def parse_spec(raw: Mapping[str, Any]) -> WorkflowDecisionSpec | Invalid:
    """The spec as the API server sends it, or every fault of its shape."""
    return shapes.parse(WorkflowDecisionSpec, raw)


def violations(spec: WorkflowDecisionSpec, name: str) -> tuple[Violation, ...]:
    """Every rule that the spec breaks; empty on servers that check CEL themselves."""
    del name  # every name is a good one
    return tuple(rules.broken_within(spec, "spec"))


def forbidden_changes(old: WorkflowDecisionSpec, new: WorkflowDecisionSpec, name: str) -> tuple[Violation, ...]:
    """Every rule that the change of the WorkflowDecision ``name`` from ``old`` to ``new`` breaks."""
    return tuple(rules.broken_by_change(OBJECT_CHANGE_RULES, Named(name, old), Named(name, new), ""))
