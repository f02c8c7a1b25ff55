"""A Kubernetes control plane of three processes on loopback: etcd, the API server, the controller manager.

::

    etcd (TLS, own authority) ◄── kube-apiserver (TLS, RBAC, client certificates) ◄── kube-controller-manager

There is no scheduler and no node: Deployments and Jobs get their pods, which stay Pending. Ports are chosen once and kept, so that a
kubeconfig stays valid over restarts; a port that someone else has taken meanwhile is replaced.
"""

import contextlib
import http.client
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Final

import pydantic

from keep_operator.errors import Unavailable
from keep_operator.sandbox import cache, kubeconfig, ports
from keep_operator.sandbox.certificates import Authority, Identity
from keep_operator.sandbox.processes import Command, Roster
from keep_operator.sandbox.source import Programs

ETCD, API_SERVER, CONTROLLERS = "etcd", "kube-apiserver", "kube-controller-manager"
ORDER: Final = (ETCD, API_SERVER, CONTROLLERS)  # each needs the one before it; they stop the other way round
READY_WITHIN: Final = timedelta(seconds=120)  # about 4 s on a quiet machine; the bound is for a machine under load
PORT_ATTEMPTS: Final = 3  # a port found free can be taken before its server listens on it
STORE_QUOTA_BYTES: Final = 8_000_000_000  # etcd's highest sensible quota: load tests write more than the default 2 GB
# What the operator and its tests rely on. These names are old; current controller managers keep them as aliases.
CONTROLLER_NAMES: Final = (
    "garbagecollector", "namespace", "job", "ttl-after-finished", "serviceaccount", "clusterrole-aggregation",
    "deployment", "replicaset",
)  # fmt: skip
CONTROLLER_QPS: Final = 500  # requests per second; with the default of 20, collecting 10,000 objects takes for ever
PORT_TAKEN: Final = "address already in use"
INSECURE_PORT_GONE: Final = (1, 24)  # from this version on there is no insecure port to switch off
AUDIT_POLICY: Final = '{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Metadata"}]}\n'
# One mighty identity for all controllers. With a service account for each, as in a real cluster, the controller
# manager asks for their tokens while it starts, and dies of an API server that is away at that moment.
MANAGER: Final = Identity("system:kube-controller-manager", ("system:masters",))


