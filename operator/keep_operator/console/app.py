"""The API and the pages as one application: its paths, who may come in, what is answered when something is wrong, the access log.

::

    request ──► Front: note, answer for failures, one log line
                  └─► who asks? (doorkeeper) ──► the endpoint: parameters, may they?, read, tell

"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from keep_operator.console import problems
from keep_operator.console.described import Door, Endpoint
from keep_operator.console.endpoints import ENDPOINTS, PREFIX
from keep_operator.console.pages import front, live
from keep_operator.console.pages.visit import Pages, Visit
from keep_operator.console.problems import Problem
from keep_operator.console.room import Room

log = logging.getLogger(__name__)

# Requests under way at once, which bounds memory: each may bring a body of a megabyte. As long as others are waited for, of
# which nothing is read meanwhile: a wall of screens that all come back at once takes moments.
AT_ONCE: Final = 128
WAITING: Final = 512
WAIT_S: Final = 5.0
# Seconds for one request: longer than the database and the API server are waited for, one after the other.
PATIENCE_S: Final = 60.0
STREAM: Final = f"{live.MEDIA_TYPE}; charset=utf-8".encode()


def build(here: Room, pages: Pages) -> ASGIApp:
    """The application, of the API and the pages; it starts and ends nothing by itself."""
    # One route for all methods of a path: so an unknown method is told which there are.
    by_path: dict[str, dict[str, Endpoint]] = {}
    for each in ENDPOINTS:
        by_path.setdefault(each.path, {})[each.method] = each
    by_path["/"] = by_path[""]
    routes = [
        Route(f"{PREFIX}{path}", partial(_serve, here, f"{PREFIX}{path}", methods), methods=list(methods), name=path)
        for path, methods in by_path.items()
    ]
    routes += front.routes(here, pages)
    handlers: Any = {
        Problem: _problem,
        HTTPException: partial(_http, here, pages),
        Exception: _bug,
    }
    made = Starlette(routes=routes, exception_handlers=handlers)
    made.router.redirect_slashes = False
    return Front(made)


async def _serve(here: Room, path: str, methods: Mapping[str, Endpoint], request: Request) -> Response:
    endpoint = methods["GET" if request.method == "HEAD" else request.method]
    request.state.endpoint = endpoint
    request.state.told["path"] = path  # of what users put into it nothing is logged
    try:
        async with asyncio.timeout(PATIENCE_S):
            if endpoint.door is Door.USER:
                sent, where = request.headers.getlist("authorization"), request.client
                request.state.visitor = await here.doorkeeper.visitor(sent, "" if where is None else where.host)
                request.state.told["user"] = request.state.visitor.user.name
            for each in endpoint.in_path:
                each.check(request.path_params[each.name])
            return await endpoint.serve(here, request)
    except TimeoutError:
        raise Problem(
            HTTPStatus.SERVICE_UNAVAILABLE, "TimedOut", "The answer took too long; try again.", {"Retry-After": "5"}
        ) from None


async def _problem(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, Problem)
    request.state.told["reason"] = problem.reason
    return front.failed(request, problem) if hasattr(request.state, "visit") else _told(problem)


async def _http(here: Room, pages: Pages, request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if not request.scope["path"].startswith("/api/") and "text/html" in request.headers.get("accept", ""):
        request.state.visit = Visit(here, pages, request)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        detail = f"This path takes {(error.headers or {}).get('Allow', 'other methods')}."
        problem = Problem(HTTPStatus.METHOD_NOT_ALLOWED, "MethodNotAllowed", detail, error.headers or {})
    else:
        problem = problems.missing("PathNotFound", f"There is no such path; GET {PREFIX} lists those that there are.")
    return await _problem(request, problem)


async def _bug(request: Request, _: Exception) -> Response:
    """The answer; the error itself goes on to `Front`."""
    return await _problem(request, problems.INTERNAL)


def _told(problem: Problem) -> Response:
    return JSONResponse(
        problem.document(),
        int(problem.status),
        {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **problem.headers},
        media_type=problems.MEDIA_TYPE,
    )


BUSY: Final = Problem(
    HTTPStatus.SERVICE_UNAVAILABLE, "Busy", "Too many requests are under way; try again.", {"Retry-After": "1"}
)


class Front:
    """Lets requests in, notes what each was about, and writes one line to the log; with a traceback before it where there is
    a bug."""

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner
        self._places = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0
        self._arriving: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        told: dict[str, Any] = {}
        scope["state"] = {"told": told, "arriving": self._arriving}
        began = time.monotonic()
        status, counted = 0, False

        async def noting(message: Message) -> None:
            nonlocal status, counted
            if message["type"] == "http.response.start":
                status = message["status"]
                if counted and (b"content-type", STREAM) in message["headers"]:  # those have their own bound
                    self._places.release()
                    counted = False
            await send(message)

        try:
            counted = await self._let_in()
            if counted:
                await self._inner(scope, receive, noting)
            else:
                told["reason"] = BUSY.reason
                await _told(BUSY)(scope, receive, noting)
        except Exception:
            log.exception("a request was not answered as it should have been")
        finally:
            if counted:
                self._places.release()
            log.info(
                "request",
                extra={
                    "method": scope["method"] if scope["method"] in ("GET", "HEAD", "POST") else None,
                    "path": None,
                    **told,
                    "status": status,
                    "duration_ms": round((time.monotonic() - began) * 1000, 1),
                },
            )

    async def _let_in(self) -> bool:
        """Whether there is a place, or comes to be one soon."""
        if self._places.locked() and self._waiting >= WAITING:
            return False
        self._waiting += 1
        try:
            async with asyncio.timeout(WAIT_S):
                return await self._places.acquire()
        except TimeoutError:
            return False
        finally:
            self._waiting -= 1
