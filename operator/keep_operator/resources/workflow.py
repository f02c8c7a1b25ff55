"""The Workflow as users write and read it: spec, status, and its rules as CEL and in Python.

Docstrings and descriptions of the models are what ``kubectl explain`` shows.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field

from keep_operator.resources import free, rules, shapes
from keep_operator.resources.free import FreeObject
from keep_operator.resources.parts import ATOMIC, CONDITIONS, Conditions, Retention, TenantRef, tenant_stays
from keep_operator.resources.release import Percent, Release
from keep_operator.resources.rules import ChangeRule, Rule, Ruled
from keep_operator.resources.shapes import (
    AdoptionPolicy,
    ContentHash,
    Count,
    DataKey,
    DeletionPolicy,
    DriftPolicy,
    Duration,
    Invalid,
    Items,
    Line,
    ObjectName,
    RevisionNumber,
    Shape,
    StatusShape,
    Tag,
    Timestamp,
    Violation,
)

# Bytes of JSON. Keep's own workflows have at most 20 KiB. A definition stands in the Workflow and in each version of
# it, and etcd takes no object above 1.5 MiB.
DEFINITION_LIMIT: Final = 200 * 1024


class ConfigMapKeyRef(Shape):
    """One key of a ConfigMap in the same namespace."""

    name: ObjectName = Field(description="Name of the ConfigMap.")
    key: DataKey = Field(description="Key in the ConfigMap's data.")


class DefinitionSource(Shape):
    """Where the definition stands as YAML text."""

    config_map_key_ref: ConfigMapKeyRef = Field(
        description="One key of a ConfigMap in the same namespace.", json_schema_extra=ATOMIC
    )


class RunPolicy(Shape):
    """How runs are started; none of it makes a new version."""

    concurrency: Literal["Allow", "Forbid", "Replace"] | None = Field(
        default=None,
        description="What a run does that comes while another one is under way: `Allow` runs beside it, `Forbid` does "
        "not run, `Replace` ends the other. Unset: as `strategy` in the definition says, else `Allow`.",
    )
    missed_ticks: Literal["Skip", "RunOnce"] = Field(
        default="Skip",
        description="What becomes of an interval's tick that could not start in time: `Skip` forgets it, `RunOnce` "
        "runs once for all that were missed.",
    )
    max_attempts: int = Field(default=3, ge=1, le=10, description="How often workers may take up one run.")


class RunHistory(Shape):
    """How many finished runs are kept."""

    successful: int = Field(default=3, ge=0, le=1000, description="So many WorkflowRun objects that succeeded.")
    failed: int = Field(default=1, ge=0, le=1000, description="So many WorkflowRun objects that failed.")
    max_age: Duration | None = Field(
        default=None, description="The records of older runs are removed from the database. Unset: `2160h`, 90 days."
    )


class WorkflowSpec(Ruled):
    """What the workflow shall be. A change of `definition` makes a new version; nothing else does."""

    tenant_ref: TenantRef | None = Field(
        default=None,
        description="The Tenant that the workflow belongs to. Unset: the default tenant. It may be added once, but "
        "neither changed nor removed.",
    )
    external_name: Line | None = Field(
        default=None, description="The workflow's name in the database. Unset: the name of the object."
    )
    definition: FreeObject | None = Field(
        default=None,
        description="What the workflow does, in Keep's workflow grammar, without the outer key `workflow`; at most "
        "200 KiB.",
    )
    definition_from: DefinitionSource | None = Field(
        default=None, description="Where the definition stands instead, for workflow files as they are."
    )
    suspend: bool = Field(
        default=False, description="When true, nothing starts the workflow. Deletion is still honoured."
    )
    dependency_policy: Literal["Wait", "Warn"] = Field(
        default="Wait",
        description="What to do while a provider that the definition names is missing: `Wait` for it, or `Warn` and "
        "go on.",
    )
    progress_deadline_seconds: int = Field(
        default=600,
        ge=30,
        le=86_400,
        description="After this time of waiting for its Tenant, Providers or ConfigMap, `Ready` turns from Unknown to "
        "False. The workflow still goes on by itself when they appear. Waiting for people is not counted.",
    )
    run: RunPolicy = Field(default_factory=RunPolicy, description="How runs are started.")
    release: Release = Field(default_factory=Release, description="How a new version takes over.")
    revision_history_limit: int = Field(
        default=10, ge=0, le=1000, description="So many versions that one could go back to are kept as objects."
    )
    retention: Retention | None = Field(
        default=None,
        description="When versions above that number are cleaned up. Unset: the Tenant's, else after 48h, and 15h after "
        "they were last active, at most 1000.",
    )
    run_history: RunHistory = Field(default_factory=RunHistory, description="How many finished runs are kept.")
    deletion_grace_seconds: int = Field(
        default=60, ge=0, le=3600, description="So long a deletion waits for runs that are under way."
    )
    deletion_policy: DeletionPolicy = Field(
        default="Delete",
        description="What happens to the workflow's record in the database when this object is deleted: `Delete` "
        "marks it deleted and keeps the history, `Orphan` leaves it without an owner.",
    )
    adoption_policy: AdoptionPolicy = Field(
        default="Never",
        description="What to do when the database already has a workflow of this name: `Never` refuses it, "
        "`IfUnowned` takes over a record that no object owns, `Force` takes over any.",
    )
    drift_policy: DriftPolicy = Field(
        default="Correct",
        description="What to do when somebody else changed the record: `Correct` writes the declared state again, "
        "`Report` only says so in the conditions.",
    )

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.definition) != has(self.definitionFrom)",
            "exactly one of definition and definitionFrom must be given",
            lambda self: (self.definition is None) != (self.definition_from is None),
        ),
    )
    change_rules: ClassVar[tuple[ChangeRule, ...]] = (tenant_stays("Workflow"),)


class RevisionPointer(StatusShape):
    """One version of the workflow."""

    number: RevisionNumber = Field(description="Its number.")
    name: Annotated[str, Field(max_length=253)] = Field(description="Name of its WorkflowRevision.")
    content_hash: ContentHash = Field(description="The hash of its content.")


class ActiveRevision(RevisionPointer):
    """The version that takes runs."""

    since: Timestamp | None = Field(default=None, description="Since when it is active.")
    reason: Annotated[str, Field(max_length=63)] | None = Field(
        default=None, description="Why it became active, as one word."
    )


class Source(StatusShape):
    """Where the present spec came from."""

    tool: Annotated[str, Field(max_length=63)] | None = Field(
        default=None, description="The tool that applied it, as far as it leaves traces."
    )
    tracking_id: Annotated[str, Field(max_length=1024)] | None = Field(
        default=None, description="What the tool calls the object."
    )
    field_manager: Annotated[str, Field(max_length=128)] | None = Field(
        default=None, description="The field manager that wrote the definition."
    )
    user: Annotated[str, Field(max_length=253)] | None = Field(
        default=None, description="The user who wrote it, as far as that is known."
    )


class CanaryAnalysis(StatusShape):
    """What the present analysis has seen."""

    runs: Count | None = Field(default=None, description="Runs of the new version in the window.")
    failures: Count | None = Field(default=None, description="How many of them failed.")
    failure_permille: Annotated[int, Field(ge=0, le=1000)] | None = Field(
        default=None, description="The same in a thousand."
    )
    verdict: Annotated[str, Field(max_length=63)] | None = Field(
        default=None, description="What follows from it, as one word."
    )


class CanaryStatus(StatusShape):
    """A canary under way."""

    revision: RevisionNumber = Field(description="Number of the version that is tried.")
    weight: Percent = Field(description="So many percent of the runs go to it.")
    step_index: Annotated[int, Field(ge=0, le=20)] | None = Field(
        default=None, description="The step that it is at; the first is 0."
    )
    step_started_at: Timestamp | None = Field(default=None, description="When that step began.")
    paused: bool | None = Field(default=None, description="True while it waits for a person.")
    analysis: CanaryAnalysis | None = Field(default=None, description="What the present analysis has seen.")


class Hold(StatusShape):
    """A rollback in force: the definition of the spec is held back."""

    rejected_hash: ContentHash = Field(description="The content that is held back. Another one ends the hold.")
    target: RevisionNumber | None = Field(default=None, description="Number of the version that runs instead.")
    actor: Annotated[str, Field(max_length=253)] | None = Field(default=None, description="Who rolled back.")
    reason: Annotated[str, Field(max_length=1024)] | None = Field(default=None, description="Why, in their words.")
    since: Timestamp | None = Field(default=None, description="Since when.")
    automatic: bool | None = Field(default=None, description="True when no person but the operator rolled back.")


class Traffic(StatusShape):
    """A version's part of the runs."""

    revision: RevisionNumber = Field(description="Number of the version.")
    percent: Percent = Field(description="Its part of the runs. All parts together are 100.")
    tag: Tag | None = Field(default=None, description="A tag of it.")


