"""What people do with hundreds of Providers, drawn from a seed, and what must be there in the end: pure, no I/O.

A *lineage* is one provider in the mind of its user, through all its renames and all objects that stand for it. Its steps
lead from one `State` to the next, and the last one is what cluster and database must hold, whatever happened meanwhile.

What cannot be known is not asked for: two renames of different ways at once, a record left behind before it was made. There
the user waits first (`SETTLE`), as with `kubectl wait`.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from e2e.cluster import Json, credential, provider, secret, tenant

TENANTS: Final = ("one", "two", "three")


class Do(StrEnum):
    """A step of a user."""

    CREATE = "create"
    CONFIGURE = "configure"  # edit the config
    ROTATE = "rotate"  # change the Secret
    RENAME = "rename"  # change externalName in place
    HAND_OVER = "hand over"  # rename in Git: a new object for the same name, then the old one is pruned
    RENEW = "renew"  # delete, wait until it is gone, create again: a new record
    DELETE = "delete"
    SETTLE = "settle"  # wait until it is Ready


@dataclass(frozen=True, slots=True)
class State:
    """One lineage at one moment. ``records`` is how many it may have had so far; ``password`` None: it has no Secret."""

    number: int
    tenant: str
    policy: str
    first_name: str
    password: int | None = None
    objects: int = 0
    names: int = 0
    config: int = 0
    records: int = 0
    alive: bool = False

    @property
    def object(self) -> str:
        return f"p{self.number:03}-{self.objects}"

    @property
    def secret(self) -> str:
        return f"s{self.number:03}"

    @property
    def name(self) -> str:
        return f"n{self.number:03}-{self.names}" if self.names else self.first_name

    @property
    def url(self) -> str:
        return f"http://vm-{self.config}:8428"

    @property
    def orphaned(self) -> bool:
        """Whether its record stays, without an owner."""
        return not self.alive and self.policy == "Orphan"

    def after(self, do: Do) -> "State":
        match do:
            case Do.CREATE:
                return replace(self, alive=True, records=1)
            case Do.CONFIGURE:
                return replace(self, config=self.config + 1)
            case Do.ROTATE:
                return replace(self, password=(self.password or 0) + 1)
            case Do.RENAME:
                return replace(self, names=self.names + 1)
            case Do.HAND_OVER:
                return replace(self, objects=self.objects + 1)
            case Do.RENEW:
                return replace(self, records=self.records + 1)
            case Do.DELETE:
                return replace(self, alive=False)
            case Do.SETTLE:
                return self

    def manifest(self, namespace: str) -> Json:
        named = () if self.password is None else (credential("BasicAuthPassword", self.secret, "password"),)
        return provider(
            self.object,
            namespace,
            self.tenant,
            externalName=self.name,
            deletionPolicy=self.policy,
            config={"VMBackendURL": self.url},
            secrets=list(named),
        )

    def secret_manifest(self, namespace: str) -> Json:
        return secret(self.secret, namespace, password=f"password-{self.password}")


@dataclass(frozen=True, slots=True)
class Lineage:
    """``steps`` by the wave in which each is done."""

    first: State
    steps: tuple[tuple[int, Do], ...]

    @property
    def last(self) -> State:
        state = self.first
        for _, do in self.steps:
            state = state.after(do)
        return state

    def during(self, wave: int) -> Iterator[tuple[State, Do]]:
        """The steps of one wave, each with the state that it is done in."""
        state = self.first
        for when, do in self.steps:
            if when == wave:
                yield state, do
            state = state.after(do)


def tenants() -> list[Json]:
    return [tenant(name) for name in TENANTS]


def drawn(seed: int, count: int, waves: int) -> list[Lineage]:
    """So many lineages; the same for the same arguments."""
    dice = random.Random(seed)  # noqa: S311 - a plan that can be repeated is the purpose
    made: list[Lineage] = []
    free: list[tuple[str, str, int]] = []  # names that somebody has given up in place: tenant, name, wave
    for number in range(count):
        owner, name, begin = dice.choice(TENANTS), f"n{number:03}-0", 0
        if free and dice.random() < 0.5:
            owner, name, given_up = free.pop()
            begin = given_up + 1
        policy = dice.choice(("Delete", "Delete", "Orphan"))
        first = State(number, owner, policy, name, password=0 if dice.random() < 0.3 else None)
        steps = _steps(dice, first)
        when = sorted(dice.choices(range(begin, waves), k=len(steps)))
        lineage = Lineage(first, tuple(zip(when, steps, strict=True)))
        made.append(lineage)
        renamed = [wave for wave, do in lineage.steps if do is Do.RENAME]
        # Whoever takes a name of a record that may go on to be deleted or handed over may get that record: not here.
        if renamed and renamed[0] + 1 < waves and not {Do.HAND_OVER, Do.RENEW, Do.DELETE} & set(steps):
            free.append((owner, name, renamed[0]))
    dice.shuffle(made)
    return made


def _steps(dice: random.Random, first: State) -> Sequence[Do]:
    choices = [Do.CONFIGURE, Do.RENAME, Do.HAND_OVER]
    choices += [Do.ROTATE] if first.password is not None else []
    choices += [Do.RENEW] if first.policy == "Delete" else []
    wanted = [Do.CREATE, *dice.choices(choices, k=dice.randint(0, 3)), *([Do.DELETE] if dice.random() < 0.35 else [])]
    steps: list[Do] = []
    under_way: set[Do] = set()
    for do in wanted:
        clash = {Do.RENAME: Do.HAND_OVER, Do.HAND_OVER: Do.RENAME}.get(do) in under_way
        if clash or (do is Do.DELETE and first.policy == "Orphan") or (steps and dice.random() < 0.08):
            steps.append(Do.SETTLE)
            under_way.clear()
        steps.append(do)
        under_way.add(do)
    return steps
