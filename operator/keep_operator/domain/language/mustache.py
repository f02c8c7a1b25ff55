"""Mustache as Keep fills it in, with calls of ``keep.functions()`` between: a template is read once and filled in often.

::

    text ──► tags and texts ──► sections ──► calls ──► filled in: a text, or the code of an expression

Nothing is escaped for HTML: Keep escapes and then takes it back. Names that are not there stand for nothing, and are
told, so that a step's parameters can insist on them.
"""

import html
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Protocol

from keep_operator.domain.language import context, expressions, limits
from keep_operator.domain.language.context import MISSING, Source
from keep_operator.domain.language.expressions import Code
from keep_operator.domain.language.functions import FUNCTIONS, Moment
from keep_operator.domain.language.limits import Budget, Failed, LimitExceeded

_NOT_EXECUTED: Final = "raw_render_without_execution("
_CALL: Final = re.compile(rf"(?<![\w.])keep\.({'|'.join(sorted(FUNCTIONS, key=len, reverse=True))})\s*\(")
# Characters of a text that is not read anew each time: a foreach fills it in often.
_REMEMBERED: Final = 4_096
# Names that are told of one text.
_TOLD: Final = 100
# Where these stand, Keep does not insist on names.
_LENIENT: Final = re.compile(r"\{\{\s?(\^|#fn\.)")
_SIGILS: Final = "#^/!>=&{"
_HELPERS: Final = {
    "fn.default": lambda text: text,
    "fn.na": lambda text: text or "N/A",
    "fn.upper": str.upper,
    "fn.lower": str.lower,
    "fn.strip": str.strip,
}


@dataclass(frozen=True, slots=True)
class Text:
    """What stands between the tags."""

    text: str


@dataclass(frozen=True, slots=True)
class Name:
    """``{{ name }}``; ``raw`` with three braces or ``&``."""

    name: str
    raw: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """``{{#name}}…{{/name}}``, or ``{{^name}}…{{/name}}`` if inverted."""

    name: str
    inverted: bool
    parts: "tuple[Part, ...]"


@dataclass(frozen=True, slots=True)
class Call:
    """``keep.name(…)``, whatever stands in its parentheses."""

    parts: "tuple[Part, ...]"


Part = Text | Name | Section | Call


@dataclass(frozen=True, slots=True)
class Template:
    """A text that was read. ``strict``: names that are not there may be insisted on."""

    parts: tuple[Part, ...]
    strict: bool
    executed: bool


@dataclass(slots=True)
class Filling:
    """Everything that one filling in needs, and gathers: ``missing`` are names that are not there."""

    scopes: list[Any]
    moment: Moment
    budget: Budget = field(default_factory=Budget)
    missing: list[str] = field(default_factory=list)
    depth: int = 0


class _Sink(Protocol):
    """Where what is filled in goes."""

    def literal(self, text: str) -> None:
        """A piece of the definition."""

    def value(self, value: Any) -> None:
        """A value in braces."""

    def missing(self, name: str) -> None:
        """A name in braces that is not there."""

    def answer(self, value: Any) -> None:
        """What a function answered."""


@dataclass(slots=True)
class _Plain:
    """A text."""

    budget: Budget
    pieces: list[str] = field(default_factory=list)
    length: int = 0

    def literal(self, text: str) -> None:
        self.length += len(text)
        limits.check_text(self.length)
        self.budget.write(len(text))
        self.pieces.append(text)

    def value(self, value: Any) -> None:
        self.literal(context.text(value))

    def missing(self, name: str) -> None:
        pass

    def answer(self, value: Any) -> None:
        self.literal(_written(value))

    def whole(self) -> str:
        return "".join(self.pieces)


def _written(value: Any) -> str:
    """An answer as Keep writes it into a text: an object as JSON, all else as Python writes it."""
    try:
        return json.dumps(value, default=str, allow_nan=False) if isinstance(value, dict) else str(value)
    except (RecursionError, ValueError, TypeError):
        raise Failed("a function answers what cannot be written") from None


# ── filling in ──


def render(text: str, filling: Filling, *, strict: bool = False, default: Any = "") -> Any:
    """A text filled in: a text, ``default`` if nothing is left of it, or an object if it is only a call that answers one.

    Raises Failed for names that are not there, if ``strict``.
    """
    template = read(text)
    parts = template.parts
    before = len(filling.missing)
    if len(parts) == 1 and isinstance(parts[0], Call) and template.executed:
        answer = _answer(parts[0], filling)
        whole: Any = _written(answer)
        limits.check_text(len(whole))
        filling.budget.write(len(whole))
        whole = json.loads(whole) if isinstance(answer, dict) else whole
    else:
        sink = _Plain(filling.budget)
        _fill(parts, sink, filling)
        whole = sink.whole()
        if not template.executed:
            whole = _taken_out(whole)
    if strict and template.strict and len(filling.missing) > before:
        names = ", ".join(map(context.quoted, dict.fromkeys(filling.missing[before:])))
        raise Failed(
            f"there is no {names[:400]}; correct the name, or put it into {{{{#fn.default}}}}…{{{{/fn.default}}}}"
        )
    return whole if whole or isinstance(whole, dict) else default


