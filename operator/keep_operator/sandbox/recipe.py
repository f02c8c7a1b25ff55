"""How Kubernetes is compiled from Debian's source package: three steps, each of which can be interrupted and repeated.

::

    fetch      sources and a Go toolchain, by apt-get with private lists, unpacked beside each other, not installed
    generate   the one file that the source tree lacks (pkg/generated/openapi)
    compile    one program that is both servers, told apart by the name it is called with

No root is needed, and nothing outside the work tree is changed.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from keep_operator.errors import Refused, Unavailable
from keep_operator.sandbox import apt
from keep_operator.sandbox.display import Step

VERSION: Final = "1.20.2"  # the Kubernetes in Debian 12; no later one can be built from what Debian 12 ships
CODENAME: Final = "bookworm"
GO: Final = "1.19"  # Debian 12's Go
EASY_MEMORY_BYTES: Final = 3_000_000_000  # below this, one compiler at a time: one takes about 1 GB at the most
PACKAGES: Final = 1_400  # Go packages that a full build compiles, for the progress note
TREE: Final = "k8s.io/kubernetes"
REMEDY: Final = (
    "Or name programs that are there already: KUBEBUILDER_ASSETS=<folder with etcd, kube-apiserver and "
    "kube-controller-manager>."
)

MAIN: Final = """\
// Command control-plane is the API server or the controller manager, after the name it is called with.
package main

