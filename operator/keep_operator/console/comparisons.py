"""What takes a processor for long: differences, each made once for all who ask, and pages of a thousand lines.

::

    two contents and a context ──► kept? ── yes ──► told
                                     └─ no ──► being made? ──► waited for, by however many
                                                  └─ no ──► read, compared in a thread, kept

Versions never change and are named by the hash of their content, so what was told once is true for good; a draft is kept
nowhere. Who may see a difference is asked before, of each.
"""

import asyncio
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, ParamSpec, TypeVar

from keep_operator.console.answers import Json
from keep_operator.domain import difference

Given = ParamSpec("Given")
Made = TypeVar("Made")
Key = tuple[str, str, int]
# Both definitions, by their numbers or whatever they were asked by.
Read = Callable[[], Awaitable[tuple[Mapping[str, Any], Mapping[str, Any]]]]

# What is under way in threads: a large difference takes a processor for a tenth of a second.
AT_ONCE: Final = 2
# Differences that are kept, and their bytes as JSON; the largest that can be has about one MiB.
KEPT: Final = 256
KEPT_BYTES: Final = 16 * 2**20


@dataclass(slots=True)
class _Work:
    """A difference that is being made."""

    task: asyncio.Task[Json]
    waiting: int = 0


class Comparisons:
    """Made once per process."""

    def __init__(self, most_bytes: int = KEPT_BYTES) -> None:
        self._most_bytes = most_bytes
        self._places = asyncio.Semaphore(AT_ONCE)
        self._kept: OrderedDict[Key, bytes] = OrderedDict()
        self._bytes = 0
        self._under_way: dict[Key, _Work] = {}

    async def aside(self, work: Callable[Given, Made], *args: Given.args, **more: Given.kwargs) -> Made:
        """What the work returns; meanwhile others are answered."""
        async with self._places:
            return await asyncio.to_thread(work, *args, **more)

    async def between(self, before: str, after: str, context: int, read: Read) -> Json:
        """As `difference.told`, of two contents by their hashes; not to be changed. Raises as ``read``."""
        key = (before, after, context)
        if (kept := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
            told: Json = await self.aside(json.loads, kept)
            return told
        if key not in self._under_way:
            self._under_way[key] = _Work(asyncio.create_task(self._make(key, read)))
        work = self._under_way[key]
        work.waiting += 1
        try:
            return await asyncio.shield(work.task)
        finally:
            work.waiting -= 1
            if not work.waiting:
                work.task.cancel()
                self._forget(key, work.task)

    async def _make(self, key: Key, read: Read) -> Json:
        try:
            told, text = await self.aside(_compared, *await read(), key[2])
        finally:
            self._forget(key, asyncio.current_task())
        self._keep(key, text)
        return told

    def _forget(self, key: Key, task: asyncio.Task[Any] | None) -> None:
        """Nobody joins it any more."""
        if key in self._under_way and self._under_way[key].task is task:
            del self._under_way[key]

    def _keep(self, key: Key, text: bytes) -> None:
        if len(text) > self._most_bytes:
            return
        self._kept[key] = text
        self._bytes += len(text)
        while self._bytes > self._most_bytes or len(self._kept) > KEPT:
            self._bytes -= len(self._kept.popitem(last=False)[1])


def _compared(before: Mapping[str, Any], after: Mapping[str, Any], context: int) -> tuple[Json, bytes]:
    told = difference.told(before, after, context=context)
    return told, json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
