"""The one API client of the process: get, list, create, patch, apply, delete, watch, over one pool of connections."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple, Self

from keep_operator.cluster import call, credentials, failures
from keep_operator.cluster.call import Call
from keep_operator.cluster.connection import Connection
from keep_operator.cluster.transport import Bounds, Count, Sleep, Transport, http_date
from keep_operator.resources.kinds import FIELD_MANAGER, Resource

Manifest = dict[str, Any]

LIMIT: Final = 64
"""Calls under way at once, which also bounds the connections: measured best for a server with 2 cores
(status patches per second with 8, 32, 64, 128, 256 at once: 356, 461, 957, 395, 228)."""
PAGE_SIZE: Final = 500
"""Objects per page of a list, as kubectl has it: half the memory of a list without pages."""
LIST_RESTARTS: Final = 3
"""How often a list begins anew because its pages expired (410) before it gives up."""


@dataclass(frozen=True, slots=True)
class Listing:
    """All objects of a list, or one page of it, and the version of the collection that it shows."""

    items: list[Manifest]
    resource_version: str


class TableRow(NamedTuple):
    """One object as the server prints it: the cells by the names of the kind's columns."""

    namespace: str
    name: str
    cells: dict[str, Any]


Rows = list[TableRow]


@dataclass(frozen=True, slots=True)
class ServerVersion:
    """What the API server calls itself (``git`` like ``v1.31.2``), and its clock as of the answer, to the second."""

    git: str
    major: int
    minor: int
    server_time: datetime | None


@dataclass(frozen=True, slots=True)
class Review:
    """Whether we may do something, and what the server says about it."""

    allowed: bool
    reason: str


def _count_nothing(verb: str, target: str, status: int) -> None:
    """Count for those who do not count."""


