"""The queue of the runners: procrastinate, behind what little of it is used (docs/adr/0046).

One job is one run; its only argument is the run's id, and it is gone when the run is over: the history is table `run`.
Jobs are deferred by `runs.request`, and go with `executions.end`. This door works them off, and gives back those of workers that have died.
"""

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import procrastinate
import psycopg
from procrastinate.connector import BaseConnector
from procrastinate.exceptions import ConnectorException, ProcrastinateException
from procrastinate.job_context import JobContext
from procrastinate.jobs import DeleteJobCondition, Job, Status
from procrastinate.manager import JobManager

from keep_operator.store import address, failures, runs
from keep_operator.store.connection import Connection, Prepared
from keep_operator.store.tables import SCHEMA

log = logging.getLogger(__name__)

# Jobs behind a lock, and those that come while all places are taken, are found by looking, not by notification.
POLLING_S: Final = 0.5
# The functions of the library look their tables up by the path. The queue is empty most of the time, and statistics are taken then:
# a plan that reads the whole of an empty table, kept for a burst of 1,500 jobs, took 900 ms to find the next one, and one by index 5.
SESSION: Final = f"-csearch_path={SCHEMA},pg_catalog -cenable_seqscan=off"
# Connections besides those of running jobs: the listener, heartbeats, looking.
_MORE_CONNECTIONS: Final = 3

# One runner at a time looks for what the dead left behind; arbitrary, but for ever.
_RECOVERING: Final = Prepared("SELECT pg_try_advisory_xact_lock(7237117975334838381)", {})
# A run that has not ended and has no job: the job was lost, by whatever hands. Young ones may be on their way.
_ORPHANS: Final = Prepared(
    f"""
    SELECT keep_operator.procrastinate_defer_jobs_v1(ARRAY[ROW('{runs.QUEUE}', '{runs.TASK}', 0, NULL, NULL,
        jsonb_build_object('run_id', run.id), NULL)::keep_operator.procrastinate_job_to_defer_v1]), run.id
    FROM keep_operator.run
    WHERE run.state IN ('Queued', 'Running') AND run.completed_at IS NULL AND run.queued_at < now() - interval '1 minute'
        AND NOT EXISTS (SELECT 1 FROM keep_operator.procrastinate_jobs job
            WHERE job.status IN ('todo', 'doing') AND job.args ->> 'run_id' = run.id::text)
    LIMIT 100
    """,  # noqa: S608 - constants
    {},
)


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a worker shows that it lives, and after how long without that it is taken for dead; in seconds."""

    heartbeat_s: float = 5.0
    stalled_s: float = 20.0


class GivenBack(Exception):
    """The run is not over, and its worker is told to stop: another one goes on with it."""


class _Again(procrastinate.BaseRetryStrategy):
    """What was given back waits in the queue again, at once; nothing else is retried by the queue."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> procrastinate.RetryDecision | None:
        """As the base class."""
        return procrastinate.RetryDecision() if isinstance(exception, GivenBack) else None


class _Jobs(JobManager):
    """Knows which jobs have gone with their runs, and finishes the others."""

    def __init__(self, connector: BaseConnector) -> None:
        super().__init__(connector)
        self.gone: set[int] = set()

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:
        """As the base class; a job that another worker has finished meanwhile is finished."""
        if job.id in self.gone:
            self.gone.remove(job.id)
            return
        try:
            await super().finish_job(job, status, delete_job)
        except ConnectorException as error:
            if not isinstance(error.__cause__, psycopg.errors.RaiseException):
                raise


class Queue:
    """A connection to the queue. Open it with `opened`."""

    def __init__(self, app: procrastinate.App, pace: Pace) -> None:
        self._app = app
        self._pace = pace

    async def work(self, run: Callable[[UUID, int], Awaitable[bool]], places: int) -> None:
        """Work jobs off, so many at once; when cancelled, take no more and wait for those that are under way.

        ``run`` is given the run and its job, and tells whether the job has gone with the run; if not, it is over now. It may raise
        `GivenBack` and nothing else. Raises our errors where the database goes away, after waiting for what is under way; call it
        again then.
        """
        # The app knows a task for good; one of each name.
        app = procrastinate.App(connector=self._app.connector)
        jobs = app.job_manager = _Jobs(self._app.connector)

        async def one(context: JobContext, run_id: str) -> None:
            assert context.job.id is not None
            if await run(UUID(run_id), context.job.id):
                jobs.gone.add(context.job.id)

        app.task(name=runs.TASK, retry=_Again(), pass_context=True)(one)
        with _translated():
            await app.run_worker_async(
                queues=[runs.QUEUE],
                concurrency=places,
                fetch_job_polling_interval=POLLING_S,
                delete_jobs=DeleteJobCondition.ALWAYS,
                install_signal_handlers=False,
                update_heartbeat_interval=self._pace.heartbeat_s,
                stalled_worker_timeout=self._pace.stalled_s,
            )

    async def recover(self, conn: Connection) -> int:
        """Give back the jobs of workers that have died, and give new ones to runs that have none; how many.

        In a transaction that may write. 0 where another runner is at it.
        """
        if not await conn.scalar(_RECOVERING):
            return 0
        with _translated():
            stalled = list(await self._app.job_manager.get_stalled_jobs(seconds_since_heartbeat=self._pace.stalled_s))
            for job in stalled:
                with contextlib.suppress(ConnectorException):  # it has ended meanwhile
                    await self._app.job_manager.retry_job(job)
        orphans = (await conn.execute(_ORPHANS)).all()
        for row in orphans:
            log.warning("a run had no job in the queue; it has one again", extra={"run": str(row.id)})
        return len(stalled) + len(orphans)


@contextlib.asynccontextmanager
async def opened(url: str, *, application_name: str, places: int, pace: Pace) -> AsyncIterator[Queue]:
    """The queue in the database of ``url``, for a worker with so many places. Raises our errors only."""
    parameters: dict[str, Any] = {**address.parameters(url), "application_name": application_name}
    parameters["options"] = f"{parameters.get('options', '')} {SESSION}".strip()
    connector = procrastinate.PsycopgConnector(
        kwargs=parameters,
        min_size=1,
        max_size=places + _MORE_CONNECTIONS,
        configure=_configure,
        timeout=address.CONNECT_TIMEOUT.total_seconds(),
    )
    app = procrastinate.App(connector=connector)
    with _translated():
        await app.open_async()
    try:
        yield Queue(app, pace)
    finally:
        await app.close_async()


async def _configure(connection: psycopg.AsyncConnection[Any]) -> None:
    """All that procrastinate says is single statements: begin and commit around each would be two more round trips."""
    await connection.set_autocommit(True)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """procrastinate's errors are its own; behind each is one of the driver's."""
    with failures.translated():
        try:
            yield
        except ProcrastinateException as error:
            raise (error.__cause__ or error) from None
