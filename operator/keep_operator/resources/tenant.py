"""The Tenant as users write and read it: spec, status, and its rules as CEL and in Python.

Docstrings and descriptions of the models are what ``kubectl explain`` shows.
"""

import re
from collections.abc import Mapping
from ipaddress import ip_network
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from keep_operator.resources import rules, shapes
from keep_operator.resources.parts import (
    ATOMIC,
    CHECKLIST_LIMIT,
    CONDITIONS,
    Approval,
    Checklist,
    Conditions,
    Counts,
    LabelSelector,
    NamespacedSecretKeyRef,
    Retention,
)
from keep_operator.resources.rules import ChangeRule, Named, Rule, Ruled
from keep_operator.resources.shapes import (
    DNS_LABEL,
    NO_CONTROL_CHARACTERS,
    AdoptionPolicy,
    DeletionPolicy,
    DnsLabel,
    DriftPolicy,
    Invalid,
    Items,
    Runtime,
    Shape,
    StatusShape,
    UserName,
    Violation,
    as_map,
    as_set,
    distinct_by,
    distinct_entries,
)


class AllowedNamespaces(Ruled):
    """Which namespaces may hold Providers and Workflows of this tenant: exactly one of the three ways to say it."""

    names: Annotated[Items[DnsLabel], Field(max_length=256), AfterValidator(distinct_entries())] | None = Field(
        default=None, description="The namespaces by name.", json_schema_extra=as_set()
    )
    selector: LabelSelector | None = Field(
        default=None,
        description="The namespaces by their labels. An empty selector selects all.",
        json_schema_extra=ATOMIC,
    )
    all: Literal[True] | None = Field(default=None, description="`true`: every namespace of the cluster.")

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "[has(self.names), has(self.selector), has(self.all)].exists_one(x, x)",
            "exactly one of names, selector and all must be given",
            lambda self: [self.names, self.selector, self.all].count(None) == 2,
        ),
    )


class WorkflowDefaults(Shape):
    """What holds for Workflows of this tenant that do not say it themselves."""

    approval: Approval | None = Field(default=None, description="Approval of new versions.")
    retention: Retention | None = Field(default=None, description="Cleaning up of old versions.")


class TenantPolicy(Shape):
    """What Workflows of this tenant cannot go below, and whom the tenant trusts."""

    approval_floor: Approval | None = Field(
        default=None,
        description="The least approval that every Workflow of the tenant needs. A Workflow may only ask for more.",
    )
    checklist_floor: Checklist = Field(
        default=(),
        max_length=CHECKLIST_LIMIT,
        description="Items that stand on the release checklist of every Workflow of the tenant.",
        json_schema_extra=as_map("id"),
    )
    trusted_authors: Annotated[Items[UserName], AfterValidator(distinct_entries())] = Field(
        default=(),
        max_length=32,
        description="Kubernetes users, such as a GitOps tool's service account, that are believed when they name "
        "somebody else as the author of a change or of a decision.",
        json_schema_extra=as_set(),
    )


class IngestToken(Shape):
    """A bearer token with which a machine may post events to this tenant."""

    secret_ref: NamespacedSecretKeyRef = Field(
        description="The Secret's key that holds the token.", json_schema_extra=ATOMIC
    )


# A name as resolvers take it; a number alone at its end would be an address.
_HOST: Final = re.compile(
    r"(\*\.)?([a-z0-9_]([-a-z0-9_]*[a-z0-9_])?\.)*[a-z_]([-a-z0-9_]*[a-z0-9_])?\.?", re.IGNORECASE
)


def _place(entry: str) -> str:
    """Only networks, and names of hosts: a slip of the pen would open nothing, and say nothing."""
    try:
        ip_network(entry, strict=False)
    except ValueError:
        if _HOST.fullmatch(entry) is None:
            fault = "must be an address, a network such as 10.0.0.0/8, or the name of a host without a port"
            raise PydanticCustomError("place", "{fault}", {"fault": fault}) from None
    return entry


class Egress(Shape):
    """Where the steps of this tenant's workflows may connect to."""

    allow: Annotated[
        Items[
            Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-.:*_/0-9A-Za-z]+$"), AfterValidator(_place)]
        ],
        AfterValidator(distinct_entries()),
    ] = Field(
        default=(),
        max_length=64,
        description="Addresses, networks as CIDR, or host names; `*.example.com` stands for all names below. Loopback, "
        "link-local and cloud metadata addresses are refused unless they are listed here.",
        json_schema_extra=as_set(),
    )


class KeepApiKey(Shape):
    """An API key that Keep accepts for this tenant."""

    name: DnsLabel = Field(description="Name of the key, unique in the tenant; Keep shows it in its settings.")
    secret_ref: NamespacedSecretKeyRef = Field(
        description="The Secret's key that holds the API key.", json_schema_extra=ATOMIC
    )


class KeepTarget(Shape):
    """The running Keep that this tenant is published into."""

    connection_secret_ref: NamespacedSecretKeyRef = Field(
        description="The Secret's key that holds the URL of Keep's PostgreSQL, `postgresql://...`.",
        json_schema_extra=ATOMIC,
    )
    secret_manager: Literal["K8S", "DB", "File"] = Field(
        description="Where Keep keeps its secrets: Kubernetes Secrets, its database, or files. "
        "Must be what Keep itself was started with."
    )
    api_keys: Annotated[Items[KeepApiKey], AfterValidator(distinct_by("name"))] = Field(
        default=(),
        max_length=16,
        description="API keys that Keep accepts for this tenant.",
        json_schema_extra=as_map("name"),
    )


