"""An operator that sees the past, or misses what came and went: nothing is deleted, and no id changed, for what it does not know (P5)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import pytest

from component.rig import crashes, scene, world
from component.rig.crashes import Deed, Story
from component.rig.rig import Rig, built
from component.rig.scene import Scene
from component.rig.test_crash_points import BACK, HELLO, LOCKED, STORIES, TEAM, VM, _rewritten, _rolled_back
from component.rig.user import User
from keep_operator.resources.kinds import OURS, SECRETS, WORKFLOW_REVISIONS
from manifests import Json, definition, secret

pytestmark = pytest.mark.component

LATE: Final = "late"
LATE_FOR_S: Final = 60.0
"""How long a view stays in the past, in seconds of the leaping clock: long enough for whatever would be done because of it."""
STRIPPED: Final = {"metadata": {"finalizers": None}}


async def _there(user: User) -> None:
    user.apply(TEAM, VM)
    await user.ready(TEAM, VM)


async def _locked(user: User) -> None:
    user.apply(TEAM, secret("login", "default", password="old"), LOCKED)
    await user.ready(TEAM, LOCKED)


async def _make_again(user: User) -> None:
    user.delete(VM)
    await user.gone(VM)
    user.apply(VM)
    await user.ready(VM)


async def _make_again_by_force(user: User) -> None:
    uid = user.get(VM).uid
    user.patch(VM, STRIPPED)
    user.delete(VM)
    user.apply(VM)
    assert user.get(VM).uid != uid
    await user.ready(VM)


PASTS: Final = {name: story for name, story in STORIES.items() if not story.from_start} | {
    "a Provider that is made again": Story(_make_again, 0, before=_there),
    "a Provider that is torn out and made again": Story(_make_again_by_force, 0, before=_there),
}


@pytest.mark.parametrize("name", PASTS)
async def test_a_view_of_the_past(name: str, database_url: str) -> None:
    """Wherever in a story a new process believes to be, once it sees the present all is as the story has left it."""
    story = PASTS[name]
    begin = await crashes.stage(database_url, story)
    begin.restore(database_url)
    async with built(database_url, begin.state.copy(), begin.leapt_s) as rig:
        operator = await rig.operate(**crashes.SETTINGS)
        await story.deed(rig.user)
        await rig.rest()
        shall = await _read(rig)
        await operator.stop()
        end = scene.take(rig)
    seen = [
        happening.version
        for happening in end.state.log
        if begin.state.version <= happening.version and happening.resource in (*OURS, SECRETS)
    ]
    for version in [begin.state.version, *seen[:-1]]:
        difference = world.difference(shall, await _from_the_past(database_url, end, version))
        assert not difference, f"another end when it sees version {version} first\n{difference}"


async def _from_the_past(url: str, end: Scene, version: int) -> Json:
    end.restore(url)
    async with built(url, end.state.copy(), end.leapt_s) as rig:
        rig.server.freeze(LATE, version)
        late = await rig.start(name=LATE, **crashes.SETTINGS)
        await rig.rest(LATE_FOR_S)
        rig.server.unfreeze(LATE)
        await rig.user.eventually(lambda: late.ready or late.ended, bool, "ready")
        assert not late.ended
        await rig.rest()
        return await _read(rig)


async def _read(rig: Rig) -> Json:
    """The world without Events: who sees another object late may wait for it once more, and tell when the wait is over."""
    return await world.read(rig, crashes.VAULT) | {"events": []}


@dataclass(frozen=True)
class Unseen:
    """What happens while nobody looks, and what the ledger says of the object ``about`` afterwards."""

    before: Deed
    changes: Callable[[User], None]
    deeds: tuple[str, ...] = ("Created",)
    about: Json = field(default_factory=lambda: VM)


def _rename_and_back(user: User) -> None:
    user.edit(VM, externalName="another")
    user.edit(VM, externalName=None)


def _rename_thrice(user: User) -> None:
    for name in ("first", "second", "third"):
        user.edit(VM, externalName=name)


def _suspend_and_resume(user: User) -> None:
    user.edit(VM, suspend=True)
    user.edit(VM, suspend=None)


def _close_and_open(user: User) -> None:
    user.edit(TEAM, allowedNamespaces={"all": None, "names": ["elsewhere"]})
    user.edit(TEAM, allowedNamespaces={"all": True, "names": None})


def _tear_out_and_make(user: User) -> None:
    user.patch(VM, STRIPPED)
    user.delete(VM)
    user.apply(VM)


def _tear_out_all_and_make(user: User) -> None:
    for each in (VM, TEAM):
        user.patch(each, STRIPPED)
        user.delete(each)
    user.apply(TEAM, VM)


def _rotate_and_back(user: User) -> None:
    user.apply(secret("login", "default", password="new"))
    user.apply(secret("login", "default", password="old"))


def _lose_and_find(user: User) -> None:
    user.delete(secret("login", "default"))
    user.apply(secret("login", "default", password="old"))


def _rewrite_and_back(user: User) -> None:
    user.edit(HELLO, definition=definition("never"))
    user.edit(HELLO, definition=definition("two"))


def _tear_out_workflow_and_make(user: User) -> None:
    user.patch(HELLO, STRIPPED)
    user.delete(HELLO)
    user.apply(HELLO | {"spec": HELLO["spec"] | {"definition": definition("two")}})


def _lose_versions(user: User) -> None:
    user.delete(*(thing.raw for thing in user.objects(WORKFLOW_REVISIONS)))


def _decide_twice(user: User) -> None:
    user.delete(BACK)
    user.apply(BACK, BACK | {"metadata": BACK["metadata"] | {"name": "once-more"}})


TWICE: Final = ("Created", "Deployed", "Deployed")
BACKWARDS: Final = (*TWICE, "HoldSet", "Deployed")
UNSEEN: Final = {
    "a name changed and changed back": Unseen(_there, _rename_and_back),
    "a name changed three times": Unseen(_there, _rename_thrice, ("Created", "Renamed")),
    "suspended and resumed": Unseen(_there, _suspend_and_resume),
    "a Tenant closed and opened": Unseen(_there, _close_and_open),
    "a Provider torn out and made again": Unseen(_there, _tear_out_and_make, ("Created", "Reattached")),
    "all torn out and made again": Unseen(_there, _tear_out_all_and_make, ("Created", "Reattached")),
    "a Secret changed and changed back": Unseen(_locked, _rotate_and_back),
    "a Secret deleted and made again": Unseen(_locked, _lose_and_find),
    "a definition changed and changed back": Unseen(_rewritten, _rewrite_and_back, TWICE, HELLO),
    "the same over a rollback": Unseen(_rolled_back, _rewrite_and_back, BACKWARDS, HELLO),
    "a Workflow torn out and made again": Unseen(
        _rolled_back, _tear_out_workflow_and_make, (*BACKWARDS, "Reattached"), HELLO
    ),
    "all versions deleted": Unseen(_rolled_back, _lose_versions, BACKWARDS, HELLO),
    "a decision made again, twice": Unseen(_rolled_back, _decide_twice, BACKWARDS, HELLO),
}


@pytest.mark.parametrize("name", UNSEEN)
async def test_what_nobody_saw(name: str, database_url: str) -> None:
    """What came and went is as good as never been: while no operator was there, and while one was there and deaf."""
    unseen = UNSEEN[name]
    begin = await crashes.stage(database_url, Story(unseen.before, 0, before=unseen.before))
    ends = []
    for deaf in (False, True):
        begin.restore(database_url)
        async with built(database_url, begin.state.copy(), begin.leapt_s) as rig:
            ids = _ids(rig)
            await (_deaf if deaf else _away)(rig, unseen)
            await rig.user.ready(TEAM, unseen.about)
            await rig.rest()
            assert _ids(rig) == ids
            told = rig.database.ledger(unseen.about["kind"])
            assert tuple(entry["action"] for entry in told) == unseen.deeds
            ends.append(await world.read(rig, crashes.VAULT))
    assert not world.difference(*ends)


def _ids(rig: Rig) -> set[object]:
    versions = "SELECT workflow_id, number FROM keep_operator.workflow_revision"
    return {row["id"] for row in rig.database.providers()} | {(*row.values(),) for row in rig.database.rows(versions)}


async def _away(rig: Rig, unseen: Unseen) -> None:
    unseen.changes(rig.user)
    await rig.operate(default_tenant="")


async def _deaf(rig: Rig, unseen: Unseen) -> None:
    """The streams are silent, and end when all is over; their history is forgotten by then."""
    await rig.operate(default_tenant="")
    await rig.rest(5.0)
    rig.server.watches.hold()
    unseen.changes(rig.user)
    rig.server.expire()
    rig.server.watches.release()
