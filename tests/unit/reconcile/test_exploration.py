"""Every order in which a few edits, looks, writes and crashes can happen ends well."""

from collections.abc import Mapping
from datetime import datetime
from itertools import count
from typing import Any
from uuid import UUID

import pytest

from keep_operator.domain import conditions, ownership, provider
from keep_operator.domain.planning import Plan
from keep_operator.reconcile.succession import Succession
from keep_operator.resources.kinds import Key
from keep_operator.resources.objects import CONFIRM_DELETION
from unit.builders import NOW
from unit.reconcile import simulated
from unit.reconcile.exploration import Edit, Exploration, finish, operator
from unit.reconcile.simulated import Rows, Server

pytestmark = pytest.mark.unit

KEEP, TWO = Key("Tenant", "", "keep"), Key("Tenant", "", "two")
A = Key("Provider", "ns", "a")
B = Key("Provider", "ns", "b")
ALL = {"allowedNamespaces": {"all": True}}


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


def settled(
    tenants: tuple[Key, ...] = (KEEP,), used: tuple[str, ...] = (), **specs: Mapping[str, Any]
) -> tuple[Server, Rows]:
    """Tenants and Providers, all Ready; a Workflow uses those of the names ``used``."""
    server, rows = fresh()
    server.used = used
    for key in tenants:
        server.create(key, ALL)
    for name, each in specs.items():
        server.create(Key("Provider", "ns", name), each)
    ids = (UUID(int=number) for number in count(1))
    with simulated.in_place_of_the_store(lambda: next(ids)):
        for key in [*server.objects, *tenants]:  # the Tenants once more, to count
            finish(operator(server, rows, server.objects).reconcile(key))
    rows.made = len(rows.providers)
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
    """Change fields of a spec; None takes a field out.

    Not of what is being deleted: a name changed just then, while the record passes to it, is left to the sweep.
    """

    def change(server: Server) -> object:
        obj = server.find(key)
        if obj is None or obj.deleting:
            return False
        spec = {**server.objects[key]["spec"], **changes}
        server.edit(key, {name: value for name, value in spec.items() if value is not None})
        return True

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


def explore(*edits: Edit, of: tuple[Server, Rows], budget: int, faults: int = 0, late: bool = False) -> None:
    """All orders; at least a few hundred states, else the edits did not fit the beginning."""
    exploration = Exploration([*edits], budget=budget, faults=faults, late=late)
    exploration.run(*of)
    assert exploration.states > 300, exploration.states


def test_a_first_deployment_ends_well_in_every_order() -> None:
    """Tenant and two Providers that want one name, applied in any order."""
    explore(create(KEEP, spec=ALL), create(A, spec=spec("vm")), create(B, spec=spec("vm")), of=fresh(), budget=3)


def test_a_first_deployment_that_is_withdrawn_ends_well() -> None:
    """Tenant and Provider, applied and deleted in any order."""
    explore(create(KEEP, spec=ALL), create(A, spec=spec("vm")), delete(KEEP), delete(A), of=fresh(), budget=4)


def test_a_rename_ends_well_in_every_order() -> None:
    """`vms` becomes `victoriametrics` in Git, by whatever steps and in whatever order they reach the operator."""
    explore(
        create(B, spec=spec("vm")),
        delete(A),
        edit(A, "rename", externalName="other"),
        edit(B, "rename", externalName="other"),
        delete(B),
        of=settled(a=spec("vm")),
        budget=4,
    )


def test_a_provider_that_a_workflow_uses_ends_well() -> None:
    """The warning that it gets on its way out holds nothing up, whatever happens to it meanwhile (A-GO-5)."""
    explore(
        create(B, spec=spec("vm")),
        delete(A),
        edit(A, "rename", externalName="other"),
        edit(A, "orphans", deletionPolicy="Orphan"),
        delete(B),
        of=settled(used=("vm",), a=spec("vm")),
        budget=3,
        faults=1,
    )


def test_a_cache_that_lags_behind_a_warning_ends_well() -> None:
    """The status that names the Workflows is written to an object that others have changed since."""
    explore(
        create(B, spec=spec("vm")),
        delete(A),
        strip(A),
        edit(A, "rename", externalName="other"),
        of=settled(used=("vm", "other"), a=spec("vm")),
        budget=2,
        late=True,
    )


def test_two_providers_that_swap_and_leave_end_well() -> None:
    """Two Ready Providers take each other's names, or one takes the name of one that goes."""
    explore(
        edit(A, "takes b's name", externalName="b"),
        edit(B, "takes a's name", externalName="a"),
        edit(B, "takes a third name", externalName="c"),
        delete(A),
        delete(B),
        edit(A, "orphans", deletionPolicy="Orphan"),
        of=settled(a=spec("a"), b=spec("b")),
        budget=3,
    )


def test_a_tenant_that_goes_ends_well_in_every_order() -> None:
    """The Tenant is deleted, confirmed or not, in the foreground or not, and applied again."""
    explore(
        delete(KEEP),
        delete(KEEP, foreground=True),
        confirm(KEEP),
        edit(KEEP, "delete with its row", deletionPolicy="Delete"),
        create(KEEP, spec=ALL),
        delete(A),
        of=settled(a=spec("vm")),
        budget=4,
    )


