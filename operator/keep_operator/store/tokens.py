"""Tokens of machines that post events: the operator writes their digests from the Secrets, the console compares.

A digest is salted and made to be slow (scrypt): whoever reads the table learns no token by trying.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from typing import Any, Final

from keep_operator.domain.tenant import Token
from keep_operator.store import documents
from keep_operator.store.connection import Connection, Prepared, Row

# 16 MiB and about 40 ms of one processor for each comparison.
_COST: Final = {"n": 2**14, "r": 8, "p": 1, "dklen": 32}
_SALT_BYTES: Final = 16
# What an Authorization header can carry (RFC 6750); shorter ones can be tried out.
FORM: Final = re.compile("[A-Za-z0-9._~+/-]{16,4096}=*")

_OF_TENANT: Final = Prepared(
    "SELECT name, salt, digest FROM keep_operator.ingest_token WHERE tenant_id = %(tenant)s ORDER BY name", {}
)
_SET: Final = Prepared(
    """
    WITH wanted AS (
        SELECT each.name, decode(each.salt, 'hex') AS salt, decode(each.digest, 'hex') AS digest
        FROM json_to_recordset(%(tokens)s::json) AS each(name text, salt text, digest text)
    ), gone AS (
        DELETE FROM keep_operator.ingest_token WHERE tenant_id = %(tenant)s AND name NOT IN (SELECT name FROM wanted)
    )
    INSERT INTO keep_operator.ingest_token (tenant_id, name, salt, digest)
    SELECT %(tenant)s, name, salt, digest FROM wanted
    ON CONFLICT (tenant_id, name) DO UPDATE SET salt = excluded.salt, digest = excluded.digest, updated_at = now()
    WHERE (ingest_token.salt, ingest_token.digest) IS DISTINCT FROM (excluded.salt, excluded.digest)
    """,
    {},
)


def hashed(name: str, token: str) -> Token:
    """The digest of a token with a salt of its own; slow, for a thread."""
    salt = secrets.token_bytes(_SALT_BYTES)
    return Token(name, salt, _digest(token, salt))


def fits(known: Token, token: str) -> bool:
    """Whether the token is that one, in the same time whatever it is; slow, for a thread."""
    return hmac.compare_digest(_digest(token, known.salt), known.digest)


# What an unknown tenant's tokens are compared with, so that it takes as long.
NOBODYS: Final = Token("", bytes(_SALT_BYTES), bytes(32))


async def of_tenant(conn: Connection, tenant_id: str) -> list[Token]:
    """The tokens that the tenant accepts."""
    return [token_of(row) for row in await conn.execute(_OF_TENANT, {"tenant": tenant_id})]


async def put(conn: Connection, tenant_id: str, tokens: Sequence[Token]) -> None:
    """Make these the tokens of the tenant; the caller has locked its row."""
    told: list[dict[str, Any]] = [
        {"name": each.name, "salt": each.salt.hex(), "digest": each.digest.hex()} for each in tokens
    ]
    await conn.execute(_SET, {"tenant": tenant_id, "tokens": documents.text(told)})


def token_of(row: Row) -> Token:
    """The token in a row."""
    return Token(row.name, bytes(row.salt), bytes(row.digest))


def _digest(token: str, salt: bytes) -> bytes:
    return hashlib.scrypt(token.encode(), salt=salt, **_COST)
