"""What a Provider needs next, rule by rule."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from keep_operator.domain import provider, tenancy
from keep_operator.domain.ownership import HolderState
from keep_operator.domain.planning import Plan, SetMetadata, Tell
from keep_operator.domain.provider import (
    Action,
    Adopt,
    Content,
    Credentials,
    Delete,
    HandOver,
    Insert,
    Observed,
    Orphan,
    Update,
)
from keep_operator.resources.kinds import Key
from unit.builders import (
    CLUSTER,
    CONTENT,
    NOW,
    ROW_ID,
    a_claim,
    a_look,
    a_provider,
    condition,
    found,
    owner_reference,
    provider_owner,
    provider_record,
    ready_status,
    settled_provider,
    tenant_sight,
    told,
)

pytestmark = pytest.mark.unit

FOREIGN = provider_owner("vm", cluster_id="cluster-2")
ELSEWHERE = provider_owner("vms", uid="uid-vms")


def decide(seen: Observed) -> Plan[Action]:
    """What is to be done about a Provider."""
    return provider.plan(seen, NOW)


def do(seen: Observed) -> Any:
    """The one thing that is to be done."""
    plan = decide(seen)
    assert plan.status is None
    (action,) = plan.actions
    return action


def says(seen: Observed, kind: str = "Ready") -> tuple[str, str] | None:
    """(status, reason) of a condition, where there is nothing to do but to say so."""
    plan = decide(seen)
    assert plan.actions == ()
    return found(plan, kind)


def with_status(conditions: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    """A status with these conditions."""
    return {"observedGeneration": 1, "conditions": conditions, **fields}


# Specs that can never be carried out.


@pytest.mark.parametrize(
    ("spec", "reason", "words"),
    [
        ({"type": "victoriametrix"}, "UnknownProviderType", 'Did you mean "victoriametrics"?'),
        ({"type": "zzzzzz"}, "UnknownProviderType", "docs page"),
        (
            {
                "config": {"token": "t"},
                "secrets": [{"key": "token", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
            },
            "InvalidConfig",
            "spec.config.token: is also in secrets",
        ),
        ({"config": {"a": "\x00"}}, "InvalidConfig", "spec.config.a: holds a NUL"),
        ({"resyncPeriod": "1s"}, "SpecRefused", "spec.resyncPeriod"),
        ({"nonsense": 1}, "SpecRefused", "spec.nonsense: is not a known field"),
        ({"type": None}, "SpecRefused", "spec.type: is required"),
    ],
)
def test_a_spec_that_cannot_be_carried_out_is_refused(spec: dict[str, Any], reason: str, words: str) -> None:
    """It says which field, why, and what to do; the database is not asked, nothing is retried."""
    seen = a_look(a_provider(spec=spec), tenant=None)
    assert says(seen) == ("False", reason)
    assert says(seen, "Stalled") == ("True", "SpecRefused")
    assert words in told(decide(seen))
    assert decide(seen).wake_in is None


def test_a_bad_value_is_never_repeated_in_a_message() -> None:
    """It may be a secret that was put in the wrong place."""
    seen = a_look(a_provider(spec={"externalName": "hunter2 is my password"}))
    assert "hunter2" not in str(decide(seen).status)


def test_a_refused_spec_leaves_what_was_made() -> None:
    """A slip in an edit does not take the record away, nor the ids."""
    seen = a_look(settled_provider(spec={"type": "nothing_like_it"}, status=ready_status()))
    assert says(seen) == ("False", "UnknownProviderType")
    status = decide(seen).status
    assert status is not None
    assert status["providerId"] == str(ROW_ID)
    assert says(seen, "TenantReady") == ("True", "TenantReady")


# Suspend.


def test_a_suspended_provider_is_left_alone() -> None:
    """Nothing is written for it, not even a finalizer (A-GC-6)."""
    seen = a_look(a_provider(spec={"suspend": True}))
    assert says(seen, "Suspended") == ("True", "Suspended")
    assert says(seen) == ("Unknown", "Suspended")


def test_a_suspended_provider_that_was_ready_stays_ready() -> None:
    """Its record goes on serving."""
    seen = a_look(settled_provider(spec={"suspend": True}, status=ready_status()), own=provider_record())
    assert says(seen) == ("True", "Ready")
    assert says(seen, "Suspended") == ("True", "Suspended")


@pytest.mark.parametrize("missing", ["TenantReady", "CredentialsResolved", "Synced"])
def test_a_provider_that_was_not_ready_does_not_become_so_by_suspension(missing: str) -> None:
    """And each condition stands there once: the API server refuses doubles."""
    conditions = [condition(kind, "Unknown" if kind == missing else "True", "SyncFailed") for kind in provider.LIVING]
    seen = a_look(settled_provider(spec={"suspend": True}, status=with_status(conditions)))
    assert says(seen) == ("Unknown", "Suspended")
    status = decide(seen).status
    assert status is not None
    types = [each["type"] for each in status["conditions"]]
    assert len(types) == len(set(types))


# Waiting for the Tenant.


def test_a_provider_without_its_tenant_waits() -> None:
    """Applied before its Tenant: no row, no metadata patch, no error (A-DEP-2, A-CTL-8)."""
    seen = a_look(a_provider(), tenant=None)
    assert says(seen) == ("Unknown", "TenantNotFound")
    assert says(seen, "TenantReady") == ("Unknown", "TenantNotFound")
    assert says(seen, "Reconciling") == ("True", "WaitingForDependency")
    assert told(decide(seen)) == 'Waiting for Tenant "keep"'


def test_a_provider_without_a_tenant_ref_needs_a_default_tenant() -> None:
    """Where there is none a person must name one (A-TEN-3)."""
    seen = a_look(a_provider(spec={"tenantRef": None}), tenant_name=None, tenant=None)
    assert says(seen) == ("False", "NoDefaultTenant")
    assert says(seen, "Stalled") == ("True", "NoDefaultTenant")


def test_a_tenant_that_does_not_admit_the_namespace_is_for_a_person() -> None:
    """The message names the field of the Tenant; nothing is put on the object."""
    seen = a_look(a_provider(), tenant=tenant_sight(admits=False))
    assert says(seen) == ("False", "NamespaceNotAllowed")
    assert "spec.allowedNamespaces" in told(decide(seen))


def test_finalizer_and_owner_reference_come_before_the_tenant_is_ready() -> None:
    """One patch, as soon as the Tenant exists and admits the namespace (A-CTL-8)."""
    action = do(a_look(a_provider(), tenant=tenant_sight(ready=False, serving=False)))
    assert action == SetMetadata((provider.FINALIZER,), (owner_reference(),))


def test_a_provider_waits_for_its_tenant_to_be_ready() -> None:
    """Before that there may be no tenant row to point to (A-DEP-2)."""
    seen = a_look(tenant=tenant_sight(ready=False, serving=False))
    assert says(seen) == ("Unknown", "TenantNotReady")


def test_a_ready_provider_does_not_flap_when_its_tenant_is_edited() -> None:
    """A Tenant whose new generation was not yet looked at still serves those that have their record (A-DEP-8)."""
    busy = tenant_sight(ready=False, serving=True)
    assert says(a_look(settled_provider(status=ready_status()), tenant=busy, own=provider_record())) == (
        "True",
        "Ready",
    )
    assert says(a_look(tenant=busy)) == ("Unknown", "TenantNotReady")


def test_a_provider_that_loses_its_tenant_keeps_everything_else() -> None:
    """A passing loss of readiness deletes and disables nothing (A-DEP-8)."""
    seen = a_look(settled_provider(status=ready_status()), tenant=tenant_sight(ready=False, serving=False))
    plan = decide(seen)
    assert plan.actions == ()
    assert found(plan, "Ready") == ("Unknown", "TenantNotReady")
    assert found(plan, "Synced") == ("True", "InSync")
    assert plan.status is not None
    assert plan.status["providerId"] == str(ROW_ID)


def test_a_new_provider_does_not_enter_a_tenant_that_goes() -> None:
    """It would hold the Tenant's deletion, and be collected with it."""
    assert says(a_look(a_provider(), tenant=tenant_sight(deleting=True))) == ("Unknown", "TenantNotReady")


