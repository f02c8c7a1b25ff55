"""The tables of the control database, as the newest migration leaves them.

::

    tenant 1 ──┬─ n provider          ledger (no foreign key: it outlives what it tells of)
      │ owner_*│       │ owner_*        │ a trigger
      ▼        │       ▼                ▼
    the Tenant │     the Provider     ledger_pending ──▶ ledger_seal (the leader, within a second)
               │
               └─ n workflow 1 ──── n workflow_revision 1 ──── 1 revision_state
                    │ owner_*  ◀────────────┘  ▲   active_revision is one of its own revisions
                    ▼                          │
                  the Workflow               deployment, hold, canary, review, checklist_result,
                    │                        revision_tag; handled_decision
                    │ 1                        │
                    └─ 1 schedule              └── n run 1 ──┬─ n run_step
                                                     │       └─ n run_log
                                                     ▼ owner_*
                                                   the WorkflowRun, where one asked for it

    tenant 1 ── n alert, n ingest_token

    Objects in Kubernetes; NULL: nobody owns the row. schema_version, installation: one row each.

The migrations are the truth for a database that exists, this module for the statements;
``tests/integration/store/test_schema.py`` compares the two catalogues.
"""

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON

from keep_operator.resources.kinds import WORKFLOW_DECISIONS, WORKFLOW_REVISIONS, WORKFLOWS

SCHEMA: Final = "keep_operator"
# procrastinate's own tables and functions, which are in the same schema, begin with this.
QUEUE: Final = "procrastinate_"
METADATA: Final = MetaData(schema=SCHEMA)

# The kinds whose ledger entries belong to a lineage, which `details.id` names.
LINEAGE_KINDS: Final = tuple(each.kind for each in (WORKFLOWS, WORKFLOW_REVISIONS, WORKFLOW_DECISIONS))

# Names of constraints are part of the contract with `failures`, which tells by them what has happened.
TENANT_OF_PROVIDER: Final = "provider_tenant_id_fkey"
NAME_OF_PROVIDER: Final = "provider_tenant_id_external_name_key"
OWNER_OF_PROVIDER: Final = "provider_owner_key"
OWNER_OF_TENANT: Final = "tenant_owner_key"
TENANT_OF_WORKFLOW: Final = "workflow_tenant_id_fkey"
NAME_OF_WORKFLOW: Final = "workflow_tenant_id_external_name_key"
OWNER_OF_WORKFLOW: Final = "workflow_owner_key"
RUN_ASKED_FOR_ONCE: Final = "run_idempotency_key"
HANDLED_ONCE: Final = "handled_decision_pkey"
ID_OF_TENANT: Final = "tenant_lower_id_key"
POSITION_OF_SEAL: Final = "ledger_seal_tenant_id_position_key"


def _moment(name: str) -> Column[Any]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())


def _owner_columns() -> tuple[Column[Any], ...]:
    """The marker: which object of which cluster manages the row (A-GC-1); all four or none."""
    return (
        Column("owner_cluster", Text),
        Column("owner_namespace", Text),
        Column("owner_name", Text),
        Column("owner_uid", Text),
    )


def _owner_whole(table: str) -> CheckConstraint:
    return CheckConstraint(
        "num_nonnulls(owner_cluster, owner_namespace, owner_name, owner_uid) IN (0, 4)", name=f"{table}_owner_check"
    )


def _policy(table: str) -> CheckConstraint:
    return CheckConstraint("deletion_policy IN ('Delete', 'Orphan')", name=f"{table}_deletion_policy_check")


def _added_columns() -> tuple[Column[Any], ...]:
    """Last, where a migration added them. A row that nobody has looked at since deletes nothing and has no checksum."""
    return (
        Column("deletion_policy", Text, nullable=False, server_default=text("'Orphan'")),
        Column("checksum", Text),
    )


TENANT: Final = Table(
    "tenant",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("display_name", Text, nullable=False),
    Column("delete_when_empty", Boolean, nullable=False, server_default=text("false")),
    *_owner_columns(),
    _moment("created_at"),
    _moment("updated_at"),
    *_added_columns(),
    # What runners need of the spec.
    Column("settings", JSON),
    _owner_whole("tenant"),
    _policy("tenant"),
    # No check that the id is in lower case: a row made by other hands may be adopted as it is. What may
    # not be are two that differ in case only.
    Index(ID_OF_TENANT, text("lower(id)"), unique=True),
    Index(OWNER_OF_TENANT, "owner_cluster", "owner_uid", unique=True, postgresql_where=text("owner_uid IS NOT NULL")),
)

