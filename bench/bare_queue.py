"""The floor of `bench.runs`: procrastinate alone, with the same database, places and pace, and a task that does nothing."""

import asyncio
import logging
import sys

import procrastinate
import uvloop
from procrastinate.jobs import DeleteJobCondition

from keep_operator.store import address, queue, runs


async def main(url: str, places: int) -> None:
    """Work jobs off until killed."""
    parameters = {**address.parameters(url), "options": queue.SESSION}
    app = procrastinate.App(
        connector=procrastinate.PsycopgConnector(kwargs=parameters, min_size=1, max_size=places + 3)
    )

    @app.task(name=runs.TASK)
    async def nothing(run_id: str) -> None:
        """Do nothing."""

    async with app.open_async():
        await app.run_worker_async(
            queues=[runs.QUEUE],
            concurrency=places,
            fetch_job_polling_interval=queue.POLLING_S,
            delete_jobs=DeleteJobCondition.ALWAYS,
            install_signal_handlers=False,
        )


if __name__ == "__main__":
    logging.disable()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as ours
        runner.run(main(sys.argv[1], int(sys.argv[2])))
