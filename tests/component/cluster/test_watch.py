"""What the operator knows of Secrets and Namespaces stays true, whatever happens to the stream that tells it."""

import asyncio
import gc
import json
import logging
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from component.cluster import hostile
from component.cluster.hostile import BOUNDS, Hostile, bookmark, event, failure, line, page, secret, status, stream
from keep_operator.cluster.client import Cluster
from keep_operator.cluster.connection import Connection
from keep_operator.cluster.credentials import Identity
from keep_operator.cluster.watch import MetadataWatch, Pace
from keep_operator.resources.kinds import NAMESPACES, SECRETS

pytestmark = pytest.mark.component

PACE = Pace(
    silence=timedelta(milliseconds=150),
    first_pause=timedelta(milliseconds=1),
    longest_pause=timedelta(milliseconds=20),
)
BROKEN = line("ERROR", failure(500, "InternalError", "etcdserver: no leader"))
TOO_OLD = line("ERROR", failure(410, "Expired", "too old resource version: 100 (200)"))


class Told:
    """What the watch told of, and a way to wait for it."""

    def __init__(self) -> None:
        self.changes: list[str] = []
        self._news = asyncio.Event()

    def __call__(self, namespace: str, name: str) -> None:
        self.changes.append(f"{namespace}/{name}")
        self._news.set()

    async def until(self, *changes: str) -> None:
        """Wait until exactly these were told, in this order, at the first list in any."""
        async with asyncio.timeout(5):
            while len(self.changes) < len(changes):
                self._news.clear()
                await self._news.wait()
        assert self.changes == list(changes)
        self.changes.clear()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110  # what is waited for happens elsewhere
            await asyncio.sleep(0.002)


@asynccontextmanager
async def following(watch: MetadataWatch) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(watch.run())
    try:
        yield task
        assert not task.done(), "the watch has ended by itself"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def watch(cluster: Cluster, told: Told) -> MetadataWatch:
    return MetadataWatch(cluster, SECRETS, [], told, pace=PACE)


def watched_from(api: Hostile) -> list[str]:
    """The versions that streams were opened from."""
    return [asked.query["resourceVersion"] for asked in api.asked if "watch" in asked.query]


def lists(api: Hostile) -> int:
    return sum("watch" not in asked.query for asked in api.asked)


async def test_what_exists_is_known_and_what_happens_is_told(api: Hostile, watch: MetadataWatch, told: Told) -> None:
    """A changed password wakes the providers that use it; a deleted one, too."""
    happens = [event("ADDED", "b", 101), event("MODIFIED", "a", 102), event("DELETED", "b", 103)]
    api.answers(page(secret("a", 50)), stream(*happens, then="silence"))
    async with following(watch):
        await told.until("team/a", "team/b", "team/a", "team/b")
        assert watch.synced.is_set()
        assert watch.version("team", "a") == "102"
        assert watch.uid("team", "a") == "uid-a"
        assert watch.version("team", "b") is None
        assert len(watch) == 1
        assert list(watch.names("team")) == ["a"]
    opened = api.asked[1]
    assert opened.headers["Accept"].startswith("application/json;as=PartialObjectMetadata;")
    assert opened.query["allowWatchBookmarks"] == "true"
    assert 300 <= int(opened.query["timeoutSeconds"]) <= 600


async def test_a_deletion_during_an_outage_is_not_missed(api: Hostile, watch: MetadataWatch, told: Told) -> None:
    """A Secret deleted while the stream was broken beyond repair is reported by the new list, and only it."""
    api.answers(
        page(secret("kept", 50), secret("changed", 51), secret("deleted", 52)),
        stream(event("MODIFIED", "kept", 101), TOO_OLD),
        page(secret("kept", 101), secret("changed", 150), secret("new", 151), version="200"),
        stream(bookmark(201), then="silence"),
    )
    async with following(watch):
        await told.until(
            "team/kept", "team/changed", "team/deleted", "team/kept", "team/deleted", "team/changed", "team/new"
        )
        assert watch.version("team", "deleted") is None
        await until(lambda: len(watched_from(api)) == 2)
    assert watched_from(api) == ["100", "200"]


async def test_a_secret_made_anew_is_a_change(api: Hostile, watch: MetadataWatch, told: Told) -> None:
    """Deleted and re-created during an outage: same name, other object."""
    api.answers(
        page(secret("a", 50)),
        status(410, "Expired"),
        page(secret("a", 50, uid="another"), version="200"),
        stream(then="silence"),
    )
    async with following(watch):
        await told.until("team/a", "team/a")
        assert watch.uid("team", "a") == "another"


