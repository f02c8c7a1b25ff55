"""CEL, as far as it can be judged without an alert: whether it is CEL at all.

Read by cel-python, the library that Keep reads it with, so what passes here passes there (docs/adr/0026).
"""

from functools import cache
from typing import Any, Final

# Characters. Real triggers have a few hundred; the parser takes time in proportion, about 1 ms for each hundred.
LIMIT: Final = 4_096
# How much of the text around a fault is shown.
_SHOWN: Final = 24


def fault(text: str) -> str | None:
    """What is wrong with a CEL expression, as the rest of a sentence that begins with its path; None: it is CEL."""
    if not text.strip():
        return "is empty"
    if len(text) > LIMIT:
        return f"is longer than {LIMIT} characters; split it into several triggers"
    parser, parse_error = _parser()
    try:
        parser.parse(text)
    except parse_error as error:
        at_end = getattr(getattr(error.__context__, "token", None), "type", None) == "$END"
        line, column = getattr(error, "line", None), getattr(error, "column", None)
        return f"is not CEL: {'it ends too early' if at_end else _place(text, line, column)}"
    return None


def _place(text: str, line: int | None, column: int | None) -> str:
    """Where the parser stumbled, with what stands there, and the slips that are most common."""
    lines = text.splitlines() or [text]
    if line is None or column is None or not 1 <= line <= len(lines):
        return "it ends too early"
    rest = lines[line - 1][max(column - 1, 0) :]
    if not rest.strip():
        return "it ends too early"
    found = f"line {line}, column {column}, at {rest[:_SHOWN]!a}"
    word = rest.split(maxsplit=1)[0]
    if rest.startswith("=") and not rest.startswith("=="):
        return f"{found}; equality is written =="
    if (written := {"and": "&&", "or": "||", "not": "!"}.get(word)) is not None:
        return f"{found}; {word} is written {written}"
    return found


@cache
def _parser() -> tuple[Any, type[Exception]]:
    """The parser and what it raises; made when it is first needed, since importing it takes 0.2 s."""
    from celpy.celparser import CELParseError, CELParser  # noqa: PLC0415

    return CELParser(), CELParseError
