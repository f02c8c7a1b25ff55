"""How the sandbox tells a person what it is doing: a live bar on a terminal, plain lines elsewhere."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

HEARTBEAT_S: Final = 30.0  # seconds between two signs of life of one step on plain output: a CI log stays readable


class Step(Protocol):
    """One piece of work in progress."""

    def tick(self, note: str = "") -> None:
        """Shows that the work goes on, with an optional note such as ``812 of 1,480 packages``."""


class Display(Protocol):
    """Where progress is shown. Safe to use from several threads."""

    def say(self, text: str) -> None:
        """Shows one line."""

    def step(self, title: str, usual: timedelta | None = None) -> contextlib.AbstractContextManager[Step]:
        """Shows a piece of work from its beginning to its end; ``usual`` is how long it takes on a quiet machine."""


@contextlib.contextmanager
def opened(stream: TextIO | None = None) -> Iterator[Display]:
    """The display that fits ``stream`` (standard error by default, so that standard output stays for results)."""
    stream = stream if stream is not None else sys.stderr
    if not stream.isatty():
        yield Lines(stream)
        return
    from rich.console import Console  # noqa: PLC0415  (140 ms: only a terminal needs it)
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn  # noqa: PLC0415

    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[clock]}"),
        TextColumn("[dim]{task.fields[note]}"),
        console=Console(file=stream),
        transient=True,
    )
    with bar:
        yield Terminal(bar)


class Lines:
    """Plain lines, one at the beginning and one at the end of each step, and a sign of life in long ones."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._began = time.monotonic()
        self._lock = threading.Lock()

    def say(self, text: str) -> None:
        """Prints the line with the seconds since the display was opened; a closed terminal is not an error."""
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._stream.write(f"[{time.monotonic() - self._began:6.1f} s] {text}\n")
            self._stream.flush()

    @contextlib.contextmanager
    def step(self, title: str, usual: timedelta | None = None) -> Iterator[Step]:
        """Prints where the step begins and ends, and how long it took."""
        self.say(f"{title} ... {usually(usual)}".rstrip())
        line = _Line(self, title)
        yield line
        self.say(f"{title}: done in {line.elapsed_s:.1f} s")


class _Line:
    def __init__(self, lines: Lines, title: str) -> None:
        self._lines, self._title = lines, title
        self._began = self._spoke = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._began

    def tick(self, note: str = "") -> None:
        if time.monotonic() - self._spoke >= HEARTBEAT_S:
            self._spoke = time.monotonic()
            self._lines.say(f"{self._title}: {self.elapsed_s:.0f} s so far {note}".rstrip())


class Terminal:
    """A live bar for each running step, which becomes one line when the step is over."""

    def __init__(self, bar: "Progress") -> None:
        self._bar = bar

    def say(self, text: str) -> None:
        """Prints the line above the bars; a closed terminal is not an error."""
        with contextlib.suppress(OSError, ValueError):
            self._bar.console.print(text, highlight=False, markup=False)

    @contextlib.contextmanager
    def step(self, title: str, usual: timedelta | None = None) -> Iterator[Step]:
        """Shows the elapsed against the usual time; the bar never claims to be full before the step is over."""
        total = usual.total_seconds() if usual else None
        task = self._bar.add_task(title, total=total, clock=usually(usual), note="")
        row = _Row(self._bar, task, usual)
        try:
            yield row
        finally:
            self._bar.remove_task(task)
        with contextlib.suppress(OSError, ValueError):
            self._bar.console.print(f"[green]✓[/] {title} [dim]{row.elapsed_s:.1f} s[/]", highlight=False)


class _Row:
    def __init__(self, bar: "Progress", task: "TaskID", usual: timedelta | None) -> None:
        self._bar, self._task, self._usual = bar, task, usual
        self._began = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._began

    def tick(self, note: str = "") -> None:
        clock = f"{self.elapsed_s:.0f} s, {usually(self._usual)}" if self._usual else f"{self.elapsed_s:.0f} s"
        shown = min(self.elapsed_s, 0.97 * self._usual.total_seconds()) if self._usual else 0.0
        with contextlib.suppress(OSError, ValueError):
            self._bar.update(self._task, completed=shown, clock=clock, note=note)


def usually(usual: timedelta | None) -> str:
    """``usually 11 s`` or ``usually 2 min 10 s``; empty when nothing is known."""
    if usual is None:
        return ""
    minutes, seconds = divmod(round(usual.total_seconds()), 60)
    return f"usually {minutes} min {seconds} s" if minutes else f"usually {seconds} s"