async def test_a_namespace_that_vanished_takes_its_secrets_along(
    api: Hostile, watch: MetadataWatch, told: Told
) -> None:
    """Nothing is believed to exist in a namespace that is gone."""
    api.answers(page(secret("a", 50)), status(410, "Expired"), page(version="200"), stream(then="silence"))
    async with following(watch):
        await told.until("team/a", "team/a")
        assert len(watch) == 0


async def test_a_broken_stream_goes_on_where_it_was(api: Hostile, watch: MetadataWatch, told: Told) -> None:
    """Network trouble costs no list and loses no event."""
    api.answers(
        page(secret("a", 50)),
        stream(event("MODIFIED", "a", 101), then="cut"),
        hostile.no_answer,
        status(500, "InternalError"),
        stream(event("MODIFIED", "a", 102)),
        stream(then="silence"),
    )
    async with following(watch):
        await told.until("team/a", "team/a", "team/a")
        await until(lambda: len(watched_from(api)) == 5)
    assert watched_from(api) == ["100", "101", "101", "101", "102"]
    assert lists(api) == 1


async def test_a_line_that_was_cut_is_not_believed(api: Hostile, watch: MetadataWatch, told: Told) -> None:
    """Half an event is no event: it comes again, whole."""
    half = event("DELETED", "a", 101)[:-9]
    for then in ("cut", "end"):
        api.answers(stream(half, then=then))
    api.script.appendleft(page(secret("a", 50)))
    api.answers(stream(event("DELETED", "a", 101), then="silence"))
    async with following(watch):
        await told.until("team/a", "team/a")
    assert watched_from(api) == ["100", "100", "100"]


async def test_an_event_in_many_pieces_is_one_event(api: Hostile, watch: MetadataWatch, told: Told) -> None:
    """Where the network cuts the stream into packets is of no importance."""
    both = event("ADDED", "a", 101, annotations={"note": "ü\u2028"}) + event("ADDED", "b", 102)
    api.answers(page(), stream(*(both[i : i + 7] for i in range(0, len(both), 7)), then="silence"))
    async with following(watch):
        await told.until("team/a", "team/b")


async def test_an_error_in_the_stream_is_survived(api: Hostile, watch: MetadataWatch, told: Told) -> None:
    """etcd lost its leader: the stream is opened again, where other clients end their process."""
    api.answers(page(secret("a", 50)), stream(BROKEN), stream(event("MODIFIED", "a", 101), then="silence"))
    async with following(watch):
        await told.until("team/a", "team/a")
    assert lists(api) == 1


async def test_a_version_that_never_works_is_given_up(api: Hostile, watch: MetadataWatch, told: Told) -> None:
    """etcd was restored from a backup and knows only older versions: after three refusals the list is read again."""
    refusal = status(504, "Timeout", "Too large resource version: 100, current: 60")
    api.answers(page(secret("a", 99)), refusal, refusal, refusal, page(secret("a", 60), version="60"))
    api.answers(stream(then="silence"))
    async with following(watch):
        await told.until("team/a", "team/a")
        assert watch.version("team", "a") == "60"


async def test_a_version_that_is_waited_for_in_silence_is_given_up(
    api: Hostile, watch: MetadataWatch, told: Told
) -> None:
    """The same on an old server, which says nothing at all until it has reached the version."""
    api.answers(page(secret("a", 99)), *[hostile.silence] * 3, page(secret("a", 60), version="60"))
    api.answers(stream(then="silence"))
    async with following(watch):
        await told.until("team/a", "team/a")


async def test_a_silent_stream_is_opened_again(api: Hostile, watch: MetadataWatch, told: Told) -> None:
    """A load balancer that forgot the connection does not make the operator deaf."""
    api.answers(page(), stream(bookmark(105), then="silence"), stream(event("ADDED", "a", 106), then="silence"))
    async with following(watch):
        await told.until("team/a")
    assert watched_from(api) == ["100", "105"]
    assert lists(api) == 1


async def test_a_stream_that_trickles_without_a_line_is_silent(api: Hostile, watch: MetadataWatch, told: Told) -> None:
    """Bytes that never make an event are no sign of life."""
    api.answers(page(), hostile.trickle, stream(event("ADDED", "a", 106), then="silence"))
    async with following(watch):
        await told.until("team/a")


