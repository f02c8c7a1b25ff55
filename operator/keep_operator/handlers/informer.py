"""kopf as an informer: its settings with their reasons, how it signs in, and how it is run inside our process."""

import asyncio
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import kopf

from keep_operator.cluster import failures
from keep_operator.cluster.connection import Connection
from keep_operator.errors import Unavailable
from keep_operator.resources.kinds import GROUP

# Objects in one page of the first list: half the memory of one answer with everything.
PAGE: Final = 500
# Tasks of kopf at the same time while it works through that list.
WORKERS: Final = 200
# kopf keeps a task per object for this long after its last event, in seconds.
IDLE_S: Final = 0.2
# A stream that is silent for longer than this is dead: bookmarks come about once a minute.
SILENT_S: Final = 70
# The server ends each stream after this, in seconds, and kopf asks for the next one at once, from where it was. kopf keeps
# bookmarks to itself, so on a quiet day these answers are all that tells a living watch from a dead one.
STREAM_S: Final = 60
CONNECT_S: Final = 10
# What kopf has not ended by then it will not end, in seconds.
END_WITHIN_S: Final = 5


class _NoDiffs(kopf.DiffBaseStorage):
    """kopf computes differences for every event, even if nobody asks for them; this has it compute none."""

    def build(self, *, body: kopf.Body, extra_fields: Any = None) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        pass


class _NoProgress(kopf.ProgressStorage):
    """kopf notes the progress of its handlers in the object; ours have none."""

    def fetch(self, *, key: Any, body: kopf.Body) -> Any:
        return None

    def store(self, *, key: Any, record: Any, body: kopf.Body, patch: kopf.Patch) -> None:
        pass

    def purge(self, *, key: Any, body: kopf.Body, patch: kopf.Patch) -> None:
        pass

    def touch(self, *, body: kopf.Body, patch: kopf.Patch, value: str | None) -> None:
        pass

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        return essence


def settings() -> kopf.OperatorSettings:
    """kopf told to list and watch, and to write nothing at all."""
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False  # our recorder posts Events
    chosen.posting.loggers = False
    chosen.peering.standalone = True  # peering compares clocks and priorities: it is no lock
    chosen.scanning.disabled = True  # no watches on namespaces and CRDs: ours are there before we start
    chosen.watching.chunk_size = PAGE
    chosen.watching.initial_streaming = False  # an error in such a stream would end the operator
    chosen.watching.inactivity_timeout = SILENT_S
    chosen.watching.server_timeout = STREAM_S
    chosen.queueing.worker_limit = WORKERS
    chosen.queueing.idle_timeout = IDLE_S
    chosen.networking.connect_timeout = CONNECT_S
    chosen.persistence.diffbase_storage = _NoDiffs()
    chosen.persistence.progress_storage = _NoProgress()
    chosen.persistence.finalizer = f"{GROUP}/kopf"  # never added; recognisable if it ever were
    chosen.process.ultimate_exiting_timeout = 60
    return chosen


def _but_leftovers(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Hand a failure that nobody waits for to the log, except for those of generators at the loop's end.

    kopf leaves its streams to be closed then, and fails in that where one was in the middle of an event: no news to anybody.
    """
    if "asyncgen" not in context:
        loop.default_exception_handler(context)


async def run(
    registry: kopf.OperatorRegistry,
    connection: Connection,
    namespaces: Sequence[str],
    answered: Callable[[str, bool], None],
) -> None:
    """List and watch until cancelled or told by a signal; raises Unavailable when kopf gives up, which a restart mends.

    ``answered`` is told the path of each request that the server answers (lists, watches and their renewals), and
    whether it was granted.
    """
    asyncio.get_running_loop().set_exception_handler(_but_leftovers)

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.AiohttpSession:
        # kopf closes the session; who we are is renewed inside it, so that a rotated token ends no watch.
        return kopf.AiohttpSession(server=connection.server, aiohttp_session=await connection.open_session(answered))

    scope: dict[str, Any] = {"namespaces": list(namespaces)} if namespaces else {"clusterwide": True}
    # Else kopf asks for the name of the user, whom a container need not have, and looks its host up in the DNS.
    scope["identity"] = socket.gethostname()
    # Not `kopf.operator`: when a watch fails that one waits for all younger tasks, cancels them, ours too, and only then
    # tells why, if it gets so far.
    older = asyncio.all_tasks()
    tasks = await kopf.spawn_tasks(registry=registry, settings=settings(), standalone=True, **scope)
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()
    except Exception as error:
        # One watch has failed, and kopf forgets the others, which would go on for ever.
        await _end(task for task in asyncio.all_tasks() - older if task.get_name().startswith("watcher for "))
        why = failures.plain(str(error)) or type(error).__name__
        raise Unavailable("WatchFailed", f"a watch cannot go on, so this process ends, to begin anew: {why}") from error
    finally:
        await _end(tasks)


async def _end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks, and wait a while until they have ended, however they end."""
    ending = set(tasks)
    for task in ending:
        task.cancel()
    if ending:
        await asyncio.wait(ending, timeout=END_WITHIN_S)
    for task in ending:
        if task.done() and not task.cancelled():
            task.exception()  # seen: the first one was told
