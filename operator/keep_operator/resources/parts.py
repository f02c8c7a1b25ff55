"""Parts that several kinds share: references, selectors, conditions, and what a tenant sets for its workflows.

Docstrings and descriptions here are what ``kubectl explain`` shows: they speak to users.
"""

from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import AfterValidator, Field

from keep_operator.resources.rules import ChangeRule, Rule, Ruled
from keep_operator.resources.shapes import (
    LABEL_KEY,
    LABEL_VALUE,
    Count,
    DataKey,
    DnsLabel,
    Duration,
    Items,
    ObjectName,
    Shape,
    StatusShape,
    Timestamp,
    UserName,
    as_map,
    as_set,
    distinct_by,
    distinct_entries,
)

# References are replaced as a whole, so that two appliers cannot make one of two halves.
ATOMIC: Final[dict[str, Any]] = {"x-kubernetes-map-type": "atomic"}


class TenantRef(Shape):
    """The Tenant that this object belongs to."""

    name: ObjectName = Field(description="Name of the Tenant object. The object may be applied before its Tenant.")


def tenant_stays(kind: str) -> ChangeRule:
    """The rule on the spec of a kind that belongs to a Tenant: to the one that it named first."""
    return ChangeRule(
        "!has(oldSelf.tenantRef) || (has(self.tenantRef) && self.tenantRef.name == oldSelf.tenantRef.name)",
        f"tenantRef may be added, but neither changed nor removed; make another {kind} instead",
        lambda old, new: old.tenant_ref is None or old.tenant_ref == new.tenant_ref,
        field="tenantRef",
        reason="FieldValueForbidden",
    )


class WorkflowRef(Shape):
    """The Workflow that this object is about."""

    name: ObjectName = Field(description="Name of the Workflow, in the same namespace.")


class SecretKeyRef(Shape):
    """One key of a Secret in the same namespace."""

    name: ObjectName = Field(description="Name of the Secret.")
    key: DataKey = Field(description="Key in the Secret's data.")


class SecretSource(Shape):
    """Where a secret value comes from."""

    secret_key_ref: SecretKeyRef = Field(
        description="One key of a Secret in the same namespace. It is waited for, and its changes are followed.",
        json_schema_extra=ATOMIC,
    )


class NamespacedSecretKeyRef(Shape):
    """One key of a Secret in any namespace."""

    namespace: DnsLabel = Field(description="Namespace of the Secret.")
    name: ObjectName = Field(description="Name of the Secret.")
    key: DataKey = Field(description="Key in the Secret's data.")


class LabelRequirement(Ruled):
    """One condition on one label; all conditions of a selector must hold."""

    key: Annotated[str, Field(min_length=1, max_length=317, pattern=LABEL_KEY)] = Field(
        description="The label's key, with its prefix if it has one."
    )
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(
        description="How the label's value relates to `values`. `Exists` and `DoesNotExist` look at the key alone."
    )
    values: Items[Annotated[str, Field(max_length=63, pattern=LABEL_VALUE)]] = Field(
        default=(),
        max_length=64,
        description="The values that `In` and `NotIn` compare with. Must be empty for the other operators.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
            "values are needed with In and NotIn, and not allowed with Exists and DoesNotExist",
            lambda self: (self.operator in ("In", "NotIn")) == bool(self.values),
            field="values",
        ),
    )


