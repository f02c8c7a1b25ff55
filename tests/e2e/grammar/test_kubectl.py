"""A real kubectl reads what we read: one workflow, inline or from a file, has one hash (A-REV-11)."""

import json
import subprocess
import sys
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from keep_operator.domain import revision
from keep_operator.domain.grammar import dialect, workflow
from keep_operator.sandbox import display, tools
from unit.domain.grammar import corpus

pytestmark = pytest.mark.e2e

# What every reader of YAML looks at twice.
HARD = """
    y n yes No ON off true False null ~ 010 0o10 0x1F -0x1F 0b11 1_000 1:30 12:30:45 2024-01-01 1e3 1.5e3 1.5e+3 .5 5. +3
    -0.0 1.0 .inf .NaN = << - ? : # & * ! | > % @ ` [] {} --- ... 9007199254740991 9007199254740993 0.1 1e-7 -.5
"""
Read = Callable[[str], Any]


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Read:
    """What a current kubectl would send to the API server for the `spec` of a manifest."""
    with display.opened(sys.__stderr__) as shown:
        program = tools.ensure(shown) / "kubectl"
    folder = tmp_path_factory.mktemp("manifests")

    def read(spec: str) -> Any:
        indented = "".join(f"  {line}" for line in spec.splitlines(keepends=True))
        manifest = folder / "manifest.yaml"
        head = "apiVersion: keep-operator.dev/v1alpha1\nkind: Workflow\nmetadata:\n  name: a\nspec:\n"
        manifest.write_text(f"{head}{indented}", encoding="utf-8")
        argv = [str(program), "label", "--local", "-f", str(manifest), "a=b", "-o", "json"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["spec"]

    return read


def test_every_workflow_has_one_hash(kubectl: Read) -> None:
    """A workflow that is moved from a file into a manifest makes no new version."""
    sent = kubectl("".join(_below(path.name, path.read_text(encoding="utf-8")) for path in corpus.ALL))
    for path in corpus.ALL:
        judged = workflow.read(path.read_text(encoding="utf-8"))
        assert judged.definition is not None
        inner, _, _ = workflow.unwrap(sent[path.name])
        assert inner is not None
        assert revision.content_hash(inner) == revision.content_hash(judged.definition), path.name


def test_what_is_not_refused_means_the_same(kubectl: Read) -> None:
    """No unquoted word that we let through is something else for kubectl."""
    chance = Random(1)  # noqa: S311 - a choice of words, no secret
    words = {
        *HARD.split(),
        *("".join(chance.choices("0123456789+-._eExXobnyT", k=chance.randint(1, 6))) for _ in range(3_000)),
    }
    clear: dict[str, Any] = {}
    for word in sorted(words):
        try:
            value = dialect.load(f"word: {word}\n").value["word"]
        except dialect.Malformed:
            continue
        clear[word] = value
    assert len(clear) > 1_000
    sent = kubectl("".join(f"word-{index}: {word}\n" for index, word in enumerate(clear)))
    told = [(word, clear[word], sent[f"word-{index}"]) for index, word in enumerate(clear)]
    assert [each for each in told if (each[1], type(each[1])) != (each[2], type(each[2]))] == []


def test_what_we_write_is_read_as_it_was(kubectl: Read) -> None:
    """Exported files and imported manifests mean for kubectl what they mean for us."""
    chance = Random(2)  # noqa: S311 - a choice of texts, no secret
    letters = "aä–🚨 \t\n:#'\"\\-{}[],&*!|>%@`0123456789.eyn"
    texts = [*HARD.split(), *("".join(chance.choices(letters, k=chance.randint(0, 12))) for _ in range(2_000))]
    numbers = [0, -1, 0.5, 1e-7, 2**53 - 1, -(2**53) + 1, 1.25e10]
    value = {"texts": texts, "keys": dict.fromkeys(texts, 1), "numbers": numbers, "rest": [None, True, False, [], {}]}
    assert kubectl(dialect.dump(value)) == value


def _below(name: str, text: str) -> str:
    return f"{json.dumps(name)}:\n" + "".join(f"  {line}\n" for line in text.splitlines())
