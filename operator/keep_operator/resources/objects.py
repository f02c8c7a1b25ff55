"""One object as the operator keeps it: the spec parsed once, the rest cut down to what a reconcile reads."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, Generic, Protocol, TypeVar

from keep_operator.resources.kinds import GROUP, Key
from keep_operator.resources.shapes import TOKEN_LIMIT, Invalid, Violation

S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)

CONFIRM_DELETION: Final = f"{GROUP}/confirm-deletion"
RECONCILE_REQUESTED_AT: Final = f"{GROUP}/reconcile-requested-at"
KEPT_ANNOTATIONS: Final = frozenset({CONFIRM_DELETION, RECONCILE_REQUESTED_AT})
NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Object(Generic[S]):
    """A snapshot of one object at ``resource_version``; never edited, always replaced.

    ``spec`` is an ``Invalid`` (every fault with its path) where the server let something through that
    the schema forbids. ``status`` is the raw JSON, ``owners`` the raw owner references. Of the annotations only
    those that the operator reads are kept.
    """

    key: Key
    uid: str
    resource_version: str
    generation: int
    created_at: datetime
    deleting: bool
    finalizers: tuple[str, ...]
    owners: tuple[Mapping[str, Any], ...]
    annotations: Mapping[str, str]
    spec: S | Invalid
    status: Mapping[str, Any]

    @property
    def ready(self) -> bool:
        """True when the status says Ready for the spec as it is now (semantics, section 1)."""
        return self.status.get("observedGeneration") == self.generation and self.condition("Ready") == "True"

    def condition(self, kind: str) -> str | None:
        """The status (``True``, ``False``, ``Unknown``) of one condition, None where it is absent."""
        for condition in self.status.get("conditions") or ():
            if condition.get("type") == kind:
                status: str | None = condition.get("status")
                return status
        return None


class Reader(Protocol[S_co]):
    """What reads the specs of one kind: `resources.tenant`, `resources.provider`."""

    def parse_spec(self, raw: Mapping[str, Any]) -> S_co | Invalid:
        """The spec, or every fault of its shape."""

    def violations(self, spec: Any, name: str) -> tuple[Violation, ...]:
        """Every rule that the spec breaks."""


def parse(kind: str, raw: Mapping[str, Any], reader: Reader[S]) -> Object[S]:
    """The snapshot of a raw object as the API server sends it; raises KeyError where metadata is not an object's.

    The rules that CEL states are checked here again: the object may be older than a rule, or the server older than CEL.
    """
    metadata = raw["metadata"]
    annotations = metadata.get("annotations") or {}
    spec = reader.parse_spec(raw.get("spec") or {})
    if not isinstance(spec, Invalid) and (broken := reader.violations(spec, metadata["name"])):
        spec = Invalid(broken)
    return Object(
        key=Key(kind, metadata.get("namespace") or "", metadata["name"]),
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        generation=metadata.get("generation", 0),
        created_at=datetime.fromisoformat(metadata["creationTimestamp"]),
        deleting="deletionTimestamp" in metadata,
        finalizers=tuple(metadata.get("finalizers") or ()),
        owners=tuple(metadata.get("ownerReferences") or ()),
        annotations={key: value[:TOKEN_LIMIT] for key, value in annotations.items() if key in KEPT_ANNOTATIONS}
        or NOTHING,
        spec=spec,
        status=raw.get("status") or NOTHING,
    )
