"""What kopf tells of goes where it belongs, costs no more than it must, and shows that its watches live."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from keep_operator.handlers import informer
from keep_operator.handlers.register import WATCHED, Heard, register
from keep_operator.reconcile.world import World
from keep_operator.resources import objects, provider
from keep_operator.resources.kinds import OURS, PROVIDERS, TENANTS, Key
from keep_operator.resources.objects import RECONCILE_REQUESTED_AT, Object
from keep_operator.runtime.metrics import Metrics
from keep_operator.runtime.workqueue import WorkQueue
from keep_operator.settings import SHORTEST_WATCH_SILENCE_LIMIT, Settings
from unit.builders import manifest

pytestmark = pytest.mark.unit

KEY = Key("Provider", "monitoring", "vm")


class Watched:
    """A world, and kopf's side of its watch of Providers. ``read`` counts the specs that were read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.read = 0
        self.world = World(WorkQueue(lambda: 0.0), "keep")
        read = provider.parse_spec

        def counted(raw: Mapping[str, Any]) -> Any:
            self.read += 1
            return read(raw)

        monkeypatch.setattr(provider, "parse_spec", counted)
        registry = register(self.world, Metrics(), Heard(lambda: 0.0), lambda: None)
        self._see: Any = next(h.fn for h in registry._watching.get_all_handlers() if h.id == "see-providers")

    def tell(self, type: str | None, raw: Mapping[str, Any]) -> None:
        """An event, or with None an item of a list."""
        asyncio.run(self._see(event={"type": type, "object": raw}))

    def wrote(self, raw: Mapping[str, Any]) -> Object[Any]:
        """The answer to an own write."""
        obj: Object[Any] = objects.parse(PROVIDERS.kind, raw, provider)
        self.world.wrote(obj)
        self.read = 0
        return obj


def vm(version: int, **more: Any) -> dict[str, Any]:
    """The Provider at a version."""
    return manifest("vm", {"type": "victoriametrics"}, namespace="monitoring", version=version, **more)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    """A world that knows nothing yet."""
    return Watched(monkeypatch)


@pytest.mark.parametrize("type", ["ADDED", "MODIFIED", None])
@pytest.mark.parametrize("version", [4, 5])
def test_the_echo_of_an_own_write_is_not_even_read(watched: Watched, type: str | None, version: int) -> None:
    """Of the three events of a new Provider two are echoes: they cost a comparison, and wake nobody."""
    written = watched.wrote(vm(5))
    watched.tell(type, vm(version))
    assert watched.read == 0
    assert watched.world.cache.get(KEY) is written
    assert watched.world.queue.depth == 0


def test_a_change_by_others_is_read(watched: Watched) -> None:
    """An edit after our write has a higher version and generation; other changes leave the spec as it was read before."""
    watched.wrote(vm(5))
    watched.tell("MODIFIED", vm(6, annotations={RECONCILE_REQUESTED_AT: "now"}))
    assert (watched.read, watched.world.queue.depth) == (0, 1)
    watched.tell("MODIFIED", vm(7, generation=2))
    assert watched.read == 1


def test_an_object_of_the_same_name_is_another(watched: Watched) -> None:
    """Deleted and applied again: it is known by its uid."""
    watched.wrote(vm(5))
    watched.tell("ADDED", vm(6, uid="another"))
    known = watched.world.cache.get(KEY)
    assert known is not None
    assert known.uid == "another"


def test_a_deletion_is_never_an_echo(watched: Watched) -> None:
    """Even where it is told with the version that is known."""
    watched.wrote(vm(5))
    watched.tell("DELETED", vm(5))
    assert watched.world.cache.get(KEY) is None


def test_what_is_no_object_is_counted_and_passed_over(watched: Watched) -> None:
    """kopf would skip further events of an object after an error."""
    watched.tell("MODIFIED", {"metadata": {}})
    watched.tell("ADDED", vm(6))
    assert watched.world.cache.get(KEY) is not None


class Told:
    """What was heard, with a clock that is moved by hand."""

    def __init__(self, *namespaces: str) -> None:
        self.now = 0.0
        self.heard = Heard(lambda: self.now, namespaces)

    def ages_s(self) -> dict[str, float]:
        """Of the first two kinds, for all are alike."""
        return {kind: age for kind, age in self.heard.ages_s().items() if kind in (TENANTS.kind, PROVIDERS.kind)}

    def signs(self) -> dict[str, float]:
        """As above."""
        firsts = (TENANTS.plural, PROVIDERS.plural)
        return {name: at for name, at in self.heard.signs().items() if name.partition(" ")[0] in firsts}


def test_every_kind_of_ours_is_watched() -> None:
    """What the sweep compares and the start waits for has a stream that tells of it."""
    assert tuple(resource for resource, _ in WATCHED) == OURS


def test_each_answer_and_each_event_counts() -> None:
    """A stream that is opened anew each minute is young, whether or not anything happens to its kind."""
    told = Told()
    told.now = 60.0
    told.heard.answered("/apis/keep-operator.dev/v1alpha1/tenants", granted=True)
    assert told.ages_s() == {"Tenant": 0.0, "Provider": 60.0}
    told.now = 90.0
    told.heard.event(PROVIDERS, "monitoring")
    assert told.ages_s() == {"Tenant": 30.0, "Provider": 0.0}


def test_a_server_behind_a_path_is_heard_as_well() -> None:
    """A cluster that is reached through a gateway at some path; requests for something else tell nothing."""
    told = Told()
    told.now = 60.0
    told.heard.answered("/k8s/clusters/c-1/apis/keep-operator.dev/v1alpha1/providers", granted=True)
    told.heard.answered("/apis/keep-operator.dev/v1alpha1", granted=True)
    told.heard.answered("/api/v1/namespaces", granted=True)
    assert told.ages_s() == {"Tenant": 60.0, "Provider": 0.0}


def test_a_refusal_is_a_sign_of_life_and_nothing_heard() -> None:
    """A right that was taken away shows in the metric, and no restart is asked for: it would only begin blind."""
    told = Told()
    told.now = 60.0
    told.heard.answered("/apis/keep-operator.dev/v1alpha1/providers", granted=False)
    assert told.ages_s()["Provider"] == 60.0
    assert told.signs() == {"tenants": 0.0, "providers": 60.0}


def test_one_namespace_cannot_speak_for_another() -> None:
    """Where some namespaces are watched, each has a stream, and the one that has died is named."""
    told = Told("a", "b")
    told.now = 60.0
    told.heard.event(PROVIDERS, "a")
    told.heard.event(TENANTS, "")
    assert told.signs() == {"tenants": 60.0, "providers of a": 60.0, "providers of b": 0.0}
    told.heard.answered("/apis/keep-operator.dev/v1alpha1/namespaces/b/providers", granted=True)
    told.now = 90.0
    told.heard.event(PROVIDERS, "a")
    assert told.ages_s() == {"Tenant": 30.0, "Provider": 30.0}


def test_living_watches_stay_far_below_the_limit() -> None:
    """A minute's stream and three silent connections in a row are still no reason to end the process, one at any setting."""
    chosen = informer.settings().watching
    assert chosen.server_timeout is not None and chosen.inactivity_timeout is not None
    default = Settings().watch_silence_limit
    assert chosen.server_timeout + 3 * chosen.inactivity_timeout < default.total_seconds()
    assert chosen.server_timeout + chosen.inactivity_timeout < SHORTEST_WATCH_SILENCE_LIMIT.total_seconds()
