"""Where a workflow is looked for by its object's name, as the read API does with each request."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
minimum_code_revision = "0001"


def upgrade() -> None:
    op.create_index(
        "workflow_place_idx",
        "workflow",
        ["owner_cluster", "owner_namespace", "owner_name"],
        schema="keep_operator",
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
