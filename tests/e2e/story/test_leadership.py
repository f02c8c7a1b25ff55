"""Several replicas: one writes, the others are warm, and whoever is deposed cannot write any more (A-CTL-2)."""

import signal
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from e2e.between import Line, line
from e2e.cluster import Database, Json, Kube, at_once, eventually, provider, tenant
from e2e.conftest import Operate
from e2e.operators import Operator
from keep_operator.resources.kinds import LEASES
from keep_operator.sandbox.instance import Sandbox

pytestmark = pytest.mark.e2e


LEASE = LEASES.path("default", "keep-operator")


def _lease(kube: Kube) -> Json:
    """What the Lease says: its holder, and how often it has changed hands."""
    spec: Json = kube.send("GET", LEASE)[1]["spec"]
    return spec


def test_standby_is_ready_and_does_nothing(operate: Operate, kube: Kube, namespace: str) -> None:
    """A standby answers ready, keeps its cache warm, and looks at no object while another leads."""
    first = operate()
    second = operate()
    assert first.leads
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
    assert second.leads
    assert len(database.providers()) == 2


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_a_standby_takes_over_in_the_middle_of_work(
    how: int, operate: Operate, kube: Kube, namespace: str, database: Database
) -> None:
    """The leader goes while a hundred Providers come and change their names: the Lease passes once, no write is done twice."""
    length = {"KEEP_OPERATOR_LEASE_SECONDS": "10"}  # the default
    first, second = operate(**length), operate(**length)
    kube.create(tenant("team"))
    kube.await_ready(tenant("team"))
    before = _lease(kube)
    names = [f"vm-{number:03}" for number in range(120)]

    def make_and_rename(name: str) -> None:
        vm = provider(name, namespace, "team")
        kube.create(vm)
        kube.edit(vm, externalName=f"new-{name}")

    with ThreadPoolExecutor(1) as pool:
        applying = pool.submit(at_once, make_and_rename, names)
        eventually(lambda: len(database.ledger("Provider")), lambda count: count >= 20, "the first records")
        code = first.stop(how)
        applying.result()
    taken = eventually(
        lambda: _lease(kube), lambda spec: spec["holderIdentity"] not in ("", before["holderIdentity"]), "take-over"
    )
    for name in names:
        kube.await_state(provider(name, namespace), lambda thing: thing.ready, "Ready", patience_s=120)
    assert taken["leaseTransitions"] == before["leaseTransitions"] + 1
    assert _lease(kube)["holderIdentity"] == taken["holderIdentity"]
    assert database.rows("SELECT leader_epoch FROM keep_operator.installation") == [
        {"leader_epoch": taken["leaseTransitions"]}
    ]
    assert second.leads
    done = Counter((entry["name"], entry["action"]) for entry in database.ledger("Provider"))
    assert max(done.values()) == 1
    assert {name for name, action in done if action == "Created"} == set(names)
    assert {action for _, action in done} <= {"Created", "Renamed"}
    assert {row["owner_name"]: row["external_name"] for row in database.providers()} == {
        name: f"new-{name}" for name in names
    }
    if how == signal.SIGTERM:
        assert code == 0
        assert '"level": "error"' not in first.log


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
        eventually(lambda: second.leads, bool, "take-over")
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
    kube.send("DELETE", LEASE)
    second = operate()
    kube.create(provider("vm", namespace))
    kube.await_ready(provider("vm", namespace))
    assert second.leads


@pytest.mark.parametrize("break_", [Line.cut, Line.die], ids=["cut", "dead"])
def test_a_leader_that_is_cut_off_writes_nothing_more(
    break_: Callable[[Line], None],
    operate: Operate,
    kube: Kube,
    namespace: str,
    database: Database,
    sandbox: Sandbox,
    tmp_path: Path,
) -> None:
    """Only the leader loses the API server, in the middle of work, and still has the database: it ends, the other goes on.

    Whether its connections are cut or merely go dead, what the standby does begins after the last thing that it wrote.
    """
    with line(sandbox.kubeconfig("operator"), tmp_path) as to_server:
        first = operate(KUBECONFIG=str(to_server.kubeconfig))
        second = operate()
        assert first.leads
        things = [provider(f"vm-{n}", namespace) for n in range(60)]
        kube.create(*things[:30])
        eventually(lambda: len(database.providers()), lambda count: count >= 5, "work under way")
        break_(to_server)
        kube.create(*things[30:])
        eventually(lambda: second.leads, bool, "take-over")
        (known,) = database.rows("SELECT leader_epoch FROM keep_operator.installation")
        assert f"epoch {known['leader_epoch']}" in second.page("/readyz")[1]
        before = database.ledger("Provider")
        kube.await_all_ready(*things)
        assert first.process.wait(30) == 1
    assert "LeadershipLost" in first.log
    assert [entry["action"] for entry in database.ledger("Provider")] == ["Created"] * len(things)
    after = {entry["name"] for entry in database.ledger("Provider")[len(before) :]}
    assert after and not after & inserted(first)
    assert inserted(second) <= {thing["metadata"]["name"] for thing in things} - inserted(first)


def inserted(operator: Operator) -> set[str]:
    """The Providers whose record this process has made, by its own account."""
    done = [line for line in operator.told("reconciled") if "Insert" in line.get("actions", "")]
    return {line["object"].rpartition("/")[2] for line in done}
