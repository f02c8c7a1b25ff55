"""Word of what others change in the control database, as it happens (A-DR-1).

Triggers notify of each row that was changed by anybody but the operator's own sessions (`engine.connect` with
``operates``). What is changed while no connection listens is found by the next resync.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import psycopg

from keep_operator.errors import KeepOperatorError
from keep_operator.resources.kinds import Key
from keep_operator.store import address, engine, failures

log = logging.getLogger(__name__)

CHANNEL: Final = "keep_operator_changed"
# The id of each run that is to be cancelled while a worker has it.
CANCELLED: Final = "keep_operator_cancel"
# What each run that ended badly was, as JSON: `r0008_runs.py` has the fields.
RUN_FAILED: Final = "keep_operator_run_failed"
# Whose run has ended, where somebody waits for that: `r0009_releases.py`.
RUN_ENDED: Final = "keep_operator_run_ended"
# A connection that has died in silence is found out by asking it this often.
ASK_EVERY: Final = timedelta(seconds=30)
# Between two attempts to connect: others find out sooner that the database is back.
RETRY: Final = timedelta(seconds=5)


async def follow(
    url: str,
    *,
    application_name: str,
    changed: Callable[[Key], None],
    key_changed: Callable[[], None],
    run_failed: Callable[[Mapping[str, Any]], None] = lambda _: None,
    run_ended: Callable[[Mapping[str, Any]], None] = lambda _: None,
    connected: Callable[[], None] = lambda: None,
) -> None:
    """Tell ``changed`` of each object whose row others changed, until cancelled; connects again whenever it must.

    ``key_changed`` is called when the database is sealed with another key from now on, and at each connection, since that
    may have happened before; ``run_failed`` for each run that fails, with what the database says of it, ``run_ended`` for each that
    ends while its workflow is watched, and ``connected`` when what was told before has been heard by nobody. None of them may
    raise, but the two about runs for what they cannot read.
    """

    def told(told: Mapping[str, Any]) -> None:
        if told["kind"] == "Installation":
            key_changed()
        else:
            changed(Key(told["kind"], told["namespace"], told["name"]))

    def begin() -> None:
        key_changed()
        connected()

    channels = {CHANNEL: _reading(told), RUN_FAILED: _reading(run_failed), RUN_ENDED: _reading(run_ended)}
    await hear(url, application_name=application_name, channels=channels, connected=begin)


def _reading(tell: Callable[[Mapping[str, Any]], None]) -> Callable[[str], None]:
    def heard(payload: str) -> None:
        try:
            tell(json.loads(payload))
        except (ValueError, KeyError, TypeError):
            log.debug("a notification that is not ours")

    return heard


async def hear(
    url: str,
    *,
    application_name: str,
    channels: Mapping[str, Callable[[str], None]],
    connected: Callable[[], None],
) -> None:
    """Tell of each notification of these channels, until cancelled; connects again whenever it must.

    ``connected`` is called at each connection: what was told while there was none is lost. None of them may raise.
    """
    parameters = {**address.parameters(url), "application_name": application_name}

    def heard(notification: psycopg.Notify) -> None:
        channels[notification.channel](notification.payload)

    while True:
        try:
            with failures.translated():
                await _listen(parameters, tuple(channels), heard, connected)
        except KeepOperatorError as error:
            log.debug("changes in the database are not told now", extra={"reason": error.reason})
        await asyncio.sleep(RETRY.total_seconds())


async def _listen(
    parameters: dict[str, Any],
    channels: Sequence[str],
    heard: Callable[[psycopg.Notify], None],
    connected: Callable[[], None],
) -> None:
    async with await psycopg.AsyncConnection.connect(**parameters, autocommit=True) as connection:
        with engine.within(address.CONNECT_TIMEOUT, connection):
            for channel in channels:
                await connection.execute(f"LISTEN {channel}")
        connected()
        while True:
            async for notification in connection.notifies(timeout=ASK_EVERY.total_seconds()):
                heard(notification)
            # What arrives with the answer to this is kept, and told by the next round.
            with engine.within(address.CONNECT_TIMEOUT, connection):
                await connection.execute("SELECT 1")
