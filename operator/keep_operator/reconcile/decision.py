"""WorkflowDecisions: from the object to what it does to a workflow, once.

::

    look ──► handled? (database) ──no──► judged by the Workflow as the API server has it now
                  │                            │
                 yes                one transaction: handled, what it does, the ledger
                  ▼                            │ another decision was faster: judged anew
               told in the status ◄────────────┘
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal, Protocol, assert_never

from keep_operator.cluster.client import Cluster
from keep_operator.domain import decision, workflow
from keep_operator.domain import tenancy as rules
from keep_operator.domain.decision import Action, Expire, Handle, Observed
from keep_operator.domain.planning import HANDLED, Plan
from keep_operator.domain.tenancy import OwnerReferences
from keep_operator.domain.verdict import Handled
from keep_operator.reconcile.database import Database
from keep_operator.reconcile.effects import take
from keep_operator.reconcile.proof import Witness
from keep_operator.reconcile.world import World
from keep_operator.resources import decision as reader
from keep_operator.resources import objects
from keep_operator.resources import workflow as workflow_reader
from keep_operator.resources.decision import WorkflowDecisionSpec
from keep_operator.resources.kinds import WORKFLOW_DECISIONS, WORKFLOWS, Key
from keep_operator.resources.objects import Object
from keep_operator.resources.shapes import Invalid
from keep_operator.resources.workflow import WorkflowSpec
from keep_operator.store import decisions, lineages, workflows
from keep_operator.store.connection import Connection


class Looks(Protocol):
    """What looks at a Workflow: `reconcile.workflow.Workflows`."""

    async def observe(self, obj: Object[WorkflowSpec]) -> workflow.Observed:
        """One look; changes nothing."""


class Decisions:
    """What the shell needs of WorkflowDecisions. ``unverified`` is the setting `decisions_unverified`."""

    resource: Final = WORKFLOW_DECISIONS
    reader: Final = reader
    living: Final = (HANDLED,)
    # It has none: the database is the truth.
    finalizer: Final = ""

    def __init__(
        self,
        *,
        world: World,
        cluster: Cluster,
        database: Database,
        workflows: Looks,
        witness: Witness,
        unverified: Literal["Refuse", "Record"],
        owner_references: OwnerReferences = "ExceptArgoCD",
    ) -> None:
        self._world = world
        self._cluster = cluster
        self._database = database
        self._workflows = workflows
        self._witness = witness
        self._trusts = unverified == "Record"
        self._owner_references = owner_references

    async def observe(self, obj: Object[WorkflowDecisionSpec]) -> Observed:
        """The Workflow as the API server has it at this moment, its rows, and what the database knows of the decision.

        Who made the decision is asked for as long as it is not handled.
        """
        seen = Observed(obj, None, referenced=rules.referenced(obj, self._owner_references))
        if obj.deleting or decision.is_handled(obj) or isinstance(obj.spec, Invalid):
            return seen
        about = await self._read(Key(WORKFLOWS.kind, obj.key.namespace, obj.spec.workflow_ref.name))
        if about is not None and not about.deleting:
            seen = replace(seen, workflow_uid=about.uid, looked_at=_is_looked_at(about))
            looked = await self._workflows.observe(about)
            if looked.own is not None:
                async with self._database.look() as conn:
                    handled = await decisions.find(conn, looked.own, obj.spec.request_id)
                seen = replace(seen, met=workflow.situation(looked, handled))
                if handled is not None:
                    return seen
        return await self._vouched(seen, obj.spec)

    async def _vouched(self, seen: Observed, spec: WorkflowDecisionSpec) -> Observed:
        """With what the cluster proves of who decides, and what follows where it proves nothing (A-AP-5)."""
        lack = await self._witness.lack(seen.object)
        if lack is None:
            return replace(seen, verified=True)
        if not self._trusts:
            return replace(seen, forbidden=decision.distrust(spec, lack))
        verb = await self._witness.missing_verb(seen.object)
        return seen if verb is None else replace(seen, forbidden=decision.forbid(spec, verb))

    def plan(self, observed: Observed, now: datetime) -> Plan[Action]:
        """See `domain.decision.plan`."""
        return decision.plan(observed, now)

    async def apply(self, action: Action) -> None:
        """Everything that the decision does in one transaction; Conflict where it was judged by what is so no more."""
        match action:
            case Handle():
                async with self._database.transaction() as conn:
                    await carry_out(conn, action)
            case Expire(key, uid):
                await self._cluster.delete(self.resource, key.namespace, key.name, uid=uid)
                self._world.forget(key)
            case _:
                assert_never(action)

    def resync(self, obj: Object[WorkflowDecisionSpec]) -> timedelta:
        """Nothing becomes of a decision that was handled, but that its object goes."""
        del obj
        return decision.KEPT

    def may_force(self, obj: Object[WorkflowDecisionSpec]) -> bool:
        """Nothing holds it."""
        del obj
        return True

    async def _read(self, key: Key) -> Object[WorkflowSpec] | None:
        """The Workflow as it is: a pin, or a newer definition, that the watch has not told of yet counts."""
        raw = await self._cluster.get(WORKFLOWS, key.namespace, key.name)
        if raw is None:
            self._world.forget(key)
        else:
            self._world.take(objects.parse(key.kind, raw, workflow_reader, known=self._world.cache.get(key)))
        return self._world.cache.get(key)


def _is_looked_at(obj: Object[Any]) -> bool:
    return obj.status.get("observedGeneration") == obj.generation


async def carry_out(conn: Connection, handle: Handle) -> None:
    """Everything that a decision does, and that it was handled; Conflict where it was judged by what is so no more."""
    lineage, spec, verdict = handle.lineage, handle.decision, handle.verdict
    handled = Handled(
        spec.request_id,
        spec.action,
        verdict.outcome,
        verdict.message,
        handle.at,
        from_number=lineage.active_number,
        to_number=verdict.to_number,
    )
    await decisions.handle(
        conn,
        lineage,
        handle.key,
        handle.uid,
        handled,
        actor=spec.actor,
        reason=spec.reason or "",
        on_behalf_of=spec.on_behalf_of,
        verified=handle.verified,
    )
    if await lineages.find(conn, lineage.id) != lineage:  # it is locked by now
        raise workflows.conflict(workflows.owner_of(lineage))
    for effect in verdict.effects:
        await take(conn, lineage, effect, actor=spec.actor, reason=spec.reason or "")
