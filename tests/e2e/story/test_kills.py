"""The operator killed with SIGKILL at random moments, while hundreds of Providers come, change their names and go.

The seed stands in the failure: KEEP_OPERATOR_SEED repeats its plan and its moments.
"""

import base64
import os
import random
import secrets
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import pytest
from pydantic import SecretStr

from e2e import audit
from e2e.audit import Seen
from e2e.cluster import Database, Json, Kube, at_once, eventually
from e2e.conftest import Operate
from e2e.operators import Operator
from e2e.plan import Do, Lineage, State, drawn, tenants
from e2e.story.test_recovery import command
from keep_operator.resources.kinds import PROVIDERS, SECRETS
from keep_operator.sandbox.instance import Sandbox
from keep_operator.store.vault import Sealed, Vault

SOAK = bool(os.environ.get("KEEP_OPERATOR_SOAK"))
pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(3600 if SOAK else 600)]

T = TypeVar("T")
COUNT = 500 if SOAK else 200
KILLS = 20 if SOAK else 3
# For a user who waits while the operator is killed under him and started again, in seconds.
PATIENT_S = 300.0


class Deployment:
    """The operator as a Deployment of one replica: whenever its process has ended, another one is started."""

    def __init__(self, operate: Operate, key: str) -> None:
        self._operate = operate
        self._key = key
        self._operator = self._start()

    def _start(self) -> Operator:
        return self._operate(
            wait=False,
            KEEP_OPERATOR_ENCRYPTION_KEY=self._key,
            KEEP_OPERATOR_LEASE_SECONDS="5",
            KEEP_OPERATOR_SWEEP_INTERVAL="5s",
        )

    def until(self, read: Callable[[], T], wanted: Callable[[T], object], what: str) -> None:
        """Return once something has come about. One that has lost its Lease, on a busy machine, is started again."""

        def attended() -> T:
            if self._operator.process.poll() is not None:
                self._operator = self._start()
            return read()

        eventually(attended, wanted, what, PATIENT_S)

    def kill(self) -> None:
        self._operator.stop(signal.SIGKILL)
        self._operator = self._start()


class User:
    """Does the steps of a plan, one after the other for each lineage."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self._kube = kube
        self._namespace = namespace

    def do(self, lineage: Lineage, wave: int) -> None:
        for state, do in lineage.during(wave):
            self._step(state, do)

    def _step(self, before: State, do: Do) -> None:
        kube, after = self._kube, before.after(do)
        old, new = before.manifest(self._namespace), after.manifest(self._namespace)
        match do:
            case Do.CREATE:
                kube.create(*([] if new["spec"]["secrets"] == [] else [after.secret_manifest(self._namespace)]), new)
            case Do.CONFIGURE | Do.RENAME:
                kube.edit(new, config=new["spec"]["config"], externalName=new["spec"]["externalName"])
            case Do.ROTATE:
                data = {"stringData": after.secret_manifest(self._namespace)["stringData"]}
                assert kube.patch(SECRETS.path(self._namespace, after.secret), data)[0] == 200
            case Do.HAND_OVER:
                kube.create(new)
                kube.delete(old)
            case Do.RENEW:
                kube.delete(old)
                kube.await_state(old, lambda thing: not thing, "end", PATIENT_S)
                kube.create(new)
            case Do.DELETE:
                kube.delete(old)
            case Do.SETTLE:
                # A changed Secret is no new generation: Ready is what it was, until the operator has looked.
                used = self._secret_versions(before)
                kube.await_state(
                    old,
                    lambda thing: thing.ready and thing.status.get("secretVersions", []) == used,
                    "Ready",
                    PATIENT_S,
                )

    def _secret_versions(self, state: State) -> list[Json]:
        if state.password is None:
            return []
        secret = self._kube.get(state.secret_manifest(self._namespace))
        return [{"name": state.secret, "resourceVersion": secret.version}]


def _entries(database: Database) -> int:
    return int(database.rows("SELECT coalesce(max(id), 0) AS n FROM keep_operator.ledger")[0]["n"])


def _kill_at_some_moment(deployment: Deployment, database: Database, dice: random.Random, wave: Future[None]) -> None:
    """Once some more entries are written, or when nothing is left to do; now and then once more, while it starts."""
    moment = dice.randint(0, 60) + _entries(database)
    deployment.until(lambda: wave.done() or _entries(database) >= moment, bool, "the moment of the kill")
    time.sleep(dice.uniform(0.0, 0.2))
    deployment.kill()
    if dice.random() < 0.3:
        time.sleep(dice.uniform(0.0, 4.0))
        deployment.kill()


def _not_at_rest(kube: Kube, namespace: str, database: Database, lineages: Sequence[Lineage]) -> list[str]:
    """Some of what still moves, or is not sealed yet."""
    wanted = {lineage.last.object for lineage in lineages if lineage.last.alive}
    things = {thing.raw["metadata"]["name"]: thing for thing in kube.objects(PROVIDERS, namespace)}
    moving = things.keys() ^ wanted | {name for name, thing in things.items() if not thing.ready}
    uids = {thing.uid for thing in things.values()}
    left = [row["external_name"] for row in database.providers() if row["owner_uid"] not in {None, *uids}]
    unsealed = database.rows("SELECT ledger_id FROM keep_operator.ledger_pending LIMIT 5")
    return [*sorted(moving)[:5], *(f"row {name}" for name in left), *(f"entry {row['ledger_id']}" for row in unsealed)]


def test_killed_at_random_moments(
    operate: Operate, kube: Kube, namespace: str, database: Database, sandbox: Sandbox
) -> None:
    """Whenever the operator is killed, objects, rows and ledger end as planned: no orphan, no double, no id changed."""
    seed = int(os.environ.get("KEEP_OPERATOR_SEED") or secrets.randbelow(2**32))
    dice, key = random.Random(seed), secrets.token_urlsafe(32)  # noqa: S311
    lineages, user = drawn(seed, COUNT, KILLS + 1), User(kube, namespace)
    deployment = Deployment(operate, key)
    kube.create(*tenants())
    with ThreadPoolExecutor(1) as pool:
        for wave in range(KILLS + 1):
            work = pool.submit(at_once, partial(user.do, wave=wave), lineages)
            if wave < KILLS:
                _kill_at_some_moment(deployment, database, dice, work)
            deployment.until(work.done, bool, f"wave {wave} of seed {seed}")
            work.result()
    moving = partial(_not_at_rest, kube, namespace, database, lineages)
    deployment.until(moving, lambda left: left == [], f"rest after seed {seed}")
    found = audit.faults(lineages, _seen(kube, namespace, database, key))
    assert not found, f"seed {seed}: {chr(10).join(found)}"
    assert "The ledger is fine." in command(sandbox, database, "ledger", "verify")


def _seen(kube: Kube, namespace: str, database: Database, key: str) -> Seen:
    vault = Vault([SecretStr(key)])

    def password(row: Json) -> str | None:
        if row["credentials"] is None:
            return None
        opened = vault.open(row["id"], Sealed(row["key_name"], row["credentials"]))
        return None if opened is None else base64.b64decode(opened["BasicAuthPassword"]).decode()

    return Seen(
        things=kube.objects(PROVIDERS, namespace),
        secrets={thing.raw["metadata"]["name"]: thing for thing in kube.objects(SECRETS, namespace)},
        rows=database.providers(),
        entries=database.ledger("Provider"),
        password=password,
    )
