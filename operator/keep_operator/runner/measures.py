"""What a runner measures of runs, and of the queue that all runners share; runs themselves are told by the log and the API."""

import asyncio
import logging
import math
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from prometheus_client import Counter, Histogram

from keep_operator.domain.execution import Run, Step, StepState
from keep_operator.errors import KeepOperatorError
from keep_operator.runtime.metrics import Metrics
from keep_operator.store import engine as database
from keep_operator.store import runs
from keep_operator.store.engine import Engine
from keep_operator.store.runs import Backlog

log = logging.getLogger(__name__)

# Seconds. A start takes some milliseconds, one behind a backlog takes minutes; so does a step that waits for others.
WAITS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0)
# Between two looks at the queue, in seconds: what is scraped is at most that old.
LOOK_S: Final = 15.0


class Measures:
    """Counts and durations, in the registry of ``metrics``."""

    def __init__(self, metrics: Metrics | None = None) -> None:
        registry = (metrics or Metrics()).registry
        self.start_seconds = Histogram(
            "keep_operator_run_start_seconds",
            "Time from the request of a run to its first start here.",
            buckets=WAITS,
            registry=registry,
        )
        self.step_seconds = Histogram(
            "keep_operator_step_seconds",
            "Duration of a step, by its provider type and how it ended.",
            ("type", "state"),
            buckets=WAITS,
            registry=registry,
        )
        self.steps_lost = Counter(
            "keep_operator_steps_lost_total",
            "Steps that a dead worker had begun, found when the run was taken up again here.",
            ("type",),
            registry=registry,
        )
        self.recovered = Counter(
            "keep_operator_runs_recovered_total",
            "Runs of dead workers, or without a job, that were put into the queue again by this runner.",
            registry=registry,
        )
        self.ticks_missed = Counter(
            "keep_operator_ticks_missed_total",
            "Ticks of intervals that were not started in time, found by this runner.",
            registry=registry,
        )

    def claimed(self, run: Run, steps: Iterable[Step], now: datetime) -> None:
        """Note that a run was taken up: how long it had waited, and what the worker before had left behind."""
        if run.attempt == 1:
            self.start_seconds.observe(max(0.0, (now - run.queued_at).total_seconds()))
        for step in steps:
            if step.state is StepState.LOST and step.attempt == run.attempt - 1:
                self.steps_lost.labels(step.type).inc()

    def ended(self, step: Step) -> None:
        """Note how long a step took; nothing where it was not begun at all."""
        if step.completed_at is not None:
            seconds = (step.completed_at - step.started_at).total_seconds()
            self.step_seconds.labels(step.type, step.state.value).observe(max(0.0, seconds))


class Waiting:
    """The backlog as it was at the last look; not a number before the first one, and while the database is away."""

    def __init__(self) -> None:
        self._seen: Backlog | None = None

    async def watch(self, engine: Engine) -> None:
        """Look again and again, until cancelled."""
        while True:
            try:
                async with database.look(engine) as conn:
                    self._seen = await runs.backlog(conn)
            except KeepOperatorError as error:
                self._seen = None
                log.debug("nothing is known of the queue now", extra={"reason": error.reason})
            await asyncio.sleep(LOOK_S)

    def publish(self, metrics: Metrics) -> None:
        """Make gauges of it."""
        metrics.plain_gauge(
            "keep_operator_runs_waiting",
            "Runs that no worker has taken up yet, in the whole installation.",
            lambda: math.nan if self._seen is None else float(self._seen.waiting),
        )
        metrics.plain_gauge(
            "keep_operator_runs_waiting_oldest_seconds",
            "The wait of the run that waits longest, in the whole installation.",
            lambda: math.nan if self._seen is None else self._seen.oldest_s,
        )