async def test_bookmarks_alone_keep_it_alive(api: Hostile, cluster: Cluster, told: Told) -> None:
    """In a quiet cluster the watch is known to be alive, and a reconnect starts from the last bookmark."""
    now = [1000.0]
    watch = MetadataWatch(cluster, SECRETS, [], told, pace=PACE, clock=lambda: now[0])
    gate = asyncio.Event()

    async def bookmarks(request: Any) -> Any:
        response = hostile.web_stream()
        await response.prepare(request)
        await response.write(bookmark(101))
        await gate.wait()
        await response.write(bookmark(102))
        await asyncio.sleep(30)
        return response

    api.answers(page(), bookmarks, stream(then="silence"))
    async with following(watch):
        await until(lambda: bool(watched_from(api)))
        assert watch.age == 0.0
        now[0] += 60.0
        assert watch.age == 60.0
        gate.set()
        await until(lambda: watch.age == 0.0)
        await until(lambda: len(watched_from(api)) == 2)
    assert watched_from(api) == ["100", "102"]
    assert told.changes == []


async def test_a_watch_that_never_listed_grows_old(api: Hostile, cluster: Cluster, told: Told) -> None:
    """Liveness sees a cluster that cannot be listed, and readiness waits for it."""
    api.otherwise = status(403, "Forbidden", "no")
    now = [1000.0]
    watch = MetadataWatch(cluster, SECRETS, [], told, pace=PACE, clock=lambda: now[0])
    async with following(watch):
        await until(lambda: lists(api) > 3)
        now[0] += 300.0
        assert watch.age == 300.0
        assert not watch.synced.is_set()


async def test_a_watch_that_is_refused_is_at_work(api: Hostile, cluster: Cluster, told: Told) -> None:
    """Its age grows, since it hears nothing; but it is no reason to end the process, which could only begin blind."""
    now = [1000.0]
    watch = MetadataWatch(cluster, SECRETS, ["team"], told, pace=PACE, clock=lambda: now[0])
    api.answers(page(), stream(then="end"))
    api.otherwise = status(403, "Forbidden", "no")
    async with following(watch):
        await until(lambda: len(watched_from(api)) > 1)
        now[0] += 300.0
        await until(lambda: watch.signs() == {"secrets of team": 1300.0})
        assert watch.age == 300.0


async def test_a_watch_that_nobody_answers_shows_no_sign_of_life(api: Hostile, cluster: Cluster, told: Told) -> None:
    """A stream that was opened shows that it lives; a server that only cuts connections says nothing."""
    now = [1000.0]
    watch = MetadataWatch(cluster, SECRETS, [], told, pace=PACE, clock=lambda: now[0])
    api.answers(page(), stream(event("ADDED", "a", 101), then="silence"))
    api.otherwise = hostile.no_answer
    async with following(watch):
        await told.until("team/a")
        now[0] += 300.0
        await until(lambda: len(watched_from(api)) > 2)
        assert watch.signs() == {"secrets": 1000.0}


async def test_a_giant_line_is_skipped_by_a_list(api: Hostile, cluster: Cluster, told: Told) -> None:
    """An object too large to follow does not end the watch: the list is read again and the stream goes on after it."""
    watch = MetadataWatch(cluster, SECRETS, [], told, pace=replace(PACE, longest_line_bytes=100_000))
    giant = event("ADDED", "giant", 101, annotations={"a": "x" * 200_000})
    api.answers(
        page(),
        stream(giant),
        page(secret("giant", 101), version="101"),
        stream(event("ADDED", "a", 102), then="silence"),
    )
    async with following(watch):
        await told.until("team/giant", "team/a")
    assert watched_from(api) == ["100", "101"]


async def test_a_large_line_is_an_ordinary_line(api: Hostile, watch: MetadataWatch, told: Told) -> None:
    """A Secret with a megabyte of annotations is followed like any other, and its annotations are not kept."""
    large = event("ADDED", "large", 101, annotations={"a": "canary" * 200_000})
    api.answers(page(), stream(large, event("ADDED", "b", 102), then="silence"))
    async with following(watch):
        await told.until("team/large", "team/b")
        assert watch.version("team", "large") == "101"
        assert not [o for o in gc.get_objects() if isinstance(o, dict) and "annotations" in o and "canary" in str(o)]


