"""What `kubectl describe` tells of an object: each thing once, never too much, and never at the cost of the work."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from component.cluster import hostile
from component.cluster.hostile import Hostile, absent, document, failure, status
from keep_operator.cluster.client import Cluster
from keep_operator.cluster.events import BURST, Recorder, Subject
from keep_operator.domain.links import Links
from keep_operator.resources.kinds import PROVIDERS, TENANTS, WORKFLOWS

pytestmark = pytest.mark.component

VMS = Subject(PROVIDERS, "team", "vms", "uid-vms")
KEEP = Subject(TENANTS, "", "keep", "uid-keep")


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2025, 1, 31, 12, 0, 0, 999_999, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **amount: float) -> None:
        self.now += timedelta(**amount)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recorder(api: Hostile, cluster: Cluster, clock: Clock) -> Recorder:
    api.otherwise = document({})
    return Recorder(cluster, instance="keep-operator-0", clock=clock)


async def test_what_became_of_a_provider(api: Hostile, recorder: Recorder) -> None:
    """The Event names the object, says what happened and when, and who says so."""
    await recorder.record(VMS, "Normal", "Synced", "Provider is ready")
    asked = api.asked[0]
    assert (asked.method, asked.path) == ("POST", "/api/v1/namespaces/team/events")
    name = asked.body["metadata"].pop("name")
    assert name.startswith("vms.")
    assert asked.body == {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"namespace": "team"},
        "involvedObject": {
            "apiVersion": "keep-operator.dev/v1alpha1",
            "kind": "Provider",
            "namespace": "team",
            "name": "vms",
            "uid": "uid-vms",
        },
        "type": "Normal",
        "reason": "Synced",
        "message": "Provider is ready",
        "source": {"component": "keep-operator", "host": "keep-operator-0"},
        "reportingComponent": "keep-operator",
        "reportingInstance": "keep-operator-0",
        "firstTimestamp": "2025-01-31T12:00:00Z",
        "lastTimestamp": "2025-01-31T12:00:00Z",
        "count": 1,
    }


async def test_a_tenant_s_events_are_in_the_default_namespace(api: Hostile, recorder: Recorder) -> None:
    """Where kubectl looks for Events of objects without a namespace."""
    await recorder.record(KEEP, "Normal", "Synced", "Tenant is ready")
    assert api.asked[0].path == "/api/v1/namespaces/default/events"
    assert "namespace" not in api.asked[0].body["involvedObject"]


async def test_a_warning_leads_to_the_console(api: Hostile, cluster: Cluster, clock: Clock) -> None:
    """Who is woken by an Event finds the page of what it is about, however long the message is; good news and Tenants have none."""
    api.otherwise = document({})
    recorder = Recorder(cluster, instance="i", clock=clock, links=Links("https://keep.example.com"))
    flow, run_page = Subject(WORKFLOWS, "team", "high-cpu", "uid-cpu"), "https://keep.example.com/r/7"
    await recorder.record(flow, "Warning", "AutoRolledBack", "3 of 4 runs failed")
    await recorder.record(flow, "Warning", "StepFailed", "é" * 1000, see=run_page)
    await recorder.record(VMS, "Warning", "SyncFailed", "Wait for it.")
    await recorder.record(VMS, "Normal", "Ready", "yes")
    await recorder.record(KEEP, "Warning", "SpecRefused", "no")
    told = [asked.body["message"] for asked in api.asked]
    assert told[0] == "3 of 4 runs failed. See https://keep.example.com/w/team/high-cpu"
    assert told[1].endswith(f"é… See {run_page}") and 1000 < len(told[1].encode()) <= 1024
    assert told[2:] == ["Wait for it. See https://keep.example.com/p/team/vms", "yes", "no"]


async def test_the_same_again_is_counted(api: Hostile, recorder: Recorder, clock: Clock) -> None:
    """A provider that fails every minute shows one line with a count, until it was quiet for ten minutes."""
    for _ in range(3):
        await recorder.record(VMS, "Warning", "SyncFailed", "no")
        clock.forward(minutes=9)
    first, second, third = api.asked
    name = first.body["metadata"]["name"]
    assert [second.method, third.method] == ["PATCH", "PATCH"]
    assert second.path == f"/api/v1/namespaces/team/events/{name}"
    assert second.body == {"count": 2, "lastTimestamp": "2025-01-31T12:09:00Z"}
    assert third.body == {"count": 3, "lastTimestamp": "2025-01-31T12:18:00Z"}
    clock.forward(minutes=2)
    await recorder.record(VMS, "Warning", "SyncFailed", "no")
    assert (api.asked[3].method, api.asked[3].body["count"]) == ("POST", 1)


async def test_something_else_is_an_event_of_its_own(api: Hostile, recorder: Recorder) -> None:
    """Another object, reason, type or message is not lost in a count."""
    await recorder.record(VMS, "Warning", "SyncFailed", "no")
    await recorder.record(VMS, "Warning", "SyncFailed", "no, again")
    await recorder.record(VMS, "Normal", "SyncFailed", "no")
    await recorder.record(VMS, "Warning", "Other", "no")
    await recorder.record(Subject(PROVIDERS, "team", "vms", "uid-made-anew"), "Warning", "SyncFailed", "no")
    assert [asked.method for asked in api.asked] == ["POST"] * 5


async def test_equal_events_at_once_are_one(api: Hostile, recorder: Recorder) -> None:
    """Workers that report the same at the same moment do not write it twice."""
    api.answers(hostile.slowly(0.02, document({})))
    await asyncio.gather(*(recorder.record(VMS, "Warning", "SyncFailed", "no") for _ in range(3)))
    assert [asked.method for asked in api.asked] == ["POST", "PATCH", "PATCH"]
    assert api.asked[-1].body["count"] == 3


async def test_an_event_that_the_server_forgot_is_written_anew(api: Hostile, recorder: Recorder) -> None:
    """The server drops Events after an hour, and people delete them."""
    await recorder.record(VMS, "Warning", "SyncFailed", "no")
    api.answers(absent(api.asked[0].body["metadata"]["name"]))
    await recorder.record(VMS, "Warning", "SyncFailed", "no")
    assert [asked.method for asked in api.asked] == ["POST", "PATCH", "POST"]


async def test_an_object_cannot_flood_the_cluster(api: Hostile, recorder: Recorder, clock: Clock) -> None:
    """A provider that flaps all night fills no etcd; after a while it may speak again, and others always may."""
    for number in range(BURST + 20):
        await recorder.record(VMS, "Warning", "SyncFailed", f"no {number}")
    assert len(api.asked) == BURST
    await recorder.record(KEEP, "Normal", "Synced", "yes")
    assert len(api.asked) == BURST + 1
    clock.forward(minutes=5)
    await recorder.record(VMS, "Warning", "SyncFailed", "again")
    await recorder.record(VMS, "Warning", "SyncFailed", "and again")
    assert len(api.asked) == BURST + 2


async def test_what_is_remembered_is_bounded(api: Hostile, cluster: Cluster, clock: Clock) -> None:
    """A hundred thousand objects do not fill the operator's memory with old Events."""
    api.otherwise = document({})
    recorder = Recorder(cluster, instance="i", clock=clock, capacity=3)
    for number in [*range(5), 4, 0]:
        await recorder.record(Subject(PROVIDERS, "team", "vms", f"uid-{number}"), "Normal", "Synced", "yes")
    assert [asked.method for asked in api.asked] == ["POST"] * 5 + ["PATCH", "POST"]
    assert len(recorder._posted) == len(recorder._budgets) == 3


