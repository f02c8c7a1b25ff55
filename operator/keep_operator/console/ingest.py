"""What the console keeps for events from request to request: who may post, how much, and what was told."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from keep_operator.console.doorkeeper import Memory
from keep_operator.console.machines import Machines
from keep_operator.console.rates import Rates
from keep_operator.console.schemas import MOST_EVENTS
from keep_operator.store.alerts import Listener
from keep_operator.store.intake import Intake

log = logging.getLogger(__name__)

# Triggers whose faults are remembered.
TOLD_AT_MOST: Final = 4_000
# A trigger that fails for each event is told once in so many seconds.
TOLD_AGAIN_S: Final = 600.0
# Seconds' worth of events that may come at once.
_BURST_S: Final = 10


@dataclass(frozen=True, slots=True)
class Ingest:
    """Made once per process."""

    machines: Machines
    intake: Intake
    rates: Rates[str]
    per_second: int
    told: Memory[tuple[UUID, int, str], bool]

    def warn(self, listener: Listener, message: str) -> None:
        """Say in the log that a trigger has failed, now and then."""
        mark = (listener.id, listener.revision, message)
        if not self.told.get(mark):
            self.told.put(mark, True)
            log.warning("a trigger of %s did not match because it failed: %s", listener, message)


def ingest(intake: Intake, clock: Callable[[], float], *, per_second: int) -> Ingest:
    """``per_second``: events of one tenant; one request of the largest size always fits. ``clock`` gives monotonic seconds."""
    rates: Rates[str] = Rates(clock, per_second, max(MOST_EVENTS, per_second * _BURST_S))
    return Ingest(Machines(clock), intake, rates, per_second, Memory(clock, TOLD_AGAIN_S, TOLD_AT_MOST))
