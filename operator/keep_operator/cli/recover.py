"""`keep-operator recover`: gives the database back what an older dump does not have, by what objects remember (A-REV-13).

It looks first and says what it would do; only ``--yes`` makes it so. It works beside a running operator: every write names
the owner that was seen, and the operator is told of it and looks at once.
"""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import assert_never
from uuid import UUID

import click

from keep_operator.cli import session
from keep_operator.cluster import connection
from keep_operator.cluster.client import Cluster
from keep_operator.domain import reconstruction, recovery
from keep_operator.resources import decision, objects, provider, revision, workflow
from keep_operator.resources.kinds import PROVIDERS, WORKFLOW_DECISIONS, WORKFLOW_REVISIONS, WORKFLOWS
from keep_operator.store import decisions, deployments, lineages, providers, revisions, tenants, workflows
from keep_operator.store import engine as store
from keep_operator.store.connection import Connection
from keep_operator.store.engine import Engine
from keep_operator.store.ledger import Action

# What the ledger says of a tag or a rejection that is put back.
REASON = "It was so before an older dump was restored"


@click.command("recover")
@click.option("--yes", is_flag=True, help="Do it. Without it this only says what would be done.")
def recover(yes: bool) -> None:
    """Give Providers and Workflows the records back that an older dump of the database does not have, under their old ids.

    What the objects remember is compared with the database: of Workflows also their versions, what was active, rollbacks,
    rejections, tags, and which decisions were handled. Nothing is deleted but what came back with the dump, stands in the
    way, and whose object is gone. Exit code 2 where a person must decide something first.
    """
    blocked: list[recovery.Blocked | reconstruction.Blocked] = []

    async def work(engine: Engine, cluster_id: str) -> None:
        async with Cluster(connection.load(os.environ)) as cluster:
            of_providers, count = await _plan_providers(engine, cluster, cluster_id)
            of_workflows, workflow_count = await _plan_workflows(engine, cluster, cluster_id)
        blocked.extend(step for step in of_providers if isinstance(step, recovery.Blocked))
        blocked.extend(step for step in of_workflows if isinstance(step, reconstruction.Blocked))
        if not of_providers and not of_workflows:
            click.echo(
                f"The database knows all that {_number(count, 'Provider')} and {_number(workflow_count, 'Workflow')} remember."
            )
            return
        session.table(("OBJECT", "RECORD", "STEP"), [*map(_step, of_providers), *map(_told, of_workflows)])
        due = len(of_providers) + len(of_workflows) - len(blocked)
        if not yes:
            click.echo(f"\n{_number(due, 'step')} would be taken. Nothing was done: say --yes to do it.")
            return
        await _recover_providers(engine, of_providers)
        await _recover_workflows(engine, of_workflows)
        click.echo(
            f"\n{_number(due, 'step')} taken. The operator writes settings and credentials as it looks at each object."
        )

    session.run(work)
    if blocked:
        raise SystemExit(2)


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


async def _plan_providers(engine: Engine, cluster: Cluster, cluster_id: str) -> tuple[list[recovery.Step], int]:
    listing = await cluster.list(PROVIDERS)
    found = [objects.parse("Provider", raw, provider) for raw in listing.items]
    async with store.look(engine) as conn:
        rows = await providers.everything(conn)
        known = {row.id for row in await tenants.everything(conn)}
    live = {obj.uid for obj in found}
    return recovery.plan(found, rows, cluster_id=cluster_id, tenants=known, live=live), len(found)


async def _recover_providers(engine: Engine, steps: Sequence[recovery.Step]) -> None:
    for step in steps:
        if isinstance(step, recovery.Blocked):
            continue
        async with store.transaction(engine) as conn:
            match step:
                case recovery.Make(_, record):
                    await providers.insert(conn, record, actor=session.ACTOR, action=Action.RECOVERED)
                case recovery.Give(_, record, to, name):
                    await providers.recover(conn, record, to, name, actor=session.ACTOR)
                case recovery.Remove(_, record):
                    await providers.delete(conn, record.id, record.owner, actor=session.ACTOR, cause="Recovery")
                case _:
                    assert_never(step)


async def _plan_workflows(engine: Engine, cluster: Cluster, cluster_id: str) -> tuple[list[reconstruction.Step], int]:
    """The steps, and of how many Workflows."""
    lists = [await cluster.list(each) for each in (WORKFLOWS, WORKFLOW_REVISIONS, WORKFLOW_DECISIONS)]
    found = [objects.parse(WORKFLOWS.kind, raw, workflow) for raw in lists[0].items]
    remembered = reconstruction.Cluster(
        cluster_id,
        found,
        [objects.parse(WORKFLOW_REVISIONS.kind, raw, revision) for raw in lists[1].items],
        [objects.parse(WORKFLOW_DECISIONS.kind, raw, decision) for raw in lists[2].items],
    )
    ids = {lineage_id for obj in found if (lineage_id := reconstruction.remembered(obj)) is not None}
    async with store.look(engine) as conn:
        known = {each: lineage for each in ids if (lineage := await lineages.find(conn, each)) is not None}
        database = reconstruction.Database(
            await lineages.everything(conn),
            known,
            {each: await decisions.handled(conn, each) for each in known},
            {row.id for row in await tenants.everything(conn)},
        )
    return reconstruction.plan(remembered, database, datetime.now(UTC)), len(found)


