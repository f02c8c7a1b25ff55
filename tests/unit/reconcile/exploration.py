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

from collections.abc import Callable, Coroutine, Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from typing import Any, Final, TypeAlias, TypeVar, cast
from uuid import UUID

from keep_operator.cluster.events import Subject
from keep_operator.domain import planning, tenant
from keep_operator.domain.planning import Plan
from keep_operator.errors import Conflict, KeepOperatorError
from keep_operator.reconcile.credentials import SecretReader
from keep_operator.reconcile.provider import Providers
from keep_operator.reconcile.shell import Kind, Report, Shell
from keep_operator.reconcile.tenant import Tenants
from keep_operator.reconcile.tokens import TokenReader
from keep_operator.reconcile.world import World
from keep_operator.resources import objects
from keep_operator.resources import provider as provider_reader
from keep_operator.resources import workflow as workflow_reader
from keep_operator.resources.kinds import Key
from keep_operator.resources.shapes import Invalid
from keep_operator.runtime.workqueue import WorkQueue
from unit.builders import CLUSTER, NOW, manifest
from unit.reconcile import simulated
from unit.reconcile.simulated import FOREGROUND, Broken, Raw, Rows, Server

T = TypeVar("T")
Mark: TypeAlias = Hashable
# The Workflow of `Server.used`. It is not explored itself: that is what `component/rig` does, on a real database.
USER: Final = objects.parse(
    "Workflow",
    manifest("user", {"tenantRef": {"name": "keep"}, "definition": {}}, namespace="ns"),
    workflow_reader,
)
# A counterexample is longer than this many steps only if something is wrong with the exploration itself.
STATES_LIMIT: Final = 400_000


@dataclass(frozen=True)
class Edit:
    """What a person may do: ``change`` does it, or gives False where it cannot be done now."""

    name: str
    change: Callable[[Server], object]


@dataclass(frozen=True, eq=False)
class InFlight:
    """A plan that was made from ``raw`` and is not yet carried out."""

    raw: Raw
    plan: Plan[Any]
    mark: int


@dataclass(frozen=True, eq=False)
class Scene:
    """The cluster, the rows and the cache; equal ones are one and the same scene, so they are compared by ``mark``."""

    server: Server
    rows: Rows
    cache: Mapping[Key, Raw]
    mark: int


@dataclass(frozen=True, eq=False)
class State:
    """Everything there is; ``story`` tells how it came to this.

    ``looked`` is the object whose look led here; ``fruitless``: a write led here that was refused and changed nothing.
    """

    scene: Scene
    flying: Mapping[Key, InFlight]
    edits: tuple[int, ...]
    faults: int
    story: "Story | None" = None
    looked: Key | None = None
    fruitless: bool = False

    @cached_property
    def mark(self) -> Mark:
        """Equal for states that are the same, however they came about."""
        flying = tuple(sorted(flight.mark for flight in self.flying.values()))
        return self.scene.mark, flying, self.edits, self.faults


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


class _NoQueue(WorkQueue):
    """Wakes nobody: the exploration takes every order itself."""

    def __init__(self) -> None:
        super().__init__(clock=lambda: 0.0)

    def add(self, key: Key, *, urgent: bool = True) -> None:
        pass

    def schedule(self, key: Key, delay_s: float, *, urgent: bool = False) -> None:
        pass

    def retry(self, key: Key, *, at_least_s: float = 0.0) -> float:
        raise AssertionError(f"a reconcile of {key} failed")


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


