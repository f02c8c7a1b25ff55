"""One call of a provider: what goes in, what comes out, how it fails."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeAlias

from keep_operator.domain.abilities import Kind
from keep_operator.runner.egress import Egress

Json: TypeAlias = Any
"""What JSON can hold: str, int, float, bool, None, list, dict."""


@dataclass(frozen=True, slots=True)
class Told:
    """What became of an event that an action has made: ``outcome`` in a word, ``started`` in sentences, and who was not."""

    alert: Mapping[str, Any]
    outcome: str
    started: tuple[str, ...] = ()
    not_started: tuple[str, ...] = ()


class Alerts(Protocol):
    """The alerts of the run's own tenant, and of no other. All of it waits while the database is away."""

    def now(self) -> datetime:
        """The time of day."""

    async def heard(self, since: datetime, until: datetime, most: int) -> list[dict[str, Any]]:
        """Those of that time, the newest first."""

    async def take(self, wanted: Sequence[Json], waits: timedelta | None, *, resolves: bool) -> list[Told]:
        """Have these alerts, as `domain.alerting.settled` says. Raises ActionFailed for one that cannot be taken."""


@dataclass(frozen=True, slots=True)
class Call:
    """A step or an action with its parameters filled in.

    ``config`` has the Provider's settings and its opened credentials in one, empty where the step names no Provider.
    ``idempotency_key`` is the same whenever the same step of the same run is done again.
    """

    kind: Kind
    type: str
    subtype: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict, repr=False)
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    idempotency_key: str = ""
    timeout_s: float = 30.0
    egress: Egress = field(default_factory=Egress)
    alerts: Alerts | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Outcome:
    """``result`` is what ``steps.<name>.results`` leads to, plain JSON. ``message`` is for the log of the run."""

    result: Json = None
    message: str = ""


class ActionFailed(Exception):
    """A call did not succeed. The message names type, host and fact, and no secret.

    ``retryable``: the same call may succeed later. ``retry_after_s`` is when, where the far side said so.
    ``may_have_acted``: the far side was reached, so it may have done what was asked all the same.
    """

    def __init__(
        self,
        message: str,
        retryable: bool = False,
        *,
        retry_after_s: float | None = None,
        may_have_acted: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.may_have_acted = may_have_acted

    def tell_tries(self, tries: int) -> None:
        """Say how often it was tried, if more than once."""
        if tries > 1:
            self.message = f"{self.message}; tried {tries} times"
            self.args = (self.message,)


class ActionNotSupported(ActionFailed):
    """The built-in runtime cannot do this with that type of provider. Never tried again."""
