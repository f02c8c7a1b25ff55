"""What the operator relies upon in an API server, as tests that any server must pass.

The same functions run against the server in memory (`test_contract.py` beside this) and against a real one
(`tests/e2e/apiserver`), so that what component tests find out about the operator holds where it runs. They speak through the
operator's own client, watch, Events and Lease; what those do not use is not in here.
"""

import asyncio
import base64
import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest

from keep_operator.cluster import failures, lines
from keep_operator.cluster.client import Cluster
from keep_operator.cluster.connection import Connection
from keep_operator.cluster.events import Recorder, Subject
from keep_operator.cluster.watch import MetadataWatch
from keep_operator.errors import Conflict, Refused, Unavailable
from keep_operator.resources.kinds import (
    API_VERSION,
    EVENTS,
    LEASES,
    NAMESPACES,
    PROVIDERS,
    SECRETS,
    TENANTS,
    VERSION,
    Key,
    Resource,
)
from keep_operator.runtime.leader import Leadership

Json = dict[str, Any]
T = TypeVar("T")
HELD = "example.com/held"
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Api:
    """A server, and a namespace of it that is the test's own."""

    link: Connection
    cluster: Cluster
    namespace: str

    async def provider(self, name: str, spec: Json | None = None, **metadata: Any) -> Json:
        """Make a Provider."""
        body = {
            "apiVersion": API_VERSION,
            "kind": "Provider",
            "metadata": {"name": name, **metadata},
            "spec": {"type": "victoriametrics", **(spec or {})},
        }
        return await self.cluster.create(PROVIDERS, self.namespace, body)

    async def patch(self, name: str, body: Json, subresource: str | None = None) -> Json:
        """Merge-patch a Provider."""
        return await self.cluster.patch(PROVIDERS, self.namespace, name, body, subresource)

    async def get(self, name: str) -> Json | None:
        """A Provider as it is now."""
        return await self.cluster.get(PROVIDERS, self.namespace, name)

    async def delete(self, name: str) -> None:
        """Ask for the deletion of a Provider."""
        await self.cluster.delete(PROVIDERS, self.namespace, name)

    async def version(self) -> str:
        """Where the collection of Providers stands."""
        return (await self.cluster.list(PROVIDERS, self.namespace)).resource_version


