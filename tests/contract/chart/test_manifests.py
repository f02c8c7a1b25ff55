"""What is rendered is what Kubernetes takes, and what somebody has looked at."""

import copy
import functools

import pytest
from kubernetes_validate import utils

from charts import NEWEST, OLDEST, Json, helm, one
from contract.chart.combinations import COMBINATIONS, GOLDEN, GOLDEN_FILES, golden

pytestmark = pytest.mark.contract

OTHERS = ("PodMonitor",)  # of the Prometheus operator: no kind of Kubernetes


@pytest.fixture(autouse=True)
def _schemas_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(utils, "schema_contents", _schema)


_schema = functools.cache(utils.schema_contents)


def _faults(objects: list[Json], kubernetes: str) -> list[str]:
    found = []
    for each in objects:
        if each["kind"] not in OTHERS:
            try:
                utils.validate(each, kubernetes, strict=True)
            except utils.ValidationError as error:
                found.append(f"{each['kind']} {each['metadata']['name']}: {error.message}")
    return found


@pytest.mark.parametrize("kubernetes", [OLDEST, NEWEST])
@pytest.mark.parametrize("name", COMBINATIONS)
def test_kubernetes_knows_every_field(name: str, kubernetes: str) -> None:
    """No field is misspelt or misplaced, for the oldest and the newest Kubernetes that is supported."""
    assert _faults(helm().render(COMBINATIONS[name], kubernetes), kubernetes) == []


def test_a_misspelt_field_would_be_found() -> None:
    """The check above is worth something."""
    wrong = copy.deepcopy(one(helm().render(), "Deployment"))
    wrong["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    assert _faults([wrong], NEWEST)


def test_the_newest_kubernetes_is_in_the_schemas() -> None:
    """NEWEST is the newest that the checks know, not one that was new once."""
    assert utils.latest_version() == NEWEST


@pytest.mark.parametrize("name", GOLDEN_FILES)
def test_somebody_has_looked_at_what_is_rendered(name: str) -> None:
    """A change of what users get shows in the review of the change, also where no rule forbids it."""
    text = (GOLDEN / name).read_text(encoding="utf-8") if (GOLDEN / name).is_file() else ""
    assert golden(name) == text, "run `make generate`, and look at what it changes"


def test_there_is_no_other_golden_file() -> None:
    """A combination that is gone leaves no file behind."""
    assert {path.name for path in GOLDEN.iterdir()} == set(GOLDEN_FILES)