PROVIDER: Final = Table(
    "provider",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("tenant_id", Text, ForeignKey(TENANT.c.id, name=TENANT_OF_PROVIDER, ondelete="RESTRICT"), nullable=False),
    Column("type", Text, nullable=False),
    Column("external_name", Text, nullable=False),
    # `json`, not `jsonb`: see `documents`. The check makes sure that it could be cast at any time.
    Column("config", JSON, nullable=False),
    Column("pulling_enabled", Boolean),
    Column("config_hash", Text, nullable=False),
    *_owner_columns(),
    _moment("created_at"),
    _moment("updated_at"),
    *_added_columns(),
    # Sealed by `vault` with the key of that name; NULL: the provider has none.
    Column("credentials", Text),
    Column("key_name", Text),
    _owner_whole("provider"),
    _policy("provider"),
    CheckConstraint("num_nonnulls(credentials, key_name) IN (0, 2)", name="provider_credentials_check"),
    CheckConstraint("jsonb_typeof((config)::jsonb) = 'object'", name="provider_config_check"),
    UniqueConstraint("tenant_id", "external_name", name=NAME_OF_PROVIDER),
    Index(OWNER_OF_PROVIDER, "owner_cluster", "owner_uid", unique=True, postgresql_where=text("owner_uid IS NOT NULL")),
)

# One row for each lineage: the identity of a workflow, and what its versions hang on. A deleted one stays, for its history.
WORKFLOW: Final = Table(
    "workflow",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("external_name", Text, nullable=False),
    Column("deletion_policy", Text, nullable=False),
    Column("suspended", Boolean, nullable=False),
    # What of the current spec is in no revision: `run`, and what is shown.
    Column("settings", JSON, nullable=False),
    Column("latest_revision", Integer, nullable=False, server_default=text("0")),
    Column("active_revision", Integer),
    *_owner_columns(),
    _moment("created_at"),
    _moment("updated_at"),
    Column("deleted_at", DateTime(timezone=True)),
    Column("checksum", Text, nullable=False),
    # NULL in deleted rows: they keep neither the tenant nor the name.
    Column(
        "living_tenant_id",
        Text,
        Computed("CASE WHEN (deleted_at IS NULL) THEN tenant_id ELSE NULL::text END", persisted=True),
        ForeignKey(TENANT.c.id, name=TENANT_OF_WORKFLOW, ondelete="RESTRICT"),
    ),
    # Until then the operator is told of each run that ends.
    Column("watched_until", DateTime(timezone=True)),
    # The pair: one lineage cannot point to a revision of another.
    ForeignKeyConstraint(
        ["id", "active_revision"],
        [f"{SCHEMA}.workflow_revision.workflow_id", f"{SCHEMA}.workflow_revision.number"],
        name="workflow_active_revision_fkey",
        use_alter=True,
    ),
    _owner_whole("workflow"),
    _policy("workflow"),
    CheckConstraint("jsonb_typeof((settings)::jsonb) = 'object'", name="workflow_settings_check"),
    UniqueConstraint("living_tenant_id", "external_name", name=NAME_OF_WORKFLOW),
    Index(
        OWNER_OF_WORKFLOW,
        "owner_cluster",
        "owner_uid",
        unique=True,
        postgresql_where=text("((owner_uid IS NOT NULL) AND (deleted_at IS NULL))"),
    ),
    # The read API asks by name, and has no uid.
    Index(
        "workflow_place_idx",
        "owner_cluster",
        "owner_namespace",
        "owner_name",
        postgresql_where=text("deleted_at IS NULL"),
    ),
)