async def _recover_workflows(engine: Engine, steps: Sequence[reconstruction.Step]) -> None:
    """All that concerns one Workflow in one transaction: it is whole or as it was."""
    due = [step for step in steps if not isinstance(step, reconstruction.Blocked)]
    for _, of_one in groupby(due, key=lambda step: step.key):
        async with store.transaction(engine) as conn:
            for step in of_one:
                await _recover_lineage(conn, step)


async def _recover_lineage(conn: Connection, step: reconstruction.Step) -> None:
    by = {"actor": session.ACTOR}
    match step:
        case reconstruction.Make(_, lineage):
            await workflows.insert(conn, lineage, action=Action.RECOVERED, **by)
        case reconstruction.Give(_, lineage, declared):
            await workflows.adopt(conn, lineage, declared, action=Action.RECOVERED, **by)
        case reconstruction.Remove(_, lineage):
            await workflows.delete(conn, lineage.id, lineage.owner, cause="Recovery", **by)
        case reconstruction.MakeRevision(_, lineage, made, content, name):
            await revisions.recover(conn, lineage, made, content, name=name, **by)
        case reconstruction.Skip(_, lineage, number):
            await deployments.skip(conn, lineage, number, **by)
        case reconstruction.Recall():
            await _recall(conn, step)
        case reconstruction.Redeploy(_, lineage, noted, number):
            await deployments.redeploy(conn, lineage, noted, number, **by)
        case reconstruction.Rehold(_, lineage, hold):
            if hold is not None:
                await deployments.set_hold(conn, lineage, hold, **by)
            else:
                await deployments.end_hold(conn, lineage, reason=REASON, **by)
        case reconstruction.Rehandle(_, lineage, about, uid, handled):
            await decisions.recover(conn, lineage, about, uid, handled, **by)
        case reconstruction.Blocked():
            pass
        case _:
            assert_never(step)


async def _recall(conn: Connection, step: reconstruction.Recall) -> None:
    lineage, number = step.lineage, step.number
    by = {"actor": session.ACTOR, "reason": REASON}
    if step.first_active_at is not None or step.last_active_at is not None:
        await revisions.recall(
            conn,
            lineage,
            number,
            first_active_at=step.first_active_at,
            last_active_at=step.last_active_at,
            name=step.name,
            actor=session.ACTOR,
        )
    if step.rejected is not None:
        await revisions.reject(conn, lineage, number, verdict=step.rejected, **by)
    if step.cleared:
        await revisions.clear_rejection(conn, lineage, step.content_hash, **by)
    for tag in step.untagged:
        await revisions.untag(conn, lineage, tag, **by)
    for tag in step.tags:
        await revisions.tag(conn, lineage, number, tag, **by)


def _step(step: recovery.Step) -> tuple[str, ...]:
    match step:
        case recovery.Make(key, record):
            return key.path, str(record.id), f'make it again as "{record.external_name}" of tenant {record.tenant_id}'
        case recovery.Give(key, record, _, name):
            return key.path, str(record.id), f'give it back, from {record.owner or "nobody"}, as "{name}"'
        case recovery.Remove(key, record):
            return key.path, str(record.id), f'remove "{record.external_name}": its object {record.owner} is gone'
        case recovery.Blocked(key, record_id, why):
            return key.path, str(record_id), f"BLOCKED: {why}"
        case _:
            assert_never(step)


def _told(step: reconstruction.Step) -> tuple[str, ...]:
    lineage_id, what = _what(step)
    return step.key.path, str(lineage_id), what


def _what(step: reconstruction.Step) -> tuple[UUID, str]:
    match step:
        case reconstruction.Blocked(_, record_id, why):
            return record_id, f"BLOCKED: {why}"
        case reconstruction.Make(_, lineage):
            what = f'make it again as "{lineage.external_name}" of tenant {lineage.tenant_id}'
        case reconstruction.Give(_, lineage, declared):
            what = f'give it back, from {lineage.owner or "nobody"}, as "{declared.external_name}"'
        case reconstruction.Remove(_, lineage):
            what = f'remove "{lineage.external_name}": its object {lineage.owner} is gone'
        case reconstruction.MakeRevision(_, lineage, made, _, _):
            what = f"make {made} again"
        case reconstruction.Skip(_, lineage, number):
            what = f"v{number} is lost; the next version will be v{number + 1}"
        case reconstruction.Recall(_, lineage, number):
            what = f"v{number}: {_recalled(step)}"
        case reconstruction.Redeploy(_, lineage, deployments, number):
            what = f"v{number} is active; {_number(len(deployments), 'deployment')} noted again"
        case reconstruction.Rehold(_, lineage, hold):
            what = "no rollback is in force" if hold is None else f"the rollback to v{hold.target} is in force"
        case reconstruction.Rehandle(_, lineage, handled=handled):
            what = f"request {handled.request_id} was handled: {handled.action}, {handled.outcome}"
        case _:
            assert_never(step)
    return lineage.id, what


def _recalled(step: reconstruction.Recall) -> str:
    said = [
        "when it was active" if step.first_active_at or step.last_active_at else "",
        f"its content is rejected ({step.rejected})" if step.rejected else "",
        "its content is not rejected" if step.cleared else "",
        *(f'tag "{tag}"' for tag in step.tags),
        *(f'no tag "{tag}"' for tag in step.untagged),
    ]
    return ", ".join(filter(None, said))
