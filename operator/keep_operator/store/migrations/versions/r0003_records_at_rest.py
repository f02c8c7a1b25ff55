"""What a record needs to be kept by itself: its deletion policy, sealed credentials, a checksum, and word of changes.

Older code ignores all of it. Rows from before have no checksum, and the policy that deletes nothing, until they are next
looked at.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
minimum_code_revision = "0001"

SCHEMA = "keep_operator"


def upgrade() -> None:
    for table in ("tenant", "provider"):
        policy = sa.Column("deletion_policy", sa.Text, server_default=sa.text("'Orphan'"), nullable=False)
        op.add_column(table, policy, schema=SCHEMA)
        op.create_check_constraint(
            f"{table}_deletion_policy_check", table, "deletion_policy IN ('Delete', 'Orphan')", schema=SCHEMA
        )
        op.add_column(table, sa.Column("checksum", sa.Text), schema=SCHEMA)
    op.add_column("provider", sa.Column("credentials", sa.Text), schema=SCHEMA)
    op.add_column("provider", sa.Column("key_name", sa.Text), schema=SCHEMA)
    op.create_check_constraint(
        "provider_credentials_check", "provider", "num_nonnulls(credentials, key_name) IN (0, 2)", schema=SCHEMA
    )
    op.add_column("installation", sa.Column("key_name", sa.Text), schema=SCHEMA)
    _tell_changes()


def _tell_changes() -> None:
    """A notification for each row that anybody but the operator changes, with the object that its marker names."""
    op.execute(
        """
        CREATE FUNCTION keep_operator.tell_changed() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS
        $$
        BEGIN
            IF TG_OP <> 'INSERT' AND OLD.owner_uid IS NOT NULL THEN
                PERFORM pg_notify('keep_operator_changed', json_build_object(
                    'kind', TG_ARGV[0], 'namespace', left(OLD.owner_namespace, 300), 'name', left(OLD.owner_name, 300)
                )::text);
            END IF;
            IF TG_OP <> 'DELETE' AND NEW.owner_uid IS NOT NULL THEN
                PERFORM pg_notify('keep_operator_changed', json_build_object(
                    'kind', TG_ARGV[0], 'namespace', left(NEW.owner_namespace, 300), 'name', left(NEW.owner_name, 300)
                )::text);
            END IF;
            RETURN NULL;
        END
        $$
        """
    )
    for table, kind in (("tenant", "Tenant"), ("provider", "Provider")):
        op.execute(
            f"""
            CREATE TRIGGER {table}_tell_changed AFTER INSERT OR UPDATE OR DELETE ON keep_operator.{table} FOR EACH ROW
            WHEN (current_setting('keep_operator.operates', true) IS DISTINCT FROM 'yes')
            EXECUTE FUNCTION keep_operator.tell_changed('{kind}')
            """
        )
    op.execute(
        """
        CREATE FUNCTION keep_operator.tell_key_changed() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS
        $$
        BEGIN
            PERFORM pg_notify('keep_operator_changed', '{"kind": "Installation"}');
            RETURN NULL;
        END
        $$
        """
    )
    op.execute(
        """
        CREATE TRIGGER installation_tell_key_changed AFTER UPDATE OF key_name ON keep_operator.installation
        FOR EACH ROW WHEN (OLD.key_name IS DISTINCT FROM NEW.key_name)
        EXECUTE FUNCTION keep_operator.tell_key_changed()
        """
    )
