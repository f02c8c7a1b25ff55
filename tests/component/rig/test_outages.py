"""A Kubernetes that misbehaves, and what the operator promises then: it goes on, or ends so that its pod begins anew.

Nothing is ever deleted because something could not be seen.
"""

from collections import Counter
from itertools import count

import pytest

from component.apiserver.faults import BROKEN, TOO_MANY, Asked, Fault
from component.apiserver.state import Failure, Name
from component.rig.process import Operator
from component.rig.rig import Rig
from keep_operator.resources.kinds import PROVIDERS
from manifests import Json, credential, provider, secret, tenant

pytestmark = pytest.mark.component
TEAM = tenant("team")
MINUTE_S = 60.0


def _fleet(number: int) -> list[Json]:
    return [provider(f"vm-{n}", "default", "team") for n in range(number)]


async def _operate(rig: Rig, *before: Json) -> Operator:
    """An operator over these objects, all of them Ready."""
    rig.user.apply(*before)
    operator = await rig.operate(default_tenant="")
    await rig.user.ready(*(each for each in before if each["kind"] in ("Tenant", "Provider")))
    await rig.rest()
    return operator


def _ids(rig: Rig) -> dict[str, str]:
    return {row["external_name"]: str(row["id"]) for row in rig.database.providers()}


def _deeds(rig: Rig) -> Counter[str]:
    return Counter(entry["action"] for entry in rig.database.ledger("Provider"))


async def test_a_storm_of_429(rig: Rig) -> None:
    """An API server that refuses two requests in three for a minute is obeyed: nothing is done twice, all get Ready.

    Leases have a lane of their own, as real servers give them.
    """
    operator = await _operate(rig, TEAM)
    mark, turn = len(rig.server.exchanges), count()

    def refused(asked: Asked) -> bool:
        return asked.target != "leases" and bool(next(turn) % 3)

    rig.server.faults.append(Fault(refused, refusal=TOO_MANY, retry_after_s=1))
    things = _fleet(30)
    rig.user.apply(*things)
    await rig.rest(MINUTE_S)
    rig.server.faults.clear()
    await rig.user.ready(*things)
    await rig.rest()
    spent = rig.server.writes(operator.name, since=mark)
    assert spent["PATCH providers"] == 30
    assert spent["PATCH providers/status"] <= 2 * 30  # who was refused four times in a row may have said so
    asked = sum(each.client == operator.name and each.verb == "PATCH" for each in rig.server.exchanges[mark:])
    assert asked <= 3 * 3 * 30  # every third is granted
    assert rig.user.events("Warning") == []
    assert _deeds(rig) == {"Created": 30}
    assert not operator.ended


async def test_watches_that_expire_while_objects_are_deleted(rig: Rig) -> None:
    """Streams are cut, objects are deleted, made and edited meanwhile, the history is forgotten: nothing is missed."""
    things = _fleet(6)
    operator = await _operate(rig, TEAM, *things)
    before, mark = _ids(rig), rig.mark()
    rig.server.watches.hold()
    rig.user.delete(*things[:2])
    rig.user.edit(things[2], externalName="renamed")
    late = provider("late", "default", "team")
    rig.user.apply(late)
    rig.server.expire()
    rig.server.watches.release()
    await rig.user.gone(*things[:2])
    await rig.user.ready(*things[2:], late)
    await rig.rest()
    assert _ids(rig) == {
        "renamed": before["vm-2"],
        **{name: before[name] for name in ("vm-3", "vm-4", "vm-5")},
        "late": _ids(rig)["late"],
    }
    assert _deeds(rig) == {"Created": 7, "Renamed": 1, "Deleted": 2}
    spent = rig.spent(operator, mark)
    assert spent.pop("PATCH tenants/status") <= 2
    assert spent == {
        "COMMIT delete provider": 2,
        "COMMIT insert provider": 1,
        "COMMIT update provider": 1,
        "PATCH providers": 3,  # two go, one comes
        "PATCH providers/status": 2,
    }
    assert not operator.ended


async def test_a_deletion_that_no_watch_tells_of(rig: Rig) -> None:
    """An object torn away while streams are broken is noticed after the next list: its Tenant no longer counts it."""
    things = _fleet(3)
    operator = await _operate(rig, TEAM, *things)
    mark = rig.mark()
    rig.server.lose(PROVIDERS, Name("default", "vm-1"))
    await rig.user.until(TEAM, lambda team: team.status["providers"]["total"] == 2, "count")
    assert not operator.ended
    assert len(rig.database.providers()) == 3  # whose object is gone is found out by sweeps, not by a guess
    assert rig.spent(operator, mark) == {"PATCH tenants/status": 1}


