"""Who the user is to the API server: what the server itself says; else what the credentials say; else what the user says."""

import base64
import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from keep_operator.plugin import ends
from keep_operator.plugin.kubectl import Json, Kubectl, in_a_pod

# SelfSubjectReview, which servers have from 1.27 on.
QUESTION: Final = ("auth", "whoami", "--output=json")
# What `spec.actorGroups` of a decision can hold.
_GROUPS_LIMIT: Final = 128
_GROUP: Final = re.compile(r"[^\x00-\x1f\x7f]{1,253}")


@dataclass(frozen=True, slots=True)
class Actor:
    """Who decides. ``groups`` are those that the server itself told; else none, since its policy believes no guess."""

    name: str
    groups: tuple[str, ...] = ()


def of(kubectl: Kubectl, answer: Json | ends.Failure, claimed: str | None, asked_for: Collection[str]) -> Actor:
    """The user as `settle` has it, with as many groups as a decision can name, those that are ``asked_for`` before others."""
    told = [] if isinstance(answer, ends.Failure) else _user(answer).get("groups") or []
    groups = sorted(filter(_GROUP.fullmatch, dict.fromkeys(told)), key=lambda each: each not in asked_for)
    return Actor(settle(kubectl, answer, claimed), tuple(groups[:_GROUPS_LIMIT]))


def settle(kubectl: Kubectl, answer: Json | ends.Failure, claimed: str | None) -> str:
    """The user's name: from the ``answer`` to `QUESTION`, or as the module says. ``claimed`` is ``--actor``."""
    known = _reviewed(answer) or _impersonated(kubectl) or _shown(kubectl)
    if known is None:
        if claimed is None:
            raise ends.Unreachable(
                "the server does not say who you are, and neither do your credentials: name yourself with --actor, "
                "as the API server knows you"
            )
        return claimed
    if claimed not in (None, known):
        raise ends.Refused(f"you are {known} and not {claimed}: to name whom you act for, use --on-behalf-of")
    return known


def _reviewed(answer: Json | ends.Failure) -> str | None:
    return None if isinstance(answer, ends.Failure) else _user(answer).get("username")


def _user(answer: Json) -> Json:
    return (answer.get("status") or {}).get("userInfo") or {}


def _impersonated(kubectl: Kubectl) -> str | None:
    return next((flag.partition("=")[2] for flag in kubectl.flags if flag.startswith("--as=")), None)


def _shown(kubectl: Kubectl) -> str | None:
    """What the kubeconfig's credentials say: the certificate's common name, or the token's subject."""
    try:
        config = json.loads(kubectl.text("config", "view", "--minify", "--raw", "--flatten", "--output=json"))
    except (ends.Failure, ValueError):
        config = {}
    users = config.get("users") or [{}]
    user: dict[str, Any] = users[0].get("user") or {}
    if token := _token(user):
        return _subject(token)
    if data := user.get("client-certificate-data"):
        return _common_name(base64.b64decode(data))
    return None


def _token(user: dict[str, Any]) -> str | None:
    if user.get("token"):
        return str(user["token"])
    if not user:
        return in_a_pod("token") or None
    try:
        return Path(user["tokenFile"]).read_text(encoding="utf-8") if user.get("tokenFile") else None
    except OSError:
        return None


def _subject(token: str) -> str | None:
    """Of a JSON web token; of any other kind of token nobody but the server can tell."""
    try:
        payload = token.strip().split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError):
        return None
    subject = claims.get("sub") if isinstance(claims, dict) else None
    return subject if isinstance(subject, str) else None


def _common_name(pem: bytes) -> str | None:
    from cryptography import x509  # noqa: PLC0415 - only where the server cannot be asked
    from cryptography.x509.oid import NameOID  # noqa: PLC0415

    try:
        names = x509.load_pem_x509_certificate(pem).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError:
        return None
    return str(names[0].value) if names else None
