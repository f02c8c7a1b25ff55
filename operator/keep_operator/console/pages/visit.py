"""One visit of a page: who looks, what he may, how the answer is made."""

import asyncio
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl, quote

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from keep_operator.cluster.reviews import Right
from keep_operator.console import asked, problems
from keep_operator.console.doorkeeper import Visitor
from keep_operator.console.pages.lists import Lists
from keep_operator.console.pages.live import Hub, Look, Stream
from keep_operator.console.pages.rendering import Renderer
from keep_operator.console.pages.session import Session, Sessions
from keep_operator.console.problems import Problem
from keep_operator.console.rates import Rates
from keep_operator.console.room import Room

# Fields of a form: ours have ten at most.
MOST_FIELDS: Final = 50
# How often somebody may decide, and how often at once.
DECISIONS_A_SECOND: Final = 1.0
AT_ONCE: Final = 30


@dataclass(frozen=True, slots=True)
class Pages:
    """What pages need besides the room; made once per process.

    ``once`` is the one-time sign-in of a local sandbox: secrets and their tokens. ``live`` is what is watched. ``watched`` are the
    namespaces that the console may look at; empty: all. ``decisions`` bounds what one user decides.
    """

    sessions: Sessions
    renderer: Renderer
    lists: Lists
    once: dict[str, str] = field(default_factory=dict)
    live: Hub = field(default_factory=Hub)
    watched: tuple[str, ...] = ()
    decisions: Rates[str] = field(default_factory=lambda: Rates(time.monotonic, DECISIONS_A_SECOND, AT_ONCE))


@dataclass(frozen=True, slots=True)
class Visit:
    """A request for a page. ``session`` and ``visitor`` are None on pages that anybody may see."""

    here: Room
    pages: Pages
    request: Request
    session: Session | None = None
    visitor: Visitor | None = None

    @property
    def user(self) -> str:
        """Who looks."""
        assert self.visitor is not None
        return self.visitor.user.name

    @property
    def token(self) -> str:
        """What he acts with."""
        assert self.session is not None
        return self.session.token

    async def admit(self, right: Right, told: str = "") -> None:
        """Returns if the user may do that. Raises Problem 403."""
        assert self.visitor is not None
        self.request.state.told["right"] = str(right)
        await self.here.doorkeeper.admit(self.visitor, right, told)

    async def may(self, *rights: Right) -> list[bool]:
        """Which of these the user may; decides what is shown, never what is done."""
        assert self.visitor is not None
        return await asyncio.gather(*(self.here.doorkeeper.may(self.visitor, each) for each in rights))

    def path(self, name: str) -> str:
        """A part of the path."""
        return str(self.request.path_params[name])

    def query(self, name: str, longest: int = 253) -> str:
        """A parameter of the query, empty where it is not given. Raises Problem 400 where it is too long."""
        text = self.request.query_params.get(name, "")
        if len(text) > longest:
            raise problems.bad("ParameterInvalid", f"The parameter {name} is longer than {longest} characters.")
        return text

    async def form(self, *, of_session: bool = True) -> dict[str, str]:
        """The fields of a form that one of our own pages brought. Raises Problem: 400, 403, 408, 413.

        Beside the secret in the form, which one that signs in does not have yet, the browser's own word is heard, where it gives
        one: which site sends this.
        """
        origin, site = (self.request.headers.get(name) for name in ("origin", "sec-fetch-site"))
        foreign = origin is not None and origin.partition("://")[2] != self.request.headers.get("host")
        if foreign or site not in (None, "same-origin", "none"):
            raise Problem(HTTPStatus.FORBIDDEN, "ForeignForm", "The form was sent by another site; nothing was done.")
        text = (await asked.body(self.request, "The form")).decode("utf-8", "replace")
        try:
            fields = dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS))
        except ValueError:
            raise problems.bad("FormInvalid", "The form has too many fields.") from None
        if of_session and self.session is not None and not self.session.vouches_for(fields.get("csrf", "")):
            raise Problem(
                HTTPStatus.FORBIDDEN, "FormExpired", "The form belongs to another session; open the page again."
            )
        return fields

    def show(self, template: str, status: HTTPStatus = HTTPStatus.OK, **values: Any) -> Response:
        """The page."""
        common: Mapping[str, Any] = {
            "user": None if self.visitor is None else self.visitor.user.name,
            "csrf": "" if self.session is None else self.session.csrf,
            "here": self.request.url.path,
        }
        return HTMLResponse(self.pages.renderer.render(template, {**common, **values}), int(status))

    def stream(self, key: Hashable, look: Look, tell: Callable[[Any], str], may: Hashable = ()) -> Response:
        """Whatever changes of a thing, as HTML; see `live.Stream`. Raises Problem 503 where too many watch."""
        return Stream(self.pages.live, self.user, key, look, tell, may)

    @staticmethod
    def go(path: str) -> Response:
        """Another page, by GET."""
        return RedirectResponse(path, int(HTTPStatus.SEE_OTHER))


def address(*parts: object, **query: str) -> str:
    """The address of a page, each part of it quoted."""
    path = "/" + "/".join(quote(str(each), safe=".:") for each in parts)
    told = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items() if value)
    return f"{path}?{told}" if told else path
