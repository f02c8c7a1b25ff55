"""Free JSON objects inside of our shapes: kept to the letter as the API server stored them, and bounded in depth.

pydantic's own type for JSON reads a value and makes another one from it. A hash is made of these, so they are handed
through untouched: an integer stays an integer, a float a float, and all keys are there. Nothing here recurses before
the depth is known (docs/adr/0015).
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

# Levels of nesting, the object itself being the first: as deep as the database takes a document.
DEPTH_LIMIT: Final = 64
# Keys of the object itself. Keep's grammar has about 20.
KEYS_LIMIT: Final = 256


def deeper_than(levels: int, value: object) -> bool:
    """Whether objects and lists are nested in more than so many levels; does not recurse, however deep they are."""
    level: list[Any] = [value]
    for _ in range(levels + 1):
        level = [each for each in level if isinstance(each, dict | list)]
        if not level:
            return False
        level = [below for each in level for below in (each.values() if isinstance(each, dict) else each)]
    return True


def same(one: object, other: object) -> bool:
    """Whether two JSON values are equal to the letter, but for the order of keys.

    Python takes ``1``, ``1.0`` and ``true`` for the same. Values that were read by a model are never too deep for this.
    """
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def size(value: Mapping[str, Any]) -> int:
    """How many bytes a value takes as JSON in UTF-8 without spaces; half of a surrogate pair counts as three."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return len(text.encode("utf-8", "surrogatepass"))


def _bounded(value: dict[str, Any]) -> dict[str, Any]:
    if deeper_than(DEPTH_LIMIT, value):
        raise PydanticCustomError("recursion_depth_exceeded", "is nested too deeply")
    return value


_Object = Annotated[dict[str, Any], Field(max_length=KEYS_LIMIT), AfterValidator(_bounded)]
_ANY: Final = {"x-kubernetes-preserve-unknown-fields": True, "nullable": True}

# CEL can ask whether it is there.
FreeObject = Annotated[
    _Object,
    WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True, "maxProperties": KEYS_LIMIT}),
]
# CEL cannot see it, but `==` on what holds it compares it whole. Of a `FreeObject` it misses a key that was replaced by
# another one: the API server skips keys that it finds on one side only, as long as both have equally many (1.36).
ComparedObject = Annotated[
    _Object, WithJsonSchema({"type": "object", "additionalProperties": _ANY, "maxProperties": KEYS_LIMIT})
]
