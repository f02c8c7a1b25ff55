"""A WorkflowRevision as the operator keeps it: what it says of itself, and whether that is true, without its content.

It is the reader of that kind: contents are large, a database has them, and there are many. The hash of the content is
made once, when the object is read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from keep_operator.domain import revision
from keep_operator.domain.mirror import Image
from keep_operator.resources import revision as shape
from keep_operator.resources.kinds import WORKFLOWS
from keep_operator.resources.objects import NO_COLLECTION, Object
from keep_operator.resources.shapes import Invalid, Violation


@dataclass(frozen=True, slots=True)
class Said:
    """What stands in the spec, but for the content. ``true``: the content has the hash that stands beside it."""

    workflow: str
    lineage_id: str
    number: int
    content_hash: str
    true: bool


_NOTHING: Final = Said(workflow="", lineage_id="", number=0, content_hash="", true=False)


def parse_spec(raw: Mapping[str, Any]) -> Said | Invalid:
    """What the spec says, or every fault of its shape."""
    read = shape.parse_spec(raw)
    if isinstance(read, Invalid):
        return read
    return Said(
        workflow=read.workflow_ref.name,
        lineage_id=read.lineage_id,
        number=read.number,
        content_hash=read.content_hash,
        true=_is_true(read),
    )


def violations(spec: Said, name: str) -> tuple[Violation, ...]:
    """Nothing: a version is judged by its record in the database, not by rules."""
    del spec, name
    return ()


def _is_true(read: shape.WorkflowRevisionSpec) -> bool:
    if read.hash_version not in revision.PRESENTATIONAL:
        return False
    try:
        return revision.content_hash(read.definition, read.hash_version) == read.content_hash
    except revision.Unhashable:
        return False


def of(obj: Object[Said], workflow: str, uid: str) -> Image:
    """The object as the rules see it that judge the revisions of the Workflow of this name and uid.

    One whose spec cannot be read is no image of any revision. Nor is one that was edited: nothing else raises the
    generation, and servers before 1.25 let it pass.
    """
    said = obj.spec if isinstance(obj.spec, Said) else _NOTHING
    owners = [(owner.get("name"), owner.get("uid")) for owner in obj.owners if owner.get("kind") == WORKFLOWS.kind]
    return Image(
        name=obj.key.name,
        uid=obj.uid,
        resource_version=obj.resource_version,
        generation=obj.generation,
        lineage_id=said.lineage_id,
        number=said.number,
        content_hash=said.content_hash,
        labels=obj.labels,
        status=obj.status,
        true=said.true and said.workflow == workflow and obj.generation == 1,
        owned=any(owner == uid for _, owner in owners),
        left=any(name == workflow and owner != uid for name, owner in owners),
        spared=obj.annotations.get(NO_COLLECTION, "false") != "false",
        namespace=obj.key.namespace,
    )


def workflows(obj: Object[Said]) -> frozenset[str]:
    """The names of the Workflows whose revision it may be: the one that it names, and those that own it."""
    named = {obj.spec.workflow} if isinstance(obj.spec, Said) else set()
    return frozenset(named | {str(owner["name"]) for owner in obj.owners if owner.get("kind") == WORKFLOWS.kind})
