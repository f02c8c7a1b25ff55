"""One run, carried out: the program says what is next, an action does it, a row says how it went.

::

    claim ─▶ program.next ─┬─ Perform ─▶ write ─▶ the action ────────────┐    written before an action: that it is begun, and what
                 ▲         ├─ Skip, Fail ─────────────────────────────── │    has ended since the last write
                 │         └─ Sleep ─▶ write, wait                       │
                 └───────────────────────────────────────────────────────┘    Finish, timeout, cancelled ─▶ end, with the last of it

Nothing is remembered here that is not in a row, so that any other worker can go on from there. While the database is away, what
an action has brought is kept and written when it is back; if another worker has the run by then, that write is refused.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, TypeVar
from uuid import UUID

from keep_operator.domain.abilities import SideEffects, side_effects
from keep_operator.domain.execution import STATE_OF, Reason, Run, Step, StepState
from keep_operator.domain.grammar import workflow as grammar
from keep_operator.domain.program import (
    Done,
    Facts,
    Fail,
    Finish,
    InvalidInputs,
    Perform,
    Previous,
    Program,
    Skip,
    Sleep,
    resolved,
)
from keep_operator.domain.program import State as Ended
from keep_operator.errors import Conflict, KeepOperatorError, Unavailable
from keep_operator.runner.actions import ActionFailed, ActionNotSupported, Call, Egress, Outcome, perform
from keep_operator.runner.alerts import RunAlerts
from keep_operator.runner.measures import Measures
from keep_operator.runner.secrets import Redaction
from keep_operator.store import engine as database
from keep_operator.store import executions
from keep_operator.store.connection import Connection
from keep_operator.store.engine import Engine
from keep_operator.store.executions import Claim, Lost, Progress, Used
from keep_operator.store.intake import Intake
from keep_operator.store.vault import Vault

log = logging.getLogger(__name__)
T = TypeVar("T")

# What one call may take where its step does not say.
STEP_TIMEOUT_S: Final = 60.0
_FAULT: Final = "A fault of the runner; its log tells more"
# Between two attempts to write while the database is away.
RETRY_S: Final = 1.0
# Times that the database may refuse a write because of another; more than these are a fault.
CONFLICTS: Final = 5
# Steps that were skipped and are not written yet, at most.
PENDING: Final = 100
# Starts of steps in one run at most, whatever foreach and retries ask for.
MOST_STARTS: Final = 10_000


class Stopped(Exception):
    """The process is to end: the run is given back between two steps."""


class Cancelled(Exception):
    """Somebody has asked that the run ends."""


@dataclass(slots=True)
class Orders:
    """What is said to a run while it is under way."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    cancel: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class Content:
    """A revision that was read: it never changes, so neither does this."""

    program: Program
    providers: tuple[str, ...]


class Contents:
    """The revisions that were executed last, by their hashes: to read one takes longer than to run it."""

    def __init__(self, most: int = 256) -> None:
        self._most = most
        self._known: OrderedDict[str, Content | None] = OrderedDict()

    def of(self, content_hash: str, definition: Mapping[str, Any]) -> Content | None:
        """The content; None for a definition that is not valid."""
        if content_hash in self._known:
            self._known.move_to_end(content_hash)
            return self._known[content_hash]
        judged = grammar.judge(definition).workflow
        found = None
        if judged is not None:
            found = Content(Program.of(definition), tuple(dict.fromkeys(use.name for use in judged.providers)))
        self._known[content_hash] = found
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        return found


@dataclass(frozen=True, slots=True)
class Means:
    """What every execution needs. ``clock`` is the time of day."""

    engine: Engine
    vault: Vault
    worker: str
    intake: Intake
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    egress: Callable[[str], Awaitable[Egress]] | None = None
    contents: Contents = field(default_factory=Contents)
    measures: Measures = field(default_factory=Measures)


@dataclass(frozen=True, slots=True)
class Opened:
    """A run that this worker has, with all that goes with it; ``content`` None: its definition is not valid."""

    claim: Claim
    content: Content | None
    used: Mapping[str, Used]


