"""The switches of the API server in memory do what they say; component tests build on them."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import ClassVar

import pytest

from component.apiserver.contract import Api, Json, names, status, told
from component.apiserver.faults import BROKEN, TOO_MANY, Fault, Gate, reads, writes
from component.apiserver.server import ApiServer
from component.apiserver.state import Failure, Name
from keep_operator.cluster import failures, lines
from keep_operator.cluster.client import Cluster
from keep_operator.cluster.transport import Bounds
from keep_operator.errors import Conflict, Unavailable
from keep_operator.resources.kinds import PROVIDERS, SECRETS

pytestmark = pytest.mark.component
VM = Name("default", "vm")


def _at_once(server: ApiServer, client: str = "test", *, attempts: int = 1) -> Cluster:
    """A client that repeats nothing, unless told, and then without a pause."""
    return Cluster(server.connect(client), bounds=Bounds(attempts=attempts, backoff=timedelta(milliseconds=1)))


def _edit(server: ApiServer, config: Json) -> None:
    old = server.state.get(PROVIDERS, VM)
    server.state.change(PROVIDERS, VM, {**old, "spec": {**old["spec"], "config": config}})


async def _open(server: ApiServer, count: int) -> None:
    """Returns once so many watches are open."""
    for _ in range(5_000):
        if len(server.watches) >= count:
            return
        await asyncio.sleep(0.001)
    raise TimeoutError


async def _die_while_watching(server: ApiServer, doomed: Cluster, version: str) -> None:
    async with doomed.watch(PROVIDERS, resource_version=version) as pieces:
        await _open(server, 1)
        server.kill("doomed")
        await told(pieces, 1)


async def test_counts_by_client_verb_and_resource(api: Api, server: ApiServer) -> None:
    """What somebody writes is counted under their name, by verb and resource; what was refused is not."""
    await api.provider("vm")
    await api.patch("vm", {"status": status()}, "status")
    mark = len(server.exchanges)
    await api.patch("vm", {"spec": {"type": "slack"}})
    with pytest.raises(Conflict):
        await api.patch("nobody", {"spec": {}})
    await api.get("vm")
    assert server.writes("test") == {"POST providers": 1, "PATCH providers/status": 1, "PATCH providers": 1}
    assert server.writes("test", since=mark) == {"PATCH providers": 1}
    assert server.reads("test", since=mark) == {"GET providers": 1}
    assert server.writes("another") == {}


async def test_a_refusal_is_met_as_often_as_it_should_be(api: Api, server: ApiServer) -> None:
    """A fault befalls what it is meant for, so many times, and then is over."""
    server.faults.append(Fault(writes("providers"), times=2, refusal=BROKEN))
    async with _at_once(server) as cluster:
        for _ in range(2):
            with pytest.raises(Unavailable):
                await cluster.create(PROVIDERS, "default", {"metadata": {"name": "vm"}})
        await cluster.create(SECRETS, "default", {"metadata": {"name": "s"}})
        await cluster.create(PROVIDERS, "default", {"metadata": {"name": "vm"}})


async def test_too_many_requests_tells_how_long_to_wait(api: Api, server: ApiServer) -> None:
    """A 429 comes with the time to wait, and the client waits that long rather than asking again."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    server.faults.append(Fault(reads("providers"), times=1, refusal=TOO_MANY, retry_after_s=7))
    async with Cluster(server.connect("test"), sleep=sleep) as cluster:
        assert await cluster.get(PROVIDERS, "default", "vm") is None
    assert len(waited) == 1
    assert waited[0] > 7


async def test_a_write_whose_answer_is_lost_is_done(api: Api, server: ApiServer) -> None:
    """The connection is cut in place of the answer: the client knows nothing, and the object is there."""
    server.faults.append(Fault(writes(), times=1, answer_lost=True))
    async with _at_once(server) as cluster:
        with pytest.raises(failures.NoAnswer):
            await cluster.create(PROVIDERS, "default", {"metadata": {"name": "vm"}, "spec": {}})
    assert await api.get("vm") is not None
    assert server.writes("test") == {"POST providers": 1}


async def test_answers_can_be_late(api: Api, server: ApiServer) -> None:
    """A slow answer comes; meanwhile others are served."""
    server.faults.append(Fault(lambda asked: asked.name.name == "slow", delay_s=0.2))
    order: list[str] = []

    async def ask(name: str) -> None:
        await api.get(name)
        order.append(name)

    await asyncio.gather(ask("slow"), ask("fast"))
    assert order == ["fast", "slow"]