@pytest.mark.parametrize(
    ("answer", "level"),
    [
        (status(403, "Forbidden", "no"), "WARNING"),
        (status(500, "InternalError", "no"), "WARNING"),
        (document(failure(403, "Forbidden", causes=[{"reason": "NamespaceTerminating"}]), 403), "DEBUG"),
    ],
)
async def test_an_event_never_fails_a_reconcile(
    api: Hostile, recorder: Recorder, caplog: pytest.LogCaptureFixture, answer: hostile.Answer, level: str
) -> None:
    """An Event that cannot be written is a line in the log, and the next one is tried as if nothing was."""
    caplog.set_level(logging.DEBUG, "keep_operator.cluster.events")
    api.answers(answer)
    await recorder.record(VMS, "Normal", "Synced", "yes")
    assert [(record.levelname, "event Synced of Provider team/vms" in record.message) for record in caplog.records] == [
        (level, True)
    ]
    await recorder.record(VMS, "Normal", "Synced", "yes")
    assert [asked.method for asked in api.asked] == ["POST", "POST"]


async def test_a_fault_in_the_recorder_fails_no_reconcile(
    recorder: Recorder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even a mistake of ours in here is only logged."""

    def fail(*_: Any) -> Any:
        raise RuntimeError("mistake")

    monkeypatch.setattr(recorder, "_event", fail)
    await recorder.record(VMS, "Normal", "Synced", "yes")
    assert "RuntimeError: mistake" in caplog.text


@pytest.mark.parametrize("name", ["a" * 253, "a" * 229 + ".b" + "c" * 22, "a" * 228 + "-." + "c" * 23])
async def test_the_longest_names_have_events_too(api: Hostile, recorder: Recorder, name: str) -> None:
    """An Event about an object with the longest possible name is still valid."""
    await recorder.record(Subject(PROVIDERS, "team", name, "u"), "Normal", "Synced", "yes")
    written = api.asked[0].body["metadata"]["name"]
    assert len(written) <= 253
    assert all(part and part[0].isalnum() and part[-1].isalnum() for part in written.split("."))


async def test_what_happened_once_is_told_once(
    api: Hostile, recorder: Recorder, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """By its name: another process, or the same again, meets the Event that is there, and it is not counted up."""
    await recorder.record(VMS, "Warning", "StepFailed", "Run 1 failed", once="0123456789abcdef0123")
    assert api.asked[0].body["metadata"]["name"] == "vms.0123456789abcdef0123"
    api.otherwise = status(409, "AlreadyExists")
    clock.forward(minutes=1)
    await recorder.record(VMS, "Warning", "StepFailed", "Run 1 failed", once="0123456789abcdef0123")
    assert [asked.method for asked in api.asked] == ["POST", "POST"]
    assert caplog.messages == []
