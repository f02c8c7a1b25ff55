"""What browsers are given from others is what its makers published, and is in what we publish."""

import io
import json
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from contract.console import vendored
from keep_operator.console.pages.rendering import HERE

pytestmark = pytest.mark.contract

ROOT = Path(__file__).parents[3]


def test_each_file_is_the_one_that_the_manifest_names_and_no_other_lies_there() -> None:
    """A file that somebody changed, forgot or slipped in is found."""
    told = json.loads(vendored.MANIFEST.read_text(encoding="utf-8"))
    assert told == vendored.manifest(vendored.FOLDER), "run: make vendor"
    listed = {name for package in told for name in package["files"]}
    assert {each.name for each in vendored.FOLDER.iterdir()} == {*listed, vendored.MANIFEST.name}


def test_licences_are_told() -> None:
    """Each package's own licence lies beside its files, and is the one that the manifest says."""
    words = {"MIT": "Permission is hereby granted, free of charge", "0BSD": "Permission to use, copy, modify"}
    for package in vendored.PACKAGES:
        text = (vendored.FOLDER / package.licensed).read_text(encoding="utf-8")
        assert words[package.license] in text, package.name


def test_another_package_than_the_one_meant_is_refused(tmp_path: Path) -> None:
    """A package with the same name and other content brings nothing in."""
    tarball = tmp_path / "evil.tgz"
    with tarfile.open(tarball, "w:gz") as archive:
        info = tarfile.TarInfo("package/dist/htmx.min.js")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"evil"))
    package = next(each for each in vendored.PACKAGES if each.name == "htmx.org")
    with pytest.raises(ValueError, match=r"htmx\.org 4\.0\.1 has the integrity"):
        vendored.unpack(package, tarball, tmp_path)
    with pytest.raises(ValueError, match="has the integrity"):
        vendored.unpack(replace(package, integrity=""), tarball, tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["evil.tgz"]


def test_the_wheel_has_all_that_pages_are_made_of(tmp_path: Path) -> None:
    """Who installs the package, or its image, which is made of the wheel, has templates and static files."""
    argv = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    wanted = [each for each in HERE.rglob("*") if each.is_file() and "__pycache__" not in each.parts]
    assert len(wanted) > 20
    assert {f"keep_operator/console/pages/{each.relative_to(HERE)}" for each in wanted} <= inside
