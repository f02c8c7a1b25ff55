"""How the operator speaks of what went wrong with the API server."""

import pytest

from keep_operator.cluster import failures
from keep_operator.cluster.credentials import Identity, basic, bearer
from keep_operator.cluster.events import MESSAGE_LIMIT_BYTES, clip

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain words", "plain words"),
        ("two\nlines\tand\x00more\x1b[31m", "two lines and more [31m"),
        ("zwei Wörter — 二", "zwei Wörter — 二"),
        ("\udc80", ""),
        ("x" * 500, "x" * 299 + "…"),
        ("  ", ""),
    ],
)
def test_foreign_text_is_shown_on_one_line(text: str, shown: str) -> None:
    """What a server says cannot move the reader's cursor, forge a log line or fill the screen."""
    assert failures.plain(text) == shown


@pytest.mark.parametrize(
    "document", [None, [], "x", {}, {"kind": "Tenant"}, {"kind": "Status", "details": 7, "code": "x"}]
)
def test_an_odd_status_is_read_without_a_crash(document: object) -> None:
    """A server may say anything."""
    status = failures.Status.read(document)
    assert not status.names_an_absent_object
    assert (status.reason, status.code, status.causes) == ("", 0, ())


def test_a_status_with_odd_causes_is_read() -> None:
    """Of a list of causes those count that are causes."""
    causes = [None, 7, {"reason": "FieldManagerConflict", "message": ["x"]}]
    status = failures.Status.read({"kind": "Status", "details": {"causes": causes}})
    assert status.causes == (("FieldManagerConflict", ""),)


@pytest.mark.parametrize("code", [*range(300, 310), *range(400, 430), 451, 500, 501, 502, 503, 504, 599])
@pytest.mark.parametrize("genuine", [True, False])
def test_every_answer_becomes_one_of_our_errors(code: int, genuine: bool) -> None:
    """No status code leaves a reconcile without a reason to show."""
    error = failures.refusal("get tenants keep", code, failures.Status(genuine=genuine, message="because"))
    assert error.reason
    assert "get tenants keep" in error.message


@pytest.mark.parametrize(
    ("authorization", "text"),
    [
        (bearer("secret-token"), "you sent Bearer secret-token and secret-token again"),
        (basic("admin", "pass:word"), f"you sent {basic('admin', 'pass:word')}, that is admin:pass:word"),
    ],
)
def test_our_own_secret_is_taken_out_of_what_comes_back(authorization: str, text: str) -> None:
    """A server that repeats our credentials does not put them into a message."""
    redacted = Identity(authorization).redact(text)
    assert "***" in redacted
    assert "secret-token" not in redacted
    assert "pass:word" not in redacted
    assert authorization.partition(" ")[2] not in redacted


def test_nothing_is_taken_out_for_those_without_credentials() -> None:
    """A message stays as it is when there is nothing to hide."""
    assert Identity().redact("as it is") == "as it is"
    assert Identity("Basic %%%").redact("as it is") == "as it is"


@pytest.mark.parametrize(
    "message", ["x" * 1024, "x" * 1025, "ü" * 600, "\U0001f600" * 400, "a\nb" * 1000, "\udc80" * 2000, ""]
)
def test_an_event_s_message_fits(message: str) -> None:
    """However long a message is, and whatever characters it has, the Event can be written."""
    clipped = clip(message)
    assert len(clipped.encode()) <= MESSAGE_LIMIT_BYTES
    assert clipped.isprintable()
    if len(message.encode(errors="replace")) <= MESSAGE_LIMIT_BYTES and message.isprintable():
        assert clipped == message
