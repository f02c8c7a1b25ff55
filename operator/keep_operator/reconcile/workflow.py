"""Workflows: from the object to its row, its revisions, and what is active of them."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from keep_operator.cluster.client import Cluster
from keep_operator.cluster.events import Recorder, Subject
from keep_operator.domain import image, mirror, planning, release, rollback_to, sights, workflow
from keep_operator.domain import tenancy as rules
from keep_operator.domain.conditions import Truth
from keep_operator.domain.decision import Handle
from keep_operator.domain.desired import Desired, ProviderSight, Wanted
from keep_operator.domain.effects import Take
from keep_operator.domain.history import Cause, Lineage
from keep_operator.domain.planning import Plan
from keep_operator.domain.rollback_to import Asked
from keep_operator.domain.tenancy import OwnerReferences
from keep_operator.domain.workflow import Action, Observed, RolledBack
from keep_operator.reconcile import tenancy
from keep_operator.reconcile.database import Database
from keep_operator.reconcile.decision import carry_out
from keep_operator.reconcile.definitions import Definitions
from keep_operator.reconcile.effects import take
from keep_operator.reconcile.images import Images
from keep_operator.reconcile.succession import Succession, Traits
from keep_operator.reconcile.tenancy import Labels
from keep_operator.reconcile.world import World
from keep_operator.resources import workflow as reader
from keep_operator.resources.kinds import FIELD_MANAGER, WORKFLOWS, Key
from keep_operator.resources.objects import ROLLBACK_TO, Object
from keep_operator.resources.shapes import Invalid
from keep_operator.resources.workflow import WorkflowSpec
from keep_operator.store import decisions, lineages, releases, revisions, runs, workflows
from keep_operator.store.connection import Connection

log = logging.getLogger(__name__)


class Workflows:
    """What the shell needs of Workflows.

    ``namespace_labels`` gives the labels of a namespace; ``namespaces`` are those that are watched, empty for all.
    """

    resource: Final = WORKFLOWS
    reader: Final = reader
    living: Final = workflow.LIVING
    finalizer: Final = workflow.FINALIZER

    def __init__(  # noqa: PLR0913 - all that a look reads, and where it is told
        self,
        *,
        world: World,
        cluster: Cluster,
        database: Database,
        recorder: Recorder,
        definitions: Definitions,
        resync: timedelta,
        owner_references: OwnerReferences = "ExceptArgoCD",
        namespace_labels: Labels,
        namespaces: Sequence[str] = (),
        rolled_back: Callable[[Cause], None] = lambda cause: None,
    ) -> None:
        self._world = world
        self._cluster = cluster
        self._database = database
        self._recorder = recorder
        self._definitions = definitions
        self._cluster_id = database.cluster_id
        self._resync = resync
        self._owner_references = owner_references
        self._namespace_labels = namespace_labels
        self._rolled_back = rolled_back
        traits = Traits(
            resource=WORKFLOWS,
            reader=reader,
            finalizer=workflow.FINALIZER,
            id_field="workflowId",
            external_name=workflow.external_name,
            records=self._lineages,
        )
        self._succession = Succession(
            traits,
            world=world,
            cluster=cluster,
            cluster_id=database.cluster_id,
            namespace_labels=namespace_labels,
            namespaces=namespaces,
        )
        self._images = Images(world, cluster, database, recorder)
        # When a status was last told how many runs are under way; of those Workflows that have some.
        self._runs_told_at: dict[str, datetime] = {}

    async def observe(self, obj: Object[WorkflowSpec]) -> Observed:
        """The Tenant and the objects of revisions from the cache; rows and ConfigMaps only where the plan will read them."""
        tenant_name, owner = self._world.tenant_of(obj)
        sight = None
        if owner is not None:
            sight = tenancy.sight(self._world, owner, obj.key.namespace, self._namespace_labels)
        seen = Observed(
            object=obj,
            cluster_id=self._cluster_id,
            tenant_name=tenant_name,
            tenant=sight,
            referenced=rules.referenced(obj, self._owner_references),
        )
        if obj.deleting:
            return await self._observe_deletion(seen)
        if rules.abandoned(obj, sight, referenced=seen.referenced):
            own, _ = await self._lineages(obj, None, None)
            return replace(seen, own=own, images=self._shown(obj))
        spec, recorded = obj.spec, obj.status.get("tenantId") is not None
        if isinstance(spec, Invalid):
            return seen
        if sight is None or not (sight.admits and sight.suffices(recorded)) or workflow.metadata_due(seen) is not None:
            if spec.suspend and recorded:  # which is obeyed whatever the Tenant says
                own, _ = await self._lineages(obj, None, None)
                return replace(seen, own=own)
            return seen
        wanted = await self._definitions.wanted(obj, spec)
        name = reader.effective_name(spec, obj.key.name)
        seen = replace(seen, wanted=wanted, important=sights.is_marked(obj))
        async with self._database.look() as conn:
            own, holder = await lineages.observe(conn, self._cluster_id, obj.uid, sight.tenant_id, name)
            if own is not None:
                seen = await _more(conn, replace(seen, own=own), own, spec)
        if holder is not None and own is not None and holder.id == own.id:
            holder = None
        return replace(
            seen,
            holder=holder,
            holder_state=await self._succession.state_of(holder),
            rivals=self._succession.claims(obj, tenant_name, name),
            heirs=() if own is None else self._succession.claims(obj, tenant_name, own.external_name),
            providers=self._providers(obj.key, tenant_name, wanted),
            images=self._shown(obj),
            new_id=None if own is not None else workflows.new_id(),
            note=sights.note(obj),
            author=sights.author(obj, () if sight.policy is None else sight.policy.trusted_authors),
            source=dict(obj.source) or None,
            runs_told_at=self._runs_told_at.get(obj.uid),
        )

    def plan(self, observed: Observed, now: datetime) -> Plan[Action]:
        """See `domain.workflow.plan`."""
        made = workflow.plan(observed, now)
        obj = observed.object
        if made.status is not None and made.status.get("runs") != obj.status.get("runs"):
            self._runs_told_at[obj.uid] = now
        if obj.deleting or not (observed.own is not None and observed.own.running):
            self._runs_told_at.pop(obj.uid, None)
        return made

    async def apply(self, *step: Action) -> None:
        """One transaction for rows and their ledger entries, or requests; safe to repeat, since each names what it expects."""
        match step:
            case [mirror.CreateImage() as create]:
                await self._images.create(create)
            case [mirror.DeleteImage() as delete]:
                await self._images.delete(delete)
            case [mirror.PatchImage() as patch]:
                await self._images.patch(patch)
            case [Handle() as handle]:
                async with self._database.transaction() as conn:
                    await carry_out(conn, handle)
                await self._tell(handle)
            case _:
                async with self._database.transaction() as conn:
                    for action in step:
                        await self._write(conn, action)
                if (back := workflow.rolled_back(step)) is not None:
                    await self._tell_rollback(back)

    def resync(self, obj: Object[WorkflowSpec]) -> timedelta:
        """The operator's period."""
        return self._resync

    def may_force(self, obj: Object[WorkflowSpec]) -> bool:
        """Nothing depends on a Workflow in a way that would forbid it."""
        return True

    async def _tell(self, handled: Handle) -> None:
        """What was asked for by annotation and not carried out has no status that says why."""
        key, verdict = handled.key, handled.verdict
        if verdict.truth is Truth.FALSE:
            about = Subject(WORKFLOWS, key.namespace, key.name, handled.uid)
            await self._recorder.record(about, "Warning", verdict.outcome, verdict.message)

    async def _tell_rollback(self, back: RolledBack) -> None:
        """Count it and log it; the Event is that of the status, but where what was taken back is not what is desired."""
        self._rolled_back(back.cause)
        owner = workflows.owner_of(back.lineage)
        key = Key(WORKFLOWS.kind, owner.namespace, owner.name)
        told = {"kind": key.kind, "object": key.path, "version": str(back.lineage.get(back.number))}
        log.warning("a revision was taken back: %s", back.why, extra={**told, "reason": planning.TAKEN_BACK})
        if not back.shown:
            about = Subject(WORKFLOWS, owner.namespace, owner.name, owner.uid)
            await self._recorder.record(about, "Warning", planning.TAKEN_BACK, back.why)

    async def _write(self, conn: Connection, action: Any) -> None:
        match action:
            case workflow.Insert(lineage):
                await workflows.insert(conn, lineage, actor=FIELD_MANAGER)
            case workflow.Update(lineage, declared) | workflow.Correct(lineage, declared):
                await workflows.update(conn, workflow.declaring(lineage, declared), actor=FIELD_MANAGER)
            case workflow.HandOver(lineage, to):
                assert lineage.owner is not None
                self._succession.check_heir(lineage, to)
                await workflows.hand_over(conn, lineage.id, lineage.owner, to, actor=FIELD_MANAGER)
            case workflow.Adopt(lineage, to, declared):
                adopted = workflow.declaring(replace(lineage, owner=to), declared)
                await workflows.adopt(conn, lineage, adopted, actor=FIELD_MANAGER)
            case workflow.Delete(lineage):
                await workflows.delete(conn, lineage.id, lineage.owner, actor=FIELD_MANAGER)
            case workflow.CancelRuns(lineage):
                await runs.cancel_all(conn, lineage.id, message="The workflow was deleted")
            case workflow.Orphan(lineage):
                assert lineage.owner is not None
                await workflows.orphan(conn, lineage.id, lineage.owner, actor=FIELD_MANAGER)
            case workflow.InsertRevision(lineage, revision, content):
                name = mirror.object_name(workflows.owner_of(lineage).name, revision)
                await revisions.insert(conn, lineage, revision, content, name=name, actor=FIELD_MANAGER)
            case Take(lineage, effect, actor, reason):
                await take(conn, lineage, effect, actor=actor, reason=reason)
            case workflow.Archive(lineage, numbers):
                owner = workflows.owner_of(lineage)
                names = {
                    each.number: mirror.object_name(owner.name, each)
                    for each in lineage.revisions
                    if each.number in numbers
                }
                await revisions.archive(conn, lineage, names, actor=FIELD_MANAGER)
            case _:
                raise AssertionError(action)

    async def _observe_deletion(self, seen: Observed) -> Observed:
        tenant_id = None if seen.tenant is None else seen.tenant.tenant_id
        left = await self._succession.of_departing(seen.object, seen.tenant_name, tenant_id)
        return replace(seen, own=left.own, holder=left.holder, holder_state=left.holder_state, heirs=left.heirs)

    async def _lineages(
        self, obj: Object[WorkflowSpec], tenant_id: str | None, name: str | None
    ) -> tuple[Lineage | None, Lineage | None]:
        async with self._database.look() as conn:
            return await lineages.observe(conn, self._cluster_id, obj.uid, tenant_id, name)

    def _shown(self, obj: Object[WorkflowSpec]) -> tuple[mirror.Image, ...]:
        return tuple(image.of(each, obj.key.name, obj.uid) for each in self._world.revisions(obj))

    def _providers(self, key: Key, tenant_name: str | None, wanted: Wanted) -> dict[str, ProviderSight]:
        """The Providers that are there, of those that the definition uses; the next edge of any of them wakes the Workflow."""
        names = {use.name for use in wanted.uses} if isinstance(wanted, Desired) else set()
        self._world.uses(key, names)
        found = {name: self._world.provider(tenant_name, name) for name in names}
        return {name: sights.of_provider(obj, name) for name, obj in found.items() if obj is not None}


