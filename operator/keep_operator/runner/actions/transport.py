"""One HTTP request with everything bounded: where to, how long, how much; and what its failure means."""

import json
import os
import ssl
import zlib
from base64 import b64encode
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from functools import cache
from math import isfinite
from typing import Any, Final

import aiohttp
from aiohttp import ClientResponse, ClientSession, ClientTimeout, DummyCookieJar
from yarl import URL

from keep_operator.runner import egress
from keep_operator.runner.actions import redaction
from keep_operator.runner.actions.call import ActionFailed, Call
from keep_operator.runner.egress import OffLimits

# Of an answer, before and after it is unpacked. Results stand in the database, and templates walk through them.
MOST_BYTES: Final = 1024 * 1024
# A message quotes no more of an answer than this.
_QUOTED: Final = 300
# Of what the far side says of when to come back; more is as good as never.
_LONGEST_WAIT_S: Final = 24 * 3600
WAIT_AND_RETRY: Final = frozenset({408, 425, 429, 502, 503, 504})
# They decide about how the message is read, and are made by whoever sends it.
_OUR_HEADERS: Final = frozenset({"content-length", "transfer-encoding", "connection", "upgrade", "trailer"})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_CHUNK: Final = 64 * 1024

TALKING_TO: Final[ContextVar[str]] = ContextVar("talking_to", default="")
"""The host of the request under way, for messages."""


@dataclass(frozen=True, slots=True)
class Answer:
    """``headers`` have their names in lower case. ``body`` is unpacked, and complete."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text, whatever it is."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body as JSON. Raises ValueError where it is none."""
        return read_json(self.text)

    @property
    def content(self) -> Any:
        """The body as JSON, else as text."""
        try:
            return self.json()
        except ValueError:
            return self.text


def read_json(text: str) -> Any:
    """JSON as everybody reads it. Raises ValueError; also for NaN, for 1e999, and for what is nested too deeply."""

    def refuse(name: str) -> Any:
        raise ValueError(f"{name} is no JSON")

    def finite(number: str) -> float:
        return value if isfinite(value := float(number)) else refuse("a number that is too large")

    try:
        return json.loads(text, parse_constant=refuse, parse_float=finite)
    except RecursionError:
        raise ValueError("nested too deeply") from None


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent. ``json`` is written as JSON, ``form`` as a form, ``body`` as it is.

    ``redirects`` are followed up to that number; with 0 the answer that redirects is the answer.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    params: Mapping[str, str] = field(default_factory=dict, repr=False)
    json: Any = field(default=None, repr=False)
    form: Mapping[str, str] | None = field(default=None, repr=False)
    body: bytes | None = field(default=None, repr=False)
    auth: tuple[str, str] | None = field(default=None, repr=False)
    verify: bool = True
    redirects: int = 0


async def exchange(call: Call, request: Request) -> Answer:
    """The answer to one request, whatever its status. Raises ActionFailed when there is none, or too much of it."""
    target = _target(call, request.url)
    for left in range(request.redirects, -1, -1):
        answer = await _exchange(call, request, target)
        location = answer.headers.get("location")
        if answer.status not in _REDIRECTS or location is None or not request.redirects:
            return answer
        if not left:
            break
        try:
            there = _target(call, str(target.join(URL(location))))
        except ValueError:
            raise failed(call, "redirects to what is no address", may_have_acted=True) from None
        request, target = _redirected(request, answer.status, target, there), there
    raise failed(call, f"redirects more than {request.redirects} times", may_have_acted=True)


def _redirected(request: Request, status: int, here: URL, there: URL) -> Request:
    """The request that follows: as browsers do it, and without credentials for another host."""
    headers = dict(request.headers)
    request = replace(request, params={})
    if here.origin() != there.origin():
        headers = {name: value for name, value in headers.items() if not redaction.is_telling(name)}
        request = replace(request, auth=None)
    if status == 303 or (status in (301, 302) and request.method == "POST"):
        headers = {name: value for name, value in headers.items() if not name.casefold().startswith("content-")}
        method = request.method if request.method == "HEAD" else "GET"
        request = replace(request, method=method, json=None, form=None, body=None)
    return replace(request, headers=headers)


