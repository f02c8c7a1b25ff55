"""`kubectl keep import` and `export`: Keep's own files in, manifests out, and back."""

import json
import os
import stat
from pathlib import Path

import pytest
import yaml

from keep_operator.domain.grammar import workflow

from .conftest import Terminal

pytestmark = pytest.mark.component

SHARED = Path(__file__).parents[4] / "shared" / "data" / "keep-workflows"
PROVIDER = """
name: my-slack
type: slack
authentication:
  webhook_url: https://hooks.example.com/T0/B0/secret
"""
WORKFLOW = """
workflow:
  id: hello   # who reads this
  actions:
  - name: say
    provider: {type: console, with: {message: hi}}
"""
BROKEN = """
workflow:
  id: broken
  steps:
  - name: a
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "keep"
    found.mkdir()
    (found / "slack.yaml").write_text(PROVIDER, encoding="utf-8")
    (found / "hello.yml").write_text(WORKFLOW, encoding="utf-8")
    (found / "notes.txt").write_text("no YAML: [", encoding="utf-8")
    return found


def test_a_folder_becomes_manifests(terminal: Terminal, folder: Path) -> None:
    """What kubectl apply takes is on the standard output alone; no cluster is asked."""
    result = terminal.keep("import", str(folder), "-n", "monitoring", "--tenant", "team")
    assert result.exit_code == 0, result.output
    made = list(yaml.safe_load_all(result.stdout))
    assert [(each["kind"], each["metadata"]["name"]) for each in made] == [
        ("Workflow", "hello"),
        ("Secret", "my-slack-credentials"),
        ("Provider", "my-slack"),
    ]
    assert {each["metadata"]["namespace"] for each in made} == {"monitoring"}
    assert [each["spec"]["tenantRef"] for each in made if "spec" in each] == [{"name": "team"}] * 2
    assert "1 Secret of it with credentials in clear text" in result.stderr
    assert terminal.calls == []
    names = terminal.keep("import", str(folder), "-o", "name").stdout.split()
    assert names == [
        "workflow.keep-operator.dev/hello",
        "secret/my-slack-credentials",
        "provider.keep-operator.dev/my-slack",
    ]


def test_a_file_with_faults_stops_everything_unless_told(terminal: Terminal, folder: Path) -> None:
    """Half an import would be taken for a whole one; each fault has its file, and the rest can be had."""
    (folder / "broken.yml").write_text(BROKEN, encoding="utf-8")
    result = terminal.keep("import", str(folder))
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"{folder / 'broken.yml'}" in result.stderr
    rest = terminal.keep("import", str(folder), "--skip-faulty")
    assert rest.exit_code == 1
    assert [each["kind"] for each in yaml.safe_load_all(rest.stdout)] == ["Workflow", "Secret", "Provider"]


def test_export_goes_back(terminal: Terminal, folder: Path, tmp_path: Path) -> None:
    """The files that come out mean what went in; those with credentials are for their owner only."""
    manifests = tmp_path / "manifests.yaml"
    manifests.write_text(terminal.keep("import", str(folder)).stdout, encoding="utf-8")
    out = tmp_path / "out"
    result = terminal.keep("export", "-f", str(manifests), "--providers", "-d", str(out))
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == ["providers/my-slack.yaml", "workflows/hello.yaml"]
    assert yaml.safe_load((out / "providers/my-slack.yaml").read_text("utf-8")) == yaml.safe_load(PROVIDER)
    assert yaml.safe_load((out / "workflows/hello.yaml").read_text("utf-8")) == yaml.safe_load(WORKFLOW)
    assert stat.S_IMODE(os.stat(out / "providers/my-slack.yaml").st_mode) == 0o600


def test_export_takes_from_the_cluster_what_is_referred_to(terminal: Terminal, folder: Path) -> None:
    """Of Secrets only those are read that a provider names, and none unless providers were asked for."""
    terminal.objects.clear()
    for each in yaml.safe_load_all(terminal.keep("import", str(folder)).stdout):
        terminal.put(each)
    result = terminal.keep("export")
    assert yaml.safe_load(result.stdout) == yaml.safe_load(WORKFLOW)
    assert [call[1] for call in terminal.calls] == ["workflows.keep-operator.dev"]
    both = json.loads(terminal.keep("export", "hello", "provider/my-slack", "-o", "json").stdout)
    assert yaml.safe_load(both["providers/my-slack.yaml"]) == yaml.safe_load(PROVIDER)
    assert ["get", "secrets", "my-slack-credentials", "--output=json"] in terminal.calls
    assert terminal.keep("export", "nobody").exit_code == 4


@pytest.mark.shared_data("Keep's example workflows stand beside the project")
def test_keeps_own_examples_come_back_as_they_were(terminal: Terminal, tmp_path: Path) -> None:
    """Whoever moves to the operator, and back, has lost comments and layout only."""
    if not SHARED.exists():
        pytest.skip("no recorded data beside the project")
    imported = terminal.keep("import", str(SHARED), "--skip-faulty")
    manifests = tmp_path / "manifests.yaml"
    manifests.write_text(imported.stdout, encoding="utf-8")
    taken = [each for each in yaml.safe_load_all(imported.stdout) if each["kind"] == "Workflow"]
    out = tmp_path / "out"
    assert terminal.keep("export", "-f", str(manifests), "-d", str(out)).exit_code == 0
    written = {path.stem: path.read_text(encoding="utf-8") for path in (out / "workflows").iterdir()}
    assert len(taken) == len(written) >= 60
    for each in taken:
        read = workflow.read(written[each["metadata"]["name"]]).definition
        assert json.dumps(read, sort_keys=True) == json.dumps(each["spec"]["definition"], sort_keys=True)
    again = terminal.keep("import", str(out / "workflows"))
    assert again.exit_code == 0, again.output
