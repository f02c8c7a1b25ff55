"""`keep-operator adopt` and `prune`: what to do about records that no object of this cluster owns.

`prune` looks first and says what it would do; only ``--yes`` makes it so. Both work beside a running operator: every write
names the owner that was seen, and the operator is told of it and looks at once.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import click
import yaml

from keep_operator.cli import session
from keep_operator.domain.history import Lineage
from keep_operator.domain.ownership import Owner
from keep_operator.domain.provider import Record
from keep_operator.errors import Refused
from keep_operator.resources.kinds import API_VERSION, PROVIDERS, WORKFLOWS
from keep_operator.store import engine as store
from keep_operator.store import lineages, providers, revisions, workflows
from keep_operator.store.connection import Connection
from keep_operator.store.engine import Engine


@dataclass(frozen=True, slots=True)
class Found:
    """A record of either kind; ``type`` is a provider's type, and empty for a workflow. ``spec`` is what its object would say."""

    kind: str
    tenant_id: str
    name: str
    type: str
    id: UUID
    owner: Owner | None
    spec: Mapping[str, Any]


@click.command("adopt")
@click.option("--tenant", metavar="ID", help="Only records of this tenant.")
@click.option("--namespace", default="default", show_default=True, help="Where the objects of `-o yaml` shall be.")
@click.option("-o", "--output", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True)
def adopt(tenant: str | None, namespace: str, output: str) -> None:
    """List the records that no object of this cluster owns, of Providers and Workflows, and how to take them over.

    With `-o yaml` it prints an object for each, ready to be applied. Credentials are not in it: add them to `secrets`. A
    Workflow has the definition that is active, and its history goes on.
    """

    async def work(engine: Engine, cluster_id: str) -> None:
        async with store.look(engine) as conn:
            found = await _records(conn, tenant, lambda owner: owner is None or owner.cluster_id != cluster_id)
        match output:
            case "yaml":
                click.echo(
                    yaml.safe_dump_all([_manifest(each, namespace) for each in found], sort_keys=False), nl=False
                )
            case "json":
                click.echo(json.dumps([_told(each) for each in found], indent=2))
            case _ if not found:
                click.echo("Every record has an object of this cluster.")
            case _:
                head = ("KIND", "TENANT", "NAME", "TYPE", "ID", "OWNER", "ADOPTION-POLICY")
                session.table(head, map(_line, found))
                click.echo("\nTake one over: apply an object of that kind and type with spec.externalName and")
                click.echo(
                    "spec.adoptionPolicy as shown (`keep-operator adopt -o yaml` prints them). Remove those of nobody: "
                    "keep-operator prune."
                )

    session.run(work)


@click.command("prune")
@click.option("--tenant", required=True, metavar="ID", help="The tenant whose records are meant.")
@click.option("--kind", type=click.Choice([PROVIDERS.kind, WORKFLOWS.kind]), help="Only records of this kind.")
@click.option("--all", "every", is_flag=True, help="All of the tenant's records that nobody owns.")
@click.option("--yes", is_flag=True, help="Do it. Without it this only says what would be done.")
@click.argument("names", nargs=-1)
def prune(tenant: str, kind: str | None, every: bool, yes: bool, names: tuple[str, ...]) -> None:
    """Remove records that nobody owns, such as the leftovers of old renames, by their NAMES.

    A record that an object owns, of this cluster or another, is never removed: delete the object instead. Of a workflow the
    history stays, as after every deletion.
    """
    if bool(names) == every:
        raise click.UsageError("Name the records to remove, or say --all.")

    async def work(engine: Engine, cluster_id: str) -> None:
        del cluster_id
        async with store.look(engine) as conn:
            known = [each for each in await _records(conn, tenant) if kind in (None, each.kind)]
        chosen = [each for each in known if (each.owner is None if every else each.name in names)]
        _check(tenant, names, chosen)
        if not chosen:
            click.echo(f'Tenant "{tenant}" has no record without an owner.')
            return
        lines = ((each.kind, each.tenant_id, each.name, each.type or "-", str(each.id)) for each in chosen)
        session.table(("KIND", "TENANT", "NAME", "TYPE", "ID"), lines)
        if not yes:
            click.echo(f"\n{session.count(chosen, 'record')} would be removed. Nothing was done: say --yes to do it.")
            return
        for each in chosen:
            remove = providers.delete if each.kind == PROVIDERS.kind else workflows.delete
            async with store.transaction(engine) as conn:
                await remove(conn, each.id, None, actor=session.ACTOR, cause="Pruned")
        click.echo(f"\n{session.count(chosen, 'record')} removed.")

    session.run(work)


