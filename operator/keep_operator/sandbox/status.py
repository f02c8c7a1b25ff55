"""What a sandbox consists of and how each part is, for ``sandbox status``."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from keep_operator.sandbox.processes import Roster


@dataclass(frozen=True, slots=True)
class Component:
    """One line of the status."""

    name: str
    state: Literal["running", "stopped", "died", "given", "missing"]
    detail: str = ""

    @property
    def fine(self) -> bool:
        """Whether it is as it should be while the sandbox is up."""
        return self.state in ("running", "given", "missing")


def of_process(roster: Roster, name: str, address: Callable[[], str] = lambda: "") -> Component:
    """The status of a process by its record; ``address`` is asked only while it runs."""
    process = roster.find(name)
    if process is None:
        return Component(name, "stopped")
    if not process.alive:
        return Component(name, "died", f"see {process.log}")
    return Component(name, "running", ", ".join(part for part in (f"process {process.pid}", address()) if part))


def table(components: Iterable[Component]) -> list[str]:
    """One aligned line for each component, without colours."""
    rows = list(components)
    width = max((len(row.name) for row in rows), default=0)
    return [f"{row.name:{width}}  {row.state:8} {row.detail}".rstrip() for row in rows]
