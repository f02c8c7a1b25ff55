"""Signing in with a token of the cluster's, and out again."""

from http import HTTPStatus
from ipaddress import IPv6Address, ip_address

from starlette.responses import Response

from keep_operator.console.pages.session import TooLong
from keep_operator.console.pages.visit import Visit
from keep_operator.console.problems import Problem


async def show(visit: Visit) -> Response:
    """The form, and what comes of it: the page that was wanted."""
    wanted = _within(visit.query("to", 2_000))
    if visit.request.method != "POST":
        return visit.go(wanted) if visit.visitor is not None else visit.show("signin.html", to=wanted, fault="")
    fields = await visit.form(of_session=False)
    wanted, token = _within(fields.get("to", "")), "".join(fields.get("token", "").split())
    try:
        return await _begin(visit, token, wanted)
    except Problem as problem:
        if problem.status is not HTTPStatus.UNAUTHORIZED:
            raise
        return visit.show("signin.html", HTTPStatus.UNAUTHORIZED, to=wanted, fault=problem.detail)


async def once(visit: Visit) -> Response:
    """The address that a local sandbox prints: good for one visit, from this machine only."""
    client, secret, once = visit.request.client, visit.path("secret"), visit.pages.once
    token = once.pop(secret, None) if client and on_this_machine(client.host) else None
    if token is None:
        detail = "This address signs somebody in once, and has done so. Sign in with a token."
        return visit.show("signin.html", HTTPStatus.GONE, to="/", fault=detail)
    signed_in = False
    try:
        if visit.request.method != "GET":  # who only looks whether there is something, as previews of links do
            return visit.go("/")
        response = await _begin(visit, token, "/")
        signed_in = True
        return response
    finally:
        if not signed_in:
            once[secret] = token


async def out(visit: Visit) -> Response:
    """The browser forgets the token."""
    await visit.form()
    response = visit.go("/signin")
    visit.pages.sessions.end(response)
    return response


async def _begin(visit: Visit, token: str, wanted: str) -> Response:
    """A session for whom the token belongs to. Raises Problem 401 where that is nobody."""
    where = visit.request.client
    await visit.here.doorkeeper.visitor([f"Bearer {token}"], "" if where is None else where.host)
    response = visit.go(wanted)
    try:
        visit.pages.sessions.give(response, visit.pages.sessions.begin(token))
    except TooLong:
        detail = "The token is too long for a browser. Use one of a service account: kubectl create token NAME"
        return visit.show("signin.html", HTTPStatus.BAD_REQUEST, to=wanted, fault=detail)
    return response


def on_this_machine(host: str) -> bool:
    """Whether a client's address is this machine's own, as sockets for IPv4 and IPv6 together tell it, too.

    Nobody else may use a one-time address: its secret stands in a terminal and in a browser's history.
    """
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def _within(path: str) -> str:
    """A path of ours, or the first page: nobody is sent elsewhere by a link."""
    return path if path.startswith("/") and not path.startswith("//") and "\\" not in path else "/"
