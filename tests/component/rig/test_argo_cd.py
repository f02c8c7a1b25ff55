"""What Argo CD tracks has no owner, so that Argo CD can prune it; and leaves nothing behind all the same (A-GO-9)."""

import pytest

from component.rig.process import Operator
from component.rig.rig import Mark, Rig
from keep_operator.resources.kinds import WORKFLOW_REVISIONS
from manifests import Json, decision, definition, in_argo_cd, provider, tenant, workflow

pytestmark = pytest.mark.component
TEAM = tenant("team")
VM, HELLO = provider("vm", "default", "team"), workflow("hello", "default", "team", definition("one"))
CONFIRMED: Json = {"metadata": {"annotations": {"keep-operator.dev/confirm-deletion": "team"}}}
TRACKING = "argocd.argoproj.io/tracking-id"


def owners(rig: Rig, manifest: Json) -> list[str]:
    """The kinds of its owners."""
    return [each["kind"] for each in rig.user.get(manifest).raw["metadata"].get("ownerReferences") or ()]


async def _operate(rig: Rig, *before: Json, **settings: str) -> tuple[Operator, Mark]:
    operator = await rig.operate(default_tenant="", **settings)
    rig.user.apply(TEAM, *before)
    await rig.user.ready(TEAM, *before)
    await rig.rest()
    return operator, rig.mark()


async def test_what_argo_cd_applies_has_a_finalizer_and_no_owner(rig: Rig) -> None:
    """It costs one metadata patch and one status patch, as everything else does, and is cleaned up when it is pruned."""
    operator, mark = await _operate(rig)
    tracked = in_argo_cd(VM)
    rig.user.apply(tracked)
    await rig.user.ready(tracked)
    await rig.rest()
    spent = rig.spent(operator, mark)
    assert (spent["PATCH providers"], spent["PATCH providers/status"], spent["POST events"]) == (1, 1, 0)
    assert owners(rig, tracked) == []
    rig.user.delete(tracked)
    await rig.user.gone(tracked)
    assert rig.database.rows("SELECT 1 FROM keep_operator.provider") == []


async def test_a_reference_goes_and_comes_with_the_tracking(rig: Rig) -> None:
    """Taken over by Argo CD it loses its owner, by one metadata patch and no status patch; taken out again it gets it back."""
    operator, mark = await _operate(rig, VM, HELLO)
    assert [owners(rig, each) for each in (VM, HELLO)] == [["Tenant"], ["Tenant"]]
    rig.user.apply(in_argo_cd(VM), in_argo_cd(HELLO))
    await rig.rest()
    assert [owners(rig, each) for each in (VM, HELLO)] == [[], []]
    spent = rig.spent(operator, mark)
    assert (spent["PATCH providers"], spent["PATCH providers/status"]) == (1, 0)
    assert spent["PATCH workflows"] == 1
    rig.user.patch(VM, {"metadata": {"annotations": {TRACKING: None}}})
    await rig.rest()
    assert owners(rig, VM) == ["Tenant"]
    assert len(rig.database.rows("SELECT 1 FROM keep_operator.provider")) == 1


@pytest.mark.parametrize("spec", [{"suspend": True}, {"type": "nonsense"}, {"tenantRef": {"name": "nobody"}}])
async def test_a_reference_goes_whatever_else_is_wrong(rig: Rig, spec: Json) -> None:
    """Suspended, refused or without its Tenant: Argo CD must be able to prune it."""
    await _operate(rig)
    uid = rig.user.get(TEAM).uid
    tied = in_argo_cd(provider("vm", "default", "team", **spec))
    reference = {"apiVersion": "keep-operator.dev/v1alpha1", "kind": "Tenant", "name": "team", "uid": uid}
    tied["metadata"]["ownerReferences"] = [reference]
    rig.user.apply(tied)
    await rig.user.until(tied, lambda vm: vm and not vm.raw["metadata"].get("ownerReferences"), "freedom")


async def test_always_means_always(rig: Rig) -> None:
    """Who wishes so has owners everywhere, and the objects go with their Tenant."""
    tracked = in_argo_cd(VM)
    await _operate(rig, tracked, owner_references="Always")
    assert owners(rig, tracked) == ["Tenant"]
    rig.user.delete(TEAM)
    rig.user.patch(TEAM, CONFIRMED)
    await rig.user.gone(TEAM, tracked)