class TenantSpec(Shape):
    """What the tenant shall be."""

    tenant_id: DnsLabel | None = Field(
        default=None,
        description="The tenant's id in the database. Unset: the name of the object. Once the object exists the id "
        "in effect cannot change.",
    )
    display_name: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        pattern=NO_CONTROL_CHARACTERS,
        description="The tenant's name for people. Unset: the tenant's id.",
    )
    runtime: Runtime | None = Field(
        default=None,
        description="What runs the workflows of this tenant: `builtin`, the operator's own engine, or `keep`, a "
        "running Keep. Unset: the operator's setting.",
    )
    allowed_namespaces: AllowedNamespaces | None = Field(
        default=None,
        description="Which namespaces may hold Providers and Workflows of this tenant. Unset: all namespaces for the "
        "default tenant, none for any other.",
    )
    defaults: WorkflowDefaults | None = Field(
        default=None, description="What holds for Workflows of this tenant that do not say it themselves."
    )
    policy: TenantPolicy | None = Field(
        default=None, description="What Workflows of this tenant cannot go below, and whom the tenant trusts."
    )
    ingest_tokens: Items[IngestToken] = Field(
        default=(),
        max_length=8,
        description="Bearer tokens of machines that post events to this tenant. Several, so that one can be replaced "
        "while the other still works.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    egress: Egress | None = Field(
        default=None, description="Where the steps of this tenant's workflows may connect to."
    )
    keep: KeepTarget | None = Field(
        default=None,
        description="The running Keep that this tenant is published into. Allowed only with runtime `keep`.",
    )
    deletion_policy: DeletionPolicy = Field(
        default="Orphan",
        description="What happens to the tenant's record in the database when this object is deleted: `Orphan` leaves "
        "it without an owner, `Delete` removes it. Providers and Workflows follow their own policy.",
    )
    adoption_policy: AdoptionPolicy | None = Field(
        default=None,
        description="What to do when the database already has a tenant with this id: `Never` refuses it, `IfUnowned` "
        "takes over a record that no object owns, `Force` takes over any. Unset: `IfUnowned` for the default tenant, "
        "`Never` for any other.",
    )
    drift_policy: DriftPolicy = Field(
        default="Correct",
        description="What to do when somebody else changed the record: `Correct` writes the declared state again, "
        "`Report` only says so in the conditions.",
    )
    suspend: bool = Field(
        default=False, description="When true, nothing is written for this object. Deletion is still honoured."
    )


class TenantStatus(StatusShape):
    """What the tenant is; written by the operator alone."""

    observed_generation: int | None = Field(default=None, ge=0, description="The generation that this status is about.")
    conditions: Conditions = CONDITIONS
    tenant_id: Annotated[str, Field(max_length=63)] | None = Field(
        default=None, description="The tenant's id in the database."
    )
    runtime: Runtime | None = Field(default=None, description="What runs the workflows of this tenant.")
    adopted: bool | None = Field(
        default=None, description="True when the record existed before this object and was taken over."
    )
    providers: Counts | None = Field(default=None, description="The Providers of this tenant.")
    workflows: Counts | None = Field(default=None, description="The Workflows of this tenant.")
    last_handled_reconcile_at: Annotated[str, Field(max_length=shapes.TOKEN_LIMIT)] | None = Field(
        default=None, description="The last token of annotation keep-operator.dev/reconcile-requested-at acted upon."
    )


def effective_id(spec: TenantSpec, name: str) -> str:
    """The tenant's id in the database: ``tenantId``, or the object's name."""
    return name if spec.tenant_id is None else spec.tenant_id


OBJECT_RULES: Final = (
    Rule(
        f"has(self.spec.tenantId) || self.metadata.name.matches('{DNS_LABEL}')",
        "tenantId is needed here: without it the name of the object is the tenant's id, and this name is not a DNS "
        "label (at most 63 of a-z, 0-9 and '-', no dot)",
        lambda self: self.spec.tenant_id is not None or re.fullmatch(DNS_LABEL[1:-1], self.name) is not None,
        field="spec.tenantId",
        reason="FieldValueRequired",
    ),
)
OBJECT_CHANGE_RULES: Final = (
    ChangeRule(
        "(has(self.spec.tenantId) ? self.spec.tenantId : self.metadata.name) == "
        "(has(oldSelf.spec.tenantId) ? oldSelf.spec.tenantId : oldSelf.metadata.name)",
        "the tenant's id in effect cannot change; make another Tenant instead",
        lambda old, new: effective_id(old.spec, old.name) == effective_id(new.spec, new.name),
        field="spec.tenantId",
        reason="FieldValueForbidden",
    ),
)


def parse_spec(raw: Mapping[str, Any]) -> TenantSpec | Invalid:
    """The spec as the API server sends it, or every fault of its shape."""
    return shapes.parse(TenantSpec, raw)


def violations(spec: TenantSpec, name: str) -> tuple[Violation, ...]:
    """Every rule that the spec of the Tenant ``name`` breaks; empty on servers that check CEL themselves."""
    return (
        *rules.broken(OBJECT_RULES, Named(name, spec), ""),
        *rules.broken_within(spec, "spec"),
    )


def forbidden_changes(old: TenantSpec, new: TenantSpec, name: str) -> tuple[Violation, ...]:
    """Every rule that the change of the Tenant ``name`` from ``old`` to ``new`` breaks."""
    return tuple(rules.broken_by_change(OBJECT_CHANGE_RULES, Named(name, old), Named(name, new), ""))
