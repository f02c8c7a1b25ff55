"""How JSON documents are written into and read from the database so that they come back as they went.

``jsonb`` does not do that: it keeps numbers as decimals, so the float ``1e23`` comes back as the integer
``100000000000000000000000``, which Python finds unequal to ``1e23`` - a row that differs from its spec for
ever is a row that is written for ever. So columns are ``json``, which keeps the text, and the text is
canonical: keys sorted, no spaces, numbers as Python's shortest round-trip form. Then

- reading gives back what was written, ``loads(text(value)) == value``, for all that JSON can hold;
- two documents mean the same if and only if their texts are equal: ``1``, ``1.0`` and ``true`` differ
  (Python's ``==`` takes them for equal), the order of keys does not matter.

A check constraint casts to ``jsonb``, so that the database still refuses what could not be queried (NUL).
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from keep_operator.errors import Refused
from keep_operator.store import failures

# Levels of nesting. Real provider configurations have two or three; Python's parser gives up at about 1,000 minus
# the depth of the stack it is called on, so a row near that limit could be written and then not be read.
MAX_DEPTH: Final = 64

# Digits of an integer. Python refuses to read more than 4,300, and a row made by other hands must stay readable
# so that it can be corrected.
_MAX_DIGITS: Final = 4_000

_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def text(document: object) -> str:
    """The canonical text. Raises Refused SpecRefused for what is no JSON (NaN, lone surrogates) or nests too deep."""
    if _deeper_than(MAX_DEPTH, document):
        raise Refused(failures.SPEC_REFUSED, f"a configuration may nest {MAX_DEPTH} levels deep; flatten it")
    try:
        written = _CANONICAL.encode(document)
        written.encode()
    except (TypeError, ValueError):  # UnicodeEncodeError is a ValueError
        raise Refused(
            failures.SPEC_REFUSED,
            "a configuration holds what JSON cannot: a number that is not finite, half a surrogate pair, or a key "
            "that is no string; remove it",
        ) from None
    return written


def loads(written: str | bytes) -> Any:
    """The value of a JSON text; a number too long for Python becomes infinity, which equals nothing declared."""
    return json.loads(written, parse_int=_integer)


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_DIGITS else float(digits)


def _deeper_than(levels: int, value: object) -> bool:
    if value is None or isinstance(value, str | int | float):  # most of all values: said at once
        return False
    if isinstance(value, Mapping):
        inner = value.values()
    elif isinstance(value, list | tuple):
        inner = value  # type: ignore[assignment]
    else:
        return False
    return levels == 0 or any(_deeper_than(levels - 1, each) for each in inner)
