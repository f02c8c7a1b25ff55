"""Events while a new version is tried: each is judged by the version that its run would be of, and by no other."""

from typing import Any

import psycopg
import pytest

from integration.console import started
from integration.console.test_events import ANY, CRITICAL, posting, rows, taken
from integration.console.visit import Console
from keep_operator.domain import canary
from keep_operator.domain.history import Lineage
from keep_operator.store import alerts
from unit.domain.events.alerts import prometheus, webhook

pytestmark = pytest.mark.integration
__all__ = ["posting"]

WEIGHT = 30
ALERTS = 2_000
A_REQUEST = 100
WARNING = {"type": "alert", "cel": 'severity == "warning"'}


def alert(fingerprint: str, **more: Any) -> dict[str, Any]:
    """An alert that is told apart from the others by its fingerprint."""
    return {"name": "CPU is high", "fingerprint": fingerprint, "source": ["prometheus"], "severity": "critical", **more}


def takes(lineage: Lineage, key: str, weight: int = WEIGHT) -> bool:
    """Whether the candidate gets what has this key."""
    assert lineage.candidate is not None
    return canary.chooses(key, lineage.id, lineage.candidate.content_hash, weight)


def some_keys(lineage: Lineage, count: int = 4) -> tuple[list[str], list[str]]:
    """Keys of the stable version, and keys of the candidate."""
    keys = [f"key-{number}" for number in range(100)]
    stable = [key for key in keys if not takes(lineage, key)]
    return stable[:count], [key for key in keys if takes(lineage, key)][:count]


async def test_the_share_of_the_candidate_is_its_weight(posting: Console) -> None:
    """A-CAN-1: of 2,000 alerts a part as the weight says, within the binomial bound; each went where its key belongs, and where
    the new filter does not match any more nothing starts."""
    await started.have(posting.engine, "same", ANY, strategy="parallel")
    await started.have(posting.engine, "narrower", ANY, strategy="parallel")
    same = await started.try_out(posting.engine, "same", WEIGHT, CRITICAL, strategy="parallel")
    narrower = await started.try_out(posting.engine, "narrower", WEIGHT, WARNING, strategy="parallel")
    keys = [f"fingerprint-{number}" for number in range(ALERTS)]
    for first in range(0, ALERTS, A_REQUEST):
        posting.clock.seconds += 10
        found = await taken(posting, [alert(key) for key in keys[first : first + A_REQUEST]])
        assert {each["outcome"] for each in found} == {"accepted"}
        assert not [each for each in found if each["refused"] or each["failed"]]
    made = {(each.workflow_id, each.fingerprint): (each.revision, each.selection) for each in await rows(posting)}
    assert {key: made[same.id, key] for key in keys} == {
        key: (2, "Canary") if takes(same, key) else (1, "Active") for key in keys
    }
    assert {key: made.get((narrower.id, key)) for key in keys} == {
        key: None if takes(narrower, key) else (1, "Active") for key in keys
    }
    tried = sum(revision == 2 for revision, _ in made.values())
    deviation = (ALERTS * WEIGHT / 100 * (1 - WEIGHT / 100)) ** 0.5
    assert abs(tried - ALERTS * WEIGHT / 100) <= 3 * deviation


async def test_a_candidate_may_match_what_the_stable_version_does_not(posting: Console) -> None:
    """A filter that became wider starts runs for the candidate's share, and still none for the rest."""
    await started.have(posting.engine, "wider", WARNING, strategy="parallel")
    lineage = await started.try_out(posting.engine, "wider", WEIGHT, CRITICAL, strategy="parallel")
    stable, tried = some_keys(lineage)
    found = await taken(posting, [alert(key) for key in stable + tried])
    assert [[run["revision"] for run in each["runs"]] for each in found] == [[]] * 4 + [[2]] * 4


async def test_the_failing_trigger_is_that_of_the_version_that_was_asked(posting: Console) -> None:
    """Whoever looks for the reason finds the number of the version whose expression had no answer."""
    await started.have(posting.engine, "broken", ANY, strategy="parallel")
    lineage = await started.try_out(posting.engine, "broken", WEIGHT, {"type": "alert", "cel": "labels.team > 3"})
    _, (key, *_) = some_keys(lineage)
    (event,) = await taken(posting, alert(key, labels={"team": "x"}))
    assert ([each["revision"] for each in event["failed"]], event["runs"]) == ([2], [])


