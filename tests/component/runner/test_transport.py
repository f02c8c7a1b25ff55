"""Servers that lie, stall, drip, cut and flood: each ends in a failure that says what happened, in time."""

import asyncio
import gzip
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trustme
from aiohttp import web

from component.runner import far_side
from component.runner.conftest import LOOPBACK, Make
from component.runner.far_side import FarSide, answer
from keep_operator.runner.actions import ActionFailed, Outcome, perform, transport

pytestmark = pytest.mark.component

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


async def fails(call: Make, talk: Talk, **options: Any) -> ActionFailed:
    async with far_side.raw(talk) as port:
        with pytest.raises(ActionFailed) as failed:
            await perform(call("http", url=f"http://127.0.0.1:{port}/token-in-path", **options))
    assert "127.0.0.1" in str(failed.value)
    assert "token-in-path" not in str(failed.value)
    return failed.value


async def test_headers_that_drip(call: Make) -> None:
    """A server that sends a byte now and then, for ever, is given up when the time of the step is over."""

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while True:
            writer.write(b"a")
            await writer.drain()
            await asyncio.sleep(0.02)

    error = await fails(call, drip, timeout_s=0.4)
    assert "within 0.4 s" in str(error)
    assert error.retryable and error.may_have_acted


async def test_a_body_that_drips(call: Make) -> None:
    """Nor does a body that never ends keep a step longer than its time."""

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"Content-Length: 100000\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.02)

    assert (await fails(call, drip, timeout_s=0.4)).retryable


