"""Letters: what a mail server is told, with and without TLS, and what its refusals mean."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest
import trustme

from component.runner.conftest import Make
from keep_operator.runner.actions import ActionFailed, perform

pytestmark = pytest.mark.component

LETTER: dict[str, Any] = {
    "from_email": "keep@example.com",
    "from_name": "Keep, the ärger",
    "to_email": ["a@example.com", "b@example.com"],
    "subject": "Disk füll",
    "body": "It is full.\n.\nReally.",
}


@dataclass
class Post:
    """A mail server: what it was told, and by what it answers."""

    port: int = 0
    context: ssl.SSLContext | None = None
    login: str | None = None
    secure_at_login: bool = False
    envelopes: list[tuple[str, list[str], EmailMessage]] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)
    hang_up_after: str = ""


class _Conversation:
    """One client's talk with the server."""

    def __init__(self, post: Post, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, secure: bool) -> None:
        self._post, self._reader, self._writer = post, reader, writer
        self._secure = secure
        self._sender = ""
        self._recipients: list[str] = []

    async def hold(self) -> None:
        self._writer.write(b"220 post.example ESMTP\r\n")
        while line := (await self._reader.readline()).decode().strip():
            verb, _, rest = line.partition(" ")
            if verb.upper() == self._post.hang_up_after:
                return
            self._writer.write((await self._answer(verb.upper(), rest)).encode() + b"\r\n")
            await self._writer.drain()
            if verb.upper() == "STARTTLS" and self._post.context:
                await self._writer.start_tls(self._post.context)
                self._secure = True
            if verb.upper() == "QUIT":
                return

    async def _answer(self, verb: str, rest: str) -> str:
        post = self._post
        said = post.answers.get(f"{verb} {rest}", post.answers.get(verb, "250 fine"))
        match verb:
            case "EHLO":
                starttls = ["250-STARTTLS"] if post.context and not self._secure else []
                return "\r\n".join(["250-post.example", "250-8BITMIME", "250-AUTH PLAIN", *starttls, "250 SMTPUTF8"])
            case "STARTTLS":
                return "220 go ahead" if post.context else "502 no"
            case "AUTH":
                post.login, post.secure_at_login = rest, self._secure
                return post.answers.get("AUTH", "235 welcome")
            case "MAIL":
                self._sender, self._recipients = rest, []
            case "RCPT" if said.startswith("250"):
                self._recipients.append(rest.removeprefix("TO:").strip("<>"))
            case "DATA":
                self._writer.write(b"354 go on\r\n")
                raw = await self._reader.readuntil(b"\r\n.\r\n")
                letter = message_from_bytes(raw[:-5].replace(b"\r\n..", b"\r\n."), policy=policy.default)
                assert isinstance(letter, EmailMessage)
                post.envelopes.append((self._sender, self._recipients, letter))
        return said


@asynccontextmanager
async def serve(context: ssl.SSLContext | None = None, *, at_once: bool = False) -> AsyncIterator[Post]:
    post = Post(context=context)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _Conversation(post, reader, writer, at_once).hold()
        except (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context if at_once else None)
    post.port = server.sockets[0].getsockname()[1]
    try:
        yield post
    finally:
        server.close()


