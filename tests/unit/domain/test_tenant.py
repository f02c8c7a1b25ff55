"""What a Tenant needs next, rule by rule."""

from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest

from keep_operator.domain import tenant
from keep_operator.domain.ownership import HolderState
from keep_operator.domain.planning import Plan, SetMetadata
from keep_operator.domain.tenant import (
    Action,
    Adopt,
    Delete,
    Dependents,
    HandOver,
    Insert,
    Observed,
    Orphan,
    Record,
    SetTokens,
    Token,
    Tokens,
    Update,
)
from keep_operator.resources import tenant as reader
from keep_operator.resources.kinds import Key
from keep_operator.resources.objects import CONFIRM_DELETION
from keep_operator.resources.tenant import TenantSpec
from unit.builders import (
    NOW,
    a_claim,
    a_tenant,
    a_tenant_look,
    condition,
    found,
    settled_tenant,
    tenant_owner,
    tenant_record,
    told,
)

pytestmark = pytest.mark.unit

OTHER = tenant_owner("other")
FOREIGN = tenant_owner("keep", cluster_id="cluster-2")
HALF_A_MINUTE = timedelta(seconds=30)


def parsed(**spec: Any) -> TenantSpec:
    """A spec."""
    made = reader.parse_spec(spec)
    assert isinstance(made, TenantSpec)
    return made


def decide(seen: Observed) -> Plan[Action]:
    """What is to be done about a Tenant."""
    return tenant.plan(seen, NOW)


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


def status_after(seen: Observed) -> dict[str, Any]:
    """The status that is to be reported."""
    return dict(decide(seen).status or {})


def rival(name: str = "other", **changes: Any) -> Any:
    """Another live Tenant with the same id, younger, that has our finalizer."""
    return replace(a_claim(name, key=Key("Tenant", "", name), type=""), **changes)


READY = {
    "observedGeneration": 1,
    "tenantId": "keep",
    "providers": {"total": 2, "ready": 2},
    "conditions": [condition("Ready", reason="Ready"), condition("Synced", reason="Created")],
}


# Specs that can never be carried out.


@pytest.mark.parametrize(
    ("spec", "reason", "words"),
    [
        ({"runtime": "keep"}, "SpecRefused", "Use builtin"),
        (
            {
                "keep": {
                    "connectionSecretRef": {"namespace": "n", "name": "s", "key": "k"},
                    "secretManager": "DB",
                }
            },
            "SpecRefused",
            "spec.keep is only for",
        ),
        ({"allowedNamespaces": {}}, "SpecRefused", "exactly one of names, selector and all"),
        ({"nonsense": 1}, "SpecRefused", "spec.nonsense"),
    ],
)
def test_a_spec_that_cannot_be_carried_out_is_refused(spec: dict[str, Any], reason: str, words: str) -> None:
    """It says which field, and what to do."""
    seen = a_tenant_look(a_tenant(spec=spec))
    assert says(seen) == ("False", reason)
    assert says(seen, "Stalled") == ("True", "SpecRefused")
    assert words in told(decide(seen))


@pytest.mark.parametrize("recorded_by", ["status", "row"])
def test_the_id_of_a_tenant_never_changes(recorded_by: str) -> None:
    """Where CEL forbids nothing, also before the first report: the recorded id stays in force."""
    obj = settled_tenant(spec={"tenantId": "new"}, status=READY if recorded_by == "status" else {})
    seen = a_tenant_look(obj, record=tenant_record("keep") if recorded_by == "row" else None)
    assert says(seen) == ("False", "ImmutableFieldChanged")
    assert says(seen, "Stalled") == ("True", "ImmutableFieldChanged")
    assert status_after(seen)["tenantId"] == "keep"


@pytest.mark.parametrize(
    ("spec", "status", "expected"),
    [({}, {}, "keep"), ({"tenantId": "t"}, {}, "t"), ({"tenantId": "t"}, READY, "keep"), ({"bad": 1}, {}, "keep")],
)
def test_the_effective_id(spec: dict[str, Any], status: dict[str, Any], expected: str) -> None:
    """The recorded one, else the declared one, else the name."""
    assert tenant.effective_id(a_tenant(spec=spec, status=status)) == expected


# Suspend.


def test_a_suspended_tenant_is_left_alone() -> None:
    """Nothing is written for it, not even a finalizer (A-GC-6)."""
    seen = a_tenant_look(a_tenant(spec={"suspend": True}))
    assert says(seen, "Suspended") == ("True", "Suspended")
    assert says(seen) == ("Unknown", "Suspended")


