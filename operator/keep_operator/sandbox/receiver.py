"""The far side of the sample workflows: answers queries as VictoriaMetrics does, takes every message, and says what it heard."""

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from aiohttp import web

# What stands for its address in the samples.
IN_SAMPLES: Final = "http://receiver"
# What it measures, in percent: more than the sample workflow bears.
CPU: Final = 91
# Characters of a message that are shown.
SHOWN: Final = 200


@contextlib.asynccontextmanager
async def listening(hear: Callable[[str], None]) -> AsyncIterator[str]:
    """Its URL, on loopback; ``hear`` is told in one line of each message that arrives."""

    async def query(_: web.Request) -> web.Response:
        return web.json_response(measured(CPU))

    async def take(request: web.Request) -> web.Response:
        text = (await request.read()).decode("utf-8", "replace")
        hear(f"{request.method} {request.path}  {_plain(text)}".rstrip())
        return web.json_response({"taken": True})

    app = web.Application()
    app.add_routes([web.route("*", "/api/v1/query", query), web.route("*", "/{path:.*}", take)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def measured(value: float) -> dict[str, Any]:
    """The answer to a query of an instant with one series."""
    return {
        "status": "success",
        "data": {"resultType": "vector", "result": [{"metric": {}, "value": [0, str(value)]}]},
    }


def _plain(text: str) -> str:
    """One line of it, with nothing that moves a cursor."""
    with contextlib.suppress(ValueError):
        text = json.dumps(json.loads(text), ensure_ascii=False)
    return "".join(each if each.isprintable() else " " for each in text)[:SHOWN]
