"""What the models of all kinds share: the strict shape, field types with their limits, conditions, parsing.

The limits stand here once and go both ways: pydantic checks them in the operator, the generated CRD makes the API
server check them (``schema.py``). A bare default of a scalar is the CRD's default too.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

M = TypeVar("M", bound="Shape")
V = TypeVar("V")

# RFC 1123: the names of namespaces, and what Keep's lower-cased secret names leave distinct.
DNS_LABEL: Final = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
# RFC 1123: the names of most Kubernetes objects.
DNS_SUBDOMAIN: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
# A label's name with its optional prefix, as the API server checks it.
LABEL_KEY: Final = (
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
    r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
)
LABEL_VALUE: Final = r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$"
# Control characters make log lines and terminals lie, and PostgreSQL stores no NUL at all.
NO_CONTROL_CHARACTERS: Final = r"^[^\x00-\x1f\x7f]*$"
# The same for texts of several lines.
LINES: Final = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$"
# What Go's time.ParseDuration reads, without signs, and with no other spelling of the micro sign than "u".
DURATION: Final = r"^([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+$"
DURATION_LIMIT: Final = 16
# An echoed reconcile-requested-at is cut to this many characters: annotations may be 256 KiB long.
TOKEN_LIMIT: Final = 1024

_DURATION_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|ms|s|m|h)")
_NANOSECONDS: Final = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
# Go keeps durations as int64 nanoseconds (292 years), and so does CEL in the API server.
_MAX_NANOSECONDS: Final = 2**63 - 1
# A path may hold keys that a user chose, and free values may be nested without end: both are cut in messages.
_PATH_PART_LIMIT: Final = 63
_PATH_LIMIT: Final = 12
_FREE_VALUE_FAULTS: Final = frozenset({"recursion_depth_exceeded", "invalid-json-value"})


class Shape(BaseModel):
    """A part of a spec: immutable, nothing coerced, nothing unknown, snake_case here and camelCase in the API."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=True,
        extra="forbid",
        frozen=True,
        strict=True,
        # The input of a faulty field may be a secret that was put in the wrong place.
        hide_input_in_errors=True,
    )


class StatusShape(Shape):
    """A part of a status; reads what a newer version of the operator may have written beside it."""

    model_config = ConfigDict(extra="ignore")


@dataclass(frozen=True, slots=True, order=True)
class Violation:
    """One fault of an object: ``path`` as in ``spec.secrets[0].key``; ``message`` never holds the faulty value."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


@dataclass(frozen=True, slots=True)
class Invalid:
    """A spec that cannot be read, with every fault at once; never empty."""

    violations: tuple[Violation, ...]

    def __str__(self) -> str:
        return describe(self.violations)


def describe(violations: Sequence[Violation], limit: int = 8) -> str:
    """The faults in one line for a condition's message; of more than ``limit`` only the number of the rest is told."""
    told = "; ".join(map(str, violations[:limit]))
    return told if len(violations) <= limit else f"{told}; and {len(violations) - limit} more"


def parse(model: type[M], raw: object, path: str = "spec") -> M | Invalid:
    """The model read from JSON as the API server sends it, or all faults; raises nothing, shows no value.

    Only the names of the API (camelCase) are read. Rules over several fields are checked apart, by the
    ``violations`` of each kind.
    """
    try:
        return model.model_validate(raw, by_alias=True, by_name=False)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=True, include_input=False)
        return Invalid(tuple(Violation(_path(path, _place(fault)), _message(fault)) for fault in found))


