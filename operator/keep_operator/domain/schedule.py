"""When a workflow with an interval is due: ticks keep their distance, whoever starts them and however late (A-RUN-6).

::

    next_tick ──┬── + every ──┬── + every ──┬──▶        never "now + every": nothing drifts
                              │ now
    in time: the tick is started; too late: `run.missedTicks` says; in both cases the next one is the first after now
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

# A tick is in time within a tenth of the interval, but for very short ones.
_IN_TIME_SHARE: Final = 10
_IN_TIME_AT_LEAST: Final = timedelta(seconds=10)

MissedTicks = Literal["Skip", "RunOnce"]


@dataclass(frozen=True, slots=True)
class Due:
    """``tick`` is to be started, None: none is; ``next_tick`` follows; ``missed`` were not started in time."""

    tick: datetime | None
    next_tick: datetime
    missed: int = 0


def replanned(
    now: datetime, every: timedelta | None, before: timedelta | None, next_tick: datetime | None
) -> datetime | None:
    """The next tick where the interval was read anew, None: there is none.

    A new one begins at once, as in Keep. One that has not changed goes on undisturbed, however many revisions are rolled out;
    a changed one counts from the tick that was the last.
    """
    if every is None:
        return None
    if before is None or next_tick is None:
        return now
    if every == before:
        return next_tick
    return max(now, next_tick - before + every)


def due(now: datetime, every: timedelta, next_tick: datetime, policy: MissedTicks) -> Due:
    """What is to be done at ``now``, which is not before ``next_tick``."""
    behind = max(0, (now - next_tick) // every)
    latest = next_tick + behind * every
    following = latest + every
    in_time = now - latest <= min(every, max(_IN_TIME_AT_LEAST, every / _IN_TIME_SHARE))
    if in_time:
        return Due(latest, following, behind)
    return Due(latest if policy == "RunOnce" else None, following, behind + 1)