async def test_a_gate_stands_before_writes_only(api: Api, server: ApiServer) -> None:
    """Whoever stands at the gate sees each write before it is done and after, and no read."""

    class Watchman(Gate):
        seen: ClassVar[list[str]] = []

        @asynccontextmanager
        async def passing(self, client: str, what: str) -> AsyncIterator[None]:
            self.seen.append(f"{what}, {len(server.state.all(PROVIDERS))} before")
            yield
            self.seen.append(f"{len(server.state.all(PROVIDERS))} after")

    server.gate = Watchman()
    await api.provider("vm")
    await api.get("vm")
    assert Watchman.seen == ["POST providers default/vm, 0 before", "1 after"]


async def test_cut_watches_can_be_taken_up_again(api: Api, server: ApiServer) -> None:
    """After a cut the next watch goes on from the version that was reached."""
    version = await api.version()
    async with api.cluster.watch(PROVIDERS, resource_version=version) as pieces:
        await _open(server, 1)
        server.watches.cut("providers")
        assert [piece async for piece in pieces] == []
    await api.provider("vm")
    async with api.cluster.watch(PROVIDERS, resource_version=version) as pieces:
        assert names(await told(pieces, 1)) == [("ADDED", "vm")]


async def test_an_error_in_the_stream(api: Api, server: ApiServer) -> None:
    """A server that fails within a watch says so in it, and ends it."""
    version = await api.version()
    async with api.cluster.watch(PROVIDERS, resource_version=version) as pieces:
        await _open(server, 1)
        server.watches.cut(say=Failure(500, "InternalError", "etcd event received with PrevKv=nil"))
        ((type_, error),) = await told(pieces, 1)
    assert (type_, error["code"], error["kind"]) == ("ERROR", 500, "Status")


async def test_a_lost_deletion_is_told_by_nobody(api: Api, server: ApiServer) -> None:
    """The object is gone, held or not; open watches end in silence, later ones get 410, and a list shows the truth."""
    await api.provider("vm", finalizers=["example.com/held"])
    version = await api.version()
    async with api.cluster.watch(PROVIDERS, resource_version=version) as pieces:
        await _open(server, 1)
        server.lose(PROVIDERS, VM)
        assert [piece async for piece in pieces] == []
    async with api.cluster.watch(PROVIDERS, resource_version=version) as pieces:
        ((type_, error),) = await told(pieces, 1)
        assert (type_, error["code"]) == ("ERROR", 410)
    assert (await api.cluster.list(PROVIDERS)).items == []


async def test_expired_pages(api: Api, server: ApiServer) -> None:
    """A list whose later pages are forgotten meanwhile begins anew."""
    for number in range(4):
        await api.provider(f"vm-{number}")
    async with Cluster(server.connect("test"), page_size=2) as pager:
        pages = pager.pages(PROVIDERS, "default")
        await anext(pages)
        server.expire()
        with pytest.raises(failures.Expired):
            await anext(pages)
        assert len((await pager.list(PROVIDERS, "default")).items) == 4


async def test_held_watches_tell_later_or_never(api: Api, server: ApiServer) -> None:
    """While watches are held nothing is told; then all of it is, or, after 410, only how things are now."""
    version = await api.version()
    async with api.cluster.watch(PROVIDERS, resource_version=version) as pieces:
        await _open(server, 1)
        server.watches.hold()
        await api.provider("vm")
        await api.delete("vm")
        reading = asyncio.create_task(told(pieces, 2))
        await asyncio.sleep(0.01)
        assert not reading.done()
        server.watches.release()
        assert names(await reading) == [("ADDED", "vm"), ("DELETED", "vm")]


