"""What exists of a kind, followed by its metadata alone: Secrets, ConfigMaps and Namespaces of the whole cluster.

One stream for each namespace, or one for all of them::

    list in pages ──► remember uid and version ──► synced ──► watch ──┬─► event    ──► remember, tell
         ▲                                                            ├─► bookmark ──► a sign of life
         │  410, a line too long, 3 times no event but nonsense       │
         ├────────────────────────────────────────────────────────────┤
         │                                                            │
         └─ what vanished meanwhile is told, too      cut, silent, ended, ERROR ──► back-off ──► watch again

Of an object nothing is kept but uid and version (labels on request): metadata of others' objects can be large, and
``kubectl apply`` writes whole Secrets into an annotation.
"""

import asyncio
import contextlib
import json
import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, NamedTuple

from keep_operator.cluster import failures, lines
from keep_operator.cluster.client import Cluster
from keep_operator.errors import KeepOperatorError
from keep_operator.resources.kinds import Resource

log = logging.getLogger(__name__)

DOUBTS_BEFORE_LIST: Final = 3
"""After so many answers in a row that are no events the version itself is doubted, as after etcd was restored."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a stream may be silent, and how fast it is opened again."""

    silence: timedelta = timedelta(seconds=70)
    """No line for this long means a dead stream: bookmarks come about every 60 s."""
    first_pause: timedelta = timedelta(milliseconds=500)
    """After the first break at most this long, doubled with each further one: a herd of us spares the server."""
    longest_pause: timedelta = timedelta(seconds=30)
    """What the pauses grow to."""
    server_timeout: timedelta = timedelta(minutes=5)
    """The server ends the stream after this to twice this, so that we spread over its replicas, as client-go does."""
    longest_line_bytes: int = lines.LONGEST_LINE_BYTES
    """A longer event is not read."""


class Seen(NamedTuple):
    """What is kept of an object; ``labels`` only where they were asked for."""

    uid: str
    version: str
    labels: dict[str, str] | None


class MetadataWatch:
    """Knows which objects of a kind exist and tells of each that appeared, changed or vanished.

    ``namespaces`` limits it (empty = all). ``on_change(namespace, name)`` is called for every change after it was
    remembered, at the first list for every object, and must only note it. Start ``run`` once as a task; it goes on
    until it is cancelled, whatever the server does.
    """

    def __init__(
        self,
        cluster: Cluster,
        resource: Resource,
        namespaces: Sequence[str],
        on_change: Callable[[str, str], None],
        *,
        keep_labels: bool = False,
        clock: Callable[[], float] = time.monotonic,
        pace: Pace = Pace(),
    ) -> None:
        self.resource = resource
        self.synced = asyncio.Event()
        """Set once every stream has listed."""
        self._clock = clock
        self._streams = [
            _Stream(cluster, resource, namespace, on_change, keep_labels, clock, pace, self._look_if_synced)
            for namespace in (sorted({name for name in namespaces if name}) or [""])
        ]

    def __len__(self) -> int:
        return sum(len(names) for stream in self._streams for names in stream.seen.values())

    async def run(self) -> None:
        """Follow all streams; ends by cancellation only."""
        async with asyncio.TaskGroup() as group:
            for stream in self._streams:
                group.create_task(stream.run(), name=f"watch {stream}")

    @property
    def age(self) -> float:
        """Seconds since the last list, event or bookmark of the stream that has been silent for longest."""
        return self._clock() - min(stream.alive_at for stream in self._streams)

    def signs(self) -> dict[str, float]:
        """When each stream last showed that it is at work, by its name and on the clock that was given.

        A request that the server refuses shows it as well: a missing right is no reason to end the process.
        """
        return {str(stream): max(stream.alive_at, stream.answered_at) for stream in self._streams}

    def version(self, namespace: str, name: str) -> str | None:
        """The object's ``resourceVersion``, None if there is no such object (or not listed yet: see ``synced``)."""
        seen = self._find(namespace, name)
        return None if seen is None else seen.version

    def uid(self, namespace: str, name: str) -> str | None:
        """The object's uid, None if there is no such object."""
        seen = self._find(namespace, name)
        return None if seen is None else seen.uid

    def labels(self, name: str, namespace: str = "") -> Mapping[str, str] | None:
        """The object's labels, if they are kept; None if there is no such object."""
        seen = self._find(namespace, name)
        return None if seen is None else (seen.labels or {})

    def names(self, namespace: str = "") -> Iterator[str]:
        """The names of all objects in a namespace; for cluster-scoped kinds of all."""
        return (name for stream in self._streams for name in stream.seen.get(namespace, ()))

    def _find(self, namespace: str, name: str) -> Seen | None:
        for stream in self._streams:
            if (found := stream.seen.get(namespace, {}).get(name)) is not None:
                return found
        return None

    def _look_if_synced(self) -> None:
        if all(stream.listed for stream in self._streams):
            self.synced.set()


