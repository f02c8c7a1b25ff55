"""A real API server keeps the contract that the one of the component tests is held to."""

import pytest

from component.apiserver.contract import Contract

pytestmark = pytest.mark.e2e


class TestReal(Contract):
    """The server of the sandbox, or whichever `KUBEBUILDER_ASSETS` or `CLUSTER` name."""
