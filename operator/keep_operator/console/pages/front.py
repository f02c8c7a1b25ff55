"""The pages' paths, and what holds for all of them: who may come in, what browsers are told, how failures look.

::

    /                      fleet                    /w/NAMESPACE/NAME               a workflow and its timeline
    /signin, /signout      who are you?             /w/NAMESPACE/NAME/…             its pages
    /static/…              files of the package     /r/RUN                          a run
    /p/NAMESPACE/NAME      a Provider               /ledger/TENANT                  what was done to a tenant
    /live/…                what changes of a page, as a stream
"""

import asyncio
import mimetypes
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache, partial
from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from keep_operator.console import problems
from keep_operator.console.pages import compare, decide, fleet, ledger, provider, release, run, runs, signin, workflow
from keep_operator.console.pages.rendering import STATIC
from keep_operator.console.pages.visit import Pages, Visit, address
from keep_operator.console.problems import Problem
from keep_operator.console.room import Room

Serve = Callable[[Visit], Awaitable[Response]]

# Seconds for one page.
PATIENCE_S: Final = 30.0
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # With less the browser would not say, either, that a form of ours is ours.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class Page:
    """One path. ``open``: anybody may see it, signed in or not. ``live``: it goes into a page, so nobody is led elsewhere."""

    path: str
    serve: Serve
    methods: tuple[str, ...] = ("GET",)
    open: bool = False
    live: bool = False


PAGES: Final = (
    Page("/", fleet.show),
    Page("/w/{namespace}/{name}", workflow.show),
    Page("/w/{namespace}/{name}/runs", runs.show),
    Page("/w/{namespace}/{name}/release", release.show),
    Page("/w/{namespace}/{name}/compare", compare.choose, ("GET", "POST")),
    Page("/w/{namespace}/{name}/compare/{pair}", compare.show),
    Page("/w/{namespace}/{name}/decide/{action}", decide.show, ("GET", "POST")),
    Page("/p/{namespace}/{name}", provider.show),
    Page("/ledger/{tenant}", ledger.show),
    Page("/r/{run}", run.show),
    Page("/r/{run}/cancel", run.cancel, ("GET", "POST")),
    Page("/r/{run}/again", run.again, ("GET", "POST")),
    Page("/live/run/{run}", run.live, live=True),
    Page("/live/w/{namespace}/{name}", workflow.live, live=True),
    Page("/live/w/{namespace}/{name}/release", release.live, live=True),
    Page("/signin", signin.show, ("GET", "POST"), open=True),
    Page("/signin/once/{secret}", signin.once, open=True),
    Page("/signout", signin.out, ("POST",)),
)


def routes(here: Room, pages: Pages) -> list[Route]:
    """All pages, and the files that they need."""
    shown = [Route(each.path, partial(_serve, here, pages, each), methods=list(each.methods)) for each in PAGES]
    return [*shown, Route("/static/{name:path}", _static, methods=["GET"])]


async def _serve(here: Room, pages: Pages, page: Page, request: Request) -> Response:
    request.state.told["path"] = page.path
    request.state.visit = Visit(here, pages, request)
    try:
        async with asyncio.timeout(PATIENCE_S):
            response = await _enter(here, pages, page, request)
    except TimeoutError:
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "TimedOut", "The page took too long; try again.") from None
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


async def _enter(here: Room, pages: Pages, page: Page, request: Request) -> Response:
    session = pages.sessions.find(request.cookies)
    if session is None:
        return await page.serve(request.state.visit) if page.open else _sign_in(request, page)
    try:
        visitor = await here.doorkeeper.visitor([f"Bearer {session.token}"], None)
    except Problem as problem:
        if problem.status is not HTTPStatus.UNAUTHORIZED:
            raise
        if page.open:
            return await page.serve(request.state.visit)
        response = _sign_in(request, page)
        pages.sessions.end(response)
        return response
    request.state.told["user"] = visitor.user.name
    request.state.visit = Visit(here, pages, request, session, visitor)
    return await page.serve(request.state.visit)


def _sign_in(request: Request, page: Page) -> Response:
    """The way to come back to where one wanted to go; what was sent is not kept. Raises Problem 401 for a part of a page.

    With a link from elsewhere browsers send no cookie of ours at first; they do when the page itself asks for the same again.
    """
    if page.live:
        raise problems.unauthenticated("The session has ended; reload the page to sign in again.")
    if request.method == "GET" and request.headers.get("sec-fetch-site") == "cross-site":
        visit: Visit = request.state.visit
        return visit.show("again.html")
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return Visit.go(address("signin", to="" if request.method != "GET" or wanted == "/" else wanted))


def failed(request: Request, problem: Problem) -> Response:
    """A page in place of what was asked for, which says what can be done."""
    visit: Visit = request.state.visit
    response = visit.show("problem.html", problem.status, problem=problem)
    for name, value in {**HEADERS, **problem.headers}.items():
        response.headers.setdefault(name, value)
    return response


async def _static(request: Request) -> Response:
    request.state.told["path"] = "/static"
    name = request.path_params["name"]
    found = _files().get(name)
    if found is None:
        raise problems.missing("FileNotFound", "There is no such file.")
    body, media_type = found
    # The address has the content's hash, see `rendering.static_url`.
    kept = "public, max-age=31536000, immutable" if "v" in request.query_params else "no-cache"
    headers = {**HEADERS, "Cache-Control": kept}
    return Response(body, headers=headers, media_type=media_type)


@cache
def _files() -> dict[str, tuple[bytes, str]]:
    """All static files by name; there are few, and no path leads out of them."""
    return {
        str(each.relative_to(STATIC)): (each.read_bytes(), mimetypes.guess_type(each.name)[0] or "text/plain")
        for each in sorted(STATIC.rglob("*"))
        if each.is_file()
    }
