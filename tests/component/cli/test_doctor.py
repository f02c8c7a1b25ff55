"""What `keep-operator doctor` finds in a cluster that has everything, and more than it should."""

from typing import Any, Literal

import pytest

from component.apiserver.server import ApiServer, serve
from component.apiserver.state import Name, definition
from keep_operator.cli import doctor
from keep_operator.cli.doctor import Check, Verdict
from keep_operator.cluster.client import Cluster
from keep_operator.domain import proof
from keep_operator.resources.kinds import (
    ADMISSION_POLICIES,
    ADMISSION_POLICY_BINDINGS,
    CUSTOM_RESOURCE_DEFINITIONS,
    PROVIDERS,
    TENANTS,
    WORKFLOWS,
)
from manifests import admission_binding, admission_policy

pytestmark = pytest.mark.component


def helm(release: str) -> dict[str, Any]:
    """What Helm notes on an object."""
    namespace, _, name = release.partition("/")
    return {"annotations": {"meta.helm.sh/release-name": name, "meta.helm.sh/release-namespace": namespace}}


def installed_by(server: ApiServer, release: str) -> None:
    """The kinds came with a release."""
    for resource in (TENANTS, PROVIDERS, WORKFLOWS):
        name = definition(resource)
        old = server.state.get(CUSTOM_RESOURCE_DEFINITIONS, name)
        changed = old | {"metadata": old["metadata"] | helm(release)}
        server.state.change(CUSTOM_RESOURCE_DEFINITIONS, name, changed)


async def checks(server: ApiServer) -> list[Check]:
    """What is said of the release."""
    async with Cluster(server.connect("operator")) as cluster:
        return [check async for check in doctor.release_checks(cluster)]


async def test_a_release_with_operator_and_objects_is_found() -> None:
    """Its end would take away the operator and what it must clean up after, in one go (A-GO-7)."""
    async with serve() as server:
        installed_by(server, "ops/keep")
        server.state.create(TENANTS, Name("", "team"), {"metadata": helm("ops/keep"), "spec": {}})
        for number in range(4):
            name = Name("default", f"vm-{number}")
            server.state.create(PROVIDERS, name, {"metadata": helm("ops/keep"), "spec": {}})
        (check,) = await checks(server)
    assert check.verdict is Verdict.WARN
    assert check.fact.startswith("ops/keep holds the operator and objects of users: Tenant team, Provider default/vm-0")
    assert check.fact.endswith("and 2 more")
    assert "a release of their own" in check.remedy


@pytest.mark.parametrize("theirs", ["ops/team", "team/keep", None])
async def test_other_releases_are_no_matter(theirs: str | None) -> None:
    """Another release, one of that name in another namespace, or none."""
    async with serve() as server:
        installed_by(server, "ops/keep")
        metadata = {} if theirs is None else helm(theirs)
        server.state.create(WORKFLOWS, Name("default", "hello"), {"metadata": metadata, "spec": {}})
        (check,) = await checks(server)
    assert (check.verdict, check.fact) == (Verdict.OK, "ops/keep holds no object of users")


async def test_without_helm_there_is_nothing_to_say() -> None:
    """Kinds that were applied by hand belong to no release."""
    async with serve() as server:
        server.state.create(TENANTS, Name("", "team"), {"metadata": helm("ops/team"), "spec": {}})
        assert await checks(server) == []


async def told_of_decisions(server: ApiServer, unverified: Literal["Refuse", "Record"] = "Refuse") -> Check:
    """What is said of who decides."""
    async with Cluster(server.connect("operator")) as cluster:
        (check,) = [check async for check in doctor.decision_checks(cluster, unverified)]
    return check


async def test_whether_anybody_can_prove_who_decides_is_told() -> None:
    """Before somebody wonders why an approval ends ActorUnverified, or why everybody may decide."""
    async with serve() as server:
        server.state.create(ADMISSION_POLICIES, Name("", proof.POLICY), admission_policy())
        half = await told_of_decisions(server)
        everything = await told_of_decisions(server, "Record")
        server.state.create(ADMISSION_POLICY_BINDINGS, Name("", proof.POLICY), admission_binding())
        whole = await told_of_decisions(server)
        server.state.served.remove(ADMISSION_POLICIES)
        old = await told_of_decisions(server)
    assert (half.verdict, everything.verdict, whole.verdict, old.verdict) == (*[Verdict.WARN] * 2, "ok", Verdict.WARN)
    assert 'no ValidatingAdmissionPolicyBinding "keep-operator-decision"' in half.fact
    assert "refused" in half.remedy
    assert "give that right with care" in everything.remedy
    assert "proves who makes them, since 20" in whole.fact
    assert "from 1.30 on" in old.fact
