"""What WorkflowRun objects, Workflows and Events need to know of runs; asking for runs and cancelling them is in `runs`.

All of it only reads.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from keep_operator.domain.execution import Run
from keep_operator.domain.run import Part
from keep_operator.resources.kinds import WORKFLOWS, Key
from keep_operator.store.connection import Connection, Prepared
from keep_operator.store.runs import COLUMNS, run_of

# Starts of steps that one look reads: those of a foreach over thousands are shown in one line.
PARTS: Final = 2_000
# Failures that one look tells of.
FAILED: Final = 100

_PARTS: Final = Prepared(
    "SELECT position, iteration, try_number, attempt, name, state, started_at, completed_at, left(message, 300) AS message "
    "FROM keep_operator.run_step WHERE run_id = %(id)s ORDER BY position, iteration, try_number, attempt LIMIT %(most)s",
    {},
)
_OF_NAME: Final = Prepared(
    f"SELECT {COLUMNS} FROM keep_operator.run WHERE workflow_id = %(workflow_id)s AND owner_cluster = %(cluster)s "  # noqa: S608
    "AND owner_namespace = %(namespace)s AND owner_name = %(name)s ORDER BY id DESC LIMIT 1",
    {},
)
_GIVEN: Final = Prepared("SELECT inputs, event FROM keep_operator.run WHERE id = %(id)s", {})
_RUNNING: Final = Prepared(
    "SELECT owner_namespace AS namespace, owner_name AS name, running FROM keep_operator.workflow JOIN "
    "(SELECT workflow_id, count(*) AS running FROM keep_operator.run WHERE completed_at IS NULL GROUP BY workflow_id) "
    "AS counted ON counted.workflow_id = workflow.id WHERE owner_cluster = %(cluster)s",
    {},
)
# The newest first, so that of a flood of failures people hear of the last ones. Ids begin with the time at which a run was
# queued, so those that are older than that are not read.
_FAILED: Final = Prepared(
    "SELECT run.id, revision, content_hash, reason, message, completed_at, w.owner_namespace AS namespace, "
    "w.owner_name AS name, w.owner_uid AS uid, run.trigger FROM keep_operator.run JOIN keep_operator.workflow w "
    "ON w.id = run.workflow_id WHERE w.owner_cluster = %(cluster)s AND run.id >= %(first)s AND run.completed_at >= %(since)s "
    "AND run.state IN ('Failed', 'TimedOut') ORDER BY run.completed_at DESC LIMIT %(most)s",
    {},
)


@dataclass(frozen=True, slots=True)
class Given:
    """What a run got."""

    inputs: dict[str, Any]
    event: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that failed, and the Workflow whose it is."""

    run_id: UUID
    workflow: Key
    workflow_uid: str
    version: str
    reason: str
    message: str | None


async def parts(conn: Connection, run_id: UUID, most: int = PARTS) -> tuple[Part, ...]:
    """The starts of a run's steps, in their order, without what they gave back."""
    found = await conn.execute(_PARTS, {"id": run_id, "most": most})
    return tuple(Part(*row) for row in found)


async def of_name(conn: Connection, workflow_id: UUID, cluster_id: str, key: Key) -> Run | None:
    """The newest run of the workflow that a WorkflowRun of this name asked for, be the object there or not."""
    asked = {"workflow_id": workflow_id, "cluster": cluster_id, "namespace": key.namespace, "name": key.name}
    row = (await conn.execute(_OF_NAME, asked)).one_or_none()
    return None if row is None else run_of(row)


async def given(conn: Connection, run_id: UUID) -> Given | None:
    """The inputs and the event of a run."""
    row = (await conn.execute(_GIVEN, {"id": run_id})).one_or_none()
    return None if row is None else Given(dict(row.inputs), row.event)


async def running(conn: Connection, cluster_id: str) -> dict[Key, int]:
    """How many runs of this cluster's Workflows have not ended; those without any are left out."""
    found = await conn.execute(_RUNNING, {"cluster": cluster_id})
    return {Key(WORKFLOWS.kind, row.namespace, row.name): row.running for row in found}


async def failed(conn: Connection, cluster_id: str, since: datetime, most: int = FAILED) -> list[Failure]:
    """The runs of this cluster's Workflows that were queued and have failed since then, the newest first."""
    first = UUID(int=int(since.timestamp() * 1000) << 80)
    rows = await conn.execute(_FAILED, {"cluster": cluster_id, "first": first, "since": since, "most": most})
    return [
        Failure(
            run_id=row.id,
            workflow=Key(WORKFLOWS.kind, row.namespace, row.name),
            workflow_uid=row.uid,
            version=f"v{row.revision} ({row.content_hash})",
            reason=row.reason,
            message=row.message,
        )
        for row in rows
    ]


def failure_of(told: Mapping[str, Any]) -> Failure:
    """What the database tells of a run when it fails; raises KeyError or ValueError where that is something else."""
    return Failure(
        run_id=UUID(told["id"]),
        workflow=Key(WORKFLOWS.kind, told["namespace"], told["name"]),
        workflow_uid=told["uid"],
        version=f"v{told['revision']} ({told['contentHash']})",
        reason=told["reason"],
        message=told["message"],
    )