class Deployment(StatusShape):
    """One time that a version became active."""

    revision: RevisionNumber = Field(description="Number of the version.")
    at: Timestamp = Field(description="When.")
    reason: Annotated[str, Field(max_length=63)] | None = Field(default=None, description="Why, as one word.")
    actor: Annotated[str, Field(max_length=253)] | None = Field(default=None, description="Who caused it.")


class RunCounts(StatusShape):
    """Runs of the workflow."""

    running: Count = Field(description="How many are under way.")


class WorkflowStatus(StatusShape):
    """What the workflow is; written by the operator alone."""

    observed_generation: int | None = Field(default=None, ge=0, description="The generation that this status is about.")
    conditions: Conditions = CONDITIONS
    workflow_id: Annotated[str, Field(max_length=63)] | None = Field(
        default=None, description="The workflow's id in the database, its line of versions. It outlives renames."
    )
    tenant_id: Annotated[str, Field(max_length=63)] | None = Field(
        default=None, description="Id of the tenant that the workflow belongs to."
    )
    source: Source | None = Field(default=None, description="Where the present spec came from.")
    desired_revision: RevisionPointer | None = Field(
        default=None, description="The version that the definition in the spec is."
    )
    latest_created_revision: RevisionPointer | None = Field(default=None, description="The newest version.")
    latest_ready_revision: RevisionPointer | None = Field(default=None, description="The newest one that may run.")
    active_revision: ActiveRevision | None = Field(default=None, description="The version that takes runs.")
    stable_revision: RevisionPointer | None = Field(
        default=None, description="The version that takes the rest of the runs during a canary."
    )
    canary: CanaryStatus | None = Field(default=None, description="The canary that is under way.")
    hold: Hold | None = Field(default=None, description="The rollback that is in force.")
    traffic: Items[Traffic] = Field(
        default=(),
        max_length=16,
        description="How runs are shared between versions.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    history: Items[Deployment] = Field(
        default=(),
        max_length=10,
        description="The last times that a version became active, the newest first.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    revision_count: Count | None = Field(default=None, description="How many versions there are.")
    runs: RunCounts | None = Field(default=None, description="Runs of the workflow.")
    pending_approvals: Count | None = Field(default=None, description="How many versions wait for approval.")
    last_handled_reconcile_at: Annotated[str, Field(max_length=shapes.TOKEN_LIMIT)] | None = Field(
        default=None, description="The last token of annotation keep-operator.dev/reconcile-requested-at acted upon."
    )
    last_handled_action: Annotated[str, Field(max_length=shapes.TOKEN_LIMIT)] | None = Field(
        default=None, description="The last value of annotation keep-operator.dev/rollback-to acted upon."
    )


def effective_name(spec: WorkflowSpec, name: str) -> str:
    """The workflow's name in the database: ``externalName``, or the object's name."""
    return name if spec.external_name is None else spec.external_name


def parse_spec(raw: Mapping[str, Any]) -> WorkflowSpec | Invalid:
    """The spec as the API server sends it, or every fault of its shape; ``definition`` is the stored JSON itself."""
    return shapes.parse(WorkflowSpec, raw)


def violations(spec: WorkflowSpec, name: str) -> tuple[Violation, ...]:
    """Every rule that the spec of the Workflow ``name`` breaks; empty on servers that check CEL themselves."""
    del name  # every name is a good one
    return tuple(rules.broken_within(spec, "spec"))


def forbidden_changes(old: WorkflowSpec, new: WorkflowSpec) -> tuple[Violation, ...]:
    """Every rule that the change from ``old`` to ``new`` breaks."""
    return tuple(rules.broken_by_change(WorkflowSpec.change_rules, old, new, "spec"))


def oversize(definition: Mapping[str, Any]) -> Violation | None:
    """What to say of a definition that is too large; CEL cannot measure it."""
    if (found := free.size(definition)) <= DEFINITION_LIMIT:
        return None
    limit, has = DEFINITION_LIMIT // 1024, -(-found // 1024)
    return Violation("spec.definition", f"has {has} KiB as JSON; at most {limit} KiB are taken: split the workflow")
