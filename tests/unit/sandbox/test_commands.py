from pathlib import Path

import pytest
from click.testing import CliRunner

from keep_operator.sandbox.commands import sandbox
from keep_operator.sandbox.status import Component, table

pytestmark = pytest.mark.unit


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("KEEP_OPERATOR_SANDBOX_DIR", str(tmp_path / "box"))
    return CliRunner()


def test_before_the_first_start_every_command_says_what_to_do(run: CliRunner, tmp_path: Path) -> None:
    """Nothing ends in a traceback, nothing makes a folder."""
    status, env = run.invoke(sandbox, ["status"]), run.invoke(sandbox, ["env"])
    stop, reset = run.invoke(sandbox, ["stop"]), run.invoke(sandbox, ["reset"])
    assert (status.exit_code, env.exit_code, stop.exit_code, reset.exit_code) == (3, 1, 0, 0)
    assert "make one with `keep-operator sandbox start`" in status.stdout
    assert "make one with `keep-operator sandbox start`" in env.stderr
    assert env.stdout == "", "`eval` must find nothing"
    assert not (tmp_path / "box").exists()


def test_a_wrong_setting_is_explained_without_a_traceback(run: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line: the setting, its value, the remedy."""
    monkeypatch.setenv("KEEP_OPERATOR_DATABASE_URL", "mysql://x")
    result = run.invoke(sandbox, ["start"])
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: KEEP_OPERATOR_DATABASE_URL must look like postgresql://")


def test_reset_asks_before_it_removes_anything(run: CliRunner, tmp_path: Path) -> None:
    """A slip of the finger costs nothing."""
    (tmp_path / "box").mkdir()
    (tmp_path / "box/encryption.key").touch()
    assert run.invoke(sandbox, ["reset"], input="n\n").exit_code == 1
    assert (tmp_path / "box/encryption.key").exists()
    assert run.invoke(sandbox, ["reset", "--yes"]).exit_code == 0
    assert not (tmp_path / "box/encryption.key").exists()


def test_the_status_reads_as_a_table() -> None:
    """Names, states and details stand under each other."""
    lines = table([Component("etcd", "running", "process 1"), Component("kube-apiserver", "died", "see x")])
    assert lines == ["etcd            running  process 1", "kube-apiserver  died     see x"]
    assert table([]) == []
