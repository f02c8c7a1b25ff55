"""Who asks, and whether they may: the API server decides, and what it allowed is remembered for a moment.

Only what was allowed is remembered, so that a right that was just given works at once, and one that was taken away ends
within `REMEMBERED_FOR`. Tokens are not kept: what is remembered is found by their hashes. How many tokens of nobody are asked
about is bounded for each address that they come from; tokens that were somebody's lately are asked about whoever else tries.
"""

import asyncio
import hashlib
import logging
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Final, Generic, TypeVar

from keep_operator.cluster import reviews
from keep_operator.cluster.client import Cluster
from keep_operator.cluster.reviews import Right, User
from keep_operator.console import problems
from keep_operator.console.problems import Problem
from keep_operator.console.rates import Rates
from keep_operator.errors import KeepOperatorError

log = logging.getLogger(__name__)

# Pages of one history are asked for within a few seconds; a right that is taken away should not live on for longer.
REMEMBERED_FOR: Final = timedelta(seconds=10)
# Seconds for which a no is remembered where it only decides what is shown: a page may ask for hundreds of rights, and is reloaded;
# and that a session's token is nobody's any more.
DENIED_FOR_S: Final = 3.0
# Answers, of each kind: a few hundred bytes each.
REMEMBERED_AT_MOST: Final = 2_000
# Seconds for which a token that was somebody's is not counted as one that is tried.
KNOWN_FOR_S: Final = 3_600.0
# How often an address may try a token that is nobody's, and how often at once.
ATTEMPTS_A_SECOND: Final = 0.5
ATTEMPTS_AT_ONCE: Final = 30
# Characters. Tokens of service accounts have about 1,000, those of identity providers with many groups some 10,000.
LONGEST_TOKEN: Final = 16 * 1024
# RFC 6750: what a token consists of.
_BEARER: Final = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/-]+=*)")
_NOBODYS: Final = "The API server does not know this token: it is wrong, or has expired."

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Visitor:
    """A user, and the hash of the token that has proved it."""

    user: User
    proof: bytes


class Memory(Generic[Key, Value]):
    """What was found out lately: for so many seconds, so many things at most; what is full forgets the oldest."""

    def __init__(self, clock: Callable[[], float], seconds: float, at_most: int) -> None:
        self._clock = clock
        self._seconds = seconds
        self._at_most = at_most
        self._known: OrderedDict[Key, tuple[float, Value]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: Key) -> Value | None:
        """What is known, if it is not too old."""
        found = self._known.get(key)
        if found is None:
            return None
        until, value = found
        if until <= self._clock():
            del self._known[key]
            return None
        return value

    def put(self, key: Key, value: Value) -> None:
        """Remember it from now on."""
        self._known.pop(key, None)
        self._known[key] = (self._clock() + self._seconds, value)
        while len(self._known) > self._at_most:
            self._known.popitem(last=False)


class Doorkeeper:
    """Answers for the API server; made once per process."""

    def __init__(self, cluster: Cluster, clock: Callable[[], float]) -> None:
        seconds = REMEMBERED_FOR.total_seconds()
        self._cluster = cluster
        self._users: Memory[bytes, User] = Memory(clock, seconds, REMEMBERED_AT_MOST)
        self._rights: Memory[tuple[bytes, Right], bool] = Memory(clock, seconds, REMEMBERED_AT_MOST)
        self._denied: Memory[tuple[bytes, Right], bool] = Memory(clock, DENIED_FOR_S, REMEMBERED_AT_MOST)
        self._ended: Memory[bytes, bool] = Memory(clock, DENIED_FOR_S, REMEMBERED_AT_MOST)
        self._known: Memory[bytes, bool] = Memory(clock, KNOWN_FOR_S, REMEMBERED_AT_MOST)
        self._attempts: Rates[str] = Rates(clock, ATTEMPTS_A_SECOND, ATTEMPTS_AT_ONCE)
        self._asking: dict[bytes, asyncio.Task[User]] = {}

    async def visitor(self, authorization: list[str], address: str | None) -> Visitor:
        """Who sends this header from there; None: the token was somebody's when it was sealed. Raises Problem: 401, 429, 503."""
        if not authorization:
            raise problems.unauthenticated("Send a token of the cluster's: `Authorization: Bearer TOKEN`.")
        found = _BEARER.fullmatch(authorization[0])
        if len(authorization) > 1 or found is None or len(found[1]) > LONGEST_TOKEN:
            raise problems.unauthenticated("The header Authorization must be one, and hold `Bearer` and a token.")
        proof = hashlib.sha256(found[1].encode()).digest()
        user = self._users.get(proof)
        if user is None and address is None and self._ended.get(proof):
            raise problems.unauthenticated(_NOBODYS)
        if user is None:
            user = await self._once(proof, found[1], None if self._known.get(proof) else address)
        return Visitor(user, proof)

    async def _once(self, proof: bytes, token: str, address: str | None) -> User:
        """Who comes with the same token meanwhile waits for the same answer."""
        if (asking := self._asking.get(proof)) is None:
            asking = self._asking[proof] = asyncio.create_task(self._user(proof, token, address))
            asking.add_done_callback(lambda done: self._answered(proof, done))
        return await asyncio.shield(asking)

    def _answered(self, proof: bytes, asking: asyncio.Task[User]) -> None:
        del self._asking[proof]
        if not asking.cancelled():
            asking.exception()  # seen, though nobody may wait any more

    async def _user(self, proof: bytes, token: str, address: str | None) -> User:
        if address is not None and (wait_s := self._attempts.take(address)) > 0:
            raise problems.too_many("There were too many tokens of nobody", wait_s)
        counts = False
        try:
            user = await _asked(reviews.user_of(self._cluster, token))
            counts = user is None
        finally:
            if address is not None and not counts:
                self._attempts.give_back(address)
        if user is None:
            self._ended.put(proof, True)
            raise problems.unauthenticated(_NOBODYS)
        self._known.put(proof, True)
        self._users.put(proof, user)
        return user

    async def admit(self, visitor: Visitor, right: Right, told: str = "") -> None:
        """Returns if the visitor may do that. Raises Problem: 403, 503.

        ``told`` names the right where it would tell more than was asked for.
        """
        if self._rights.get((visitor.proof, right)):
            return
        if not await _asked(reviews.allowed(self._cluster, visitor.user, right)):
            raise problems.forbidden(
                f'User "{visitor.user.name}" may not {right}: ask for a role that allows it, such as keep-operator-view.'
                if right.namespace
                else f'User "{visitor.user.name}" may not {told or right}: ask for a ClusterRole that allows it.'
            )
        self._rights.put((visitor.proof, right), True)

    async def may(self, visitor: Visitor, right: Right) -> bool:
        """Whether the visitor may do that, or might not a moment ago: for what is shown, not for what is done. Raises Problem 503."""
        if self._denied.get((visitor.proof, right)):
            return False
        try:
            await self.admit(visitor, right)
        except Problem as problem:
            if problem.status is not HTTPStatus.FORBIDDEN:
                raise
            self._denied.put((visitor.proof, right), True)
            return False
        return True


async def _asked(question: Awaitable[Value]) -> Value:
    try:
        return await question
    except KeepOperatorError as failure:
        log.warning("the API server was asked about a user in vain: %s", failure)
        raise problems.unavailable("The API server", failure) from None