class Ports(pydantic.BaseModel):
    """The loopback ports of one control plane."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    api_server: int
    etcd: int
    etcd_peer: int
    controllers: int


class ControlPlane:
    """One control plane in one folder. Not safe to start from two processes at once: the instance holds the lock."""

    def __init__(
        self,
        folder: Path,
        programs: Programs,
        roster: Roster,
        *,
        audit: bool = False,
        api_server_flags: tuple[str, ...] = (),
    ) -> None:
        self.folder = folder
        self.programs = programs
        self._roster = roster
        self._audit = audit
        self._more_flags = api_server_flags
        self._home = folder / "cluster"
        self._authority = Authority(self._home / "pki")

    @property
    def url(self) -> str:
        """Where the API server listens."""
        return f"https://127.0.0.1:{self._ports().api_server}"

    @property
    def audit_log(self) -> Path:
        """One JSON line per request, when the control plane was made with ``audit=True``."""
        return self.folder / "logs/audit.log"

    def log(self, name: str) -> Path:
        """The log of one of the three processes."""
        return self.folder / f"logs/{name}.log"

    def start(self, tick: Callable[[str], None] = lambda _note: None) -> None:
        """Starts what does not run, and returns when the API server and the controllers are ready. Safe to repeat.

        Raises Unavailable, with the end of the log, when a process dies or is not ready in time.
        """
        self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._authority.ensure():
            self._forget_kubeconfigs()
        for attempt in range(1, PORT_ATTEMPTS + 1):
            try:
                self._start(tick)
            except Unavailable as error:
                if PORT_TAKEN not in str(error) or attempt == PORT_ATTEMPTS:
                    raise
                self.stop()
                self._choose_ports()
            else:
                return

    def _start(self, tick: Callable[[str], None]) -> None:
        if not any(self._roster.running(name) for name in ORDER):  # a running server holds its port itself
            self._keep_or_choose_ports()
        self._write_kubeconfigs()
        self._start_etcd(tick)
        self.start_api_server(tick)
        self._start_controllers(tick)

    def stop(self) -> None:
        """Stops all three, in order. Safe to repeat."""
        for name in reversed(ORDER):
            self._roster.stop(name)

    def start_api_server(self, tick: Callable[[str], None] = lambda _note: None) -> None:
        """Starts the API server alone, on the same port as before, and returns when it is ready. Safe to repeat."""
        if not self._roster.running(API_SERVER):
            self._roster.start(self._api_server())
        self._wait(lambda: self.answers("/readyz"), API_SERVER, "the API server was ready", tick)

    def stop_api_server(self, *, with_signal: int | None = None) -> None:
        """Stops the API server alone; etcd and the controllers go on. ``with_signal=SIGKILL``: at once."""
        self._roster.stop(API_SERVER, with_signal=with_signal)

    def restart_api_server(self, *, with_signal: int | None = None) -> None:
        """Stops and starts the API server on the same port, and returns when it and the controllers are ready.

        Raises Unavailable when another process holds the port for long: clients know the address, so no other will do.
        """
        self.stop_api_server(with_signal=with_signal)
        for attempt in range(1, PORT_ATTEMPTS + 1):
            try:
                self.start_api_server()
                break
            except Unavailable as error:
                if PORT_TAKEN not in str(error) or attempt == PORT_ATTEMPTS:
                    raise
                time.sleep(attempt)
        self._start_controllers(lambda _note: None)

    def issue(self, identity: Identity) -> str:
        """A kubeconfig, YAML, for any user and groups: what tests of permissions need."""
        return kubeconfig.render(self.url, self._authority.ca, identity, self._authority.client(identity))

    def answers(self, path: str) -> bool:
        """Whether the API server answers 200 to the administrator at ``path``, such as ``/readyz``."""
        return self._get(self._ports().api_server, path, admin=True)

    def version(self) -> tuple[int, int]:
        """Major and minor version of the API server's program."""
        done = subprocess.run([self.programs.api_server, "--version"], capture_output=True, text=True, check=False)
        found = re.search(r"v(\d+)\.(\d+)", done.stdout)
        if not found:
            said = (done.stdout + done.stderr).strip()[-500:]
            raise Unavailable("SandboxProcessDied", f"{self.programs.api_server} does not tell its version: {said}")
        return int(found[1]), int(found[2])

    # -- the processes --------------------------------------------------------------------------------------------

    def _start_etcd(self, tick: Callable[[str], None]) -> None:
        ports = self._ports()
        if not self._roster.running(ETCD):
            client, peer = f"https://127.0.0.1:{ports.etcd}", f"https://127.0.0.1:{ports.etcd_peer}"
            pki = self._authority.file
            data = self._home / "etcd"
            data.mkdir(exist_ok=True, mode=0o700)  # etcd warns about any other mode
            flags = [
                f"--data-dir={data}",
                f"--listen-client-urls={client}",
                f"--advertise-client-urls={client}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=default={peer}",
                f"--quota-backend-bytes={STORE_QUOTA_BYTES}",
                "--unsafe-no-fsync",  # a sandbox survives kill -9, not a power cut; reset makes a new one
            ]
            for side in ("", "peer-"):
                flags += [f"--{side}cert-file={pki('etcd-server.crt')}", f"--{side}key-file={pki('etcd-server.key')}"]
                flags += [f"--{side}trusted-ca-file={pki('etcd-ca.crt')}", f"--{side}client-cert-auth"]
            self._roster.start(self._command(ETCD, self.programs.etcd, flags))
        self._wait(lambda: _listens(ports.etcd), ETCD, "etcd listened", tick)

    def _api_server(self) -> Command:
        ports, pki = self._ports(), self._authority.file
        flags = [
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={ports.api_server}",
            f"--tls-cert-file={pki('server.crt')}",
            f"--tls-private-key-file={pki('server.key')}",
            f"--client-ca-file={pki('ca.crt')}",
            f"--etcd-servers=https://127.0.0.1:{ports.etcd}",
            f"--etcd-cafile={pki('etcd-ca.crt')}",
            f"--etcd-certfile={pki('etcd-client.crt')}",
            f"--etcd-keyfile={pki('etcd-client.key')}",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--endpoint-reconciler-type=none",  # loopback is no valid endpoint address
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={pki('service-account.key')}",
            f"--service-account-signing-key-file={pki('service-account.key')}",
            "--disable-admission-plugins=ServiceAccount",  # pods never run here: no token need be mounted
        ]
        if self._audit:
            policy = self._home / "audit-policy.json"
            policy.write_text(AUDIT_POLICY)
            flags += [f"--audit-policy-file={policy}", f"--audit-log-path={self.audit_log}"]
        return self._command(API_SERVER, self.programs.api_server, [*flags, *self._more_flags])

    def _start_controllers(self, tick: Callable[[str], None]) -> None:
        if self.programs.controller_manager is None:
            return
        ports, pki = self._ports(), self._authority.file
        if not self._roster.running(CONTROLLERS):
            flags = [
                "--bind-address=127.0.0.1",
                f"--secure-port={ports.controllers}",
                f"--tls-cert-file={pki('server.crt')}",
                f"--tls-private-key-file={pki('server.key')}",
                f"--kubeconfig={kubeconfig.path(self._home, 'controllers')}",
                "--leader-elect=false",
                f"--controllers={','.join(CONTROLLER_NAMES)}",
                f"--service-account-private-key-file={pki('service-account.key')}",
                f"--root-ca-file={pki('ca.crt')}",
                f"--kube-api-qps={CONTROLLER_QPS}",
                f"--kube-api-burst={2 * CONTROLLER_QPS}",
            ]
            if self.version() < INSECURE_PORT_GONE:
                flags.append("--port=0")
            self._roster.start(self._command(CONTROLLERS, self.programs.controller_manager, flags))
        work_done = "/api/v1/namespaces/default/serviceaccounts/default"  # the first thing that a controller makes
        self._wait(
            lambda: self._get(ports.controllers, "/healthz") and self.answers(work_done),
            CONTROLLERS,
            "the controllers worked",
            tick,
        )

    def _command(self, name: str, program: Path, flags: list[str]) -> Command:
        # The API server waits for requests in flight, watches among them; nothing is lost when it is cut short.
        grace = timedelta(seconds=3) if name == API_SERVER else timedelta(seconds=10)
        return Command(name, [program, *flags], self.log(name), self._home, rank=ORDER.index(name), grace=grace)

    def _wait(self, ready: Callable[[], bool], name: str, what: str, tick: Callable[[str], None]) -> None:
        # A server that cannot reach the one before it fails for that reason, so all so far are watched.
        watching = ORDER[: ORDER.index(name) + 1]
        self._roster.wait_until(ready, watching=watching, within=READY_WITHIN, what=what, tick=lambda: tick(name))

    # -- ports and kubeconfigs ------------------------------------------------------------------------------------

    def _ports(self) -> Ports:
        return Ports.model_validate_json((self._home / "ports.json").read_text())

    def _keep_or_choose_ports(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            if all(ports.free(port) for port in self._ports().model_dump().values()):
                return
        self._choose_ports()

    def _choose_ports(self) -> None:
        chosen = Ports(**dict(zip(Ports.model_fields, ports.choose(len(Ports.model_fields)), strict=True)))
        cache.write_atomically(self._home / "ports.json", chosen.model_dump_json(indent=1) + "\n")

    def _write_kubeconfigs(self) -> None:
        wanted = {kubeconfig.path(self.folder, name): identity for name, identity in kubeconfig.USERS.items()}
        wanted[kubeconfig.path(self._home, "controllers")] = MANAGER
        for target, identity in wanted.items():
            if kubeconfig.server(target) != self.url:
                kubeconfig.write(target, self.issue(identity))
        admin = self._authority.client(kubeconfig.ADMIN)
        cache.write_atomically(self._admin_pem, (admin.certificate + admin.key).decode(), mode=0o600)

    @property
    def _admin_pem(self) -> Path:
        return self._home / "admin.pem"

    def _get(self, port: int, path: str, *, admin: bool = False) -> bool:
        trust = ssl.create_default_context(cafile=str(self._authority.file("ca.crt")))
        if admin:
            trust.load_cert_chain(self._admin_pem)
        with contextlib.closing(http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=trust)) as connection:
            try:
                connection.request("GET", path)
                return connection.getresponse().status == http.HTTPStatus.OK
            except (OSError, http.client.HTTPException):
                return False

    def wipe(self) -> None:
        """Removes everything the cluster ever held, with its certificates. Stop it first."""
        shutil.rmtree(self._home, ignore_errors=True)
        self._forget_kubeconfigs()

    def _forget_kubeconfigs(self) -> None:
        for name in kubeconfig.USERS:
            kubeconfig.path(self.folder, name).unlink(missing_ok=True)
        kubeconfig.path(self._home, "controllers").unlink(missing_ok=True)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
