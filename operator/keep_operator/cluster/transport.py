"""How a call travels: one pool of connections, bounded waits, repeats only where they do no harm.

::

    Call ──► identity ──► one of `limit` places ──► HTTP ──┬─► 2xx, a JSON object ──► its document
                 ▲                                         ├─► 401 ──► renew once, again at once
                 └──── back-off or Retry-After, bounded ◄──┼─► 429, or 5xx / no answer of a repeatable call
                                                           └─► else ──► an error of ours (failures)
"""

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

import aiohttp
from aiohttp.connector import NEEDS_CLEANUP_CLOSED
from yarl import URL

from keep_operator import __version__
from keep_operator.cluster import credentials, failures
from keep_operator.cluster.call import Call
from keep_operator.cluster.connection import Connection
from keep_operator.cluster.credentials import Identity
from keep_operator.errors import KeepOperatorError, Refused, Unavailable

Count = Callable[[str, str, int], None]
"""Told of each exchange: verb, plural with subresource, HTTP status (0 = no whole answer). Must not raise."""
Sleep = Callable[[float], Awaitable[None]]
"""Waits so many seconds."""

LONGEST_RETRY_AFTER_S: Final = 300.0
"""What a server may make us wait at most, in seconds: the longest back-off of the work queue (A-CTL-3)."""
HEADERS: Final = {
    "User-Agent": f"keep-operator/{__version__}",
    # The server is near: compressing costs both sides more than it saves, and nothing small can grow large.
    "Accept-Encoding": "identity",
}


@dataclass(frozen=True, slots=True)
class Bounds:
    """Every limit of one call."""

    connect: timedelta = timedelta(seconds=10)
    """Name look-up, TCP and TLS together."""
    total: timedelta = timedelta(seconds=30)
    """One exchange, its answer included, and the time after which no repeat is begun."""
    silence: timedelta = timedelta(seconds=70)
    """A watch that brings nothing for this long is dead: bookmarks come about every 60 s."""
    attempts: int = 4
    """With the back-off below about 1.4 s in all: longer outages are the work queue's to wait for."""
    backoff: timedelta = timedelta(milliseconds=200)
    """Before the first repeat; doubled each time, with jitter."""
    retry_after: timedelta = timedelta(seconds=10)
    """A longer Retry-After is not waited for here, but handed on in the error."""
    body_bytes: int = 64 << 20
    """The longest answer that is read: 500 objects of 128 KiB."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole HTTP answer."""

    status: int
    body: bytes = field(repr=False)
    retry_after: str | None
    date: str | None
    identity: Identity

    def document(self) -> dict[str, Any] | None:
        """The JSON object in it, None if it is anything else."""
        try:
            document = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        return document if isinstance(document, dict) else None


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer: its JSON object, and the server's ``Date``."""

    document: dict[str, Any] = field(repr=False)
    date: str | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """No whole HTTP answer; ``repeat`` says whether asking again at once can help and do no harm."""

    failure: Unavailable
    repeat: bool


@dataclass(frozen=True, slots=True)
class _Again:
    """A failure that another try may heal; ``wait_s`` is what the server asked for."""

    failure: KeepOperatorError
    wait_s: float | None = None


