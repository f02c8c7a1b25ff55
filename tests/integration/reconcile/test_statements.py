"""What an object costs the control database, counted by the engine: every statement is a round trip."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, cast

import pytest
from pydantic import SecretStr

from component.apiserver import patches
from component.apiserver.server import ApiServer, serve
from component.apiserver.state import Name
from integration.store import samples
from keep_operator.cluster.client import Cluster
from keep_operator.reconcile.credentials import SecretReader
from keep_operator.reconcile.database import Database
from keep_operator.reconcile.definitions import Definitions
from keep_operator.reconcile.provider import Providers
from keep_operator.reconcile.shell import Outcome, Shell
from keep_operator.reconcile.tenant import Tenants
from keep_operator.reconcile.tokens import TokenReader
from keep_operator.reconcile.workflow import Workflows
from keep_operator.reconcile.world import World
from keep_operator.resources import objects, provider, tenant, workflow
from keep_operator.resources.kinds import PROVIDERS, TENANTS, WORKFLOWS, Key
from keep_operator.runtime.workqueue import WorkQueue
from keep_operator.store import engine as store
from keep_operator.store import installation
from keep_operator.store.engine import Engine
from keep_operator.store.vault import Vault
from manifests import definition, querying

pytestmark = pytest.mark.integration

TEAM = Key("Tenant", "", "team")
VM = Key("Provider", "default", "vm")
HELLO = Key("Workflow", "default", "hello")
KINDS: dict[str, Any] = {
    "Tenant": (TENANTS, tenant),
    "Provider": (PROVIDERS, provider),
    "Workflow": (WORKFLOWS, workflow),
}
SPEC: dict[str, Any] = {
    "type": "victoriametrics",
    "tenantRef": {"name": "team"},
    "config": {"VMBackendURL": "http://vm:8428"},
}


class Spent(NamedTuple):
    """What one reconcile took; the first look of an object without finalizer asks the database nothing."""

    looks: int
    statements: int
    transactions: int


class _NoEvents:
    async def record(self, *_: object) -> None:
        """Nobody listens."""


class Rig:
    """The reconcilers on a real database, with an API server in memory; the test says when something is looked at."""

    def __init__(self, engine: Engine, database: Database, server: ApiServer, cluster: Cluster) -> None:
        self._state = server.state
        self._engine = engine
        self._world = World(WorkQueue(lambda: 0.0), "keep")
        self._looks = 0
        vault = Vault([SecretStr("A" * 43)])
        vault.trusted = True
        common: dict[str, Any] = {
            "world": self._world,
            "cluster": cluster,
            "database": database,
            "resync": timedelta(minutes=10),
        }
        of_tenants: dict[str, Any] = {**common, "namespace_labels": lambda _: {}}
        nothing, recorder = cast(Any, None), cast(Any, _NoEvents())
        secrets = SecretReader(cluster, nothing, vault)
        self._shell = Shell(
            {
                "Tenant": Tenants(**common, tokens=TokenReader(cluster, nothing), runtime="builtin"),
                "Provider": Providers(**of_tenants, secrets=secrets, vault=vault),
                "Workflow": Workflows(**of_tenants, definitions=Definitions(cluster, nothing), recorder=recorder),
            },
            world=self._world,
            cluster=cluster,
            recorder=recorder,
            now=self._now,
            jitter=lambda: 1.0,
        )

    def _now(self) -> datetime:
        """The shell asks once in each look."""
        self._looks += 1
        return datetime(2026, 3, 1, 13, tzinfo=UTC)

    def create(self, key: Key, spec: dict[str, Any]) -> None:
        """Somebody applies an object that is not there."""
        self._state.create(KINDS[key.kind][0], Name(key.namespace, key.name), {"spec": spec})

    def edit(self, key: Key, **spec: Any) -> None:
        """Somebody changes fields of its spec."""
        resource, where = KINDS[key.kind][0], Name(key.namespace, key.name)
        self._state.change(resource, where, patches.merge(self._state.get(resource, where), {"spec": spec}))

    async def spent(self, key: Key, end: Outcome = Outcome.READY) -> Spent:
        """One reconcile that ends so."""
        resource, reader = KINDS[key.kind]
        raw = self._state.get(resource, Name(key.namespace, key.name))
        self._world.take(objects.parse(key.kind, raw, reader, known=self._world.cache.get(key)))
        counted = store.queries(self._engine)
        before = self._looks, counted.statements, counted.transactions
        assert await self._shell.reconcile(key) is end
        after = self._looks, counted.statements, counted.transactions
        return Spent(*(now - then for now, then in zip(after, before, strict=True)))


@pytest.fixture
async def rig(engine: Engine) -> AsyncIterator[Rig]:
    """A leader, and a Tenant that is Ready and admits all; a Provider and a Workflow that nobody has looked at."""
    async with store.transaction(engine) as conn:
        await installation.cluster_id(conn, samples.CLUSTER)
    database = Database(engine, samples.CLUSTER)
    assert await database.claim(1) is None
    async with serve() as server, Cluster(server.connect("operator")) as cluster:
        made = Rig(engine, database, server, cluster)
        made.create(TEAM, {"allowedNamespaces": {"all": True}})
        await made.spent(TEAM)
        made.create(VM, SPEC)
        made.create(HELLO, {"tenantRef": {"name": "team"}, "definition": definition("one")})
        yield made


async def test_a_new_provider(rig: Rig) -> None:
    """Looks before the finalizer, before the row, after it; one write: the guard, and row with ledger entry."""
    assert await rig.spent(VM) == Spent(looks=3, statements=2 + 2, transactions=1)


async def test_an_edit(rig: Rig) -> None:
    """Two looks; one write: the guard, the row as it is, locked, and its change with ledger entry."""
    await rig.spent(VM)
    rig.edit(VM, config={"VMBackendURL": "http://other:8428"})
    assert await rig.spent(VM) == Spent(looks=2, statements=2 + 3, transactions=1)


async def test_a_resync(rig: Rig) -> None:
    """One look and no transaction: this is what a resting operator does all day."""
    await rig.spent(VM)
    assert await rig.spent(VM) == Spent(looks=1, statements=1, transactions=0)


async def test_a_new_workflow(rig: Rig) -> None:
    """Looks before the finalizer, the rows, the object, the status; one write: the guard, row, version, what is active."""
    assert await rig.spent(HELLO) == Spent(looks=4, statements=3 + 4, transactions=1)


async def test_a_new_definition(rig: Rig) -> None:
    """Looks before the rows, the objects, the status, and one at the old content for a note; one write: guard, version, active."""
    await rig.spent(HELLO)
    rig.edit(HELLO, definition=definition("two"))
    assert await rig.spent(HELLO) == Spent(looks=3, statements=3 + 1 + 3, transactions=1)


async def test_another_edit_of_a_workflow(rig: Rig) -> None:
    """What is not in the row costs one look, what is there two and one write: the guard, the row, and its change."""
    await rig.spent(HELLO)
    rig.edit(HELLO, revisionHistoryLimit=3)
    assert await rig.spent(HELLO) == Spent(looks=1, statements=1, transactions=0)
    rig.edit(HELLO, externalName="hello-again")
    assert await rig.spent(HELLO) == Spent(looks=2, statements=2 + 3, transactions=1)


async def test_a_resync_of_a_workflow(rig: Rig) -> None:
    """One look, whatever the definition uses."""
    await rig.spent(VM)
    rig.edit(HELLO, definition=querying("vm"))
    await rig.spent(HELLO)
    assert await rig.spent(HELLO) == Spent(looks=1, statements=1, transactions=0)


ANALYSIS = {"minRuns": 5, "window": "1h", "maxFailureRatePercent": 20}
STEPS = [{"setWeight": 20}, {"analysis": ANALYSIS}, {"setWeight": 50}]
GUARD = {"enabled": True, "window": "1h", "minRuns": 5, "maxFailureRatePercent": 20}


async def test_a_canary(rig: Rig) -> None:
    """It begins with one write, as a version that takes over at once; each further look asks one question more, for its runs."""
    await rig.spent(HELLO)
    strategy = {"type": "Canary", "canary": {"steps": STEPS}}
    rig.edit(HELLO, definition=definition("two"), release={"strategy": strategy, "autoRollback": GUARD})
    begun = await rig.spent(HELLO, Outcome.WAITING)
    assert (begun.looks, begun.transactions) == (3, 1)
    assert begun.statements <= 3 + 1 + 4 + begun.looks
    assert await rig.spent(HELLO, Outcome.WAITING) == Spent(looks=1, statements=1 + 1, transactions=0)


async def test_what_is_watched(rig: Rig) -> None:
    """For as long as a fresh version is watched a look counts its runs: one question more."""
    await rig.spent(HELLO)
    rig.edit(HELLO, definition=definition("two"), release={"autoRollback": GUARD})
    await rig.spent(HELLO)
    assert await rig.spent(HELLO) == Spent(looks=1, statements=1 + 1, transactions=0)


async def test_gates(rig: Rig) -> None:
    """A version that waits for people costs what it costs at rest; one that waits for its runs is counted, and compared."""
    await rig.spent(HELLO)
    rig.edit(HELLO, definition=definition("two"), release={"approval": {"required": "Always"}})
    await rig.spent(HELLO, Outcome.WAITING)
    assert await rig.spent(HELLO, Outcome.WAITING) == Spent(looks=1, statements=1, transactions=0)
    items = [{"id": "tried", "title": "A dry run", "auto": "runs.dryRun.succeeded > 0"}]
    rig.edit(HELLO, release={"approval": None, "checklist": items})
    await rig.spent(HELLO, Outcome.WAITING)
    assert await rig.spent(HELLO, Outcome.WAITING) == Spent(looks=1, statements=1 + 2, transactions=0)
