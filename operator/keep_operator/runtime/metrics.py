"""What the operator counts and measures, in Prometheus's terms; each instance has a registry of its own."""

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

# Seconds. A reconcile without a write takes well under a millisecond, one that waits for a slow API server some seconds.
DURATIONS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0)


disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series per series that nobody asks for


class Metrics:
    """Counters and histograms, and gauges that are read when somebody asks."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.reconciles = Counter(
            "keep_operator_reconciles_total",
            "Looks at an object, by kind and how they ended.",
            ("kind", "outcome"),
            registry=self.registry,
        )
        self.reconcile_seconds = Histogram(
            "keep_operator_reconcile_seconds",
            "Duration of a look.",
            ("kind",),
            buckets=DURATIONS,
            registry=self.registry,
        )
        self.queue_wait_seconds = Histogram(
            "keep_operator_queue_wait_seconds",
            "Time that a key waited for a worker.",
            ("kind",),
            buckets=DURATIONS,
            registry=self.registry,
        )
        self.api_requests = Counter(
            "keep_operator_api_requests_total",
            "Requests to the API server, by verb, resource and status code.",
            ("verb", "resource", "code"),
            registry=self.registry,
        )
        self.rollbacks = Counter(
            "keep_operator_automatic_rollbacks_total",
            "Revisions that were taken back because their runs failed, by what had made them run.",
            ("cause",),
            registry=self.registry,
        )
        self.events_dropped = Counter(
            "keep_operator_watch_handler_errors_total",
            "Watch events that could not be taken in.",
            ("kind",),
            registry=self.registry,
        )

    def count_api_request(self, verb: str, resource: str, code: int) -> None:
        """Note one request and how it was answered; 0 stands for no answer."""
        self.api_requests.labels(verb, resource, str(code)).inc()

    def gauge(
        self, name: str, text: str, read: Callable[[], dict[str, float]], label: str = "kind", *, counter: bool = False
    ) -> None:
        """Publish values that are read at each scrape; ``read`` gives them by the value of ``label``.

        With ``counter`` they are published as something that only grows.
        """
        family = CounterMetricFamily if counter else GaugeMetricFamily
        self.registry.register(_Gauge(name, text, label, read, family))

    def plain_gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Publish a gauge without labels that is read at each scrape."""
        Gauge(name, text, registry=self.registry).set_function(read)

    def page(self) -> bytes:
        """All of it in Prometheus's text format."""
        return generate_latest(self.registry)


class _Gauge(Collector):
    def __init__(
        self,
        name: str,
        text: str,
        label: str,
        read: Callable[[], dict[str, float]],
        family: type[GaugeMetricFamily | CounterMetricFamily],
    ) -> None:
        self._name, self._text, self._label = name, text, label
        self._read = read
        self._family = family

    def collect(self) -> list[Metric]:
        family = self._family(self._name, self._text, labels=[self._label])
        for value, number in self._read().items():
            family.add_metric([value], number)
        return [family]