# Content, which never changes: a trigger refuses whoever asks. What may change of a revision is in `revision_state`.
WORKFLOW_REVISION: Final = Table(
    "workflow_revision",
    METADATA,
    Column(
        "workflow_id",
        Uuid,
        ForeignKey(WORKFLOW.c.id, name="workflow_revision_workflow_id_fkey", ondelete="RESTRICT"),
        primary_key=True,
    ),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("content_hash", Text, nullable=False),
    Column("hash_version", SmallInteger, nullable=False),
    Column("definition", JSON, nullable=False),
    # NULL: it is valid.
    Column("flaw_reason", Text),
    Column("flaw_message", Text),
    Column("parent_number", Integer),
    Column("same_content_as", Integer),
    Column("change_note", Text),
    Column("author_username", Text),
    Column("author_source", Text),
    Column("created_from_generation", BigInteger, nullable=False),
    _moment("created_at"),
    # Against the revision before; NULL: there was none, or it is older than this column.
    Column("diff_summary", Text),
    CheckConstraint("number > 0", name="workflow_revision_number_check"),
    CheckConstraint("content_hash ~ '^[0-9a-f]{64}$'", name="workflow_revision_content_hash_check"),
    CheckConstraint("num_nonnulls(flaw_reason, flaw_message) IN (0, 2)", name="workflow_revision_flaw_check"),
    CheckConstraint("num_nonnulls(author_username, author_source) IN (0, 2)", name="workflow_revision_author_check"),
    CheckConstraint("parent_number < number AND same_content_as < number", name="workflow_revision_ancestor_check"),
    CheckConstraint("jsonb_typeof((definition)::jsonb) = 'object'", name="workflow_revision_definition_check"),
    # What a run points to: with the hash, so that a wrong pair cannot be told of any run.
    UniqueConstraint("workflow_id", "number", "content_hash", name="workflow_revision_content_key"),
)


def _points_to_revision(table: str, column: str) -> ForeignKeyConstraint:
    """The pair: what is said of a revision cannot be said of another lineage's."""
    return ForeignKeyConstraint(
        ["workflow_id", column],
        [WORKFLOW_REVISION.c.workflow_id, WORKFLOW_REVISION.c.number],
        name=f"{table}_{column}_fkey",
        ondelete="RESTRICT",
    )


