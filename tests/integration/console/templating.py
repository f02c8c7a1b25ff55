"""Which values the pages' templates put into HTML, each by its place: what has been shown at one is known, and what never was."""

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment, FileSystemLoader, nodes

from keep_operator.console.pages.rendering import HERE

_SHOWN = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}")


@dataclass
class Seen:
    """The values that were shown, by template and expression."""

    values: dict[tuple[str, str], list[object]] = field(default_factory=lambda: defaultdict(list))

    def note(self, place: tuple[str, str], value: object) -> object:
        """The value itself."""
        self.values[place].append(value)
        return value


def expressions(source: str) -> list[str]:
    """What a template shows, in its order."""
    return _SHOWN.findall(source)


def everywhere() -> set[tuple[str, str]]:
    """Every place of every template."""
    return {
        (each.name, shown)
        for each in (HERE / "templates").glob("*.html")
        for shown in expressions(each.read_text(encoding="utf-8"))
    }


def watching(seen: Seen) -> type[Environment]:
    """An environment whose templates tell what they show, and show it."""

    class Watching(Environment):
        def __init__(self, *, loader: FileSystemLoader, **more: Any) -> None:
            super().__init__(loader=loader, **more)
            self.globals["_seen"] = seen.note

        def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
            tree = super()._parse(source, name, filename)
            shown = iter(expressions(source))
            for output in tree.find_all(nodes.Output):
                output.nodes = [
                    each if isinstance(each, nodes.TemplateData) else _noted(self, each, (str(name), next(shown)))
                    for each in output.nodes
                ]
            assert next(shown, None) is None, name
            return tree

    return Watching


def _noted(environment: Environment, shown: nodes.Expr, place: tuple[str, str]) -> nodes.Call:
    line = shown.lineno
    name = nodes.Name("_seen", "load", lineno=line, environment=environment)
    told = nodes.Const(place, lineno=line, environment=environment)
    return nodes.Call(name, [told, shown], [], None, None, lineno=line, environment=environment)
