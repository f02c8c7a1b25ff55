"""The kinds of PATCH that the API knows, as functions from an object to the object that it becomes; nothing is changed in place."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]
Path: TypeAlias = tuple[str, ...]


class Failed(Exception):
    """The patch cannot be applied to this object."""


def merge(target: Any, patch: Any) -> Any:
    """RFC 7396: objects are merged, null removes, anything else replaces."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def operations(target: Json, patch: list[Json]) -> Json:
    """RFC 6902, of it: test, add, replace and remove; raises Failed where a test does, or a path leads nowhere."""
    changed = copy.deepcopy(target)
    for operation in patch:
        *way, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
        try:
            holder: Any = changed
            for part in way:
                holder = holder[int(part) if isinstance(holder, list) else part]
            _operate(operation, holder, last)
        except (KeyError, IndexError, ValueError, TypeError):
            raise Failed(f"the path {operation['path']} leads nowhere") from None
    return changed


def _operate(operation: Json, holder: Any, last: str) -> None:
    value = copy.deepcopy(operation.get("value"))
    at: Any = last
    if isinstance(holder, list):
        at = len(holder) if last == "-" else int(last)
    match operation["op"]:
        case "test":
            if holder[at] != value:
                raise Failed(f"testing value {operation['path']} failed")
        case "add" if isinstance(holder, list):
            holder.insert(at, value)
        case "add":
            holder[at] = value
        case "replace":
            _ = holder[at]  # must be there
            holder[at] = value
        case "remove":
            del holder[at]
        case other:
            raise Failed(f"the operation {other} is not known")


def leaves(body: Mapping[str, Any], *, below: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Each field that a body sets, with its value; lists count as one field, as the API has it for most of ours."""
    for name, value in body.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, below=(*below, name))
        else:
            yield (*below, name), value


def field(body: Any, path: Path) -> Any:
    """The value of a field, None where it is not set."""
    for name in path:
        if not isinstance(body, Mapping):
            return None
        body = body.get(name)
    return body
