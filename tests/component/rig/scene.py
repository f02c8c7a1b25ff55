"""A cluster and its database at rest, to begin from as often as one likes."""

from dataclasses import dataclass, field
from typing import Final

import psycopg
from psycopg import sql

from component.apiserver.state import State
from component.rig.rig import Rig
from keep_operator.store.tables import METADATA, SCHEMA, SCHEMA_VERSION

_TABLES: Final = [
    sql.Identifier(SCHEMA, table.name) for table in METADATA.sorted_tables if table.name != SCHEMA_VERSION.name
]
"""All that may have rows, what others point to first."""
_CIRCLE: Final = sql.SQL("ALTER TABLE keep_operator.workflow ALTER CONSTRAINT workflow_active_revision_fkey {}")
"""A workflow points to its active revision, which points to the workflow."""

_JOBS: Final = sql.SQL("DELETE FROM keep_operator.procrastinate_jobs")
"""What waits for a runner is no part of a scene: a run is asked for again by its row."""


@dataclass(frozen=True)
class Scene:
    """All objects, all rows, and the time, as far as it is ahead of the real one. At first there is nothing."""

    state: State = field(default_factory=State)
    rows: tuple[bytes, ...] = ()
    leapt_s: float = 0.0

    def restore(self, url: str) -> None:
        """Let the database be as it was; nobody is told."""
        with psycopg.connect(url) as connection:
            for table in _TABLES:
                connection.execute(sql.SQL("ALTER TABLE {} DISABLE TRIGGER USER").format(table))
            connection.execute(_CIRCLE.format(sql.SQL("DEFERRABLE INITIALLY DEFERRED")))
            connection.execute(_JOBS)
            for table in reversed(_TABLES):
                connection.execute(sql.SQL("DELETE FROM {}").format(table))
            for table, rows in zip(_TABLES, self.rows, strict=False):
                with connection.cursor().copy(sql.SQL("COPY {} FROM STDIN").format(table)) as copy:
                    copy.write(rows)
            connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
            connection.execute(_CIRCLE.format(sql.SQL("NOT DEFERRABLE")))
            for table in _TABLES:
                connection.execute(sql.SQL("ALTER TABLE {} ENABLE TRIGGER USER").format(table))


def take(rig: Rig) -> Scene:
    """The scene as it is; no operator may be alive."""
    rows = []
    with psycopg.connect(rig.database.url) as connection:
        for table in _TABLES:
            with connection.cursor().copy(sql.SQL("COPY {} TO STDOUT").format(table)) as copy:
                rows.append(b"".join(bytes(piece) for piece in copy))
    return Scene(rig.server.state.copy(), tuple(rows), rig.clock.leapt_s)
