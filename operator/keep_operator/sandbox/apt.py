"""A private view of this machine's Debian sources, source packages included, without a change to the system."""

import os
import re
import subprocess
from pathlib import Path

from keep_operator.errors import Refused


def private_lists(folder: Path, codename: str) -> list[str]:
    """Options that make apt-get read and write only in ``folder``; makes the folders and the lists of sources.

    Needs no root. Raises Refused when none of this machine's sources is Debian ``codename`` main.
    """
    for name in ("sources", "lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    count = 0
    for file in _source_files():
        chosen = (deb822_sources if file.suffix == ".sources" else line_sources)(file.read_text(), codename)
        if chosen:
            suffix = file.suffix if file.suffix == ".sources" else ".list"
            (folder / "sources" / f"{file.stem}{suffix}").write_text(chosen)
            count += 1
    if not count:
        raise Refused(
            "SandboxUnsupported",
            f"none of apt's sources on this machine is Debian {codename} main: add it, "
            "or set KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver and kube-controller-manager.",
        )
    settings = {
        "Dir::Etc::sourcelist": os.devnull,
        "Dir::Etc::sourceparts": f"{folder}/sources",
        "Dir::State::Lists": f"{folder}/lists",
        "Dir::Cache": f"{folder}/cache",
        "APT::Sandbox::User": "root",  # the folder may be closed to the user _apt
        "Acquire::Retries": "2",
    }
    return ["-q", *(part for key, value in settings.items() for part in ("-o", f"{key}={value}"))]


def _source_files() -> list[Path]:
    argv = ["apt-config", "shell", "A", "Dir::Etc::sourcelist/f", "B", "Dir::Etc::sourceparts/d"]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    found = dict(re.findall(r"(?m)^(\w)='(.*)'$", said))
    parts = Path(found["B"])
    files = [Path(found["A"]), *sorted(parts.glob("*.list")), *sorted(parts.glob("*.sources"))]
    return [file for file in files if file.is_file()]


def _suites(codename: str) -> set[str]:
    return {codename, f"{codename}-updates", f"{codename}-security"}


def deb822_sources(text: str, codename: str) -> str:
    """The stanzas of a ``.sources`` file that offer Debian's main section, with source packages switched on."""
    chosen = []
    for stanza in re.split(r"\n\s*\n", re.sub(r"(?m)^#.*\n?", "", text)):
        fields = {key.lower(): value.split() for key, value in re.findall(r"(?m)^([\w-]+):(.*)$", stanza)}
        suites = [suite for suite in fields.get("suites", []) if suite in _suites(codename)]
        enabled = fields.get("enabled", ["yes"])[:1] not in (["no"], ["false"], ["0"])
        if suites and enabled and "main" in fields.get("components", []):
            changed = re.sub(r"(?mi)^Types:.*$", "Types: deb deb-src", stanza.strip("\n"))
            chosen.append(re.sub(r"(?mi)^Suites:.*$", f"Suites: {' '.join(suites)}", changed))
    return "\n\n".join(chosen) + "\n" if chosen else ""


def line_sources(text: str, codename: str) -> str:
    """The one-line entries of a ``.list`` file that offer Debian's main section, each with its ``deb-src`` twin."""
    chosen = []
    for options, uri, suite, sections in re.findall(r"(?m)^\s*deb\s+(\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s+(.*)$", text):
        if suite in _suites(codename) and "main" in sections.split():
            chosen += [f"{kind} {options}{uri} {suite} main" for kind in ("deb", "deb-src")]
    return "\n".join(chosen) + "\n" if chosen else ""
