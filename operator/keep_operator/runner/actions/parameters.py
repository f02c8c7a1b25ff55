"""Parameters and settings of a call, read as the action needs them; what cannot be used so is told by its name."""

import ast
import json
from collections.abc import Mapping
from typing import Any, Final, cast

from keep_operator.runner.actions import transport
from keep_operator.runner.actions.call import ActionFailed, Call

# Texts that are looked at as lists and objects.
_LONGEST: Final = 256 * 1024
_TRUE: Final = frozenset({"true", "yes", "on", "1", "t", "y"})
_FALSE: Final = frozenset({"false", "no", "off", "0", "f", "n", ""})


def text(call: Call, name: str, default: str = "") -> str:
    """A parameter as text; lists and objects as JSON."""
    return as_text(call.parameters.get(name), default)


def as_text(value: Any, default: str = "") -> str:
    """Any JSON as text, None as ``default``."""
    if value is None:
        return default
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def needed(call: Call, *names: str) -> str:
    """The first of the parameters that is there and not empty, as text. Raises ActionFailed when none is."""
    for name in names:
        if found := text(call, name):
            return found
    raise ActionFailed(f"{call.type}: the parameter {' or '.join(names)} is needed, and missing or empty")


def structure(call: Call, name: str, kind: type) -> Any:
    """A list or an object, None where the parameter is missing or empty. A template has made text of it, perhaps."""
    value = call.parameters.get(name)
    if isinstance(value, str):
        value = parse(value) if value.strip() else None
    if value is None or (isinstance(value, list | dict) and not value):
        return None
    if not isinstance(value, kind):
        said = "a list" if kind is list else "an object"
        raise ActionFailed(f"{call.type}: the parameter {name} must be {said}, or JSON of one")
    return value


def parse(value: str) -> Any:
    """A text as the JSON that it is, or as Python writes lists and objects; else the text."""
    if len(value) > _LONGEST or value.lstrip()[:1] not in ("[", "{"):
        return value
    try:
        return transport.read_json(value)
    except ValueError:
        pass
    try:
        found = ast.literal_eval(value.strip())
        # Only what JSON has: bytes and sets are nothing that can be sent on.
        return transport.read_json(json.dumps(found))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return value


def flag(call: Call, value: Any, name: str, default: bool) -> bool:
    """A setting or parameter that is true or false, also where it is written as text."""
    if value is None:
        return default
    if isinstance(value, bool):
        return value
    spelt = str(value).strip().casefold()
    if spelt in _TRUE | _FALSE:
        return spelt in _TRUE
    raise ActionFailed(f"{call.type}: {name} must be true or false")


def number(call: Call, name: str, default: int) -> int:
    """A parameter that is a whole number."""
    value = call.parameters.get(name)
    if value is None or value == "":
        return default
    try:
        return int(str(value).strip()[:20])
    except ValueError:
        raise ActionFailed(f"{call.type}: the parameter {name} must be a whole number") from None


def setting(call: Call, name: str, default: str = "") -> str:
    """A field of the Provider as text."""
    return as_text(call.config.get(name), default).strip() or default


def needed_setting(call: Call, name: str) -> str:
    """A field of the Provider that there must be."""
    if found := setting(call, name):
        return found
    if not call.config:
        raise ActionFailed(f'{call.type}: no Provider is named; add config: "{{{{ providers.<name> }}}}"')
    raise ActionFailed(f"{call.type}: the Provider has no {name}, which is needed")


def without_nothing(values: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that say something."""
    return {name: value for name, value in values.items() if value not in (None, "", [], {})}


def headers(call: Call, value: Any) -> dict[str, str]:
    """Headers, given as an object, as a list of {key, value}, or as JSON of one of these."""
    if isinstance(value, str):
        value = parse(value) if value.strip() else None
    if value is None:
        return {}
    if isinstance(value, list):
        if not all(isinstance(each, dict) and {"key", "value"} <= each.keys() for each in value):
            raise ActionFailed(f"{call.type}: headers must be an object, or a list of entries with key and value")
        value = {each["key"]: each["value"] for each in value}
    if not isinstance(value, dict):
        raise ActionFailed(f"{call.type}: headers must be an object, or a list of entries with key and value")
    return {str(name): as_text(each) for name, each in value.items()}


def query(call: Call, name: str) -> dict[str, str]:
    """An object of texts, for what follows the question mark of an address."""
    found = cast("dict[str, Any] | None", structure(call, name, dict))
    return {str(key): as_text(value) for key, value in (found or {}).items() if value is not None}