def parse_duration(text: str) -> timedelta:
    """A duration such as ``10m``, ``1h30m`` or ``1.5s``, in Go's spelling with the units ns, us, ms, s, m, h.

    Parts below a microsecond are dropped. Raises ValueError for any other text, for more than 16 characters, and for
    more than the 292 years that the API server can hold.
    """
    if len(text) > DURATION_LIMIT or re.fullmatch(DURATION[1:-1], text) is None:
        raise ValueError("not a duration such as 30s, 10m or 1h30m")
    parts = _DURATION_PART.findall(text)
    nanoseconds = sum(int(Fraction(number) * _NANOSECONDS[unit]) for number, unit in parts)
    if nanoseconds > _MAX_NANOSECONDS:
        raise ValueError("longer than 292 years")
    return timedelta(microseconds=nanoseconds // 1000)


def _read_duration(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return parse_duration(value)
    except ValueError as error:
        raise PydanticCustomError("duration", "{fault}", {"fault": f"is {error}"}) from None


def join_key(path: str, key: str) -> str:
    """The path of an entry of a map; a key that a user chose is quoted where it needs to be, and cut."""
    if re.fullmatch(r"[A-Za-z0-9_-]{1,63}", key):
        return f"{path}.{key}"
    return f"{path}[{key[:_PATH_PART_LIMIT]!a}]"


def _path(root: str, location: tuple[int | str, ...]) -> str:
    path = root
    for part in location[:_PATH_LIMIT]:
        path = f"{path}[{part}]" if isinstance(part, int) else join_key(path, part)
    return path


def _place(fault: Mapping[str, Any]) -> tuple[int | str, ...]:
    """Where the fault is; inside of a free value the field that holds it, since pydantic mixes type names in there."""
    location: tuple[int | str, ...] = fault["loc"]
    return location[:2] if fault["type"] in _FREE_VALUE_FAULTS else location


def _message(fault: Mapping[str, Any]) -> str:
    """Pydantic's finding as the rest of a sentence that begins with the path."""
    context = fault.get("ctx") or {}
    match fault["type"]:
        case "missing":
            return "is required"
        case "extra_forbidden":
            return "is not a known field"
        case "literal_error":
            return f"must be {context['expected']}".replace("True", "true")
        case "string_pattern_mismatch":
            return f"must match {context['pattern']}"
        case "string_too_long":
            return f"must not be longer than {context['max_length']} characters"
        case "string_too_short":
            return f"must have at least {context['min_length']} character(s)"
        case "too_long":
            return f"must not have more than {context['max_length']} entries"
        case "too_short":
            return f"must have at least {context['min_length']} entry"
        case "greater_than_equal":
            return f"must be at least {context['ge']}"
        case "less_than_equal":
            return f"must be at most {context['le']}"
        case "duration" | "duplicate" | "place":
            return str(fault["msg"])
        case "recursion_depth_exceeded":
            return "is nested too deeply"
        case "model_type" | "dict_type":
            return "must be an object"
        case "tuple_type":
            return "must be a list"
        case "string_type":
            return "must be a string"
        case "bool_type":
            return "must be true or false"
        case "int_type":
            return "must be an integer"
        case _:
            return "is not valid"


def _distinct(key: Callable[[Any], object], what: str) -> Callable[[object], object]:
    """Refuses lists with equal entries, as the API server does for lists of type set and map."""

    def check(values: tuple[Any, ...]) -> tuple[Any, ...]:
        if len({key(value) for value in values}) < len(values):
            raise PydanticCustomError("duplicate", "{fault}", {"fault": f"has {what} twice"})
        return values

    return check  # type: ignore[return-value]


def distinct_entries() -> Callable[[object], object]:
    """A validator for lists that are sets."""
    return _distinct(lambda value: value, "an entry")


def distinct_by(field: str) -> Callable[[object], object]:
    """A validator for lists that are maps by ``field`` (the Python name)."""
    return _distinct(lambda value: getattr(value, field), f"an entry with the same {field}")


def as_set() -> dict[str, Any]:
    """How the schema says that the order of a list means nothing and entries are unique."""
    return {"x-kubernetes-list-type": "set"}


def as_map(key: str) -> dict[str, Any]:
    """How the schema says that a list's entries are told apart by one field, so that several may own entries of it."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


Duration = Annotated[
    timedelta,
    BeforeValidator(_read_duration),
    WithJsonSchema({"type": "string", "maxLength": DURATION_LIMIT, "pattern": DURATION}),
]
# A list: immutable here, so that frozen means frozen; only the list itself may come as another type than a tuple.
Items = Annotated[tuple[V, ...], Field(strict=False)]
DnsLabel = Annotated[str, Field(max_length=63, pattern=DNS_LABEL)]
ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=DNS_SUBDOMAIN)]
UserName = Annotated[str, Field(min_length=1, max_length=253)]
DataKey = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
# One line for people, or a name that somebody else has given.
Line = Annotated[str, Field(min_length=1, max_length=253, pattern=NO_CONTROL_CHARACTERS)]
Note = Annotated[str, Field(max_length=1024, pattern=LINES)]
Timestamp = Annotated[str, Field(max_length=64, json_schema_extra={"format": "date-time"})]
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
RevisionNumber = Annotated[int, Field(ge=1, le=2**31 - 1)]
# SHA-256 in lower-case hexadecimal.
ContentHash = Annotated[str, Field(min_length=64, max_length=64, pattern=r"^[0-9a-f]{64}$")]
Tag = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-.a-z0-9]{0,61}[a-z0-9])?$")]

Runtime = Literal["builtin", "keep"]
DeletionPolicy = Literal["Delete", "Orphan"]
AdoptionPolicy = Literal["Never", "IfUnowned", "Force"]
DriftPolicy = Literal["Correct", "Report"]
