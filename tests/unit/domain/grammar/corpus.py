"""The workflows that the tests of the grammar share.

Keep's own examples are Keep's: they stand beside the project, and where they do not, the tests make do with ours.
"""

from pathlib import Path
from typing import Any, Final

import pytest

DATA: Final = Path(__file__).parents[3] / "data"
KEEP: Final = sorted((DATA.parents[1].parent / "shared" / "data" / "keep-workflows").glob("*.y*ml"))
OWN: Final = sorted((DATA / "workflows").glob("*.yaml"))
ALL: Final = [*KEEP, *OWN]

needs_keep: Final = pytest.mark.skipif(not KEEP, reason="the folder of recorded Keep data is not beside the project")


def text(path: Path) -> str:
    """A file's text."""
    return path.read_text(encoding="utf-8")


def definition(**changes: Any) -> dict[str, Any]:
    """A definition without a fault and without a warning, with other values for some of its keys; None: without it."""
    whole = {"triggers": [{"type": "manual"}], "actions": [action()], **changes}
    return {key.replace("_", "-"): value for key, value in whole.items() if value is not None}


def action(name: str = "tell", **changes: Any) -> dict[str, Any]:
    """An action without a fault; ``with_`` stands for ``with``, ``if_`` for ``if``."""
    made: dict[str, Any] = {"name": name, "provider": {"type": "console", "with": {"message": "hello"}}, **changes}
    return {key.rstrip("_"): value for key, value in made.items()}


def provider(**changes: Any) -> dict[str, Any]:
    """An action whose provider is as given."""
    return action(provider={key.rstrip("_"): value for key, value in changes.items()})
