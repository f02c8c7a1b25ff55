"""At rest, and over a restart, nothing is written: counted by the API server and by PostgreSQL (A-DR-2, P-3, P-5)."""

import os
import time
from collections import Counter

import pytest

from e2e.cluster import Database, Kube, at_once, eventually, provider, tenant, window
from e2e.conftest import Operate
from keep_operator.resources.kinds import PROVIDERS

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PROVIDER_COUNT = 2000 if os.environ.get("KEEP_OPERATOR_SOAK") else 300
QUIET_S = 300.0


def _writes_to_us(kube: Kube) -> Counter[str]:
    """Writes to our kinds and to Events; Lease renewals are counted apart."""
    words = ("tenants", "providers", "events")
    return Counter({target: n for target, n in kube.writes().items() if target.split()[1].split("/")[0] in words})


def _rows_written(database: Database) -> Counter[str]:
    """Rows inserted, updated and deleted since the database was made, by table; exact once its sessions have ended."""
    sessions = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    eventually(lambda: database.rows(sessions), lambda rows: rows == [], "the end of the operator's sessions")
    counted = database.rows(
        "SELECT relname, n_tup_ins + n_tup_upd + n_tup_del AS writes FROM pg_stat_user_tables"
        " WHERE schemaname = 'keep_operator'"
    )
    return Counter({row["relname"]: row["writes"] for row in counted})


def test_restart_over_many_ready_objects(operate: Operate, kube: Kube, namespace: str, database: Database) -> None:
    """The operator is restarted over many Ready objects, sweeps and rests: one row says who leads, nothing else is written."""
    patient = {"KEEP_OPERATOR_LEASE_SECONDS": "15"}  # nobody waits to take over, and the machine may be busy
    operator = operate(**patient)
    kube.create(tenant("team"))
    things = [provider(f"vm-{n:04}", namespace, "team") for n in range(PROVIDER_COUNT)]
    at_once(kube.create, things)
    everything = {"total": PROVIDER_COUNT, "ready": PROVIDER_COUNT}
    kube.await_all_ready(*things, patience_s=240)
    operator.stop()
    operator = operate(**patient)  # which counts at once, else it waits for 30 s
    eventually(
        lambda: kube.get(tenant("team")).status.get("providers"),
        lambda counts: counts == everything,
        "the Tenant's counts",
        patience_s=240,
    )
    eventually(
        lambda: database.rows("SELECT 1 FROM keep_operator.ledger_pending"), lambda rows: rows == [], "all sealed"
    )
    versions = {thing.uid: thing.version for thing in kube.objects(PROVIDERS, namespace)}
    operator.stop()
    writes, rows = _writes_to_us(kube), _rows_written(database)
    assert rows["provider"] == PROVIDER_COUNT

    again = operate(**patient, KEEP_OPERATOR_SWEEP_INTERVAL="5s")
    eventually(again.reconciles, lambda n: n > PROVIDER_COUNT, "a look at each object", patience_s=120)
    time.sleep(window(QUIET_S, short_s=12.0))  # two sweeps at least
    again.stop()
    assert _writes_to_us(kube) - writes == Counter()
    assert _rows_written(database) - rows == Counter({"installation": 1})
    assert {thing.uid: thing.version for thing in kube.objects(PROVIDERS, namespace)} == versions
