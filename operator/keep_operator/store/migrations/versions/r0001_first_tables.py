"""The first tables: tenant, provider, ledger, installation, schema_version."""

from datetime import datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSON

revision = "0001"
down_revision = None
minimum_code_revision = "0001"

SCHEMA = "keep_operator"


def upgrade() -> None:
    _one_row("schema_version", *(_required(name) for name in ("revision", "minimum_code_revision", "migrated_by")))
    _one_row("installation", _required("cluster_id"))
    _tenant()
    _provider()
    _ledger()


def _one_row(table: str, *columns: sa.Column[str]) -> None:
    made = {"schema_version": "migrated_at", "installation": "created_at"}[table]
    op.create_table(
        table,
        sa.Column("single", sa.Boolean, server_default=sa.text("true"), nullable=False),
        *columns,
        _moment(made),
        sa.PrimaryKeyConstraint("single", name=f"{table}_pkey"),
        sa.CheckConstraint("single", name=f"{table}_single_check"),
        schema=SCHEMA,
    )


def _tenant() -> None:
    op.create_table(
        "tenant",
        _required("id"),
        _required("display_name"),
        sa.Column("delete_when_empty", sa.Boolean, server_default=sa.text("false"), nullable=False),
        *_owner(),
        _moment("created_at"),
        _moment("updated_at"),
        sa.PrimaryKeyConstraint("id", name="tenant_pkey"),
        _owner_check("tenant"),
        schema=SCHEMA,
    )
    op.create_index("tenant_lower_id_key", "tenant", [sa.text("lower(id)")], unique=True, schema=SCHEMA)
    _owner_index("tenant")


def _provider() -> None:
    op.create_table(
        "provider",
        sa.Column("id", sa.Uuid, nullable=False),
        _required("tenant_id"),
        _required("type"),
        _required("external_name"),
        sa.Column("config", JSON, nullable=False),
        sa.Column("pulling_enabled", sa.Boolean),
        _required("config_hash"),
        *_owner(),
        _moment("created_at"),
        _moment("updated_at"),
        sa.PrimaryKeyConstraint("id", name="provider_pkey"),
        sa.ForeignKeyConstraint(
            ["tenant_id"], [f"{SCHEMA}.tenant.id"], name="provider_tenant_id_fkey", ondelete="RESTRICT"
        ),
        sa.UniqueConstraint("tenant_id", "external_name", name="provider_tenant_id_external_name_key"),
        _owner_check("provider"),
        sa.CheckConstraint("jsonb_typeof((config)::jsonb) = 'object'", name="provider_config_check"),
        schema=SCHEMA,
    )
    _owner_index("provider")


def _ledger() -> None:
    op.create_table(
        "ledger",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        *(_required(name) for name in ("tenant_id", "kind", "namespace", "name", "uid", "action", "actor")),
        sa.Column("details", JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="ledger_pkey"),
        schema=SCHEMA,
    )
    op.create_index("ledger_tenant_id_id_idx", "ledger", ["tenant_id", "id"], schema=SCHEMA)
    op.create_index("ledger_object_idx", "ledger", ["kind", "namespace", "name", "id"], schema=SCHEMA)
    op.execute(
        """
        CREATE FUNCTION keep_operator.ledger_refuse() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS
        $$
        BEGIN
            RAISE EXCEPTION 'keep_operator.ledger only grows: % is refused', TG_OP
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      HINT = 'What was done is told by a new entry, never by changing an old one.';
        END
        $$
        """
    )
    op.execute(
        """
        CREATE TRIGGER ledger_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON keep_operator.ledger
        FOR EACH STATEMENT EXECUTE FUNCTION keep_operator.ledger_refuse()
        """
    )


def _required(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _moment(name: str) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False)


def _owner() -> list[sa.Column[str]]:
    return [sa.Column(f"owner_{part}", sa.Text) for part in ("cluster", "namespace", "name", "uid")]


def _owner_check(table: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(
        "num_nonnulls(owner_cluster, owner_namespace, owner_name, owner_uid) IN (0, 4)", name=f"{table}_owner_check"
    )


def _owner_index(table: str) -> None:
    op.create_index(
        f"{table}_owner_key",
        table,
        ["owner_cluster", "owner_uid"],
        unique=True,
        schema=SCHEMA,
        postgresql_where=sa.text("owner_uid IS NOT NULL"),
    )