async def _exchange(call: Call, request: Request, target: URL) -> Answer:
    TALKING_TO.set(target.host or "")
    sent = {"Accept-Encoding": "gzip, deflate", "User-Agent": "keep-operator", **_headers(call, request.headers)}
    if request.auth is not None:
        sent["Authorization"] = "Basic " + b64encode(":".join(request.auth).encode()).decode()
    body: Any = request.body if request.form is None else dict(request.form)
    if request.json is not None:
        body = _dumped(call, request.json)
        if not any(name.casefold() == "content-type" for name in sent):
            sent["Content-Type"] = "application/json"
    try:
        async with (
            ClientSession(
                connector=egress.connector(call.egress, ssl=_context(request.verify)),
                timeout=ClientTimeout(total=call.timeout_s),
                cookie_jar=DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            ) as session,
            session.request(
                request.method,
                target,
                headers=sent,
                params=request.params or None,
                data=body,
                allow_redirects=False,
            ) as response,
        ):
            names = {name.casefold(): value for name, value in response.headers.items()}
            skip = request.method == "HEAD" or (response.status in _REDIRECTS and request.redirects > 0)
            return Answer(response.status, response.reason or "", names, b"" if skip else await _read(call, response))
    except (aiohttp.ClientError, OSError, ValueError, TimeoutError) as error:
        raise _failure(call, error) from None


def expect(call: Call, answer: Answer, *, told: str = "") -> Answer:
    """The answer, if its status is one of success. Raises ActionFailed with what the far side says, secrets taken out.

    ``told`` is what it says, where that is known better than the text of the body is.
    """
    if 200 <= answer.status < 300:
        return answer
    said = " ".join((told or answer.text).split())
    # First the secrets, then the cut: half of one would not be found any more.
    said = redaction.redact(said, redaction.secrets(call))[:_QUOTED]
    fact = f"answered {answer.status} {answer.reason}".rstrip() + (f": {said}" if said else "")
    raise failed(
        call,
        fact,
        answer.status in WAIT_AND_RETRY,
        retry_after_s=_retry_after(answer),
        may_have_acted=answer.status >= 500 or answer.status == 408,
    )


def failed(
    call: Call,
    fact: str,
    retryable: bool = False,
    *,
    retry_after_s: float | None = None,
    may_have_acted: bool = False,
) -> ActionFailed:
    """A failure that names type and host."""
    at = f" at {TALKING_TO.get()}" if TALKING_TO.get() else ""
    text = redaction.redact(f"{call.type}{at} {fact}", redaction.secrets(call))
    return ActionFailed(text, retryable, retry_after_s=retry_after_s, may_have_acted=may_have_acted)


def _target(call: Call, url: str) -> URL:
    try:
        target = URL(url)
        fine = target.scheme in ("http", "https") and bool(target.host) and target.port is not None
    except ValueError:
        fine = False
    if not fine:
        raise ActionFailed(f"{call.type}: the address is no URL that begins with http:// or https:// and names a host")
    return target


def _headers(call: Call, given: Mapping[str, str] | None) -> dict[str, str]:
    found = {}
    for name, value in (given or {}).items():
        if name.casefold() in _OUR_HEADERS:
            raise ActionFailed(f"{call.type}: the header {name} cannot be set; leave it out")
        found[name] = value
    return found


def _dumped(call: Call, value: Any) -> bytes:
    try:
        return json.dumps(value, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        raise ActionFailed(f"{call.type}: what is to be sent cannot be written as JSON") from None


async def _read(call: Call, response: ClientResponse) -> bytes:
    """The body, unpacked; given up as soon as it is too large, however it is sent and whatever it says of itself."""
    told = response.headers.get("Content-Length", "")
    if told.isascii() and told.isdigit() and (len(told) > 15 or int(told) > MOST_BYTES):
        raise _too_large(call)
    unpack = _unpacker(call, response.headers.get("Content-Encoding", "").strip().casefold())
    found = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK):
        try:
            piece = chunk if unpack is None else unpack.decompress(chunk, MOST_BYTES + 1 - len(found))
        except zlib.error:
            raise failed(call, "sent an answer that cannot be unpacked", may_have_acted=True) from None
        found += piece
        if len(found) > MOST_BYTES or (unpack is not None and unpack.unconsumed_tail):
            raise _too_large(call)
    if unpack is not None and found and not unpack.eof:
        raise failed(call, "sent an answer that ends too early", True, may_have_acted=True)
    return bytes(found)