def _taken_out(text: str) -> str:
    text = text.strip()
    return text.removeprefix(_NOT_EXECUTED).removesuffix(")") if text.endswith(")") else text


def code(text: str, filling: Filling, reading: expressions.Reading) -> Code:
    """The expression that a text is, with its values in it."""
    found = Code(reading)
    _fill(read(text).parts, found, filling)
    return found


def lone(text: str, filling: Filling) -> Any:
    """The value of a text that is one name in braces and nothing else; else MISSING."""
    parts = read(text.strip()).parts
    if len(parts) == 1 and isinstance(parts[0], Name):
        return context.look_up(parts[0].name, filling.scopes, filling.budget)
    return MISSING


def _fill(parts: Sequence[Part], sink: _Sink, filling: Filling) -> None:
    for part in parts:
        filling.budget.spend()
        match part:
            case Text(text):
                sink.literal(text)
            case Name(name, raw):
                _fill_name(name, raw, sink, filling)
            case Section():
                _fill_section(part, sink, filling)
            case Call():
                sink.answer(_answer(part, filling))


def _fill_name(name: str, raw: bool, sink: _Sink, filling: Filling) -> None:
    value = _value(name, filling)
    if value is MISSING:
        sink.missing(name)
        return
    if isinstance(value, Source) and ("{{" in value or "keep." in value):
        value = _source(value, filling)
    elif isinstance(value, dict | list) and _has_templates(value):
        value = _source(Source(context.text(value)), filling)
    sink.value(html.unescape(context.text(value)) if raw else value)


def _has_templates(value: Any) -> bool:
    """Whether a constant has texts in it that are to be filled in: only those of the definition are."""
    match value:
        case Source():
            return "{{" in value
        case dict():
            return any(map(_has_templates, value.values()))
        case list():
            return any(map(_has_templates, value))
    return False


def _source(text: Source, filling: Filling) -> str:
    """A constant filled in; after ten in each other it stays as it is, as in Keep."""
    if filling.depth >= limits.TEMPLATES:
        return str(text)
    missing = list(filling.missing)
    filling.depth += 1
    try:
        sink = _Plain(filling.budget)
        template = read(text)
        _fill(template.parts, sink, filling)
    finally:
        filling.depth -= 1
        # What a constant lacks stands for nothing even where the text around it insists.
        filling.missing[:] = missing
    return sink.whole() if template.executed else _taken_out(sink.whole())


def _value(name: str, filling: Filling) -> Any:
    """What a name stands for; one that is not there is told."""
    value = context.look_up(name, filling.scopes, filling.budget)
    if value is MISSING and len(filling.missing) < _TOLD:
        filling.missing.append(name)
    return value


def _fill_section(section: Section, sink: _Sink, filling: Filling) -> None:
    if (helper := _HELPERS.get(section.name)) is not None and not section.inverted:
        inner = _Plain(filling.budget)
        _fill(section.parts, inner, filling)
        sink.value(helper(inner.whole()))
        return
    value = _value(section.name, filling)
    if section.inverted:
        if value is MISSING or not value:
            _fill(section.parts, sink, filling)
    elif isinstance(value, list | tuple):
        for item in value:
            _within(item, section, sink, filling)
    elif value is not MISSING and value:
        _within(value, section, sink, filling)


def _within(scope: Any, section: Section, sink: _Sink, filling: Filling) -> None:
    filling.budget.spend()
    filling.scopes.insert(0, scope)
    try:
        _fill(section.parts, sink, filling)
    finally:
        del filling.scopes[0]


def _answer(part: Call, filling: Filling) -> Any:
    found = Code("argument")
    _fill(part.parts, found, filling)
    return expressions.call(found, filling.moment, filling.budget)


# ── reading ──


def read(text: str) -> Template:
    """The template that a text is. Raises Failed for one that the grammar faults."""
    return _read_often(text) if len(text) <= _REMEMBERED else _read(text)


@lru_cache(maxsize=512)
def _read_often(text: str) -> Template:
    return _read(text)


def _read(text: str) -> Template:
    executed = not text.lstrip().startswith(_NOT_EXECUTED)
    parts = _sections(_tokens(text))
    return Template(tuple(_calls(parts, _Scan()) if executed else parts), _LENIENT.search(text) is None, executed)


# What a tag is told by, and what it says; for a text that is the text.
_Token = tuple[str, str]