def test_a_provider_of_a_tenant_that_is_held_keeps_being_served() -> None:
    """While dependents hold the Tenant's deletion everything goes on (A-GC-8)."""
    obj = settled_provider(spec={"config": {"VMBackendPort": 1}}, status=ready_status())
    content = Content({"VMBackendPort": 1}, None, "hash-2")
    seen = a_look(obj, tenant=tenant_sight(deleting=True), content=content, own=provider_record())
    assert isinstance(do(seen), Update)


@pytest.mark.parametrize("recorded_by", ["status", "row"])
def test_a_record_never_moves_to_another_tenant(recorded_by: str) -> None:
    """`tenantRef` that changed where CEL forbids nothing, also before the first report: the record stays where it is."""
    status = {"tenantId": "keep"} if recorded_by == "status" else {}
    own = None if recorded_by == "status" else provider_record(tenant_id="keep")
    other = tenant_sight(name="two", uid="uid-two", tenant_id="two")
    seen = a_look(settled_provider(status=status), tenant_name="two", tenant=other, own=own)
    assert says(seen) == ("False", "TenantChanged")
    assert says(seen, "Stalled") == ("True", "ImmutableFieldChanged")
    status = dict(decide(seen).status or {})
    assert status["tenantId"] == "keep"


# Finalizer and owner reference.