def _unpacker(call: Call, encoding: str) -> Any:
    if encoding in ("", "identity"):
        return None
    if encoding in ("gzip", "x-gzip", "deflate"):
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    raise failed(call, "packs its answer in a way that it was not asked for", may_have_acted=True)


def _too_large(call: Call) -> ActionFailed:
    return failed(
        call, f"sent more than {MOST_BYTES // 1024} KiB, which is all that is taken; ask for less", may_have_acted=True
    )


@cache
def _context(verify: bool) -> ssl.SSLContext:
    """Made once: reading the certificates takes ten milliseconds."""
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _failure(call: Call, error: Exception) -> ActionFailed:
    """What an exception of the client means. Its own text is not told: it may hold the URL, and with it a token."""
    cause = getattr(error, "os_error", error)
    for each in (error, cause, error.__cause__):
        if isinstance(each, OffLimits):
            return ActionFailed(f"{call.type}: {each}")
    match error:
        case aiohttp.ClientConnectorCertificateError():
            why = getattr(error.certificate_error, "verify_message", "") or "it cannot be verified"
            return failed(call, f"has a certificate that is not accepted: {why}")
        case aiohttp.ClientConnectorSSLError() | aiohttp.ClientSSLError():
            return failed(call, "does not speak TLS as it should")
        case aiohttp.ClientConnectorDNSError():
            return failed(call, "cannot be found: its name has no address", True)
        case aiohttp.ClientConnectorError():
            return unreachable(call, error.os_error)
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError():
            return failed(call, "closed the connection before it answered", True, may_have_acted=True)
        case aiohttp.ClientPayloadError():
            return failed(call, "sent an answer that ends too early", True, may_have_acted=True)
        case aiohttp.InvalidURL():
            return failed(call, "cannot be asked so: the host is written as no host is")
        case aiohttp.ClientResponseError():
            return failed(call, "does not speak HTTP as it should", may_have_acted=True)
        case TimeoutError():
            return timed_out(call)
        case ValueError():
            return failed(call, "cannot be asked so: a header or the address has characters that do not belong there")
    return failed(call, "cannot be talked to", True, may_have_acted=True)


def unreachable(call: Call, error: OSError) -> ActionFailed:
    """Nothing was sent; by the system's own words for it, since those of libraries hold addresses and more."""
    said = os.strerror(error.errno) if error.errno else "no connection"
    return failed(call, f"cannot be reached: {said}", True)


def timed_out(call: Call) -> ActionFailed:
    """Whether anything was done is not known."""
    return failed(call, f"did not answer in full within {call.timeout_s:g} s", True, may_have_acted=True)


def _retry_after(answer: Answer) -> float | None:
    """Seconds until the far side wants to be asked again, by its header, as a number or a date."""
    given = answer.headers.get("retry-after", "").strip()
    if not given:
        return None
    try:
        seconds = float(given)
    except ValueError:
        try:
            until, now = parsedate_to_datetime(given), answer.headers.get("date", "")
            seconds = (until - parsedate_to_datetime(now)).total_seconds()
        except (ValueError, TypeError):
            return None
    return min(max(seconds, 0.0), _LONGEST_WAIT_S) if isfinite(seconds) else None


def same_origin(one: str, other: str) -> bool:
    """Whether two addresses are of one server."""
    try:
        return URL(one).origin() == URL(other).origin()
    except ValueError:
        return False


def host_of(value: Any) -> str | None:
    """The host in an address, or the host itself; None where there is none. Nothing else of the address."""
    if not isinstance(value, str) or not value or len(value) > 2048:
        return None
    try:
        return URL(value if "://" in value else f"http://{value}").host
    except ValueError:
        return None
