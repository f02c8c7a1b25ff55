"""The lines of a difference as a page shows them: with their numbers, one below the other or side by side."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Final

_KINDS: Final = {"-": "gone", "+": "come", " ": "same"}


@dataclass(frozen=True, slots=True)
class Line:
    """``before`` and ``after`` are its numbers on both sides, None where it is not there."""

    sign: str
    text: str
    before: int | None
    after: int | None

    @property
    def kind(self) -> str:
        """For the style sheet; the sign says the same to those who see no colours."""
        return _KINDS[self.sign]


def numbered(hunks: Iterable[Mapping[str, Any]]) -> list[list[Line]]:
    """The lines of each hunk, as `difference.told` has them."""
    found = []
    for hunk in hunks:
        before, after = hunk["before"]["start"], hunk["after"]["start"]
        shown = []
        for each in hunk["lines"]:
            sign = each[0]
            shown.append(Line(sign, each[1:], before if sign != "+" else None, after if sign != "-" else None))
            before += sign != "+"
            after += sign != "-"
        found.append(shown)
    return found


def beside(hunks: Iterable[Mapping[str, Any]]) -> list[list[tuple[Line | None, Line | None]]]:
    """The same in pairs: what went stands beside what came in its place."""
    return [_pairs(each) for each in numbered(hunks)]


def _pairs(shown: Sequence[Line]) -> list[tuple[Line | None, Line | None]]:
    found: list[tuple[Line | None, Line | None]] = []
    gone: list[Line] = []
    come: list[Line] = []
    for each in [*shown, None]:
        if each is not None and each.sign != " ":
            (gone if each.sign == "-" else come).append(each)
            continue
        found += zip_longest(gone, come)
        gone, come = [], []
        if each is not None:
            found.append((each, each))
    return found
