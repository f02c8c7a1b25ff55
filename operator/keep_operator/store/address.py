"""Reads the database URL into what libpq is given, without ever repeating the URL.

The parser is libpq's own, so what works with ``psql "$KEEP_OPERATOR_DATABASE_URL"`` works here: several
hosts, unix sockets, ``sslmode``, ``passfile`` and the rest, in the URL or in ``PG...`` variables.
"""

from datetime import timedelta
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from keep_operator.errors import Refused
from keep_operator.store import failures

SCHEMES: Final = ("postgresql://", "postgres://")

# One attempt to connect. Within a cluster it takes milliseconds; a node's failure shows as silence, and the
# operator must be back within 10 s of the database's return (A-CTL-7).
CONNECT_TIMEOUT: Final = timedelta(seconds=5)

# Silence on an idle or half-open connection: first probe after 10 s, dead after 3 more at 5 s. The system's own
# default is two hours.
_KEEPALIVE: Final[dict[str, Any]] = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    # Sent and never acknowledged, in milliseconds: the same 25 s (Linux only, ignored elsewhere).
    "tcp_user_timeout": 25_000,
}

_DEFAULTS: Final[dict[str, Any]] = {
    "connect_timeout": round(CONNECT_TIMEOUT.total_seconds()),
    "client_encoding": "UTF8",
    # With several hosts, or behind a name that still points to the old primary: never a standby.
    "target_session_attrs": "primary",
    # The negotiation costs a round trip, and nothing here has Kerberos tickets.
    "gssencmode": "disable",
    **_KEEPALIVE,
}


def parameters(url: str) -> dict[str, Any]:
    """The connection parameters of a ``postgresql://`` URL; what the URL sets prevails over our defaults.

    Raises Refused InvalidDatabaseURL, whose message holds no part of the URL: a password with an unescaped
    ``@`` or ``/`` lands in any of the parts.
    """
    if not url.strip():
        raise _refused("it is empty")
    if not url.startswith(SCHEMES):
        raise _refused("it must begin with postgresql://")
    try:
        given = conninfo_to_dict(url)
    except (psycopg.Error, UnicodeError):
        raise _refused("it cannot be read") from None
    # libpq ends user and password at the first @, so a second one is left over in the host or database.
    if any("@" in str(given.get(part, "")) for part in ("host", "port", "dbname")):
        raise _refused("it has an @ after the host began")
    if not all(port == "" or port.isdigit() for port in str(given.get("port") or "").split(",")):
        raise _refused("its port is no number")
    return {**_DEFAULTS, **given}


def _refused(fact: str) -> Refused:
    return Refused(
        failures.INVALID_DATABASE_URL,
        f"the database URL (KEEP_OPERATOR_DATABASE_URL) cannot be used: {fact}; write "
        "postgresql://USER:PASSWORD@HOST:PORT/DATABASE and percent-encode special characters of user and password",
    )
