"""Every order in which a few edits, looks, writes and crashes can happen ends well."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import pytest

from keep_operator.resources.kinds import Key
from keep_operator.resources.objects import CONFIRM_DELETION
from unit.builders import NOW
from unit.reconcile import simulated
from unit.reconcile.exploration import Edit, Exploration, finish, operator
from unit.reconcile.simulated import Rows, Server

pytestmark = pytest.mark.unit

KEEP = Key("Tenant", "", "keep")
A = Key("Provider", "ns", "a")
B = Key("Provider", "ns", "b")


def spec(external_name: str | None = None, **more: Any) -> dict[str, Any]:
    """The spec of a Provider."""
    named = {} if external_name is None else {"externalName": external_name}
    return {"type": "slack", "tenantRef": {"name": "keep"}, **named, **more}


def fresh() -> tuple[Server, Rows]:
    """An empty cluster and an empty database."""
    rows = Rows()
    server = Server(now=lambda: NOW, rows=rows)
    rows.server = server
    return server, rows


def settled(**specs: Mapping[str, Any]) -> tuple[Server, Rows]:
    """Tenant `keep` and these Providers, all Ready."""
    server, rows = fresh()
    server.create(KEEP, {"allowedNamespaces": {"all": True}})
    for name, each in specs.items():
        server.create(Key("Provider", "ns", name), each)
    with simulated.in_place_of_the_store(lambda: UUID(int=0)):
        for key in list(server.objects):
            for _ in range(6):
                simulated.set_new_id(lambda: UUID(int=rows.made + 1))
                before = len(rows.providers)
                shell = operator(server, rows, server.objects)
                obj = shell._world.cache.get(key)
                assert obj is not None
                kind = shell._kinds[key.kind]
                plan = kind.plan(finish(kind.observe(obj)), NOW)
                for action in plan.actions:
                    finish(shell._act(kind, obj, action))
                if plan.status is not None:
                    finish(
                        shell._patch(
                            kind,
                            obj,
                            {"metadata": {"resourceVersion": obj.resource_version}, "status": plan.status},
                            "status",
                        )
                    )
                rows.made += len(rows.providers) - before
    assert all(obj.ready for kind in ("Tenant", "Provider") for obj in server.all(kind)), server.objects
    return server, rows


def create(key: Key, **more: Any) -> Edit:
    """Apply an object that is not there."""
    return Edit(f"create {key}", lambda s: False if key in s.objects else s.create(key, **more))


def delete(key: Key, *, foreground: bool = False) -> Edit:
    """Delete an object that is there."""
    return Edit(
        f"delete {key}{' in the foreground' if foreground else ''}",
        lambda s: s.delete(key, foreground=foreground) if key in s.objects else False,
    )


def edit(key: Key, what: str, **changes: Any) -> Edit:
    """Change fields of a spec; None takes a field out."""

    def change(server: Server) -> object:
        if key not in server.objects:
            return False
        spec = {**server.objects[key]["spec"], **changes}
        return server.edit(key, {name: value for name, value in spec.items() if value is not None})

    return Edit(f"{key}: {what}", change)


def strip(key: Key) -> Edit:
    """Take the finalizer off by hand."""
    return Edit(f"strip {key}", lambda s: s.strip(key) if key in s.objects else False)


def confirm(key: Key) -> Edit:
    """Confirm the deletion of a Tenant."""
    return Edit(
        f"confirm the deletion of {key}",
        lambda s: s.annotate(key, {CONFIRM_DELETION: key.name}) if key in s.objects else False,
    )


ALL = {"allowedNamespaces": {"all": True}}


def test_a_first_deployment_ends_well_in_every_order() -> None:
    """Tenant and two Providers that want one name, applied in any order, and one of them withdrawn."""
    exploration = Exploration(
        [create(KEEP, spec=ALL), create(A, spec=spec("vm")), create(B, spec=spec("vm")), delete(A), delete(B)],
        budget=4,
    )
    exploration.run(*fresh())
    print(exploration.states, exploration.ends)


def test_a_rename_ends_well_in_every_order() -> None:
    """`vms` becomes `victoriametrics` in Git, by whatever steps and in whatever order they reach the operator."""
    exploration = Exploration(
        [
            create(B, spec=spec("vm")),
            delete(A),
            edit(A, "rename", externalName="other"),
            edit(B, "rename", externalName="other"),
            delete(B),
        ],
        budget=4,
    )
    exploration.run(*settled(a=spec("vm")))
    print(exploration.states, exploration.ends)


def test_two_providers_that_swap_and_leave_end_well() -> None:
    """Two Ready Providers take each other's names, or one takes the name of one that goes."""
    exploration = Exploration(
        [
            edit(A, "takes b's name", externalName="b"),
            edit(B, "takes a's name", externalName="a"),
            edit(B, "takes a third name", externalName="c"),
            delete(A),
            delete(B),
            edit(A, "orphans", deletionPolicy="Orphan"),
        ],
        budget=3,
    )
    exploration.run(*settled(a=spec("a"), b=spec("b")))
    print(exploration.states, exploration.ends)


