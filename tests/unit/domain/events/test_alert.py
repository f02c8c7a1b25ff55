"""What becomes of an alert that is posted."""

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keep_operator.domain.events import alert, alertmanager, causes, content, incident
from keep_operator.domain.events.alert import Severity, Status
from keep_operator.domain.events.content import EventInvalid
from unit.domain.events import alerts

pytestmark = pytest.mark.unit


def test_an_alert_of_alertmanager_has_the_fields_that_keep_gives_it() -> None:
    """A workflow written for Keep's Prometheus provider finds what it looks for."""
    found = alerts.read()
    assert (found.fingerprint, found.status, found.severity) == ("f0b2c3d4e5a69788", "firing", "critical")
    told = found.fields
    assert (told["id"], told["name"], told["description"]) == ("HighCPU", "HighCPU", "CPU above 90 %")
    assert told["source"] == ["prometheus"]
    assert told["labels"] == {
        "alertname": "HighCPU", "severity": "critical", "instance": "web-1", "team": "payments"
    }  # fmt: skip
    assert told["annotations"]["runbook_url"] == "https://runbooks.example.com/cpu"
    assert (told["environment"], told["service"], told["lastReceived"]) == ("unknown", None, "2026-06-01T12:00:00.000Z")
    assert (told["team"], told["instance"], told["job"], told["value"]) == ("payments", "web-1", "", "")
    assert (told["startsAt"], told["generatorURL"]) == ("2026-06-01T11:59:00Z", "http://prometheus/graph")


def test_labels_name_environment_and_service_and_hide_nothing() -> None:
    """A label never takes the place of the status or the severity that the alert has."""
    labels = {
        "alertname": "A",
        "environment": "prod",
        "service": "pay",
        "status": "odd",
        "source": "me",
        "message": "hi",
    }
    told = alerts.read(labels=labels, annotations={"description": "long", "summary": "short"}).fields
    assert (told["environment"], told["service"], told["status"], told["source"]) == (
        "prod",
        "pay",
        "firing",
        ["prometheus"],
    )
    assert (told["description"], told["message"]) == ("long", "hi")
    assert "environment" not in told["labels"]
    assert told["annotations"] == {"summary": "short"}


@pytest.mark.parametrize(
    ("label", "severity"),
    [
        ("critical", "critical"),
        ("error", "high"),
        ("high", "high"),
        ("warning", "warning"),
        ("medium", "warning"),
        ("info", "info"),
        ("low", "low"),
        ("page", "info"),
        ("", "info"),
    ],
)
def test_severities_of_prometheus_are_keeps(label: str, severity: str) -> None:
    """What Keep's Prometheus provider makes of a severity label is made of it here."""
    assert alerts.read(labels={"alertname": "A", "severity": label}).severity == severity


def test_without_a_fingerprint_the_name_is_what_makes_an_alert_itself() -> None:
    """As in Keep: a sender that gives none has one alert for each name."""
    named = hashlib.sha256(b"HighCPU").hexdigest()
    assert alerts.read(fingerprint=None).fingerprint == named
    assert alerts.keep(name="HighCPU").fingerprint == named
    assert alerts.keep(fingerprint="x" * 300).fingerprint == "x" * 255
    nameless = [alerts.read(fingerprint=None, labels={"instance": each}).fingerprint for each in ("a", "b", "a")]
    assert nameless[0] == nameless[2] != nameless[1]


@pytest.mark.parametrize(
    ("given", "severity"),
    [
        ("high", "high"),
        ("CRITICAL", "critical"),
        (1, "low"),
        (5, "critical"),
        (9, "info"),
        (None, "info"),
        (True, "info"),
        ("panic", "info"),
        ([], "info"),
    ],
)
def test_a_severity_that_is_unknown_is_info(given: object, severity: str) -> None:
    """An alert is not lost because of a word."""
    assert alerts.keep(severity=given).severity == severity