def _check(tenant: str, names: Sequence[str], chosen: Sequence[Found]) -> None:
    """Raise Refused where a name is wrong, means two records, or where somebody owns what was named."""
    of_a_name = {name: [each for each in chosen if each.name == name] for name in names}
    faults = [f'tenant "{tenant}" has no record "{name}"' for name in sorted(names) if not of_a_name[name]]
    faults += [
        f"\"{name}\" is the name of a Provider's and of a Workflow's record; say --kind"
        for name, found in of_a_name.items()
        if len(found) > 1
    ]
    faults += [f'"{each.name}" belongs to {each.owner}; delete that object instead' for each in chosen if each.owner]
    if faults:
        raise Refused("NotPruned", "; ".join(faults) + ". Nothing was removed")


async def _records(
    conn: Connection, tenant: str | None, wanted: Callable[[Owner | None], bool] = lambda _: True
) -> list[Found]:
    """The records of both kinds, of all tenants or of one, whose owner is wanted."""
    found = [_of_provider(row) for row in await providers.everything(conn, tenant) if wanted(row.owner)]
    for row in await lineages.everything(conn, tenant):
        if wanted(row.owner):
            found.append(await _of_workflow(conn, row))
    return found


def _of_provider(row: Record) -> Found:
    pulling = {} if row.content.pulling_enabled is None else {"pullingEnabled": row.content.pulling_enabled}
    spec = {"type": row.type, "externalName": row.external_name, "config": dict(row.content.config), **pulling}
    return Found(PROVIDERS.kind, row.tenant_id, row.external_name, row.type, row.id, row.owner, spec)


async def _of_workflow(conn: Connection, row: Lineage) -> Found:
    number = row.active_number or row.latest_number
    content = (await revisions.definitions(conn, row.id, [number])).get(number, {})
    definition = {**(row.settings.get("presentation") or {}), **content}
    spec = {"externalName": row.external_name, "definition": definition}
    return Found(WORKFLOWS.kind, row.tenant_id, row.external_name, "", row.id, row.owner, spec)


def _line(found: Found) -> tuple[str, ...]:
    whose = "-" if found.owner is None else f"{found.owner} in cluster {found.owner.cluster_id}"
    return found.kind, found.tenant_id, found.name, found.type or "-", str(found.id), whose, _policy(found)


def _policy(found: Found) -> str:
    return "IfUnowned" if found.owner is None else "Force"


def _told(found: Found) -> dict[str, Any]:
    owner = found.owner
    return {
        "kind": found.kind,
        "tenantId": found.tenant_id,
        "externalName": found.name,
        "type": found.type or None,
        "id": str(found.id),
        "owner": None
        if owner is None
        else {"clusterId": owner.cluster_id, "namespace": owner.namespace, "name": owner.name, "uid": owner.uid},
        "adoptionPolicy": _policy(found),
    }


def _manifest(found: Found, namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": found.kind,
        "metadata": {"name": found.name.lower().replace("_", "-"), "namespace": namespace},
        "spec": {"tenantRef": {"name": found.tenant_id}, **found.spec, "adoptionPolicy": _policy(found)},
    }