def test_other_finalizers_and_owners_are_left_as_they_are() -> None:
    """Ours are added to what other controllers have put there."""
    theirs = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "name": "app", "uid": "u"}
    action = do(a_look(a_provider(finalizers=["theirs/f"], owners=[theirs])))
    assert action == SetMetadata(("theirs/f", provider.FINALIZER), (theirs, owner_reference()))


@pytest.mark.parametrize(
    "stale",
    [
        [owner_reference(uid="uid-of-before-the-restore")],
        [owner_reference(name="other")],
        [owner_reference(controller=True)],
        [owner_reference(apiVersion="keep-operator.dev/v1alpha0")],
        [owner_reference(), owner_reference(uid="uid-of-before-the-restore")],
    ],
)
def test_a_stale_owner_reference_is_replaced(stale: list[dict[str, Any]]) -> None:
    """After a restore the Tenant has another uid: with the old one Kubernetes would collect the Provider (A-GC-9)."""
    action = do(a_look(a_provider(finalizers=[provider.FINALIZER], owners=stale)))
    assert action == SetMetadata((provider.FINALIZER,), (owner_reference(),))


def test_an_owner_of_the_same_kind_but_another_group_is_not_ours() -> None:
    """Other products have Tenants too."""
    theirs = owner_reference(apiVersion="capsule.clastix.io/v1beta2")
    action = do(a_look(a_provider(finalizers=[provider.FINALIZER], owners=[theirs])))
    assert action.owners == (theirs, owner_reference())


def test_a_finalizer_that_was_stripped_by_hand_comes_back() -> None:
    """Without it the record would be left behind."""
    action = do(a_look(a_provider(owners=[owner_reference()], status=ready_status()), own=provider_record()))
    assert action == SetMetadata((provider.FINALIZER,), (owner_reference(),))


# Credentials.


@pytest.mark.parametrize(
    ("credentials", "reason", "words"),
    [
        (None, "SecretNotFound", "not been looked at"),
        (Credentials({}, missing=(("b", None), ("a", None))), "SecretNotFound", "Waiting for Secret a, b"),
        (Credentials({"a": "1"}, missing=(("a", "k"),)), "SecretKeyNotFound", "Waiting for key k in Secret a"),
        (Credentials({}, missing=(("a", "k"), ("b", None))), "SecretNotFound", "Waiting for Secret b"),
        (Credentials({}, out_of_reach=True), "SecretNotFound", "KEEP_OPERATOR_SECRET_NAMESPACES"),
    ],
)
def test_a_provider_waits_for_its_secrets(credentials: Credentials | None, reason: str, words: str) -> None:
    """The Secret may come later in the same apply, or from a controller; its watch wakes the Provider (A-DEP-6)."""
    seen = a_look(credentials=credentials, content=None)
    assert says(seen) == ("Unknown", reason)
    assert says(seen, "CredentialsResolved") == ("Unknown", reason)
    assert says(seen, "Reconciling") == ("True", "WaitingForDependency")
    assert words in told(decide(seen))


