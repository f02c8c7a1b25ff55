"""What was done can be read and proven afterwards, and proving costs nothing while nothing happens."""

import os
import subprocess
import sys
import time

import pytest

from e2e.cluster import Database, Json, Kube, eventually, provider, tenant
from e2e.conftest import Operate

pytestmark = pytest.mark.e2e


def _run(database: Database, *arguments: str) -> tuple[int, str]:
    """Exit code and output of `keep-operator ledger …`."""
    done = subprocess.run(
        [sys.executable, "-m", "keep_operator", "ledger", *arguments],
        env={**os.environ, "KEEP_OPERATOR_DATABASE_URL": database.url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def _written(database: Database) -> list[Json]:
    """What any write of the operator changes: each locks the row of the installation, which shows in ``xmax``."""
    return database.rows("SELECT xmin::text, xmax::text FROM keep_operator.installation")


def test_a_story_is_sealed_and_verified(operate: Operate, kube: Kube, namespace: str, database: Database) -> None:
    """After making, renaming and deleting, every entry is sealed; a later change by hand is found; rest is rest."""
    operator = operate(KEEP_OPERATOR_SWEEP_INTERVAL="5s")
    vm = provider("vm", namespace, "team")
    kube.create(tenant("team"), vm)
    kube.await_ready(vm)
    kube.edit(vm, externalName="metrics")
    eventually(database.providers, lambda rows: [row["external_name"] for row in rows] == ["metrics"])
    kube.delete(vm)
    eventually(database.providers, lambda rows: rows == [])
    unsealed = "SELECT 1 FROM keep_operator.ledger_pending"
    eventually(lambda: database.rows(unsealed), lambda rows: rows == [], "all entries sealed")
    code, told = _run(database, "verify")
    assert code == 0, told
    assert "The ledger is fine." in told
    code, told = _run(database, "show", "--object", f"Provider/{namespace}/vm")
    assert code == 0, told
    assert [word for word in told.split() if word in ("Created", "Renamed", "Deleted")] == [
        "Created",
        "Renamed",
        "Deleted",
    ]

    operator.stop()
    operator = operate(KEEP_OPERATOR_SWEEP_INTERVAL="5s")  # which counts at once, else it waits for 30 s
    eventually(lambda: kube.get(tenant("team")).status["providers"]["total"], lambda total: total == 0)
    before = _written(database)
    time.sleep(12.0)  # two intervals of the sealer
    assert _written(database) == before

    database.execute("ALTER TABLE keep_operator.ledger DISABLE TRIGGER USER")
    database.execute("UPDATE keep_operator.ledger SET actor = 'nobody' WHERE action = 'Renamed'")
    database.execute("ALTER TABLE keep_operator.ledger ENABLE TRIGGER USER")
    code, told = _run(database, "verify")
    assert code == 1
    assert "the entry was changed after it had been sealed" in told
