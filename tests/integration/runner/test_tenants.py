"""What a Tenant allows its steps reaches the runners by the database."""

import asyncio
from ipaddress import ip_network

import pytest

from integration.store import lineages, samples
from integration.store.proxy import proxied
from keep_operator.runner.egress import Egress
from keep_operator.runner.tenants import FRESH_S, Tenants
from keep_operator.store import engine as database
from keep_operator.store.engine import Engine

pytestmark = pytest.mark.integration

PATIENCE_S = 30


async def allow(engine: Engine, entries: str) -> None:
    """What the operator writes for a Tenant."""
    settings = f"""'{{"egress": {{"allow": [{entries}]}}}}'"""
    await lineages.run(engine, f"UPDATE keep_operator.tenant SET settings = {settings} WHERE id = 'keep'")  # noqa: S608


async def test_an_edit_is_known_within_seconds_and_steps_share_a_look(engine: Engine) -> None:
    """A thousand steps are no thousand questions, and what is taken back is taken back."""
    now = [0.0]
    await samples.have_tenant(engine)
    tenants, counted = Tenants(engine, lambda: now[0]), database.queries(engine)
    assert await tenants.egress("keep") == Egress()
    await allow(engine, '"127.0.0.1"')
    before = counted.statements
    assert await tenants.egress("keep") == Egress()
    assert counted.statements == before
    now[0] += FRESH_S
    assert (await tenants.egress("keep")).networks == (ip_network("127.0.0.1/32"),)
    await allow(engine, "")
    now[0] += FRESH_S
    assert await tenants.egress("keep") == Egress()


async def test_a_tenant_without_a_row_allows_nothing(engine: Engine) -> None:
    """It is gone, and its last run goes on."""
    assert await Tenants(engine).egress("nobody") == Egress()


async def test_a_step_waits_for_the_database(engine: Engine, database_url: str) -> None:
    """What was allowed a while ago may be forbidden by now, so nothing is guessed."""
    await samples.have_tenant(engine)
    await allow(engine, '"127.0.0.1"')
    async with proxied(database_url) as proxy:
        between = database.connect(proxy.url, application_name="test")
        try:
            proxy.sever()
            asking = asyncio.create_task(Tenants(between).egress("keep"))
            done, _ = await asyncio.wait((asking,), timeout=0.5)
            assert not done
            proxy.mend()
            assert (await asyncio.wait_for(asking, PATIENCE_S)).networks
        finally:
            await between.dispose()
