"""Whatever people and misfortune do, and however late answers come, the operator comes to rest and forgets nobody."""

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keep_operator.resources.kinds import Key
from keep_operator.resources.objects import CONFIRM_DELETION
from unit import virtual_time
from unit.reconcile.simulation import Simulation, play

pytestmark = pytest.mark.unit

KEEP, TWO = Key("Tenant", "", "keep"), Key("Tenant", "", "two")
# A second or two; the soak runs many more.
EXAMPLES = 2_000 if os.environ.get("KEEP_OPERATOR_SOAK") else 60
PROVIDERS = tuple(Key("Provider", "ns", name) for name in "abc")
ADMISSIONS: tuple[dict[str, Any], ...] = ({"all": True}, {"names": ["ns"]}, {"names": ["elsewhere"]})


class Step:
    """Something that somebody does; its name is what hypothesis shows."""

    def __init__(self, name: str, act: Callable[[Simulation], Any]) -> None:
        self.name = name
        self.act = act

    def __repr__(self) -> str:
        return self.name

    def __call__(self, simulation: Simulation) -> Any:
        return self.act(simulation)


def _apply(key: Key, spec: dict[str, Any]) -> Step:
    def act(simulation: Simulation) -> None:
        server = simulation.server
        obj = server.find(key)
        if obj is None:
            server.create(key, spec)
        else:
            server.edit(key, spec)

    return Step(f"apply {key} {spec}", act)


def _delete(key: Key, foreground: bool) -> Step:
    def act(simulation: Simulation) -> None:
        if key in simulation.server.objects:
            simulation.server.delete(key, foreground=foreground)

    return Step(f"delete {key}{' in the foreground' * foreground}", act)


def _confirm(key: Key) -> Step:
    def act(simulation: Simulation) -> None:
        if key in simulation.server.objects:
            simulation.server.annotate(key, {CONFIRM_DELETION: key.name})

    return Step(f"confirm {key}", act)


def _strip(key: Key) -> Step:
    def act(simulation: Simulation) -> None:
        if key in simulation.server.objects:
            simulation.server.strip(key)

    return Step(f"strip {key}", act)


def _secret(data: dict[str, str] | None) -> Step:
    return Step(f"secret {data}", lambda simulation: simulation.put_secret("ns", "s", data))


def _database(down: bool) -> Step:
    return Step(f"database {'down' if down else 'up'}", lambda simulation: setattr(simulation.rows, "down", down))


def _api_server(down: bool) -> Step:
    return Step(f"API server {'down' if down else 'up'}", lambda simulation: setattr(simulation.server, "down", down))


def _lose(answers: int) -> Step:
    return Step(f"lose {answers} answers", lambda simulation: setattr(simulation.rows, "lost_answers", answers))


def _kill() -> Step:
    async def act(simulation: Simulation) -> None:
        await simulation.kill()
        simulation.start()

    return Step("kill and start", act)


def provider_specs() -> st.SearchStrategy[dict[str, Any]]:
    """Specs of Providers: mostly good ones that get into each other's way, some that a server without CEL lets pass."""
    secret = [{"key": "access_token", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]
    ours: dict[str, st.SearchStrategy[Any]] = {
        "type": st.just("slack"),
        "externalName": st.sampled_from(["x", "x", "y"]),
    }
    policies: dict[str, st.SearchStrategy[Any]] = {
        "deletionPolicy": st.sampled_from(["Delete", "Orphan"]),
        "adoptionPolicy": st.sampled_from(["Never", "IfUnowned"]),
        "config": st.sampled_from([{"webhook_url": "{{ env.A }}"}, {"webhook_url": "{{ env.B }}"}]),
    }
    oddities: dict[str, st.SearchStrategy[Any]] = {
        "externalName": st.sampled_from(["x", "y"]),
        "tenantRef": st.sampled_from([{"name": "keep"}, {"name": "two"}]),
        "config": st.sampled_from([{"webhook_url": "{{ env.A }}"}, {"access_token": "{{ env.TWICE }}"}]),
        "secrets": st.just(secret),
        "suspend": st.booleans(),
        "resyncPeriod": st.sampled_from(["1h", "1s"]),
    }
    good = st.fixed_dictionaries(ours, optional=policies)
    plain = st.fixed_dictionaries({"type": st.just("slack")}, optional={"secrets": st.just(secret)})
    odd = st.fixed_dictionaries({"type": st.sampled_from(["slack", "ntfy"])}, optional=oddities)
    return st.one_of(good, good, good, plain, odd)


def tenant_specs() -> st.SearchStrategy[dict[str, Any]]:
    """Specs of Tenants: mostly one that admits everybody."""
    odd = st.fixed_dictionaries(
        {"allowedNamespaces": st.sampled_from(ADMISSIONS)},
        optional={
            "suspend": st.booleans(),
            "deletionPolicy": st.sampled_from(["Delete", "Orphan"]),
            "adoptionPolicy": st.just("IfUnowned"),
            "displayName": st.sampled_from(["One", "Two"]),
            "tenantId": st.sampled_from(["keep", "other"]),
            "runtime": st.just("keep"),
        },
    )
    return st.one_of(st.just({"allowedNamespaces": {"all": True}, "deletionPolicy": "Delete"}), odd)


providers, tenants = st.sampled_from(PROVIDERS), st.sampled_from([KEEP, KEEP, TWO])
edits = st.one_of(
    *[st.builds(_apply, providers, provider_specs())] * 4,
    st.builds(_delete, providers, st.just(False)),
    st.builds(_apply, tenants, tenant_specs()),
    st.builds(_delete, providers, st.just(False)),
    st.builds(_delete, tenants, st.booleans()),
    st.builds(_confirm, tenants),
    st.builds(_strip, st.one_of(providers, tenants)),
    st.builds(_secret, st.sampled_from([{"k": "dg=="}, {"other": "dg=="}, None])),
    st.builds(_database, st.booleans()),
    st.builds(_api_server, st.booleans()),
    st.builds(_lose, st.integers(0, 2)),
    st.builds(_kill),
)
delays_s = st.sampled_from([0.0, 0.002, 0.03, 0.5, 3.0])


BEGINNING = [
    (0.0, _apply(PROVIDERS[0], {"type": "slack", "externalName": "x"})),
    (0.0, _apply(KEEP, {"allowedNamespaces": {"all": True}})),
    (0.0, _apply(TWO, {"allowedNamespaces": {"all": True}})),
    (0.0, _secret({"k": "dg=="})),
    (0.0, _apply(PROVIDERS[1], {"type": "slack", "externalName": "y"})),
]


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32), st.booleans(), st.lists(st.tuples(delays_s, edits), min_size=1, max_size=16))
def test_everything_comes_to_rest(seed: int, settled: bool, steps: list[tuple[float, Step]]) -> None:
    """After any edits and outages every object tells the truth, nobody was forgotten, and all of it can be deleted."""
    beginning = [*BEGINNING, (5.0, _lose(0))] if settled else BEGINNING
    virtual_time.run(play(seed, [*beginning, *steps]))
