"""What can go wrong between a client and the API server, as switches of the server."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from component.apiserver.patches import Json
from component.apiserver.state import Failure, Name
from keep_operator.resources.kinds import Resource

WRITES = frozenset({"POST", "PATCH", "APPLY", "DELETE"})


class Cut(Exception):
    """The connection ends here, without an answer."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request about objects. ``verb`` is GET, LIST, WATCH, POST, PATCH, APPLY or DELETE; ``client`` who asks."""

    client: str
    verb: str
    resource: Resource
    name: Name
    subresource: str | None
    query: Mapping[str, str] = field(default_factory=dict)
    accept: str = ""
    content_type: str = ""
    body: Json = field(default_factory=dict)

    @property
    def target(self) -> str:
        """``providers``, or ``providers/status``."""
        return f"{self.resource.plural}/{self.subresource}" if self.subresource else self.resource.plural

    @property
    def writes(self) -> bool:
        """Whether it is to change something."""
        return self.verb in WRITES

    def shown(self, obj: Json) -> Json:
        """An object as this request wants it: whole, or its metadata alone."""
        if "as=PartialObjectMetadata" not in self.accept:
            return obj
        return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}

    @property
    def list_kind(self) -> Json:
        """What a list for this request calls itself."""
        if "as=PartialObjectMetadataList" in self.accept:
            return {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1"}
        return {"kind": f"{self.resource.kind}List", "apiVersion": self.resource.api_version}

    def __str__(self) -> str:
        return " ".join((self.verb, self.target, "/".join(filter(None, self.name)))).strip()


@dataclass
class Fault:
    """What befalls the requests for which ``when`` holds; the first one in the server's list decides.

    ``times``: so often, None until it is taken from the list. ``refusal`` is said instead of an answer, with
    ``retry_after_s`` as its header; with ``answer_lost`` the request is carried out, and the connection cut in place of the
    answer.
    """

    when: Callable[[Asked], bool]
    times: int | None = None
    delay_s: float = 0.0
    refusal: Failure | None = None
    retry_after_s: int | None = None
    answer_lost: bool = False

    def befalls(self, asked: Asked) -> bool:
        """Whether this request meets it; each one that does uses up one of its times."""
        if self.times == 0 or not self.when(asked):
            return False
        if self.times is not None:
            self.times -= 1
        return True


@dataclass(frozen=True, slots=True)
class View:
    """What a client sees of the past: lists and watches as of a version, and single objects too with ``gets``.

    Without ``gets`` it is what Kubernetes allows: a read of one object is always up to date, a watch may lag.
    """

    as_of: int
    gets: bool = False


class Gate:
    """Stands before everything that writes, and hears of everything that was written; this one lets all pass."""

    @asynccontextmanager
    async def passing(self, client: str, what: str) -> AsyncIterator[None]:
        """Around a write that somebody is about to do. Raises Cut to end the connection: before it, or after it, unanswered.

        A write that turned out to be none, since it was refused, passes on what refused it.
        """
        yield


def writes(*targets: str) -> Callable[[Asked], bool]:
    """Requests that write one of these (``providers``, ``providers/status``); without any, all that write."""
    return lambda asked: asked.writes and (not targets or asked.target in targets)


def reads(*targets: str) -> Callable[[Asked], bool]:
    """Requests that read one of these, watches included."""
    return lambda asked: not asked.writes and (not targets or asked.target in targets)


TOO_MANY = Failure(429, "TooManyRequests", "too many requests, please try again later")
BROKEN = Failure(500, "InternalError", "etcdserver: request timed out")
