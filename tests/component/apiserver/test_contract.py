"""The API server in memory keeps the contract that a real one keeps."""

import pytest

from component.apiserver.contract import Contract

pytestmark = pytest.mark.component


class TestInMemory(Contract):
    """The server of the component tests."""