import (
	"math/rand"
	"os"
	"path"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/component-base/logs"
	server "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

func main() {
	rand.Seed(time.Now().UnixNano())
	commands := map[string]func() *cobra.Command{
		"kube-apiserver":          server.NewAPIServerCommand,
		"kube-controller-manager": controllers.NewControllerManagerCommand,
	}
	logs.InitLogs()
	command, known := commands[path.Base(os.Args[0])]
	if !known || command().Execute() != nil {
		logs.FlushLogs()
		os.Exit(1)
	}
	logs.FlushLogs()
}
"""

# What the end of the log says about a failed command, and what a person can do about it; the first match counts.
DIAGNOSES: Final = (
    (r"No space left on device", "the disk is full", "Free about 3 GB, or point XDG_CACHE_HOME to a larger disk."),
    (
        r"signal: killed|out of memory|[Cc]annot allocate memory",
        "the compiler was killed, most likely for want of memory (it takes up to 1 GB at a time)",
        "Close other programs and start again: the build goes on where it was.",
    ),
    (
        r"NO_PUBKEY|is not signed|invalid signature",
        "apt does not trust the signature of a Debian source",
        "Install or update debian-archive-keyring.",
    ),
    (
        r"[Tt]emporary failure|[Cc]ould not connect|[Cc]onnection timed out|[Cc]ould not resolve|Failed to fetch",
        "apt cannot reach a Debian mirror",
        "Check the network and apt's proxy (`apt-get update` must work), then start again.",
    ),
    (
        r"Unable to find a source package|Unable to locate package|Can't (select|find)",
        f"the apt sources of this machine do not offer Debian {CODENAME} `main`",
        f"Add Debian {CODENAME} `main` (and -security) to apt's sources.",
    ),
)


@dataclass(frozen=True, slots=True)
class Site:
    """Where one version is built and kept."""

    folder: Path

    @property
    def bin(self) -> Path:
        """The finished programs."""
        return self.folder / "bin"

    @property
    def manifest(self) -> Path:
        """What ``bin`` must hold."""
        return self.folder / "manifest.json"

    @property
    def log(self) -> Path:
        """Everything that apt and the compiler said."""
        return self.folder / "build.log"

    @property
    def work(self) -> Path:
        """The work tree, which goes when the build is done."""
        return self.folder / "work"

    @property
    def unpacked(self) -> Path:
        """The root of the unpacked Debian packages."""
        return self.work / "root"

    @property
    def tree(self) -> Path:
        """The Kubernetes source tree, where Go looks for it."""
        return self.work / "go/src" / TREE


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of the build; ``usual`` is how long it takes on two quiet cores."""

    name: str
    title: str
    usual: timedelta
    perform: Callable[[Site, Step], None]


def _fetch(place: Site, step: Step) -> None:
    options = apt.private_lists(place.work / "apt", CODENAME)
    packages = (f"golang-{GO}-go", f"golang-{GO}-src", "golang-github-modern-go-reflect2-dev", "etcd-server")
    downloads = place.work / "downloads"
    downloads.mkdir(exist_ok=True)
    step.tick("lists")
    run(place, step, ["apt-get", *options, "update"], cwd=downloads)
    step.tick("sources")
    run(place, step, ["apt-get", *options, "source", "--download-only", "kubernetes"], cwd=downloads)
    run(place, step, ["apt-get", *options, "download", *packages], cwd=downloads)
    for package in sorted(downloads.glob("*.deb")):
        run(place, step, ["dpkg-deb", "-x", str(package), str(place.unpacked)])
    found = sorted(downloads.glob(f"kubernetes_*{VERSION}.orig.tar.*"))
    if not found:
        raise Refused(
            "SandboxUnsupported",
            f"Debian {CODENAME} no longer offers the source of Kubernetes {VERSION}. {REMEDY}",
        )
    shutil.rmtree(place.tree, ignore_errors=True)
    place.tree.mkdir(parents=True)
    unpack_sources(found[0], place.tree, step)
    # The vendored reflect2 1.0.1 was written for older Go: programs built with 1.18 or newer crash in it under
    # load (SIGSEGV on the first burst of custom-resource writes). Debian carries 1.0.2 as a package of its own.
    vendored = place.tree / "vendor/github.com/modern-go/reflect2"
    shutil.rmtree(vendored)
    shutil.copytree(place.unpacked / "usr/share/gocode/src/github.com/modern-go/reflect2", vendored)


def unpack_sources(archive: Path, tree: Path, step: Step) -> None:
    """Unpacks the source archive without its top folder and without what is never compiled here."""
    unused = {"test", "CHANGELOG", "cluster", "logo", "docs"}
    with tarfile.open(archive) as source:  # by Python: xz-utils need not be installed
        source.extraction_filter = getattr(tarfile, "data_filter", lambda member, _path: member)
        for number, member in enumerate(source):
            _, _, inside = member.name.partition("/")
            if inside and inside.split("/")[0] not in unused:
                member.name = inside
                if member.islnk():
                    member.linkname = member.linkname.partition("/")[2]
                source.extract(member, tree)
            if number % 500 == 0:
                step.tick(f"{number:,} files unpacked")


def _generate(place: Site, step: Step) -> None:
    generator = place.work / "openapi-gen"
    package = f"{TREE}/vendor/k8s.io/kube-openapi/cmd/openapi-gen"
    run(place, step, [*_go(place), "build", "-o", str(generator), package], cwd=place.tree)
    wanted = ["-i", ",".join(described_packages(place.tree)), "-p", f"{TREE}/pkg/generated/openapi"]
    form = ["-O", "zz_generated.openapi", "-h", "vendor/k8s.io/code-generator/hack/boilerplate.go.txt"]
    run(place, step, [str(generator), *wanted, *form, "-r", str(place.work / "violations")], cwd=place.tree)


def described_packages(tree: Path) -> list[str]:
    """The Go packages whose types the API describes: those that carry the generator's tag, as import paths."""
    staged = sorted(path.name for path in (tree / "staging/src/k8s.io").iterdir() if path.is_dir())
    examples = {"code-generator", "sample-apiserver"}  # tagged too, but compiled into no server
    tops = ["pkg", "cmd", "plugin", *(f"vendor/k8s.io/{name}" for name in staged if name not in examples)]
    found = set()
    for top in tops:
        for folder, _, names in os.walk(tree / top):
            files = (Path(folder, name) for name in names if name.endswith(".go"))
            if any(b"+k8s:openapi-gen=" in file.read_bytes() for file in files):
                found.add(f"{TREE}/{Path(folder).relative_to(tree)}")
    return sorted(found)


def _compile(place: Site, step: Step) -> None:
    main = place.tree / "cmd/control-plane/main.go"
    main.parent.mkdir(exist_ok=True)
    main.write_text(MAIN)
    major, minor, _ = VERSION.split(".")
    # Without modules, the linker knows vendored packages by their full path; a bare k8s.io/... sets nothing.
    packages = [f"{TREE}/vendor/k8s.io/{name}/version" for name in ("component-base", "client-go/pkg")]
    facts = {"gitVersion": f"v{VERSION}", "gitMajor": major, "gitMinor": minor, "gitTreeState": "archive"}
    stamps = [f"-X {package}.{key}={value}" for package in packages for key, value in facts.items()]
    began = place.log.stat().st_size
    run(
        place,
        step,
        [
            *_go(place), "build", "-v", "-tags", "providerless,dockerless", "-ldflags", " ".join(["-s", "-w", *stamps]),
            "-o", str(place.work / "control-plane"), f"{TREE}/cmd/control-plane",
        ],
        cwd=place.tree,
        note=lambda: f"{_lines_since(place.log, began):,} of about {PACKAGES:,} packages",
    )  # fmt: skip


STAGES: Final = (
    Stage("fetch", "download and unpack sources and Go from Debian", timedelta(seconds=13), _fetch),
    Stage("generate", "generate the API's description", timedelta(seconds=11), _generate),
    Stage("compile", "compile and link Kubernetes", timedelta(seconds=110), _compile),
)


def _go(place: Site) -> list[str]:
    return [str(place.unpacked / f"usr/lib/go-{GO}/bin/go")]


def _environment(place: Site) -> dict[str, str]:
    import psutil  # noqa: PLC0415  (only a build asks)

    tight = psutil.virtual_memory().available < EASY_MEMORY_BYTES
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GO")}
    return kept | {
        "GO111MODULE": "off",
        "GOPATH": str(place.work / "go"),
        "GOROOT": str(place.unpacked / f"usr/lib/go-{GO}"),
        "GOCACHE": str(place.work / "go-build"),
        "GOTMPDIR": str(place.work / "tmp"),
        "GOFLAGS": "-p=1" if tight else "",
        "GOGC": "100" if tight else "400",  # collecting less often buys about a tenth of the time for memory
        "CGO_ENABLED": "0",
        "LC_ALL": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
    }


def run(
    place: Site, step: Step, argv: list[str], *, cwd: Path | None = None, note: Callable[[], str] = lambda: ""
) -> None:
    """Runs one command to its end with its output in the log; takes its whole process group along when interrupted."""
    with place.log.open("ab") as log:
        began = log.tell()
        child = subprocess.Popen(
            argv,
            cwd=cwd or place.work,
            env=_environment(place),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(0.25)
                    break
                step.tick(note())
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)  # Go's cache and apt's downloads are written by renaming
            child.wait()
            raise
    if child.returncode:
        with place.log.open("rb") as log:
            log.seek(began)
            said = log.read().decode(errors="replace")
        killed = "signal: killed\n" if child.returncode == -signal.SIGKILL else ""
        raise diagnosed(killed + said, f"`{argv[0]}` ended with {child.returncode}:\n{_tail(said)}", place.log)


def diagnosed(said: str, fact: str, log: Path) -> Unavailable:
    """The error for a failed step: what the output means, as far as it is known, and the remedy."""
    for pattern, meaning, remedy in DIAGNOSES:
        if re.search(pattern, said):
            return Unavailable("SandboxBuildFailed", f"{meaning}. {remedy} {REMEDY}\n{fact}\nLog: {log}")
    return Unavailable("SandboxBuildFailed", f"building Kubernetes failed. {REMEDY}\n{fact}\nLog: {log}")


def _tail(text: str, lines: int = 12) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])


def _lines_since(log: Path, offset: int) -> int:
    with log.open("rb") as file:
        file.seek(offset)
        return sum(block.count(b"\n") for block in _blocks(file.read))


def _blocks(read: Callable[[int], bytes]) -> Iterable[bytes]:
    while block := read(65536):
        yield block
