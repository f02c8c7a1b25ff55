"""What alembic runs: the migrations of this folder, on the connection that `schema.migrate` hands over."""

from typing import Any, cast

from alembic import context
from alembic.runtime.migration import MigrationContext, MigrationInfo
from alembic.script import Script

from keep_operator.store import schema
from keep_operator.store.tables import METADATA, SCHEMA


def note_applied(ctx: MigrationContext, step: MigrationInfo, heads: Any, run_args: Any) -> None:
    """Each migration says who can live with what it leaves; see `schema`."""
    if not step.is_upgrade or ctx.connection is None:
        raise NotImplementedError("migrations go forward only")
    applied = cast("Script", step.up_revision)
    schema.note_applied(ctx.connection, applied.revision, applied.module.minimum_code_revision)


context.configure(
    connection=context.config.attributes["connection"],
    include_schemas=True,
    on_version_apply=note_applied,
    target_metadata=METADATA,
    transaction_per_migration=True,
    version_table_schema=SCHEMA,
)
with context.begin_transaction():
    context.run_migrations()