def test_a_suspended_tenant_that_was_ready_stays_ready() -> None:
    """Its Providers go on; its dependents are still counted."""
    obj = settled_tenant(spec={"suspend": True}, status=READY)
    seen = a_tenant_look(obj, record=tenant_record(), providers=Dependents(3, 3))
    assert says(seen) == ("True", "Ready")
    assert status_after(seen)["providers"] == {"total": 3, "ready": 3}


# The row.


def test_the_finalizer_comes_first() -> None:
    """Before the first write to the database."""
    assert do(a_tenant_look(a_tenant(finalizers=["theirs/f"]))) == SetMetadata(("theirs/f", tenant.FINALIZER), ())


@pytest.mark.parametrize(
    ("spec", "record"),
    [
        ({}, Record("keep", "keep", tenant_owner())),
        ({"displayName": "The team"}, Record("keep", "The team", tenant_owner())),
        ({"tenantId": "t"}, Record("t", "t", tenant_owner())),
    ],
)
def test_a_new_tenant_gets_a_row(spec: dict[str, Any], record: Record) -> None:
    """The id is the name unless said otherwise, and the display name is the id."""
    record = replace(record, checksum=tenant.checksum(record, spec.get("displayName")))
    assert do(a_tenant_look(settled_tenant(spec=spec))) == Insert(record)


def test_a_row_that_says_what_the_spec_says_is_ready() -> None:
    """With id, runtime and the number of its Providers."""
    seen = a_tenant_look(record=tenant_record(), providers=Dependents(2, 1))
    assert says(seen) == ("True", "Ready")
    status = status_after(seen)
    assert (status["tenantId"], status["runtime"], status["providers"]) == ("keep", "builtin", {"total": 2, "ready": 1})


def test_a_display_name_that_changes_is_written() -> None:
    """In the row, at once."""
    seen = a_tenant_look(settled_tenant(spec={"displayName": "New"}), record=tenant_record())
    assert do(seen) == Update(tenant_record(), "New", "Orphan")


def test_a_display_name_that_nobody_declares_is_left() -> None:
    """Unset is unmanaged, never reset (A-DR-3)."""
    assert says(a_tenant_look(record=tenant_record(display_name="By hand"))) == ("True", "Ready")


def test_ids_that_differ_in_case_only_collide() -> None:
    """Keep's secret names are lower case: two such tenants would share them."""
    seen = a_tenant_look(collides_with="Keep")
    assert says(seen) == ("False", "ExternalResourceExists")
    assert '"Keep"' in told(decide(seen))


# Adoption.


@pytest.mark.parametrize(
    ("policy", "default_id", "owner", "taken"),
    [
        (None, "keep", None, True),
        (None, "other", None, False),
        (None, None, None, False),
        (None, "keep", FOREIGN, False),
        ("Never", "keep", None, False),
        ("IfUnowned", None, None, True),
        ("IfUnowned", None, FOREIGN, False),
        ("Force", None, FOREIGN, True),
    ],
)
def test_a_row_that_nobody_here_owns(policy: str | None, default_id: str | None, owner: Any, taken: bool) -> None:
    """The default tenant's is taken over, any other only on request (A-AD-1)."""
    record = tenant_record(owner=owner)
    spec = {} if policy is None else {"adoptionPolicy": policy}
    seen = a_tenant_look(settled_tenant(spec=spec), record=record, default_id=default_id)
    if taken:
        assert do(seen) == Adopt(record, tenant_owner(), None, "Orphan")
    else:
        assert says(seen) == ("False", "ExternalResourceExists")
        assert f"spec.adoptionPolicy: {'Force' if owner else 'IfUnowned'}" in told(decide(seen))


# Two Tenants of one id.


def test_the_id_of_a_live_tenant_is_taken() -> None:
    """A person must decide; the message names the other."""
    seen = a_tenant_look(record=tenant_record(owner=OTHER), holder_state=HolderState.LIVE)
    assert says(seen) == ("False", "ExternalNameConflict")
    assert "Managed by Tenant other" in told(decide(seen))


@pytest.mark.parametrize("state", [HolderState.DELETING, HolderState.GONE])
def test_the_row_of_a_tenant_that_goes_is_taken_over(state: HolderState) -> None:
    """Renaming a Tenant object, or applying it again after its finalizer was stripped."""
    record = tenant_record(owner=OTHER)
    plan = decide(a_tenant_look(record=record, holder_state=state))
    assert plan.actions == (HandOver(record, tenant_owner()),)
    assert plan.wakes == (Key("Tenant", "", "other"),)