class Transport:
    """Sends calls over one aiohttp session, which opens with the first of them; ``close`` it at the end."""

    def __init__(
        self,
        connection: Connection,
        *,
        limit: int,
        bounds: Bounds,
        count: Count,
        clock: Callable[[], datetime],
        sleep: Sleep,
    ) -> None:
        self.connection = connection
        self.bounds = bounds
        self._count = count
        self._clock = clock
        self._sleep = sleep
        # Places are counted here, not in aiohttp's connector: waiting for one is no part of a call's time limit,
        # and watches, which stay open, take none.
        self._places = asyncio.Semaphore(limit)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close all connections; calls still under way fail."""
        if self._session is not None:
            await self._session.close()

    async def send(self, call: Call) -> Answer | None:
        """The successful answer; None only if ``call.absence_is_answer`` and the object does not exist.

        Raises Unavailable, Conflict or Refused.
        """
        loop = asyncio.get_running_loop()
        began, backoff_s = loop.time(), self.bounds.backoff.total_seconds()
        for remaining in reversed(range(self.bounds.attempts)):
            verdict = self._judge(call, await self._exchange_as_ourselves(call))
            if not isinstance(verdict, _Again):
                return verdict
            delay_s = (verdict.wait_s or 0.0) + random.uniform(0.5, 1.0) * backoff_s  # noqa: S311  # jitter
            too_late = loop.time() - began + delay_s > self.bounds.total.total_seconds()
            if remaining == 0 or too_late or (verdict.wait_s or 0.0) > self.bounds.retry_after.total_seconds():
                raise verdict.failure
            await self._sleep(delay_s)
            backoff_s *= 2
        raise AssertionError("at least one attempt")

    @contextlib.asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator[AsyncIterator[bytes]]:
        """An answer without end, as the pieces that arrive; ends when the server ends it.

        Raises Unavailable (Expired for 410) when it does not begin, breaks, or is silent for ``bounds.silence``.
        """
        response = await self._open_stream(call)
        try:
            async with contextlib.aclosing(self._pieces(call, response)) as pieces:
                yield pieces
        finally:
            _drop(response)

    # -- one exchange ---------------------------------------------------------------------------------------------

    async def _exchange_as_ourselves(self, call: Call) -> Reply | Lost:
        if call.token is not None:
            return await self._exchange(call, Identity(authorization=credentials.bearer(call.token)))
        identity = await self._ourselves()
        reply = await self._exchange(call, identity)
        if isinstance(reply, Reply) and reply.status == 401:
            newer = await self._ourselves(refused=identity)
            if not newer.shows_the_same(identity):
                return await self._exchange(call, newer)
        return reply

    async def _ourselves(self, refused: Identity | None = None) -> Identity:
        """An identity that can be used; Unavailable if there is none.

        No object is to blame for our credentials, so none may be stalled by a Refused of theirs.
        """
        try:
            identity = await self.connection.identity(refused)
            self.connection.tls(identity)
        except Refused as error:
            raise Unavailable(error.reason, error.message) from error
        return identity

    async def _exchange(self, call: Call, identity: Identity) -> Reply | Lost:
        timeout = aiohttp.ClientTimeout(
            total=self.bounds.total.total_seconds(), connect=self.bounds.connect.total_seconds()
        )
        outcome: Reply | Lost
        try:
            async with self._places, await self._begin(call, identity, timeout) as response:
                body = await self._read(response)
                if body is None:
                    outcome = Lost(failures.too_large(str(call), self.bounds.body_bytes), repeat=False)
                else:
                    outcome = Reply(
                        response.status,
                        body,
                        response.headers.get("Retry-After"),
                        response.headers.get("Date"),
                        identity,
                    )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            repeat = (call.repeatable or failures.never_sent(error)) and not failures.hopeless(error)
            outcome = Lost(failures.no_answer(str(call), error), repeat)
        self._count(call.verb, call.target, outcome.status if isinstance(outcome, Reply) else 0)
        return outcome

    async def _begin(self, call: Call, identity: Identity, within: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, enable_cleanup_closed=NEEDS_CLEANUP_CLOSED),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=HEADERS,
                proxy=self.connection.proxy_url,
                middlewares=(_once,),
            )
        if self._session.closed:
            raise aiohttp.ClientConnectionError("the client is closed")
        tls = self.connection.tls(identity)
        return await self._session.request(
            call.method,
            URL(self.connection.server + call.path, encoded=True).with_query(dict(call.query)),
            data=call.body,
            headers={"Accept": call.accept, "Content-Type": call.content_type, **identity.headers},
            ssl=True if tls is None else tls,
            server_hostname=self.connection.trust.server_name,
            allow_redirects=False,
            timeout=within,
        )

    async def _read(self, response: aiohttp.ClientResponse) -> bytes | None:
        """The whole body; None if it is longer than the bound."""
        pieces: list[bytes] = []
        length = 0
        async for piece in response.content.iter_any():
            length += len(piece)
            if length > self.bounds.body_bytes:
                _drop(response)
                return None
            pieces.append(piece)
        return b"".join(pieces)

    # -- what an answer means -------------------------------------------------------------------------------------

    def _judge(self, call: Call, outcome: Reply | Lost) -> Answer | _Again | None:
        if isinstance(outcome, Lost):
            if outcome.repeat:
                return _Again(outcome.failure)
            raise outcome.failure
        document = outcome.document()
        if 200 <= outcome.status < 300:
            if document is not None:
                return Answer(document, outcome.date)
            failure: KeepOperatorError = failures.no_json(str(call), outcome.status)
            if call.repeatable:
                return _Again(failure)
            raise failure
        status = failures.Status.read(document, outcome.identity.redact)
        if call.absence_is_answer and outcome.status == 404 and status.names_an_absent_object:
            return None
        wait_s = self._wait_s(outcome)
        failure = failures.refusal(str(call), outcome.status, status, retry_after_s=wait_s)
        if outcome.status == 429 or (outcome.status >= 500 and call.repeatable):
            return _Again(failure, wait_s)
        raise failure

    def _wait_s(self, reply: Reply) -> float | None:
        """What Retry-After asks for, in seconds from now; it holds seconds or a date (RFC 9110, 10.2.3)."""
        if reply.retry_after is None:
            return None
        text = reply.retry_after.strip()
        if text.isascii() and text.isdigit():
            return min(float(text), LONGEST_RETRY_AFTER_S)
        if (date := http_date(text)) is None:
            return None
        return min(max((date - self._clock()).total_seconds(), 0.0), LONGEST_RETRY_AFTER_S)

    # -- streams --------------------------------------------------------------------------------------------------

    async def _open_stream(self, call: Call) -> aiohttp.ClientResponse:
        identity = await self._ourselves()
        outcome = await self._try_stream(call, identity)
        if isinstance(outcome, Reply) and outcome.status == 401:
            newer = await self._ourselves(refused=identity)
            if not newer.shows_the_same(identity):
                outcome = await self._try_stream(call, newer)
        if isinstance(outcome, aiohttp.ClientResponse):
            return outcome
        if isinstance(outcome, Lost):
            raise outcome.failure
        status = failures.Status.read(outcome.document(), outcome.identity.redact)
        raise failures.refusal(str(call), outcome.status, status, retry_after_s=self._wait_s(outcome))

    async def _try_stream(self, call: Call, identity: Identity) -> aiohttp.ClientResponse | Reply | Lost:
        """An open response if the server agreed, else its answer."""
        timeout = aiohttp.ClientTimeout(
            total=None,
            connect=self.bounds.connect.total_seconds(),
            sock_read=self.bounds.silence.total_seconds(),
        )
        outcome: aiohttp.ClientResponse | Reply | Lost
        response: aiohttp.ClientResponse | None = None
        try:
            response = await self._begin(call, identity, timeout)
            self._count(call.verb, call.target, response.status)
            if response.status == 200:
                return response
            async with asyncio.timeout(self.bounds.total.total_seconds()), response:
                body = await self._read(response)
            headers = response.headers
            outcome = Reply(response.status, body or b"", headers.get("Retry-After"), headers.get("Date"), identity)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            outcome = Lost(failures.no_answer(str(call), error), repeat=False)
            if response is None:
                self._count(call.verb, call.target, 0)
        return outcome

    async def _pieces(self, call: Call, response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
        broken: Unavailable | None = None
        try:
            async for piece in response.content.iter_any():
                yield piece
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            broken = failures.no_answer(str(call), error)
        if broken is not None:
            raise broken


def http_date(text: str | None) -> datetime | None:
    """A date of HTTP's as an aware time, None if it is none."""
    try:
        date = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)


def _drop(response: aiohttp.ClientResponse) -> None:
    """Leave an answer before its end. No TLS farewell: the server may never reply to it, and the socket would stay open."""
    if response.connection is not None and response.connection.transport is not None:
        response.connection.transport.abort()
    response.close()


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from repeating a request by itself on a stale connection: what may be repeated is our decision."""
    problem: Exception
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
        problem = aiohttp.ClientConnectionError("closed before the answer")
    raise problem
