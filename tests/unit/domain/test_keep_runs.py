"""Keep's own example workflows, run from start to end with providers that answer what was recorded."""

from pathlib import Path
from typing import Final

import pytest

from keep_operator.domain.grammar import workflow
from keep_operator.domain.program import Perform, Program
from unit.domain import keep_runs
from unit.domain.driver import drive, facts
from unit.domain.grammar import corpus

pytestmark = pytest.mark.unit

# What fails, and fails in Keep too, for what the file itself says; the last one names what only Keep's provider tells.
FAILING: Final = {
    "failed-to-login-workflow.yml": "steps.get-customer-tier-by-id.result.customer_name",
    "new-auth0-users-monitor.yml": "state.new-auth0-users",
    "openshift_basic.yml": "steps.get-projects.results | length",
    "openshift_monitoring_and_remediation.yml": "steps.get-projects.results | length",
    "openshift_pod_restart.yml": "alert.deployment_name",
    "send_smtp_html_email.yml": "utcnow",
    "datadog-log-monitor.yml": "steps.check-error-rate.provider_parameters.from",
}


@corpus.needs_keep
@pytest.mark.parametrize("path", corpus.KEEP, ids=lambda path: path.name)
def test_each_example_of_keep_ends_as_expected(path: Path) -> None:
    """Which steps run, are skipped, and fail, and what providers are sent, is what it was."""
    whole = corpus.text(keep_runs.GOLDEN).splitlines()
    begin = whole.index(next(line for line in whole if line.startswith(f"{path.name}: ")))
    end = next((at for at in range(begin + 1, len(whole)) if not whole[at].startswith(" ")), len(whole))
    assert list(keep_runs.told(path)) == whole[begin:end]


@corpus.needs_keep
def test_what_fails_fails_for_what_the_file_says() -> None:
    """All others succeed, and the message names what is missing."""
    ends = {path.name: keep_runs.run(path).end for path in corpus.KEEP}
    assert {name for name, end in ends.items() if end.state == "Failed"} == FAILING.keys()
    for name, told in FAILING.items():
        assert f'"{told}' in ends[name].message


@pytest.mark.parametrize("path", corpus.OWN, ids=lambda path: path.name)
def test_every_key_of_the_grammar_is_run(path: Path) -> None:
    """Our own samples end too, whatever their providers answer."""
    found = workflow.read(corpus.text(path)).workflow
    assert found is not None

    def provider(call: Perform) -> object:
        return {"data": [[1, 99], [2, 70]], "new": [{"login": "ann"}]} if call.name == "cpu" else [{"login": "ann"}]

    known = facts(
        inputs={"count": 1, "loud": True},
        event={"name": "cpu", "fingerprint": "f", "severity": "critical", "status": "firing"},
    )
    run = drive(Program.of(found.raw), known, provider)
    assert run.end.reason in ("Completed", "StepFailed")
