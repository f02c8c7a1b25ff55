"""Workflows: lineages, their immutable revisions, what was made active when, holds, tags, and decisions that were handled.

Older code ignores all of it. It cannot remove a tenant that workflows need: the foreign key keeps it.
"""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSON

revision = "0005"
down_revision = "0004"
minimum_code_revision = "0001"

SCHEMA = "keep_operator"


def upgrade() -> None:
    _workflow()
    _revision()
    _state()
    _deployment()
    _hold()
    _tag()
    _handled_decision()
    op.create_foreign_key(
        "workflow_active_revision_fkey",
        "workflow",
        "workflow_revision",
        ["id", "active_revision"],
        ["workflow_id", "number"],
        source_schema=SCHEMA,
        referent_schema=SCHEMA,
    )
    # A lineage's part of the ledger, whatever its object was called at the time.
    op.create_index(
        "ledger_lineage_idx",
        "ledger",
        [sa.text("((details ->> 'id'::text))"), "id"],
        schema=SCHEMA,
        postgresql_where=sa.text(
            "kind = ANY (ARRAY['Workflow'::text, 'WorkflowRevision'::text, 'WorkflowDecision'::text])"
        ),
    )
    _append_only("workflow_revision", "deployment", "handled_decision")
    _tell_changes()


def _workflow() -> None:
    op.create_table(
        "workflow",
        sa.Column("id", sa.Uuid, nullable=False),
        _required("tenant_id"),
        _required("external_name"),
        _required("deletion_policy"),
        sa.Column("suspended", sa.Boolean, nullable=False),
        sa.Column("settings", JSON, nullable=False),
        sa.Column("latest_revision", sa.Integer, server_default=sa.text("0"), nullable=False),
        sa.Column("active_revision", sa.Integer),
        *(sa.Column(f"owner_{part}", sa.Text) for part in ("cluster", "namespace", "name", "uid")),
        _moment("created_at"),
        _moment("updated_at"),
        sa.Column("deleted_at", sa.DateTime(timezone=True)),
        _required("checksum"),
        sa.Column(
            "living_tenant_id",
            sa.Text,
            sa.Computed("CASE WHEN (deleted_at IS NULL) THEN tenant_id ELSE NULL::text END", persisted=True),
        ),
        sa.PrimaryKeyConstraint("id", name="workflow_pkey"),
        sa.ForeignKeyConstraint(
            ["living_tenant_id"], [f"{SCHEMA}.tenant.id"], name="workflow_tenant_id_fkey", ondelete="RESTRICT"
        ),
        sa.UniqueConstraint("living_tenant_id", "external_name", name="workflow_tenant_id_external_name_key"),
        sa.CheckConstraint(
            "num_nonnulls(owner_cluster, owner_namespace, owner_name, owner_uid) IN (0, 4)", name="workflow_owner_check"
        ),
        sa.CheckConstraint("deletion_policy IN ('Delete', 'Orphan')", name="workflow_deletion_policy_check"),
        sa.CheckConstraint("jsonb_typeof((settings)::jsonb) = 'object'", name="workflow_settings_check"),
        schema=SCHEMA,
    )
    op.create_index(
        "workflow_owner_key",
        "workflow",
        ["owner_cluster", "owner_uid"],
        unique=True,
        schema=SCHEMA,
        postgresql_where=sa.text("((owner_uid IS NOT NULL) AND (deleted_at IS NULL))"),
    )


