"""What becomes of the alerts that an action wants, given what is known of them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from keep_operator.domain import alerting
from keep_operator.domain.alerting import Maker
from keep_operator.domain.events.alert import Previous
from keep_operator.domain.language.functions import Moment
from keep_operator.domain.language.limits import ITEMS, LimitExceeded
from keep_operator.domain.language.mustache import Filling

pytestmark = pytest.mark.unit

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
MAKER = Maker("w1", "raise")


def wanted(given: dict[str, Any], results: Any, maker: Maker = MAKER, told: str | None = None) -> list[dict[str, Any]]:
    """The alerts that are made of these results."""
    filling = Filling([{"consts": {"team": "shop"}}], Moment(NOW, None, None, None))
    made: list[dict[str, Any]] = alerting.parameters(given, results, maker, filling, told)["alert"]
    return made


def before(status: str, **event: Any) -> Previous:
    """What is known of an alert."""
    return Previous({"name": "x", "fingerprint": "f", "status": status, **event}, status, "info", "digest")


HOST = {"alert": {"name": "{{ host }}", "labels": {"host": "{{ host }}"}}}


@pytest.mark.parametrize(
    ("results", "names"),
    [
        ([{"host": "a"}, {"host": "b"}], ["a", "b"]),
        ([], []),
        ({"host": "a"}, ["a"]),
        ({"status": "success", "data": {"result": [{"host": "a"}, {"host": "b"}]}}, ["a", "b"]),
        (None, [""]),
        ("text", [""]),
    ],
)
def test_of_what_alerts_are_made(results: Any, names: list[str]) -> None:
    """Of each item of a list, of each series of a query, of an object; where there is nothing, one."""
    assert [each["name"] for each in wanted(HOST, results)] == names


def test_what_makes_an_alert_itself() -> None:
    """Its labels, else its name, or the fields that are named; of another workflow it is another one, and what is given counts."""
    one, two, again = (
        wanted(HOST, [{"host": host, "value": value}])[0]["fingerprint"]
        for host, value in (("a", 1), ("b", 1), ("a", 2))
    )
    assert one == again != two
    assert wanted(HOST, [{"host": "a"}], Maker("w2", "raise"))[0]["fingerprint"] != one
    assert wanted(HOST, [{"host": "a"}], Maker("w1", "other"))[0]["fingerprint"] == one
    by_value = [wanted({**HOST, "fingerprint_fields": ["value"]}, [{"host": h, "value": 1}])[0] for h in "ab"]
    assert by_value[0]["fingerprint"] == by_value[1]["fingerprint"]
    assert wanted({**HOST, "fingerprint": "f-{{ host }}"}, [{"host": "a"}])[0]["fingerprint"] == "f-a"
    assert wanted({"alert": {"name": "n", "fingerprint": "mine"}}, None)[0]["fingerprint"] == "mine"


def test_fields_of_results_are_those_of_the_alert_where_they_are_none_of_its_own() -> None:
    """A result cannot say that the alert has ended, nor whose it is; what the workflow says comes first."""
    row = {"host": "a", "status": "resolved", "fingerprint": "f", "workflowId": "w9", "region": "eu", "name": "odd"}
    (made,) = wanted({"alert": {"name": "n", "host": "h"}, "override_source_with": "mysql"}, [row])
    assert (made["name"], made["host"], made["region"], made["source"]) == ("n", "h", "eu", ["mysql"])
    assert "status" not in made
    assert (made["workflowId"], made["workflowAction"], made["providerType"]) == ("w1", "raise", "keep")
    assert made["fingerprint"] != "f"


def test_what_tells_of_a_failure_is_in_the_alert() -> None:
    """An action of on-failure makes an alert with the message."""
    assert wanted({"alert": {"name": "n"}}, None, told="it failed")[0]["message"] == "it failed"
    assert wanted({"alert": {"name": "n", "message": "own"}}, None, told="it failed")[0]["message"] == "own"


def test_no_more_alerts_than_a_foreach_has_items() -> None:
    """A query that brings a million rows makes none."""
    with pytest.raises(LimitExceeded, match="ask for fewer"):
        wanted(HOST, [{}] * (ITEMS + 1))


@pytest.mark.parametrize(
    ("known", "status", "since"),
    [
        (None, "pending", "2026-11-29T12:00:00.000Z"),
        (before("resolved", activeAt="2026-11-29T11:00:00.000Z"), "pending", "2026-11-29T12:00:00.000Z"),
        (before("pending", activeAt="2026-11-29T11:56:00.000Z"), "pending", "2026-11-29T11:56:00.000Z"),
        (before("pending", activeAt="2026-11-29T11:55:00.000Z"), "firing", "2026-11-29T11:55:00.000Z"),
        (before("firing", activeAt="2026-11-29T11:59:00.000Z"), "firing", "2026-11-29T11:59:00.000Z"),
        (before("firing", lastReceived="2026-11-29T10:00:00.000Z"), "firing", "2026-11-29T10:00:00.000Z"),
    ],
)
def test_an_alert_waits_before_it_fires(known: Previous | None, status: str, since: str) -> None:
    """With ``for``; what fires goes on, what had ended waits anew."""
    (event,) = alerting.settled(
        [{"name": "x", "fingerprint": "f"}],
        {} if known is None else {"f": known},
        {},
        NOW,
        waits=timedelta(minutes=5),
        resolves=True,
    )
    assert (event["status"], event["activeAt"]) == (status, since)


@pytest.mark.parametrize("resolves", [True, False])
def test_what_is_not_wanted_any_more_is_resolved(resolves: bool) -> None:
    """Once for each fingerprint, of which the last counts."""
    alerts = [{"name": "a", "fingerprint": "f", "n": 1}, {"name": "a", "fingerprint": "f", "n": 2}]
    made = {"f": before("firing"), "g": before("pending", fingerprint="g", activeAt="x", lastReceived="y")}
    events = alerting.settled(alerts, {}, made, NOW, waits=None, resolves=resolves)
    gone = [{"name": "x", "fingerprint": "g", "status": "resolved"}] if resolves else []
    assert events == [alerts[1], *gone]
