"""Parameters as templates leave them: texts that are lists, numbers, truths, or attempts at something else."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keep_operator.runner.actions import ActionFailed, Call, parameters, redaction

pytestmark = pytest.mark.unit

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(JSON, max_size=5) | st.dictionaries(st.text(max_size=8), JSON, max_size=5))
def test_a_list_that_became_text(value: Any) -> None:
    """What a template made of a list or an object is that again, written as JSON or as Python does it."""
    assert parameters.parse(json.dumps(value)) == value
    assert parameters.parse(repr(value)) == value


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "[" + "-" * 200_000 + "1]",
        "[1" + "+1" * 100_000 + "]",
        "{" * 50_000 + "}" * 50_000,
        "[__import__('os').system('true')]",
        "[().__class__]",
        "{1, 2}",
        "[b'x']",
        "[1e999]",
        "[open('/etc/passwd')]",
        "{'a': NaN}",
        "[" + "1," * 300_000 + "]",
        "[\0]",
        "[lambda: 1]",
        "[f'{1}']",
    ],
    ids=range(15),
)
def test_a_text_that_wants_to_be_more(text: str) -> None:
    """A text that is neither stays a text, runs nothing, and does not break the runner."""
    assert parameters.parse(text) == text


@pytest.mark.parametrize(
    ("value", "read"),
    [(True, True), ("true", True), ("Yes", True), (1, True), ("false", False), ("", False), (0, False), (None, True)],
)
def test_truths(value: object, read: bool) -> None:
    """A truth may be written as people and templates write it."""
    assert parameters.flag(Call("step", "http"), value, "verify", True) is read


def test_what_is_no_truth() -> None:
    """And is told by its name where it is none."""
    with pytest.raises(ActionFailed, match="http: verify must be true or false"):
        parameters.flag(Call("step", "http"), "perhaps", "verify", True)


@pytest.mark.parametrize("value", ["ten", "1.5", [], {}, "9" * 10_000])
def test_what_is_no_number(value: Any) -> None:
    """A number is told by its name where it is none."""
    made = Call("action", "pushover", parameters={"retry": value})
    if value == "9" * 10_000:
        assert parameters.number(made, "retry", 1) > 0
    else:
        with pytest.raises(ActionFailed, match="pushover: the parameter retry must be a whole number"):
            parameters.number(made, "retry", 1)


def test_which_words_are_secret() -> None:
    """Tokens in paths and queries are, words of an address and short ones are not."""
    made = Call(
        "action",
        "slack",
        config={"webhook_url": "https://hooks.example.com/services/T012345/B987654/xyzzy42xyzzy?k=abcdefgh"},
        parameters={
            "headers": {"Authorization": "Bearer tok-123456", "X-Trace": "visible-trace"},
            "message": "plain text",
        },
    )
    hidden = redaction.secrets(made)
    assert {"T012345", "xyzzy42xyzzy", "abcdefgh", "tok-123456"} <= set(hidden)
    assert not {"services", "hooks.example.com", "visible-trace", "plain text", "Bearer"} & set(hidden)
    assert redaction.clean({"a": ["see tok-123456"], "tok-123456": 1}, hidden) == {"a": ["see ***"], "***": 1}