async def test_a_watch_of_ours_that_fails_otherwise(rig: Rig) -> None:
    """A watch of Providers that ends in an error other than 410 ends the process with one; its successor takes up all."""
    things = _fleet(3)
    first = await _operate(rig, TEAM, *things)
    before = _ids(rig)
    rig.server.watches.cut("providers", say=Failure(500, "InternalError", "etcd event received with PrevKv=nil"))
    assert "WatchFailed" in str(await first.end())
    rig.user.delete(things[0])
    rig.user.edit(things[1], externalName="renamed")
    second = await rig.operate(default_tenant="")
    await rig.user.gone(things[0])
    await rig.user.ready(*things[1:])
    await rig.rest()
    assert _ids(rig) == {"renamed": before["vm-1"], "vm-2": before["vm-2"]}
    spent = rig.spent(second)
    assert spent.pop("PATCH tenants/status") <= 2
    assert spent == {
        "COMMIT update installation": 1,
        "COMMIT delete provider": 1,
        "COMMIT update provider": 1,
        "PATCH providers": 1,
        "PATCH providers/status": 1,
    }


@pytest.mark.parametrize("code", [410, 500])
async def test_a_watch_of_secrets_that_fails(rig: Rig, code: int) -> None:
    """Watches of Secrets and Namespaces are the operator's own: whatever they end in, they begin again."""
    named = provider("vm", "default", "team", secrets=[credential("BasicAuthPassword", "login", "password")])
    operator = await _operate(rig, TEAM, secret("login", "default", password="old"), named)
    old = rig.user.get(named).status["configHash"]
    rig.server.watches.hold()
    rig.user.apply(secret("login", "default", password="new"))
    for plural in ("secrets", "namespaces"):
        rig.server.watches.cut(plural, say=Failure(code, "Expired" if code == 410 else "InternalError", "no"))
    rig.server.watches.release()
    await rig.user.until(named, lambda vm: vm.ready and vm.status["configHash"] != old, "rotation")
    assert not operator.ended


async def test_poison_delays_nobody(rig: Rig) -> None:
    """A hundred Providers that fail each in its own way, again and again, are tried ever more seldom and delay no other."""
    tried: Counter[str] = Counter()

    def of(kind: str, refusal: Failure) -> Fault:
        def poisoned(asked: Asked) -> bool:
            found = asked.name.name.startswith(kind) and asked.verb not in ("LIST", "WATCH")
            tried[asked.name.name] += found
            return found

        return Fault(poisoned, refusal=refusal)

    operator = await _operate(rig, TEAM)
    mark = rig.mark()
    rig.server.faults += [
        of("broken", BROKEN),
        of("refused", Failure(422, "Invalid", "a policy says no", name="refused")),
        of("locked", BROKEN),
    ]
    locked = [credential("BasicAuthPassword", "locked", "password")]
    rig.user.apply(secret("locked", "default", password="x"))
    poison = [
        *(provider(f"broken-{n}", "default", "team") for n in range(40)),
        *(provider(f"refused-{n}", "default", "team") for n in range(40)),
        *(provider(f"vm-locked-{n}", "default", "team", secrets=locked) for n in range(20)),
    ]
    rig.user.apply(*poison)
    await rig.rest(1.0)
    healthy = _fleet(20)
    rig.user.apply(*healthy)
    await rig.user.ready(*healthy)
    at_first = max(tried[f"broken-{n}"] for n in range(40))
    await rig.rest(10 * MINUTE_S)
    looks = 12  # at most in ten minutes, by a back-off that doubles from a second up to five minutes
    assert all(tried[f"refused-{n}"] <= 2 * looks for n in range(40))  # the write, and what came of it
    assert all(at_first < tried[f"broken-{n}"] <= 2 * 4 * looks for n in range(40))  # each of them four times
    assert not any(rig.user.get(each).ready for each in poison)
    spent = rig.spent(operator, mark)
    assert (spent["PATCH providers"], spent["COMMIT insert provider"]) == (
        20 + 20,
        20,
    )  # of the locked ones, and the healthy
    assert spent["PATCH providers/status"] <= 20 + 20 * looks
    assert spent["PATCH tenants/status"] <= 10 * 2 + 2  # twice a minute
    assert spent["POST events"] <= 100
    assert not operator.ended
    rig.server.faults.clear()
    await rig.user.ready(*poison)
    assert _deeds(rig) == {"Created": 120}


async def test_a_definition_that_vanishes_and_returns(rig: Rig) -> None:
    """While our kinds are not served nothing is taken for deleted; once they are again, all is as it was."""
    things = _fleet(3)
    first = await _operate(rig, TEAM, *things)
    before, versions = _ids(rig), [rig.user.get(each).version for each in things]
    rig.server.withdraw(PROVIDERS)
    assert "WatchFailed" in str(await first.end())
    second = await rig.start(default_tenant="")
    await rig.rest(5 * MINUTE_S)
    assert "ApiResourceMissing" in second.step
    assert _ids(rig) == before
    rig.server.state.define(PROVIDERS)
    await rig.user.eventually(lambda: second.ready, bool, "ready")
    await rig.rest()
    assert rig.spent(second) == {"COMMIT update installation": 1}
    assert [rig.user.get(each).version for each in things] == versions
    assert _ids(rig) == before
    assert _deeds(rig) == {"Created": 3}


