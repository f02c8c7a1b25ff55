"""The epoch of the replica that may write (A-CTL-2). Older code ignores it, and so is not fenced."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
minimum_code_revision = "0001"


def upgrade() -> None:
    epoch = sa.Column("leader_epoch", sa.BigInteger, server_default=sa.text("0"), nullable=False)
    op.add_column("installation", epoch, schema="keep_operator")
