"""One object as the operator keeps it: the spec parsed once, the rest cut down to what a reconcile reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, Generic, Protocol, TypeVar

from keep_operator.resources import provenance
from keep_operator.resources.kinds import GROUP, WORKFLOW_DECISIONS, WORKFLOW_RUNS, WORKFLOWS, Key
from keep_operator.resources.shapes import TOKEN_LIMIT, Invalid, Violation

S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)

CONFIRM_DELETION: Final = f"{GROUP}/confirm-deletion"
FORCE_DELETE: Final = f"{GROUP}/force-delete"
RECONCILE_REQUESTED_AT: Final = f"{GROUP}/reconcile-requested-at"
CHANGE_NOTE: Final = f"{GROUP}/change-note"
AUTHOR: Final = f"{GROUP}/author"
IMPORTANT: Final = f"{GROUP}/important"
NO_COLLECTION: Final = f"{GROUP}/no-gc"
ROLLBACK_TO: Final = f"{GROUP}/rollback-to"
KEPT_ANNOTATIONS: Final = frozenset(
    {CONFIRM_DELETION, FORCE_DELETE, RECONCILE_REQUESTED_AT, CHANGE_NOTE, AUTHOR, IMPORTANT, NO_COLLECTION, ROLLBACK_TO}
)
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
_HAVE_SOURCE: Final = (WORKFLOWS.kind, WORKFLOW_RUNS.kind, WORKFLOW_DECISIONS.kind)
# Of these the labels of backup tools are looked for, whichever they are.
_KEEP_ALL_LABELS: Final = (WORKFLOW_RUNS.kind,)
NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Object(Generic[S]):
    """A snapshot of one object at ``resource_version``; never edited, always replaced.

    ``spec`` is an ``Invalid`` (every fault with its path) where the server let something through that
    the schema forbids. ``status`` is the raw JSON, ``owners`` the raw owner references. Of annotations and labels only
    those that the operator reads are kept, of a WorkflowRun all labels. ``source`` tells of Workflows, runs
    and decisions which tool they come from, ``in_argo_cd`` of every object whether Argo CD tracks it.
    """

    key: Key
    uid: str
    resource_version: str
    generation: int
    created_at: datetime
    deleted_at: datetime | None
    finalizers: tuple[str, ...]
    owners: tuple[Mapping[str, Any], ...]
    annotations: Mapping[str, str]
    spec: S | Invalid
    status: Mapping[str, Any]
    labels: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    source: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    in_argo_cd: bool = False

    @property
    def deleting(self) -> bool:
        """Whether it is on its way out, held by its finalizers only."""
        return self.deleted_at is not None

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


def version(kind: str, raw: Mapping[str, Any]) -> tuple[Key, str, str]:
    """Which object at which version this is: key, uid, resourceVersion; raises KeyError as `parse` does."""
    metadata = raw["metadata"]
    key = Key(kind, metadata.get("namespace") or "", metadata["name"])
    return key, metadata["uid"], metadata["resourceVersion"]


def parse(kind: str, raw: Mapping[str, Any], reader: Reader[S], *, known: Object[S] | None = None) -> Object[S]:
    """The snapshot of a raw object as the API server sends it; raises KeyError where metadata is not an object's.

    ``known`` is an earlier snapshot: its spec is taken over where object and generation are the same, since the server
    raises the generation with each change of the spec, and reading one costs more than all the rest.
    """
    metadata = raw["metadata"]
    key, uid, resource_version = version(kind, raw)
    annotations = metadata.get("annotations") or {}
    generation = metadata.get("generation", 0)
    same = known is not None and generation > 0 and (known.uid, known.generation) == (uid, generation)
    return Object(
        key=key,
        uid=uid,
        resource_version=resource_version,
        generation=generation,
        created_at=datetime.fromisoformat(metadata["creationTimestamp"]),
        deleted_at=datetime.fromisoformat(deleted) if (deleted := metadata.get("deletionTimestamp")) else None,
        finalizers=tuple(metadata.get("finalizers") or ()),
        owners=tuple(metadata.get("ownerReferences") or ()),
        annotations={key: value[:TOKEN_LIMIT] for key, value in annotations.items() if key in KEPT_ANNOTATIONS}
        or NOTHING,
        spec=known.spec if same and known is not None else _spec(raw, reader),
        status=raw.get("status") or NOTHING,
        labels={key: value for key, value in (metadata.get("labels") or {}).items() if _is_kept(kind, key)} or NOTHING,
        source=provenance.of(metadata) if kind in _HAVE_SOURCE else NOTHING,
        in_argo_cd=provenance.in_argo_cd(metadata),
    )


def _is_kept(kind: str, label: str) -> bool:
    return kind in _KEEP_ALL_LABELS or label == MANAGED_BY or label.partition("/")[0].endswith(GROUP)


def _spec(raw: Mapping[str, Any], reader: Reader[S]) -> S | Invalid:
    """The spec, or every fault of it.

    The rules that CEL states are checked here again: the object may be older than a rule, or the server older than CEL.
    """
    spec = reader.parse_spec(raw.get("spec") or {})
    if not isinstance(spec, Invalid) and (broken := reader.violations(spec, raw["metadata"]["name"])):
        return Invalid(broken)
    return spec
