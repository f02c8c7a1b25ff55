"""A small model checker over the real planning code: every state that a few objects can reach, in every order of steps.

A state is the cluster, the rows, what the operator's cache has seen of the cluster, and the plans that have been made
but not yet carried out. A step is an edit by a person (of which there are only so many), an event that reaches the
cache, a look, the one write that the look led to, an answer that was lost, a crash, a round of the garbage collector::

    edit ──► deliver ──► look ──► act ──► look ──► ... ──► nothing left to do
               ▲                   │ conflict
               └── read again ◄────┘

In every state nothing may happen that must never happen (`simulated.Broken`). Once edits stop, the operator's steps must
come to an end, in whatever order they are taken (their graph has no cycle), and where they end all must be well.
"""

from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Final, TypeVar, cast
from uuid import UUID

from pydantic import SecretStr

from keep_operator.cluster.events import Subject
from keep_operator.domain import tenant
from keep_operator.domain.planning import Plan
from keep_operator.errors import Conflict, KeepOperatorError, Unavailable
from keep_operator.reconcile.credentials import SecretReader
from keep_operator.reconcile.provider import Providers
from keep_operator.reconcile.shell import Report, Shell
from keep_operator.reconcile.tenant import Tenants
from keep_operator.reconcile.world import World
from keep_operator.resources import provider as provider_reader
from keep_operator.resources.kinds import Key
from keep_operator.resources.shapes import Invalid
from unit.builders import CLUSTER, NOW
from unit.reconcile import simulated
from unit.reconcile.simulated import FOREGROUND, Broken, Raw, Rows, Server

T = TypeVar("T")
# A counterexample is longer than this many steps only if something is wrong with the exploration itself.
STATES_LIMIT: Final = 400_000


@dataclass(frozen=True)
class Edit:
    """What a person may do: ``change`` does it, or gives False where it cannot be done now."""

    name: str
    change: Callable[[Server], object]


@dataclass(frozen=True)
class InFlight:
    """A plan that was made from ``raw`` and is not yet carried out."""

    raw: Raw
    plan: Plan[Any]


@dataclass(frozen=True)
class State:
    """Everything there is; ``story`` tells how it came to this."""

    server: Server
    rows: Rows
    cache: Mapping[Key, Raw]
    flying: Mapping[Key, InFlight]
    edits: tuple[int, ...]
    faults: int
    story: "Story | None" = None
    # It was reached by a write that was refused and changed nothing: back-off, not progress.
    fruitless: bool = False
    # The object that was just looked at.
    looked: Key | None = None


@dataclass(frozen=True)
class Story:
    """The last step, and the ones before."""

    step: str
    before: "Story | None"

    def __str__(self) -> str:
        steps: list[str] = []
        at: Story | None = self
        while at is not None:
            steps.append(at.step)
            at = at.before
        return "\n".join(f"  {number}. {step}" for number, step in enumerate(reversed(steps), 1))


class _NoQueue:
    """The exploration takes every order itself."""

    def add(self, key: Key, *, urgent: bool = True) -> None: ...
    def schedule(self, key: Key, delay_s: float, *, urgent: bool = False) -> None: ...
    def forget(self, key: Key) -> None: ...


class _NoRecorder:
    async def record(self, subject: Subject, kind: str, reason: str, message: str) -> None: ...


@dataclass
class _Secrets:
    """The watch of Secrets, never late."""

    server: Server

    def version(self, namespace: str, name: str) -> str | None:
        found = self.server.secrets.get((namespace, name))
        return None if found is None else str(found["metadata"]["resourceVersion"])


def finish(work: Coroutine[Any, Any, T]) -> T:
    """Run what never has to wait."""
    try:
        work.send(None)
    except StopIteration as done:
        return cast(T, done.value)
    raise AssertionError("something waited")