@pytest.mark.parametrize("policy", ["Delete", "Orphan"])
async def test_after_a_confirmed_deletion_git_still_has_its_objects(rig: Rig, policy: str) -> None:
    """Their records are gone by their policies, with the objects of versions; they wait, and go on with a new Tenant of that name.

    What nobody tracks goes with the Tenant.
    """
    declared = [
        in_argo_cd(provider("vm", "default", "team", deletionPolicy=policy)),
        in_argo_cd(workflow("hello", "default", "team", definition("one"), deletionPolicy=policy)),
    ]
    plain = provider("plain", "default", "team")
    await _operate(rig, *declared, plain)
    before = [
        rig.user.get(each).status.get(field) for each, field in zip(declared, ("providerId", "workflowId"), strict=True)
    ]
    rig.user.delete(TEAM)
    await rig.user.condition(TEAM, "Deleting", ("True", "DependentsExist"))
    await rig.rest()
    assert len(rig.database.rows("SELECT 1 FROM keep_operator.provider")) == 2
    rig.user.patch(TEAM, CONFIRMED)
    await rig.user.gone(TEAM, plain)
    for each in declared:
        found = await rig.user.condition(each, "Ready", ("Unknown", "TenantNotFound"))
        assert not {"providerId", "workflowId", "tenantId", "activeRevision"} & found.status.keys()
        assert found.condition("Synced") is None
    assert rig.user.objects(WORKFLOW_REVISIONS) == []
    left = 0 if policy == "Delete" else 1
    rows = "SELECT 1 FROM keep_operator.{} WHERE owner_uid IS NULL{}"
    assert len(rig.database.rows("SELECT 1 FROM keep_operator.provider")) == left
    assert len(rig.database.rows(rows.format("provider", ""))) == left
    assert len(rig.database.rows(rows.format("workflow", " AND deleted_at IS NULL"))) == left
    await rig.rest()

    rig.user.apply(tenant("team", adoptionPolicy="IfUnowned"))
    if policy == "Orphan":
        for each in declared:
            await rig.user.condition(each, "Synced", ("False", "ExternalResourceExists"))
            rig.user.edit(each, adoptionPolicy="IfUnowned")
    after = [
        thing.status.get(field)
        for thing, field in zip(await rig.user.ready(*declared), ("providerId", "workflowId"), strict=True)
    ]
    assert (after == before) is (policy == "Orphan")
    assert [owners(rig, each) for each in declared] == [[], []]


async def test_a_tenant_waits_for_what_must_give_up_its_record(rig: Rig) -> None:
    """While the database is away the Tenant stays and says so; then the record goes before the Tenant does."""
    tracked = in_argo_cd(VM)
    await _operate(rig, tracked)
    rig.doors.shut = True
    rig.doors.cut()
    rig.user.delete(TEAM)
    rig.user.patch(TEAM, CONFIRMED)
    await rig.user.condition(TEAM, "Deleting", ("True", "DatabaseUnavailable"))
    assert rig.user.get(TEAM)
    rig.doors.shut = False
    await rig.user.gone(TEAM)
    await rig.user.condition(tracked, "Ready", ("Unknown", "TenantNotFound"))
    assert rig.database.rows("SELECT 1 FROM keep_operator.provider") == []


async def test_a_tenant_that_loses_its_finalizer_takes_no_record(rig: Rig) -> None:
    """Nobody confirmed that: what Argo CD tracks keeps record and id, and goes on when the Tenant is there again."""
    tracked = in_argo_cd(VM)
    await _operate(rig, tracked)
    known = rig.user.get(tracked).status["providerId"]
    rig.user.delete(TEAM)
    rig.user.patch(TEAM, {"metadata": {"finalizers": None}})
    await rig.user.gone(TEAM)
    await rig.user.condition(tracked, "Ready", ("Unknown", "TenantNotFound"))
    await rig.rest()
    rig.user.apply(TEAM)
    (found,) = await rig.user.ready(tracked)
    assert found.status["providerId"] == known


async def test_a_decision_in_git_has_no_owner_either(rig: Rig) -> None:
    """Taken out of Git it is pruned; one from elsewhere goes with its Workflow."""
    await _operate(rig, HELLO)
    plain, tracked = decision("Note", HELLO, "plain"), in_argo_cd(decision("Note", HELLO, "tracked"))
    rig.user.apply(plain, tracked)
    for each in (plain, tracked):
        await rig.user.condition(each, "Handled", ("True", "Done"))
    await rig.rest()
    assert (owners(rig, plain), owners(rig, tracked)) == (["Workflow"], [])
