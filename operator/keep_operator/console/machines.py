"""Which machine posts events: its token is compared with the digests that the operator has written.

::

    token ──► accepted lately? ──► refused lately? ──► too many failures? ──► compared, slowly, two at a time
                  │ yes: in           │ yes: 401           │ yes: 429            │ fits one of the tenant's: in
                                                           │   unless it was
                                                           │   good today

A comparison is slow on purpose, so what came of it is remembered: an accepted token for a minute, which is also how long
one that was revoked still works, a wrong one for less. What is remembered is found by a keyed hash that ends with the
process. Failures count for the address that they come from, whatever tenant they name. Who has had a good token is not kept
out by others who try from there, such as behind the same proxy.
"""

import asyncio
import hashlib
import hmac
import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from keep_operator.console import problems
from keep_operator.console.doorkeeper import REMEMBERED_AT_MOST, Memory
from keep_operator.console.rates import Rates
from keep_operator.domain.tenant import Token
from keep_operator.store import tokens

log = logging.getLogger(__name__)

ACCEPTED_FOR_S: Final = 60.0
REFUSED_FOR_S: Final = 10.0
# So long a token that was good is compared whoever else fails.
KNOWN_FOR_S: Final = 86_400.0
# Wrong tokens of one address: so many at once, and then one in so many seconds.
FAILURES: Final = 10
FAILURE_EACH_S: Final = 6.0
# Comparisons at once; each takes a processor and 16 MiB for a twentieth of a second.
COMPARED_AT_ONCE: Final = 2
_BEARER: Final = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +(" + tokens.FORM.pattern + ")")
_HOW: Final = "Send a token that the Tenant names in spec.ingestTokens: `Authorization: Bearer TOKEN`."

Known = Callable[[str], Awaitable[Sequence[Token]]]


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that may post events; ``token`` says where its token stands."""

    tenant_id: str
    token: str


class Machines:
    """Made once per process. ``clock`` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._key = secrets.token_bytes(32)
        self._accepted: Memory[bytes, str] = Memory(clock, ACCEPTED_FOR_S, REMEMBERED_AT_MOST)
        self._refused: Memory[bytes, bool] = Memory(clock, REFUSED_FOR_S, REMEMBERED_AT_MOST)
        self._known: Memory[bytes, bool] = Memory(clock, KNOWN_FOR_S, REMEMBERED_AT_MOST)
        self._failures: Rates[str] = Rates(clock, 1 / FAILURE_EACH_S, FAILURES)
        self._comparing = asyncio.Semaphore(COMPARED_AT_ONCE)

    async def admitted(self, tenant_id: str, authorization: Sequence[str], address: str, known: Known) -> Machine:
        """Who sends this header. Raises Problem: 401, 429; whether there is such a tenant is not told."""
        found = _BEARER.fullmatch(authorization[0]) if len(authorization) == 1 else None
        if found is None:
            raise problems.unauthenticated(_HOW)
        mark = hmac.digest(self._key, f"{tenant_id}\n{found[1]}".encode(), hashlib.sha256)
        if (name := self._accepted.get(mark)) is not None:
            return Machine(tenant_id, name)
        if self._refused.get(mark):
            raise problems.unauthenticated(f"The tenant does not accept this token. {_HOW}")
        was_good = self._known.get(mark) is not None
        if not was_good and (wait_s := self._failures.take(address)) > 0:
            raise problems.too_many("Too many wrong tokens came from this address", wait_s)
        async with self._comparing:
            # Somebody may have asked the same while this one waited.
            name = self._accepted.get(mark) or await self._compared(await known(tenant_id), found[1])
        if name is None:
            self._refused.put(mark, True)
            raise problems.unauthenticated(f"The tenant does not accept this token. {_HOW}")
        if not was_good:
            self._failures.give_back(address)
        self._known.put(mark, True)
        self._accepted.put(mark, name)
        return Machine(tenant_id, name)

    async def _compared(self, accepted: Sequence[Token], token: str) -> str | None:
        """The name of the one that it is. All are compared, and one at least: time tells nothing."""
        name = None
        for each in accepted or (tokens.NOBODYS,):
            if await asyncio.to_thread(tokens.fits, each, token):
                name = each.name
        return name
