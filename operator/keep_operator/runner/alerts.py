"""The alerts of a run's tenant, as its steps read and make them: what a run makes is taken like what is posted."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from keep_operator.domain import alerting
from keep_operator.domain.alerting import Maker
from keep_operator.domain.events import alert as rules
from keep_operator.domain.events import causes, content
from keep_operator.domain.events.alert import Alert, Previous
from keep_operator.domain.events.content import EventInvalid
from keep_operator.domain.execution import Run
from keep_operator.errors import Conflict, Unavailable
from keep_operator.runner.actions.call import ActionFailed, Told
from keep_operator.store import alerts, intake
from keep_operator.store import engine as database
from keep_operator.store.intake import Intake, Source, Taken

log = logging.getLogger(__name__)
T = TypeVar("T")

RETRY_S: Final = 1.0
# Alerts of one action that are looked at to be resolved.
MOST: Final = 1_000


class RunAlerts:
    """For one call of one run: it knows its tenant, its workflow, and which workflows led to it."""

    def __init__(self, means: Intake, run: Run, action: str, event: Any) -> None:
        self._means = means
        self._run = run
        self._maker = Maker(str(run.workflow_id), action)
        self._chain = causes.behind(causes.of(event if isinstance(event, dict) else None), str(run.workflow_id))

    def now(self) -> datetime:
        """The time of day."""
        return self._means.clock()

    async def heard(self, since: datetime, until: datetime, most: int) -> list[dict[str, Any]]:
        """See `actions.call.Alerts`."""

        async def look() -> list[dict[str, Any]]:
            async with database.look(self._means.engine) as conn:
                return await alerts.heard(conn, self._run.tenant_id, since, until, self.now(), most)

        return await _patiently(look)

    async def take(self, wanted: Sequence[Any], waits: timedelta | None, *, resolves: bool) -> list[Told]:
        """See `actions.call.Alerts`. Each alert is taken for good before the next one; a repetition finds it as it is."""
        now = self.now()

        async def look() -> tuple[dict[str, Previous], dict[str, Previous]]:
            async with database.look(self._means.engine) as conn:
                fingerprints = [each["fingerprint"] for each in wanted]
                known = await alerts.known(conn, self._run.tenant_id, fingerprints, now) if waits is not None else {}
                made = await alerts.made(conn, self._run.tenant_id, self._maker, now, MOST) if resolves else {}
                return known, made

        known, made = await _patiently(look)
        events = alerting.settled(wanted, known, made, now, waits=waits, resolves=resolves)
        try:
            read = [self._read(each, f"alert[{index}]", now) for index, each in enumerate(events)]
        except EventInvalid as fault:
            raise ActionFailed(f"keep: no alert was made: {fault}") from None
        told: list[Told] = []

        async def take() -> None:
            source = Source(self._run.tenant_id, f"run {self._run.id}")
            async for taken in intake.take(self._means, source, read[len(told) :]):
                told.append(self._told(taken))

        await _patiently(take)
        return told

    def _read(self, raw: Any, path: str, now: datetime) -> Alert:
        return rules.read(content.clean(raw, path), path, now).made_by(self._chain)

    def _told(self, taken: Taken) -> Told:
        event = taken.event
        assert isinstance(event, Alert)
        name = str(event.fields["name"])[:100]
        if taken.held:
            log.warning(
                "an alert that a run has made starts no more workflows",
                extra={
                    "run": str(self._run.id),
                    "tenant": self._run.tenant_id,
                    "workflowId": str(self._run.workflow_id),
                    "fingerprint": event.fingerprint,
                    "hops": len(event.chain),
                    "held": [str(each) for each in taken.held[:10]],
                },
            )
        if taken.duplicate:
            outcome = "unchanged"
        elif event.status == rules.Status.RESOLVED:
            outcome = "resolved"
        else:
            outcome = "created" if taken.new else "updated"
        why = (
            f"{len(event.chain)} workflows led to it, which is as many as may"
            if len(event.chain) >= causes.LONGEST
            else "it led to this alert"
        )
        return Told(
            event.fields,
            outcome,
            tuple(f"{listener} (run {run.id})" for listener, run in taken.runs),
            (
                *(f"alert {name} does not start {listener}: {why}" for listener in taken.held),
                *(f"alert {name} does not start {listener}: {refusal.message}" for listener, refusal in taken.refused),
                *(f"a trigger of {listener} failed: {message}" for listener, message in taken.failed),
            ),
        )


async def _patiently(work: Callable[[], Awaitable[T]]) -> T:
    """Do it, again while the database is away; the time that the step has ends it. It may be repeated."""
    while True:
        try:
            return await work()
        except Conflict as error:
            raise ActionFailed(f"keep: {error.message}", True, may_have_acted=True) from None
        except Unavailable as error:
            log.debug("the control database is away", extra={"reason": error.reason})
            await asyncio.sleep(RETRY_S)
