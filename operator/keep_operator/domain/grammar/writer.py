"""YAML of JSON values, as PyYAML writes it and a few times faster; what is out of the ordinary PyYAML writes itself.

Definitions are thousands of short words in a few shapes. Those are written here; texts with quotes of their own, line breaks or
other alphabets go to the library, all of a document at once. A test holds both against each other.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import yaml

from keep_operator.domain.grammar import scalars

Rank = Callable[[str], Any]

_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_END: Final = "\n...\n"
# Columns after which the library would break a line.
_WIDTH: Final = 1 << 16
# Characters: what is shorter is on one line for certain, and what is longer might be on several.
_SHORT: Final = 1_000
_LONG: Final = _WIDTH // 4
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,99}")
# Printable, begins with a letter or an opening bracket, and ends with no space.
_SEPARATORS: Final = re.compile("[\u2028\u2029]")
_ORDINARY: Final = re.compile(r"[A-Za-z{\[](?:[ -~]*[!-~])?")


class _Odd(Exception):
    """Holds something that is not written here."""


class _Writer(_Dumper):  # type: ignore[misc]
    """Quotes what our dialect would read as something else, or not at all; repeats instead of naming anchors."""

    def ignore_aliases(self, data: object) -> bool:
        """Nothing is written as an alias."""
        return True


def _write_text(writer: Any, text: str) -> Any:
    style = None
    if "\n" in text:
        style = "|"
    elif not _is_text(text):
        style = "'"
    return writer.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Writer.add_representer(str, _write_text)


def _is_text(text: str) -> bool:
    """Without quotes it is the same text for every reader."""
    try:
        return scalars.plain(text) == text
    except ValueError:
        return False


def by_library(value: object) -> str:
    """As PyYAML writes it: keys in their order, long texts as blocks."""
    written: str = yaml.dump(
        value, Dumper=_Writer, sort_keys=False, allow_unicode=True, default_flow_style=False, width=_WIDTH
    )
    # After a text that ends with empty lines; what follows in a file says by itself that the document has ended.
    return f"{written.removesuffix(_END)}\n" if written.endswith(_END) else written


def dump(value: object, rank: Rank | None = None) -> str:
    """The same. With ``rank`` keys are sorted by it, and ``1.0`` is ``1``."""
    return "".join(f"{line}\n" for line in lines(value, rank))


def lines(value: object, rank: Rank | None = None) -> list[str]:
    """The same, line by line."""
    if value and isinstance(value, dict | list):
        try:
            return _Page(rank).written(value)
        except _Odd:
            pass
    return _cut(by_library(value if rank is None else ordered(value, rank)))


def entries(values: Sequence[object], rank: Rank | None = None) -> list[list[str]]:
    """The lines of each entry of a list."""
    told: list[list[str]] = []
    for line in lines(list(values), rank) if values else ():
        if line.startswith("- "):
            told.append([line])
        else:
            told[-1].append(line)
    return told


def ordered(value: Any, rank: Rank) -> Any:
    """The value with its keys sorted, and numbers in one spelling."""
    match value:
        case dict():
            return {key: ordered(value[key], rank) for key in sorted(value, key=rank)}
        case list():
            return [ordered(each, rank) for each in value]
        case float() if value.is_integer():
            return int(value)
        case _:
            return value


class _Page:
    """One document while it is written; ``_open`` are the lines that wait for the library, with their indents and values."""

    def __init__(self, rank: Rank | None) -> None:
        self._rank = rank
        self._lines: list[str] = []
        self._open: list[tuple[int, str, object]] = []
        self._known: dict[str, str | None] = {}
        self._keys: dict[tuple[str, ...], tuple[tuple[str, str], ...]] = {}

    def written(self, value: dict[str, Any] | list[Any]) -> list[str]:
        """Its lines. Raises _Odd for keys and values that only the library knows how to write."""
        self._collection(value, "", "")
        if not self._open:
            return self._lines
        told: list[str] = []
        texts = entries_by_library([value for _, _, value in self._open])
        start = 0
        for (place, indent, _), (first, *more) in zip(self._open, texts, strict=True):
            told += self._lines[start:place]
            told.append(self._lines[place] + first)
            told += [f"{indent}{line}" if line else line for line in more]
            start = place + 1
        return told + self._lines[start:]

    def _collection(self, value: Any, indent: str, lead: str) -> None:
        """``lead`` stands before the first entry, ``indent`` before the others."""
        inner = f"{indent}  "
        if type(value) is dict:
            for key, name in self._sorted(value):
                each = value[key]
                if each and type(each) is dict:
                    self._lines.append(f"{lead}{name}:")
                    self._collection(each, inner, inner)
                elif each and type(each) is list:
                    self._lines.append(f"{lead}{name}:")
                    self._collection(each, indent, indent)
                else:
                    self._scalar(each, f"{lead}{name}: ", indent)
                lead = indent
            return
        for each in value:
            if each and type(each) in (dict, list):
                self._collection(each, inner, f"{lead}- ")
            else:
                self._scalar(each, f"{lead}- ", indent)
            lead = indent

    def _sorted(self, value: dict[str, Any]) -> tuple[tuple[str, str], ...]:
        """The keys in their order, each as it is and as it is written."""
        keys = tuple(value)
        found = self._keys.get(keys)
        if found is None:
            for key in keys:
                if type(key) is not str or not _WORD.fullmatch(key):
                    raise _Odd
            order = keys if self._rank is None else sorted(keys, key=self._rank)
            found = self._keys[keys] = tuple((key, key if _is_text(key) else f"'{key}'") for key in order)
        return found

    def _scalar(self, value: object, lead: str, indent: str) -> None:
        kind = type(value)
        text: str | None = None
        if kind is str:
            text = self._text(value)  # type: ignore[arg-type]
        elif value is None:
            text = "null"
        elif kind is bool:
            text = "true" if value else "false"
        elif kind is int:
            text = str(value)
        elif kind is dict:
            text = "{}"
        elif kind is list:
            text = "[]"
        elif kind is not float:
            raise _Odd
        elif self._rank is not None and value.is_integer():  # type: ignore[attr-defined]
            text = str(int(value))  # type: ignore[call-overload]
        if text is None:
            self._open.append((len(self._lines), indent, value))
            text = ""
        self._lines.append(lead + text)

    def _text(self, text: str) -> str | None:
        try:
            return self._known[text]
        except KeyError:
            found = self._known[text] = _ordinary(text)
            return found


def _ordinary(text: str) -> str | None:
    """A text on one line; None: ask the library. Raises _Odd where that would break lines as it stands."""
    if len(text) > _SHORT or not _ORDINARY.fullmatch(text):
        if len(text) > _LONG or _SEPARATORS.search(text):
            raise _Odd
        return None
    if text[0] in "{[" or ": " in text or " #" in text or text[-1] == ":" or not _is_text(text):
        return f"""'{text.replace("'", "''")}'"""
    return text


def entries_by_library(values: list[object]) -> list[list[str]]:
    """The lines of each value where it stands in a list, without its dash."""
    told: list[list[str]] = []
    for line in _cut(by_library(values)):
        if line.startswith("- "):
            told.append([line[2:]])
        else:
            told[-1].append(line)
    return told


def _cut(text: str) -> list[str]:
    """Lines end with a line feed and nothing else, whatever else Unicode takes for an end."""
    return text.removesuffix("\n").split("\n")
