"""The annotation `rollback-to` of a Workflow: the decision Rollback without an object of its own.

::

    keep-operator.dev/rollback-to: <number, tag or previous>@<token>
                                                               └── whoever wants the same again takes another one

Each value is judged once, whatever comes of it, and remembered for ever as a `requestId` is: it may stay where it is, in Git
too. Who wrote it nobody can prove.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from keep_operator.domain.decision import Handle
from keep_operator.domain.verdict import Handled, Situation, Verdict, judge
from keep_operator.resources import decision as reader
from keep_operator.resources.decision import WorkflowDecisionSpec
from keep_operator.resources.objects import ROLLBACK_TO, Object
from keep_operator.resources.shapes import Invalid

# As `status.hold` and the ledger name whoever has rolled back.
ACTOR: Final = f"annotation {ROLLBACK_TO}"
_REQUEST_LIMIT: Final = 128
_MALFORMED: Final = Verdict(
    "Refused", f"The annotation {ROLLBACK_TO} must be <number, tag or previous>@<token>, such as previous@1"
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the annotation says that the status does not know of yet; ``handled``: the database does."""

    value: str
    handled: Handled | None = None


def request_id(value: str) -> str:
    """The value as the database remembers it; a long or strange one by its hash."""
    told = f"{ROLLBACK_TO}: {value}"
    if len(told) <= _REQUEST_LIMIT and told.isprintable():
        return told
    return f"{ROLLBACK_TO}: sha256 {hashlib.sha256(value.encode(errors='replace')).hexdigest()}"


def handle(obj: Object[Any], met: Situation, asked: Asked, now: datetime) -> Handle:
    """What the annotation does, as a decision about the Workflow itself."""
    spec = _decision(obj.key.name, asked.value, _revision(asked.value))
    verdict = _MALFORMED
    if isinstance(spec, Invalid) or spec.revision is None:
        spec = _decision(obj.key.name, asked.value, None)
    else:
        verdict = judge(spec, met, now)
    assert not isinstance(spec, Invalid)
    return Handle(obj.key, obj.uid, met.lineage, spec, verdict, now)


def _revision(value: str) -> dict[str, Any] | None:
    which, _, token = value.partition("@")
    if not which or not token:
        return None
    if which == "previous":
        return {"previous": True}
    return {"number": int(which)} if which.isascii() and which.isdigit() else {"tag": which}


def _decision(workflow: str, value: str, revision: dict[str, Any] | None) -> WorkflowDecisionSpec | Invalid:
    return reader.parse_spec(
        {
            "workflowRef": {"name": workflow},
            "action": "Rollback",
            "actor": ACTOR,
            "reason": "".join(each if each.isprintable() else " " for each in value).strip() or "blank",
            "requestId": request_id(value),
            **({} if revision is None else {"revision": revision}),
        }
    )