def operator(server: Server, rows: Rows, cache: Mapping[Key, Raw], queue: Any = None) -> Shell:
    """The operator as it is with this cache."""
    world = World(queue or _NoQueue(), "keep")
    for key, raw in cache.items():
        world.cache.put(simulated.parse(key.kind, raw))
    given: dict[str, Any] = {"world": world, "cluster": server, "engine": rows, "cluster_id": CLUSTER}
    resync = timedelta(minutes=10)
    tenants = Tenants(**given, runtime="builtin", resync=resync, clock=lambda: 0.0)
    if queue is None:  # time stands still here: no counts are due but those that leave or reach 0
        tenants._counted_at = {obj.uid: (obj.status.get("providers"), 0.0) for obj in world.cache.all("Tenant")}
    secrets = SecretReader(cast(Any, server), cast(Any, _Secrets(server)), SecretStr("k" * 44))
    kinds = {
        "Tenant": tenants,
        "Provider": Providers(**given, secrets=secrets, resync=resync, namespace_labels=lambda _: {}),
    }
    return Shell(
        kinds,
        world=world,
        cluster=cast(Any, server),
        recorder=cast(Any, _NoRecorder()),
        now=lambda: NOW,
        jitter=lambda: 1.0,
    )


@dataclass
class Exploration:
    """All states within reach of ``start``, where each of ``edits`` may happen once, ``budget`` of them in all.

    ``faults`` is how many crashes or lost answers may happen. With ``late`` the cache learns of edits later, in any
    order; else at once.
    """

    edits: list[Edit]
    budget: int
    faults: int = 0
    late: bool = False
    states: int = 0
    ends: int = 0
    _texts: dict[int, tuple[Raw, str]] = field(default_factory=dict)

    def run(self, server: Server, rows: Rows) -> None:
        """Explore; raises AssertionError with the story of what went wrong.

        Depth first along the operator's own steps, so that a state met again on the way to itself is a circle; what
        edits and faults lead to is put aside for later.
        """
        pending = [State(server, rows, dict(server.objects), {}, tuple(range(len(self.edits))), self.faults)]
        done: dict[Any, bool] = {}
        with simulated.in_place_of_the_store(lambda: UUID(int=0)):
            while pending:
                state = pending.pop()
                mark = self._fingerprint(state)
                if mark in done:
                    continue
                done[mark] = False
                path = [(mark, self._enter(state, pending))]
                while path:
                    mark, steps = path[-1]
                    after = next(steps, None)
                    if after is None:
                        done[mark] = True
                        path.pop()
                        continue
                    after_mark = self._fingerprint(after)
                    if after_mark not in done:
                        done[after_mark] = False
                        path.append((after_mark, self._enter(after, pending)))
                    elif not done[after_mark] and not after.fruitless:
                        raise AssertionError(f"the operator runs in a circle:\n{after.story}")

    def _enter(self, state: State, pending: list[State]) -> Iterator[State]:
        """The operator's own steps from a state; where there are none, all must be well."""
        self.states += 1
        if self.states > STATES_LIMIT:
            raise AssertionError("too many states; give fewer edits")
        pending += self._meddling(state)
        steps = list(self._own(state))
        if not any(self._progress(step) for step in steps):
            self.ends += 1
            self._check_end(state)
        return iter(steps)

    def _progress(self, after: State) -> bool:
        """Whether a step leads anywhere: not if what a look decides is refused as long as nobody else does anything."""
        if after.looked is None:
            return True
        acted = self._act(after, after.looked)
        return acted is not None and not acted.fruitless

    def _meddling(self, state: State) -> Iterator[State]:
        """What people and misfortune may do."""
        if len(self.edits) - len(state.edits) < self.budget:
            for number in state.edits:
                if (edited := self._edit(state, number)) is not None:
                    yield edited
        if state.faults:
            if state.flying:
                yield self._crash(state)
            for key in state.flying:
                if (lost := self._act(state, key, lose_answer=True)) is not None:
                    yield lost

    def _own(self, state: State) -> Iterator[State]:
        """The steps that need nobody."""
        for key in state.server.objects.keys() | state.cache.keys():
            if state.cache.get(key) is not state.server.objects.get(key):
                yield self._deliver(state, key)
        if (collected := self._collect(state)) is not None:
            yield collected
        shell = operator(state.server, state.rows, state.cache)
        for key in state.cache:
            if key not in state.flying and (looked := self._look(state, key, shell)) is not None:
                yield looked
        for key in state.flying:
            if (acted := self._act(state, key)) is not None:
                yield acted

    def _edit(self, state: State, number: int) -> State | None:
        server = self._fork(state)
        if self.edits[number].change(server) is False:
            return None
        left = tuple(each for each in state.edits if each != number)
        return self._told(
            replace(
                state,
                server=server,
                rows=_rows(server),
                fruitless=False,
                looked=None,
                edits=left,
                story=Story(self.edits[number].name, state.story),
            )
        )

    def _told(self, state: State) -> State:
        return state if self.late else replace(state, cache=dict(state.server.objects))

    def _crash(self, state: State) -> State:
        story = Story("the operator is killed and starts again", state.story)
        return replace(
            state,
            cache=dict(state.server.objects),
            flying={},
            fruitless=False,
            looked=None,
            faults=state.faults - 1,
            story=story,
        )

    def _deliver(self, state: State, key: Key) -> State:
        cache = {name: raw for name, raw in state.cache.items() if name != key}
        if key in state.server.objects:
            cache[key] = state.server.objects[key]
        return replace(
            state, fruitless=False, looked=None, cache=cache, story=Story(f"the cache learns of {key}", state.story)
        )

    def _collect(self, state: State) -> State | None:
        server = self._fork(state)
        server.collect()
        if server.objects == state.server.objects:
            return None
        return self._told(
            replace(
                state,
                server=server,
                fruitless=False,
                looked=None,
                rows=_rows(server),
                story=Story("garbage collection", state.story),
            )
        )

    def _look(self, state: State, key: Key, shell: Shell) -> State | None:
        obj = shell._world.cache.get(key)
        if obj is None:
            return None
        kind = shell._kinds[key.kind]
        plan = kind.plan(finish(kind.observe(obj)), NOW)
        if not plan.actions and (plan.status is None or plan.status == obj.status):
            return None
        what = ", ".join(type(action).__name__ for action in plan.actions) or f"report {_ready(plan.status)}"
        flying = {**state.flying, key: InFlight(state.cache[key], plan)}
        story = Story(f"a look at {key} decides: {what}", state.story)
        return replace(state, flying=flying, story=story, looked=key, fruitless=False)

    def _act(self, state: State, key: Key, *, lose_answer: bool = False) -> State | None:
        flight = state.flying[key]
        if lose_answer and not flight.plan.actions:
            return None
        server = self._fork(state)
        rows = _rows(server)
        made = rows.made + 1
        simulated.set_new_id(lambda: UUID(int=made))
        rows.lost_answers = int(lose_answer)
        shell = operator(server, rows, state.cache)
        story = Story(
            f"what was decided for {key} is carried out{', but the answer is lost' * lose_answer}", state.story
        )
        try:
            end = finish(_carry_out(shell, key, flight))
        except Broken as broken:
            raise AssertionError(f"{broken}\n{story}") from None
        rows.lost_answers = 0
        if rows.providers.keys() - state.rows.providers.keys():
            rows.made = made
        cache = {}
        for name in state.cache.keys() | {key}:
            known = shell._world.cache.get(name)
            if known is not None:
                newest = server.objects.get(name)
                same = newest is not None and newest["metadata"]["resourceVersion"] == known.resource_version
                cache[name] = newest if same and newest is not None else state.cache[name]
        same_rows = (rows.providers, rows.tenants) == (state.rows.providers, state.rows.tenants)
        return self._told(
            replace(
                state,
                server=server,
                rows=rows,
                cache=cache,
                flying={name: each for name, each in state.flying.items() if name != key},
                faults=state.faults - lose_answer,
                fruitless=same_rows and server.objects == state.server.objects and cache == state.cache,
                looked=None,
                story=replace(story, step=f"{story.step}: {end}"),
            )
        )

    def _check_end(self, state: State) -> None:
        try:
            simulated.check_rows(state.rows, state.server)
            for key in state.server.objects:
                _check_rest(key, state.server, state.rows)
        except Broken as broken:
            raise AssertionError(f"{broken}\n{state.story}") from None

    # What makes two states the same.

    def _fingerprint(self, state: State) -> Any:
        objects = tuple(sorted(self._text(key, raw) for key, raw in state.server.objects.items()))
        cached = tuple(
            sorted(self._text(key, raw) for key, raw in state.cache.items() if state.server.objects.get(key) is not raw)
        )
        gone = tuple(sorted(key for key in state.server.objects if key not in state.cache))
        flying = tuple(
            sorted(
                (
                    key,
                    self._text(key, flight.raw),
                    state.server.objects.get(key) is flight.raw,
                    state.cache.get(key) is flight.raw,
                    repr(flight.plan),
                )
                for key, flight in state.flying.items()
            )
        )
        rows = (
            tuple(sorted(map(repr, state.rows.providers.values()))),
            tuple(sorted(map(repr, state.rows.tenants.values()))),
        )
        return hash((objects, cached, gone, flying, rows, state.edits, state.faults)), objects, flying, rows, cached

    def _text(self, key: Key, raw: Raw) -> str:
        known = self._texts.get(id(raw))
        if known is None:
            metadata = {name: value for name, value in raw["metadata"].items() if name != "resourceVersion"}
            known = raw, f"{key} {metadata} {raw['spec']} {raw['status']}"
            self._texts[id(raw)] = known
        return known[1]

    def _fork(self, state: State) -> Server:
        server = state.server.fork()
        rows = replace(
            state.rows, tenants=dict(state.rows.tenants), providers=dict(state.rows.providers), server=server
        )
        server.rows = rows
        return server


