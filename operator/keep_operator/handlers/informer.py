"""kopf as an informer: its settings with their reasons, how it signs in, and how it is run inside our process."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import kopf

from keep_operator.cluster.connection import Connection
from keep_operator.resources.kinds import GROUP

# Objects in one page of the first list: half the memory of one answer with everything.
PAGE: Final = 500
# Tasks of kopf at the same time while it works through that list.
WORKERS: Final = 200
# kopf keeps a task per object for this long after its last event, in seconds.
IDLE_S: Final = 0.2
# A stream that is silent for longer than this is dead: bookmarks come about once a minute.
SILENT_S: Final = 70
CONNECT_S: Final = 10


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
    chosen.queueing.worker_limit = WORKERS
    chosen.queueing.idle_timeout = IDLE_S
    chosen.networking.connect_timeout = CONNECT_S
    chosen.persistence.diffbase_storage = _NoDiffs()
    chosen.persistence.progress_storage = _NoProgress()
    chosen.persistence.finalizer = f"{GROUP}/kopf"  # never added; recognisable if it ever were
    chosen.process.ultimate_exiting_timeout = 60
    return chosen


async def run(
    registry: kopf.OperatorRegistry,
    connection: Connection,
    namespaces: Sequence[str],
    answered: Callable[[str], None],
) -> None:
    """List and watch until cancelled or told by a signal; raises when kopf gives up, which a restart mends.

    ``answered`` is told the path of each request that the server answers: lists, watches and their renewals.
    Cancel it rather than use kopf's stop flag: that waits five seconds for every task that is younger than kopf.
    """

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.AiohttpSession:
        # kopf closes the session; who we are is renewed inside it, so that a rotated token ends no watch.
        return kopf.AiohttpSession(server=connection.server, aiohttp_session=await connection.open_session(answered))

    scope: dict[str, Any] = {"namespaces": list(namespaces)} if namespaces else {"clusterwide": True}
    await kopf.operator(registry=registry, settings=settings(), standalone=True, **scope)
