"""What a Provider costs the control database, counted by the engine: every statement is a round trip."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from pydantic import SecretStr

from integration.store import samples
from keep_operator.reconcile.credentials import SecretReader
from keep_operator.reconcile.database import Database
from keep_operator.reconcile.provider import Providers
from keep_operator.reconcile.shell import Outcome, Shell
from keep_operator.reconcile.tenant import Tenants
from keep_operator.reconcile.world import World
from keep_operator.resources.kinds import Key
from keep_operator.runtime.workqueue import WorkQueue
from keep_operator.store import engine as store
from keep_operator.store import installation
from keep_operator.store.engine import Engine
from keep_operator.store.vault import Vault
from unit.reconcile import simulated

pytestmark = pytest.mark.integration

TEAM = Key("Tenant", "", "team")
VM = Key("Provider", "monitoring", "vm")
SPEC: dict[str, Any] = {
    "type": "victoriametrics",
    "tenantRef": {"name": "team"},
    "config": {"VMBackendURL": "http://vm:8428"},
}


class _NoEvents:
    async def record(self, *_: object) -> None:
        """Nobody listens."""


class Rig:
    """The reconcilers on a real database, with an API server in memory; the test says when something is looked at."""

    def __init__(self, engine: Engine, database: Database) -> None:
        self.server = simulated.Server()
        self._engine = engine
        self._world = World(WorkQueue(lambda: 0.0), "keep")
        cluster = cast(Any, self.server)
        vault = Vault([SecretStr("A" * 43)])
        vault.trusted = True
        common: dict[str, Any] = {
            "world": self._world,
            "cluster": cluster,
            "database": database,
            "resync": timedelta(minutes=10),
        }
        secrets = SecretReader(cluster, cast(Any, None), vault)
        self._shell = Shell(
            {
                "Tenant": Tenants(**common, runtime="builtin"),
                "Provider": Providers(**common, secrets=secrets, vault=vault, namespace_labels=lambda _: {}),
            },
            world=self._world,
            cluster=cluster,
            recorder=cast(Any, _NoEvents()),
            now=lambda: datetime(2026, 3, 1, 13, tzinfo=UTC),
            jitter=lambda: 1.0,
        )

    async def spent(self, key: Key) -> tuple[int, int]:
        """The statements and the transactions of one reconcile that ends with Ready."""
        obj = self.server.find(key)
        assert obj is not None
        self._world.take(obj)
        counted = store.queries(self._engine)
        before = counted.statements, counted.transactions
        assert await self._shell.reconcile(key) is Outcome.READY
        return counted.statements - before[0], counted.transactions - before[1]


@pytest.fixture
async def rig(engine: Engine) -> Rig:
    """A leader, and a Tenant that is Ready and admits all."""
    async with store.transaction(engine) as conn:
        await installation.cluster_id(conn, samples.CLUSTER)
    database = Database(engine, samples.CLUSTER)
    assert await database.claim(1) is None
    made = Rig(engine, database)
    made.server.create(TEAM, {"allowedNamespaces": {"all": True}})
    await made.spent(TEAM)
    made.server.create(VM, SPEC)
    return made


async def test_a_new_provider(rig: Rig) -> None:
    """Two looks (before the row, after it; none before the finalizer); one write: the guard, and row with ledger entry."""
    assert await rig.spent(VM) == (2 + 2, 1)


async def test_an_edit(rig: Rig) -> None:
    """Two looks; one write: the guard, the row as it is, locked, and its change with ledger entry."""
    await rig.spent(VM)
    rig.server.edit(VM, {**SPEC, "config": {"VMBackendURL": "http://other:8428"}})
    assert await rig.spent(VM) == (2 + 3, 1)


async def test_a_resync(rig: Rig) -> None:
    """One look and no transaction: this is what a resting operator does all day."""
    await rig.spent(VM)
    assert await rig.spent(VM) == (1, 0)
