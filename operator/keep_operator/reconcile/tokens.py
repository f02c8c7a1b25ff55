"""The Secrets with tokens of machines that a Tenant names, and whether what is stored of each still fits.

A Secret is fetched when it has another version than the one that was compared last; the comparison is slow on purpose, and
runs in a thread. No token is kept, only which version of which Secret goes with which stored digest.
"""

import asyncio
import base64
import binascii
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from keep_operator.cluster.client import Cluster
from keep_operator.cluster.watch import MetadataWatch
from keep_operator.domain.tenant import Token, Tokens
from keep_operator.errors import KeepOperatorError
from keep_operator.resources.kinds import SECRETS
from keep_operator.resources.objects import Object
from keep_operator.resources.shapes import Invalid
from keep_operator.resources.tenant import TenantSpec
from keep_operator.store import tokens

log = logging.getLogger(__name__)

# Comparisons remembered: those of five hundred Tenants with as many tokens as they may have.
REMEMBERED: Final = 4_096


class TokenReader:
    """Reads Secrets in the namespaces that it may; ``namespaces`` empty means all."""

    def __init__(self, cluster: Cluster, watch: MetadataWatch, namespaces: tuple[str, ...] = ()) -> None:
        self._cluster = cluster
        self._watch = watch
        self._namespaces = frozenset(namespaces)
        self._compared: OrderedDict[tuple[str, str], tuple[str, Token]] = OrderedDict()

    async def resolve(self, obj: Object[TenantSpec], stored: Sequence[Token]) -> Tokens:
        """What became of the Tenant's tokens; a Secret that cannot be read hinders no other."""
        if isinstance(obj.spec, Invalid) or obj.deleting:
            return Tokens()
        by_name = {each.name: each for each in stored}
        found: dict[str, list[Any]] = {}
        refs = {
            f"{ref.namespace}/{ref.name}/{ref.key}": ref for ref in (each.secret_ref for each in obj.spec.ingest_tokens)
        }
        for name, ref in refs.items():
            if self._namespaces and ref.namespace not in self._namespaces:
                found.setdefault("out_of_reach", []).append(name)
                continue
            version, known = self._watch.version(ref.namespace, ref.name), by_name.get(name)
            if version is None and known is None:
                found.setdefault("without_secret", []).append(name)
                continue
            # What is stored is not taken away on the word of a watch, which may be late: the Secret itself is asked for.
            if known is not None and self._compared.get((obj.uid, name)) == (version, known):
                found.setdefault("accepted", []).append(known)
                continue
            try:
                secret = await self._cluster.get(SECRETS, ref.namespace, ref.name)
            except KeepOperatorError as failure:
                log.warning("the Secret of token %s of %s cannot be read: %s", name, obj.key, failure)
                found.setdefault("unread", []).append(name)
                found.setdefault("accepted", []).extend([known] if known is not None else [])
                continue
            kind, token = await self._judged(obj.uid, name, ref.key, secret, known)
            found.setdefault(kind, []).append(token if token is not None else name)
        return Tokens(**{kind: tuple(each) for kind, each in found.items()})

    async def _judged(
        self, uid: str, name: str, key: str, secret: Mapping[str, Any] | None, known: Token | None
    ) -> tuple[str, Token | None]:
        if secret is None:
            return "without_secret", None
        raw = (secret.get("data") or {}).get(key)
        if raw is None:
            return "without_key", None
        value = _decoded(raw)
        if value is None or tokens.FORM.fullmatch(value) is None:
            return "unusable", None
        if known is None or not await asyncio.to_thread(tokens.fits, known, value):
            known = await asyncio.to_thread(tokens.hashed, name, value)
        self._compared[uid, name] = (str(secret["metadata"]["resourceVersion"]), known)
        self._compared.move_to_end((uid, name))
        if len(self._compared) > REMEMBERED:
            self._compared.popitem(last=False)
        return "accepted", known


def _decoded(raw: object) -> str | None:
    """The text of a value of a Secret, without the line's end that `echo` puts there; None: it is no text."""
    try:
        return base64.b64decode(str(raw), validate=True).decode().strip()
    except (binascii.Error, ValueError):
        return None