async def test_silence(call: Make) -> None:
    """A server that takes the connection and says nothing is given up as well."""

    async def say_nothing(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        await asyncio.sleep(60)

    assert (await fails(call, say_nothing, timeout_s=0.3)).may_have_acted


async def test_a_lookup_that_hangs(call: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that does not answer costs no more than the time of the step."""
    from threading import Event

    from keep_operator.runner import egress

    over = Event()
    monkeypatch.setattr(egress, "look_up", lambda host, port: over.wait(20) and [])
    try:
        with pytest.raises(ActionFailed, match=r"within 0\.3 s"):
            await perform(call("http", url="http://slow.example/", timeout_s=0.3))
    finally:
        over.set()


@pytest.mark.parametrize("told", [True, False])
async def test_a_flood(told: bool, call: Make) -> None:
    """Of an answer of 100 MB not more than a mebibyte is taken, whether the server tells the length or not."""
    written = 0

    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(HEAD + (b"Content-Length: 100000000\r\n\r\n" if told else b"Connection: close\r\n\r\n"))
        for _hundred_kilobytes in range(1000):
            writer.write(b"x" * 100_000)
            await writer.drain()
            written += 100_000

    error = await fails(call, flood)
    assert "more than 1024 KiB" in str(error)
    assert not error.retryable
    assert written < 20_000_000


async def test_a_bomb(call: Make, there: FarSide) -> None:
    """A hundred kilobytes that unpack to a hundred megabytes are not unpacked."""
    packed = gzip.compress(b"0" * 100_000_000)

    async def bomb(_: web.Request) -> web.StreamResponse:
        return web.Response(body=packed, headers={"Content-Encoding": "gzip"})

    there.answers(bomb)
    with pytest.raises(ActionFailed, match="more than 1024 KiB"):
        await perform(call("http", url=there.url))


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_packed_answers_are_read(encoding: str, call: Make, there: FarSide) -> None:
    """Servers that pack what they send are understood."""
    import zlib

    pack = gzip.compress if encoding == "gzip" else zlib.compress

    async def packed(_: web.Request) -> web.StreamResponse:
        return web.Response(body=pack(b'{"a": 1}'), headers={"Content-Encoding": encoding})

    there.answers(packed)
    assert (await perform(call("http", url=there.url))).result["body"] == {"a": 1}


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress"])
async def test_packed_as_nobody_asked(encoding: str, call: Make, there: FarSide) -> None:
    """An answer that cannot be read is an error, and no result of odd characters."""

    async def packed(_: web.Request) -> web.StreamResponse:
        return web.Response(body=b"\x8b\x01\x80", headers={"Content-Encoding": encoding})

    there.answers(packed)
    with pytest.raises(ActionFailed, match="packs its answer in a way that it was not asked for"):
        await perform(call("http", url=there.url))


async def test_packed_and_cut_off(call: Make, there: FarSide) -> None:
    """A packed answer that lacks its end is no answer."""

    async def cut(_: web.Request) -> web.StreamResponse:
        return web.Response(body=gzip.compress(b"x" * 10_000)[:-20], headers={"Content-Encoding": "gzip"})

    there.answers(cut)
    with pytest.raises(ActionFailed, match="ends too early"):
        await perform(call("http", url=there.url))


async def test_a_length_that_lies(call: Make) -> None:
    """An answer that ends before the length that it told is an error, and no short answer."""

    async def short(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"Content-Length: 1000\r\n\r\n{}")
        await writer.drain()

    error = await fails(call, short)
    assert "ends too early" in str(error)
    assert error.retryable


async def test_chunks_without_an_end(call: Make) -> None:
    """So is one whose last chunk is missing."""

    async def short(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{}   \r\n")
        await writer.drain()

    assert "ends too early" in str(await fails(call, short))


@pytest.mark.parametrize(
    "said", [b"SSH-2.0-OpenSSH_9.2\r\n", b"\0" * 100, b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 200_000 + b"\r\n\r\n"]
)
async def test_no_http(said: bytes, call: Make) -> None:
    """What is no web server, or one without measure, is told as that."""

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await writer.drain()

    assert "does not speak HTTP" in str(await fails(call, talk))


async def test_hung_up(call: Make) -> None:
    """A server that hangs up may have done what it was asked: that is told to whoever decides about a repetition."""

    async def hang_up(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read(10)

    error = await fails(call, hang_up, method="POST")
    assert error.retryable and error.may_have_acted


async def test_nobody_there(call: Make) -> None:
    """Where nobody listens nothing was done, and it can be tried again."""
    async with far_side.raw(_nothing) as port:
        pass
    with pytest.raises(ActionFailed, match=r"http at 127\.0\.0\.1 cannot be reached: .*refused") as failed:
        await perform(call("http", url=f"http://127.0.0.1:{port}/"))
    assert failed.value.retryable and not failed.value.may_have_acted


async def _nothing(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    pass


async def test_no_such_name(call: Make) -> None:
    """A name that has no address is told as that."""
    with pytest.raises(ActionFailed, match=r"nowhere\.invalid cannot be found") as failed:
        await perform(call("http", url="http://nowhere.invalid/"))
    assert failed.value.retryable and not failed.value.may_have_acted


@pytest.mark.parametrize(
    ("status", "retryable", "acted"),
    [(400, False, False), (401, False, False), (404, False, False), (408, True, True), (429, True, False),
     (500, False, True), (502, True, True), (503, True, True), (504, True, True)],
)  # fmt: skip
async def test_which_answers_pass(status: int, retryable: bool, acted: bool, call: Make, there: FarSide) -> None:
    """What the far side cannot do now is tried again; what it will not do is not."""
    there.answers(answer("busy, or not", status, {"Retry-After": "7"}))
    with pytest.raises(ActionFailed, match=f"answered {status} .*busy, or not") as failed:
        await perform(call("http", url=there.url))
    assert (failed.value.retryable, failed.value.may_have_acted) == (retryable, acted)
    assert failed.value.retry_after_s == 7


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("0", 0.0),
        ("-5", 0.0),
        ("1e9", 86400.0),
        ("nan", None),
        ("soon", None),
        ("Sun, 29 Nov 2026 12:00:30 GMT", 30.0),
    ],
)
async def test_when_to_come_back(said: str, seconds: float | None, call: Make, there: FarSide) -> None:
    """Servers say in two ways when to come back, and some say nonsense."""
    headers = {"Retry-After": said, "Date": "Sun, 29 Nov 2026 12:00:00 GMT"}
    there.answers(answer("", 503, headers))
    with pytest.raises(ActionFailed) as failed:
        await perform(call("http", url=there.url))
    assert failed.value.retry_after_s == seconds


@pytest.fixture
def authority(monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """A certificate authority that the runner trusts."""
    ca = trustme.CA()

    def context(verify: bool) -> ssl.SSLContext:
        made = ssl.create_default_context()
        ca.configure_trust(made)
        if not verify:
            made.check_hostname = False
            made.verify_mode = ssl.CERT_NONE
        return made

    monkeypatch.setattr(transport, "_context", context)
    return ca


def _server_context(ca: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert(name).configure_cert(context)
    return context


async def test_a_certificate_for_another(authority: trustme.CA, call: Make) -> None:
    """A certificate of another host, or of a stranger, ends the call before anything is sent; `verify: false` takes it."""
    for context in (_server_context(authority, "other.example"), _server_context(trustme.CA(), "127.0.0.1")):
        async with far_side.serve(context) as there:
            with pytest.raises(ActionFailed, match="has a certificate that is not accepted") as failed:
                await perform(call("http", url=there.url))
            assert not failed.value.retryable
            assert there.sent == []
            assert (await perform(call("http", url=there.url, verify=False))).result["status_code"] == 200
    async with far_side.serve(_server_context(authority, "127.0.0.1")) as there:
        assert (await perform(call("http", url=there.url))).result["status_code"] == 200


async def test_no_tls_where_it_is_asked_for(call: Make, there: FarSide) -> None:
    """https to a server of http is told as that."""
    with pytest.raises(ActionFailed, match=r"TLS|connection"):
        await perform(call("http", url=there.url.replace("http:", "https:")))


async def test_redirects_as_browsers_follow_them(call: Make, there: FarSide) -> None:
    """A moved page is found; after a form it is read, and 307 and 308 send the same again."""
    for status, method, arrives in (
        (302, "POST", "GET"),
        (303, "PUT", "GET"),
        (307, "POST", "POST"),
        (308, "PUT", "PUT"),
    ):
        there.sent.clear()
        there.answers(far_side.redirect("/there?x=1", status))
        await perform(call("http", url=f"{there.url}/here", method=method, body={"a": 1}))
        assert (there.last.method, there.last.path, there.last.query) == (arrives, "/there", {"x": "1"})
        assert there.last.body == ('{"a": 1}' if arrives == method else "")


async def test_credentials_stay_where_they_belong(call: Make, there: FarSide) -> None:
    """A server that redirects to another one does not give it the credentials that it was sent."""
    headers = {"Authorization": "Bearer abcdefgh", "X-Api-Key": "ijklmnop", "Cookie": "c=d", "X-Trace": "1"}
    async with far_side.serve() as other:
        there.answers(far_side.redirect(f"{other.url}/"), far_side.redirect("/again"))
        await perform(call("http", url=there.url, headers=headers))
        assert other.last.headers.keys() & {"Authorization", "X-Api-Key", "Cookie"} == set()
        assert other.last.headers["X-Trace"] == "1"
        await perform(call("http", url=there.url, headers=headers))
        assert there.last.headers["X-Api-Key"] == "ijklmnop"


async def test_redirects_in_a_circle(call: Make, there: FarSide) -> None:
    """A circle of redirects ends after five."""
    there.otherwise = far_side.redirect("/again")
    with pytest.raises(ActionFailed, match="redirects more than 5 times"):
        await perform(call("http", url=there.url))
    assert len(there.sent) == 6


@pytest.mark.parametrize(
    "headers",
    [{"X": "a\r\nY: b"}, {"X\r\n": "a"}, {"X": "a\0b"}, {"Transfer-Encoding": "chunked"}, {"Content-Length": "0"}],
)
async def test_headers_that_would_be_two(headers: dict[str, str], call: Make, there: FarSide) -> None:
    """A header cannot be made of what makes two of it, or another message of the whole."""
    with pytest.raises(ActionFailed):
        await perform(call("http", url=there.url, headers=headers))
    assert there.sent == []


async def test_nan_is_no_json(call: Make, there: FarSide) -> None:
    """What the database could not keep as JSON is kept as the text that it is."""
    there.answers(answer('{"a": NaN}'), answer("[" * 100_000), answer("[1e999, -1e999]"), answer("[1e-999, 1.5]"))
    assert (await perform(call("http", url=there.url))).result["body"] == '{"a": NaN}'
    assert (await perform(call("http", url=there.url))).result["body"] == "[" * 100_000
    assert (await perform(call("http", url=there.url))).result["body"] == "[1e999, -1e999]"
    assert (await perform(call("http", url=there.url))).result["body"] == [0.0, 1.5]


@pytest.mark.parametrize("depth", [20, 500, 900, 990])
async def test_deep_json(depth: int, call: Make, there: FarSide) -> None:
    """JSON that is nested deeply is read, or refused by name; it never breaks the runner."""
    there.answers(answer("[" * depth + "]" * depth))
    try:
        outcome = await perform(call("http", url=there.url))
    except ActionFailed as failed:
        outcome = Outcome(message=str(failed))
    assert outcome.result is not None or "nested too deeply" in outcome.message


async def test_given_up_from_outside(call: Make, there: FarSide) -> None:
    """A run that is cancelled lets go of its connection at once."""

    async def wait(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        raise AssertionError

    there.answers(wait)
    task = asyncio.create_task(perform(call("http", url=there.url)))
    await there.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_the_policy_of_the_tests() -> None:
    """Tests of this folder reach loopback because they list it, as a user would."""
    assert LOOPBACK.networks
