"""How things are told in JSON, and how an answer is made of it: keys as in the objects, null for what there is not."""

import hashlib
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from keep_operator.domain import conditions
from keep_operator.domain.history import Deployment, Revision
from keep_operator.store.history import Page

Json = dict[str, Any]
Item = TypeVar("Item")

# What is answered depends on who asks, and may be asked again with its ETag.
_NOSNIFF = {"X-Content-Type-Options": "nosniff"}
_HEADERS = {"Cache-Control": "private, no-cache", "Vary": "Authorization", **_NOSNIFF}


def answer(request: Request, value: Json, etag: str | None = None) -> Response:
    """The answer; 304 where the client has it already. ``etag``: made of what the value was made from."""
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    if request.method == "POST":
        return Response(body, headers={"Cache-Control": "no-store", **_NOSNIFF}, media_type="application/json")
    tag = etag or tag_of(body)
    if known(request, tag):
        return not_modified(tag)
    return Response(body, headers={**_HEADERS, "ETag": tag}, media_type="application/json")


def tag_of(*parts: object) -> str:
    """An ETag for what these parts determine."""
    return f'"{hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()[:32]}"'


def known(request: Request, tag: str) -> bool:
    """Whether the client says that it has this already."""
    told = request.headers.get("if-none-match", "")
    return tag in (each.strip().removeprefix("W/") for each in told.split(","))


def not_modified(tag: str) -> Response:
    """304."""
    return Response(status_code=304, headers={**_HEADERS, "ETag": tag})


def page(found: Page[Item], tell: Callable[[Item], Json]) -> Json:
    """Some items, and what to ask with for those behind them."""
    return {"items": [tell(each) for each in found.items], "after": found.after}


def revision(each: Revision) -> Json:
    """A version without its definition."""
    return {
        "number": each.number,
        "contentHash": each.content_hash,
        "hashVersion": each.hash_version,
        "createdAt": moment(each.created_at),
        "createdFromGeneration": each.created_from_generation,
        "parentNumber": each.parent_number,
        "sameContentAs": each.same_content_as,
        "changeNote": each.change_note,
        "diffSummary": each.diff_summary,
        "author": None if each.author is None else {"username": each.author.username, "source": each.author.source},
        "tags": list(each.tags),
        "valid": each.valid,
        "flaw": None if each.flaw is None else {"reason": each.flaw.reason, "message": each.flaw.message},
        "rejected": each.rejected,
        "denied": each.denied,
        "firstActiveAt": moment(each.first_active_at),
        "lastActiveAt": moment(each.last_active_at),
        "archivedAt": moment(each.archived_at),
    }


def deployment(each: Deployment) -> Json:
    """One time that a version became active."""
    return {
        "revision": each.revision,
        "fromRevision": each.from_revision,
        "reason": str(each.cause),
        "message": each.reason,
        "actor": each.actor,
        "at": moment(each.at),
    }


def moment(at: datetime | None) -> str | None:
    """A time as in objects, to the millisecond."""
    return None if at is None else conditions.to_milliseconds(at)
