"""Which workflows fail: how the newest runs of each active version ended.

One statement for all workflows of a cluster: of each as many entries of an index as count, and no more where runs are under way.
"""

from dataclasses import dataclass
from typing import Final

from keep_operator.resources.kinds import WORKFLOWS, Key
from keep_operator.store.connection import Connection, Prepared

# Runs that count, of each workflow: few enough that a version that was mended soon looks so.
COUNTED: Final = 5
# Runs that are looked at for them; those that are under way, dry or cancelled count for nothing.
SEEN: Final = 200

# A range of one number, and ordered by it: of an order by the id alone the planner might go through everybody's runs, back to those
# of a workflow that seldom runs.
_LATELY: Final = Prepared(
    """
    SELECT w.owner_namespace AS namespace, w.owner_name AS name, w.active_revision AS revision, ended.count, ended.failures,
        ended.last_failed
    FROM keep_operator.workflow w CROSS JOIN LATERAL (
        SELECT count(*) AS count, count(*) FILTER (WHERE failed) AS failures, (array_agg(failed ORDER BY id DESC))[1] AS last_failed
        FROM (
            SELECT id, state <> 'Succeeded' AS failed FROM (
                SELECT id, revision, state, mode FROM keep_operator.run
                WHERE workflow_id = w.id AND revision BETWEEN w.active_revision AND w.active_revision
                ORDER BY revision DESC, id DESC LIMIT %(seen)s
            ) newest
            WHERE mode = 'Live' AND state IN ('Succeeded', 'Failed', 'TimedOut')
            ORDER BY revision DESC, id DESC LIMIT %(counted)s
        ) counted
    ) ended
    WHERE w.owner_cluster = %(cluster)s AND w.deleted_at IS NULL AND NOT w.suspended AND ended.failures > 0
    """,
    {},
)


@dataclass(frozen=True, slots=True)
class Lately:
    """How the newest runs of the active version ended, of which ``failures`` failed; those that were cancelled do not count."""

    revision: int
    ended: int
    failures: int
    last_failed: bool

    @property
    def failing(self) -> bool:
        """The newest one failed, or most of them did: somebody should look, until it goes well again."""
        return self.last_failed or 2 * self.failures > self.ended

    def __str__(self) -> str:
        if self.failures == 1 and self.last_failed:
            return "the last run failed"
        if self.failures == self.ended:
            return f"the last {self.ended} runs failed"
        return f"{self.failures} of the last {self.ended} runs failed"


async def failing(conn: Connection, cluster_id: str) -> dict[Key, Lately]:
    """The workflows of a cluster that fail; those that are suspended are left alone."""
    rows = await conn.execute(_LATELY, {"cluster": cluster_id, "seen": SEEN, "counted": COUNTED})
    found = {
        Key(WORKFLOWS.kind, row.namespace, row.name): Lately(row.revision, row.count, row.failures, row.last_failed)
        for row in rows
    }
    return {key: lately for key, lately in found.items() if lately.failing}
