"""What a request asks for: its parameters, its body, and how people name a version."""

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, NoReturn
from uuid import UUID

from starlette.requests import ClientDisconnect, Request

from keep_operator.console import problems
from keep_operator.console.described import JSON, Given, Parameter, refuse
from keep_operator.console.problems import Problem
from keep_operator.domain import history
from keep_operator.domain.grammar import dialect, workflow
from keep_operator.domain.grammar.faults import Reason
from keep_operator.domain.grammar.workflow import Judgement
from keep_operator.domain.history import Lineage, Reference, Refusal, Revision
from keep_operator.resources.kinds import WORKFLOWS
from keep_operator.resources.shapes import DNS_LABEL, DNS_SUBDOMAIN
from keep_operator.store import ledger
from keep_operator.store.history import LIMIT

# Bytes. A definition may have 200 KiB as compact JSON; indented, or as YAML with comments, it is longer.
LARGEST_BODY: Final = 1024 * 1024
# Seconds for a body to arrive, and how many of one user, or of all who are nobody yet, may be arriving: each takes the place of
# another request meanwhile.
PATIENCE_S: Final = 10.0
ARRIVING: Final = 32
# Lines around each difference at most: more than a definition has.
MOST_CONTEXT: Final = 10_000
_REFERENCE: Final = re.compile(r"[A-Za-z0-9:._-]{1,72}")
_HASH: Final = re.compile(r"[0-9a-f]{8,64}")
_NUMBER: Final = re.compile(r"v?([1-9][0-9]{0,8})")
YAML: Final = ("application/yaml", "application/x-yaml", "text/yaml", "text/plain")
_MANIFEST: Final = WORKFLOWS.kind


@dataclass(frozen=True, slots=True)
class Place:
    """Which workflow is meant. ``id`` asks for a line of versions whose object is gone."""

    namespace: str
    name: str
    id: UUID | None = None

    def __str__(self) -> str:
        return f"Workflow {self.namespace}/{self.name}"


NAMESPACE: Final = Parameter(
    "namespace", "the name of a namespace", "The namespace of the Workflow.", DNS_LABEL[1:-1], 63, required=True
)
WORKFLOW: Final = Parameter(
    "workflow", "the name of a Workflow", "The name of the Workflow.", DNS_SUBDOMAIN[1:-1], 253, required=True
)
WORKFLOW_ID: Final = Parameter(
    "workflowId",
    "the `status.workflowId` of a Workflow, a UUID",
    "The former `status.workflowId` of a Workflow that was deleted and made again: its line of versions.",
    format="uuid",
)
PLACE: Final = (NAMESPACE, WORKFLOW, WORKFLOW_ID)
TENANT: Final = Parameter("tenant", "the id of a tenant", "The id of the tenant.", DNS_LABEL[1:-1], 63, required=True)
LIMIT_OF_PAGE: Final = Parameter(
    "limit",
    f"a whole number from 1 to {LIMIT}",
    "How many items the page has at most.",
    lowest=1,
    highest=LIMIT,
    default=ledger.PAGE,
)
AFTER: Final = Parameter("after", "the `after` of an earlier page", "Ask for the page behind the one that gave this.")
PAGED: Final = (AFTER, LIMIT_OF_PAGE)
CONTEXT: Final = Parameter(
    "context",
    f"a whole number from 0 to {MOST_CONTEXT}",
    "Lines around each difference.",
    highest=MOST_CONTEXT,
    default=3,
)


def version(name: str, description: str, *, required: bool = False) -> Parameter:
    """A parameter that names a version."""
    return Parameter(
        name,
        "the name of a version: a number (3, v3), a tag (or tag:TAG), the beginning of a hash (8 digits or more), active, "
        "desired, latest or previous",
        description,
        _REFERENCE.pattern,
        72,
        required=required,
    )


def place(asked: Given) -> Place:
    """The workflow that is asked about."""
    lineage_id = asked.text("workflowId") if asked.has("workflowId") else None
    return Place(asked.must("namespace"), asked.must("workflow"), None if lineage_id is None else UUID(lineage_id))


def resolved(lineage: Lineage, text: str, workflow_name: object) -> Revision:
    """The version that is meant, archived ones too. Raises Problem 404.

    A number goes before a tag, a tag before a hash, as in `kubectl keep`.
    """
    latest = lineage.latest
    match text:
        case "active":
            found = lineage.active
        case "desired" | "latest":
            found = latest
        case "previous":
            found = _found(history.resolve(lineage, Reference(previous=True)))
        case _:
            found = _named(lineage, text)
    if found is not None:
        return found
    there = "it has none yet" if latest is None else f"it has v1 to v{latest.number}"
    if text == "active" and latest is not None:
        there = "none of its versions is active"
    raise problems.missing("RevisionNotFound", f'{workflow_name} has no version "{text}": {there}.')


def _named(lineage: Lineage, text: str) -> Revision | None:
    tag = text.removeprefix("tag:")
    if tag == text and (number := _NUMBER.fullmatch(text)) and (found := lineage.get(int(number[1]))):
        return found
    if tagged := _found(history.resolve(lineage, Reference(tag=tag))):
        return tagged
    if not _HASH.fullmatch(text):
        return None
    hashes = {each.content_hash for each in lineage.revisions if each.content_hash.startswith(text)}
    if len(hashes) > 1:
        refuse(f'"{text}" is the beginning of {len(hashes)} hashes; give more digits.')
    return _found(history.resolve(lineage, Reference(content_hash=hashes.pop()))) if hashes else None


