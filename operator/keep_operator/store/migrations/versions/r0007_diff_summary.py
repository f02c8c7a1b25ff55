"""What differs between a revision and the one before, in one line; unknown of those that were made earlier.

Older code ignores it, and makes revisions without.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
minimum_code_revision = "0001"


def upgrade() -> None:
    op.add_column("workflow_revision", sa.Column("diff_summary", sa.Text), schema="keep_operator")
