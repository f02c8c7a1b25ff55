"""`keep-operator uninstall`: takes everything of our kinds out of a cluster, so that the release may go and nothing hangs.

::

    Workflows, their runs, Providers ──gone──► WorkflowRevisions, WorkflowDecisions ──gone──► Tenants ──gone──► the release may go
             │                                       that no Workflow took along                 │
             └── the operator takes care of each record, then lets go of the object ─┘

Deleted is what is there at the beginning, each by its uid: what is made again meanwhile is somebody's will, and is told. Done
again after it was interrupted, it goes on where it was. With ``--orphan`` nobody takes care of records, and no operator may run.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import click

from keep_operator.cli import session
from keep_operator.cluster import access, connection
from keep_operator.cluster.client import Cluster
from keep_operator.errors import Conflict, Refused, Unavailable
from keep_operator.resources import provenance
from keep_operator.resources.kinds import (
    CUSTOM_RESOURCE_DEFINITIONS,
    GROUP,
    LEASES,
    OURS,
    PROVIDERS,
    TENANTS,
    WORKFLOW_DECISIONS,
    WORKFLOW_REVISIONS,
    WORKFLOW_RUNS,
    WORKFLOWS,
    Resource,
)

# What goes first, and what may go once that is gone: a Tenant is held by what depends on it.
PHASES: Final = ((WORKFLOWS, WORKFLOW_RUNS, PROVIDERS), (WORKFLOW_DECISIONS, WORKFLOW_REVISIONS), (TENANTS,))
# The rest belongs to Workflows: others make it and take it away as long as those live.
_DECLARED: Final = (WORKFLOWS, PROVIDERS, TENANTS)
_LEASE: Final = "keep-operator"
LOOK_EACH_S: Final = 1.0
# So many of what is left are named, with the reason why.
NAMED: Final = 20
# The length of a Lease that does not say it, and what a renewal may take, in seconds.
_LEASE_S: Final = 10.0
_RENEWAL_S: Final = 2.0
_DONE: Final = (
    f"No object of {GROUP} is left in the cluster. Uninstall the release now: an operator that starts again makes the default\n"
    "tenant again. The kinds stay until `kubectl delete crd "
    f"{' '.join(f'{each.plural}.{GROUP}' for each in OURS)}`, the database for as long as you like."
)


class Held(Exception):
    """It cannot go on, or has not ended: a person must do something first; the sentences say what."""


@dataclass(frozen=True, slots=True)
class Found:
    """One object, by its metadata."""

    resource: Resource
    namespace: str
    name: str
    uid: str
    finalizers: tuple[str, ...]
    tool: str | None

    @property
    def held(self) -> bool:
        """Whether an operator must let go of it first."""
        return any(_is_ours(each) for each in self.finalizers)

    def __str__(self) -> str:
        return f"{self.resource.kind} {self.namespace}/{self.name}" if self.namespace else f"Tenant {self.name}"


@click.command("uninstall")
@click.option(
    "--orphan", is_flag=True, help="Strip our finalizers and leave the records as they are; needs no operator."
)
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.IntRange(1, 86_400),
    default=300,
    show_default=True,
    help="How long to wait for all of it.",
)
@click.option("--yes", is_flag=True, help="Do it. Without it this only says what would be done.")
def uninstall(orphan: bool, timeout: int, yes: bool) -> None:
    """Delete every object of keep-operator's kinds, in all namespaces, and wait until it has been cleaned up.

    Then nothing is left that could hang, and the release may be uninstalled. What becomes of a record, its object's
    deletionPolicy says. It takes your own kubeconfig and rights. The operator must run; with --orphan it must not. Safe to interrupt
    and to repeat. Exit code 2 when something is left, or in the way, that needs a person.
    """

    async def work() -> None:
        async with Cluster(connection.load(os.environ)) as cluster:
            await remove(cluster, orphan=orphan, within=timedelta(seconds=timeout), really=yes)

    try:
        session.finish(work())
    except Held as held:
        click.echo(f"\n{held}", err=True)
        raise SystemExit(2) from None


async def remove(cluster: Cluster, *, orphan: bool, within: timedelta, really: bool) -> None:
    """What the command does; raises Held where a person is needed, Refused where rights are missing."""
    await _check_rights(cluster)
    there = [each for phase in PHASES for each in await _all(cluster, phase)]
    if not there:
        click.echo(_DONE)
        return
    counted = Counter(each.resource.kind for each in there)
    session.table(("KIND", "OBJECTS"), [(kind, str(count)) for kind, count in counted.items()])
    if orphan or any(each.held for each in there):
        _check_leader(await _leader(cluster), orphan=orphan)
    if not really:
        fate = "left as it is" if orphan else "cleaned up by the object's deletionPolicy"
        click.echo(
            f"\n{session.count(there, 'object')} would be deleted, and each record {fate}. Nothing was done: say --yes to do it."
        )
        return
    end_s = asyncio.get_running_loop().time() + within.total_seconds()
    known = {each.uid for each in there}
    for phase in PHASES:
        due = await _all(cluster, phase)
        _check_new(due, known)
        for each in due:
            if orphan:
                await _strip(cluster, each)
            await _delete(cluster, each)
        if due:
            click.echo(f"{session.count(due, 'object')} on the way out: {', '.join(each.plural for each in phase)}")
            await _await_end(cluster, phase, {each.uid for each in due}, known, end_s)
    click.echo(f"\n{_DONE}")


async def _check_rights(cluster: Cluster) -> None:
    denied = [
        f"{verb} {rule.target}"
        for rule in access.UNINSTALL_RULES
        for verb in rule.verbs
        if not (await cluster.review(rule.group, rule.resource, verb)).allowed
    ]
    if denied:
        raise Refused("ApiAccessDenied", f"you may not {', '.join(denied)}, in all namespaces. Nothing was done")


def _check_leader(leader: str | None, *, orphan: bool) -> None:
    if orphan and leader is not None:
        raise Held(
            f"{leader} leads, and would clean up the records of what is deleted. Scale the operator to 0 replicas first, or leave "
            "out --orphan. Nothing was done."
        )
    if not orphan and leader is None:
        raise Held(
            "No operator leads, and without one objects hang in their deletion. Start it, or say --orphan to leave the records as "
            "they are. Nothing was done."
        )


def _check_new(found: Sequence[Found], known: set[str]) -> None:
    new = [each for each in found if each.resource in _DECLARED and each.uid not in known]
    if new:
        lines = [f"  {each}{f', by {each.tool}' if each.tool else ''}" for each in new]
        raise Held(
            "Made while everything is to go:\n"
            + _shortened(lines)
            + "\nTake it out of Git, or stop what applies it; then do "
            "this again. What has gone until now stays gone."
        )


def _shortened(lines: Sequence[str]) -> str:
    more = [f"  and {len(lines) - NAMED} more"] if len(lines) > NAMED else []
    return "\n".join([*lines[:NAMED], *more])


async def _all(cluster: Cluster, resources: Sequence[Resource]) -> list[Found]:
    """Every object of these kinds; none of a kind that is not defined any more."""
    found: list[Found] = []
    for resource in resources:
        try:
            listing = await cluster.list(resource, metadata_only=True)
        except Unavailable as error:
            definition = f"{resource.plural}.{GROUP}"
            if error.reason == "ApiResourceMissing" and not await cluster.get(
                CUSTOM_RESOURCE_DEFINITIONS, None, definition
            ):
                continue
            raise
        found += [_found(resource, item["metadata"]) for item in listing.items]
    return found


def _found(resource: Resource, metadata: dict[str, Any]) -> Found:
    return Found(
        resource,
        metadata.get("namespace") or "",
        metadata["name"],
        metadata["uid"],
        tuple(metadata.get("finalizers") or ()),
        provenance.of(metadata).get("tool"),
    )


def _is_ours(finalizer: str) -> bool:
    return finalizer.partition("/")[0] == GROUP


async def _leader(cluster: Cluster) -> str | None:
    """Who leads, by a Lease that is renewed before our eyes, since clocks are not compared; None: nobody."""
    listing = await cluster.list(LEASES, metadata_only=True)
    namespaces = [each["metadata"]["namespace"] for each in listing.items if each["metadata"]["name"] == _LEASE]
    seen = {namespace: await cluster.get(LEASES, namespace, _LEASE) for namespace in namespaces}
    leases = {namespace: lease for namespace, lease in seen.items() if lease and lease["spec"].get("holderIdentity")}
    lengths_s = [float(lease["spec"].get("leaseDurationSeconds") or _LEASE_S) for lease in leases.values()]
    looks = round((max(lengths_s) + _RENEWAL_S) / LOOK_EACH_S) if leases else 0
    for _ in range(looks):
        await asyncio.sleep(LOOK_EACH_S)
        for namespace, lease in leases.items():
            now = await cluster.get(LEASES, namespace, _LEASE)
            renewed = now is not None and now["metadata"]["resourceVersion"] != lease["metadata"]["resourceVersion"]
            if now is not None and renewed and (holder := now["spec"].get("holderIdentity")):
                return f"{holder}, which holds the Lease {namespace}/{_LEASE},"
    return None


async def _strip(cluster: Cluster, found: Found) -> None:
    """Take our finalizers off this very object; those of others stay."""
    while found.held:
        raw = await cluster.get(found.resource, found.namespace, found.name)
        if raw is None or raw["metadata"]["uid"] != found.uid:
            return
        found = _found(found.resource, raw["metadata"])
        kept = [each for each in found.finalizers if not _is_ours(each)]
        body = {"metadata": {"resourceVersion": raw["metadata"]["resourceVersion"], "finalizers": kept}}
        try:
            raw = await cluster.patch(found.resource, found.namespace, found.name, body)
        except Conflict:
            continue  # somebody else wrote to it: what there is now is read again
        found = _found(found.resource, raw["metadata"])


async def _delete(cluster: Cluster, found: Found) -> None:
    """Ask for the end of this very object. A child that may not be deleted yet is taken along by Kubernetes, or told in the end."""
    try:
        await cluster.delete(found.resource, found.namespace, found.name, uid=found.uid)
    except Conflict:
        return  # another one has its name by now, of which the next look tells
    except (Refused, Unavailable) as error:
        if found.resource in _DECLARED or error.reason not in ("ApiRejected", "ApiAccessDenied"):
            raise


async def _await_end(cluster: Cluster, phase: Sequence[Resource], due: set[str], known: set[str], end_s: float) -> None:
    """Return once all that is due has gone; an API server that is away for a while does not matter."""
    told = len(due)
    loop = asyncio.get_running_loop()
    while True:
        try:
            there = await _all(cluster, phase)
            _check_new(there, known)
            left = [each for each in there if each.uid in due]
            if not left:
                return
            if loop.time() > end_s:
                raise Held(await _why(cluster, left))
            if len(left) <= told // 2:
                told = len(left)
                click.echo(f"{session.count(left, 'object')} left")
        except Unavailable:
            if loop.time() > end_s:
                raise
        await asyncio.sleep(LOOK_EACH_S)


async def _why(cluster: Cluster, left: Sequence[Found]) -> str:
    lines = [f"  {each}: {await _holding(cluster, each)}" for each in left[:NAMED]]
    return (
        f"{session.count(left, 'object')} left when the time was over:\n"
        + _shortened([*lines, *("" for _ in left[NAMED:])])
        + "\nMend that, and do this again; see docs/operations.md, Uninstalling."
    )


async def _holding(cluster: Cluster, found: Found) -> str:
    raw = await cluster.get(found.resource, found.namespace, found.name)
    if raw is None:
        return "gone by now"
    if "deletionTimestamp" not in raw["metadata"]:
        return "may not be deleted; what owns it must go first"
    if others := [each for each in raw["metadata"].get("finalizers") or () if not _is_ours(each)]:
        return f"held by {', '.join(others)}, which is not ours"
    for each in (raw.get("status") or {}).get("conditions") or ():
        if each.get("type") == "Deleting":
            return f"{each.get('reason')}: {each.get('message')}"
    return "the operator has not looked at it: does it run, and does it watch that namespace?"
