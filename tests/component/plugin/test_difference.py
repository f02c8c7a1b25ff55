"""`kubectl keep diff`: what differs, by meaning and as text, between versions and drafts."""

import json
from pathlib import Path

import pytest
import yaml

from .conftest import HASHES, Terminal, definition

pytestmark = pytest.mark.component


@pytest.mark.parametrize(
    ("words", "limits"),
    [
        ((), (20, 30)),
        (("previous",), (10, 20)),
        (("v3", "v1"), (30, 10)),
        (("production", "desired"), (20, 30)),
    ],
)
def test_what_differs_is_told_in_both_ways(terminal: Terminal, words: tuple[str, ...], limits: tuple[int, int]) -> None:
    """What changed is the first question of an incident; the answer ends with 1 where there is a difference."""
    result = terminal.keep("diff", "high-cpu", *words)
    assert result.exit_code == 1
    before, after = limits
    assert f"  changed  consts\n    limit: {before} -> {after}\n" in result.stdout
    assert f"-  limit: {before}\n+  limit: {after}\n" in result.stdout


def test_equal_content_is_identical(terminal: Terminal) -> None:
    """The numbers differ and nothing else: exit code 0."""
    result = terminal.keep("diff", "high-cpu", "v3", "desired")
    assert result.exit_code == 0
    assert result.stdout.endswith("are identical in what they do.\n")


def test_scripts_read_a_difference_as_data(terminal: Terminal) -> None:
    """Sides, changes with their values, and lines; YAML has the same."""
    result = terminal.keep("diff", "high-cpu", "v1", "v2", "-o", "json")
    told = json.loads(result.stdout)
    assert result.exit_code == 1
    assert [told[side]["contentHash"] for side in ("before", "after")] == [HASHES[1], HASHES[2]]
    assert told["identical"] is False
    assert told["changes"] == [
        {
            "group": "Settings",
            "kind": "changed",
            "name": "consts",
            "moved": False,
            "values": [{"path": "limit", "before": 10, "after": 20}],
        }
    ]
    assert yaml.safe_load(terminal.keep("diff", "high-cpu", "v1", "v2", "-o", "yaml").stdout) == told


@pytest.mark.parametrize("form", ["keep", "manifest", "bare", "stdin"])
def test_a_draft_is_compared_before_it_is_merged(terminal: Terminal, tmp_path: Path, form: str) -> None:
    """A file in any of its forms, against what runs; names and comments make no difference."""
    content = {"name": "Another name", **definition(99)}
    wrapped = {
        "keep": {"workflow": content},
        "bare": content,
        "stdin": content,
        "manifest": {
            "apiVersion": "keep-operator.dev/v1alpha1",
            "kind": "Workflow",
            "metadata": {"name": "high-cpu"},
            "spec": {"definition": content},
        },
    }[form]
    text = "# a comment\n" + yaml.safe_dump(wrapped)
    path = tmp_path / "draft.yaml"
    path.write_text(text, encoding="utf-8")
    words = ("-f", "-") if form == "stdin" else ("-f", str(path))
    result = terminal.keep("diff", "high-cpu", *words, "--show", "changes", given=text)
    assert (result.exit_code, result.stdout) == (1, "Settings\n  changed  consts\n    limit: 20 -> 99\n")


def test_a_draft_that_is_no_workflow_is_no_difference(terminal: Terminal, tmp_path: Path) -> None:
    """Trouble has another exit code than a difference, as with diff."""
    path = tmp_path / "draft.yaml"
    path.write_text("steps: [", encoding="utf-8")
    result = terminal.keep("diff", "high-cpu", "-f", str(path))
    assert result.exit_code == 2
    assert result.stdout == ""


def test_a_definition_in_a_config_map_is_compared(terminal: Terminal) -> None:
    """What the spec asks for may stand elsewhere."""
    text = yaml.safe_dump({"workflow": definition(30)})
    terminal.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "flows"}, "data": {"a": text}})
    workflow = terminal.objects["workflows.keep-operator.dev/high-cpu"]
    workflow["spec"] = {"definitionFrom": {"configMapKeyRef": {"name": "flows", "key": "a"}}}
    assert terminal.keep("diff", "high-cpu", "v3", "desired").exit_code == 0
    assert terminal.keep("diff", "high-cpu", "v1", "desired").exit_code == 1
