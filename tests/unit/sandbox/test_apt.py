from pathlib import Path

import pytest

from keep_operator.errors import Refused
from keep_operator.sandbox import apt

pytestmark = pytest.mark.unit

DEB822 = """\
# a comment
Types: deb
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://security.example/debian-security
Suites: bookworm-security
Components: main
"""


def test_debians_own_stanzas_are_taken_with_their_sources() -> None:
    """Source packages are switched on in a copy, and suites that could bring other versions stay out."""
    assert apt.deb822_sources(DEB822, "bookworm") == (
        "Types: deb deb-src\n"
        "URIs: http://mirror.example/debian\n"
        "Suites: bookworm bookworm-updates\n"
        "Components: main contrib\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        "\n"
        "Types: deb deb-src\n"
        "URIs: http://security.example/debian-security\n"
        "Suites: bookworm-security\n"
        "Components: main\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        DEB822.replace("bookworm", "trixie"),
        "Types: deb\nURIs: https://tools.example\nSuites: bookworm\nComponents: stable\n",
        "Enabled: no\nTypes: deb\nURIs: http://mirror.example\nSuites: bookworm\nComponents: main\n",
        "",
    ],
    ids=["another release", "another vendor", "switched off", "empty"],
)
def test_stanzas_that_are_not_debian_main_are_left_out(text: str) -> None:
    """Other vendors have no source packages, and asking them would break the update."""
    assert apt.deb822_sources(text, "bookworm") == ""


def test_one_line_entries_get_a_twin_for_sources() -> None:
    """The older form of sources.list works as well, options and all."""
    text = (
        "# deb http://old.example bookworm main\n"
        "deb [signed-by=/k.gpg arch=amd64] http://mirror.example/debian bookworm main contrib\n"
        "deb-src http://mirror.example/debian bookworm main\n"
        "deb https://tools.example cloud-bookworm main\n"
        "deb https://docker.example bookworm stable\n"
    )
    assert apt.line_sources(text, "bookworm") == (
        "deb [signed-by=/k.gpg arch=amd64] http://mirror.example/debian bookworm main\n"
        "deb-src [signed-by=/k.gpg arch=amd64] http://mirror.example/debian bookworm main\n"
    )


def apt_config(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = folder / "etc/sources.list.d"
    parts.mkdir(parents=True)
    program = folder / "apt-config"
    program.write_text(f"#!/bin/sh\necho \"A='{folder}/etc/sources.list'\"\necho \"B='{parts}'\"\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_apt_is_pointed_to_private_folders_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's lists and sources are read, and never written."""
    apt_config(tmp_path, monkeypatch)
    (tmp_path / "etc/sources.list.d/debian.sources").write_text(DEB822)
    (tmp_path / "etc/sources.list.d/other.list").write_text("deb https://tools.example bookworm stable\n")
    options = apt.private_lists(tmp_path / "work", "bookworm")
    assert f"Dir::State::Lists={tmp_path}/work/lists" in options
    assert f"Dir::Cache={tmp_path}/work/cache" in options
    assert [file.name for file in (tmp_path / "work/sources").iterdir()] == ["debian.sources"]


def test_a_machine_without_debian_sources_is_told_what_to_add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The remedy stands in the error, not in a log."""
    apt_config(tmp_path, monkeypatch)
    with pytest.raises(Refused, match="Debian bookworm main: add it, or set KUBEBUILDER_ASSETS"):
        apt.private_lists(tmp_path / "work", "bookworm")