async def test_a_definition_that_was_deleted_with_its_objects(rig: Rig) -> None:
    """The definition is torn out with all objects and made anew, and Git applies them again: each finds its record."""
    things = _fleet(3)
    first = await _operate(rig, TEAM, *things)
    before = _ids(rig)
    rig.server.withdraw(PROVIDERS)
    rig.server.state.objects[PROVIDERS].clear()
    rig.server.expire()
    assert "WatchFailed" in str(await first.end())
    rig.server.state.define(PROVIDERS)
    second = await rig.operate(default_tenant="")
    await rig.rest(MINUTE_S)
    assert _ids(rig) == before
    mark = rig.mark()
    rig.user.apply(*things)
    await rig.user.ready(*things)
    await rig.rest()
    assert _ids(rig) == before
    spent = rig.spent(second, mark)
    assert spent.pop("PATCH tenants/status") <= 2
    assert spent == {"COMMIT update provider": 3, "PATCH providers": 3, "PATCH providers/status": 3}
    assert _deeds(rig) == {"Created": 3, "Reattached": 3}


async def test_a_short_restart_of_the_api_server(rig: Rig) -> None:
    """Down for less than the Lease: the same process goes on, and misses nothing that was done on either side of it."""
    things = _fleet(3)
    operator = await _operate(rig, TEAM, *things)
    mark = rig.mark()
    rig.user.edit(things[0], externalName="before")
    await rig.server.stop()
    await rig.rest(3.0)
    rig.user.edit(things[1], externalName="meanwhile")
    await rig.server.start()
    rig.user.edit(things[2], externalName="after")
    await rig.user.ready(*things)
    await rig.rest()
    assert sorted(_ids(rig)) == ["after", "before", "meanwhile"]
    spent = rig.spent(operator, mark)
    assert spent.pop("PATCH tenants/status", 0) <= 2
    assert spent == {"COMMIT update provider": 3, "PATCH providers/status": 3}
    assert not operator.ended


async def test_a_long_restart_of_the_api_server(rig: Rig) -> None:
    """Down for longer than the Lease: whoever led ends, since another may lead by then; the next process goes on."""
    things = _fleet(3)
    first = await _operate(rig, TEAM, *things)
    before = _ids(rig)
    await rig.server.stop()
    await rig.rest(MINUTE_S)
    assert "LeadershipLost" in str(await first.end())
    second = await rig.start(default_tenant="")
    await rig.rest(MINUTE_S)
    assert not second.ended
    assert not second.ready
    await rig.server.start()
    rig.user.edit(things[0], externalName="after")
    await rig.user.ready(*things)
    await rig.rest()
    spent = rig.spent(second)
    assert spent.pop("PATCH tenants/status", 0) <= 2
    assert spent == {"COMMIT update installation": 1, "COMMIT update provider": 1, "PATCH providers/status": 1}
    assert _ids(rig) == {"after": before["vm-0"], "vm-1": before["vm-1"], "vm-2": before["vm-2"]}


async def test_lists_that_fail(rig: Rig) -> None:
    """An API server that answers no list holds up the start, and a sweep that meets it takes nothing for deleted."""
    things = _fleet(3)
    operator = await _operate(rig, TEAM, *things)
    broken = Fault(lambda asked: asked.verb == "LIST", refusal=BROKEN)
    rig.server.faults.append(broken)
    await rig.rest(30 * MINUTE_S)
    assert (operator.ended, len(rig.database.providers())) == (False, 3)
    await operator.kill()
    second = await rig.start(default_tenant="")
    await rig.rest(MINUTE_S)
    assert "cluster" in second.step
    rig.server.faults.clear()
    await rig.user.eventually(lambda: second.ready, bool, "ready")
    assert _deeds(rig) == {"Created": 3}


async def test_slow_answers(rig: Rig) -> None:
    """An API server that takes a second for each answer is slow, and nothing else: as many writes as ever."""
    operator = await _operate(rig, TEAM)
    mark = len(rig.server.exchanges)
    rig.server.faults.append(Fault(lambda asked: asked.verb not in ("WATCH", "LIST"), delay_s=1.0))
    things = _fleet(5)
    rig.user.apply(*things)
    await rig.user.ready(*things)
    await rig.rest()
    spent = rig.server.writes(operator.name, since=mark)
    assert (spent["PATCH providers"], spent["PATCH providers/status"]) == (5, 5)
    assert not operator.ended