def _revision() -> None:
    op.create_table(
        "workflow_revision",
        sa.Column("workflow_id", sa.Uuid, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        _required("content_hash"),
        sa.Column("hash_version", sa.SmallInteger, nullable=False),
        sa.Column("definition", JSON, nullable=False),
        sa.Column("flaw_reason", sa.Text),
        sa.Column("flaw_message", sa.Text),
        sa.Column("parent_number", sa.Integer),
        sa.Column("same_content_as", sa.Integer),
        sa.Column("change_note", sa.Text),
        sa.Column("author_username", sa.Text),
        sa.Column("author_source", sa.Text),
        sa.Column("created_from_generation", sa.BigInteger, nullable=False),
        _moment("created_at"),
        sa.PrimaryKeyConstraint("workflow_id", "number", name="workflow_revision_pkey"),
        sa.ForeignKeyConstraint(
            ["workflow_id"], [f"{SCHEMA}.workflow.id"], name="workflow_revision_workflow_id_fkey", ondelete="RESTRICT"
        ),
        sa.CheckConstraint("number > 0", name="workflow_revision_number_check"),
        sa.CheckConstraint("content_hash ~ '^[0-9a-f]{64}$'", name="workflow_revision_content_hash_check"),
        sa.CheckConstraint("num_nonnulls(flaw_reason, flaw_message) IN (0, 2)", name="workflow_revision_flaw_check"),
        sa.CheckConstraint(
            "num_nonnulls(author_username, author_source) IN (0, 2)", name="workflow_revision_author_check"
        ),
        sa.CheckConstraint(
            "parent_number < number AND same_content_as < number", name="workflow_revision_ancestor_check"
        ),
        sa.CheckConstraint("jsonb_typeof((definition)::jsonb) = 'object'", name="workflow_revision_definition_check"),
        schema=SCHEMA,
    )


def _state() -> None:
    op.create_table(
        "revision_state",
        sa.Column("workflow_id", sa.Uuid, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        *(sa.Column(each, sa.DateTime(timezone=True)) for each in ("first_active_at", "last_active_at")),
        sa.Column("rejected_reason", sa.Text),
        sa.Column("denied_reason", sa.Text),
        sa.Column("archived_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("workflow_id", "number", name="revision_state_pkey"),
        _points_to_revision("revision_state", "number"),
        schema=SCHEMA,
    )


def _deployment() -> None:
    op.create_table(
        "deployment",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("workflow_id", sa.Uuid, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("from_revision", sa.Integer),
        _required("cause"),
        _required("actor"),
        _required("reason"),
        _moment("at"),
        sa.PrimaryKeyConstraint("id", name="deployment_pkey"),
        _points_to_revision("deployment", "revision"),
        _points_to_revision("deployment", "from_revision"),
        schema=SCHEMA,
    )
    op.create_index("deployment_workflow_id_id_idx", "deployment", ["workflow_id", "id"], schema=SCHEMA)


def _hold() -> None:
    op.create_table(
        "hold",
        sa.Column("workflow_id", sa.Uuid, nullable=False),
        _required("rejected_hash"),
        sa.Column("target", sa.Integer, nullable=False),
        _required("actor"),
        _required("reason"),
        _moment("since"),
        sa.Column("automatic", sa.Boolean, nullable=False),
        sa.Column("request_id", sa.Text),
        sa.PrimaryKeyConstraint("workflow_id", name="hold_pkey"),
        _points_to_revision("hold", "target"),
        sa.CheckConstraint("rejected_hash ~ '^[0-9a-f]{64}$'", name="hold_rejected_hash_check"),
        schema=SCHEMA,
    )


def _tag() -> None:
    op.create_table(
        "revision_tag",
        sa.Column("workflow_id", sa.Uuid, nullable=False),
        _required("tag"),
        sa.Column("number", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("workflow_id", "tag", name="revision_tag_pkey"),
        _points_to_revision("revision_tag", "number"),
        schema=SCHEMA,
    )


def _handled_decision() -> None:
    op.create_table(
        "handled_decision",
        _required("request_id"),
        sa.Column("workflow_id", sa.Uuid, nullable=False),
        _required("action"),
        _required("outcome"),
        _required("message"),
        sa.Column("from_revision", sa.Integer),
        sa.Column("to_revision", sa.Integer),
        sa.Column("ledger_id", sa.BigInteger, nullable=False),
        _moment("at"),
        sa.PrimaryKeyConstraint("request_id", "workflow_id", name="handled_decision_pkey"),
        sa.ForeignKeyConstraint(
            ["workflow_id"], [f"{SCHEMA}.workflow.id"], name="handled_decision_workflow_id_fkey", ondelete="RESTRICT"
        ),
        schema=SCHEMA,
    )


def _required(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _moment(name: str) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False)


def _points_to_revision(table: str, column: str) -> Any:
    """The pair: what is said of a revision cannot be said of another lineage's."""
    revision = f"{SCHEMA}.workflow_revision"
    return sa.ForeignKeyConstraint(
        ["workflow_id", column],
        [f"{revision}.workflow_id", f"{revision}.number"],
        name=f"{table}_{column}_fkey",
        ondelete="RESTRICT",
    )


def _append_only(*tables: str) -> None:
    for table in tables:
        op.execute(
            f"""
            CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON keep_operator.{table}
            FOR EACH STATEMENT EXECUTE FUNCTION keep_operator.ledger_refuse()
            """
        )


def _tell_changes() -> None:
    """As for other records: whoever changes a lineage, or what is said of its revisions, is heard of (A-DR-1)."""
    others = "WHEN (current_setting('keep_operator.operates', true) IS DISTINCT FROM 'yes')"
    op.execute(
        f"""
        CREATE TRIGGER workflow_tell_changed AFTER INSERT OR UPDATE OR DELETE ON keep_operator.workflow FOR EACH ROW
        {others} EXECUTE FUNCTION keep_operator.tell_changed('Workflow')
        """
    )
    op.execute(
        """
        CREATE FUNCTION keep_operator.tell_lineage_changed() RETURNS trigger
        LANGUAGE plpgsql SET search_path = pg_catalog AS
        $$
        BEGIN
            PERFORM pg_notify('keep_operator_changed', json_build_object(
                'kind', 'Workflow', 'namespace', left(owner_namespace, 300), 'name', left(owner_name, 300)
            )::text)
            FROM keep_operator.workflow
            WHERE id IN (CASE WHEN TG_OP <> 'INSERT' THEN OLD.workflow_id END,
                         CASE WHEN TG_OP <> 'DELETE' THEN NEW.workflow_id END)
                AND owner_uid IS NOT NULL;
            RETURN NULL;
        END
        $$
        """
    )
    for table in ("workflow_revision", "revision_state", "hold", "revision_tag"):
        op.execute(
            f"""
            CREATE TRIGGER {table}_tell_changed AFTER INSERT OR UPDATE OR DELETE ON keep_operator.{table} FOR EACH ROW
            {others} EXECUTE FUNCTION keep_operator.tell_lineage_changed()
            """
        )
