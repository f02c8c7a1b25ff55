"""The names that a run knows, and where a name in braces leads: JSON, and nothing of Python behind it."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from keep_operator.domain.language.limits import Budget, Failed, check_text

# Parts of a name: of `steps.get-pods.results[0].name` there are five.
_PARTS: Final = 64
_INDEX: Final = re.compile(r"\[(-?\d{1,9}|'[^'\]]{1,100}'|\"[^\"\]]{1,100}\")\]")
_SHOWN: Final = 80


class Source(str):
    """A text of the definition: where it is filled in, it is filled in itself. Any other text is data."""

    __slots__ = ()


class Record(dict[str, Any]):
    """An alert or an incident: as text it is JSON, as in Keep, where anything else is as Python writes it."""

    def __str__(self) -> str:
        return json.dumps(self, indent=4, default=str, ensure_ascii=True)


class _Missing:
    """That a name leads nowhere."""


MISSING: Final = _Missing()


def source(value: Any) -> Any:
    """A part of the definition with its texts marked as such."""
    match value:
        case str():
            return Source(value)
        case dict():
            return {key: source(each) for key, each in value.items()}
        case list():
            return [source(each) for each in value]
    return value


def look_up(name: str, scopes: Sequence[Any], budget: Budget) -> Any:
    """What a name stands for in the innermost scope that has it, or MISSING; ``.`` is the innermost scope itself.

    Names of steps and keys may have dots themselves; items of lists are numbers, from the end if negative.
    """
    budget.spend()
    if name == ".":
        return scopes[0]
    parts = split(name)
    for scope in scopes:
        if (found := walk(scope, parts, budget)) is not MISSING:
            return found
    return MISSING


def split(name: str) -> list[str]:
    """The parts of a name: ``a.b[0]`` is ``a``, ``b``, ``0``."""
    if "[" in name:
        name = _INDEX.sub(lambda found: "." + found[1].strip("'\""), name)
    parts = name.removeprefix(".").split(".", _PARTS)
    if len(parts) > _PARTS:
        raise Failed(f"{quoted(name)} has more than {_PARTS} parts")
    return parts


def walk(value: Any, parts: list[str], budget: Budget) -> Any:
    """What is found below ``value``, or MISSING."""
    if not parts:
        return value
    budget.spend()
    if isinstance(value, Mapping):
        for end in range(1, len(parts) + 1):
            key = parts[0] if end == 1 else ".".join(parts[:end])
            if key in value and (found := walk(value[key], parts[end:], budget)) is not MISSING:
                return found
    elif isinstance(value, list | tuple) and re.fullmatch(r"-?[0-9]{1,9}", parts[0]):
        at = int(parts[0])
        if -len(value) <= at < len(value):
            return walk(value[at], parts[1:], budget)
    return MISSING


def text(value: Any) -> str:
    """A value as Keep writes it into a text: nothing for what is empty, but for 0 and False."""
    if isinstance(value, str):
        return value
    if value is None or (not isinstance(value, bool | int | float) and not value):
        return ""
    try:
        written = str(value)
    except RecursionError:
        raise Failed("a value is nested too deep to be written") from None
    check_text(len(written))
    return written


def quoted(name: str) -> str:
    """A piece of a definition, or of data, as it may stand in a message."""
    shown = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…"
    return f'"{shown}"' if shown.isprintable() else ascii(shown)
