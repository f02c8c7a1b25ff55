"""The watches of the API server in memory: each reads the log from its version on, as far as it is let.

::

    version ──► too old? 410 ──► what is in the log already ──► what comes ──► ... ──► cut, or its time is over
                                             a bookmark a minute
"""

import asyncio
import bisect
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from component.apiserver.faults import Asked, View
from component.apiserver.patches import Json
from component.apiserver.state import FIRST_VERSION, Failure, Happening, State

BOOKMARK_EVERY_S: Final = 60.0
"""Between two signs of life on a quiet watch, in seconds, as real servers have it."""
WATCH_S: Final = 1800.0
"""How long a watch lasts that sets no limit."""
EXPIRED: Final = Failure(410, "Expired", "too old resource version")


@dataclass(eq=False)
class _Stream:
    """An open watch; ``last_words`` is said before it ends."""

    asked: Asked
    transport: asyncio.Transport | None
    ended: bool = False
    last_words: Json | None = None


@dataclass
class Watches:
    """All that are open. ``oldest`` is the version before which nothing is remembered, ``views`` who sees the past."""

    state: State
    views: dict[str, View]
    oldest: int = FIRST_VERSION
    held: bool = False
    bookmark_every_s: float = BOOKMARK_EVERY_S
    _streams: set[_Stream] = field(default_factory=set)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def __len__(self) -> int:
        return len(self._streams)

    def cut(self, plural: str | None = None, *, say: Failure | None = None) -> None:
        """End those of a resource, or all; after saying an error in the stream, if there is one to say."""
        for stream in self._streams:
            if plural in (None, stream.asked.resource.plural):
                stream.ended = True
                stream.last_words = None if say is None else {"type": "ERROR", "object": say.status}
        self.tell()

    def abort(self, client: str) -> None:
        """Break the connections of a client."""
        for stream in self._streams:
            if stream.asked.client == client and stream.transport is not None:
                stream.transport.abort()

    def hold(self) -> None:
        """Let no event through; what happens meanwhile comes after `release`, or never, if it is forgotten before."""
        self.held = True

    def release(self) -> None:
        """Let events through again."""
        self.held = False
        self.tell()

    def tell(self) -> None:
        """Have every watch look for news."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def change(self, within_s: float) -> None:
        """Wait until something happens, for this long at most."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), within_s)

    async def follow(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        """Answer a watch, to its end."""
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        stream = _Stream(asked, request.transport)
        self._streams.add(stream)
        try:
            async for event in self._events(stream):
                await response.write(json.dumps(event).encode() + b"\n")
        except ConnectionError:
            pass  # the client has gone
        finally:
            self._streams.discard(stream)
        return response

    async def _events(self, stream: _Stream) -> AsyncIterator[Json]:
        loop, asked = asyncio.get_running_loop(), stream.asked
        since = int(asked.query["resourceVersion"])
        if since < self.oldest:
            yield {"type": "ERROR", "object": EXPIRED.status}
            return
        position = bisect.bisect_right(self.state.log, since, key=lambda each: each.version)
        end_s = loop.time() + float(asked.query.get("timeoutSeconds", WATCH_S))
        bookmark_s = loop.time() + self.bookmark_every_s
        while not stream.ended and loop.time() < end_s:
            news = self._news
            while (found := self._next(stream, position)) is not None:
                happening, position = found
                yield {"type": happening.type, "object": asked.shown(happening.object)}
            if loop.time() >= bookmark_s:
                bookmark_s = loop.time() + self.bookmark_every_s
                if "allowWatchBookmarks" in asked.query and not self.held:
                    yield {"type": "BOOKMARK", "object": self._bookmark(asked)}
            try:
                async with asyncio.timeout_at(min(bookmark_s, end_s)):
                    await news.wait()
            except TimeoutError:
                continue
        if stream.last_words is not None:
            yield stream.last_words

    def _next(self, stream: _Stream, position: int) -> tuple[Happening, int] | None:
        """The next thing to tell on a stream, and the place in the log after it."""
        view = self.views.get(stream.asked.client)
        log, asked = self.state.log, stream.asked
        while position < len(log) and not stream.ended and not self.held:
            happening = log[position]
            if view is not None and happening.version > view.as_of:
                return None
            position += 1
            if happening.resource == asked.resource and asked.name.namespace in ("", happening.name.namespace):
                return happening, position
        return None

    def _bookmark(self, asked: Asked) -> Json:
        view = self.views.get(asked.client)
        version = self.state.version if view is None else view.as_of
        kind = {"kind": asked.resource.kind, "apiVersion": asked.resource.api_version}
        return asked.shown(kind | {"metadata": {"resourceVersion": str(version), "creationTimestamp": None}})
