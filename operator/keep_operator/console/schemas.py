"""The shapes of bodies and answers, as JSON Schema; the document at `/api/v1/openapi.json` has them under these names."""

from typing import Any, Final

from keep_operator.domain.events.alert import FINGERPRINT_LIMIT, Severity, Status
from keep_operator.domain.execution import State, StepState
from keep_operator.domain.grammar.triggers import INCIDENT_EVENTS
from keep_operator.resources.shapes import DNS_LABEL, DNS_SUBDOMAIN

Json = dict[str, Any]

TEXT: Final[Json] = {"type": "string"}
WHOLE: Final[Json] = {"type": "integer"}
TRUTH: Final[Json] = {"type": "boolean"}
UUID: Final[Json] = {"type": "string", "format": "uuid"}
TIME: Final[Json] = {"type": "string", "format": "date-time"}
ANYTHING: Final[Json] = {}
FREE: Final[Json] = {"type": "object"}
HASH: Final[Json] = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
TRIGGERS: Final = ("Manual", "Alert", "Interval", "API", "Incident")
MODES: Final = ("Live", "DryRun")
# Events in one request at most.
MOST_EVENTS: Final = 1_000
# Characters of what makes a request for a run itself.
LONGEST_REQUEST_ID: Final = 128


def ref(name: str) -> Json:
    """Another schema."""
    return {"$ref": f"#/components/schemas/{name}"}


def maybe(schema: Json) -> Json:
    """The same, or null."""
    return {"anyOf": [schema, {"type": "null"}]} if "$ref" in schema else {**schema, "type": [schema["type"], "null"]}


def some(schema: Json, **more: Any) -> Json:
    """A list."""
    return {"type": "array", "items": schema, **more}


def one_of(values: Any) -> Json:
    """One of these words."""
    return {"type": "string", "enum": [str(each) for each in values]}


def whole(**fields: Json) -> Json:
    """An object with all of these fields and no others."""
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


def parts(required: tuple[str, ...], *, closed: bool = False, **fields: Json) -> Json:
    """An object that has the required ones of these fields; ``closed``: and no others."""
    told: Json = {"type": "object", "properties": fields, "required": list(required)}
    return {**told, "additionalProperties": False} if closed else told


def page(item: str, **more: Json) -> Json:
    """A page of these."""
    return whole(**more, items=some(ref(item)), after=maybe(TEXT))


_VERSION: Final = whole(name=TEXT, number=maybe(WHOLE), contentHash=HASH)
_REVISION: Final[dict[str, Json]] = {
    "number": WHOLE,
    "contentHash": HASH,
    "hashVersion": WHOLE,
    "createdAt": TIME,
    "createdFromGeneration": WHOLE,
    "parentNumber": maybe(WHOLE),
    "sameContentAs": maybe(WHOLE),
    "changeNote": maybe(TEXT),
    "diffSummary": maybe(TEXT),
    "author": maybe(whole(username=TEXT, source=TEXT)),
    "tags": some(TEXT),
    "valid": TRUTH,
    "flaw": maybe(whole(reason=TEXT, message=TEXT)),
    "rejected": maybe(TEXT),
    "denied": maybe(TEXT),
    "firstActiveAt": maybe(TIME),
    "lastActiveAt": maybe(TIME),
    "archivedAt": maybe(TIME),
}
_RUN: Final[dict[str, Json]] = {
    "id": UUID,
    "workflowId": UUID,
    "revision": WHOLE,
    "contentHash": HASH,
    "selection": one_of(("Pinned", "Active", "Canary")),
    "trigger": one_of(TRIGGERS),
    "mode": one_of(MODES),
    "state": one_of(State),
    "reason": maybe(TEXT),
    "message": maybe(TEXT),
    "requestedBy": TEXT,
    "fingerprint": maybe(TEXT),
    "tick": maybe(TIME),
    "retryOf": maybe(UUID),
    "tryNumber": WHOLE,
    "attempt": WHOLE,
    "maxAttempts": WHOLE,
    "cancelRequested": TRUTH,
    "queuedAt": TIME,
    "startedAt": maybe(TIME),
    "completedAt": maybe(TIME),
}
_STEP: Final = whole(
    name=TEXT,
    kind=one_of(("step", "action")),
    type=TEXT,
    position=WHOLE,
    iteration=maybe(WHOLE),
    tryNumber=WHOLE,
    attempt=WHOLE,
    state=one_of(StepState),
    sideEffects=TEXT,
    startedAt=TIME,
    completedAt=maybe(TIME),
    result=ANYTHING,
    resultTruncated=TRUTH,
    message=maybe(TEXT),
)
_TIMESTAMP: Final[Json] = {"anyOf": [TIME, {"type": "string"}, {"type": "number"}, {"type": "null"}]}

