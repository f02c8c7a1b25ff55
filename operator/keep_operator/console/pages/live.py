"""What is looked at while it changes: each thing is asked about by one poller, however many watch it, who all hear of it.

::

    first who watches ──► poller: look, every second ──► something else than before? ──► told to everybody, as HTML
    last one goes ──────► no poller any more                                             (once for all who may the same)
    stream of one viewer: what there is, then each change, a comment when nothing changes
        ends ── by itself within a minute: the browser asks again, and so must its token be good and its right be there
             ── when nothing can follow (`ended`), and when the process is told to stop
"""

import asyncio
import contextlib
import logging
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from keep_operator.console.problems import Problem

log = logging.getLogger(__name__)

# Seconds between two looks at one thing.
EVERY_S: Final = 1.0
# Seconds of a stream: shorter than a connection is waited for (`patience`), and the longest that a right outlives its end.
LIVES_S: Final = 55.0
# Seconds without a word after which proxies might take a stream for dead.
HEARTBEAT_S: Final = 15.0
# Streams of a process, each of them a connection and some tens of KiB; and of one user, who has that many tabs at most.
MOST: Final = 500
MOST_OF_ONE: Final = 50
MEDIA_TYPE: Final = "text/event-stream"


@dataclass(frozen=True, slots=True)
class News:
    """What a look has found. ``over``: it will not change any more."""

    value: Any
    over: bool = False


Look = Callable[[News | None], Awaitable[News]]


@dataclass(slots=True)
class Topic:
    """One thing that is watched. ``texts`` are the last news as HTML, by what their readers may."""

    watchers: int = 0
    version: int = 0
    news: News | None = None
    closed: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    texts: dict[Hashable, str] = field(default_factory=dict)

    def put(self, news: News) -> None:
        """Tell everybody."""
        self.version += 1
        self.news = news
        self.texts = {}
        self._wake()

    def close(self) -> None:
        """Nothing follows."""
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    async def later_than(self, version: int, seconds: float) -> bool:
        """Whether there are news that are later than those; waits for some, not longer than that."""
        if self.version == version and not self.closed:
            changed = self.changed
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await changed.wait()
        return self.version != version


class Hub:
    """All that is watched in this process. ``stop``: the process is told to stop, so every stream ends."""

    def __init__(self, stop: asyncio.Event | None = None, every_s: float = EVERY_S) -> None:
        self._stop = stop or asyncio.Event()
        self._every_s = every_s
        self._topics: dict[Hashable, tuple[Topic, asyncio.Task[None]]] = {}
        self._streams: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._topics)

    @contextmanager
    def place(self, user: str) -> Iterator[None]:
        """A place for a stream. Raises Problem 503 where there is none."""
        if self._streams.total() >= MOST or self._streams[user] >= MOST_OF_ONE:
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "TooManyStreams",
                "So many pages are being kept up to date that this one is not; reload it to see the newest.",
                {"Retry-After": "60"},
            )
        self._streams[user] += 1
        try:
            yield
        finally:
            self._streams[user] -= 1
            if not self._streams[user]:
                del self._streams[user]

    @contextmanager
    def watching(self, key: Hashable, look: Look) -> Iterator[Topic]:
        """Follow a thing for as long as somebody watches it."""
        if key not in self._topics:
            begun = Topic()
            self._topics[key] = begun, asyncio.create_task(self._follow(begun, look))
        topic, following = self._topics[key]
        topic.watchers += 1
        try:
            yield topic
        finally:
            topic.watchers -= 1
            if not topic.watchers:
                following.cancel()
                del self._topics[key]

    async def _follow(self, topic: Topic, look: Look) -> None:
        try:
            while not self._stop.is_set():
                with contextlib.suppress(Problem):  # what does not answer now may do so the next time
                    found = await look(topic.news)
                    if found != topic.news:
                        topic.put(found)
                    if found.over:
                        break
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._every_s):
                        await self._stop.wait()
        except Exception:
            log.exception("what is watched could not be looked at")
        topic.close()


class Stream(StreamingResponse):
    """What one viewer hears of a thing. ``may`` is all that the text depends on but the news."""

    def __init__(
        self, hub: Hub, user: str, key: Hashable, look: Look, tell: Callable[[Any], str], may: Hashable
    ) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(self._events(), headers=headers, media_type=MEDIA_TYPE)
        self._hub, self._user, self._key, self._look, self._tell, self._may = hub, user, key, look, tell, may
        self._topic = Topic(closed=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve it; its place is given back however it ends."""
        with self._hub.place(self._user), self._hub.watching(self._key, self._look) as self._topic:
            await super().__call__(scope, receive, send)

    async def _events(self) -> AsyncIterator[str]:
        topic, clock = self._topic, asyncio.get_running_loop().time
        until, seen = clock() + LIVES_S, 0
        yield ": here\n\n"
        while (left := until - clock()) > 0:
            if await topic.later_than(seen, min(left, HEARTBEAT_S)):
                seen, news = topic.version, topic.news
                assert news is not None
                if self._may not in topic.texts:
                    topic.texts[self._may] = event(self._tell(news.value))
                yield topic.texts[self._may]
                if news.over:
                    yield event("", "ended")
                    return
            elif topic.closed:
                return
            else:
                yield ":\n\n"


def event(text: str, name: str = "") -> str:
    """A message of a stream. No line of the text, whoever wrote it, can be taken for anything but text."""
    data = "".join(f"data: {line}\n" for line in re.split("\r\n|\r|\n", text))
    return f"{f'event: {name}{chr(10)}' if name else ''}{data}\n"
