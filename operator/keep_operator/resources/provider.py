"""The Provider as users write and read it: spec, status, and its rules as CEL and in Python.

Docstrings and descriptions of the models are what ``kubectl explain`` shows.
"""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, Field, JsonValue

from keep_operator.resources import rules, shapes
from keep_operator.resources.parts import CONDITIONS, Conditions, SecretSource, TenantRef, tenant_stays
from keep_operator.resources.rules import ChangeRule, Named, Rule, Ruled
from keep_operator.resources.shapes import (
    DNS_LABEL,
    DURATION,
    AdoptionPolicy,
    DeletionPolicy,
    DriftPolicy,
    Duration,
    Invalid,
    Items,
    Shape,
    StatusShape,
    Violation,
    as_map,
    distinct_by,
)

# No dot: `{{ providers.<name> }}` is split on dots.
EXTERNAL_NAME: Final = r"^[A-Za-z0-9]([-A-Za-z0-9_]{0,61}[A-Za-z0-9])?$"
# Below this the resync of a few thousand objects would be the operator's whole work.
SHORTEST_RESYNC: Final = timedelta(seconds=30)


class SecretEntry(Shape):
    """One credential of the provider, taken from a Secret."""

    key: str = Field(
        min_length=1,
        max_length=253,
        description="Name of the provider's field that the value is for, such as `BasicAuthPassword`.",
    )
    value_from: SecretSource = Field(description="Where the value comes from. It is never written into this object.")


class ProviderSpec(Ruled):
    """What the provider shall be."""

    tenant_ref: TenantRef | None = Field(
        default=None,
        description="The Tenant that the provider belongs to. Unset: the default tenant. It may be added once, but "
        "neither changed nor removed.",
    )
    type: str = Field(
        max_length=63,
        pattern=r"^[a-z0-9_]+$",
        description="What kind of system this connects to, such as `victoriametrics` or `slack`. Cannot be changed.",
    )
    external_name: str | None = Field(
        default=None,
        max_length=63,
        pattern=EXTERNAL_NAME,
        description="The provider's name in the database and in workflows, `{{ providers.<name> }}`. Unset: the name "
        "of the object. Changing it renames the provider and keeps its id.",
    )
    config: dict[str, JsonValue] | None = Field(
        default=None,
        max_length=64,
        description="The provider's settings that are not secret, by field. What stands here replaces what the record "
        "had.",
    )
    secrets: Annotated[Items[SecretEntry], AfterValidator(distinct_by("key"))] = Field(
        default=(),
        max_length=64,
        description="The provider's credentials, each one key of a Secret in the same namespace. The values are never "
        "written into this object.",
        json_schema_extra=as_map("key"),
    )
    pulling_enabled: bool | None = Field(
        default=None, description="Whether alerts are pulled from the provider. Unset: left as it is."
    )
    resync_period: Duration | None = Field(
        default=None,
        description="How often a Ready provider is compared with the database, such as `10m`; at least `30s`. Unset: "
        "the operator's setting.",
    )
    progress_deadline_seconds: int = Field(
        default=600,
        ge=30,
        le=86_400,
        description="After this time of waiting for its Tenant or Secrets, `Ready` turns from Unknown to False. "
        "The provider still goes on by itself when they appear.",
    )
    deletion_policy: DeletionPolicy = Field(
        default="Delete",
        description="What happens to the provider's record in the database when this object is deleted: `Delete` "
        "removes it with its credentials, `Orphan` leaves it without an owner.",
    )
    adoption_policy: AdoptionPolicy = Field(
        default="Never",
        description="What to do when the database already has a provider of this name: `Never` refuses it, "
        "`IfUnowned` takes over a record that no object owns, `Force` takes over any.",
    )
    drift_policy: DriftPolicy = Field(
        default="Correct",
        description="What to do when somebody else changed the record: `Correct` writes the declared state again, "
        "`Report` only says so in the conditions.",
    )
    suspend: bool = Field(
        default=False, description="When true, nothing is written for this object. Deletion is still honoured."
    )

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"!self.matches(r'{DURATION}') || duration(self) >= duration('30s')",  # the pattern has its own message
            "resyncPeriod must be at least 30s",
            lambda self: self >= SHORTEST_RESYNC,
            on="resyncPeriod",
        ),
    )
    change_rules: ClassVar[tuple[ChangeRule, ...]] = (
        ChangeRule(
            "self.type == oldSelf.type",
            "type cannot be changed; make another Provider instead",
            lambda old, new: old.type == new.type,
            field="type",
            reason="FieldValueForbidden",
        ),
        tenant_stays("Provider"),
    )


