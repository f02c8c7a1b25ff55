from pathlib import Path

import pytest

from keep_operator.errors import Refused
from keep_operator.sandbox import source

pytestmark = pytest.mark.unit


def installed(*names: str) -> source.Which:
    return lambda name: f"/programs/{name}" if name in names else None


SERVERS = ("etcd", "kube-apiserver", "kube-controller-manager")


def assets(folder: Path, *names: str) -> str:
    for name in names:
        (folder / name).touch()
    return str(folder)


def test_the_current_context_is_used_only_when_it_is_asked_for(tmp_path: Path) -> None:
    """CLUSTER=current wins over everything that is installed."""
    found = source.choose("current", assets(tmp_path, *SERVERS), which=installed(*SERVERS, "kind"))
    assert found == source.Current()


def test_a_misspelt_cluster_is_refused_with_what_can_be_said_instead() -> None:
    """CLUSTER=curent must not quietly start a cluster of its own."""
    with pytest.raises(Refused, match="set it to `current`"):
        source.choose("curent", "", which=installed())


def test_kind_is_taken_where_it_is_asked_for_or_its_lack_is_told(tmp_path: Path) -> None:
    """`make e2e-kind` never runs on anything else and calls it kind."""
    folder = assets(tmp_path, *SERVERS)
    assert source.choose("kind", folder, which=installed("kind"), docker_answers=lambda: True) == source.Kind()
    with pytest.raises(Refused, match="no kind on PATH or no Docker engine answers"):
        source.choose("kind", folder, which=installed(), docker_answers=lambda: True)
    with pytest.raises(Refused, match="no kind on PATH or no Docker engine answers"):
        source.choose("kind", folder, which=installed("kind"), docker_answers=lambda: False)


def test_named_programs_win_over_installed_ones(tmp_path: Path) -> None:
    """KUBEBUILDER_ASSETS is what a developer has set on purpose."""
    found = source.choose("", assets(tmp_path, *SERVERS), which=installed(*SERVERS))
    assert found == source.Programs("KUBEBUILDER_ASSETS", *(tmp_path / name for name in SERVERS))


def test_a_folder_without_the_programs_is_refused_and_names_what_is_missing(tmp_path: Path) -> None:
    """A wrong KUBEBUILDER_ASSETS says so at once, instead of building for two minutes."""
    with pytest.raises(Refused, match=f"{tmp_path}, and there is no etcd and no kube-apiserver in it"):
        source.choose("", str(tmp_path), which=installed())


def test_the_folder_of_setup_envtest_works_without_a_controller_manager(tmp_path: Path) -> None:
    """setup-envtest fetches no controller manager: one from PATH is taken, or none."""
    folder = assets(tmp_path, "etcd", "kube-apiserver")
    with_one = source.choose("", folder, which=installed("kube-controller-manager"))
    without = source.choose("", folder, which=installed())
    assert isinstance(with_one, source.Programs)
    assert isinstance(without, source.Programs)
    assert with_one.controller_manager == Path("/programs/kube-controller-manager")
    assert without.controller_manager is None


def test_a_relative_folder_is_understood_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The servers run in another folder, so the path must not depend on it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bin").mkdir()
    assets(tmp_path / "bin", *SERVERS)
    found = source.choose("", "bin", which=installed())
    assert isinstance(found, source.Programs)
    assert found.etcd == tmp_path / "bin/etcd"


def test_all_three_programs_on_path_are_used() -> None:
    """A machine with Kubernetes installed needs neither Docker nor a build."""
    found = source.choose("", "", which=installed(*SERVERS, "kind"), docker_answers=lambda: True)
    assert found == source.Programs("PATH", *(Path("/programs", name) for name in SERVERS))


def test_kind_is_used_where_docker_answers() -> None:
    """Two programs of three are no control plane; kind with a Docker engine is."""
    found = source.choose("", "", which=installed("etcd", "kube-apiserver", "kind"), docker_answers=lambda: True)
    assert found == source.Kind()


@pytest.mark.parametrize(("names", "answers"), [(("kind",), False), ((), True)], ids=["no engine", "no kind"])
def test_otherwise_the_control_plane_is_built(names: tuple[str, ...], answers: bool) -> None:
    """A docker command without an engine is as common as no Docker at all."""
    assert source.choose("", "", which=installed(*names), docker_answers=lambda: answers) == source.Built()


@pytest.mark.parametrize(
    ("script", "answers"),
    [("echo 28.2", True), ("echo; exit 0", False), ("echo cannot connect >&2; exit 1", False)],
    ids=["engine", "empty", "no engine"],
)
def test_docker_is_believed_only_when_its_engine_names_its_version(
    script: str, answers: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some versions of `docker info` end with 0 although no engine answers."""
    program = tmp_path / "docker"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    chosen = source.choose("", "", which=installed("kind"))
    assert chosen == (source.Kind() if answers else source.Built())