@pytest.mark.parametrize("record", [None, tenant_record(owner=OTHER)])
def test_of_several_new_tenants_the_oldest_goes_first(record: Record | None) -> None:
    """As in every conflict (A-CF-1)."""
    older = rival("older", created_at=NOW - timedelta(days=9))
    seen = a_tenant_look(record=record, holder_state=HolderState.GONE, rivals=(older,))
    assert says(seen) == ("False", "ExternalNameConflict")
    assert "older" in told(decide(seen))
    blocked = replace(older, can_own=False)
    assert isinstance(
        do(a_tenant_look(record=record, holder_state=HolderState.GONE, rivals=(blocked,))), Insert | HandOver
    )


# Counting.


def counted(total: int, ready: int, *, written: dict[str, int] | None, due: timedelta = HALF_A_MINUTE) -> Plan[Action]:
    """A look at a Ready Tenant that says ``written`` and has these Providers."""
    status = READY | {"workflows": {"total": 0, "ready": 0}} | ({"providers": written} if written is not None else {})
    if written is None:
        del status["providers"]
    seen = a_tenant_look(
        settled_tenant(status=status), record=tenant_record(), providers=Dependents(total, ready), counts_due_in=due
    )
    return decide(seen)


def written(plan: Plan[Action]) -> Any:
    """The counts in the status that a plan reports."""
    return (plan.status or {}).get("providers")


def test_counts_are_not_written_more_often_than_they_may() -> None:
    """A thousand new Providers are not a thousand writes; the rest comes when it is due."""
    plan = counted(5, 1, written={"total": 2, "ready": 2})
    assert written(plan) == {"total": 2, "ready": 2}
    assert plan.wake_in == HALF_A_MINUTE


def test_counts_that_are_right_ask_for_no_further_look() -> None:
    """At rest nothing wakes it."""
    assert counted(2, 2, written={"total": 2, "ready": 2}).wake_in is None


def test_counts_that_are_due_are_written() -> None:
    """And then nothing is left to wait for."""
    plan = counted(5, 1, written={"total": 2, "ready": 2}, due=timedelta())
    assert written(plan) == {"total": 5, "ready": 1}
    assert plan.wake_in is None


@pytest.mark.parametrize(("total", "before"), [(1, None), (1, {"total": 0, "ready": 0}), (0, {"total": 7, "ready": 7})])
def test_a_total_that_leaves_or_reaches_zero_is_written_at_once(total: int, before: dict[str, int] | None) -> None:
    """The policy that guards a Tenant's deletion reads it."""
    assert written(counted(total, 0, written=before)) == {"total": total, "ready": 0}


@pytest.mark.parametrize(
    "seen",
    [
        a_tenant_look(a_tenant(spec={"runtime": "keep"}), providers=Dependents(1, 0)),
        a_tenant_look(a_tenant(spec={"suspend": True}), providers=Dependents(1, 0)),
        a_tenant_look(record=tenant_record(owner=OTHER), holder_state=HolderState.LIVE, providers=Dependents(1, 0)),
    ],
)
def test_providers_are_counted_whatever_else_is_wrong(seen: Observed) -> None:
    """A Tenant that is refused must be guarded no less."""
    assert status_after(seen)["providers"] == {"total": 1, "ready": 0}


# Deletion.


def going(spec: dict[str, Any] | None = None, **metadata: Any) -> Any:
    """A Tenant that is being deleted."""
    return settled_tenant(spec=spec, **{"deleting": True, "status": READY, **metadata})


def test_workflows_are_counted_beside_providers() -> None:
    """`kubectl get tenants` shows both; a total that leaves or reaches 0 is written at once."""
    status = READY | {"providers": {"total": 2, "ready": 2}, "workflows": {"total": 0, "ready": 0}}
    seen = a_tenant_look(
        settled_tenant(status=status),
        record=tenant_record(),
        providers=Dependents(5, 5),
        workflows=Dependents(3, 1),
        counts_due_in=HALF_A_MINUTE,
    )
    after = status_after(seen)
    assert (after["providers"], after["workflows"]) == ({"total": 2, "ready": 2}, {"total": 3, "ready": 1})
    assert decide(seen).wake_in == HALF_A_MINUTE