def test_a_secret_that_vanishes_leaves_the_record() -> None:
    """A rotation that deletes before it creates takes nothing away."""
    obj = settled_provider(status=ready_status())
    seen = a_look(obj, credentials=Credentials({}, missing=(("a", None),)), content=None, own=provider_record())
    assert says(seen) == ("Unknown", "SecretNotFound")
    assert says(seen, "Synced") == ("True", "InSync")


# The record.


def test_a_new_provider_gets_a_new_record() -> None:
    """With the marker of its object, in its tenant."""
    assert do(a_look()) == Insert("keep", "victoriametrics", "vm", CONTENT, provider_owner())


def test_the_record_has_the_external_name() -> None:
    """`externalName` is what workflows say; the object's name does not matter then."""
    assert do(a_look(settled_provider(spec={"externalName": "vms"}))).external_name == "vms"


def test_a_record_that_says_what_the_spec_says_is_ready() -> None:
    """The look that finds nothing to do is the one that reports."""
    seen = a_look(credentials=Credentials({"b": "2", "a": "1"}), own=provider_record())
    assert [says(seen, kind) for kind in ("Ready", *provider.LIVING)] == [
        ("True", "Ready"),
        ("True", "TenantReady"),
        ("True", "Resolved"),
        ("True", "InSync"),
    ]
    status = dict(decide(seen).status or {})
    assert status["providerId"] == str(ROW_ID)
    assert (status["externalName"], status["tenantId"], status["configHash"]) == ("vm", "keep", "hash-1")
    assert status["secretVersions"] == [{"name": "a", "resourceVersion": "1"}, {"name": "b", "resourceVersion": "2"}]


@pytest.mark.parametrize(
    ("done", "before", "reason"),
    [
        ("Insert", None, "Created"),
        ("Update", "Created", "Updated"),
        ("HandOver", None, "HandedOver"),
        ("Adopt", None, "Adopted"),
        (None, "Created", "Created"),
        (None, None, "InSync"),
    ],
)
def test_synced_tells_what_was_done_last(done: str | None, before: str | None, reason: str) -> None:
    """And goes on telling it while nothing else is done, so that nothing is written."""
    status = {} if before is None else with_status([condition("Synced", "True", before)])
    assert says(a_look(settled_provider(status=status), own=provider_record(), done=done), "Synced") == ("True", reason)


@pytest.mark.parametrize(
    ("is_", "shall"),
    [
        (Content({"a": 1}, None, "h"), Content({"a": 2}, None, "h")),
        (Content({"a": 1}, None, "h"), Content({}, None, "h")),
        (Content({}, None, "h1"), Content({}, None, "h2")),
        (Content({}, None, "h"), Content({}, True, "h")),
        (Content({}, True, "h"), Content({}, False, "h")),
    ],
)
def test_a_record_that_says_something_else_is_corrected(is_: Content, shall: Content) -> None:
    """An edit, a rotated Secret, or somebody's SQL: the record is made to say what is declared."""
    own = provider_record(content=is_)
    assert do(a_look(own=own, content=shall)) == Update(own, "vm", shall)


@pytest.mark.parametrize("pulling", [True, False])
def test_what_the_spec_does_not_say_is_not_touched(pulling: bool) -> None:
    """An unset field is unmanaged, never reset (A-DR-3)."""
    own = provider_record(content=replace(CONTENT, pulling_enabled=pulling))
    assert says(a_look(own=own)) == ("True", "Ready")