def test_a_tenant_that_goes_ends_well_in_every_order() -> None:
    """The Tenant is deleted, confirmed or not, in the foreground or not, and applied again."""
    exploration = Exploration(
        [
            delete(KEEP),
            delete(KEEP, foreground=True),
            confirm(KEEP),
            edit(KEEP, "delete with its row", deletionPolicy="Delete"),
            create(KEEP, spec=ALL),
            delete(A),
            edit(A, "orphans", deletionPolicy="Orphan"),
            create(B, spec=spec("vm")),
        ],
        budget=3,
    )
    exploration.run(*settled(a=spec("vm")))
    print(exploration.states, exploration.ends)


def test_kills_and_lost_answers_end_well() -> None:
    """The operator dies, or the database's answer is lost, at any point of a rename."""
    exploration = Exploration(
        [create(B, spec=spec("vm")), delete(A), edit(A, "rename", externalName="other")], budget=3, faults=2
    )
    exploration.run(*settled(a=spec("vm")))
    print(exploration.states, exploration.ends)


def test_a_cache_that_lags_ends_well() -> None:
    """Events reach the operator late and in any order; the server has long gone on."""
    exploration = Exploration([create(B, spec=spec("vm")), delete(A), strip(A)], budget=3, late=True)
    exploration.run(*settled(a=spec("vm")))
    print(exploration.states, exploration.ends)


def test_meddling_ends_well() -> None:
    """Finalizers are stripped by hand, objects suspended and resumed, and made again under the same name."""
    exploration = Exploration(
        [
            strip(A),
            delete(A),
            create(A, spec=spec("vm")),
            edit(A, "suspend", suspend=True),
            edit(A, "resume and rename", suspend=None, externalName="other"),
            create(B, spec=spec("vm")),
        ],
        budget=3,
    )
    exploration.run(*settled(a=spec("vm")))
    print(exploration.states, exploration.ends)


def test_a_server_without_cel_ends_well() -> None:
    """Where nothing forbids it, immutable fields are changed: nothing is lost, nothing leaves its tenant."""
    exploration = Exploration(
        [
            edit(A, "other type", type="jira"),
            edit(A, "other tenant", tenantRef={"name": "two"}),
            edit(A, "unreadable", resyncPeriod="1s"),
            edit(KEEP, "other id", tenantId="other"),
            create(Key("Tenant", "", "two"), spec=ALL),
            create(B, spec=spec("vm", tenantRef={"name": "two"})),
            delete(A),
        ],
        budget=3,
    )
    exploration.run(*settled(a=spec("vm")))
    print(exploration.states, exploration.ends)


def test_a_first_deployment_without_cel_ends_well() -> None:
    """Immutable fields change between the first write and the first report."""
    exploration = Exploration(
        [
            create(A, spec=spec("vm")),
            edit(A, "other type", type="jira"),
            edit(A, "other tenant", tenantRef={"name": "two"}),
            edit(KEEP, "other id", tenantId="other"),
        ],
        budget=3,
        faults=1,
    )
    server, rows = fresh()
    server.create(KEEP, ALL)
    server.create(Key("Tenant", "", "two"), ALL)
    exploration.run(server, rows)
    print(exploration.states, exploration.ends)
