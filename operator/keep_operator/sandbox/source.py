"""Which cluster a sandbox uses, decided from the environment and from what is installed.

::

    CLUSTER=current                                   ─► the cluster of the user's current context; nothing is started
    KUBEBUILDER_ASSETS=<folder>                       ─► the programs in that folder
    etcd, kube-apiserver, kube-controller-manager on PATH ─► those
    kind on PATH and a Docker engine answers          ─► kind
    otherwise                                         ─► the programs built from Debian's source package
"""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from keep_operator.errors import Refused

DOCKER_ANSWERS_WITHIN_S: Final = 5  # seconds; a socket of a stopped Docker Desktop accepts and never answers


@dataclass(frozen=True, slots=True)
class Programs:
    """The three programs of a control plane; without a controller manager nothing owned is ever collected."""

    origin: str
    etcd: Path
    api_server: Path
    controller_manager: Path | None


@dataclass(frozen=True, slots=True)
class Built:
    """The programs that ``builder`` makes, once."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A cluster of kind, in Docker."""


@dataclass(frozen=True, slots=True)
class Current:
    """The cluster of the user's current context."""


Source = Programs | Built | Kind | Current
Which = Callable[[str], str | None]


def choose(
    cluster: str, assets: str, *, which: Which = shutil.which, docker_answers: Callable[[], bool] | None = None
) -> Source:
    """The cluster to use for ``CLUSTER`` and ``KUBEBUILDER_ASSETS`` (empty = not set).

    Docker is asked only when kind is there and nothing earlier matched. Raises Refused, with the remedy, when a
    setting names something that is not there.
    """
    if cluster == "current":
        return Current()
    if cluster == "kind":
        if which("kind") and (docker_answers or _docker_answers)():
            return Kind()
        raise Refused(
            "SandboxSettingInvalid",
            "CLUSTER is kind, and there is no kind on PATH or no Docker engine answers: install both, or unset it",
        )
    if cluster:
        raise Refused(
            "SandboxSettingInvalid",
            f"CLUSTER is {cluster!r}: set it to `current` to use the cluster of your current context, to `kind` for one of kind, "
            "or leave it unset to get a sandbox of your own",
        )
    if assets:
        return _assets(Path(assets).absolute(), which)
    found = {name: which(name) for name in ("etcd", "kube-apiserver", "kube-controller-manager")}
    etcd, server, manager = found.values()
    if etcd and server and manager:
        return Programs("PATH", *(Path(program).absolute() for program in (etcd, server, manager)))
    if which("kind") and (docker_answers or _docker_answers)():
        return Kind()
    return Built()


def built(folder: Path) -> Programs:
    """The programs in a folder that ``builder`` made."""
    return Programs("built", folder / "etcd", folder / "kube-apiserver", folder / "kube-controller-manager")


def _assets(folder: Path, which: Which) -> Programs:
    etcd, server, manager = (folder / name for name in ("etcd", "kube-apiserver", "kube-controller-manager"))
    missing = [program.name for program in (etcd, server) if not program.is_file()]
    if missing:
        raise Refused(
            "SandboxSettingInvalid",
            f"KUBEBUILDER_ASSETS is {folder}, and there is no {' and no '.join(missing)} in it: "
            "name the folder that holds etcd, kube-apiserver and kube-controller-manager, or unset it",
        )
    if not manager.is_file():  # setup-envtest fetches none
        found = which(manager.name)
        return Programs("KUBEBUILDER_ASSETS", etcd, server, Path(found) if found else None)
    return Programs("KUBEBUILDER_ASSETS", etcd, server, manager)


def _docker_answers() -> bool:
    try:
        done = subprocess.run(
            ["docker", "info", "--format", "{{.ServerVersion}}"],
            capture_output=True,
            timeout=DOCKER_ANSWERS_WITHIN_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and bool(done.stdout.strip())