def operator(server: Server, rows: Rows, cache: Mapping[Key, Raw]) -> Shell:
    """The operator as it is with this cache."""
    world = World(_NoQueue(), "keep")
    for key, raw in cache.items():
        world.cache.put(simulated.parse(key.kind, raw))
    if server.used:
        world.cache.put(USER)
        world.uses(USER.key, server.used)
    given: dict[str, Any] = {"world": world, "cluster": server, "database": simulated.Database(rows, CLUSTER)}
    resync = timedelta(minutes=10)
    tenants = Tenants(
        **given,
        tokens=TokenReader(cast(Any, server), cast(Any, _Secrets(server))),
        runtime="builtin",
        resync=resync,
        clock=lambda: 0.0,
    )
    # Time stands still here: no counts are due but those that leave or reach 0.
    tenants._counted = {
        obj.uid: ((obj.status.get("providers"), obj.status.get("workflows")), 0.0, 0.0)
        for obj in world.cache.all("Tenant")
    }
    vault = simulated.GlassVault()
    secrets = SecretReader(cast(Any, server), cast(Any, _Secrets(server)), vault)
    kinds: dict[str, Kind] = {
        "Tenant": tenants,
        "Provider": Providers(**given, secrets=secrets, vault=vault, resync=resync, namespace_labels=lambda _: {}),
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
    _raws: dict[str, Raw] = field(default_factory=dict)
    _known: dict[int, tuple[Raw, Raw]] = field(default_factory=dict)
    _marks: dict[Any, int] = field(default_factory=dict)
    _scenes: dict[int, Scene] = field(default_factory=dict)
    _looks: dict[int, dict[Key, InFlight]] = field(default_factory=dict)
    _collections: dict[int, Scene] = field(default_factory=dict)
    _acts: dict[Mark, tuple[Scene, str]] = field(default_factory=dict)
    _version: int = 1_000_000

    def run(self, server: Server, rows: Rows) -> None:
        """Explore; raises AssertionError with the story of what went wrong.

        Depth first along the operator's own steps, so that a state met again on the way to itself is a circle; what
        edits and faults lead to is put aside for later.
        """
        scene = self._scene(server, rows, dict(server.objects))
        pending = [State(scene, {}, tuple(range(len(self.edits))), self.faults)]
        done: dict[Mark, bool] = {}
        with simulated.in_place_of_the_store(lambda: UUID(int=0)):
            while pending:
                state = pending.pop()
                if state.mark in done:
                    continue
                done[state.mark] = False
                path = [(state, self._enter(state, pending))]
                while path:
                    at, steps = path[-1]
                    after = next(steps, None)
                    if after is None:
                        done[at.mark] = True
                        path.pop()
                    elif after.mark not in done:
                        done[after.mark] = False
                        path.append((after, self._enter(after, pending)))
                    elif not done[after.mark]:
                        self._check_circle(after, [each for each, _ in path])

    def _enter(self, state: State, pending: list[State]) -> Iterator[State]:
        """The operator's own steps from a state; where none leads anywhere, all must be well."""
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
        return after.looked is None or not self._act(after, after.looked).fruitless

    @staticmethod
    def _check_circle(again: State, path: list[State]) -> None:
        """A circle of writes never ends; one in which a write is refused waits for somebody else."""
        begin = next(number for number, state in enumerate(path) if state.mark == again.mark)
        if not again.fruitless and not any(state.fruitless for state in path[begin + 1 :]):
            raise AssertionError(f"the operator runs in a circle:\n{again.story}")

    def _check_end(self, state: State) -> None:
        server, rows = state.scene.server, state.scene.rows
        try:
            simulated.check_rows(rows, server)
            for key in server.objects:
                check_rest(key, server, rows)
        except Broken as broken:
            raise AssertionError(f"{broken}\n{state.story}") from None

    # Steps.

    def _meddling(self, state: State) -> Iterator[State]:
        """What people and misfortune may do."""
        if len(self.edits) - len(state.edits) < self.budget:
            for number in state.edits:
                server = self._fork(state)
                if self.edits[number].change(server) is not False:
                    left = tuple(each for each in state.edits if each != number)
                    yield State(
                        self._scene(server, _rows(server), self._told(state, server)),
                        state.flying,
                        left,
                        state.faults,
                        Story(self.edits[number].name, state.story),
                    )
        if state.faults:
            if state.flying:
                scene = self._scene(state.scene.server, state.scene.rows, state.scene.server.objects)
                story = Story("the operator is killed and starts again", state.story)
                yield State(scene, {}, state.edits, state.faults - 1, story)
            for key, flight in state.flying.items():
                if flight.plan.actions:
                    yield self._act(state, key, lose_answer=True)

    def _own(self, state: State) -> Iterator[State]:
        """The steps that need nobody."""
        server, rows, cache = state.scene.server, state.scene.rows, state.scene.cache
        for key in server.objects.keys() | cache.keys():
            if cache.get(key) is not server.objects.get(key):
                learnt = {name: raw for name, raw in cache.items() if name != key}
                if key in server.objects:
                    learnt[key] = server.objects[key]
                yield self._after(state, self._scene(server, rows, learnt), f"the cache learns of {key}")
        if (collected := self._collected(state)) is not state.scene:
            yield self._after(state, collected, "garbage collection")
        for key, flight in self._decisions(state.scene).items():
            if key not in state.flying:
                what = ", ".join(type(action).__name__ for action in flight.plan.actions)
                step = f"a look at {key} decides: {what or f'report {_ready(flight.plan.status)}'}"
                flying = {**state.flying, key: flight}
                yield replace(state, flying=flying, story=Story(step, state.story), looked=key, fruitless=False)
        for key in state.flying:
            yield self._act(state, key)

    def _collected(self, state: State) -> Scene:
        known = self._collections.get(state.scene.mark)
        if known is None:
            server = self._fork(state)
            server.collect()
            known = self._collections[state.scene.mark] = self._scene(server, _rows(server), self._told(state, server))
        return known

    def _decisions(self, scene: Scene) -> dict[Key, InFlight]:
        """What a look at each object would decide now; objects with nothing left to do are left out."""
        if (known := self._looks.get(scene.mark)) is not None:
            return known
        shell = operator(scene.server, scene.rows, scene.cache)
        decisions = self._looks[scene.mark] = {}
        for key, raw in scene.cache.items():
            obj = shell._world.cache.get(key)
            if obj is not None:
                kind = shell._kinds[key.kind]
                plan = kind.plan(finish(kind.observe(obj)), NOW)
                if plan.actions or (plan.status is not None and plan.status != obj.status):
                    decisions[key] = InFlight(raw, plan, self._marked((key, id(raw), repr(plan))))
        return decisions

    def _act(self, state: State, key: Key, *, lose_answer: bool = False) -> State:
        flight, scene = state.flying[key], state.scene
        step = f"what was decided for {key} is carried out{', but the answer is lost' * lose_answer}"
        mark = (scene.mark, flight.mark, lose_answer)
        if mark not in self._acts:
            try:
                self._acts[mark] = self._carried_out(state, key, flight, lose_answer)
            except Broken as broken:
                raise AssertionError(f"{broken}\n{Story(step, state.story)}") from None
        after, end = self._acts[mark]
        return State(
            after,
            {name: each for name, each in state.flying.items() if name != key},
            state.edits,
            state.faults - lose_answer,
            Story(f"{step}: {end}", state.story),
            fruitless=after is scene,
        )

    def _carried_out(self, state: State, key: Key, flight: InFlight, lose_answer: bool) -> tuple[Scene, str]:
        server = self._fork(state)
        rows = _rows(server)
        made = rows.made + 1
        simulated.set_new_id(lambda: UUID(int=made))
        rows.lost_answers = int(lose_answer)
        shell = operator(server, rows, state.scene.cache)
        end = finish(_carry_out(shell, key, flight))
        rows.lost_answers = 0
        if rows.providers.keys() - state.scene.rows.providers.keys():
            rows.made = made
        if not self.late:
            return self._scene(server, rows, server.objects), end
        cache = {}
        for name in state.scene.cache.keys() | {key}:
            known, newest = shell._world.cache.get(name), server.objects.get(name)
            if known is not None:
                written = newest is not None and newest["metadata"]["resourceVersion"] == known.resource_version
                cache[name] = newest if written and newest is not None else state.scene.cache[name]
        return self._scene(server, rows, cache), end

    @staticmethod
    def _after(state: State, scene: Scene, step: str) -> State:
        return replace(state, scene=scene, story=Story(step, state.story), looked=None, fruitless=False)

    def _told(self, state: State, server: Server) -> Mapping[Key, Raw]:
        return state.scene.cache if self.late else server.objects

    def _fork(self, state: State) -> Server:
        self._version += 1_000
        server, rows = state.scene.server, state.scene.rows
        server = replace(server, objects=dict(server.objects), version=self._version)
        server.rows = replace(rows, tenants=dict(rows.tenants), providers=dict(rows.providers), server=server)
        return server

    # What makes two states the same. Resource versions do not: equal objects are given the same one.

    def _scene(self, server: Server, rows: Rows, cache: Mapping[Key, Raw]) -> Scene:
        server.objects = {key: self._one(key, raw) for key, raw in server.objects.items()}
        cache = {key: self._one(key, raw) for key, raw in cache.items()}
        mark = self._marked(
            (
                tuple(sorted((key, id(raw)) for key, raw in server.objects.items())),
                tuple(sorted((key, id(raw)) for key, raw in cache.items())),
                tuple(sorted(repr(row) for row in rows.providers.values())),
                tuple(sorted(repr(row) for row in rows.tenants.values())),
                (rows.made, server.uids),
            )
        )
        return self._scenes.setdefault(mark, Scene(server, rows, cache, mark))

    def _one(self, key: Key, raw: Raw) -> Raw:
        known = self._known.get(id(raw))
        if known is None:
            metadata = {name: value for name, value in raw["metadata"].items() if name != "resourceVersion"}
            text = f"{key} {metadata} {raw['spec']} {raw['status']}"
            known = self._known[id(raw)] = (raw, self._raws.setdefault(text, raw))
        return known[1]

    def _marked(self, what: Any) -> int:
        return self._marks.setdefault(what, len(self._marks))


async def _carry_out(shell: Shell, key: Key, flight: InFlight) -> str:
    """What the shell does between two looks; in words how it ended."""
    kind, obj = shell._kinds[key.kind], simulated.parse(key.kind, flight.raw)
    try:
        try:
            for step in planning.steps(flight.plan.actions):
                await shell._act(kind, obj, step, Report())
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


def check_rest(key: Key, server: Server, rows: Rows) -> None:
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
