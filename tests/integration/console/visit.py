"""A test's hands on a running console: asks as a user would, with a token."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp
from cryptography.fernet import Fernet

from integration.console.cluster import Played
from keep_operator.console.pages.lists import Lists
from keep_operator.console.pages.live import Hub
from keep_operator.console.pages.rendering import Renderer
from keep_operator.console.pages.session import Sessions
from keep_operator.console.pages.visit import Pages
from keep_operator.store.engine import Engine

READER = (
    "get workflows monitoring",
    "get workflowrevisions monitoring",
    "get tenants ",
)
Json = dict[str, Any]


KEY = Fernet.generate_key().decode()


def pages(seconds: Callable[[], float], now: Callable[[], datetime], stop: asyncio.Event | None = None) -> Pages:
    """What the pages need, with one local sign-in. All consoles of the tests have the same key."""
    return Pages(
        Sessions([KEY], lambda: now().timestamp()),
        Renderer(now),
        Lists(seconds),
        {"open-sesame": "token-of-ann"},
        Hub(stop, every_s=0.05),
    )


@dataclass
class Clock:
    """Seconds and dates as the test says."""

    seconds: float = 0.0
    now: datetime = datetime(2026, 6, 1, tzinfo=UTC)


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: Any


@dataclass
class Console:
    """A running console, and somebody who may read everything in namespace `monitoring`."""

    url: str
    engine: Engine
    played: Played
    clock: Clock
    token: str
    session: aiohttp.ClientSession
    stop: asyncio.Event

    async def ask(
        self, path: str, *, token: str | None = "", method: str = "GET", headers: Json | None = None, **more: Any
    ) -> Answer:
        """Ask, with one's own token unless another one (or None: none) is given."""
        given = dict(headers or {})
        if token is not None:
            given["Authorization"] = f"Bearer {token or self.token}"
        async with self.session.request(method, f"{self.url}/api/v1{path}", headers=given, **more) as response:
            text = await response.text()
            body = await response.json(content_type=None) if text else None
            return Answer(response.status, {key.lower(): value for key, value in response.headers.items()}, body)

    async def get(self, path: str, **query: Any) -> Any:
        """The body of a good answer about the tests' workflow."""
        answer = await self.ask(path, params={"namespace": "monitoring", "workflow": "high-cpu", **query})
        assert answer.status == 200, answer
        return answer.body

    async def problem(self, path: str, status: int, reason: str, **more: Any) -> Json:
        """The body of an answer that is a problem of this kind."""
        answer = await self.ask(path, **more)
        assert (answer.status, answer.body["reason"]) == (status, reason), answer
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.body["status"] == status
        assert answer.body["detail"].endswith("."), answer.body
        return dict(answer.body)

    async def all(self, path: str, limit: int, **query: Any) -> list[Any]:
        """The items of all pages."""
        items: list[Any] = []
        after: dict[str, str] = {}
        while True:
            page = await self.get(path, limit=limit, **query, **after)
            assert len(page["items"]) <= limit
            items += page["items"]
            if page["after"] is None:
                return items
            after = {"after": page["after"]}
