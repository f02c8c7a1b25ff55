"""One YAML dialect: text to the values that the API server would have stored, and back.

A definition comes as JSON from the API server, which got it from kubectl, which reads YAML 1.1; or as text from a
ConfigMap or a file. The same workflow must have the same hash on each way (A-REV-11). So text is read as kubectl reads
it, and what readers of YAML 1.1 and 1.2 take for different things (``yes``, ``010``, ``1:30``, ``1e3``) is refused: it
has to be quoted, and then means the same for all.

Nothing here recurses, and an alias costs what it stands for: neither nesting nor an alias bomb can hurt.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import yaml

from keep_operator.domain.grammar import faults, scalars, values, writer
from keep_operator.domain.grammar.faults import Fault, Reason

# Bytes of UTF-8. The API server takes no object above 1.5 MiB, and no ConfigMap above 1 MiB.
MAX_TEXT_BYTES: Final = 1024 * 1024
# Characters. What lies deeper is told with the line of what holds it; thousands of long paths would take memory.
_NOTED_PATH: Final = 256
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Malformed(ValueError):
    """The text is no YAML of this dialect; ``faults`` has one entry for each thing that is wrong with it."""

    def __init__(self, found: tuple[Fault, ...]) -> None:
        super().__init__("; ".join(map(str, found)))
        self.faults = found


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document as JSON values, and the line (from 1 on) on which each path begins."""

    value: Any
    lines: Mapping[str, int]

    def line(self, path: str) -> int | None:
        """The line of a path, or of what holds it: what is missing has no line of its own."""
        while path:
            if path in self.lines:
                return self.lines[path]
            path = path[: max(path.rfind("."), path.rfind("["))] if "." in path or "[" in path else ""
        return self.lines.get("")


def load(text: str) -> Document:
    """The only document in ``text``. Raises Malformed, with every fault that does not hide the others."""
    documents = load_all(text)
    if len(documents) != 1:
        message = "has no YAML document" if not documents else f"holds {len(documents)} YAML documents; one is wanted"
        raise Malformed((Fault("", message, Reason.PARSE_ERROR),))
    return documents[0]