def test_another_external_name_renames_the_record_in_place() -> None:
    """The id and all that hangs on it stay; who waits for the old name is woken (A-GC-3)."""
    own = provider_record("vms", owner=provider_owner("vm"))
    plan = decide(a_look(own=own, heirs=(a_claim("waiting"),)))
    assert plan.actions == (Update(own, "vm", CONTENT),)
    assert plan.wakes == (Key("Provider", "monitoring", "waiting"),)


def test_an_update_without_a_rename_wakes_nobody() -> None:
    """No wake without an edge."""
    own = provider_record(content=Content({}, None, "other"))
    assert decide(a_look(own=own, heirs=(a_claim("waiting"),))).wakes == ()


def test_a_type_that_changed_is_refused() -> None:
    """Where CEL forbids nothing: the record keeps the type it was made with."""
    seen = a_look(settled_provider(status=ready_status()), own=provider_record(type="slack"))
    assert says(seen) == ("False", "ImmutableFieldChanged")
    assert says(seen, "Stalled") == ("True", "ImmutableFieldChanged")
    assert '"slack"' in told(decide(seen))


def test_a_provider_that_is_stuck_still_tells_its_record() -> None:
    """Others read from it that it takes no second one, also when the operator died before the first report."""
    holder = provider_record("vm", owner=ELSEWHERE)
    own = provider_record("old", owner=provider_owner("vm"))
    status = dict(decide(a_look(own=own, holder=holder, holder_state=HolderState.LIVE)).status or {})
    assert (status["providerId"], status["externalName"], status["tenantId"]) == (str(ROW_ID), "old", "keep")


def test_a_database_that_is_behind_is_not_written_to() -> None:
    """An older dump was restored: a new record would get another id and hide the loss (A-REV-13)."""
    seen = a_look(settled_provider(status=ready_status()))
    assert says(seen) == ("False", "DatabaseBehind")
    assert str(ROW_ID) in told(decide(seen))


# Names that others have.


def test_a_live_holder_of_the_same_type_is_waited_for() -> None:
    """It may be the first half of a rename that is about to go (A-CF-1)."""
    seen = a_look(holder=provider_record(owner=ELSEWHERE), holder_state=HolderState.LIVE)
    assert says(seen) == ("Unknown", "ExternalNameConflict")
    assert says(seen, "Reconciling") == ("True", "WaitingForDependency")
    assert "Managed by monitoring/vms" in told(decide(seen))
    assert decide(seen).wake_in == timedelta(seconds=600)


def test_the_progress_deadline_is_the_objects_own() -> None:
    """`progressDeadlineSeconds` decides when a wait is overdue."""
    obj = settled_provider(spec={"progressDeadlineSeconds": 30})
    assert decide(a_look(obj, tenant=tenant_sight(ready=False, serving=False))).wake_in == timedelta(seconds=30)


def test_a_live_holder_of_another_type_is_for_a_person() -> None:
    """No rename ends in another type (A-CF-1)."""
    seen = a_look(holder=provider_record(owner=ELSEWHERE, type="slack"), holder_state=HolderState.LIVE)
    assert says(seen) == ("False", "ExternalNameConflict")
    assert "Choose another name" in told(decide(seen))


@pytest.mark.parametrize("state", [HolderState.DELETING, HolderState.GONE])
def test_a_claimant_takes_over_from_a_holder_that_goes(state: HolderState) -> None:
    """The second half of a rename: same id, no gap; the first half is woken to let go (A-GC-3)."""
    holder = provider_record(owner=ELSEWHERE)
    plan = decide(a_look(holder=holder, holder_state=state))
    assert plan.actions == (HandOver(holder, provider_owner()),)
    assert plan.wakes == (Key("Provider", "monitoring", "vms"),)


def test_of_several_claimants_the_oldest_takes_over() -> None:
    """The younger one waits for it (A-CF-1)."""
    holder = provider_record(owner=ELSEWHERE)
    old = a_claim("old", created_at=NOW - timedelta(days=1))
    seen = a_look(holder=holder, holder_state=HolderState.DELETING, rivals=(old,))
    assert says(seen) == ("Unknown", "ExternalNameConflict")
    assert "monitoring/old" in told(decide(seen))


