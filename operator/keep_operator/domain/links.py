"""Where the console shows a thing, for those who read of it elsewhere: in a status, in an Event, in a terminal.

The paths are those of `console.pages.front`, and stay: what has been written somewhere leads on for years.
"""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from keep_operator.resources.kinds import PROVIDERS, WORKFLOWS

_PARTS: Final = {WORKFLOWS.kind: "w", PROVIDERS.kind: "p"}


@dataclass(frozen=True, slots=True)
class Links:
    """``console`` is its public address, without a slash at the end; empty: nobody has told it, and there are no links."""

    console: str = ""

    def run(self, run_id: UUID) -> str:
        """The page of a run; empty where there are no links."""
        return f"{self.console}/r/{run_id}" if self.console else ""

    def object(self, kind: str, namespace: str, name: str) -> str:
        """The page of an object; empty where there are no links, or its kind has no page."""
        return f"{self.console}/{_PARTS[kind]}/{namespace}/{name}" if self.console and kind in _PARTS else ""


NO_LINKS: Final = Links()