def load_all(text: str) -> tuple[Document, ...]:
    """Every document that is not empty. Raises Malformed."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_TEXT_BYTES:
        raise Malformed((Fault("", f"is longer than {MAX_TEXT_BYTES // 1024} KiB", Reason.TOO_LARGE),))
    reading = _Reading()
    # kubectl ends a block that the file ends within by a line break, PyYAML does not.
    text = text if text.endswith("\n") else f"{text}\n"
    try:
        for event in yaml.parse(text, Loader=_Loader):
            reading.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        told = " ".join(part for part in (error.problem, error.context) if part)
        line = None if mark is None else mark.line + 1
        # The parser reads ahead, and has a limit of its own.
        reason = Reason.TOO_LARGE if "maximum nesting" in told else Reason.PARSE_ERROR
        raise Malformed((*reading.faults, Fault("", f"is not YAML: {told}", reason, line))) from None
    except yaml.reader.ReaderError as error:
        raise Malformed((_parse_fault("", f"holds a character that YAML does not allow: {error.reason}"),)) from None
    except UnicodeEncodeError:
        raise Malformed((_parse_fault("", "holds broken Unicode"),)) from None
    if reading.faults:
        raise Malformed(tuple(reading.faults))
    return tuple(reading.documents)


def dump(value: object) -> str:
    """``value`` as YAML that ``load`` reads back as it was; keys in their order, long texts as blocks."""
    return writer.dump(value)


def _parse_fault(path: str, message: str, line: int | None = None) -> Fault:
    return Fault(path, message, Reason.PARSE_ERROR, line)


@dataclass(slots=True)
class _Open:
    """A mapping or list that is being read: where its next entry goes, and how many values it has so far."""

    value: dict[str, Any] | list[Any]
    path: str
    anchor: str | None
    size: int = 1
    height: int = 1
    key: str | None = None
    key_line: int = 0
    skip: bool = False


@dataclass(frozen=True, slots=True)
class _Anchored:
    value: Any
    size: int
    height: int


class _Reading:
    """Builds values from the parser's events, with a stack of its own."""

    def __init__(self) -> None:
        self.documents: list[Document] = []
        self.faults: list[Fault] = []
        self._open: list[_Open] = []
        self._anchors: dict[str, _Anchored | None] = {}
        self._lines: dict[str, int] = {}

    def take(self, event: Any) -> None:
        """The next event; raises Malformed where going on would be useless or dangerous."""
        line = event.start_mark.line + 1
        match event:
            case yaml.DocumentStartEvent():
                self._anchors, self._lines = {}, {}
            case yaml.ScalarEvent():
                self._scalar(event, line)
            case yaml.AliasEvent():
                self._alias(event, line)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._start(event, line)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                done = self._open.pop()
                self._remember(done.anchor, done.value, done.size, done.height)
                self._put(done.value, line, done.size, done.height)

    def _start(self, event: Any, line: int) -> None:
        if self._awaits_key():
            raise Malformed((*self.faults, _parse_fault(self._here(), "has a key that is no text", line)))
        path = self._place()
        self._check_depth(path, 1, line)
        self._note(path, line)
        if event.tag is not None:
            self._fault(path, f"has the tag {faults.quoted(event.tag)}; tags are not supported", line)
        self._reserve(event.anchor)
        self._open.append(_Open({} if isinstance(event, yaml.MappingStartEvent) else [], path, event.anchor))

    def _scalar(self, event: Any, line: int) -> None:
        is_key, path = self._awaits_key(), self._place()
        self._check_depth(path, 1, line)
        value: object = event.value
        if event.tag not in (None, "tag:yaml.org,2002:str"):
            self._fault(path, f"has the tag {faults.quoted(event.tag)}; tags are not supported", line)
        elif event.tag is None and event.implicit[0]:
            try:
                value = scalars.plain(event.value)
            except ValueError as error:
                self._fault(path, f"{faults.quoted(event.value)} {error}", line)
                value = event.value
        if is_key and not isinstance(value, str):
            self._fault(path, f"has the key {faults.quoted(event.value)}, which is no text; put it in quotes", line)
            value = event.value
        self._remember(event.anchor, value, 1, 1)
        if not is_key:
            self._note(path, line)
        self._put(value, line, 1, 1)

    def _alias(self, event: Any, line: int) -> None:
        path = self._place()
        known = self._anchors.get(event.anchor)
        if known is None:
            raise Malformed(
                (*self.faults, _parse_fault(path, "repeats something that is not complete before it", line))
            )
        if self._awaits_key() and not isinstance(known.value, str):
            raise Malformed((*self.faults, _parse_fault(self._here(), "has a key that is no text", line)))
        self._check_depth(path, known.height, line)
        if not self._awaits_key():
            self._note(path, line)
        self._put(known.value, line, known.size, known.height)

    def _put(self, value: Any, line: int, size: int, height: int) -> None:

        if not self._open:
            if value is not None:
                self.documents.append(Document(value, MappingProxyType(self._lines)))
            return
        top = self._open[-1]
        top.size += size
        top.height = max(top.height, height + 1)
        if top.size > values.MAX_VALUES:
            message = f"has more than {values.MAX_VALUES:,} values, each counted as often as it is repeated"
            raise Malformed((*self.faults, Fault("", message, Reason.TOO_LARGE, line)))
        if isinstance(top.value, list):
            top.value.append(value)
        elif top.key is None:
            top.skip = value in top.value
            if top.skip:
                self._fault(faults.join(top.path, value), "stands there twice", line)
            top.key = value
            self._note(faults.join(top.path, value), line)
        else:
            if not top.skip:
                top.value[top.key] = value
            top.key = None

    def _check_depth(self, path: str, height: int, line: int) -> None:
        if len(self._open) + height > values.MAX_DEPTH:
            message = f"is nested more than {values.MAX_DEPTH} levels deep"
            raise Malformed((*self.faults, Fault(path, message, Reason.TOO_LARGE, line)))

    def _awaits_key(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1].value, dict) and self._open[-1].key is None

    def _here(self) -> str:
        return self._open[-1].path if self._open else ""

    def _place(self) -> str:
        """The path of the next value."""
        if not self._open:
            return ""
        top = self._open[-1]
        if isinstance(top.value, list):
            return f"{top.path}[{len(top.value)}]"
        return top.path if top.key is None else faults.join(top.path, top.key)

    def _note(self, path: str, line: int) -> None:
        if len(path) <= _NOTED_PATH:
            self._lines.setdefault(path, line)

    def _reserve(self, anchor: str | None) -> None:
        if anchor is not None:
            self._anchors[anchor] = None

    def _remember(self, anchor: str | None, value: Any, size: int, height: int) -> None:
        if anchor is not None:
            self._anchors[anchor] = _Anchored(value, size, height)

    def _fault(self, path: str, message: str, line: int) -> None:
        self.faults.append(_parse_fault(path, message, line))
        if len(self.faults) >= values.TOLD:
            raise Malformed(tuple(self.faults))