@pytest.mark.parametrize(
    "nonsense",
    [
        b"<html>\n",
        b"[]\n",
        b"null\n",
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
        b"\n",
        b'{"type": "ADDED"}\n',
        b'{"type": "ADDED", "object": {"metadata": {"resourceVersion": "101"}}}\n',
        b'{"type": "ADDED", "object": {"metadata": {"name": "x"}}}\n',
        b'{"type": "SURPRISE", "object": {"metadata": {"resourceVersion": "101", "name": "x"}}}\n',
        b'{"type": "ERROR", "object": 7}\n',
    ],
)
async def test_nonsense_does_not_end_it(api: Hostile, watch: MetadataWatch, told: Told, nonsense: bytes) -> None:
    """Whatever a proxy writes into the stream, the watch goes on behind it."""
    api.answers(
        page(), stream(nonsense, event("ADDED", "unseen", 150)), stream(event("ADDED", "a", 102), then="silence")
    )
    async with following(watch):
        await told.until("team/a")
    assert watched_from(api)[:2] == ["100", "100"]


async def test_a_server_that_hangs_up_at_once_is_not_hammered(api: Hostile, cluster: Cluster, told: Told) -> None:
    """A restarting server is asked at growing intervals, not in a tight loop."""
    api.answers(page())
    api.otherwise = stream()
    pace = Pace(first_pause=timedelta(milliseconds=40), longest_pause=timedelta(milliseconds=80))
    async with following(MetadataWatch(cluster, SECRETS, [], told, pace=pace)):
        await asyncio.sleep(0.3)
    assert len(api.asked) < 12