def test_a_tenant_that_goes_while_a_provider_is_renamed_ends_well() -> None:
    """A Tenant's deletion and a hand-over between its Providers do not trip over each other."""
    explore(
        delete(KEEP),
        delete(KEEP, foreground=True),
        delete(A),
        create(B, spec=spec("vm")),
        of=settled(a=spec("vm")),
        budget=3,
    )


def test_kills_and_lost_answers_end_well() -> None:
    """The operator dies, or the database's answer is lost, at any point of a rename."""
    explore(
        create(B, spec=spec("vm")),
        delete(A),
        edit(A, "rename", externalName="other"),
        of=settled(a=spec("vm")),
        budget=3,
        faults=2,
    )


def test_a_cache_that_lags_ends_well() -> None:
    """Events reach the operator late and in any order; the server has long gone on."""
    explore(
        create(B, spec=spec("vm")),
        delete(A),
        strip(A),
        edit(A, "rename", externalName="other"),
        of=settled(a=spec("vm")),
        budget=2,
        late=True,
    )


def test_meddling_ends_well() -> None:
    """Finalizers are stripped by hand, objects suspended and resumed, and made again under the same name."""
    explore(
        strip(A),
        delete(A),
        create(A, spec=spec("vm")),
        edit(A, "suspend", suspend=True),
        edit(A, "resume and rename", suspend=None, externalName="other"),
        create(B, spec=spec("vm")),
        of=settled(a=spec("vm")),
        budget=3,
    )


def test_a_server_without_cel_ends_well() -> None:
    """Where nothing forbids it, immutable fields are changed: nothing is lost, nothing leaves its tenant."""
    explore(
        edit(A, "other type", type="ntfy"),
        edit(A, "other tenant", tenantRef={"name": "two"}),
        create(B, spec=spec("vm", tenantRef={"name": "two"})),
        delete(A),
        of=settled((KEEP, TWO), a=spec("vm")),
        budget=3,
    )


def test_specs_that_cannot_be_read_end_well() -> None:
    """A spec that breaks a rule, or a Tenant's id that changes: what was made stays, and can be deleted."""
    explore(
        edit(A, "unreadable", resyncPeriod="1s"),
        edit(KEEP, "other id", tenantId="other"),
        create(B, spec=spec("vm")),
        delete(A),
        delete(KEEP),
        of=settled(a=spec("vm")),
        budget=3,
    )


def test_immutable_fields_that_change_before_the_first_report_end_well() -> None:
    """The operator dies between its first write and its first report, and finds another spec."""
    explore(
        edit(A, "other type", type="ntfy"),
        edit(A, "other tenant", tenantRef={"name": "two"}),
        create(A, spec=spec("vm")),
        of=settled((KEEP, TWO)),
        budget=3,
        faults=1,
    )


def test_a_tenant_id_that_changes_before_the_first_report_ends_well() -> None:
    """The same for a Tenant: its row keeps the first id, and it says so."""
    explore(
        create(KEEP, spec=ALL),
        edit(KEEP, "other id", tenantId="other"),
        create(A, spec=spec("vm")),
        of=fresh(),
        budget=3,
        faults=1,
    )


def test_the_exploration_finds_a_deadlock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that wait for each other, one to be given a name and one to give it away, would not go unnoticed."""
    monkeypatch.setattr(ownership, "may_inherit", lambda claim, kind, _: claim.can_own and claim.type == kind)
    with pytest.raises(AssertionError, match="never released"):
        explore(edit(A, "takes b's name", externalName="b"), delete(B), of=settled(a=spec("a"), b=spec("b")), budget=2)


def test_the_exploration_finds_a_deletion_that_waits_for_workflows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning that comes in place of the deletion, and not before it, would not go unnoticed."""

    def report(seen: provider.Observed, own: provider.Record, now: datetime) -> dict[str, Any]:
        held = conditions.true("Deleting", "InUseByWorkflows", "It is used")
        return dict(provider._report_deletion(seen, held, now).status or {})

    def wait(seen: provider.Observed, now: datetime) -> Plan[Any]:
        own = seen.own
        return plan(seen, now) if own is None or not seen.users else Plan(status=report(seen, own, now))

    plan = provider._plan_deletion
    monkeypatch.setattr(provider, "_plan_deletion", wait)
    with pytest.raises(AssertionError, match="never released"):
        explore(delete(A), create(B, spec=spec("vm")), of=settled(used=("vm",), a=spec("vm")), budget=2)


def test_the_exploration_finds_a_lost_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that passes to an object which goes at the same moment would not go unnoticed."""
    monkeypatch.setattr(provider, "_may_be_given", lambda _: False)
    monkeypatch.setattr(Succession, "check_heir", lambda *_: None)
    with pytest.raises(AssertionError, match="still carries its marker"):
        explore(create(B, spec=spec("vm")), delete(A), delete(B), of=settled(a=spec("vm")), budget=3)
