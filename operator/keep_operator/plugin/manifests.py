"""Objects in files, as kubectl would take them: of folders, lists and several documents, each with where it stands."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from keep_operator.domain.grammar import dialect
from keep_operator.plugin.kubectl import Json

# Of an object, of its kind, and of the API that it belongs to. Others would reach terminals and pull requests as they are.
_NAME: Final = re.compile(r"[-._:/0-9A-Za-z]{0,253}")
# What Keep's own workflow files have at their top.
_KEEPS: Final = ("workflow", "workflows", "alert", "alerts", "id", "triggers", "steps", "actions")


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object; ``line`` tells where a path of it stands in ``source``."""

    source: str
    object: Json
    line: Callable[[str], int | None]

    @property
    def kind(self) -> str:
        """Its kind."""
        return str(self.object["kind"])

    @property
    def api_version(self) -> str:
        """The version of its API."""
        return str(self.object["apiVersion"])

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.object["metadata"]["name"])

    @property
    def namespace(self) -> str | None:
        """The namespace that it names; None: the one that kubectl is told."""
        found: str | None = self.object["metadata"].get("namespace")
        return found


@dataclass(frozen=True, slots=True)
class Fault:
    """Why something in a file is no object that could be applied."""

    source: str
    message: str


def read(texts: dict[str, str]) -> tuple[list[Manifest], list[Fault]]:
    """All objects of these files, and what stands there instead of one."""
    found: list[Manifest] = []
    faults: list[Fault] = []
    for source, text in texts.items():
        try:
            documents = dialect.load_all(text)
        except dialect.Malformed as error:
            faults += [Fault(source, str(each)) for each in error.faults]
            continue
        for document in documents:
            for value, prefix in _inside(document.value):
                why = _fault(value)
                if why is not None:
                    faults.append(Fault(source, why))
                    continue
                found.append(Manifest(source, value, _lines(document, prefix)))
    return found, faults


def _inside(document: Any) -> Iterator[tuple[Any, str]]:
    """The document itself, or what a list of objects holds; and the path to it."""
    if isinstance(document, dict) and document.get("kind") == "List" and isinstance(document.get("items"), list):
        for place, each in enumerate(document["items"]):
            yield each, f"items[{place}]."
    else:
        yield document, ""


def _lines(document: dialect.Document, prefix: str) -> Callable[[str], int | None]:
    return lambda path: document.line(f"{prefix}{path}")


def _fault(value: Any) -> str | None:
    if not isinstance(value, dict):
        return "is no Kubernetes object"
    if "apiVersion" not in value and "kind" not in value and any(key in value for key in _KEEPS):
        return (
            "is one of Keep's own files, and no Kubernetes object: make it one with "
            "`kubectl keep import FILE | kubectl keep plan -f -`"
        )
    for key in ("apiVersion", "kind"):
        if not isinstance(value.get(key), str):
            return f"is no Kubernetes object: {key} is missing"
    metadata = value.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str) or not metadata["name"]:
        return f"{value['kind']}: metadata.name is missing"
    if not isinstance(metadata.get("namespace", ""), str):
        return f"{value['kind']} {metadata['name']}: metadata.namespace is no text"
    names = (value["apiVersion"], value["kind"], metadata["name"], metadata.get("namespace", ""))
    if not all(_NAME.fullmatch(each) for each in names):
        return "is no Kubernetes object: its kind, name or namespace has characters that none has"
    return None