@dataclass(eq=False)
class _Stream:
    """One list and watch that never gives up."""

    cluster: Cluster
    resource: Resource
    namespace: str
    on_change: Callable[[str, str], None]
    keep_labels: bool
    clock: Callable[[], float]
    pace: Pace
    on_list: Callable[[], None]
    seen: dict[str, dict[str, Seen]] = field(default_factory=dict)
    listed: bool = False
    version: str | None = None
    breaks: int = 0
    doubts: int = 0

    def __post_init__(self) -> None:
        self.alive_at = self.answered_at = self.clock()

    def __str__(self) -> str:
        return f"{self.resource.plural} of {self.namespace}" if self.namespace else self.resource.plural

    async def run(self) -> None:
        while True:
            began = self.clock()
            problem: Exception | str | None = None
            try:
                if self.version is None:
                    await self._list()
                if (problem := await self._follow()) is not None:
                    self._doubt()
            except failures.Expired as error:
                self.version, problem = None, error
            except failures.NoAnswer as error:
                problem = error
                if self.clock() - began >= self.pace.silence.total_seconds():
                    self._doubt()  # old servers wait in silence for a version that is yet to come
            except KeepOperatorError as error:
                problem, self.answered_at = error, self.clock()
                self._doubt()
            except Exception:
                log.exception("watch of %s failed; listing again", self)
                self.version, problem = None, "a fault of our own"
            await self._pause(began, problem)

    async def _pause(self, began: float, problem: Exception | str | None) -> None:
        """Wait before the next stream: not at all after one that lived, ever longer after those that did not."""
        longest = self.pace.longest_pause.total_seconds()
        if problem is None and self.clock() - began > self.pace.first_pause.total_seconds():
            self.breaks = 0
            return
        if self.clock() - began > longest:
            self.breaks = 0  # it lived: something on the way cuts quiet connections
        self.breaks += 1
        if problem is not None:
            # One cut that heals at once is nobody's business; an outage is one line at its start and one at its end.
            level = logging.WARNING if self.breaks == 2 else logging.DEBUG
            log.log(level, "watch of %s broke (%d in a row): %s", self, self.breaks, problem)
        most = min(self.pace.first_pause.total_seconds() * 2 ** min(self.breaks - 1, 16), longest)
        await asyncio.sleep(most * random.uniform(0.5, 1.0))  # noqa: S311  # jitter

    def _doubt(self) -> None:
        self.doubts += 1
        if self.doubts % DOUBTS_BEFORE_LIST == 0:
            self.version = None

    async def _list(self) -> None:
        fresh: dict[str, dict[str, Seen]] = {}
        version = ""
        async for page in self.cluster.pages(self.resource, self.namespace, metadata_only=True):
            version = page.resource_version
            for item in page.items:
                if (found := _read(item, self.keep_labels)) is not None:
                    namespace, name, seen = found
                    fresh.setdefault(namespace, {})[name] = seen
            self.alive_at = self.clock()
        before, self.seen, self.version, self.listed = self.seen, fresh, version, True
        for namespace in [*fresh, *(before.keys() - fresh.keys())]:
            old, new = before.get(namespace, {}), fresh.get(namespace, {})
            for name in [name for name in old if name not in new] + [n for n in new if new[n] != old.get(n)]:
                self._tell(namespace, name)
        self.on_list()

    async def _follow(self) -> str | None:
        """Follow one stream to its end; the answer says what was wrong with it, None if nothing was."""
        assert self.version is not None
        seconds = self.pace.server_timeout.total_seconds()
        opening = self.cluster.watch(
            self.resource,
            self.namespace,
            resource_version=self.version,
            metadata_only=True,
            server_timeout_s=round(random.uniform(seconds, 2 * seconds)),  # noqa: S311  # spread
        )
        async with (
            opening as pieces,
            contextlib.aclosing(lines.split(pieces, longest=self.pace.longest_line_bytes)) as stream,
        ):
            self.answered_at = self.clock()
            while True:
                try:
                    async with asyncio.timeout(self.pace.silence.total_seconds()):
                        line = await anext(stream)
                except StopAsyncIteration:
                    return None
                except TimeoutError:
                    return "silent for too long"
                except lines.LineTooLong:
                    self.version = None  # watching again would bring the same line
                    return "a line is too long"
                if (problem := self._take(line)) is not None:
                    return problem

    def _take(self, line: bytes) -> str | None:
        """Remember one event and tell of it; the answer says what was wrong with it."""
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            return "a line is no JSON"
        kind, item = (event.get("type"), event.get("object")) if isinstance(event, dict) else (None, None)
        if kind == "ERROR":
            status = failures.Status.read(item)
            if status.code == 410 or status.reason in ("Expired", "Gone"):
                self.version = None
            return f"the server ended it ({failures.plain(status.reason, 60) or 'no reason given'})"
        metadata = item.get("metadata") if isinstance(item, dict) else None
        version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
        if not isinstance(version, str) or not version:
            return "an event has no version"
        if kind in ("ADDED", "MODIFIED", "DELETED"):
            found = _read(item, self.keep_labels)
            if found is None:
                return "an event has no name"
            self._remember(found, gone=kind == "DELETED")
        elif kind != "BOOKMARK":
            return "an event is of no known type"
        if self.breaks > 1:
            log.info("watch of %s goes on", self)
        self.version, self.alive_at = version, self.clock()
        self.breaks = self.doubts = 0
        return None

    def _remember(self, found: tuple[str, str, Seen], *, gone: bool) -> None:
        namespace, name, seen = found
        if gone:
            names = self.seen.get(namespace, {})
            names.pop(name, None)
            if not names:
                self.seen.pop(namespace, None)
        else:
            self.seen.setdefault(namespace, {})[name] = seen
        self._tell(namespace, name)

    def _tell(self, namespace: str, name: str) -> None:
        try:
            self.on_change(namespace, name)
        except Exception:
            log.exception("a change of %s %s/%s could not be noted", self.resource.kind, namespace, name)


def _read(item: Any, keep_labels: bool) -> tuple[str, str, Seen] | None:
    """Namespace, name and what is kept of an object; None if it has no name."""
    metadata = item.get("metadata") if isinstance(item, dict) else None
    if not isinstance(metadata, dict) or not isinstance(name := metadata.get("name"), str):
        return None
    labels = metadata.get("labels") if keep_labels else None
    kept = {str(key): str(value) for key, value in labels.items()} if isinstance(labels, dict) else None
    seen = Seen(str(metadata.get("uid") or ""), str(metadata.get("resourceVersion") or ""), kept)
    return str(metadata.get("namespace") or ""), name, seen
