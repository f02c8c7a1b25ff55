"""What every kind's spec has in common: durations, and faults that name the place but never the value."""

from datetime import timedelta

import pytest

from keep_operator.resources import provider, shapes, tenant
from keep_operator.resources.shapes import Invalid

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10m", 600),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("0s", 0),
        ("90s", 90),
        ("250ms", 0.25),
        ("1m0.5s", 60.5),
        ("7us", 0.000007),
        ("30s30s", 60),
        ("2562047h", 2562047 * 3600),
    ],
)
def test_a_duration_is_read_as_go_reads_it(text: str, seconds: float) -> None:
    """A user writes durations as everywhere in Kubernetes."""
    assert shapes.parse_duration(text) == timedelta(seconds=seconds)


def test_nanoseconds_are_dropped_not_rounded() -> None:
    """A period just below a limit stays below it."""
    assert shapes.parse_duration("29.9999999999s") < timedelta(seconds=30)


@pytest.mark.parametrize(
    "text",
    ["", "10", "m", "-10m", "+10m", "10 m", "1d", "1h30", ".5s", "1.s", "10M", "10m\n", "١٠m", "1s" * 9, "2562048h"],
)
def test_anything_else_is_not_a_duration(text: str) -> None:
    """A typing slip in a duration is refused, not guessed at; so is one that the API server cannot hold."""
    with pytest.raises(ValueError, match=r"not a duration|longer than 292 years"):
        shapes.parse_duration(text)


def test_all_faults_are_told_at_once_each_with_its_path() -> None:
    """A user repairs a manifest in one go."""
    parsed = provider.parse_spec(
        {
            "type": "Slack",
            "resyncPeriod": "1h30",
            "progressDeadlineSeconds": 1,
            "suspend": "true",
            "secrets": [{"key": "a", "valueFrom": {"secretKeyRef": {"name": "../x"}}}],
            "unknown": 1,
        }
    )
    assert isinstance(parsed, Invalid)
    assert {fault.path: fault.message for fault in parsed.violations} == {
        "spec.type": "must match ^[a-z0-9_]+$",
        "spec.resyncPeriod": "is not a duration such as 30s, 10m or 1h30m",
        "spec.progressDeadlineSeconds": "must be at least 30",
        "spec.suspend": "must be true or false",
        "spec.secrets[0].valueFrom.secretKeyRef.name": f"must match {shapes.DNS_SUBDOMAIN}",
        "spec.secrets[0].valueFrom.secretKeyRef.key": "is required",
        "spec.unknown": "is not a known field",
    }


def test_a_secret_in_the_wrong_place_is_not_shown() -> None:
    """A credential pasted into a spec must not come back in a condition, an Event or a log line."""
    canary = "hunter2-canary"
    faulty = [
        provider.parse_spec({"type": "x", "secrets": [{"key": "a", "value": canary}]}),
        provider.parse_spec({"type": "x", "secrets": canary}),
        provider.parse_spec({"type": canary.upper(), "externalName": f"{canary}.", "resyncPeriod": canary}),
        provider.parse_spec({"type": "x", "deletionPolicy": canary, "tenantRef": canary, "suspend": canary}),
        tenant.parse_spec({"keep": {"connectionSecretRef": canary, "secretManager": canary, "apiKeys": [canary]}}),
        tenant.parse_spec({"ingestTokens": [{"secretRef": {"namespace": canary * 9, "name": canary}}]}),
    ]
    for parsed in faulty:
        assert isinstance(parsed, Invalid)
        assert canary not in str(parsed).lower()
        assert canary not in repr(parsed).lower()


def test_only_the_names_of_the_api_are_read() -> None:
    """What the API server would prune, the operator does not read either."""
    parsed = provider.parse_spec({"type": "x", "external_name": "y"})
    assert str(parsed) == "spec.external_name: is not a known field"


@pytest.mark.parametrize("raw", [None, [], "x", 7])
def test_a_spec_that_is_no_object_is_a_fault_not_a_crash(raw: object) -> None:
    """Whatever an old server lets through ends in a clear condition."""
    assert str(shapes.parse(tenant.TenantSpec, raw)) == "spec: must be an object"


def test_settings_nested_without_end_are_a_fault_not_a_crash() -> None:
    """One hostile object harms nobody but its author."""
    value: object = "x"
    for _ in range(900):
        value = [value]
    assert str(provider.parse_spec({"type": "x", "config": {"a": value}})) == "spec.config.a: is nested too deeply"


def test_of_very_many_faults_the_first_are_told_and_the_rest_counted() -> None:
    """A condition's message stays readable."""
    parsed = provider.parse_spec({"type": "x", "secrets": [{} for _ in range(10)]})
    assert isinstance(parsed, Invalid)
    assert len(parsed.violations) == 20
    assert str(parsed).endswith("; and 12 more")


def test_odd_keys_are_quoted_and_cut_in_paths() -> None:
    """A key with control characters cannot forge a log line."""
    assert shapes.join_key("spec.config", "port") == "spec.config.port"
    assert shapes.join_key("spec.config", "a\nb") == r"spec.config['a\nb']"
    assert shapes.join_key("spec.config", "é" * 1000) == "spec.config['" + r"\xe9" * 63 + "']"


def test_a_parsed_spec_cannot_be_edited() -> None:
    """What was read is what is acted upon, however many look at it."""
    spec = tenant.parse_spec({})
    with pytest.raises(ValueError, match="frozen"):
        spec.suspend = True  # type: ignore[union-attr,misc]
