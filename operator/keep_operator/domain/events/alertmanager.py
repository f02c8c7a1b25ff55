"""The webhook of Prometheus Alertmanager, version 4: each alert of a group becomes an alert as Keep makes one of it."""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from keep_operator.domain import conditions
from keep_operator.domain.events.alert import DEFAULTS, Alert, Severity, made
from keep_operator.domain.events.content import EventInvalid, Json

SOURCE: Final = "prometheus"
_SEVERITIES: Final[Mapping[str, Severity]] = {
    "critical": Severity.CRITICAL,
    "error": Severity.HIGH,
    "high": Severity.HIGH,
    "warning": Severity.WARNING,
    "medium": Severity.WARNING,
    "info": Severity.INFO,
    "low": Severity.LOW,
}
# Templates may name them, whether the alert has such a label or not.
_ALWAYS_THERE: Final = ("value", "instance", "job")


def is_one(raw: object) -> bool:
    """Whether a body looks like a webhook of Alertmanager."""
    return isinstance(raw, dict) and isinstance(raw.get("alerts"), list)


def alerts(raw: object, path: str) -> list[tuple[str, object]]:
    """The alerts of a webhook, each with its path. Raises EventInvalid."""
    if not isinstance(raw, dict) or not isinstance(raw.get("alerts"), list):
        raise EventInvalid(path, "must be a webhook of Alertmanager: an object with a list of alerts")
    version = raw.get("version", "4")
    if version != "4":
        raise EventInvalid(f"{path}.version", 'must be "4", the only version that is known')
    return [(f"{path}.alerts[{index}]", each) for index, each in enumerate(raw["alerts"])]


def read(raw: object, path: str, now: datetime) -> Alert:
    """One alert of a webhook. Raises EventInvalid.

    Its fingerprint is Alertmanager's own, which is made of the labels. Labels can be read as fields of the alert too, where
    it has no other field of that name.
    """
    if not isinstance(raw, dict):
        raise EventInvalid(path, "must be an object")
    labels, annotations = (_texts(raw, key, path) for key in ("labels", "annotations"))
    given = raw.get("fingerprint")
    if given is not None and not isinstance(given, str):
        raise EventInvalid(f"{path}.fingerprint", "must be text")
    name = labels.get("alertname") or "unknown"
    description = annotations.pop("description", None) or annotations.get("summary") or name
    rest = {
        key: value
        for key, value in raw.items()
        if key not in ("labels", "annotations", "status", "state", "fingerprint", "id", "name")
    }
    environment = labels.pop("environment", "unknown")
    fields: Json = {
        **DEFAULTS,
        "providerType": SOURCE,
        **rest,
        "id": name,
        "name": name,
        "description": description,
        "service": labels.get("service", annotations.get("service")),
        "environment": environment,
        "lastReceived": conditions.to_milliseconds(now),
        "source": [SOURCE],
        "labels": labels,
        "annotations": annotations,
        "payload": rest,
    }
    reserved = {*fields, "fingerprint", "status", "severity"}
    for label, value in labels.items():
        if label not in reserved or fields.get(label, value) is None:
            fields[label] = value
    for each in _ALWAYS_THERE:
        fields.setdefault(each, "")
    return made(
        fields,
        fingerprint=given or _fingerprint(labels, environment),
        status=raw.get("state") or raw.get("status"),
        severity=_SEVERITIES.get(labels.get("severity", ""), Severity.INFO),
    )


def _fingerprint(labels: Mapping[str, str], environment: str) -> str | None:
    """What makes an alert itself where the sender does not say it: its labels. None without a name: Keep's rule holds."""
    if "alertname" in labels:
        return None
    told = json.dumps({**labels, "environment": environment}, sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


def _texts(raw: Mapping[str, Any], key: str, path: str) -> dict[str, str]:
    """Labels or annotations, their names in lower case."""
    given = raw.get(key)
    if given is None:
        return {}
    if not isinstance(given, dict) or not all(isinstance(each, str) for each in given.values()):
        raise EventInvalid(f"{path}.{key}", "must be an object of texts")
    return {name.lower(): value for name, value in given.items()}
