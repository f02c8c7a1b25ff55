"""What an endpoint is: its path, who may come in, what it takes and gives. The router, the check of parameters and the OpenAPI
document are made of this one description, so that none of them can say something else."""

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from http import HTTPStatus
from typing import Any, NoReturn
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from keep_operator.console import problems

Json = dict[str, Any]


class Door(StrEnum):
    """Who is let in."""

    USER = "user"
    MACHINE = "machine"
    ANYBODY = "anybody"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of the query, or of the path; ``what`` ends the sentence "The parameter … must be".

    ``pattern`` must match the whole text. ``highest`` makes it a whole number.
    """

    name: str
    what: str
    description: str
    pattern: str = ""
    longest: int = 1_024
    lowest: int = 0
    highest: int | None = None
    default: int | None = None
    values: tuple[str, ...] = ()
    format: str = ""
    required: bool = False

    def check(self, text: str) -> None:
        """Raises Problem 400 where the text cannot be that."""
        if self.highest is not None:
            fits = re.fullmatch("[0-9]{1,9}", text) is not None and self.lowest <= int(text) <= self.highest
        elif self.values:
            fits = text in self.values
        elif self.format == "uuid":
            fits = _is_uuid(text)
        elif self.format == "date-time":
            fits = moment(text) is not None
        else:
            fits = len(text) <= self.longest and (not self.pattern or re.fullmatch(self.pattern, text) is not None)
        if not fits:
            refuse(f"The parameter {self.name} must be {self.what}.")

    def schema(self) -> Json:
        """The same as JSON Schema."""
        if self.highest is not None:
            number: Json = {"type": "integer", "minimum": self.lowest, "maximum": self.highest}
            return number if self.default is None else {**number, "default": self.default}
        if self.values:
            return {"type": "string", "enum": list(self.values)}
        told: Json = {"type": "string", **({"format": self.format} if self.format else {"maxLength": self.longest})}
        return {**told, "pattern": f"^{self.pattern}$"} if self.pattern else told

    def told(self, place: str) -> Json:
        """As OpenAPI has it."""
        return {
            "name": self.name,
            "in": place,
            "required": self.required or place == "path",
            "description": self.description,
            "schema": self.schema(),
        }


@dataclass(frozen=True, slots=True)
class Body:
    """What is sent: by media type its schema; ``example`` is of the first."""

    content: Mapping[str, Json]
    description: str
    example: Any


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered; ``schema`` names one of `schemas`."""

    status: HTTPStatus
    schema: str
    description: str


@dataclass(frozen=True)
class Endpoint:
    """One method of one path. ``problems`` are those beside the ones that each endpoint has."""

    method: str
    path: str
    serve: Callable[[Any, Request], Awaitable[Response]] = field(compare=False)
    summary: str
    answers: tuple[Answer, ...]
    door: Door = Door.USER
    in_path: tuple[Parameter, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    body: Body | None = None
    problems: tuple[HTTPStatus, ...] = ()

    @property
    def name(self) -> str:
        """An id for programs that are made from the document."""
        words = re.findall(r"\w+", self.path) or ["root"]
        return self.method.lower() + "".join(word.capitalize() for word in words)


class Given:
    """The query of a request; each parameter is given once, and is one that the endpoint has. Raises Problem 400."""

    def __init__(self, request: Request, endpoint: Endpoint) -> None:
        known = {each.name: each for each in endpoint.parameters}
        given = request.query_params.multi_items()
        self._given = dict(given)
        self._known = known
        unknown = sorted(self._given.keys() - known.keys())
        if unknown:
            there = f"there are {', '.join(sorted(known))}" if known else "there is none"
            refuse(f"There is no parameter {shown(unknown[0])} here; {there}.")
        if len(given) > len(self._given):
            refuse("A parameter is given more than once.")
        for name, each in known.items():
            text = self._given.get(name)
            if text is not None and (text or not each.required):
                each.check(text)
            elif each.required:
                refuse(f"The parameter {name} is missing.")

    def text(self, name: str) -> str | None:
        """The parameter as it was given."""
        assert name in self._known, name
        return self._given.get(name)

    def has(self, name: str) -> bool:
        """Whether the endpoint has such a parameter."""
        return name in self._known

    def must(self, name: str) -> str:
        """The same of a required one."""
        assert self._known[name].required, name
        return self._given[name]

    def number(self, name: str) -> int:
        """A whole number, or its default."""
        text, default = self._given.get(name), self._known[name].default
        assert default is not None, name
        return default if text is None else int(text)

    def moment(self, name: str) -> datetime | None:
        """A time in UTC."""
        text = self.text(name)
        return None if text is None else moment(text)


def moment(text: str) -> datetime | None:
    """A time with its offset from UTC, as RFC 3339 has it; None: it is none."""
    if len(text) > 40 or "T" not in text.upper():
        return None
    try:
        # A plus that was not encoded is a space.
        at = datetime.fromisoformat(text.replace(" ", "+"))
        return at.astimezone(UTC) if at.tzinfo else None
    except (ValueError, OverflowError):
        return None


def refuse(detail: str) -> NoReturn:
    """Raises Problem 400."""
    raise problems.bad("ParameterInvalid", detail)


def shown(text: str) -> str:
    """A name that somebody has made up, harmless and short."""
    return json.dumps(text[:40])


def _is_uuid(text: str) -> bool:
    try:
        return len(text) <= 45 and bool(UUID(text))
    except ValueError:
        return False


JSON = "application/json"