@pytest.fixture
def authority(monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """A certificate authority that the runner's machine trusts."""
    ca, make = trustme.CA(), ssl.create_default_context

    def trusting(*args: Any, **kwargs: Any) -> ssl.SSLContext:
        context = make(*args, **kwargs)
        if not args:
            ca.configure_trust(context)
        return context

    monkeypatch.setattr(ssl, "create_default_context", trusting)
    return ca


def certificate(ca: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(name).configure_cert(context)
    return context


def config(post: Post, encryption: str = "None", **more: Any) -> dict[str, Any]:
    return {"smtp_server": "127.0.0.1", "smtp_port": post.port, "encryption": encryption, **more}


async def test_a_letter(call: Make) -> None:
    """A letter arrives with its names, its umlauts, its lone dot, and an id that a repetition has too."""
    async with serve() as post:
        done = await perform(call("smtp", config(post), **LETTER))
        await perform(call("smtp", config(post), **LETTER))
    sender, recipients, letter = post.envelopes[0]
    assert "keep@example.com" in sender
    assert recipients == ["a@example.com", "b@example.com"]
    assert letter["From"] == '"Keep, the ärger" <keep@example.com>'
    assert (letter["To"], letter["Subject"]) == ("a@example.com, b@example.com", "Disk füll")
    assert letter.get_content().replace("\r\n", "\n").strip() == LETTER["body"]
    assert letter["Message-ID"] == post.envelopes[1][2]["Message-ID"]
    assert done.result == {
        "from": "keep@example.com",
        "to": LETTER["to_email"],
        "subject": "Disk füll",
        "body": LETTER["body"],
    }


async def test_html_for_one(call: Make) -> None:
    """HTML goes before plain text, and recipients may be one text with commas."""
    async with serve() as post:
        await perform(
            call("smtp", config(post), **{**LETTER, "html": "<b>x</b>", "to_email": "a@example.com, C <c@example.com>"})
        )
    _, recipients, letter = post.envelopes[0]
    assert recipients == ["a@example.com", "c@example.com"]
    assert letter.get_content_type() == "text/html"


@pytest.mark.parametrize("encryption", ["TLS", "SSL"])
async def test_with_tls(encryption: str, call: Make, authority: trustme.CA) -> None:
    """The password is told only behind TLS, and only to the server that the certificate names."""
    given = {"smtp_username": "keep", "smtp_password": "smtp-password"}
    async with serve(certificate(authority), at_once=encryption == "SSL") as post:
        await perform(call("smtp", config(post, encryption, **given), **LETTER))
        assert post.login is not None and post.secure_at_login
        assert len(post.envelopes) == 1
    for context in (certificate(trustme.CA()), certificate(authority, "other.example")):
        async with serve(context, at_once=encryption == "SSL") as post:
            with pytest.raises(ActionFailed, match="has a certificate that is not accepted"):
                await perform(call("smtp", config(post, encryption, **given), **LETTER))
            assert post.login is None


async def test_no_tls_there(call: Make) -> None:
    """A server without STARTTLS gets neither password nor letter where the Provider wants TLS."""
    async with serve() as post:
        with pytest.raises(ActionFailed, match="See encryption of the Provider"):
            await perform(call("smtp", config(post, "TLS", smtp_username="u", smtp_password="pppppp"), **LETTER))
        assert (post.login, post.envelopes) == (None, [])


@pytest.mark.parametrize(
    ("verb", "said", "told", "retryable"),
    [
        ("MAIL", "451 later", "answered 451 later", True),
        ("MAIL", "550 never", "answered 550 never", False),
        ("RCPT", "550 no such user", "takes letters to none of the recipients: 550 no such user", False),
        ("RCPT", "450 greylisted", "450 greylisted", True),
        ("AUTH", "535 wrong", "does not accept the credentials: 535", False),
    ],
)
async def test_refusals(verb: str, said: str, told: str, retryable: bool, call: Make) -> None:
    """Codes of 400 pass and can be tried again, those of 500 do not."""
    async with serve() as post:
        post.answers[verb] = said
        with pytest.raises(ActionFailed, match=told) as failed:
            await perform(call("smtp", config(post, smtp_username="u", smtp_password="pppppp"), **LETTER))
    assert failed.value.retryable is retryable
    assert "pppppp" not in str(failed.value)


async def test_one_of_two_is_refused(call: Make) -> None:
    """A letter that one of two gets is sent, and the log of the run says who did not get it."""
    async with serve() as post:
        post.answers["RCPT TO:<b@example.com>"] = "550 gone"
        done = await perform(call("smtp", config(post), **LETTER))
    assert "not taken for b@example.com" in done.message


@pytest.mark.parametrize("said", ["221 bye", "500 stay", ""])
async def test_how_they_part(said: str, call: Make) -> None:
    """A letter that was taken is sent, even if the server then says something odd, or hangs up."""
    async with serve() as post:
        post.answers["QUIT"] = said
        post.hang_up_after = "" if said else "QUIT"
        assert (await perform(call("smtp", config(post), **LETTER))).message == "Sent to 2"


async def test_hung_up_in_the_middle(call: Make) -> None:
    """A server that hangs up before it says what became of the letter may have taken it."""
    async with serve() as post:
        post.hang_up_after = "DATA"
        with pytest.raises(ActionFailed, match="closed the connection") as failed:
            await perform(call("smtp", config(post), **LETTER))
    assert failed.value.may_have_acted


async def test_a_server_that_never_speaks(call: Make) -> None:
    """A thread that waits for a silent server is let go when the time is over: its connection is cut."""
    gone = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        gone.set()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    post = Post(port=server.sockets[0].getsockname()[1])
    with pytest.raises(ActionFailed, match=r"within 0\.3 s"):
        await perform(call("smtp", config(post), timeout_s=0.3, **LETTER))
    await asyncio.wait_for(gone.wait(), 10)
    server.close()


async def test_a_server_that_drips(call: Make) -> None:
    """Nor does one keep a thread that says a little for ever, or very much."""

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(b"220-" + b"x" * 400 + b"\r\n")
                await writer.drain()
                await asyncio.sleep(0)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    post = Post(port=server.sockets[0].getsockname()[1])
    with pytest.raises(ActionFailed, match=r"more than any mail server does|within 5 s"):
        await perform(call("smtp", config(post), timeout_s=5, **LETTER))
    server.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"from_email": "no address"},
        {"from_email": "a@example.com\r\nBcc: c@example.com"},
        {"from_name": "x\r\nBcc: c@example.com"},
        {"to_email": []},
        {"to_email": "nobody"},
        {"body": ""},
    ],
)
async def test_letters_that_are_none(wrong: dict[str, Any], call: Make) -> None:
    """A letter without an address or a text is refused, and nobody smuggles in a recipient by a line break."""
    async with serve() as post:
        with pytest.raises(ActionFailed):
            await perform(call("smtp", config(post), **{**LETTER, **wrong}))
        assert post.envelopes == []


async def test_a_subject_of_two_lines(call: Make) -> None:
    """A subject with line breaks, as templates make them, becomes one line."""
    async with serve() as post:
        await perform(call("smtp", config(post), **{**LETTER, "subject": "a\r\nBcc: c@example.com"}))
    assert post.envelopes[0][2]["Subject"] == "a Bcc: c@example.com"
    assert post.envelopes[0][2]["Bcc"] is None
