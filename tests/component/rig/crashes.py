"""Dying at every write of a story, and going on from there.

::

    scene ──► operator at rest ──► deed ──► write 1 ──► write 2 ──► ... ──► rest                      the world as it shall be
                                               │
                              dies before it, or after it with the answer unseen
                                               └──► another operator starts ──► ... ──► rest          the same world

A write is a request that would change something at the API server (objects, their status, Events, and the Lease when it is taken)
or a COMMIT of a transaction with changes. It is named by what it does and the how manieth of that kind it is, so that the order
in which writes of several objects happen to come does not matter.
"""

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple

from component.apiserver.faults import Cut, Gate
from component.rig import scene, world
from component.rig.process import KEY, Operator
from component.rig.rig import Rig, built
from component.rig.scene import Scene
from component.rig.user import User
from manifests import Json

Deed = Callable[[User], Awaitable[None]]
VAULT: Final = world.vault(KEY)
SETTINGS: Final = {"default_tenant": "", "decisions_unverified": "Record"}
_SETTLED_S: Final = 5.0
"""An operator that begins over objects at rest has looked at all of them by then, in seconds of the leaping clock."""
_PATIENCE_S: Final = 600.0
"""How long the operator may take to come to the write at which it dies, in the same seconds."""


async def nothing(user: User) -> None:
    """No deed."""


@dataclass(frozen=True)
class Story:
    """What a user does, and then waits for; ``before`` is done and at rest when the story begins.

    ``writes`` is how many the operator needs for it. With ``from_start`` the deed is done while no operator is there, and the
    writes of its start count too.
    """

    deed: Deed
    writes: int
    before: Deed = nothing
    from_start: bool = False


class Point(NamedTuple):
    """Where the operator dies."""

    write: str
    after: bool

    def __str__(self) -> str:
        return f"{'after' if self.after else 'before'} {self.write}"


class _Death(Gate):
    """Numbers the writes of an operator, and kills it at one of them."""

    def __init__(self, rig: Rig, point: Point | None, *, leads: bool) -> None:
        self._rig = rig
        self._point = point
        self._leads = leads
        self._so_far: Counter[str] = Counter()
        self.writes: list[str] = []
        self.died = asyncio.Event()

    @asynccontextmanager
    async def passing(self, client: str, what: str) -> AsyncIterator[None]:
        if self.died.is_set() or self._is_renewal(what):
            yield
            return
        what = re.sub("^POST events .*", "POST events", what)  # their names are random
        self._so_far[what] += 1
        write = f"{what}, {self._so_far[what]}."
        self._die_at(client, Point(write, after=False))
        try:
            yield
        except BaseException:
            self._so_far[what] -= 1  # it was refused, so it was none
            raise
        self.writes.append(write)
        self._die_at(client, Point(write, after=True))

    def _is_renewal(self, what: str) -> bool:
        """Whether it only says that the leader lives; its first write of the Lease takes the lead."""
        if " leases" not in what:
            return False
        led, self._leads = self._leads, True
        return led

    def _die_at(self, client: str, point: Point) -> None:
        if point == self._point:
            self.died.set()
            self._rig.server.kill(client)
            self._rig.doors.kill(client)
            raise Cut


async def stage(url: str, story: Story) -> Scene:
    """The scene in which the story begins."""
    Scene().restore(url)
    if story.before is nothing:
        return Scene()
    async with built(url) as rig:
        operator = await _operate(rig)
        await story.before(rig.user)
        await rig.rest()
        await operator.stop()
        return scene.take(rig)


async def play(url: str, begin: Scene, story: Story, point: Point | None = None) -> tuple[Json, list[str]]:
    """The world after the story, and the writes of the operator that was the first; it dies at the point, if there is one."""
    begin.restore(url)
    async with built(url, begin.state.copy(), begin.leapt_s) as rig:
        if not story.from_start:
            await _operate(rig)
            await rig.rest(_SETTLED_S)
        gate = _Death(rig, point, leads=not story.from_start)
        rig.use(gate)
        deed = asyncio.create_task(_act(rig, story))
        if point is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE_S):
                    await gate.died.wait()
            assert gate.died.is_set(), f"this time there was nothing to die at {point}: {gate.writes}"
            await rig.operators[0].kill()
            await _operate(rig)
        await deed
        await rig.rest()
        return await world.read(rig, VAULT), gate.writes


async def _act(rig: Rig, story: Story) -> None:
    if story.from_start:
        await rig.start(**SETTINGS)
    await story.deed(rig.user)


async def _operate(rig: Rig) -> Operator:
    return await rig.operate(**SETTINGS)


async def survive(url: str, story: Story) -> list[str]:
    """Die at every point of the story, and end as without; the writes that there are. Fails at the first other end."""
    begin = await stage(url, story)
    end, writes = await play(url, begin, story)
    for point in (Point(write, after) for write in writes for after in (False, True)):
        other, _ = await play(url, begin, story, point)
        difference = world.difference(end, other)
        assert not difference, f"another end when the operator dies {point}\n{difference}"
    return writes
