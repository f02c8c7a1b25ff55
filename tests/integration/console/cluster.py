"""The part of an API server that the console asks: whose tokens there are, what their users may, a few objects."""

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from keep_operator.resources.kinds import PROVIDERS, TENANTS, WORKFLOW_REVISIONS, WORKFLOWS

Json = dict[str, Any]
PLURALS = {resource.plural for resource in (TENANTS, PROVIDERS, WORKFLOWS, WORKFLOW_REVISIONS)}


@dataclass
class Played:
    """Rights are written ``get workflows monitoring/high-cpu``; without a name they are for all of the namespace.

    ``used`` are the console's own rights that its requests needed: verb and resource.
    """

    tokens: dict[str, str] = field(default_factory=dict)
    rights: dict[str, set[str]] = field(default_factory=dict)
    objects: dict[str, Json] = field(default_factory=dict)
    revisions: list[Json] = field(default_factory=list)
    acted_as: list[str] = field(default_factory=list)
    tables: dict[str, list[Json]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    bodies: list[Json] = field(default_factory=list)
    used: set[tuple[str, str]] = field(default_factory=set)
    away: bool = False

    def give(self, user: str, *rights: str) -> str:
        """A token of a user who has these rights."""
        self.tokens[f"token-of-{user}"] = user
        self.rights.setdefault(user, set()).update(rights)
        return f"token-of-{user}"

    async def answer(self, request: web.Request) -> web.Response:
        """One request."""
        self.asked[f"{request.method} {request.path.rsplit('/', 1)[-1]}"] += 1
        *_, collection, last = request.path.split("/")
        if request.method == "POST":
            self.used.add(("create", last))
        else:
            self.used.add(("list", last) if last in PLURALS else ("get", collection))
        if self.away:
            return web.Response(status=503, text="no")
        if request.method == "POST":
            body = await request.json()
            self.bodies.append(body)
            if body["kind"] == "WorkflowDecision":
                self.acted_as.append(request.headers.get("Authorization", ""))
                if f"{request.path}/{body['metadata']['name']}" in self.objects:
                    return _json({"kind": "Status", "code": 409, "reason": "AlreadyExists"}, 409)
                done = {"type": "Handled", "status": "True", "reason": "Done", "message": "As you say"}
                made = {**body, "status": {"conditions": [done]}}
                self.objects[f"{request.path}/{body['metadata']['name']}"] = made
                return _json(made, 201)
            status = self._identity(body) if body["kind"] == "TokenReview" else self._verdict(body)
            return _json({**body, "status": status}, 201)
        if "as=Table" in request.headers.get("Accept", ""):
            return _json(_table(self.tables.get(request.path, [])))
        if request.path == WORKFLOW_REVISIONS.path("monitoring"):
            items = [each for each in self.revisions if _selected(each, request.query["labelSelector"])]
            return _json({"kind": "List", "metadata": {"resourceVersion": "1"}, "items": items})
        found = self.objects.get(request.path)
        if found is None:
            status = {"kind": "Status", "code": 404, "reason": "NotFound", "details": {"name": "it"}}
            return _json(status, 404)
        return _json(found)

    def _identity(self, body: Json) -> Json:
        user = self.tokens.get(body["spec"]["token"])
        told = {"username": user, "uid": "1", "groups": ["people"], "extra": {"from": ["here"]}}
        return {"authenticated": True, "user": told} if user else {"authenticated": False, "error": "unknown"}

    def _verdict(self, body: Json) -> Json:
        what = body["spec"]["resourceAttributes"]
        scope = f"{what['verb']} {what['resource']} {what.get('namespace', '')}"
        rights = self.rights.get(body["spec"]["user"], set())
        return {"allowed": bool({scope, f"{scope}/{what.get('name', '')}"} & rights)}

    def have_workflow(self, uid: str, **spec: Any) -> None:
        """The object that the tests' workflow belongs to, and its Tenant."""
        path = WORKFLOWS.path("monitoring", "high-cpu")
        self.objects[path] = {
            "metadata": {"name": "high-cpu", "namespace": "monitoring", "uid": uid},
            "spec": {"definition": {}, **spec},
        }
        self.objects.setdefault(TENANTS.path(None, "keep"), {"metadata": {"name": "keep"}, "spec": {}})


def _table(rows: list[Json]) -> Json:
    """Rows as the server prints them: each has the name, the namespace, and cells by their columns."""
    columns = list(dict.fromkeys(name for row in rows for name in row["cells"])) or ["Name"]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": "1"},
        "columnDefinitions": [{"name": name, "type": "string"} for name in columns],
        "rows": [
            {
                "cells": [row["cells"].get(name) for name in columns],
                "object": {"metadata": {"name": row["name"], "namespace": row.get("namespace", "")}},
            }
            for row in rows
        ],
    }


def _json(value: Json, status: int = 200) -> web.Response:
    return web.Response(text=json.dumps(value), status=status, content_type="application/json")


def _selected(each: Json, selector: str) -> bool:
    key, _, value = selector.partition("=")
    return bool(each["metadata"]["labels"].get(key) == value)


@asynccontextmanager
async def served(played: Played) -> AsyncIterator[str]:
    """The URL at which it answers."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", played.answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
