"""A database that others write to, and whose connections break: what the whole operator makes of it."""

import pytest

from component.rig.rig import Rig
from manifests import provider, tenant

pytestmark = pytest.mark.component
TEAM, VM = tenant("team"), provider("vm", "default", "team")


async def _settled(rig: Rig) -> None:
    rig.user.apply(TEAM, VM)
    await rig.operate(default_tenant="")
    await rig.user.ready(VM)
    await rig.rest()


async def _mended(rig: Rig) -> None:
    """Change the row by hand, and wait until it says again what is declared; well before the next resync."""
    rig.database.execute("UPDATE keep_operator.provider SET config = '{}'")
    await rig.user.eventually(
        lambda: rig.database.providers()[0]["config"], lambda config: config == VM["spec"]["config"], "correction"
    )


async def test_a_row_that_is_changed_by_hand(rig: Rig) -> None:
    """Whoever changes a managed row finds it corrected at once, and the fields named in the ledger (A-DR-1)."""
    await _settled(rig)
    for _ in range(2):
        before = rig.clock.monotonic()
        await _mended(rig)
        assert rig.clock.monotonic() - before < 60.0  # of the leaping clock: not by resync, which comes after minutes
    assert [entry["action"] for entry in rig.database.ledger("Provider")] == [
        "Created",
        "DriftCorrected",
        "DriftCorrected",
    ]


async def test_a_listener_whose_connection_broke(rig: Rig) -> None:
    """After all connections were cut the next change by hand is heard of again."""
    await _settled(rig)
    rig.doors.cut()
    await rig.rest(10.0)
    before = rig.clock.monotonic()
    await _mended(rig)
    assert rig.clock.monotonic() - before < 60.0
