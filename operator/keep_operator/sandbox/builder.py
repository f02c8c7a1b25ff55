"""A Kubernetes API server and controller manager, compiled once from Debian's own source package.

::

    fetch      sources and a Go toolchain, by apt-get with private lists, unpacked beside each other, not installed
    generate   the one file that the source tree lacks (pkg/generated/openapi)
    compile    one program that is both servers, told apart by the name it is called with
    publish    bin/ + manifest.json; the work tree goes

Each step leaves a stamp, so an interrupted build goes on where it was; Go's own build cache makes that true
inside the long step too. No root is needed and nothing outside the cache folder is changed.
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
from keep_operator.sandbox import apt, cache
from keep_operator.sandbox.display import Display, Step

VERSION: Final = "1.20.2"  # the Kubernetes in Debian 12; no later one can be built from what Debian 12 ships
CODENAME: Final = "bookworm"
GO: Final = "1.19"  # Debian 12's Go
RECIPE: Final = 1  # raised when what is built changes: a cache of another recipe is built anew
SERVERS: Final = ("kube-apiserver", "kube-controller-manager")
PROGRAMS: Final = ("etcd", *SERVERS)
NEEDED_BYTES: Final = 3_000_000_000  # 2.6 GB at the widest point, measured, and some air
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


def site() -> Site:
    """Where this version lives in the cache."""
    return Site(cache.root() / "kubernetes" / VERSION)


def ready() -> Path | None:
    """The folder of programs built earlier, hash-checked; None when there are none that can be used."""
    place = site()
    return place.bin if _damage(place) is None else None


def ensure(display: Display) -> Path:
    """The folder with etcd, kube-apiserver and kube-controller-manager, building what is missing.

    Safe to call from several processes: one builds, the others wait and say so. Safe to interrupt and repeat.
    Raises Refused where this machine cannot build it, Unavailable when a step failed; both say what to do.
    """
    place = site()
    if _damage(place) is None:
        return place.bin
    with contextlib.ExitStack() as stack:
        waits: list[Step] = []

        def waiting() -> None:
            if not waits:
                waits.append(stack.enter_context(display.step("wait: another process is building Kubernetes")))
            waits[0].tick()

        with cache.locked(place.folder / "lock", waiting):
            stack.close()
            why = _damage(place)
            if why is not None:
                if place.manifest.exists():
                    display.say(f"Kubernetes {VERSION} is built again: {why}")
                _build(place, display)
    return place.bin


def _damage(place: Site) -> str | None:
    return cache.damage(place.bin, place.manifest, recipe=RECIPE, required=PROGRAMS)


@dataclass(frozen=True, slots=True)
class _Stage:
    name: str
    title: str
    usual: timedelta  # on two quiet cores
    perform: Callable[[Site, Step], None]


def _build(place: Site, display: Display) -> None:
    check_machine(place.folder)
    stages = (
        _Stage("fetch", "download and unpack sources and Go from Debian", timedelta(seconds=12), _fetch),
        _Stage("generate", "generate the API's description", timedelta(seconds=12), _generate),
        _Stage("compile", "compile and link Kubernetes", timedelta(seconds=126), _compile),
    )
    place.manifest.unlink(missing_ok=True)
    if place.work.is_dir() and not (place.work / f"recipe-{RECIPE}").exists():
        shutil.rmtree(place.work)
    (place.work / "tmp").mkdir(parents=True, exist_ok=True)
    (place.work / f"recipe-{RECIPE}").touch()
    display.say(
        f"Kubernetes {VERSION} is built once from Debian's source package: about 2 min 30 s on two quiet cores, "
        f"up to 3 GB while it lasts. Log: {place.log}"
    )
    for number, stage in enumerate(stages, start=1):
        stamp = place.work / f"{stage.name}.done"
        if stamp.exists():
            display.say(f"{number}/{len(stages)} {stage.title}: done earlier")
            continue
        with display.step(f"{number}/{len(stages)} {stage.title}", stage.usual) as step:
            try:
                stage.perform(place, step)
            except OSError as error:  # our own copying and unpacking
                raise diagnosed(str(error), f"{stage.title}: {error}", place.log) from error
        stamp.touch()
    _publish(place)
    display.say(f"Kubernetes {VERSION} is built: {place.bin}")


def check_machine(folder: Path, os_release: Path = Path("/etc/os-release")) -> None:
    """Raises Refused, with the remedy, when this machine cannot build: not Debian 12, no apt, or too little disk."""
    facts = dict(re.findall(r'(?m)^(\w+)="?([^"\n]*)"?$', os_release.read_text())) if os_release.exists() else {}
    if facts.get("VERSION_CODENAME") != CODENAME or not shutil.which("apt-get"):
        name = facts.get("PRETTY_NAME", "this system")
        raise Refused(
            "SandboxUnsupported",
            f"the local control plane is built from Debian 12's source package, and this is {name}. {REMEDY} "
            "Or install Docker and kind, or use the cluster of your current context with CLUSTER=current.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    already = sum(p.lstat().st_size for p in (folder / "work").rglob("*") if p.is_file() and not p.is_symlink())
    if free + already < NEEDED_BYTES:
        raise Refused(
            "SandboxDiskFull",
            f"building Kubernetes needs about 3 GB in {folder}, and {free / 1e9:.1f} GB are free. "
            f"Free some, or point XDG_CACHE_HOME to a larger disk. {REMEDY}",
        )


def _fetch(place: Site, step: Step) -> None:
    options = apt.private_lists(place.work / "apt", CODENAME)
    packages = (f"golang-{GO}-go", f"golang-{GO}-src", "golang-github-modern-go-reflect2-dev", "etcd-server")
    downloads = place.work / "downloads"
    downloads.mkdir(exist_ok=True)
    step.tick("lists")
    _run(place, step, ["apt-get", *options, "update"], cwd=downloads)
    step.tick("sources")
    _run(place, step, ["apt-get", *options, "source", "--download-only", "kubernetes"], cwd=downloads)
    _run(place, step, ["apt-get", *options, "download", *packages], cwd=downloads)
    for package in sorted(downloads.glob("*.deb")):
        _run(place, step, ["dpkg-deb", "-x", str(package), str(place.unpacked)])
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
    _run(place, step, [*_go(place), "build", "-o", str(generator), package], cwd=place.tree)
    wanted = ["-i", ",".join(described_packages(place.tree)), "-p", f"{TREE}/pkg/generated/openapi"]
    form = ["-O", "zz_generated.openapi", "-h", "vendor/k8s.io/code-generator/hack/boilerplate.go.txt"]
    _run(place, step, [str(generator), *wanted, *form, "-r", str(place.work / "violations")], cwd=place.tree)


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
    _run(
        place,
        step,
        [
            *_go(place), "build", "-v", "-tags", "providerless,dockerless", "-ldflags", " ".join(["-s", "-w", *stamps]),
            "-o", str(place.work / "control-plane"), f"{TREE}/cmd/control-plane",
        ],
        cwd=place.tree,
        note=lambda: f"{_lines_since(place.log, began):,} of about {PACKAGES:,} packages",
    )  # fmt: skip


def _publish(place: Site) -> None:
    staged = place.work / "bin"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir()
    shutil.copy2(place.unpacked / "usr/bin/etcd", staged / "etcd")
    shutil.copy2(place.work / "control-plane", staged / "control-plane")
    for name in SERVERS:
        (staged / name).symlink_to("control-plane")
    said = subprocess.run([staged / SERVERS[0], "--version"], capture_output=True, text=True, check=False)
    if said.stdout.split() != ["Kubernetes", f"v{VERSION}"]:
        raise diagnosed(said.stderr, f"the new API server does not run: {said.stdout}{said.stderr}", place.log)
    shutil.rmtree(place.bin, ignore_errors=True)
    staged.rename(place.bin)
    (source,) = (place.work / "downloads").glob("kubernetes_*.dsc")
    names = ("control-plane", *PROGRAMS)
    made = cache.Manifest.of(place.bin, names, version=VERSION, recipe=RECIPE, source=source.name)
    made.write(place.manifest)
    shutil.rmtree(place.work)


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


def _run(
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
