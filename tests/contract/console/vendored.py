"""The files of others that the console's pages serve: which packages of npm they are from, and how they are made again.

`make vendor` writes the folder anew from `PACKAGES`; a package whose integrity is another one than is written here changes
nothing. Nothing is built: the files are those that the packages carry.
"""

import base64
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from keep_operator.console.pages.rendering import STATIC

FOLDER: Final = STATIC / "vendor"
MANIFEST: Final = FOLDER / "vendor.json"


@dataclass(frozen=True, slots=True)
class Package:
    """``integrity`` is npm's, of the whole package; ``files`` are paths in it, each served under its own name."""

    name: str
    version: str
    integrity: str
    license: str
    license_file: str
    files: tuple[str, ...]

    @property
    def licensed(self) -> str:
        """What its licence's text is called here."""
        return f"{self.name.rpartition('/')[2].partition('.')[0]}.LICENSE.txt"


PACKAGES: Final = (
    Package(
        "@picocss/pico",
        "2.1.1",
        "sha512-kIDugA7Ps4U+2BHxiNHmvgPIQDWPDU4IeU6TNRdvXQM1uZX+FibqDQT2xUOnnO2yq/LUHcwnGlu1hvf4KfXnMg==",
        "MIT",
        "LICENSE.md",
        ("css/pico.min.css",),
    ),
    Package(
        "htmx.org",
        "4.0.1",
        "sha512-oF7JgXhDW9UXCy/k1ZYFUQgzu/rm19ORWPSPNL91vPluB2PB9+MV55tyQdH/w7o2EAbTYUG5SDW1R60mdkdqGg==",
        "0BSD",
        "LICENSE",
        ("dist/htmx.min.js", "dist/ext/hx-sse.min.js"),
    ),
    Package(
        "uplot",
        "1.6.32",
        "sha512-KIMVnG68zvu5XXUbC4LQEPnhwOxBuLyW1AHtpm6IKTXImkbLgkMy+jabjLgSLMasNuGGzQm/ep3tOkyTxpiQIw==",
        "MIT",
        "LICENSE",
        ("dist/uPlot.iife.min.js", "dist/uPlot.min.css"),
    ),
)


def manifest(folder: Path) -> list[dict[str, Any]]:
    """What `vendor.json` says of the files as they lie in ``folder``."""
    return [
        {
            "name": each.name,
            "version": each.version,
            "integrity": each.integrity,
            "license": each.license,
            "files": {
                name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
                for name in (each.licensed, *(Path(file).name for file in each.files))
            },
        }
        for each in PACKAGES
    ]


def unpack(package: Package, tarball: Path, target: Path) -> None:
    """Writes the files and the licence of a package into ``target``. Raises ValueError where it is not the package meant."""
    found = "sha512-" + base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
    if found != package.integrity:
        raise ValueError(f"{package.name} {package.version} has the integrity {found}, not {package.integrity}")
    with tarfile.open(tarball, "r:gz") as archive:
        for source, name in (
            (package.license_file, package.licensed),
            *((file, Path(file).name) for file in package.files),
        ):
            content = archive.extractfile(f"package/{source}")
            if content is None:
                raise ValueError(f"{package.name} {package.version} has no file {source}")
            (target / name).write_bytes(content.read())


def _fetch(package: Package, target: Path) -> Path:
    """The tarball, by npm's own client; no code of the package runs."""
    argv = ["npm", "pack", "--silent", "--ignore-scripts", f"{package.name}@{package.version}"]
    said = subprocess.run(argv, cwd=target, capture_output=True, text=True, check=True).stdout
    return target / said.split()[-1]


def main() -> None:
    """Make the folder anew, all of it or nothing."""
    if shutil.which("npm") is None:
        sys.exit("make vendor needs npm: apt-get install npm")
    with tempfile.TemporaryDirectory() as work:
        made = Path(work, "made")
        made.mkdir()
        for package in PACKAGES:
            unpack(package, _fetch(package, Path(work)), made)
        (made / MANIFEST.name).write_text(json.dumps(manifest(made), indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(FOLDER)
        shutil.copytree(made, FOLDER)


if __name__ == "__main__":
    main()