SCHEMAS: Final[dict[str, Json]] = {
    "Problem": whole(type=TEXT, title=TEXT, status=WHOLE, reason=TEXT, detail=TEXT),
    "Root": whole(user=TEXT, paths=some(TEXT)),
    "Document": parts(("openapi", "info", "paths"), openapi=TEXT),
    "Revision": whole(**_REVISION),
    "Revisions": page("Revision", workflowId=UUID),
    "RevisionWithDefinition": whole(workflowId=UUID, **_REVISION, definition=FREE),
    "Entry": whole(
        id=TEXT,
        at=TIME,
        tenant=TEXT,
        kind=TEXT,
        namespace=TEXT,
        name=TEXT,
        uid=TEXT,
        action=TEXT,
        actor=TEXT,
        details=FREE,
    ),
    "Deployment": whole(revision=WHOLE, fromRevision=maybe(WHOLE), reason=TEXT, message=TEXT, actor=TEXT, at=TIME),
    "History": whole(workflowId=UUID, items=some({"anyOf": [ref("Entry"), ref("Deployment")]}), after=maybe(TEXT)),
    "Ledger": page("Entry"),
    "Change": parts(
        ("group", "kind", "name", "moved"),
        group=one_of(("Steps", "Triggers", "Settings")),
        kind=TEXT,
        name=TEXT,
        moved=TRUTH,
        before=ANYTHING,
        after=ANYTHING,
        values=some(parts(("path",), path=TEXT)),
    ),
    "Hunk": whole(before=whole(start=WHOLE, length=WHOLE), after=whole(start=WHOLE, length=WHOLE), lines=some(TEXT)),
    "Difference": parts(
        ("workflowId", "before", "after", "identical", "summary", "changes", "hunks"),
        workflowId=UUID,
        before=_VERSION,
        after=_VERSION,
        identical=TRUTH,
        summary=TEXT,
        changes=some(ref("Change")),
        hunks=some(ref("Hunk")),
        faults=some(ref("Fault")),
        warnings=some(ref("Fault")),
    ),
    "Fault": whole(reason=TEXT, path=TEXT, line=maybe(WHOLE), message=TEXT),
    "Retention": whole(
        workflowId=UUID,
        policy=whole(revisionHistoryLimit=WHOLE, sinceCreateSeconds=WHOLE, sinceLastActiveSeconds=WHOLE, max=WHOLE),
        archive=some(WHOLE),
        kept=some(whole(number=WHOLE, why=TEXT, until=maybe(TIME))),
    ),
    "Run": whole(**_RUN),
    "Runs": page("Run", workflowId=UUID),
    "Step": _STEP,
    "LogLine": whole(at=TIME, level=TEXT, message=TEXT, step=maybe(WHOLE)),
    "RunInFull": whole(
        **_RUN,
        namespace=maybe(TEXT),
        workflow=TEXT,
        inputs=FREE,
        event=maybe(FREE),
        steps=some(ref("Step")),
        log=whole(items=some(ref("LogLine")), after=maybe(TEXT)),
    ),
    "RunRequest": parts(
        ("namespace", "workflow"),
        closed=True,
        namespace={"type": "string", "pattern": DNS_LABEL, "maxLength": 63},
        workflow={"type": "string", "pattern": DNS_SUBDOMAIN, "maxLength": 253},
        revision={
            "type": "object",
            "properties": {
                "number": {"type": "integer", "minimum": 1, "maximum": 2**31 - 1},
                "contentHash": HASH,
                "tag": {"type": "string", "minLength": 1, "maxLength": 63},
            },
            "additionalProperties": False,
            "minProperties": 1,
            "maxProperties": 1,
        },
        retryOf=UUID,
        inputs=FREE,
        mode=one_of(MODES),
        timeout={"type": "string", "maxLength": 16, "pattern": r"^([0-9]+(\.[0-9]+)?(ms|h|m|s))+$"},
        requestId={"type": "string", "minLength": 1, "maxLength": LONGEST_REQUEST_ID},
    ),
    "Alert": parts(
        ("name",),
        name={"type": "string", "minLength": 1},
        status=ANYTHING | {"description": f"One of {', '.join(Status)}; anything else is taken for firing."},
        severity=ANYTHING
        | {"description": f"One of {', '.join(Severity)}, or 5 to 1; anything else is taken for info."},
        fingerprint=maybe({"type": "string", "description": f"{FINGERPRINT_LIMIT} characters count."}),
        source={"anyOf": [TEXT, some(TEXT), {"type": "null"}]},
        labels=maybe(FREE),
        lastReceived=_TIMESTAMP,
    ),
    "AlertmanagerWebhook": parts(
        ("alerts",),
        version={"const": "4"},
        alerts=some(
            {
                "type": "object",
                "properties": {
                    "status": ANYTHING,
                    "labels": maybe({"type": "object", "additionalProperties": TEXT}),
                    "annotations": maybe({"type": "object", "additionalProperties": TEXT}),
                    "fingerprint": maybe(TEXT),
                },
            },
            maxItems=MOST_EVENTS,
        ),
    ),
    "IncidentEvent": parts(
        ("event", "incident"),
        event=one_of(sorted(INCIDENT_EVENTS)),
        incident=parts(("id",), id={"type": "string", "minLength": 1, "maxLength": 128}),
    ),
    "Event": {"anyOf": [ref("AlertmanagerWebhook"), ref("IncidentEvent"), ref("Alert")]},
    "Events": {"anyOf": [ref("Event"), some(ref("Event"), maxItems=MOST_EVENTS)]},
    "Taken": whole(
        tenant=TEXT,
        events=some(
            whole(
                kind=one_of(("alert", "incident")),
                id=TEXT,
                name=maybe(TEXT),
                outcome=one_of(("accepted", "duplicate")),
                runs=some(
                    whole(namespace=TEXT, workflow=TEXT, id=UUID, revision=WHOLE, contentHash=HASH, trigger=TEXT)
                ),
                refused=some(whole(namespace=TEXT, workflow=TEXT, reason=TEXT, message=TEXT)),
                failed=some(whole(namespace=TEXT, workflow=TEXT, revision=WHOLE, message=TEXT)),
            )
        ),
    ),
}