# One row for each revision, made with it.
REVISION_STATE: Final = Table(
    "revision_state",
    METADATA,
    Column("workflow_id", Uuid, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("first_active_at", DateTime(timezone=True)),
    # When it last began to be active, or ceased to.
    Column("last_active_at", DateTime(timezone=True)),
    Column("rejected_reason", Text),
    Column("denied_reason", Text),
    # The object is gone; the revision is not.
    Column("archived_at", DateTime(timezone=True)),
    # NULL: nobody has approved it, or nobody had to.
    Column("approved_reason", Text),
    Column("important", Boolean, nullable=False, server_default=text("false")),
    _points_to_revision("revision_state", "number"),
    CheckConstraint("num_nonnulls(approved_reason, denied_reason) < 2", name="revision_state_verdict_check"),
)

# What was made active, when, by whom and why; only grows.
DEPLOYMENT: Final = Table(
    "deployment",
    METADATA,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("workflow_id", Uuid, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("from_revision", Integer),
    Column("cause", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    _moment("at"),
    _points_to_revision("deployment", "revision"),
    _points_to_revision("deployment", "from_revision"),
    Index("deployment_workflow_id_id_idx", "workflow_id", "id"),
)

HOLD: Final = Table(
    "hold",
    METADATA,
    Column("workflow_id", Uuid, primary_key=True),
    Column("rejected_hash", Text, nullable=False),
    Column("target", Integer, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    _moment("since"),
    Column("automatic", Boolean, nullable=False),
    Column("request_id", Text),
    Column("aborted", Boolean, nullable=False, server_default=text("false")),
    _points_to_revision("hold", "target"),
    CheckConstraint("rejected_hash ~ '^[0-9a-f]{64}$'", name="hold_rejected_hash_check"),
)

# At most one for each lineage. Who makes runs reads the weight here, whether the operator is there or not (A-CAN-8).
CANARY: Final = Table(
    "canary",
    METADATA,
    Column("workflow_id", Uuid, primary_key=True),
    Column("candidate", Integer, nullable=False),
    Column("stable", Integer, nullable=False),
    Column("steps", Text, nullable=False),
    Column("step", Integer, nullable=False),
    Column("step_since", DateTime(timezone=True), nullable=False),
    Column("weight", Integer, nullable=False),
    Column("began", DateTime(timezone=True), nullable=False),
    Column("measured_since", DateTime(timezone=True), nullable=False),
    Column("failed", Integer, nullable=False),
    Column("paused", Text),
    Column("paused_since", DateTime(timezone=True)),
    Column("sticky_key", Text),
    _points_to_revision("canary", "candidate"),
    _points_to_revision("canary", "stable"),
    CheckConstraint("candidate <> stable", name="canary_pair_check"),
    CheckConstraint("weight BETWEEN 0 AND 100", name="canary_weight_check"),
    CheckConstraint("num_nonnulls(paused, paused_since) IN (0, 2)", name="canary_paused_check"),
)

# What each person thinks of a revision: the last word of each.
REVIEW: Final = Table(
    "review",
    METADATA,
    Column("workflow_id", Uuid, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("actor", Text, primary_key=True),
    Column("approves", Boolean, nullable=False),
    Column("groups", ARRAY(Text), nullable=False),
    _moment("at"),
    _points_to_revision("review", "number"),
)

CHECKLIST_RESULT: Final = Table(
    "checklist_result",
    METADATA,
    Column("workflow_id", Uuid, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("item", Text, primary_key=True),
    Column("done", Boolean, nullable=False),
    Column("by", Text, nullable=False),
    Column("message", Text, nullable=False),
    _moment("at"),
    _points_to_revision("checklist_result", "number"),
)

REVISION_TAG: Final = Table(
    "revision_tag",
    METADATA,
    Column("workflow_id", Uuid, primary_key=True),
    Column("tag", Text, primary_key=True),
    Column("number", Integer, nullable=False),
    _points_to_revision("revision_tag", "number"),
)

# For ever: a decision that comes back from a backup is known (A-AP-6).
HANDLED_DECISION: Final = Table(
    "handled_decision",
    METADATA,
    Column("request_id", Text, primary_key=True),
    Column(
        "workflow_id",
        Uuid,
        ForeignKey(WORKFLOW.c.id, name="handled_decision_workflow_id_fkey", ondelete="RESTRICT"),
        primary_key=True,
    ),
    Column("action", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("from_revision", Integer),
    Column("to_revision", Integer),
    Column("ledger_id", BigInteger, nullable=False),
    _moment("at"),
)

# One row for each run, whoever asked for it. A trigger refuses to bind it to another revision, or to change how it ended.
RUN: Final = Table(
    "run",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("workflow_id", Uuid, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("content_hash", Text, nullable=False),
    Column("selection", Text, nullable=False),
    Column("trigger", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("message", Text),
    Column("inputs", JSON, nullable=False),
    Column("event", JSON),
    Column("fingerprint", Text),
    Column("idempotency_key", Text, nullable=False),
    Column("tick", DateTime(timezone=True)),
    Column("requested_by", Text, nullable=False),
    *_owner_columns(),
    Column("retry_of", Uuid),
    # 1, and one more for each retry that somebody asked for (A-RUN-4).
    Column("try_number", Integer, nullable=False, server_default=text("1")),
    # How often a worker has taken the run up: the fence between them (A-RUN-6).
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    # How often of those a worker has given it back in order: these are no losses.
    Column("returned", Integer, nullable=False, server_default=text("0")),
    Column("max_attempts", Integer, nullable=False),
    Column("timeout_s", Integer, nullable=False),
    Column("cancel_requested", Boolean, nullable=False, server_default=text("false")),
    # What earlier events and runs left behind, as the first worker found it; the same for all that follow.
    Column("context", JSON),
    Column("provider_config_hashes", JSON),
    Column("worker", Text),
    _moment("queued_at"),
    Column("started_at", DateTime(timezone=True)),
    Column("completed_at", DateTime(timezone=True)),
    ForeignKeyConstraint(
        ["workflow_id", "revision", "content_hash"],
        [WORKFLOW_REVISION.c.workflow_id, WORKFLOW_REVISION.c.number, WORKFLOW_REVISION.c.content_hash],
        name="run_revision_fkey",
        ondelete="RESTRICT",
    ),
    _owner_whole("run"),
    UniqueConstraint("workflow_id", "idempotency_key", name=RUN_ASKED_FOR_ONCE),
    CheckConstraint("selection IN ('Pinned', 'Active', 'Canary')", name="run_selection_check"),
    CheckConstraint("trigger IN ('Manual', 'Alert', 'Interval', 'API', 'Incident')", name="run_trigger_check"),
    CheckConstraint("mode IN ('Live', 'DryRun')", name="run_mode_check"),
    CheckConstraint(
        "state IN ('Queued', 'Running', 'Succeeded', 'Failed', 'Cancelled', 'TimedOut')", name="run_state_check"
    ),
    CheckConstraint("(completed_at IS NULL) = (state IN ('Queued', 'Running'))", name="run_completed_check"),
    CheckConstraint("(reason IS NULL) = (completed_at IS NULL)", name="run_reason_check"),
    CheckConstraint("max_attempts > 0 AND timeout_s > 0 AND attempt >= 0", name="run_limits_check"),
    CheckConstraint("jsonb_typeof((inputs)::jsonb) = 'object'", name="run_inputs_check"),
    CheckConstraint("jsonb_typeof((event)::jsonb) = 'object'", name="run_event_check"),
    Index("run_workflow_id_id_idx", "workflow_id", "id"),
    Index("run_workflow_id_revision_id_idx", "workflow_id", "revision", "id"),
    Index("run_workflow_id_state_id_idx", "workflow_id", "state", "id"),
    Index("run_workflow_id_trigger_id_idx", "workflow_id", "trigger", "id"),
    # What earlier runs for the same alert have told.
    Index(
        "run_workflow_id_fingerprint_id_idx",
        "workflow_id",
        "fingerprint",
        "id",
        postgresql_where=text("(fingerprint IS NOT NULL)"),
    ),
    Index(
        "run_unfinished_idx",
        "tenant_id",
        "workflow_id",
        "fingerprint",
        postgresql_where=text("(completed_at IS NULL)"),
    ),
    # A tick starts once, however many schedulers there are.
    Index("run_tick_key", "workflow_id", "tick", unique=True, postgresql_where=text("(tick IS NOT NULL)")),
    Index(
        "run_owner_key",
        "owner_cluster",
        "owner_uid",
        unique=True,
        postgresql_where=text("(owner_uid IS NOT NULL)"),
    ),
)


def _of_run(table: str) -> Column[Any]:
    """Goes with its run."""
    return Column(
        "run_id", Uuid, ForeignKey(RUN.c.id, name=f"{table}_run_id_fkey", ondelete="CASCADE"), primary_key=True
    )


# One row for each time that a step was begun; those that ended are the checkpoints from which any worker goes on.
RUN_STEP: Final = Table(
    "run_step",
    METADATA,
    _of_run("run_step"),
    Column("position", Integer, primary_key=True, autoincrement=False),
    # Of foreach; -1: there is none.
    Column("iteration", Integer, primary_key=True, autoincrement=False),
    Column("try_number", Integer, primary_key=True, autoincrement=False),
    # The claim of the run in which it was begun: a worker that lost the run cannot finish it.
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("side_effects", Text, nullable=False),
    _moment("started_at"),
    Column("completed_at", DateTime(timezone=True)),
    Column("result", JSON),
    Column("result_truncated", Boolean, nullable=False, server_default=text("false")),
    Column("message", Text),
    # What the run goes on with, but nobody is shown.
    Column("facts", JSON),
    CheckConstraint("kind IN ('step', 'action')", name="run_step_kind_check"),
    CheckConstraint("state IN ('Running', 'Succeeded', 'Failed', 'Skipped', 'Lost')", name="run_step_state_check"),
    CheckConstraint("(completed_at IS NULL) = (state = 'Running')", name="run_step_completed_check"),
    # A step is done once: whoever would finish it a second time is refused, whatever he believes.
    Index(
        "run_step_succeeded_key",
        "run_id",
        "position",
        "iteration",
        unique=True,
        postgresql_where=text("(state = 'Succeeded'::text)"),
    ),
)

RUN_LOG: Final = Table(
    "run_log",
    METADATA,
    _of_run("run_log"),
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("position", Integer),
    Column("level", Text, nullable=False),
    Column("message", Text, nullable=False),
)


def _of_tenant(table: str) -> Column[Any]:
    """Goes with its tenant."""
    key = ForeignKey(TENANT.c.id, name=f"{table}_tenant_id_fkey", ondelete="CASCADE")
    return Column("tenant_id", Text, key, primary_key=True)


# One row for each alert, so that workflows can tell new from known (A-EVT-1).
ALERT: Final = Table(
    "alert",
    METADATA,
    _of_tenant("alert"),
    Column("fingerprint", Text, primary_key=True),
    _moment("first_seen"),
    # Since when it has been firing without a pause; NULL: it is not.
    Column("firing_since", DateTime(timezone=True)),
    Column("last_event", JSON, nullable=False),
    Column("status", Text, nullable=False),
    Column("severity", Text),
    Column("enrichments", JSON, nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    _moment("updated_at"),
    CheckConstraint("jsonb_typeof((last_event)::jsonb) = 'object'", name="alert_last_event_check"),
    CheckConstraint("jsonb_typeof((enrichments)::jsonb) = 'object'", name="alert_enrichments_check"),
    Index("alert_expires_at_idx", "expires_at"),
)

# When a workflow is due. A trigger of `workflow` marks what has changed as stale; runners read the interval anew.
SCHEDULE: Final = Table(
    "schedule",
    METADATA,
    Column(
        "workflow_id",
        Uuid,
        ForeignKey(WORKFLOW.c.id, name="schedule_workflow_id_fkey", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("revision", Integer),
    Column("interval_s", BigInteger),
    Column("next_tick", DateTime(timezone=True)),
    Column("stale", Boolean, nullable=False, server_default=text("true")),
    CheckConstraint("interval_s > 0", name="schedule_interval_check"),
    Index("schedule_stale_idx", "workflow_id", postgresql_where=text("stale")),
    Index("schedule_next_tick_idx", "next_tick", postgresql_where=text("(next_tick IS NOT NULL)")),
)

# The tokens of machines that post events: salted digests, made to be slow.
INGEST_TOKEN: Final = Table(
    "ingest_token",
    METADATA,
    _of_tenant("ingest_token"),
    Column("name", Text, primary_key=True),
    Column("salt", LargeBinary, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    _moment("updated_at"),
)

LEDGER: Final = Table(
    "ledger",
    METADATA,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    # The clock, not the transaction's start: two entries of one transaction keep their order in time.
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("tenant_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("namespace", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("uid", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("details", JSON, nullable=False),
    Index("ledger_tenant_id_id_idx", "tenant_id", "id"),
    Index("ledger_object_idx", "kind", "namespace", "name", "id"),
    Index(
        "ledger_lineage_idx",
        text("((details ->> 'id'::text))"),
        "id",
        postgresql_where=text("kind = ANY (ARRAY[{}])".format(", ".join(f"'{kind}'::text" for kind in LINEAGE_KINDS))),
    ),
)

# One row for each sealed entry (`domain.chain`). No foreign key: its check would lock, and thereby write, each row of the
# ledger, and whoever can delete from the ledger can switch it off as well.
LEDGER_SEAL: Final = Table(
    "ledger_seal",
    METADATA,
    Column("ledger_id", BigInteger, primary_key=True, autoincrement=False),
    Column("tenant_id", Text, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("form", SmallInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    # Two who seal at once cannot fork a chain.
    UniqueConstraint("tenant_id", "position", name=POSITION_OF_SEAL),
)

# The entries that have no seal yet. A trigger of the ledger puts them in, whatever program wrote them.
LEDGER_PENDING: Final = Table(
    "ledger_pending",
    METADATA,
    Column("ledger_id", BigInteger, primary_key=True, autoincrement=False),
)


def _only_row() -> Column[Any]:
    """A primary key with one possible value: the table has at most one row."""
    return Column("single", Boolean, primary_key=True, server_default=text("true"))


INSTALLATION: Final = Table(
    "installation",
    METADATA,
    _only_row(),
    Column("cluster_id", Text, nullable=False),
    _moment("created_at"),
    # Last, where a migration adds it: the Lease's transition count of the replica that may write.
    Column("leader_epoch", BigInteger, nullable=False, server_default=text("0")),
    # The name of the key that credentials are sealed with; NULL until the first operator has started.
    Column("key_name", Text),
    CheckConstraint("single", name="installation_single_check"),
)

SCHEMA_VERSION: Final = Table(
    "schema_version",
    METADATA,
    _only_row(),
    Column("revision", Text, nullable=False),
    Column("minimum_code_revision", Text, nullable=False),
    Column("migrated_by", Text, nullable=False),
    Column("migrated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    CheckConstraint("single", name="schema_version_single_check"),
)