async def execute(means: Means, run_id: UUID, orders: Orders, job: int | None = None) -> Run | None:
    """Carry a run out until it is over; None where it was over already, or is another worker's by now.

    ``job`` of the queue goes with the run, at the same moment. Raises Stopped where it was given back; nothing else.
    """

    claim = await _kept(means, lambda conn: executions.claim(conn, run_id, means.worker))
    if claim is None:
        return None
    means.measures.claimed(claim.run, claim.steps, means.clock())
    try:
        return await Execution(means, await _opened(means, claim), orders, job).run()
    except Lost:
        log.warning("another worker has the run by now", extra=_named(claim))
        return None


async def _opened(means: Means, claim: Claim) -> Opened:
    """What goes with the run."""
    content = means.contents.of(claim.run.content_hash, claim.definition)
    names = () if content is None else content.providers
    return Opened(claim, content, await _kept(means, lambda conn: _used(conn, claim.run, names)) if names else {})


async def _used(conn: Connection, run: Run, names: Sequence[str]) -> dict[str, Used]:
    used = await executions.providers(conn, run.tenant_id, names)
    hashes = {name: each.config_hash for name, each in used.items()}
    if hashes != run.provider_config_hashes:
        await executions.note_providers(conn, run, hashes)
    return used


def _named(claim: Claim) -> dict[str, Any]:
    """The run, in each line of the log that is about it."""
    run = claim.run
    return {
        "run": str(run.id),
        "workflow": claim.workflow_name,
        "tenant": run.tenant_id,
        "revision": run.revision,
        "hash": run.content_hash[:8],
    }


