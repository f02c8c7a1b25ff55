"""The read API on a real database, asked over HTTP; the API server is played."""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import aiohttp
import pytest

from integration.console.cluster import Played, served
from integration.console.visit import READER, Clock, Console, pages
from integration.store import lineages, samples
from keep_operator.cluster.client import Cluster
from keep_operator.cluster.connection import Connection
from keep_operator.console import app, process
from keep_operator.console.doorkeeper import Doorkeeper
from keep_operator.console.ingest import ingest
from keep_operator.console.room import Room
from keep_operator.domain.history import Lineage
from keep_operator.store.engine import Engine
from keep_operator.store.intake import Intake


@pytest.fixture
def watched() -> tuple[str, ...]:
    """The namespaces that the console looks after; none: all."""
    return ()


@pytest.fixture
async def console(engine: Engine, watched: tuple[str, ...]) -> AsyncIterator[Console]:
    """The console, with a Tenant in its database."""
    await samples.have_tenant(engine)
    played, clock, stop = Played(), Clock(), asyncio.Event()
    async with served(played) as server, Cluster(Connection(server)) as cluster, aiohttp.ClientSession() as session:
        seconds = lambda: clock.seconds  # noqa: E731
        taking = ingest(Intake(engine, lambda: clock.now, timedelta(days=1)), seconds, per_second=100)
        here = Room(engine, cluster, samples.CLUSTER, Doorkeeper(cluster, seconds), lambda: clock.now, taking)
        listening = socket.create_server(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        shown = replace(pages(seconds, lambda: clock.now, stop), watched=watched)
        answering = asyncio.create_task(process.answer(app.build(here, shown), listening, stop))
        yield Console(url, engine, played, clock, played.give("ann", *READER), session, stop)
        stop.set()
        await answering


@pytest.fixture
async def lineage(console: Console) -> Lineage:
    """A workflow with the contents A, B, a broken one and A again, of which the second is active after a rollback."""
    await lineages.have(console.engine, contents="ABcA")
    await lineages.activate(console.engine, 1)
    await lineages.activate(console.engine, 2)
    return await lineages.own(console.engine)