def test_a_status_that_is_unknown_is_firing() -> None:
    """As in Keep."""
    assert alerts.keep(status="resolved").status is Status.RESOLVED
    assert alerts.keep(status="broken").status is Status.FIRING
    assert alerts.keep(status=3).status is Status.FIRING


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, "2026-06-01T12:00:00.000Z"),
        ("2026-05-01T10:00:00+02:00", "2026-05-01T08:00:00.000Z"),
        ("2026-05-01T10:00:00", "2026-05-01T10:00:00.000Z"),
        ("2026-05-01T10:00:00.1234567Z", "2026-05-01T10:00:00.123Z"),
        (1_700_000_000, "2023-11-14T22:13:20.000Z"),
        ("1700000000.5", "2023-11-14T22:13:20.500Z"),
    ],
)
def test_times_are_told_in_one_way(given: object, told: str) -> None:
    """Workflows compare the time of an alert as text."""
    assert alerts.keep(lastReceived=given).fields["lastReceived"] == told


REFUSED: tuple[tuple[Any, str], ...] = (
    ("text", "event must be an object with at least a name"),
    ({}, "event.name is required: the name of the alert, as text"),
    ({"name": " "}, "event.name is required: the name of the alert, as text"),
    ({"name": "a", "labels": []}, "event.labels must be an object"),
    ({"name": "a", "fingerprint": 4}, "event.fingerprint must be text"),
    ({"name": "a", "source": [1]}, "event.source must be text, or a list of texts"),
    ({"name": "a", "lastReceived": "yesterday"}, "event.lastReceived must be a time such as 2026-01-31T12:00:00Z"),
    ({"name": "a", "lastReceived": 1e300}, "event.lastReceived must be a time such as 2026-01-31T12:00:00Z"),
    ({"name": "a", "lastReceived": "infinity"}, "event.lastReceived must be a time such as 2026-01-31T12:00:00Z"),
)


@pytest.mark.parametrize(("raw", "told"), REFUSED)
def test_what_is_no_alert_is_told_where(raw: Any, told: str) -> None:
    """Whoever sends it learns which field of which event is wrong."""
    with pytest.raises(EventInvalid) as caught:
        alert.read(raw, "event", alerts.NOW)
    assert str(caught.value).startswith(told)


def test_what_is_no_webhook_is_told_where() -> None:
    """The same for Alertmanager's."""
    for raw, told in (
        ({"alerts": {}}, "body must be a webhook of Alertmanager"),
        (alerts.webhook(version="3"), 'body.version must be "4"'),
    ):
        with pytest.raises(EventInvalid, match=told):
            alertmanager.alerts(raw, "body")
    for more, told in (
        (1, "must be an object"),
        (alerts.prometheus(labels={"a": 1}), "labels must be an object of texts"),
    ):
        with pytest.raises(EventInvalid, match=told):
            alertmanager.read(more, "body.alerts[0]", alerts.NOW)


def test_the_same_event_is_known_again() -> None:
    """Alertmanager repeats itself every few minutes; that is one event, and its end is another."""
    again = alertmanager.read(alerts.prometheus(), "event", alerts.NOW.replace(hour=18))
    assert again.digest == alerts.read().digest
    assert alerts.read(status="resolved").digest != again.digest
    assert alerts.read(annotations={"summary": "CPU above 95 %"}).digest != again.digest


def test_an_alert_remembers_since_when_it_fires() -> None:
    """`keep.get_firing_time` counts from the first event of this fire, not from the last one."""
    first = alerts.keep(lastReceived="2026-06-01T10:00:00Z").after(None)
    assert first.fields["firingStartTime"] == first.fields["startedAt"] == "2026-06-01T10:00:00.000Z"
    later = alerts.keep(lastReceived="2026-06-01T11:00:00Z", note="more").after(alerts.previous(first))
    assert later.fields["firingStartTime"] == "2026-06-01T10:00:00.000Z"
    over = alerts.keep(status="resolved").after(alerts.previous(later))
    assert over.fields["firingStartTime"] is None
    anew = alerts.keep(lastReceived="2026-06-01T13:00:00Z").after(alerts.previous(over))
    assert anew.fields["firingStartTime"] == "2026-06-01T13:00:00.000Z"
    assert anew.fields["startedAt"] == "2026-06-01T11:00:00.000Z"


def test_enrichments_are_seen_and_named() -> None:
    """What a workflow wrote with enrich_alert is there for the next one."""
    told = alerts.keep().enriched({"ticket": "OPS-1", "assignee": "ann"})
    assert (told["ticket"], told["assignee"], told["enriched_fields"]) == ("OPS-1", "ann", ["assignee", "ticket"])


