"""Translates whatever the driver raises into our errors; the only place that knows SQLSTATEs.

No message made here holds SQL text, a parameter, a value of a row, an address or a password: the driver's
own text may hold any of them, so it is only looked at, never passed on. Names of tables, columns and
constraints are ours and may be shown.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from sqlalchemy import exc

from keep_operator.errors import Conflict, KeepOperatorError, Refused, Unavailable, Waiting
from keep_operator.store import tables

DATABASE_UNAVAILABLE: Final = "DatabaseUnavailable"
DATABASE_UNSUPPORTED: Final = "DatabaseUnsupported"
EXTERNAL_NAME_CONFLICT: Final = "ExternalNameConflict"
INVALID_DATABASE_URL: Final = "InvalidDatabaseURL"
MIGRATION_RUNNING: Final = "MigrationRunning"
SCHEMA_MISSING: Final = "SchemaMissing"
SCHEMA_OUTDATED: Final = "SchemaOutdated"
SCHEMA_TOO_NEW: Final = "SchemaTooNew"
SPEC_REFUSED: Final = "SpecRefused"
SYNC_FAILED: Final = "SyncFailed"
TENANT_NOT_READY: Final = "TenantNotReady"

_Rule = tuple[type[KeepOperatorError], str, str]

_LOST: Final[_Rule] = (Unavailable, DATABASE_UNAVAILABLE, "the connection to the control database was lost")
_STALE: Final[_Rule] = (Conflict, SYNC_FAILED, "the record was changed by another at the same moment")

# What a foreign key or a unique constraint says is more than what its SQLSTATE says, so it is asked first.
_OF_CONSTRAINTS: Final = ("23503", "23505")
_NO_TENANT: Final[_Rule] = (
    Waiting,
    TENANT_NOT_READY,
    "the tenant has no row in the control database (any more); its Tenant must become Ready first",
)
_NAME_TAKEN: Final[_Rule] = (
    Conflict,
    EXTERNAL_NAME_CONFLICT,
    "another record of the tenant took this external name at the same moment",
)
_BY_CONSTRAINT: Final[dict[str, _Rule]] = {
    tables.TENANT_OF_PROVIDER: _NO_TENANT,
    tables.TENANT_OF_WORKFLOW: _NO_TENANT,
    tables.NAME_OF_PROVIDER: _NAME_TAKEN,
    tables.NAME_OF_WORKFLOW: _NAME_TAKEN,
    tables.HANDLED_ONCE: (Conflict, SYNC_FAILED, "the decision was handled by another at the same moment"),
}

# By whole SQLSTATE, else by its class (the first two characters).
_BY_SQLSTATE: Final[dict[str, _Rule]] = {
    "08": _LOST,
    "22": (
        Refused,
        SPEC_REFUSED,
        "a value cannot be stored in the control database: remove NUL characters and numbers without end",
    ),
    "23001": (Conflict, SYNC_FAILED, "other records still point to this one"),
    "23503": (Conflict, SYNC_FAILED, "what the record points to is not there (any more)"),
    "23505": (Conflict, SYNC_FAILED, "a record of this identity was made by another at the same moment"),
    "23514": (Refused, SPEC_REFUSED, "a value is not of the form that the control database demands"),
    "25006": (
        Unavailable,
        DATABASE_UNAVAILABLE,
        "the control database takes no writes; a standby? Point the URL at the primary",
    ),
    "25P03": _LOST,
    "25P04": _LOST,
    "28": (
        Unavailable,
        DATABASE_UNAVAILABLE,
        "the control database refused the login; check user, password and pg_hba.conf",
    ),
    "3D000": (Unavailable, DATABASE_UNAVAILABLE, "the database named in the URL does not exist; create it"),
    "3F000": (Unavailable, SCHEMA_MISSING, "schema keep_operator is missing; run `keep-operator migrate`"),
    "40001": _STALE,
    "40P01": _STALE,
    "42501": (
        Unavailable,
        SYNC_FAILED,
        "the database role lacks a privilege; grant it the schema keep_operator, and CREATE on the database",
    ),
    "42P01": (
        Unavailable,
        SCHEMA_MISSING,
        "a table of schema keep_operator is missing; run `keep-operator migrate`",
    ),
    "53": (
        Unavailable,
        DATABASE_UNAVAILABLE,
        "the control database is out of resources: connections, memory or disk; see its log",
    ),
    "54": (Refused, SPEC_REFUSED, "a value is too large or too deeply nested for the control database"),
    "55P03": (
        Unavailable,
        DATABASE_UNAVAILABLE,
        "another transaction holds the record for longer than the lock timeout",
    ),
    "57014": (Unavailable, DATABASE_UNAVAILABLE, "the control database took longer than the statement timeout"),
    "57P": (Unavailable, DATABASE_UNAVAILABLE, "the control database is starting, stopping or closed our session"),
    "58": (Unavailable, DATABASE_UNAVAILABLE, "the control database has trouble with its files; see its log"),
}

# While connecting there is no SQLSTATE, only text of libpq (English) or of the server (any language): a word that
# is found makes the message better, none found makes it general.
_BY_WORD: Final[tuple[tuple[str, _Rule], ...]] = (
    ("authentication failed", _BY_SQLSTATE["28"]),
    ("no password supplied", _BY_SQLSTATE["28"]),
    ("pg_hba.conf", _BY_SQLSTATE["28"]),
    ("too many clients", _BY_SQLSTATE["53"]),
    ("too many connections", _BY_SQLSTATE["53"]),
    ("remaining connection slots", _BY_SQLSTATE["53"]),
    ("starting up", _BY_SQLSTATE["57P"]),
    ("shutting down", _BY_SQLSTATE["57P"]),
    ("in hot standby mode", _BY_SQLSTATE["25006"]),
    ("expected authentication request", (Refused, DATABASE_UNSUPPORTED, "what answers there is not PostgreSQL")),
    ("invalid response to", (Refused, DATABASE_UNSUPPORTED, "what answers there is not PostgreSQL")),
    ("certificate", (Unavailable, DATABASE_UNAVAILABLE, "TLS with the control database failed: check certificates")),
    ("SSL", (Unavailable, DATABASE_UNAVAILABLE, "TLS with the control database failed: check sslmode")),
    ("refused", (Unavailable, DATABASE_UNAVAILABLE, "the control database refuses connections: is it running?")),
    ("name resolution", (Unavailable, DATABASE_UNAVAILABLE, "the control database's host name cannot be resolved")),
    ("Name or service", (Unavailable, DATABASE_UNAVAILABLE, "the control database's host name cannot be resolved")),
    ("resolve host", (Unavailable, DATABASE_UNAVAILABLE, "the control database's host name cannot be resolved")),
    ("timeout", (Unavailable, DATABASE_UNAVAILABLE, "the control database did not answer in time")),
    ("does not exist", _BY_SQLSTATE["3D000"]),
)


@contextmanager
def translated() -> Iterator[None]:
    """Raises our errors in place of the driver's; what is neither passes unchanged, being a bug.

    ``from None``: the driver's error holds SQL text and values, and must not be printed as the cause.
    """
    try:
        yield
    except (exc.SQLAlchemyError, psycopg.Error, UnicodeEncodeError) as error:
        failure = translate(error)
        if failure is None:
            raise
        raise failure from None


def translate(error: Exception, statement: str = "") -> KeepOperatorError | None:
    """Our error for one of SQLAlchemy, psycopg or the encoding of a parameter; None when it is a bug of ours."""
    if isinstance(error, UnicodeEncodeError):
        return _made(_BY_SQLSTATE["22"])
    driver_error = error.orig if isinstance(error, exc.DBAPIError) else error
    if not isinstance(driver_error, psycopg.Error):
        return None
    if driver_error.sqlstate is None:
        return _without_sqlstate(driver_error)
    return _with_sqlstate(driver_error.sqlstate, driver_error, (getattr(error, "statement", None) or statement))


_DELETE: Final = f"DELETE FROM {tables.SCHEMA}."  # noqa: S608 (looked for, never run)


def _with_sqlstate(sqlstate: str, error: psycopg.Error, statement: str) -> KeepOperatorError:
    if sqlstate == "23503" and _DELETE in statement:
        # Up to PostgreSQL 17 the same SQLSTATE and constraint for both directions of the foreign key.
        sqlstate = "23001"
    if sqlstate in _OF_CONSTRAINTS and (rule := _BY_CONSTRAINT.get(error.diag.constraint_name or "")):
        return _made(rule)
    for key in (sqlstate, sqlstate[:3], sqlstate[:2]):
        if rule := _BY_SQLSTATE.get(key):
            return _made(rule)
    places = (error.diag.table_name, error.diag.column_name, error.diag.constraint_name)
    where = ", ".join(place for place in places if place)
    return Unavailable(
        SYNC_FAILED,
        f"the control database refused a statement: SQLSTATE {sqlstate}, {type(error).__name__}"
        + (f", at {where}" if where else ""),
    )


def _without_sqlstate(error: psycopg.Error) -> KeepOperatorError:
    """Errors that libpq or psycopg found by themselves: values that cannot be sent, connections that fail."""
    if isinstance(error, psycopg.DataError):
        return _made(_BY_SQLSTATE["22"])
    if isinstance(error, psycopg.errors.ConnectionTimeout):
        return Unavailable(DATABASE_UNAVAILABLE, "the control database did not answer in time")
    if not isinstance(error, psycopg.OperationalError):
        return Unavailable(SYNC_FAILED, f"the database driver failed: {type(error).__name__}")
    text = str(error)
    return _made(next((rule for word, rule in _BY_WORD if word in text), _LOST))


def _made(rule: _Rule) -> KeepOperatorError:
    kind, reason, message = rule
    return kind(reason, message)
