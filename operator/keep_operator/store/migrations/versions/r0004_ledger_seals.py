"""Seals over the ledger's entries, and the queue of those that wait for theirs (A-HIS-4).

Older code writes entries as before: the database queues them, and the first newer leader seals them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
minimum_code_revision = "0001"

SCHEMA = "keep_operator"


def upgrade() -> None:
    op.create_table(
        "ledger_seal",
        sa.Column("ledger_id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("form", sa.SmallInteger, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", name="ledger_seal_pkey"),
        sa.UniqueConstraint("tenant_id", "position", name="ledger_seal_tenant_id_position_key"),
        schema=SCHEMA,
    )
    op.create_table(
        "ledger_pending",
        sa.Column("ledger_id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", name="ledger_pending_pkey"),
        schema=SCHEMA,
    )
    _append_only()
    _queue()


def _append_only() -> None:
    op.execute(
        """
        CREATE OR REPLACE FUNCTION keep_operator.ledger_refuse() RETURNS trigger
        LANGUAGE plpgsql SET search_path = pg_catalog AS
        $$
        BEGIN
            RAISE EXCEPTION 'keep_operator.% only grows: % is refused', TG_TABLE_NAME, TG_OP
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      HINT = 'What was done is told by a new entry, never by changing an old one.';
        END
        $$
        """
    )
    op.execute(
        """
        CREATE TRIGGER ledger_seal_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON keep_operator.ledger_seal
        FOR EACH STATEMENT EXECUTE FUNCTION keep_operator.ledger_refuse()
        """
    )


def _queue() -> None:
    op.execute(
        """
        CREATE FUNCTION keep_operator.ledger_enqueue() RETURNS trigger
        LANGUAGE plpgsql SET search_path = pg_catalog AS
        $$
        BEGIN
            INSERT INTO keep_operator.ledger_pending (ledger_id) VALUES (NEW.id) ON CONFLICT DO NOTHING;
            RETURN NULL;
        END
        $$
        """
    )
    # Waits for the transactions that write entries, and holds off new ones: none is missed by what follows.
    op.execute(
        """
        CREATE TRIGGER ledger_pending_fill AFTER INSERT ON keep_operator.ledger
        FOR EACH ROW EXECUTE FUNCTION keep_operator.ledger_enqueue()
        """
    )
    op.execute("INSERT INTO keep_operator.ledger_pending (ledger_id) SELECT id FROM keep_operator.ledger")
