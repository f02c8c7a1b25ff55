"""What no definition may hold, whatever its grammar: what JSON, its readers and the database do not hold alike."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from keep_operator.domain.grammar import faults, scalars
from keep_operator.domain.grammar.faults import Reason

# Levels of nesting, the document itself being the first. Real workflows have about a dozen; the store refuses 64.
MAX_DEPTH: Final = 50
# Values, each as often as aliases repeat it. A definition of 200 KiB has at most half as many.
MAX_VALUES: Final = 100_000
# What a hundred sentences do not tell, more do not either.
TOLD: Final = 100
# Characters that show a text in another order than it is read in, or do not show at all.
_MISLEADING: Final = re.compile("[\u202a-\u202e\u2066-\u2069\u200b\u2060\ufeff]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def check(value: object) -> Iterator[tuple[str, str, Reason | None]]:
    """What no definition may hold, as (path, message, reason); without a reason it is a warning.

    Too deep, too many values; numbers that JSON cannot hold or that lose digits; texts that are no Unicode or that
    PostgreSQL cannot store; keys that are no text. A hundred warnings and a hundred faults are told, not more.
    """
    faults_left = warnings_left = TOLD
    for link, message, reason in _check(value):
        if reason is None:
            warnings_left -= 1
            if warnings_left < 0:
                continue
        else:
            faults_left -= 1
        yield _path(link), message, reason
        if faults_left == 0:
            return


# A place in a value: its key or index, and the place around it. A path is only written out when it is told.
_Link = tuple[Any, str | int] | None


def _path(link: _Link) -> str:
    steps: list[str | int] = []
    while link is not None:
        link, step = link
        steps.append(step)
    path = ""
    for step in reversed(steps):
        path = f"{path}[{step}]" if isinstance(step, int) else faults.join(path, step)
    return path


def _check(value: object) -> Iterator[tuple[_Link, str, Reason | None]]:
    seen = 0
    waiting: list[tuple[_Link, object, int]] = [(None, value, 1)]
    while waiting:
        link, each, depth = waiting.pop()
        seen += 1
        if seen > MAX_VALUES:
            yield None, f"has more than {MAX_VALUES:,} values", Reason.TOO_LARGE
            return
        if depth > MAX_DEPTH:
            yield link, f"is nested more than {MAX_DEPTH} levels deep", Reason.TOO_LARGE
            continue
        match each:
            case dict():
                yield from _check_keys(link, each)
                below = [((link, key), inner, depth + 1) for key, inner in each.items() if isinstance(key, str)]
                waiting.extend(reversed(below))
            case list():
                waiting.extend(((link, index), each[index], depth + 1) for index in range(len(each) - 1, -1, -1))
            case str():
                yield from ((link, fault, reason) for fault, reason in _text_faults(each))
            case bool() | None:
                pass
            case int() | float():
                if (found := scalars.number_fault(each)) is not None:
                    yield link, found, Reason.PARSE_ERROR
            case _:
                yield link, f"is a {type(each).__name__}, which JSON does not have", Reason.PARSE_ERROR


def _check_keys(link: _Link, content: Mapping[object, object]) -> Iterator[tuple[_Link, str, Reason | None]]:
    for key, inner in content.items():
        if not isinstance(key, str):
            yield link, "has a key that is no text", Reason.PARSE_ERROR
            continue
        yield from (((link, key), f"has a key that {fault}", reason) for fault, reason in _text_faults(key))
        if inner is None:
            yield (link, key), 'is null, which some tools drop; leave it out, or write ""', None


def _text_faults(text: str) -> Iterator[tuple[str, Reason | None]]:
    if "\x00" in text:
        yield "holds a NUL character, which cannot be stored", Reason.PARSE_ERROR
    if not text.isascii():
        if _SURROGATE.search(text):
            yield "holds half a surrogate pair, which is no Unicode", Reason.PARSE_ERROR
        if _MISLEADING.search(text):
            yield "holds invisible characters, or some that turn the direction of the text", None
