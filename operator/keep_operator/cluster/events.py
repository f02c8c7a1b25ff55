"""Kubernetes Events about our objects: what `kubectl describe` tells of them.

The same Event again within ten minutes raises the count of the first; an object with too much to say is cut short.
"""

import asyncio
import logging
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, TypeVar

from keep_operator.cluster import failures
from keep_operator.cluster.client import Cluster
from keep_operator.domain.links import NO_LINKS, Links
from keep_operator.errors import Conflict, KeepOperatorError
from keep_operator.resources.kinds import EVENTS, Resource

log = logging.getLogger(__name__)

EventType = Literal["Normal", "Warning"]
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

COMPONENT: Final = "keep-operator"
MESSAGE_LIMIT_BYTES: Final = 1024
"""The API's bound for an Event's note."""
SAME_WITHIN: Final = timedelta(minutes=10)
"""The same Event within this long after the last one counts up instead of being written anew."""
BURST: Final = 25
"""Events of one object at once; client-go's spam filter has the same bounds."""
REFILL_EVERY: Final = timedelta(minutes=5)
"""One more Event for an object that has used up its burst."""
CAPACITY: Final = 4096
"""Events and objects remembered, about 1 MiB; the least recently used are forgotten."""
CLUSTER_SCOPED_NAMESPACE: Final = "default"
"""Where the API wants Events about objects without a namespace."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The object that an Event is about; ``namespace`` is empty for cluster-scoped kinds."""

    resource: Resource
    namespace: str
    name: str
    uid: str


