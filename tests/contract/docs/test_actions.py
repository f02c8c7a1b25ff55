"""`docs/actions.md` and the code agree on what the built-in runtime can do."""

import inspect

import pytest

from contract.docs import pages
from keep_operator.domain.abilities import ABILITIES, Kind
from keep_operator.runner.actions import Call, reference, registry

pytestmark = pytest.mark.contract

PATH = pages.ROOT / "docs" / "actions.md"


def test_the_tables_are_current() -> None:
    """Whoever looks up whether a workflow will run reads of the program that they have."""
    text = PATH.read_text(encoding="utf-8")
    assert text == reference.page(text), "run `make generate`"


def test_what_is_promised_is_there_and_nothing_else() -> None:
    """A definition that is judged valid finds code for each of its steps; and no code is there that nobody is told of."""
    promised: set[tuple[str, Kind]] = set()
    for name, ability in ABILITIES.items():
        promised |= {(name, "step")} if ability.query else set()
        promised |= {(name, "action")} if ability.notify else set()
    assert promised == set(registry.ACTIONS)


@pytest.mark.parametrize(("type_name", "kind"), sorted(registry.ACTIONS))
def test_each_name_leads_to_code(type_name: str, kind: Kind) -> None:
    """Code is loaded when a workflow first needs it; it must be there then."""
    found = registry.action(type_name, kind)
    assert inspect.iscoroutinefunction(found)
    assert next(iter(inspect.signature(found).parameters.values())).annotation is Call