def test_a_claimant_that_can_never_own_does_not_block() -> None:
    """An older one with a bad spec, or of a tenant that does not admit it, keeps nobody waiting."""
    blocked = a_claim("old", created_at=NOW - timedelta(days=1), can_own=False)
    assert isinstance(do(a_look(rivals=(blocked,))), Insert)


@pytest.mark.parametrize(("kind", "status"), [("victoriametrics", "Unknown"), ("slack", "False")])
def test_of_two_new_claimants_the_older_goes_first(kind: str, status: str) -> None:
    """Both applied at once: one gets the record, the other waits, or is told where it never can."""
    old = a_claim("old", created_at=NOW - timedelta(days=1), type=kind)
    assert says(a_look(rivals=(old,))) == (status, "ExternalNameConflict")
    assert isinstance(do(a_look(rivals=(a_claim("young"),))), Insert)


def test_a_provider_that_has_a_record_renames_it_whoever_is_older() -> None:
    """It is not creating a second one; the unique index decides between two that race."""
    old = a_claim("old", created_at=NOW - timedelta(days=1))
    assert isinstance(do(a_look(own=provider_record("before", owner=provider_owner("vm")), rivals=(old,))), Update)


@pytest.mark.parametrize("state", [HolderState.DELETING, HolderState.GONE])
def test_a_provider_that_has_a_record_takes_no_second_one(state: HolderState) -> None:
    """It waits until the name is free, then renames its own."""
    holder = provider_record(owner=ELSEWHERE)
    seen = a_look(own=provider_record("before", owner=provider_owner("vm")), holder=holder, holder_state=state)
    assert says(seen) == ("Unknown", "ExternalNameConflict")


def test_a_claimant_of_another_type_waits_until_the_record_has_gone() -> None:
    """With a different type there is a new record once the old one is gone by policy (A-CF-1)."""
    holder = provider_record(owner=ELSEWHERE, type="slack")
    assert says(a_look(holder=holder, holder_state=HolderState.DELETING)) == ("Unknown", "ExternalNameConflict")


# Records of nobody, or of another cluster.


@pytest.mark.parametrize(
    ("policy", "owner", "taken"),
    [
        ("Never", None, False),
        ("IfUnowned", None, True),
        ("Force", None, True),
        ("Never", FOREIGN, False),
        ("IfUnowned", FOREIGN, False),
        ("Force", FOREIGN, True),
    ],
)
def test_a_record_without_our_marker_is_taken_only_if_that_is_asked_for(policy: str, owner: Any, taken: bool) -> None:
    """A silent change of owner angers users (A-AD-1)."""
    holder = provider_record(owner=owner)
    seen = a_look(settled_provider(spec={"adoptionPolicy": policy}), holder=holder)
    if taken:
        assert do(seen) == Adopt(holder, provider_owner(), CONTENT)
    else:
        assert says(seen) == ("False", "ExternalResourceExists")
        wanted = "IfUnowned" if owner is None else "Force"
        assert f"spec.adoptionPolicy: {wanted}" in told(decide(seen))


@pytest.mark.parametrize(("own", "kind"), [(None, "slack"), ("before", "victoriametrics")])
def test_adoption_is_offered_only_where_it_would_help(own: str | None, kind: str) -> None:
    """A record of another type cannot be adopted, nor by one that has a record: another name is the remedy."""
    mine = None if own is None else provider_record(own, owner=provider_owner("vm"))
    obj = settled_provider(spec={"adoptionPolicy": "Force"})
    seen = a_look(obj, own=mine, holder=provider_record(owner=None, type=kind))
    assert says(seen) == ("False", "ExternalResourceExists")
    assert "another spec.externalName" in told(decide(seen))


# Deletion.


def going(name: str = "vm", spec: dict[str, Any] | None = None, **metadata: Any) -> Any:
    """A Provider that is being deleted."""
    return settled_provider(name, spec, **{"deleting": True, **metadata})


