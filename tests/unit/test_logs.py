"""Log lines: one a record, readable, and without secrets."""

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keep_operator import logs
from keep_operator.logs import JsonFormatter, TextFormatter
from keep_operator.settings import LogFormat

pytestmark = pytest.mark.unit

SECRET = 'hun"ter2\\ünd\nmehr'
FORMS = (JsonFormatter, TextFormatter)


def record(message: str = "reconciled", *args: object, error: BaseException | None = None, **extra: Any) -> Any:
    """A record as a logger makes it."""
    exc_info = None if error is None else (type(error), error, error.__traceback__)
    made = logging.LogRecord("keep_operator.test", logging.INFO, "x.py", 1, message, args, exc_info)
    vars(made).update(extra)
    return made


def raised(error: BaseException) -> BaseException:
    """The error with a traceback."""
    try:
        raise error
    except BaseException as caught:
        return caught


def as_json(made: Any, *hidden: str) -> dict[str, Any]:
    """The record as a log collector reads it."""
    line = JsonFormatter(hidden).format(made)
    assert len(line.splitlines()) == 1
    found: dict[str, Any] = json.loads(line)
    return found


def test_json_is_one_object_a_line() -> None:
    """With time, level, logger, message, and what the caller adds."""
    found = as_json(record("%d objects", 3, kind="Provider", outcome="ready", duration_ms=1.5, reason=None))
    assert found.pop("ts").endswith("+00:00")
    assert found == {
        "level": "info",
        "logger": "keep_operator.test",
        "msg": "3 objects",
        "kind": "Provider",
        "outcome": "ready",
        "duration_ms": 1.5,
    }


@given(st.text(), st.one_of(st.text(), st.integers(), st.floats(), st.binary(), st.lists(st.text()), st.none()))
def test_json_is_one_line_whatever_is_in_it(message: str, extra: object) -> None:
    """Names and messages of users hold what they like."""
    line = JsonFormatter(()).format(record(message.replace("%", ""), object=extra))
    assert len(line.splitlines()) == 1
    assert line.isascii()
    json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@given(st.text(), st.text())
def test_text_is_one_line_whatever_is_in_it(message: str, name: str) -> None:
    """Control characters and line breaks do not forge a line, nor colour the terminal."""
    line = TextFormatter(()).format(record(message.replace("%", ""), object=name))
    assert len(line.splitlines()) == 1
    assert all(character.isprintable() for character in line)


def test_text_is_for_people() -> None:
    """Time, level, message, pairs."""
    line = TextFormatter(()).format(record("reconciled", kind="Provider", object="ns/ünïcode"))
    assert line[8:] == " INFO    reconciled  kind=Provider object=ns/ünïcode"


def test_an_error_in_text_cannot_forge_a_line() -> None:
    """What an exception says, with line breaks or without, is indented below the line that it belongs to."""
    error = raised(ValueError("no\n12:00:00 ERROR   all is lost\r\x1b[31m\u2028x"))
    first, *rest = TextFormatter(()).format(record("internal error", error=error)).split("\n")
    assert first.endswith("internal error")
    assert rest
    for line in rest:
        assert line.startswith("    ")
        assert all(character.isprintable() for character in line)
    assert any("all is lost" in line for line in rest)


def test_a_traceback_in_json_is_a_field() -> None:
    """With its line breaks, as collectors want it."""
    found = as_json(record("internal error", error=raised(ValueError("no"))))
    assert found["traceback"].startswith("Traceback")
    assert found["traceback"].endswith("ValueError: no\n")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "made",
    [
        record(f"cannot connect: {SECRET}"),
        record("cannot connect: %s", SECRET),
        record("cannot connect: %r", SECRET),
        record("x", url=f"postgresql://u:{SECRET}@h/db"),
        record("x", values=[SECRET, {"password": SECRET}]),
        record("x", values={SECRET: 1}),
        record("x", body=json.dumps({"password": SECRET})),
        record("x", cause=ValueError(SECRET)),
        record("x", error=raised(ValueError(SECRET))),
        record("x", error=raised(KeyError(SECRET))),
    ],
    ids=["message", "argument", "repr", "url", "list", "key", "json", "object", "traceback", "traceback repr"],
)
def test_a_secret_shows_nowhere(form: type[JsonFormatter | TextFormatter], made: Any) -> None:
    """However it got there, and however quoting has changed it (quotes, backslashes, line breaks, umlauts)."""
    line = form([SECRET]).format(made)
    assert "***" in line
    assert "ter2" not in line
    assert "mehr" not in line


def test_a_chain_of_errors_shows_no_secret() -> None:
    """The cause of a cause is printed too."""
    try:
        try:
            raise ValueError(SECRET)
        except ValueError as error:
            raise RuntimeError("outer") from error
    except RuntimeError as error:
        made = record("x", error=error)
    for form in FORMS:
        assert "ter2" not in form([SECRET]).format(made)


def test_numbers_that_are_secrets_do_not_show_either() -> None:
    """A PIN that came as a number; other numbers stay numbers."""
    found = as_json(record("x", pin=123456789, count=7, big=10**400), "123456789")
    assert (found["pin"], found["count"], found["big"]) == ("***", 7, 10**400)


def test_the_longer_of_two_secrets_is_hidden_first() -> None:
    """Else the rest of a password that begins with another would show."""
    found = as_json(record("abcdef-and-more"), "abcdef", "abcdef-and-more")
    assert found["msg"] == "***"


def test_short_secrets_do_not_blot_out_words() -> None:
    """A password of five letters is not hidden: the log would be full of stars."""
    assert as_json(record("keep going"), "keep", "")["msg"] == "keep going"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u:p%40ss@h:5432/db", ["p%40ss", "p@ss"]),
        ("postgresql://u@h/db", []),
        ("postgresql:///db?host=/tmp&user=u&password=p%23w&sslpassword=q", ["p%23w", "p#w", "q", "q"]),
        ("postgresql://u:p@one:1,two:2/db", ["p", "p"]),
        ("host=h password=p", []),
        ("postgresql://[::1", []),
        ("", []),
    ],
)
def test_the_passwords_of_a_url_are_found(url: str, expected: list[str]) -> None:
    """As they stand there and as they are; a URL that is none is for its reader to refuse."""
    assert logs.passwords(url) == expected


@pytest.fixture
def logging_as_it_was() -> Iterator[None]:
    """Leave the process's logging as it was found."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.mark.usefixtures("logging_as_it_was")
@pytest.mark.parametrize(
    ("form", "terminal", "is_json"),
    [
        (LogFormat.JSON, True, True),
        (LogFormat.TEXT, False, False),
        (LogFormat.AUTO, True, False),
        (LogFormat.AUTO, False, True),
    ],
)
def test_the_form_is_chosen(form: LogFormat, terminal: bool, is_json: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON in a cluster, text on a terminal, unless said otherwise; set up twice, it still speaks once."""
    stream = io.StringIO()
    stream.isatty = lambda: terminal  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", stream)
    logs.configure(form, hidden=["hunter2-secret"])
    logs.configure(form, hidden=["hunter2-secret"])
    logging.getLogger("keep_operator.test").info("the password is hunter2-secret")
    logging.getLogger("kopf.objects").info("noise")
    logging.getLogger("keep_operator.test").debug("quiet")
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("{") == is_json
    assert "the password is ***" in line
