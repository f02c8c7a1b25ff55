"""A display that remembers what it was told."""

import contextlib
from datetime import timedelta

from keep_operator.sandbox.display import Step


class Silent:
    def tick(self, note: str = "") -> None:
        pass


class Recorder:
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def step(self, title: str, usual: timedelta | None = None) -> contextlib.AbstractContextManager[Step]:
        self.said.append(title)
        return contextlib.nullcontext(Silent())
