"""What differs between two definitions as text: canonical YAML of both, and hunks of a unified diff as data.

Parts are paired by meaning first (``comparison``), and lines are compared within a pair only. So a diff shows what was
meant, and its time grows with the size of the definitions and not with its square.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from keep_operator.domain import comparison
from keep_operator.domain.comparison import Match, Part
from keep_operator.domain.grammar import writer

# Lines of two texts that are compared one with the other: above this product the one replaces the other.
_PRODUCT: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Hunk:
    """Lines that differ with some around them; each begins with ``-``, ``+`` or a space. Starts count from 1."""

    before_start: int
    before_length: int
    after_start: int
    after_length: int
    lines: tuple[str, ...]

    @property
    def header(self) -> str:
        """As in a unified diff."""
        return f"@@ -{self.before_start},{self.before_length} +{self.after_start},{self.after_length} @@"


def hunks(before: Mapping[str, Any], after: Mapping[str, Any], context: int = 3) -> tuple[Hunk, ...]:
    """The differences of the canonical YAML of both, with ``context`` lines around each."""
    return between(comparison.match(before, after), context)


def between(matched: Match, context: int = 3) -> tuple[Hunk, ...]:
    """The same of definitions that are matched already. What both have is written once, since writing is what takes long."""
    old = _texts(matched.old)
    known = {new_index: old[old_index] for old_index, new_index in matched.equal}
    return tuple(_hunks(list(_lines(old, _texts(matched.new, known), matched.in_order())), context))


def unified(
    before: Mapping[str, Any], after: Mapping[str, Any], names: tuple[str, str] = ("before", "after"), context: int = 3
) -> str:
    """The same as the text of a unified diff; empty when both are identical."""
    found = hunks(before, after, context)
    if not found:
        return ""
    lines = [f"--- {names[0]}", f"+++ {names[1]}"]
    for hunk in found:
        lines += [hunk.header, *hunk.lines]
    return "\n".join(lines) + "\n"


def canonical_yaml(definition: Mapping[str, Any]) -> str:
    """A definition's behaviour as the one YAML text that does not depend on the order of its keys."""
    return "".join(f"{line}\n" for text in _texts(comparison.parts(definition)) for line in text)


def _lines(
    old: Sequence[list[str]], new: Sequence[list[str]], aligned: Sequence[tuple[int, int]]
) -> Iterator[tuple[str, str]]:
    """Every line of both with its sign: what is only in ``old`` or ``new``, or in both."""
    first = second = 0
    for old_index, new_index in (*aligned, (len(old), len(new))):
        yield from (("-", line) for text in old[first:old_index] for line in text)
        yield from (("+", line) for text in new[second:new_index] for line in text)
        first, second = old_index + 1, new_index + 1
        if old_index < len(old):
            yield from _within(old[old_index], new[new_index])


def _within(old: list[str], new: list[str]) -> Iterator[tuple[str, str]]:
    """The lines of a pair. Where both are long and nothing like each other, all of the one replaces all of the other."""
    if old == new:
        yield from ((" ", line) for line in old)
        return
    start = _common(old, new)
    end = _common(old[start:][::-1], new[start:][::-1])
    first, second = old[start : len(old) - end], new[start : len(new) - end]
    yield from ((" ", line) for line in old[:start])
    if len(first) * len(second) > _PRODUCT:
        yield from (("-", line) for line in first)
        yield from (("+", line) for line in second)
    else:
        matcher = difflib.SequenceMatcher(None, first, second, autojunk=False)
        for tag, one, one_end, two, two_end in matcher.get_opcodes():
            if tag == "equal":
                yield from ((" ", line) for line in first[one:one_end])
            else:
                yield from (("-", line) for line in first[one:one_end])
                yield from (("+", line) for line in second[two:two_end])
    yield from ((" ", line) for line in old[len(old) - end :])


def _common(old: Sequence[str], new: Sequence[str]) -> int:
    """How many lines both begin with."""
    return next((index for index, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))


def _hunks(lines: list[tuple[str, str]], context: int) -> Iterator[Hunk]:
    """Differing lines with those around them; what is nearer than two contexts is one hunk."""
    differing = [index for index, (sign, _) in enumerate(lines) if sign != " "]
    spans: list[tuple[int, int]] = []
    for index in differing:
        start, end = max(index - context, 0), min(index + context + 1, len(lines))
        if spans and start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    before = after = at = 0
    for start, end in spans:
        skipped = start - at
        before, after = before + skipped, after + skipped
        taken = lines[start:end]
        gone, come = sum(sign != "+" for sign, _ in taken), sum(sign != "-" for sign, _ in taken)
        # Of no lines, a unified diff names the line before.
        yield Hunk(
            before + (1 if gone else 0),
            gone,
            after + (1 if come else 0),
            come,
            tuple(sign + line for sign, line in taken),
        )
        before, after, at = before + gone, after + come, end


def _texts(parts: Sequence[Part], known: Mapping[int, list[str]] | None = None) -> list[list[str]]:
    """Each part's lines of canonical YAML; of entries of lists those are taken from ``known`` that are there, by their places.

    Entries are written together, which is faster, and then told apart.
    """
    written = {index: lines for index, lines in (known or {}).items() if parts[index].place is not None}
    fresh = [index for index, part in enumerate(parts) if part.place is not None and index not in written]
    written |= zip(fresh, writer.entries([parts[index].value for index in fresh], comparison.rank), strict=True)
    return [
        written[index]
        if part.place is not None
        else [f"{part.name}:"]
        if part.entries
        else writer.lines({part.name: part.value}, comparison.rank)
        for index, part in enumerate(parts)
    ]