class SecretVersion(StatusShape):
    """A Secret in the version that the credentials were last read from."""

    name: Annotated[str, Field(max_length=253)] = Field(description="Name of the Secret.")
    resource_version: Annotated[str, Field(max_length=63)] = Field(description="The version that was read.")


class ProviderStatus(StatusShape):
    """What the provider is; written by the operator alone."""

    observed_generation: int | None = Field(default=None, ge=0, description="The generation that this status is about.")
    conditions: Conditions = CONDITIONS
    provider_id: Annotated[str, Field(max_length=63)] | None = Field(
        default=None, description="The provider's id in the database. It outlives renames."
    )
    external_name: Annotated[str, Field(max_length=63)] | None = Field(
        default=None, description="The provider's name in effect. A difference from the spec is a rename under way."
    )
    tenant_id: Annotated[str, Field(max_length=63)] | None = Field(
        default=None, description="Id of the tenant that the provider belongs to."
    )
    config_hash: Annotated[str, Field(max_length=128)] | None = Field(
        default=None,
        description="A keyed hash of settings and credentials: it changes when they do, and tells nothing else.",
    )
    secret_versions: Annotated[Items[SecretVersion], AfterValidator(distinct_by("name"))] = Field(
        default=(),
        max_length=64,
        description="The Secrets in use, each in the version that was last read.",
        json_schema_extra=as_map("name"),
    )
    last_handled_reconcile_at: Annotated[str, Field(max_length=shapes.TOKEN_LIMIT)] | None = Field(
        default=None, description="The last token of annotation keep-operator.dev/reconcile-requested-at acted upon."
    )


OBJECT_RULES: Final = (
    Rule(
        f"has(self.spec.externalName) || self.metadata.name.matches('{DNS_LABEL}')",
        "externalName is needed here: without it the name of the object is the provider's name, and this name is not "
        "a DNS label (at most 63 of a-z, 0-9 and '-', no dot)",
        lambda self: self.spec.external_name is not None or re.fullmatch(DNS_LABEL[1:-1], self.name) is not None,
        field="spec.externalName",
        reason="FieldValueRequired",
    ),
)


def effective_name(spec: ProviderSpec, name: str) -> str:
    """The provider's name in the database and in workflows: ``externalName``, or the object's name."""
    return name if spec.external_name is None else spec.external_name


def parse_spec(raw: Mapping[str, Any]) -> ProviderSpec | Invalid:
    """The spec as the API server sends it, or every fault of its shape."""
    return shapes.parse(ProviderSpec, raw)


def violations(spec: ProviderSpec, name: str) -> tuple[Violation, ...]:
    """Every rule that the spec of the Provider ``name`` breaks; empty on servers that check CEL themselves."""
    return (
        *rules.broken(OBJECT_RULES, Named(name, spec), ""),
        *rules.broken_within(spec, "spec"),
    )


def forbidden_changes(old: ProviderSpec, new: ProviderSpec) -> tuple[Violation, ...]:
    """Every rule that the change from ``old`` to ``new`` breaks."""
    return tuple(rules.broken_by_change(ProviderSpec.change_rules, old, new, "spec"))


def config_violations(spec: ProviderSpec) -> tuple[Violation, ...]:
    """What is wrong with ``config`` whatever the provider's type; CEL cannot see free values.

    A key both in ``config`` and in ``secrets``, and text that PostgreSQL cannot store.
    """
    config = spec.config or {}
    twice = {entry.key for entry in spec.secrets} & config.keys()
    return tuple(
        Violation(
            shapes.join_key("spec.config", key),
            "is also in secrets; keep one of the two" if key in twice else "holds a NUL character or broken Unicode",
        )
        for key, value in config.items()
        if key in twice or not (_storable(key) and _storable(value))
    )


def _storable(value: JsonValue) -> bool:
    match value:
        case str():
            return "\x00" not in value and not any("\ud800" <= character <= "\udfff" for character in value)
        case list():
            return all(map(_storable, value))
        case dict():
            return all(_storable(key) and _storable(below) for key, below in value.items())
        case _:
            return True
