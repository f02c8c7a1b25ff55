"""What a dashboard of the runners shows."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from prometheus_client.parser import text_string_to_metric_families

from keep_operator.domain.execution import ONCE, Run, State, Step, StepState
from keep_operator.runner.measures import Measures
from keep_operator.runtime.metrics import Metrics

pytestmark = pytest.mark.unit

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
RUN = Run(
    id=UUID(int=1),
    tenant_id="keep",
    workflow_id=UUID(int=2),
    revision=1,
    content_hash="a" * 64,
    selection="Active",
    trigger="Manual",
    mode="Live",
    state=State.RUNNING,
    reason=None,
    message=None,
    requested_by="ann",
    queued_at=NOW,
    attempt=1,
)
STEP = Step(0, ONCE, 1, 1, "ask", "step", "http", StepState.SUCCEEDED, "None", NOW, NOW + timedelta(seconds=2))


def scraped(metrics: Metrics) -> dict[str, float]:
    """What Prometheus would store, without the buckets."""
    return {
        sample.name + "".join(f",{value}" for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.page().decode())
        for sample in family.samples
        if not sample.name.endswith("_bucket")
    }


def test_the_wait_of_a_run_is_its_first_one() -> None:
    """A run that goes on after a crash has not waited in the queue since it was asked for."""
    metrics = Metrics()
    measures = Measures(metrics)
    measures.claimed(RUN, (), NOW + timedelta(seconds=3))
    measures.claimed(replace(RUN, attempt=2), (), NOW + timedelta(hours=1))
    measures.claimed(RUN, (), NOW - timedelta(seconds=1))  # the database's clock is ahead of ours
    found = scraped(metrics)
    assert found["keep_operator_run_start_seconds_count"] == 2
    assert found["keep_operator_run_start_seconds_sum"] == 3


def test_a_step_is_measured_by_what_it_talks_to() -> None:
    """A slow far side shows by its type, and whether it failed."""
    metrics = Metrics()
    measures = Measures(metrics)
    measures.ended(STEP)
    measures.ended(replace(STEP, state=StepState.FAILED, completed_at=NOW + timedelta(seconds=60)))
    found = scraped(metrics)
    assert found["keep_operator_step_seconds_sum,Succeeded,http"] == 2
    assert found["keep_operator_step_seconds_sum,Failed,http"] == 60


def test_what_a_dead_worker_left_behind_is_counted_once() -> None:
    """Each further worker finds the same marks, and does not count them again."""
    metrics = Metrics()
    measures = Measures(metrics)
    lost = replace(STEP, state=StepState.LOST)
    measures.claimed(replace(RUN, attempt=2), (STEP, lost), NOW)
    measures.claimed(replace(RUN, attempt=3), (STEP, lost), NOW)
    assert scraped(metrics)["keep_operator_steps_lost_total,http"] == 1