async def test_a_frozen_view(api: Api, server: ApiServer) -> None:
    """A client that sees the past lists and watches as of then, writes to the present, and catches up when let."""
    await api.provider("vm")
    await api.provider("old")
    past = server.state.version
    _edit(server, {"a": "1"})
    await api.delete("old")
    await api.provider("new")
    server.freeze("late", past)
    async with _at_once(server, "late") as late:
        listing = await late.list(PROVIDERS)
        assert [item["metadata"]["name"] for item in listing.items] == ["old", "vm"]
        assert listing.resource_version == str(past)
        stale = {
            "metadata": {"resourceVersion": listing.items[1]["metadata"]["resourceVersion"]},
            "spec": {"type": "x"},
        }
        with pytest.raises(Conflict):
            await late.patch(PROVIDERS, "default", "vm", stale)
        assert await late.get(PROVIDERS, "default", "old") is None
        async with late.watch(PROVIDERS, resource_version=str(past)) as pieces:
            reading = asyncio.create_task(told(pieces, 3))
            await asyncio.sleep(0.01)
            assert not reading.done()
            server.unfreeze("late")
            assert names(await reading) == [("MODIFIED", "vm"), ("DELETED", "old"), ("ADDED", "new")]
    server.freeze("late", past, gets=True)
    async with _at_once(server, "late") as late:
        assert await late.get(PROVIDERS, "default", "old") is not None
        assert await late.get(PROVIDERS, "default", "new") is None


async def test_a_withdrawn_kind(api: Api, server: ApiServer) -> None:
    """A kind whose definition is gone ends its watches, is in no discovery, and no object of it is said to be absent."""
    await api.provider("vm")
    version = await api.version()
    async with api.cluster.watch(PROVIDERS, resource_version=version) as pieces:
        await _open(server, 1)
        server.withdraw(PROVIDERS)
        assert [piece async for piece in pieces] == []
    with pytest.raises(Unavailable) as caught:
        await api.get("vm")
    assert caught.value.reason == "ApiResourceMissing"
    server.state.define(PROVIDERS)
    assert await api.get("vm") is not None


async def test_a_dead_client_reads_and_writes_nothing_more(api: Api, server: ApiServer) -> None:
    """A killed process has no connection left, and gets none; others are served."""
    version = await api.version()
    async with _at_once(server, "doomed", attempts=2) as doomed:
        with pytest.raises(failures.NoAnswer):
            await _die_while_watching(server, doomed, version)
        with pytest.raises(failures.NoAnswer):
            await doomed.patch(PROVIDERS, "default", "vm", {"metadata": {"resourceVersion": "1"}})
        with pytest.raises(failures.NoAnswer):
            await doomed.list(PROVIDERS)
    await api.provider("vm")


async def test_a_restart_keeps_what_was_stored(api: Api, server: ApiServer) -> None:
    """While the server is down nobody is answered; then it is there again with all of its objects."""
    made = await api.provider("vm")
    await server.stop()
    async with _at_once(server) as cluster:
        with pytest.raises(failures.NoAnswer):
            await cluster.get(PROVIDERS, "default", "vm")
    await server.start()
    assert await api.get("vm") == made


async def test_a_copy_lives_its_own_life(api: Api, server: ApiServer) -> None:
    """What happens in a copy of the cluster is not seen in the first one."""
    await api.provider("vm")
    copy = server.state.copy()
    before = dict(server.state.get(PROVIDERS, VM))
    copy.delete(PROVIDERS, VM)
    copy.create(PROVIDERS, Name("default", "another"), {"spec": {}})
    assert server.state.all(PROVIDERS) == {VM: before}
    assert [name.name for name in copy.all(PROVIDERS)] == ["another"]


async def test_a_quiet_watch_has_bookmarks(api: Api, server: ApiServer) -> None:
    """From time to time a watch says where it stands, though nothing has happened there."""
    version = await api.version()
    await api.cluster.create(SECRETS, "default", {"metadata": {"name": "s"}})
    server.watches.bookmark_every_s = 0.01
    watch = api.cluster.watch(PROVIDERS, resource_version=version)
    async with watch as pieces, contextlib.aclosing(lines.split(pieces)) as stream:
        event = json.loads(await anext(stream))
    assert (event["type"], event["object"]["kind"]) == ("BOOKMARK", "Provider")
    assert event["object"]["metadata"]["resourceVersion"] == str(server.state.version)


async def test_what_it_does_not_know_it_says(api: Api, server: ApiServer) -> None:
    """A question that a real server would answer in its own way is refused, not guessed."""
    async with await api.link.open_session() as session:
        path = f"{server.url}{PROVIDERS.path('default')}"
        for query in ("?fieldSelector=metadata.name%3Dvm", "?watch=true", "?resourceVersion=0&dryRun=All"):
            async with session.get(path + query) as answer:
                assert answer.status == 501
        async with session.delete(path + "/vm", json={"propagationPolicy": "Foreground"}) as answer:
            assert answer.status == 501
        async with session.put(path + "/vm", json={}) as answer:
            assert answer.status == 501
