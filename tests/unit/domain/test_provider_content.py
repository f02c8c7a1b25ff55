"""What is wrong with the settings and credentials of a Provider, as its owner reads it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keep_operator.domain import catalogue, provider
from keep_operator.domain.catalogue import Field, ProviderType
from keep_operator.resources.shapes import describe
from unit.builders import a_provider

pytestmark = pytest.mark.unit
CANARY = "canary-5d0b21"
# What each of Keep's checks takes.
GOOD = {
    "any_http_url": "http://host.example:8080/path",
    "https_url": "https://host.example/path",
    "no_scheme_url": "host.example",
    "no_scheme_multihost_url": "a.example:9092,b.example:9092",
    "multihost_url": "mongodb://a.example:27017,b.example:27017",
    "tld": ".com",
    "port": 8080,
}


def types() -> list[ProviderType]:
    """Every type of the catalogue."""
    found = [catalogue.find(name) for name in catalogue.names()]
    return [each for each in found if each is not None]


def a_value(field: Field) -> object:
    """A value that Keep takes for the field."""
    if field.options:
        return field.options[-1]
    if field.widget == "form":
        return [{"a": "b"}]
    if field.widget == "switch" or isinstance(field.default, bool):
        return True
    return GOOD.get(field.validation or "", 1 if isinstance(field.default, int) else "text")


def valid(kind: ProviderType, *, complete: bool) -> tuple[dict[str, Any], list[str]]:
    """Settings and the keys of credentials that the type takes: all of its fields, or only what it cannot do without."""
    chosen = [each for each in kind.fields.values() if complete or (each.required and each.default is None)]
    secrets = [each.name for each in chosen if catalogue.is_credential(kind, each)]
    return {each.name: a_value(each) for each in chosen if each.name not in secrets}, secrets


def told(type_name: str, config: dict[str, Any], *secrets: str) -> list[str]:
    """The faults as they are read in the condition."""
    return [str(each) for each in catalogue.faults(type_name, config, secrets)]


@pytest.mark.parametrize("kind", types(), ids=lambda kind: kind.name)
def test_every_type_takes_what_keep_takes(kind: ProviderType) -> None:
    """All fields, only the needed ones, settings from Secrets, and texts that Keep fills in."""
    for complete in (True, False):
        config, secrets = valid(kind, complete=complete)
        assert catalogue.faults(kind.name, config, secrets) == ()
        assert catalogue.faults(kind.name, {}, [*config, *secrets]) == ()
        assert catalogue.faults(kind.name, dict.fromkeys((*config, *secrets), "{{ env.FROM_KEEP }}"), []) == ()
        spec = {"config": config, "secrets": [entry(name) for name in secrets], "type": kind.name}
        assert provider.refusal(a_provider(spec=spec)) is None


@pytest.mark.parametrize("kind", types(), ids=lambda kind: kind.name)
def test_every_type_refuses_what_keep_could_not_use(kind: ProviderType) -> None:
    """A missing field, an unknown one, a credential in the open and a value of a wrong kind; all named at once."""
    config, secrets = valid(kind, complete=True)
    for name, field in kind.fields.items():
        rest = {other: value for other, value in config.items() if other != name}
        others = [other for other in secrets if other != name]
        if field.required and field.default is None:
            (fault,) = catalogue.faults(kind.name, rest, others)
            assert name in str(fault)
            assert fault.path == ("spec.secrets" if name in secrets else f"spec.config.{name}")
        (fault,) = catalogue.faults(kind.name, rest | {name: 7.5j}, others)
        assert fault.path == f"spec.config.{name}"
        assert ("spec.secrets" in fault.message) == (name in secrets)
    wrong = {**config, "zzqqxxjj": CANARY, **dict.fromkeys(secrets, CANARY)}
    refused = provider.refusal(a_provider(spec={"type": kind.name, "config": wrong, "secrets": [entry("qqjjxxzz")]}))
    assert refused is not None
    assert refused.reason == "InvalidConfig"
    assert CANARY not in refused.message
    found = {each.path for each in catalogue.faults(kind.name, wrong, ["qqjjxxzz"])}
    assert found >= {"spec.config.zzqqxxjj", "spec.secrets[0].key", *(f"spec.config.{name}" for name in secrets)}


@given(data=st.data())
def test_one_wrong_letter_is_answered_with_the_right_field(data: st.DataObject) -> None:
    """Wherever it is, in settings and in credentials; nothing else is complained about."""
    kind = data.draw(st.sampled_from([each for each in types() if each.fields]))
    config, secrets = valid(kind, complete=True)
    name = data.draw(st.sampled_from(sorted(kind.fields)))
    at = data.draw(st.integers(0, len(name) - 1))
    letter = data.draw(st.sampled_from("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"))
    written = name[:at] + letter + name[at + 1 :]
    if written in kind.fields:
        return
    changed = {written if each == name else each: value for each, value in config.items()}
    (fault,) = catalogue.faults(kind.name, changed, [written if each == name else each for each in secrets])
    assert f"Did you mean {name}?" in fault.message


@pytest.mark.parametrize(
    ("written", "near"),
    [
        ("VMBackendUrl", "VMBackendURL"),
        ("vm_backend_url", "VMBackendURL"),
        ("VMBackendURl", "VMBackendURL"),
        ("VMAlertHort", "VMAlertHost or VMAlertPort"),
    ],
)
def test_a_misspelt_field_is_told_with_the_likely_name(written: str, near: str) -> None:
    """Whatever the slip; where two names are as near, both."""
    assert told("victoriametrics", {written: CANARY}) == [
        f'spec.config.{written}: is not a field of type "victoriametrics". Did you mean {near}?'
    ]


def test_a_misspelt_field_is_not_called_missing_as_well() -> None:
    """One slip, one message; a credential is sent to where it belongs."""
    assert told("prometheus", {"urk": "http://p"}) == [
        'spec.config.urk: is not a field of type "prometheus". Did you mean url?'
    ]
    assert told("openai", {"api_kee": CANARY}) == [
        'spec.config.api_kee: is not a field of type "openai". Did you mean api_key? It belongs in spec.secrets'
    ]


def test_a_type_without_fields_says_so() -> None:
    """And one with fields that nothing resembles lists them."""
    assert told("console", {"colour": "red"}) == [
        'spec.config.colour: is not a field of type "console". It has no fields'
    ]
    assert told("pushover", {"zzz": 1}, "token", "user_key") == [
        'spec.config.zzz: is not a field of type "pushover". It has token, user_key'
    ]


def test_what_is_missing_is_told_with_its_right_place() -> None:
    """Credentials are asked for in `secrets`, all else in `config`, in one message."""
    assert told("grafana", {}) == [
        "spec.secrets: needs an entry with the key token, which is required",
        "spec.config.host: is required",
    ]


@pytest.mark.parametrize(
    ("type_name", "field", "value", "words"),
    [
        ("victoriametrics", "VMBackendURL", "vm:8428", "an address such as http://"),
        ("victoriametrics", "VMBackendURL", "http://", "an address such as http://"),
        ("victoriametrics", "VMBackendURL", 8428, "an address such as http://"),
        ("victoriametrics", "VMBackendPort", "http", "must be a port"),
        ("victoriametrics", "VMBackendPort", 70_000, "must be a port"),
        ("victoriametrics", "VMBackendPort", "9" * 5000, "must be a port"),
        ("victoriametrics", "VMBackendPort", float("inf"), "must be a port"),
        ("victoriametrics", "VMBackendPort", float("nan"), "must be a port"),
        ("victoriametrics", "VMBackendPort", True, "must be a port"),
        ("victoriametrics", "insecure", "maybe", "must be true or false"),
        ("victoriametrics", "BasicAuthUsername", False, "put it in quotes"),
        ("victoriametrics", "BasicAuthUsername", {"a": "b"}, "must be text"),
        ("sentry", "api_url", "http://sentry", "begins with https://"),
        ("smtp", "encryption", "ssl", "must be one of SSL, TLS, None"),
        ("smtp", "encryption", ["SSL"], "must be one of SSL, TLS, None"),
        ("mongodb", "host", "db:27017", "mongodb://"),
        ("webhook", "headers", "a: b", "must be an object"),
        ("grafana", "host", None, "is required"),
    ],
)
def test_a_malformed_value_is_refused(type_name: str, field: str, value: object, words: str) -> None:
    """With what it must be, and without the value."""
    faults = [each for each in catalogue.faults(type_name, {field: value}, []) if each.path == f"spec.config.{field}"]
    assert words in describe(faults)


@pytest.mark.parametrize(
    ("type_name", "field", "value"),
    [
        ("victoriametrics", "VMBackendURL", " HTTPS://[::1]:8428/x?y "),
        ("victoriametrics", "VMBackendURL", "{{ env.URL }}"),
        ("victoriametrics", "VMBackendPort", "8428"),
        ("victoriametrics", "VMBackendPort", 8428.0),
        ("victoriametrics", "VMBackendPort", "{{ env.PORT }}"),
        ("victoriametrics", "insecure", "Yes"),
        ("victoriametrics", "VMBackendHost", None),
        ("victoriametrics", "BasicAuthUsername", 7),
        ("anthropic", "model", "a-model-of-next-year"),
        ("sentry", "api_url", "sentry.example"),
        ("splunk", "host", "tcp://splunk"),
        ("webhook", "headers", {"a": "b"}),
        ("webhook", "headers", [{"key": "a", "value": "b"}]),
        ("aks", "subscription_id", "00000000-0000-0000-0000-000000000000"),
        ("openai", "api_key", "{{ env.OPENAI }}"),
    ],
)
def test_what_keep_accepts_is_not_refused(type_name: str, field: str, value: object) -> None:
    """Keep reads numbers from text, fills in its environment, and takes more than its form offers."""
    assert [each for each in catalogue.faults(type_name, {field: value}, []) if field in each.path] == []


@pytest.mark.parametrize("hidden", [CANARY, "{{ " + CANARY + " }}", "{{{{ env.A }} " + CANARY + "}}", "", None])
def test_a_credential_in_the_open_is_refused_with_the_remedy(hidden: str | None) -> None:
    """It would stand in Git; braces around it do not make it a reference."""
    assert told("openai", {"api_key": hidden}) == ["spec.config.api_key: is a credential; give it in spec.secrets"]


def test_keep_does_not_mark_every_credential() -> None:
    """Where its mark is missing or wrong, what the value is good for decides."""
    assert "is a credential" in told("amazonsqs", {"secret_access_key": CANARY})[0]
    assert not any("is a credential" in fault for fault in told("kafka", {"username": "reader"}))
    assert any("is a credential" in fault for fault in told("teams", {"webhook_url": "https://teams.example/hook"}))


def test_the_corrections_of_marks_are_about_fields_that_exist() -> None:
    """A new catalogue that corrects a mark itself makes ours superfluous, and this says so."""
    corrected = {
        (kind.name, name)
        for kind in types()
        for name, field in kind.fields.items()
        if catalogue.is_credential(kind, field) != field.sensitive
    }
    assert {
        name for kind, name in corrected if kind in ("amazonsqs", "appdynamics", "grafana_oncall", "pagerduty")
    } == {
        "secret_access_key",
        "appDynamicsAccessToken",
        "token",
        "routing_key",
    }
    assert len(corrected) == 20


@given(config=st.dictionaries(st.text(), st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists)))
def test_any_json_is_judged(config: dict[str, Any]) -> None:
    """Whatever stands in a config, there is an answer and no crash."""
    for type_name in ("victoriametrics", "console", "webhook"):
        kind = catalogue.find(type_name)
        assert kind is not None
        values = dict(zip(kind.fields, config.values(), strict=False))
        assert len(catalogue.faults(type_name, config | values, [])) <= len(config | values) + len(kind.fields)


def entry(key: str) -> dict[str, Any]:
    """A credential from a Secret."""
    return {"key": key, "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