def test_incidents_are_read() -> None:
    """What happened and to which one must be said."""
    found = incident.read({"event": "created", "incident": {"id": "i-1", "severity": "high"}}, "event")
    assert (found.id, found.event, found.fields["severity"]) == ("i-1", "created", "high")
    for raw, told in (
        ([], "event must be an object"),
        ({"event": "resolved", "incident": {"id": "i"}}, "event.event must be one of created, deleted, updated"),
        ({"event": "created", "incident": 3}, "event.incident must be an object"),
        ({"event": "created", "incident": {}}, "event.incident.id is required"),
        ({"event": ["created"], "incident": {}}, "event.event must be one of"),
    ):
        with pytest.raises(EventInvalid, match=told):
            incident.read(raw, "event")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(
    st.dictionaries(
        st.sampled_from([*alert.DEFAULTS, "name", "status", "severity", "source", "labels", "id"]) | st.text(), JSON
    )
)
def test_any_json_is_an_alert_or_told_why_not(raw: dict[str, Any]) -> None:
    """Nothing that can be posted is a bug of ours; what is taken has a known status and severity."""
    try:
        found = alert.read(content.clean(raw, "event"), "event", alerts.NOW)
    except EventInvalid:
        return
    assert found.fields["status"] in set(Status)
    assert found.fields["severity"] in set(Severity)
    assert found.fields["name"]
    assert 1 <= len(found.fingerprint) <= alert.FINGERPRINT_LIMIT


@given(st.dictionaries(st.sampled_from(["labels", "annotations", "status", "state", "fingerprint"]) | st.text(), JSON))
def test_any_json_is_an_alert_of_alertmanager_or_told_why_not(raw: dict[str, Any]) -> None:
    """The same for webhooks."""
    try:
        found = alertmanager.read(content.clean(raw, "event"), "event", alerts.NOW)
    except EventInvalid:
        return
    assert found.fields["source"] == ["prometheus"]


def test_what_cannot_be_stored_is_replaced_and_what_is_too_much_refused() -> None:
    """A NUL in a log line does not lose the alert; a body made to hurt is refused with its reason."""
    assert content.clean({"a\x00": ["\ud800x"]}, "event") == {"a\ufffd": ["\ufffdx"]}
    deep: Any = "x"
    for _ in range(content.MOST_DEPTH):
        deep = [deep]
    for raw, told in (
        (deep, "nested more than 32 levels"),
        ([0] * content.MOST_VALUES, "more than 2,000 values"),
        ("x" * (content.MOST_CHARACTERS + 1), "longer than 131,072 characters"),
        ({"a": float("inf")}, "a number that JSON does not have"),
    ):
        with pytest.raises(EventInvalid, match=told):
            content.clean(raw, "event")


def test_nobody_says_what_led_to_an_alert() -> None:
    """A sender, a label or an enrichment that names workflows is not believed; what is known of it makes no other event."""
    for found in (
        alert.read({"name": "a", "workflowChain": ["w1"]}, "body", alerts.NOW),
        alerts.read(labels={"alertname": "a", "workflowChain": "w1"}),
    ):
        assert found.chain == ()
        made = found.made_by(("w1", "w2"))
        assert (made.chain, made.digest) == (("w1", "w2"), found.digest)
        assert made.enriched({"workflowChain": [], "note": "x"})["workflowChain"] == ["w1", "w2"]


@pytest.mark.parametrize("said", [None, {}, {"workflowChain": "w1"}, {"workflowChain": [1, None]}])
def test_what_is_no_chain_is_none(said: dict[str, Any] | None) -> None:
    """An event of another version, or of an incident that has such a field, begins anew."""
    assert causes.of(said) == ()


def test_a_chain_has_each_workflow_once_and_an_end() -> None:
    """None of it is started again, nor anything behind the longest."""
    chain: tuple[str, ...] = ()
    for number in range(causes.LONGEST):
        assert causes.goes_on(chain, f"w{number}")
        chain = causes.behind(chain, f"w{number}")
        assert not causes.goes_on(chain, f"w{number}")
    assert not causes.goes_on(chain, "another")
    assert causes.behind(("a", "b"), "a") == ("b", "a")