def _found(answer: Revision | Refusal) -> Revision | None:
    return answer if isinstance(answer, Revision) else None


@dataclass(frozen=True, slots=True)
class Draft:
    """A body as it arrived; reading it takes a moment, and is for a thread."""

    text: str
    is_json: bool

    def judged(self) -> Judgement:
        """The definition in it, with all that is wrong with it: of a manifest, or of one of Keep's files.

        Raises Problem 400 where there is none, or one that can be no version because of its size.
        """
        found = _judged_json(self.text) if self.is_json else _judged_yaml(self.text)
        too_large = any(fault.reason is Reason.TOO_LARGE for fault in found.faults)
        if found.definition is None or too_large:
            raise problems.bad("DraftInvalid", f"The draft cannot be compared: {found}")
        return found


async def draft(request: Request) -> Draft:
    """The body of a request. Raises Problem: 400, 408, 413, 415."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and media_type not in YAML:
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "BodyInvalid",
            "Send the draft as application/json or application/yaml, and say which in the header Content-Type.",
        )
    try:
        hint = f"; a definition may have {workflow.MAX_BYTES // 1024} KiB"
        text = (await body(request, "The draft", hint)).decode()
    except UnicodeDecodeError:
        raise problems.bad("BodyInvalid", "The draft is no UTF-8.") from None
    return Draft(text, media_type == "application/json")


async def body(request: Request, what: str, hint: str = "") -> bytes:
    """The whole body, which is ``what``. Not more of it is read than is taken. Raises Problem: 400, 408, 413, 429."""
    user, arriving = request.state.told.get("user", ""), request.state.arriving
    if arriving[user] >= ARRIVING:
        raise problems.too_many("Too many bodies are on their way", 1.0, {"Connection": "close"})
    arriving[user] += 1
    try:
        return await _body(request, what, hint)
    finally:
        arriving[user] -= 1
        if not arriving[user]:
            del arriving[user]


async def _body(request: Request, what: str, hint: str) -> bytes:
    told = request.headers.get("content-length", "0")
    if told.isdigit() and (len(told) > 19 or int(told) > LARGEST_BODY):
        raise _too_large(what, hint)
    pieces = bytearray()
    try:
        async with asyncio.timeout(PATIENCE_S):
            async for piece in request.stream():
                pieces += piece
                if len(pieces) > LARGEST_BODY:
                    raise _too_large(what, hint)
    except TimeoutError:
        raise Problem(HTTPStatus.REQUEST_TIMEOUT, "BodyInvalid", f"{what} did not arrive in time.") from None
    except ClientDisconnect:
        raise problems.bad("BodyInvalid", f"{what} did not arrive.") from None
    return bytes(pieces)


async def document(request: Request, what: str) -> Any:
    """The body as JSON. Raises Problem: 400, 408, 413, 415."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != JSON:
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "BodyInvalid",
            f"Send {what[0].lower()}{what[1:]} as {JSON}, and say so in the header Content-Type.",
        )
    raw = await body(request, what)
    try:
        return await asyncio.to_thread(_json, raw.decode(), what)
    except UnicodeDecodeError:
        raise problems.bad("BodyInvalid", f"{what} is no UTF-8.") from None


def _too_large(what: str, hint: str) -> Problem:
    detail = f"{what} is longer than {LARGEST_BODY // 1024} KiB{hint}."
    # What is left of the body is not read, so the connection can serve no other request.
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "BodyTooLarge", detail, {"Connection": "close"})


def _json(text: str, what: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_distinct, parse_constant=_not_json)
    except RecursionError:
        raise problems.bad("BodyInvalid", f"{what} is nested too deep.") from None
    except ValueError as error:
        where = (
            f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else f": {error}"
        )
        raise problems.bad("BodyInvalid", f"{what} is no JSON{where}.") from None


def _judged_json(text: str) -> Judgement:
    document = _json(text, "The draft")
    if (definition := _of_manifest(document)) is not None:
        return workflow.judge(definition)
    inner, _, found = workflow.unwrap(document)
    return Judgement(None, None, tuple(found.faults), ()) if inner is None else workflow.judge(inner)


def _judged_yaml(text: str) -> Judgement:
    try:
        document = dialect.load(text).value
    except dialect.Malformed as error:
        return Judgement(None, None, error.faults, ())
    if (definition := _of_manifest(document)) is not None:
        return workflow.judge(definition)
    return workflow.read(text)


def _of_manifest(document: object) -> Mapping[str, Any] | None:
    """The definition in a Workflow's manifest; None: it is none. Raises Problem 400 for one without."""
    if not isinstance(document, dict) or document.get("kind") != _MANIFEST:
        return None
    spec = document.get("spec")
    definition = spec.get("definition") if isinstance(spec, dict) else None
    if not isinstance(definition, dict):
        raise problems.bad("DraftInvalid", "The draft is a Workflow without a definition of its own: send that itself.")
    return definition


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key stands twice in an object")
    return made


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")
