"""The Secrets that a Provider names, and the keyed hash that tells whether they changed.

Only referenced Secrets are fetched, and only when one of them has another version than the one that was used last, or
the record needs the credentials themselves: a restart over thousands of Ready Providers reads none. Values live as long
as one reconcile.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from keep_operator.cluster.client import Cluster
from keep_operator.cluster.watch import MetadataWatch
from keep_operator.domain.provider import Credentials
from keep_operator.resources.kinds import SECRETS
from keep_operator.resources.objects import Object
from keep_operator.resources.provider import ProviderSpec
from keep_operator.store.vault import Vault

# Hashes kept between looks; as many as reconciles may overlap with their retries, no matter how many objects exist.
REMEMBERED: Final = 4096


@dataclass(frozen=True, slots=True)
class Resolved:
    """What became of the Secrets that a spec names.

    ``digest`` is None while something is missing. ``values`` are the credentials by field, in base64 as Secrets have
    them; None where they did not have to be read.
    """

    credentials: Credentials
    digest: str | None = None
    values: Mapping[str, str] | None = field(default=None, repr=False)


class SecretReader:
    """Reads Secrets in the namespaces that it may; ``namespaces`` empty means all."""

    def __init__(self, cluster: Cluster, watch: MetadataWatch, vault: Vault, namespaces: tuple[str, ...] = ()) -> None:
        self._cluster = cluster
        self._watch = watch
        self._vault = vault
        self._namespaces = frozenset(namespaces)
        self._digests: OrderedDict[str, tuple[tuple[int, Mapping[str, str]], str]] = OrderedDict()

    async def resolve(self, obj: Object[ProviderSpec], spec: ProviderSpec, at_rest: str | None) -> Resolved:
        """What was found. ``at_rest`` is the hash of what the record holds, None where it must be written whole.

        Raises Unavailable when the API server does not answer; safe to repeat.
        """
        namespace = obj.key.namespace
        wanted = [(entry.key, entry.value_from.secret_key_ref) for entry in spec.secrets]
        if wanted and self._namespaces and namespace not in self._namespaces:
            return Resolved(Credentials({}, out_of_reach=True))
        versions = {ref.name: self._watch.version(namespace, ref.name) for _, ref in wanted}
        known = {name: version for name, version in versions.items() if version is not None}
        if len(known) < len(versions):
            return Resolved(Credentials(known, missing=tuple((name, None) for name in versions if name not in known)))
        if at_rest is not None and at_rest in (_unchanged(obj, known), self._computed(obj, known)):
            return Resolved(Credentials(known), at_rest)
        fetched = {name: await self._cluster.get(SECRETS, namespace, name) for name in known}
        values: dict[str, str] = {}
        missing: list[tuple[str, str | None]] = []
        for field_, ref in wanted:
            secret = fetched[ref.name]
            if secret is None:
                missing.append((ref.name, None))
            elif (value := (secret.get("data") or {}).get(ref.key)) is None:
                missing.append((ref.name, ref.key))
            else:
                values[field_] = value
        read = {name: secret["metadata"]["resourceVersion"] for name, secret in fetched.items() if secret is not None}
        if missing:
            return Resolved(Credentials(read, missing=tuple(missing)))
        digest = self._vault.digest(spec.config or {}, values)
        self._digests[obj.uid] = ((obj.generation, read), digest)
        self._digests.move_to_end(obj.uid)
        if len(self._digests) > REMEMBERED:
            self._digests.popitem(last=False)
        return Resolved(Credentials(read), digest, values)

    def _computed(self, obj: Object[ProviderSpec], versions: Mapping[str, str]) -> str | None:
        """The hash from an earlier look at this very spec and these versions: a reconcile looks more than once."""
        made_of, digest = self._digests.get(obj.uid, (None, None))
        return digest if made_of == (obj.generation, versions) else None


def _unchanged(obj: Object[ProviderSpec], versions: Mapping[str, str]) -> Any:
    """The hash in the status, if it still holds: Ready for this very spec, with these very versions of the Secrets."""
    used = {entry["name"]: entry["resourceVersion"] for entry in obj.status.get("secretVersions") or ()}
    return obj.status.get("configHash") if obj.ready and used == versions else None
