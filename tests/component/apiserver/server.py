"""An API server in memory: real HTTP on a loopback port, all of its state in the hands of the test.

It does what the operator, kopf and the tests rely upon, and the contract (`contract.py`) holds it to what a real API server does.
What it does not know it refuses with 501 rather than guess: schemas and CEL, PUT, rights, foreground deletion.

::

    request ──► who asks ──► fault? ──► gate ──► State ──► answer, counted
                                                  │
                                                  └──► log ──► watches
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from aiohttp import web

from component.apiserver import discovery, patches
from component.apiserver.faults import WRITES, Asked, Cut, Fault, Gate, View
from component.apiserver.patches import Json
from component.apiserver.state import Failure, Name, State
from component.apiserver.watches import Watches
from keep_operator.cluster.connection import Connection
from keep_operator.cluster.credentials import Identity
from keep_operator.resources.kinds import Resource

ANONYMOUS: Final = "anonymous"
_KNOWN: Final = frozenset(
    {"fieldManager", "force", "limit", "continue", "labelSelector"}
    | {"watch", "allowWatchBookmarks", "resourceVersion", "timeoutSeconds"}
)


class Exchange(NamedTuple):
    """A request that was carried out or refused; its answer may have been lost."""

    client: str
    verb: str
    target: str
    name: Name
    code: int


@dataclass
class ApiServer:
    """The server; `serve` starts one, and a test reaches into it at any time.

    ``exchanges`` is the evidence: every request about objects, in order. ``faults`` are tried in order, ``gate`` stands before
    all writes. ``under_way`` counts the requests that are being answered; open watches are none.
    """

    state: State = field(default_factory=State)
    faults: list[Fault] = field(default_factory=list)
    gate: Gate = field(default_factory=Gate)
    exchanges: list[Exchange] = field(default_factory=list)
    under_way: int = 0
    url: str = ""

    def __post_init__(self) -> None:
        self._views: dict[str, View] = {}
        self._dead: set[str] = set()
        self._pages: dict[str, tuple[list[Json], int]] = {}
        self._runner: web.AppRunner | None = None
        self._port = 0
        self.watches = Watches(self.state, self._views)
        self.state.tell = self.watches.tell

    # -- its life -------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen; after a `stop` again on the same port, with all that was stored."""
        application = web.Application(client_max_size=8 << 20)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.01, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}"

    async def stop(self) -> None:
        """Cut every connection and listen no more."""
        self.watches.cut()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def connect(self, client: str, *, namespace: str = "default") -> Connection:
        """A way to it for one client, by whose name what it does is counted, and cut."""

        async def obtain() -> Identity:
            return Identity(f"Bearer {client}")

        return Connection(self.url, namespace=namespace, obtain=obtain)

    # -- evidence -------------------------------------------------------------------------------------------------

    def writes(self, client: str, *, since: int = 0) -> Counter[str]:
        """What a client has written, like ``PATCH providers/status``; ``since`` so many exchanges."""
        return Counter(
            f"{each.verb} {each.target}"
            for each in self.exchanges[since:]
            if (each.client, each.verb in WRITES, each.code < 300) == (client, True, True)
        )

    def reads(self, client: str, *, since: int = 0) -> Counter[str]:
        """What a client has asked for, like ``LIST providers``."""
        return Counter(
            f"{each.verb} {each.target}"
            for each in self.exchanges[since:]
            if (each.client, each.verb in WRITES) == (client, False)
        )

    # -- faults that are no request's -----------------------------------------------------------------------------

    def expire(self) -> None:
        """Forget what has happened so far: watches and pages begun before get 410. Open watches are cut."""
        self.watches.oldest = self.state.version
        self._pages.clear()
        self.watches.cut()

    def lose(self, resource: Resource, name: Name) -> None:
        """Delete an object in a way that no watch ever tells of; finalizers do not help."""
        gone = self.state.get(resource, name)
        self.state.objects[resource][name] = {**gone, "metadata": {**gone["metadata"], "finalizers": []}}
        self.state.delete(resource, name)
        self.expire()

    def freeze(self, client: str, as_of: int, *, gets: bool = False) -> None:
        """Show a client the past: what the server looked like at a version, until `unfreeze`. Writes are never late."""
        self._views[client] = View(as_of, gets)

    def unfreeze(self, client: str) -> None:
        """Let the client catch up."""
        del self._views[client]
        self.watches.tell()

    def withdraw(self, resource: Resource) -> None:
        """Serve a kind no more, since its definition is gone: requests for it meet a bare 404. Until `State.define`."""
        self.state.withdraw(resource)
        self.watches.cut(resource.plural)

    def kill(self, client: str) -> None:
        """Cut everything that a client has open, and whatever it may ask from now on."""
        self._dead.add(client)
        self.watches.abort(client)

    # -- requests -------------------------------------------------------------------------------------------------

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        client = request.headers.get("Authorization", f"Bearer {ANONYMOUS}").removeprefix("Bearer ")
        path = [part for part in request.path.split("/") if part]
        try:
            if client in self._dead:
                raise Cut
            if (about := discovery.describe(self.state.served, path)) is not None:
                return web.json_response(about)
            asked = await self._read(request, client, path)
            if asked is None:
                return web.Response(status=404, text="404 page not found")
            self.under_way += 1
            try:
                answer = await self._answer(asked)
            finally:
                self.under_way -= 1
            return await self.watches.follow(request, asked) if answer is None else answer
        except Cut:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()

    async def _read(self, request: web.Request, client: str, path: list[str]) -> Asked | None:
        """The request in our words; None where nothing is served under its path."""
        found = discovery.find(self.state.served, path)
        if found is None:
            return None
        resource, namespace, rest = found
        name, subresource = (*rest, "", "")[:2]
        raw = await request.read()
        body = json.loads(raw) if raw else {}
        verb, content_type = request.method, request.content_type
        if verb == "GET" and not name:
            verb = "WATCH" if request.query.get("watch") == "true" else "LIST"
        elif verb == "PATCH" and content_type == "application/apply-patch+yaml":
            verb = "APPLY"
        elif verb == "POST":
            name = body.get("metadata", {}).get("name", "")
        return Asked(
            client=client,
            verb=verb,
            resource=resource,
            name=Name(namespace, name),
            subresource=subresource or None,
            query=dict(request.query),
            accept=request.headers.get("Accept", ""),
            content_type=content_type,
            body=body,
        )

    async def _answer(self, asked: Asked) -> web.Response | None:
        """The answer; None for a watch, whose answer goes on."""
        fault = next((fault for fault in self.faults if fault.befalls(asked)), None) or Fault(lambda _: True)
        if fault.delay_s:
            self.under_way -= 1  # nobody works on it meanwhile
            await asyncio.sleep(fault.delay_s)
            self.under_way += 1
        headers = {} if fault.retry_after_s is None else {"Retry-After": str(fault.retry_after_s)}
        try:
            code, body = await self._carry_out(asked, fault)
        except Failure as failure:
            code, body = failure.code, failure.status
        self.exchanges.append(Exchange(asked.client, asked.verb, asked.target, asked.name, code))
        if fault.answer_lost:
            raise Cut
        return None if body is None else web.json_response(body, status=code, headers=headers)

    async def _carry_out(self, asked: Asked, fault: Fault) -> tuple[int, Json | None]:
        if fault.refusal is not None:
            raise fault.refusal
        if strange := set(asked.query) - _KNOWN:
            raise Failure(501, "NotImplemented", f"the server in memory does not know {', '.join(sorted(strange))}")
        match asked.verb:
            case "WATCH" if "resourceVersion" in asked.query:
                return 200, None
            case "LIST":
                return 200, self._list(asked)
            case "GET":
                view = self._views.get(asked.client)
                past = view.as_of if view is not None and view.gets else None
                return 200, asked.shown(self.state.get(asked.resource, asked.name, as_of=past))
            case _ if asked.writes:
                async with self.gate.passing(asked.client, str(asked)):
                    return self._write(asked)
        raise Failure(501, "NotImplemented", f"the server in memory does not know such a {asked.verb}")

    def _write(self, asked: Asked) -> tuple[int, Json]:
        state, resource, name, body = self.state, asked.resource, asked.name, asked.body
        manager = asked.query.get("fieldManager", asked.client)
        if resource in discovery.REVIEWS:
            return 201, body | {"status": {"allowed": True}}
        match asked.verb:
            case "POST":
                return 201, state.create(resource, name, body, manager=manager)
            case "APPLY":
                force = asked.query.get("force") == "true"
                made, is_new = state.apply(resource, name, body, manager=manager, force=force)
                return 201 if is_new else 200, made
            case "PATCH":
                new = _patched(asked.content_type, state.get(resource, name), body)
                return 200, state.change(resource, name, new, subresource=asked.subresource, manager=manager)
            case _:
                if body.get("propagationPolicy", "Background") != "Background":
                    raise Failure(501, "NotImplemented", "the server in memory deletes in the background only")
                return 200, state.delete(resource, name, uid=body.get("preconditions", {}).get("uid"))

    def _list(self, asked: Asked) -> Json:
        limit = int(asked.query.get("limit", "0"))
        if token := asked.query.get("continue"):
            if token not in self._pages:
                raise Failure(410, "Expired", "the provided continue parameter is too old")
            items, version = self._pages.pop(token)
        else:
            view = self._views.get(asked.client)
            version = self.state.version if view is None else view.as_of
            found = self.state.all(asked.resource, as_of=None if view is None else view.as_of)
            items = [
                asked.shown(obj)
                for name, obj in found.items()
                if asked.name.namespace in ("", name.namespace) and _selected(obj, asked.query.get("labelSelector", ""))
            ]
        metadata = {"resourceVersion": str(version)}
        if limit and len(items) > limit:
            metadata["continue"] = f"{version}-{len(items)}-{len(self.exchanges)}"
            self._pages[metadata["continue"]] = items[limit:], version
            items = items[:limit]
        return asked.list_kind | {"metadata": metadata, "items": items}


@asynccontextmanager
async def serve(state: State | None = None) -> AsyncIterator[ApiServer]:
    """A server for the length of a block. Start it before kopf, which at its end cancels every younger task."""
    server = ApiServer(state or State())
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def _patched(content_type: str, old: Json, body: Any) -> Json:
    match content_type:
        case "application/merge-patch+json":
            merged: Json = patches.merge(old, body)
            return merged
        case "application/json-patch+json":
            try:
                return patches.operations(old, body)
            except patches.Failed as failed:
                raise Failure(422, "Invalid", str(failed), name=old["metadata"]["name"]) from None
    raise Failure(415, "UnsupportedMediaType", f"the server in memory does not know {content_type}")


def _selected(obj: Mapping[str, Any], selector: str) -> bool:
    """Whether all parts of a label selector hold: ``a=b``, ``a!=b``, ``a``, ``!a``."""
    labels = obj["metadata"].get("labels") or {}
    for part in filter(None, selector.split(",")):
        name, wanted, value = part.partition("=")
        if not wanted:
            if (name.removeprefix("!") in labels) == name.startswith("!"):
                return False
        elif (labels.get(name.rstrip("!")) == value) == name.endswith("!"):
            return False
    return True
