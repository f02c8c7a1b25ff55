"""Log lines: JSON in a cluster, readable on a terminal; secrets never in either.

Nothing in the operator logs a secret on purpose. The filter here is the last door: values that the process was
given as secrets (keys, passwords in URLs) are replaced wherever they turn up, tracebacks included.
"""

import json
import logging
import sys
import traceback
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from keep_operator.settings import LogFormat

HIDDEN: Final = "***"
# Shorter secrets would hide ordinary words.
SHORTEST_HIDDEN: Final = 6
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class _Formatter(logging.Formatter):
    def __init__(self, hidden: Iterable[str]) -> None:
        super().__init__()
        self._hidden = sorted({secret for secret in hidden if len(secret) >= SHORTEST_HIDDEN}, key=len, reverse=True)

    def redact(self, text: str) -> str:
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
        return self.redact(json.dumps(line, default=str, ensure_ascii=False))


class TextFormatter(_Formatter):
    """A line for people: time, level, message, then ``key=value`` pairs."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, secrets and control characters replaced."""
        at = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        pairs = " ".join(f"{key}={value}" for key, value in self.extras(record).items())
        line = f"{at} {record.levelname:<7} {record.getMessage()}{'  ' + pairs if pairs else ''}"
        line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
        return self.redact("\n".join(filter(None, (line, self.trace(record)))))


def passwords(url: str) -> list[str]:
    """The password inside a URL, as it stands there and decoded, for the list of what is hidden."""
    found = urlsplit(url).password
    return [] if not found else [found, unquote(found)]


def configure(form: LogFormat, *, hidden: Iterable[str] = (), level: int = logging.INFO) -> None:
    """Send all logging to standard error in one form; calling it again replaces the former set-up."""
    text = form is LogFormat.TEXT or (form is LogFormat.AUTO and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter((TextFormatter if text else JsonFormatter)(hidden))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # kopf tells each watch and each connection at INFO; what matters of it is in our own lines and metrics.
    for noisy in ("kopf", "aiohttp.access", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
