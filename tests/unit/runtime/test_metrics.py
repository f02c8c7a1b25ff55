"""What Prometheus reads."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from keep_operator.runtime.metrics import Metrics

pytestmark = pytest.mark.unit


def page(metrics: Metrics) -> dict[str, float]:
    """The samples of a scrape, by name and labels as they are written."""
    families = text_string_to_metric_families(metrics.page().decode())
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in families
        for sample in family.samples
    }


def test_requests_are_counted_by_verb_resource_and_code() -> None:
    """Who writes too much, and what was refused, shows without a log."""
    metrics = Metrics()
    metrics.count_api_request("patch", "providers/status", 200)
    metrics.count_api_request("patch", "providers/status", 200)
    metrics.count_api_request("get", "secrets", 0)
    found = page(metrics)
    name = "keep_operator_api_requests_total"
    assert found[f"{name}{[('code', '200'), ('resource', 'providers/status'), ('verb', 'patch')]}"] == 2
    assert found[f"{name}{[('code', '0'), ('resource', 'secrets'), ('verb', 'get')]}"] == 1


def test_gauges_are_read_at_each_scrape() -> None:
    """The depth of the queue is the one of now."""
    metrics, depths = Metrics(), {"Tenant": 1.0}
    metrics.gauge("keep_operator_queue_depth", "Depth.", lambda: depths)
    metrics.plain_gauge("keep_operator_queue_oldest_seconds", "Age.", lambda: 7.0)
    assert page(metrics)["keep_operator_queue_depth[('kind', 'Tenant')]"] == 1
    depths["Provider"] = 3.0
    assert page(metrics)["keep_operator_queue_depth[('kind', 'Provider')]"] == 3
    assert page(metrics)["keep_operator_queue_oldest_seconds[]"] == 7


def test_each_instance_counts_for_itself() -> None:
    """Two operators in one process, as in tests, do not mix."""
    one, two = Metrics(), Metrics()
    one.count_api_request("get", "secrets", 200)
    assert not any("api_requests_total" in name for name in page(two))
