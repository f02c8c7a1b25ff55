"""A cluster of kind, where Docker answers: one node in a container, named after the sandbox's folder."""

import hashlib
import subprocess
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Final

from keep_operator.errors import Unavailable
from keep_operator.sandbox import certificates, kubeconfig

READY_WITHIN: Final = timedelta(seconds=180)  # a first start pulls an image of about 1 GB before this clock begins
POLL_S: Final = 0.5  # seconds between two looks at a starting cluster


class Cluster:
    """The kind cluster of one sandbox folder. The user's own kubeconfig is neither read nor written."""

    def __init__(self, folder: Path, kubectl: Path) -> None:
        self._folder = folder
        self._kubectl = kubectl
        self.name = f"keep-operator-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"
        self._node = f"{self.name}-control-plane"
        self._admin = kubeconfig.path(folder, "admin")

    def start(self, tick: Callable[[str], None] = lambda _note: None) -> None:
        """Creates or wakes the cluster and returns when it is ready. Safe to repeat.

        Raises Unavailable with what kind or Docker said.
        """
        if not self.exists():
            tick("creating")
            _run(["kind", "create", "cluster", "--name", self.name, "--kubeconfig", str(self._admin)])
        elif not self._admin.exists():
            kubeconfig.write(self._admin, _run(["kind", "get", "kubeconfig", "--name", self.name]))
        _run(["docker", "start", self._node])
        end = time.monotonic() + READY_WITHIN.total_seconds()
        while not self.ready():
            if time.monotonic() > end:
                raise Unavailable("SandboxTimeout", f"kind's cluster {self.name} is not ready; see `docker logs`")
            tick("waiting for the API server")
            time.sleep(POLL_S)
        self._write_kubeconfigs()

    def exists(self) -> bool:
        """Whether kind knows the cluster, running or not."""
        return self.name in _run(["kind", "get", "clusters"]).split()

    def ready(self) -> bool:
        """Whether the API server says that it is ready."""
        argv = [str(self._kubectl), f"--kubeconfig={self._admin}", "get", "--raw=/readyz", "--request-timeout=5s"]
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0

    def stop(self) -> None:
        """Stops the node and keeps its data. Safe to repeat."""
        if self.exists():
            _run(["docker", "stop", self._node])

    def wipe(self) -> None:
        """Removes the cluster and its data. Safe to repeat."""
        _run(["kind", "delete", "cluster", "--name", self.name, "--kubeconfig", str(self._admin)])

    def _write_kubeconfigs(self) -> None:
        from cryptography import x509  # noqa: PLC0415
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

        pki = "/etc/kubernetes/pki"
        ca = _run(["docker", "exec", self._node, "cat", f"{pki}/ca.crt"]).encode()
        key = _run(["docker", "exec", self._node, "cat", f"{pki}/ca.key"]).encode()
        authority, signer = x509.load_pem_x509_certificate(ca), serialization.load_pem_private_key(key, password=None)
        server = kubeconfig.server(self._admin)
        assert server is not None  # `ready` has just used it
        for name in kubeconfig.USERS.keys() - {"admin"}:
            identity = kubeconfig.USERS[name]
            credential = certificates.signed_client(identity, authority, signer)
            kubeconfig.write(kubeconfig.path(self._folder, name), kubeconfig.render(server, ca, identity, credential))


def _run(argv: list[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip()[-1500:]
        raise Unavailable("SandboxProcessDied", f"`{' '.join(argv[:3])}` ended with {done.returncode}: {said}")
    return done.stdout
