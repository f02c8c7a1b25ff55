"""What stands on a page is what is there: nothing of it is unseen."""

from datetime import UTC, datetime

import pytest
from jinja2 import DictLoader

from keep_operator.console.pages.rendering import Renderer

pytestmark = pytest.mark.unit


TEMPLATE = '<p title="{{ text }}">{{ text }}</p><textarea>{{ text | as_typed }}</textarea>'


@pytest.fixture
def renderer() -> Renderer:
    """A renderer of one template, which shows a text and gives it back."""
    made = Renderer(lambda: datetime(2026, 6, 1, tzinfo=UTC))
    made._environment.loader = DictLoader({"it.html": TEMPLATE})
    return made


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("role == 'user\u202e \u2066// admins\u2069\u2066'", "role == &#39;user\\u202e \\u2066// admins\\u2069\\u2066&#39;"),
        ("pay\u200bload", "pay\\u200bload"),
        ("pay\u200dload\u200c", "pay\\u200dload\\u200c"),
        ("\x1b[2Jgone\x00", "\\u001b[2Jgone\\u0000"),
        ("a\U000e0041b\ufeff", "a\\U000e0041b\\ufeff"),
        ("half \ud800", "half \\ud800"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("👩\u200d💻 می\u200cخواهم Größe", "👩\u200d💻 می\u200cخواهم Größe"),
    ],
)  # fmt: skip
def test_what_nobody_would_see_is_written_out(renderer: Renderer, text: str, shown: str) -> None:
    """No character turns its neighbours around, hides or pretends; words of every language, and pictures, stay what they are."""
    page = renderer.render("it.html", {"text": text})
    assert page.startswith(f'<p title="{shown}">{shown}</p>')


def test_what_somebody_has_typed_is_given_back_as_it_is(renderer: Renderer) -> None:
    """A draft that cannot be compared is not changed by that."""
    assert "<textarea>a\u202eb&lt;</textarea>" in renderer.render("it.html", {"text": "a\u202eb<"})
