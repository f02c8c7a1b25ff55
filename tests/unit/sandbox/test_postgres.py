"""How PostgreSQL is found and whom it runs as; a running one is tested with the rest of the sandbox."""

import importlib.metadata
import os
from pathlib import Path

import pytest

from keep_operator.errors import Refused
from keep_operator.sandbox import postgres
from keep_operator.sandbox.processes import Roster

pytestmark = pytest.mark.unit


def test_an_ordinary_user_runs_it_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No namespace where none is needed."""
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    assert postgres.as_other_user(tmp_path, tmp_path) == []


def test_a_user_without_a_name_runs_it_in_a_namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers are often run with a number for a user, and initdb refuses that."""
    (tmp_path / "unshare").write_text("#!/bin/sh\n")
    (tmp_path / "unshare").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(os, "geteuid", lambda: 2_000_000_000)
    assert postgres.as_other_user(tmp_path, tmp_path)[:2] == ["unshare", "--user"]


def refusing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, setpriv: bool) -> None:
    for name, code in (("unshare", 1), ("setpriv", 0 if setpriv else 1)):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {code}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("pwd.getpwnam", lambda name: object())
    monkeypatch.setattr("shutil.chown", lambda *args: None)


def test_without_user_namespaces_debians_user_runs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hardened kernels and some containers refuse user namespaces."""
    refusing(tmp_path, monkeypatch, setpriv=True)
    assert postgres.as_other_user(tmp_path, tmp_path)[:2] == ["setpriv", "--reuid=postgres"]


def test_where_nobody_can_run_it_the_ways_out_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user, another folder, or another database."""
    refusing(tmp_path, monkeypatch, setpriv=False)
    with pytest.raises(Refused, match=r"ordinary user.*KEEP_OPERATOR_SANDBOX_DIR.*KEEP_OPERATOR_DATABASE_URL"):
        postgres.as_other_user(tmp_path, tmp_path)


def missing(name: str) -> importlib.metadata.Distribution:
    raise importlib.metadata.PackageNotFoundError(name)


def test_debians_newest_server_serves_without_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By number: 9 is older than 15."""
    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    monkeypatch.setattr(postgres, "DEBIAN", tmp_path)
    with pytest.raises(Refused, match=r"keep-operator\[sandbox\].*Debian's postgresql.*KEEP_OPERATOR_DATABASE_URL"):
        postgres.binaries()
    for version in ("9", "15"):
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / "bin/initdb").touch()
    assert postgres.binaries() == tmp_path / "15/bin"


def test_data_of_another_version_is_not_touched(tmp_path: Path) -> None:
    """After a change of the wheel the user decides what becomes of the data."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/PG_VERSION").write_text("12\n")
    server = postgres.Server(tmp_path, Roster(tmp_path / "processes.json"))
    with pytest.raises(Refused, match=r"are of PostgreSQL 12, and .* is 1[58].*sandbox reset"):
        server.start()