@dataclass(slots=True)
class _Posted:
    """An Event that may be counted up; the lock keeps equal ones that come at once in order."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    name: str | None = None
    count: int = 0
    last: datetime | None = None


@dataclass(slots=True)
class _Budget:
    """What an object may still say."""

    left: float
    at: datetime


class Recorder:
    """Writes Events; an Event that cannot be written is logged and forgotten, it never fails its writer."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        instance: str,
        clock: Callable[[], datetime],
        capacity: int = CAPACITY,
        links: Links = NO_LINKS,
    ) -> None:
        self._cluster = cluster
        self._instance = instance
        self._clock = clock
        self._capacity = capacity
        self._links = links
        self._posted: OrderedDict[tuple[str, str, str, str], _Posted] = OrderedDict()
        self._budgets: OrderedDict[str, _Budget] = OrderedDict()

    async def record(
        self, subject: Subject, type: EventType, reason: str, message: str, *, once: str = "", see: str = ""
    ) -> None:
        """Write an Event, or count up the same one of the last ten minutes; returns when that is done or given up.

        ``reason`` is the condition's; of ``message`` 1024 bytes are kept, on one line. ``once`` names what happened, in characters
        of a DNS label: of that there is one Event, whoever writes it, and however often. A Warning leads to ``see``, or else to
        the page of its subject.
        """
        if type == "Warning" and not see:
            see = self._links.object(subject.resource.kind, subject.namespace, subject.name)
        text = clip(message, f" See {see}" if see else "")
        try:
            if once:
                await self._record_once(subject, type, reason, text, once)
            else:
                await self._record(subject, type, reason, text)
        except KeepOperatorError as problem:
            # Everything of a namespace that goes away has a last word, and nowhere to put it.
            level = logging.DEBUG if problem.reason == "NamespaceTerminating" else logging.WARNING
            log.log(
                level, "event %s of %s %s was not written: %s", reason, subject.resource.kind, _path(subject), problem
            )
        except Exception:
            log.exception("event %s of %s %s was not written", reason, subject.resource.kind, _path(subject))

    async def _record(self, subject: Subject, type: EventType, reason: str, message: str) -> None:
        posted = _recent(self._posted, (subject.uid, type, reason, message), _Posted, self._capacity)
        async with posted.lock:
            now = self._clock()
            if posted.name is not None and posted.last is not None and now - posted.last <= SAME_WITHIN:
                if not self._may_speak(subject, now):
                    return
                posted.count += 1
                if await self._count_up(subject, posted, now):
                    return
            elif not self._may_speak(subject, now):
                return
            posted.name = None
            event = self._event(subject, type, reason, message, now)
            await self._cluster.create(EVENTS, event["metadata"]["namespace"], event)
            posted.name, posted.count, posted.last = event["metadata"]["name"], 1, now

    async def _record_once(self, subject: Subject, type: EventType, reason: str, message: str, once: str) -> None:
        now = self._clock()
        if not self._may_speak(subject, now):
            return
        event = self._event(subject, type, reason, message, now, once)
        try:
            await self._cluster.create(EVENTS, event["metadata"]["namespace"], event)
        except Conflict as conflict:
            if conflict.reason != "AlreadyExists":
                raise

    async def _count_up(self, subject: Subject, posted: _Posted, now: datetime) -> bool:
        """Whether the Event was still there to be counted up; the server drops them after an hour."""
        assert posted.name is not None
        body = {"count": posted.count, "lastTimestamp": _timestamp(now)}
        try:
            await self._cluster.patch(EVENTS, _namespace(subject), posted.name, body)
        except Conflict:
            return False
        posted.last = now
        return True

    def _may_speak(self, subject: Subject, now: datetime) -> bool:
        """Whether the object has not said too much; each Event uses up one."""
        budget = _recent(self._budgets, subject.uid, lambda: _Budget(BURST, now), self._capacity)
        budget.left = min(float(BURST), budget.left + max((now - budget.at) / REFILL_EVERY, 0.0))
        budget.at = now
        if budget.left < 1:
            log.debug("events of %s %s are too many; one is left out", subject.resource.kind, _path(subject))
            return False
        budget.left -= 1
        return True

    def _event(
        self, subject: Subject, type: EventType, reason: str, message: str, now: datetime, part: str = ""
    ) -> dict[str, Any]:
        time = _timestamp(now)
        # An Event's name is a DNS subdomain of at most 253 characters: the subject's, shortened, and a unique part.
        prefix = subject.name[:230].rstrip("-.")
        return {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"namespace": _namespace(subject), "name": f"{prefix}.{part or uuid.uuid4().hex[:16]}"},
            "involvedObject": {
                "apiVersion": subject.resource.api_version,
                "kind": subject.resource.kind,
                "name": subject.name,
                "uid": subject.uid,
                **({"namespace": subject.namespace} if subject.namespace else {}),
            },
            "type": type,
            "reason": reason,
            "message": message,
            "source": {"component": COMPONENT, "host": self._instance},
            "reportingComponent": COMPONENT,
            "reportingInstance": self._instance,
            "firstTimestamp": time,
            "lastTimestamp": time,
            "count": 1,
        }


def clip(message: str, end: str = "") -> str:
    """The message on one line, without control characters, cut to 1024 bytes of UTF-8 between characters, ``end`` not cut."""
    line = failures.plain(message, MESSAGE_LIMIT_BYTES).encode(errors="replace")
    if end and not line.endswith((b".", b"!", b"?")):
        line += b"."
    room = MESSAGE_LIMIT_BYTES - len(end.encode())
    if len(line) <= room:
        return line.decode() + end
    return line[: room - len("…".encode())].decode(errors="ignore") + "…" + end


def _recent(cache: OrderedDict[_Key, _Value], key: _Key, make: Callable[[], _Value], capacity: int) -> _Value:
    """The value under the key, made if there is none; the cache stays within its capacity."""
    value = cache.get(key)
    if value is None:
        value = cache[key] = make()
        if len(cache) > capacity:
            cache.popitem(last=False)
    cache.move_to_end(key)
    return value


def _namespace(subject: Subject) -> str:
    return subject.namespace or CLUSTER_SCOPED_NAMESPACE


def _path(subject: Subject) -> str:
    return f"{subject.namespace}/{subject.name}" if subject.namespace else subject.name


def _timestamp(time: datetime) -> str:
    """A time as the API writes it: whole seconds, UTC."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
