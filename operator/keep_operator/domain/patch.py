"""What differs between two definitions as text: canonical YAML of both, and hunks of a unified diff as data.

Parts are paired by meaning first (``comparison``), and lines are compared within a pair only. So a diff shows what was
meant, and its time grows with the size of the definitions and not with its square.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from keep_operator.domain import comparison
from keep_operator.domain.comparison import Match, Part
from keep_operator.domain.grammar import writer

# Pairs of equal lines that are looked at in one comparison, each of which takes half a microsecond. A text in which one line
# stands five hundred times, as lists of alike entries do, has a quarter of a million of them with its like.
_PAIRS: Final = 300_000


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
    work = _Work()
    first = second = 0
    for old_index, new_index in (*aligned, (len(old), len(new))):
        yield from (("-", line) for text in old[first:old_index] for line in text)
        yield from (("+", line) for text in new[second:new_index] for line in text)
        first, second = old_index + 1, new_index + 1
        if old_index < len(old):
            yield from _within(old[old_index], new[new_index], work)


@dataclass(slots=True)
class _Work:
    """How much may still be done for one comparison."""

    left: int = _PAIRS

    def take(self, pairs: int) -> bool:
        """Whether so much more may be."""
        if pairs > self.left:
            return False
        self.left -= pairs
        return True


def _within(old: Sequence[str], new: Sequence[str], work: _Work, *, last: bool = False) -> Iterator[tuple[str, str]]:
    """The lines of a pair, of which as many as can be are the same.

    Where that takes too long, those that stand once in both are, and what is between them is looked at for the ``last`` time.
    """
    start = _common(old, new)
    end = _common(old[start:][::-1], new[start:][::-1])
    first, second = old[start : len(old) - end], new[start : len(new) - end]
    places: dict[str, list[int]] = {}
    for place, line in enumerate(second):
        places.setdefault(line, []).append(place)
    same: list[tuple[int, int]] = []
    whole = work.take(sum(len(places.get(line, ())) for line in first))
    if whole:
        same = [(one, two) for one, line in enumerate(first) for two in reversed(places.get(line, ()))]
    elif not last:
        times = Counter(first)
        once = {line: found[0] for line, found in places.items() if len(found) == 1 and times[line] == 1}
        same = [(one, once[line]) for one, line in enumerate(first) if line in once]
    yield from ((" ", line) for line in old[:start])
    one = two = 0
    for one_end, two_end in (*comparison.in_order(same), (len(first), len(second))):
        if same and not whole:
            yield from _within(first[one:one_end], second[two:two_end], work, last=True)
        else:
            yield from (("-", line) for line in first[one:one_end])
            yield from (("+", line) for line in second[two:two_end])
        yield from ((" ", line) for line in first[one_end : one_end + 1])
        one, two = one_end + 1, two_end + 1
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
