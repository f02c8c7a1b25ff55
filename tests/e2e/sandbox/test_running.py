"""A running sandbox: real servers, faults included. It has a folder of its own, since these tests stop its parts."""

import json
import os
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg
import pytest

from keep_operator.errors import Refused
from keep_operator.sandbox import display
from keep_operator.sandbox.instance import Sandbox
from keep_operator.sandbox.options import Options

pytestmark = pytest.mark.e2e

SERVERS = ("etcd", "kube-apiserver", "kube-controller-manager", "postgres")


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A sandbox in a folder whose name has a blank and a quote, since users have such folders."""
    assets = os.environ.get("KUBEBUILDER_ASSETS", "")
    box = Sandbox(Options(tmp_path_factory.mktemp("it's mine"), assets=assets, audit=True))
    with display.opened() as shown, box.attended(shown):
        yield box


def start(box: Sandbox) -> None:
    with display.opened() as shown:
        box.start(shown)


def pids(box: Sandbox) -> dict[str, int]:
    return {process.name: process.pid for process in box.roster.all() if process.alive}


def shell(box: Sandbox, script: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs a script as a user does who has evaluated `sandbox env`."""
    argv = ["bash", "-euc", f'eval "$1"; {script}', "bash", box.exports()]
    return subprocess.run(argv, capture_output=True, text=True, check=check, timeout=120)


def wait(condition: object, what: str, within_s: float = 120) -> None:
    assert callable(condition)
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, f"still not: {what}"
        time.sleep(0.1)


def test_everything_runs_and_says_so(box: Sandbox) -> None:
    """`sandbox status` shows four servers."""
    assert [(part.name, part.state) for part in box.status()] == [(name, "running") for name in SERVERS]


def test_starting_again_changes_nothing(box: Sandbox) -> None:
    """Whoever is not sure whether it runs just starts it."""
    before = pids(box)
    start(box)
    assert pids(box) == before


def test_two_starts_at_once_make_one_sandbox(box: Sandbox) -> None:
    """Two terminals, one folder: one starts, the other waits and finds everything there."""
    with display.opened() as shown:
        box.stop(shown)
    twins = [Sandbox(box.options), Sandbox(box.options)]
    with ThreadPoolExecutor() as threads:
        list(threads.map(start, twins))
    assert sorted(pids(box)) == sorted(SERVERS)
    commands = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    assert sum(f"--data-dir={box.folder}" in command for command in commands) == 1


def test_a_server_that_died_is_started_again_alone(box: Sandbox) -> None:
    """What runs is left alone, so nobody loses a watch or a session."""
    before = pids(box)
    box.roster.stop("kube-controller-manager", with_signal=signal.SIGKILL)
    assert [part.name for part in box.status() if not part.fine] == ["kube-controller-manager"]
    start(box)
    after = pids(box)
    assert after.pop("kube-controller-manager") != before.pop("kube-controller-manager")
    assert after == before


def test_a_shell_gets_current_tools_and_the_right_cluster(box: Sandbox) -> None:
    """`eval "$(keep-operator sandbox env)"`, then kubectl and helm work; Debian's old kubectl is not among them."""
    said = json.loads(shell(box, "kubectl version --output json").stdout)
    assert int(said["clientVersion"]["minor"].rstrip("+")) >= 30
    assert "serverVersion" in said
    assert shell(box, "helm list --all-namespaces").stdout.startswith("NAME")
    assert shell(box, 'wc -c < "$KEEP_OPERATOR_ENCRYPTION_KEY_FILE"').stdout.strip() == "45"


def test_permissions_are_checked_as_in_a_real_cluster(box: Sandbox) -> None:
    """The operator and a developer may do what roles grant, and none is granted yet; the administrator may do all."""
    answers = {}
    for name in ("admin", "operator", "developer"):
        config = box.kubeconfig(name)
        script = f"kubectl --kubeconfig '{str(config).replace(chr(39), chr(39) + chr(92) + chr(39) + chr(39))}' "
        answers[name] = shell(box, script + "auth can-i list secrets", check=False).stdout.strip()
    assert answers == {"admin": "yes", "operator": "no", "developer": "no"}
    users = {json.loads(line)["user"]["username"] for line in box.control_plane().audit_log.read_text().splitlines()}
    assert {"admin", "keep-operator", "developer"} <= users


def test_what_is_owned_goes_with_its_owner(box: Sandbox) -> None:
    """The garbage collector works, and a namespace finishes its deletion."""
    shell(box, "kubectl create namespace owned; kubectl -n owned create configmap owner")
    uid = shell(box, "kubectl -n owned get configmap owner -o jsonpath={.metadata.uid}").stdout
    reference = [{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}]
    patch = json.dumps({"metadata": {"ownerReferences": reference}})
    shell(box, f"kubectl -n owned create configmap child; kubectl -n owned patch configmap child -p '{patch}'")
    shell(box, "kubectl -n owned delete configmap owner")
    shell(box, "kubectl -n owned wait --for=delete configmap/child --timeout=100s")
    shell(box, "kubectl delete namespace owned --timeout=100s")