async def test_quiet_connections_that_are_cut_are_no_outage(
    api: Hostile, cluster: Cluster, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    """A load balancer that cuts what was quiet for a minute slows nothing down and warns nobody."""
    caplog.set_level(logging.DEBUG, "keep_operator.cluster.watch")
    now = [1000.0]

    async def cut_after_a_minute(request: Any) -> Any:
        now[0] += 60.0
        return await stream(then="cut")(request)

    api.answers(page(), *[cut_after_a_minute] * 5, stream(event("ADDED", "a", 101), then="silence"))
    pace = replace(PACE, longest_pause=timedelta(seconds=30), silence=timedelta(seconds=70))
    async with following(MetadataWatch(cluster, SECRETS, [], told, pace=pace, clock=lambda: now[0])):
        await told.until("team/a")
    assert [record.levelname for record in caplog.records] == ["DEBUG"] * 5


async def test_the_last_secret_of_a_namespace(api: Hostile, watch: MetadataWatch, told: Told) -> None:
    """Namespaces that come and go leave nothing behind in memory."""
    api.answers(page(secret("a", 50)), stream(event("DELETED", "a", 101), event("DELETED", "a", 102), then="silence"))
    async with following(watch):
        await told.until("team/a", "team/a", "team/a")
        assert watch._streams[0].seen == {}


async def test_an_expiry_right_after_each_list_is_not_hammered(api: Hostile, cluster: Cluster, told: Told) -> None:
    """Listing a large cluster again and again would be an attack."""

    async def answer(request: Any) -> Any:
        return await (stream(TOO_OLD) if "watch" in request.query else page())(request)

    api.otherwise = answer
    pace = Pace(first_pause=timedelta(milliseconds=40), longest_pause=timedelta(milliseconds=80))
    async with following(MetadataWatch(cluster, SECRETS, [], told, pace=pace)):
        await asyncio.sleep(0.3)
    assert 2 <= lists(api) < 10


async def test_a_listener_that_fails_does_not_stop_the_news(
    api: Hostile, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault in one listener is logged with its traceback, and the next change is told all the same."""
    told: list[str] = []

    def fail(_: str, name: str) -> None:
        told.append(name)
        raise KeyError(name)

    api.answers(page(secret("a", 50)), stream(event("ADDED", "b", 101), then="silence"))
    async with following(MetadataWatch(cluster, SECRETS, [], fail, pace=PACE)):
        await until(lambda: told == ["a", "b"])
    assert "KeyError" in caplog.text


async def test_trouble_is_logged_once_and_its_end_too(
    api: Hostile, watch: MetadataWatch, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    """An hour of outage is one warning, not a thousand."""
    caplog.set_level(logging.INFO, "keep_operator.cluster.watch")
    api.answers(page(), stream(then="cut"), stream(event("ADDED", "a", 101), then="cut"))
    api.answers(*[hostile.no_answer] * 5, stream(event("ADDED", "b", 102), then="silence"))
    async with following(watch):
        await told.until("team/a", "team/b")
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_only_the_listed_namespaces_are_asked_for(api: Hostile, cluster: Cluster, told: Told) -> None:
    """An operator that may read Secrets in two namespaces asks for nothing elsewhere, and is ready after both."""
    paths: set[str] = set()
    second = asyncio.Event()

    async def answer(request: Any) -> Any:
        paths.add(request.path)
        if "watch" in request.query:
            return await stream(then="silence")(request)
        if "/b/" in request.path:
            await second.wait()
        namespace = request.path.split("/")[4]
        return await page(secret("s", 1, namespace=namespace))(request)

    api.otherwise = answer
    watch = MetadataWatch(cluster, SECRETS, ["b", "a", "a", ""], told, pace=PACE)
    async with following(watch):
        await told.until("a/s")
        assert not watch.synced.is_set()
        second.set()
        await asyncio.wait_for(watch.synced.wait(), 5)
        assert (watch.version("a", "s"), watch.version("b", "s"), watch.version("c", "s")) == ("1", "1", None)
    assert paths == {"/api/v1/namespaces/a/secrets", "/api/v1/namespaces/b/secrets"}


async def test_labels_of_namespaces_are_kept(api: Hostile, cluster: Cluster, told: Told) -> None:
    """A tenant that admits namespaces by label sees a label change at once."""
    seen = []

    def namespace(version: int, labels: Any) -> Any:
        return {"metadata": {"name": "team", "uid": "u", "resourceVersion": str(version), "labels": labels}}

    api.answers(
        page(namespace(50, {"env": "dev"})),
        stream(
            line("MODIFIED", namespace(101, {"env": "prod"})), line("MODIFIED", namespace(102, None)), then="silence"
        ),
    )

    def look(namespace: str, name: str) -> None:
        seen.append(dict(followed.labels(name) or {}))
        told(namespace, name)

    followed = MetadataWatch(cluster, NAMESPACES, [], look, keep_labels=True, pace=PACE)
    async with following(followed):
        await told.until("/team", "/team", "/team")
        assert followed.labels("absent") is None
    assert seen == [{"env": "dev"}, {"env": "prod"}, {}]


async def test_refused_credentials_are_renewed_for_the_stream(api: Hostile, told: Told) -> None:
    """A token that rotates while the operator runs does not deafen it."""
    tokens = iter(["old", "new"])

    async def obtain() -> Identity:
        return Identity(f"Bearer {next(tokens)}")

    api.answers(page(), status(401, "Unauthorized"), stream(event("ADDED", "a", 101), then="silence"))
    async with (
        Cluster(Connection(api.url, obtain=obtain), bounds=BOUNDS) as cluster,
        following(MetadataWatch(cluster, SECRETS, [], told, pace=PACE)),
    ):
        await told.until("team/a")
    assert [asked.headers["Authorization"] for asked in api.asked] == ["Bearer old", "Bearer old", "Bearer new"]


async def test_ten_thousand_strangers_cost_little(api: Hostile, cluster: Cluster, told: Told) -> None:
    """Other people's Secrets, with all they carry, take a few hundred bytes each."""
    bulk = {"labels": {"l": "x" * 60}, "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "x" * 2000}}
    pages = [
        page(
            *(secret(f"secret-{i:05}", 10_000 + i, **bulk) for i in range(start, start + 500)),
            more=more,
            version="99999",
        )
        for start in range(0, 10_000, 500)
        for more in ["" if start == 9500 else "t"]
    ]
    api.answers(*pages, stream(then="silence"))
    watch = MetadataWatch(cluster, SECRETS, [], lambda *_: None, pace=Pace())
    tracemalloc.start()
    try:
        async with following(watch):
            await asyncio.wait_for(watch.synced.wait(), 60)
            gc.collect()
            own = tracemalloc.Filter(True, "*/cluster/watch.py")
            kept = sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([own]).traces)
            assert len(watch) == 10_000
    finally:
        tracemalloc.stop()
    assert kept < 10_000 * 250 < 10_000 * len(json.dumps(bulk))
    for stream_ in watch._streams:
        fields = {type(value) for names in stream_.seen.values() for seen in names.values() for value in seen}
        assert fields == {str, type(None)}
