"""The Secrets that a Provider names, and the keyed hash that tells whether they changed.

Only referenced Secrets are fetched, and only when one of them has another version than the one that was used last:
a restart over thousands of Ready Providers reads none. Values live as long as one look.
"""

import base64
import hashlib
import hmac
import json
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

from pydantic import SecretStr

from keep_operator.cluster.client import Cluster
from keep_operator.cluster.watch import MetadataWatch
from keep_operator.domain.provider import Credentials
from keep_operator.resources.kinds import SECRETS
from keep_operator.resources.objects import Object
from keep_operator.resources.provider import ProviderSpec

# Hashes kept between looks; as many as reconciles may overlap with their retries, no matter how many objects exist.
REMEMBERED: Final = 4096
# Separates this use of the encryption key from every other one.
HASH_PURPOSE: Final = b"keep-operator.dev/config-hash/v1"


class SecretReader:
    """Reads Secrets in the namespaces that it may; ``namespaces`` empty means all."""

    def __init__(
        self, cluster: Cluster, watch: MetadataWatch, key: SecretStr, namespaces: tuple[str, ...] = ()
    ) -> None:
        self._cluster = cluster
        self._watch = watch
        self._key = hmac.digest(key.get_secret_value().encode(), HASH_PURPOSE, hashlib.sha256)
        self._namespaces = frozenset(namespaces)
        self._digests: OrderedDict[str, tuple[tuple[int, Mapping[str, str]], str]] = OrderedDict()

    async def resolve(self, obj: Object[ProviderSpec], spec: ProviderSpec) -> tuple[Credentials, str | None]:
        """What was found, and the hash over config and credentials (None while something is missing).

        Raises Unavailable when the API server does not answer; safe to repeat.
        """
        namespace = obj.key.namespace
        wanted = [(entry.key, entry.value_from.secret_key_ref) for entry in spec.secrets]
        if wanted and self._namespaces and namespace not in self._namespaces:
            return Credentials({}, out_of_reach=True), None
        versions = {ref.name: self._watch.version(namespace, ref.name) for _, ref in wanted}
        known = {name: version for name, version in versions.items() if version is not None}
        if len(known) < len(versions):
            return Credentials(known, missing=tuple((name, None) for name in versions if name not in known)), None
        if (unchanged := _unchanged(obj, known) or self._computed(obj, known)) is not None:
            return Credentials(known), unchanged
        fetched = {name: await self._cluster.get(SECRETS, namespace, name) for name in known}
        values: dict[str, str] = {}
        missing: list[tuple[str, str | None]] = []
        for field, ref in wanted:
            secret = fetched[ref.name]
            if secret is None:
                missing.append((ref.name, None))
            elif (value := (secret.get("data") or {}).get(ref.key)) is None:
                missing.append((ref.name, ref.key))
            else:
                values[field] = value
        read = {name: secret["metadata"]["resourceVersion"] for name, secret in fetched.items() if secret is not None}
        if missing:
            return Credentials(read, missing=tuple(missing)), None
        digest = self.digest(spec.config or {}, values)
        self._digests[obj.uid] = ((obj.generation, read), digest)
        self._digests.move_to_end(obj.uid)
        if len(self._digests) > REMEMBERED:
            self._digests.popitem(last=False)
        return Credentials(read), digest

    def _computed(self, obj: Object[ProviderSpec], versions: Mapping[str, str]) -> str | None:
        """The hash from an earlier look at this very spec and these versions: a reconcile looks more than once."""
        made_of, digest = self._digests.get(obj.uid, (None, None))
        return digest if made_of == (obj.generation, versions) else None

    def digest(self, config: Mapping[str, Any], values: Mapping[str, str]) -> str:
        """A keyed hash over settings and credentials (base64, as in Secrets): tells that they changed, nothing else."""
        text = json.dumps([config, values], sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        digest = hmac.digest(self._key, text.encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _unchanged(obj: Object[ProviderSpec], versions: Mapping[str, str]) -> str | None:
    """The hash in the status, if it still holds: Ready for this very spec, with these very versions of the Secrets."""
    used = {entry["name"]: entry["resourceVersion"] for entry in obj.status.get("secretVersions") or ()}
    return obj.status.get("configHash") if obj.ready and used == versions else None
