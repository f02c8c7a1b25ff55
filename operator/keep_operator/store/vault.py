"""Owns how credentials look at rest: sealed by a key that the database never sees.

The first of the given keys writes, all of them read. Which key the database is sealed with stands in `installation`
by its name, a keyed digest that tells the key to nobody::

    stored name     is that of the first key     of another given key     of none                 (none stored yet)
    what it means   nothing to do                rotation under way:      EncryptionKeyMismatch:  the first key's name
                                                 both read, the first     nothing is written      is stored
                                                 one writes

A sealed document names the record that it was sealed for: copied into another row it does not open there.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic import SecretStr

# Each use of a key has one of its own, derived from it, so that what is learnt of one helps with no other.
_SEALING: Final = b"keep-operator.dev/credentials/v1"
_NAMING: Final = b"keep-operator.dev/key-name/v1"
_HASHING: Final = b"keep-operator.dev/config-hash/v1"


@dataclass(frozen=True, slots=True)
class Sealed:
    """Credentials as they stand in a row: ``text`` opens with the key of the name ``key_name``."""

    key_name: str
    text: str


class Vault:
    """Seals with the first of ``keys`` (each 32 bytes in URL-safe base64), opens with any of them.

    ``trusted`` is whether the database is known to be sealed with one of these keys; until then nothing may be written
    that depends on them.
    """

    def __init__(self, keys: Sequence[SecretStr]) -> None:
        raw = [base64.urlsafe_b64decode(_padded(key.get_secret_value())) for key in keys]
        self._fernet = MultiFernet([Fernet(base64.urlsafe_b64encode(_derived(key, _SEALING))) for key in raw])
        self._hashing = _derived(raw[0], _HASHING)
        self.names = tuple(_derived(key, _NAMING).hex()[:16] for key in raw)
        self.trusted = False

    @property
    def name(self) -> str:
        """The name of the key that writes."""
        return self.names[0]

    def trust(self, stored: str | None) -> bool:
        """Take note of the key name that the database has; whether these keys fit it."""
        self.trusted = stored is None or stored in self.names
        return self.trusted

    def seal(self, record_id: UUID, authentication: Mapping[str, str]) -> Sealed:
        """Seal the credentials of one record; the same never looks the same twice."""
        document = json.dumps({"id": str(record_id), "authentication": dict(authentication)}, sort_keys=True)
        return Sealed(self.name, self._fernet.encrypt(document.encode()).decode())

    def open(self, record_id: UUID, sealed: Sealed) -> dict[str, str] | None:
        """The credentials, as `seal` got them; None where they were sealed with another key, or for another record."""
        try:
            document = json.loads(self._fernet.decrypt(sealed.text.encode()))
        except (InvalidToken, ValueError):
            return None
        fits = document.get("id") == str(record_id)
        return {str(name): str(value) for name, value in document["authentication"].items()} if fits else None

    def digest(self, config: Mapping[str, object], authentication: Mapping[str, str]) -> str:
        """A keyed hash over settings and credentials: tells that they changed, nothing else."""
        text = json.dumps([config, authentication], sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        digest = hmac.digest(self._hashing, text.encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _derived(key: bytes, purpose: bytes) -> bytes:
    return hmac.digest(key, purpose, hashlib.sha256)


def _padded(text: str) -> str:
    return text.rstrip("=") + "="
