"""Text in which nothing is hidden."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keep_operator.domain.legible import legible

pytestmark = pytest.mark.unit


@given(st.text())
def test_nothing_is_unseen(text: str) -> None:
    """Whatever somebody writes, no control character and no character without a shape of its own reaches a reader."""
    shown = legible(text)
    assert not [each for each in shown if unicodedata.category(each) in ("Cc", "Cs") and each not in "\n\r\t"]
    assert not set(shown) & set("\u202e\u2066\u200b\ufeff\u00ad")
    assert legible(shown) == shown


@given(
    st.text(
        st.characters(
            min_codepoint=32, categories=("L", "N", "P", "S", "Zs"), exclude_characters="\u115f\u1160\u3164\uffa0"
        )
    )
)
def test_words_stay_what_they_are(text: str) -> None:
    """Letters, numbers and signs of every language are shown as they were written."""
    assert legible(text) == text
