"""The WorkflowRevision's spec and status: a record that nobody changes, and verdicts that nobody takes back."""

import json
from typing import Any

import pytest

from keep_operator.resources import revision
from keep_operator.resources.revision import WorkflowRevisionSpec, WorkflowRevisionStatus
from keep_operator.resources.rules import Reported
from keep_operator.resources.shapes import Invalid

pytestmark = pytest.mark.unit

HASH = "0123456789abcdef" * 4
RECORD: dict[str, Any] = {
    "workflowRef": {"name": "high-cpu"},
    "lineageId": "0b8d6c1e-54c0-4f0e-8b2f-3a9d0a4a7e55",
    "number": 2,
    "contentHash": HASH,
    "hashVersion": 1,
    "definition": {"triggers": [{"type": "interval", "value": "5m"}], "consts": {"limit": 1}},
    "createdFromGeneration": 4,
}
OPTIONAL: dict[str, Any] = {
    "changeNote": "Limit lowered",
    "author": {"username": "ann@example.com", "source": "Annotation"},
    "parentNumber": 1,
}


def parsed(**raw: Any) -> WorkflowRevisionSpec:
    """A record that is well-formed."""
    spec = revision.parse_spec(RECORD | raw)
    assert isinstance(spec, WorkflowRevisionSpec), spec
    return spec


def status(**conditions: str) -> WorkflowRevisionStatus:
    """A status with these conditions."""
    told = {"reason": "X", "message": "", "lastTransitionTime": "2026-11-25T07:00:00Z"}
    read = revision.parse_status(
        {"conditions": [{"type": kind, "status": is_, **told} for kind, is_ in conditions.items()]}
    )
    assert isinstance(read, WorkflowRevisionStatus), read
    return read


def changes(old: WorkflowRevisionSpec, new: WorkflowRevisionSpec, *states: WorkflowRevisionStatus | None) -> list[str]:
    """The fields that are blamed for a change; ``states`` are the earlier and the later status."""
    before, after = states or (None, None)
    return [violation.path for violation in revision.forbidden_changes(Reported(old, before), Reported(new, after))]


def test_a_record_is_understood() -> None:
    """What the operator writes it can read, with and without what is optional."""
    assert (parsed().author, parsed().parent_number, parsed().change_note) == (None, None, None)
    spec = parsed(**OPTIONAL)
    assert spec.author is not None
    assert (spec.author.username, spec.number, spec.parent_number) == ("ann@example.com", 2, 1)
    assert spec.definition == RECORD["definition"]
    assert revision.violations(spec, "high-cpu-v2-01234567") == ()


@pytest.mark.parametrize("field", RECORD)
def test_a_record_is_complete(field: str) -> None:
    """No version lacks what a later one is compared with."""
    told = str(revision.parse_spec({key: value for key, value in RECORD.items() if key != field}))
    assert told == f"spec.{field}: is required"


@pytest.mark.parametrize(
    "bad",
    [
        {"number": 0},
        {"number": 1.0},
        {"contentHash": HASH.upper()},
        {"contentHash": HASH + "\n"},
        {"contentHash": HASH[1:]},
        {"hashVersion": 0},
        {"definition": []},
        {"author": {"username": "ann"}},
        {"author": {"username": "ann", "source": "my guess"}},
        {"labels": {}},
    ],
)
def test_a_record_that_nobody_made_is_refused(bad: dict[str, Any]) -> None:
    """A version made by hand does not pass for one of ours by accident."""
    assert isinstance(revision.parse_spec(RECORD | bad), Invalid)


@pytest.mark.parametrize("field", [*RECORD, *OPTIONAL])
def test_nothing_of_a_record_changes(field: str) -> None:
    """A version stays what it was when it was approved, wherever somebody writes."""
    full = parsed(**OPTIONAL)
    other: dict[str, Any] = {
        "workflowRef": {"name": "other"},
        "author": {"username": "bob", "source": "Annotation"},
        "definition": {},
        "contentHash": HASH[::-1],
        "lineageId": "x",
        "changeNote": "",
    }
    new = parsed(**(OPTIONAL | {field: other.get(field, 7)}))
    assert changes(full, new) == ["spec"]
    assert changes(full, full) == []


@pytest.mark.parametrize(
    "definition",
    [
        '{"consts":{"limit":1},"triggers":[{"type":"interval","value":"6m"}]}',
        '{"consts":{"limit":true},"triggers":[{"type":"interval","value":"5m"}]}',
        '{"consts":{"limit":1.0},"triggers":[{"type":"interval","value":"5m"}]}',
        '{"consts":{"limit":1,"more":null},"triggers":[{"type":"interval","value":"5m"}]}',
        '{"consts":{"limit":1},"trigger":[{"type":"interval","value":"5m"}]}',
    ],
)
def test_a_definition_is_compared_to_the_letter(definition: str) -> None:
    """What Python takes for equal is no excuse: `1` is not `true`."""
    assert changes(parsed(), parsed(definition=json.loads(definition))) == ["spec"]


def test_the_order_of_keys_is_no_change() -> None:
    """A version that went through a backup is the same version."""
    definition = dict(reversed(RECORD["definition"].items()))
    assert changes(parsed(), parsed(definition=definition)) == []


def test_a_verdict_stays() -> None:
    """Nobody who may write a status takes an approval back or makes a denial forgotten."""
    spec = parsed()
    approved, denied = status(Approved="True"), status(Denied="True")
    assert changes(spec, spec, None, approved) == []
    assert changes(spec, spec, approved, status(Approved="True", Active="True")) == []
    for later in (None, status(), status(Approved="Unknown"), status(Approved="False"), denied):
        assert changes(spec, spec, approved, later) == ["status"]
    for later in (None, status(), approved):
        assert changes(spec, spec, denied, later) == ["status"]


def test_a_version_is_not_both_approved_and_denied() -> None:
    """Whoever asks whether it may run gets one answer."""
    assert revision.status_violations(status(Approved="True", Denied="False")) == ()
    told = revision.status_violations(status(Approved="True", Denied="True"))
    assert [str(each) for each in told] == ["status.conditions: a version cannot be both Approved and Denied"]


def test_a_status_of_a_newer_version_is_read() -> None:
    """An operator that was downgraded reads what it knows."""
    assert isinstance(
        revision.parse_status({"novel": 1, "runs": {"total": 1, "failed": 0, "novel": 2}}), WorkflowRevisionStatus
    )
