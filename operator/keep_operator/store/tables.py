"""The tables of the control database, as the newest migration leaves them.

::

    tenant 1 ──── n provider          ledger (no foreign key: it outlives what it tells of)
      │ owner_*        │ owner_*      schema_version, installation (one row each)
      ▼                ▼
    the Tenant       the Provider     objects in Kubernetes; NULL: nobody owns the row

The migrations are the truth for a database that exists, this module for the statements;
``tests/integration/store/test_schema.py`` compares the two catalogues.
"""

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSON

SCHEMA: Final = "keep_operator"
METADATA: Final = MetaData(schema=SCHEMA)

# Names of constraints are part of the contract with `failures`, which tells by them what has happened.
TENANT_OF_PROVIDER: Final = "provider_tenant_id_fkey"
NAME_OF_PROVIDER: Final = "provider_tenant_id_external_name_key"
OWNER_OF_PROVIDER: Final = "provider_owner_key"
OWNER_OF_TENANT: Final = "tenant_owner_key"
ID_OF_TENANT: Final = "tenant_lower_id_key"


def _moment(name: str) -> Column[Any]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())


def _owner_columns() -> tuple[Column[Any], ...]:
    """The marker: which object of which cluster manages the row (A-GC-1); all four or none."""
    return (
        Column("owner_cluster", Text),
        Column("owner_namespace", Text),
        Column("owner_name", Text),
        Column("owner_uid", Text),
    )


def _owner_whole(table: str) -> CheckConstraint:
    return CheckConstraint(
        "num_nonnulls(owner_cluster, owner_namespace, owner_name, owner_uid) IN (0, 4)", name=f"{table}_owner_check"
    )


TENANT: Final = Table(
    "tenant",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("display_name", Text, nullable=False),
    Column("delete_when_empty", Boolean, nullable=False, server_default=text("false")),
    *_owner_columns(),
    _moment("created_at"),
    _moment("updated_at"),
    _owner_whole("tenant"),
    # No check that the id is in lower case: a row made by other hands may be adopted as it is. What may
    # not be are two that differ in case only.
    Index(ID_OF_TENANT, text("lower(id)"), unique=True),
    Index(OWNER_OF_TENANT, "owner_cluster", "owner_uid", unique=True, postgresql_where=text("owner_uid IS NOT NULL")),
)

PROVIDER: Final = Table(
    "provider",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("tenant_id", Text, ForeignKey(TENANT.c.id, name=TENANT_OF_PROVIDER, ondelete="RESTRICT"), nullable=False),
    Column("type", Text, nullable=False),
    Column("external_name", Text, nullable=False),
    # `json`, not `jsonb`: see `documents`. The check makes sure that it could be cast at any time.
    Column("config", JSON, nullable=False),
    Column("pulling_enabled", Boolean),
    Column("config_hash", Text, nullable=False),
    *_owner_columns(),
    _moment("created_at"),
    _moment("updated_at"),
    _owner_whole("provider"),
    CheckConstraint("jsonb_typeof((config)::jsonb) = 'object'", name="provider_config_check"),
    UniqueConstraint("tenant_id", "external_name", name=NAME_OF_PROVIDER),
    Index(OWNER_OF_PROVIDER, "owner_cluster", "owner_uid", unique=True, postgresql_where=text("owner_uid IS NOT NULL")),
)

LEDGER: Final = Table(
    "ledger",
    METADATA,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    # The clock, not the transaction's start: two entries of one transaction keep their order in time.
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("tenant_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("namespace", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("uid", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("details", JSON, nullable=False),
    Index("ledger_tenant_id_id_idx", "tenant_id", "id"),
    Index("ledger_object_idx", "kind", "namespace", "name", "id"),
)


def _only_row() -> Column[Any]:
    """A primary key with one possible value: the table has at most one row."""
    return Column("single", Boolean, primary_key=True, server_default=text("true"))


INSTALLATION: Final = Table(
    "installation",
    METADATA,
    _only_row(),
    Column("cluster_id", Text, nullable=False),
    _moment("created_at"),
    # Last, where a migration adds it: the Lease's transition count of the replica that may write.
    Column("leader_epoch", BigInteger, nullable=False, server_default=text("0")),
    CheckConstraint("single", name="installation_single_check"),
)

SCHEMA_VERSION: Final = Table(
    "schema_version",
    METADATA,
    _only_row(),
    Column("revision", Text, nullable=False),
    Column("minimum_code_revision", Text, nullable=False),
    Column("migrated_by", Text, nullable=False),
    Column("migrated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    CheckConstraint("single", name="schema_version_single_check"),
)