def _tokens(text: str) -> Iterator[_Token]:
    """Texts (with an empty sigil of their own, "t") and tags; a section's tag that is alone on its line takes the line along."""
    opening, closing = "{{", "}}"
    at, alone = 0, True
    while (start := text.find(opening, at)) >= 0:
        before = text[at:start]
        inner = start + len(opening)
        end = text.find(closing, inner)
        if end < 0:
            raise Failed(f"has a {opening} without {closing}")
        tag = text[inner:end]
        at = end + len(closing)
        sigil = tag[:1] if tag[:1] and tag[0] in _SIGILS else ""
        name = tag[len(sigil) :]
        if sigil == "{" and text.startswith("}", at):
            at += 1
        if sigil == "=":
            delimiters = name.strip().removesuffix("=").split()
            if len(delimiters) == 2:
                opening, closing = delimiters
        line = before.rpartition("\n")[2]
        alone = ("\n" in before or alone) and not line.strip() and sigil not in ("", "&", "{")
        if alone:
            rest, newline, _ = text[at:].partition("\n")
            alone = not rest.strip()
            if alone:
                at += len(rest) + 1 if newline else 0
                before = before.rstrip(" ")
        if before:
            yield "t", before
        yield sigil, name.strip()
    if text[at:]:
        yield "t", text[at:]


def _sections(tokens: Iterator[_Token]) -> list[Part]:
    """Tags as a tree."""
    stack: list[tuple[str, bool, list[Part]]] = [("", False, [])]
    for sigil, name in tokens:
        parts = stack[-1][2]
        match sigil:
            case "t":
                parts.append(Text(html.unescape(name) if "&" in name else name))
            case "#" | "^":
                if len(stack) > limits.DEPTH:
                    raise LimitExceeded(f"has sections in sections, more than {limits.DEPTH} deep")
                stack.append((name, sigil == "^", []))
            case "/":
                opened, inverted, inner = stack.pop() if len(stack) > 1 else ("", False, [])
                if opened != name:
                    raise Failed(f"closes the section {context.quoted(name)}, which is not the open one")
                stack[-1][2].append(Section(opened, inverted, tuple(inner)))
            case "" | "&" | "{":
                parts.append(Name(name, raw=bool(sigil)))
    if len(stack) > 1:
        raise Failed(f"does not close the section {context.quoted(stack[-1][0])}")
    return stack[0][2]


@dataclass(slots=True)
class _Scan:
    """What was looked at to find the ends of calls, so that endless beginnings do not cost endlessly."""

    characters: int = 0

    def over(self, characters: int) -> None:
        self.characters += characters
        if self.characters > limits.SCANNED:
            raise LimitExceeded("has too many calls of functions for one text")


def _calls(parts: Sequence[Part], scan: _Scan) -> list[Part]:
    """The same with the calls of functions found: from the function's name to the parenthesis that ends it."""
    found: list[Part] = []
    waiting = list(reversed(parts))
    while waiting:
        part = waiting.pop()
        match part:
            case Section(name, inverted, inner):
                found.append(Section(name, inverted, tuple(_calls(inner, scan))))
            case Text(text) if (begin := _CALL.search(text)) is not None:
                ahead = [Text(text[begin.start() :]), *reversed(waiting)]
                end = _end(ahead, scan)
                if end is None:
                    # Without an end it is no call, and stays a text; what follows its name may still be one.
                    _append(found, text[: begin.end()])
                    if text[begin.end() :]:
                        waiting.append(Text(text[begin.end() :]))
                    continue
                index, offset = end
                last = ahead[index]
                assert isinstance(last, Text)
                _append(found, text[: begin.start()])
                found.append(Call((*ahead[:index], Text(last.text[:offset]))))
                waiting = list(reversed(ahead[index + 1 :]))
                if last.text[offset:]:
                    waiting.append(Text(last.text[offset:]))
            case Text(text):
                _append(found, text)
            case _:
                found.append(part)
    return found


def _append(found: list[Part], text: str) -> None:
    if text:
        last = found[-1] if found else None
        if isinstance(last, Text):
            found[-1] = Text(last.text + text)
        else:
            found.append(Text(text))


def _end(parts: Sequence[Part], scan: _Scan) -> tuple[int, int] | None:
    """Where the first call in ``parts`` ends: which part, and after how many of its characters."""
    depth, quote, escaped = 0, "", False
    scan.over(len(parts))
    for index, part in enumerate(parts):
        if not isinstance(part, Text):
            continue
        for offset, each in enumerate(part.text, 1):
            if quote:
                if escaped:
                    escaped = False
                elif each == "\\":
                    escaped = True
                elif each == quote:
                    quote = ""
            elif each in "'\"":
                quote = each
            elif each == "(":
                depth += 1
            elif each == ")":
                depth -= 1
                if depth == 0:
                    scan.over(offset)
                    return index, offset
        scan.over(len(part.text))
    return None