async def _more(conn: Connection, seen: Observed, own: Lineage, spec: WorkflowSpec) -> Observed:
    """What the plan will read besides the history: nothing where all is as it shall be."""
    needed = workflow.questions(seen, spec)
    previous = _previous(own, seen.wanted)
    numbers = {each for each in (previous, own.active_number if needed.active_content else None) if each is not None}
    contents = await revisions.definitions(conn, own.id, numbers) if numbers else {}
    seen = replace(
        seen,
        previous_content=None if previous is None else contents.get(previous),
        active_content=contents.get(own.active_number) if needed.active_content and own.active_number else None,
        counted=await releases.count(conn, own, needed.count),
        asked=await _asked(conn, own, seen.object),
    )
    if "DryRun" in needed.count:  # the expressions of the checklist are evaluated
        seen = replace(seen, ticks=await asyncio.to_thread(workflow.ticks, seen, spec))
    return seen


def _previous(own: Lineage, wanted: Wanted | None) -> int | None:
    """The newest revision, if another one is about to follow; else None."""
    if not isinstance(wanted, Desired) or own.latest is None:
        return None
    return own.latest.number if release.desired_revision(own, wanted.hash_in(own)) is None else None


async def _asked(conn: Connection, own: Lineage, obj: Object[WorkflowSpec]) -> Asked | None:
    value = obj.annotations.get(ROLLBACK_TO)
    if not value or value == obj.status.get("lastHandledAction"):
        return None
    return Asked(value, await decisions.find(conn, own, rollback_to.request_id(value)))
