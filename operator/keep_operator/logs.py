"""Log lines: JSON in a cluster, readable on a terminal; secrets never in either.

Nothing in the operator logs a secret on purpose. The filter here is the last door: values that the process was
given as secrets (keys, passwords in URLs) are replaced wherever they turn up, tracebacks included.
"""

import json
import logging
import sys
import traceback
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from math import isfinite
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from keep_operator.settings import LogFormat

HIDDEN: Final = "***"
# Shorter secrets would hide ordinary words.
SHORTEST_HIDDEN: Final = 6
# What a PostgreSQL URL may hold after the question mark that is not to be seen.
SECRET_PARAMETERS: Final = ("password", "sslpassword")
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class _Formatter(logging.Formatter):
    def __init__(self, hidden: Iterable[str]) -> None:
        super().__init__()
        forms = {form for secret in hidden if len(secret) >= SHORTEST_HIDDEN for form in _forms(secret)}
        self._hidden = sorted(forms, key=len, reverse=True)

    def redact(self, text: str) -> str:
        """Replace secrets; before anything is escaped, since a quote in a password would look different afterwards."""
        for secret in self._hidden:
            text = text.replace(secret, HIDDEN)
        return text

    @staticmethod
    def extras(record: logging.LogRecord) -> dict[str, Any]:
        return {key: value for key, value in vars(record).items() if key not in _STANDARD and value is not None}

    @staticmethod
    def trace(record: logging.LogRecord) -> str | None:
        return "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else None


class JsonFormatter(_Formatter):
    """One JSON object a line: ts, level, logger, msg, then what the caller gave as ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, secrets replaced."""
        line = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": record.getMessage(),
            **self.extras(record),
        }
        if trace := self.trace(record):
            line["traceback"] = trace
        # ASCII: no reader splits at an exotic line separator, and no half of a character breaks the stream.
        return json.dumps(self._clean(line))

    def _clean(self, value: Any) -> Any:
        """The value as JSON can hold it, without secrets."""
        match value:
            case str():
                return self.redact(value)
            case None | bool():
                return value
            case int() | float():
                text = str(value)
                plain = self.redact(text) == text and (isinstance(value, int) or isfinite(value))
                return value if plain else self.redact(text)
            case Mapping():
                return {self.redact(str(key)): self._clean(each) for key, each in value.items()}
            case list() | tuple():
                return [self._clean(each) for each in value]
            case _:
                return self.redact(str(value))


class TextFormatter(_Formatter):
    """A line for people: time, level, message, then ``key=value`` pairs."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, secrets and control characters replaced."""
        at = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        pairs = " ".join(f"{key}={value}" for key, value in self.extras(record).items())
        line = _printable(self.redact(f"{record.getMessage()}{'  ' + pairs if pairs else ''}"))
        # Indented, so that no line of an error's text passes for a line of the log.
        trace = [f"    {_printable(each)}" for each in self.redact(self.trace(record) or "").splitlines()]
        return "\n".join([f"{at} {record.levelname:<7} {line}", *trace])


def passwords(url: str) -> list[str]:
    """The passwords inside a URL, as they stand there and decoded, for the list of what is hidden."""
    try:
        parts = urlsplit(url)
        found = [parts.password or ""]
    except ValueError:  # not a URL: whoever has to use it will say so
        return []
    pairs = [pair.partition("=") for pair in parts.query.split("&")]
    found += [value for name, _, value in pairs if name in SECRET_PARAMETERS]
    return [form for value in found if value for form in (value, unquote(value))]


def _forms(secret: str) -> set[str]:
    """A secret as it may stand in a text: as it is, and as Python and JSON quote it."""
    return {secret, repr(secret)[1:-1], json.dumps(secret)[1:-1]}


def _printable(text: str) -> str:
    """The text on one line: control characters are shown, not obeyed."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def configure(form: LogFormat, *, hidden: Iterable[str] = (), level: int = logging.INFO) -> None:
    """Send all logging to standard error in one form; calling it again replaces the former set-up."""
    text = form is LogFormat.TEXT or (form is LogFormat.AUTO and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter((TextFormatter if text else JsonFormatter)(hidden))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # kopf and uvicorn tell each watch and each connection at INFO; what matters of it is in our own lines and metrics.
    for noisy in ("kopf", "aiohttp.access", "alembic", "uvicorn"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
