"""`docs/operations.md` explains every metric, outcome, log field and step of the start."""

import ast
from collections.abc import Iterator

import pytest

from contract.docs import pages
from keep_operator import operate
from keep_operator.console import process
from keep_operator.reconcile import shell
from keep_operator.runner import process as runner
from keep_operator.runner.measures import Measures
from keep_operator.runtime.metrics import Metrics
from keep_operator.store import ledger

pytestmark = pytest.mark.contract

PAGE = pages.read(pages.ROOT / "docs" / "operations.md")


def _constants(*rooms: str) -> Iterator[str]:
    """Every text in the code of some rooms."""
    for room in rooms:
        found = pages.SOURCE / room
        for path in found.rglob("*.py") if found.is_dir() else [found]:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value


def _rows(heading: str) -> list[pages.Row]:
    return [row for row in PAGE.about(heading) if row.under[-1] == heading]


def test_every_metric_is_documented() -> None:
    """Whoever builds a dashboard finds each metric, by the name under which it is scraped."""
    made = {text for text in _constants("rooms.py", "runtime", "handlers", "reconcile", "runner") if _is_metric(text)}
    rows = [row for row in _rows("Metrics") if len(row.cells) == 3]
    assert pages.documented(rows) == made


def _is_metric(text: str) -> bool:
    return text.startswith("keep_operator_") and text.replace("_", "").isalnum()


def test_metrics_have_the_labels_that_are_told() -> None:
    """A query written after the page finds its labels."""
    told = {row.names[0]: pages.spans(row.cells[1]) for row in _rows("Metrics") if len(row.cells) == 3}
    metrics, measures = Metrics(), Measures()
    for each in (
        metrics.reconciles,
        metrics.reconcile_seconds,
        metrics.queue_wait_seconds,
        metrics.api_requests,
        metrics.events_dropped,
        metrics.rollbacks,
        measures.start_seconds,
        measures.step_seconds,
        measures.steps_lost,
        measures.recovered,
        measures.ticks_missed,
    ):
        (family,) = each.describe()
        name = family.name + ("_total" if family.type == "counter" else "")
        assert told[name] == list(each._labelnames)


def test_every_outcome_is_documented() -> None:
    """Each outcome in a metric or a log line can be looked up."""
    assert pages.documented(_rows("Outcomes")) == set(shell.Outcome)


def test_every_log_field_is_documented() -> None:
    """Each field of the line that tells of a reconcile, and of those of the start, is explained."""
    told = pages.documented(_rows("Log lines"))
    tree = ast.parse((pages.SOURCE / "reconcile" / "shell.py").read_text(encoding="utf-8"))
    (tell,) = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "_tell"]
    fields = {
        key.value
        for node in ast.walk(tell)
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    }
    assert fields | {"ts", "level", "logger", "msg", "traceback", "step", "detail"} == told


def test_every_field_of_the_runner_s_lines_is_documented() -> None:
    """Whoever filters the log by runs knows which fields there are."""
    fields = {"reason"}
    for path in (pages.SOURCE / "runner").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.keyword(arg="extra", value=ast.Dict(keys=keys)):
                    fields |= _texts(keys)
                case ast.Assign(targets=[ast.Name(id="told") | ast.Attribute(attr="told")], value=ast.Dict(keys=keys)):
                    fields |= _texts(keys)
                case ast.FunctionDef(name="_named", body=[*_, ast.Return(value=ast.Dict(keys=keys))]):
                    fields |= _texts(keys)
    assert {"run", "workflowId", "count"} <= fields
    assert pages.documented(_rows("Lines of the runner")) == fields


def _texts(keys: list[ast.expr | None]) -> set[str]:
    return {key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}


def test_every_action_of_the_ledger_is_documented() -> None:
    """Who reads the ledger knows what each entry means."""
    assert pages.documented(_rows("The ledger")) == set(ledger.Action)


def test_every_step_of_the_start_has_its_help() -> None:
    """Whatever line of /readyz hangs, the runbook has it, in the same order."""
    rows = _rows("The operator does not become ready")
    assert [row.names[0] for row in rows] == list(operate.STEPS)
    rows = _rows("The read API does not answer")
    assert [row.names[0] for row in rows] == list(process.STEPS)
    rows = _rows("The runner does not become ready")
    assert [row.names[0] for row in rows] == list(runner.STEPS)
