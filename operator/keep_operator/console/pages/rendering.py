"""From templates to HTML: one environment, which escapes everything, hides nothing, and knows no undefined name."""

import hashlib
import itertools
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from keep_operator.console.pages import lines
from keep_operator.domain.legible import legible

HERE: Final = Path(__file__).parent
STATIC: Final = HERE / "static"
# Characters of a value.
_LONGEST: Final = 200
_UNITS: Final = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


class Renderer:
    """Renders templates; made once per process. ``now`` is what relative times are told by."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._environment = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            finalize=_plain,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.filters |= {
            "when": self._when,
            "clock": _clock,
            "told": _told,
            "as_typed": escape,
            "span": span,
            "numbered": lines.numbered,
            "beside": lines.beside,
        }
        self._environment.globals |= {"static": static_url}

    def compile(self) -> None:
        """Read all templates now, so that nobody waits for it: the first page would take a tenth of a second longer."""
        for each in self._environment.list_templates():
            self._environment.get_template(each)

    def render(self, template: str, values: Mapping[str, Any]) -> str:
        """The page; raises where a template asks for what it was not given."""
        return self._environment.get_template(template).render(values)

    def _when(self, at: datetime | str | None) -> Markup:
        """A time as people say it, with the exact one to be seen on hover and by programs."""
        if at is None:
            return Markup("<span>–</span>")
        moment = datetime.fromisoformat(at) if isinstance(at, str) else at
        exact = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return Markup('<time datetime="{0}" title="{0}">{1}</time>').format(exact, ago(moment, self._now()))


def _clock(at: datetime) -> Markup:
    """The time of day in UTC, where the day is known and what is before what matters; the whole of it on hover."""
    moment = at.astimezone(UTC)
    exact, shown = moment.isoformat(timespec="milliseconds"), moment.time().isoformat(timespec="milliseconds")
    return Markup('<time datetime="{0}" title="{0}">{1}</time>').format(exact.replace("+00:00", "Z"), shown)


def _plain(value: Any) -> Any:
    """What is written into a page; markup and numbers as they are."""
    return legible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _told(value: Any) -> str:
    """A value of a definition or of the ledger on one line, and not too long a one."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def ago(at: datetime, now: datetime) -> str:
    """How long ago, in the largest unit that fits, or in how long."""
    seconds = (now - at).total_seconds()
    for unit, size in _UNITS:
        if abs(seconds) >= size or size == 1:
            count = int(abs(seconds) // size)
            return f"{count} {unit} ago" if seconds >= 0 else f"in {count} {unit}"
    raise AssertionError


def span(seconds: float | None) -> str:
    """How long something took, in its largest unit and the next one."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"
    whole = round(seconds)
    for (unit, size), (smaller, part) in itertools.pairwise(_UNITS):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part} {smaller}"
    raise AssertionError


@cache
def static_url(name: str) -> str:
    """The address of a static file, with its content's hash: what browsers keep is never stale."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:16]
    return f"/static/{name}?v={digest}"
