"""CEL of triggers: taken as Keep's own reader takes it, refused with the place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keep_operator.domain.grammar import expressions

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "text",
    [
        'severity == "critical"',
        "severity > 'info' && source.contains('zabbix')",
        'name.matches(r"^a\\d+$") || has(labels.team)',
        "labels['team'] in ['a', 'b'] ? x : !y",
        "1 + 2 * 3 >= 4.5 && size(tags) == 0",
        "(" * 50 + "a" + ")" * 50,
        "a ==\n  1",
    ],
)
def test_cel_is_taken(text: str) -> None:
    """What Keep can evaluate is let through."""
    assert expressions.fault(text) is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is empty"),
        ("  \n", "is empty"),
        ("a = 1", "is not CEL: line 1, column 3, at '= 1'; equality is written =="),
        ("a and b", "is not CEL: line 1, column 3, at 'and b'; and is written &&"),
        ("a ==\n  b or c", "is not CEL: line 2, column 5, at 'or c'; or is written ||"),
        ("not a", "is not CEL: line 1, column 5, at 'a'"),
        ("(a", "is not CEL: it ends too early"),
        ("a &&", "is not CEL: it ends too early"),
        ('a == "x', "is not CEL: line 1, column 6, at '\"x'"),
        ("a" * 4_097, "is longer than 4096 characters; split it into several triggers"),
    ],
)
def test_what_is_no_cel_is_told_with_its_place(text: str, told: str) -> None:
    """The place, and the slips that people from other languages make."""
    assert expressions.fault(text) == told


@given(st.text("ab01.()[]{}'\"&|!=<>+-*/%?:, \n\\r", max_size=30))
def test_any_text_is_answered(text: str) -> None:
    """However broken, an expression never ends in a traceback."""
    answer = expressions.fault(text)
    assert answer is None or answer.startswith("is ")
