"""What holds for all tests: property tests find the same examples every time in CI, and have no deadline anywhere."""

import os
from collections.abc import Generator

import pytest
from hypothesis import settings

settings.register_profile("keep-operator", deadline=None, derandomize=bool(os.environ.get("CI")), print_blob=True)
settings.load_profile("keep-operator")

# What a machine may lack without anybody being at fault; each is a marker with its reason (CONTRIBUTING.md).
ALLOWED_SKIPS = ("needs_cel", "needs_admission_policy", "needs_docker", "shared_data")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With CI=true a skip that no allowed marker explains is a failure: nothing goes untested unnoticed."""
    report = yield
    if report.skipped and os.environ.get("CI") and not any(item.get_closest_marker(name) for name in ALLOWED_SKIPS):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI without an allowed marker: {report.longrepr}"
    return report
