"""WorkflowRuns: from the object to its row, and from what workers make of that back to the status.

::

    look ──► row there? ──yes──► shown in the status
                 │ no
                 └──► Workflow as the API server has it now ──► finalizer ──► request: version, row and job as one
                                                                    refused: shown as the database says it
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, Protocol, assert_never
from uuid import UUID

from keep_operator.cluster.client import Cluster
from keep_operator.domain import run, tenancy, workflow
from keep_operator.domain.binding import Asked
from keep_operator.domain.conditions import Truth
from keep_operator.domain.execution import Run
from keep_operator.domain.history import Refusal
from keep_operator.domain.links import NO_LINKS, Links
from keep_operator.domain.ownership import Owner
from keep_operator.domain.planning import Plan
from keep_operator.domain.run import Action, Cancel, Expire, Observed, Part, Request, Sight
from keep_operator.domain.tenancy import OwnerReferences
from keep_operator.reconcile.database import Database
from keep_operator.reconcile.world import World
from keep_operator.resources import objects
from keep_operator.resources import run as reader
from keep_operator.resources import workflow as workflow_reader
from keep_operator.resources.kinds import WORKFLOW_RUNS, WORKFLOWS, Key
from keep_operator.resources.objects import Object
from keep_operator.resources.run import WorkflowRunSpec
from keep_operator.resources.shapes import Invalid
from keep_operator.resources.workflow import WorkflowSpec
from keep_operator.store import run_objects, runs

# Nothing becomes of a run that has ended, but that its object goes, for which it has its own time.
ENDED: Final = timedelta(days=30)


class Looks(Protocol):
    """What looks at a Workflow: `reconcile.workflow.Workflows`."""

    async def observe(self, obj: Object[WorkflowSpec]) -> workflow.Observed:
        """One look; changes nothing."""


class Runs:
    """What the shell needs of WorkflowRuns. ``restore_labels`` are those that backup tools give to what they restore."""

    resource: Final = WORKFLOW_RUNS
    reader: Final = reader
    living: Final = run.LIVING
    finalizer: Final = run.FINALIZER

    def __init__(  # noqa: PLR0913 - what a look reads, and what its statuses tell
        self,
        *,
        world: World,
        cluster: Cluster,
        database: Database,
        workflows: Looks,
        restore_labels: tuple[str, ...] = (),
        resync: timedelta,
        owner_references: OwnerReferences = "ExceptArgoCD",
        links: Links = NO_LINKS,
    ) -> None:
        self._world = world
        self._cluster = cluster
        self._database = database
        self._workflows = workflows
        self._restore_labels = restore_labels
        self._resync = resync
        self._owner_references = owner_references
        self._links = links
        # What a request of a reconcile that has not ended was answered, and when steps were last shown; by uid.
        self._refused: dict[str, Refusal] = {}
        self._steps_told_at: dict[str, datetime] = {}

    async def observe(self, obj: Object[WorkflowRunSpec]) -> Observed:
        """The row, if there is one; else all that decides whether there shall be one. Nothing of a run that has ended."""
        seen = Observed(
            obj,
            refused=self._refused.pop(obj.uid, None),
            referenced=tenancy.referenced(obj, self._owner_references),
            restored=any(label in obj.labels for label in self._restore_labels),
            links=self._links,
        )
        if obj.deleting:
            self._steps_told_at.pop(obj.uid, None)
            return replace(seen, row=await self._row(obj)) if run.FINALIZER in obj.finalizers else seen
        if run.is_ended(obj):
            return replace(seen, surplus=self._has_no_place(obj))
        row, parts = await self._row_with_parts(obj)
        if row is not None:
            return replace(seen, row=row, parts=parts, steps_told_at=self._steps_told_at.get(obj.uid))
        if "executionId" in obj.status or isinstance(obj.spec, Invalid) or seen.restored or obj.spec.cancel:
            return seen
        about = await self._read(Key(WORKFLOWS.kind, obj.key.namespace, obj.spec.workflow_ref.name))
        if about is None or about.deleting:
            return seen
        sight = _sight(about, await self._workflows.observe(about))
        original = None
        if sight.lineage is not None and obj.spec.retry_of is not None:
            original = await self._original(
                sight.lineage.id, Key(obj.key.kind, obj.key.namespace, obj.spec.retry_of.name)
            )
        return replace(seen, workflow=sight, original=original)

    def plan(self, observed: Observed, now: datetime) -> Plan[Action]:
        """See `domain.run.plan`."""
        made = run.plan(observed, now)
        obj = observed.object
        if made.status is not None and made.status.get("steps") != obj.status.get("steps"):
            self._steps_told_at[obj.uid] = now
        if observed.row is None or observed.row.state.terminal:
            self._steps_told_at.pop(obj.uid, None)
        return made

    async def apply(self, *step: Action) -> None:
        """One transaction, or a request; safe to repeat."""
        (action,) = step
        match action:
            case Request():
                await self._request(action)
            case Cancel(row):
                async with self._database.transaction() as conn:
                    await runs.cancel(conn, row.id, message="Cancelled by spec.cancel")
            case Expire(key, uid):
                await self._cluster.delete(self.resource, key.namespace, key.name, uid=uid)
                self._world.forget(key)  # or its finalizer holds it, which the watch tells
            case _:
                assert_never(action)

    def resync(self, obj: Object[WorkflowRunSpec]) -> timedelta:
        """The operator's period, while anything may become of it."""
        return ENDED if run.is_ended(obj) else self._resync

    def may_force(self, obj: Object[WorkflowRunSpec]) -> bool:
        """The row is the run: nothing is lost with the object."""
        del obj
        return True

    async def _request(self, asked: Request) -> None:
        """Ask for the row; what the database refuses the next look tells, which comes at once."""
        owner = Owner(self._database.cluster_id, asked.key.namespace, asked.key.name, asked.uid)
        async with self._database.transaction() as conn:
            inputs, event = asked.inputs, None
            if asked.retry_of is not None and (before := await run_objects.given(conn, asked.retry_of)) is not None:
                inputs, event = before.inputs if inputs is None else inputs, before.event
            wanted = Asked(
                trigger=asked.trigger,
                idempotency_key=asked.idempotency_key,
                requested_by=f"{WORKFLOW_RUNS.kind} {asked.key.path}",
                reference=asked.reference,
                mode=asked.mode,
                inputs=inputs or {},
                event=event,
                owner=owner,
                retry_of=asked.retry_of,
                timeout_s=max(1, round(asked.timeout.total_seconds())),
                unreleased=asked.unreleased,
            )
            answer = await runs.request(conn, asked.lineage.id, wanted)
        if isinstance(answer, Refusal):
            self._refused[asked.uid] = answer
        elif answer.run.owner is None or answer.run.owner.uid != asked.uid:
            self._refused[asked.uid] = Refusal(
                "DuplicateIdempotencyKey",
                f'Run {answer.run.id} of the Workflow has the idempotency key "{asked.idempotency_key}"',
            )

    async def _row(self, obj: Object[WorkflowRunSpec]) -> Run | None:
        row, _ = await self._row_with_parts(obj, parts=False)
        return row

    async def _row_with_parts(
        self, obj: Object[WorkflowRunSpec], *, parts: bool = True
    ) -> tuple[Run | None, tuple[Part, ...]]:
        """The row that the object asked for; of one that came back with its status the one that this names."""
        async with self._database.look() as conn:
            row = await runs.observe(conn, self._database.cluster_id, obj.uid)
            known = _uuid(obj.status.get("executionId"))
            if row is None and known is not None:
                row = await runs.get(conn, known)
            return row, await run_objects.parts(conn, row.id) if row is not None and parts else ()

    async def _original(self, lineage_id: UUID, key: Key) -> Run | None:
        async with self._database.look() as conn:
            return await run_objects.of_name(conn, lineage_id, self._database.cluster_id, key)

    def _has_no_place(self, obj: Object[WorkflowRunSpec]) -> bool:
        if isinstance(obj.spec, Invalid):
            return False
        name = obj.spec.workflow_ref.name
        about = self._world.cache.get(Key(WORKFLOWS.kind, obj.key.namespace, name))
        if about is None or isinstance(about.spec, Invalid):
            return False
        return run.surplus(obj, self._world.ended_runs(obj.key.namespace, name), about.spec.run_history)

    async def _read(self, key: Key) -> Object[WorkflowSpec] | None:
        """The Workflow as it is: that it was suspended, or has a newer definition, counts though no watch has told it yet."""
        raw = await self._cluster.get(WORKFLOWS, key.namespace, key.name)
        if raw is None:
            self._world.forget(key)
        else:
            self._world.take(objects.parse(key.kind, raw, workflow_reader, known=self._world.cache.get(key)))
        return self._world.cache.get(key)


def _sight(about: Object[WorkflowSpec], looked: workflow.Observed) -> Sight:
    met = workflow.situation(looked, None)
    recorded = tenancy.recorded(about, None if looked.own is None else looked.own.tenant_id)
    tenant = tenancy.judge(about, looked.tenant_name, looked.tenant, recorded)
    sight = Sight(
        about.uid,
        suspended=not isinstance(about.spec, Invalid) and about.spec.suspend,
        waits=None if tenant.truth is Truth.TRUE else tenant.message,
        runtime=None if looked.tenant is None else looked.tenant.runtime,
        looked_at=about.status.get("observedGeneration") == about.generation,
    )
    return (
        sight
        if met is None
        else replace(sight, lineage=met.lineage, gates=met.gates, scene=met.scene, behind=met.behind)
    )


def _uuid(text: Any) -> UUID | None:
    try:
        return UUID(str(text)) if text else None
    except ValueError:
        return None
