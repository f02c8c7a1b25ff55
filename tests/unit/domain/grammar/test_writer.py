"""YAML that is written faster than by the library is the library's YAML."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keep_operator.domain import comparison, patch
from keep_operator.domain.grammar import dialect, workflow, writer
from unit.domain.grammar import corpus

pytestmark = pytest.mark.unit

ORDINARY = ("a", "CPU is at {{ x }}", "{{ steps.a.results }}", "[x", "it's", "a: b", "a #b", "a:", "{ " * 700)
READ_AS_OTHERS = (
    "yes",
    "y",
    "null",
    "No",
    "5m",
    "1_0",
    "~",
    "=",
    "<<",
    "",
    "---",
    "...",
    "- a",
    "? a",
    "#a",
    "@a",
    "%a",
)
ODD = (
    "a ",
    " a",
    "a\nb",
    "\n a",
    "a\n",
    "\n",
    "a\n\n b \n",
    "é",
    "\U0001f600",
    "a\u2028b",
    "a\x85b",
    "\t",
    "a\tb",
    "\x7f",
    "\ufeff",
)
WORDS = st.sampled_from((*ORDINARY, *READ_AS_OTHERS, *ODD, "x" * 2_000, "a b " * 20_000))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | WORDS
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False).filter(lambda it: not it.is_integer())
    | TEXTS
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=20
)


@given(VALUES)
def test_what_is_written_is_what_the_library_writes(value: object) -> None:
    """An exported file and a diff look the same, whoever wrote them."""
    assert writer.dump(value) == writer.by_library(value)
    assert writer.dump(value, comparison.rank) == writer.by_library(comparison.ordered(value))


@given(st.lists(VALUES, max_size=5))
def test_entries_are_the_lines_of_their_list(values: list[Any]) -> None:
    """A diff tells steps apart that were written together."""
    told = writer.entries(values)
    assert len(told) == len(values)
    assert [line for each in told for line in each] == (writer.lines(values) if values else [])
    assert all(first.startswith("- ") for first, *_ in told)


@pytest.mark.parametrize("path", corpus.ALL, ids=lambda path: path.name)
def test_real_definitions_are_written_as_by_the_library(path: Path) -> None:
    """What people have in their repositories."""
    definition = workflow.read(corpus.text(path)).definition
    assert writer.dump(definition) == writer.by_library(definition)


def test_a_text_that_ends_with_empty_lines_ends_no_document() -> None:
    """Whoever shows or exports a definition with such a script gets one document, whole."""
    definition = {"steps": [{"name": "a", "script": "one\n\n"}, {"name": "b", "script": "\n"}], "triggers": []}
    for text in (patch.canonical_yaml(definition), writer.dump(definition)):
        assert dialect.load(text).value == definition