def status(ready: str = "True") -> Json:
    """A status that the CRDs admit."""
    condition = {
        "type": "Ready",
        "status": ready,
        "reason": "Test",
        "message": "As a test says",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    return {"observedGeneration": 1, "conditions": [condition]}


async def eventually(read: Callable[[], Awaitable[T]], until: Callable[[T], object]) -> T:
    """The first reading that ``until`` accepts."""
    end_s = time.monotonic() + PATIENCE_S
    while not until(seen := await read()):
        assert time.monotonic() < end_s, f"it did not come about: {seen!r}"
        await asyncio.sleep(0.05)
    return seen


async def told(pieces: AsyncIterator[bytes], count: int) -> list[tuple[str, Json]]:
    """The next so many events of a watch that are no bookmarks."""
    events = []
    async with asyncio.timeout(PATIENCE_S), contextlib.aclosing(lines.split(pieces)) as stream:
        async for line in stream:
            event = json.loads(line)
            if event["type"] != "BOOKMARK":
                events.append((event["type"], event["object"]))
            if len(events) == count:
                break
    return events


def names(events: Sequence[tuple[str, Json]]) -> list[tuple[str, str]]:
    """Type and name of events."""
    return [(type_, obj["metadata"]["name"]) for type_, obj in events]


class Contract:
    """Each test gets a server as ``api``."""

    # -- objects --------------------------------------------------------------------------------------------------

    async def test_a_new_object(self, api: Api) -> None:
        """A new object has a uid, a time, generation 1 and a version; a status that came with it is dropped."""
        body = {"apiVersion": API_VERSION, "kind": "Provider", "spec": {"type": "slack"}, "status": status()}
        made = await api.cluster.create(PROVIDERS, api.namespace, body | {"metadata": {"name": "vm"}})
        metadata = made["metadata"]
        assert (metadata["name"], metadata["namespace"], metadata["generation"]) == ("vm", api.namespace, 1)
        assert uuid.UUID(metadata["uid"])
        assert datetime.fromisoformat(metadata["creationTimestamp"]).tzinfo
        assert int(metadata["resourceVersion"]) > 0
        assert made["spec"]["type"] == "slack"
        assert "status" not in made
        assert await api.get("vm") == made

    async def test_a_name_is_taken_once(self, api: Api) -> None:
        """Of two that make an object of one name the second one is told that it is there."""
        await api.provider("vm")
        with pytest.raises(Conflict) as caught:
            await api.provider("vm")
        assert caught.value.reason == "AlreadyExists"

    async def test_what_is_absent(self, api: Api) -> None:
        """An object that does not exist is said to be absent, and cannot be changed; to delete it is to be done."""
        assert await api.get("nobody") is None
        with pytest.raises(Conflict) as caught:
            await api.patch("nobody", {"spec": {"type": "slack"}})
        assert caught.value.reason == "ObjectGone"
        await api.delete("nobody")

    async def test_a_kind_that_is_not_served(self, api: Api) -> None:
        """A kind without a definition is no absent object: nothing must be taken for deleted."""
        for group in ("keep-operator.dev", "nobody.example"):
            unknown = Resource(group, VERSION, "nothings", "Nothing")
            with pytest.raises(Unavailable) as caught:
                await api.cluster.get(unknown, api.namespace, "vm")
            assert caught.value.reason == "ApiResourceMissing"
            with pytest.raises(Unavailable):
                await api.cluster.list(unknown)

    async def test_one_counter_of_versions(self, api: Api) -> None:
        """Versions are integers that grow with each write, whatever its kind: the cache compares them."""
        first = await api.provider("vm")
        secret = await api.cluster.create(SECRETS, api.namespace, {"metadata": {"name": "s"}})
        second = await api.patch("vm", {"metadata": {"labels": {"a": "b"}}})
        versions = [int(obj["metadata"]["resourceVersion"]) for obj in (first, secret, second)]
        assert versions == sorted(set(versions))
        assert int(await api.version()) >= versions[-1]

    async def test_merge_patch_of_a_spec(self, api: Api) -> None:
        """An edit of the spec counts a generation; null takes a field away, a list is replaced."""
        made = await api.provider("vm", {"config": {"a": "1", "b": "2"}}, labels={"x": "1"})
        edited = await api.patch("vm", {"spec": {"config": {"a": None, "c": "3"}}})
        assert edited["spec"]["config"] == {"b": "2", "c": "3"}
        assert edited["metadata"]["generation"] == 2
        assert int(edited["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])
        assert edited["metadata"]["labels"] == {"x": "1"}

    async def test_a_patch_that_changes_nothing(self, api: Api) -> None:
        """Writing what is there already makes no new version and no event: re-applying is quiet."""
        made = await api.provider("vm", {"config": {"a": "1"}})
        version = await api.version()
        same = await api.patch("vm", {"spec": {"config": {"a": "1"}}})
        assert same["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
        async with api.cluster.watch(PROVIDERS, api.namespace, resource_version=version) as pieces:
            await api.provider("other")
            assert names(await told(pieces, 1)) == [("ADDED", "other")]

    async def test_a_stale_view_is_refused(self, api: Api) -> None:
        """A write that names an older version changes nothing, in the body as in the status."""
        old = await api.provider("vm")
        version = old["metadata"]["resourceVersion"]
        await api.patch("vm", {"spec": {"config": {"a": "1"}}})
        for body, subresource in (({"spec": {"type": "slack"}}, None), ({"status": status()}, "status")):
            with pytest.raises(Conflict) as caught:
                await api.patch("vm", {"metadata": {"resourceVersion": version}, **body}, subresource)
            assert caught.value.reason == "ObjectChanged"
        now = await api.get("vm")
        assert now is not None
        assert (now["spec"]["type"], now.get("status")) == ("victoriametrics", None)
        fresh = {"metadata": {"resourceVersion": now["metadata"]["resourceVersion"]}, "status": status()}
        assert (await api.patch("vm", fresh, "status"))["status"] == status()

    async def test_status_and_spec_are_apart(self, api: Api) -> None:
        """The status is written by its own door, which changes nothing else, and counts no generation."""
        await api.provider("vm")
        both = {"spec": {"type": "slack"}, "status": status(), "metadata": {"labels": {"a": "b"}, "finalizers": [HELD]}}
        by_status = await api.patch("vm", both, "status")
        assert by_status["status"] == status()
        assert (by_status["spec"]["type"], by_status["metadata"]["generation"]) == ("victoriametrics", 1)
        assert not {"labels", "finalizers"} & by_status["metadata"].keys()
        by_body = await api.patch("vm", {"status": {"observedGeneration": 9}, "metadata": {"labels": {"a": "b"}}})
        assert by_body["status"] == status()
        assert (by_body["metadata"]["labels"], by_body["metadata"]["generation"]) == ({"a": "b"}, 1)

    async def test_finalizers_and_owners_in_one_patch(self, api: Api) -> None:
        """Finalizer and owner reference are metadata: one patch, no generation; what the server set stays."""
        made = await api.provider("vm")
        tenant = await api.cluster.create(TENANTS, None, _tenant(name := _unique()))
        owner = {"apiVersion": API_VERSION, "kind": "Tenant", "name": name, "uid": tenant["metadata"]["uid"]}
        owner |= {"controller": False, "blockOwnerDeletion": True}
        patched = await api.patch("vm", {"metadata": {"finalizers": [HELD], "ownerReferences": [owner]}})
        metadata = patched["metadata"]
        assert (metadata["finalizers"], metadata["ownerReferences"], metadata["generation"]) == ([HELD], [owner], 1)
        assert metadata["uid"] == made["metadata"]["uid"]
        bare = await api.patch("vm", {"metadata": {"finalizers": [], "ownerReferences": []}})
        assert not {"finalizers", "ownerReferences"} & bare["metadata"].keys()

    async def test_json_patch(self, api: Api) -> None:
        """A JSON patch is done as a whole; a test in it that fails is 422, and nothing changes."""
        made = await api.provider("vm", labels={"a": "1"})
        path, kind = PROVIDERS.path(api.namespace, "vm"), {"Content-Type": "application/json-patch+json"}
        version = made["metadata"]["resourceVersion"]
        steps = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": version},
            {"op": "add", "path": "/metadata/labels/x~1y", "value": "2"},
            {"op": "replace", "path": "/metadata/labels/a", "value": "3"},
        ]
        async with await api.link.open_session() as session:
            for code in (200, 422):
                async with session.patch(api.link.server + path, json=steps, headers=kind) as answer:
                    assert answer.status == code
        now = await api.get("vm")
        assert now is not None
        assert now["metadata"]["labels"] == {"a": "3", "x/y": "2"}

    # -- deletion -------------------------------------------------------------------------------------------------

    async def test_deletion(self, api: Api) -> None:
        """Without finalizers an object goes at once, and its name is free for another one, with another uid."""
        first = await api.provider("vm")
        await api.delete("vm")
        assert await api.get("vm") is None
        second = await api.provider("vm")
        assert second["metadata"]["uid"] != first["metadata"]["uid"]
        assert int(second["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])
        assert second["metadata"]["generation"] == 1

    async def test_a_finalizer_holds(self, api: Api) -> None:
        """With a finalizer an object is marked, counts a generation, takes no more finalizers, and goes with its last."""
        await api.provider("vm", finalizers=[HELD, "example.com/also"])
        await api.delete("vm")
        await api.delete("vm")
        held = await api.get("vm")
        assert held is not None
        assert held["metadata"]["generation"] == 2
        assert datetime.fromisoformat(held["metadata"]["deletionTimestamp"])
        with pytest.raises(Refused) as caught:
            await api.patch("vm", {"metadata": {"finalizers": [HELD, "example.com/third"]}})
        assert caught.value.reason == "ApiRejected"
        assert (await api.patch("vm", {"status": status()}, "status"))["status"] == status()
        await api.patch("vm", {"metadata": {"finalizers": [HELD]}})
        last = await api.patch("vm", {"metadata": {"finalizers": []}})
        assert "deletionTimestamp" in last["metadata"]
        assert not last["metadata"].get("finalizers")
        assert await api.get("vm") is None

    async def test_deletion_of_one_uid(self, api: Api) -> None:
        """A deletion that names a uid does not hit another object that has taken the name."""
        made = await api.provider("vm")
        with pytest.raises(Conflict):
            await api.cluster.delete(PROVIDERS, api.namespace, "vm", uid=str(uuid.uuid4()))
        assert await api.get("vm") == made
        await api.cluster.delete(PROVIDERS, api.namespace, "vm", uid=made["metadata"]["uid"])
        assert await api.get("vm") is None

    async def test_garbage_collection(self, api: Api) -> None:
        """What has lost all of its owners goes, held by its finalizers as ever; one owner left is enough to stay."""
        owners = [await api.cluster.create(TENANTS, None, _tenant(_unique())) for _ in range(2)]
        references = [
            {"apiVersion": API_VERSION, "kind": "Tenant", "name": o["metadata"]["name"], "uid": o["metadata"]["uid"]}
            for o in owners
        ]
        await api.provider("of-one", ownerReferences=references[:1])
        await api.provider("of-both", ownerReferences=references)
        await api.provider("held", ownerReferences=references[:1], finalizers=[HELD])
        await api.cluster.delete(TENANTS, None, references[0]["name"])
        await eventually(lambda: api.get("of-one"), lambda obj: obj is None)
        held = await eventually(lambda: api.get("held"), lambda obj: obj and "deletionTimestamp" in obj["metadata"])
        assert held is not None
        assert await api.get("of-both") is not None
        await api.cluster.delete(TENANTS, None, references[1]["name"])
        await eventually(lambda: api.get("of-both"), lambda obj: obj is None)
        await api.patch("held", {"metadata": {"finalizers": []}})

    async def test_an_owner_that_never_was(self, api: Api) -> None:
        """An object whose owner is gone already when it says so is collected too."""
        owner = {"apiVersion": API_VERSION, "kind": "Tenant", "name": _unique(), "uid": str(uuid.uuid4())}
        await api.provider("vm", ownerReferences=[owner])
        await eventually(lambda: api.get("vm"), lambda obj: obj is None)

    # -- lists ----------------------------------------------------------------------------------------------------

    async def test_a_list_shows_one_moment(self, api: Api) -> None:
        """All pages of a list show the moment of the first, by name; what comes meanwhile is in the next list."""
        for number in range(5):
            await api.provider(f"vm-{number}")
        async with Cluster(api.link, page_size=2) as pager:
            pages = pager.pages(PROVIDERS, api.namespace)
            first = await anext(pages)
            await api.provider("vm-9")
            await api.delete("vm-4")
            rest = [page async for page in pages]
        seen = [item["metadata"]["name"] for page in (first, *rest) for item in page.items]
        assert seen == [f"vm-{number}" for number in range(5)]
        assert {page.resource_version for page in rest} == {first.resource_version}
        now = await api.cluster.list(PROVIDERS, api.namespace)
        assert [item["metadata"]["name"] for item in now.items] == ["vm-0", "vm-1", "vm-2", "vm-3", "vm-9"]
        assert int(now.resource_version) > int(first.resource_version)

    async def test_lists_of_one_namespace_and_of_all(self, api: Api) -> None:
        """A list is of one namespace or of all; each item tells where it lives."""
        await api.provider("vm")
        other = _unique()
        await api.cluster.create(NAMESPACES, None, {"metadata": {"name": other}})
        assert (await api.cluster.list(PROVIDERS, other)).items == []
        everywhere = await api.cluster.list(PROVIDERS)
        assert (api.namespace, "vm") in [(i["metadata"]["namespace"], i["metadata"]["name"]) for i in everywhere.items]
        await api.cluster.delete(NAMESPACES, None, other)

    async def test_lists_of_metadata(self, api: Api) -> None:
        """A list of metadata holds neither spec nor values: other people's Secrets stay where they are."""
        body = {"metadata": {"name": "s", "labels": {"a": "b"}}, "stringData": {"token": "canary-word"}}
        made = await api.cluster.create(SECRETS, api.namespace, body)
        listing = await api.cluster.list(SECRETS, api.namespace, metadata_only=True)
        (item,) = [item for item in listing.items if item["metadata"]["name"] == "s"]
        assert item["metadata"]["uid"] == made["metadata"]["uid"]
        assert item["metadata"]["labels"] == {"a": "b"}
        assert not {"data", "stringData"} & item.keys()

    async def test_lists_by_label(self, api: Api) -> None:
        """A label selector picks what has the label, what has it with a value, or what has it not."""
        await api.provider("a", labels={"team": "x", "env": "prod"})
        await api.provider("b", labels={"team": "y"})
        await api.provider("c")
        for selector, picked in (
            ("team=x", "a"),
            ("team!=x", "bc"),
            ("team", "ab"),
            ("!team", "c"),
            ("team,env=prod", "a"),
        ):
            listing = await api.cluster.list(PROVIDERS, api.namespace, label_selector=selector)
            assert "".join(item["metadata"]["name"] for item in listing.items) == picked

    # -- watches --------------------------------------------------------------------------------------------------

    async def test_a_watch_replays_and_goes_on(self, api: Api) -> None:
        """A watch tells what has happened since its version, in order, and what happens then; each with its version."""
        version = await api.version()
        await api.provider("vm")
        await api.patch("vm", {"status": status()}, "status")
        async with api.cluster.watch(PROVIDERS, api.namespace, resource_version=version) as pieces:
            stream = told(pieces, 4)
            await api.delete("vm")
            await api.provider("vm")
            events = await stream
        assert names(events) == [("ADDED", "vm"), ("MODIFIED", "vm"), ("DELETED", "vm"), ("ADDED", "vm")]
        versions = [int(obj["metadata"]["resourceVersion"]) for _, obj in events]
        assert versions == sorted(set(versions))
        assert versions[0] > int(version)
        assert events[2][1]["metadata"]["uid"] == events[0][1]["metadata"]["uid"] != events[3][1]["metadata"]["uid"]

    async def test_the_end_of_a_held_object(self, api: Api) -> None:
        """A watch tells that an object is marked, and that it is gone only after its last finalizer."""
        await api.provider("vm", finalizers=[HELD])
        async with api.cluster.watch(PROVIDERS, api.namespace, resource_version=await api.version()) as pieces:
            await api.delete("vm")
            last = await api.patch("vm", {"metadata": {"finalizers": []}})
            events = await told(pieces, 2)
        assert names(events) == [("MODIFIED", "vm"), ("DELETED", "vm")]
        assert int(events[1][1]["metadata"]["resourceVersion"]) >= int(last["metadata"]["resourceVersion"])

    async def test_a_watch_of_one_namespace(self, api: Api) -> None:
        """A watch of a namespace tells nothing of another; one of all tells of both."""
        version, other = await api.version(), _unique()
        await api.cluster.create(NAMESPACES, None, {"metadata": {"name": other}})
        body = {"apiVersion": API_VERSION, "kind": "Provider", "metadata": {"name": "there"}, "spec": {"type": "slack"}}
        await api.cluster.create(PROVIDERS, other, body)
        await api.provider("here")
        async with api.cluster.watch(PROVIDERS, api.namespace, resource_version=version) as pieces:
            assert names(await told(pieces, 1)) == [("ADDED", "here")]
        async with api.cluster.watch(PROVIDERS, resource_version=version) as pieces:
            assert names(await told(pieces, 2)) == [("ADDED", "there"), ("ADDED", "here")]
        await api.cluster.delete(NAMESPACES, None, other)

    async def test_a_watch_of_metadata(self, api: Api) -> None:
        """A watch of metadata tells of every change without what the object holds."""
        version = (await api.cluster.list(SECRETS, api.namespace)).resource_version
        await api.cluster.create(SECRETS, api.namespace, {"metadata": {"name": "s"}, "stringData": {"token": "canary"}})
        await api.cluster.patch(SECRETS, api.namespace, "s", {"stringData": {"token": "canary-2"}})
        await api.cluster.delete(SECRETS, api.namespace, "s")
        watch = api.cluster.watch(SECRETS, api.namespace, resource_version=version, metadata_only=True)
        async with watch as pieces:
            events = [event for event in await told(pieces, 3) if event[1]["metadata"]["name"] == "s"]
        assert [type_ for type_, _ in events] == ["ADDED", "MODIFIED", "DELETED"]
        assert all("data" not in obj and "stringData" not in obj for _, obj in events)

    async def test_a_quiet_watch_says_where_it_stands(self, api: Api) -> None:
        """A watch ends after its time; all that it says while nothing happens is from which version to go on."""
        await api.provider("vm")
        version = await api.version()
        async with (
            asyncio.timeout(PATIENCE_S),
            api.cluster.watch(PROVIDERS, api.namespace, resource_version=version, server_timeout_s=1) as pieces,
            contextlib.aclosing(lines.split(pieces)) as stream,
        ):
            events = [json.loads(line) async for line in stream]
        assert all(event["type"] == "BOOKMARK" for event in events)  # one a minute, perhaps one before the end
        assert all(int(event["object"]["metadata"]["resourceVersion"]) >= int(version) for event in events)

    async def test_a_version_that_is_forgotten(self, api: Api) -> None:
        """A watch from before what the server remembers says 410: list again."""
        with contextlib.suppress(failures.Expired):
            async with api.cluster.watch(PROVIDERS, api.namespace, resource_version="1") as pieces:
                ((type_, error),) = await told(pieces, 1)
            assert (type_, error["code"]) == ("ERROR", 410)

    async def test_the_operators_watch_follows_secrets(self, api: Api) -> None:
        """The operator's own watch knows which Secrets exist and tells of each that came, changed or went."""
        await api.cluster.create(SECRETS, api.namespace, {"metadata": {"name": "a"}, "stringData": {"t": "1"}})
        heard: list[str] = []
        watch = MetadataWatch(api.cluster, SECRETS, [api.namespace], lambda _, name: heard.append(name))
        task = asyncio.create_task(watch.run())
        try:
            await asyncio.wait_for(watch.synced.wait(), PATIENCE_S)
            before = watch.version(api.namespace, "a")
            changed = await api.cluster.patch(SECRETS, api.namespace, "a", {"stringData": {"t": "2"}})
            await api.cluster.create(SECRETS, api.namespace, {"metadata": {"name": "b"}})
            await api.cluster.delete(SECRETS, api.namespace, "a")
            await eventually(lambda: _value(watch.version(api.namespace, "a")), lambda version: version is None)
            assert watch.version(api.namespace, "b") is not None
            assert before not in (None, changed["metadata"]["resourceVersion"])
            assert [name for name in heard if name in "ab"] == ["a", "a", "b", "a"]
        finally:
            task.cancel()
            await asyncio.wait((task,))

    # -- what else the operator writes ----------------------------------------------------------------------------

    async def test_apply_makes_and_repeats(self, api: Api) -> None:
        """A server-side apply makes what is absent; the same again is no edit."""
        manifest = _tenant(name := _unique()) | {"spec": {}}
        made = await api.cluster.apply(TENANTS, None, name, manifest)
        assert (made["metadata"]["name"], made["metadata"]["generation"]) == (name, 1)
        again = await api.cluster.apply(TENANTS, None, name, manifest)
        assert (again["metadata"]["uid"], again["metadata"]["generation"]) == (made["metadata"]["uid"], 1)

    async def test_apply_respects_owners(self, api: Api) -> None:
        """What others own is not taken without force; what nobody set is anybody's, so Git takes over an empty spec."""
        await api.cluster.apply(TENANTS, None, name := _unique(), _tenant(name) | {"spec": {}})
        async with await api.link.open_session() as session:
            path = f"{api.link.server}{TENANTS.path(None, name)}?fieldManager=git"
            body = json.dumps(_tenant(name) | {"spec": {"displayName": "From Git"}})
            kind = {"Content-Type": "application/apply-patch+yaml"}
            async with session.patch(path, data=body, headers=kind) as answer:
                assert answer.status == 200
        ours = _tenant(name) | {"spec": {"displayName": "From us"}}
        with pytest.raises(Refused, match="git") as caught:
            await api.cluster.apply(TENANTS, None, name, ours)
        assert caught.value.reason == "FieldManagerConflict"
        await api.cluster.apply(TENANTS, None, name, _tenant(name) | {"spec": {"displayName": "From Git"}})
        taken = await api.cluster.apply(TENANTS, None, name, ours, force=True)
        assert (taken["spec"]["displayName"], taken["metadata"]["generation"]) == ("From us", 3)

    async def test_secrets_are_kept_in_base64(self, api: Api) -> None:
        """Text that is put into a Secret comes back in base64; an edit of one value leaves the others."""
        await api.cluster.create(
            SECRETS, api.namespace, {"metadata": {"name": "s"}, "stringData": {"a": "1", "b": "2"}}
        )
        edited = await api.cluster.patch(SECRETS, api.namespace, "s", {"stringData": {"a": "3"}})
        assert {key: base64.b64decode(value) for key, value in edited["data"].items()} == {"a": b"3", "b": b"2"}

    async def test_events(self, api: Api) -> None:
        """An Event about an object is written, and the same again counted up, also for what has no namespace."""
        recorder = Recorder(api.cluster, instance="test", clock=lambda: datetime.now(UTC))
        tenant = await api.cluster.create(TENANTS, None, _tenant(name := _unique()))
        for subject in (
            Subject(PROVIDERS, api.namespace, "vm", str(uuid.uuid4())),
            Subject(TENANTS, "", name, tenant["metadata"]["uid"]),
        ):
            await recorder.record(subject, "Warning", "Test", "said twice")
            await recorder.record(subject, "Warning", "Test", "said twice")
            listing = await api.cluster.list(EVENTS, subject.namespace or "default")
            about = [event for event in listing.items if event["involvedObject"]["uid"] == subject.uid]
            assert [(event["reason"], event["count"], event["type"]) for event in about] == [("Test", 2, "Warning")]

    async def test_a_lease_has_one_holder(self, api: Api) -> None:
        """One of two replicas leads; when it gives the Lease back the other one does, with a higher number."""

        def replica(identity: str) -> Leadership:
            return Leadership(
                api.cluster,
                lease=Key("Lease", api.namespace, "test"),
                identity=identity,
                length=timedelta(seconds=10),
                clock=time.monotonic,
                now=lambda: datetime.now(UTC),
            )

        first, second = replica("first"), replica("second")
        epoch = await first.acquire()
        waiting = asyncio.create_task(second.acquire())
        await eventually(lambda: _value(second.leader), lambda leader: leader == "first")
        assert not waiting.done()
        assert await first.raise_epoch(above=epoch + 5) == epoch + 6
        await first.release()
        assert await asyncio.wait_for(waiting, PATIENCE_S) == epoch + 7
        assert (first.held, second.held) == (False, True)
        lease = await api.cluster.get(LEASES, api.namespace, "test")
        assert lease is not None
        assert lease["spec"]["holderIdentity"] == "second"

    # -- namespaces and the server itself -------------------------------------------------------------------------

    async def test_a_namespace_that_is_not_there(self, api: Api) -> None:
        """Nothing can be made in a namespace that does not exist."""
        with pytest.raises(Conflict) as caught:
            await api.cluster.create(SECRETS, _unique(), {"metadata": {"name": "s"}})
        assert caught.value.reason == "ObjectGone"

    async def test_a_namespace_that_goes(self, api: Api) -> None:
        """A namespace takes its objects with it, waits for those that are held, and takes nothing new meanwhile."""
        name = _unique()
        await api.cluster.create(NAMESPACES, None, {"metadata": {"name": name, "labels": {"a": "b"}}})
        going = Api(api.link, api.cluster, name)
        await going.provider("free")
        await going.provider("held", finalizers=[HELD])
        await api.cluster.delete(NAMESPACES, None, name)
        await eventually(lambda: going.get("free"), lambda obj: obj is None)
        await eventually(lambda: going.get("held"), lambda obj: obj and "deletionTimestamp" in obj["metadata"])
        with pytest.raises(Unavailable) as caught:
            await going.provider("new")
        assert caught.value.reason == "NamespaceTerminating"
        await going.patch("held", {"metadata": {"finalizers": []}})
        await eventually(lambda: api.cluster.get(NAMESPACES, None, name), lambda obj: obj is None)

    async def test_discovery(self, api: Api) -> None:
        """The server tells which kinds it serves, where, and that ours have a status: kopf finds them so."""
        async with await api.link.open_session() as session:

            async def ask(path: str) -> Any:
                async with session.get(api.link.server + path) as answer:
                    assert answer.status == 200
                    return await answer.json()

            assert "v1" in (await ask("/api"))["versions"]
            core = {resource["name"]: resource for resource in (await ask("/api/v1"))["resources"]}
            assert {"namespaces", "secrets", "events"} <= core.keys()
            assert not core["namespaces"]["namespaced"]
            groups = {group["name"]: group for group in (await ask("/apis"))["groups"]}
            assert "apiextensions.k8s.io" in groups
            assert groups["keep-operator.dev"]["preferredVersion"]["version"] == VERSION
            ours = {each["name"]: each for each in (await ask(f"/apis/{API_VERSION}"))["resources"]}
            for resource in (TENANTS, PROVIDERS):
                entry = ours[resource.plural]
                assert (entry["kind"], entry["namespaced"]) == (resource.kind, resource.namespaced)
                assert {"get", "list", "watch", "patch"} <= set(entry["verbs"])
                assert f"{resource.plural}/status" in ours

    async def test_what_the_server_says_of_itself(self, api: Api) -> None:
        """It tells its version and its clock, and what we may do."""
        version = await api.cluster.server_version()
        assert version.major == 1
        assert version.server_time is not None
        assert (await api.cluster.review("", "secrets", "list")).allowed


def _tenant(name: str) -> Json:
    return {"apiVersion": API_VERSION, "kind": "Tenant", "metadata": {"name": name}, "spec": {}}


def _unique() -> str:
    return f"t-{uuid.uuid4().hex[:12]}"


async def _value(value: T) -> T:
    return value
