import io
import os
import tarfile
import time
from pathlib import Path

import psutil
import pytest

from keep_operator.errors import Unavailable
from keep_operator.sandbox import recipe
from unit.sandbox.recorder import Silent

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ("write /x/y.a: No space left on device", "the disk is full"),
        ("compile: signal: killed", "killed, most likely for want of memory"),
        ("fork/exec: cannot allocate memory", "killed, most likely for want of memory"),
        ("W: GPG error: NO_PUBKEY 0E98404D386FA1D9", "does not trust the signature"),
        ("Err:1 http://x bookworm InRelease Temporary failure resolving 'x'", "cannot reach a Debian mirror"),
        ("E: Unable to find a source package for kubernetes", "do not offer Debian bookworm"),
        ("a fault that nobody has seen before", "building Kubernetes failed"),
    ],
)
def test_a_failed_step_says_what_to_do(said: str, meaning: str, tmp_path: Path) -> None:
    """Every failure names its meaning, the way around the build, and the log."""
    error = recipe.diagnosed(said, "the fact", tmp_path / "build.log")
    assert meaning in error.message
    assert "KUBEBUILDER_ASSETS" in error.message
    assert f"the fact\nLog: {tmp_path}/build.log" in error.message


@pytest.fixture
def place(tmp_path: Path) -> recipe.Site:
    place = recipe.Site(tmp_path)
    place.work.mkdir()
    return place


def test_a_command_that_fails_shows_the_end_of_what_it_said(place: recipe.Site) -> None:
    """The reason stands on the screen, the whole story in the log."""
    script = "seq 100; echo the reason >&2; exit 7"
    with pytest.raises(Unavailable, match=r"`sh` ended with 7:\n(?s:.*)the reason") as caught:
        recipe.run(place, Silent(), ["sh", "-c", script])
    assert "\n50\n" not in caught.value.message
    assert "\n50\n" in place.log.read_text()


def test_an_interrupted_step_leaves_no_process_behind(place: recipe.Site) -> None:
    """Ctrl-C ends the compiler and everything that it has started."""

    class Interrupting(Silent):
        def tick(self, note: str = "") -> None:
            if (place.work / "started").exists():
                raise KeyboardInterrupt

    script = "sleep 600 & echo $! > pid; mv pid started; wait"
    with pytest.raises(KeyboardInterrupt):
        recipe.run(place, Interrupting(), ["sh", "-c", script])
    grandchild = int((place.work / "started").read_text())
    end = time.monotonic() + 30
    while psutil.pid_exists(grandchild) and psutil.Process(grandchild).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end, "the compiler's own child still runs"
        time.sleep(0.05)


def test_a_killed_compiler_is_taken_for_want_of_memory(place: recipe.Site) -> None:
    """The kernel's killer leaves no message of its own."""
    with pytest.raises(Unavailable, match="want of memory"):
        recipe.run(place, Silent(), ["sh", "-c", "kill -9 $$"])


def test_settings_of_the_users_own_go_do_not_reach_the_build(
    place: recipe.Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GOFLAGS=-mod=vendor or a private GOPROXY in the shell must not change what is built."""
    monkeypatch.setenv("GOFLAGS", "-mod=vendor")
    monkeypatch.setenv("GOPROXY", "http://proxy.example")
    recipe.run(place, Silent(), ["sh", "-c", "env"])
    said = place.log.read_text()
    assert "-mod=vendor" not in said
    assert "GOPROXY" not in said
    assert f"GOPATH={place.work}/go" in said


def add(archive: tarfile.TarFile, name: str, content: bytes = b"", link: str = "") -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    if link:
        member.type, member.linkname = tarfile.SYMTYPE, link
    archive.addfile(member, io.BytesIO(content))


def test_sources_are_unpacked_without_what_is_never_compiled(tmp_path: Path) -> None:
    """Tests and change logs are a third of the archive and stay packed; links inside the tree work."""
    with tarfile.open(tmp_path / "source.tar.xz", "w:xz") as archive:
        add(archive, "kubernetes-1/pkg/api/doc.go", b"package api")
        add(archive, "kubernetes-1/test/e2e/x.go", b"package e2e")
        add(archive, "kubernetes-1/staging/src/k8s.io/api/a.go", b"package a")
        add(archive, "kubernetes-1/vendor/k8s.io/api", link="../../staging/src/k8s.io/api")
    tree = tmp_path / "tree"
    recipe.unpack_sources(tmp_path / "source.tar.xz", tree, Silent())
    assert (tree / "pkg/api/doc.go").read_text() == "package api"
    assert (tree / "vendor/k8s.io/api/a.go").read_text() == "package a"
    assert not (tree / "test").exists()


def test_the_generator_is_given_every_package_with_its_tag(tmp_path: Path) -> None:
    """A type that is missing from the description could not be served."""
    files = {
        "pkg/apis/a/doc.go": "// +k8s:openapi-gen=true\npackage a",
        "pkg/apis/b/doc.go": "package b",
        "vendor/k8s.io/api/core/v1/doc.go": "// +k8s:openapi-gen=true\npackage v1",
        "vendor/k8s.io/sample-apiserver/pkg/doc.go": "// +k8s:openapi-gen=true\npackage s",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for name in ("api", "sample-apiserver"):
        os.makedirs(tmp_path / "staging/src/k8s.io" / name)
    assert recipe.described_packages(tmp_path) == [
        "k8s.io/kubernetes/pkg/apis/a",
        "k8s.io/kubernetes/vendor/k8s.io/api/core/v1",
    ]
