"""A plan as a comment for a pull request: the sum first, each Workflow folded, never longer than a comment may be."""

import re
from collections.abc import Iterator
from typing import Final

import click

from keep_operator.domain.legible import legible
from keep_operator.plugin import difference, plan_words
from keep_operator.plugin.kubectl import Json

# By this a pipeline finds its earlier comment, to write over it.
MARK: Final = "<!-- kubectl-keep-plan -->"
# Characters. GitHub takes 65,536, GitLab a million.
LIMIT: Final = 60_000


def page(told: Json) -> str:
    """The comment; without differences where it would be too long with them, and cut where even that does not help."""
    for differences in (True, False):
        text = legible("\n".join(_lines(told, differences=differences)) + "\n")
        if len(text) <= LIMIT:
            return text
    cut = text[: LIMIT - 200].rpartition("\n\n")[0]
    return f"{cut}\n\nThe rest is too long for a comment: `kubectl keep plan` shows it.\n"


def _lines(told: Json, *, differences: bool) -> Iterator[str]:
    yield MARK
    yield f"### kubectl keep plan: {plan_words.summary(told)}"
    yield ""
    if told["workflows"]:
        yield "| Workflow | Outcome | Version | Held by |"
        yield "|---|---|---|---|"
    for each in told["workflows"]:
        made = each["revision"]
        held = ", ".join(dict.fromkeys(gate["gate"] for gate in each["held"]))
        yield f"| {_place(each)} | {plan_words.headline(each)} | {plan_words.name(made) if made else ''} | {held} |"
    for each in told["workflows"]:
        if each["outcome"] != "Unchanged" or each["warnings"]:
            yield from _one(each, differences=differences)
    if told["faults"]:
        yield ""
        yield from (f"- **Fault** in {_code(each['source'])}: {_text(each['message'])}" for each in told["faults"])
    if told["notPlanned"]:
        yield ""
        yield f"Not planned: {_text(plan_words.not_planned(told))}"
    if not differences:
        yield ""
        yield "What differs is too long for a comment: `kubectl keep plan` shows it."


def _one(each: Json, *, differences: bool) -> Iterator[str]:
    yield ""
    yield f"<details{' open' if each['outcome'] in ('Held', 'Faulty') else ''}><summary>{_html(each)}</summary>"
    yield ""
    yield from (f"- **Fault**: {_text(plan_words.fault(found))}" for found in each["faults"])
    yield from (f"- {_text(line)}" for line in plan_words.facts(each))
    yield from (f"- **Held by {gate['gate']}**: {_text(gate['message'])}" for gate in each["held"])
    yield from (f"- {_text(line)}" for line in plan_words.way(each))
    yield from (f"- **Warning**: {_text(warning)}" for warning in each["warnings"])
    for found in each["differences"] if differences else ():
        yield ""
        yield _text(plan_words.compared(found))
        yield ""
        if not found.get("unknown"):
            yield from _fenced("text", [click.unstyle(line) for line in difference.changes(found)])
            yield from _fenced("diff", [line for hunk in found["hunks"] for line in _hunk(hunk)])
    yield ""
    yield "</details>"


def _hunk(hunk: Json) -> Iterator[str]:
    old, new = hunk["before"], hunk["after"]
    yield f"@@ -{old['start']},{old['length']} +{new['start']},{new['length']} @@"
    yield from hunk["lines"]


def _fenced(kind: str, lines: list[str]) -> Iterator[str]:
    """A block of code with a fence that is longer than any in it."""
    longest = max((len(each) for line in lines for each in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    yield f"{fence}{kind}"
    yield from lines
    yield fence


def _place(each: Json) -> str:
    return _code(f"{each['namespace']}/{each['name']}")


def _html(each: Json) -> str:
    """The head of what is folded; names of objects hold no markup, see `manifests`."""
    return f"<code>{each['namespace']}/{each['name']}</code> {plan_words.headline(each)}"


def _code(text: str) -> str:
    return f"`{text.replace('`', '').replace('|', '')}`"


def _text(text: str) -> str:
    """A text as it is: nothing in it is markup, and nobody is mentioned."""
    escaped = re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", text)
    return " ".join(escaped.replace("@", "@\u200b").split())
