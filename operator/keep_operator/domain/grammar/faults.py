"""What is wrong with a definition, where, and what to do about it; collected, so that all of it is told at once."""

import difflib
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from keep_operator.resources import shapes

# Of two names that share less than this part of their letters, one is hardly a slip of the other.
_LIKENESS: Final = 0.7
# Names in a message are cut: a definition may hold anything, and messages end in a status.
_QUOTED_LIMIT: Final = 63
# A definition of 5,000 broken steps needs no 5,000 sentences; what follows is counted.
_LIMIT: Final = 100
# Comparing takes time with the number of names: 2 ms for so many. More than a few in one sentence nobody reads.
_COMPARED: Final = 500
_TOLD: Final = 12


class Reason(StrEnum):
    """The reason that the condition ``DefinitionValid`` shows; of several kinds of faults the first here."""

    TOO_LARGE = "TooLarge"
    PARSE_ERROR = "ParseError"
    SCHEMA_ERROR = "SchemaError"
    UNKNOWN_ACTION = "UnknownAction"
    ACTION_NOT_SUPPORTED = "ActionNotSupported"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault or warning: ``path`` as in ``steps[2].provider.type``, empty for the whole; ``line`` from 1 on."""

    path: str
    message: str
    reason: Reason = Reason.SCHEMA_ERROR
    line: int | None = None

    def __str__(self) -> str:
        told = f"{self.path}: {self.message}" if self.path else self.message
        return told if self.line is None else f"line {self.line}: {told}"


@dataclass(slots=True)
class Findings:
    """Gathers while a definition is read; of more than a hundred of a kind the rest is only counted."""

    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)
    untold_faults: int = 0
    untold_warnings: int = 0

    def fault(
        self,
        path: str,
        message: str,
        reason: Reason = Reason.SCHEMA_ERROR,
        *,
        meant: tuple[object, Collection[str]] | None = None,
    ) -> None:
        """Keep refuses this, or each run that gets there ends in an error.

        ``meant`` are an unknown name and the known ones: the message ends with the one that was probably meant.
        """
        if len(self.faults) < _LIMIT:
            self.faults.append(Fault(path, message + _did_you_mean(meant), reason))
        else:
            self.untold_faults += 1

    def warn(self, path: str, message: str, *, meant: tuple[object, Collection[str]] | None = None) -> None:
        """Keep takes this, but it was hardly meant so."""
        if len(self.warnings) < _LIMIT:
            self.warnings.append(Fault(path, message + _did_you_mean(meant)))
        else:
            self.untold_warnings += 1

    def unknown_keys(self, path: str, given: Mapping[str, Any], known: Collection[str], *, aside: str = "") -> None:
        """Warns about the keys that the grammar does not have; they are kept.

        ``aside`` ends the sentence where something more is to be said about all of them.
        """
        for key in given:
            if key in known:
                continue
            if len(self.warnings) >= _LIMIT:
                self.untold_warnings += 1
                continue
            meant = near(key, [name for name in known if name not in given]) or near(key, known)
            hint = f"; did you mean {meant}?" if meant else ""
            if meant and not key.isascii():
                hint += " It has letters that only look like those"
            self.warn(join(path, key), f"is not a known key, so it is kept and has no effect{hint}{aside}")


def cut(told: Sequence[object], untold: int = 0, limit: int = 8) -> str:
    """Sentences in one line for a condition's message; of more than ``limit`` only the number of the rest is told."""
    rest = max(len(told) - limit, 0) + untold
    line = "; ".join(map(str, told[:limit]))
    return f"{line}; and {rest} more" if rest else line


def join(path: str, key: str) -> str:
    """The path of an entry below ``path``; keys that are no plain words are quoted and cut."""
    below = shapes.join_key(path, key)
    return below if path else below.removeprefix(".")


def quoted(name: str) -> str:
    """A name from a definition as it may stand in a message."""
    return f'"{name}"' if name.isprintable() and len(name) <= _QUOTED_LIMIT else f"{name[:_QUOTED_LIMIT]!a}"


def near(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant; without regard to case, ``-`` and ``_``, nor to look-alike letters."""
    # Sorted, so that of two that are equally near always the same is named.
    candidates = {_plain(each): each for each in sorted(known)[:_COMPARED]}
    found = difflib.get_close_matches(_plain(name[:_QUOTED_LIMIT]), candidates, n=1, cutoff=_LIKENESS)
    return candidates[found[0]] if found else None


def _did_you_mean(meant: tuple[object, Collection[str]] | None) -> str:
    """The end of a sentence about an unknown name: what was probably meant, else what there is, if that is short."""
    if meant is None or not isinstance(name := meant[0], str):
        return ""
    known = meant[1]
    if (found := near(name, known)) is not None:
        return f"; did you mean {found[:_QUOTED_LIMIT]}?"
    return f"; there is {', '.join(each[:_QUOTED_LIMIT] for each in sorted(known))}" if 0 < len(known) <= _TOLD else ""


def _plain(name: str) -> str:
    return "".join(each for each in unicodedata.normalize("NFKC", name).casefold() if each not in "-_ ")