def test_the_api_server_comes_back_on_its_port(box: Sandbox) -> None:
    """A fault test takes it away, cleanly or not, and clients find it again under the same address.

    A passer-by that has the port for a moment does not send them elsewhere.
    """
    plane = box.control_plane()
    url, before = plane.url, pids(box)
    shell(box, "kubectl create namespace survivor")
    plane.stop_api_server(with_signal=signal.SIGKILL)
    assert not plane.answers("/readyz")
    passer_by = socket.create_server(("127.0.0.1", int(url.rpartition(":")[2])))
    leaving = threading.Timer(2.0, passer_by.close)
    leaving.start()
    plane.restart_api_server()
    leaving.join()
    assert plane.url == url
    assert pids(box)["etcd"] == before["etcd"]
    shell(box, "kubectl get namespace survivor; kubectl delete namespace survivor")


def test_nothing_listens_beyond_this_machine(box: Sandbox) -> None:
    """A sandbox on a laptop in a café is nobody else's."""
    found = set()
    for name, pid in pids(box).items():
        for connection in psutil.Process(pid).net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN:
                assert connection.laddr.ip == "127.0.0.1", name
                found.add(name)
    assert found == set(SERVERS)


def test_the_store_lets_only_the_api_server_in(box: Sandbox) -> None:
    """Another user of the machine cannot read Secrets past the API server, not even with a cluster user's certificate."""
    cluster = box.folder / "cluster"
    ports = json.loads((cluster / "ports.json").read_text())

    def ask(port: int, certificate: Path, key: Path) -> bytes:
        trust = ssl.create_default_context(cafile=str(cluster / "pki/etcd-ca.crt"))
        trust.load_cert_chain(certificate, key)
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
            trust.wrap_socket(raw, server_hostname="127.0.0.1") as secured,
        ):
            secured.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
            return secured.recv(100)

    assert ask(ports["etcd"], cluster / "pki/etcd-client.crt", cluster / "pki/etcd-client.key").startswith(b"HTTP/1.1")
    for name in ("etcd", "etcd_peer"):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask(ports[name], cluster / "admin.pem", cluster / "admin.pem")


def test_the_database_survives_a_kill_and_keeps_its_url(box: Sandbox) -> None:
    """A fault test kills it; what was committed is still there."""
    url = box.database_url()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
    box.database.restart(with_signal=signal.SIGKILL)
    assert box.database_url() == url
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT * FROM kept").fetchall() == [(1,)]
        connection.execute("DROP TABLE kept")


def test_a_foreign_key_error_stands_in_the_log_and_no_value_does(box: Sandbox) -> None:
    """The log is where the first-deployment fault would show; values of parameters, secrets perhaps, stay out."""
    with psycopg.connect(box.database_url(), autocommit=True) as connection:
        connection.execute("CREATE TABLE parent (id int PRIMARY KEY)")
        connection.execute("CREATE TABLE child (id int REFERENCES parent, secret text)")
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            connection.execute("INSERT INTO child VALUES (%s, %s)", [7, "canary"])
        connection.execute("DROP TABLE child, parent")
    log = box.database.log.read_text()
    assert "violates foreign key constraint" in log
    assert "canary" not in log


def test_the_database_wants_its_password(box: Sandbox) -> None:
    """Another user of the machine is not let in."""
    stranger = box.database_url().replace(box.database.password, "guess")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(stranger)


def test_no_secret_stands_in_a_log(box: Sandbox) -> None:
    """Neither the password nor the encryption key nor a private key."""
    secrets = [box.database.password, box.key_file.read_text().strip(), "PRIVATE KEY"]
    for log in box.logs.iterdir():
        text = log.read_text(errors="replace")
        assert not [secret for secret in secrets if secret in text], log


def test_a_port_that_someone_else_took_is_replaced(box: Sandbox) -> None:
    """After a pause another program has the port: the sandbox starts on a new one and its kubeconfig follows."""
    taken = box.control_plane().url
    with display.opened() as shown:
        box.stop(shown)
    assert pids(box) == {}
    with socket.create_server(("127.0.0.1", int(taken.rpartition(":")[2]))):
        start(box)
    assert box.control_plane().url != taken
    shell(box, "kubectl get namespace default")


def test_the_current_context_is_used_when_it_is_asked_for(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CLUSTER=current takes the cluster of the user's context, starts none, and changes nothing of the user's."""
    own = tmp_path / "config"
    own.write_text(box.kubeconfig().read_text())
    monkeypatch.setenv("KUBECONFIG", str(own))
    guest = Sandbox(Options(tmp_path / "guest", cluster="current", database_url=box.database_url()))
    start(guest)
    assert [(part.name, part.state) for part in guest.status()] == [("cluster", "given"), ("database", "given")]
    assert guest.roster.all() == ()
    assert guest.environment()["KEEP_OPERATOR_DATABASE_URL"] == box.database_url()
    own.unlink()
    shell(guest, "kubectl get namespace default")
    monkeypatch.setenv("KUBECONFIG", str(guest.kubeconfig()))
    start(guest)
    with pytest.raises(Refused, match="this sandbox uses a cluster that it did not start"):
        guest.control_plane()