class Cluster:
    """The API server as a handful of verbs; made once per process, shared by all, closed at the end.

    Every method raises Unavailable (no or no usable answer, no right), Conflict (our view was stale) or Refused
    (the server rejects what we send); ``failures`` says which when. ``namespace`` may be None or empty for
    cluster-scoped kinds. Calls that do no more when sent twice are repeated by themselves, briefly; others only if
    they certainly did not arrive. ``count`` is told of every exchange, repeats included.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        limit: int = LIMIT,
        bounds: Bounds = Bounds(),  # noqa: B008  # frozen
        count: Count = _count_nothing,
        page_size: int = PAGE_SIZE,
        clock: Callable[[], datetime] = credentials.utc_now,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.connection = connection
        self._page_size = page_size
        self._transport = Transport(connection, limit=limit, bounds=bounds, count=count, clock=clock, sleep=sleep)

    def __repr__(self) -> str:
        return f"Cluster({self.connection!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; safe to repeat."""
        await self._transport.close()

    # -- reading --------------------------------------------------------------------------------------------------

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Manifest | None:
        """The object as it is now, None if the API server itself says that it does not exist."""
        return await self._ask_for_object(
            call.on_object("get", "GET", resource, namespace, name, repeatable=True, absence_is_answer=True)
        )

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        metadata_only: bool = False,
        label_selector: str | None = None,
    ) -> Listing:
        """All objects at one moment; no namespace = of all namespaces. Complete, or an error."""
        expired: failures.Expired
        for _ in range(1 + LIST_RESTARTS):
            items: list[Manifest] = []
            version = ""
            try:
                pages = self.pages(resource, namespace, metadata_only=metadata_only, label_selector=label_selector)
                async for page in pages:
                    items += page.items
                    version = page.resource_version
            except failures.Expired as error:
                expired = error
            else:
                return Listing(items, version)
        raise expired

    async def pages(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        metadata_only: bool = False,
        label_selector: str | None = None,
    ) -> AsyncIterator[Listing]:
        """The same page by page, for those who keep little of it; all pages show the same moment.

        Raises ``failures.Expired`` when reading took so long that the server forgot that moment: begin anew. With
        ``metadata_only`` the objects are PartialObjectMetadata, without the bulky ``managedFields``.
        """
        limit, token = self._page_size, ""
        while True:
            query = {"limit": str(limit)}
            if token:
                query["continue"] = token
            if label_selector:
                query["labelSelector"] = label_selector
            request = call.on_collection(
                "list",
                "GET",
                resource,
                namespace,
                query=query,
                accept=call.METADATA_LIST if metadata_only else call.JSON,
                repeatable=True,
            )
            try:
                document = await self._ask(request)
            except failures.TooLarge:
                if limit == 1:
                    raise
                limit = max(1, limit // 4)
                continue
            page, token = _page(request, document)
            if metadata_only:
                for item in page.items:
                    item["metadata"].pop("managedFields", None)
            yield page
            if not token:
                return

    async def table(self, resource: Resource, namespace: str | None = None) -> Rows:
        """All objects as `kubectl get` shows them, columns of lower priority too: a small part of what they are.

        Raises ``failures.Expired`` where reading took so long that the server forgot the moment: begin anew.
        """
        rows: Rows = []
        token = ""
        while True:
            query = {"limit": str(self._page_size)} | ({"continue": token} if token else {})
            request = call.on_collection(
                "list", "GET", resource, namespace, query=query, accept=call.TABLE, repeatable=True
            )
            document = await self._ask(request)
            rows += _rows(request, document)
            token = str((document.get("metadata") or {}).get("continue") or "")
            if not token:
                return rows

    def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str,
        metadata_only: bool = False,
        server_timeout_s: int = 300,
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """What happens after ``resource_version``, as raw pieces of JSON lines, bookmarks included.

        The server ends it after ``server_timeout_s``. Raises Unavailable, ``failures.Expired`` for 410.
        """
        return self._transport.stream(
            call.on_collection(
                "watch",
                "GET",
                resource,
                namespace,
                query={
                    "watch": "true",
                    "allowWatchBookmarks": "true",
                    "resourceVersion": resource_version,
                    "timeoutSeconds": str(server_timeout_s),
                },
                accept=call.METADATA_WATCH if metadata_only else call.JSON,
            )
        )

    # -- writing --------------------------------------------------------------------------------------------------

    async def create(
        self,
        resource: Resource,
        namespace: str | None,
        body: Manifest,
        *,
        repeatable: bool = False,
        token: str | None = None,
    ) -> Manifest:
        """The object as the server made it; Conflict (AlreadyExists) if there is one of that name.

        Not repeated once it may have arrived: after Unavailable the object may exist. ``repeatable``: it is a question that
        leaves nothing behind. With ``token`` somebody else makes it, whom that belongs to.
        """
        request = call.on_collection(
            "create",
            "POST",
            resource,
            namespace,
            query={"fieldManager": FIELD_MANAGER},
            body=call.encode(body),
            repeatable=repeatable,
            token=token,
        )
        return await self._ask(request)

    async def patch(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        body: Manifest,
        subresource: str | None = None,
    ) -> Manifest:
        """The object after a merge patch (RFC 7396); ``subresource`` is for example ``status``.

        With ``metadata.resourceVersion`` in the body the server checks that our view was not stale, else Conflict,
        and the call may be repeated; a missing object is a Conflict too.
        """
        request = call.on_object(
            "patch",
            "PATCH",
            resource,
            namespace,
            name,
            subresource,
            query={"fieldManager": FIELD_MANAGER},
            body=call.encode(body),
            content_type=call.MERGE_PATCH,
            repeatable=bool((body.get("metadata") or {}).get("resourceVersion")),
        )
        return await self._ask(request)

    async def apply(
        self, resource: Resource, namespace: str | None, name: str, body: Manifest, *, force: bool = False
    ) -> Manifest:
        """The object after a server-side apply as ``keep-operator``; made if it is not there. Safe to repeat.

        Refused (FieldManagerConflict) if others own a field, unless ``force`` takes it from them.
        """
        request = call.on_object(
            "apply",
            "PATCH",
            resource,
            namespace,
            name,
            query={"fieldManager": FIELD_MANAGER, "force": "true" if force else "false"},
            body=call.encode(body),
            content_type=call.APPLY_PATCH,
            repeatable=True,
        )
        return await self._ask(request)

    async def delete(self, resource: Resource, namespace: str | None, name: str, *, uid: str | None = None) -> None:
        """Ask for the object's deletion; done if it is gone already, not awaited if finalizers hold it.

        With ``uid`` only that very object: Conflict if another one has taken its name.
        """
        options: Manifest = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        request = call.on_object(
            "delete",
            "DELETE",
            resource,
            namespace,
            name,
            body=call.encode(options),
            repeatable=uid is not None,
            absence_is_answer=True,
        )
        await self._ask_for_object(request)

    # -- about the server -----------------------------------------------------------------------------------------

    async def server_version(self) -> ServerVersion:
        """Which Kubernetes it is, and what its clock says."""
        request = Call("get", "version", "GET", "/version", repeatable=True)
        answer = await self._transport.send(request)
        assert answer is not None  # absence is no answer here
        document = answer.document
        major, minor = (int((re.match(r"\d+", str(document.get(key))) or ["0"])[0]) for key in ("major", "minor"))
        return ServerVersion(str(document.get("gitVersion") or "unknown"), major, minor, http_date(answer.date))

    async def review(  # the attributes of one right
        self, group: str, resource: str, verb: str, *, subresource: str = "", namespace: str = "", name: str = ""
    ) -> Review:
        """Whether we ourselves may do that (SelfSubjectAccessReview); an empty namespace asks for all of them."""
        attributes = {
            "verb": verb,
            "group": group,
            "resource": resource,
            "subresource": subresource,
            "namespace": namespace,
            "name": name,
        }
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {key: value for key, value in attributes.items() if value}},
        }
        request = Call(
            "create",
            "selfsubjectaccessreviews",
            "POST",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            body=call.encode(body),
            repeatable=True,
        )
        status = (await self._ask(request)).get("status")
        status = status if isinstance(status, dict) else {}
        return Review(status.get("allowed") is True, failures.plain(str(status.get("reason") or "")))

    # -- answers --------------------------------------------------------------------------------------------------

    async def _ask_for_object(self, request: Call) -> Manifest | None:
        answer = await self._transport.send(request)
        return None if answer is None else answer.document

    async def _ask(self, request: Call) -> Manifest:
        document = await self._ask_for_object(request)
        assert document is not None  # send() raises before that
        return document


