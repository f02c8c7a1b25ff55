"""Several replicas: one writes, the others are warm, and whoever is deposed cannot write any more (A-CTL-2)."""

import signal

import pytest

from e2e.cluster import Database, Kube, eventually, provider
from e2e.conftest import Operate
from e2e.operators import Operator

pytestmark = pytest.mark.e2e


def _leads(operator: Operator) -> bool:
    return "leading, epoch" in operator.page("/readyz")[1]


def test_standby_is_ready_and_does_nothing(operate: Operate, kube: Kube, namespace: str) -> None:
    """A standby answers ready, keeps its cache warm, and looks at no object while another leads."""
    first = operate()
    second = operate()
    assert _leads(first)
    assert "standing by" in second.page("/readyz")[1]
    kube.create(provider("vm", namespace))
    kube.await_ready(provider("vm", namespace))
    eventually(lambda: second.metrics("keep_operator_objects")['kind="Provider"'], lambda n: n == 1, "warm cache")
    assert second.reconciles() == 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_a_standby_takes_over(how: int, operate: Operate, kube: Kube, namespace: str, database: Database) -> None:
    """When the leader is gone a standby serves what comes next: at once after a stop, after the Lease after a kill."""
    first, second = operate(), operate()
    kube.create(provider("vm", namespace))
    kube.await_ready(provider("vm", namespace))
    first.stop(how)
    late = provider("late", namespace)
    kube.create(late)
    kube.await_ready(late)
    assert _leads(second)
    assert len(database.providers()) == 2


def test_a_paused_leader_cannot_write_when_it_wakes(
    operate: Operate, kube: Kube, namespace: str, database: Database
) -> None:
    """A leader that was frozen while another took over wakes up deposed: it ends, and has written nothing twice."""
    first = operate()
    second = operate()
    kube.create(provider("vm", namespace))
    kube.await_ready(provider("vm", namespace))
    first.process.send_signal(signal.SIGSTOP)
    try:
        eventually(lambda: _leads(second), bool, "take-over")
        kube.edit(provider("vm", namespace), externalName="renamed")
        eventually(
            lambda: kube.get(provider("vm", namespace)), lambda t: t.ready and t.status["externalName"] == "renamed"
        )
    finally:
        first.process.send_signal(signal.SIGCONT)
    assert first.process.wait(30) == 1
    assert "LeadershipLost" in first.log
    (row,) = database.providers()
    assert row["external_name"] == "renamed"
    assert [entry["action"] for entry in database.ledger("Provider")] == ["Created", "Renamed"]


def test_a_write_of_an_older_epoch_is_refused(operate: Operate, kube: Kube, namespace: str, database: Database) -> None:
    """Where the database knows a newer leader, this one's write changes nothing, and it ends."""
    operator = operate()
    kube.create(provider("vm", namespace))
    kube.await_ready(provider("vm", namespace))
    database.execute("UPDATE keep_operator.installation SET leader_epoch = leader_epoch + 1")
    late = provider("late", namespace)
    kube.create(late)
    assert operator.process.wait(30) == 1
    assert [row["owner_name"] for row in database.providers()] == ["vm"]
    assert "LeadershipLost" in operator.log


def test_a_deleted_lease_does_not_lock_everybody_out(operate: Operate, kube: Kube, namespace: str) -> None:
    """Somebody deletes the Lease: its count begins anew, and the next leader lifts it above what the database knows."""
    first = operate()
    first.stop()
    kube.send("DELETE", "/apis/coordination.k8s.io/v1/namespaces/default/leases/keep-operator")
    second = operate()
    kube.create(provider("vm", namespace))
    kube.await_ready(provider("vm", namespace))
    assert _leads(second)
