"""`keep-operator doctor`: checks everything that `operate` will need, by the same ways, and says what to do.

It looks with the operator's own API client, credentials and database settings, so that what it sees is what the
operator will see. It changes nothing.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Literal

import click
from sqlalchemy import text

from keep_operator import settings
from keep_operator.cluster import access, connection
from keep_operator.cluster.client import Cluster
from keep_operator.domain import conditions
from keep_operator.errors import KeepOperatorError
from keep_operator.reconcile import proof
from keep_operator.resources import crds, provenance
from keep_operator.resources.kinds import CUSTOM_RESOURCE_DEFINITIONS, GROUP, PROVIDERS, TENANTS, WORKFLOWS
from keep_operator.settings import Settings
from keep_operator.store import engine as database
from keep_operator.store import schema

# Beyond this, lease times and "since when" in conditions mislead people.
SKEW_LIMIT: Final = timedelta(seconds=5)
# Kubernetes minor versions from which the parts exist that the operator leans on (docs/architecture.md).
CEL_SINCE: Final = 25
POLICIES_SINCE: Final = 30
# What people declare.
DECLARED: Final = (TENANTS, PROVIDERS, WORKFLOWS)
_SESSION: Final = "SELECT now(), current_setting('TimeZone') AS time_zone, current_setting('server_version') AS version"


class Verdict(StrEnum):
    """How one check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report; ``remedy`` is empty where nothing needs to be done."""

    verdict: Verdict
    subject: str
    fact: str
    remedy: str = ""


def ok(subject: str, fact: str) -> Check:
    """Nothing to do."""
    return Check(Verdict.OK, subject, fact)


def warn(subject: str, fact: str, remedy: str) -> Check:
    """It works, with a drawback."""
    return Check(Verdict.WARN, subject, fact, remedy)


def fail(subject: str, fact: str, remedy: str) -> Check:
    """The operator cannot work like this."""
    return Check(Verdict.FAIL, subject, fact, remedy)


@click.command("doctor")
def command() -> None:
    """Check the cluster, the CRDs, the rights, the database and the clocks, and say what to do."""
    marks = {Verdict.OK: ("green", "ok  "), Verdict.WARN: ("yellow", "warn"), Verdict.FAIL: ("red", "FAIL")}
    worst = Verdict.OK

    async def run() -> None:
        nonlocal worst
        async for check in examine():
            colour, mark = marks[check.verdict]
            click.echo(f"{click.style(mark, fg=colour)}  {check.subject:<12} {check.fact}")
            if check.remedy:
                click.echo(f"{'':18} -> {check.remedy}")
            if check.verdict is Verdict.FAIL or worst is Verdict.OK:
                worst = check.verdict

    asyncio.run(run())
    if worst is Verdict.FAIL:
        sys.exit(1)


async def examine() -> AsyncIterator[Check]:
    """Every check in the order in which the operator starts; what cannot be asked because of an earlier failure is left out."""
    try:
        given = settings.load(operate=True)
    except KeepOperatorError as error:
        yield fail("settings", error.message, "set the variable; docs/configuration.md lists all")
        return
    yield ok("settings", "complete")
    async for check in _database(given):
        yield check
    async with AsyncExitStack() as stack:
        try:
            link = connection.load(os.environ)
            cluster = await stack.enter_async_context(Cluster(link))
            version = await cluster.server_version()
        except KeepOperatorError as error:
            yield fail("cluster", error.message, "check KUBECONFIG, or start a local one: keep-operator sandbox start")
            return
        yield ok("cluster", f"Kubernetes {version.git}")
        if version.minor < CEL_SINCE:
            yield warn(
                "cluster",
                "no CEL rules in CRDs before 1.25",
                "for development only; the operator checks every rule itself",
            )
        if version.minor < POLICIES_SINCE:
            yield warn(
                "cluster",
                "no ValidatingAdmissionPolicy before 1.30",
                "nothing refuses a foreground deletion of a Tenant that is in use; delete Tenants in the background",
            )
        if version.server_time is not None:
            yield _clock("API server", version.server_time)
        async for check in _crds(cluster):
            yield check
        async for check in _rights(cluster, given, link.namespace):
            yield check
        async for check in _default_tenant(cluster, given):
            yield check
        async for check in release_checks(cluster):
            yield check
        async for check in _argo_cd(cluster, given):
            yield check
        async for check in decision_checks(cluster, given.decisions_unverified):
            yield check


async def _database(given: Settings) -> AsyncIterator[Check]:
    try:
        engine = database.connect(given.database_url.get_secret_value(), application_name="keep-operator doctor")
    except KeepOperatorError as error:
        yield fail("database", error.message, "correct KEEP_OPERATOR_DATABASE_URL")
        return
    try:
        async with database.look(engine) as conn:
            session = (await conn.execute(text(_SESSION))).one()
        yield ok("database", f"PostgreSQL {session.version}, sessions in time zone {session.time_zone}")
        if session.time_zone not in ("UTC", "Etc/UTC", "GMT"):
            yield warn(
                "database",
                f"time zone {session.time_zone}",
                "something between here and PostgreSQL (a pooler?) overrides the session's time zone; let it be UTC",
            )
        yield _clock("database", session.now)
        revision = await schema.check(engine)
        yield ok("migrations", f"complete, schema revision {revision}")
    except KeepOperatorError as error:
        subject = "migrations" if error.reason.startswith("Schema") else "database"
        remedy = (
            "keep-operator migrate (operate does it at start)"
            if subject == "migrations"
            else "check host, port, user and that it runs"
        )
        yield fail(subject, error.message, remedy)
    finally:
        await engine.dispose()


async def _crds(cluster: Cluster) -> AsyncIterator[Check]:
    for definition in crds.DEFINITIONS:
        name = f"{definition.resource.plural}.{GROUP}"
        try:
            found = await cluster.get(CUSTOM_RESOURCE_DEFINITIONS, None, name)
        except KeepOperatorError as error:
            yield fail("CRDs", error.message, "grant the operator get on customresourcedefinitions")
            return
        if found is None:
            yield fail("CRDs", f"{name} is not installed", "keep-operator crds apply")
        elif missing := _missing_fields(crds.build(definition), found):
            yield warn(
                "CRDs",
                f"{name} is older than this program: it lacks {', '.join(missing[:5])}",
                "keep-operator crds apply",
            )
        else:
            yield ok("CRDs", f"{name} is installed and current")


def _missing_fields(wanted: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Paths of spec and status fields that this program uses and the installed CRD does not have (they would be pruned)."""

    def fields(node: Any, path: str = "") -> set[str]:
        names: set[str] = set()
        for name, below in ((node or {}).get("properties") or {}).items():
            names |= {f"{path}{name}"} | fields(below, f"{path}{name}.")
        if isinstance((node or {}).get("items"), dict):
            names |= fields(node["items"], path)
        return names

    have: dict[str, Any] = next((v for v in found["spec"]["versions"] if v.get("served")), {"schema": {}})
    return sorted(
        fields(wanted["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
        - fields(have["schema"].get("openAPIV3Schema"))
    )


async def _rights(cluster: Cluster, given: Settings, own: str) -> AsyncIterator[Check]:
    asked, denied = 0, []
    for rule, verb, namespace in access.needed(own, given.secret_namespaces, given.watch_namespaces):
        asked += 1
        try:
            answer = await cluster.review(
                rule.group, rule.resource, verb, subresource=rule.subresource, namespace=namespace
            )
        except KeepOperatorError as error:
            yield fail("rights", error.message, "grant create on selfsubjectaccessreviews")
            return
        if not answer.allowed:
            where = f" in {namespace}" if namespace else ""
            denied.append(f"{verb} {rule.target}{where} ({rule.why})")
    for right in denied:
        yield fail("rights", f"not allowed: {right}", "bind the ClusterRole keep-operator to this account")
    if not denied:
        yield ok("rights", f"all {asked} that the operator uses are granted")


async def _default_tenant(cluster: Cluster, given: Settings) -> AsyncIterator[Check]:
    if not given.default_tenant:
        yield ok("tenant", "the default tenant is switched off")
        return
    try:
        listing = await cluster.list(TENANTS)
    except KeepOperatorError:
        return  # the CRD or the right is missing, which has been said
    ids = [(item.get("status") or {}).get("tenantId") or item["metadata"]["name"] for item in listing.items]
    if given.default_tenant in ids:
        yield ok("tenant", f"the default tenant {given.default_tenant} exists")
    else:
        yield warn(
            "tenant", f"the default tenant {given.default_tenant} does not exist yet", "operate makes it at its start"
        )


async def release_checks(cluster: Cluster) -> AsyncIterator[Check]:
    """Whether one Helm release holds both the kinds, and so the operator, and objects of users (A-GO-7)."""
    try:
        definitions = [
            await cluster.get(CUSTOM_RESOURCE_DEFINITIONS, None, f"{each.plural}.{GROUP}") for each in DECLARED
        ]
        own = {release for each in definitions if each and (release := _release_of(each))}
        listings = {each: await cluster.list(each, metadata_only=True) for each in DECLARED} if own else {}
    except KeepOperatorError:
        return  # the CRD or the right is missing, which has been said
    inside = [
        f"{resource.kind} {'/'.join(filter(None, (item['metadata'].get('namespace'), item['metadata']['name'])))}"
        for resource, listing in listings.items()
        for item in listing.items
        if _release_of(item) in own
    ]
    if inside:
        more = f" and {len(inside) - 3} more" if len(inside) > 3 else ""
        yield warn(
            "release",
            f"{', '.join(sorted(own))} holds the operator and objects of users: {', '.join(inside[:3])}{more}",
            "move them to a release of their own: `helm uninstall` would take the operator away before it can clean up after them",
        )
    elif own:
        yield ok("release", f"{', '.join(sorted(own))} holds no object of users")


def _release_of(raw: Mapping[str, Any]) -> str | None:
    """The Helm release that an object is part of, as Helm notes it."""
    annotations = raw["metadata"].get("annotations") or {}
    name = annotations.get("meta.helm.sh/release-name")
    return None if name is None else f"{annotations.get('meta.helm.sh/release-namespace', '')}/{name}"


async def decision_checks(cluster: Cluster, unverified: Literal["Refuse", "Record"]) -> AsyncIterator[Check]:
    """Whether the admission policy proves who makes decisions, and what becomes of them if not (A-AP-5)."""
    try:
        found = await proof.look(cluster)
    except KeepOperatorError:
        return  # the API server is away, which has been said
    if found.since is not None:
        yield ok("decisions", f"an admission policy proves who makes them, since {conditions.rfc3339(found.since)}")
        return
    yield warn(
        "decisions",
        f"the cluster cannot prove who makes them: {found.lack}",
        "whoever may create WorkflowDecisions decides everything: give that right with care"
        if unverified == "Record"
        else "all but Rollback, Resume, Abort, Pause and Note are refused; install the chart's policy, or see "
        "KEEP_OPERATOR_DECISIONS_UNVERIFIED",
    )


async def _argo_cd(cluster: Cluster, given: Settings) -> AsyncIterator[Check]:
    """Whether what Argo CD tracks can be pruned by it (A-GO-9)."""
    found: list[str] = []
    for resource in (PROVIDERS, WORKFLOWS):
        for namespace in given.watch_namespaces or (None,):
            try:
                listing = await cluster.list(resource, namespace)
            except KeepOperatorError:
                return  # the CRD or the right is missing, which has been said
            tracked = (item["metadata"] for item in listing.items if provenance.in_argo_cd(item["metadata"]))
            found += [f"{resource.kind} {each['namespace']}/{each['name']}" for each in tracked]
    if not found:
        return
    count = f"{len(found)} object{'' if len(found) == 1 else 's'} in Argo CD"
    if given.owner_references == "Always":
        yield warn(
            "Argo CD",
            f"{count} would have an owner, and is not pruned then: {', '.join(sorted(found)[:3])}{' …' if len(found) > 3 else ''}",
            "set KEEP_OPERATOR_OWNER_REFERENCES=ExceptArgoCD, or delete by hand what is taken out of Git",
        )
    else:
        yield ok("Argo CD", f"{count} without an owner, so that it can be pruned")


def _clock(whose: str, at: datetime) -> Check:
    skew = abs(datetime.now(UTC) - at)
    if skew > SKEW_LIMIT:
        return warn(
            "clock", f"the {whose}'s clock is {skew.total_seconds():.0f} s away from ours", "run a time service on both"
        )
    return ok("clock", f"the {whose}'s clock agrees with ours")
