"""Runs, their steps and logs; alerts; schedules; tokens of machines that post events; and the queue of the runners.

The queue is procrastinate's (tables and functions ``procrastinate_*``, of version 3.10). Its functions look their tables up by
the search path, which sessions of ours do not have: each function brings its own, so that a job can be deferred in the very
statement that makes its run.

Older code ignores all of it.
"""

from datetime import datetime

import sqlalchemy as sa
from alembic import op
from procrastinate.schema import SchemaManager
from sqlalchemy.dialects.postgresql import JSON

revision = "0008"
down_revision = "0007"
minimum_code_revision = "0001"

SCHEMA = "keep_operator"


def upgrade() -> None:
    # What a run points to: with the hash, so that a wrong pair cannot be told of any run.
    op.create_unique_constraint(
        "workflow_revision_content_key", "workflow_revision", ["workflow_id", "number", "content_hash"], schema=SCHEMA
    )
    # What runners need of the Tenant's spec, such as where its steps may connect to.
    op.add_column("tenant", sa.Column("settings", JSON), schema=SCHEMA)
    _run()
    _run_step()
    _run_log()
    _alert()
    _schedule()
    _ingest_token()
    _queue()
    _stays_as_it_is()
    _tell()


def _run() -> None:
    op.create_table(
        "run",
        sa.Column("id", sa.Uuid, nullable=False),
        _required("tenant_id"),
        sa.Column("workflow_id", sa.Uuid, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        _required("content_hash"),
        _required("selection"),
        _required("trigger"),
        _required("mode"),
        _required("state"),
        _optional("reason"),
        _optional("message"),
        sa.Column("inputs", JSON, nullable=False),
        sa.Column("event", JSON),
        _optional("fingerprint"),
        _required("idempotency_key"),
        sa.Column("tick", sa.DateTime(timezone=True)),
        _required("requested_by"),
        *(_optional(f"owner_{part}") for part in ("cluster", "namespace", "name", "uid")),
        sa.Column("retry_of", sa.Uuid),
        sa.Column("try_number", sa.Integer, server_default=sa.text("1"), nullable=False),
        sa.Column("attempt", sa.Integer, server_default=sa.text("0"), nullable=False),
        sa.Column("returned", sa.Integer, server_default=sa.text("0"), nullable=False),
        sa.Column("max_attempts", sa.Integer, nullable=False),
        sa.Column("timeout_s", sa.Integer, nullable=False),
        sa.Column("cancel_requested", sa.Boolean, server_default=sa.text("false"), nullable=False),
        sa.Column("context", JSON),
        sa.Column("provider_config_hashes", JSON),
        _optional("worker"),
        _moment("queued_at"),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("completed_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name="run_pkey"),
        sa.ForeignKeyConstraint(
            ["workflow_id", "revision", "content_hash"],
            [f"{SCHEMA}.workflow_revision.{each}" for each in ("workflow_id", "number", "content_hash")],
            name="run_revision_fkey",
            ondelete="RESTRICT",
        ),
        sa.UniqueConstraint("workflow_id", "idempotency_key", name="run_idempotency_key"),
        sa.CheckConstraint(
            "num_nonnulls(owner_cluster, owner_namespace, owner_name, owner_uid) IN (0, 4)", name="run_owner_check"
        ),
        sa.CheckConstraint("selection IN ('Pinned', 'Active', 'Canary')", name="run_selection_check"),
        sa.CheckConstraint("trigger IN ('Manual', 'Alert', 'Interval', 'API', 'Incident')", name="run_trigger_check"),
        sa.CheckConstraint("mode IN ('Live', 'DryRun')", name="run_mode_check"),
        sa.CheckConstraint(
            "state IN ('Queued', 'Running', 'Succeeded', 'Failed', 'Cancelled', 'TimedOut')", name="run_state_check"
        ),
        sa.CheckConstraint("(completed_at IS NULL) = (state IN ('Queued', 'Running'))", name="run_completed_check"),
        sa.CheckConstraint("(reason IS NULL) = (completed_at IS NULL)", name="run_reason_check"),
        sa.CheckConstraint("max_attempts > 0 AND timeout_s > 0 AND attempt >= 0", name="run_limits_check"),
        sa.CheckConstraint("jsonb_typeof((inputs)::jsonb) = 'object'", name="run_inputs_check"),
        sa.CheckConstraint("jsonb_typeof((event)::jsonb) = 'object'", name="run_event_check"),
        schema=SCHEMA,
    )
    op.create_index("run_workflow_id_id_idx", "run", ["workflow_id", "id"], schema=SCHEMA)
    op.create_index("run_workflow_id_revision_id_idx", "run", ["workflow_id", "revision", "id"], schema=SCHEMA)
    op.create_index("run_workflow_id_state_id_idx", "run", ["workflow_id", "state", "id"], schema=SCHEMA)
    op.create_index(
        "run_unfinished_idx",
        "run",
        ["tenant_id", "workflow_id", "fingerprint"],
        schema=SCHEMA,
        postgresql_where=sa.text("(completed_at IS NULL)"),
    )
    # A tick starts once, however many schedulers there are.
    op.create_index(
        "run_tick_key",
        "run",
        ["workflow_id", "tick"],
        unique=True,
        schema=SCHEMA,
        postgresql_where=sa.text("(tick IS NOT NULL)"),
    )
    op.create_index(
        "run_owner_key",
        "run",
        ["owner_cluster", "owner_uid"],
        unique=True,
        schema=SCHEMA,
        postgresql_where=sa.text("(owner_uid IS NOT NULL)"),
    )


def _run_step() -> None:
    op.create_table(
        "run_step",
        sa.Column("run_id", sa.Uuid, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        # Of foreach; -1: there is none.
        sa.Column("iteration", sa.Integer, nullable=False),
        sa.Column("try_number", sa.Integer, nullable=False),
        # The claim of the run in which it was begun: a worker that lost the run cannot finish it.
        sa.Column("attempt", sa.Integer, nullable=False),
        _required("name"),
        _required("kind"),
        _required("type"),
        _required("state"),
        _required("side_effects"),
        _moment("started_at"),
        sa.Column("completed_at", sa.DateTime(timezone=True)),
        sa.Column("result", JSON),
        sa.Column("result_truncated", sa.Boolean, server_default=sa.text("false"), nullable=False),
        _optional("message"),
        # What the run goes on with, but nobody is shown: enrichments, aliases.
        sa.Column("facts", JSON),
        sa.PrimaryKeyConstraint("run_id", "position", "iteration", "try_number", "attempt", name="run_step_pkey"),
        sa.ForeignKeyConstraint(["run_id"], [f"{SCHEMA}.run.id"], name="run_step_run_id_fkey", ondelete="CASCADE"),
        sa.CheckConstraint("kind IN ('step', 'action')", name="run_step_kind_check"),
        sa.CheckConstraint(
            "state IN ('Running', 'Succeeded', 'Failed', 'Skipped', 'Lost')", name="run_step_state_check"
        ),
        sa.CheckConstraint("(completed_at IS NULL) = (state = 'Running')", name="run_step_completed_check"),
        schema=SCHEMA,
    )
    # A step is done once: whoever would finish it a second time is refused, whatever he believes.
    op.create_index(
        "run_step_succeeded_key",
        "run_step",
        ["run_id", "position", "iteration"],
        unique=True,
        schema=SCHEMA,
        postgresql_where=sa.text("(state = 'Succeeded'::text)"),
    )


def _run_log() -> None:
    op.create_table(
        "run_log",
        sa.Column("run_id", sa.Uuid, nullable=False),
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.func.clock_timestamp(), nullable=False),
        sa.Column("position", sa.Integer),
        _required("level"),
        _required("message"),
        sa.PrimaryKeyConstraint("run_id", "id", name="run_log_pkey"),
        sa.ForeignKeyConstraint(["run_id"], [f"{SCHEMA}.run.id"], name="run_log_run_id_fkey", ondelete="CASCADE"),
        schema=SCHEMA,
    )


def _alert() -> None:
    op.create_table(
        "alert",
        _required("tenant_id"),
        _required("fingerprint"),
        _moment("first_seen"),
        # Since when it has been firing without a pause; NULL: it is not.
        sa.Column("firing_since", sa.DateTime(timezone=True)),
        sa.Column("last_event", JSON, nullable=False),
        _required("status"),
        _optional("severity"),
        sa.Column("enrichments", JSON, nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        _moment("updated_at"),
        sa.PrimaryKeyConstraint("tenant_id", "fingerprint", name="alert_pkey"),
        sa.ForeignKeyConstraint(
            ["tenant_id"], [f"{SCHEMA}.tenant.id"], name="alert_tenant_id_fkey", ondelete="CASCADE"
        ),
        sa.CheckConstraint("jsonb_typeof((last_event)::jsonb) = 'object'", name="alert_last_event_check"),
        sa.CheckConstraint("jsonb_typeof((enrichments)::jsonb) = 'object'", name="alert_enrichments_check"),
        schema=SCHEMA,
    )
    op.create_index("alert_expires_at_idx", "alert", ["expires_at"], schema=SCHEMA)


def _schedule() -> None:
    op.create_table(
        "schedule",
        sa.Column("workflow_id", sa.Uuid, nullable=False),
        sa.Column("revision", sa.Integer),
        sa.Column("interval_s", sa.BigInteger),
        sa.Column("next_tick", sa.DateTime(timezone=True)),
        # What it was made from has changed since.
        sa.Column("stale", sa.Boolean, server_default=sa.text("true"), nullable=False),
        sa.PrimaryKeyConstraint("workflow_id", name="schedule_pkey"),
        sa.ForeignKeyConstraint(
            ["workflow_id"], [f"{SCHEMA}.workflow.id"], name="schedule_workflow_id_fkey", ondelete="CASCADE"
        ),
        sa.CheckConstraint("interval_s > 0", name="schedule_interval_check"),
        schema=SCHEMA,
    )
    op.create_index("schedule_stale_idx", "schedule", ["workflow_id"], schema=SCHEMA, postgresql_where=sa.text("stale"))
    op.create_index(
        "schedule_next_tick_idx",
        "schedule",
        ["next_tick"],
        schema=SCHEMA,
        postgresql_where=sa.text("(next_tick IS NOT NULL)"),
    )
    op.execute(
        """
        CREATE FUNCTION keep_operator.schedule_is_stale() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS
        $$
        BEGIN
            INSERT INTO keep_operator.schedule (workflow_id) VALUES (NEW.id)
            ON CONFLICT (workflow_id) DO UPDATE SET stale = true WHERE NOT schedule.stale;
            RETURN NULL;
        END
        $$
        """
    )
    op.execute(
        """
        CREATE TRIGGER workflow_schedule_is_stale AFTER UPDATE OF active_revision, suspended, deleted_at
        ON keep_operator.workflow FOR EACH ROW
        WHEN ((OLD.active_revision, OLD.suspended, OLD.deleted_at)
            IS DISTINCT FROM (NEW.active_revision, NEW.suspended, NEW.deleted_at))
        EXECUTE FUNCTION keep_operator.schedule_is_stale()
        """
    )
    op.execute(
        "INSERT INTO keep_operator.schedule (workflow_id) SELECT id FROM keep_operator.workflow "
        "WHERE active_revision IS NOT NULL AND deleted_at IS NULL"
    )


def _ingest_token() -> None:
    op.create_table(
        "ingest_token",
        _required("tenant_id"),
        _required("name"),
        sa.Column("salt", sa.LargeBinary, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        _moment("updated_at"),
        sa.PrimaryKeyConstraint("tenant_id", "name", name="ingest_token_pkey"),
        sa.ForeignKeyConstraint(
            ["tenant_id"], [f"{SCHEMA}.tenant.id"], name="ingest_token_tenant_id_fkey", ondelete="CASCADE"
        ),
        schema=SCHEMA,
    )


def _queue() -> None:
    op.execute("SET LOCAL search_path = keep_operator, pg_catalog")
    # A per cent sign is the driver's unless it is doubled.
    op.get_bind().exec_driver_sql(SchemaManager.get_schema().replace("%", "%%"))
    op.execute("SET LOCAL search_path = pg_catalog")
    op.execute(
        """
        DO $$
        DECLARE each regprocedure;
        BEGIN
            FOR each IN SELECT oid FROM pg_proc
                WHERE pronamespace = 'keep_operator'::regnamespace AND starts_with(proname, 'procrastinate_')
            LOOP
                EXECUTE format('ALTER FUNCTION %s SET search_path = keep_operator, pg_catalog', each);
            END LOOP;
        END
        $$
        """
    )
    # What waits behind a lock is found by it, when another job is about to wait there too.
    op.execute(
        "CREATE INDEX procrastinate_jobs_waiting_idx ON keep_operator.procrastinate_jobs (lock, priority, id) "
        "WHERE lock IS NOT NULL AND status = 'todo'"
    )


def _stays_as_it_is() -> None:
    """What a run is bound to never changes, nor how it ended."""
    op.execute(
        """
        CREATE FUNCTION keep_operator.run_refuse() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS
        $$
        BEGIN
            RAISE EXCEPTION 'a run keeps the revision that it is bound to, and its end' USING ERRCODE = '23514';
        END
        $$
        """
    )
    op.execute(
        """
        CREATE TRIGGER run_stays_bound BEFORE UPDATE ON keep_operator.run FOR EACH ROW
        WHEN ((OLD.id, OLD.tenant_id, OLD.workflow_id, OLD.revision, OLD.content_hash, OLD.selection, OLD.queued_at)
            IS DISTINCT FROM
            (NEW.id, NEW.tenant_id, NEW.workflow_id, NEW.revision, NEW.content_hash, NEW.selection, NEW.queued_at)
            OR (OLD.completed_at IS NOT NULL AND (OLD.state, OLD.reason, OLD.completed_at, OLD.attempt)
            IS DISTINCT FROM (NEW.state, NEW.reason, NEW.completed_at, NEW.attempt)))
        EXECUTE FUNCTION keep_operator.run_refuse()
        """
    )


def _tell() -> None:
    """Of a run's object, whoever changed its row; of each run that ended badly, and of each that is to be cancelled."""
    op.execute(
        """
        CREATE FUNCTION keep_operator.tell_run() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS
        $$
        BEGIN
            IF NEW.owner_uid IS NOT NULL THEN
                PERFORM pg_notify('keep_operator_changed', json_build_object('kind', 'WorkflowRun',
                    'namespace', left(NEW.owner_namespace, 300), 'name', left(NEW.owner_name, 300))::text);
            END IF;
            IF TG_OP = 'UPDATE' AND NEW.cancel_requested AND NOT OLD.cancel_requested THEN
                PERFORM pg_notify('keep_operator_cancel', NEW.id::text);
            END IF;
            IF NEW.state IN ('Failed', 'TimedOut') AND (TG_OP = 'INSERT' OR OLD.completed_at IS NULL) THEN
                PERFORM pg_notify('keep_operator_run_failed', json_build_object(
                    'id', NEW.id, 'workflowId', NEW.workflow_id, 'namespace', left(owner_namespace, 300),
                    'name', left(owner_name, 300), 'uid', left(owner_uid, 300), 'cluster', left(owner_cluster, 300),
                    'revision', NEW.revision, 'contentHash', NEW.content_hash, 'trigger', NEW.trigger,
                    'reason', NEW.reason, 'message', left(NEW.message, 500))::text)
                FROM keep_operator.workflow WHERE id = NEW.workflow_id AND owner_uid IS NOT NULL;
            END IF;
            RETURN NULL;
        END
        $$
        """
    )
    op.execute(
        """
        CREATE TRIGGER run_tell AFTER UPDATE ON keep_operator.run FOR EACH ROW
        WHEN ((OLD.state, OLD.cancel_requested, OLD.attempt) IS DISTINCT FROM
            (NEW.state, NEW.cancel_requested, NEW.attempt))
        EXECUTE FUNCTION keep_operator.tell_run()
        """
    )


def _required(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _optional(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text)


def _moment(name: str) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False)
