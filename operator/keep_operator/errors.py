"""The error tree, ordered by what must happen next.

::

    KeepOperatorError(reason, message)   the reason is the one shown in the condition
    ├── Waiting        another object must be ready first  -> its watch wakes us; Ready=Unknown
    ├── Unavailable    a dependency did not answer         -> back-off;           Ready=Unknown
    ├── Conflict       our view was stale                  -> read again now
    └── Refused        a person must change something      -> stop;               Ready=False

Anything else is a bug: it is logged with its traceback and retried with back-off, and the object
shows ``Ready=Unknown InternalError``. Errors of drivers are translated only at the doors
(``store/failures.py``, ``cluster/failures.py``).
"""


class KeepOperatorError(Exception):
    """A failure with the machine-readable reason that conditions, Events and logs show.

    ``reason`` is CamelCase and documented in ``docs/operations.md``; ``message`` names the object,
    the fact and the remedy, and never holds a secret value or raw SQL.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


class Waiting(KeepOperatorError):
    """Another object must be there or be ready first; its watch wakes the waiter."""


class Unavailable(KeepOperatorError):
    """A dependency did not answer; worth another try after a while.

    ``retry_after_s`` is what the other side asked for, in seconds, when it did.
    """

    def __init__(self, reason: str, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(reason, message)
        self.retry_after_s = retry_after_s


class Conflict(KeepOperatorError):
    """What we had read is no longer so; read again and decide anew."""


class Refused(KeepOperatorError):
    """Waiting will not heal it: a person must change something."""
