"""What a container has less than a machine."""

import getpass

import pytest

from component.rig.rig import Rig

pytestmark = pytest.mark.component


async def test_a_user_without_a_name(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator starts as the number that a pod gives it, though nobody knows who that is."""

    def nobody() -> str:
        raise OSError("No username set in the environment")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert (await rig.operate(default_tenant="")).ready
