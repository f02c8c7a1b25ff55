"""What people think of a revision, its checklist, the canary that is under way, and word of runs that end while somebody watches.

Older code ignores it: it holds revisions back that ask for any of it, and makes runs of the active one alone.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0009"
down_revision = "0008"
minimum_code_revision = "0001"

SCHEMA = "keep_operator"


def upgrade() -> None:
    op.add_column("revision_state", sa.Column("approved_reason", sa.Text), schema=SCHEMA)
    op.add_column(
        "revision_state",
        sa.Column("important", sa.Boolean, nullable=False, server_default=sa.text("false")),
        schema=SCHEMA,
    )
    op.create_check_constraint(
        "revision_state_verdict_check",
        "revision_state",
        "num_nonnulls(approved_reason, denied_reason) < 2",
        schema=SCHEMA,
    )
    op.add_column(
        "hold", sa.Column("aborted", sa.Boolean, nullable=False, server_default=sa.text("false")), schema=SCHEMA
    )
    op.add_column("workflow", sa.Column("watched_until", sa.DateTime(timezone=True)), schema=SCHEMA)
    _canary()
    _review()
    _checklist_result()
    _tell_of_ends()


def _canary() -> None:
    op.create_table(
        "canary",
        sa.Column("workflow_id", sa.Uuid, nullable=False),
        sa.Column("candidate", sa.Integer, nullable=False),
        sa.Column("stable", sa.Integer, nullable=False),
        sa.Column("steps", sa.Text, nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("step_since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("weight", sa.Integer, nullable=False),
        sa.Column("began", sa.DateTime(timezone=True), nullable=False),
        sa.Column("measured_since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("failed", sa.Integer, nullable=False),
        sa.Column("paused", sa.Text),
        sa.Column("paused_since", sa.DateTime(timezone=True)),
        sa.Column("sticky_key", sa.Text),
        sa.PrimaryKeyConstraint("workflow_id", name="canary_pkey"),
        _of_revision("canary", "candidate"),
        _of_revision("canary", "stable"),
        sa.CheckConstraint("candidate <> stable", name="canary_pair_check"),
        sa.CheckConstraint("weight BETWEEN 0 AND 100", name="canary_weight_check"),
        sa.CheckConstraint("num_nonnulls(paused, paused_since) IN (0, 2)", name="canary_paused_check"),
        schema=SCHEMA,
    )


def _review() -> None:
    op.create_table(
        "review",
        sa.Column("workflow_id", sa.Uuid, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("approves", sa.Boolean, nullable=False),
        sa.Column("groups", ARRAY(sa.Text), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("workflow_id", "number", "actor", name="review_pkey"),
        _of_revision("review", "number"),
        schema=SCHEMA,
    )


def _checklist_result() -> None:
    op.create_table(
        "checklist_result",
        sa.Column("workflow_id", sa.Uuid, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("item", sa.Text, nullable=False),
        sa.Column("done", sa.Boolean, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("workflow_id", "number", "item", name="checklist_result_pkey"),
        _of_revision("checklist_result", "number"),
        schema=SCHEMA,
    )


def _of_revision(table: str, column: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["workflow_id", column],
        [f"{SCHEMA}.workflow_revision.workflow_id", f"{SCHEMA}.workflow_revision.number"],
        name=f"{table}_{column}_fkey",
        ondelete="RESTRICT",
    )


def _tell_of_ends() -> None:
    op.execute(
        """
        CREATE FUNCTION keep_operator.tell_run_ended() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS
        $$
        BEGIN
            PERFORM pg_notify('keep_operator_run_ended', json_build_object('cluster', left(owner_cluster, 300),
                'namespace', left(owner_namespace, 300), 'name', left(owner_name, 300))::text)
            FROM keep_operator.workflow
            WHERE id = NEW.workflow_id AND owner_uid IS NOT NULL AND (watched_until > now()
                OR EXISTS (SELECT 1 FROM keep_operator.canary WHERE workflow_id = NEW.workflow_id));
            RETURN NULL;
        END
        $$
        """
    )
    op.execute(
        """
        CREATE TRIGGER run_tell_ended AFTER UPDATE OF completed_at ON keep_operator.run FOR EACH ROW
        WHEN (OLD.completed_at IS NULL AND NEW.completed_at IS NOT NULL)
        EXECUTE FUNCTION keep_operator.tell_run_ended()
        """
    )