class LabelSelector(Shape):
    """Selects by labels, as everywhere in Kubernetes: all parts must hold; an empty selector selects everything."""

    match_labels: dict[str, Annotated[str, Field(max_length=63, pattern=LABEL_VALUE)]] = Field(
        default_factory=dict, max_length=64, description="Labels that must be there with exactly these values."
    )
    match_expressions: Items[LabelRequirement] = Field(
        default=(),
        max_length=32,
        description="Conditions on labels beyond equality.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )


class Approvers(Shape):
    """Who may approve. With both lists empty, everyone whose RBAC rights allow it."""

    users: Annotated[Items[UserName], AfterValidator(distinct_entries())] = Field(
        default=(), max_length=64, description="User names as Kubernetes knows them.", json_schema_extra=as_set()
    )
    groups: Annotated[Items[UserName], AfterValidator(distinct_entries())] = Field(
        default=(), max_length=64, description="Group names as Kubernetes knows them.", json_schema_extra=as_set()
    )


class Approval(Shape):
    """Which new versions of a workflow need the approval of peers, and whose. An unset field says nothing."""

    required: Literal["Never", "ImportantOnly", "Always"] | None = Field(
        default=None,
        description="Which versions need approval: none, those that are marked or found important, or all of them.",
    )
    min_approvals: int | None = Field(default=None, ge=1, le=10, description="How many different people must approve.")
    approvers: Approvers | None = Field(default=None, description="Whose approval counts.")
    forbid_self_approval: bool | None = Field(
        default=None, description="When true, the approval of a version's author does not count."
    )
    carry_over: bool | None = Field(
        default=None,
        description="When true, a version with the content of one that was approved before needs no new approval.",
    )
    important_paths: (
        Annotated[
            Items[Annotated[str, Field(min_length=1, max_length=253)]],
            Field(max_length=32),
            AfterValidator(distinct_entries()),
        ]
        | None
    ) = Field(
        default=None,
        description="Paths in the definition, such as `actions`. A change below one of them makes a version important.",
        json_schema_extra=as_set(),
    )


class ChecklistItem(Shape):
    """One thing to be done or found true before a version is deployed."""

    id: str = Field(min_length=1, max_length=63, description="Short name of the item, unique in the list.")
    title: str = Field(min_length=1, max_length=253, description="What is to be done or checked, in a few words.")
    required: bool = Field(default=True, description="When false, the item is shown but does not hold a version back.")
    auto: str | None = Field(
        default=None,
        min_length=1,
        max_length=1024,
        description="A CEL expression over the version, its difference and its runs that ticks the item by itself. "
        "Unset: a person ticks it.",
    )


Checklist = Annotated[Items[ChecklistItem], AfterValidator(distinct_by("id"))]
CHECKLIST_LIMIT: Final = 32


class Retention(Shape):
    """When versions that nobody needs any more are cleaned up. An unset field says nothing."""

    since_create: Duration | None = Field(
        default=None, description="A version is kept at least this long after it was made, such as `48h`."
    )
    since_last_active: Duration | None = Field(
        default=None, description="A version is kept at least this long after it was last active, such as `15h`."
    )
    max: int | None = Field(
        default=None, ge=1, le=10_000, description="Above this number of versions the two times are not waited for."
    )


class Condition(StatusShape):
    """One aspect of the object's state."""

    type: str = Field(
        min_length=1,
        max_length=316,
        pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
        description="Name of the condition, such as `Ready`.",
    )
    status: Literal["True", "False", "Unknown"] = Field(
        description="Whether the condition holds. `Unknown` waits for something; `False` does not heal by waiting."
    )
    reason: str = Field(
        min_length=1,
        max_length=1024,
        pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
        description="Why, as one word. The operations page explains every reason and what to do.",
    )
    message: str = Field(max_length=32_768, description="Why, as a sentence for people.")
    last_transition_time: Timestamp = Field(description="Since when the condition has had this status.")
    observed_generation: int | None = Field(
        default=None, ge=0, description="The object's generation that the condition speaks about."
    )


Conditions = Annotated[Items[Condition], AfterValidator(distinct_by("type"))]
CONDITIONS: Any = Field(
    default=(),
    max_length=16,
    description="The state of the object, one condition for each aspect; `Ready` sums up the others.",
    json_schema_extra=as_map("type"),
)


class Counts(StatusShape):
    """How many objects there are, and how many of them are Ready."""

    total: Count = Field(description="How many there are.")
    ready: Count = Field(description="How many of them are Ready.")
