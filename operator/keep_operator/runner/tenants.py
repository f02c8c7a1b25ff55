"""What the Tenants say of what their steps may do, as it stands in the database, at most some seconds old."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from keep_operator.errors import Unavailable
from keep_operator.runner.egress import Egress
from keep_operator.store import engine as database
from keep_operator.store import tenants
from keep_operator.store.engine import Engine

log = logging.getLogger(__name__)

# For so long an edit of `egress.allow` may not be known, in seconds.
FRESH_S: Final = 5.0
RETRY_S: Final = 1.0
# Tenants that are remembered at once.
MOST: Final = 1_000


class Tenants:
    """Asks the database once for many steps."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._clock = clock
        self._known: dict[str, tuple[float, Egress]] = {}

    async def egress(self, tenant_id: str) -> Egress:
        """What the tenant allows; waits while the database is away, since an old answer may have been taken back."""
        known = self._known.get(tenant_id)
        if known is not None and self._clock() - known[0] < FRESH_S:
            return known[1]
        while True:
            try:
                async with database.look(self._engine) as conn:
                    found = Egress.of(await tenants.egress(conn, tenant_id))
            except Unavailable as error:
                log.debug("what the tenant allows is not known now", extra={"reason": error.reason})
                await asyncio.sleep(RETRY_S)
                continue
            if len(self._known) >= MOST:
                self._known.clear()
            self._known[tenant_id] = self._clock(), found
            return found
