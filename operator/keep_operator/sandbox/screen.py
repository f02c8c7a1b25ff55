"""How the story looks: a live table on a terminal, a line for each change elsewhere."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TextIO

from keep_operator.resources.kinds import WORKFLOWS
from keep_operator.sandbox.row import Row
from keep_operator.sandbox.story import Screen

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

COLOURS: Final = {"True": "green", "False": "red", "Unknown": "yellow", "Deleting": "magenta"}


@contextlib.contextmanager
def opened(stream: TextIO | None = None) -> Iterator[Screen]:
    """The screen that fits ``stream`` (standard output by default)."""
    stream = stream if stream is not None else sys.stdout
    if not stream.isatty():
        yield Lines(stream)
        return
    from rich.console import Console  # noqa: PLC0415 - only a terminal needs it
    from rich.live import Live  # noqa: PLC0415

    with Live(console=Console(file=stream), refresh_per_second=10) as live:
        yield Terminal(live)


def clock() -> str:
    """The wall clock, for the beginning of a line."""
    return datetime.now(UTC).astimezone().strftime("%H:%M:%S")


class Lines:
    """A line for each chapter, and one for each object when it has changed."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown: dict[tuple[str, str], Row] = {}

    def chapter(self, text: str) -> None:
        """The chapter's line."""
        print(f"\n{clock()}  {text}", file=self._stream, flush=True)

    def say(self, text: str) -> None:
        """The line as it is."""
        print(text, file=self._stream, flush=True)

    def show(self, rows: Sequence[Row]) -> None:
        """The lines of what has changed since the last time."""
        now = {(row.kind, row.name): row for row in rows}
        for key, row in now.items():
            if self._shown.get(key) != row and row.looked_at:
                self._print(f"{row.kind:<9}{row.name:<16} {row.ready:<9}{row.reason:<22}{_told(row)}")
        for kind, name in self._shown.keys() - now.keys():
            self._print(f"{kind:<9}{name:<16} gone")
        self._shown = now

    def _print(self, text: str) -> None:
        print(f"{clock()}    {text}", file=self._stream, flush=True)


class Terminal:
    """A table that always shows how things are; chapters and changes scroll above it."""

    def __init__(self, live: "Live") -> None:
        self._live = live
        self._shown: dict[tuple[str, str], Row] = {}

    def chapter(self, text: str) -> None:
        """The chapter's line."""
        self._live.console.print(f"\n[bold]{text}[/bold]")

    def say(self, text: str) -> None:
        """The line as it is."""
        self._live.console.print(text, markup=False, highlight=False)

    def show(self, rows: Sequence[Row]) -> None:
        """The table, and a line above it for each change of readiness."""
        from rich.markup import escape  # noqa: PLC0415

        now = {(row.kind, row.name): row for row in rows}
        for key, row in now.items():
            old = self._shown.get(key)
            was = None if old is None else (old.ready, old.reason, old.record)
            if row.looked_at and was != (row.ready, row.reason, row.record):
                colour = COLOURS.get(row.ready, "white")
                self._live.console.print(
                    f"[dim]{clock()}[/dim] {row.kind} {row.name}: [{colour}]{row.ready} {row.reason}[/{colour}] {escape(_told(row))}"
                )
        for kind, name in self._shown.keys() - now.keys():
            self._live.console.print(f"[dim]{clock()}[/dim] {kind} {name}: gone")
        self._shown = now
        self._live.update(_table(rows))


def _told(row: Row) -> str:
    """The message; of a Workflow which version is active, unless the message says it, and what is in the way."""
    if row.kind != WORKFLOWS.kind or row.reason == "RolledBack":
        return row.message
    return row.record if row.reason == "Ready" else f"{row.record}. {row.message}"


def _table(rows: Sequence[Row]) -> "Table":
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")  # fits into 80 columns
    for column in ("KIND", "NAME", "READY", "REASON", "IN THE DATABASE"):
        table.add_column(column, no_wrap=True)
    for row in rows:
        ready = Text(row.ready, style=COLOURS.get(row.ready, "white"))
        table.add_row(row.kind, row.name, ready, row.reason, row.record)
    return table