def _rows(request: Call, document: Manifest) -> Rows:
    """The rows of a table; raises Unavailable where the answer is none."""
    columns = [str(each.get("name")) for each in document.get("columnDefinitions") or ()]
    if document.get("kind") != "Table" or not columns:
        raise failures.no_json(str(request), 200)
    found = []
    for row in document.get("rows") or ():
        metadata = (row.get("object") or {}).get("metadata") or {}
        cells = dict(zip(columns, row.get("cells") or (), strict=False))
        found.append(TableRow(str(metadata.get("namespace") or ""), str(metadata.get("name") or ""), cells))
    return found


def _page(request: Call, document: Manifest) -> tuple[Listing, str]:
    """The page and the token of the next one; raises Unavailable if it is no list of objects."""
    items, metadata = document.get("items"), document.get("metadata")
    if items is None and str(document.get("kind")).endswith("List"):
        items = []  # Go writes an empty list so
    if not isinstance(items, list) or not isinstance(metadata, dict) or not metadata.get("resourceVersion"):
        raise failures.no_json(str(request), 200)
    if not all(isinstance(item, dict) and isinstance(item.get("metadata"), dict) for item in items):
        raise failures.no_json(str(request), 200)
    return Listing(items, str(metadata["resourceVersion"])), str(metadata.get("continue") or "")