def test_a_deleted_provider_takes_its_record_along() -> None:
    """`Delete` is the default; who waits for the name is woken (A-GC-2)."""
    waiting = a_claim("other-type", type="slack")
    plan = decide(a_look(going(), own=provider_record(), heirs=(waiting,)))
    assert plan.actions == (Delete(provider_record()),)
    assert plan.wakes == (waiting.key,)


@pytest.mark.parametrize("spec", [{"deletionPolicy": "Orphan"}, {"resyncPeriod": "1s"}])
def test_an_orphaned_record_stays(spec: dict[str, Any]) -> None:
    """On request, and where the spec cannot be read: deleting cannot be taken back."""
    assert do(a_look(going(spec=spec), own=provider_record())) == Orphan(provider_record())


@pytest.mark.parametrize(
    "spec", [{"suspend": True}, {"type": "nothing_like_it"}, {"tenantRef": {"name": "gone"}}, {"config": {"a": "\x00"}}]
)
def test_a_deletion_is_honoured_whatever_else_is_wrong(spec: dict[str, Any]) -> None:
    """Suspended, refused, without Tenant: it goes (A-GC-6)."""
    seen = a_look(going(spec=spec), own=provider_record(), tenant=None, credentials=None, content=None)
    assert do(seen) == Delete(provider_record())


def test_the_finalizer_goes_last() -> None:
    """Only when no record carries our marker; other finalizers stay."""
    seen = a_look(going(finalizers=["theirs/f", provider.FINALIZER]))
    assert do(seen) == SetMetadata(("theirs/f",), (owner_reference(),))


def test_without_our_finalizer_there_is_nothing_to_do() -> None:
    """It never was ours, or has been let go."""
    assert decide(a_look(going(finalizers=["theirs/f"]), own=provider_record())) == Plan()


def test_a_provider_that_never_reconciled_deletes_nothing() -> None:
    """It holds no record: another's is none of its business (A-GC-1)."""
    holder = provider_record(owner=ELSEWHERE)
    assert isinstance(do(a_look(going(), holder=holder, holder_state=HolderState.LIVE)), SetMetadata)


def users(count: int) -> tuple[Key, ...]:
    """Workflows that use the Provider, in no order."""
    return tuple(Key("Workflow", "monitoring", f"flow-{number}") for number in reversed(range(count)))


@pytest.mark.parametrize("policy", ["Delete", "Orphan"])
def test_a_provider_that_is_used_goes_with_a_warning(policy: str) -> None:
    """The Workflows are named before the record goes, and nothing waits for them (A-GO-5)."""
    seen = a_look(going(spec={"deletionPolicy": policy}, status=ready_status()), own=provider_record(), users=users(2))
    warning, end = decide(seen).actions
    assert isinstance(warning, Tell)
    assert type(end).__name__ == policy
    written: Plan[Any] = Plan(status=warning.status)
    assert found(written, "Deleting") == ("True", "InUseByWorkflows")
    assert "monitoring/flow-0, monitoring/flow-1." in told(written, "Deleting")


def test_a_warning_names_few_of_many() -> None:
    """Two hundred Workflows may use one Provider."""
    warning, _ = decide(a_look(going(), own=provider_record(), users=users(200))).actions
    assert isinstance(warning, Tell)
    written: Plan[Any] = Plan(status=warning.status)
    message = told(written, "Deleting")
    assert message.count("monitoring/") == provider.NAMED
    assert f"and {200 - provider.NAMED} more" in message


@pytest.mark.parametrize(
    ("reason", "warned"),
    [("InUseByWorkflows", False), ("DeletionFailed", False), ("Finalizing", True), ("DatabaseUnavailable", True)],
)
def test_a_warning_is_given_once(reason: str, warned: bool) -> None:
    """A deletion that fails again and again does not write two statuses each time."""
    status = with_status([condition("Deleting", reason=reason)])
    plan = decide(a_look(going(status=status), own=provider_record(), users=users(1)))
    assert [type(action) for action in plan.actions] == [*([Tell] if warned else []), Delete]