@pytest.mark.parametrize(
    ("providers", "workflows", "words"),
    [
        (1, 0, "1 Provider of "),
        (2, 0, "2 Providers of "),
        (0, 1, "1 Workflow of "),
        (1, 2, "1 Provider and 2 Workflows of "),
    ],
)
def test_a_tenant_with_dependents_is_held(providers: int, workflows: int, words: str) -> None:
    """One wrong prune must not take everything in every namespace; everything keeps serving (A-GC-8)."""
    seen = a_tenant_look(
        going(),
        record=tenant_record(),
        providers=Dependents(providers, providers),
        workflows=Dependents(workflows, workflows),
    )
    assert says(seen, "Deleting") == ("True", "DependentsExist")
    assert says(seen) == ("True", "Ready")
    assert words in told(decide(seen), "Deleting")
    assert f"{CONFIRM_DELETION}=keep" in told(decide(seen), "Deleting")


def test_what_holds_a_tenant_is_counted_as_seldom_as_ever() -> None:
    """A thousand Providers that go are not a thousand writes to the Tenant that waits for them."""
    first = status_after(
        a_tenant_look(going(), record=tenant_record(), providers=Dependents(1000, 0), counts_due_in=timedelta())
    )
    seen = a_tenant_look(
        going(status=first), record=tenant_record(), providers=Dependents(999, 0), counts_due_in=HALF_A_MINUTE
    )
    assert status_after(seen) == first
    assert decide(seen).wake_in == HALF_A_MINUTE


@pytest.mark.parametrize("confirmation", [None, "yes", "Keep", "other"])
def test_only_its_own_name_confirms_a_deletion(confirmation: str | None) -> None:
    """The annotation cannot be copied from another Tenant by mistake."""
    annotations = {} if confirmation is None else {CONFIRM_DELETION: confirmation}
    seen = a_tenant_look(going(annotations=annotations), record=tenant_record(), providers=Dependents(1, 1))
    assert says(seen, "Deleting") == ("True", "DependentsExist")


def test_a_confirmed_deletion_goes_at_once() -> None:
    """The children follow by their owner references."""
    obj = going(annotations={CONFIRM_DELETION: "keep"})
    assert do(a_tenant_look(obj, record=tenant_record(), providers=Dependents(9, 9))) == Orphan(tenant_record())


@pytest.mark.parametrize(
    ("spec", "action"),
    [
        ({}, Orphan(tenant_record())),
        ({"deletionPolicy": "Delete"}, Delete(tenant_record())),
        ({"deletionPolicy": "Delete", "suspend": True}, Delete(tenant_record())),
        ({"deletionPolicy": "Delete", "runtime": "keep"}, Delete(tenant_record())),
        ({"deletionPolicy": "Delete", "nonsense": 1}, Orphan(tenant_record())),
    ],
)
def test_the_row_goes_by_its_policy(spec: dict[str, Any], action: Action) -> None:
    """`Orphan` unless said otherwise, and where the spec cannot be read; suspension does not hinder it."""
    assert do(a_tenant_look(going(spec), record=tenant_record())) == action


def test_the_row_passes_to_another_tenant_object() -> None:
    """Whatever the policy of the one that goes."""
    seen = a_tenant_look(going({"deletionPolicy": "Delete"}), record=tenant_record(), rivals=(rival(),))
    plan = decide(seen)
    assert plan.actions == (HandOver(tenant_record(), OTHER),)
    assert plan.wakes == (Key("Tenant", "", "other"),)


@pytest.mark.parametrize("record", [None, tenant_record(owner=OTHER), tenant_record(owner=None)])
def test_the_finalizer_goes_last_and_rivals_are_woken(record: Record | None) -> None:
    """A Tenant that owns no row deletes none (A-GC-1)."""
    plan = decide(a_tenant_look(going(finalizers=["theirs/f", tenant.FINALIZER]), record=record, rivals=(rival(),)))
    assert plan.actions == (SetMetadata(("theirs/f",), ()),)
    assert plan.wakes == (Key("Tenant", "", "other"),)


def test_without_our_finalizer_there_is_nothing_to_do() -> None:
    """Kubernetes waits for somebody else."""
    assert decide(a_tenant_look(going(finalizers=["theirs/f"]), record=tenant_record())) == Plan()


def test_a_held_tenant_that_never_was_ready_does_not_become_so() -> None:
    """Deleted in the first second, with Providers waiting for it."""
    seen = a_tenant_look(going(status={}), providers=Dependents(1, 0))
    assert says(seen) == ("Unknown", "Deleting")


