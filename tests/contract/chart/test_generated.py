"""What the chart takes from the code is what the code says today."""

import subprocess
import sys

import pytest

from charts import CHART, ROOT

pytestmark = pytest.mark.contract


def test_generated_files_are_current() -> None:
    """An upgrade of the chart brings the definitions and rights of the operator that it brings."""
    done = subprocess.run(
        [sys.executable, ROOT / "charts" / "generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"run `make generate`: {done.stdout}{done.stderr}"


def test_nothing_else_lies_beside_them() -> None:
    """The definition of a kind that is gone is not installed any more."""
    listed = subprocess.run(
        [sys.executable, ROOT / "charts" / "generate.py", "--list"], capture_output=True, text=True, check=True
    )
    there = {str(path.relative_to(CHART)) for path in (CHART / "files").rglob("*") if path.is_file()}
    assert there == {name for name in listed.stdout.split() if name.startswith("files/")}