async def test_alerts_of_one_host_get_one_version(posting: Console) -> None:
    """A sticky key sees the alert as it was posted, so what a trigger adds moves no alert to the other version; an alert without
    the key is told apart by its fingerprint."""
    trigger = {**ANY, "severity_changed": True}
    await started.have(posting.engine, "hosts", trigger, strategy="parallel")
    key = "event.labels.host + (has(event.severity_change) ? event.severity_change : '')"
    lineage = await started.try_out(
        posting.engine, "hosts", WEIGHT, trigger, strategy="parallel", consts={"a": 1}, sticky_key=key
    )
    hosts = [f"host-{number}" for number in range(20)]
    for severity in ("low", "critical"):
        posting.clock.seconds += 60
        for turn in range(3):
            body = [alert(f"{host}/{turn}", severity=severity, labels={"host": host}) for host in hosts]
            found = await taken(posting, body)
            assert [[run["revision"] for run in each["runs"]] for each in found] == [
                [2 if takes(lineage, f"key {host}") else 1] for host in hosts
            ]
    stable, tried = some_keys(lineage)
    found = await taken(posting, [alert(each) for each in stable + tried])
    assert [run["revision"] for each in found for run in each["runs"]] == [1] * 4 + [2] * 4


async def test_incidents_are_split_too(posting: Console) -> None:
    """By their id; what is repeated is known, also when the share has grown meanwhile."""
    trigger = {"type": "incident", "events": ["created"]}
    await started.have(posting.engine, "new", trigger)
    lineage = await started.try_out(posting.engine, "new", WEIGHT, {**trigger, "events": ["created", "updated"]})
    (stable, *_), (tried, *_) = some_keys(lineage)

    async def posted(what: str, incident: str) -> tuple[str, list[int]]:
        (event,) = await taken(posting, {"event": what, "incident": {"id": incident, "severity": "high"}})
        return event["outcome"], [run["revision"] for run in event["runs"]]

    assert await posted("created", stable) == ("accepted", [1])
    assert await posted("created", tried) == ("accepted", [2])
    assert await posted("updated", stable) == ("accepted", [])
    assert await posted("updated", tried) == ("accepted", [2])
    await started.weigh(posting.engine, "new", 100)
    assert await posted("created", stable) == ("duplicate", [1])


@pytest.mark.parametrize(("weight", "revision"), [(0, 1), (100, 2)])
async def test_a_share_that_changes_meanwhile_is_met_by_another_look(
    posting: Console, monkeypatch: pytest.MonkeyPatch, weight: int, revision: int
) -> None:
    """The event is judged again by the version that its run is of now: once, and on neither version twice."""
    await started.have(posting.engine, "moving", ANY, strategy="parallel")
    lineage = await started.try_out(posting.engine, "moving", WEIGHT, CRITICAL, strategy="parallel")
    (stable, *_), (tried, *_) = some_keys(lineage)
    listening, looks = alerts.listening, 0

    async def changed_meanwhile(conn: Any, tenant: str) -> Any:
        nonlocal looks
        found = await listening(conn, tenant)
        looks += 1
        if looks == 1:
            await started.weigh(posting.engine, "moving", weight)
        return found

    monkeypatch.setattr(alerts, "listening", changed_meanwhile)
    (event,) = await taken(posting, webhook(prometheus(fingerprint=stable if weight else tried)))
    assert looks == 2
    assert [each["revision"] for each in event["runs"]] == [revision]
    assert [each.revision for each in await rows(posting)] == [revision]


async def test_a_canary_that_ends_while_a_run_is_asked_for_refuses_nobody(
    posting: Console, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    """One that takes itself back in that very moment costs another look, and no alert."""
    await started.have(posting.engine, "failing", ANY, strategy="parallel")
    lineage = await started.try_out(posting.engine, "failing", WEIGHT, CRITICAL, strategy="parallel")
    _, (key, *_) = some_keys(lineage)
    chooses, asked = canary.chooses, 0

    def then_taken_back(*words: Any) -> bool:
        nonlocal asked
        asked += 1
        if asked == 2:  # the trigger has matched, and the run is being asked for
            with psycopg.connect(database_url) as other:
                other.execute("DELETE FROM keep_operator.canary")
        return chooses(*words)

    monkeypatch.setattr(canary, "chooses", then_taken_back)
    (event,) = await taken(posting, alert(key))
    assert ([each["revision"] for each in event["runs"]], event["refused"]) == ([1], [])
    assert [each.revision for each in await rows(posting)] == [1]
