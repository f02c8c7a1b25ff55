"""The OpenAPI 3.1 document, made of the very description that requests are routed and checked by."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

import keep_operator
from keep_operator.console import problems
from keep_operator.console.described import JSON, Door, Endpoint, Json
from keep_operator.console.schemas import SCHEMAS, ref

VERSION: Final = "3.1.0"
# What any endpoint may answer, beside what it says itself.
_ALWAYS: Final = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.METHOD_NOT_ALLOWED,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
_AT_THE_DOOR: Final = {
    Door.USER: (
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.TOO_MANY_REQUESTS,
    ),
    Door.MACHINE: (HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS),
    Door.ANYBODY: (),
}
_WITH_BODY: Final = (
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
)
_SCHEMES: Final[Json] = {
    Door.USER: {
        "type": "http",
        "scheme": "bearer",
        "description": "A token of the cluster's: `kubectl create token`, or the one of a sign-in plugin.",
    },
    Door.MACHINE: {
        "type": "http",
        "scheme": "bearer",
        "description": "A token that the Tenant names in `spec.ingestTokens`.",
    },
}


def document(endpoints: Sequence[Endpoint], prefix: str) -> Json:
    """The document of these endpoints."""
    paths: dict[str, Json] = {}
    for each in endpoints:
        paths.setdefault(f"{prefix}{each.path}", {})[each.method.lower()] = _operation(each)
    return {
        "openapi": VERSION,
        "info": {
            "title": "keep-operator",
            "version": keep_operator.__version__,
            "description": "Workflows, their versions and their runs; and the door for events.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {str(door): scheme for door, scheme in _SCHEMES.items()},
            "responses": {
                "Problem": {
                    "description": "Something else than success: `detail` is for people, `reason` for programs.",
                    "content": {problems.MEDIA_TYPE: {"schema": ref("Problem")}},
                }
            },
        },
    }


def _operation(each: Endpoint) -> Json:
    told: Json = {
        "operationId": each.name,
        "summary": each.summary,
        "security": [] if each.door is Door.ANYBODY else [{str(each.door): []}],
        "responses": _responses(each),
    }
    parameters = [one.told("path") for one in each.in_path] + [one.told("query") for one in each.parameters]
    if parameters:
        told["parameters"] = parameters
    if each.body is not None:
        content: Json = {media: {"schema": schema} for media, schema in each.body.content.items()}
        content[next(iter(content))]["example"] = each.body.example
        told["requestBody"] = {"required": True, "description": each.body.description, "content": content}
    return told


def _responses(each: Endpoint) -> Json:
    told: Json = {
        str(int(answer.status)): {
            "description": answer.description,
            "content": {JSON: {"schema": ref(answer.schema)}},
        }
        for answer in each.answers
    }
    if each.method == "GET":
        told["304"] = {"description": "It is as the client has it (`If-None-Match`)."}
    failing = {*_ALWAYS, *_AT_THE_DOOR[each.door], *(_WITH_BODY if each.body is not None else ()), *each.problems}
    for status in sorted(failing):
        told[str(int(status))] = {"$ref": "#/components/responses/Problem"}
    return told
