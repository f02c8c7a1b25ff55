"""The provider types that Keep knows."""

import pytest

from keep_operator.domain import catalogue

pytestmark = pytest.mark.unit


def test_the_types_of_keep_are_known() -> None:
    """Every type that Keep lists can be declared."""
    assert len(catalogue.names()) == 124
    assert catalogue.known("victoriametrics")
    assert not catalogue.known("VictoriaMetrics")
    assert not catalogue.known("")
    assert catalogue.source() == "keephq/keep 0.54.2"


def test_a_type_tells_its_fields() -> None:
    """What is secret, what is needed and what may be chosen is known before anything is connected."""
    found = catalogue.find("victoriametrics")
    assert found is not None
    assert found.fields["BasicAuthPassword"].sensitive
    assert found.fields["VMBackendURL"].validation == "any_http_url"
    assert found.fields["VMBackendPort"].default == 8428
    assert found.can_query
    assert "query" in found.query_params
    assert catalogue.find("nonsense") is None


def test_choices_and_scopes_are_there() -> None:
    """A field that is a choice names its options, a type the rights it needs."""
    smtp, sqs = catalogue.find("smtp"), catalogue.find("amazonsqs")
    assert smtp is not None
    assert sqs is not None
    assert smtp.fields["encryption"].options == ("SSL", "TLS", "None")
    assert [scope.name for scope in sqs.scopes if scope.mandatory] == ["authenticated", "sqs::read"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("VictoriaMetrics", "victoriametrics"),
        ("victoria_metrics", "victoriametrics"),
        ("google-chat", "google_chat"),
        ("postgresql", "postgres"),
        ("datadogg", "datadog"),
        ("pager_duty", "pagerduty"),
        ("msteams", "teams"),
        ("Azure AKS", "aks"),
    ],
)
def test_a_slip_is_answered_with_the_type_that_was_meant(written: str, meant: str) -> None:
    """A user does not have to look the list up."""
    assert catalogue.suggest(written) == meant


@pytest.mark.parametrize("written", ["", "zzzz", "my-own-thing", "x" * 10_000])
def test_nothing_is_suggested_for_what_resembles_nothing(written: str) -> None:
    """A wild guess would mislead."""
    assert catalogue.suggest(written) is None


def test_every_known_type_suggests_itself() -> None:
    """No type is shadowed by another's display name."""
    for name in catalogue.names():
        assert catalogue.suggest(name) == name
        assert catalogue.suggest(name.upper()) == name
