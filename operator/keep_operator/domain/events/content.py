"""What any event may hold: JSON that can be stored and evaluated, and not too much of it."""

import math
import re
from typing import Any, Final

Json = dict[str, Any]

# Values of one event, each text, number, list and object being one. Alerts have a few dozen.
MOST_VALUES: Final = 2_000
# Characters of all texts and keys of one event. Alerts have a few thousand.
MOST_CHARACTERS: Final = 128 * 1024
MOST_DEPTH: Final = 32
# What PostgreSQL does not store (NUL) or no encoding has (halves of pairs); an alert is not lost because of them.
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")


class EventInvalid(ValueError):
    """An event that cannot be taken: ``path`` says where, ``fault`` is the rest of the sentence."""

    def __init__(self, path: str, fault: str) -> None:
        super().__init__(f"{path} {fault}")
        self.path = path
        self.fault = fault


def clean(raw: object, path: str) -> Any:
    """A copy that can be stored; characters that cannot be are replaced. Raises EventInvalid for what is too much."""
    left = [MOST_VALUES, MOST_CHARACTERS]

    def text(value: str) -> str:
        left[1] -= len(value)
        if left[1] < 0:
            raise EventInvalid(path, f"is longer than {MOST_CHARACTERS:,} characters")
        return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", value)

    def copied(value: object, depth: int) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise EventInvalid(path, f"has more than {MOST_VALUES:,} values")
        if depth > MOST_DEPTH:
            raise EventInvalid(path, f"is nested more than {MOST_DEPTH} levels deep")
        match value:
            case str():
                return text(value)
            case dict():
                return {text(str(key)): copied(each, depth + 1) for key, each in value.items()}
            case list():
                return [copied(each, depth + 1) for each in value]
            case float() if not math.isfinite(value):
                raise EventInvalid(path, "has a number that JSON does not have")
            case _:
                return value

    return copied(raw, 1)