async def _carry_out(shell: Shell, key: Key, flight: InFlight) -> str:
    """What the shell does between two looks; in words how it ended."""
    kind, obj = shell._kinds[key.kind], simulated.parse(key.kind, flight.raw)
    try:
        try:
            for action in flight.plan.actions:
                await shell._act(kind, obj, action)
            if not flight.plan.actions:
                await shell._report(kind, obj, flight.plan, Report())
        except Conflict:
            raise
        except KeepOperatorError as error:
            await shell._fail(kind, obj, error, Report())
            return error.reason
    except Conflict as conflict:
        await shell._read_again(key)
        return conflict.reason
    return "done"


def _rows(server: Server) -> Rows:
    assert server.rows is not None
    return server.rows


def _ready(status: Mapping[str, Any] | None) -> str:
    conditions = () if status is None else status["conditions"]
    return next((f"{each['status']} {each['reason']}" for each in conditions if each["type"] == "Ready"), "nothing")


def _check_rest(key: Key, server: Server, rows: Rows) -> None:
    """An object at rest is Ready, or the reason that it gives is true."""
    obj = server.find(key)
    assert obj is not None
    status, _, reason = _ready(obj.status or None).partition(" ")
    suspended = obj.condition("Suspended") == "True"
    if obj.deleting:
        held = FOREGROUND in obj.finalizers
        if key.kind == "Provider" or not (held or _dependents(key, server)):
            raise Broken(f"{obj.key} is never released: {obj.status}")
        return
    if status == "nothing" or obj.status.get("observedGeneration") != obj.generation:
        raise Broken(f"{key} was forgotten: {obj.status}")
    if status == "True" and not suspended:
        simulated.check_truth(obj, rows, server)
    if isinstance(obj.spec, Invalid) or key.kind == "Tenant":
        return
    owner = server.tenant_of(obj)
    name = provider_reader.effective_name(obj.spec, obj.key.name)
    tenant_id = None if owner is None else tenant.effective_id(owner)
    match reason:
        case "TenantNotFound" if owner is not None:
            raise Broken(f"{key} waits for a Tenant that is there")
        case "TenantNotReady" if owner is not None and owner.ready and not owner.deleting:
            raise Broken(f"{key} waits for a Tenant that is Ready")
        case "ExternalNameConflict":
            taken = any(
                row.external_name == name and row.tenant_id == tenant_id and row.owner and row.owner.uid != obj.uid
                for row in rows.providers.values()
            )
            older = any(
                not isinstance(other.spec, Invalid)
                and provider_reader.effective_name(other.spec, other.key.name) == name
                for other in server.all("Provider")
                if other.key != key
            )
            if not taken and not older:
                raise Broken(f'{key} says that "{name}" is taken, and nobody has it')
        case _:
            pass


def _dependents(key: Key, server: Server) -> bool:
    return any(
        isinstance(obj.spec, Invalid) or (obj.spec.tenant_ref.name if obj.spec.tenant_ref else "keep") == key.name
        for obj in server.all("Provider")
    )


__all__ = ["Edit", "Exploration", "Unavailable", "finish", "operator"]
