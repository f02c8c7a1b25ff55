"""Alerts for tests."""

from datetime import UTC, datetime
from typing import Any

from keep_operator.domain.events import alert, alertmanager
from keep_operator.domain.events.alert import Alert, Previous

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


def keep(**fields: Any) -> Alert:
    """An alert in Keep's own format."""
    return alert.read({"name": "CPU is high", **fields}, "event", NOW)


def webhook(*alerts: dict[str, Any], **group: Any) -> dict[str, Any]:
    """A webhook as Alertmanager posts it."""
    return {
        "version": "4",
        "groupKey": '{}:{alertname="HighCPU"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "keep",
        "groupLabels": {"alertname": "HighCPU"},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager:9093",
        "alerts": list(alerts) or [prometheus()],
        **group,
    }


def prometheus(**more: Any) -> dict[str, Any]:
    """One alert of such a webhook."""
    labels = {"alertname": "HighCPU", "severity": "critical", "instance": "web-1", "Team": "payments"}
    return {
        "status": "firing",
        "labels": labels,
        "annotations": {"summary": "CPU above 90 %", "runbook_url": "https://runbooks.example.com/cpu"},
        "startsAt": "2026-06-01T11:59:00Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus/graph",
        "fingerprint": "f0b2c3d4e5a69788",
        **more,
    }


def read(**more: Any) -> Alert:
    """That alert, read."""
    return alertmanager.read(prometheus(**more), "event.alerts[0]", NOW)


def previous(of: Alert, **enrichments: Any) -> Previous:
    """What is known after this event."""
    return Previous(of.fields, str(of.status), str(of.severity), of.digest, "2026-06-01T11:00:00.000Z", enrichments)
