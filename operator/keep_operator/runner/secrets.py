"""Keeps credentials out of what a run leaves behind: results, messages, log lines."""

from collections.abc import Iterable
from typing import Any, Final

# Shorter ones stand in too many places by chance; they are no secrets worth the name.
SHORTEST: Final = 6
HIDDEN: Final = "***"


class Redaction:
    """Replaces the values that it was told of wherever they stand in a text; the longest first."""

    def __init__(self) -> None:
        self._values: list[str] = []

    def add(self, values: Iterable[str]) -> None:
        """Values that nobody may see from now on."""
        known = {*self._values, *(value for value in values if len(value) >= SHORTEST)}
        self._values = sorted(known, key=len, reverse=True)

    def text(self, text: str) -> str:
        """The text without them."""
        for value in self._values:
            text = text.replace(value, HIDDEN)
        return text

    def value(self, value: Any) -> Any:
        """JSON without them, in keys as in values."""
        if not self._values:
            return value
        match value:
            case str():
                return self.text(value)
            case dict():
                return {self.text(str(key)): self.value(each) for key, each in value.items()}
            case list() | tuple():
                return [self.value(each) for each in value]
            case _:
                return value
