"""What an unquoted scalar means: one thing for every reader of YAML, or it is refused."""

import math
import re
from typing import Final

# RFC 8785 and JavaScript: whole numbers above lose digits on their way through JSON.
MAX_NUMBER: Final = 2**53 - 1

_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE: Final = frozenset({"true", "True", "TRUE"})
_FALSE: Final = frozenset({"false", "False", "FALSE"})
_BOOLEANS_OF_1_1: Final = frozenset({"y", "n", "yes", "no", "on", "off"})
# What every number, date and merge begins with; nearly all texts do not, and need no further look.
_SUSPICIOUS: Final = frozenset("0123456789+-.=<")
_INTEGER: Final = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_HEXADECIMAL: Final = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"([-+]?[0-9]+\.[0-9]*|\.[0-9]+)([eE][-+][0-9]+)?")
# What the one reader takes for a number, a time or a merge, and the other for text or for another number.
_AMBIGUOUS: Final = (
    (re.compile(r"[-+]?0[0-9]+"), "is octal in YAML 1.1 and decimal in 1.2"),
    (
        re.compile(r"[-+]?\.?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"),
        "counts in sixties in YAML 1.1 and is text in 1.2",
    ),
    (
        re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(([Tt]|\s+)[0-9]{1,2}:[0-9]{2}.*)?"),
        "is a date in YAML 1.1 and text in 1.2",
    ),
    (re.compile(r"=|<<"), "has a meaning of its own in YAML 1.1 and is text in 1.2"),
)
# kubectl's reader leaves out underscores wherever they stand, and knows the prefixes of Go.
_NUMBER_FOR_SOME: Final = re.compile(
    r"[-+]?(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO][0-7]+|([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?)"
)
_INFINITE: Final = re.compile(r"[-+]?\.(inf|nan)", re.IGNORECASE)


def plain(text: str) -> object:
    """The value of an unquoted scalar. Raises ValueError, the rest of a sentence, for one that readers take differently."""
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if text.casefold() in _BOOLEANS_OF_1_1:
        raise ValueError("is a boolean in YAML 1.1 and text in 1.2; write true or false, or put it in quotes")
    if text[0] not in _SUSPICIOUS:
        return text
    if _INTEGER.fullmatch(text):
        return _whole(int(text) if len(text) < 20 else math.inf)
    if _HEXADECIMAL.fullmatch(text):
        return _whole(int(text, 16) if len(text) < 20 else math.inf)
    if _FLOAT.fullmatch(text):
        return _whole(float(text))
    if _INFINITE.fullmatch(text):
        raise ValueError("is a number that JSON does not have; put it in quotes if it is text")
    remedy = "put it in quotes if it is text, or write the number in decimal"
    for pattern, meaning in _AMBIGUOUS:
        if pattern.fullmatch(text):
            raise ValueError(f"{meaning}; {remedy}")
    if _NUMBER_FOR_SOME.fullmatch(text.replace("_", "")):
        raise ValueError(f"is a number for some readers and text for others; {remedy}")
    return text


def number_fault(number: float) -> str | None:
    """What is wrong with a number, as the rest of a sentence; None: JSON holds it as it is."""
    if isinstance(number, float) and math.isnan(number):
        return "is not a number (NaN), which JSON does not have"
    if abs(number) > MAX_NUMBER:
        return "is a number above 2^53, of which JSON loses digits; put it in quotes"
    return None


def _whole(number: float) -> int | float:
    """A number as it comes out of the API server, for which ``1.0`` is ``1``."""
    if (found := number_fault(number)) is not None:
        raise ValueError(found)
    return int(number) if number == int(number) else number
