"""The WorkflowRun as users write and read it: one run of one version of a workflow, asked for through Kubernetes.

Docstrings and descriptions of the models are what ``kubectl explain`` shows.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Final, Literal, get_args

from pydantic import Field

from keep_operator.resources import free, rules, shapes
from keep_operator.resources.free import FreeObject
from keep_operator.resources.parts import CONDITIONS, Conditions, WorkflowRef
from keep_operator.resources.rules import ChangeRule, Reported, Rule, Ruled
from keep_operator.resources.shapes import (
    DURATION,
    NO_CONTROL_CHARACTERS,
    ContentHash,
    Count,
    Duration,
    Invalid,
    Items,
    ObjectName,
    RevisionNumber,
    Shape,
    StatusShape,
    Tag,
    Timestamp,
    Violation,
)

Trigger = Literal["Manual", "Alert", "Interval", "API", "Incident"]
Mode = Literal["Live", "DryRun"]
State = Literal["Pending", "Queued", "Running", "Succeeded", "Failed", "Cancelled", "TimedOut"]
STATES: Final[tuple[str, ...]] = get_args(State)
DEFAULT_TIMEOUT: Final = timedelta(hours=1)
# Of a status: more steps and longer messages are in the database only.
STEPS_LIMIT: Final = 100
MESSAGE_LIMIT: Final = 256
PROVIDERS_LIMIT: Final = 64


class RunRevision(Ruled):
    """Names one version: exactly one of the three ways."""

    number: RevisionNumber | None = Field(default=None, description="By its number.")
    content_hash: ContentHash | None = Field(default=None, description="By the hash of its content.")
    tag: Tag | None = Field(default=None, description="By a tag.")

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "[has(self.number), has(self.contentHash), has(self.tag)].exists_one(x, x)",
            "exactly one of number, contentHash and tag must be given",
            lambda self: [self.number, self.content_hash, self.tag].count(None) == 2,
        ),
    )


class RunRef(Shape):
    """Another WorkflowRun."""

    name: ObjectName = Field(description="Name of the WorkflowRun, in the same namespace.")


# In the API's spelling; a field that is here may not come, go or change. `cancel` alone may, in one direction.
_LASTING: Final = (
    "workflowRef",
    "revision",
    "inputs",
    "trigger",
    "mode",
    "retryOf",
    "idempotencyKey",
    "timeout",
    "ttlSecondsAfterFinished",
)


def _stays(field: str) -> str:
    same = f"self.{field} == oldSelf.{field}"
    if field == "timeout":
        same = f"duration(self.{field}) == duration(oldSelf.{field})"
    return f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || {same})"


def _same_run(old: Any, new: Any) -> bool:
    """Whether both specs ask for the same run, be it cancelled or not."""
    same = {"cancel": False, "inputs": None}
    return old.model_copy(update=same) == new.model_copy(update=same) and free.same(old.inputs, new.inputs)


class WorkflowRunSpec(Ruled):
    """Which workflow shall run, once, and how. Nothing of it can be changed but `cancel`."""

    workflow_ref: WorkflowRef = Field(description="The Workflow that shall run.")
    revision: RunRevision | None = Field(
        default=None, description="The version that shall run. Unset: the one that is active when the run is accepted."
    )
    inputs: FreeObject | None = Field(default=None, description="Values for the inputs that the definition declares.")
    trigger: Trigger = Field(default="Manual", description="What the run is told to have been started by.")
    mode: Mode = Field(
        default="Live", description="`Live` does everything; `DryRun` does nothing that others would notice."
    )
    retry_of: RunRef | None = Field(
        default=None,
        description="An earlier run that this one repeats: of the same version and with the same inputs, where these are "
        "not given.",
    )
    idempotency_key: Annotated[str, Field(min_length=1, max_length=128, pattern=NO_CONTROL_CHARACTERS)] | None = Field(
        default=None,
        description="Any text that no other run of the workflow has: a second run with it is not started. Unset: the "
        "object's uid.",
    )
    timeout: Duration | None = Field(
        default=None, description="After this time the run is ended; at least `1s`. Unset: `1h`."
    )
    ttl_seconds_after_finished: int = Field(
        default=3600,
        ge=0,
        le=2**31 - 1,
        description="So long after its end the object is kept. The record in the database stays longer.",
    )
    cancel: bool = Field(default=False, description="When true, the run is ended. It cannot be set back.")

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"!self.matches(r'{DURATION}') || duration(self) >= duration('1s')",  # the pattern has its own message
            "timeout must be at least 1s",
            lambda value: value >= timedelta(seconds=1),
            on="timeout",
        ),
    )
    change_rules: ClassVar[tuple[ChangeRule, ...]] = (
        ChangeRule(
            "!has(oldSelf.cancel) || !oldSelf.cancel || (has(self.cancel) && self.cancel)",
            "a run that was cancelled stays so; make another one",
            lambda old, new: not old.cancel or new.cancel,
            field="cancel",
            reason="FieldValueForbidden",
        ),
        ChangeRule(
            " && ".join(f"({_stays(field)})" for field in _LASTING),
            "a run cannot be changed but for cancel; make another one",
            _same_run,
            reason="FieldValueForbidden",
        ),
    )


class RunsRevision(StatusShape):
    """One version of the workflow."""

    number: RevisionNumber = Field(description="Its number.")
    name: Annotated[str, Field(max_length=253)] = Field(description="Name of its WorkflowRevision.")
    content_hash: ContentHash = Field(description="The hash of its content.")


class RunStep(StatusShape):
    """One step or action of the workflow."""

    name: Annotated[str, Field(max_length=253)] = Field(description="Its name in the definition.")
    state: Annotated[str, Field(max_length=63)] = Field(
        description="`Running`, `Succeeded`, `Failed`, `Skipped`, or `Lost` with the worker that ran it."
    )
    duration: Annotated[str, Field(max_length=16)] | None = Field(default=None, description="How long it took.")
    message: Annotated[str, Field(max_length=MESSAGE_LIMIT)] | None = Field(
        default=None, description="What there is to say of it, above all why it failed."
    )


class WorkflowRunStatus(StatusShape):
    """What has become of the run; written by the operator alone."""

    observed_generation: int | None = Field(default=None, ge=0, description="The generation that this status is about.")
    conditions: Conditions = CONDITIONS
    state: State | None = Field(default=None, description="How far the run is, in one word.")
    revision: RunsRevision | None = Field(
        default=None, description="The version that runs. It is chosen once, when the run is accepted."
    )
    selection: Literal["Pinned", "Active", "Canary"] | None = Field(
        default=None,
        description="How it was chosen: `Pinned` by the spec, as the `Active` one, or by the weight of a `Canary`.",
    )
    execution_id: Annotated[str, Field(max_length=63)] | None = Field(
        default=None, description="The run's id in the database."
    )
    provider_config_hashes: dict[str, Annotated[str, Field(max_length=128)]] | None = Field(
        default=None, max_length=PROVIDERS_LIMIT, description="With which configuration each provider was called."
    )
    queued_at: Timestamp | None = Field(default=None, description="When the run was accepted.")
    started_at: Timestamp | None = Field(default=None, description="When a worker first took it up.")
    completed_at: Timestamp | None = Field(default=None, description="When it ended, or was refused.")
    duration: Annotated[str, Field(max_length=16)] | None = Field(
        default=None, description="From its start to its end."
    )
    attempt: Count | None = Field(default=None, description="How often workers have taken it up.")
    steps: Items[RunStep] = Field(
        default=(),
        max_length=STEPS_LIMIT,
        description="The first hundred steps and actions; the database has all of them, with what they gave back.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    result_url: Annotated[str, Field(max_length=2048)] | None = Field(
        default=None, description="Where the whole record can be read."
    )


Snapshot = Reported[WorkflowRunSpec, WorkflowRunStatus]


def _bound(run: Snapshot) -> RunsRevision | None:
    return None if run.status is None else run.status.revision


def _ends(run: Snapshot) -> set[str]:
    conditions = run.status.conditions if run.status else ()
    return {each.status for each in conditions if each.type == "Succeeded" and each.status != "Unknown"}


def _all_ends(run: Snapshot) -> set[str]:
    return {each.status for each in (run.status.conditions if run.status else ()) if each.type == "Succeeded"}


# At the root, the one place that cannot be removed: a rule on the status is not asked when a client sends
# `status: null`.
OBJECT_CHANGE_RULES: Final = (
    ChangeRule(
        "!has(oldSelf.status) || !has(oldSelf.status.revision) || "
        "(has(self.status) && has(self.status.revision) && self.status.revision == oldSelf.status.revision)",
        "the version that runs is chosen once",
        lambda old, new: _bound(old) is None or _bound(old) == _bound(new),
        field="status",
        reason="FieldValueForbidden",
    ),
    ChangeRule(
        "!has(oldSelf.status) || !has(oldSelf.status.conditions) || "
        "oldSelf.status.conditions.filter(o, o.type == 'Succeeded' && o.status != 'Unknown').all(o, "
        "has(self.status) && has(self.status.conditions) && "
        "self.status.conditions.exists(c, c.type == o.type && c.status == o.status))",
        "a run that has ended stays so; make another one",
        lambda old, new: _ends(old) <= _all_ends(new),
        field="status",
        reason="FieldValueForbidden",
    ),
)


def parse_spec(raw: Mapping[str, Any]) -> WorkflowRunSpec | Invalid:
    """The spec as the API server sends it, or every fault of its shape; ``inputs`` is the stored JSON itself."""
    return shapes.parse(WorkflowRunSpec, raw)


def parse_status(raw: Mapping[str, Any]) -> WorkflowRunStatus | Invalid:
    """The status as the API server sends it, or every fault of its shape."""
    return shapes.parse(WorkflowRunStatus, raw, "status")


def violations(spec: WorkflowRunSpec, name: str) -> tuple[Violation, ...]:
    """Every rule that the spec breaks; empty on servers that check CEL themselves."""
    del name  # every name is a good one
    return tuple(rules.broken_within(spec, "spec"))


def forbidden_changes(old: Snapshot, new: Snapshot) -> tuple[Violation, ...]:
    """Every rule that the change from ``old`` to ``new`` breaks."""
    return (
        *rules.broken_by_change(WorkflowRunSpec.change_rules, old.spec, new.spec, "spec"),
        *rules.broken_by_change(OBJECT_CHANGE_RULES, old, new, ""),
    )
