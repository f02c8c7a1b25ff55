"""What the user sees: tables and colours on a terminal, the same text without either elsewhere, data for scripts."""

import json
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import click

from keep_operator.domain.legible import legible

# Away from a terminal a line is as long as it is.
_UNBOUND: Final = 10_000
# Characters of a cell on a terminal: as long as most names of people.
_CELL: Final = 24
# As click and rich write them.
_COLOUR: Final = re.compile(r"(\x1b\[[0-9;]*m)")
# Colours of states, of outcomes and of checks; what is not here has none.
_COLOURS: Final = {
    **dict.fromkeys(("active", "True", "Done", "Succeeded", "ok", "added"), "green"),
    **dict.fromkeys(
        (
            "desired",
            "canary",
            "awaits approval",
            "NoOp",
            "Superseded",
            "Running",
            "Unknown",
            "warn",
            "changed",
            "moved",
        ),
        "yellow",
    ),
    **dict.fromkeys(
        ("held back", "rejected", "denied", "invalid", "False", "Failed", "TimedOut", "Lost", "FAIL", "removed"), "red"
    ),
}


def data(value: Any, form: str) -> None:
    """Print a value as ``json`` or ``yaml``, with its keys in the order in which they were put."""
    if form == "json":
        document(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
        return
    import yaml  # noqa: PLC0415 - only who asks for YAML waits for it

    document(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=_UNBOUND))


def document(text: str) -> None:
    """Print a text that another program may read: to that as it is, to a terminal with nothing hidden."""
    click.echo(legible(text) if sys.stdout.isatty() else text, nl=False)


def echo(text: str = "", *, err: bool = False) -> None:
    """Print a line, with colours of ours; whatever else of it a terminal would obey is written out, be it from whomever."""
    click.echo(tamed(text), err=err)


def tamed(text: str) -> str:
    """What `echo` prints: colours are all that a terminal obeys."""
    pieces = _COLOUR.split(text)
    pieces[::2] = (legible(each).replace("\r", "\\r") for each in pieces[::2])
    return "".join(pieces)


def coloured(word: str) -> str:
    """A word in the colour of what it means, if it has one; without it where nobody sees colours."""
    colour = _COLOURS.get(word)
    return click.style(word, fg=colour) if colour else word


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under their heads. To fit a terminal, the last column is broken into lines, and long cells are cut."""
    # Only who sees a table waits for it: some 30 ms.
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    terminal = sys.stdout.isatty()
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in head[:-1]:
        shown.add_column(name, no_wrap=True, overflow="ellipsis", max_width=_CELL if terminal else None)
    shown.add_column(head[-1], overflow="fold")
    for row in rows:
        shown.add_row(*(Text(cell, style=_COLOURS.get(cell, "")) for cell in row))
    console = Console(width=None if terminal else _UNBOUND, highlight=False)
    with console.capture() as captured:
        console.print(shown)
    for line in captured.get().splitlines():
        echo(line.rstrip())


def prose(text: str, first: str = "", indent: int = 2) -> None:
    """Print a text behind ``first``, broken into lines that fit a terminal and are indented by so many characters."""
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        text = click.wrap_text(text, width - indent).replace("\n", "\n" + " " * indent)
    echo(first + text)


def age(at: str | None) -> str:
    """How long ago, as kubectl says it."""
    if not at:
        return ""
    seconds = (datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds()
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)}{unit}"
    return f"{max(int(seconds), 0)}s"


def took(began: str | None, ended: str | None) -> str:
    """How long something took, to the second; empty while it goes on."""
    if not began or not ended:
        return ""
    seconds = round((datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds())
    minutes, seconds = divmod(max(seconds, 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m" if hours else f"{minutes}m{seconds}s" if minutes else f"{seconds}s"


def who(user: str | None) -> str:
    """A user's name; of a service account without what all of them begin with."""
    return (user or "").removeprefix("system:serviceaccount:")


def moment(at: str | None) -> str:
    """A time of the API in few characters: UTC, to the second."""
    return "" if not at else at[:19].replace("T", " ")


def count(number: int, noun: str) -> str:
    """How many, in words."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