class Execution:
    """A run that this worker has."""

    def __init__(self, means: Means, opened: Opened, orders: Orders, job: int | None) -> None:
        claim = opened.claim
        self._means = means
        self._opened = opened
        self._orders = orders
        self._job = job
        self._run = claim.run
        self._steps = list(claim.steps)
        self._redaction = Redaction()
        self._lines: list[dict[str, Any]] = []
        # What is to be written with the next write: the end of one step goes with the beginning of the next.
        self._pending: list[Step] = []
        self._enriched: dict[str, dict[str, Any]] = {}
        self._told = _named(claim)

    async def run(self) -> Run:
        """Go on until the end; raises Lost and Stopped."""
        try:
            reason, message = await self._until_the_end()
        except Cancelled:
            reason, message = Reason.CANCELLED, "Cancelled"
        except Stopped:
            await self._write_last(
                lambda conn, progress: executions.give_back(conn, self._run, progress),
                lambda conn: executions.returned(conn, self._run),
                None,
            )
            log.info("given back, since this worker stops", extra=self._told)
            raise
        except Lost:
            raise
        except KeepOperatorError as error:
            reason, message = Reason.STEP_FAILED, str(error)
        except Exception:
            log.exception("a run ended by a fault of the runner", extra=self._told)
            reason, message = Reason.STEP_FAILED, _FAULT
        try:
            ended = await self._end(reason, message)
        except Lost:
            raise
        except Exception:
            # What is pending cannot be written; without it the run can end, which all runs do.
            log.exception("how a step ended could not be written", extra=self._told)
            self._pending.clear()
            self._enriched.clear()
            ended = await self._end(Reason.STEP_FAILED, _FAULT)
        say = log.info if ended.reason in (Reason.COMPLETED, Reason.CANCELLED) else log.warning
        say(
            "a run has ended",
            extra={**self._told, "state": ended.state, "reason": ended.reason, "detail": ended.message},
        )
        return ended

    async def _end(self, reason: Reason, message: str) -> Run:
        message = self._redaction.text(message)
        state = await self._write_last(
            lambda conn, progress: executions.end(conn, self._run, reason, message, progress, self._job),
            lambda conn: executions.ended(conn, self._run, reason),
            STATE_OF[reason],
        )
        return replace(self._run, state=state, reason=reason, message=message)

    async def _until_the_end(self) -> tuple[Reason, str]:
        if (lost := self._lost_for_good()) is not None:
            return Reason.WORKER_LOST, lost
        started_at = self._run.started_at or self._means.clock()
        timed_out = Reason.TIMED_OUT, f"It took longer than {self._run.timeout_s} s"
        if (late_s := self._late_s(started_at)) >= 0:
            return timed_out
        try:
            async with asyncio.timeout(-late_s) as limit:
                return await self._go_on(started_at)
        except TimeoutError:
            if not limit.expired():
                raise
            return timed_out

    def _late_s(self, started_at: datetime) -> float:
        """Seconds since the end of the time that the run has; negative while it has time."""
        return (self._means.clock() - started_at).total_seconds() - self._run.timeout_s

    def _lost_for_good(self) -> str | None:
        """What was begun when a worker died, and must not be begun again: nobody knows whether it was done."""
        for step in self._steps:
            if step.state is StepState.LOST and step.side_effects == SideEffects.EFFECT:
                return (
                    f"The worker was lost while {step.kind} {step.name} was under way; it may have had its effect, so it is "
                    "not started again"
                )
        return None

    async def _go_on(self, started_at: datetime) -> tuple[Reason, str]:
        content = self._opened.content
        if content is None:
            return Reason.STEP_FAILED, "The definition of the revision is not valid"
        try:
            facts = self._facts(content.program, started_at)
        except InvalidInputs as error:
            return Reason.STEP_FAILED, str(error)
        for _ in range(2 * MOST_STARTS):
            self._obey()
            if len(self._steps) > MOST_STARTS:
                return Reason.STEP_FAILED, f"More than {MOST_STARTS} starts of steps"
            match content.program.next(facts, self._done(), self._means.clock()):
                case Finish() as end:
                    return Reason(end.reason), end.message
                case Skip() as skipped:
                    await self._note(skipped, StepState.SKIPPED)
                case Fail() as failed:
                    await self._note(failed, StepState.FAILED)
                case Sleep(until):
                    await self._write()
                    await self._wait((until - self._means.clock()).total_seconds())
                case Perform() as wanted:
                    if (decided := await self._perform(wanted)) is not None:
                        return decided
        return Reason.STEP_FAILED, f"More than {MOST_STARTS} starts of steps"

    def _done(self) -> list[Done]:
        return [_done(step) for step in self._steps if step.state is not StepState.RUNNING]

    def _obey(self) -> None:
        if self._orders.cancel.is_set():
            raise Cancelled
        if self._orders.stop.is_set():
            raise Stopped

    async def _wait(self, seconds: float) -> None:
        """Let time pass, unless something is ordered meanwhile."""
        ordered = [asyncio.create_task(each.wait()) for each in (self._orders.cancel, self._orders.stop)]
        try:
            await asyncio.wait(ordered, timeout=max(0.0, seconds), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in ordered:
                each.cancel()

    async def _perform(self, wanted: Perform) -> tuple[Reason, str] | None:
        """One start of a step; the run's end, if that is decided by it."""
        step = self._started(wanted)
        rehearsed = self._run.mode == "DryRun" and step.side_effects != SideEffects.NONE
        try:
            config, authentication = self._credentials(wanted)
        except ActionFailed as failure:
            await self._write(step)
            await self._finish(replace(step, state=StepState.FAILED, message=self._redaction.text(failure.message)))
            return None
        self._redaction.add(authentication.values())
        await self._write(step)
        if rehearsed:
            shown = self._redaction.value({"dryRun": True, "type": wanted.type, "parameters": dict(wanted.parameters)})
            message = f"Not done, since this is a dry run: {wanted.kind} of type {wanted.type}"
            await self._finish(replace(step, state=StepState.SUCCEEDED, result=shown, message=message))
            return None
        call = Call(
            kind=wanted.kind,
            type=wanted.type,
            subtype=wanted.subtype,
            parameters=wanted.parameters,
            config={**config, **authentication},
            idempotency_key=f"{self._run.id}/{wanted.position}/{wanted.iteration}",
            timeout_s=wanted.timeout_s or STEP_TIMEOUT_S,
            egress=Egress() if self._means.egress is None else await self._means.egress(self._run.tenant_id),
            alerts=RunAlerts(self._means.intake, self._run, wanted.name, self._opened.claim.event),
        )
        try:
            outcome = await self._unless_cancelled(perform(call))
        except ActionFailed as failure:
            message = self._redaction.text(failure.message)
            await self._finish(replace(step, state=StepState.FAILED, message=message))
            unsupported = isinstance(failure, ActionNotSupported)
            return (Reason.ACTION_NOT_SUPPORTED, message) if unsupported else None
        except Cancelled:
            await self._finish(replace(step, state=StepState.FAILED, message="Cancelled while it was under way"))
            raise
        result = self._redaction.value(outcome.result)
        done = replace(step, state=StepState.SUCCEEDED, result=result, message=self._redaction.text(outcome.message))
        await self._finish(done, wanted)
        return None

    async def _unless_cancelled(self, doing: Awaitable[Outcome]) -> Outcome:
        """What the action brings; raises Cancelled, and has ended it, if that is ordered meanwhile."""
        acting = asyncio.ensure_future(doing)
        cancelled = asyncio.create_task(self._orders.cancel.wait())
        try:
            await asyncio.wait((acting, cancelled), return_when=asyncio.FIRST_COMPLETED)
            if acting.done():
                return acting.result()
            raise Cancelled
        finally:
            cancelled.cancel()
            if not acting.done():
                acting.cancel()
                await asyncio.wait((acting,))

    def _credentials(self, wanted: Perform) -> tuple[Mapping[str, Any], Mapping[str, str]]:
        """The provider's settings and credentials. Raises ActionFailed where it is not there as the step wants it."""
        if wanted.provider is None:
            return {}, {}
        found = self._opened.used.get(wanted.provider)
        if found is None:
            raise ActionFailed(f'Provider "{wanted.provider}" is not there (any more) in tenant {self._run.tenant_id}')
        if found.type != wanted.type:
            raise ActionFailed(
                f'Provider "{wanted.provider}" is of type {found.type}, and the step wants {wanted.type}'
            )
        if found.sealed is None:
            return found.config, {}
        opened = self._means.vault.open(found.id, found.sealed)
        if opened is None:
            raise ActionFailed(
                f'The credentials of Provider "{wanted.provider}" were sealed with another key than the runner has'
            )
        return found.config, opened

    def _facts(self, program: Program, started_at: datetime) -> Facts:
        claim, context = self._opened.claim, self._opened.claim.context
        incident = self._run.trigger == "Incident"
        return Facts(
            run_id=str(self._run.id),
            tenant_id=self._run.tenant_id,
            workflow_id=str(self._run.workflow_id),
            workflow_name=claim.workflow_name,
            revision=self._run.revision,
            content_hash=self._run.content_hash,
            trigger=self._run.trigger,
            started_at=started_at,
            inputs=program.inputs(claim.inputs),
            event=None if incident else claim.event,
            incident=claim.event if incident else None,
            providers={
                name: {"name": name, "type": each.type, **each.config} for name, each in self._opened.used.items()
            },
            previous=Previous(
                results=context.get("results") or {},
                started_at=_moment(context.get("startedAt")),
                firing_since=_moment(context.get("firingSince")),
                fired_before=_moment(context.get("firedBefore")),
                told=frozenset(context.get("told") or ()),
            ),
        )

    def _started(self, wanted: Perform) -> Step:
        effects = side_effects(wanted.type, wanted.kind, wanted.parameters) or SideEffects.EFFECT
        return Step(
            position=wanted.position,
            iteration=wanted.iteration,
            try_number=wanted.try_,
            attempt=self._run.attempt,
            name=wanted.name,
            kind=wanted.kind,
            type=wanted.type,
            state=StepState.RUNNING,
            side_effects=effects,
            started_at=self._means.clock(),
        )

    async def _finish(self, step: Step, wanted: Perform | None = None) -> None:
        ended = replace(step, completed_at=self._means.clock())
        if wanted is not None:
            self._enrich(wanted, step)
        self._pending.append(ended)
        self._steps.append(ended)
        self._means.measures.ended(ended)
        self._say(ended)

    def _enrich(self, wanted: Perform, step: Step) -> None:
        """Tell what the step tells of alerts; what cannot be told is in the run's log, and is no failure of the step."""
        try:
            for each in resolved(wanted.enrichments, step.result):
                if each.target == "alert" and each.fingerprint is not None:
                    more = {"value": self._redaction.value(each.value), "disposable": each.disposable}
                    self._enriched.setdefault(each.fingerprint, {})[each.key] = more
                else:
                    self._warn(
                        step, f"enrich_{each.target} has no effect: the built-in runtime keeps no {each.target}s"
                    )
        except ValueError as error:
            self._warn(step, f"could not enrich: {error}")

    def _warn(self, step: Step, text: str) -> None:
        at = self._means.clock().isoformat()
        message = self._redaction.text(f"{step.kind} {step.name}: {text}")
        self._lines.append({"at": at, "position": step.position, "level": "WARNING", "message": message})

    async def _note(self, what: Skip | Fail, state: StepState) -> None:
        now = self._means.clock()
        step = Step(
            position=what.position,
            iteration=what.iteration,
            try_number=what.try_,
            attempt=self._run.attempt,
            name=what.name,
            kind="step",
            type="",
            state=state,
            side_effects=SideEffects.NONE,
            started_at=now,
            completed_at=now,
            message=self._redaction.text(what.message),
        )
        self._pending.append(step)
        if len(self._pending) >= PENDING:
            await self._write()
        self._steps.append(step)
        self._say(step)

    def _say(self, step: Step) -> None:
        """A line for the run's log, which is written at the end, or before it is given back."""
        level = "WARNING" if step.state is StepState.FAILED else "INFO"
        which = f" [{step.iteration}]" if step.iteration >= 0 else ""
        text = f"{step.kind} {step.name}{which}: {step.state}{f': {step.message}' if step.message else ''}"
        at = (step.completed_at or step.started_at).isoformat()
        self._lines.append({"at": at, "position": step.position, "level": level, "message": text})

    async def _write(self, *begun: Step) -> None:
        """Write what is pending, and what is begun now; it may be repeated."""
        progress = Progress((*self._pending, *begun), enrichments=self._enriched)
        if progress.steps:
            await _kept(self._means, lambda conn: executions.write(conn, self._run, progress))
        self._pending, self._enriched = [], {}

    async def _write_last(
        self,
        work: Callable[[Connection, Progress], Awaitable[T]],
        stands: Callable[[Connection], Awaitable[bool]],
        done: T,
    ) -> T:
        """Write what leaves nothing to come back to: where it is refused, it may have been written before."""
        progress = Progress(tuple(self._pending), tuple(self._lines), self._enriched)
        try:
            return await _kept(self._means, lambda conn: work(conn, progress))
        except Lost:
            if not await _kept(self._means, stands):
                raise
            return done


async def _kept(means: Means, work: Callable[[Connection], Awaitable[T]]) -> T:
    """Do it, again and again while the database is away: each statement of it is a transaction, and may be repeated."""
    told, conflicts = False, 0
    while True:
        try:
            async with database.alone(means.engine) as conn:
                return await work(conn)
        except Lost:
            raise
        except Conflict:  # two transactions stood in each other's way
            conflicts += 1
            if conflicts > CONFLICTS:
                raise
        except Unavailable as error:
            if not told:
                log.warning("the control database is away: %s", error.message, extra={"reason": error.reason})
            told = True
            await asyncio.sleep(RETRY_S)


def _done(step: Step) -> Done:
    return Done(
        step.position,
        step.iteration,
        step.try_number,
        Ended(step.state.value),
        step.result,
        step.message or "",
        step.completed_at,
    )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
