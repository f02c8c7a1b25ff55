"""The election: at most one replica leads at any instant, and soon one does, whatever the network and people do."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from typing import Any, Concatenate, ParamSpec, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keep_operator.errors import Conflict, Unavailable
from keep_operator.resources.kinds import Key
from keep_operator.runtime.leader import GIVE_UP_AFTER, RETRY_S, Leadership
from unit import virtual_time
from unit.runtime.lease_server import Link, Server
from unit.virtual_time import now_s

pytestmark = pytest.mark.unit

LENGTH_S = 10.0
LEASE = Key("Lease", "keep", "keep-operator")
SLACK_S = 1.0
"""Some calls' latency."""
T = TypeVar("T")
P = ParamSpec("P")


def candidate(link: Link, identity: str, *, length_s: float = LENGTH_S, rate: float = 1.0) -> Leadership:
    """One process that stands for election; its clock runs ``rate`` times as fast as the others'."""

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds / rate)
        await link.runs()

    return Leadership(
        link.cluster,
        lease=LEASE,
        identity=identity,
        length=timedelta(seconds=length_s),
        clock=lambda: now_s() * rate,
        now=lambda: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=now_s()),
        sleep=sleep,
    )


def play(story: Callable[Concatenate[Server, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """A story with a fresh server."""

    async def run() -> T:
        return await story(Server(), *args, **kwargs)

    return virtual_time.run(run())


class Replica:
    """A pod: its process stands for election, leads, and is started anew when it has ended."""

    def __init__(self, name: str, link: Link, town: "Town", rate: float) -> None:
        self.name, self.link, self.town, self.rate = name, link, town, rate
        self.process: Leadership | None = None
        self.task = asyncio.create_task(self._live())

    @property
    def held(self) -> bool:
        """Whether it would write now."""
        return self.process is not None and self.process.held

    async def _live(self) -> None:
        for number in count():
            self.process = candidate(self.link, f"{self.name}-{number}", length_s=self.town.length_s, rate=self.rate)
            epoch = await self.process.acquire()
            self.town.took_over(self, epoch)
            await self.process.hold()
            assert not self.held
            await asyncio.sleep(1.0)

    async def end(self, *, kindly: bool) -> None:
        """SIGTERM or SIGKILL; the pod is started anew after a second."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        if kindly and self.process is not None:
            await self.process.release()
        self.process = None
        await asyncio.sleep(1.0)
        self.task = asyncio.create_task(self._live())


class Town:
    """Three replicas and one Lease; notes who led when, and that it was only ever one."""

    def __init__(self, server: Server, seed: int, rates: tuple[float, ...] = (1, 1, 1), length_s: float = LENGTH_S):
        self.server, self.length_s = server, length_s
        self.epochs: list[int] = []
        self.doubles: list[str] = []
        chance = random.Random(seed)  # noqa: S311 - a schedule, no secret
        self.replicas = [Replica(f"r{n}", Link(server, chance), self, rate) for n, rate in enumerate(rates)]
        self._watch = asyncio.create_task(self._look())

    def took_over(self, replica: Replica, epoch: int) -> None:
        """Called at the instant at which somebody begins to lead."""
        assert replica.held
        self.epochs.append(epoch)
        self._check()

    def leaders(self) -> list[Replica]:
        """Whoever would write now."""
        return [replica for replica in self.replicas if replica.held]

    def _check(self) -> None:
        if len(leaders := self.leaders()) > 1:
            self.doubles.append(f"{now_s():.3f}: {[replica.name for replica in leaders]}")

    async def _look(self) -> None:
        while True:
            self._check()
            await asyncio.sleep(0.1)

    async def end(self) -> None:
        """Everything stops, and nothing went wrong on the way."""
        tasks = [self._watch, *(replica.task for replica in self.replicas)]
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(outcome, asyncio.CancelledError) for outcome in ended), ended


@dataclass(frozen=True)
class Fault:
    """What happens to one replica, or to the Lease, ``at_s`` for so long."""

    at_s: float
    replica: int
    kind: str
    for_s: float

    async def strike(self, town: Town) -> None:
        """Let it happen, now."""
        replica = town.replicas[self.replica]
        match self.kind:
            case "cut" | "frozen" | "slow" | "lossy":
                setattr(replica.link, f"{self.kind}_until_s", self.at_s + self.for_s)
            case "killed" | "stopped":
                await replica.end(kindly=self.kind == "stopped")
            case "edited":
                if town.server.lease is not None:
                    town.server.edit(leaseDurationSeconds=1)


FAULTS_END_S = 80.0
KINDS = ["cut", "frozen", "slow", "lossy", "edited", "killed", "stopped"]
TIMES = st.integers(0, 240).map(lambda quarter: quarter / 4)
FAULTS = st.lists(
    st.builds(Fault, TIMES, st.integers(0, 2), st.sampled_from(KINDS), st.integers(1, 80).map(lambda n: n / 4)),
    max_size=14,
    unique_by=lambda fault: (fault.at_s, fault.replica),
)


async def endure(town: Town, faults: list[Fault]) -> None:
    """Live through the faults, and for long enough after them that somebody leads again."""

    async def fate(number: int) -> None:
        for fault in sorted((fault for fault in faults if fault.replica == number), key=lambda fault: fault.at_s):
            await asyncio.sleep(max(0.0, fault.at_s - now_s()))
            await fault.strike(town)

    await asyncio.gather(*(fate(number) for number in range(len(town.replicas))))
    await asyncio.sleep(max(0.0, FAULTS_END_S - now_s()))


@settings(max_examples=80, deadline=None)
@given(FAULTS, st.integers(0, 2**16))
def test_never_two_and_soon_one(faults: list[Fault], seed: int) -> None:
    """Partitions, frozen processes, slow and lost answers, kills and edits: never two at once, and then soon one."""

    async def story(server: Server) -> None:
        town = Town(server, seed)
        await endure(town, faults)
        slowest_s = town.replicas[0].link.slowest_s
        await asyncio.sleep(LENGTH_S + RETRY_S + slowest_s + SLACK_S)
        (leader,) = town.leaders()
        await asyncio.sleep(5 * LENGTH_S)
        assert town.leaders() == [leader]
        await town.end()
        assert town.doubles == []
        assert all(earlier < later for earlier, later in pairwise(town.epochs)), town.epochs

    play(story)


@settings(max_examples=30, deadline=None)
@given(FAULTS, st.integers(0, 2**16), st.permutations([1.0, 1.1, 1.2]))
def test_clocks_may_differ_by_a_fifth(faults: list[Fault], seed: int, rates: list[float]) -> None:
    """The safety margin: an observer's clock that is 20 % faster than the leader's still does no harm."""

    async def story(server: Server) -> None:
        town = Town(server, seed, tuple(rates))
        await endure(town, faults)
        await town.end()
        assert town.doubles == []

    assert max(rates) / min(rates) < 1 / GIVE_UP_AFTER
    play(story)


@pytest.mark.parametrize("length_s", [2.0, 10.0, 15.0, 60.0])
@pytest.mark.parametrize("killed_at_s", [20.0, 21.3, 24.99])
def test_a_killed_leader_is_followed_within_its_lease_and_a_retry(length_s: float, killed_at_s: float) -> None:
    """The fail-over that is promised (A-CTL-2), for every length of a Lease, wherever between two looks it died."""

    async def story(server: Server) -> None:
        link, other = Link(server), Link(server)
        first, second = candidate(link, "a", length_s=length_s), candidate(other, "b", length_s=length_s)
        await first.acquire()
        holding = asyncio.create_task(first.hold())
        waiting = asyncio.create_task(second.acquire())
        await asyncio.sleep(killed_at_s)
        holding.cancel()
        killed_s = now_s()
        assert await waiting == 2
        assert now_s() - killed_s <= length_s + RETRY_S + 0.1
        assert not first.held

    play(story)


def test_at_rest_a_write_each_five_seconds() -> None:
    """What the API server and etcd pay for the election; standbys only read (A-DR-2)."""

    async def story(server: Server) -> None:
        town = Town(server, 0)
        await asyncio.sleep(600)
        await town.end()
        assert len(town.epochs) == 1
        assert len(server.writes) <= 1 + 600 / 5
        assert all(later - earlier >= 5.0 - 1e-6 for earlier, later in pairwise(server.writes))

    play(story)


def test_a_lease_that_is_given_back_is_taken_at_the_next_look() -> None:
    """A rolling update costs a retry, not the Lease's length, also when a renewal was under way."""

    async def story(server: Server, ended_at_s: float) -> None:
        link, other = Link(server), Link(server)
        first, second = candidate(link, "a"), candidate(other, "b")
        await first.acquire()
        holding = asyncio.create_task(first.hold())
        waiting = asyncio.create_task(second.acquire())
        await asyncio.sleep(ended_at_s - now_s())
        holding.cancel()
        began_s = now_s()
        await first.release()
        assert server.spec["holderIdentity"] == ""
        assert not first.held
        assert await waiting == 2
        assert now_s() - began_s <= RETRY_S + 0.1
        assert server.spec["leaseDurationSeconds"] == LENGTH_S

    # The renewal is sent at 5.04: before, on its way, done but not answered, after.
    for ended_at_s in (3.0, 5.045, 5.055, 5.5):
        play(story, ended_at_s)


def test_giving_back_what_another_has_changes_nothing() -> None:
    """A process that ends late does not take the Lease from its successor."""

    async def story(server: Server) -> None:
        first = candidate(Link(server), "a")
        await first.release()
        assert server.lease is None
        await first.acquire()
        server.edit(holderIdentity="b")
        await first.release()
        assert server.spec["holderIdentity"] == "b"

    play(story)


@pytest.mark.parametrize("exists", [False, True], ids=["no Lease yet", "a Lease given back"])
def test_a_lost_answer_to_the_acquiring_write(exists: bool) -> None:
    """The write was done, its answer lost: no replica waits for itself, and none leads without knowing."""

    async def story(server: Server, seed: int) -> None:
        if exists:
            server.create({"metadata": {}, "spec": {"holderIdentity": "", "leaseTransitions": 4}})
        link, other = Link(server, random.Random(seed), lose_next_answers=1), Link(server)  # noqa: S311
        first, second = candidate(link, "a"), candidate(other, "b")
        waiting = asyncio.create_task(first.acquire())
        await asyncio.sleep(0.5)
        standby = asyncio.create_task(second.acquire())
        assert not waiting.done()
        assert await waiting > (4 if exists else 0)
        assert now_s() < RETRY_S + 0.2
        await asyncio.sleep(1.0)
        assert first.held
        assert not second.held
        standby.cancel()

    for seed in range(4):
        play(story, seed)


def test_an_answer_after_the_deadline_is_no_leadership() -> None:
    """The Lease was granted, but the answer took longer than it lasts: the replica asks anew before it begins."""

    async def story(server: Server) -> None:
        link = Link(server, latency_s=LENGTH_S)
        waiting = asyncio.create_task(candidate(link, "a").acquire())
        await asyncio.sleep(4.5 * LENGTH_S)
        assert server.spec["holderIdentity"] == "a"
        assert not waiting.done()
        link.latency_s = 0.01
        await asyncio.sleep(LENGTH_S * 2)
        assert waiting.done()

    play(story)


def test_renewals_survive_lost_answers() -> None:
    """Every second answer lost for a minute, and the client's own repeats met with 409: the leader stays."""

    async def story(server: Server, seed: int) -> None:
        link = Link(server, random.Random(seed))  # noqa: S311
        leader = candidate(link, "a")
        await leader.acquire()
        holding = asyncio.create_task(leader.hold())
        for _ in range(12):
            link.lose_next_answers = 1
            await asyncio.sleep(5.0)
            assert leader.held
        holding.cancel()

    for seed in range(5):
        play(story, seed)


def test_a_leader_that_may_no_longer_write_gives_up_in_time() -> None:
    """A policy or a lost right refuses the renewal: it ends as any lost Lease does, without an exception."""

    async def story(server: Server) -> None:
        link = Link(server)
        leader = candidate(link, "a")
        await leader.acquire()
        link.refuse_writes = True
        await leader.hold()
        assert not leader.held
        assert now_s() <= LENGTH_S * GIVE_UP_AFTER + 0.1

    play(story)


def test_a_cut_off_leader_gives_up_before_anybody_else_may_begin() -> None:
    """The two ends of the margin: the leader's hold is over at 8 s of 10, the standby begins at 10."""

    async def story(server: Server) -> None:
        link, other = Link(server), Link(server)
        first, second = candidate(link, "a"), candidate(other, "b")
        await first.acquire()
        standby = asyncio.create_task(second.acquire())
        link.cut_until_s = 1000.0
        await first.hold()
        gave_up_s = now_s()
        await standby
        assert now_s() - gave_up_s >= LENGTH_S * (1 - GIVE_UP_AFTER) - 0.1

    play(story)


def test_a_silent_connection_leaves_time_for_a_second_try() -> None:
    """A renewal that never comes back is given up early enough to be sent again over another connection."""

    async def story(server: Server) -> None:
        link = Link(server)
        leader = candidate(link, "a")
        await leader.acquire()
        holding = asyncio.create_task(leader.hold())
        await asyncio.sleep(4.9)
        link.latency_s = 1000.0
        await asyncio.sleep(0.2)
        link.latency_s = 0.01
        await asyncio.sleep(10.0)
        assert leader.held
        holding.cancel()

    play(story)


def test_a_deleted_lease_is_made_anew_when_its_leader_has_given_up() -> None:
    """Deleted under a leader: the standby does not begin before the leader must have noticed, and then does."""

    async def story(server: Server) -> None:
        town = Town(server, 0)
        await asyncio.sleep(21)  # the next renewal is some seconds off, a standby's look one at most
        server.lease = None
        await asyncio.sleep(LENGTH_S + RETRY_S + SLACK_S)
        assert len(town.epochs) == 2
        assert len(town.leaders()) == 1
        await town.end()
        assert town.doubles == []

    play(story)


EDITS: list[dict[str, Any]] = [
    {"leaseDurationSeconds": 1},
    {"leaseTransitions": 0},
    {"leaseTransitions": 77},
    {"renewTime": None, "leaseDurationSeconds": None},
]


@pytest.mark.parametrize("edit", EDITS, ids=str)
def test_what_a_person_changes_is_mended(edit: dict[str, Any]) -> None:
    """The leader stays, the Lease says again what is true, and no standby believes the shorter length meanwhile."""

    async def story(server: Server) -> None:
        town = Town(server, 0)
        await asyncio.sleep(21)
        before = dict(server.spec)
        server.edit(**edit)
        await asyncio.sleep(3 * LENGTH_S)
        await town.end()
        assert town.doubles == []
        assert town.epochs == [1]
        assert {**server.spec, "renewTime": ""} == {**before, "renewTime": ""}

    play(story)


def test_a_lease_given_to_another_by_hand_is_left() -> None:
    """Who is no longer named there ends at its next renewal; whoever is named never was, and its time runs out."""

    async def story(server: Server) -> None:
        town = Town(server, 0)
        await asyncio.sleep(20)
        server.edit(holderIdentity="nobody-we-know")
        await asyncio.sleep(LENGTH_S * GIVE_UP_AFTER)
        assert town.leaders() == []
        await asyncio.sleep(LENGTH_S)
        assert len(town.leaders()) == 1
        await town.end()
        assert town.doubles == []

    play(story)


@pytest.mark.parametrize("lost", [0, 1], ids=["answered", "answer lost"])
def test_the_count_is_lifted_while_the_lease_is_renewed(lost: int) -> None:
    """The database knew a higher count: it is lifted above, though renewals and lost answers come in between."""

    async def story(server: Server, at_s: float, seed: int) -> None:
        link = Link(server, random.Random(seed))  # noqa: S311
        leader = candidate(link, "a")
        await leader.acquire()
        holding = asyncio.create_task(leader.hold())
        await asyncio.sleep(at_s)
        link.lose_next_answers = lost
        try:
            epoch = await leader.raise_epoch(above=40)
        except Unavailable:
            assert leader.epoch == 1
            epoch = await leader.raise_epoch(above=40)
        assert epoch == leader.epoch == server.spec["leaseTransitions"] == 41
        await asyncio.sleep(3 * LENGTH_S)
        assert leader.held
        assert server.spec["leaseTransitions"] == 41
        holding.cancel()

    for seed, at_s in enumerate((1.0, 4.975, 4.985, 4.995, 5.005)):
        play(story, at_s, seed)


def test_the_count_of_another_is_not_lifted() -> None:
    """A replica that was deposed while it waited for the database does not disturb its successor, and learns of it."""

    async def story(server: Server) -> None:
        first, second = candidate(Link(server), "a"), candidate(Link(server), "b")
        await first.acquire()
        server.edit(holderIdentity="", leaseTransitions=1)
        assert await second.acquire() == 2
        with pytest.raises(Conflict, match="LeadershipLost"):
            await first.raise_epoch(above=2)
        await asyncio.sleep(LENGTH_S)
        with pytest.raises(Conflict, match="LeadershipLost"):
            await first.raise_epoch(above=2)
        assert server.spec["leaseTransitions"] == 2
        assert first.epoch == 1

    play(story)


def test_a_standby_names_the_leader() -> None:
    """What `/readyz` of a standby shows."""

    async def story(server: Server) -> None:
        await candidate(Link(server), "a").acquire()
        told: list[str] = []
        await candidate(Link(server), "b").acquire(told.append)
        assert set(told) == {"a"}

    play(story)
