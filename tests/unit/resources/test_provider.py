"""The Provider's spec as users write it."""

from datetime import timedelta
from typing import Any

import pytest

from keep_operator.resources import provider
from keep_operator.resources.provider import ProviderSpec
from keep_operator.resources.shapes import Invalid

pytestmark = pytest.mark.unit


def parsed(**raw: Any) -> ProviderSpec:
    """A spec that is well-formed; its type is `slack` unless given."""
    spec = provider.parse_spec({"type": "slack", **raw})
    assert isinstance(spec, ProviderSpec), spec
    return spec


def entry(key: str) -> dict[str, Any]:
    """A credential under this key."""
    return {"key": key, "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}


def test_a_type_is_all_that_is_needed() -> None:
    """The smallest manifest has the documented defaults."""
    spec = parsed()
    assert (spec.deletion_policy, spec.adoption_policy, spec.drift_policy) == ("Delete", "Never", "Correct")
    assert (spec.progress_deadline_seconds, spec.suspend, spec.secrets) == (600, False, ())
    assert (spec.tenant_ref, spec.config, spec.pulling_enabled, spec.resync_period) == (None, None, None, None)
    assert provider.effective_name(spec, "alerts") == "alerts"
    assert provider.violations(spec, "alerts") == ()


def test_the_documented_example_is_understood() -> None:
    """What the page shows can be applied."""
    spec = parsed(
        tenantRef={"name": "keep"},
        type="victoriametrics",
        externalName="VM_main",
        config={"VMBackendURL": "http://vmsingle.monitoring.svc:8428", "retries": 3, "tls": {"verify": True}},
        secrets=[entry("BasicAuthPassword")],
        pullingEnabled=False,
        resyncPeriod="1h30m",
    )
    assert spec.resync_period == timedelta(minutes=90)
    assert spec.secrets[0].value_from.secret_key_ref.name == "s"
    assert provider.effective_name(spec, "vm.main") == "VM_main"
    assert provider.violations(spec, "vm.main") == ()


def test_without_a_type_there_is_no_provider() -> None:
    """The one required field is asked for by name."""
    assert str(provider.parse_spec({})) == "spec.type: is required"


@pytest.mark.parametrize("name", ["a.b", "a" * 64])
def test_a_name_that_workflows_cannot_use_needs_an_external_name(name: str) -> None:
    """`{{ providers.<name> }}` always finds the provider."""
    assert [violation.path for violation in provider.violations(parsed(), name)] == ["spec.externalName"]


@pytest.mark.parametrize("bad", ["a.b", "-a", "a-", "a b", "", "a" * 64, "é", "a\n"])
def test_an_external_name_has_no_dot_and_nothing_odd(bad: str) -> None:
    """A name that a template would split or that Keep would alter is refused."""
    assert isinstance(provider.parse_spec({"type": "slack", "externalName": bad}), Invalid)


@pytest.mark.parametrize(("period", "holds"), [("30s", True), ("29.999999s", False), ("0s", False), ("10m", True)])
def test_a_resync_is_not_more_often_than_every_half_minute(period: str, holds: bool) -> None:
    """Nobody turns the operator's resync into load by accident."""
    found = [violation.path for violation in provider.violations(parsed(resyncPeriod=period), "a")]
    assert found == ([] if holds else ["spec.resyncPeriod"])


def test_the_type_stays() -> None:
    """A provider does not turn into another system under its workflows."""
    changes = provider.forbidden_changes(parsed(type="slack"), parsed(type="teams"))
    assert [violation.path for violation in changes] == ["spec.type"]


def test_a_tenant_may_be_added_once_and_then_stays() -> None:
    """A provider does not move between tenants with its credentials."""
    none, keep, other = parsed(), parsed(tenantRef={"name": "keep"}), parsed(tenantRef={"name": "other"})
    assert provider.forbidden_changes(none, keep) == ()
    assert provider.forbidden_changes(keep, keep) == ()
    for new in (none, other):
        assert [violation.path for violation in provider.forbidden_changes(keep, new)] == ["spec.tenantRef"]


def test_everything_else_may_change() -> None:
    """Renames and new settings are ordinary edits."""
    old = parsed(tenantRef={"name": "keep"}, externalName="a", config={"x": 1})
    new = parsed(tenantRef={"name": "keep"}, externalName="b", secrets=[entry("x")], suspend=True)
    assert provider.forbidden_changes(old, new) == ()


def test_one_field_has_one_source() -> None:
    """A key both in config and in secrets is told, not decided by chance."""
    spec = parsed(config={"token": "x", "url": "y"}, secrets=[entry("token")])
    assert [violation.path for violation in provider.config_violations(spec)] == ["spec.config.token"]


@pytest.mark.parametrize("bad", ["a\x00", ["ok", {"deep": "\x00"}], {"\x00": 1}, "\ud800"])
def test_settings_that_the_database_cannot_hold_are_told(bad: object) -> None:
    """A NUL character ends in a clear condition, not in a failing transaction."""
    assert [str(violation) for violation in provider.config_violations(parsed(config={"a": bad, "b": "ö☃😀"}))] == [
        "spec.config.a: holds a NUL character or broken Unicode"
    ]


@pytest.mark.parametrize("name", ["../configmaps/x", "a/b", "A", "a b", "", "a" * 254])
def test_the_name_of_a_secret_cannot_be_a_path(name: str) -> None:
    """A reference reads a Secret and nothing else."""
    secret = {"key": "a", "valueFrom": {"secretKeyRef": {"name": name, "key": "k"}}}
    assert isinstance(provider.parse_spec({"type": "slack", "secrets": [secret]}), Invalid)


def test_a_credential_has_one_entry_for_each_key() -> None:
    """As on the API server, where the list is a map by key."""
    assert str(provider.parse_spec({"type": "slack", "secrets": [entry("a"), entry("a")]})) == (
        "spec.secrets: has an entry with the same key twice"
    )
