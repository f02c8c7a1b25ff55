"""A plan for a terminal."""

from collections.abc import Iterator
from typing import Final

import click

from keep_operator.plugin import difference, output, plan_words
from keep_operator.plugin.kubectl import Json

_COLOURS: Final = {"Unchanged": None, "Changes": "green", "Held": "yellow", "Faulty": "red"}


def show(told: Json) -> None:
    """Print it: each Workflow, then what was wrong or is not planned, then the sum."""
    for each in told["workflows"]:
        _show(each)
    for each in told["faults"]:
        _mark("fault", "red", f"{each['source']}: {each['message']}")
    if told["faults"]:
        output.echo()
    if told["notPlanned"]:
        output.prose(f"Not planned: {plan_words.not_planned(told)}")
    output.echo(click.style(plan_words.summary(told), bold=True))


def _show(each: Json) -> None:
    name = click.style(f"{each['namespace']}/{each['name']}", bold=True)
    headline = click.style(plan_words.headline(each), fg=_COLOURS[each["outcome"]])
    output.echo(f"{name}  {headline}  ({each['source']})")
    for fault in each["faults"]:
        _mark("fault", "red", plan_words.fault(fault), indent=2)
    for line in plan_words.facts(each):
        output.prose(line, first="  ", indent=4)
    for found in each["differences"]:
        output.echo(f"  {plan_words.compared(found)}")
        for line in _changes(found):
            output.echo(f"    {line}")
    for gate in each["held"]:
        _mark("held", "yellow", f"{gate['gate']}: {gate['message']}", indent=2)
    for line in plan_words.way(each):
        output.prose(line, first="  ", indent=4)
    for warning in each["warnings"]:
        _mark("warning", "yellow", warning, indent=2)
    output.echo()


def _changes(found: Json) -> Iterator[str]:
    if not found.get("unknown"):
        yield from difference.changes(found)


def _mark(word: str, colour: str, text: str, indent: int = 0) -> None:
    first = f"{'':{indent}}{click.style(word, fg=colour)}{'':{9 - len(word)}}"
    output.prose(text, first=first, indent=indent + 9)