def test_a_report_is_stable() -> None:
    """A second look at what the first one wrote, later, says the very same (A-DR-2)."""
    first = status_after(a_tenant_look(record=tenant_record(), providers=Dependents(1, 1)))
    again = a_tenant_look(settled_tenant(status=first), record=tenant_record(), providers=Dependents(1, 1))
    assert tenant.plan(again, NOW + timedelta(hours=1)).status == first


# Whom it admits.


@pytest.mark.parametrize(
    ("allowed", "default_id", "admitted"),
    [
        (None, "keep", True),
        (None, "other", False),
        (None, None, False),
        ({"all": True}, None, True),
        ({"names": ["monitoring", "sre"]}, "keep", True),
        ({"names": ["sre"]}, "keep", False),
        ({"selector": {"matchLabels": {"team": "a"}}}, None, True),
        ({"selector": {"matchLabels": {"team": "b"}}}, "keep", False),
        ({"selector": {}}, None, True),
        ({"selector": {"matchExpressions": [{"key": "team", "operator": "In", "values": ["a", "b"]}]}}, None, True),
        ({"selector": {"matchExpressions": [{"key": "team", "operator": "In", "values": ["b"]}]}}, None, False),
        ({"selector": {"matchExpressions": [{"key": "none", "operator": "In", "values": ["b"]}]}}, None, False),
        ({"selector": {"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["b"]}]}}, None, True),
        ({"selector": {"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["a"]}]}}, None, False),
        ({"selector": {"matchExpressions": [{"key": "none", "operator": "NotIn", "values": ["a"]}]}}, None, True),
        ({"selector": {"matchExpressions": [{"key": "team", "operator": "Exists"}]}}, None, True),
        ({"selector": {"matchExpressions": [{"key": "none", "operator": "Exists"}]}}, None, False),
        ({"selector": {"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}}, None, False),
        ({"selector": {"matchExpressions": [{"key": "none", "operator": "DoesNotExist"}]}}, None, True),
        (
            {
                "selector": {
                    "matchLabels": {"team": "a"},
                    "matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["a"]}],
                }
            },
            None,
            False,
        ),
    ],
)
def test_the_namespaces_that_a_tenant_admits(
    allowed: dict[str, Any] | None, default_id: str | None, admitted: bool
) -> None:
    """As Kubernetes' own selectors decide; where nothing is said only the default tenant admits all."""
    obj = a_tenant(spec={} if allowed is None else {"allowedNamespaces": allowed})
    assert tenant.admits(obj, "monitoring", {"team": "a"}, default_id) is admitted


def test_a_tenant_whose_spec_cannot_be_read_admits_nobody() -> None:
    """Nothing is guessed."""
    assert not tenant.admits(a_tenant(spec={"nonsense": 1}), "monitoring", {}, "keep")


# Where steps may connect to.


REACHING = {"egress": {"allow": ["hooks.example.com", "10.1.0.0/16"]}}
REACHED = {"egress": {"allow": ["10.1.0.0/16", "hooks.example.com"]}}


def test_what_steps_may_reach_is_in_the_row() -> None:
    """For runners, which know no objects; in a new row and in one that was there."""
    made = do(a_tenant_look(settled_tenant(spec=REACHING)))
    assert isinstance(made, Insert)
    assert made.record.settings == REACHED
    assert made.record.intact
    assert says(a_tenant_look(settled_tenant(spec=REACHING), record=made.record)) == ("True", "Ready")
    assert do(a_tenant_look(settled_tenant(spec=REACHING), record=tenant_record())) == Update(
        tenant_record(), None, "Orphan", REACHED
    )


def test_a_tenant_that_says_nothing_of_it_keeps_its_row_as_it_is() -> None:
    """No row of before is written anew, or taken for drift, since there are settings."""
    before = replace(Record("keep", "keep", tenant_owner()), checksum=None)
    old = replace(before, checksum=sha256(b'["keep", "keep", "Orphan"]').hexdigest())
    assert old.intact
    assert says(a_tenant_look(settled_tenant(spec={"displayName": "keep"}), record=old)) == ("True", "Ready")
    assert tenant.settings(parsed(egress={"allow": []})) == {}


def test_whoever_opens_the_way_in_the_database_is_found_out() -> None:
    """A hand that lets a tenant's steps reach the metadata of the machine is drift, as any other."""
    opened = replace(tenant_record(), settings={"egress": {"allow": ["169.254.169.254"]}})
    action = do(a_tenant_look(record=opened))
    assert isinstance(action, tenant.Correct)
    assert action.settings == {}
    reported = decide(a_tenant_look(settled_tenant(spec={"driftPolicy": "Report"}), record=opened))
    assert "egress" in told(reported)


@pytest.mark.parametrize("entry", ["10.0.0.0/33", "10.0.0.300", "a..b", "-a.example.com", "*", "a.*.com", "fe80:::1"])
def test_what_is_no_place_is_named(entry: str) -> None:
    """A slip of the pen would else be a name that nothing ever has."""
    seen = a_tenant_look(settled_tenant(spec={"egress": {"allow": ["10.0.0.1", entry]}}))
    assert says(seen) == ("False", "SpecRefused")
    assert "spec.egress.allow[1]: must be an address, a network" in told(decide(seen))


@pytest.mark.parametrize(
    "entry", ["10.0.0.1", "10.0.0.1/8", "::1", "fd00::/8", "localhost", "a_b.svc.", "*.example.com"]
)
def test_what_is_a_place_is_taken(entry: str) -> None:
    """Addresses, networks, names, and all names below one."""
    seen = a_tenant_look(settled_tenant(spec={"egress": {"allow": [entry]}}))
    assert isinstance(do(seen), Insert)


TOKEN = Token("monitoring/am/token", b"salt", b"digest")
NAMED = {"ingestTokens": [{"secretRef": {"namespace": "monitoring", "name": "am", "key": "token"}}]}


def with_tokens(tokens: Tokens, *stored: Token, **changes: Any) -> Observed:
    """A Tenant whose row is as it shall be, but perhaps for its tokens."""
    return a_tenant_look(
        settled_tenant(spec=NAMED), record=replace(tenant_record(), tokens=stored), tokens=tokens, **changes
    )


def test_tokens_are_stored_when_they_differ_and_not_again() -> None:
    """A rotated Secret is a new digest, one write; at rest nothing is written."""
    seen = with_tokens(Tokens(accepted=(TOKEN,)))
    assert do(seen) == SetTokens(seen.record, (TOKEN,))  # type: ignore[arg-type]
    rotated = replace(TOKEN, digest=b"other")
    assert isinstance(do(with_tokens(Tokens(accepted=(rotated,)), TOKEN)), SetTokens)
    settled = with_tokens(Tokens(accepted=(TOKEN,)), TOKEN)
    assert (says(settled), says(settled, "TokensResolved")) == (("True", "Ready"), ("True", "Resolved"))


@pytest.mark.parametrize(
    ("tokens", "told_as"),
    [
        (Tokens(without_secret=("a/b/c",)), ("Unknown", "SecretNotFound")),
        (Tokens(out_of_reach=("a/b/c",)), ("Unknown", "SecretNotFound")),
        (Tokens(without_key=("a/b/c",)), ("Unknown", "SecretKeyNotFound")),
        (Tokens(unusable=("a/b/c",)), ("False", "TokenInvalid")),
        (Tokens(unread=("a/b/c",)), ("Unknown", "SecretUnreadable")),
    ],
)
def test_a_tenant_serves_without_its_tokens(tokens: Tokens, told_as: tuple[str, str]) -> None:
    """A Secret that is missing is named in a condition of its own; workflows and providers do not suffer from it."""
    seen = with_tokens(tokens)
    assert (says(seen), says(seen, "TokensResolved")) == (("True", "Ready"), told_as)
    assert "a/b/c" in told(decide(seen), "TokensResolved")


def test_a_token_whose_secret_is_gone_is_revoked() -> None:
    """Deleting the Secret takes the token away; that one cannot be read takes nothing away, and is tried again."""
    assert do(with_tokens(Tokens(without_secret=("a/b/c",)), TOKEN)).tokens == ()
    unread = with_tokens(Tokens(accepted=(TOKEN,), unread=(TOKEN.name,)), TOKEN)
    assert says(unread, "TokensResolved") == ("Unknown", "SecretUnreadable")
    assert decide(unread).wake_in == HALF_A_MINUTE


def test_a_tenant_that_names_no_tokens_says_nothing_of_them() -> None:
    """The condition is only there where it is about something."""
    seen = a_tenant_look(record=tenant_record())
    assert says(seen, "TokensResolved") is None


def test_tokens_go_before_the_record_is_left() -> None:
    """A record without an owner takes no events: nobody could revoke its tokens."""
    leaving = settled_tenant(spec=NAMED, deleting=True)
    stored = a_tenant_look(leaving, record=replace(tenant_record(), tokens=(TOKEN,)))
    assert do(stored).tokens == ()
    assert isinstance(do(a_tenant_look(leaving, record=tenant_record())), Orphan)
