"""What makes a revision of a workflow: the behaviour of its definition, and the hash of it.

Two definitions have one hash if and only if they behave alike. What people merely read (name, description, ...) and what
stops triggers (``disabled``) is not hashed: it comes from the current spec, outside of revisions (A-REV-12).
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import rfc8785

from keep_operator.domain.grammar import faults, values

# The version of the list below that new revisions are hashed with. A change of the list is a new version; hashes of
# older revisions stay what they are, and are computed by their own.
HASH_VERSION: Final = 1
PRESENTATIONAL: Final[Mapping[int, tuple[str, ...]]] = {
    1: ("id", "name", "description", "disabled", "debug", "owners", "services", "tags"),
}


class Unhashable(ValueError):
    """The definition is no JSON that everybody reads alike; the message tells all that is wrong with it."""


def behaviour(definition: Mapping[str, Any], hash_version: int = HASH_VERSION) -> dict[str, Any]:
    """What of a definition is hashed and becomes the revision's content."""
    return {key: value for key, value in definition.items() if key not in PRESENTATIONAL[hash_version]}


def presentation(definition: Mapping[str, Any], hash_version: int = HASH_VERSION) -> dict[str, Any]:
    """The rest: what of a definition is not hashed."""
    return {key: value for key, value in definition.items() if key in PRESENTATIONAL[hash_version]}


def published(content: Mapping[str, Any], current: Mapping[str, Any]) -> dict[str, Any]:
    """A revision's content as it runs and is shown: with the presentational keys of the current definition."""
    return {**presentation(current), **behaviour(content)}


def canonical(value: object) -> bytes:
    """RFC 8785: the one JSON text of a value, whatever the order of its keys and the spelling of its numbers.

    Raises Unhashable for what JSON cannot hold (NaN, half surrogate pairs), for numbers that lose digits, and for what is
    nested or filled without end.
    """
    wrong = [f"{path}: {message}" if path else message for path, message, reason in values.check(value) if reason]
    if wrong:
        raise Unhashable(faults.cut(wrong))
    return rfc8785.dumps(value)  # type: ignore[arg-type]


def content_hash(definition: Mapping[str, Any], hash_version: int = HASH_VERSION) -> str:
    """SHA-256 of the canonical behaviour, 64 hexadecimal digits. Raises Unhashable; KeyError for an unknown version."""
    return hashlib.sha256(canonical(behaviour(definition, hash_version))).hexdigest()
