"""What each case costs the API server and the database, counted by both (A-CTL-8, A-CTL-9, A-DR-2)."""

import pytest

from component.rig.process import Operator
from component.rig.rig import Mark, Rig
from manifests import Json, credential, provider, secret, tenant

pytestmark = pytest.mark.component
TEAM, VM = tenant("team"), provider("vm", "default", "team")
TWO_RESYNCS_S = 25 * 60.0


async def _operate(rig: Rig, *before: Json) -> tuple[Operator, Mark]:
    """An operator at rest over these objects, and the point from which to count."""
    rig.user.apply(*before)
    operator = await rig.operate(default_tenant="")
    await rig.rest()
    return operator, rig.mark()


async def test_a_new_tenant(rig: Rig) -> None:
    """A new Tenant costs one metadata patch, one status patch, one transaction and no Event."""
    operator, mark = await _operate(rig)
    rig.user.apply(TEAM)
    await rig.user.ready(TEAM)
    await rig.rest()
    assert rig.spent(operator, mark) == {"PATCH tenants": 1, "PATCH tenants/status": 1, "COMMIT insert tenant": 1}


async def test_a_provider_of_a_ready_tenant(rig: Rig) -> None:
    """A Provider whose Tenant is Ready costs one metadata patch, one status patch, one transaction and no Event."""
    operator, mark = await _operate(rig, TEAM)
    rig.user.apply(VM)
    await rig.user.ready(VM)
    await rig.rest()
    spent = rig.spent(operator, mark)
    counts = spent.pop("PATCH tenants/status")
    assert spent == {"PATCH providers": 1, "PATCH providers/status": 1, "COMMIT insert provider": 1}
    assert counts <= 2  # the first Provider at once, and that it is Ready


async def test_a_provider_of_a_tenant_that_is_not_ready(rig: Rig) -> None:
    """Its Tenant is there and not Ready: one metadata patch at once, two status patches and one Event in the end."""
    waiting = tenant("team", suspend=True)
    operator, mark = await _operate(rig, waiting)
    rig.user.apply(VM)
    await rig.user.condition(VM, "Ready", ("Unknown", "TenantNotReady"))
    await rig.rest()
    spent = rig.spent(operator, mark)
    assert (spent["PATCH providers"], spent["PATCH providers/status"], spent["POST events"]) == (1, 1, 0)
    rig.user.edit(waiting, suspend=False)
    await rig.user.ready(VM)
    await rig.rest()
    spent = rig.spent(operator, mark)
    assert (spent["PATCH providers"], spent["PATCH providers/status"]) == (1, 2)
    assert [event for event in rig.user.events() if event[2] == "vm"] == [("Normal", "Ready", "vm")]


async def test_a_provider_without_a_tenant(rig: Rig) -> None:
    """Without a Tenant there is only a status patch; finalizer and owner come in one, once the Tenant is Ready."""
    operator, mark = await _operate(rig)
    rig.user.apply(VM)
    await rig.user.condition(VM, "Ready", ("Unknown", "TenantNotFound"))
    await rig.rest()
    assert rig.spent(operator, mark) == {"PATCH providers/status": 1}
    rig.user.apply(TEAM)
    await rig.user.ready(VM)
    await rig.rest()
    spent = rig.spent(operator, mark)
    assert (spent["PATCH providers"], spent["PATCH providers/status"], spent["POST events"]) == (1, 2, 1)
    assert rig.user.events() == [("Normal", "Ready", "vm")]


async def test_many_at_once(rig: Rig) -> None:
    """Forty Providers and their Tenant applied at once cost no more each than one whose Tenant is not Ready yet."""
    operator, mark = await _operate(rig)
    things = [provider(f"vm-{number}", "default", "team") for number in range(40)]
    rig.user.apply(TEAM, *things)
    await rig.user.ready(*things)
    await rig.rest()
    spent = rig.spent(operator, mark)
    assert (spent["PATCH providers"], spent["COMMIT insert provider"]) == (40, 40)
    assert spent["PATCH providers/status"] <= 2 * 40
    assert spent["POST events"] <= 40
    assert spent["PATCH tenants/status"] <= 4


async def test_an_edit(rig: Rig) -> None:
    """An edit costs one transaction and one status patch; one that says the same costs a status patch for its number."""
    operator, mark = await _operate(rig, TEAM, VM)
    rig.user.edit(VM, externalName="renamed")
    await rig.user.ready(VM)
    await rig.rest()
    assert rig.spent(operator, mark) == {"COMMIT update provider": 1, "PATCH providers/status": 1}
    mark = rig.mark()
    rig.user.edit(VM, progressDeadlineSeconds=700)
    await rig.user.ready(VM)
    await rig.rest()
    assert rig.spent(operator, mark) == {"PATCH providers/status": 1}


async def test_a_rotated_secret(rig: Rig) -> None:
    """A rotated Secret costs one transaction and one status patch; a Secret that nobody names costs nothing, not even a read."""
    named = provider("vm", "default", "team", secrets=[credential("BasicAuthPassword", "login", "password")])
    operator, mark = await _operate(rig, TEAM, secret("login", "default", password="old"), named)
    rig.user.apply(secret("other", "default", password="whatever"))
    await rig.rest()
    assert rig.spent(operator, mark) == {}
    assert rig.server.reads(operator.name, since=mark.exchanges)["GET secrets"] == 0
    rig.user.apply(secret("login", "default", password="new"))
    await rig.rest()
    assert rig.spent(operator, mark) == {"COMMIT update provider": 1, "PATCH providers/status": 1}


async def test_a_deletion(rig: Rig) -> None:
    """A deleted Provider costs one transaction and the patch that lets it go."""
    operator, mark = await _operate(rig, TEAM, VM)
    rig.user.delete(VM)
    await rig.user.gone(VM)
    await rig.rest()
    spent = rig.spent(operator, mark)
    assert spent.pop("PATCH tenants/status") == 1  # no Provider any more: told at once
    assert spent == {"COMMIT delete provider": 1, "PATCH providers": 1}


async def test_a_while_in_which_nothing_happens(rig: Rig) -> None:
    """At rest, with all its resyncs and sweeps, the operator writes its Lease and nothing else."""
    things = [provider(f"vm-{number}", "default", "team") for number in range(5)]
    operator, mark = await _operate(rig, TEAM, *things)
    await rig.rest(TWO_RESYNCS_S)
    assert rig.spent(operator, mark) == {}
    renewals = rig.server.writes(operator.name, since=mark.exchanges)["PATCH leases"]
    assert 0 < renewals <= TWO_RESYNCS_S / 5
    assert rig.server.reads(operator.name, since=mark.exchanges)["GET providers"] == 0


async def test_a_restart_over_ready_objects(rig: Rig) -> None:
    """A new process over objects that are Ready takes the lead, and writes nothing to any of them."""
    things = [provider(f"vm-{number}", "default", "team") for number in range(5)]
    first, _ = await _operate(rig, TEAM, *things)
    await first.stop()
    second, _ = await _operate(rig)
    await rig.rest()
    assert rig.spent(second) == {"COMMIT update installation": 1}


async def test_the_same_manifests_again(rig: Rig) -> None:
    """Manifests that are applied again, as Git does all day, cause no write and no look."""
    operator, mark = await _operate(rig, TEAM, VM)
    for _ in range(3):
        rig.user.apply(TEAM, VM)
        await rig.rest(60)
    assert rig.spent(operator, mark) == {}
