"""Who somebody is and what they may do: the API server's own answers, asked for others (TokenReview, SubjectAccessReview)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from keep_operator.cluster.client import Cluster
from keep_operator.resources.kinds import ACCESS_REVIEWS, TOKEN_REVIEWS, Resource


@dataclass(frozen=True, slots=True)
class User:
    """Who a token belongs to, with all that the API server's authorizers want to know of them."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, Sequence[str]] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Right:
    """A verb on one object, or on all of a kind where ``name`` is empty; ``namespace`` is empty for cluster-scoped kinds."""

    verb: str
    resource: Resource
    namespace: str = ""
    name: str = ""

    def __str__(self) -> str:
        named = f' "{self.name}"' if self.name else ""
        where = f" in namespace {self.namespace}" if self.namespace else ""
        return f"{self.verb} {self.resource.plural}.{self.resource.group}{named}{where}"


async def user_of(cluster: Cluster, token: str) -> User | None:
    """Whose token that is; None: nobody's. Raises as every call does, and never with the token in the message."""
    body = {
        "apiVersion": TOKEN_REVIEWS.api_version,
        "kind": TOKEN_REVIEWS.kind,
        "spec": {"token": token},
    }
    status = _status(await cluster.create(TOKEN_REVIEWS, None, body, repeatable=True))
    told = status.get("user")
    if status.get("authenticated") is not True or not isinstance(told, dict) or not told.get("username"):
        return None
    return User(
        name=str(told["username"]),
        uid=str(told.get("uid") or ""),
        groups=tuple(told.get("groups") or ()),
        extra=told.get("extra") or {},
    )


async def allowed(cluster: Cluster, user: User, right: Right) -> bool:
    """Whether the user may do that."""
    return (await _reviewed(cluster, user, right)).get("allowed") is True


async def denied(cluster: Cluster, user: User, right: Right) -> bool:
    """Whether the API server is sure that the user may not do that: every authorizer was heard, and none says yes."""
    status = await _reviewed(cluster, user, right)
    return status.get("allowed") is False and not status.get("evaluationError")


async def _reviewed(cluster: Cluster, user: User, right: Right) -> Mapping[str, Any]:
    attributes = {
        "verb": right.verb,
        "group": right.resource.group,
        "resource": right.resource.plural,
        "namespace": right.namespace,
        "name": right.name,
    }
    body = {
        "apiVersion": ACCESS_REVIEWS.api_version,
        "kind": ACCESS_REVIEWS.kind,
        "spec": {
            "resourceAttributes": {key: value for key, value in attributes.items() if value},
            "user": user.name,
            "uid": user.uid,
            "groups": list(user.groups),
            "extra": dict(user.extra),
        },
    }
    return _status(await cluster.create(ACCESS_REVIEWS, None, body, repeatable=True))


def _status(review: Mapping[str, Any]) -> Mapping[str, Any]:
    status = review.get("status")
    return status if isinstance(status, dict) else {}
