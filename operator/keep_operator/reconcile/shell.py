"""One reconcile: look, plan, act, look again, until a look finds nothing left to do; then report, once.

Every failure ends here too: in a condition, an Event where a person should know, one log line, and the delay after
which the queue brings the object back.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Protocol

from keep_operator.cluster.client import Cluster
from keep_operator.cluster.events import Recorder, Subject
from keep_operator.domain import planning
from keep_operator.domain.planning import Plan, SetMetadata, Tell
from keep_operator.errors import Conflict, KeepOperatorError, Refused, Unavailable
from keep_operator.reconcile.world import World
from keep_operator.resources import objects
from keep_operator.resources.kinds import Key, Resource
from keep_operator.resources.objects import Object, Reader

log = logging.getLogger(__name__)

# Looks in one reconcile. A new Workflow takes four (metadata, rows, objects, status), an edit that renames, archives and adopts
# some more; beyond three times as many something disagrees with itself, and the back-off decides.
LOOKS: Final = 12
DATABASE_AWAY: Final = "DatabaseUnavailable"
# The action, of any kind, that makes a record.
INSERTED: Final = "Insert"
# How long annotation `force-delete` waits for a database that is away (A-GC-7).
FORCE_AFTER: Final = timedelta(seconds=60)


class Outcome(StrEnum):
    """How a reconcile ended, as metrics and the log line show it."""

    READY = "ready"
    WAITING = "waiting"
    REFUSED = "refused"
    DELETING = "deleting"
    GONE = "gone"
    UNAVAILABLE = "unavailable"
    CONFLICT = "conflict"
    ERROR = "error"


class Kind(Protocol):
    """What the shell needs of a kind."""

    @property
    def resource(self) -> Resource:
        """Where the kind lives in the API."""

    @property
    def reader(self) -> Reader[Any]:
        """What reads its specs."""

    @property
    def living(self) -> Sequence[str]:
        """The conditions that `Ready` sums up, in the order in which they are shown."""

    @property
    def finalizer(self) -> str:
        """What holds an object until its record is taken care of."""

    async def observe(self, obj: Object[Any]) -> Any:
        """One look at everything that `plan` reads; must not change anything."""

    def plan(self, observed: Any, now: datetime) -> Plan[Any]:
        """What to do next; pure."""

    async def apply(self, *step: Any) -> None:
        """Carry out one of `planning.steps`: all of it or nothing; raises Conflict where it is no longer due."""

    def resync(self, obj: Object[Any]) -> timedelta:
        """When to look again at an object that is Ready."""

    def may_force(self, obj: Object[Any]) -> bool:
        """Whether annotation `force-delete` may let an object go without its database, by what is known here."""


@dataclass(slots=True)
class Report:
    """What one reconcile did, for its log line."""

    outcome: Outcome = Outcome.GONE
    reason: str = ""
    actions: list[str] = field(default_factory=list)
    retry_in_s: float | None = None
    retry_within_s: float | None = None
    # Of which object, and which spec of it, the server has said that it is the newest. Within one reconcile it stays so for
    # what matters: nobody else who might have seen a newer one writes rows meanwhile.
    confirmed: tuple[str, int] | None = None


class Shell:
    """Reconciles objects of all kinds; safe to call for any key at any time, by one worker per key."""

    def __init__(
        self,
        kinds: Mapping[str, Kind],
        *,
        world: World,
        cluster: Cluster,
        recorder: Recorder,
        now: Callable[[], datetime],
        jitter: Callable[[], float],
        force_after: timedelta = FORCE_AFTER,
    ) -> None:
        self._force_after = force_after
        self._kinds = kinds
        self._world = world
        self._cluster = cluster
        self._recorder = recorder
        self._now = now
        self._jitter = jitter
        self._held_up: set[Key] = set()
        self._warned: dict[Key, str] = {}

    async def reconcile(self, key: Key) -> Outcome:
        """Bring one object as far as it goes now, and give its key back to the queue."""
        began = time.monotonic()
        report = Report()
        try:
            await self._looks(key, report)
        except Exception:
            # Not even the failure could be reported: a bug here must not end the worker.
            log.exception("reconcile failed", extra={"kind": key.kind, "object": key.path})
            report.outcome, report.reason = Outcome.ERROR, "InternalError"
        queue = self._world.queue
        (self._held_up.add if report.reason == DATABASE_AWAY else self._held_up.discard)(key)
        if report.outcome is not Outcome.UNAVAILABLE:
            self._warned.pop(key, None)
        if report.outcome in (Outcome.UNAVAILABLE, Outcome.ERROR, Outcome.CONFLICT):
            report.retry_in_s = queue.retry(key, at_least_s=report.retry_in_s or 0.0)
            if report.retry_within_s is not None:
                queue.schedule(key, report.retry_within_s, urgent=True)
        else:
            queue.done(key)
        self._tell(key, report, time.monotonic() - began)
        return report.outcome

    @property
    def waits_for_database(self) -> bool:
        """Whether the last look at some object ended because the database did not answer."""
        return bool(self._held_up)

    def database_answers(self) -> None:
        """Have every object that the database held up looked at now, whatever its back-off has grown to (A-CTL-7)."""
        for key in self._held_up:
            self._world.queue.add(key)
        self._held_up.clear()

    async def _looks(self, key: Key, report: Report) -> None:
        before: Object[Any] | None = None
        for _ in range(LOOKS):
            obj = self._world.cache.get(key)
            if obj is None:
                self._world.queue.forget(key)
                report.outcome = Outcome.GONE
                if before is not None and INSERTED in report.actions:
                    await self._take_back(before, report)
                return
            before = obj
            try:
                if await self._look(obj, report):
                    return
            except Conflict as conflict:
                report.outcome, report.reason = Outcome.CONFLICT, conflict.reason
                await self._read_again(key)
        if report.outcome is not Outcome.CONFLICT:
            log.error("no end after many looks", extra={"object": str(key), "actions": ",".join(report.actions)})
            report.outcome, report.reason = Outcome.ERROR, "InternalError"

    async def _look(self, obj: Object[Any], report: Report) -> bool:
        """One round; True when there is nothing left to do. Raises Conflict when the next round must read anew."""
        kind = self._kinds[obj.key.kind]
        try:
            observed = await kind.observe(obj)
            rows = [name for name in report.actions if name in planning.DONE]
            plan = kind.plan(replace(observed, done=rows[-1] if rows else None), self._now())
            if plan.actions:
                for step in planning.steps(plan.actions):
                    await self._act(kind, obj, step, report)
                    report.actions += (type(action).__name__ for action in step)
                for other in plan.wakes:
                    self._world.queue.add(other)
                return False
        except Conflict:
            raise
        except KeepOperatorError as error:
            await self._fail(kind, obj, error, report)
            return True
        except Exception as bug:
            log.exception("internal error", extra={"kind": obj.key.kind, "object": obj.key.path})
            what = KeepOperatorError("InternalError", f"{type(bug).__name__}; the operator's log has the details")
            await self._fail(kind, obj, what, report)
            report.outcome = Outcome.ERROR
            return True
        if obj.deleting and plan.status is None:
            report.outcome = Outcome.DELETING
            return True
        try:
            await self._report(kind, obj, plan, report)
        except (Unavailable, Refused) as error:
            # The report itself did not get through, so there is no use in reporting that.
            report.outcome, report.reason = Outcome.UNAVAILABLE, error.reason
            report.retry_in_s = getattr(error, "retry_after_s", None)
            self._warn(obj.key, error)
        return True

    async def _take_back(self, gone: Object[Any], report: Report) -> None:
        """Do with the record that this very reconcile has made as if its object were being deleted: it is gone already.

        A finalizer does not hold an object whose deletion the API server has begun to work on before. Nobody has been told
        of the record yet. What is left here the sweep finds.
        """
        kind = self._kinds[gone.key.kind]
        dying = replace(gone, deleted_at=gone.deleted_at or self._now(), finalizers=(kind.finalizer,))
        try:
            plan = kind.plan(await kind.observe(dying), self._now())
            within = [each for each in plan.actions if not isinstance(each, SetMetadata | Tell)]
            for step in planning.steps(within):
                await kind.apply(*step)
                report.actions += (type(action).__name__ for action in step)
        except KeepOperatorError as error:
            log.warning(error.message, extra={"kind": gone.key.kind, "object": gone.key.path, "reason": error.reason})
            return
        for other in plan.wakes:
            self._world.queue.add(other)

    async def _act(self, kind: Kind, obj: Object[Any], step: Sequence[Any], report: Report) -> None:
        match step:
            case [SetMetadata(finalizers, owners)]:
                metadata = {
                    "resourceVersion": obj.resource_version,
                    "finalizers": list(finalizers),
                    "ownerReferences": [dict(owner) for owner in owners],
                }
                await self._patch(kind, obj, {"metadata": metadata})
                report.confirmed = (obj.uid, obj.generation)  # else it would have been refused
            case [Tell(status)]:
                try:
                    await self._patch_status(kind, obj, status)
                except Refused as error:
                    self._warn(obj.key, error)
            case _:
                fresh = report.confirmed == (obj.uid, obj.generation)
                if not fresh and any(planning.needs_fresh_view(obj, action) for action in step):
                    await self._check_view(kind, obj)
                    report.confirmed = (obj.uid, obj.generation)
                await kind.apply(*step)

    async def _check_view(self, kind: Kind, obj: Object[Any]) -> None:
        """Ask the server whether the object still says what we have seen; raises Conflict where it does not (P5)."""
        raw = await self._cluster.get(kind.resource, obj.key.namespace or None, obj.key.name)
        found = {} if raw is None else raw["metadata"]
        if (found.get("uid"), found.get("generation")) != (obj.uid, obj.generation):
            raise Conflict("SyncFailed", f"{obj.key.path} has changed since it was seen")

    async def _patch(self, kind: Kind, obj: Object[Any], body: dict[str, Any], subresource: str | None = None) -> None:
        answer = await self._cluster.patch(kind.resource, obj.key.namespace or None, obj.key.name, body, subresource)
        self._world.wrote(objects.parse(obj.key.kind, answer, kind.reader, known=obj))

    async def _report(self, kind: Kind, obj: Object[Any], plan: Plan[Any], report: Report) -> None:
        status = plan.status if plan.status is not None else obj.status
        sum_of_all = planning.sums_up(kind.living)
        ready: Mapping[str, Any] = next((c for c in status.get("conditions") or () if c["type"] == sum_of_all), {})
        report.outcome = _OUTCOMES.get(ready.get("status", ""), Outcome.WAITING)
        report.reason = ready.get("reason", "")
        if obj.deleting:
            report.outcome = Outcome.DELETING
        await self._write_status(kind, obj, status, report)
        queue = self._world.queue
        if plan.wake_in is not None:
            queue.schedule(obj.key, plan.wake_in.total_seconds(), urgent=True)
        if report.outcome is Outcome.READY or report.reason in planning.RECHECKED:
            queue.schedule(obj.key, kind.resync(obj).total_seconds() * self._jitter())

    async def _write_status(self, kind: Kind, obj: Object[Any], status: Mapping[str, Any], report: Report) -> None:
        if await self._patch_status(kind, obj, status):
            report.actions.append("Status")

    async def _patch_status(self, kind: Kind, obj: Object[Any], status: Mapping[str, Any]) -> bool:
        """One PATCH of what differs, none where nothing does; then the Event that the change is worth."""
        changes = {name: value for name, value in status.items() if obj.status.get(name) != value}
        if not changes:
            return False
        told = {name: _towards(obj.status.get(name), value) for name, value in changes.items()}
        body = {"metadata": {"resourceVersion": obj.resource_version}, "status": told}
        await self._patch(kind, obj, body, "status")
        if (event := planning.announce(obj.status, status)) is not None:
            subject = Subject(kind.resource, obj.key.namespace, obj.key.name, obj.uid)
            await self._recorder.record(subject, "Warning" if event.warning else "Normal", event.reason, event.message)
        return True

    async def _fail(self, kind: Kind, obj: Object[Any], error: KeepOperatorError, report: Report) -> None:
        """Report an attempt that ended in an error; raises Conflict where the report itself came too late."""
        report.reason = error.reason
        # What the API server rejects, an admission policy say, may be let through later, and no watch would tell.
        final = isinstance(error, Refused) and error.reason != "ApiRejected" and not obj.deleting
        report.outcome = Outcome.REFUSED if final else Outcome.UNAVAILABLE
        report.retry_in_s = error.retry_after_s if isinstance(error, Unavailable) else None
        if report.outcome is Outcome.UNAVAILABLE:
            self._warn(obj.key, error)
        forced = planning.release_by_force(obj, error, kind.finalizer, self._force_after, self._now())
        if forced is not None and kind.may_force(obj):
            if forced.wake_in is not None:
                report.retry_within_s = forced.wake_in.total_seconds()
            else:
                await self._release_by_force(kind, obj, forced, report)
                return
        try:
            plan = planning.failed(obj, error, kind.living, self._now())
            await self._write_status(kind, obj, plan.status or {}, report)
        except (Unavailable, Refused):
            log.debug("the failure cannot be reported now", extra={"object": obj.key.path})

    async def _release_by_force(self, kind: Kind, obj: Object[Any], plan: Plan[Any], report: Report) -> None:
        log.warning(
            "released without its database, by annotation force-delete; the sweep collects its record",
            extra={"kind": obj.key.kind, "object": obj.key.path},
        )
        try:
            for step in planning.steps(plan.actions):
                await self._act(kind, obj, step, report)
                report.actions.append("ForcedRelease")
        except (Unavailable, Refused):
            log.debug("it cannot be released now", extra={"object": obj.key.path})

    def _warn(self, key: Key, error: KeepOperatorError) -> None:
        """Say in words what went wrong, once until it goes well or something else goes wrong; each attempt has its own line."""
        known = self._warned.get(key) == error.reason
        self._warned[key] = error.reason
        log.log(
            logging.DEBUG if known else logging.WARNING,
            error.message,
            extra={"kind": key.kind, "object": key.path, "reason": error.reason},
        )

    async def _read_again(self, key: Key) -> None:
        """Our copy was stale: ask the server, since its watch may be late."""
        kind = self._kinds[key.kind]
        try:
            raw = await self._cluster.get(kind.resource, key.namespace or None, key.name)
        except Unavailable:
            return  # the watch will tell; the back-off bounds how long we trust the old copy
        if raw is None:
            self._world.forget(key)
        else:
            self._world.wrote(objects.parse(key.kind, raw, kind.reader, known=self._world.cache.get(key)))

    def _tell(self, key: Key, report: Report, duration_s: float) -> None:
        """The canonical line: one per reconcile, at DEBUG where nothing was done."""
        quiet = not report.actions and report.outcome in (Outcome.READY, Outcome.WAITING, Outcome.GONE, Outcome.REFUSED)
        obj = self._world.cache.get(key)
        log.log(
            logging.DEBUG if quiet else logging.INFO,
            "reconciled",
            extra={
                "kind": key.kind,
                "object": key.path,
                "uid": obj.uid if obj else None,
                "generation": obj.generation if obj else None,
                "actions": ",".join(report.actions) or None,
                "outcome": str(report.outcome),
                "reason": report.reason or None,
                "retry_in_s": None if report.retry_in_s is None else round(report.retry_in_s, 2),
                "duration_ms": round(duration_s * 1000, 1),
            },
        )


_OUTCOMES: Final = {"True": Outcome.READY, "Unknown": Outcome.WAITING, "False": Outcome.REFUSED}


def _towards(before: Any, after: Any) -> Any:
    """The merge patch from one value to the other: what an object inside of it lacks by now must be named, to go."""
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return after
    gone = {name: None for name in before if name not in after}
    return gone | {name: _towards(before.get(name), value) for name, value in after.items()}