def test_nobody_is_warned_where_nothing_is_lost() -> None:
    """Another Provider takes the record over, or there never was one."""
    heir = a_claim("victoriametrics")
    seen = a_look(going(), own=provider_record(), heirs=(heir,), users=users(1))
    assert do(seen) == HandOver(provider_record(), provider_owner("victoriametrics"))
    assert isinstance(do(a_look(going(), users=users(1))), SetMetadata)


@pytest.mark.parametrize("policy", ["Delete", "Orphan"])
def test_a_deleted_provider_hands_its_record_over(policy: str) -> None:
    """Whatever its policy: the other half of a rename has been applied (A-GC-3)."""
    heir = a_claim("victoriametrics")
    plan = decide(a_look(going(spec={"deletionPolicy": policy}), own=provider_record(), heirs=(heir,)))
    assert plan.actions == (HandOver(provider_record(), provider_owner("victoriametrics")),)
    assert plan.wakes == (heir.key,)


def test_a_deleted_provider_waits_for_an_heir_that_has_no_finalizer_yet() -> None:
    """A record handed to it could be left behind; it takes a moment, and wakes us then."""
    heir = a_claim("victoriametrics", ready_to_own=False)
    seen = a_look(going(status=ready_status()), own=provider_record(), heirs=(heir,))
    assert says(seen, "Deleting") == ("True", "Finalizing")
    assert "monitoring/victoriametrics" in told(decide(seen), "Deleting")
    assert decide(seen).wake_in is not None


@pytest.mark.parametrize("conditions", [[], [condition("TenantReady"), condition("Synced", "False", "InvalidConfig")]])
def test_waiting_for_an_heir_never_makes_ready_true(conditions: list[dict[str, Any]]) -> None:
    """A Provider that was not Ready does not become so on its way out."""
    heir = a_claim("victoriametrics", ready_to_own=False)
    seen = a_look(going(status=with_status(conditions)), own=provider_record(), heirs=(heir,))
    assert says(seen) == ("Unknown", "Deleting")


@pytest.mark.parametrize(
    "claim",
    [
        a_claim(type="slack"),
        a_claim(can_own=False),
        a_claim(has_record=True),
        a_claim(tenant_id="two"),
        a_claim(tenant_id=None),
    ],
)
def test_not_every_claimant_inherits(claim: Any) -> None:
    """None of another type, tenant, or with a record of its own: two that wait for each other would never end."""
    assert do(a_look(going(), own=provider_record(), heirs=(claim,))) == Delete(provider_record())


def test_of_several_heirs_the_oldest_inherits() -> None:
    """As in every conflict (A-CF-1)."""
    old, young = a_claim("old", created_at=NOW - timedelta(days=1)), a_claim("young")
    assert do(a_look(going(), own=provider_record(), heirs=(young, old))).to.name == "old"


def test_a_provider_that_may_just_be_given_a_record_stays_a_moment() -> None:
    """Both are deleted at once, and the first had chosen this one as its heir: the record must not be left behind."""
    holder = provider_record(owner=ELSEWHERE)
    seen = a_look(going(), holder=holder, holder_state=HolderState.DELETING)
    assert says(seen, "Deleting") == ("True", "Finalizing")
    assert decide(seen).wake_in is not None


# The property behind "safe to ask as often as one likes".


def test_a_report_is_stable() -> None:
    """A second look at what the first one wrote, later, says the very same: nothing is written at rest (A-DR-2)."""
    first = decide(a_look(own=provider_record()))
    assert first.status is not None
    later = provider.plan(
        a_look(settled_provider(status=first.status), own=provider_record()), NOW + timedelta(hours=1)
    )
    assert later.status == first.status


def test_a_spec_that_cannot_be_read_asks_for_no_name() -> None:
    """It stands in nobody's way."""
    assert provider.external_name(a_provider(spec={"resyncPeriod": "1s"})) is None
    assert provider.external_name(a_provider("vm")) == "vm"


def test_the_marker_names_cluster_object_and_uid() -> None:
    """All four, so that neither another cluster nor a namesake is taken for the owner (A-GC-1)."""
    assert tenancy.owner_of(a_provider(), CLUSTER) == provider_owner()
